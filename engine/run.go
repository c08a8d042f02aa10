package engine

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"

	"ossify/graph"
	"ossify/kernel"
)

// A Tap sees each stage once it is computed: its values, row-major, one row for
// each of the positions. If it returns a slice, that stands in for the stage
// from there on, and is neither changed nor kept. It must not keep values,
// which are reused, nor use the model.
//
// What is inside of some stages is shown before them: .scores, .scaled and
// .weights of attention, [query heads, keys], where what a query does not see is
// 0, and .product of an expert's layer, without its bias. The keys are those of
// the positions from 0 to the last, or of a replay without keys from a tap those
// of its rows.
type Tap func(stage string, positions []int, values []float32) (replacement []float32)

// A runner is what a pass takes beside the model: the memory of its workers and
// of its values, which lasts from pass to pass, and its rows.
type runner struct {
	m    *Model
	crew *crew
	plan *plan
	bufs [][]float32
	acts []kernel.Activations // by slot

	// The rows of a pass.
	parts  []part
	tokens []uint32
	pos    []int
	owner  []int32 // their part
	sel    []int32 // those whose results are asked for, rising; nil is all
	selPos []int
	replay bool

	vals  []mat     // by node
	out   []float32 // of the last node
	turns []turns   // by rope
	keys  []int     // of a replay: positions of the keys of the Attend at hand
	inner mat       // what is inside of the operation at hand
	next  mat       // what will be
	scrap [2][]float32

	// The experts of rows.
	routed  int     // node whose choice this is
	ends    []int32 // of each expert's entries in choices
	active  []int32 // experts that are chosen
	choices []int32 // row·K + k, expert by expert
	from    []int32 // rows of x, alike

	upcoming   [][][]byte // what each worker reads first, by step; see ahead.go
	upcomingTo int        // the last step of which it is set

	blocks []rows // of queries
}

// A part is the rows of one sequence.
type part struct {
	rows
	s      *Session // nil for a replay
	layers []*layer
	asked  rows // in sel
}

// rows are rows lo to hi−1.
type rows struct{ part, lo, hi int }

// A mat is a value: rows of width elements.
type mat struct {
	data          []float32
	width, stride int
	sel           []int32 // rows that are meant; nil is all
}

func (a *mat) row(t int) []float32 {
	if a.sel != nil {
		t = int(a.sel[t])
	}
	return a.data[t*a.stride:][:a.width]
}

func newRunner(m *Model) *runner { return &runner{m: m, crew: newCrew(m.o.Workers, &m.o.Kernels)} }

// begin starts a pass.
func (r *runner) begin(p *plan) {
	if r.plan != p {
		r.plan, r.bufs, r.acts = p, make([][]float32, len(p.bufs)), make([]kernel.Activations, len(p.packs))
		r.vals, r.turns = make([]mat, len(p.places)), make([]turns, len(p.ropes))
		r.upcoming = make([][][]byte, len(p.steps))
	}
	r.parts, r.tokens, r.pos, r.owner = r.parts[:0], r.tokens[:0], r.pos[:0], r.owner[:0]
	r.replay = false
}

// add adds rows of a session, of which the last asked ones' results are asked
// for.
func (r *runner) add(s *Session, tokens []uint32, asked int) {
	n := len(r.tokens)
	s.reserve(len(tokens))
	r.parts = append(r.parts, part{rows: rows{len(r.parts), n, n + len(tokens)}, s: s, layers: s.layers, asked: rows{hi: asked}})
	r.tokens = append(r.tokens, tokens...)
	for i := range tokens {
		r.pos = append(r.pos, s.n+i)
		r.owner = append(r.owner, int32(len(r.parts)-1))
	}
}

// choose lists the rows that are asked for.
func (r *runner) choose() {
	r.sel, r.selPos = r.sel[:0], r.selPos[:0]
	for i := range r.parts {
		p := &r.parts[i]
		asked := p.asked.hi
		p.asked = rows{i, len(r.sel), len(r.sel) + asked}
		for t := p.hi - asked; t < p.hi; t++ {
			r.sel, r.selPos = append(r.sel, int32(t)), append(r.selPos, r.pos[t])
		}
	}
}

