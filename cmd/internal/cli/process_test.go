//go:build unix

package cli

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"ossify/gptoss"
	"ossify/internal/modeltest"
)

// TestMain is the program itself where a test starts it as a process.
func TestMain(m *testing.M) {
	if os.Getenv("OSSIFY_TEST_PROGRAM") != "" {
		if file := os.Getenv("OSSIFY_TEST_PEAK"); file != "" { // for TestPeakMemory
			code := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
			status, err := os.ReadFile("/proc/self/status")
			if err == nil {
				err = os.WriteFile(file, status, 0o600)
			}
			if err != nil {
				panic(err)
			}
			os.Exit(code)
		}
		Main(nil)
	}
	code := m.Run()
	if beamDir != "" {
		os.RemoveAll(beamDir)
	}
	os.Exit(code)
}

// A process is the program, started by a test.
type process struct {
	*exec.Cmd
	errs   bytes.Buffer
	temp   string // its folder for temporary files
	waited chan struct{}
}

func start(t *testing.T, stdout *os.File, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0], args...), temp: t.TempDir(), waited: make(chan struct{})}
	p.Env = append(os.Environ(), "OSSIFY_TEST_PROGRAM=1", "TMPDIR="+p.temp)
	p.Stderr = &p.errs
	if stdout != nil {
		p.Stdout = stdout
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.Wait()
		close(p.waited)
	}()
	t.Cleanup(func() { p.Process.Kill(); <-p.waited })
	return p
}

// until waits for a file below dir whose name holds part.
func (p *process) until(t *testing.T, dir, part string) {
	t.Helper()
	for range 12_000 {
		found := false
		filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			found = found || err == nil && strings.Contains(path[len(dir):], part)
			return nil
		})
		if found {
			return
		}
		select {
		case <-p.waited:
			t.Fatalf("ended before there was %s: %s", part, p.errs.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatalf("no %s in %s", part, dir)
}

// exit waits for the end and checks code and message, and that dirs are empty.
func (p *process) exit(t *testing.T, code int, message string, empty ...string) {
	t.Helper()
	<-p.waited
	if got := p.ProcessState.ExitCode(); got != code {
		t.Errorf("exit code %d (%v), want %d", got, p.ProcessState, code)
	}
	if got := p.errs.String(); strings.Count(got, "\n") != strings.Count(message, "\n") || !strings.Contains(got, strings.TrimSpace(message)) {
		t.Errorf("got  %.2000q\nwant %q", got, message)
	}
	for _, dir := range append(empty, p.temp) {
		list, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) || len(list) > 0 {
			t.Errorf("left in %s: %v (%v)", dir, list, err)
		}
	}
}

// Each signal that ends a program from outside ends it with nothing left and
// the exit code that shells know.
func TestSignals(t *testing.T) {
	for _, tt := range []struct {
		signal  syscall.Signal
		code    int
		message string
	}{
		{syscall.SIGINT, 130, "ossify: interrupt\n"},
		{syscall.SIGTERM, 143, "ossify: terminated\n"},
		{syscall.SIGHUP, 129, "ossify: hangup\n"},
	} {
		t.Run(tt.signal.String(), func(t *testing.T) {
			parent := t.TempDir()
			p := start(t, nil, "synth", "--preset", "small", filepath.Join(parent, "new", "small"))
			p.until(t, parent, ".ossify-new")
			p.Process.Signal(tt.signal)
			p.exit(t, tt.code, tt.message, parent)

			p = start(t, nil, "demo")
			p.until(t, p.temp, "model.safetensors")
			p.Process.Signal(tt.signal)
			p.exit(t, tt.code, tt.message)
		})
	}
}

// A program that was told to ignore SIGHUP, as nohup does, goes on.
func TestIgnoredHangup(t *testing.T) {
	parent := t.TempDir()
	p := &process{Cmd: exec.Command("sh", "-c", `trap "" HUP; exec "$0" "$@"`, os.Args[0], "synth", "--preset", "small", filepath.Join(parent, "small")),
		temp: t.TempDir(), waited: make(chan struct{})}
	p.Env = append(os.Environ(), "OSSIFY_TEST_PROGRAM=1", "TMPDIR="+p.temp)
	p.Stderr = &p.errs
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.Wait(); close(p.waited) }()
	p.until(t, parent, ".ossify-new")
	p.Process.Signal(syscall.SIGHUP)
	time.Sleep(50 * time.Millisecond)
	select {
	case <-p.waited:
		t.Errorf("ended by SIGHUP")
	default:
	}
	p.Process.Signal(syscall.SIGTERM)
	p.exit(t, 143, "ossify: terminated\n", parent)
}

