// Package build makes the nodes of ONNX graphs: operators, constants, loops.
package build

import (
	"encoding/binary"
	"math"
	"ossify/onnx/wire"
)

// A Builder appends nodes, in the order in which they are computed. It has a
// scope: what it makes under the name local is the value scope/local.
type Builder struct {
	Shared []*wire.Node // of [Builder.Once]; they come before Nodes
	Nodes  []*wire.Node

	scope string
	body  *[]*wire.Node // where nodes are added
	known map[string]bool
}

// NewBuilder returns a builder without scope, with room for n nodes.
func NewBuilder(n int) *Builder {
	return &Builder{Nodes: make([]*wire.Node, 0, n), known: map[string]bool{}}
}

// Enter begins a scope.
func (b *Builder) Enter(scope string) { b.scope, b.body = scope, &b.Nodes }

// Name returns the name of a value of the scope.
func (b *Builder) Name(local string) string { return b.scope + "/" + local }

// First reports whether name is new, and notes it.
func (b *Builder) First(name string) bool {
	if b.known[name] {
		return false
	}
	b.known[name] = true
	return true
}

// Once adds, for the first of several scopes, values that they share, named
// /local. What make adds comes before all scopes.
func (b *Builder) Once(name string, make func()) string {
	if b.First(name) {
		scope, body := b.scope, b.body
		b.scope, b.body = "", &b.Shared
		make()
		b.scope, b.body = scope, body
	}
	return name
}

// NewNode returns a node that has the name of its first output.
func NewNode(op string, inputs []string, outputs ...string) *wire.Node {
	return &wire.Node{Op: op, Name: outputs[0], Inputs: inputs, Outputs: outputs}
}

// Int returns an attribute.
func Int(name string, v int) *wire.Attribute {
	return &wire.Attribute{Name: name, Kind: wire.AttrInt, Int: int64(v)}
}

// Real returns an attribute.
func Real(name string, v float64) *wire.Attribute {
	return &wire.Attribute{Name: name, Kind: wire.AttrFloat, Float: float32(v)}
}

// Ints returns an attribute.
func Ints(name string, v ...int) *wire.Attribute {
	a := &wire.Attribute{Name: name, Kind: wire.AttrInts}
	for _, x := range v {
		a.Ints = append(a.Ints, int64(x))
	}
	return a
}

// Size is a fixed dimension.
func Size(n int) *wire.Dim { return &wire.Dim{Size: int64(n), Sized: true} }

// Symbol is a fixed dimension, or, if n is 0, the name of one that varies.
func Symbol(n int, name string) *wire.Dim {
	if n > 0 {
		return Size(n)
	}
	return &wire.Dim{Symbol: name}
}

// Typed describes a tensor.
func Typed(name string, elem wire.DataType, dims ...*wire.Dim) *wire.Value {
	return &wire.Value{Name: name, Type: &wire.Type{Tensor: &wire.TensorType{Elem: elem, Shape: &wire.Shape{Dims: dims}}}}
}

// Add adds a node.
func (b *Builder) Add(n *wire.Node) *wire.Node {
	*b.body = append(*b.body, n)
	return n
}

// Op adds an operator, whose result is called local within the scope.
func (b *Builder) Op(local, op string, inputs ...string) string {
	return b.Add(NewNode(op, inputs, b.Name(local))).Outputs[0]
}

// OpWith is Op with an attribute.
func (b *Builder) OpWith(a *wire.Attribute, local, op string, inputs ...string) string {
	return b.Add(NewNode(op, inputs, b.Name(local)).With(a)).Outputs[0]
}

// Result adds the operator whose result has the name of the scope itself.
func (b *Builder) Result(op string, inputs ...string) *wire.Node {
	return b.Add(NewNode(op, inputs, b.scope))
}

// Constant adds one. It is given as a tensor: shape inference of ONNX Runtime
// before 1.24 does not see other forms in functions.
func (b *Builder) Constant(local string, t *wire.Tensor) string {
	return b.OpWith(&wire.Attribute{Name: "value", Kind: wire.AttrTensor, Tensor: t}, local, "Constant")
}

