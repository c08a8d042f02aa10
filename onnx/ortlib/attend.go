package ortlib

import (
	"fmt"
	"math"
	"slices"

	"ossify/float"
	"ossify/kernel"
)

// hidden is what masks hold where a query does not see a key.
const hidden = -math.MaxFloat32

// An attention is a call of Attend.
type attention struct {
	f                  *Function
	batch, seq, past   int
	heads, kv, dim     int // query heads, key/value heads, and their width
	query, key, value  []float32
	pastKey, pastValue []float32
	mask               []float32 // [batch or 1, seq, past+seq]
	maskBatch          int
	sinks              []float32 // [heads], or nil
	views              []view    // [maskBatch·seq]
}

// A view is what a query sees: the positions from lo to hi, or, if they are not a
// run, those of the list.
type view struct {
	lo, hi int
	list   []int32
}

// proveAttend checks q [B, S, H·D]; k [B, S, KV·D], past keys [B, KV, P, D]; v and
// past values alike; the mask [B, 1, 1, S, P+S], 0 or hidden; and, or not, sinks
// [H]. The outputs are [B, S, H·D] and keys and values [B, KV, P+S, D].
//
// The scale is 1/√D: an exported Attend has no other.
func (f *Function) proveAttend(in []Tensor) (call, error) {
	refuse := func(what string, t Tensor, want string) (call, error) {
		return nil, fmt.Errorf("ossify: Attend: %s %v, want %s", what, t, want)
	}
	if len(in) != 6 && len(in) != 7 {
		return nil, fmt.Errorf("ossify: Attend of %d inputs, want 6 or 7", len(in))
	}
	q, k, pastKey, v, pastValue, mask := in[0], in[1], in[2], in[3], in[4], in[5]
	for i, t := range in[:6] {
		if t.Type != Float {
			return refuse(fmt.Sprintf("input %d", i), t, "float")
		}
	}
	if len(q.Shape) != 3 {
		return refuse("queries", q, "[B, S, H·D]")
	}
	if len(pastKey.Shape) != 4 || pastKey.Shape[0] != q.Shape[0] || pastKey.Shape[1] < 1 || pastKey.Shape[3] < 2 || pastKey.Shape[3]%2 != 0 {
		return refuse("past keys", pastKey, fmt.Sprintf("[%d, KV, P, D], D even", q.Shape[0]))
	}
	c := &attention{f: f, batch: q.Shape[0], seq: q.Shape[1], past: pastKey.Shape[2], kv: pastKey.Shape[1], dim: pastKey.Shape[3]}
	c.heads = q.Shape[2] / c.dim
	if c.heads*c.dim != q.Shape[2] || c.heads%c.kv != 0 || c.heads == 0 {
		return refuse("queries", q, fmt.Sprintf("a multiple of %d heads of %d", c.kv, c.dim))
	}
	now := []int{c.batch, c.seq, c.kv * c.dim}
	switch {
	case !slices.Equal(pastValue.Shape, pastKey.Shape):
		return refuse("past values", pastValue, fmt.Sprint(pastKey.Shape))
	case !slices.Equal(k.Shape, now):
		return refuse("keys", k, fmt.Sprint(now))
	case !slices.Equal(v.Shape, now):
		return refuse("values", v, fmt.Sprint(now))
	}
	total := c.past + c.seq
	if len(mask.Shape) != 5 || !slices.Equal(mask.Shape[1:], []int{1, 1, c.seq, total}) || mask.Shape[0] != c.batch && mask.Shape[0] != 1 {
		return refuse("mask", mask, fmt.Sprintf("[%d, 1, 1, %d, %d]", c.batch, c.seq, total))
	}
	if len(in) == 7 {
		s := in[6]
		if s.Type != Bfloat16 && s.Type != Float || !slices.Equal(s.Shape, []int{c.heads}) {
			return refuse("sinks", s, fmt.Sprintf("bfloat16 or float [%d]", c.heads))
		}
		c.sinks = make([]float32, c.heads)
		if s.Type == Float {
			float.DecodeF32(c.sinks, s.Data)
		} else {
			float.DecodeBF16(c.sinks, s.Data)
		}
	}
	c.query, c.key, c.value = floats(q.Data), floats(k.Data), floats(v.Data)
	c.pastKey, c.pastValue = floats(pastKey.Data), floats(pastValue.Data)
	c.mask, c.maskBatch = floats(mask.Data), mask.Shape[0]
	c.views = make([]view, c.maskBatch*c.seq)
	for i := range c.views {
		var err error
		if c.views[i], err = viewOf(c.mask[i*total:][:total]); err != nil {
			return nil, fmt.Errorf("ossify: Attend: mask of row %d: %w", i, err)
		}
	}
	return c, nil
}

// viewOf reads a row of a mask.
func viewOf(mask []float32) (view, error) {
	var v view
	seen := 0
	for p, m := range mask {
		switch m {
		case 0:
			if seen == 0 {
				v.lo = p
			}
			seen++
			v.hi = p + 1
		case hidden:
		default:
			return v, fmt.Errorf("%g at %d, want 0 or %g", m, p, float32(hidden))
		}
	}
	if seen == v.hi-v.lo {
		return v, nil
	}
	v.list = make([]int32, 0, seen)
	for p, m := range mask {
		if m == 0 {
			v.list = append(v.list, int32(p))
		}
	}
	return v, nil
}

func (c *attention) shapes() [][]int {
	present := []int{c.batch, c.kv, c.past + c.seq, c.dim}
	return [][]int{{c.batch, c.seq, c.heads * c.dim}, present, present}
}