// run walks over the plan. The result is that of the rows asked for.
func (r *runner) run(ctx context.Context, tap Tap) (out []float32, err error) {
	p := r.plan
	r.choose()
	r.out = nil
	for b, width := range p.bufs {
		grow(&r.bufs[b], len(r.pos)*width)
	}
	for i, at := range p.places {
		if at.buf == output {
			r.out = make([]float32, r.count(at.tail)*at.width)
		}
		r.vals[i] = r.home(i)
	}
	r.turn()
	r.routed, r.upcomingTo = -1, -1

	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	r.crew.start(r)
	defer r.crew.end()
	for i, s := range p.steps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := s.tasks(r)
		if err == nil && n > 0 {
			r.crew.ahead.next.Store(r.aheadOf(i))
			r.crew.run(r, s, n)
			err = r.crew.err()
		}
		if s, ok := s.(finisher); ok && err == nil {
			s.finish(r)
		}
		if err == nil && tap != nil && p.shows[i].node >= 0 {
			err = r.show(p.shows[i], tap)
		}
		if err != nil {
			return nil, err
		}
	}
	return r.vals[p.end].data, nil
}

// home returns the memory of node i's value.
func (r *runner) home(i int) mat {
	at := &r.plan.places[i]
	m := mat{width: at.width, stride: at.stride}
	switch at.buf {
	case nowhere:
	case output:
		m.data = r.out
	default:
		m.data = r.bufs[at.buf][at.off:]
	}
	return m
}

// count returns the number of rows of values: all, or those asked for.
func (r *runner) count(tail bool) int {
	if tail {
		return len(r.sel)
	}
	return len(r.pos)
}

// in returns value v as a step that goes by all rows, or by those asked for,
// reads it.
func (r *runner) in(v graph.Value, tail bool) mat {
	m := r.vals[v]
	if tail && !r.plan.places[v].tail && len(r.sel) < len(r.pos) {
		m.sel = r.sel
	}
	return m
}

// positions returns those of the rows of a step.
func (r *runner) positions(tail bool) []int {
	if tail {
		return r.selPos
	}
	return r.pos
}

// show shows a value to a tap.
func (r *runner) show(s show, tap Tap) error {
	n := &r.m.g.Nodes[s.node]
	v := &r.vals[s.node]
	if s.inner != "" && s.inner != graph.StepProduct {
		v = &r.inner
	}
	values := v.data[:len(r.pos)*v.width]
	with := tap(n.Name+s.inner, r.pos, values)
	if with == nil {
		return nil
	}
	fail := func(format string, a ...any) error {
		return fmt.Errorf("engine: %s%s: replaced by "+format, append([]any{n.Name, s.inner}, a...)...)
	}
	// Keys and values may be given for every position.
	if len(with) != len(values) && (!r.replay || s.inner != "" || len(with) == 0 || len(with)%v.width != 0) {
		return fail("%d values, want %d", len(with), len(values))
	}
	if limit := r.choicesBelow(s.node); limit > 0 {
		for _, c := range with {
			if !(c >= 0 && c < float32(limit) && c == float32(int(c))) {
				return fail("%g, want a whole number below %d", c, limit)
			}
		}
	}
	*v = mat{data: with, width: v.width, stride: v.width}
	return nil
}

// choicesBelow returns the bound of the indices that node i yields, 0 if it
// yields none.
func (r *runner) choicesBelow(i int) int {
	g := r.m.g
	switch n := &g.Nodes[i]; n.Op {
	case graph.Tokens:
		for _, to := range g.Nodes {
			if to.Op == graph.Gather && int(to.In[0]) == i {
				return g.Params[to.Params[0]].Shape[0]
			}
		}
	case graph.TopK:
		return g.Nodes[n.In[0]].Shape.Last()
	}
	return 0
}

// grow returns n elements of b, in new memory if it has fewer.
func grow[E any](b *[]E, n int) []E {
	if cap(*b) < n {
		*b = make([]E, n)
	}
	*b = (*b)[:n]
	return *b
}

