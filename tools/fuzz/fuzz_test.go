package main

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"ossify/tokenizer"
)

const ranges = "../../tokenizer/testdata/unicode16-ranges.json"

func TestGenerator(t *testing.T) {
	tok := tokenizer.New(tokenizer.WithEndOfPrompt())
	generate := func(seed uint64) []string {
		g, err := newGenerator(seed, ranges, tok)
		if err != nil {
			t.Fatal(err)
		}
		all := make([]string, 5000)
		for i := range all {
			all[i] = g.text()
		}
		return all
	}
	all := generate(1)
	if !slices.Equal(all, generate(1)) {
		t.Error("the same seed gives other strings")
	}
	if slices.Equal(all, generate(2)) {
		t.Error("another seed gives the same strings")
	}
	if i := slices.IndexFunc(all, func(s string) bool { return !utf8.ValidString(s) }); i >= 0 {
		t.Errorf("%q is not UTF-8", all[i])
	}
	for name, in := range map[string]func(string) bool{
		"a long run":                  func(s string) bool { return len(s) > 256 },
		"a run at the limit":          func(s string) bool { return len(s) == 128 || len(s) == 129 },
		"a contraction with U+017F":   func(s string) bool { return strings.Contains(s, "'ſ") },
		"spaces between newlines":     func(s string) bool { return strings.Contains(s, "\n \n") },
		"a special token":             func(s string) bool { return strings.Contains(s, "<|start|>") },
		"a digit after three digits":  func(s string) bool { return strings.Contains(s, "1234") },
		"Unicode 16.0's Garay":        func(s string) bool { return strings.ContainsFunc(s, func(r rune) bool { return r>>6 == 0x10D40>>6 }) },
		"an unassigned code point":    func(s string) bool { return strings.ContainsFunc(s, func(r rune) bool { return r>>16 == 8 }) },
		"a mark after a space":        func(s string) bool { return strings.Contains(s, " \u0301") },
		"a prefix before a lone mark": func(s string) bool { return strings.Contains(s, "!\u0301") },
	} {
		if !slices.ContainsFunc(all, in) {
			t.Errorf("no string of 5,000 has %s", name)
		}
	}
}

func TestCompare(t *testing.T) {
	tok := tokenizer.New(tokenizer.WithEndOfPrompt())
	const text = "hello <|end|>"
	right := answer{ordinary: tok.EncodeOrdinary(nil, text), special: []uint32{24912, 220, 200007}}
	if got := compare(tok, text, right); got != "" {
		t.Errorf("right ids are reported: %s", got)
	}
	for name, wrong := range map[string]answer{
		"ordinary id":      {slices.Concat(right.ordinary[:1], []uint32{5}, right.ordinary[2:]), right.special},
		"ordinary missing": {right.ordinary[1:], right.special},
		"special id":       {right.ordinary, []uint32{24912, 220, 200008}},
		"special as text":  {right.ordinary, right.ordinary},
	} {
		if compare(tok, text, wrong) == "" {
			t.Errorf("%s: a difference is not reported", name)
		}
	}
}
