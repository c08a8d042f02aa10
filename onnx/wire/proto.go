// Package wire is ONNX's file format: the messages of onnx.proto that are used
// here, their bytes, and a text form for review.
//
// It is written by hand over protowire, since onnx.proto is large and two dozen
// of its messages' fields are enough.
package wire

import (
	"fmt"
	"iter"
	"strconv"
)

// The messages of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto),
// IR version 10, as far as they are written or looked at here. Field numbers
// stand in the fields methods.

// Model is a ModelProto.
type Model struct {
	IR              int64
	Producer        string
	ProducerVersion string
	Doc             string
	Graph           *Graph
	Opsets          []*Opset
	Metadata        []*Entry
	Functions       []*Function
}

func (m *Model) fields(w *coder) {
	w.int(1, &m.IR, false)
	w.string(2, &m.Producer)
	w.string(3, &m.ProducerVersion)
	w.string(6, &m.Doc)
	one(w, 7, &m.Graph)
	list(w, 8, &m.Opsets)
	list(w, 14, &m.Metadata)
	list(w, 25, &m.Functions)
}

// Opset is an OperatorSetIdProto.
type Opset struct {
	Domain  string
	Version int64
}

func (o *Opset) fields(w *coder) {
	w.string(1, &o.Domain)
	w.int(2, &o.Version, true)
}

// Entry is a StringStringEntryProto.
type Entry struct{ Key, Value string }

func (e *Entry) fields(w *coder) {
	w.string(1, &e.Key)
	w.string(2, &e.Value)
}

// Graph is a GraphProto: the model's own, or the body of a loop.
type Graph struct {
	Nodes        []*Node
	Name         string
	Initializers []*Tensor
	sparse       []*opaque
	Inputs       []*Value
	Outputs      []*Value
	Values       []*Value
}

func (g *Graph) fields(w *coder) {
	list(w, 1, &g.Nodes)
	w.string(2, &g.Name)
	list(w, 5, &g.Initializers)
	list(w, 11, &g.Inputs)
	list(w, 12, &g.Outputs)
	list(w, 13, &g.Values)
	list(w, 15, &g.sparse)
}

// opaque is a message of which only the presence is looked at.
type opaque struct{}

func (*opaque) fields(*coder) {}

// Node is a NodeProto.
type Node struct {
	Inputs, Outputs []string
	Name            string
	Op              string
	Attributes      []*Attribute
	Domain          string
}

func (n *Node) fields(w *coder) {
	w.strings(1, &n.Inputs)
	w.strings(2, &n.Outputs)
	w.string(3, &n.Name)
	w.string(4, &n.Op)
	list(w, 5, &n.Attributes)
	w.string(7, &n.Domain)
}

// With adds attributes.
func (n *Node) With(as ...*Attribute) *Node {
	n.Attributes = append(n.Attributes, as...)
	return n
}

// The kinds of attribute, AttributeProto.AttributeType.
const (
	AttrFloat   = 1
	AttrInt     = 2
	AttrString  = 3
	AttrTensor  = 4
	AttrGraph   = 5
	AttrFloats  = 6
	AttrInts    = 7
	AttrStrings = 8
)

// Attribute is an AttributeProto.
type Attribute struct {
	Name    string
	Float   float32
	Int     int64
	String  []byte
	Tensor  *Tensor
	Graph   *Graph
	floats  int64 // bytes; read only
	Ints    []int64
	Strings []string
	Graphs  []*Graph
	Tensors []*Tensor
	Kind    int64
	Ref     string
}

func (a *Attribute) fields(w *coder) {
	w.string(1, &a.Name)
	w.float(2, &a.Float, a.Kind == AttrFloat)
	w.int(3, &a.Int, a.Kind == AttrInt)
	w.bytes(4, &a.String, a.Kind == AttrString)
	one(w, 5, &a.Tensor)
	one(w, 6, &a.Graph)
	w.opaque(7, &a.floats)
	w.ints(8, &a.Ints)
	w.strings(9, &a.Strings)
	list(w, 10, &a.Tensors)
	list(w, 11, &a.Graphs)
	w.int(20, &a.Kind, true)
	w.string(21, &a.Ref)
}

// A DataType is a TensorProto.DataType: the type of a tensor's elements.
type DataType int64

// The data types that are written.
const (
	Float    DataType = 1
	Uint8    DataType = 2
	Int32    DataType = 6
	Int64    DataType = 7
	String   DataType = 8
	Bool     DataType = 9
	Float16  DataType = 10
	Bfloat16 DataType = 16
)

// String returns the type's name in lower case, or its number.
func (t DataType) String() string {
	if types := dataTypes(); t >= 0 && int64(t) < int64(len(types)) {
		return types[t].name
	}
	return fmt.Sprintf("type %d", int64(t))
}

// Valid reports whether the type is known.
func (t DataType) Valid() bool { return t > 0 && int64(t) < int64(len(dataTypes())) }