// attendScratch is what a worker needs: the pages of one head.
type attendScratch struct {
	pages  []kernel.Page
	scores []float32
	lo, hi []int
}

// page returns an empty one, the i-th.
func (s *attendScratch) page(i, dim int) kernel.Page {
	for len(s.pages) <= i {
		s.pages = append(s.pages, kernel.Page{})
	}
	if n := kernel.PageSize(dim); len(s.pages[i].Full) != n {
		s.pages[i].Full = make([]float32, n)
	}
	return s.pages[i]
}

// run computes each key/value head of each sequence as a unit.
func (c *attention) run(s *scratch, out [][]float32, p Parallel) {
	p(c.batch*c.kv, func(i int) {
		w, _ := s.attend.Get().(*attendScratch)
		if w == nil {
			w = &attendScratch{}
		}
		defer s.attend.Put(w)
		c.head(w, i/c.kv, i%c.kv, out)
	})
}

// head appends the new keys and values of a head to those of the past, which ONNX
// Runtime keeps apart, and attends to them.
func (c *attention) head(w *attendScratch, b, kv int, out [][]float32) {
	total, dim := c.past+c.seq, c.dim
	keys := out[1][(b*c.kv+kv)*total*dim:][:total*dim]
	values := out[2][(b*c.kv+kv)*total*dim:][:total*dim]
	old := (b*c.kv + kv) * c.past * dim
	copy(keys, c.pastKey[old:][:c.past*dim])
	copy(values, c.pastValue[old:][:c.past*dim])
	for t := range c.seq {
		from := ((b*c.seq+t)*c.kv + kv) * dim
		copy(keys[(c.past+t)*dim:][:dim], c.key[from:])
		copy(values[(c.past+t)*dim:][:dim], c.value[from:])
	}

	if c.seq == 0 {
		return
	}
	views := c.views
	if c.maskBatch > 1 {
		views = views[b*c.seq:][:c.seq]
	}
	lo, hi := total, 0
	for _, v := range views {
		if v.list == nil && v.lo < v.hi {
			lo, hi = min(lo, v.lo), max(hi, v.hi)
		}
	}
	group := c.heads / c.kv
	a := kernel.Attention{Group: group, Dim: dim, Scale: float32(1 / math.Sqrt(float64(dim))), QStride: c.heads * dim, YStride: c.heads * dim}
	if c.sinks != nil {
		a.Sinks = c.sinks[kv*group:][:group]
	}
	at := func(t int) int { return (b*c.seq+t)*c.heads*dim + kv*group*dim }
	a.First = lo / kernel.PageLen * kernel.PageLen
	n := 0
	for p := a.First; p < hi; p += kernel.PageLen {
		end := min(p+kernel.PageLen, total)
		fill(w.page(n, dim), keys[p*dim:end*dim], values[p*dim:end*dim])
		n++
	}
	w.lo, w.hi = w.lo[:0], w.hi[:0]
	a.Pages = w.pages[:n]
	for t := range c.seq {
		v := views[t]
		if v.list != nil { // computed below
			v = view{}
		}
		w.lo, w.hi = append(w.lo, v.lo), append(w.hi, v.hi)
	}
	a.Lo, a.Hi, a.Q, a.Y = w.lo, w.hi, c.query[at(0):], out[0][at(0):]
	w.scores = c.f.set.Attend(&a, w.scores)

	for t, v := range views {
		if v.list != nil {
			c.scattered(w, &a, v.list, keys, values, c.query[at(t):], out[0][at(t):])
		}
	}
}

// scattered computes a row that does not see a run of positions.
func (c *attention) scattered(w *attendScratch, a *kernel.Attention, list []int32, keys, values, q, y []float32) {
	one, dim := *a, c.dim
	n := (len(list) + kernel.PageLen - 1) / kernel.PageLen
	for i, p := range list {
		w.page(i/kernel.PageLen, dim).Put(i%kernel.PageLen, keys[int(p)*dim:][:dim], values[int(p)*dim:][:dim])
	}
	one.Pages, one.First, one.Lo, one.Hi, one.Q, one.Y = w.pages[:n], 0, []int{0}, []int{len(list)}, q, y
	w.scores = c.f.set.Attend(&one, w.scores)
}

// fill puts keys and values [n ≤ PageLen, dim] into the first slots of a page.
func fill(page kernel.Page, keys, values []float32) {
	const n, run = kernel.PageLen, 8
	dim := len(page.Full) / (2 * n)
	slots, slot := len(keys)/dim, 0
	// Eight keys at a time, so that what is written lies together.
	for ; slot+run <= slots; slot += run {
		var k [run][]float32
		for i := range k {
			k[i] = keys[(slot+i)*dim:][:dim]
		}
		k0, k1, k2, k3, k4, k5, k6, k7 := k[0], k[1][:dim], k[2][:dim], k[3][:dim], k[4][:dim], k[5][:dim], k[6][:dim], k[7][:dim]
		for d := range dim {
			to := page.Full[d*n+slot:][:run:run]
			to[0], to[1], to[2], to[3], to[4], to[5], to[6], to[7] = k0[d], k1[d], k2[d], k3[d], k4[d], k5[d], k6[d], k7[d]
		}
	}
	for ; slot < slots; slot++ {
		for d, k := range keys[slot*dim:][:dim] {
			page.Full[d*n+slot] = k
		}
	}
	copy(page.Full[n*dim:], values)
}
