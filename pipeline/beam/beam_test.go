//go:build !386 && !arm

package beam

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ossify/pipeline"
)

// A counter counts what it is given.
type counter struct {
	mu     sync.Mutex
	seen   map[string]int
	closed int
	do     func(element string) error
}

func (c *counter) Do(_ context.Context, element []byte) error {
	c.mu.Lock()
	c.seen[string(element)]++
	c.mu.Unlock()
	if c.do != nil {
		return c.do(string(element))
	}
	return nil
}

func (c *counter) Close() error { c.closed++; return nil }

func elements(t *testing.T, n int) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("a head\n")
	for i := range n {
		fmt.Fprintf(&b, "%d\n", i)
	}
	name := filepath.Join(t.TempDir(), "elements")
	if err := os.WriteFile(name, []byte(b.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestPrism(t *testing.T) {
	if !canBind {
		job := pipeline.Job{Kind: "count", Elements: elements(t, 1), Parallel: 1}
		kinds := map[string]pipeline.Kind{"count": func(context.Context, []byte) (pipeline.Worker, error) { return &counter{}, nil }}
		if err := Run(t.Context(), job, kinds, Options{Runner: Prism}); !errors.Is(err, ErrOpen) {
			t.Errorf("got %v, want ErrOpen", err)
		}
		return
	}
	broken := errors.New("broken")
	for _, c := range []struct {
		name     string
		elements int
		do       func(element string, cancel context.CancelCauseFunc) error
		open     error
		want     error
	}{
		{name: "one", elements: 1},
		{name: "many", elements: 500},
		{name: "none", elements: 0},
		{name: "a worker fails", elements: 20, want: broken, do: func(e string, _ context.CancelCauseFunc) error {
			if e == "7" {
				return broken
			}
			return nil
		}},
		{name: "no worker opens", elements: 5, open: broken, want: broken},
		{name: "cancelled", elements: 20, want: broken, do: func(e string, cancel context.CancelCauseFunc) error {
			cancel(broken)
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			opened := 0
			w := &counter{seen: map[string]int{}}
			if c.do != nil {
				w.do = func(e string) error { return c.do(e, cancel) }
			}
			kinds := map[string]pipeline.Kind{"count": func(_ context.Context, config []byte) (pipeline.Worker, error) {
				if opened++; string(config) != `{"a":1}` {
					t.Errorf("config %s", config)
				}
				return w, c.open
			}}
			job := pipeline.Job{Kind: "count", Config: []byte(`{"a":1}`), Elements: elements(t, c.elements), Skip: 1, Parallel: 4}
			err := Run(ctx, job, kinds, Options{Runner: Prism})
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if opened > 1 || c.open == nil && w.closed != opened {
				t.Errorf("opened %d times, closed %d times", opened, w.closed)
			}
			if c.want != nil {
				return
			}
			for i := range c.elements {
				if w.seen[fmt.Sprint(i)] < 1 {
					t.Errorf("element %d was not processed", i)
				}
			}
			if len(w.seen) != c.elements {
				t.Errorf("%d elements, want %d", len(w.seen), c.elements)
			}
		})
	}
}

// From another address of this machine's devices Prism is reached through the
// loopback device, too; but a socket bound elsewhere finds nobody.
func TestBound(t *testing.T) {
	if !canBind {
		t.Log("this system cannot bind sockets to a device; Run refuses Prism")
		return
	}
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	if err := bindToLoopback(port); err != nil {
		t.Fatal(err)
	}
	if name := deviceOf(t, l); name != "lo" {
		t.Errorf("bound to %q, want lo", name)
	}
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := bindToLoopback(1); err == nil {
		t.Error("a port at which nobody listens")
	}
}

func TestWrongOptions(t *testing.T) {
	job := pipeline.Job{Kind: "count", Elements: "none", Parallel: 1}
	kinds := map[string]pipeline.Kind{"count": nil}
	for _, c := range []struct {
		name string
		edit func(*pipeline.Job, *Options)
		want string
	}{
		{"no such runner", func(_ *pipeline.Job, o *Options) { o.Runner = "storm" }, `runner "storm"`},
		{"flink without endpoint", func(_ *pipeline.Job, o *Options) { o.Runner = "flink" }, "without an endpoint"},
		{"prism with endpoint", func(_ *pipeline.Job, o *Options) { o.Endpoint = "localhost:1" }, "want no endpoint"},
		{"no such flag", func(_ *pipeline.Job, o *Options) { o.Flags = []string{"paralelism=2"} }, "no option of Beam"},
		{"no value", func(_ *pipeline.Job, o *Options) { o.Flags = []string{"parallelism"} }, "NAME=VALUE"},
		{"no number", func(_ *pipeline.Job, o *Options) { o.Flags = []string{"parallelism=x"} }, "parallelism"},
		{"as a worker", func(_ *pipeline.Job, o *Options) { o.Flags = []string{"worker=true"} }, "no option of Beam"},
		{"no such kind", func(j *pipeline.Job, _ *Options) { j.Kind = "x" }, `no workers of kind "x"`},
		{"none at once", func(j *pipeline.Job, _ *Options) { j.Parallel = 0 }, "parallel 0"},
	} {
		j, o := job, Options{Runner: Prism}
		c.edit(&j, &o)
		if err := Run(t.Context(), j, kinds, o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	if Worker([]string{"batch", "x"}, nil) {
		t.Error("a command line is no worker's")
	}
}
