package oracle

import (
	"context"
	"fmt"
	"math"
	"slices"

	"ossify/float"
	"ossify/graph"
)

// An Arithmetic says how a program computes that is to be judged: sums are
// float32, and every operation rounds its result once, but where
// docs/numerics.md says otherwise.
type Arithmetic struct {
	BF16 bool // results are rounded to bfloat16, else to float32

	// Tables says that cosines and sines are those of float64 angles, put
	// together by the addition theorem, and not of position·f in float32.
	Tables bool

	// Theta moves θ(i) of the rotary embedding by units in the last place, as
	// graph.Rope.Frequencies32 has it; nil is 0.
	Theta []int

	// Flush lets bfloat16 products take numbers below 2^-126 for 0, as the
	// processor's dot product does, or not, as some of its kernels.
	Flush bool

	// Sigmoid is an absolute error that sigmoids may have, beside that of
	// float32 arithmetic.
	Sigmoid float64
}

// u is the unit roundoff of float32, tiny half the space of its subnormals.
const (
	u    = 0x1p-24
	tiny = 0x1p-150
)

// A BoundsTap sees each node: a program that computes as it should gives, for
// every element, the rounding of a number from lo to hi. What the tap returns
// are the program's own values, from which the nodes after it are computed; if
// it returns nil, they are computed from the roundings of lo and hi, as a step
// within the next. The tap must not keep or change lo and hi.
type BoundsTap func(stage string, positions []int, lo, hi []float64) (own []float64)

// Bounds says what a program in arithmetic a may compute at every node of g,
// given its own values at the nodes before it. docs/parity.md derives the
// bounds. Where known, which may be nil, returns the program's values of a node,
// no bounds of it are computed, and tap does not see it.
func Bounds(ctx context.Context, g *graph.Graph, w Weights, tokens []uint32, positions []int, a Arithmetic, known func(stage string) []float64, tap BoundsTap) error {
	if len(tokens) == 0 || len(tokens) != len(positions) {
		return fmt.Errorf("oracle: %d tokens at %d positions, want one position a token and at least one", len(tokens), len(positions))
	}
	b := &bounds{run: run{g: g, w: w, tokens: tokens, pos: positions}, a: a, at: make([]span, len(g.Nodes))}
	last := lastUse(g)
	for i := range g.Nodes {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := &g.Nodes[i]
		var own []float64
		if known != nil {
			own = known(n.Name)
		}
		v := point(own)
		if own == nil {
			var err error
			if v, err = b.eval(n); err != nil {
				return fmt.Errorf("oracle: %s: %w", n.Name, err)
			}
			own = tap(n.Name, positions, v.lo, v.hi)
		}
		if own != nil {
			v = point(own)
		} else if n.Op != graph.Tokens && n.Op != graph.TopK { // which are no numbers to round
			v = b.rounded(v)
		}
		b.at[i] = v
		for _, in := range n.In {
			if last[in] == i {
				b.at[in] = span{}
			}
		}
	}
	return nil
}

// lastUse returns the last node that reads each.
func lastUse(g *graph.Graph) []int {
	last := make([]int, len(g.Nodes))
	for i, n := range g.Nodes {
		for _, in := range n.In {
			last[in] = i
		}
	}
	return last
}

// A span holds two values for each element; one slice twice if they are the
// same.
type span struct{ lo, hi []float64 }

func point(v []float64) span { return span{v, v} }

func (s span) point() bool { return len(s.lo) == 0 || &s.lo[0] == &s.hi[0] }

type bounds struct {
	run
	a  Arithmetic
	at []span // by node
}

// round rounds to the values that the arithmetic has.
func (b *bounds) round(v float64) float64 {
	if b.a.BF16 {
		return float64(float.RoundBF16(float32(v)))
	}
	return float64(float32(v))
}

func (b *bounds) rounded(s span) span {
	if s.point() {
		for i, v := range s.lo {
			s.lo[i] = b.round(v)
		}
		return s
	}
	for i := range s.lo {
		s.lo[i], s.hi[i] = b.round(s.lo[i]), b.round(s.hi[i])
	}
	return s
}

