package server_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"ossify/server"
)

// idOf is the id of what an answer says was made.
func idOf(t *testing.T, answer []byte) string {
	t.Helper()
	var made struct{ ID string }
	if err := json.Unmarshal(answer, &made); err != nil || made.ID == "" {
		t.Fatalf("%.300s", answer)
	}
	return made.ID
}

// What a file holds is not taken for an error of net/http's, wherever it stands in
// it.
func TestContentIsNotRead(t *testing.T) {
	o := options(writes(greeting))
	o.Batches = &server.Batches{Dir: t.TempDir(), File: 1 << 20}
	host := listen(t, o)
	for _, looks := range []string{
		"HTTP/1.1 417 Expectation Failed",
		"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request",
	} {
		text := strings.Repeat("x", 64<<10) + looks
		text += strings.Repeat("y", 2*64<<10-len(text)) + looks
		body, media := form("purpose", "batch", "file", text)
		_, answer := ask(t, "POST", "http://"+host+"/v1/files", body, "Content-Type", media)
		id := idOf(t, answer)
		_, got := ask(t, "GET", "http://"+host+"/v1/files/"+id+"/content", "")
		if string(got) != text {
			at := 0
			for at < len(got) && got[at] == text[at] {
				at++
			}
			t.Errorf("%.20q: %d bytes of %d, another from %d on: %.80q", looks, len(got), len(text), at, got[at:])
		}
	}
	// The errors themselves are in OpenAI's form, after an answer too.
	c := dial(t, host)
	r := bufio.NewReader(c)
	for _, q := range []struct {
		text string
		want int
	}{{"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 200}, {"GET /health HTTP/1.1\r\nHost: x\r\nExpect: nothing\r\n\r\n", 417}} {
		io.WriteString(c, q.text)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != q.want || q.want != 200 && !isError(b) {
			t.Errorf("%q: %d %s", q.text, resp.StatusCode, b)
		}
	}
	c = dial(t, host)
	io.WriteString(c, "GET /health HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n")
	all, _ := io.ReadAll(c)
	if _, rest, ok := bytes.Cut(all, []byte(`{"status":"ok"}`)); !ok || !bytes.HasPrefix(rest, []byte("HTTP/1.1 400 ")) || !bytes.Contains(rest, []byte(`"code":"invalid_http"`)) {
		t.Errorf("nonsense behind a request: %s", all)
	}
}

// Whoever asks for what is large and does not take it holds no slot for ever, on
// whatever path.
func TestAnswersThatNobodyTakes(t *testing.T) {
	t.Parallel()
	o := options(writes(greeting))
	o.Write, o.InFlight = time.Second, 1
	host := listen(t, o)
	input := `{"model":"m","input":[` + strings.TrimSuffix(strings.Repeat(`{"type":"reasoning","summary":[],"content":[]},`, 100), ",") + `,{"role":"user","content":"Hi"}]}`
	_, answer := ask(t, "POST", "http://"+host+"/v1/responses", input)
	id := idOf(t, answer)
	c := dial(t, host)
	c.(*net.TCPConn).SetReadBuffer(4 << 10)
	for range 3000 { // many answers, of which none is read
		if _, err := fmt.Fprintf(c, "GET /v1/responses/%s/input_items?limit=100 HTTP/1.1\r\nHost: x\r\n\r\n", id); err != nil {
			break
		}
	}
	free := 0
	for began := time.Now(); free < 100; time.Sleep(10 * time.Millisecond) { // for a second on end: none is under way
		resp, b := ask(t, "GET", "http://"+host+"/v1/models", "")
		if free++; resp.StatusCode != 200 {
			free = 0
		}
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("the slot is held: %d %s", resp.StatusCode, b)
		}
	}
}

// A long answer without a body of its own does not spoil the connection for the
// next request.
func TestLongDownload(t *testing.T) {
	t.Parallel()
	o := options(writes(greeting))
	o.Read = time.Second
	o.Batches = &server.Batches{Dir: t.TempDir(), File: 16 << 20}
	host := listen(t, o)
	body, media := form("purpose", "batch", "file", strings.Repeat("x", 12<<20))
	_, answer := ask(t, "POST", "http://"+host+"/v1/files", body, "Content-Type", media)
	id := idOf(t, answer)
	c := dial(t, host)
	c.(*net.TCPConn).SetReadBuffer(16 << 10)
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	fmt.Fprintf(c, "GET /v1/files/%s/content HTTP/1.1\r\nHost: x\r\n\r\n", id)
	time.Sleep(3 * o.Read)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); n != 12<<20 || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(hi), hi)
	if resp, err = http.ReadResponse(r, nil); err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || !strings.Contains(string(b), "Hello there.") {
		t.Errorf("the next request gets %d %q", resp.StatusCode, b)
	}
}

// Files are so many at most, however small they are.
func TestManyFiles(t *testing.T) {
	o := options(writes(greeting))
	o.Batches = &server.Batches{Dir: t.TempDir(), Files: 3}
	_, url := start(t, o)
	var ids []string
	for i := range 4 {
		body, media := form("purpose", "batch", "file", "")
		resp, answer := ask(t, "POST", url+"/v1/files", body, "Content-Type", media)
		var f struct{ ID string }
		if err := json.Unmarshal(answer, &f); err != nil || (resp.StatusCode == 200) != (i < 3) || i == 3 && (resp.StatusCode != 507 || !isError(answer)) {
			t.Fatalf("file %d: %d %s", i+1, resp.StatusCode, answer)
		}
		ids = append(ids, f.ID)
	}
	if resp, _ := ask(t, "DELETE", url+"/v1/files/"+ids[0], ""); resp.StatusCode != 200 {
		t.Errorf("%d", resp.StatusCode)
	}
	body, media := form("purpose", "batch", "file", "")
	if resp, answer := ask(t, "POST", url+"/v1/files", body, "Content-Type", media); resp.StatusCode != 200 {
		t.Errorf("after one was deleted: %d %s", resp.StatusCode, answer)
	}
}
