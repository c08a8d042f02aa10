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
		freq := r.Frequencies32(nil)
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
