package graph

import (
	"math"
	"slices"
)

// A Gate is the activation between the two products of gpt-oss's experts, which
// programs compute at once. With g and l the even and the odd columns of In, it is
//
//	x·σ(Alpha·x)·(y + 1),  x = min(g, Limit), y = min(max(l, −Limit), Limit)
//
// (swiglu in gpt_oss/torch/model.py).
type Gate struct {
	Alpha, Limit float64
	In, Out      Value
	Nodes        []Value // all of it, ascending; Out is the last
}

// GateOf returns the gate that is all that reads v, if there is one.
func (g *Graph) GateOf(v Value) (Gate, bool) {
	readers := func(v Value) (all []Value) {
		for i := range g.Nodes {
			for _, in := range g.Nodes[i].In {
				if in == v {
					all = append(all, Value(i))
				}
			}
		}
		return all
	}
	const none = Value(-1)
	// next returns the one reader of v, if it is an op that f accepts.
	next := func(v Value, op Op, f func(n *Node) bool) Value {
		if v == none {
			return none
		}
		all := readers(v)
		if len(all) != 1 || g.Nodes[all[0]].Op != op || f != nil && !f(&g.Nodes[all[0]]) {
			return none
		}
		return all[0]
	}
	both := readers(v)
	if len(both) != 2 || g.Nodes[both[0]].Op != Every || g.Nodes[both[1]].Op != Every || g.Nodes[v].Shape.Last()%2 != 0 {
		return Gate{}, false
	}
	glu, linear := both[0], both[1]
	if g.Nodes[glu].Lo != 0 {
		glu, linear = linear, glu
	}
	if g.Nodes[glu].Lo != 0 || g.Nodes[linear].Lo != 1 {
		return Gate{}, false
	}
	var limit float64
	top := next(glu, Clamp, func(n *Node) bool { limit = n.B; return math.IsInf(n.A, -1) && n.B > 0 && !math.IsInf(n.B, 1) })
	band := next(linear, Clamp, func(n *Node) bool { return n.A == -limit && n.B == limit })
	plus := next(band, Affine, func(n *Node) bool { return n.A == 1 && n.B == 1 })
	if top == none || plus == none {
		return Gate{}, false
	}
	if both = readers(top); len(both) != 2 {
		return Gate{}, false
	}
	scaled, mul := both[0], both[1]
	if g.Nodes[scaled].Op != Affine {
		scaled, mul = mul, scaled
	}
	if n := &g.Nodes[scaled]; n.Op != Affine || n.B != 0 {
		return Gate{}, false
	}
	sigmoid := next(scaled, Sigmoid, nil)
	if next(sigmoid, Mul, nil) != mul {
		return Gate{}, false
	}
	out := next(mul, Mul, nil)
	if out == none || next(plus, Mul, nil) != out {
		return Gate{}, false
	}
	nodes := []Value{glu, linear, top, band, plus, scaled, sigmoid, mul, out}
	slices.Sort(nodes)
	return Gate{Alpha: g.Nodes[scaled].A, Limit: limit, In: v, Out: out, Nodes: nodes}, true
}
