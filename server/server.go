package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ossify/batch/store"
	"ossify/generate"
	"ossify/openai"
)

// Options say what is served, and within which limits. The zero value of a limit
// takes what its comment says.
type Options struct {
	// Service is told the server's Record as its Done; see [Server.Record].
	Service func(done func(openai.Record)) *openai.Service

	Stats func() generate.SchedulerStats // for metrics; may be nil
	Page  http.Handler                   // answers GET / and what is below /page/; nil for none
	Log   *slog.Logger                   // nil logs nothing
	Keys  []string                       // one of which a request must bear; none lets everybody in

	Body     int64         // bytes of a request; 0 is 4 MiB
	Bodies   int64         // bytes of all requests under way, the first 64 KiB of each not counted; 0 is 256 MiB
	InFlight int           // requests at once; 0 is 512
	Conns    int           // connections at once, others wait; 0 is 4 times InFlight
	Time     time.Duration // from a request's last byte to the answer's; 0 is 1 h
	Read     time.Duration // for a request's headers, and again for its body; 0 is 30 s
	Write    time.Duration // for a client to take what was sent; 0 is 60 s
	Grace    time.Duration // for answers under way when the server ends; 0 is 30 s

	// Hosts are the names that requests may call the server by, beside addresses;
	// none takes all. A page whose name somebody made point at this machine is of
	// the same origin to a browser, but has another name.
	Hosts []string

	Batches *Batches // nil keeps no files and batches

	LogBodies bool // requests are logged whole, which has prompts in the log
}

// A Server answers HTTP requests. It is a handler, too.
type Server struct {
	o        Options
	svc      *openai.Service
	log      *slog.Logger
	keys     [][sha256.Size]byte
	owners   []string // of what is kept, by key
	slots    chan struct{}
	parsing  chan struct{} // memory of requests being read is a multiple of their size
	bodies   budget
	metrics  *metrics
	batches  *store.Store // nil if there are none
	handler  http.Handler
	draining atomic.Bool
	cut      atomic.Int64 // answers that the end cut off
}

// parsers is how many requests are read into values at once.
const parsers = 8

