package oracle

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"ossify/graph"
)

// Float32 sums of every usual order stay within the bound, and those of the
// worst order come near enough for the bound to be worth having.
func TestSumBound(t *testing.T) {
	orders := map[string]func(x, w []float32) float32{
		"one by one": func(x, w []float32) (s float32) {
			for i := range x {
				s += float32(x[i] * w[i])
			}
			return s
		},
		"backwards, fused": func(x, w []float32) (s float32) {
			for i := len(x) - 1; i >= 0; i-- {
				s = float32(math.FMA(float64(x[i]), float64(w[i]), float64(s)))
			}
			return s
		},
		"16 lanes": func(x, w []float32) (s float32) {
			var lanes [16]float32
			for i := range x {
				lanes[i%16] += float32(x[i] * w[i])
			}
			for _, v := range lanes {
				s += v
			}
			return s
		},
	}
	terms := map[string]func(r *rand.Rand, i, n int) (x, w float64){
		"normal":       func(r *rand.Rand, i, n int) (float64, float64) { return r.NormFloat64(), r.NormFloat64() },
		"one sign":     func(r *rand.Rand, i, n int) (float64, float64) { return r.Float64(), r.Float64() },
		"heavy tails":  func(r *rand.Rand, i, n int) (float64, float64) { return math.Exp(3 * r.NormFloat64()), r.NormFloat64() },
		"massive pair": func(r *rand.Rand, i, n int) (float64, float64) { return r.NormFloat64() * massive(i, n), 1 },
		"subnormal": func(r *rand.Rand, i, n int) (float64, float64) {
			return r.NormFloat64() * 0x1p-10, r.NormFloat64() * 0x1p-130
		},
	}
	runs := 200
	if testing.Short() {
		runs = 20
	}
	for kind, term := range terms {
		for _, n := range []int{1, 2, 3, 15, 16, 17, 31, 64, 90, 511, 2880, 5760} {
			b := &bounds{}
			used := 0.0
			r := rand.New(rand.NewPCG(uint64(n), 1))
			for range runs {
				x, w := make([]float32, n), make([]float32, n)
				x64, w64 := make([]float64, n), make([]float64, n)
				for i := range n {
					p, q := term(r, i, n)
					x[i], w[i] = float32(p), float32(q)
					x64[i], w64[i] = float64(x[i]), float64(w[i])
				}
				y, e := b.dot(x64, w64, 0)
				for name, order := range orders {
					off := math.Abs(float64(order(x, w)) - y)
					if !(off <= e) {
						t.Fatalf("%s, %d terms, %s: off by %g, bound %g", kind, n, name, off, e)
					}
					used = max(used, off/e)
				}
			}
			if n >= 90 && kind == "normal" && !(used > 0.1) {
				t.Errorf("%s, %d terms: the most that a sum needs of its bound is %g", kind, n, used)
			}
		}
	}
}

// massive is large at a quarter and at three quarters of the terms.
func massive(i, n int) float64 {
	if i == n/4 || i == 3*n/4 {
		return 1000
	}
	return 1
}

