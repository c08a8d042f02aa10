package engine

import (
	"fmt"
	"math"
	"sort"

	"ossify/graph"
	"ossify/kernel"
)

// queryRows is how many rows of queries a task takes at most.
const queryRows = 32

// An attendStep is attention over the cache. A task is some rows of one
// sequence and the query heads of one key/value head.
type attendStep struct{ node, layer int }

func (s *attendStep) tasks(r *runner) (int, error) {
	tail := r.plan.places[s.node].tail
	r.blocks = r.blocks[:0]
	for i := range r.parts {
		p := r.parts[i].rows
		if tail {
			p = r.parts[i].asked
		}
		for lo := p.lo; lo < p.hi; lo += queryRows {
			r.blocks = append(r.blocks, rows{i, lo, min(lo+queryRows, p.hi)})
		}
	}
	return len(r.blocks) * r.m.g.Nodes[s.node].Heads.KV, nil
}

func (s *attendStep) do(r *runner, w *worker, task int) {
	n := &r.m.g.Nodes[s.node]
	h := n.Heads
	tail := r.plan.places[s.node].tail
	b, kv := r.blocks[task/h.KV], task%h.KV
	l := r.parts[b.part].layers[s.layer]
	pos := r.positions(tail)
	q, out := r.in(n.In[0], tail), r.vals[s.node]
	lo, hi := grow(&w.lo, b.hi-b.lo), grow(&w.hi, b.hi-b.lo)
	for i, p := range pos[b.lo:b.hi] {
		lo[i], hi[i] = view(h, p)
	}
	group := h.Query / h.KV
	first := kv * group * h.Dim
	a := &w.att
	*a = kernel.Attention{
		Group: group, Dim: h.Dim, Half: r.m.half, Scale: scaleOf(h), Sinks: r.sinks(n, kv),
		Pages: l.pages[kv], First: l.first * kernel.PageLen, Lo: lo, Hi: hi,
		QStride: q.stride, YStride: out.stride,
	}
	if q.sel == nil {
		a.Q, a.Y = q.data[b.lo*q.stride+first:], out.data[b.lo*out.stride+first:]
		w.scores = r.m.o.Kernels.Attend(a, w.scores)
		return
	}
	for t := b.lo; t < b.hi; t++ { // rows of q do not lie one after the other
		a.Lo, a.Hi = lo[t-b.lo:][:1], hi[t-b.lo:][:1]
		a.Q, a.Y = q.row(t)[first:], out.row(t)[first:]
		w.scores = r.m.o.Kernels.Attend(a, w.scores)
	}
}

// view returns the positions lo ≤ p < hi that the query at pos sees.
func view(h graph.Heads, pos int) (lo, hi int) {
	if h.Window > 0 {
		lo = max(0, pos-h.Window+1)
	}
	return lo, max(lo, pos-h.Delay+1)
}

func scaleOf(h graph.Heads) float32 { return float32(1 / math.Sqrt(float64(h.Dim))) }

// sinks returns those of the query heads of a key/value head.
func (r *runner) sinks(n *graph.Node, kv int) []float32 {
	if len(n.Params) == 0 {
		return nil
	}
	group := n.Heads.Query / n.Heads.KV
	return r.m.vectors[n.Params[0]][kv*group:][:group]
}

// In the open plan attention is a keepStep and four openAttends, one query head
// at a time.

// A keepStep puts keys and values into the cache. In a replay that is a fresh
// one, and a key's slot there is its rank: chosen positions alone leave gaps.
type keepStep struct{ node, layer int }

func (s *keepStep) tasks(r *runner) (int, error) {
	n := &r.m.g.Nodes[s.node]
	k, v := r.vals[n.In[1]], r.vals[n.In[2]]
	if !r.replay {
		return len(r.pos), nil
	}
	r.keys = append(r.keys[:0], r.pos...)
	if keys := len(k.data) / k.width; k.stride == k.width && keys != len(r.pos) && len(v.data) == len(k.data) { // a tap gave every position
		r.keys = r.keys[:0]
		for j := range keys {
			r.keys = append(r.keys, j)
		}
	}
	if kr, vr := len(k.data)/k.width, len(v.data)/v.width; kr != len(r.keys) || vr != len(r.keys) || r.keys[len(r.keys)-1] < r.pos[len(r.pos)-1] {
		return 0, fmt.Errorf("engine: %s: %d keys and %d values, want %d", n.Name, kr, vr, max(len(r.keys), r.pos[len(r.pos)-1]+1))
	}
	r.parts[0].layers[s.layer] = newLayer(n.Heads)
	r.parts[0].layers[s.layer].reserve(r.m, 0, len(r.keys))
	return len(r.keys), nil
}

