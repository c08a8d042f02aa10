package engine

import (
	"slices"

	"ossify/graph"
	"ossify/kernel"
)

// A plan is a graph as steps. Nodes that go by rows are done in one step as far
// as they follow each other, row by row, and so are what they leave to be packed
// for products and to be kept in the cache; so a block of the model is six
// products and attention, with what lies between them.
//
// In the open plan every node is a step of its own, so that a tap can see and
// replace it; and attention and experts' products are several. It is made of
// the same steps, and yields the same bits.
type plan struct {
	m     *Model
	fused bool
	end   int // the node whose value is the result; those after it are left out

	steps  []step
	shows  []show  // what a tap sees after each step
	places []place // of values, by node
	bufs   []int   // floats a row, by buffer
	packs  []pack  // by slot
	ropes  []graph.Rope

	// Building.
	at      int // the node that is being added
	row     *rowStep
	lastUse []int
	free    []int // buffers
	dying   []int // nodes whose buffers are free after the step
	done    []bool
}

// A step is a part of a pass: tasks that several workers do at once.
type step interface {
	// tasks prepares the step and returns their number.
	tasks(r *runner) (int, error)
	do(r *runner, w *worker, task int)
}

// A finisher is a step with something to do once its tasks are done.
type finisher interface{ finish(r *runner) }

// A show is a value that a tap is shown: that of a node, or one inside of it.
type show struct {
	node  int // -1 is none
	inner string
}

// A place says where the rows of a node's value lie.
type place struct {
	buf         int // or output, or nowhere
	off, stride int // of a row in the buffer, floats
	width       int
	tail        bool // only rows that are asked for
}

const (
	output  = -1
	nowhere = -2 // the value is made and used up in one step
)

// A pack is a value in the form that products take.
type pack struct {
	node graph.Value
	kind kernel.Kind
	per  int // packed rows a row
	cols int
	last int // node that reads it last; the slot is free from there
}

// newPlan plans m.g as far as node end.
func newPlan(m *Model, fused bool, end graph.Value) *plan {
	g := m.g
	p := &plan{m: m, fused: fused, end: int(end), places: make([]place, len(g.Nodes)), lastUse: make([]int, len(g.Nodes)), done: make([]bool, len(g.Nodes))}
	past := make([]bool, len(g.Nodes)) // some key or value depends on it
	root := make([]int, len(g.Nodes))  // whose buffer it lies in
	for i := range p.end + 1 {
		root[i] = i
		if p.views(i) {
			root[i] = root[g.Nodes[i].In[0]]
		}
	}
	for i := p.end; i >= 0; i-- {
		n := &g.Nodes[i]
		for j, v := range n.In {
			p.lastUse[root[v]] = max(p.lastUse[root[v]], i)
			past[v] = past[v] || past[i] || n.Op == graph.Attend && j > 0
		}
	}
	for i := range p.places {
		p.places[i] = place{buf: nowhere, tail: fused && !past[i]}
	}
	for i := range p.end + 1 {
		if p.at = i; !p.done[i] {
			p.add(i)
		}
		for _, v := range g.Nodes[i].In {
			if v := root[v]; p.lastUse[v] == i && !slices.Contains(p.dying, v) {
				p.dying = append(p.dying, v)
			}
		}
		if !fused {
			p.flush()
		}
	}
	p.flush()
	return p
}

// views reports whether node i is a part of its input's rows, in place.
func (p *plan) views(i int) bool {
	n := &p.m.g.Nodes[i]
	return p.fused && n.Op == graph.Columns && len(n.Shape) == 2 && i != p.end
}

// add adds node i.
func (p *plan) add(i int) {
	n := &p.m.g.Nodes[i]
	tail := p.places[i].tail
	switch n.Op {
	case graph.Linear:
		s := &linearStep{node: i, slot: p.packed(n.In[0], kernel.BF16, tail), bias: -1}
		if len(n.Params) > 1 {
			s.bias = n.Params[1]
		}
		s.blocks = p.m.blocksOf(n.Params[0])
		p.flush()
		p.put(i)
		p.step(s, show{node: i})
		p.flush()

	case graph.ExpertLinear:
		s := &expertStep{node: i, out: i, slot: p.packed(n.In[0], kernel.MXFP4, tail), bias: -1}
		if len(n.Params) > 1 {
			s.bias = n.Params[1]
		}
		s.shared = len(p.m.g.Nodes[n.In[0]].Shape) == 2
		p.flush()
		if !p.fused && s.bias >= 0 {
			bias := &biasStep{node: i, bias: s.bias}
			s.bias = -1
			p.put(i)
			p.step(s, show{i, graph.StepProduct})
			p.step(bias, show{node: i})
			p.flush()
			break
		}
		inner := show{node: i}
		if p.fused {
			if g, ok := p.m.g.GateOf(graph.Value(i)); ok && p.places[i].tail == p.places[g.Out].tail {
				s.gate, s.out = &g, int(g.Out)
				for _, v := range g.Nodes {
					p.done[v] = true
				}
			}
		}
		p.put(s.out)
		p.step(s, inner)
		p.flush()

	case graph.Attend:
		layer := slices.Index(p.m.attends, i)
		p.put(i)
		if p.fused {
			p.op(rowOp{what: opKeep, node: i, layer: layer}, false)
			p.flush()
			p.step(&attendStep{node: i, layer: layer}, show{node: i})
		} else {
			p.flush()
			p.step(&keepStep{node: i, layer: layer}, show{node: -1})
			for phase, inner := range append(n.Steps(), "") {
				p.step(&openAttend{node: i, layer: layer, phase: phase}, show{i, inner})
			}
		}
		p.flush()

	case graph.Rotate:
		rope := slices.Index(p.ropes, n.Rope)
		if rope < 0 {
			rope = len(p.ropes)
			p.ropes = append(p.ropes, n.Rope)
		}
		p.put(i)
		p.op(rowOp{what: opNode, node: i, rope: rope}, tail)

	default:
		if p.views(i) {
			of := p.places[n.In[0]]
			p.places[i].buf, p.places[i].off, p.places[i].stride, p.places[i].width = of.buf, of.off+n.Lo, of.stride, n.N
			// A view has its rows where they are.
			p.places[i].tail = of.tail
			return
		}
		p.put(i)
		p.op(rowOp{what: opNode, node: i}, tail)
	}
}

