package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"ossify/openai"
)

// hold is the hook of an [http.Server] that lets so many connections in at once.
// Beyond them it stops to accept until one ends: those that come wait in the
// system's queue.
func hold(most int) func(net.Conn, http.ConnState) {
	slots := make(chan struct{}, most)
	var mu sync.Mutex
	in := map[net.Conn]bool{}
	return func(c net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew: // called before the next one is accepted
			slots <- struct{}{}
			mu.Lock()
			in[c] = true
			mu.Unlock()
		case http.StateClosed, http.StateHijacked:
			mu.Lock()
			known := in[c]
			delete(in, c)
			mu.Unlock()
			if known {
				<-slots
			}
		}
	}
}

// states calls several hooks of an [http.Server].
func states(hooks ...func(net.Conn, http.ConnState)) func(net.Conn, http.ConnState) {
	return func(c net.Conn, s http.ConnState) {
		for _, f := range hooks {
			f(c, s)
		}
	}
}

// A speaking listener's connections say in OpenAI's form what net/http says as
// plain text: that what came is no request. Those of TLS are left alone.
type speaking struct{ net.Listener }

func (l speaking) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if _, secret := c.(*tls.Conn); err != nil || secret {
		return c, err
	}
	return &speaker{Conn: c}, nil
}

// A speaker is a connection. What is written while a request is being answered is
// the answer, whatever it looks like.
type speaker struct {
	net.Conn
	answering atomic.Bool
}

type connKey struct{}

// withConn lets a request's handler find its connection.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// answering marks the connections of requests that h answers.
func answering(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*speaker); ok {
			c.answering.Store(true)
		}
		h.ServeHTTP(w, r)
	})
}

// between is the hook that marks connections whose answer is written.
func between(c net.Conn, s http.ConnState) {
	if c, ok := c.(*speaker); ok && s == http.StateIdle {
		c.answering.Store(false)
	}
}

// plain is the header of net/http's own errors, and of nothing else that a
// Server writes.
var plain = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")

func (s *speaker) Write(p []byte) (int, error) {
	if s.answering.Load() {
		return s.Conn.Write(p)
	}
	line, _, _ := bytes.Cut(p, []byte("\r\n"))
	text, ok := bytes.CutPrefix(line, []byte("HTTP/1.1 "))
	if !ok || len(text) < 5 || text[0] != '4' && text[0] != '5' || !bytes.HasPrefix(p[len(line):], plain) && string(text[:4]) != "417 " {
		return s.Conn.Write(p)
	}
	status, err := strconv.Atoi(string(text[:3]))
	if err != nil {
		return s.Conn.Write(p)
	}
	e := &openai.Error{Status: status, Type: "invalid_request_error", Code: "invalid_http", Message: "This is no HTTP request that can be answered: " + string(text[4:]) + "."}
	body, err := e.MarshalJSON()
	if err != nil {
		return 0, err
	}
	out := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", status, http.StatusText(status), len(body), body)
	if _, err := s.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite lets the client read what was written before the connection ends.
func (s *speaker) CloseWrite() error {
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
