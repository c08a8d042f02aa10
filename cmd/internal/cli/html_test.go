package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ossify/gptoss"
	"ossify/parity/page"
)

// The page is there when the command ends, says what it is of, and replaces
// nothing but another page.
func TestVerifyHTML(t *testing.T) {
	t.Setenv(epochVariable, "1700000000")
	dir, work := synthesised(t, gptoss.Original), t.TempDir()
	file, other := filepath.Join(work, "re'port <b>.html"), filepath.Join(work, "other.html")
	write(t, other, []byte("<!DOCTYPE html>\n<p>mine"))
	args := []string{"verify", dir, "--golden", goldenBF16, "--html", file}
	code, out, errors := call(t, args...)
	if code != 0 || lastLine(out) != "verdict: pass" || errors != "" {
		t.Fatalf("exit code %d, %q, %q", code, lastLine(out), errors)
	}
	first := read(t, file)
	for _, want := range []string{page.Mark, "Nothing changed.", "tiny-bf16.safetensors", "7799351d4b5a706c33d6f48ad2e5b33276c29a16cd1dd24ba0aa783d52d14e3d", "2.15.0&#43;cu132",
		`re&#39;\&#39;&#39;port &lt;b&gt;.html&#39;`, "2023-11-14T22:13:20Z", "ossify verify " + dir} {
		if !strings.Contains(first, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	if code, _, errors := call(t, args...); code != 0 || read(t, file) != first {
		t.Errorf("again: exit code %d, %q, or another page", code, errors)
	}
	for _, tt := range []struct {
		name string
		args []string
		code int
		err  string
	}{
		{"another's file", []string{"--html", other}, 1, "exists, and is not one that this command wrote"},
		{"a folder", []string{"--html", work}, 1, "a folder, want"},
		{"no folder", []string{"--html", filepath.Join(work, "none", "x.html")}, 1, "no such file or directory"},
		{"the golden", []string{"--html", goldenBF16}, 1, "is read as"},
		{"standard output", []string{"--html", "-"}, 2, "--html -, want a file"},
		{"attack", []string{"--html", file, "--attack", "1"}, 2, "--html is of a comparison"},
		{"force alone", []string{"--force"}, 2, "--force is of --html"},
	} {
		code, out, errors := call(t, append([]string{"verify", dir, "--golden", goldenBF16}, tt.args...)...)
		if code != tt.code || out != "" || !strings.Contains(errors, tt.err) {
			t.Errorf("%s: exit code %d, output %q, message %q", tt.name, code, out, errors)
		}
	}
	if got := read(t, other); got != "<!DOCTYPE html>\n<p>mine" {
		t.Errorf("another's file is %q now", got)
	}
	if code, _, errors := call(t, "verify", dir, "--length", "20", "--html", other, "--force"); code != 0 || !strings.HasPrefix(read(t, other), page.Mark) {
		t.Errorf("--force: exit code %d, %q", code, errors)
	}
	if list, _ := os.ReadDir(work); len(list) != 2 {
		t.Errorf("files are left: %v", list)
	}
	t.Setenv(epochVariable, "now")
	if code, _, errors := call(t, args...); code != 1 || !strings.Contains(errors, `$SOURCE_DATE_EPOCH is "now", want seconds`) || read(t, file) != first {
		t.Errorf("a time that is none: exit code %d, %q", code, errors)
	}
}

// A comparison that fails leaves its page, too; one that was not made leaves none.
func TestVerifyHTMLOfFailure(t *testing.T) {
	dir, file := synthesised(t, gptoss.HuggingFace), filepath.Join(t.TempDir(), "x.html")
	if code, _, errors := call(t, "verify", dir, "--golden", goldenF32, "--html", file); code != 1 || !strings.Contains(errors, "with hash") {
		t.Errorf("exit code %d, %q", code, errors)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a page though nothing was compared")
	}
	wrong := filepath.Join(t.TempDir(), "wrong")
	if code, _, errors := call(t, "synth", "--preset", "tiny", "--seed", "2", wrong); code != 0 {
		t.Fatal(errors)
	}
	if code, _, _ := call(t, "verify", wrong, "--golden", goldenF32, "--no-hash", "--html", file); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if got := read(t, file); !strings.Contains(got, "Something changed.") || !strings.Contains(got, "embedding, in the run “pytorch”") {
		t.Error("the page does not say what failed")
	}
}

// A command line is shown as a shell takes it.
func TestQuoted(t *testing.T) {
	for word, want := range map[string]string{"a-b/c.d": "a-b/c.d", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$x": "'$x'", "-": "-", "é": "'é'"} {
		if got := quoted(word); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
