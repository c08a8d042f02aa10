//go:build unix

package cli

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// builtBeam returns the path of an ossify-beam in a folder of its own, "" where Beam
// does not compile.
func builtBeam(t *testing.T) string {
	t.Helper()
	path, err := buildBeam()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// beamDir is where ossify-beam is built, which TestMain removes.
var beamDir string

var buildBeam = sync.OnceValues(func() (string, error) {
	if slices.Contains([]string{"386", "arm"}, runtime.GOARCH) {
		return "", nil
	}
	var err error
	if beamDir, err = os.MkdirTemp("", "ossify-test-"); err != nil {
		return "", err
	}
	path := filepath.Join(beamDir, beamProgram)
	// As go test builds: without git's commit.
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", path, "../../"+beamProgram).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// beamInPath has started processes find ossify-beam, and reports whether Prism runs
// on this system.
func beamInPath(t *testing.T) bool {
	t.Helper()
	path := builtBeam(t)
	if path == "" {
		return false
	}
	t.Setenv("PATH", filepath.Dir(path))
	return runtime.GOOS == "linux"
}

// A command line is handed over to ossify-beam if it is of the same build, and where
// there is none, to nobody: then pipelines run in this process unless something
// else was asked for.
func TestHandOver(t *testing.T) {
	beam := builtBeam(t)
	if beam == "" {
		t.Skip("no program with Beam, which does not compile for this processor")
	}
	dir := talking(t)
	in := filepath.Join(t.TempDir(), "in.jsonl")
	write(t, in, []byte(`{"custom_id":"a","method":"POST","url":"/v1/completions","body":{"model":"m","prompt":"x","max_tokens":1,"temperature":0}}`+"\n"))

	goCommand := must(os.ReadFile(must(exec.LookPath("go")))) // any program of Go; this test's own would start itself
	program := must(os.ReadFile(beam))
	module := must(buildinfo.ReadFile(beam)).Main.Path
	other := bytes.ReplaceAll(program, []byte("\t"+module+"\t(devel)"), []byte("\t"+module+"\t(other)"))
	if bytes.Equal(other, program) {
		t.Fatal("the program does not say of which build it is")
	}
	for _, tt := range []struct {
		name     string
		program  []byte // nil is none
		args     string
		code     int
		want     string
		answered bool
	}{
		{"none, nothing asked for", nil, "", 0, "", true},
		{"none, local", nil, "--runner local", 0, "", true},
		{"none, prism", nil, "--runner prism", 1, "there is no program ossify-beam", false},
		{"none, options of Beam", nil, "--beam-option job_name=x", 1, "there is no program ossify-beam", false},
		{"the right one, a cluster that is not there", program, "--runner universal --endpoint 127.0.0.1:1 --beam-option no_such=1", 1, "is no option of Beam", false},
		{"the right one, local", program, "--runner local", 0, "", true},
		{"the right one, called wrongly", program, "--runner flink", 2, "without --endpoint", false},
		{"of another build", other, "--runner prism", 1, "is of another build than this program", false},
		{"of another build, nothing asked for", other, "", 1, "is of another build than this program", false},
		{"of another build, local", other, "--runner local", 0, "", true},
		{"another program of Go", goCommand, "--runner prism", 1, "want ossify's cmd/ossify-beam", false},
		{"a script", []byte("#!/bin/sh\necho hello\n"), "--runner prism", 1, "want ossify's own", false},
		{"nothing", []byte{}, "--runner prism", 1, "want ossify's own", false},
		{"half of it", program[:len(program)/2], "--runner prism", 1, "ossify: ", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if runtime.GOOS != "linux" && tt.args == "" {
				return // local is what is taken
			}
			path := t.TempDir()
			if tt.program != nil {
				if err := os.WriteFile(filepath.Join(path, beamProgram), tt.program, 0o777); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", path)
			out := filepath.Join(t.TempDir(), "out")
			p := start(t, nil, append([]string{"batch", dir, "--name", "m", "--in", in, "--out", out}, strings.Fields(tt.args)...)...)
			<-p.waited
			if got := p.ProcessState.ExitCode(); got != tt.code || !strings.Contains(p.errs.String(), tt.want) || tt.want == "" && p.errs.Len() > 0 {
				t.Errorf("exit code %d, %q, want %d, %q", got, p.errs.String(), tt.code, tt.want)
			}
			if finished, _ := answeredLines(out); (finished == 1) != tt.answered {
				t.Errorf("%d lines answered, want answers: %t", finished, tt.answered)
			}
		})
	}
}

// Ctrl-C ends a pipeline on Prism as it ends any command.
func TestBatchOnPrismIsInterrupted(t *testing.T) {
	if !beamInPath(t) {
		t.Skip("no Prism, which does not run on this system")
	}
	dir, work := talking(t), t.TempDir()
	in, out := filepath.Join(work, "in.jsonl"), filepath.Join(work, "out")
	lines, _ := batchLines(60)
	write(t, in, []byte(strings.Join(lines, "\n")+"\n"))
	p := start(t, nil, "batch", dir, "--name", "m", "--in", in, "--out", out, "--runner", "prism", "--shard", "8")
	for finished, parts := 0, 0; finished+parts < 1; finished, parts = answeredLines(out) {
		select {
		case <-p.waited:
			t.Fatalf("ended before a line was answered: %s", p.errs.String())
		case <-time.After(2 * time.Millisecond):
		}
	}
	p.Process.Signal(syscall.SIGINT)
	p.exit(t, 130, "ossify: interrupt\n")
}
