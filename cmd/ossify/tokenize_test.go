package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// tokenCommand runs one of the two commands and returns what it printed.
func tokenCommand(stdin string, args ...string) (string, error) {
	root := newRoot()
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
	root := newRoot()
	root.SetIn(in)
	root.SetArgs([]string{"tokenize"})
	cancel()
	if err := root.ExecuteContext(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
