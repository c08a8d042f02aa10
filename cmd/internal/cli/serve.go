package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ossify/engine"
	"ossify/generate"
	"ossify/generate/onengine"
	"ossify/generate/onruntime"
	"ossify/gptoss"
	"ossify/harmony"
	"ossify/openai"
	"ossify/server"
	"ossify/server/mcp"
	"ossify/server/page"
	"ossify/tokenizer"
)

// serveFlags are the flags of serve.
type serveFlags struct {
	addr        string
	names       []string
	keys        string
	cert, key   string
	precision   string
	memory      memoryFlags
	threads     int
	context     int
	most        int
	cache       float64
	active      int
	waiting     int
	wait        time.Duration
	body        int64
	timeout     time.Duration
	grace       time.Duration
	responses   int
	batches     string
	batchBytes  float64
	batchActive int
	logs        string
	logBodies   bool
	verified    string
	noPage      bool
	browser     bool
	hosts       []string
	onnx        onnxFlags

	web, python string // addresses of MCP servers
	tools       openai.Tools
}

func newServe() *cobra.Command {
	var a serveFlags
	c := &cobra.Command{
		Use:   "serve DIR",
		Short: "Serve a model as OpenAI's API does",
		Long: `Serve answers requests of OpenAI's API with a checkpoint: /v1/chat/completions and
/v1/responses, streamed or not, /v1/completions, /v1/models, /tokenize,
/detokenize, /health, /ready and /metrics. At / there is a page for a browser: a
conversation, and what verify said of the checkpoint (--verified).

Many requests are computed together, and each gets the tokens that it would get
alone. The same seed gives the same answer. What the model writes is never
executed here: calls of tools go to the client. With --browser and --python,
responses may ask for the tools that gpt-oss was trained with, web_search and
code_interpreter, and these MCP servers run them.

Ctrl-C ends it: new requests are refused, and those under way have the time of
--grace to finish. See docs/server.md.`,
		Example: `  ossify serve /tmp/20b
  ossify serve /tmp/20b --addr :8443 --tls-cert cert.pem --tls-key key.pem --api-keys keys.txt
  ossify verify /tmp/20b --precision bf16 --json > verified.json && ossify serve /tmp/20b --verified verified.json
  ossify serve /tmp/20b --browser http://127.0.0.1:8001/mcp --python http://127.0.0.1:8000/mcp
  ossify serve /tmp/20b --onnx /tmp/20b/model.onnx --operators
  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \
    -d '{"model":"20b","messages":[{"role":"user","content":"What is jade?"}]}'`,
		Args: oneArgument("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.check(); err != nil {
				return err
			}
			if err := a.onnx.check(c); err != nil {
				return err
			}
			return serve(c, args[0], &a)
		},
	}
	f := c.Flags()
	f.StringVar(&a.addr, "addr", "127.0.0.1:8080", "address to listen at; port 0 takes a free one")
	f.StringArrayVar(&a.names, "name", nil, "name of the model in requests, may be repeated; the folder's name unless given")
	f.StringVar(&a.keys, "api-keys", "", "file of keys, one a line, one of which a request must bear; without it everybody may ask")
	f.StringVar(&a.cert, "tls-cert", "", "file of the certificate, PEM")
	f.StringVar(&a.key, "tls-key", "", "file of its key, PEM")
	chooseVar(c, &a.precision, "precision", "bf16", []string{"bf16", "f32"}, "of values between operations")
	f.IntVar(&a.threads, "threads", 0, "processors to use; 0 takes all")
	f.IntVar(&a.context, "context", 0, "tokens of prompt and answer, at most; 0 is what the model can tell apart")
	f.IntVar(&a.most, "max-tokens", 0, "tokens of an answer, at most; 0 is no limit but the context")
	f.Float64Var(&a.cache, "cache", 4, "gigabytes of keys and values; beyond them requests wait")
	f.IntVar(&a.active, "active", 16, "requests computed together")
	f.IntVar(&a.waiting, "waiting", 256, "requests that wait beyond them; more are refused")
	f.DurationVar(&a.wait, "wait", 5*time.Minute, "longest wait of a request for its turn")
	f.Int64Var(&a.body, "max-body", 4<<20, "bytes of a request")
	f.DurationVar(&a.timeout, "timeout", time.Hour, "longest time of an answer")
	f.DurationVar(&a.grace, "grace", 30*time.Second, "time for answers under way when the server ends")
	f.IntVar(&a.responses, "stored", 1000, "responses kept for previous_response_id and GET, in memory, the newest; 0 keeps none")
	f.StringVar(&a.batches, "batches", "", "folder for /v1/files and /v1/batches, made if need be; without it there are none")
	f.Float64Var(&a.batchBytes, "batches-bytes", 10, "gigabytes of all files that are uploaded")
	f.IntVar(&a.batchActive, "batches-active", 8, "requests of batches computed together, among those of --active")
	chooseVar(c, &a.logs, "log", "text", []string{"text", "json", "off"}, "form of the log on stderr")
	f.StringVar(&a.verified, "verified", "", "what verify --json wrote of this checkpoint, for the page")
	f.BoolVar(&a.noPage, "no-page", false, "serve no page at /")
	f.BoolVar(&a.browser, "open", false, "open the page in a browser, if there is one")
	f.StringArrayVar(&a.hosts, "host", nil, "name in requests' Host, may be repeated; without keys on this machine's own address, others than localhost and addresses are refused")
	f.StringVar(&a.web, "browser", "", "address of the MCP server that runs the tool browser: search, open, find")
	f.StringVar(&a.python, "python", "", "address of the MCP server that runs the tool python, with the model's code")
	f.IntVar(&a.tools.Rounds, "tool-calls", 16, "calls of these tools in one response, at most")
	f.DurationVar(&a.tools.Time, "tool-time", 2*time.Minute, "longest time of one of them")
	f.IntVar(&a.tools.Bytes, "tool-bytes", 64<<10, "bytes of what one returns that the model reads; more is left out")
	a.memory.add(c)
	a.onnx.add(c)
	f.BoolVar(&a.logBodies, "log-bodies", false, "log requests whole, prompts included")
	return c
}

