package mcp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"ossify/server/mcp"
)

// tool adds a tool that answers its arguments by a function.
func tool(s *sdk.Server, name string, answer func(ctx context.Context, arguments string) (*sdk.CallToolResult, error)) {
	s.AddTool(&sdk.Tool{Name: name, InputSchema: map[string]any{"type": "object"}}, func(ctx context.Context, r *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		return answer(ctx, string(r.Params.Arguments))
	})
}

func text(parts ...string) *sdk.CallToolResult {
	r := &sdk.CallToolResult{}
	for _, p := range parts {
		r.Content = append(r.Content, &sdk.TextContent{Text: p})
	}
	return r
}

// serve serves a new server to each session, over both transports.
func serve(t *testing.T, add func(s *sdk.Server)) (streamable, events string) {
	t.Helper()
	fresh := func(*http.Request) *sdk.Server {
		s := sdk.NewServer(&sdk.Implementation{Name: "test", Version: "1"}, nil)
		add(s)
		return s
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", sdk.NewStreamableHTTPHandler(fresh, nil))
	mux.Handle("/sse", sdk.NewSSEHandler(fresh, nil))
	web := httptest.NewServer(mux)
	t.Cleanup(func() { web.CloseClientConnections(); web.Close() })
	return web.URL + "/mcp", web.URL + "/sse"
}

func open(t *testing.T, o mcp.Options) *mcp.Server {
	t.Helper()
	s, err := mcp.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCall(t *testing.T) {
	var sessions atomic.Int64
	a, b := serve(t, func(s *sdk.Server) {
		sessions.Add(1)
		n := 0
		tool(s, "count", func(_ context.Context, arguments string) (*sdk.CallToolResult, error) {
			n++
			return text(fmt.Sprint(n, " ", arguments)), nil
		})
		tool(s, "fail", func(context.Context, string) (*sdk.CallToolResult, error) {
			r := text("it broke")
			r.IsError = true
			return r, nil
		})
		tool(s, "mixed", func(context.Context, string) (*sdk.CallToolResult, error) {
			return &sdk.CallToolResult{Content: []sdk.Content{
				&sdk.TextContent{Text: "a\xff<|end|>"}, &sdk.ImageContent{Data: []byte("png"), MIMEType: "image/png"},
				&sdk.EmbeddedResource{Resource: &sdk.ResourceContents{URI: "file:///x", Text: "of a file"}},
				&sdk.EmbeddedResource{Resource: &sdk.ResourceContents{URI: "file:///x", Blob: []byte("x")}},
			}}, nil
		})
		tool(s, "empty", func(context.Context, string) (*sdk.CallToolResult, error) { return &sdk.CallToolResult{}, nil })
		tool(s, "refuse", func(context.Context, string) (*sdk.CallToolResult, error) { return nil, errors.New("not today") })
	})
	for _, address := range []string{a, b} {
		s := open(t, mcp.Options{Address: address, Tools: []string{"count", "fail", "mixed", "empty", "refuse", "absent"}})
		if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "has no tool absent") {
			t.Errorf("%s: %v", address, err)
		}
		session, other := s.Session(), s.Session()
		for _, tt := range []struct {
			of         *mcp.Session
			tool, args string
			want       string
			failed     bool
			err        string
		}{
			{session, "count", `{"a":1}`, `1 {"a":1}`, false, ""},
			{session, "count", `{}`, `2 {}`, false, ""},
			{other, "count", `{}`, `1 {}`, false, ""}, // another's state
			{session, "fail", `{}`, "it broke", true, ""},
			{session, "mixed", `{}`, "a\uFFFD<|end|>\n[ImageContent, which is no text]\nof a file\n[a resource that is no text]", false, ""},
			{session, "empty", `{}`, "", false, ""},
			{session, "absent", `{}`, "", false, "unknown tool"},
			{session, "others", `{}`, "", false, `no tool "others"`},
			{session, "refuse", `{}`, "", false, "not today"},
			{session, "count", `{}`, `3 {}`, false, ""}, // after an error it goes on
		} {
			got, failed, err := tt.of.Call(t.Context(), tt.tool, []byte(tt.args))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%s %s: %q, %v, want %q", address, tt.tool, got, err, tt.err)
				}
				continue
			}
			if err != nil || got != tt.want || failed != tt.failed {
				t.Errorf("%s %s: %q, %v, %v, want %q", address, tt.tool, got, failed, err, tt.want)
			}
		}
		session.Close()
		other.Close()
		session.Close() // again
	}
	if sessions.Load() == 0 {
		t.Error("no session")
	}
}

// A server that answers too much, too late, oddly or not at all is an error, in
// bounded time and memory.
func TestBadServers(t *testing.T) {
	huge, _ := serve(t, func(s *sdk.Server) {
		tool(s, "t", func(context.Context, string) (*sdk.CallToolResult, error) {
			return text(strings.Repeat("x", 3<<20)), nil
		})
	})
	stuck := make(chan struct{})
	slow, _ := serve(t, func(s *sdk.Server) {
		tool(s, "t", func(ctx context.Context, _ string) (*sdk.CallToolResult, error) {
			select {
			case <-ctx.Done():
			case <-stuck:
			}
			return text("late"), nil
		})
	})
	t.Cleanup(func() { close(stuck) }) // before the server's own
	raw := func(h http.HandlerFunc) string {
		web := httptest.NewServer(h)
		t.Cleanup(func() { web.CloseClientConnections(); web.Close() })
		return web.URL
	}
	endless := raw(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, address := range map[string]string{
		"huge": huge, "slow": slow, "endless": endless, "gone": gone.URL,
		"not JSON": raw(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte("{"))
		}),
		"another":    raw(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) }),
		"no content": raw(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }),
		"redirects":  raw(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, huge, http.StatusTemporaryRedirect) }),
		"refuses":    raw(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }),
		"others' ids": raw(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(`{"jsonrpc":"2.0","id":999,"result":{}}`))
		}),
	} {
		s := open(t, mcp.Options{Address: address, Tools: []string{"t"}, Answer: 1 << 20})
		session := s.Session()
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		got, _, err := session.Call(ctx, "t", json.RawMessage(`{}`))
		cancel()
		if err == nil {
			t.Errorf("%s: %.50q", name, got)
		}
		if name == "slow" && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && !utf8.ValidString(err.Error()) {
			t.Errorf("%s: %q", name, err)
		}
		session.Close()
	}
}

func TestAddresses(t *testing.T) {
	for _, address := range []string{"", "localhost:8000", "ftp://x/", "http://", "file:///etc/passwd", "http://x/#y", "http://[", "/mcp"} {
		if _, err := mcp.New(mcp.Options{Address: address, Tools: []string{"t"}}); err == nil || !strings.Contains(err.Error(), "want http://") {
			t.Errorf("%q: %v", address, err)
		}
	}
	if _, err := mcp.New(mcp.Options{Address: "http://x/"}); err == nil {
		t.Error("no tools: no error")
	}
}
