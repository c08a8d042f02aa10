package engine

import (
	"fmt"
	"math"

	"ossify/float"
	"ossify/graph"
)

// past holds the keys and values of one Attend, the row of position p at slot
// p, or p modulo ring where the layer has a window. Values are bfloat16 if the
// precision is, so that a position takes 2·2·KV·Dim bytes, else float32.
type past struct {
	width  int
	ring   int // slots; 0 grows
	k16    []uint16
	v16    []uint16
	k32    []float32
	v32    []float32
	halves bool // bfloat16
}

// newPast returns an empty cache. With a window it has room for what the
// queries of one chunk see: the chunk's own rows and window−1 before them.
func newPast(width, window, chunk int, p Precision) *past {
	c := &past{width: width, halves: p == BF16}
	if window > 0 {
		c.ring = window - 1 + chunk
		c.grow(c.ring)
	}
	return c
}

func (c *past) slot(pos int) int {
	if c.ring > 0 {
		pos %= c.ring
	}
	return pos * c.width
}

// grow makes room for n slots.
func (c *past) grow(n int) {
	n *= c.width
	if c.halves {
		c.k16, c.v16 = extend(c.k16, n), extend(c.v16, n)
	} else {
		c.k32, c.v32 = extend(c.k32, n), extend(c.v32, n)
	}
}

func extend[E any](s []E, n int) []E {
	if n > len(s) {
		s = append(s, make([]E, n-len(s))...)
	}
	return s
}

// put stores the row of position pos.
func (c *past) put(pos int, k, v []float32) {
	if c.ring == 0 {
		c.grow(pos + 1)
	}
	at := c.slot(pos)
	if !c.halves {
		copy(c.k32[at:], k)
		copy(c.v32[at:], v)
		return
	}
	for i := range k {
		c.k16[at+i], c.v16[at+i] = float.ToBF16(k[i]), float.ToBF16(v[i])
	}
}

// key returns columns lo to lo+len(buf) of the key at pos, in buf or in place.
func (c *past) key(pos, lo int, buf []float32) []float32 {
	return c.read(c.k16, c.k32, pos, lo, buf)
}

// value is key for values.
func (c *past) value(pos, lo int, buf []float32) []float32 {
	return c.read(c.v16, c.v32, pos, lo, buf)
}

func (c *past) read(halves []uint16, full []float32, pos, lo int, buf []float32) []float32 {
	at := c.slot(pos) + lo
	if !c.halves {
		return full[at:][:len(buf)]
	}
	for i, h := range halves[at:][:len(buf)] {
		buf[i] = float.FromBF16(h)
	}
	return buf
}

// keyBlock is how many keys' values are summed before they are added to the
// result.
const keyBlock = 32

// attend computes node i: queries q at pos over the session's past and the
// new keys and values k and v. The reference rounds each product q·k, its
// scaled value, the weight and the result.
func (p *pass) attend(i int, n *graph.Node, pos []int, out, q, k, v mat) error {
	h := n.Heads
	cache, keys := (*past)(nil), p.pos
	if p.past != nil {
		if p.past[i] == nil {
			p.past[i] = newPast(k.width, h.Window, p.m.o.Chunk, p.m.o.Precision)
		}
		cache = p.past[i]
	} else {
		cache = newPast(k.width, 0, 0, p.m.o.Precision)
		if k.rows() != len(p.pos) { // a tap gave every position
			keys = make([]int, k.rows())
			for j := range keys {
				keys[j] = j
			}
		}
	}
	if k.rows() != len(keys) || v.rows() != len(keys) || keys[len(keys)-1] < p.pos[len(p.pos)-1] {
		return fmt.Errorf("%d keys and %d values, want %d", k.rows(), v.rows(), len(keys))
	}
	for j, at := range keys {
		cache.put(at, k.row(j), v.row(j))
	}
	// Without a session only the keys of this pass exist, not all before them.
	visible := func(at int) bool { return true }
	if p.past == nil {
		have := make(map[int]bool, len(keys))
		for _, at := range keys {
			have[at] = true
		}
		visible = func(at int) bool { return have[at] }
	}
	var sinks []float32
	if len(n.Params) > 0 {
		sinks = p.m.vectors[n.Params[0]]
	}
	group := h.Query / h.KV // query heads on one key/value head
	scale := float32(1 / math.Sqrt(float64(h.Dim)))

	p.split(len(pos)*h.KV, 1, func(first, end int) {
		buf := make([]float32, h.Dim)
		block := make([]float32, group*h.Dim)
		weights := make([][]float32, group)
		for task := first; task < end; task++ {
			t, kv := task/h.KV, task%h.KV
			lo, hi := 0, pos[t]-h.Delay // keys in view: lo ≤ at ≤ hi
			if h.Window > 0 {
				lo = max(0, pos[t]-h.Window+1)
			}
			for g := range weights {
				weights[g] = weights[g][:0]
			}
			head := func(g int) []float32 { return q.row(t)[(kv*group+g)*h.Dim:][:h.Dim] }
			for at := lo; at <= hi; at++ {
				if !visible(at) {
					continue
				}
				key := cache.key(at, kv*h.Dim, buf)
				for g := range weights {
					s := p.rounded(p.m.o.Kernels.Dot(head(g), key))
					weights[g] = append(weights[g], p.rounded(s*scale))
				}
			}
			for g := range weights {
				sink := float32(math.Inf(-1))
				if sinks != nil {
					sink = sinks[kv*group+g]
				}
				softmaxSink(weights[g], sink)
				p.round(weights[g])
			}
			clear(out.row(t)[kv*group*h.Dim:][:group*h.Dim])
			// Values are summed in blocks of keys, then the blocks: rounding errors
			// grow with the block, not with the context.
			result, j := out.row(t)[kv*group*h.Dim:][:group*h.Dim], 0
			flush := func() {
				for i, v := range block {
					result[i] += v
				}
				clear(block)
			}
			for at := lo; at <= hi; at++ {
				if !visible(at) {
					continue
				}
				value := cache.value(at, kv*h.Dim, buf)
				for g := range weights {
					p.m.o.Kernels.AddScaled(block[g*h.Dim:][:h.Dim], weights[g][j], value)
				}
				if j++; j%keyBlock == 0 {
					flush()
				}
			}
			flush()
			p.round(result)
		}
	})
	return nil
}

// softmaxSink is the softmax of s and one more score, the sink, which takes its
// share and is dropped.
func softmaxSink(s []float32, sink float32) {
	top := sink
	for _, v := range s {
		top = max(top, v)
	}
	if math.IsInf(float64(top), -1) {
		clear(s) // nothing in view
		return
	}
	sum := float64(exp(sink - top))
	for j, v := range s {
		s[j] = exp(v - top)
		sum += float64(s[j])
	}
	for j := range s {
		s[j] = float32(float64(s[j]) / sum)
	}
}