// Bits returns the size of an element, 0 of strings and of types that are not
// known.
func (t DataType) Bits() int {
	if !t.Valid() {
		return 0
	}
	return dataTypes()[t].bits
}

func dataTypes() []struct {
	name string
	bits int
} {
	return []struct {
		name string
		bits int
	}{
		{"undefined", 0}, {"float", 32}, {"uint8", 8}, {"int8", 8}, {"uint16", 16}, {"int16", 16}, {"int32", 32}, {"int64", 64},
		{"string", 0}, {"bool", 8}, {"float16", 16}, {"double", 64}, {"uint32", 32}, {"uint64", 64}, {"complex64", 64},
		{"complex128", 128}, {"bfloat16", 16}, {"float8e4m3fn", 8}, {"float8e4m3fnuz", 8}, {"float8e5m2", 8},
		{"float8e5m2fnuz", 8}, {"uint4", 4}, {"int4", 4}, {"float4e2m1", 4}, {"float8e8m0", 8}, {"uint2", 2}, {"int2", 2},
	}
}

// Tensor is a TensorProto.
type Tensor struct {
	Dims     []int64
	Type     DataType
	Name     string
	Raw      []byte
	Floats   iter.Seq[float32] // written instead of Raw, as many as Dims says
	Typed    int64             // bytes of float_data and its like; read only
	External []*Entry
	Location int64 // 1 is external
}

const External = 1

func (t *Tensor) fields(w *coder) {
	w.ints(1, &t.Dims)
	w.int(2, (*int64)(&t.Type), true)
	w.opaque(4, &t.Typed) // float_data
	w.opaque(5, &t.Typed) // int32_data
	w.opaque(6, &t.Typed) // string_data
	w.opaque(7, &t.Typed) // int64_data
	w.string(8, &t.Name)
	if t.Floats != nil && !w.reading {
		w.values(9, t)
	} else {
		w.bytes(9, &t.Raw, false)
	}
	w.opaque(10, &t.Typed) // double_data
	w.opaque(11, &t.Typed) // uint64_data
	list(w, 13, &t.External)
	w.int(14, &t.Location, false)
}

// Value is a ValueInfoProto.
type Value struct {
	Name string
	Type *Type
	Doc  string
}

func (v *Value) fields(w *coder) {
	w.string(1, &v.Name)
	one(w, 2, &v.Type)
	w.string(3, &v.Doc)
}

// Describe returns the type of v's elements, ? if it is no tensor, and its
// dimensions: sizes, symbols, or ? where neither is given; nil if the rank is
// open.
func (v *Value) Describe() (elem string, dims []string) {
	dims = []string{}
	if v.Type == nil || v.Type.Tensor == nil {
		return "?", dims
	}
	elem = "?"
	if t := v.Type.Tensor.Elem; t == 0 || t.Valid() {
		elem = t.String()
	}
	if v.Type.Tensor.Shape == nil {
		return elem, nil
	}
	for _, d := range v.Type.Tensor.Shape.Dims {
		switch {
		case d.Sized:
			dims = append(dims, strconv.FormatInt(d.Size, 10))
		case d.Symbol != "":
			dims = append(dims, d.Symbol)
		default:
			dims = append(dims, "?")
		}
	}
	return elem, dims
}

// Type is a TypeProto.
type Type struct {
	Tensor *TensorType
	other  int64 // bytes of a sequence, map or optional type; read only
}

func (t *Type) fields(w *coder) {
	one(w, 1, &t.Tensor)
	w.opaque(4, &t.other)
	w.opaque(5, &t.other)
	w.opaque(8, &t.other)
	w.opaque(9, &t.other)
}

// TensorType is a TypeProto.Tensor.
type TensorType struct {
	Elem  DataType
	Shape *Shape
}

func (t *TensorType) fields(w *coder) {
	w.int(1, (*int64)(&t.Elem), true)
	one(w, 2, &t.Shape)
}

// Shape is a TensorShapeProto.
type Shape struct{ Dims []*Dim }

func (s *Shape) fields(w *coder) { list(w, 1, &s.Dims) }

// Dim is a TensorShapeProto.Dimension: a size, or a symbol, or unknown.
type Dim struct {
	Size   int64
	Sized  bool
	Symbol string
}

func (d *Dim) fields(w *coder) {
	w.int(1, &d.Size, d.Sized)
	d.Sized = d.Sized || w.reading && w.num == 1
	w.string(2, &d.Symbol)
}

// Function is a FunctionProto.
type Function struct {
	Name            string
	Inputs, Outputs []string
	Attributes      []string
	Nodes           []*Node
	Doc             string
	Opsets          []*Opset
	Domain          string
}

func (f *Function) fields(w *coder) {
	w.string(1, &f.Name)
	w.strings(4, &f.Inputs)
	w.strings(5, &f.Outputs)
	w.strings(6, &f.Attributes)
	list(w, 7, &f.Nodes)
	w.string(8, &f.Doc)
	list(w, 9, &f.Opsets)
	w.string(10, &f.Domain)
}