// Every operation has bounds, in both precisions; they hold the exact value,
// and are as narrow as float32 allows: 2^-13 of the rms, or no wider than the
// spacing of bfloat16 where steps within are rounded.
func TestEveryOpHasBounds(t *testing.T) {
	g, err := graph.Build(func(s graph.Scope) {
		x := s.At("embedding").Gather(s.At("tokens").Tokens(), 8, 64)
		n := s.At("norm").RMSNorm(x, 1e-5)
		rope := graph.Rope{Dim: 16, Theta: 150000, Factor: 32, Low: 1.5, High: 4.5, Concentration: 1.3}
		q := s.At("rope.q").Rotate(s.At("q").Linear(n, 64), rope)
		k := s.At("rope.k").Rotate(s.At("k").Linear(n, 32), rope)
		v := s.At("v").Columns(s.At("wide").Project(n, 48), 8, 32)
		a := s.At("attn").Attend(q, k, v, "sdpa", graph.Heads{Query: 4, KV: 2, Dim: 16, Window: 3})
		y := s.At("sum").Add(x, a)
		gate := s.At("gate").Linear(y, 4)
		best := s.At("best").TopK(gate, 2)
		weights := s.At("weights").Softmax(s.At("scores").Pick(gate, best))
		m := s.ExpertLinear(y, best, "mlp1", 4, 64)
		glu := s.At("clamp").Clamp(s.At("glu").Every(m, 0), -1, 7)
		up := s.At("up").Affine(s.At("linear").Every(m, 1), 1.702, 1)
		m = s.At("swiglu").Mul(s.At("out").Mul(glu, s.At("sigmoid").Sigmoid(glu)), up)
		m = s.ExpertLinear(m, best, "mlp2", 4, 64)
		s.At("end").Add(y, s.At("mix").Mix(m, weights))
	})
	if err != nil {
		t.Fatal(err)
	}
	w := noise{g}
	seen := map[graph.Op]bool{}
	for _, n := range g.Nodes {
		seen[n.Op] = true
	}
	for _, op := range graph.Ops() {
		if !seen[op] {
			t.Errorf("%v is in no node of the test", op)
		}
	}
	tokens, positions := []uint32{1, 5, 2, 7, 0, 3}, []int{0, 1, 2, 3, 4, 5}
	for _, half := range []bool{false, true} {
		a := Arithmetic{BF16: half}
		b := &bounds{a: a}
		exact := map[string][]float64{}
		// The exact values that follow from rounded ones.
		_, err := Run(t.Context(), g, w, tokens, positions, func(stage string, _ []int, v []float64) []float64 {
			exact[stage] = append([]float64(nil), v...)
			if stage == "tokens" || stage == "best" {
				return nil
			}
			own := make([]float64, len(v))
			for i, x := range v {
				own[i] = b.round(x)
			}
			return own
		})
		if err != nil {
			t.Fatal(err)
		}
		err = Bounds(t.Context(), g, w, tokens, positions, a, nil, func(stage string, _ []int, lo, hi []float64) ([]float64, []bool) {
			x, ok := exact[stage]
			if !ok { // a step within
				return nil, nil
			}
			rms, wide := 0.0, 0.0
			own := make([]float64, len(x))
			for i := range x {
				rms += x[i] * x[i] / float64(len(x))
				wide = max(wide, hi[i]-lo[i])
				own[i] = b.round(x[i])
				if slack := 0x1p-7 * math.Abs(x[i]) * 4; !half && !(lo[i]-math.Abs(x[i])*4*u <= x[i] && x[i] <= hi[i]+math.Abs(x[i])*4*u) || half && !(lo[i]-slack-0.02 <= x[i] && x[i] <= hi[i]+slack+0.02) {
					t.Fatalf("%s, bf16 %v: element %d is %g, bounds %g to %g", stage, half, i, x[i], lo[i], hi[i])
				}
			}
			most := 0x1p-13
			if half {
				most = 0x1p-5
			}
			if !(wide <= most*max(math.Sqrt(rms), 0x1p-10)) {
				t.Errorf("%s, bf16 %v: bounds %g apart, rms %g", stage, half, wide, math.Sqrt(rms))
			}
			if stage == "tokens" || stage == "best" {
				return x, nil
			}
			return own, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	bad := &graph.Graph{Nodes: []graph.Node{{Name: "x", Op: 250, Shape: graph.Shape{graph.T, 1}}}}
	if err := Bounds(t.Context(), bad, w, tokens, positions, Arithmetic{}, nil, func(string, []int, []float64, []float64) ([]float64, []bool) { return nil, nil }); err == nil {
		t.Error("an unknown operation has bounds")
	}
	if err := Bounds(t.Context(), g, w, tokens, positions[:1], Arithmetic{}, nil, nil); err == nil {
		t.Error("tokens without positions")
	}
}

// noise is weights drawn from the place.
type noise struct{ g *graph.Graph }

func (w noise) Row(p, i int, dst []float64) {
	r := rand.New(rand.NewPCG(uint64(p), uint64(i)))
	for j := range dst {
		// Values that bfloat16 has.
		dst[j] = float64(math.Float32frombits(math.Float32bits(float32(r.NormFloat64()/math.Sqrt(float64(len(dst))))) &^ 0xffff))
	}
}

// An embedding whose pow is one unit off is told apart where angles are large,
// and only there.
func TestThetaOfBounds(t *testing.T) {
	r := graph.Rope{Dim: 64, Theta: 150000, Factor: 32, Low: 8.092779115512402, High: 17.39802450158856, Concentration: 1.3465735902799727}
	off := make([]int, 32)
	off[6] = 1
	for pos, want := range map[int]bool{3: false, 3000: true, 131071: true} {
		x := make([]float64, 64)
		for i := range x {
			x[i] = float64(float32(math.Sin(float64(i + 1))))
		}
		lo, hi := RotateBounds(r, []int{pos}, x, Arithmetic{})
		lo2, hi2 := RotateBounds(r, []int{pos}, x, Arithmetic{Theta: off})
		apart := false
		for i := range x {
			if i%32 != 6 && (lo[i] != lo2[i] || hi[i] != hi2[i]) {
				t.Errorf("position %d: column %d moved", pos, i)
			}
			apart = apart || hi[i] < lo2[i] || hi2[i] < lo[i]
		}
		if apart != want {
			t.Errorf("position %d: told apart %v, want %v", pos, apart, want)
		}
	}
}

// Terms that drift in the order in which they come, as the values of keys one
// after the other, stay within the bound of partial sums, from either end; that
// of terms in any order is too narrow for some of them.
func TestDriftingSum(t *testing.T) {
	beyond, used := 0, 0.0
	for seed := range uint64(20_000) {
		r := rand.New(rand.NewPCG(seed, 2))
		n := 50 + r.IntN(200)
		terms := make([]float64, n) // float32 each
		var y, squares, size, partial, squared float64
		for i := range terms {
			p := (0.5 + r.Float64()) * math.Cos(math.Pi*float64(i)/float64(n)) / float64(n)
			terms[i] = f32(p)
			y += terms[i]
			partial += y
			squared += y * y
			squares += terms[i] * terms[i]
			size += math.Abs(terms[i])
		}
		path := max(squared, float64(n)*y*y-2*y*partial+squared)
		for range 2 {
			var s float32
			for _, p := range terms {
				s += float32(p)
			}
			off := math.Abs(float64(s) - y)
			used = max(used, off/ordered(n, y, squares, size, path))
			if !(off <= sum(n, y, squares, size)) {
				beyond++
			}
			slices.Reverse(terms)
		}
	}
	if !(used <= 1) || used < 0.3 || beyond == 0 {
		t.Errorf("%.2f of the bound at most, want 0.3 to 1; %d beyond that of any order", used, beyond)
	}
}

// A number below 2^-126 may be taken for 0 in a bfloat16 product of the
// reference, and in no other.
func TestFlush(t *testing.T) {
	x, w := []float64{1, 1}, []float64{0x1p-127, 0x1p-127}
	for _, tt := range []struct {
		a    Arithmetic
		zero bool
	}{
		{Arithmetic{}, false}, {Arithmetic{BF16: true}, false}, {Arithmetic{Flush: true}, false}, {Arithmetic{BF16: true, Flush: true}, true},
	} {
		b := &bounds{a: tt.a}
		if y, e := b.dot(x, w, 0); (y-e <= 0) != tt.zero {
			t.Errorf("%+v: %s", tt.a, fmt.Sprint(y, e))
		}
	}
}
