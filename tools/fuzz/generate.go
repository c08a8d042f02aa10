package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"unicode/utf8"

	"ossify/tokenizer"
)

// fragments meet at the corners of o200k's pattern.
var fragments = []string{
	// white space and newlines
	" ", "  ", "    ", "\n", "\r", "\r\n", "\n\n", " \n", "\n ", "\t", "\t\n", "\v", "\f", "\x1c", "\u0085", "\u00a0", "\u1680", "\u2003", "\u2028", "\u2029", "\u202f", "\u3000",
	// contractions, their folds and what looks like them
	"'s", "'S", "'ſ", "'t", "'T", "'re", "'Re", "'rE", "'ve", "'VE", "'m", "'ll", "'LL", "'lL", "'l", "'d", "'D", "'r", "'", "''", "’s", "'\u212a", "'ẞ", "it's", "DON'T", "we'll",
	// letters of every case, also without one
	"a", "B", "Ab", "aB", "ABc", "hello", "World", "CamelCase", "ß", "ẞ", "ſ", "\u212a", "İ", "ı", "é", "e\u0301", "ǅ", "ʰ", "ª", "º", "ΑΒΓ", "Ω", "Привет", "МИР", "ქართული", "ᲅ", "中文", "日本語", "カタカナ", "한국어", "مرحبا", "שלום", "हिन्दी", "ไทย", "தமிழ்", "አማርኛ", "𝒳", "𐐀", "𐐨",
	// marks, joiners, invisible characters
	"\u0301", "\u200d", "\u200b", "\ufe0f", "\u20e3", "\u180e", "\ufeff", "\u0000", "\ufffd", "\U000e0067", "\u093f",
	// numbers
	"1", "12", "123", "1234", "0x1F", "٣", "½", "²", "Ⅷ", "①", "〇", "3.14", "1,000",
	// symbols, with and without the newlines and slashes that follow them
	"/", "//", "///", "!", "?", "...", "!\n", "?/\r\n", "—", "“", "_", "-", "\\", "{\"a\": 1}", "();\n", "\t}\n\n", "</div>\n", "::", "👍🏽", "👩‍👩‍👧", "🇩🇪", "€", "∑", "░",
	// special tokens and parts of them
	"<|start|>", "<|end|>", "<|endoftext|>", "<|endofprompt|>", "<|reserved_200018|>", "<|reserved_201088|>", "<|reserved_201089|>", "<|", "|>", "<|end", "|", "<", "<|call|>",
	// code
	"func(", "return ", "self.", "#include <", "    def f(x):\n", "\t\tif err != nil {\n",
}

// categories are those of the ranges file, and "new", which is unicode16.
var categories = []string{"Lu", "Lt", "Lm", "Lo", "Ll", "M", "N", "S", "new"}

// unicode16 is the blocks that Unicode 16.0 added or widened: Garay,
// Todhri, Sunuwar, Tulu-Tigalari, Gurung Khema, Kirat Rai, Ol Onal, Myanmar
// Extended-C, Egyptian Hieroglyphs Extended-A, Latin Extended-D, Cyrillic
// Extended-C, Balinese, Symbols for Legacy Computing Supplement; and 15.1's
// CJK Extension I.
var unicode16 = [][2]rune{
	{0x10D40, 0x10D8F}, {0x105C0, 0x105FF}, {0x11BC0, 0x11BFF}, {0x11380, 0x113FF}, {0x16100, 0x1613F},
	{0x16D40, 0x16D7F}, {0x1E5D0, 0x1E5FF}, {0x116D0, 0x116FF}, {0x13460, 0x143FF}, {0xA7CB, 0xA7DC},
	{0x1C89, 0x1C8A}, {0x1B4E, 0x1B7F}, {0x1CC00, 0x1CEBF}, {0x2EBF0, 0x2EE5F},
}

type generator struct {
	rng    *rand.Rand
	ranges map[string][][2]rune
	tok    *tokenizer.Tokenizer
}

func newGenerator(seed uint64, rangesFile string, tok *tokenizer.Tokenizer) (*generator, error) {
	b, err := os.ReadFile(rangesFile)
	if err != nil {
		return nil, fmt.Errorf("%w (run from the repository's root)", err)
	}
	g := &generator{rng: rand.New(rand.NewPCG(seed, 0)), tok: tok}
	if err := json.Unmarshal(b, &g.ranges); err != nil {
		return nil, fmt.Errorf("%s: %w", rangesFile, err)
	}
	g.ranges["new"] = unicode16
	for _, c := range categories {
		if len(g.ranges[c]) == 0 {
			return nil, fmt.Errorf("%s: no ranges of %s", rangesFile, c)
		}
	}
	return g, nil
}

// text returns the next string, which is UTF-8.
func (g *generator) text() string {
	switch p := g.rng.IntN(1000); {
	case p < 8:
		return g.run()
	case p < 100:
		return g.tokens()
	case p < 300: // the smallest alphabet with all of the pattern's corners
		return g.join(1+g.rng.IntN(8), func() string {
			return pick(g.rng, []string{"a", "B", "ª", "\u0301", "1", " ", "\n", "\r", "'s", "'", "!", "/", "\t"})
		})
	case p < 600:
		return g.join(1+g.rng.IntN(14), func() string { return pick(g.rng, fragments) })
	}
	return g.join(1+g.rng.IntN(20), g.unit)
}

func (g *generator) join(n int, unit func() string) string {
	var b strings.Builder
	for range n {
		b.WriteString(unit())
	}
	return b.String()
}

func (g *generator) unit() string {
	switch p := g.rng.IntN(10); {
	case p < 4:
		return pick(g.rng, fragments)
	case p < 7:
		return string(g.codePoint())
	case p < 8:
		return string(rune(32 + g.rng.IntN(95)))
	case p < 9:
		return g.tokens()
	}
	for { // anything, mostly unassigned
		if r := rune(g.rng.IntN(utf8.MaxRune + 1)); utf8.ValidRune(r) {
			return string(r)
		}
	}
}

// codePoint returns one in or just outside a range of a category.
func (g *generator) codePoint() rune {
	span := pick(g.rng, g.ranges[pick(g.rng, categories)])
	r := span[0] + g.rng.Int32N(span[1]-span[0]+1)
	switch g.rng.IntN(8) {
	case 0:
		r = span[0] - 1
	case 1:
		r = span[1] + 1
	case 2:
		r = span[0]
	case 3:
		r = span[1]
	}
	if !utf8.ValidRune(r) {
		return span[0]
	}
	return r
}

// tokens joins random tokens, so that many merges compete.
func (g *generator) tokens() string {
	s := g.join(1+g.rng.IntN(5), func() string {
		token, _ := g.tok.Token(g.rng.Uint32N(tokenizer.Ordinary))
		return token
	})
	return strings.ToValidUTF8(s, "")
}

// run repeats a few characters, often close to the lengths at which merging
// changes its method.
func (g *generator) run() string {
	unit := g.join(1+g.rng.IntN(2), g.unit)
	if unit == "" {
		unit = "a"
	}
	n := 1 + g.rng.IntN(600)
	if g.rng.IntN(2) == 0 {
		n = 126 + g.rng.IntN(5)
	}
	s := strings.Repeat(unit, n/len(unit)+1)
	return s + g.unit()
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }
