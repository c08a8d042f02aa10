package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

// tokenCommand runs one of the two commands and returns what it printed.
func tokenCommand(stdin string, args ...string) (string, error) {
	root := newRoot(program{})
	var out bytes.Buffer
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	return out.String(), err
}

func TestTokenize(t *testing.T) {
	for _, c := range []struct {
		name, stdin string
		args        []string
		want        string
	}{
		{"argument", "unread", []string{"hello"}, "24912\n"},
		{"two arguments", "", []string{"hello", "world"}, "24912 2375\n"},
		{"input", "hello world\n", nil, "24912 2375 198\n"},
		{"empty argument", "unread", []string{""}, "\n"},
		{"empty input", "", nil, "\n"},
		{"JSON", "", []string{"--json", "hello world"}, "[24912,2375]\n"},
		{"empty JSON", "", []string{"--json"}, "[]\n"},
		{"special as text", "", []string{"<|end|>"}, "27 91 419 91 29\n"},
		{"special", "", []string{"--special", "<|end|>"}, "200007\n"},
		{"count", "", []string{"--count", "<|end|>"}, "5\n"},
		{"count special", "", []string{"--count", "--special", "<|end|>"}, "1\n"},
		{"not UTF-8", "\xF0\x9F\x92A", nil, "3251 32\n"},
		{"after dashes", "", []string{"--", "--json"}, "375 4108\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := tokenCommand(c.stdin, append([]string{"tokenize"}, c.args...)...)
			if err != nil || got != c.want {
				t.Errorf("got %q (%v), want %q", got, err, c.want)
			}
		})
	}
}

func TestDetokenize(t *testing.T) {
	for _, c := range []struct {
		name, stdin string
		args        []string
		want        string
	}{
		{"arguments", "unread", []string{"24912", "2375"}, "hello world"},
		{"input", "24912 2375 198\n", nil, "hello world\n"},
		{"commas and newlines", "24912,2375,\r\n198\t", nil, "hello world\n"},
		{"JSON array", "[24912, 2375]\n", nil, "hello world"},
		{"JSON argument", "", []string{"[24912,", "2375]"}, "hello world"},
		{"none", "", nil, ""},
		{"empty array", "[]", nil, ""},
		{"empty array of spaces", "[ \n]", nil, ""},
		{"commas after spaces", "24912 ,2375", nil, "hello world"},
		{"specials", "", []string{"200006", "201088"}, "<|start|><|reserved_201088|>"},
		{"bytes", "", []string{"172"}, "\xF0"},
		{"as JSON", "", []string{"--json", "24912", "172", "27", "198"}, "\"hello\uFFFD<\\n\"\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := tokenCommand(c.stdin, append([]string{"detokenize"}, c.args...)...)
			if err != nil || got != c.want {
				t.Errorf("got %q (%v), want %q", got, err, c.want)
			}
		})
	}
}

func TestDetokenizeErrors(t *testing.T) {
	for _, c := range []struct{ name, ids, want string }{
		{"unknown id", "24912 201089", "tokenizer: ids[1]: Invalid token for decoding: 201089"},
		{"word", "24912 x 1", `detokenize: ids[1]: "x" is no token id, want 0 to 201088`},
		{"negative", "-1", `detokenize: ids[0]: "-1" is no token id, want 0 to 201088`},
		{"too large", "1 4294967296", `detokenize: ids[1]: "4294967296" is no token id, want 0 to 201088`},
		{"fraction", "[1, 2.5]", `detokenize: ids[1]: "2.5" is no token id, want 0 to 201088`},
		{"null", "[null]", `detokenize: ids[0]: "null" is no token id, want 0 to 201088`},
		{"nested", "[[1]]", `detokenize: ids[0]: "[1]" is no token id, want 0 to 201088`},
		{"two commas", "1,,2", `detokenize: ids[1]: "" is no token id, want 0 to 201088`},
		{"two commas apart", "1, \n,2", `detokenize: ids[1]: "" is no token id, want 0 to 201088`},
		{"comma first", ",1", `detokenize: ids[0]: "" is no token id, want 0 to 201088`},
		{"comma last", "1, 2,\n", "detokenize: ids[2] is missing after the last comma"},
		{"only a comma", ",", `detokenize: ids[0]: "" is no token id, want 0 to 201088`},
		{"long", "1 " + strings.Repeat("9", 5<<20), `detokenize: ids[1]: "` + strings.Repeat("9", 80) + `" is no token id, want 0 to 201088`},
		{"long in an array", "[" + strings.Repeat("9", 5<<20) + "]", `detokenize: ids[0]: "` + strings.Repeat("9", 80) + `" is no token id, want 0 to 201088`},
		{"escape sequence", "\x1b[31m", `detokenize: ids[0]: "\x1b[31m" is no token id, want 0 to 201088`},
		{"two arrays", "[1][2]", "detokenize: the ids are no JSON array: invalid character '[' after top-level value"},
		{"comma last in an array", "[1,]", "detokenize: the ids are no JSON array: invalid character ']' looking for beginning of value"},
		{"unclosed", "[1, 2", "detokenize: the ids are no JSON array: unexpected end of JSON input"},
	} {
		for _, flags := range [][]string{nil, {"--json"}} {
			out, err := tokenCommand(c.ids, append([]string{"detokenize"}, flags...)...)
			if err == nil || err.Error() != c.want {
				t.Errorf("%s: error %v, want %s", c.name, err, c.want)
			}
			if out != "" {
				t.Errorf("%s: printed %q beside the error", c.name, out)
			}
			if errors.Is(err, errUsage) {
				t.Errorf("%s: a usage error", c.name)
			}
		}
	}
	if _, err := tokenCommand("", "tokenize", "--nonsense"); !errors.Is(err, errUsage) {
		t.Errorf("unknown flag: %v, want a usage error", err)
	}
}