func (a *serveFlags) check() error {
	for name, n := range map[string]int{"threads": a.threads, "context": a.context, "max-tokens": a.most, "stored": a.responses} {
		if n < 0 {
			return usage("--%s %d, want 0 or more", name, n)
		}
	}
	for name, n := range map[string]int64{"active": int64(a.active), "waiting": int64(a.waiting), "max-body": a.body, "wait": int64(a.wait), "timeout": int64(a.timeout), "grace": int64(a.grace),
		"tool-calls": int64(a.tools.Rounds), "tool-time": int64(a.tools.Time), "tool-bytes": int64(a.tools.Bytes)} {
		if n <= 0 {
			return usage("--%s is not positive", name)
		}
	}
	switch {
	case !(a.batchBytes > 0 && a.batchBytes < 1e6):
		return usage("--batches-bytes %g, want gigabytes", a.batchBytes)
	case a.batchActive < 1:
		return usage("--batches-active %d, want 1 or more", a.batchActive)
	case !(a.cache > 0 && a.cache < 1e6):
		return usage("--cache %g, want gigabytes", a.cache)
	case a.noPage && a.browser:
		return usage("--open opens the page, want no --no-page beside it")
	case a.noPage && a.verified != "":
		return usage("--verified is for the page, want no --no-page beside it")
	case (a.cert == "") != (a.key == ""):
		return usage("want both of --tls-cert and --tls-key, or none")
	}
	for _, n := range a.names {
		if n == "" {
			return usage("--name is empty, want a name")
		}
	}
	return nil
}

// readKeys reads API keys, one a line; empty lines and those that begin with #
// are none.
func readKeys(name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, err
	}
	var keys []string
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		switch k := strings.TrimSpace(lines.Text()); {
		case k == "" || k[0] == '#':
		case len(k) < 16 || strings.ContainsAny(k, " \t"):
			return nil, fmt.Errorf("%s: line %d is no key, want at least 16 letters without spaces", name, n)
		default:
			keys = append(keys, k)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: no keys, want one a line", name)
	}
	return keys, nil
}