// Ints is a constant list [n].
func (b *Builder) Ints(local string, v ...int) string {
	raw := make([]byte, 0, 8*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(x))
	}
	return b.Constant(local, &wire.Tensor{Type: wire.Int64, Dims: []int64{int64(len(v))}, Raw: raw})
}

// End is a constant list [1], for the end of a slice that has none.
func (b *Builder) End(local string) string {
	return b.Constant(local, &wire.Tensor{Type: wire.Int64, Dims: []int64{1}, Raw: binary.LittleEndian.AppendUint64(nil, math.MaxInt64)})
}

// Int is a constant scalar.
func (b *Builder) Int(local string, v int) string {
	return b.Constant(local, &wire.Tensor{Type: wire.Int64, Raw: binary.LittleEndian.AppendUint64(nil, uint64(v))})
}

// Int32 is a constant scalar.
func (b *Builder) Int32(local string, v int32) string {
	return b.Constant(local, &wire.Tensor{Type: wire.Int32, Raw: binary.LittleEndian.AppendUint32(nil, uint32(v))})
}

// Bool is a constant scalar.
func (b *Builder) Bool(local string, v bool) string {
	raw := []byte{0}
	if v {
		raw[0] = 1
	}
	return b.Constant(local, &wire.Tensor{Type: wire.Bool, Raw: raw})
}

// Float is a constant scalar.
func (b *Builder) Float(local string, v float64) string {
	return b.Constant(local, &wire.Tensor{Type: wire.Float, Raw: binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v)))})
}

// Reshape adds one.
func (b *Builder) Reshape(local, x string, shape ...int) string {
	return b.Op(local, "Reshape", x, b.Ints(local+".shape", shape...))
}

// Transpose adds one.
func (b *Builder) Transpose(local, x string, perm ...int) string {
	return b.OpWith(Ints("perm", perm...), local, "Transpose", x)
}

// Unsqueeze adds one.
func (b *Builder) Unsqueeze(local, x string, axes ...int) string {
	return b.Op(local, "Unsqueeze", x, b.Ints(local+".axes", axes...))
}

// Concat adds one.
func (b *Builder) Concat(local string, axis int, x ...string) string {
	return b.OpWith(Int("axis", axis), local, "Concat", x...)
}

// Slice adds one, of step 1.
func (b *Builder) Slice(local, x, from, to, axes string) string {
	return b.Op(local, "Slice", x, from, to, axes)
}

// Cast adds one.
func (b *Builder) Cast(local, x string, to wire.DataType) string {
	return b.OpWith(Int("to", int(to)), local, "Cast", x)
}

// Shape is the dimensions of x up to number end, all if end is 0; −1 leaves out
// the last.
func (b *Builder) Shape(local, x string, end int) string {
	if end == 0 {
		return b.Op(local, "Shape", x)
	}
	return b.OpWith(Int("end", end), local, "Shape", x)
}

// Loop adds one whose body make adds. It reads its count, its condition and
// what it starts with; in the body, local.i is the round. It carries inputs to
// outputs and returns what the last round made of them; or, if it carries
// nothing, collects the output of each round.
func (b *Builder) Loop(local string, reads []string, inputs, outputs []*wire.Value, make func()) string {
	outer := b.body
	var body []*wire.Node
	b.body = &body
	make()
	b.Op(local+".again", "Identity", b.Name(local+".go"))
	b.body = outer
	return b.OpWith(&wire.Attribute{Name: "body", Kind: wire.AttrGraph, Graph: &wire.Graph{
		Nodes:   body,
		Name:    local,
		Inputs:  append([]*wire.Value{Typed(b.Name(local+".i"), wire.Int64), Typed(b.Name(local+".go"), wire.Bool)}, inputs...),
		Outputs: append([]*wire.Value{Typed(b.Name(local+".again"), wire.Bool)}, outputs...),
	}}, local, "Loop", reads...)
}
