package kernel

import (
	"fmt"
	"math"

	"ossify/float"
)

// PageLen is how many positions a page holds. Page i of a sequence holds the
// positions from i·PageLen.
const PageLen = 64

// A Page holds PageLen keys and values of one key/value head, as bfloat16 in
// Half or as float32 in Full; the other is nil. Either holds 2·PageLen·Dim
// elements: keys first, so laid out that neighbouring keys stand side by side.
//
//	Half: keys [Dim/2, PageLen, 2], values [PageLen, Dim]
//	Full: keys [Dim, PageLen],      values [PageLen, Dim]
//
// Dim is even. The product of a query and a key is summed from +0 by float32
// multiply-adds, for each pair of columns the odd one first. With Half
// the sum is rounded to bfloat16, as is its product with the scale.
//
// Values are summed, in order of position, from +0 by multiply-adds, and each
// page's sum is added to the result: errors grow with the page, not with the
// context, and depend on positions alone, never on how a sequence was cut.
type Page struct {
	Half []uint16
	Full []float32
}

// PageSize returns the number of elements of a page.
func PageSize(dim int) int { return 2 * PageLen * dim }

// A Span is a range of slots of a page: Lo ≤ p < Hi ≤ PageLen.
type Span struct{ Lo, Hi int }

// dim returns the width of a head.
func (p Page) dim() int { return max(len(p.Half), len(p.Full)) / (2 * PageLen) }

// check panics if a page is not one, or a span not within it: the loops of the
// faster sets do not look.
func (p Page) check(dim int, at Span) {
	if n := len(p.Half) + len(p.Full); dim == 0 || dim%2 != 0 || n != PageSize(dim) || at.Lo < 0 || at.Hi > PageLen {
		panic(fmt.Sprintf("kernel: slots %d to %d of a page of %d elements, want at most %d and an even width", at.Lo, at.Hi, n, PageLen))
	}
}

// Put stores the key and value of a slot: position modulo [PageLen]. With Half
// they are rounded to bfloat16.
func (p Page) Put(slot int, key, value []float32) {
	dim := p.dim()
	key, value = key[:dim], value[:dim]
	if p.Half == nil {
		for d, v := range key {
			p.Full[d*PageLen+slot] = v
		}
		copy(p.Full[PageLen*dim+slot*dim:], value)
		return
	}
	for d := 0; d < dim; d += 2 {
		pair := p.Half[d*PageLen+2*slot:][:2]
		pair[0], pair[1] = float.ToBF16(key[d]), float.ToBF16(key[d+1])
	}
	row := p.Half[PageLen*dim+slot*dim:][:dim]
	for d, v := range value {
		row[d] = float.ToBF16(v)
	}
}

// Get reads what Put stored.
func (p Page) Get(slot int, key, value []float32) {
	dim := p.dim()
	for d := range dim {
		key[d], value[d] = p.key(d, slot), p.value(slot, d)
	}
}

func (p Page) key(column, slot int) float32 {
	if p.Half == nil {
		return p.Full[column*PageLen+slot]
	}
	return float.FromBF16(p.Half[column&^1*PageLen+2*slot+column&1])
}

func (p Page) value(slot, column int) float32 {
	at := PageLen*p.dim() + slot*p.dim() + column
	if p.Half == nil {
		return p.Full[at]
	}
	return float.FromBF16(p.Half[at])
}

func scores(dst []float32, stride int, q []float32, page Page, at Span, scale float32) {
	dim, half := page.dim(), page.Half != nil
	page.check(dim, at)
	for i := 0; i*dim < len(q); i++ {
		q, dst := q[i*dim:][:dim], dst[i*stride:]
		var sums [PageLen]float32
		for d := 0; d < dim; d += 2 {
			for p := at.Lo; p < at.Hi; p++ {
				sums[p] = fma32(q[d], page.key(d, p), fma32(q[d+1], page.key(d+1, p), sums[p]))
			}
		}
		for p := at.Lo; p < at.Hi; p++ {
			dst[p] = rounded(rounded(sums[p], half)*scale, half)
		}
	}
}

func addValues(y, w []float32, stride int, page Page, at Span) {
	page.check(page.dim(), at)
	addColumns(y, w, stride, page, at, 0)
}

// addColumns is addValues for the columns from lo on.
func addColumns(y, w []float32, stride int, page Page, at Span, lo int) {
	dim := page.dim()
	for i := 0; i*dim < len(y); i++ {
		y, w := y[i*dim:][:dim], w[i*stride:]
		for d := lo; d < dim; d += 8 { // side by side, for each sum waits for itself
			var sums [8]float32
			y := y[d:min(d+8, dim)]
			for p := at.Lo; p < at.Hi; p++ {
				first := PageLen*dim + p*dim + d
				if page.Half != nil {
					for c, v := range page.Half[first:][:len(y)] {
						sums[c] = fma32(w[p], float.FromBF16(v), sums[c])
					}
				} else {
					for c, v := range page.Full[first:][:len(y)] {
						sums[c] = fma32(w[p], v, sums[c])
					}
				}
			}
			for c := range y {
				y[c] += sums[c]
			}
		}
	}
}

