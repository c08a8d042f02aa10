//go:build amd64 || arm64

package kernel

// attendLoops are the loops of a faster [vectorSet] over pages. They take
// queries queries at a time (or one) by block keys or columns; what is left of
// the columns is done by the set below.
type attendLoops struct {
	queries, block int

	// r(scale·r(q·k)) for block keys; q is [queries, dim], dst has the given stride.
	scoresHalf, scoresHalf1 func(dst *float32, stride int, q *float32, dim int, keys *uint16, scale float32, r *rounding)
	scoresFull, scoresFull1 func(dst *float32, stride int, q *float32, dim int, keys *float32, scale float32, r *rounding)

	// y += Σ w·v over n positions, for block columns; y is [queries, dim].
	valuesHalf, valuesHalf1 func(y *float32, dim int, w *float32, stride int, values *uint16, n int)
	valuesFull, valuesFull1 func(y *float32, dim int, w *float32, stride int, values *float32, n int)
}

// with returns v with attention by l.
func (l attendLoops) with(v vectorSet) vectorSet {
	v.Scores = func(dst []float32, stride int, q []float32, page Page, at Span, scale float32) {
		dim := page.dim()
		page.check(dim, at)
		if at.Lo >= at.Hi || len(q) < dim {
			return
		}
		n := len(q) / dim
		lo, hi := at.Lo/l.block*l.block, (at.Hi+l.block-1)/l.block*l.block
		_, _ = dst[lo], dst[(n-1)*stride+hi-1]
		for i := 0; i < n; {
			count := l.queries
			half, full := l.scoresHalf, l.scoresFull
			if n-i < count {
				count, half, full = 1, l.scoresHalf1, l.scoresFull1
			}
			for p := lo; p < hi; p += l.block {
				if page.Half != nil {
					half(&dst[i*stride+p], stride, &q[i*dim], dim, &page.Half[2*p], scale, &roundings[1])
				} else {
					full(&dst[i*stride+p], stride, &q[i*dim], dim, &page.Full[p], scale, &roundings[0])
				}
			}
			i += count
		}
	}
	below := v.columns
	columns := func(y, w []float32, stride int, page Page, at Span, lo int) {
		dim := page.dim()
		n, d := len(y)/dim, lo
		base := PageLen*dim + at.Lo*dim
		for ; d+l.block <= dim; d += l.block {
			for i := 0; i < n; {
				count := l.queries
				half, full := l.valuesHalf, l.valuesFull
				if n-i < count {
					count, half, full = 1, l.valuesHalf1, l.valuesFull1
				}
				if page.Half != nil {
					half(&y[i*dim+d], dim, &w[i*stride+at.Lo], stride, &page.Half[base+d], at.Hi-at.Lo)
				} else {
					full(&y[i*dim+d], dim, &w[i*stride+at.Lo], stride, &page.Full[base+d], at.Hi-at.Lo)
				}
				i += count
			}
		}
		if d < dim {
			below(y, w, stride, page, at, d)
		}
	}
	v.columns = columns
	v.AddValues = func(y, w []float32, stride int, page Page, at Span) {
		dim := page.dim()
		page.check(dim, at)
		if at.Lo >= at.Hi || len(y) < dim {
			return
		}
		_, _ = w[at.Lo], w[(len(y)/dim-1)*stride+at.Hi-1]
		columns(y, w, stride, page, at, 0)
	}
	return v
}
