package verify

import (
	"strings"
	"testing"

	"ossify/checkpoint"
)

// What a missed edit does to an element is explained where both programs give one
// number, or summation alone decides between two; not where bounds are wider.
func TestMiss(t *testing.T) {
	around := func(v, bound float64) [2]float64 { return [2]float64{v - bound, v + bound} }
	const half = 1 + 1.0/256 // between the bfloat16 values 1 and 1 + 1/128
	const next = 1 + 1.0/128
	for _, tt := range []struct {
		name              string
		typ               checkpoint.DType
		x                 element
		same, ties, loose int
	}{
		{"one number", checkpoint.BF16, element{around(1.001, 1e-5), around(1.002, 1e-5), 1, 1}, 1, 0, 0},
		{"at a tie, the engine's number is the same", checkpoint.BF16, element{around(half-1e-6, 1e-5), around(half+1e-6, 1e-5), 1, 1}, 0, 1, 0},
		{"at a tie, the engine's number changes", checkpoint.BF16, element{around(half-1e-6, 1e-5), around(half+5e-6, 1e-5), 1, next}, 0, 1, 0},
		{"at a tie with the edit only", checkpoint.BF16, element{around(half-3e-5, 1e-5), around(half+5e-6, 1e-5), 1, 1}, 0, 1, 0},
		{"another number, which the edit makes", checkpoint.BF16, element{around(half-1e-4, 1e-5), around(half+1e-4, 1e-5), 1, next}, 0, 0, 1},
		{"bounds of three numbers", checkpoint.BF16, element{around(1, 0.006), around(1.004, 0.006), 1, next}, 0, 0, 1},
		{"float32, within the bound", checkpoint.F32, element{around(1, 1e-5), around(1+1.5e-5, 1e-5), 1, 1 + 9e-6}, 0, 1, 0},
		{"float32, beyond it", checkpoint.F32, element{around(1, 1e-5), around(1+2.5e-5, 1e-5), 1, 1 + 2e-5}, 0, 0, 1},
	} {
		m := &Miss{Edit: "w [1, 2]: bit 7"}
		m.note(tt.x, "stage", 7, 5, tt.typ)
		if m.Same != tt.same || m.Ties != tt.ties || m.Loose != tt.loose || m.Explained() != (tt.loose == 0) || m.Row != 1 || m.Column != 2 {
			t.Errorf("%s: %+v", tt.name, m)
		}
		if text := m.String(); strings.Contains(text, "NOT EXPLAINED") != (tt.loose > 0) {
			t.Errorf("%s: %s", tt.name, text)
		}
	}
	if (&Miss{}).Explained() {
		t.Error("an edit that nothing reads is explained")
	}
	// The element that would show most is the one that is named.
	m := &Miss{}
	m.note(element{around(1, 1e-6), around(1.001, 1e-6), 1, 1}, "a", 0, 1, checkpoint.BF16)
	m.note(element{around(1, 1e-6), around(1.003, 1e-6), 1, 1}, "b", 1, 1, checkpoint.BF16)
	m.note(element{around(100, 1e-6), around(100.1, 1e-6), 100, 100}, "c", 2, 1, checkpoint.BF16)
	if m.Stage != "b" || m.Row != 1 || m.Elements != 3 || m.Same != 3 {
		t.Errorf("%+v", m)
	}
	r := &AttackReport{Total: AttackKind{Edits: 2, Changing: 2, Findable: 1, Found: 1}, Missed: []Miss{*m}}
	if r.Unexplained() != 0 || !r.OK() {
		t.Errorf("an edit of which nothing can be seen: %+v", r)
	}
	r.Missed[0].Loose = 1
	if r.Unexplained() != 1 || r.OK() {
		t.Errorf("an edit that a tighter check might find: %+v", r)
	}
}
