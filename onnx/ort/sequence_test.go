//go:build cgo && !noort

package ort_test

import (
	"math"
	"slices"
	"testing"

	"ossify/onnx"
	"ossify/onnx/ort"
)

// A sequence goes on, goes back and goes on again as if it had come there at
// once, with standard operators and with ossify's, whatever logits are shown.
func TestSequence(t *testing.T) {
	r := open(t)
	tokens := []uint32{5, 90, 17, 3, 3, 211, 500, 8, 64, 1, 77, 12, 300, 45, 6, 9, 28, 31, 500, 2}
	want := map[string][]float32{} // by kind of model: logits of the last token
	for _, c := range []struct {
		name      string
		last      bool
		operators bool
		bound     float64 // of chunks against the whole
	}{
		{"standard", false, false, 1e-4},
		{"standard, last logits only", true, false, 1e-4},
		{"ossify's operators", false, true, 0},
		{"ossify's operators, last logits only", true, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := decoder(t, r, onnx.Options{LastOnly: c.last}, ort.Options{Operators: c.operators})
			next := func(s *ort.Sequence, tokens []uint32) []float32 {
				t.Helper()
				logits, err := s.Next(t.Context(), tokens)
				if err != nil || len(logits) != 512 {
					t.Fatalf("%d logits, %v", len(logits), err)
				}
				return logits
			}
			near := func(what string, got, want []float32) {
				t.Helper()
				for i := range want {
					if !(math.Abs(float64(got[i]-want[i])) <= c.bound) {
						t.Fatalf("%s: logit %d is %g, want %g", what, i, got[i], want[i])
					}
				}
			}
			whole := next(d.NewSequence(), tokens)
			want[c.name] = whole

			q := d.NewSequence()
			next(q, tokens[:7])
			for i := range tokens[7:] {
				near("one by one", next(q, tokens[7+i:8+i]), next(d.NewSequence(), tokens[:8+i]))
			}
			if err := q.Truncate(4); err != nil || q.Len() != 4 {
				t.Fatal(q.Len(), err)
			}
			next(q, []uint32{9, 9, 9})
			if err := q.Truncate(4); err != nil {
				t.Fatal(err)
			}
			near("after going back", next(q, tokens[4:]), whole)

			if err := q.Truncate(11); err != nil {
				t.Fatal(err)
			}
			rows, err := q.Forward(t.Context(), tokens[11:])
			if err != nil || len(rows) != 512*len(tokens[11:]) {
				t.Fatalf("%d logits, %v", len(rows), err)
			}
			for i := range tokens[11:] {
				near("row by row", rows[i*512:][:512], next(d.NewSequence(), tokens[:12+i]))
			}
			for _, n := range []int{-1, 21} {
				if err := q.Truncate(n); err == nil {
					t.Errorf("%d tokens kept of 20", n)
				}
			}
		})
	}
	if slices.Equal(want["standard"], want["ossify's operators"]) {
		t.Error("the same bits with ossify's operators and without: were they asked?")
	}
	for i, v := range want["standard"] {
		if !(math.Abs(float64(v-want["ossify's operators"][i])) <= 1e-3) {
			t.Fatalf("logit %d: %g, with ossify's operators %g", i, v, want["ossify's operators"][i])
		}
	}
}

// What is put into a cache is what the next token sees: another sequence's keys
// and values give that sequence's logits.
func TestPut(t *testing.T) {
	r := open(t)
	d := decoder(t, r, onnx.Options{}, ort.Options{})
	forward := func(s *ort.State, tokens ...uint32) []float64 {
		t.Helper()
		out, err := s.Forward(t.Context(), [][]uint32{tokens})
		if err != nil {
			t.Fatal(err)
		}
		return ort.Rows(out[d.Logits.Name], 0, 1)
	}
	rows := func(x ort.Tensor) []float64 { // [1, heads, positions, dim] by position
		heads, n, dim := x.Shape[1], x.Shape[2], x.Shape[3]
		from, to := x.Float64s(), make([]float64, heads*n*dim)
		for i := range to {
			h, p, j := i/(n*dim), i/dim%n, i%dim
			to[(p*heads+h)*dim+j] = from[i]
		}
		return to
	}
	a, b := d.NewState(1), d.NewState(1)
	forward(a, 5, 90, 17, 211)
	forward(b, 5, 8, 400, 211)
	for layer := range d.Layers() {
		key, value := a.Cache(layer)
		k, v := rows(key), rows(value)
		width := len(k) / 4
		if err := b.Put(layer, 0, k[:3*width], v[:3*width]); err != nil {
			t.Fatal(err)
		}
		if err := b.Put(layer, 3, k[3*width:], v[3*width:]); err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{
			"beyond its end": b.Put(layer, 3, k[2*width:], v[2*width:]),
			"before it":      b.Put(layer, -1, k[:width], v[:width]),
			"half a row":     b.Put(layer, 0, k[:width/2], v[:width/2]),
		} {
			if err == nil {
				t.Errorf("%s: no error", what)
			}
		}
	}
	if got, want := forward(b, 77), forward(a, 77); !slices.Equal(got, want) {
		t.Error("with another sequence's cache: other logits than that sequence's")
	}
}

// Sessions with operators come and go.
func TestSessionsWithOperators(t *testing.T) {
	r := open(t)
	model := exported(t, onnx.Options{})
	n := 50
	if testing.Short() {
		n = 10
	}
	for range n {
		s, err := r.Load(t.Context(), model, ort.Options{Operators: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// decoder loads a tiny model of ossify's, for as long as the test runs.
func decoder(t *testing.T, r *ort.Runtime, export onnx.Options, o ort.Options) *ort.Decoder {
	t.Helper()
	s, err := r.Load(t.Context(), exported(t, export), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	d, err := ort.NewDecoder(s, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
