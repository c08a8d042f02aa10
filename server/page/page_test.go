package page_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"ossify/server/page"
)

func get(t *testing.T, h http.Handler, method, path string) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), string(b)
}

func TestFiles(t *testing.T) {
	h, err := page.New(page.About{Models: []string{"m"}, Context: 9})
	if err != nil {
		t.Fatal(err)
	}
	for path, media := range map[string]string{
		"/": "text/html; charset=utf-8", "/page/app.js": "text/javascript; charset=utf-8", "/page/style.css": "text/css; charset=utf-8",
		"/page/icon.svg": "image/svg+xml", "/page/about.json": "application/json",
	} {
		resp, body := get(t, h, "GET", path)
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != media || body == "" {
			t.Errorf("%s: %d %q, %d bytes", path, resp.StatusCode, resp.Header.Get("Content-Type"), len(body))
		}
		csp := resp.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "http") || strings.Contains(csp, "*") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if resp, body := get(t, h, "HEAD", path); resp.StatusCode != 200 || body != "" || resp.Header.Get("Content-Length") == "" {
			t.Errorf("HEAD %s: %d %q", path, resp.StatusCode, body)
		}
		// What a page may load stands in these attributes, or in url() of a style.
		for _, m := range regexp.MustCompile(`(?:href|src|action)="([^"]*)"|url\(([^)]*)\)|@import.*`).FindAllStringSubmatch(body, -1) {
			if !strings.HasPrefix(m[1], "/page/") {
				t.Errorf("%s asks for %s", path, m[0])
			}
		}
		if strings.Contains(body, "innerHTML") || strings.Contains(body, "eval(") {
			t.Errorf("%s makes markup or code of text", path)
		}
	}
	for _, path := range []string{"/page/", "/page/index.html", "/page/page.go", "/page/nothing", "/nothing"} {
		resp, body := get(t, h, "GET", path)
		if resp.StatusCode != 404 || !json.Valid([]byte(body)) || !strings.Contains(body, `"error"`) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}

func TestAbout(t *testing.T) {
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		name, want string
		about      page.About
	}{
		{"not verified", `{"models":["m"],"precision":"bf16","context":9,"key_needed":true,"tools":[],"verification":{"command":"ossify verify"}}`,
			page.About{Models: []string{"m"}, Precision: "bf16", Context: 9, KeyNeeded: true, Verification: page.Verification{Command: "ossify verify"}}},
		{"verified", `{"models":["m"],"precision":"","context":0,"key_needed":false,"tools":[{"type":"a","title":"b"}],"verification":{"verdict":"pass","made":"2026-01-02T03:04:05Z","facts":[["a","b"]],"cautions":["c"]}}`,
			page.About{Models: []string{"m"}, Tools: []page.Tool{{Type: "a", Title: "b"}}, Verification: page.Verification{Verdict: "pass", Made: &made, Facts: [][2]string{{"a", "b"}}, Cautions: []string{"c"}}}},
	} {
		h, err := page.New(tt.about)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if _, body := get(t, h, "GET", "/page/about.json"); body != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, body, tt.want)
		}
	}
	for name, about := range map[string]page.About{
		"no model":    {},
		"odd verdict": {Models: []string{"m"}, Verification: page.Verification{Verdict: "PASS"}},
	} {
		if _, err := page.New(about); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