// f32 is one operation's result in float32.
func f32(v float64) float64 { return float64(float32(v)) }

// sigmas is how many standard deviations of the sum of its roundings a sum may
// be off, times that of one rounding in units of u·|partial sum|, 0.42. Seven
// are exceeded once in 4e11.
const sigmas = 7 * 0.42

// sum bounds the error of a float32 sum of n products in any order: y is the
// sum, squares that of the products' squares, size that of their absolute
// values.
func sum(n int, y, squares, size float64) float64 {
	return min(sigmas*u*math.Sqrt(float64(n)*(squares+y*y)), float64(n)*u*size) + float64(n)*tiny
}

// eval returns what node n may be before its last rounding.
func (b *bounds) eval(n *graph.Node) (span, error) {
	rows := len(b.pos)
	size, d := rows*n.Shape.Width(), n.Shape.Last()
	var x, y span
	var dx int
	if len(n.In) > 0 {
		x, dx = b.at[n.In[0]], b.g.Nodes[n.In[0]].Shape.Last()
	}
	if len(n.In) > 1 {
		y = b.at[n.In[1]]
	}
	if whole := rows * b.width(n, 0); n.Op != graph.Attend && len(x.lo) > whole && whole > 0 {
		return span{}, fmt.Errorf("%d values, want %d: only attention reads other rows", len(x.lo), whole)
	}
	// each computes both ends where they differ.
	each := func(f func(x []float64, out []float64)) span {
		lo := make([]float64, size)
		f(x.lo, lo)
		if x.point() {
			return point(lo)
		}
		hi := make([]float64, size)
		f(x.hi, hi)
		return span{lo, hi}
	}
	out := span{make([]float64, size), make([]float64, size)}

	switch n.Op {
	case graph.Tokens:
		for t, id := range b.tokens {
			out.lo[t] = float64(id)
		}
		return point(out.lo), nil

	case graph.Gather:
		vocab := b.g.Params[n.Params[0]].Shape[0]
		for t, id := range x.lo {
			if id < 0 || id >= float64(vocab) {
				return span{}, fmt.Errorf("token %g at position %d, want an id below %d", id, b.pos[t], vocab)
			}
			b.w.Row(n.Params[0], int(id), out.lo[t*d:][:d])
		}
		return point(out.lo), nil

	case graph.RMSNorm:
		scale := b.vector(n.Params[0])
		for t := range rows {
			row := x.lo[t*d:][:d]
			total, fourth := 0.0, 0.0
			for _, v := range row {
				total += v * v
				fourth += v * v * v * v
			}
			inv := 1 / math.Sqrt(total/float64(d)+n.Eps)
			// Half of the sum's error, and that of mean, eps, root, reciprocal and two
			// products.
			off := 6 * u
			if total > 0 {
				off += sum((d+lanes-1)/lanes, total, fourth, total) / total / 2
			}
			for j, v := range row {
				y := v * inv * scale[j]
				e := math.Abs(y)*off + 2*tiny
				out.lo[t*d+j], out.hi[t*d+j] = y-e, y+e
			}
		}

	case graph.Linear:
		bias := make([]float64, d)
		if len(n.Params) > 1 {
			bias = b.vector(n.Params[1])
		}
		split(d, func(lo, hi int) {
			w := make([]float64, dx)
			for j := lo; j < hi; j++ {
				b.w.Row(n.Params[0], j, w)
				for t := range rows {
					y, e := b.dot(x.lo[t*dx:][:dx], w, bias[j])
					out.lo[t*d+j], out.hi[t*d+j] = y-e, y+e
				}
			}
		})

	case graph.ExpertLinear:
		b.expertLinear(out, n, x, dx, y.lo)

	case graph.Columns:
		return each(func(x, out []float64) {
			for i := range len(out) / d {
				copy(out[i*d:][:d], x[i*dx+n.Lo:])
			}
		}), nil

	case graph.Every:
		return each(func(x, out []float64) {
			for i := range out {
				out[i] = x[2*i+n.Lo]
			}
		}), nil

	case graph.Rotate:
		b.rotate(out, n.Rope, x.lo, d)

	case graph.Attend:
		return out, b.attend(out, n, x.lo, y.lo, b.at[n.In[2]].lo)

	case graph.TopK:
		for t := range rows {
			top(out.lo[t*d:][:d], x.lo[t*dx:][:dx])
		}
		return point(out.lo), nil

	case graph.Pick:
		return each(func(x, out []float64) {
			for i, j := range y.lo {
				out[i] = x[i/d*dx+int(j)]
			}
		}), nil

	case graph.Softmax:
		for i := 0; i < size; i += d {
			most, total := slices.Max(x.hi[i:i+d]), 0.0
			for j := range d {
				out.lo[i+j] = math.Exp(x.lo[i+j] - most)
				total += out.lo[i+j]
			}
			for j := range d {
				v := out.lo[i+j] / total
				e := v*(2*expOff+u*(2*(most-x.lo[i+j])+float64(d)+2)) + tiny
				out.lo[i+j], out.hi[i+j] = v-e, v+e
			}
		}

	case graph.Clamp:
		return each(func(x, out []float64) {
			for i, v := range x {
				out[i] = min(max(v, n.A), n.B)
			}
		}), nil

	case graph.Affine:
		p, q := f32(n.A), f32(n.B)
		s := each(func(x, out []float64) {
			for i, v := range x {
				out[i] = f32(f32(p*v) + q)
			}
		})
		if p < 0 {
			s.lo, s.hi = s.hi, s.lo
		}
		if p == 1 || q == 0 { // one rounding
			return s, nil
		}
		for i := range out.lo { // a fused product skips its rounding
			e := u * math.Abs(p) * max(math.Abs(x.lo[i]), math.Abs(x.hi[i]))
			out.lo[i], out.hi[i] = s.lo[i]-e, s.hi[i]+e
		}

	case graph.Sigmoid:
		floor := b.a.Sigmoid
		if b.a.Flush {
			floor += 0x1p-126
		}
		for i := range out.lo {
			off := func(v float64) (s, e float64) {
				s = 1 / (1 + math.Exp(-v))
				return s, s*(expOff+u*(math.Abs(v)+3)) + floor + tiny
			}
			lo, e := off(x.lo[i])
			hi, f := off(x.hi[i])
			out.lo[i], out.hi[i] = lo-e, hi+f
		}

	case graph.Mul:
		if x.point() && y.point() {
			return each(func(x, out []float64) {
				for i, v := range x {
					out[i] = f32(v * y.lo[i])
				}
			}), nil
		}
		for i := range out.lo {
			p, q, r, s := x.lo[i]*y.lo[i], x.lo[i]*y.hi[i], x.hi[i]*y.lo[i], x.hi[i]*y.hi[i]
			out.lo[i], out.hi[i] = f32(min(p, q, r, s)), f32(max(p, q, r, s))
		}

	case graph.Add:
		if x.point() && y.point() {
			for i, v := range x.lo {
				out.lo[i] = float64(float32(v) + float32(y.lo[i]))
			}
			return point(out.lo), nil
		}
		for i := range out.lo {
			out.lo[i] = float64(float32(x.lo[i]) + float32(y.lo[i]))
			out.hi[i] = float64(float32(x.hi[i]) + float32(y.hi[i]))
		}

	case graph.Mix:
		k := len(y.lo) / rows
		for t := range rows {
			for j := range d {
				lo, hi, size := 0.0, 0.0, 0.0
				for c := range k {
					i, w := (t*k+c)*d+j, t*k+c
					p, q, r, s := y.lo[w]*x.lo[i], y.lo[w]*x.hi[i], y.hi[w]*x.lo[i], y.hi[w]*x.hi[i]
					lo, hi = lo+min(p, q, r, s), hi+max(p, q, r, s)
					size += max(math.Abs(p), math.Abs(s))
				}
				e := float64(k)*u*size + float64(k)*tiny
				out.lo[t*d+j], out.hi[t*d+j] = lo-e, hi+e
			}
		}

	default:
		return span{}, fmt.Errorf("no case for %v", n.Op)
	}
	return out, nil
}