// What an operation of a rowStep is.
const (
	opNode = iota // a node of the graph
	opPack        // a value is packed for products
	opKeep        // keys and values go into the cache
)

type rowOp struct {
	what  int
	node  int
	rope  int  // of Rotate
	slot  int  // of opPack
	pack  pack // of opPack
	layer int  // of opKeep
}

// A rowStep goes by rows: each task is some, and for each it does one operation
// after the other.
type rowStep struct {
	tail bool
	ops  []rowOp
}

// rowGrain is how many rows a task has, once there are more than one for each
// of several.
const rowGrain = 8

func (s *rowStep) tasks(r *runner) (int, error) {
	n := r.count(s.tail)
	for i := range s.ops {
		if o := &s.ops[i]; o.what == opPack && n > 0 {
			r.m.o.Kernels.Resize(&r.acts[o.slot], o.pack.kind, r.m.half, n*o.pack.per, o.pack.cols)
		}
	}
	return (n + grain(n) - 1) / grain(n), nil
}

func grain(n int) int {
	if n <= 8*rowGrain {
		return 1
	}
	return rowGrain
}

func (s *rowStep) do(r *runner, w *worker, task int) {
	n := r.count(s.tail)
	g := grain(n)
	for t := task * g; t < min((task+1)*g, n); t++ {
		for i := range s.ops {
			o := &s.ops[i]
			switch o.what {
			case opNode:
				r.eval(w, o, t, s.tail)
			case opPack:
				x := r.in(o.pack.node, s.tail)
				r.m.o.Kernels.PackRows(&r.acts[o.slot], t*o.pack.per, x.row(t), o.pack.per, o.pack.cols)
			case opKeep:
				n := &r.m.g.Nodes[o.node]
				k, v := r.in(n.In[1], false), r.in(n.In[2], false)
				r.parts[r.owner[t]].layers[o.layer].put(r.pos[t], k.row(t), v.row(t))
			}
		}
	}
}

// round rounds to the values that the precision has.
func (r *runner) round(y []float32) {
	if r.m.half {
		r.m.o.Kernels.Round(y, y)
	}
}

// eval computes row t of a node. The rounding is that of docs/numerics.md: once
// an operation, but where kernel.Set says otherwise.
func (r *runner) eval(w *worker, o *rowOp, t int, tail bool) {
	n, k, half := &r.m.g.Nodes[o.node], &r.m.o.Kernels, r.m.half
	out := r.vals[o.node].row(t)
	var x, y []float32
	if len(n.In) > 0 {
		v := r.in(n.In[0], tail)
		x = v.row(t)
	}
	if len(n.In) > 1 {
		v := r.in(n.In[1], tail)
		y = v.row(t)
	}
	cols, xcols := n.Shape.Last(), 0
	if len(n.In) > 0 {
		xcols = r.m.g.Nodes[n.In[0]].Shape.Last()
	}

	switch n.Op {
	case graph.Tokens:
		if tail && len(r.sel) < len(r.pos) {
			t = int(r.sel[t])
		}
		out[0] = float32(r.tokens[t]) // exact: ids are below 2^24

	case graph.Gather:
		r.m.w.Row32(n.Params[0], int(x[0]), out)

	case graph.RMSNorm:
		for i := 0; i < len(out); i += cols {
			k.Norm(out[i:i+cols], x[i:i+cols], r.m.vectors[n.Params[0]], n.Eps, half)
		}

	case graph.Columns:
		for i, j := 0, n.Lo; i < len(out); i, j = i+cols, j+xcols {
			copy(out[i:i+cols], x[j:])
		}

	case graph.Every:
		for i := range out {
			out[i] = x[2*i+n.Lo]
		}

	case graph.Rotate:
		if tail && len(r.sel) < len(r.pos) {
			t = int(r.sel[t])
		}
		cos, sin := r.turns[o.rope].at(t, n.Rope.Dim/2)
		if n.Rope.Adjacent {
			rotateAdjacent(out, x, cos, sin, r.round)
		} else {
			k.Rotate(out, x, cos, sin, half)
		}

	case graph.TopK:
		top := grow(&w.top, len(out))
		kernel.TopK(top, x)
		for i, c := range top {
			out[i] = float32(c)
		}

	case graph.Pick:
		for i, c := range y {
			out[i] = x[int(c)]
		}

	case graph.Softmax:
		for i := 0; i < len(out); i += cols {
			k.Softmax(out[i:i+cols], x[i:i+cols], float32(math.Inf(-1)), half)
		}

	case graph.Clamp:
		lo, hi := float32(n.A), float32(n.B)
		for i, v := range x {
			out[i] = min(max(v, lo), hi)
		}

	case graph.Affine:
		a, b := float32(n.A), float32(n.B)
		for i, v := range x {
			out[i] = float32(a*v) + b
		}
		r.round(out)

	case graph.Sigmoid:
		for i, v := range x {
			out[i] = kernel.Sigmoid(v)
		}
		r.round(out)

	case graph.Mul:
		for i, v := range x {
			out[i] = v * y[i]
		}
		r.round(out)

	case graph.Add:
		k.Add(out, x, y, half)

	case graph.Mix:
		k.Mix(out, x, cols, y, half)

	default:
		panic(stepError{fmt.Errorf("engine: %s: no case for %v", n.Name, n.Op)})
	}
}

