package engine

import (
	"math"

	"ossify/float"
	"ossify/graph"
)

// turns are the cosines and sines, concentration included, of the rows of a
// pass by column pair.
type turns struct {
	cos, sin []float32 // [rows, Dim/2]
	freq     []float32
}

func (c *turns) at(t, half int) (cos, sin []float32) {
	return c.cos[t*half:][:half], c.sin[t*half:][:half]
}

// turn computes the turns of the pass.
func (r *runner) turn() {
	for i, rope := range r.plan.ropes {
		c := &r.turns[i]
		if c.freq == nil {
			c.freq = rope.Frequencies32(nil)
		}
		n := len(c.freq)
		grow(&c.cos, len(r.pos)*n)
		grow(&c.sin, len(r.pos)*n)
		for t, at := range r.pos {
			cos, sin := c.at(t, n)
			r.turnsAt(cos, sin, rope, c.freq, at)
		}
	}
}

// turnsAt writes those of one position.
func (r *runner) turnsAt(cos, sin []float32, rope graph.Rope, freq []float32, pos int) {
	conc := float32(rope.Concentration)
	for i, f := range freq {
		s, c := sincos(float64(float32(pos) * f))
		cos[i], sin[i] = float32(c)*conc, float32(s)*conc
		if r.m.half {
			cos[i], sin[i] = float.RoundBF16(cos[i]), float.RoundBF16(sin[i])
		}
	}
}

// sincos returns sin x and cos x for |x| < 2^30, by multiply-adds alone: those of
// package math may be fused or not, as the processor has it, and this engine's
// bits are the same on all.
func sincos(x float64) (sin, cos float64) {
	// x = n·π/2 + r, with π/2 in three parts, and |r| ≤ π/4.
	n := math.RoundToEven(x * (2 / math.Pi))
	r := math.FMA(-n, 0x1.921fb54442d18p+0, x)
	r = math.FMA(-n, 0x1.1a62633145c07p-54, r)
	r = math.FMA(-n, -0x1.f1976b7ed8fbcp-110, r)
	// Taylor's series: the first term left out is below 2^-54 of the sum.
	z := r * r
	s := 0.0
	for _, c := range [...]float64{-1. / 1307674368000, 1. / 6227020800, -1. / 39916800, 1. / 362880, -1. / 5040, 1. / 120, -1. / 6} {
		s = math.FMA(s, z, c)
	}
	s = math.FMA(s*z, r, r)
	c := 0.0
	for _, v := range [...]float64{1. / 20922789888000, -1. / 87178291200, 1. / 479001600, -1. / 3628800, 1. / 40320, -1. / 720, 1. / 24, -1. / 2, 1} {
		c = math.FMA(c, z, v)
	}
	switch int64(n) & 3 {
	case 0:
		return s, c
	case 1:
		return c, -s
	case 2:
		return -s, -c
	}
	return -c, s
}

// rotateAdjacent is kernel.Set's Rotate where columns 2i and 2i+1 turn together.
func rotateAdjacent(y, x, cos, sin []float32, round func([]float32)) {
	one := func(v float32) float32 {
		a := [1]float32{v}
		round(a[:])
		return a[0]
	}
	dim := 2 * len(cos)
	for h := 0; h < len(x); h += dim {
		for i := range cos {
			a, b := x[h+2*i], x[h+2*i+1]
			y[h+2*i] = one(one(float32(a*cos[i])) - one(float32(b*sin[i])))
			y[h+2*i+1] = one(one(float32(b*cos[i])) + one(float32(a*sin[i])))
		}
	}
}
