package graph

import (
	"math"
	"slices"
	"testing"
)

// A gate is found as gptoss records it, and nothing that differs in any of its
// constants, columns or readers.
func TestGateOf(t *testing.T) {
	type form struct {
		glu, linear     int // columns
		low, high       float64
		min, max        float64 // of the linear columns
		alpha, shift    float64
		scale, plus     float64
		sigmoid, swiped bool // sigmoid of the other columns; the product of it with these
		read            string
	}
	right := form{linear: 1, low: math.Inf(-1), high: 7, min: -7, max: 7, alpha: 1.702, scale: 1, plus: 1}
	for _, c := range []struct {
		name string
		edit func(f *form)
		want bool
	}{
		{"the model's", func(f *form) {}, true},
		{"another limit", func(f *form) { f.high, f.min, f.max = 31, -31, 31 }, true},
		{"another alpha", func(f *form) { f.alpha = 1 }, true},
		{"halves exchanged", func(f *form) { f.glu, f.linear = 1, 0 }, false},
		{"the same columns twice", func(f *form) { f.linear = 0 }, false},
		{"a lower bound", func(f *form) { f.low = -7 }, false},
		{"no upper bound", func(f *form) { f.high, f.min, f.max = math.Inf(1), math.Inf(-1), math.Inf(1) }, false},
		{"another bound above", func(f *form) { f.max = 8 }, false},
		{"another bound below", func(f *form) { f.min = -8 }, false},
		{"a shift of alpha's", func(f *form) { f.shift = 1 }, false},
		{"not plus 1", func(f *form) { f.plus = 0 }, false},
		{"twice, plus 1", func(f *form) { f.scale = 2 }, false},
		{"sigmoid of the linear columns", func(f *form) { f.sigmoid = true }, false},
		{"product with the linear columns", func(f *form) { f.swiped = true }, false},
		{"a reader of the columns", func(f *form) { f.read = "x" }, false},
		{"a reader of the even columns", func(f *form) { f.read = "glu" }, false},
		{"a reader of the clamped columns", func(f *form) { f.read = "glu.clamp" }, false},
		{"a reader of the sigmoid", func(f *form) { f.read = "sigmoid" }, false},
		{"a reader of the product", func(f *form) { f.read = "out_glu" }, false},
		{"a reader of the result", func(f *form) { f.read = "out" }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := right
			c.edit(&f)
			g, err := Build(func(s Scope) {
				made := map[string]Value{}
				keep := func(name string, v Value) Value { made[name] = v; return v }
				x := keep("x", s.At("embedding").Gather(s.At("tokens").Tokens(), 8, 6))
				top := keep("glu.clamp", s.At("glu.clamp").Clamp(keep("glu", s.At("glu").Every(x, f.glu)), f.low, f.high))
				band := s.At("linear.clamp").Clamp(s.At("linear").Every(x, f.linear), f.min, f.max)
				of, with := top, top
				if f.sigmoid {
					of = band
				}
				if f.swiped {
					with = band
				}
				gate := keep("sigmoid", s.At("sigmoid").Sigmoid(s.At("alpha").Affine(of, f.alpha, f.shift)))
				mul := keep("out_glu", s.At("out_glu").Mul(with, gate))
				out := keep("out", s.At("out").Mul(mul, s.At("plus").Affine(band, f.scale, f.plus)))
				if v, ok := made[f.read]; ok {
					s.At("reader").Sigmoid(v)
				} else {
					s.At("last").Sigmoid(out)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			x, _ := g.Find("embedding")
			out, _ := g.Find("out")
			gate, ok := g.GateOf(x)
			if ok != c.want {
				t.Fatalf("found: %v, want %v", ok, c.want)
			}
			if !ok {
				return
			}
			var all []Value
			for v := x + 1; v <= out; v++ {
				all = append(all, v)
			}
			if gate.Alpha != f.alpha || gate.Limit != f.high || gate.In != x || gate.Out != out || !slices.Equal(gate.Nodes, all) {
				t.Errorf("got %+v", gate)
			}
			for v := range g.Nodes {
				if _, ok := g.GateOf(Value(v)); ok && Value(v) != x {
					t.Errorf("another at %s", g.Nodes[v].Name)
				}
			}
		})
	}
}