// A linearStep is a product with a matrix, its bias added before the one
// rounding. A task is some rows of the matrix, for all rows of the pass.
type linearStep struct {
	node   int
	slot   int
	bias   int // parameter, or -1
	blocks []span
}

func (s *linearStep) tasks(r *runner) (int, error) {
	if r.count(r.plan.places[s.node].tail) == 0 {
		return 0, nil
	}
	return len(s.blocks), nil
}

func (s *linearStep) do(r *runner, w *worker, task int) {
	n, k := &r.m.g.Nodes[s.node], &r.m.o.Kernels
	x := &r.acts[s.slot]
	b := s.blocks[task]
	height := b.hi - b.lo
	y := grow(&w.y, x.Rows()*height)
	w.job = kernel.Job{W: r.m.dense[n.Params[0]][b.source].Part(b.lo, b.hi), Hi: height, X: x, Y: y, Stride: height}
	k.Multiply(&w.job, &w.scratch)
	for t := range x.Rows() {
		y, out := y[t*height:][:height], r.vals[s.node].row(t)[b.first:][:height]
		switch {
		case s.bias >= 0:
			k.Add(out, y, r.m.vectors[s.bias][b.first:][:height], r.m.half)
		case r.m.half:
			k.Round(out, y)
		default:
			copy(out, y)
		}
	}
}

// An expertStep is a product with the experts' matrices that each row chose, the
// bias added to the rounded product, and what comes between an expert's two
// products. A task is some rows of one expert's matrix, for all rows that chose
// it.
type expertStep struct {
	node   int
	slot   int
	shared bool // the K experts of a row read the same x
	bias   int  // parameter, or -1
	gate   *graph.Gate
	out    int // node: the gate's, if there is one
}

// height returns how many rows of weights a task takes. What a task costs beside
// its product, a few tenths of a microsecond, counts where few rows of x make
// the product short.
func (s *expertStep) height(r *runner) int {
	if r.count(r.plan.places[s.node].tail) <= fewRows {
		return 3 * panelRows
	}
	return panelRows
}

// panels returns the tasks of an expert.
func (s *expertStep) panels(r *runner) int {
	height := s.height(r)
	return (r.m.g.Nodes[s.node].Shape.Last() + height - 1) / height
}

func (s *expertStep) tasks(r *runner) (int, error) {
	if r.count(r.plan.places[s.node].tail) == 0 {
		return 0, nil
	}
	r.route(s)
	return len(r.active) * s.panels(r), nil
}

