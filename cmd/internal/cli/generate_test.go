package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// run is a command line of the program without Beam.
func run(ctx context.Context, args []string, in io.Reader, out, errors io.Writer) int {
	return program{}.run(ctx, args, in, out, errors)
}

// ossify runs a command line.
func ossify(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errors strings.Builder
	code = run(t.Context(), args, strings.NewReader(stdin), &out, &errors)
	return code, out.String(), errors.String()
}

// talking returns a small random model with the full vocabulary.
func talking(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "talking")
	if code, _, stderr := ossify(t, "", "synth", "--preset", "tiny", "--vocab", "201088", dir); code != 0 {
		t.Fatal(stderr)
	}
	return dir
}

// The same tokens come for a seed, whatever the threads, the guesses and the
// way the prompt is given; other seeds give others.
func TestGenerateIsDeterministic(t *testing.T) {
	dir := talking(t)
	for _, c := range []struct {
		name string
		base []string
	}{
		{"greedy", nil},
		{"sampled", []string{"--temperature", "0.8", "--top-p", "0.95", "--seed", "5"}},
		{"top-k and min-p", []string{"--temperature", "1", "--top-k", "50", "--min-p", "0.01", "--seed", "6"}},
		{"f32", []string{"--temperature", "1", "--seed", "5", "--precision", "f32"}},
	} {
		if testing.Short() && c.name != "sampled" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			base := append([]string{"generate", dir, "--prompt", "What is jade?", "--max-tokens", "12", "--raw", "-q"}, c.base...)
			code, want, stderr := ossify(t, "", base...)
			if code != 0 || len(strings.Fields(want)) < 1 || stderr != "" {
				t.Fatalf("exit %d, %q, %s", code, want, stderr)
			}
			for _, more := range [][]string{nil, {"--threads", "1"}, {"--threads", "5"}, {"--guess", "4"}, {"--screen"}, {"--screen", "--guess", "3"}, {"--pack"}, {"--pack", "--hold", "--screen"}} {
				if _, got, _ := ossify(t, "", append(slices.Clone(base), more...)...); got != want {
					t.Errorf("%v: %q, want %q", more, got, want)
				}
			}
			if c.base != nil {
				if _, got, _ := ossify(t, "", append(slices.Clone(base), "--seed", "77")...); got == want {
					t.Error("another seed gives the same tokens")
				}
			}
		})
	}
}

func TestGenerateJSON(t *testing.T) {
	dir := talking(t)
	code, out, stderr := ossify(t, "", "generate", dir, "--prompt", "hi", "--max-tokens", "9", "--json")
	if code != 0 {
		t.Fatal(stderr)
	}
	var a struct {
		Tokens       []uint32
		Messages     []map[string]any
		Reason       string
		PromptTokens int `json:"prompt_tokens"`
	}
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		t.Fatal(err)
	}
	_, raw, _ := ossify(t, "", "generate", dir, "--prompt", "hi", "--max-tokens", "9", "--raw")
	if got := strings.Join(strings.Fields(raw), " "); got != strings.Trim(fmt.Sprint(a.Tokens), "[]") || a.PromptTokens == 0 {
		t.Errorf("%+v, raw %s", a, got)
	}
	if len(a.Tokens) == 9 != (a.Reason == "length") {
		t.Errorf("%d tokens, ended by %s", len(a.Tokens), a.Reason)
	}
	if !strings.Contains(stderr, "tokens of prompt") {
		t.Errorf("figures %q", stderr)
	}
}

// --stop ends the text before it, wherever tokens cut it.
func TestGenerateStop(t *testing.T) {
	dir := talking(t)
	run := func(args ...string) string {
		code, out, stderr := ossify(t, "", append([]string{"generate", dir, "--prompt", "hi", "--max-tokens", "20", "--thoughts", "-q", "--temperature", "1", "--seed", "3"}, args...)...)
		if code != 0 {
			t.Fatal(stderr)
		}
		return out
	}
	whole := []rune(run())
	if len(whole) < 8 {
		t.Fatalf("%q is too short", string(whole))
	}
	stop := string(whole[4:7])
	want, _, _ := strings.Cut(string(whole), stop)
	if got := strings.TrimSuffix(run("--stop", stop), "\n"); got != strings.TrimSuffix(want, "\n") {
		t.Errorf("stopped by %q: %q, want %q", stop, got, want)
	}
}