// width returns the elements of a row of input i of n; 0 if there is none.
func (b *bounds) width(n *graph.Node, i int) int {
	if i >= len(n.In) {
		return 0
	}
	return b.g.Nodes[n.In[i]].Shape.Width()
}

// lanes is how many sums, at least, a program keeps side by side where it adds
// up a row: those of the narrowest vectors.
const lanes = 8

// expOff is the relative error of an exponential: 4 units in the last place.
const expOff = 8 * u

// dot returns x·w + bias and its bound.
func (b *bounds) dot(x, w []float64, bias float64) (y, e float64) {
	var s0, s1, q0, q1 float64
	i := 0
	for ; i+1 < len(x); i += 2 {
		p0, p1 := x[i]*w[i], x[i+1]*w[i+1]
		s0 += p0
		s1 += p1
		q0 += p0 * p0
		q1 += p1 * p1
	}
	if i < len(x) {
		p := x[i] * w[i]
		s0 += p
		q0 += p * p
	}
	y = s0 + s1 + bias
	n := len(x) + 1
	squares := q0 + q1 + bias*bias
	size := math.Inf(1)
	if n < 32 { // where the number of terms can be the lower bound
		size = math.Abs(bias)
		for i, v := range x {
			size += math.Abs(v * w[i])
		}
	}
	return y, sum(n, y, squares, size) + b.flushed(x, w)
}

