package ortlib

import (
	"fmt"
	"slices"
)

// rows is a call of InterleavedSwiGLU or of Mix: each row of the output is of the
// same row of x.
type rows struct {
	f       *Function
	n       int // rows
	x, w    []float32
	columns int // of x's row
	k       int // of w's row
	width   int // of the output's row
	out     []int
}

// proveRows checks x [.., 2·N] of InterleavedSwiGLU, the output is [.., N]; or
// weights [.., K] and x [.., K, N] of Mix, the output is [.., N].
func (f *Function) proveRows(in []Tensor) (call, error) {
	name, want := "InterleavedSwiGLU", 1
	if f.op == mix {
		name, want = "Mix", 2
	}
	if len(in) != want {
		return nil, fmt.Errorf("ossify: %s of %d inputs, want %d", name, len(in), want)
	}
	x := in[want-1]
	c := &rows{f: f, x: floats(x.Data)}
	rank := len(x.Shape)
	switch {
	case x.Type != Float || rank < want:
		return nil, fmt.Errorf("ossify: %s of x %v, want float, %d dimensions or more", name, x, want)
	case f.op == gate:
		if c.columns = x.Shape[rank-1]; c.columns%2 != 0 {
			return nil, fmt.Errorf("ossify: %s of x %v, want pairs of columns", name, x)
		}
		c.width = c.columns / 2
		c.out = append(slices.Clone(x.Shape[:rank-1]), c.width)
	default:
		w := in[0]
		if w.Type != Float || !slices.Equal(w.Shape, x.Shape[:rank-1]) {
			return nil, fmt.Errorf("ossify: %s: weights %v, want float %v", name, w, x.Shape[:rank-1])
		}
		c.w, c.k, c.width = floats(w.Data), x.Shape[rank-2], x.Shape[rank-1]
		c.columns = c.k * c.width
		c.out = append(slices.Clone(x.Shape[:rank-2]), c.width)
	}
	c.n, _ = Elements(c.out[:len(c.out)-1])
	return c, nil
}

func (c *rows) shapes() [][]int { return [][]int{c.out} }

// block is about how many values of x are a unit of work.
const block = 64 << 10

func (c *rows) run(_ *scratch, out [][]float32, p Parallel) {
	each := max(1, block/max(1, c.columns))
	p((c.n+each-1)/each, func(i int) {
		for row := i * each; row < min(c.n, (i+1)*each); row++ {
			x, y := c.x[row*c.columns:][:c.columns], out[0][row*c.width:][:c.width]
			if c.f.op == gate {
				c.f.set.SwiGLU(y, x, c.f.Alpha, c.f.Limit, false)
			} else {
				c.f.set.Mix(y, x, c.width, c.w[row*c.k:][:c.k], false)
			}
		}
	})
}
