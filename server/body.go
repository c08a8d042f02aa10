package server

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"ossify/openai"
)

// free is how much of each body counts for nothing: many small requests are let
// in where large ones have taken all there is.
const free = 64 << 10

// A budget is the bytes that requests may hold together beyond free ones.
type budget struct{ left atomic.Int64 }

// take takes bytes, and reports whether there were so many.
func (b *budget) take(n int64) bool {
	if b.left.Add(-n) < 0 {
		b.left.Add(n)
		return false
	}
	return true
}

// body reads a request's body within its limits. release gives back what it
// holds; the body is not to be read after that.
func (s *Server) body(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	if t := r.Header.Get("Content-Type"); t != "" {
		if media, _, err := mime.ParseMediaType(t); err != nil || media != "application/json" {
			return nil, nil, &openai.Error{Status: http.StatusUnsupportedMediaType, Type: "invalid_request_error", Code: "unsupported_media_type", Message: "The body is not of the type application/json."}
		}
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, nil, &openai.Error{Status: http.StatusUnsupportedMediaType, Type: "invalid_request_error", Code: "unsupported_encoding", Message: "The body is encoded, want it as it is."}
	}
	large := func() error {
		w.Header().Set("Connection", "close")
		return &openai.Error{Status: http.StatusRequestEntityTooLarge, Type: "invalid_request_error", Code: "request_too_large", Message: fmt.Sprintf("The body has more than %d bytes.", s.o.Body)}
	}
	if r.ContentLength > s.o.Body {
		return nil, nil, large()
	}
	held := int64(0)
	defer func() {
		if err != nil {
			s.bodies.left.Add(held)
		}
	}()
	most := s.o.Body + 1 // one more than come, so that the end is seen
	if r.ContentLength >= 0 {
		most = r.ContentLength + 1
	}
	from := http.MaxBytesReader(w, r.Body, s.o.Body)
	body = make([]byte, 0, min(most, 4<<10))
	for {
		if len(body) == cap(body) {
			// Memory is made as bytes come, not as they are announced.
			size := min(2*int64(cap(body)), most)
			if n := max(size-free, 0) - held; n > 0 {
				if !s.bodies.take(n) {
					w.Header().Set("Connection", "close")
					w.Header().Set("Retry-After", "1")
					return nil, nil, unavailable("overloaded", "The requests under way take too much memory. Try again later.")
				}
				held += n
			}
			body = append(make([]byte, 0, size), body...)
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		var beyond *http.MaxBytesError
		var slow net.Error
		switch {
		case err == nil:
			continue
		case err == io.EOF:
			http.NewResponseController(w).SetReadDeadline(time.Time{}) // the answer may take longer
			return body, func() { s.bodies.left.Add(held) }, nil
		case errors.As(err, &beyond):
			return nil, nil, large()
		case errors.As(err, &slow) && slow.Timeout():
			w.Header().Set("Connection", "close")
			return nil, nil, &openai.Error{Status: http.StatusRequestTimeout, Type: "invalid_request_error", Code: "timeout", Message: fmt.Sprintf("The body did not come within %v.", s.o.Read)}
		}
		return nil, nil, openai.Invalid("", "The body ends early.")
	}
}