// flushed bounds what a bf16 product that takes numbers below 2^-126 for 0
// leaves out: the terms with such a factor, and 2^-126 a step.
func (b *bounds) flushed(x, w []float64) float64 {
	if !b.a.BF16 || !b.a.Flush {
		return 0
	}
	left := 2 * float64(len(x)) * 0x1p-126
	for i, v := range w {
		if math.Abs(v) < 0x1p-126 || math.Abs(x[i]) < 0x1p-126 {
			left += math.Abs(v * x[i])
		}
	}
	return left
}

// expertLinear is run.expertLinear, with the product rounded before the bias
// is added.
func (b *bounds) expertLinear(out span, n *graph.Node, x span, dx int, experts []float64) {
	k, cols := n.Shape[1], n.Shape.Last()
	bias := make([]float64, cols)
	for e := range b.g.Params[n.Params[0]].Shape[0] {
		if !slices.Contains(experts, float64(e)) {
			continue
		}
		if len(n.Params) > 1 {
			b.w.Row(n.Params[1], e, bias)
		}
		split(cols, func(lo, hi int) {
			w := make([]float64, dx)
			for j := lo; j < hi; j++ {
				b.w.Row(n.Params[0], e*cols+j, w)
				for i, chosen := range experts { // i = t·K + k
					if int(chosen) != e {
						continue
					}
					row := i
					if len(x.lo) < len(experts)*dx { // [T, D]: one row for all K
						row = i / k
					}
					y, off := b.dot(x.lo[row*dx:][:dx], w, 0)
					lo, hi := y-off, y+off
					if len(n.Params) > 1 {
						lo, hi = b.round(lo)+bias[j], b.round(hi)+bias[j]
						if !b.a.BF16 { // the bias may also be the first term, or the halves be added to it
							lo, hi = min(lo, y+bias[j]-off-u*math.Abs(bias[j])), max(hi, y+bias[j]+off+u*math.Abs(bias[j]))
						}
					}
					out.lo[i*cols+j], out.hi[i*cols+j] = lo, hi
				}
			}
		})
	}
}