// put gives node i a place.
func (p *plan) put(i int) {
	at := &p.places[i]
	at.width = p.m.g.Nodes[i].Shape.Width()
	at.stride = at.width
	if i == p.end {
		at.buf = output
		return
	}
	for k, b := range p.free {
		if p.bufs[b] == at.width {
			at.buf = b
			p.free = slices.Delete(p.free, k, k+1)
			return
		}
	}
	at.buf = len(p.bufs)
	p.bufs = append(p.bufs, at.width)
}

// packed sees to it that v is packed for products with weights of a kind, and
// returns its slot. The consumer's rows are asked for: all, or those at the end.
func (p *plan) packed(v graph.Value, kind kernel.Kind, tail bool) int {
	n := &p.m.g.Nodes[v]
	last := 0 // that reads v so
	for i := range p.end + 1 {
		c := &p.m.g.Nodes[i]
		if c.Op == graph.Linear && kind == kernel.BF16 && c.In[0] == v || c.Op == graph.ExpertLinear && kind == kernel.MXFP4 && c.In[0] == v {
			if p.places[i].tail == tail {
				last = i
			}
		}
	}
	for slot, k := range p.packs {
		if k.node == v && k.kind == kind && k.last == last {
			return slot
		}
	}
	k := pack{node: v, kind: kind, per: n.Shape.Width() / n.Shape.Last(), cols: n.Shape.Last(), last: last}
	slot := slices.IndexFunc(p.packs, func(k pack) bool { return k.last < p.at })
	if slot < 0 {
		slot = len(p.packs)
		p.packs = append(p.packs, k)
	}
	p.packs[slot] = k
	p.op(rowOp{what: opPack, node: int(v), slot: slot, pack: k}, tail)
	return slot
}

// op adds to the step that goes by rows.
func (p *plan) op(o rowOp, tail bool) {
	if p.row != nil && p.row.tail != tail {
		p.flush()
	}
	if p.row == nil {
		p.row = &rowStep{tail: tail}
	}
	p.row.ops = append(p.row.ops, o)
}

// step adds a step.
func (p *plan) step(s step, what show) {
	p.steps = append(p.steps, s)
	p.shows = append(p.shows, what)
}

// flush ends the step that goes by rows, and gives back the buffers of values
// that were read last in it or before.
func (p *plan) flush() {
	if p.row != nil {
		what := show{node: -1}
		if o := p.row.ops[len(p.row.ops)-1]; o.what == opNode {
			what.node = o.node
		}
		p.step(p.row, what)
		p.row = nil
	}
	for _, v := range p.dying {
		if b := p.places[v].buf; b >= 0 {
			p.free = append(p.free, b)
		}
	}
	p.dying = p.dying[:0]
}

// A span is a run of rows of one source of a matrix.
type span struct {
	source int
	first  int // row of the parameter
	lo, hi int // rows of the source
}

// panelRows is how many rows of weights a task takes at most, an expert's for few
// rows of a pass apart: enough to be worth a task, few enough that their results
// for a pass of rows stay in cache.
const panelRows = 64

// fewRows is the most rows of a pass that waits for weights, rather than for the
// arithmetic.
const fewRows = 8

// blocksOf cuts the rows of a matrix into tasks, at least eight a worker where
// rows suffice.
func (m *Model) blocksOf(param int) []span {
	rows := m.g.Params[param].Shape[0]
	height := min(max(rows/(8*m.o.Workers)&^3, 4), panelRows)
	var all []span
	first := 0
	for i, s := range m.w.Sources(param) {
		for lo := 0; lo < s.Rows; lo += height {
			all = append(all, span{i, first + lo, lo, min(lo+height, s.Rows)})
		}
		first += s.Rows
	}
	return all
}