func TestGenerateRefuses(t *testing.T) {
	dir := talking(t)
	tiny := filepath.Join(t.TempDir(), "tiny")
	if code, _, stderr := ossify(t, "", "synth", "--preset", "tiny", tiny); code != 0 {
		t.Fatal(stderr)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no prompt", []string{"generate", dir}, 2, "0 prompts, want one of"},
		{"two prompts", []string{"generate", dir, "--prompt", "a", "--tokens", "1"}, 2, "2 prompts, want one of"},
		{"an empty prompt", []string{"generate", dir, "--prompt", ""}, 2, "--prompt is empty"},
		{"no tokens", []string{"generate", dir, "--tokens", ""}, 1, "at least one"},
		{"temperature", []string{"generate", dir, "--prompt", "a", "--temperature", "-1"}, 2, "temperature -1, want 0"},
		{"NaN", []string{"generate", dir, "--prompt", "a", "--temperature", "NaN"}, 2, "temperature NaN"},
		{"top-p", []string{"generate", dir, "--prompt", "a", "--top-p", "1.5"}, 2, "top-p 1.5, want 0 to 1"},
		{"max-tokens", []string{"generate", dir, "--prompt", "a", "--max-tokens", "-1"}, 2, "--max-tokens -1"},
		{"reasoning", []string{"generate", dir, "--prompt", "a", "--reasoning", "deep"}, 2, `want one of low medium high`},
		{"precision", []string{"generate", dir, "--prompt", "a", "--precision", "f16"}, 2, `want one of bf16 f32`},
		{"an empty stop", []string{"generate", dir, "--prompt", "a", "--stop", ""}, 2, "--stop is empty"},
		{"raw and json", []string{"generate", dir, "--prompt", "a", "--raw", "--json"}, 2, "want one of --raw and --json"},
		{"no folder", []string{"generate", filepath.Join(dir, "nothing"), "--prompt", "a"}, 1, "nothing"},
		{"an id without a row", []string{"generate", tiny, "--tokens", "1,999999"}, 1, "999999"},
		{"a vocabulary without specials", []string{"generate", tiny, "--prompt", "a"}, 1, "want below"},
		{"chat without folder", []string{"chat"}, 2, "0 arguments, want DIR"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, stderr := ossify(t, "", c.args...)
			if code != c.code || out != "" || !strings.Contains(stderr, c.want) {
				t.Errorf("exit %d, %q, %s, want %d with %s", code, out, stderr, c.code, c.want)
			}
		})
	}
}

// A chat gives the answers that the conversations give one by one: what the
// cache holds changes nothing.
func TestChat(t *testing.T) {
	dir := talking(t)
	flags := []string{"--max-tokens", "12", "--temperature", "1", "--seed", "4", "--thoughts"}
	code, out, stderr := ossify(t, "What is jade?\n\nAnd gold?\n/new\nWhat is jade?\n", append([]string{"chat", dir}, flags...)...)
	if code != 0 {
		t.Fatal(stderr)
	}
	if n := strings.Count(stderr, "tokens of prompt"); n != 3 {
		t.Errorf("%d answers, want 3: %s", n, stderr)
	}
	_, one, _ := ossify(t, "", append([]string{"generate", dir, "--prompt", "What is jade?", "-q"}, flags...)...)
	if !strings.HasPrefix(out, one) || !strings.HasSuffix(out, one) {
		t.Errorf("chat says %q, generate %q", out, one)
	}
	lines := strings.Split(stderr, "\n")
	if len(lines) < 2 || strings.Contains(lines[1], "0 of them new") {
		t.Errorf("second turn: %s", stderr)
	}
}

// A closed pipe ends generation with an error, and leaves nothing running.
func TestGenerateClosedPipe(t *testing.T) {
	dir := talking(t)
	r, w := io.Pipe()
	r.Close()
	var stderr strings.Builder
	if code := run(t.Context(), []string{"generate", dir, "--prompt", "hi", "--max-tokens", "50", "--raw"}, strings.NewReader(""), w, &stderr); code != 1 || !strings.Contains(stderr.String(), "closed pipe") {
		t.Errorf("exit %d, %s", code, stderr.String())
	}
}

// What a model writes cannot steer a terminal.
func TestVisible(t *testing.T) {
	if got := visible("a\x1b[31mb\x07\u009bc\td\ne\x7f"); got != "a\uFFFD[31mb\uFFFD\uFFFDc\td\ne\uFFFD" {
		t.Errorf("%q", got)
	}
}

func TestPullCommand(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"pull", "openai/gpt-oss-20b"}, 2, "1 arguments, want OWNER/NAME and DIR"},
		{[]string{"pull", "openai/x", "d", "--layout", "gguf"}, 2, `want one of hf original`},
		{[]string{"pull", "x", "d", "--endpoint", "http://127.0.0.1:1"}, 1, "want owner/name"},
		{[]string{"pull", "a/b", "d", "--endpoint", "file:///etc"}, 1, "want an address such as"},
	} {
		code, out, stderr := ossify(t, "", c.args...)
		if code != c.code || out != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: exit %d, %q, %s, want %d with %s", c.args, code, out, stderr, c.code, c.want)
		}
	}
	if _, err := os.Stat("d"); err == nil {
		t.Error("a folder was left")
	}
}
