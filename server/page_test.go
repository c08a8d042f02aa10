package server_test

import (
	"net/http"
	"strings"
	"testing"

	"ossify/server/page"
)

func TestPage(t *testing.T) {
	h, err := page.New(page.About{Models: []string{"m"}})
	if err != nil {
		t.Fatal(err)
	}
	o := options(writes("<|channel|>final<|message|>x<|return|>"))
	o.Page = h
	o.Keys = []string{"a-key-of-sixteen-letters"}
	_, url := start(t, o)
	for path, status := range map[string]int{"/": 200, "/page/app.js": 200, "/page/about.json": 200, "/page/x": 404, "/page": 404, "/page/../page/app.js": 404, "/v1/models": 401} {
		if resp, body := ask(t, "GET", url+path, ""); resp.StatusCode != status || status != 200 && !isError(body) {
			t.Errorf("%s: %d %.100s, want %d", path, resp.StatusCode, body, status)
		}
	}
	if resp, body := ask(t, "POST", url+"/", ""); resp.StatusCode != 405 || !isError(body) {
		t.Errorf("POST: %d %s", resp.StatusCode, body)
	}
	_, url = start(t, options(writes("")))
	if resp, body := ask(t, "GET", url+"/", ""); resp.StatusCode != 404 || !isError(body) {
		t.Errorf("without a page: %d %s", resp.StatusCode, body)
	}
}

// A name that somebody makes point here is refused, if the server is told its own.
func TestHosts(t *testing.T) {
	o := options(writes(""))
	_, anyone := start(t, o)
	o.Hosts = []string{"localhost", "models.example"}
	_, url := start(t, o)
	for _, tt := range []struct {
		url, host string
		status    int
	}{
		{url, "", 200}, {url, "localhost", 200}, {url, "LOCALHOST:8080", 200}, {url, "127.0.0.1", 200}, {url, "[::1]:8080", 200}, {url, "[::1]", 200},
		{url, "models.example:443", 200}, {url, "evil.example", 421}, {url, "evil.example:8080", 421}, {url, "localhost.evil.example", 421},
		{url, "127.0.0.1.evil.example", 421}, {url, "notlocalhost", 421}, {anyone, "evil.example", 200},
	} {
		r, err := http.NewRequest("GET", tt.url+"/v1/models", strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = tt.host
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.status {
			t.Errorf("Host %q: %d, want %d", tt.host, resp.StatusCode, tt.status)
		}
	}
}