// TestTokenizeRoundTrip pipes the ids of one command into the other.
func TestTokenizeRoundTrip(t *testing.T) {
	const text = "a\x00b\r\n \n\t“中文” 👩‍👩‍👧 <|start|>'ſ\u2028 1234567 \n"
	for _, flags := range [][]string{{}, {"--json"}, {"--special"}, {"--json", "--special"}} {
		ids, err := tokenCommand(text, append([]string{"tokenize"}, flags...)...)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := tokenCommand(ids, "detokenize"); err != nil || back != text {
			t.Errorf("%v: came back as %q (%v)", flags, back, err)
		}
	}
}

// TestTokenizeInterrupted interrupts a read that would wait for ever.
func TestTokenizeInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	in, keepOpen := io.Pipe()
	defer keepOpen.Close()
	root := newRoot(program{})
	root.SetIn(in)
	root.SetArgs([]string{"tokenize"})
	cancel()
	if err := root.ExecuteContext(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// endless is a file without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// What has no end is refused at a stated size: nothing is read for ever.
func TestEndlessInput(t *testing.T) {
	want := fmt.Sprintf("more than %d bytes", inputMost)
	for _, args := range [][]string{
		{"tokenize"}, {"tokenize", "--count"}, {"detokenize"}, {"harmony", "render"}, {"harmony", "parse"},
		{"trace", "DIR", "-o", "x", "--tokens-file", "-"}, {"trace", "DIR", "-o", "x", "--conversation", "-"},
		{"verify", "DIR", "--conversation", "-"},
	} {
		root := newRoot(program{})
		root.SetIn(endless{})
		root.SetArgs(args)
		if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "standard input: "+want) {
			t.Errorf("%v: %v, want %s", args, err, want)
		}
	}
	const zero = "/dev/zero"
	if _, err := os.Stat(zero); err != nil {
		return // a system without it: the same limit was tested above
	}
	for _, flag := range []string{"--tokens-file", "--conversation"} {
		_, err := tokenCommand("", "trace", "DIR", "-o", "x", flag, zero)
		if err == nil || !strings.Contains(err.Error(), zero+": "+want) {
			t.Errorf("%s %s: %v", flag, zero, err)
		}
	}
}

// Ids come from standard input as from a file.
func TestTokensFile(t *testing.T) {
	cmd := newRoot(program{})
	cmd.SetContext(t.Context())
	cmd.SetIn(strings.NewReader("24912 2375\n"))
	if ids, err := fileTokens(cmd, "-"); err != nil || !slices.Equal(ids, []uint32{24912, 2375}) {
		t.Errorf("%v and %v", ids, err)
	}
	cmd.SetIn(strings.NewReader("1,,2"))
	if _, err := fileTokens(cmd, "-"); err == nil || !strings.HasPrefix(err.Error(), "standard input: ids[1]: ") {
		t.Errorf("a mistake: %v", err)
	}
}