// New returns a Server.
func New(o Options) (*Server, error) {
	if o.Service == nil {
		return nil, errors.New("server: no service")
	}
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.Time, time.Hour)
	set(&o.Read, 30*time.Second)
	set(&o.Write, time.Minute)
	set(&o.Grace, 30*time.Second)
	if o.Body == 0 {
		o.Body = 4 << 20
	}
	if o.InFlight == 0 {
		o.InFlight = 512
	}
	if o.Bodies == 0 {
		o.Bodies = 256 << 20
	}
	if o.Conns == 0 {
		o.Conns = 4 * o.InFlight
	}
	if o.Body < 0 || o.Bodies < 0 || o.Conns < 0 || o.InFlight < 0 || o.Time < 0 || o.Read < 0 || o.Write < 0 || o.Grace < 0 {
		return nil, errors.New("server: a limit is negative")
	}
	s := &Server{o: o, log: o.Log, slots: make(chan struct{}, o.InFlight), parsing: make(chan struct{}, parsers)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, k := range o.Keys {
		if k == "" {
			return nil, errors.New("server: an API key is empty")
		}
		s.keys = append(s.keys, sha256.Sum256([]byte(k)))
		s.owners = append(s.owners, ownerOf(k))
	}
	s.bodies.left.Store(o.Bodies)
	s.metrics = newMetrics(o.Stats, func() int64 { return o.Bodies - s.bodies.left.Load() })
	s.svc = o.Service(s.metrics.record)
	if o.Batches != nil {
		if err := s.openBatches(*o.Batches); err != nil {
			return nil, err
		}
	}
	s.handler = s.routes()
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Serve answers what l accepts until ctx ends, and then as the server ends: new
// requests are refused, answers under way have the time of Grace to finish, and
// those that do not get an error. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer s.Close()
	base, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	h := &http.Server{
		Handler:           answering(s),
		ReadHeaderTimeout: s.o.Read,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnState:         states(hold(s.o.Conns), between),
		ConnContext:       withConn,

		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(speaking{l}) }()
	select {
	case err := <-ended:
		return fmt.Errorf("server: %w", err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	if s.batches != nil {
		s.batches.Stop() // what it has of a batch is on disk
	}
	under := len(s.slots)
	s.log.Info("ending", "under_way", under, "grace", s.o.Grace)
	grace, cancel := context.WithTimeout(context.Background(), s.o.Grace)
	defer cancel()
	err := h.Shutdown(grace)
	if err != nil {
		stop(generate.ErrStopped)
		last, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err = h.Shutdown(last); err != nil {
			h.Close()
		}
	}
	s.log.Info("ended", "cut_off", s.cut.Load())
	return nil
}

// Close ends the batch under way, with which the next server goes on, and gives
// the folder of batches free. Serve does it in the end.
func (s *Server) Close() error {
	if s.batches == nil {
		return nil
	}
	return s.batches.Close()
}

// methods are what a path takes.
type methods map[string]func(w http.ResponseWriter, r *http.Request) error

// routes returns the handler of all paths.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, open bool, m methods) {
		mux.Handle(pattern, s.wrap(pattern, open, func(w http.ResponseWriter, r *http.Request) error {
			method := r.Method
			if method == http.MethodHead {
				method = http.MethodGet
			}
			h, ok := m[method]
			if !ok {
				var allow []string
				for name := range m {
					allow = append(allow, name)
				}
				w.Header().Set("Allow", strings.Join(allow, ", "))
				return &openai.Error{Status: http.StatusMethodNotAllowed, Type: "invalid_request_error", Code: "method_not_allowed", Message: "This path takes " + strings.Join(allow, ", ") + "."}
			}
			return h(w, r)
		}))
	}
	for _, p := range []string{openai.PathChat, openai.PathResponses, openai.PathCompletions, openai.PathTokenize, openai.PathDetokenize, "/v1/embeddings"} {
		handle(p, false, methods{"POST": s.post(p)})
	}
	stored := func(f func(r *http.Request, id string) ([]byte, *openai.Error)) func(http.ResponseWriter, *http.Request) error {
		return func(w http.ResponseWriter, r *http.Request) error {
			b, err := f(r, r.PathValue("id"))
			if err != nil {
				return err
			}
			return answer(w, http.StatusOK, b)
		}
	}
	handle("/v1/responses/{id}", false, methods{
		"GET": stored(func(r *http.Request, id string) ([]byte, *openai.Error) {
			if v := r.URL.Query().Get("stream"); v != "" && v != "false" {
				return nil, openai.Invalid("stream", "A stored response is not streamed.")
			}
			return s.svc.GetResponse(id, s.client(r).Owner)
		}),
		"DELETE": stored(func(r *http.Request, id string) ([]byte, *openai.Error) {
			return s.svc.DeleteResponse(id, s.client(r).Owner)
		}),
	})
	handle("/v1/responses/{id}/cancel", false, methods{
		"POST": stored(func(r *http.Request, id string) ([]byte, *openai.Error) {
			return s.svc.CancelResponse(id, s.client(r).Owner)
		}),
	})
	handle("/v1/responses/{id}/input_items", false, methods{
		"GET": stored(func(r *http.Request, id string) ([]byte, *openai.Error) {
			q := r.URL.Query()
			limit := 20
			if text := q.Get("limit"); text != "" {
				n, err := strconv.Atoi(text)
				if err != nil {
					return nil, openai.Invalid("limit", "This is no number.")
				}
				limit = n
			}
			return s.svc.InputItems(id, s.client(r).Owner, q.Get("after"), q.Get("order"), limit)
		}),
	})
	s.batchRoutes(func(pattern string, m methods) { handle(pattern, false, m) })
	handle("/v1/models", false, methods{"GET": func(w http.ResponseWriter, r *http.Request) error {
		return answer(w, http.StatusOK, s.svc.Models())
	}})
	handle("/v1/models/{id...}", false, methods{
		"GET": stored(func(_ *http.Request, id string) ([]byte, *openai.Error) { return s.svc.GetModel(id) }),
	})
	handle("/health", true, methods{"GET": func(w http.ResponseWriter, r *http.Request) error {
		return answer(w, http.StatusOK, []byte(`{"status":"ok"}`))
	}})
	handle("/ready", true, methods{"GET": func(w http.ResponseWriter, r *http.Request) error {
		if s.draining.Load() {
			return unavailable("shutting_down", "The server is shutting down.")
		}
		return answer(w, http.StatusOK, []byte(`{"status":"ready"}`))
	}})
	handle("/metrics", true, methods{"GET": func(w http.ResponseWriter, r *http.Request) error {
		s.metrics.handler.ServeHTTP(w, r)
		return nil
	}})
	if s.o.Page != nil {
		page := methods{"GET": func(w http.ResponseWriter, r *http.Request) error {
			s.o.Page.ServeHTTP(w, r)
			return nil
		}}
		handle("/{$}", true, page)
		handle("/page/", true, page)
		handle("/page", true, methods{"GET": nothing}) // no redirect
	}
	handle("/", true, methods{"GET": nothing, "POST": nothing, "PUT": nothing, "DELETE": nothing, "PATCH": nothing, "OPTIONS": nothing})

	// What a browser sends from another site's page is not the user's wish.
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(s.wrap("cross-origin", true, func(http.ResponseWriter, *http.Request) error {
		return &openai.Error{Status: http.StatusForbidden, Type: "invalid_request_error", Code: "cross_origin", Message: "A page of another origin may not ask this."}
	}))
	guarded := origin.Handler(mux)
	odd := s.wrap("/", true, nothing)
	stranger := s.wrap("unknown-host", true, func(http.ResponseWriter, *http.Request) error {
		return &openai.Error{Status: http.StatusMisdirectedRequest, Type: "invalid_request_error", Code: "unknown_host", Message: "This server does not go by the name in Host."}
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// ServeMux would redirect these.
		if p := r.URL.Path; r.Method == http.MethodConnect || p == "" || p[0] != '/' || path.Clean(p) != strings.TrimSuffix(p, "/") && p != "/" {
			odd.ServeHTTP(w, r)
			return
		}
		if !s.known(r.Host) {
			stranger.ServeHTTP(w, r)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

// known reports whether the server may be called by this name.
func (s *Server) known(host string) bool {
	if len(s.o.Hosts) == 0 || host == "" { // HTTP/1.0, which no browser speaks
		return true
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return slices.ContainsFunc(s.o.Hosts, func(name string) bool { return strings.EqualFold(name, host) })
}

func nothing(http.ResponseWriter, *http.Request) error {
	return openai.NotFound("There is nothing at this path.")
}

func unavailable(code, message string) *openai.Error {
	return &openai.Error{Status: http.StatusServiceUnavailable, Type: "server_error", Code: code, Message: message}
}

// answer writes a JSON answer.
func answer(w http.ResponseWriter, status int, body []byte) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, err := w.Write(body)
	return gone(err)
}

// gone is the error of a client that takes no answer.
func gone(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", context.Canceled, err)
}

// A tracked writer knows whether the answer has begun, and gives the client time
// to take what is written next.
type tracked struct {
	http.ResponseWriter
	status int
	time   time.Duration
}

func (t *tracked) WriteHeader(status int) {
	if t.status == 0 {
		t.status = status
	}
	t.deadline()
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracked) Write(p []byte) (int, error) {
	if t.status == 0 {
		t.status = http.StatusOK
	}
	t.deadline()
	return t.ResponseWriter.Write(p)
}

func (t *tracked) deadline() {
	http.NewResponseController(t.ResponseWriter).SetWriteDeadline(time.Now().Add(t.time)) // writers of tests have none
}

func (t *tracked) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// wrap makes a handler of one that returns errors: it counts, logs, wants a key
// unless open, and contains panics.
func (s *Server) wrap(route string, open bool, h func(w http.ResponseWriter, r *http.Request) error) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		start := time.Now()
		w := &tracked{ResponseWriter: rw, time: s.o.Write}
		id := requestID()
		if r.ContentLength != 0 { // else nothing is to come: a deadline would end what takes longer
			// What is left of a body when the answer is there is read until then, too.
			http.NewResponseController(w).SetReadDeadline(start.Add(s.o.Read)) // writers of tests have none
		}
		head := w.Header()
		head.Set("X-Request-Id", id)
		head.Set("X-Content-Type-Options", "nosniff")
		err := s.contained(w, r, id, func() error {
			if !open {
				if e := s.allow(r); e != nil {
					head.Set("WWW-Authenticate", "Bearer")
					return e
				}
				if s.draining.Load() {
					head.Set("Connection", "close")
					return unavailable("shutting_down", "The server is shutting down.")
				}
				select {
				case s.slots <- struct{}{}:
					defer func() { <-s.slots }()
				default:
					head.Set("Retry-After", "1")
					return unavailable("overloaded", "Too many requests are under way. Try again later.")
				}
			}
			return h(w, r)
		})
		status := w.status
		if err != nil {
			var e *openai.Error
			if !errors.As(err, &e) {
				e = &openai.Error{Status: openai.StatusClientGone, Cause: err}
			}
			if errors.Is(err, generate.ErrStopped) {
				s.cut.Add(1)
			}
			if w.status == 0 && e.Status != openai.StatusClientGone {
				if e.Status == http.StatusTooManyRequests {
					head.Set("Retry-After", "1")
				}
				b, _ := json.Marshal(e)
				answer(w, e.Status, b)
			}
			status = e.Status
		}
		took := time.Since(start)
		s.metrics.request(route, status, took)
		level := slog.LevelInfo
		attrs := []slog.Attr{slog.String("id", id), slog.String("method", word(r.Method)), slog.String("route", route), slog.Int("status", status), slog.Duration("took", took)}
		if err != nil && status >= 500 {
			level = slog.LevelError
			attrs = append(attrs, slog.String("error", cause(err)))
		}
		if open && err == nil {
			level = slog.LevelDebug
		}
		s.log.LogAttrs(context.Background(), level, "request", attrs...)
	})
}

// word keeps what a client calls its method out of the log, unless it is one.
func word(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return method
	}
	return "other"
}