// turns returns cosines and sines of the run's positions, concentration
// included, as spans [rows, Dim/2].
func (b *bounds) turns(r graph.Rope) (cos, sin span) {
	rows, half := len(b.pos), r.Dim/2
	cos = span{make([]float64, rows*half), make([]float64, rows*half)}
	sin = span{make([]float64, rows*half), make([]float64, rows*half)}
	exact, single := r.Frequencies(), r.Frequencies32(b.a.Theta)
	for t, pos := range b.pos {
		for i := range half {
			var s, c float64
			off := func(v float64) float64 { return 4 * u * math.Abs(v) } // 1 unit in the last place, and that of the product
			if b.a.Tables {
				s, c = math.Sincos(float64(pos) * exact[i])
				off = func(float64) float64 { return 4 * u * r.Concentration } // onnx/tables.go
			} else {
				s, c = math.Sincos(float64(float32(pos) * single[i]))
			}
			s, c = s*r.Concentration, c*r.Concentration
			at := t*half + i
			cos.lo[at], cos.hi[at] = b.round(c-off(c)), b.round(c+off(c))
			sin.lo[at], sin.hi[at] = b.round(s-off(s)), b.round(s+off(s))
		}
	}
	return cos, sin
}

// rotate rounds both products and their sum.
func (b *bounds) rotate(out span, r graph.Rope, x []float64, d int) {
	cos, sin := b.turns(r)
	half := r.Dim / 2
	product := func(x, lo, hi float64) (float64, float64) {
		p, q := b.round(f32(x*lo)), b.round(f32(x*hi))
		return min(p, q), max(p, q)
	}
	for t := range b.pos {
		for h := t * d; h < (t+1)*d; h += r.Dim {
			for i := range half {
				p, q := h+i, h+i+half
				if r.Adjacent {
					p, q = h+2*i, h+2*i+1
				}
				at := t*half + i
				pcl, pch := product(x[p], cos.lo[at], cos.hi[at])
				qsl, qsh := product(x[q], sin.lo[at], sin.hi[at])
				qcl, qch := product(x[q], cos.lo[at], cos.hi[at])
				psl, psh := product(x[p], sin.lo[at], sin.hi[at])
				out.lo[p], out.hi[p] = pcl-qsh, pch-qsl
				out.lo[q], out.hi[q] = qcl+psl, qch+psh
				if !b.a.BF16 { // a fused product skips its rounding
					e := u * (math.Abs(x[p]*cos.hi[at]) + math.Abs(x[q]*sin.hi[at]))
					out.lo[p], out.hi[p] = out.lo[p]-e, out.hi[p]+e
					e = u * (math.Abs(x[q]*cos.hi[at]) + math.Abs(x[p]*sin.hi[at]))
					out.lo[q], out.hi[q] = out.lo[q]-e, out.hi[q]+e
				}
			}
		}
	}
}

// attend reads what run.attend reads.
func (b *bounds) attend(out span, n *graph.Node, q, k, v []float64) error {
	h := n.Heads
	nq, nkv := h.Query*h.Dim, h.KV*h.Dim
	keys := b.pos
	if len(k) != len(b.pos)*nkv {
		keys = make([]int, len(k)/nkv)
		for j := range keys {
			keys[j] = j
		}
	}
	if len(v) != len(k) || len(keys) <= slices.Max(b.pos) && len(k) != len(b.pos)*nkv {
		return fmt.Errorf("%d keys and %d values for position %d", len(k)/nkv, len(v)/nkv, slices.Max(b.pos))
	}
	var sinks []float64
	if len(n.Params) > 0 {
		sinks = b.vector(n.Params[0])
	}
	split(len(b.pos)*h.Query, func(first, end int) {
		var view []int // indices of the keys in view
		for task := first; task < end; task++ {
			t, head := task/h.Query, task%h.Query
			view = view[:0]
			for j, key := range keys {
				if pos := b.pos[t]; key <= pos-h.Delay && (h.Window == 0 || key > pos-h.Window) {
					view = append(view, j)
				}
			}
			var sink *float64
			if sinks != nil {
				sink = &sinks[head]
			}
			kv := head / (h.Query / h.KV) * h.Dim
			at := t*nq + head*h.Dim
			b.attendHead(span{out.lo[at:][:h.Dim], out.hi[at:][:h.Dim]}, q[at:][:h.Dim], view, sink,
				func(j int) []float64 { return k[j*nkv+kv:][:h.Dim] }, func(j int) []float64 { return v[j*nkv+kv:][:h.Dim] })
		}
	})
	return nil
}

