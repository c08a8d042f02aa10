package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"ossify/engine/internal/screen"
	"ossify/float"
	"ossify/graph"
	"ossify/internal/huge"
	"ossify/internal/mapped"
	"ossify/kernel"
)

// A Top is a token and its logit.
type Top struct {
	ID    uint32
	Logit float32
}

// screened is what a model has once [Model.Screen] is done.
type screened struct {
	plan     *plan // as far as the input of the last matrix
	screen   *screen.Screen
	param    int // the last matrix
	rounding screen.Rounding
}

// Screen makes a copy of the last matrix in three eighths of its bytes, 0.43 GB for
// gpt-oss, so that [Session.NextTop] need not read the matrix. What NextTop returns is
// the same with it and without. It fails if the model does not end with a
// matrix of its own.
func (m *Model) Screen(ctx context.Context) error {
	if m.screens.Load() != nil {
		return nil
	}
	n := &m.g.Nodes[m.g.Output()]
	if n.Op != graph.Linear || len(n.Params) != 1 || len(m.w.Sources(n.Params[0])) != 1 {
		return errors.New("engine: no screen for a model that does not end with one matrix")
	}
	shape := m.g.Params[n.Params[0]].Shape
	s := &screened{
		plan:     newPlan(m, true, n.In[0]),
		param:    n.Params[0],
		rounding: screen.Rounding{Sum: screen.SumError(shape[1])},
	}
	if m.half {
		s.rounding.Result = 0x1p-8
	}
	var free func()
	var copied []byte
	alloc := func(n int) []byte {
		copied, free = huge.Alloc(n)
		return copied
	}
	err := mapped.Catch(func() (err error) {
		from := kernel.Matrix{Kind: kernel.BF16, Rows: shape[0], Cols: shape[1], Data: m.w.Sources(s.param)[0].Data.Data}
		s.screen, err = screen.New(ctx, from, alloc, m.split)
		m.settle(copied)
		return err
	})
	m.own(free) // whether it succeeds or not
	if err != nil {
		return err
	}
	m.screens.CompareAndSwap(nil, s)
	return nil
}

// NextTop processes tokens, as Next does, and returns the k largest logits of
// the last, largest first, the lower id first of equal ones. k is at least 1; all
// logits come if there are fewer.
func (s *Session) NextTop(ctx context.Context, tokens []uint32, k int) ([]Top, error) {
	m := s.m
	c := m.screens.Load()
	if c == nil {
		logits, err := s.Next(ctx, tokens)
		if err != nil {
			return nil, err
		}
		return largest(logits, nil, k), nil
	}
	parts := []Part{{s, tokens, min(1, len(tokens))}}
	if err := m.checkParts(parts); err != nil {
		return nil, err
	}
	x, err := m.step(ctx, parts, c.plan, nil)
	if err != nil {
		return nil, err
	}
	var best []Top
	err = mapped.Catch(func() error {
		products := m.products(c, x[0])
		rows, logits := c.screen.Find(&m.o.Kernels, x[0], k, c.rounding, m.split, products)
		if rows == nil {
			logits = products(nil)
		}
		best = largest(logits, rows, k)
		return nil
	})
	return best, err
}

// products returns a function that computes the last matrix's products with x as
// a pass does: of rows, which are in order, or of all if rows is nil.
func (m *Model) products(c *screened, x []float32) func(rows []int32) []float32 {
	w := m.dense[c.param][0]
	var a kernel.Activations
	m.o.Kernels.Pack(&a, w.Kind, m.half, x, 1, len(x), len(x))
	return func(rows []int32) []float32 {
		n := w.Rows
		if rows != nil {
			n = len(rows)
		}
		y := make([]float32, n)
		m.split(n, func(lo, hi int) {
			j := kernel.Job{W: w, Lo: lo, Hi: hi, X: &a, Y: y, Stride: n}
			var scratch kernel.Scratch
			if rows == nil {
				m.o.Kernels.Multiply(&j, &scratch)
				return
			}
			j.Lo = 0
			for lo < hi { // a row, with those after it
				r, n := int(rows[lo]), 1
				for lo+n < hi && int(rows[lo+n]) == r+n {
					n++
				}
				j.W, j.Hi, j.Y, j.Stride = w.Part(r, r+n), n, y[lo:lo+n], n
				m.o.Kernels.Multiply(&j, &scratch)
				lo += n
			}
		})
		if m.half {
			for i, v := range y {
				y[i] = float.RoundBF16(v)
			}
		}
		return y
	}
}

// largest returns the k largest of logits, whose ids are rows, or 0, 1, 2 and so
// on.
func largest(logits []float32, rows []int32, k int) []Top {
	best := make([]Top, 0, max(0, min(k, len(logits)))+1)
	order := func(a, b Top) int {
		return cmp.Or(cmp.Compare(b.Logit, a.Logit), cmp.Compare(a.ID, b.ID)) // NaN last
	}
	for i, l := range logits {
		t := Top{uint32(i), l}
		if rows != nil {
			t.ID = uint32(rows[i])
		}
		if len(best) >= k && (k < 1 || order(t, best[k-1]) > 0) {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, t, order)
		best = slices.Insert(best, at, t)
		best = best[:min(k, len(best))]
	}
	return best
}

// split calls f on ranges that cover 0 to n, by as many goroutines as there are
// workers, and waits. There are more ranges, so that one that others of the
// machine hold up has fewer of them.
func (m *Model) split(n int, f func(lo, hi int)) {
	parts := min(16*m.o.Workers, n)
	var next atomic.Int64
	mapped.Each(min(m.o.Workers, parts), func(int) {
		for i := int(next.Add(1)) - 1; i < parts; i = int(next.Add(1)) - 1 {
			f(i*n/parts, (i+1)*n/parts)
		}
	})
}
