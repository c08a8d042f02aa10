package onnx

// The messages of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto),
// IR version 10, as far as they are written or looked at here. Field numbers
// stand in the fields methods.

// model is a ModelProto.
type model struct {
	ir              int64
	producer        string
	producerVersion string
	doc             string
	graph           *subgraph
	opsets          []*opset
	metadata        []*entry
	functions       []*function
}

func (m *model) fields(w *wire) {
	w.int(1, &m.ir, false)
	w.string(2, &m.producer)
	w.string(3, &m.producerVersion)
	w.string(6, &m.doc)
	one(w, 7, &m.graph)
	list(w, 8, &m.opsets)
	list(w, 14, &m.metadata)
	list(w, 25, &m.functions)
}

// opset is an OperatorSetIdProto.
type opset struct {
	domain  string
	version int64
}

func (o *opset) fields(w *wire) {
	w.string(1, &o.domain)
	w.int(2, &o.version, true)
}

// entry is a StringStringEntryProto.
type entry struct{ key, value string }

func (e *entry) fields(w *wire) {
	w.string(1, &e.key)
	w.string(2, &e.value)
}

// subgraph is a GraphProto: the model's own, or the body of a loop.
type subgraph struct {
	nodes        []*node
	name         string
	initializers []*tensor
	sparse       []*opaque
	inputs       []*value
	outputs      []*value
	values       []*value
}

func (g *subgraph) fields(w *wire) {
	list(w, 1, &g.nodes)
	w.string(2, &g.name)
	list(w, 5, &g.initializers)
	list(w, 11, &g.inputs)
	list(w, 12, &g.outputs)
	list(w, 13, &g.values)
	list(w, 15, &g.sparse)
}

// opaque is a message of which only the presence is looked at.
type opaque struct{}

func (*opaque) fields(*wire) {}

// node is a NodeProto.
type node struct {
	inputs, outputs []string
	name            string
	op              string
	attributes      []*attribute
	domain          string
}

func (n *node) fields(w *wire) {
	w.strings(1, &n.inputs)
	w.strings(2, &n.outputs)
	w.string(3, &n.name)
	w.string(4, &n.op)
	list(w, 5, &n.attributes)
	w.string(7, &n.domain)
}

// The kinds of attribute, AttributeProto.AttributeType.
const (
	attrFloat   = 1
	attrInt     = 2
	attrString  = 3
	attrTensor  = 4
	attrGraph   = 5
	attrFloats  = 6
	attrInts    = 7
	attrStrings = 8
)

// attribute is an AttributeProto.
type attribute struct {
	name    string
	float   float32
	int     int64
	string  []byte
	tensor  *tensor
	graph   *subgraph
	floats  int64 // bytes; read only
	ints    []int64
	strings []string
	graphs  []*subgraph
	tensors []*tensor
	kind    int64
	ref     string
}

func (a *attribute) fields(w *wire) {
	w.string(1, &a.name)
	w.float(2, &a.float, a.kind == attrFloat)
	w.int(3, &a.int, a.kind == attrInt)
	w.bytes(4, &a.string, a.kind == attrString)
	one(w, 5, &a.tensor)
	one(w, 6, &a.graph)
	w.opaque(7, &a.floats)
	w.ints(8, &a.ints)
	w.strings(9, &a.strings)
	list(w, 10, &a.tensors)
	list(w, 11, &a.graphs)
	w.int(20, &a.kind, true)
	w.string(21, &a.ref)
}

// Element types, TensorProto.DataType.
const (
	typeFloat    = 1
	typeUint8    = 2
	typeUint16   = 4
	typeInt32    = 6
	typeInt64    = 7
	typeString   = 8
	typeBool     = 9
	typeBfloat16 = 16
)

// elementTypes names the data types, with the bits of an element; 0 is
// undefined, or no fixed size.
func elementTypes() []struct {
	name string
	bits int64
} {
	return []struct {
		name string
		bits int64
	}{
		{"undefined", 0}, {"float", 32}, {"uint8", 8}, {"int8", 8}, {"uint16", 16}, {"int16", 16}, {"int32", 32}, {"int64", 64},
		{"string", 0}, {"bool", 8}, {"float16", 16}, {"double", 64}, {"uint32", 32}, {"uint64", 64}, {"complex64", 64},
		{"complex128", 128}, {"bfloat16", 16}, {"float8e4m3fn", 8}, {"float8e4m3fnuz", 8}, {"float8e5m2", 8},
		{"float8e5m2fnuz", 8}, {"uint4", 4}, {"int4", 4}, {"float4e2m1", 4}, {"float8e8m0", 8}, {"uint2", 2}, {"int2", 2},
	}
}

// tensor is a TensorProto.
type tensor struct {
	dims     []int64
	elem     int64
	name     string
	raw      []byte
	typed    int64 // bytes of float_data and its like; read only
	external []*entry
	location int64 // 1 is external
}

const external = 1

func (t *tensor) fields(w *wire) {
	w.ints(1, &t.dims)
	w.int(2, &t.elem, true)
	w.opaque(4, &t.typed) // float_data
	w.opaque(5, &t.typed) // int32_data
	w.opaque(6, &t.typed) // string_data
	w.opaque(7, &t.typed) // int64_data
	w.string(8, &t.name)
	w.bytes(9, &t.raw, false)
	w.opaque(10, &t.typed) // double_data
	w.opaque(11, &t.typed) // uint64_data
	list(w, 13, &t.external)
	w.int(14, &t.location, false)
}

// value is a ValueInfoProto.
type value struct {
	name string
	typ  *valueType
}

func (v *value) fields(w *wire) {
	w.string(1, &v.name)
	one(w, 2, &v.typ)
}

// valueType is a TypeProto.
type valueType struct {
	tensor *tensorType
	other  int64 // bytes of a sequence, map or optional type; read only
}

func (t *valueType) fields(w *wire) {
	one(w, 1, &t.tensor)
	w.opaque(4, &t.other)
	w.opaque(5, &t.other)
	w.opaque(8, &t.other)
	w.opaque(9, &t.other)
}

// tensorType is a TypeProto.Tensor.
type tensorType struct {
	elem  int64
	shape *shape
}

func (t *tensorType) fields(w *wire) {
	w.int(1, &t.elem, true)
	one(w, 2, &t.shape)
}

// shape is a TensorShapeProto.
type shape struct{ dims []*dim }

func (s *shape) fields(w *wire) { list(w, 1, &s.dims) }

// dim is a TensorShapeProto.Dimension: a size, or a symbol, or unknown.
type dim struct {
	size   int64
	sized  bool
	symbol string
}

func (d *dim) fields(w *wire) {
	w.int(1, &d.size, d.sized)
	d.sized = d.sized || w.reading && w.num == 1
	w.string(2, &d.symbol)
}

// function is a FunctionProto.
type function struct {
	name            string
	inputs, outputs []string
	attributes      []string
	nodes           []*node
	doc             string
	opsets          []*opset
	domain          string
}

func (f *function) fields(w *wire) {
	w.string(1, &f.name)
	w.strings(4, &f.inputs)
	w.strings(5, &f.outputs)
	w.strings(6, &f.attributes)
	list(w, 7, &f.nodes)
	w.string(8, &f.doc)
	list(w, 9, &f.opsets)
	w.string(10, &f.domain)
}
