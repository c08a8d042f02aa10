package server_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"ossify/openai"
	"ossify/server"
)

// serve serves on a connection of its own until ctx ends, as the command does.
// Serve's error comes from done.
func serve(ctx context.Context, t *testing.T, o server.Options) (s *server.Server, host string, done <-chan error) {
	t.Helper()
	s, err := server.New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx, l) }()
	return s, l.Addr().String(), ended
}

// listen serves until the test ends.
func listen(t *testing.T, o server.Options) (host string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	_, host, done := serve(ctx, t, o)
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return host
}

// dial connects, for a minute at most.
func dial(t *testing.T, host string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() { c.Close() })
	return c
}

// Whatever comes over a connection, the answer is an error of OpenAI's form with
// a status of 4xx, or 5xx for versions and encodings of HTTP that there are not.
func TestHostileRequests(t *testing.T) {
	o := options(writes(greeting))
	o.Body = 1 << 20
	o.Read = 5 * time.Second
	host := listen(t, o)
	post := func(path, header, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n%s", path, header, len(body), body)
	}
	chat := func(more string) string {
		return post(openai.PathChat, "", `{"model":"m","messages":[{"role":"user","content":"x"}],`+more+`}`)
	}
	get := func(path string) string {
		return "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	}
	for _, c := range []struct {
		name, request string
		status        int
		code          string
	}{
		{"no HTTP", "\x16\x03\x01 nonsense\r\n\r\n", 400, "invalid_http"},
		{"no host", "GET /health HTTP/1.1\r\nConnection: close\r\n\r\n", 400, "invalid_http"},
		{"two hosts", "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "invalid_http"},
		{"no version", "GET /health\r\n\r\n", 400, "invalid_http"},
		{"another version", "GET /health HTTP/3.0\r\nHost: x\r\n\r\n", 505, "invalid_http"},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404, "not_found"},
		{"another encoding of transfer", "POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "invalid_http"},
		{"two lengths", "POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400, "invalid_http"},
		{"a length that is none", "POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}", 400, "invalid_http"},
		{"a length of more digits", "POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n{}", 400, "invalid_http"},
		{"a length with other chunks", "POST /tokenize HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400, "invalid_value"},
		{"an expectation", "POST /tokenize HTTP/1.1\r\nHost: x\r\nExpect: 200-maybe\r\nContent-Length: 2\r\n\r\n{}", 417, "invalid_http"},
		{"a flood in one header", "GET /health HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 200<<10) + "\r\n\r\n", 431, "invalid_http"},
		{"a flood of headers", "GET /health HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 40<<10) + "\r\n", 431, "invalid_http"},
		{"a long path", get("/" + strings.Repeat("y", 200<<10)), 431, "invalid_http"},
		{"a header that is no text", "GET /health HTTP/1.1\r\nHost: x\r\nX\x00: y\r\n\r\n", 400, "invalid_http"},
		{"a folded header", "GET /health HTTP/1.1\r\nHost: x\r\n : y\r\n\r\n", 400, "invalid_http"},
		{"every option", "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "not_found"},
		{"a tunnel", "CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere:443\r\nConnection: close\r\n\r\n", 404, "not_found"},
		{"a proxy's path", get("http://elsewhere.example/v1/chat/completions"), 405, "method_not_allowed"},
		{"dots", get("/../../etc/passwd"), 404, "not_found"},
		{"dots within", get("/v1/models/../../health"), 404, "not_found"},
		{"escaped dots", get("/%2e%2e/%2e%2e/etc/passwd"), 404, "not_found"},
		{"escaped dots within", get("/v1/%2e%2e/health"), 404, "not_found"},
		{"escaped slashes", get("/v1%2fmodels"), 404, "not_found"},
		{"two slashes", get("//v1/models"), 404, "not_found"},
		{"two slashes within", get("/v1//models"), 404, "not_found"},
		{"a dot", get("/./health"), 404, "not_found"},
		{"a backslash", get(`/v1\models`), 404, "not_found"},
		{"a zero", get("/v1/models/%00"), 404, "model_not_found"},
		{"no UTF-8 in a path", get("/v1/models/%ff%fe"), 404, "model_not_found"},
		{"half an escape", get("/v1/models/%2"), 400, "invalid_http"},
		{"a path without slash", get("health"), 400, "invalid_http"},
		{"an id of dots", get("/v1/responses/%2e%2e%2fhealth"), 404, "not_found"},
		{"an id of 20 kB", get("/v1/responses/" + strings.Repeat("a", 20<<10)), 404, "not_found"},
		{"a wrong method", get(openai.PathChat), 405, "method_not_allowed"},
		{"a method of its own", "STEAL /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405, "method_not_allowed"},
		{"a trailing slash", post(openai.PathChat+"/", "", "{}"), 404, "not_found"},
		{"an announced length of a terabyte", "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1099511627776\r\n\r\n{", 413, "request_too_large"},
		{"a body that is too large, in chunks", "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("10000\r\n"+strings.Repeat(" ", 1<<16)+"\r\n", 20), 413, "request_too_large"},
		{"another type", strings.Replace(post(openai.PathChat, "", "{}"), "application/json", "multipart/form-data; boundary=x", 1), 415, "unsupported_media_type"},
		{"compressed", post(openai.PathChat, "Content-Encoding: gzip\r\n", "\x1f\x8b"), 415, "unsupported_encoding"},
		{"nothing", post(openai.PathChat, "", ""), 400, "invalid_value"},
		{"zeros", post(openai.PathChat, "", strings.Repeat("\x00", 1000)), 400, "invalid_value"},
		{"no UTF-8", post(openai.PathChat, "", "{\"model\":\"\xff\xfe\"}"), 400, "invalid_value"},
		{"overlong UTF-8", post(openai.PathChat, "", "{\"model\":\"\xc0\x80\"}"), 400, "invalid_value"},
		{"a surrogate in UTF-8", post(openai.PathChat, "", "{\"model\":\"\xed\xa0\x80\"}"), 400, "invalid_value"},
		{"half a surrogate pair", chat(`"user":"\ud800"`), 400, "invalid_value"},
		{"a byte order mark", post(openai.PathChat, "", "\ufeff{}"), 400, "invalid_value"},
		{"deep arrays", post(openai.PathChat, "", strings.Repeat("[", 100_000)), 400, "invalid_value"},
		{"deep objects", post(openai.PathChat, "", strings.Repeat(`{"a":`, 100_000)), 400, "invalid_value"},
		{"many values", post(openai.PathChat, "", "["+strings.Repeat("0,", 400_000)+"0]"), 400, "invalid_value"},
		{"two values", post(openai.PathChat, "", "{}{}"), 400, "invalid_value"},
		{"a temperature that is no number", chat(`"temperature":NaN`), 400, "invalid_value"},
		{"an infinite temperature", chat(`"temperature":Infinity`), 400, "invalid_value"},
		{"a temperature of 1e400", chat(`"temperature":1e400`), 400, "invalid_value"},
		{"a temperature as text", chat(`"temperature":"1"`), 400, "invalid_type"},
		{"max_tokens of 1e18", chat(`"max_tokens":1000000000000000000`), 400, "invalid_value"},
		{"max_tokens of a half", chat(`"max_tokens":0.5`), 400, "invalid_value"},
		{"a seed beyond 64 bits", chat(`"seed":99999999999999999999`), 400, "invalid_type"},
		{"a seed of 1e400", chat(`"seed":1e400`), 400, "invalid_value"},
		{"n of a million", chat(`"n":1000000`), 400, "invalid_value"},
		{"a million stops", chat(`"stop":[` + strings.Repeat(`"a",`, 100_000) + `"a"]`), 400, "invalid_value"},
		{"a stop of nothing", chat(`"stop":""`), 400, "invalid_value"},
		{"a bias of a token beyond the vocabulary", chat(`"logit_bias":{"201088":1}`), 400, "invalid_value"},
		{"a bias of a negative token", chat(`"logit_bias":{"-1":1}`), 400, "invalid_value"},
		{"a bias of 1e400", chat(`"logit_bias":{"1":1e400}`), 400, "invalid_value"},
		{"many biases", chat(`"logit_bias":{` + strings.TrimSuffix(numbered(5000, `"%d":1,`), ",") + `}`), 400, "invalid_type"},
		{"too many tokens to go on with", post(openai.PathCompletions, "", `{"model":"m","prompt":[`+strings.Repeat("1,", 200_000)+`1]}`), 400, "context_length_exceeded"},
		{"a token beyond the vocabulary", post(openai.PathCompletions, "", `{"model":"m","prompt":[201088]}`), 400, "invalid_value"},
		{"a token beyond all", post(openai.PathDetokenize, "", `{"tokens":[4294967296]}`), 400, "invalid_value"},
		{"a token that is none", post(openai.PathDetokenize, "", `{"tokens":[-1]}`), 400, "invalid_value"},
		{"a prompt that is too long", post(openai.PathChat, "", `{"model":"m","messages":[{"role":"user","content":"`+strings.Repeat("word ", 100_000)+`"}]}`), 400, "context_length_exceeded"},
		{"the same role twice, the last of a wrong type", chat(`"stream":true,"stream":5`), 400, "invalid_type"},
		{"a schema that refers to itself", schemaRequest(`{"$ref":"#"}`), 400, "invalid_json_schema"},
		{"a schema of endless depth", schemaRequest(`{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}`), 400, "invalid_json_schema"},
		{"a schema that doubles", schemaRequest(doubling(30)), 400, "invalid_json_schema"},
		{"a schema of too many properties", schemaRequest(`{"type":"object","properties":{` + strings.TrimSuffix(numbered(40_000, `"a%d":{},`), ",") + `}}`), 400, "context_length_exceeded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := dial(t, host)
			go io.WriteString(conn, c.request) // the server need not read all of it
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status || !isError(b) || !bytes.Contains(b, []byte(`"code":"`+c.code+`"`)) || resp.Header.Get("Content-Type") != "application/json" || len(b) > 2048 {
				t.Errorf("%d %v %.500s, want %d %s", resp.StatusCode, resp.Header, b, c.status, c.code)
			}
		})
	}
	// It still answers.
	if resp, b := ask(t, "POST", "http://"+host+openai.PathChat, hi); resp.StatusCode != 200 {
		t.Errorf("%d %s", resp.StatusCode, b)
	}
}

func numbered(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func schemaRequest(schema string) string {
	body := `{"model":"m","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":` + schema + `}}}`
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", openai.PathChat, len(body), body)
}

// doubling is a schema each of whose definitions holds two of the next, and the
// last nothing that ends.
func doubling(n int) string {
	return `{"$ref":"#/$defs/0","$defs":{` + func() (s string) {
		for i := range n {
			s += fmt.Sprintf(`"%d":{"type":"object","additionalProperties":false,"required":["a","b"],"properties":{"a":{"$ref":"#/$defs/%d"},"b":{"$ref":"#/$defs/%d"}}},`, i, i+1, i+1)
		}
		return s + fmt.Sprintf(`"%d":{"$ref":"#/$defs/0"}`, n)
	}() + `}}`
}

// Requests that come in one piece are answered in turn.
func TestPipelining(t *testing.T) {
	host := listen(t, options(writes(greeting)))
	conn := dial(t, host)
	var b strings.Builder
	const n = 200
	for i := range n {
		body := strings.Replace(hi, "{", fmt.Sprintf(`{"stream":%v,`, i%2 == 1), 1)
		if i%5 == 4 {
			body = "{"
		}
		fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", openai.PathChat, len(body), body)
	}
	go io.WriteString(conn, b.String())
	r := bufio.NewReader(conn)
	for i := range n {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(i, err)
		}
		body, err := io.ReadAll(resp.Body)
		if want := map[bool]int{true: 400, false: 200}[i%5 == 4]; err != nil || resp.StatusCode != want || want == 400 && !isError(body) || want == 200 && !bytes.Contains(body, []byte("there")) {
			t.Fatalf("%d: %d %s %v, want %d", i, resp.StatusCode, body, err, want)
		}
	}
}

// Clients that send headers or bodies byte by byte lose their connection in
// time, and others are answered meanwhile.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	o := options(writes(greeting))
	o.Read = 2 * time.Second // more than a busy machine needs for those that are not slow
	host := listen(t, o)
	var wg sync.WaitGroup
	for i, text := range []string{
		"GET /health HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 10_000),
		"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n" + strings.Repeat(" ", 9000),
		"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\n \r\n", 1500),
	} {
		for range 5 {
			wg.Go(func() {
				conn := dial(t, host)
				go func() {
					from := strings.Index(text, "\r\n\r\n") + 4
					if i == 0 {
						from = 1
					}
					io.WriteString(conn, text[:from])
					for _, c := range []byte(text[from:]) {
						if _, err := conn.Write([]byte{c}); err != nil {
							return
						}
						time.Sleep(5 * time.Millisecond)
					}
				}()
				b, err := io.ReadAll(conn)
				if slow, ok := err.(net.Error); ok && slow.Timeout() {
					t.Errorf("%.30q: the connection stays open", text)
				}
				if head, body, _ := strings.Cut(string(b), "\r\n\r\n"); i > 0 && (!strings.HasPrefix(head, "HTTP/1.1 408 ") || !isError([]byte(body))) {
					t.Errorf("%.30q: %s", text, b)
				}
			})
		}
	}
	for range 20 {
		if resp, b := ask(t, "POST", "http://"+host+openai.PathChat, hi); resp.StatusCode != 200 {
			t.Errorf("%d %s", resp.StatusCode, b)
		}
	}
	wg.Wait()
}

// Large bodies take from what all may hold together; small ones are answered
// when that is gone, and what was taken comes back.
func TestBodiesAreBounded(t *testing.T) {
	o := options(writes(greeting))
	o.Bodies = 5 << 19
	o.Read = time.Minute
	host := listen(t, o)
	large := strings.Replace(hi, "{", "{"+strings.Repeat(" ", 1<<20), 1)
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", openai.PathChat, len(large))
	var held []net.Conn
	for range 2 {
		c := dial(t, host)
		io.WriteString(c, head+large[:len(large)-1])
		held = append(held, c)
	}
	for i := 0; ; i++ { // until what those sent has come
		_, b := ask(t, "GET", "http://"+host+"/metrics", "")
		if _, rest, _ := strings.Cut(string(b), "\nossify_body_bytes "); strings.HasPrefix(rest, "1.96") {
			break
		}
		if i == 6000 {
			t.Fatalf("%s", b)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if resp, b := ask(t, "POST", "http://"+host+openai.PathChat, large); resp.StatusCode != 503 || !isError(b) || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a third body of 1 MiB: %d %v %s", resp.StatusCode, resp.Header, b)
	}
	if resp, b := ask(t, "POST", "http://"+host+openai.PathChat, hi); resp.StatusCode != 200 {
		t.Errorf("a small body beside: %d %s", resp.StatusCode, b)
	}
	for i, c := range held {
		if i == 0 {
			c.Close() // in the middle of its body
			continue
		}
		io.WriteString(c, large[len(large)-1:])
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
			t.Errorf("%v %v", resp, err)
		}
	}
	for i := 0; ; i++ {
		resp, b := ask(t, "POST", "http://"+host+openai.PathChat, large)
		if resp.StatusCode == 200 {
			break
		}
		if i == 6000 {
			t.Fatalf("%d %s when nobody holds anything", resp.StatusCode, b)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Connections beyond the limit wait until others end.
func TestConnectionsAreBounded(t *testing.T) {
	o := options(writes(greeting))
	o.Conns = 3
	o.Read = time.Minute
	host := listen(t, o)
	var held []net.Conn
	for range 3 {
		c := dial(t, host)
		io.WriteString(c, "GET /health HTTP/1.1\r\nHost: x\r\n")
		held = append(held, c)
	}
	answer := make(chan error, 1)
	late := dial(t, host)
	go func() {
		io.WriteString(late, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		b, err := io.ReadAll(late)
		if err == nil && !bytes.HasPrefix(b, []byte("HTTP/1.1 200 ")) {
			err = fmt.Errorf("%s", b)
		}
		answer <- err
	}()
	select {
	case err := <-answer:
		t.Fatalf("a fourth connection is answered: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	held[0].Close()
	if err := <-answer; err != nil {
		t.Error(err)
	}
}