// cause is what the log says of a failure: not the client's words.
func cause(err error) string {
	var e *openai.Error
	if errors.As(err, &e) && e.Cause != nil {
		return e.Cause.Error()
	}
	return err.Error()
}

func requestID() string {
	var b [12]byte
	rand.Read(b[:])
	return "req_" + hex.EncodeToString(b[:])
}

// contained calls f, whose panic becomes an error.
func (s *Server) contained(w *tracked, r *http.Request, id string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.log.Error("panic", "id", id, "stack", string(debug.Stack()))
			err = &openai.Error{Status: http.StatusInternalServerError, Type: "server_error", Code: "internal_error", Message: "The request could not be computed.", Cause: errors.New("panic")}
		}
	}()
	return f()
}

// allow proves a request's key. All keys are compared, in the same time.
func (s *Server) allow(r *http.Request) *openai.Error {
	if len(s.keys) == 0 || s.key(r) >= 0 {
		return nil
	}
	return &openai.Error{Status: http.StatusUnauthorized, Type: "invalid_request_error", Code: "invalid_api_key", Message: "The API key is missing or wrong: want Authorization: Bearer KEY."}
}

// key returns which key a request bears, −1 for none.
func (s *Server) key(r *http.Request) int {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	found := -1
	for i, k := range s.keys {
		if subtle.ConstantTimeCompare(k[:], sum[:]) == 1 {
			found = i
		}
	}
	if !strings.EqualFold(scheme, "bearer") {
		return -1
	}
	return found
}

