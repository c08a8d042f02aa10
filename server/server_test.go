package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"ossify/generate"
	"ossify/generate/script"
	"ossify/grammar"
	"ossify/harmony"
	"ossify/openai"
	"ossify/server"
	"ossify/tokenizer"
)

var (
	encoding   = harmony.New(tokenizer.New())
	vocabulary = grammar.NewVocabulary(encoding.Tokenizer())
)

func ids(text string) []uint32 {
	return encoding.Tokenizer().Encode(nil, text, tokenizer.AllSpecials())
}

const greeting = "<|channel|>analysis<|message|>Greet.<|end|><|start|>assistant<|channel|>final<|message|>Hello there.<|return|>"

// options are those of a server whose model is g.
func options(g generate.Generator) server.Options {
	return server.Options{
		Service: func(done func(openai.Record)) *openai.Service {
			return openai.New(openai.Options{Generator: g, Encoding: encoding, Vocabulary: vocabulary, Models: []string{"m", "a/b"}, Context: 4096, Store: openai.NewStore(10, 1<<20), Done: done})
		},
	}
}

func writes(text string) script.Generator {
	return func(context.Context, generate.Request) ([]uint32, error) { return ids(text), nil }
}

func start(t *testing.T, o server.Options) (*server.Server, string) {
	t.Helper()
	s, err := server.New(o)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return s, h.URL
}

func ask(t *testing.T, method, url, body string, header ...string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, b
}

// isError reports whether a body is an error of OpenAI's form.
func isError(body []byte) bool {
	var e struct {
		Error *struct {
			Message, Type *string
			Param, Code   *string
		}
	}
	return json.Unmarshal(body, &e) == nil && e.Error != nil && e.Error.Message != nil && *e.Error.Message != "" && e.Error.Type != nil
}

const hi = `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`

func TestRoutes(t *testing.T) {
	o := options(writes(greeting))
	o.Page = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "the page") })
	_, url := start(t, o)
	for _, c := range []struct {
		method, path, body string
		status             int
		holds              string
	}{
		{"POST", "/v1/chat/completions", hi, 200, `"content":"Hello there."`},
		{"POST", "/v1/responses", `{"model":"m","input":"Hi"}`, 200, `"text":"Hello there."`},
		{"POST", "/v1/completions", `{"model":"m","prompt":"Hi","max_tokens":50}`, 200, `"text":"analysisGreet.assistantfinalHello there."`},
		{"POST", "/v1/completions", `{"model":"m","prompt":["a",  "b"],"n":2,"max_tokens":1,"skip_special_tokens":false}`, 200, `"index":3`},
		{"POST", "/v1/embeddings", `{"model":"m","input":"Hi"}`, 404, "makes no embeddings"},
		{"GET", "/v1/models", "", 200, `"id":"m"`},
		{"GET", "/v1/models/a/b", "", 200, `"id":"a/b"`},
		{"GET", "/v1/models/x", "", 404, "model_not_found"},
		{"POST", "/tokenize", `{"prompt":"<|end|>"}`, 200, `"tokens":[200007]`},
		{"POST", "/tokenize", `{"prompt":"<|end|>","add_special_tokens":false}`, 200, `"count":5`},
		{"POST", "/tokenize", `{"messages":[{"role":"user","content":"Hi"}]}`, 200, `200006,173781]`},
		{"POST", "/detokenize", `{"tokens":[200007,72]}`, 200, `{"prompt":"<|end|>i"}`},
		{"GET", "/health", "", 200, "ok"},
		{"GET", "/ready", "", 200, "ready"},
		{"GET", "/metrics", "", 200, "ossify_requests_total{"},
		{"GET", "/", "", 200, "the page"},
		{"GET", "/v1/responses/resp_0", "", 404, "resp_0"},
		{"GET", "/v1/chat/completions", "", 405, "method_not_allowed"},
		{"DELETE", "/v1/models", "", 405, "method_not_allowed"},
		{"TRACE", "/v1/models", "", 405, "method_not_allowed"},
		{"GET", "/etc/passwd", "", 404, "not_found"},
		{"GET", "/v1/../health", "", 404, "not_found"},
		{"GET", "//health", "", 404, "not_found"},
		{"GET", "/v1/models/../../health", "", 404, "not_found"},
		{"GET", "/v1/responses/..%2f..%2fhealth", "", 404, "not_found"},
		{"GET", "/v1/responses/%00", "", 404, "not_found"},
		{"POST", "/v1/chat/completions", "", 400, "not JSON"},
		{"POST", "/v1/chat/completions", `{"model":"m","messages":`, 400, "not JSON"},
		{"POST", "/v1/chat/completions", "{\"model\":\"\xff\xfe\"}", 400, "not UTF-8"},
		{"POST", "/v1/chat/completions", strings.Repeat("[", 1<<20), 400, "values"},
		{"POST", "/v1/chat/completions", strings.Repeat(`{"a":`, 1000), 400, "not JSON"},
		{"POST", "/v1/chat/completions", strings.Repeat(" ", 5<<20), 413, "request_too_large"},
	} {
		resp, b := ask(t, c.method, url+c.path, c.body, "Content-Type", "application/json")
		if resp.StatusCode != c.status || !strings.Contains(string(b), c.holds) {
			t.Errorf("%s %s %.60s: %d %.300s, want %d with %s", c.method, c.path, c.body, resp.StatusCode, b, c.status, c.holds)
		}
		if resp.StatusCode >= 400 && (!isError(b) || resp.Header.Get("Content-Type") != "application/json") {
			t.Errorf("%s %s: %s is no error of OpenAI's form", c.method, c.path, b)
		}
	}
	for _, c := range []struct {
		status        int
		header, value string
	}{
		{415, "Content-Type", "text/plain"},
		{415, "Content-Type", "application"},
		{415, "Content-Encoding", "gzip"},
		{403, "Sec-Fetch-Site", "cross-site"},
		{403, "Origin", "https://elsewhere.example"},
		{200, "Content-Type", "application/json; charset=utf-8"},
	} {
		resp, b := ask(t, "POST", url+"/v1/chat/completions", hi, c.header, c.value)
		if resp.StatusCode != c.status || c.status >= 400 && !isError(b) {
			t.Errorf("%s %s: %d %s, want %d", c.header, c.value, resp.StatusCode, b, c.status)
		}
	}
}

