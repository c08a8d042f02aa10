//go:build linux

package cli

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What large input costs is its size times a small factor, or the stated limit:
// peak memory of the program beyond what it takes for nothing, for each byte.
func TestPeakMemory(t *testing.T) {
	const size = 8 << 20
	repeat := func(text string) string { return strings.Repeat(text, size/len(text)) }
	user := func(text string) string { return `{"messages":[{"role":"user","content":"` + text + `"}]}` }
	peak := func(t *testing.T, stdin string, code int, args ...string) int64 {
		t.Helper()
		file := filepath.Join(t.TempDir(), "in") // not a pipe, whose writer would be in our way
		write(t, file, []byte(stdin))
		in, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		p := exec.Command(os.Args[0], args...)
		status := file + ".status" // of the process at its end: its rusage begins with what the tests' own process had
		p.Env = append(os.Environ(), "OSSIFY_TEST_PROGRAM=1", "OSSIFY_TEST_PEAK="+status, "GOGC=100", "GOMEMLIMIT=off")
		p.Stdin, p.Stdout = in, io.Discard
		p.Run()
		if got := p.ProcessState.ExitCode(); got != code {
			t.Errorf("%v: exit code %d, want %d", args, got, code)
		}
		m := regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB$`).FindSubmatch(must(os.ReadFile(status)))
		if m == nil {
			t.Fatal("no VmHWM")
		}
		return must(strconv.ParseInt(string(m[1]), 10, 64)) << 10
	}
	for _, tt := range []struct {
		name   string
		args   []string
		stdin  string
		code   int
		factor int64 // at most
	}{
		{"a line beyond conform's limit", []string{"conform", "-"}, `{"t":"` + strings.Repeat("a ", recordMost/2) + `","ids":[]}`, 1, 16},
		{"a long message", []string{"harmony", "render"}, user(repeat("hello world ")), 0, 8},
		{"a message of one word", []string{"harmony", "render"}, user(repeat("a")), 0, 12},
		{"a message of escapes", []string{"harmony", "render"}, user(repeat(`\u0001`)), 0, 8},
		{"many messages", []string{"harmony", "render"}, `{"messages":[` + repeat(`{"role":"user","content":""},`) + `{"role":"user","content":""}]}`, 0, 32},
		{"bytes that are not UTF-8", []string{"tokenize"}, repeat("\xff"), 0, 26},
		{"bytes that are not UTF-8, counted", []string{"tokenize", "--count"}, repeat("\xff"), 0, 24},
		{"text", []string{"tokenize"}, repeat("hello world "), 0, 8},
		{"ids", []string{"detokenize"}, repeat("1 "), 0, 16},
		{"ids of messages", []string{"harmony", "parse", "--role", "none"}, "[" + repeat("1,") + "1]", 1, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nothing := map[string]string{"conform": `{"t":"a","ids":[64]}`, "harmony": user(""), "tokenize": "a", "detokenize": "1"}[tt.args[0]]
			code := 0
			if tt.args[0] == "harmony" && tt.args[1] == "parse" {
				nothing, code = "[1]", 1
			}
			used := peak(t, tt.stdin, tt.code, tt.args...) - peak(t, nothing, code, tt.args...)
			t.Logf("%d bytes, %.1f for each of input", used, float64(used)/float64(len(tt.stdin)))
			if !(used <= tt.factor*int64(len(tt.stdin))) {
				t.Errorf("%d bytes for %d, want at most %d times as many", used, len(tt.stdin), tt.factor)
			}
		})
	}
}