// serve answers requests until ctx ends.
func serve(c *cobra.Command, dir string, a *serveFlags) (err error) {
	ctx, stderr := c.Context(), c.ErrOrStderr()
	keys, err := readKeys(a.keys)
	if err != nil {
		return err
	}
	var certs []tls.Certificate
	if a.cert != "" {
		pair, err := tls.LoadX509KeyPair(a.cert, a.key)
		if err != nil {
			return fmt.Errorf("serve: --tls-cert %s and --tls-key %s are no certificate with its key: %w", a.cert, a.key, err)
		}
		certs = append(certs, pair)
	}
	ck, err := gptoss.OpenCheckpoint(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ck.Close()) }()
	if v := ck.Config.Vocab; v != tokenizer.VocabSize {
		return fmt.Errorf("serve: %s has %d tokens, want the %d of o200k_harmony", dir, v, tokenizer.VocabSize)
	}
	most := ck.Config.Positions()
	switch {
	case a.context > most:
		return usage("--context %d, want at most the model's %d", a.context, most)
	case a.context > 0:
		most = a.context
	}
	var said page.Verification
	if a.onnx.model == "" {
		said.Command = verifyCommandOf("DIR", "", a.precision) // without this machine's names
	} else {
		said.Command = verifyCommandOf("DIR", "MODEL.onnx", a.precision)
	}
	if a.verified != "" {
		if said, err = readVerified(c, a.verified, dir, a.onnx.model, a.precision); err != nil {
			return err
		}
	}
	log := logger(stderr, a.logs)
	tools, err := a.connect(ctx, log)
	if err != nil {
		return err
	}
	model, precision, runs, end, err := a.open(ctx, ck)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	scheduler, err := generate.NewScheduler(model, generate.SchedulerOptions{
		Active: a.active, Waiting: a.waiting, Wait: a.wait, CacheBytes: int64(a.cache * 1e9),
	})
	if err != nil {
		return err
	}
	defer scheduler.Close()
	if len(a.names) == 0 {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		a.names = []string{filepath.Base(abs)}
	}
	var store *openai.Store
	if a.responses > 0 {
		store = openai.NewStore(a.responses, 256<<20)
		defer store.Close()
	}
	var root http.Handler
	if !a.noPage {
		about := page.About{Models: a.names, Precision: precision, Context: most, KeyNeeded: len(keys) > 0, Verification: said}
		if tools.Browser != nil {
			about.Tools = append(about.Tools, page.Tool{Type: "web_search", Title: "browser: search and read pages"})
		}
		if tools.Python != nil {
			about.Tools = append(about.Tools, page.Tool{Type: "code_interpreter", Title: "python: run the model's code"})
		}
		if root, err = page.New(about); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", a.addr)
	if err != nil {
		return err
	}
	defer l.Close()
	o := server.Options{
		Service: func(done func(openai.Record)) *openai.Service {
			return openai.New(openai.Options{
				Generator: scheduler, Encoding: harmony.New(tokenizer.New()), Models: a.names, Context: most, Most: a.most,
				Fingerprint: "ossify-" + precision, Store: store, Done: done, Tools: tools,
			})
		},
		Stats: scheduler.Stats, Log: log, Keys: keys, Body: a.body, Time: a.timeout, Grace: a.grace, LogBodies: a.logBodies,
		InFlight: a.active + a.waiting + 64, Page: root,
	}
	if a.batches != "" {
		o.Batches = &server.Batches{Dir: a.batches, Active: a.batchActive, Bytes: int64(a.batchBytes * 1e9)}
	}
	if len(keys) == 0 && loopback(l.Addr()) || len(a.hosts) > 0 {
		o.Hosts = append([]string{"localhost"}, a.hosts...)
	}
	s, err := server.New(o)
	if err != nil {
		return err
	}
	scheme := "http"
	if certs != nil {
		scheme = "https"
		l = tls.NewListener(l, &tls.Config{Certificates: certs, MinVersion: tls.VersionTLS12})
	}
	fmt.Fprintf(stderr, "serving %s at %s://%s (%s, %s, %d tokens of context)\n", strings.Join(a.names, ", "), scheme, l.Addr(), precision, runs, most)
	if a.verified == "" && !a.noPage {
		fmt.Fprintf(stderr, "not verified here: %s, then --verified verified.json\n", verifyCommandOf(dir, a.onnx.model, a.precision))
	}
	if len(keys) == 0 && !loopback(l.Addr()) {
		fmt.Fprintln(stderr, "everybody who reaches this address may ask: see --api-keys")
	}
	if a.browser {
		// The listener takes the browser's request until Serve answers it.
		if err := openBrowser(scheme + "://" + l.Addr().String() + "/"); err != nil {
			fmt.Fprintf(stderr, "open %s://%s/ in a browser: %v\n", scheme, l.Addr(), err)
		}
	}
	return s.Serve(ctx, l)
}

