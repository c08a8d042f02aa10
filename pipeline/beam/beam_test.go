//go:build !386 && !arm

package beam

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/grpc"

	"ossify/pipeline"
)

// A process of these tests is a worker, or what starts one: boot ARGUMENT....
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "boot":
		c := exec.Command(os.Args[0], os.Args[2:]...)
		c.Stderr = os.Stderr
		c.Run()
	case Worker(os.Args[1:], nil):
	default:
		os.Exit(m.Run())
	}
}

// A control is a runner that has no work.
type control struct {
	fnpb.UnimplementedBeamFnControlServer
}

func (control) Control(fnpb.BeamFnControl_ControlServer) error { return nil }

// A worker does not outlive what started it: Beam's own waits for ever when its
// runner ends in good order.
func TestOrphan(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	runner := grpc.NewServer()
	fnpb.RegisterBeamFnControlServer(runner, control{})
	go runner.Serve(l)
	defer runner.Stop()

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	boot := exec.Command(os.Args[0], "boot", "--worker=true", "--id=1", "--control_endpoint="+l.Addr().String(), "--logging_endpoint="+l.Addr().String())
	boot.Stderr = w // of both
	if err := boot.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	said := bufio.NewScanner(r)
	for said.Scan() && !strings.Contains(said.Text(), "exited successfully") {
		t.Log(said.Text())
	}
	boot.Process.Kill()
	boot.Wait()
	last := ""
	for said.Scan() { // until neither has the pipe
		last = said.Text()
	}
	if want := "what started it has ended"; !strings.Contains(last, want) {
		t.Errorf("the worker says %q, want %q", last, want)
	}
}

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
		if err := Run(t.Context(), job, kinds, pipeline.BeamOptions{Runner: pipeline.Prism}); !errors.Is(err, ErrOpen) {
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
			err := Run(ctx, job, kinds, pipeline.BeamOptions{Runner: pipeline.Prism})
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

// A job server that is reached by its address, here a Prism, is told when the run
// ends early, and its workers have ended then.
func TestCluster(t *testing.T) {
	if !canBind {
		return // TestPrism says what is left here
	}
	if _, err := connect(); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		do   func(element string, cancel context.CancelCauseFunc) error
		want error
	}{
		{name: "done", do: func(string, context.CancelCauseFunc) error { return nil }},
		{name: "a worker fails", want: broken, do: func(string, context.CancelCauseFunc) error { return broken }},
		{name: "cancelled", want: broken, do: func(_ string, cancel context.CancelCauseFunc) error {
			cancel(broken)
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			w := &counter{seen: map[string]int{}, do: func(e string) error { return c.do(e, cancel) }}
			kinds := map[string]pipeline.Kind{"count": func(context.Context, []byte) (pipeline.Worker, error) { return w, nil }}
			job := pipeline.Job{Kind: "count", Elements: elements(t, 9), Skip: 1, Parallel: 1}
			o := pipeline.BeamOptions{Runner: "universal", Endpoint: fmt.Sprintf("127.0.0.1:%d", prismServer.port), Flags: []string{"environment_type=LOOPBACK"}}
			err := Run(ctx, job, kinds, o)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if w.closed != 1 || c.want == nil && len(w.seen) != 9 || c.want != nil && len(w.seen) == 9 {
				t.Errorf("closed %d times, %d elements", w.closed, len(w.seen))
			}
			stream, err := prismServer.client.GetJobs(t.Context(), &jobpb.GetJobsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			for _, j := range stream.GetJobInfo() {
				if s := j.GetState(); s == jobpb.JobState_RUNNING || s == jobpb.JobState_CANCELLING {
					t.Errorf("job %s is %s still", j.GetJobId(), s)
				}
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
		edit func(*pipeline.Job, *pipeline.BeamOptions)
		want string
	}{
		{"no such runner", func(_ *pipeline.Job, o *pipeline.BeamOptions) { o.Runner = "storm" }, `runner "storm"`},
		{"flink without endpoint", func(_ *pipeline.Job, o *pipeline.BeamOptions) { o.Runner = "flink" }, "without an endpoint"},
		{"prism with endpoint", func(_ *pipeline.Job, o *pipeline.BeamOptions) { o.Endpoint = "localhost:1" }, "want no endpoint"},
		{"no such flag", func(_ *pipeline.Job, o *pipeline.BeamOptions) { o.Flags = []string{"paralelism=2"} }, "no option of Beam"},
		{"no value", func(_ *pipeline.Job, o *pipeline.BeamOptions) { o.Flags = []string{"parallelism"} }, "NAME=VALUE"},
		{"no number", func(_ *pipeline.Job, o *pipeline.BeamOptions) { o.Flags = []string{"parallelism=x"} }, "parallelism"},
		{"as a worker", func(_ *pipeline.Job, o *pipeline.BeamOptions) { o.Flags = []string{"worker=true"} }, "no option of Beam"},
		{"not waiting", func(_ *pipeline.Job, o *pipeline.BeamOptions) { o.Flags = []string{"async=true"} }, "no option of Beam"},
		{"no such kind", func(j *pipeline.Job, _ *pipeline.BeamOptions) { j.Kind = "x" }, `no workers of kind "x"`},
		{"none at once", func(j *pipeline.Job, _ *pipeline.BeamOptions) { j.Parallel = 0 }, "parallel 0"},
	} {
		j, o := job, pipeline.BeamOptions{Runner: pipeline.Prism}
		c.edit(&j, &o)
		if err := Run(t.Context(), j, kinds, o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	if Worker([]string{"batch", "x"}, nil) {
		t.Error("a command line is no worker's")
	}
}