// route lists, for each expert, the rows that chose it.
func (r *runner) route(s *expertStep) {
	n := &r.m.g.Nodes[s.node]
	tail := r.plan.places[s.node].tail
	idx := r.in(n.In[1], tail)
	count, experts := r.count(tail), r.m.g.Params[n.Params[0]].Shape[0]
	k := idx.width
	if r.routed != int(n.In[1]) {
		r.routed = int(n.In[1])
		grow(&r.ends, experts)
		clear(r.ends)
		for t := range count {
			for _, e := range idx.row(t) {
				r.ends[int(e)]++
			}
		}
		r.active = r.active[:0]
		sum := int32(0)
		for e, c := range r.ends {
			if c > 0 {
				r.active = append(r.active, int32(e))
			}
			r.ends[e] = sum
			sum += c
		}
		grow(&r.choices, count*k)
		for t := range count {
			for j, e := range idx.row(t) {
				r.choices[r.ends[int(e)]] = int32(t*k + j)
				r.ends[int(e)]++
			}
		}
	}
	grow(&r.from, count*k)
	for i, c := range r.choices {
		if s.shared {
			c /= int32(k)
		}
		r.from[i] = c
	}
}

// entries returns where an expert's entries in choices are.
func (r *runner) entries(expert int) (lo, hi int) {
	if expert > 0 {
		lo = int(r.ends[expert-1])
	}
	return lo, int(r.ends[expert])
}

// place returns a task's expert and its first row.
func (s *expertStep) place(r *runner, task int) (expert, lo int) {
	panels := s.panels(r)
	return int(r.active[task/panels]), task % panels * s.height(r)
}

func (s *expertStep) do(r *runner, w *worker, task int) {
	n, k := &r.m.g.Nodes[s.node], &r.m.o.Kernels
	height := n.Shape.Last()
	e, lo := s.place(r, task)
	hi := min(lo+s.height(r), height)
	x := &r.acts[s.slot]
	m := r.m.experts[n.Params[0]].Part(e*height+lo, e*height+hi)
	a, b := r.entries(e)
	y := grow(&w.y, (b-a)*m.Rows)
	w.job = kernel.Job{W: m, Hi: m.Rows, X: x, XRows: r.from[a:b], Y: y, Stride: m.Rows}
	k.Multiply(&w.job, &w.scratch)

	var bias []float32
	if s.bias >= 0 {
		bias = r.expertBias(w, s.bias, e, lo, hi)
	}
	outCols := r.m.g.Nodes[s.out].Shape.Last()
	topK := int32(n.Shape[1])
	for i, c := range r.choices[a:b] {
		y := y[i*m.Rows:][:m.Rows]
		switch {
		case bias != nil && r.m.half:
			k.RoundAdd(y, y, bias)
		case bias != nil:
			k.Add(y, y, bias, false)
		default:
			r.round(y)
		}
		out := r.vals[s.out].row(int(c / topK))[int(c%topK)*outCols:][:outCols]
		if s.gate != nil {
			k.SwiGLU(out[lo/2:hi/2], y, float32(s.gate.Alpha), float32(s.gate.Limit), r.m.half)
		} else {
			copy(out[lo:hi], y)
		}
	}
}

// expertBias returns columns lo to hi of an expert's row of a bias.
func (r *runner) expertBias(w *worker, param, e, lo, hi int) []float32 {
	b := grow(&w.bias, hi-lo)
	r.m.w.Part32(param, e, lo, b)
	return b
}

// A biasStep adds the bias of experts to a product that a tap was shown.
type biasStep struct{ node, bias int }

func (s *biasStep) tasks(r *runner) (int, error) { return len(r.pos), nil }

func (s *biasStep) do(r *runner, w *worker, t int) {
	n := &r.m.g.Nodes[s.node]
	from, to := r.vals[s.node], r.home(s.node) // from may be what a tap gave
	idx := r.in(n.In[1], false)
	cols := n.Shape.Last()
	for j, e := range idx.row(t) {
		b := r.expertBias(w, s.bias, int(e), 0, cols)
		r.m.o.Kernels.Add(to.row(t)[j*cols:][:cols], from.row(t)[j*cols:][:cols], b, r.m.half)
	}
}

func (s *biasStep) finish(r *runner) { r.vals[s.node] = r.home(s.node) }