func TestStoredResponses(t *testing.T) {
	_, url := start(t, options(writes(greeting)))
	_, b := ask(t, "POST", url+"/v1/responses", `{"model":"m","input":"Hi","metadata":{"a":"b"}}`)
	var r struct{ ID string }
	json.Unmarshal(b, &r)
	at := url + "/v1/responses/" + r.ID
	if resp, got := ask(t, "GET", at, ""); resp.StatusCode != 200 || !bytes.Equal(got, b) {
		t.Errorf("%d %s, want %s", resp.StatusCode, got, b)
	}
	if resp, got := ask(t, "GET", at+"/input_items?order=asc&limit=5", ""); resp.StatusCode != 200 || !strings.Contains(string(got), `"text":"Hi"`) {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
	for _, q := range []string{"limit=0", "limit=x", "order=up", "after=nobody"} {
		if resp, got := ask(t, "GET", at+"/input_items?"+q, ""); resp.StatusCode != 400 || !isError(got) {
			t.Errorf("%s: %d %s", q, resp.StatusCode, got)
		}
	}
	if resp, got := ask(t, "POST", at+"/cancel", ""); resp.StatusCode != 400 || !isError(got) {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
	if resp, got := ask(t, "DELETE", at, ""); resp.StatusCode != 200 || !strings.Contains(string(got), `"deleted":true`) {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
	if resp, _ := ask(t, "GET", at, ""); resp.StatusCode != 404 {
		t.Errorf("%d after it was deleted", resp.StatusCode)
	}
}

func TestBackground(t *testing.T) {
	free := make(chan bool)
	_, url := start(t, options(script.Generator(func(ctx context.Context, r generate.Request) ([]uint32, error) {
		select {
		case <-free:
			return ids(greeting), nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})))
	until := func(id, status string) {
		t.Helper()
		var got []byte
		for range 20_000 {
			_, got = ask(t, "GET", url+"/v1/responses/"+id, "")
			if strings.Contains(string(got), `"status":"`+status+`","background"`) {
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
		t.Fatalf("%s, want %s", got, status)
	}
	begin := func() string {
		t.Helper()
		resp, b := ask(t, "POST", url+"/v1/responses", `{"model":"m","input":"Hi","background":true}`)
		var r struct{ ID, Status string }
		if json.Unmarshal(b, &r); resp.StatusCode != 200 || r.Status != "queued" {
			t.Fatalf("%d %s", resp.StatusCode, b)
		}
		until(r.ID, "in_progress")
		return r.ID
	}
	id := begin()
	if resp, b := ask(t, "POST", url+"/v1/responses/"+id+"/cancel", ""); resp.StatusCode != 200 || !strings.Contains(string(b), `"cancelled"`) {
		t.Errorf("%d %s", resp.StatusCode, b)
	}
	until(id, "cancelled")
	id = begin()
	free <- true
	until(id, "completed")
}

func TestKeys(t *testing.T) {
	o := options(writes(greeting))
	o.Keys = []string{"first-key-of-two", "second-key-of-two"}
	_, url := start(t, o)
	for _, c := range []struct {
		path, auth string
		status     int
	}{
		{"/v1/models", "", 401},
		{"/v1/models", "Bearer wrong", 401},
		{"/v1/models", "Bearer first-key-of-tw", 401},
		{"/v1/models", "Basic first-key-of-two", 401},
		{"/v1/models", "first-key-of-two", 401},
		{"/v1/models", "Bearer first-key-of-two", 200},
		{"/v1/models", "bearer  second-key-of-two", 200},
		{"/v1/responses/x", "", 401},
		{"/health", "", 200},
		{"/elsewhere", "", 404},
	} {
		resp, b := ask(t, "GET", url+c.path, "", "Authorization", c.auth)
		if resp.StatusCode != c.status || c.status >= 400 && !isError(b) {
			t.Errorf("%s with %q: %d %s, want %d", c.path, c.auth, resp.StatusCode, b, c.status)
		}
	}
	if resp, _ := ask(t, "POST", url+"/v1/chat/completions", hi); resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("%d", resp.StatusCode)
	}
	o.Keys = []string{""}
	if _, err := server.New(o); err == nil {
		t.Error("an empty key is taken")
	}
}

// What the log says of requests holds no prompt, no path and no key.
func TestLogs(t *testing.T) {
	var mu sync.Mutex
	var log bytes.Buffer
	o := options(script.Generator(func(context.Context, generate.Request) ([]uint32, error) { panic("secret of the model") }))
	o.Log = slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return log.Write(p) }), &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Keys = []string{"a-key-that-is-secret"}
	_, url := start(t, o)
	resp, b := ask(t, "POST", url+"/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"secret"}]}`, "Authorization", "Bearer a-key-that-is-secret")
	if resp.StatusCode != 500 || !isError(b) || strings.Contains(string(b), "secret") {
		t.Errorf("%d %s", resp.StatusCode, b)
	}
	ask(t, "GET", url+"/secret?secret=1", "", "Authorization", "secret")
	ask(t, "SECRET", url+"/v1/models", "")
	mu.Lock()
	defer mu.Unlock()
	text := strings.ReplaceAll(log.String(), "panic: secret of the model", "")
	if strings.Contains(text, "secret") || strings.Contains(text, "SECRET") || strings.Count(text, "msg=request") != 3 {
		t.Errorf("%s", text)
	}
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestStream(t *testing.T) {
	_, url := start(t, options(writes(greeting)))
	resp, b := ask(t, "POST", url+"/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true,"stream_options":{"include_usage":true}}`)
	if resp.Header.Get("Content-Type") != "text/event-stream" || !bytes.HasSuffix(b, []byte("\n\ndata: [DONE]\n\n")) || !strings.Contains(string(b), `"total_tokens":`) {
		t.Errorf("%v %s", resp.Header, b)
	}
	resp, b = ask(t, "POST", url+"/v1/responses", `{"model":"m","input":"Hi","stream":true}`)
	if !strings.HasPrefix(string(b), "event: response.created\ndata: {") || !strings.Contains(string(b), "event: response.completed\n") {
		t.Errorf("%v %s", resp.Header, b)
	}
	resp, b = ask(t, "POST", url+"/v1/chat/completions", `{"model":"m","messages":[],"stream":true}`)
	if resp.StatusCode != 400 || !isError(b) {
		t.Errorf("%d %s", resp.StatusCode, b)
	}
}

// A model that panics, or fails, in the middle of a stream: the client is told.
func TestStreamFails(t *testing.T) {
	fails := generator(func(ctx context.Context, r generate.Request, emit func(generate.Token) error) (generate.Result, error) {
		for _, id := range ids(greeting)[:12] {
			emit(generate.Token{ID: id})
		}
		panic("at this point")
	})
	_, url := start(t, options(fails))
	_, b := ask(t, "POST", url+"/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}`)
	events := strings.Split(strings.TrimSpace(string(b)), "\n\n")
	if last := strings.TrimPrefix(events[len(events)-1], "data: "); !isError([]byte(last)) || len(events) < 3 {
		t.Errorf("%s", b)
	}
	_, b = ask(t, "POST", url+"/v1/responses", `{"model":"m","input":"Hi","stream":true}`)
	if !strings.Contains(string(b), "event: response.failed\n") || strings.Contains(string(b), "at this point") {
		t.Errorf("%s", b)
	}
}

type generator func(ctx context.Context, r generate.Request, emit func(generate.Token) error) (generate.Result, error)

func (g generator) Generate(ctx context.Context, r generate.Request, emit func(generate.Token) error) (generate.Result, error) {
	return g(ctx, r, emit)
}

// endless writes until its client goes.
var endless = generator(func(ctx context.Context, r generate.Request, emit func(generate.Token) error) (res generate.Result, err error) {
	for _, id := range ids("<|channel|>final<|message|>") {
		emit(generate.Token{ID: id})
	}
	for {
		select {
		case <-ctx.Done():
			return res, context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
		if err := emit(generate.Token{ID: 13}); err != nil {
			return res, err
		}
	}
})

func TestLimits(t *testing.T) {
	t.Parallel() // it waits most of the time
	o := options(endless)
	o.Time = 80 * time.Millisecond
	_, url := start(t, o)
	if resp, b := ask(t, "POST", url+"/v1/chat/completions", hi); resp.StatusCode != 504 || !isError(b) {
		t.Errorf("too long: %d %s", resp.StatusCode, b)
	}
	o.Time = time.Hour
	o.Read = 2 * time.Second // more than a busy machine needs for what has come
	_, url = start(t, o)
	host := strings.TrimPrefix(url, "http://")
	raw := func(text string) string {
		t.Helper()
		c, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(c, text)
		b, err := io.ReadAll(bufio.NewReader(c))
		if slow, ok := err.(net.Error); ok && slow.Timeout() {
			t.Errorf("the connection of %.60q stays open", text)
		}
		return string(b)
	}
	got := raw("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"model\"")
	if !strings.HasPrefix(got, "HTTP/1.1 408 ") || !strings.Contains(got, `"code":"timeout"`) {
		t.Errorf("slow body: %s", got)
	}
	got = raw("POST /v1/elsewhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{\"model\"")
	if !strings.HasPrefix(got, "HTTP/1.1 404 ") {
		t.Errorf("slow body of no request: %s", got)
	}
	got = raw("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 3\r\nConnection: close\r\n\r\n{\"model\"")
	if !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("a body longer than it says: %s", got)
	}
	if got := raw("GET /health HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 2<<20) + "\r\n\r\n"); got != "" && !strings.HasPrefix(got, "HTTP/1.1 431 ") {
		t.Errorf("a flood of headers: %s", got)
	}
	if got := raw("\x16\x03\x01 nonsense\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("nonsense: %s", got)
	}

	o.Read, o.InFlight = time.Hour, 2
	_, url = start(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 2 {
		r, _ := http.NewRequestWithContext(ctx, "POST", url+"/v1/chat/completions", strings.NewReader(strings.Replace(hi, "{", `{"stream":true,`, 1)))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
	}
	if resp, b := ask(t, "POST", url+"/v1/chat/completions", hi); resp.StatusCode != 503 || !isError(b) || resp.Header.Get("Retry-After") == "" {
		t.Errorf("too many: %d %s", resp.StatusCode, b)
	}
	if resp, _ := ask(t, "GET", url+"/health", ""); resp.StatusCode != 200 {
		t.Errorf("health of a busy server: %d", resp.StatusCode)
	}
}

// At the end new requests are refused, those under way finish or are told.
func TestServeEnds(t *testing.T) {
	for _, finishes := range []bool{true, false} {
		before := runtime.NumGoroutine()
		free := make(chan bool)
		o := options(generator(func(ctx context.Context, r generate.Request, emit func(generate.Token) error) (res generate.Result, err error) {
			if !finishes {
				return endless(ctx, r, emit)
			}
			for i, id := range ids(greeting) {
				if i == 10 {
					<-free
				}
				if err := emit(generate.Token{ID: id}); err != nil {
					return res, err
				}
			}
			res.Reason = generate.Stopped
			return res, nil
		}))
		o.Grace = 200 * time.Millisecond
		if finishes {
			o.Grace = time.Minute
		}
		ctx, cancel := context.WithCancel(t.Context())
		s, host, done := serve(ctx, t, o)
		url := "http://" + host
		client := &http.Client{Transport: &http.Transport{}}
		resp, err := client.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(strings.Replace(hi, "{", `{"stream":true,`, 1)))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		for s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/health", nil)); ; time.Sleep(time.Millisecond) {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest("GET", "/ready", nil))
			if w.Code == 503 {
				break
			}
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(hi)))
		if w.Code != 503 || !isError(w.Body.Bytes()) {
			t.Errorf("a new request: %d %s", w.Code, w.Body)
		}
		close(free)
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := map[bool]string{true: "data: [DONE]\n\n", false: "\"code\":\"shutting_down\"}}\n\n"}[finishes]; err != nil || !strings.HasSuffix(string(b), want) {
			t.Errorf("the stream ends with %s, %v, want %s", b[max(0, len(b)-200):], err, want)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		client.CloseIdleConnections()
		for i := 0; runtime.NumGoroutine() > before && i < 20_000; i++ {
			time.Sleep(2 * time.Millisecond)
		}
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d goroutines, %d before", n, before)
		}
	}
}

// Clients that go away end what is computed for them.
func TestDisconnects(t *testing.T) {
	var mu sync.Mutex
	under := 0
	g := generator(func(ctx context.Context, r generate.Request, emit func(generate.Token) error) (generate.Result, error) {
		mu.Lock()
		under++
		mu.Unlock()
		defer func() { mu.Lock(); under--; mu.Unlock() }()
		return endless(ctx, r, emit)
	})
	s, url := start(t, options(g))
	before := runtime.NumGoroutine()
	client := &http.Client{Transport: &http.Transport{}}
	var wg sync.WaitGroup
	limit := make(chan bool, 50)
	n := 1000
	if testing.Short() { // for the race detector
		n = 200
	}
	for i := range n {
		limit <- true
		wg.Go(func() {
			defer func() { <-limit }()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			path, body := "/v1/chat/completions", hi
			if i%2 == 1 {
				path, body = "/v1/responses", `{"model":"m","input":"Hi"}`
			}
			if i%3 > 0 {
				body = strings.Replace(body, "{", `{"stream":true,`, 1)
			} else {
				time.AfterFunc(time.Duration(i%20)*time.Millisecond, cancel)
			}
			r, _ := http.NewRequestWithContext(ctx, "POST", url+path, strings.NewReader(body))
			resp, err := client.Do(r)
			if err == nil {
				io.ReadFull(resp.Body, make([]byte, 50*(i%10)))
				cancel()
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
	client.CloseIdleConnections()
	left := func() int { mu.Lock(); defer mu.Unlock(); return under }
	for i := 0; (left() > 0 || runtime.NumGoroutine() > before) && i < 10_000; i++ {
		time.Sleep(5 * time.Millisecond)
	}
	if n := left(); n > 0 {
		t.Errorf("%d answers are still computed", n)
	}
	if n := runtime.NumGoroutine(); n > before {
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines, %d before: %s", n, before, buf[:runtime.Stack(buf, true)])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(w.Body.String(), `finish="cancelled"`) || strings.Contains(w.Body.String(), `finish="error"`) {
		t.Errorf("%s", w.Body)
	}
}
