package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ossify/parity/page"
	"ossify/sweep"
)

// A sweep of a right engine passes, and says the same with any number of workers.
// A bug at one position of one element is found, there alone, and its command
// repeats it.
func TestSweep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tiny")
	if code, _, stderr := ossify(t, "", "synth", "--preset", "tiny", "--layers", "1", dir); code != 0 {
		t.Fatal(stderr)
	}
	args := []string{"sweep", dir, "--elements", "4", "--lengths", "6,9", "--first", "0,4088,131000", "--json"}
	code, want, stderr := ossify(t, "", append(args, "--workers", "1")...)
	if code != 0 {
		t.Fatalf("exit code %d: %s %s", code, stderr, want)
	}
	var r sweep.Report
	if err := json.Unmarshal([]byte(want), &r); err != nil || r.Passed != 4 || len(r.Places) < 2 || len(r.Stages) < 20 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, got, _ := ossify(t, "", append(args, "--workers", "8", "--runner", "local")...); got != want {
		t.Errorf("8 workers say %s\nwant %s", got, want)
	}
	position := regexp.MustCompile(`has positions (\d+) to`)
	_, _, stderr = ossify(t, "", append(args, "--inject", "window -1@3:999999")...)
	m := position.FindStringSubmatch(stderr)
	if m == nil {
		t.Fatalf("a position that is none: %s", stderr)
	}
	code, text, _ := ossify(t, "", append(args[:len(args)-1], "--inject", "sinks off by a head@3:"+m[1])...)
	command := regexp.MustCompile(`(?m)^  ossify (verify .*)$`).FindStringSubmatch(text)
	if code != 1 || strings.Count(text, " fails at ") != 1 || !strings.Contains(text, "element 3 fails at block.0.attn.sdpa") || !strings.Contains(text, "position "+m[1]+",") || !strings.Contains(text, "repeats: yes") || command == nil {
		t.Fatalf("exit code %d: %s", code, text)
	}
	words := regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(command[1], -1)
	var line []string
	for _, w := range words {
		line = append(line, w[1]+w[2])
	}
	if code, out, _ := ossify(t, "", line...); code != 1 || !strings.Contains(strings.Join(strings.Fields(out), " "), "position "+m[1]+",") {
		t.Errorf("%s: exit code %d: %s", command[1], code, out)
	}
	for _, c := range []struct{ args, want string }{
		{"--inject x", "NAME@ELEMENT:POSITION"},
		{"--inject nothing@1:2", "want one of: window +1"},
		{"--workers 0", "--workers 0"},
		{"--precision f16", "--precision"},
		{"--lengths 1", "2 or more"},
		{"--elements 0", "no elements"},
		{"--runner universal --endpoint h:1", "--state"},
	} {
		if code, _, stderr := ossify(t, "", append([]string{"sweep", dir}, strings.Fields(c.args)...)...); code != 2 || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit code %d, %q, want %q", c.args, code, stderr, c.want)
		}
	}
}

// A sweep's page is there when the command ends, whether it passes or fails, and
// replaces nothing but another page: no file that is read.
func TestSweepHTML(t *testing.T) {
	t.Setenv(epochVariable, "1700000000")
	work := t.TempDir()
	dir, file, other := filepath.Join(work, "ti<ny>"), filepath.Join(work, "page.html"), filepath.Join(work, "other.html")
	if code, _, stderr := ossify(t, "", "synth", "--preset", "tiny", "--layers", "1", dir); code != 0 {
		t.Fatal(stderr)
	}
	texts := filepath.Join(work, "texts.txt")
	write(t, other, []byte("mine"))
	write(t, texts, []byte("\n"))
	args := []string{"sweep", dir, "--elements", "3", "--lengths", "6,9", "--first", "0,4088", "--prompts", texts, "--html"}
	code, out, stderr := ossify(t, "", append(args, file)...)
	if code != 0 || lastLine(out) != "verdict: pass" {
		t.Fatalf("exit code %d, %q, %q", code, out, stderr)
	}
	first := read(t, file)
	for _, want := range []string{page.Mark, "Nothing changed.", "3 comparisons, with", "ti&lt;ny&gt;", "2023-11-14T22:13:20Z", "original layout", "--elements 3", "1,024 to 4,095"} {
		if !strings.Contains(first, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	if code, _, stderr := ossify(t, "", append(args, file, "--workers", "3")...); code != 0 || strings.ReplaceAll(read(t, file), " --workers 3", "") != first {
		t.Errorf("with other workers: exit code %d, %q, or another page", code, stderr)
	}
	for _, tt := range []struct {
		name string
		args []string
		code int
		err  string
	}{
		{"another's file", []string{other}, 1, "exists, and is not one that this command wrote"},
		{"a file that is read", []string{texts, "--force"}, 1, "is read as"},
		{"a file of the checkpoint", []string{filepath.Join(dir, "config.json"), "--force"}, 1, "is read as"},
		{"a folder", []string{work}, 1, "a folder, want"},
		{"standard output", []string{"-"}, 2, "--html -, want a file"},
		{"no folder", []string{filepath.Join(work, "none", "x.html")}, 1, "no such file or directory"},
	} {
		code, out, stderr := ossify(t, "", append(args, tt.args...)...)
		if code != tt.code || out != "" || !strings.Contains(stderr, tt.err) {
			t.Errorf("%s: exit code %d, output %q, message %q", tt.name, code, out, stderr)
		}
	}
	if code, _, stderr := ossify(t, "", "sweep", dir, "--force"); code != 2 || !strings.Contains(stderr, "--force is of --html") {
		t.Errorf("--force alone: exit code %d, %q", code, stderr)
	}
	if code, _, stderr := ossify(t, "", "verify", dir, "--length", "4", "--html", filepath.Join(dir, "config.json"), "--force"); code != 1 || !strings.Contains(stderr, "is read as") {
		t.Errorf("verify's page over the checkpoint: exit code %d, %q", code, stderr)
	}
	code, _, stderr = ossify(t, "", "sweep", dir, "--elements", "2", "--lengths", "6", "--first", "4088", "--inject", "sinks off by a head@1:4090", "--html", other, "--force")
	got := read(t, other)
	if code != 1 || !strings.Contains(got, "Something changed.") || !strings.Contains(got, "<strong>block.0.attn.sdpa</strong>") || !strings.Contains(got, "--inject &#39;sinks off by a head&#39; --inject-at 4090<") || !strings.Contains(got, ">yes</span>") {
		t.Errorf("a failure: exit code %d, %q, page %.2000s", code, stderr, got)
	}
	if list, _ := os.ReadDir(work); len(list) != 4 {
		t.Errorf("files are left: %v", list)
	}
}