// When what reads its output is gone, the program ends, and cleans up.
func TestClosedPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, w, "demo")
	w.Close()
	r.Read(make([]byte, 1))
	r.Close()
	p.exit(t, 141, "")
}

// What a killed run left is removed by the next one.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	p := start(t, nil, "synth", "--preset", "small", filepath.Join(dir, "m"))
	p.until(t, dir, ".ossify-new")
	p.Process.Kill()
	<-p.waited
	demo := start(t, nil, "demo")
	demo.until(t, demo.temp, "model.safetensors")
	demo.Process.Kill()
	<-demo.waited

	t.Setenv("TMPDIR", demo.temp)
	var out, errs bytes.Buffer
	for _, args := range [][]string{{"synth", "--preset", "tiny", filepath.Join(dir, "m")}, {"demo", "--prompt", "x"}} {
		if code := run(t.Context(), args, strings.NewReader(""), &out, &errs); code != 0 {
			t.Fatalf("%v: %s", args, errs.String())
		}
	}
	if got := must(os.ReadDir(filepath.Join(dir, "m"))); len(got) != 3 {
		t.Errorf("files %v, want config.json, dtypes.json and model.safetensors", got)
	}
	if got := must(os.ReadDir(demo.temp)); len(got) != 0 {
		t.Errorf("left %v", got)
	}
}

// A checkpoint that becomes shorter while it is read: one error, nothing left.
func TestShortened(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	write(t, tokens, []byte(strings.Repeat("1 2 3 4 ", 500)))
	for _, precision := range []string{"f64", "f32"} {
		t.Run(precision, func(t *testing.T) {
			model, out := modeltest.Write(t, modeltest.Tiny(t), gptoss.Original, 1), t.TempDir()
			p := start(t, nil, "trace", model, "--no-hash", "--precision", precision, "--tokens-file", tokens, "-o", filepath.Join(out, "x"))
			p.until(t, out, ".ossify-new")
			if err := os.Truncate(filepath.Join(model, "model.safetensors"), 100); err != nil {
				t.Fatal(err)
			}
			p.exit(t, 1, "ossify: trace: a file became shorter while it was read; want files that nobody changes meanwhile\n", out)
		})
	}
}

// On a processor without AVX2, which is masked here, everything works, and says
// so in one line.
func TestWithoutAVX2(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("of amd64 only")
	}
	dir, tiny := talking(t), synthesised(t, gptoss.Original)
	const note = "ossify: this processor has no AVX2 with FMA: the portable kernels run, with the same results, many times slower\n"
	answer := []string{"generate", tiny, "--tokens", "1,2,3", "--max-tokens", "6", "--raw"}
	_, want, _ := ossify(t, "", append(answer, "-q")...)
	for _, tt := range []struct {
		args  []string
		stdin string
		out   string // at least
		notes int
	}{
		{answer, "", want, 1},
		{append(answer, "-q"), "", want, 0},
		{[]string{"chat", dir, "--max-tokens", "3"}, "What is jade?\nAnd where?\n", "", 1},
		{[]string{"bench", tiny, "-p", "2", "-n", "2", "--runs", "1"}, "", "portable", 1},
	} {
		p := exec.Command(os.Args[0], tt.args...)
		p.Env = append(os.Environ(), "OSSIFY_TEST_PROGRAM=1", "GODEBUG=cpu.avx2=off")
		var errs strings.Builder
		p.Stdin, p.Stderr = strings.NewReader(tt.stdin), &errs
		out, err := p.Output()
		if err != nil || !strings.Contains(string(out), tt.out) || strings.Count(errs.String(), note) != tt.notes {
			t.Errorf("%v: %v, output %q, errors %q\nwant %q and the note %d times", tt.args, err, out, errs.String(), tt.out, tt.notes)
		}
		if strings.Contains(tt.args[0], "generate") && string(out) != want {
			t.Errorf("%v: %q, want %q as with AVX2", tt.args, out, want)
		}
	}
}