// connect returns the tools that MCP servers run, which must be there and have
// them.
func (a *serveFlags) connect(ctx context.Context, log *slog.Logger) (openai.Tools, error) {
	t := a.tools
	t.Failed = func(tool string, err error) { log.Warn("tool", "tool", tool, "error", err.Error()) }
	for _, s := range []struct {
		address, flag string
		tools         []string
		runner        *openai.Runner
	}{{a.web, "browser", []string{"search", "open", "find"}, &t.Browser}, {a.python, "python", []string{"python"}, &t.Python}} {
		if s.address == "" {
			continue
		}
		m, err := mcp.New(mcp.Options{Address: s.address, Tools: s.tools, Version: version()})
		if err != nil {
			return t, usage("--%s: %v", s.flag, err)
		}
		limited, cancel := context.WithTimeout(ctx, 30*time.Second)
		err = m.Check(limited)
		cancel()
		if err != nil {
			return t, fmt.Errorf("serve: --%s: %w", s.flag, err)
		}
		*s.runner = func() openai.RunnerSession { return m.Session() }
	}
	return t, nil
}

// openBrowser asks the desktop to show an address.
func openBrowser(address string) error {
	words := []string{"xdg-open"}
	switch runtime.GOOS {
	case "darwin":
		words = []string{"open"}
	case "windows":
		words = []string{"rundll32", "url.dll,FileProtocolHandler"}
	default:
		if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
			return errors.New("there is no desktop here") // xdg-open would take the terminal
		}
	}
	name, err := exec.LookPath(words[0])
	if err != nil {
		return fmt.Errorf("there is no %s here", words[0])
	}
	c := exec.Command(name, append(words[1:], address)...)
	if err := c.Start(); err != nil {
		return err
	}
	go c.Wait() // it ends before the server, or with it
	return nil
}

// open opens what computes, and says how.
func (a *serveFlags) open(ctx context.Context, ck *gptoss.Checkpoint) (m generate.Batcher, precision, runs string, end func() error, err error) {
	if a.onnx.model != "" {
		d, runs, end, err := a.onnx.load(ctx, ck, a.threads)
		if err != nil {
			return nil, "", "", nil, err
		}
		return onruntime.New(d), "onnx", runs, end, nil
	}
	o := engine.Options{Precision: engine.BF16, Workers: a.threads}
	if a.precision == "f32" {
		o.Precision = engine.F32
	}
	e, err := ck.Engine(ctx, o)
	if err != nil {
		return nil, "", "", nil, err
	}
	if err := a.memory.apply(ctx, e); err != nil {
		return nil, "", "", nil, errors.Join(err, e.Close())
	}
	return onengine.New(e), e.Precision().String(), e.Kernels() + " kernels", e.Close, nil
}

// loopback reports whether only this machine reaches an address.
func loopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

// logger returns a log in one of the forms of --log.
func logger(w io.Writer, form string) *slog.Logger {
	switch form {
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil))
	case "off":
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(w, nil))
}
