package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ossify/gptoss"
)

// What verify prints as JSON becomes one report, which passes if all do; a
// routing beside a golden adds its checks.
func TestReport(t *testing.T) {
	dir, work := synthesised(t, gptoss.Original), t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(work, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	trace := func(name string, more ...string) string {
		path := filepath.Join(work, name)
		args := append([]string{"trace", dir, "--tokens", "1,2,3,4,5,6,7,8", "--precision", "f32", "-o", path}, more...)
		if code, _, errors := call(t, args...); code != 0 {
			t.Fatal(errors)
		}
		return path
	}
	golden := trace("golden.safetensors")
	routing := trace("routing.safetensors", "--stages", "*.mlp.gate,*.mlp.experts")
	code, beside, errors := call(t, "verify", dir, "--golden", golden, "--routing", routing, "--json")
	if code != 0 {
		t.Fatal(errors)
	}
	f32 := file("f32.json", beside)
	_, free, _ := call(t, "verify", dir, "--length", "20", "--json")
	bad := file("bad.json", strings.Replace(free, `"verdict": "pass"`, `"verdict": "fail"`, 1))
	for _, tt := range []struct {
		name string
		args []string
		code int
		want []string // parts of the output
		err  string   // part of the message
	}{
		{"one", []string{f32}, 0, []string{"free: logits as pytorch's, 8 rows", "verdict: pass"}, ""},
		{"two", []string{f32, "own=" + file("free.json", free)}, 0, []string{"f32 pytorch", "own free", "own logits of the free run", "verdict: pass"}, ""},
		{"JSON and notes", []string{f32, "--json", "--note", "time=7 s"}, 0, []string{`"name": "time"`, `"7 s"`, `"verdict": "pass"`}, ""},
		{"a page", []string{f32, "--html", filepath.Join(work, "x.html")}, 0, []string{"verdict: pass"}, ""},
		{"the page of another's file", []string{f32, "--html", bad}, 1, nil, "not one that this command wrote"},
		{"the page of its own input", []string{f32, "--html", f32, "--force"}, 1, nil, "is read as"},
		{"one that fails", []string{f32, bad}, 1, []string{"verdict: fail"}, "report: fail"},
		{"none", nil, 2, nil, "want files that verify --json wrote"},
		{"the same name", []string{f32, f32}, 2, nil, "want another name for each file"},
		{"no report", []string{file("none.json", "{}")}, 1, nil, "none.json: parity: a report without programs"},
		{"note", []string{f32, "--note", "x"}, 2, nil, "want NAME=TEXT"},
	} {
		code, out, errors := call(t, append([]string{"report"}, tt.args...)...)
		if code != tt.code || !strings.Contains(errors, tt.err) || (tt.err == "") != (errors == "") {
			t.Errorf("%s: exit code %d, want %d; message %q", tt.name, code, tt.code, errors)
		}
		for _, part := range tt.want {
			if !strings.Contains(out, part) {
				t.Errorf("%s: no %q in\n%s", tt.name, part, out)
			}
		}
	}
	for _, tt := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"--routing", routing}, 2, "--routing is of a --golden"},
		{[]string{"--golden", golden, "--brief"}, 2, "--brief is of --onnx"},
		{[]string{"--golden", golden, "--routing", routing, "--faults"}, 2, "--routing is of a --golden"},
		{[]string{"--golden", goldenF32, "--routing", routing}, 1, "other tokens than the golden's 420"},
	} {
		if code, _, errors := call(t, append([]string{"verify", dir}, tt.args...)...); code != tt.code || !strings.Contains(errors, tt.err) {
			t.Errorf("verify %v: exit code %d, message %q", tt.args, code, errors)
		}
	}
}
