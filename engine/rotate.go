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
		s, c := math.Sincos(float64(float32(pos) * f))
		cos[i], sin[i] = float32(c)*conc, float32(s)*conc
		if r.m.half {
			cos[i], sin[i] = float.RoundBF16(cos[i]), float.RoundBF16(sin[i])
		}
	}
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
			y[h+2*i] = one(one(a*cos[i]) - one(b*sin[i]))
			y[h+2*i+1] = one(one(b*cos[i]) + one(a*sin[i]))
		}
	}
}