// client says who asks: a key's turns and things are its own. Without keys turns
// are an address's, and things are everybody's.
func (s *Server) client(r *http.Request) openai.Client {
	if k := s.key(r); k >= 0 {
		return openai.Client{Turn: "key " + s.owners[k], Owner: s.owners[k]}
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	return openai.Client{Turn: host}
}

// ownerOf is what stands for a key on disk, and does not let anybody in.
func ownerOf(key string) string {
	sum := sha256.Sum256([]byte("ossify: owner of files and batches\x00" + key))
	return hex.EncodeToString(sum[:16])
}

// post answers a request that package openai knows by its path.
func (s *Server) post(route string) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		body, release, err := s.body(w, r)
		if err != nil {
			return err
		}
		defer release() // a call holds about as much as its body
		if s.o.LogBodies {
			s.log.Info("body", "route", route, "id", w.Header().Get("X-Request-Id"), "body", string(body))
		}
		select {
		case s.parsing <- struct{}{}:
		case <-r.Context().Done():
			return gone(context.Cause(r.Context()))
		}
		call, e := func() (openai.Call, *openai.Error) {
			defer func() { <-s.parsing }()
			return s.svc.Parse(route, body, s.client(r))
		}()
		if e != nil {
			return e
		}
		ctx, cancel := context.WithTimeoutCause(r.Context(), s.o.Time, openai.ErrTimeout)
		defer cancel()
		if !call.Stream() {
			b, e := call.Answer(ctx)
			if e != nil {
				return e
			}
			return answer(w, http.StatusOK, b)
		}
		return s.stream(ctx, w, call)
	}
}

// stream sends an answer as server-sent events.
func (s *Server) stream(ctx context.Context, w http.ResponseWriter, call openai.Call) error {
	c := http.NewResponseController(w)
	begun := false
	var buf []byte
	err := call.Events(ctx, func(name string, data []byte) error {
		if !begun {
			begun = true
			h := w.Header()
			h.Set("Content-Type", "text/event-stream")
			h.Set("Cache-Control", "no-cache")
			h.Set("X-Accel-Buffering", "no")
			w.WriteHeader(http.StatusOK)
		}
		buf = buf[:0]
		if name != "" {
			buf = append(append(append(buf, "event: "...), name...), '\n')
		}
		buf = append(append(append(buf, "data: "...), data...), "\n\n"...)
		if _, err := w.Write(buf); err != nil {
			return gone(err)
		}
		return gone(c.Flush())
	})
	if err != nil {
		return err
	}
	return nil
}
