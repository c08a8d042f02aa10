package tokenizer

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"sync"
	"testing"
)

// shared is one tokenizer for all tests: it does not change.
var shared = sync.OnceValue(func() *Tokenizer { return New() })

// golden is one line of testdata/o200k.jsonl.
type golden struct {
	Text string   `json:"t"`
	IDs  []uint32 `json:"ids"`
}

func goldens(t testing.TB) []golden {
	t.Helper()
	f, err := os.Open("testdata/o200k.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []golden
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var g golden
		if err := json.Unmarshal(lines.Bytes(), &g); err != nil {
			t.Fatalf("line %d: %v", len(all)+1, err)
		}
		all = append(all, g)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(all) != 4000 {
		t.Fatalf("%d goldens, want 4000", len(all))
	}
	return all
}

// TestGoldens compares with the ids of npm tiktoken 1.0.22 (testdata/README.md).
func TestGoldens(t *testing.T) {
	tok := shared()
	bad := 0
	for i, g := range goldens(t) {
		ids := tok.EncodeOrdinary(nil, g.Text)
		if !slices.Equal(ids, g.IDs) {
			if bad++; bad <= 10 {
				t.Errorf("line %d: %q\n got %v\nwant %v", i+1, g.Text, ids, g.IDs)
			}
		}
		if n := tok.Count(g.Text); n != len(g.IDs) {
			t.Errorf("line %d: Count is %d, want %d", i+1, n, len(g.IDs))
		}
		if text, err := tok.Decode(g.IDs); err != nil || text != g.Text {
			t.Errorf("line %d: decoded as %q (%v), want %q", i+1, text, err, g.Text)
		}
	}
	if bad > 0 {
		t.Errorf("%d of 4000 differ", bad)
	}
}
