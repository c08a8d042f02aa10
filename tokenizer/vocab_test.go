package tokenizer

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// TestVocabularyIsOpenAIs writes the embedded vocabulary as a rank file and
// compares its hash with that of o200k_base.tiktoken (NOTICE).
func TestVocabularyIsOpenAIs(t *testing.T) {
	tok := shared()
	h := sha256.New()
	for id := range uint32(Ordinary) {
		token, _ := tok.Token(id)
		fmt.Fprintf(h, "%s %d\n", base64.StdEncoding.EncodeToString([]byte(token)), id)
	}
	const want = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("sha256 %s, want %s", got, want)
	}
}

func TestLookup(t *testing.T) {
	tok := shared()
	for id := range uint32(Ordinary) {
		token, _ := tok.Token(id)
		if got, ok := tok.lookup(token); !ok || got != id {
			t.Fatalf("lookup(%q) = %d, %v, want %d", token, got, ok, id)
		}
	}
	for _, s := range []string{"", "\xff\xfe\xfd", "<|start|>", " zxqjv"} {
		if id, ok := tok.lookup(s); ok {
			t.Errorf("lookup(%q) = %d, want none", s, id)
		}
	}
}

// TestClasses compares the class of every code point with the ranges probed
// from the reference's regex engine.
func TestClasses(t *testing.T) {
	b, err := os.ReadFile("testdata/unicode16-ranges.json")
	if err != nil {
		t.Fatal(err)
	}
	var ranges map[string][][2]rune
	if err := json.Unmarshal(b, &ranges); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 0x110000)
	for i := range want {
		want[i] = other
	}
	for category, class := range map[string]byte{
		"Lu": upper, "Lt": upper, "Ll": lower, "Lm": letter, "Lo": letter, "M": mark, "N": number, "S": space,
	} {
		for _, r := range ranges[category] {
			for c := r[0]; c <= r[1]; c++ {
				want[c] = class
			}
		}
	}
	want['\r'], want['\n'] = newline, newline
	count := map[byte]int{}
	for c := range rune(0x110000) {
		if 0xD800 <= c && c < 0xE000 {
			continue // no UTF-8 form
		}
		s := string(c)
		class, size := classAt(s, 0)
		if class != want[c] || size != len(s) {
			t.Fatalf("U+%04X: class %c, %d bytes, want %c, %d", c, class, size, want[c], len(s))
		}
		count[class]++
	}
	// The engine's own count of letters is independent of the four above.
	letters := 0
	for _, r := range ranges["L"] {
		letters += int(r[1]-r[0]) + 1
	}
	if got := count[upper] + count[lower] + count[letter]; got != letters {
		t.Errorf("%d letters, want %d", got, letters)
	}
}
