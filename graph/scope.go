package graph

import (
	"errors"
	"fmt"
	"slices"
)

// Build records a model. Its error joins every mistake that record made, each
// with the path where it stands.
func Build(record func(Scope)) (*Graph, error) {
	r := &recorder{g: Graph{Nodes: make([]Node, 0, 700)}, stages: map[string]bool{}, params: map[string]bool{}} // gpt-oss-20b has 676
	record(Scope{r: r})
	if err := errors.Join(r.errs...); err != nil {
		return nil, err
	}
	return &r.g, nil
}

type recorder struct {
	g              Graph
	stages, params map[string]bool
	errs           []error
}

// A Scope is a place in the model's tree, and the pen that writes there.
// Scopes are values: taking one changes nothing, and none need closing.
//
// Its methods record one node each, under the scope's own path, and return the
// node's value. A mistake is kept for [Build] to report; the value returned
// then still has a shape, so that recording goes on.
type Scope struct {
	r    *recorder
	path string
}

// At returns the scope below s. Think of it as cd.
func (s Scope) At(name string) Scope {
	if s.path != "" {
		name = s.path + "." + name
	}
	return Scope{s.r, name}
}

// Shape returns the shape of v.
func (s Scope) Shape(v Value) Shape { return s.r.g.Nodes[v].Shape }

func (s Scope) errorf(format string, args ...any) {
	s.r.errs = append(s.r.errs, fmt.Errorf("graph: "+s.path+": "+format, args...))
}

// node records n as the stage s.
func (s Scope) node(n Node) Value {
	if s.r.stages[s.path] {
		s.errorf("second stage of that name, want it once")
	}
	s.r.stages[s.path] = true
	for _, d := range n.Shape[1:] {
		if d < 1 {
			s.errorf("shape %v has a dimension below 1, want none", n.Shape)
			break
		}
	}
	n.Name = s.path
	s.r.g.Nodes = append(s.r.g.Nodes, n)
	return Value(len(s.r.g.Nodes) - 1)
}

func (s Scope) param(name string, st Storage, shape ...int) int {
	path := s.At(name).path
	if s.r.params[path] {
		s.errorf("second parameter %s, want it once", path)
	}
	s.r.params[path] = true
	if st == MXFP4 && Shape(shape).Last()%32 != 0 {
		s.errorf("parameter %s: MXFP4 rows of %d elements, want a multiple of 32", path, Shape(shape).Last())
	}
	s.r.g.Params = append(s.r.g.Params, Param{path, shape, st})
	return len(s.r.g.Params) - 1
}

// matrix checks that x is [T, D] and returns D.
func (s Scope) matrix(x Value) int {
	if sh := s.Shape(x); len(sh) != 2 {
		s.errorf("input %v, want [T, D]", sh)
	}
	return s.Shape(x).Last()
}

// Tokens is the model's input: one id a row.
func (s Scope) Tokens() Value { return s.node(Node{Op: Tokens, Shape: Shape{T}}) }

// Gather yields rows of weight [n, dim].
func (s Scope) Gather(x Value, n, dim int) Value {
	return s.node(Node{Op: Gather, In: []Value{x}, Params: []int{s.param("weight", BF16, n, dim)}, Shape: Shape{T, dim}})
}

// RMSNorm normalises the last dimension and multiplies it by scale [D].
func (s Scope) RMSNorm(x Value, eps float64) Value {
	return s.node(Node{Op: RMSNorm, In: []Value{x}, Params: []int{s.param("scale", BF16, s.Shape(x).Last())}, Eps: eps, Shape: s.Shape(x)})
}

// Linear yields n columns from weight [n, D] and bias [n].
func (s Scope) Linear(x Value, n int) Value {
	d := s.matrix(x)
	return s.node(Node{Op: Linear, In: []Value{x}, Params: []int{s.param("weight", BF16, n, d), s.param("bias", BF16, n)}, Shape: Shape{T, n}})
}

// Project is [Scope.Linear] without a bias.
func (s Scope) Project(x Value, n int) Value {
	return s.node(Node{Op: Linear, In: []Value{x}, Params: []int{s.param("weight", BF16, n, s.matrix(x))}, Shape: Shape{T, n}})
}

// Columns yields n columns of x from lo.
func (s Scope) Columns(x Value, lo, n int) Value {
	if last := s.Shape(x).Last(); lo < 0 || n < 1 || lo+n > last {
		s.errorf("columns %d to %d of %d, want one or more of them", lo, lo+n, last)
	}
	return s.node(Node{Op: Columns, In: []Value{x}, Lo: lo, N: n, Shape: s.resized(x, n)})
}

// Rotate turns each head of x by its row's position.
func (s Scope) Rotate(x Value, r Rope) Value {
	if d := s.matrix(x); r.Dim < 2 || r.Dim%2 != 0 || d%r.Dim != 0 {
		s.errorf("%d columns in heads of %d, want whole heads of an even number", d, r.Dim)
	}
	return s.node(Node{Op: Rotate, In: []Value{x}, Rope: r, Shape: s.Shape(x)})
}

// Attend records, as the stage name below s, each query's attention over its
// own and earlier keys and values, with one learned sink a head: s's own
// parameter sinks [Query]. The back end keeps the past.
func (s Scope) Attend(q, k, v Value, name string, h Heads) Value {
	sinks := s.param("sinks", BF16, h.Query)
	s = s.At(name)
	if h.KV < 1 || h.Query < 1 || h.Query%h.KV != 0 {
		s.errorf("%d query heads on %d key/value heads, want a multiple", h.Query, h.KV)
	}
	for _, in := range []struct {
		name  string
		v     Value
		heads int
	}{{"queries", q, h.Query}, {"keys", k, h.KV}, {"values", v, h.KV}} {
		if d := s.matrix(in.v); d != in.heads*h.Dim {
			s.errorf("%s of %d columns, want %d heads of %d", in.name, d, in.heads, h.Dim)
		}
	}
	return s.node(Node{Op: Attend, In: []Value{q, k, v}, Params: []int{sinks}, Heads: h, Shape: s.Shape(q)})
}

// TopK yields the columns of the k largest, largest first; equal ones in
// column order.
func (s Scope) TopK(x Value, k int) Value {
	if d := s.matrix(x); k < 1 || k > d {
		s.errorf("top %d of %d columns, want 1 to %d", k, d, d)
	}
	return s.node(Node{Op: TopK, In: []Value{x}, N: k, Shape: Shape{T, k}})
}

// Pick yields the columns of x that idx lists.
func (s Scope) Pick(x, idx Value) Value {
	s.matrix(x)
	return s.node(Node{Op: Pick, In: []Value{x, idx}, Shape: s.Shape(idx)})
}

// ExpertLinear applies, for each expert that idx [T, K] lists, its n rows of
// name_weight [experts, n, D] and name_bias [experts, n]. x is [T, D], the same
// for all K, or [T, K, D].
func (s Scope) ExpertLinear(x, idx Value, name string, experts, n int) Value {
	sh, k := s.Shape(x), s.Shape(idx).Last()
	if len(sh) == 3 && sh[1] != k {
		s.errorf("%s: %v for %d experts a row, want [T, D] or [T, %d, D]", name, sh, k, k)
	}
	w, b := s.param(name+"_weight", MXFP4, experts, n, sh.Last()), s.param(name+"_bias", BF16, experts, n)
	return s.At(name).node(Node{Op: ExpertLinear, In: []Value{x, idx}, Params: []int{w, b}, Shape: Shape{T, k, n}})
}

// Every yields every second column of x: the even ones (lo 0) or the odd (lo 1).
func (s Scope) Every(x Value, lo int) Value {
	last := s.Shape(x).Last()
	if lo != 0 && lo != 1 || last%2 != 0 {
		s.errorf("every second of %d columns from %d, want an even number from 0 or 1", last, lo)
	}
	return s.node(Node{Op: Every, In: []Value{x}, Lo: lo, Shape: s.resized(x, last/2)})
}

// Clamp bounds x to [lo, hi].
func (s Scope) Clamp(x Value, lo, hi float64) Value {
	if !(lo <= hi) {
		s.errorf("clamp from %g to %g, want bounds that rise", lo, hi)
	}
	return s.node(Node{Op: Clamp, In: []Value{x}, A: lo, B: hi, Shape: s.Shape(x)})
}

// Affine yields a·x + b.
func (s Scope) Affine(x Value, a, b float64) Value {
	return s.node(Node{Op: Affine, In: []Value{x}, A: a, B: b, Shape: s.Shape(x)})
}

// Softmax normalises the exponentials of the last dimension.
func (s Scope) Softmax(x Value) Value { return s.unary(Softmax, x) }

// Sigmoid yields 1 / (1 + exp(−x)).
func (s Scope) Sigmoid(x Value) Value { return s.unary(Sigmoid, x) }

// Mul yields x · y.
func (s Scope) Mul(x, y Value) Value { return s.binary(Mul, x, y) }

// Add yields x + y.
func (s Scope) Add(x, y Value) Value { return s.binary(Add, x, y) }

// Mix yields the sum over K of w[t, k] · x[t, k].
func (s Scope) Mix(x, w Value) Value {
	sx, sw := s.Shape(x), s.Shape(w)
	if len(sx) != 3 || len(sw) != 2 || sx[1] != sw[1] {
		s.errorf("%v with weights %v, want [T, K, D] and [T, K]", sx, sw)
	}
	return s.node(Node{Op: Mix, In: []Value{x, w}, Shape: Shape{T, sx.Last()}})
}

func (s Scope) unary(op Op, x Value) Value {
	return s.node(Node{Op: op, In: []Value{x}, Shape: s.Shape(x)})
}

func (s Scope) binary(op Op, x, y Value) Value {
	if a, b := s.Shape(x), s.Shape(y); !slices.Equal(a, b) {
		s.errorf("%v and %v, want the same shape", a, b)
	}
	return s.node(Node{Op: op, In: []Value{x, y}, Shape: s.Shape(x)})
}

// resized returns x's shape with n columns.
func (s Scope) resized(x Value, n int) Shape {
	sh := slices.Clone(s.Shape(x))
	sh[len(sh)-1] = n
	return sh
}
