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
	// processor's dot product does, or not, as some of its kernels; and sigmoids
	// below 2^-126 be 0, as 1/(1+e^-x) is where e^-x is beyond float32.
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

// A BoundsTap sees each node, and before it the steps within (graph.Node.Steps):
// a program that computes as it should gives, for every element, the rounding of
// a number from lo to hi. What the tap returns are the program's own values,
// from which what comes after is computed; has says which of the rows they
// hold, nil that they hold all. Other rows are computed from the roundings of lo
// and hi, as a step within the next. The steps of attention come some rows at a
// time. The tap may keep lo and hi but must not change them.
type BoundsTap func(stage string, positions []int, lo, hi []float64) (own []float64, has []bool)

// Bounds says what a program in arithmetic a may compute at every node of g,
// given its own values at the nodes before it. docs/parity.md derives the
// bounds. Where known, which may be nil, returns the program's values of a node,
// no bounds of it are computed, and tap does not see it.
func Bounds(ctx context.Context, g *graph.Graph, w Weights, tokens []uint32, positions []int, a Arithmetic, known func(stage string) []float64, tap BoundsTap) error {
	if len(tokens) == 0 || len(tokens) != len(positions) {
		return fmt.Errorf("oracle: %d tokens at %d positions, want one position a token and at least one", len(tokens), len(positions))
	}
	b := &bounds{run: run{g: g, w: w, tokens: tokens, pos: positions}, a: a, tap: tap, at: make([]span, len(g.Nodes))}
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
		}
		switch {
		case own != nil:
		case n.Op == graph.Tokens || n.Op == graph.TopK: // which are no numbers to round
			if own, _ := tap(n.Name, positions, v.lo, v.hi); own != nil {
				v = point(own)
			}
		default:
			v, _ = b.settled(n.Name, positions, v)
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
	a   Arithmetic
	tap BoundsTap
	at  []span // by node
}

// round rounds to the values that the arithmetic has.
func (b *bounds) round(v float64) float64 {
	if b.a.BF16 {
		return float64(float.RoundBF16(float32(v)))
	}
	return float64(float32(v))
}

func (b *bounds) rounded(s span) span {
	lo := make([]float64, len(s.lo))
	for i, v := range s.lo {
		lo[i] = b.round(v)
	}
	if s.point() {
		return point(lo)
	}
	hi := make([]float64, len(s.hi))
	for i, v := range s.hi {
		hi[i] = b.round(v)
	}
	return span{lo, hi}
}

// settled shows a node or a step, and returns what the next is computed from:
// the program's own values in the rows that it has, else roundings. has says
// which rows are its own.
func (b *bounds) settled(name string, positions []int, s span) (next span, has func(t int) bool) {
	own, some := b.tap(name, positions, s.lo, s.hi)
	if own != nil && some == nil {
		return point(own), func(int) bool { return true }
	}
	next = b.rounded(s)
	if own == nil {
		return next, func(int) bool { return false }
	}
	width := len(s.lo) / len(positions)
	for t, given := range some {
		if given {
			copy(next.lo[t*width:][:width], own[t*width:])
			copy(next.hi[t*width:][:width], own[t*width:])
		}
	}
	return next, func(t int) bool { return some[t] }
}

// f32 is one operation's result in float32.
func f32(v float64) float64 { return float64(float32(v)) }

// sigmas is how many standard deviations of the sum of its roundings a sum may
// be off, times that of one rounding in units of u·|partial sum|, 0.42. Seven
// are exceeded once in 4e11.
const sigmas = 7 * 0.42

// sum bounds the error of a float32 sum of n products in any order: y is the
// sum, squares that of the products' squares, size that of their absolute
// values. Their order has nothing to do with their signs.
func sum(n int, y, squares, size float64) float64 { return ordered(n, y, squares, size, 0) }

