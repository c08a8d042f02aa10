package engine

import (
	"math"

	"ossify/graph"
)

// turns are the cosines and sines, concentration included, of rows by column
// pair.
type turns struct {
	cos, sin mat // [rows, Dim/2]
}

// turnsAt returns the turns of the rows at pos, which are the last of the
// pass. They are computed once a pass.
func (p *pass) turnsAt(r graph.Rope, pos []int) turns {
	c, ok := p.turns[r]
	if !ok {
		freq := frequencies(r)
		n := len(p.pos)
		c = turns{p.alloc(n, len(freq)), p.alloc(n, len(freq))}
		conc := float32(r.Concentration)
		for t, at := range p.pos {
			for i, f := range freq {
				sin, cos := math.Sincos(float64(float32(at) * f))
				c.cos.row(t)[i] = p.rounded(float32(cos) * conc)
				c.sin.row(t)[i] = p.rounded(float32(sin) * conc)
			}
		}
		p.turns[r] = c
	}
	return turns{c.cos.last(len(pos)), c.sin.last(len(pos))}
}

// frequencies returns f(i) of [graph.Rope], each step in float32 as
// RotaryEmbedding has it: at position 4,096 a last bit of f moves an angle by
// 2e-4, so better arithmetic would be another model.
func frequencies(r graph.Rope) []float32 {
	freq := make([]float32, r.Dim/2)
	low, width := float32(r.Low), float32(r.High-r.Low)
	for i := range freq {
		theta := float32(math.Pow(r.Theta, float64(float32(2*i)/float32(r.Dim))))
		extrapolation := 1 / theta
		if r.Factor <= 1 {
			freq[i] = extrapolation
			continue
		}
		interpolation := 1 / float32(float32(r.Factor)*theta)
		ramp := (float32(i) - low) / width
		mask := 1 - min(max(ramp, 0), 1)
		freq[i] = float32(interpolation*float32(1-mask)) + float32(extrapolation*mask)
	}
	return freq
}

// rotate turns one head. The reference rounds each product and each sum.
func (p *pass) rotate(y, x []float32, c turns, t int, adjacent bool) {
	cos, sin := c.cos.row(t), c.sin.row(t)
	half := len(cos)
	for i := range half {
		a, b := i, i+half
		if adjacent {
			a, b = 2*i, 2*i+1
		}
		y[a] = p.rounded(p.rounded(x[a]*cos[i]) - p.rounded(x[b]*sin[i]))
		y[b] = p.rounded(p.rounded(x[b]*cos[i]) + p.rounded(x[a]*sin[i]))
	}
}