// An Attention is rows of queries over the pages of one key/value head. A row
// is the Group query heads that share it.
type Attention struct {
	Group, Dim int
	Half       bool      // round as the reference in bfloat16 does
	Scale      float32   // of each product of a query and a key
	Sinks      []float32 // [Group], or nil

	Pages []Page // in order; Pages[i] holds the positions from First + i·PageLen
	First int    // a multiple of PageLen

	// Row t sees the positions Lo[t] ≤ p < Hi[t], all of them within Pages.
	Lo, Hi []int

	Q, Y             []float32 // row t's [Group, Dim] begins at t·stride
	QStride, YStride int
}

// blockScores is how many scores a block of rows may take: 512 KiB, so that
// they stay in a core's cache while the pages pass by.
const blockScores = 1 << 17

// blockRows is how many rows at most share the loading of a page.
const blockRows = 16

// Attend computes the rows of a. In bfloat16 it rounds each product, its scaled
// value, the weight and the result. Rows without a position in view are 0.
// buf is the caller's memory between calls, grown as needed and returned.
func (v *vectorSet) Attend(a *Attention, buf []float32) []float32 {
	for t := 0; t < len(a.Lo); {
		n := 1
		for n < blockRows && t+n < len(a.Lo) && (n+1)*a.Group*a.span(t, t+n+1).len() <= blockScores {
			n++
		}
		buf = v.attendBlock(a, t, t+n, buf)
		t += n
	}
	return buf
}

// sink returns the sink of query head g, −Inf if there is none.
func (a *Attention) sink(g int) float32 {
	if a.Sinks == nil {
		return float32(math.Inf(-1))
	}
	return a.Sinks[g]
}

// A pages is a range of indices of [Attention.Pages].
type pages struct{ first, end int }

func (p pages) len() int { return (p.end - p.first) * PageLen }

// span returns the pages that rows t to end see.
func (a *Attention) span(t, end int) pages {
	s := pages{len(a.Pages), 0}
	for ; t < end; t++ {
		if a.Lo[t] < a.Hi[t] {
			s.first = min(s.first, (a.Lo[t]-a.First)/PageLen)
			s.end = max(s.end, (a.Hi[t]-a.First+PageLen-1)/PageLen)
		}
	}
	s.first = min(s.first, s.end)
	return s
}

// in returns the part of page i that row t sees, and whether there is one.
func (a *Attention) in(i, t int) (Span, bool) {
	base := a.First + i*PageLen
	s := Span{max(a.Lo[t]-base, 0), min(a.Hi[t]-base, PageLen)}
	return s, s.Lo < s.Hi
}

// pad returns the scores from lo to hi and, if there is room, others of −Inf that
// make them whole steps of a vector: they add 0 to a softmax.
func pad(s []float32, lo, hi int) []float32 {
	const step = 16
	end := hi + -(hi-lo)&(step-1)
	if end > len(s) {
		return s[lo:hi]
	}
	for i := hi; i < end; i++ {
		s[i] = float32(math.Inf(-1))
	}
	return s[lo:end]
}

func (v *vectorSet) attendBlock(a *Attention, t, end int, buf []float32) []float32 {
	span, width := a.span(t, end), a.Group*a.Dim
	stride := span.len()
	if n := (end - t) * a.Group * stride; n > len(buf) {
		buf = make([]float32, n)
	}
	row := func(t0 int) []float32 { return buf[(t0-t)*a.Group*stride:] }
	y := func(t int) []float32 { return a.Y[t*a.YStride:][:width] }

	for i := span.first; i < span.end; i++ {
		for t := t; t < end; t++ {
			if at, ok := a.in(i, t); ok {
				v.Scores(row(t)[(i-span.first)*PageLen:], stride, a.Q[t*a.QStride:][:width], a.Pages[i], at, a.Scale)
			}
		}
	}
	base := a.First + span.first*PageLen
	for t := t; t < end; t++ {
		clear(y(t))
		for g := range a.Group {
			if a.Lo[t] < a.Hi[t] {
				s := pad(row(t)[g*stride:][:stride], a.Lo[t]-base, a.Hi[t]-base)
				v.Softmax(s, s, a.sink(g), a.Half)
			}
		}
	}
	for i := span.first; i < span.end; i++ {
		for t := t; t < end; t++ {
			if at, ok := a.in(i, t); ok {
				v.AddValues(y(t), row(t)[(i-span.first)*PageLen:], stride, a.Pages[i], at)
			}
		}
	}
	for t := t; t < end; t++ {
		if a.Half {
			v.Round(y(t), y(t))
		}
	}
	return buf
}
