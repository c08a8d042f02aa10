package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestHarmonyCommands(t *testing.T) {
	const user = `{"messages":[{"role":"user","content":"hi"}]}`
	const turn = `{"messages":[{"role":"assistant","channel":"analysis","content":"a"},{"role":"assistant","channel":"final","content":"b"}]}`
	for _, c := range []struct {
		name, stdin string
		args        []string
		want        string
	}{
		{"render", user, []string{"render"}, "[200006,1428,200008,3686,200007,200006,173781]\n"},
		{"render a prompt", "", []string{"render", "--prompt", "hi", "--text"}, "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n\nReasoning: medium\n\n" +
			"# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|><|start|>user<|message|>hi<|end|><|start|>assistant\n"},
		{"render nothing", `{"messages":[]}`, []string{"render", "--next", "none"}, "[]\n"},
		{"render text", user, []string{"render", "--text", "--next", "user"}, "<|start|>user<|message|>hi<|end|><|start|>user\n"},
		{"render training", turn, []string{"render", "--text", "--training"}, "<|start|>assistant<|channel|>final<|message|>b<|return|>\n"},
		{"render all", turn, []string{"render", "--text", "--next", "none", "--drop", "none"},
			"<|start|>assistant<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|end|>\n"},
		{"parse", "[200005,17196,200008,12194,200002]", []string{"parse"}, `[{"role":"assistant","content":"Hi","channel":"final"}]` + "\n"},
		{"parse text", "<|start|>user<|message|>x<|end|>", []string{"parse", "--text", "--role", "none"}, `[{"role":"user","content":"x"}]` + "\n"},
		{"parse lenient", "<|channel|>final x y<|return|>", []string{"parse", "--text", "--lenient"}, `[{"role":"assistant","content":"x y","channel":"final"}]` + "\n"},
		{"recover", "<|channel|>final x  y", []string{"parse", "--text", "--recover"}, `[{"role":"assistant","content":" x  y","channel":"final"}]` + "\n"},
		{"recover a tool", "<|channel|>commentary to=f<|message|>{}", []string{"parse", "--text", "--recover", "--tool", "functions.f"},
			`[{"role":"assistant","recipient":"functions.f","content":"{}","channel":"commentary"}]` + "\n"},
		{"recover nothing", "", []string{"parse", "--text", "--recover"}, "[]\n"},
	} {
		got, err := tokenCommand(c.stdin, append([]string{"harmony"}, c.args...)...)
		if err != nil || got != c.want {
			t.Errorf("%s: got %q (%v), want %q", c.name, got, err, c.want)
		}
	}
	for _, c := range []struct {
		name, stdin string
		args        []string
		usage       bool
		want        string
	}{
		{"no command", "", nil, true, "render or parse"},
		{"argument", "", []string{"render", "x"}, true, "unexpected argument x"},
		{"role", "", []string{"render", "--next", "bogus"}, true, "want a role or none"},
		{"drop", "", []string{"render", "--drop", "some"}, true, "want one of auto none last-final"},
		{"training and next", "", []string{"render", "--training", "--next", "user"}, true, "without --next"},
		{"prompt and next", "", []string{"render", "--prompt", "hi", "--next", "user"}, true, "goes without --training, --next and --drop"},
		{"recover and role", "", []string{"parse", "--recover", "--role", "user"}, true, "without --lenient and --role"},
		{"tool alone", "", []string{"parse", "--tool", "f"}, true, "--tool needs --recover"},
		{"no JSON", "{", []string{"render"}, false, "EOF while parsing an object at line 1 column 1"},
		{"unknown role in JSON", `{"messages":[{"role":"bogus","content":""}]}`, []string{"render"}, false, "unknown variant `bogus`"},
		{"no ids", "[-1]", []string{"parse"}, false, "JSON array of ids"},
		{"parser's error", "x", []string{"parse", "--text"}, false, "Unexpected EOS"},
		{"escape sequence in JSON", `{"messages":[{"role":"\u001b[31m","content":""}]}`, []string{"render"}, false, `unknown variant ` + "`" + `\x1b[31m`},
		{"escape sequence in a header", "\x1b[31m<|message|>", []string{"parse", "--text", "--role", "none"}, false, "Unexpected token"},
		{"escape sequence as a role", "<|start|>\x1b[31m<|message|>", []string{"parse", "--text", "--role", "none"}, false, `Unknown role: \x1b[31m`},
		{"escape sequence as a type", "x y \u009b<|message|>", []string{"parse", "--text"}, false, `Some("x`},
	} {
		_, err := tokenCommand(c.stdin, append([]string{"harmony"}, c.args...)...)
		if err == nil || errors.Is(err, errUsage) != c.usage || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q, of usage: %t", c.name, err, c.want, c.usage)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\x1b\u009b") {
			t.Errorf("%s: error %q reaches the terminal", c.name, err)
		}
	}
}

func TestConformCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.jsonl")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"t":"hello world","ids":[24912,2375]}` + "\n\n" + `{"t":"hello world","ids":[24912]}` + "\n")
	got, err := tokenCommand("", "conform", file)
	want := file + ":3: \"hello world\"\n- [1]: (nothing)\n+ [1]: 2375\n1 passed, 1 failed\n"
	if got != want || err == nil || errors.Is(err, errUsage) {
		t.Errorf("got %q (%v), want %q and an error", got, err, want)
	}
	write(`{"t":"hello world","ids":[24912,2375]}`)
	if got, err := tokenCommand(`{"t":"hello world","ids":[24912,2375]}`, "conform", file, "-"); got != "2 passed, 0 failed\n" || err != nil {
		t.Errorf("got %q (%v), want two passed", got, err)
	}
	write("{}")
	if _, err := tokenCommand("", "conform", file); err == nil || !strings.Contains(err.Error(), "line 1: conform: no record") {
		t.Errorf("no record: %v", err)
	}
	for name, text := range map[string]string{"nothing": "", "empty lines": "\n\n"} {
		write(text)
		if _, err := tokenCommand("", "conform", file); err == nil || err.Error() != file+": conform: no records, want one a line" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tokenCommand("", "conform", "-"); err == nil || !strings.Contains(err.Error(), "standard input: conform: no records") {
		t.Errorf("nothing on standard input: %v", err)
	}
	const wrong = `{"name":"\u001b[31mred","query":{"op":"decode","tokens":[24912]},"result":{"\u001b[2J":"\u009b\u202e"}}`
	if got, _ := tokenCommand(wrong, "conform", "-"); !strings.Contains(got, `-:1: \x1b[31mred`) || !strings.Contains(got, `- .\x1b[2J: "\u009b\u202e"`) || strings.ContainsAny(got, "\x1b\u009b\u202e") {
		t.Errorf("a record with escape sequences: %q", got)
	}
	write(`{"t":"a","ids":[64]}` + "\n" + strings.Repeat(" ", recordMost+1))
	if _, err := tokenCommand("", "conform", file); err == nil || err.Error() != fmt.Sprintf("%s: line 2: more than %d bytes", file, recordMost) {
		t.Errorf("a line without end: %v", err)
	}
	if _, err := tokenCommand("", "conform"); !errors.Is(err, errUsage) {
		t.Errorf("no file: %v, want an error of usage", err)
	}
	if _, err := tokenCommand("", "conform", file+"x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestPromptTokens(t *testing.T) {
	cmd := newRoot(program{})
	cmd.SetContext(t.Context())
	ids, err := promptTokens(cmd, "What is 2 + 2?", "")
	if err != nil || len(ids) != 64 || ids[63] != 173781 {
		t.Errorf("prompt: ids %v and %v, want the 64 of testdata/prompts/user.json", ids, err)
	}
	file := filepath.Join(t.TempDir(), "c.json")
	if err := os.WriteFile(file, []byte(`{"messages":[{"role":"user","content":"hi"}]}`), 0o666); err != nil {
		t.Fatal(err)
	}
	if got, err := promptTokens(cmd, "", file); err != nil || !slices.Equal(got, []uint32{200006, 1428, 200008, 3686, 200007, 200006, 173781}) {
		t.Errorf("conversation: %v and %v", got, err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := promptTokens(cmd, "", file); err == nil || !strings.Contains(err.Error(), "c.json: harmony: EOF") {
		t.Errorf("broken conversation: %v", err)
	}
	for _, c := range [][2]string{{"", ""}, {"a", file}} {
		if _, err := promptTokens(cmd, c[0], c[1]); !errors.Is(err, errUsage) {
			t.Errorf("%v: %v, want an error of usage", c, err)
		}
	}
}