// attendHead bounds the result of one query of one head. Scores, scaled scores
// and weights are each rounded. In bfloat16 nearly all of them are certain, and
// those that are not have two values; in float32 all have a small error of
// their own, and errors add as independent ones do.
func (b *bounds) attendHead(out span, query []float64, view []int, sink *float64, key, value func(int) []float64) {
	scale := f32(1 / math.Sqrt(float64(len(query))))
	lo, hi := make([]float64, len(view)), make([]float64, len(view)) // scaled scores
	most := math.Inf(-1)
	for i, j := range view {
		y, e := b.dot(query, key(j), 0)
		lo[i], hi[i] = b.round(f32(b.round(y-e)*scale)), b.round(f32(b.round(y+e)*scale))
		most = max(most, hi[i])
	}
	if sink != nil {
		most = max(most, *sink)
	}
	if math.IsInf(most, -1) {
		return // nothing in view: zero
	}
	n := len(view) + 1
	off := func(s float64) float64 { return expOff + u*(2*math.Abs(s-most)+4) } // of a weight, relative
	low, high := 0.0, 0.0                                                       // the denominator
	for i := range view {
		low += math.Exp(lo[i] - most)
		high += math.Exp(hi[i] - most)
	}
	if sink != nil {
		low += math.Exp(*sink - most)
		high += math.Exp(*sink - most)
	}
	total := expOff + sum((n+lanes-1)/lanes, 1, 1, 1) // of the denominator, relative

	y, squares, size := make([]float64, len(query)), make([]float64, len(query)), make([]float64, len(query))
	slack := make([]float64, len(query)) // of the weights
	w, dw := make([]float64, len(view)), make([]float64, len(view))
	for i, j := range view {
		p, q := math.Exp(lo[i]-most), math.Exp(hi[i]-most)
		if b.a.BF16 {
			e := off(lo[i]) + total
			least, greatest := p/(p+high-q)*(1-e)-tiny, q/(q+low-p)*(1+e)+tiny
			if b.a.Flush {
				least -= 0x1p-126
			}
			least, greatest = b.round(least), b.round(greatest)
			w[i], dw[i] = (least+greatest)/2, (greatest-least)/2
		} else {
			w[i] = (p + q) / (low + high)
			dw[i] = off(lo[i]) + (hi[i]-lo[i])/2 // relative
		}
		for c, x := range value(j) {
			y[c] += w[i] * x
			squares[c] += w[i] * x * w[i] * x
			size[c] += math.Abs(w[i] * x)
		}
	}
	for i, j := range view {
		for c, x := range value(j) {
			if b.a.BF16 {
				slack[c] += dw[i] * math.Abs(x)
			} else {
				d := w[i] * dw[i] * (math.Abs(x) + math.Abs(y[c]))
				slack[c] += d * d
			}
		}
	}
	for c := range out.lo {
		e := sum(len(view), y[c], squares[c], size[c])
		if b.a.BF16 {
			e += slack[c]
			if b.a.Flush {
				e += 2 * float64(len(view)) * 0x1p-126
			}
		} else {
			e += math.Sqrt(slack[c]) + total*math.Abs(y[c])
		}
		out.lo[c], out.hi[c] = y[c]-e, y[c]+e
	}
}

// RotateBounds returns the bounds of a rotary embedding of x, a row for each of
// the positions.
func RotateBounds(r graph.Rope, positions []int, x []float64, a Arithmetic) (lo, hi []float64) {
	b := &bounds{run: run{pos: positions}, a: a}
	out := span{make([]float64, len(x)), make([]float64, len(x))}
	b.rotate(out, r, x, len(x)/len(positions))
	return out.lo, out.hi
}