func (s *keepStep) do(r *runner, _ *worker, t int) {
	n := &r.m.g.Nodes[s.node]
	k, v := r.vals[n.In[1]], r.vals[n.In[2]]
	slot, part := t, 0
	if !r.replay {
		slot, part = r.pos[t], int(r.owner[t])
	}
	r.parts[part].layers[s.layer].put(slot, k.row(t), v.row(t))
}

// An openAttend is a phase of attention: scores, their scaling, weights, values.
// A task is a row.
type openAttend struct{ node, layer, phase int }

func (s *openAttend) tasks(r *runner) (int, error) {
	if h := r.m.g.Nodes[s.node].Heads; s.phase < 3 {
		width := h.Query * r.columns()
		data := grow(&r.scrap[s.phase%2], len(r.pos)*width)
		r.next = mat{data: data, width: width, stride: width}
	}
	return len(r.pos), nil
}

func (s *openAttend) finish(r *runner) { r.inner = r.next }

// columns is how many keys scores have a place for: those from position 0 to the
// last, or of a replay with the keys of its rows alone those, which may be far from
// there.
func (r *runner) columns() int {
	n := r.pos[len(r.pos)-1] + 1
	if r.replay {
		n = min(n, len(r.keys))
	}
	return n
}

func (s *openAttend) do(r *runner, w *worker, t int) {
	n, k := &r.m.g.Nodes[s.node], &r.m.o.Kernels
	h := n.Heads
	l := r.parts[r.owner[t]].layers[s.layer]
	group := h.Query / h.KV
	lo, hi := view(h, r.pos[t]) // ranks of keys
	if r.replay {
		lo, hi = sort.SearchInts(r.keys, lo), sort.SearchInts(r.keys, hi)
	}
	// seen calls f with the pages that have a key to see, and their first ranks.
	seen := func(f func(kv, base int, page kernel.Page, s kernel.Span)) {
		for kv := range h.KV {
			for i, page := range l.pages[kv] {
				base := (l.first + i) * kernel.PageLen
				if s := (kernel.Span{Lo: max(lo-base, 0), Hi: min(hi-base, kernel.PageLen)}); s.Lo < s.Hi {
					f(kv, base, page, s)
				}
			}
		}
	}
	var from, to []float32 // [Query, columns]
	if s.phase < 3 {
		to = r.next.row(t)
		clear(to)
	}
	if s.phase > 0 {
		from = r.inner.row(t)
	}
	width := len(to) / h.Query
	if s.phase == 3 {
		width = len(from) / h.Query
	}
	switch s.phase {
	case 0:
		q := r.vals[n.In[0]]
		buf := grow(&w.scores, group*kernel.PageLen)
		seen(func(kv, base int, page kernel.Page, s kernel.Span) {
			k.Scores(buf, kernel.PageLen, q.row(t)[kv*group*h.Dim:][:group*h.Dim], page, s, 1) // a product with 1 rounds nothing
			for g := range group {
				for p := s.Lo; p < s.Hi; p++ {
					to[(kv*group+g)*width+base+p] = buf[g*kernel.PageLen+p]
				}
			}
		})
	case 1:
		scale := scaleOf(h)
		for i, v := range from {
			to[i] = v * scale
		}
		r.round(to)
	case 2:
		buf := grow(&w.scores, hi-lo)
		for head := range h.Query {
			sink := float32(math.Inf(-1))
			if len(n.Params) > 0 {
				sink = r.m.vectors[n.Params[0]][head]
			}
			for rank := lo; rank < hi; rank++ {
				buf[rank-lo] = from[head*width+rank]
			}
			k.Softmax(buf, buf, sink, r.m.half)
			for rank := lo; rank < hi; rank++ {
				to[head*width+rank] = buf[rank-lo]
			}
		}
	case 3:
		y := r.vals[s.node].row(t)
		clear(y)
		buf := grow(&w.scores, group*kernel.PageLen)
		seen(func(kv, base int, page kernel.Page, s kernel.Span) {
			for g := range group {
				for p := s.Lo; p < s.Hi; p++ {
					buf[g*kernel.PageLen+p] = from[(kv*group+g)*width+base+p]
				}
			}
			k.AddValues(y[kv*group*h.Dim:][:group*h.Dim], buf, kernel.PageLen, page, s)
		})
		r.round(y)
	}
}