// ordered is a sum of terms that may drift in the order in which they come, so
// that partial sums grow further than by chance: path is the sum of the squares
// of those in that order, or from its other end, whichever is more.
func ordered(n int, y, squares, size, path float64) float64 {
	return min(sigmas*u*math.Sqrt(max(float64(n)*(squares+y*y), path)), float64(n)*u*size) + float64(n)*tiny
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
		scale := b.vector(n, 0)
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
		bias := b.vector(n, 1)
		if bias == nil {
			bias = make([]float64, d)
		}
		products(b.w, n, x.lo, dx, rows, func(t, j int, x, w []float64) {
			y, e := b.dot(x, w, bias[j])
			out.lo[t*d+j], out.hi[t*d+j] = y-e, y+e
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
		for i := range out.lo {
			off := func(v float64) (s, e float64) {
				s = 1 / (1 + math.Exp(-v))
				return s, s*(expOff+u*(math.Abs(v)+3)) + b.a.Sigmoid + tiny
			}
			lo, e := off(x.lo[i])
			hi, f := off(x.hi[i])
			out.lo[i], out.hi[i] = lo-e, hi+f
			if b.a.Flush && lo < 0x1p-126 {
				out.lo[i] = min(out.lo[i], 0)
			}
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

// expertLinear bounds an ExpertLinear, whose product is rounded before the bias is
// added.
func (b *bounds) expertLinear(out span, n *graph.Node, x span, dx int, experts []float64) {
	k, cols := n.Shape[1], n.Shape.Last()
	count := b.g.Params[n.Params[0]].Shape[0]
	expertProducts(b.w, n, x.lo, dx, count, experts, func(i, j int, x, w []float64) {
		y, off := b.dot(x, w, 0)
		out.lo[i*cols+j], out.hi[i*cols+j] = y-off, y+off
	})
	if len(n.Params) < 2 {
		return
	}
	product, has := b.settled(n.Name+graph.StepProduct, b.pos, span{slices.Clone(out.lo), slices.Clone(out.hi)})
	bias := make([]float64, cols)
	for e := range count {
		if !slices.Contains(experts, float64(e)) {
			continue
		}
		b.w.Row(n.Params[1], e, bias)
		for i, chosen := range experts {
			if int(chosen) != e {
				continue
			}
			given := has(i / k)
			for j, v := range bias {
				at := i*cols + j
				lo, hi := product.lo[at]+v, product.hi[at]+v
				if !given && !b.a.BF16 { // the bias may also be the first term, or the halves be added to it
					lo, hi = min(lo, out.lo[at]+v-u*math.Abs(v)), max(hi, out.hi[at]+v+u*math.Abs(v))
				}
				out.lo[at], out.hi[at] = lo, hi
			}
		}
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
	nq := h.Query * h.Dim
	keys, err := keysOf(h, b.pos, k, v)
	if err != nil {
		return err
	}
	sinks := b.vector(n, 0)
	// Some rows at a time, for a row has as many scores as keys.
	for first, some := 0, max(1, attendMost/(h.Query*len(keys))); first < len(b.pos); first += some {
		end := min(first+some, len(b.pos))
		a := attention{b: b, h: h, pos: b.pos[first:end], keys: len(keys), sinks: sinks, q: q[first*nq : end*nq], k: k, v: v}
		for _, pos := range a.pos {
			var view []int // indices of the keys in view
			for j, key := range keys {
				if key <= pos-h.Delay && (h.Window == 0 || key > pos-h.Window) {
					view = append(view, j)
				}
			}
			a.view = append(a.view, view)
		}
		a.bounds(n.Name, span{out.lo[first*nq : end*nq], out.hi[first*nq : end*nq]})
	}
	return nil
}

// attendMost is how many scores are in work at once.
const attendMost = 1 << 21

// attention is that of some rows. In bfloat16 nearly all of its steps are
// certain where they are not given, and those that are not have two values; in
// float32 all have a small error of their own, and errors add as independent
// ones do.
type attention struct {
	b     *bounds
	h     graph.Heads
	pos   []int
	view  [][]int // of each row, indices of the keys that it sees
	keys  int
	sinks []float64 // may be nil
	q     []float64 // [rows, Query·Dim]
	k, v  []float64 // [keys, KV·Dim]
}

func (a *attention) bounds(name string, out span) {
	size := len(a.pos) * a.h.Query * a.keys
	s := span{make([]float64, size), make([]float64, size)}
	a.each(func(t, head, at int) {
		query := a.q[(t*a.h.Query+head)*a.h.Dim:][:a.h.Dim]
		for _, j := range a.view[t] {
			y, e := a.b.dot(query, a.of(a.k, head, j), 0)
			s.lo[at+j], s.hi[at+j] = y-e, y+e
		}
	})
	scores, _ := a.b.settled(name+graph.StepScores, a.pos, s)

	scale := f32(1 / math.Sqrt(float64(a.h.Dim)))
	s = span{make([]float64, size), make([]float64, size)}
	for i := range s.lo {
		s.lo[i], s.hi[i] = f32(scores.lo[i]*scale), f32(scores.hi[i]*scale)
	}
	scaled, _ := a.b.settled(name+graph.StepScaled, a.pos, s)

	s = span{make([]float64, size), make([]float64, size)}
	off := make([]float64, size) // of a weight, relative; without that of the denominator
	a.each(func(t, head, at int) { a.softmax(s, off, scaled, t, head, at) })
	weights, has := a.b.settled(name+graph.StepWeights, a.pos, s)

	a.each(func(t, head, at int) { a.values(out, weights, s, off, has(t), t, head, at) })
}

// each calls f for each head of each row; at is where its scores begin.
func (a *attention) each(f func(t, head, at int)) {
	split(len(a.pos)*a.h.Query, func(first, end int) {
		for i := first; i < end; i++ {
			f(i/a.h.Query, i%a.h.Query, i*a.keys)
		}
	})
}

// of returns row j of keys or values of the head.
func (a *attention) of(kv []float64, head, j int) []float64 {
	first := head / (a.h.Query / a.h.KV) * a.h.Dim
	return kv[j*a.h.KV*a.h.Dim+first:][:a.h.Dim]
}

// denominator is the relative error of a denominator of so many exponentials.
func denominator(n int) float64 { return expOff + sum((n+lanes-1)/lanes, 1, 1, 1) }

// softmax bounds the weights of a head, which scaled scores from lo to hi give.
func (a *attention) softmax(out span, off []float64, scaled span, t, head, at int) {
	most := math.Inf(-1)
	for _, j := range a.view[t] {
		most = max(most, scaled.hi[at+j])
	}
	if a.sinks != nil {
		most = max(most, a.sinks[head])
	}
	if math.IsInf(most, -1) {
		return // nothing in view: zero
	}
	low, high := 0.0, 0.0 // the denominator
	for _, j := range a.view[t] {
		low += math.Exp(scaled.lo[at+j] - most)
		high += math.Exp(scaled.hi[at+j] - most)
	}
	if a.sinks != nil {
		low += math.Exp(a.sinks[head] - most)
		high += math.Exp(a.sinks[head] - most)
	}
	total := denominator(len(a.view[t]) + 1)
	for _, j := range a.view[t] {
		lo, hi := scaled.lo[at+j], scaled.hi[at+j]
		p, q := math.Exp(lo-most), math.Exp(hi-most)
		off[at+j] = expOff + u*(2*math.Abs(lo-most)+4)
		e := off[at+j] + total
		if a.b.a.BF16 || lo == hi {
			out.lo[at+j], out.hi[at+j] = p/(p+high-q)*(1-e)-tiny, q/(q+low-p)*(1+e)+tiny
			if a.b.a.BF16 && a.b.a.Flush {
				out.lo[at+j] -= 0x1p-126
			}
			continue
		}
		off[at+j] += (hi - lo) / 2
		w := (p + q) / (low + high)
		e += (hi - lo) / 2
		out.lo[at+j], out.hi[at+j] = w*(1-e)-tiny, w*(1+e)+tiny
	}
}

// values bounds the sum of the values by their weights, which are given, or
// rounded from those of s.
func (a *attention) values(out, weights, s span, off []float64, given bool, t, head, at int) {
	dim, view := a.h.Dim, a.view[t]
	y, squares, size := make([]float64, dim), make([]float64, dim), make([]float64, dim)
	slack := make([]float64, dim)                                  // of the weights
	partial, squared := make([]float64, dim), make([]float64, dim) // partial sums of y, and of their squares
	independent := !given && !a.b.a.BF16
	w := func(j int) float64 {
		if independent {
			return (s.lo[at+j] + s.hi[at+j]) / 2
		}
		return (weights.lo[at+j] + weights.hi[at+j]) / 2
	}
	for _, j := range view {
		w := w(j)
		for c, x := range a.of(a.v, head, j) {
			p := w * x
			y[c] += p
			partial[c] += y[c]
			squared[c] += y[c] * y[c]
			squares[c] += p * p
			size[c] += math.Abs(p)
		}
	}
	if !given {
		for _, j := range view {
			d, half := w(j)*off[at+j], (weights.hi[at+j]-weights.lo[at+j])/2
			for c, x := range a.of(a.v, head, j) {
				if independent {
					e := d * (math.Abs(x) + math.Abs(y[c]))
					slack[c] += e * e
				} else {
					slack[c] += half * math.Abs(x)
				}
			}
		}
	}
	for c := range dim {
		n := float64(len(view))
		back := n*y[c]*y[c] - 2*y[c]*partial[c] + squared[c] // Σ(y-s)²
		e := ordered(len(view), y[c], squares[c], size[c], max(squared[c], back))
		if independent {
			e += math.Sqrt(slack[c]) + denominator(len(view)+1)*math.Abs(y[c])
		} else {
			e += slack[c]
		}
		if a.b.a.BF16 && a.b.a.Flush {
			e += 2 * float64(len(view)) * 0x1p-126
		}
		i := (t*a.h.Query+head)*dim + c
		out.lo[i], out.hi[i] = y[c]-e, y[c]+e
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
