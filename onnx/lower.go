package onnx

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"ossify/checkpoint"
	"ossify/float"
	"ossify/graph"
	"ossify/weight"
)

// A Target is a set of operators that a graph is lowered to.
type Target uint8

// The targets.
const (
	Portable Target = iota // the standard's own operators, opset 21, IR version 10, float32 arithmetic
)

// String returns the target's name on the command line.
func (t Target) String() string { return [...]string{"portable"}[t] }

// cases returns how each operation is lowered.
func (t Target) cases() map[graph.Op]func(*lowering, *graph.Node) {
	return map[graph.Op]func(*lowering, *graph.Node){
		graph.Tokens:       (*lowering).tokens,
		graph.Gather:       (*lowering).gather,
		graph.RMSNorm:      (*lowering).rmsNorm,
		graph.Linear:       (*lowering).linear,
		graph.Columns:      (*lowering).columns,
		graph.Rotate:       (*lowering).rotate,
		graph.Attend:       (*lowering).attend,
		graph.TopK:         (*lowering).topK,
		graph.Pick:         (*lowering).pick,
		graph.Softmax:      (*lowering).softmax,
		graph.ExpertLinear: (*lowering).expertLinear,
		graph.Every:        (*lowering).every,
		graph.Clamp:        (*lowering).clamp,
		graph.Affine:       (*lowering).affine,
		graph.Sigmoid:      func(l *lowering, n *graph.Node) { l.stage("Sigmoid", l.in(n, 0)) },
		graph.Mul:          func(l *lowering, n *graph.Node) { l.stage("Mul", l.in(n, 0), l.in(n, 1)) },
		graph.Add:          func(l *lowering, n *graph.Node) { l.stage("Add", l.in(n, 0), l.in(n, 1)) },
		graph.Mix:          (*lowering).mix,
	}
}

const (
	irVersion    = 10
	opsetVersion = 21
)

// A lowering is a graph on its way to ONNX: a flat list of nodes.
//
// A stage's value has the stage's path as its name. Other values of a stage
// are path/name, and those that stages share /name: no path holds a slash, so
// that names cannot meet.
type lowering struct {
	g    *graph.Graph
	w    *weight.Set
	opt  *Options
	err  error
	node *graph.Node // being lowered

	shared   []*node // values that stages share; they come first
	nodes    []*node
	owner    []int // of nodes: index in g.Nodes
	inits    []initializer
	known    map[string]bool   // names of inits and shared values
	role     map[string]string // what a value is called inside of functions
	leafRole map[string]string // what a parameter is called inside of an operation's function
	inputs   []*value
	outputs  []*value
	attends  int // Attend nodes so far
	body     *[]*node
}

// An initializer is a constant of the model: its own bytes, or a tensor of the
// checkpoint.
type initializer struct {
	name  string
	elem  int64
	shape []int
	raw   []byte
	from  *checkpoint.Tensor
}

// lower returns g as a list of ONNX nodes.
func lower(g *graph.Graph, w *weight.Set, opt *Options) (*lowering, error) {
	l := &lowering{g: g, w: w, opt: opt, known: map[string]bool{}, role: map[string]string{"input_ids": "input_ids", "attention_mask": "attention_mask"}, leafRole: map[string]string{}}
	batch, seq, total := symbol(opt.Batch, "batch"), symbol(opt.Seq, "seq"), symbol(opt.Total, "total")
	l.inputs = append(l.inputs, typed("input_ids", typeInt64, batch, seq), typed("attention_mask", typeInt64, batch, total))
	if err := w.Fits(g.Params); err != nil {
		return nil, fmt.Errorf("onnx: %w", err)
	}
	cases := opt.Target.cases()
	for i := range g.Nodes {
		n := &g.Nodes[i]
		c, ok := cases[n.Op]
		if !ok {
			return nil, fmt.Errorf("onnx: %s: target %v has no case for %v", n.Name, opt.Target, n.Op)
		}
		if strings.Contains(n.Name, "/") || n.Name == "" {
			return nil, fmt.Errorf("onnx: %q: want a stage path without a slash", n.Name)
		}
		l.node, l.body = n, &l.nodes
		c(l, n)
		if l.err != nil {
			return nil, fmt.Errorf("onnx: %s: %w", n.Name, l.err)
		}
		for len(l.owner) < len(l.nodes) {
			l.owner = append(l.owner, i)
		}
		if opt.Trace {
			l.outputs = append(l.outputs, l.stageType(n, n.Name))
		}
	}
	if len(g.Nodes) == 0 {
		return nil, fmt.Errorf("onnx: the model has no stages")
	}
	last := &g.Nodes[g.Output()]
	l.owner = append(slices.Repeat([]int{-1}, len(l.shared)), append(l.owner, len(g.Nodes))...)
	l.nodes = append(slices.Clip(l.shared), append(l.nodes, newNode("Identity", []string{last.Name}, "logits"))...)
	l.outputs = slices.Insert(l.outputs, 0, l.stageType(last, "logits"))
	return l, nil
}

// stageType describes n's value: [batch, seq, ..].
func (l *lowering) stageType(n *graph.Node, name string) *value {
	elem := int64(typeFloat)
	if n.Op == graph.Tokens || n.Op == graph.TopK {
		elem = typeInt64
	}
	seq := symbol(l.opt.Seq, "seq")
	if l.opt.LastOnly && n == &l.g.Nodes[l.g.Output()] {
		seq = sized(1)
	}
	dims := []*dim{symbol(l.opt.Batch, "batch"), seq}
	for _, d := range n.Shape[1:] {
		dims = append(dims, sized(d))
	}
	return typed(name, elem, dims...)
}

// Building blocks.

func sized(n int) *dim { return &dim{size: int64(n), sized: true} }

// symbol is a fixed size, or a name for one that varies.
func symbol(n int, name string) *dim {
	if n > 0 {
		return sized(n)
	}
	return &dim{symbol: name}
}

func typed(name string, elem int64, dims ...*dim) *value {
	return &value{name, &valueType{tensor: &tensorType{elem, &shape{dims}}}}
}

func newNode(op string, inputs []string, outputs ...string) *node {
	return &node{op: op, name: outputs[0], inputs: inputs, outputs: outputs}
}

func (n *node) with(as ...*attribute) *node {
	n.attributes = append(n.attributes, as...)
	return n
}

func intAttr(name string, v int) *attribute {
	return &attribute{name: name, kind: attrInt, int: int64(v)}
}

func intsAttr(name string, v ...int) *attribute {
	a := &attribute{name: name, kind: attrInts}
	for _, x := range v {
		a.ints = append(a.ints, int64(x))
	}
	return a
}

// name returns the name of a value of the stage at hand.
func (l *lowering) name(local string) string { return l.node.Name + "/" + local }

// in returns the name of input i of n.
func (l *lowering) in(n *graph.Node, i int) string {
	x := l.g.Nodes[n.In[i]].Name
	if !l.opt.LastOnly || n != &l.g.Nodes[l.g.Output()] {
		return x
	}
	switch n.Op { // the other operations need all rows, or their positions
	case graph.Attend, graph.Rotate, graph.Gather:
		l.err = fmt.Errorf("the last stage is %v, want one that goes by rows for the logits of the last position only", n.Op)
	}
	last := fmt.Sprintf("last%d", i)
	return l.slice(last, x, l.ints(last+".from", -1), l.ints(last+".to", math.MaxInt64), l.ints(last+".axis", 1))
}

func (l *lowering) add(n *node) *node {
	*l.body = append(*l.body, n)
	return n
}

// op adds an operator, whose result is called local within the stage.
func (l *lowering) op(local, op string, inputs ...string) string {
	return l.add(newNode(op, inputs, l.name(local))).outputs[0]
}

// opWith is op with an attribute.
func (l *lowering) opWith(a *attribute, local, op string, inputs ...string) string {
	return l.add(newNode(op, inputs, l.name(local)).with(a)).outputs[0]
}

// stage adds the operator whose result is the stage.
func (l *lowering) stage(op string, inputs ...string) *node {
	return l.add(newNode(op, inputs, l.node.Name))
}

// constant is a value of the stage's own. It is given as a tensor: shape
// inference of ONNX Runtime before 1.24 does not see other forms in functions.
func (l *lowering) constant(local string, t *tensor) string {
	return l.opWith(&attribute{name: "value", kind: attrTensor, tensor: t}, local, "Constant")
}

// ints is a constant list [n].
func (l *lowering) ints(local string, v ...int) string {
	return l.constant(local, &tensor{elem: typeInt64, dims: []int64{int64(len(v))}, raw: int64Bytes(v...)})
}

// int is a constant scalar.
func (l *lowering) int(local string, v int) string {
	return l.constant(local, &tensor{elem: typeInt64, raw: int64Bytes(v)})
}

// int32 is a constant scalar.
func (l *lowering) int32(local string, v int32) string {
	return l.constant(local, &tensor{elem: typeInt32, raw: binary.LittleEndian.AppendUint32(nil, uint32(v))})
}

// float is a constant scalar.
func (l *lowering) float(local string, v float64) string {
	return l.constant(local, &tensor{elem: typeFloat, raw: floatBytes([]float32{float32(v)})})
}

func (l *lowering) reshape(local, x string, shape ...int) string {
	return l.op(local, "Reshape", x, l.ints(local+".shape", shape...))
}

func (l *lowering) transpose(local, x string, perm ...int) string {
	return l.opWith(intsAttr("perm", perm...), local, "Transpose", x)
}

func (l *lowering) unsqueeze(local, x string, axes ...int) string {
	return l.op(local, "Unsqueeze", x, l.ints(local+".axes", axes...))
}

func (l *lowering) concat(local string, axis int, x ...string) string {
	return l.opWith(intAttr("axis", axis), local, "Concat", x...)
}

func (l *lowering) slice(local, x, from, to, axes string) string {
	return l.op(local, "Slice", x, from, to, axes)
}

func (l *lowering) cast(local, x string, elem int) string {
	return l.opWith(intAttr("to", elem), local, "Cast", x)
}

// shape is the dimensions of x up to number end; end −1 leaves out the last.
func (l *lowering) shape(local, x string, end int) string {
	n := newNode("Shape", []string{x}, l.name(local))
	if end != 0 {
		n.with(intAttr("end", end))
	}
	return l.add(n).outputs[0]
}

// table adds a constant of our own, once.
func (l *lowering) table(name string, shape []int, v []float32) string {
	if !l.known[name] {
		l.known[name] = true
		l.inits = append(l.inits, initializer{name: name, elem: typeFloat, shape: shape, raw: floatBytes(v)})
	}
	return name
}

// once adds values that stages share. What make adds comes before all stages.
func (l *lowering) once(name string, make func()) string {
	if !l.known[name] {
		l.known[name] = true
		n, body := l.node, l.body
		l.node, l.body = &graph.Node{}, &l.shared
		make()
		l.node, l.body = n, body
	}
	return name
}

// tensorOf adds a tensor of the checkpoint: the part of parameter path that
// suffix says, under a shape of its own or another of as many elements.
func (l *lowering) tensorOf(path, suffix string, t *checkpoint.Tensor, shape ...int) string {
	name := path + suffix
	if len(shape) == 0 {
		shape = t.Shape
	}
	if !l.known[name] {
		l.known[name] = true
		l.leafRole[name] = path[strings.LastIndexAny(path, "._")+1:] + suffix // weight, bias, scale, sinks
		elem := map[checkpoint.DType]int64{checkpoint.BF16: typeBfloat16, checkpoint.F32: typeFloat, checkpoint.U8: typeUint8}[t.Type]
		l.inits = append(l.inits, initializer{name: name, elem: elem, shape: shape, from: t})
	}
	return name
}

// A part is a run of a parameter's rows, as its file has it.
type part struct {
	name string
	rows int
	bf16 bool // else float32
}

// maxFolded bounds a part's size as float32, in bytes: ONNX Runtime converts
// constants when it loads a model, but from 1.32 on only up to this size, and
// larger ones anew in every call.
const maxFolded = 1 << 30

// parts returns parameter i of n in its runs of rows.
func (l *lowering) parts(n *graph.Node, i int) []part {
	segments, path := l.w.Sources(n.Params[i]), l.g.Params[n.Params[i]].Name
	var tensors []checkpoint.Tensor
	for _, s := range segments {
		tensors = append(tensors, split(s.Data)...)
	}
	var all []part
	first := 0
	for j := range tensors {
		t := &tensors[j]
		suffix := ""
		if len(tensors) > 1 {
			suffix = fmt.Sprintf("[%d:%d]", first, first+t.Shape[0])
		}
		all = append(all, part{l.tensorOf(path, suffix, t), t.Shape[0], t.Type == checkpoint.BF16})
		first += t.Shape[0]
	}
	return all
}

// split cuts a matrix that is too large to be converted at once into runs of
// rows, which lie one after the other in its file.
func split(t checkpoint.Tensor) []checkpoint.Tensor {
	if len(t.Shape) != 2 || t.Type != checkpoint.BF16 || t.Shape[0]*t.Shape[1] <= maxFolded/4 {
		return []checkpoint.Tensor{t}
	}
	var all []checkpoint.Tensor
	n := (t.Shape[0]*t.Shape[1] + maxFolded/4 - 1) / (maxFolded / 4)
	for k := range n {
		first, end := k*t.Shape[0]/n, (k+1)*t.Shape[0]/n
		row := t.Shape[1] * t.Type.Size()
		c := t
		c.Shape, c.Offset = []int{end - first, t.Shape[1]}, t.Offset+int64(first*row)
		if t.Data != nil {
			c.Data = t.Data[first*row : end*row]
		}
		all = append(all, c)
	}
	return all
}

// param returns parameter i of n, a vector, as float32.
func (l *lowering) param(n *graph.Node, i int) string {
	parts := l.parts(n, i)
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	x := names[0]
	if len(names) > 1 {
		x = l.concat(fmt.Sprintf("p%d", i), 0, names...)
	}
	if parts[0].bf16 {
		x = l.cast(fmt.Sprintf("p%d.f32", i), x, typeFloat)
	}
	return x
}

// The cases. Shapes are written B for batch, S for seq, T for total.

func (l *lowering) tokens(*graph.Node) { l.stage("Identity", "input_ids") }

func (l *lowering) gather(n *graph.Node) {
	segments, path := l.w.Sources(n.Params[0]), l.g.Params[n.Params[0]].Name
	if len(segments) != 1 {
		l.err = fmt.Errorf("%s: %d tensors, want 1", path, len(segments)) // no checkpoint has it otherwise
		return
	}
	p := l.tensorOf(path, "", &segments[0].Data)
	if segments[0].Data.Type == checkpoint.F32 {
		l.stage("Gather", p, l.in(n, 0))
		return
	}
	// Rows first: the matrix itself is not converted.
	l.stage("Cast", l.op("rows", "Gather", p, l.in(n, 0))).with(intAttr("to", typeFloat))
}

func (l *lowering) rmsNorm(n *graph.Node) {
	x := l.in(n, 0)
	square := l.op("square", "Pow", x, l.float("two", 2))
	mean := l.op("mean", "ReduceMean", square, l.ints("axis", -1))
	rms := l.op("rms", "Sqrt", l.op("mean.eps", "Add", mean, l.float("eps", n.Eps)))
	l.stage("Mul", l.op("x.rms", "Div", x, rms), l.param(n, 0))
}

// linear is a Gemm for each run of the weight's rows: unlike MatMul it takes
// them as they are stored.
func (l *lowering) linear(n *graph.Node) {
	x := l.in(n, 0)
	rows := l.reshape("rows", x, -1, l.g.Nodes[n.In[0]].Shape.Last())
	parts := l.parts(n, 0)
	var products []string
	for i, p := range parts {
		suffix, w := "", p.name
		if len(parts) > 1 {
			suffix = fmt.Sprint(i)
		}
		if p.bf16 {
			w = l.cast("w"+suffix, w, typeFloat)
		}
		products = append(products, l.opWith(intAttr("transB", 1), "product"+suffix, "Gemm", rows, w))
	}
	product := products[0]
	if len(products) > 1 {
		product = l.concat("product", 1, products...)
	}
	shape := l.concat("shape", 0, l.shape("batch_seq", x, -1), l.ints("columns", n.Shape.Last()))
	if len(n.Params) == 1 {
		l.stage("Reshape", product, shape)
		return
	}
	l.stage("Add", l.op("xw", "Reshape", product, shape), l.param(n, 1))
}

func (l *lowering) columns(n *graph.Node) {
	l.stage("Slice", l.in(n, 0), l.ints("from", n.Lo), l.ints("to", n.Lo+n.N), l.ints("axis", -1))
}

func (l *lowering) every(n *graph.Node) {
	l.stage("Slice", l.in(n, 0), l.ints("from", n.Lo), l.ints("to", math.MaxInt64), l.ints("axis", -1), l.ints("step", 2))
}

// keyPositions is the position of each key [B, T]: how many real tokens come
// before it. Padding has that of the token before it, or −1.
func (l *lowering) keyPositions() string {
	return l.once("/key_positions", func() {
		sum := l.op("key_count", "CumSum", "attention_mask", l.int("time", 1))
		l.op("key_positions", "Sub", sum, l.int("one", 1))
	})
}

// queryPositions is that of each row of the call [B, S].
func (l *lowering) queryPositions() string {
	keys := l.keyPositions()
	return l.once("/query_positions", func() {
		seq := l.slice("seq", l.shape("batch_seq", "input_ids", 0), l.ints("seq.from", 1), l.ints("seq.to", 2), l.ints("seq.axis", 0))
		l.slice("query_positions", keys, l.op("seq.negative", "Neg", seq), l.ints("query.to", math.MaxInt64), l.ints("query.axis", 1))
	})
}

// turns returns cosine and sine of every row's angles, [B, S, 1, Dim/2].
func (l *lowering) turns(r graph.Rope) (cos, sin string) {
	r.Adjacent = false // the angles do not depend on it
	// Models have one embedding; a second one would be named by its numbers.
	suffix := ""
	if first := firstRope(l.g); first != r {
		suffix = fmt.Sprintf(":%g,%g,%g,%g,%g,%d", r.Theta, r.Factor, r.Low, r.High, r.Concentration, r.Dim)
	}
	cos, sin = "/cos"+suffix, "/sin"+suffix
	l.role[cos], l.role[sin] = "cos", "sin"
	query := l.queryPositions()
	l.once(cos, func() {
		t := rotationOf(r, cmp.Or(l.opt.Positions, DefaultPositions))
		half := r.Dim / 2
		at := func(name string, v []float32, index string) string {
			return l.op(name+suffix, "Gather", l.table("/"+name+".table"+suffix, []int{len(v) / half, half}, v), index)
		}
		// A padded row has no position; any will do.
		p := l.op("position"+suffix, "Max", query, l.int("zero"+suffix, 0))
		size := l.int("low.size"+suffix, lowPositions)
		high := l.op("high"+suffix, "Div", p, size)
		low := l.op("low"+suffix, "Sub", p, l.op("high.first"+suffix, "Mul", high, size))
		hc, hs := at("high.cos", t.highCos, high), at("high.sin", t.highSin, high)
		lc, ls := at("low.cos", t.lowCos, low), at("low.sin", t.lowSin, low)
		product := func(a, b, name string) string { return l.op(name+suffix, "Mul", a, b) }
		c := l.op("cos.flat"+suffix, "Sub", product(hc, lc, "cos.cos"), product(hs, ls, "sin.sin"))
		s := l.op("sin.flat"+suffix, "Add", product(hs, lc, "sin.cos"), product(hc, ls, "cos.sin"))
		l.unsqueeze(cos[1:], c, 2)
		l.unsqueeze(sin[1:], s, 2)
	})
	l.known[sin] = true
	return cos, sin
}

func firstRope(g *graph.Graph) graph.Rope {
	for i := range g.Nodes {
		if g.Nodes[i].Op == graph.Rotate {
			r := g.Nodes[i].Rope
			r.Adjacent = false
			return r
		}
	}
	return graph.Rope{}
}

func (l *lowering) rotate(n *graph.Node) {
	cos, sin := l.turns(n.Rope)
	x := l.in(n, 0)
	var a, b string // the columns that turn together, [B, S, heads, Dim/2]
	half := n.Rope.Dim / 2
	part := func(x, local string, axis, from, to int) string {
		return l.slice(local, x, l.ints(local+".from", from), l.ints(local+".to", to), l.ints(local+".axis", axis))
	}
	if n.Rope.Adjacent {
		pairs := l.reshape("pairs", x, 0, 0, -1, half, 2)
		a = l.op("a", "Squeeze", part(pairs, "a.pair", 4, 0, 1), l.ints("a.squeeze", 4))
		b = l.op("b", "Squeeze", part(pairs, "b.pair", 4, 1, 2), l.ints("b.squeeze", 4))
	} else {
		heads := l.reshape("heads", x, 0, 0, -1, n.Rope.Dim)
		a, b = part(heads, "a", 3, 0, half), part(heads, "b", 3, half, n.Rope.Dim)
	}
	ra := l.op("ra", "Sub", l.op("a.cos", "Mul", a, cos), l.op("b.sin", "Mul", b, sin))
	rb := l.op("rb", "Add", l.op("b.cos", "Mul", b, cos), l.op("a.sin", "Mul", a, sin))
	var turned string
	if n.Rope.Adjacent {
		turned = l.concat("turned", 4, l.unsqueeze("ra.pair", ra, 4), l.unsqueeze("rb.pair", rb, 4))
	} else {
		turned = l.concat("turned", 3, ra, rb)
	}
	l.stage("Reshape", turned, l.ints("shape", 0, 0, -1))
}

// hidden is what a score out of view gets added: the largest negative float32.
// Unlike −Inf it leaves a row that sees nothing, a padded one, without NaN.
const hidden = -math.MaxFloat32

// mask is 0 where a query sees a key and hidden elsewhere, [B, 1, 1, S, T].
func (l *lowering) mask(h graph.Heads) string {
	suffix := ":full"
	if h.Window > 0 {
		suffix = fmt.Sprintf(":window%d", h.Window)
	}
	if h.Delay != 0 {
		suffix += fmt.Sprintf(",delay%d", h.Delay)
	}
	query, keys := l.queryPositions(), l.keyPositions()
	l.once("/distance", func() {
		l.op("distance", "Sub", l.unsqueeze("query", query, 2), l.unsqueeze("key", keys, 1)) // [B, S, T]
	})
	l.once("/real", func() { l.cast("real", l.unsqueeze("real.mask", "attention_mask", 1), typeBool) }) // [B, 1, T]
	l.role["/mask"+suffix] = "mask"
	return l.once("/mask"+suffix, func() {
		seen := l.op("seen"+suffix, "And", "/real", l.op("past"+suffix, "GreaterOrEqual", "/distance", l.int("delay"+suffix, h.Delay)))
		if h.Window > 0 {
			seen = l.op("near.seen"+suffix, "And", seen, l.op("near"+suffix, "Less", "/distance", l.int("window"+suffix, h.Window)))
		}
		bias := l.op("bias"+suffix, "Where", seen, l.float("visible"+suffix, 0), l.float("hidden"+suffix, hidden))
		l.unsqueeze("mask"+suffix, bias, 1, 2)
	})
}

func (l *lowering) attend(n *graph.Node) {
	h := n.Heads
	shared := h.Query / h.KV // query heads of a key head
	mask := l.mask(h)

	cache := func(x, kind string) string { // [B, KV, T, Dim]: what came before, and x
		past, present := fmt.Sprintf("past_key_values.%d.%s", l.attends, kind), fmt.Sprintf("present.%d.%s", l.attends, kind)
		total := symbol(l.opt.Total, "total")
		before := &dim{symbol: "past"}
		if l.opt.Total > 0 && l.opt.Seq > 0 {
			before = sized(l.opt.Total - l.opt.Seq)
		}
		batch := symbol(l.opt.Batch, "batch")
		l.inputs = append(l.inputs, typed(past, typeFloat, batch, sized(h.KV), before, sized(h.Dim)))
		l.outputs = append(l.outputs, typed(present, typeFloat, batch, sized(h.KV), total, sized(h.Dim)))
		l.role[past], l.role[present] = "past_"+kind, "present_"+kind
		now := l.transpose(kind+".now", l.reshape(kind+".heads", x, 0, 0, h.KV, h.Dim), 0, 2, 1, 3)
		l.add(newNode("Concat", []string{past, now}, present).with(intAttr("axis", 2)))
		return l.unsqueeze(kind, present, 2)
	}
	q := l.reshape("query.heads", l.in(n, 0), 0, 0, h.KV, shared, h.Dim)
	key, val := cache(l.in(n, 1), "key"), cache(l.in(n, 2), "value") // [B, KV, 1, T, Dim]
	l.attends++

	q = l.transpose("query", q, 0, 2, 3, 1, 4) // [B, KV, shared, S, Dim]
	q = l.op("query.scaled", "Mul", q, l.float("scale", 1/math.Sqrt(float64(h.Dim))))
	scores := l.op("scores", "MatMul", q, l.transpose("key.columns", key, 0, 1, 2, 4, 3)) // [B, KV, shared, S, T]
	scores = l.op("scores.masked", "Add", scores, mask)
	last := intAttr("axis", -1)
	var weights string
	if len(n.Params) == 0 {
		weights = l.opWith(last, "weights", "Softmax", scores)
	} else {
		// The sink is one more column, which takes its share and has no value.
		rows := l.concat("sink.shape", 0, l.shape("rows", scores, -1), l.ints("column", 1))
		sink := l.op("sink", "Expand", l.reshape("sink.heads", l.param(n, 0), 1, h.KV, shared, 1, 1), rows)
		all := l.opWith(last, "weights.sink", "Softmax", l.concat("scores.sink", -1, scores, sink))
		weights = l.slice("weights", all, l.ints("keys.from", 0), l.ints("keys.to", -1), l.ints("keys.axis", -1))
	}
	out := l.transpose("rows.out", l.op("out", "MatMul", weights, val), 0, 3, 1, 2, 4) // [B, S, KV, shared, Dim]
	l.stage("Reshape", out, l.ints("out.shape", 0, 0, h.Query*h.Dim))
}

func (l *lowering) topK(n *graph.Node) {
	l.add(newNode("TopK", []string{l.in(n, 0), l.ints("k", n.N)}, l.name("values"), n.Name).with(intAttr("axis", -1), intAttr("largest", 1), intAttr("sorted", 1)))
}

func (l *lowering) pick(n *graph.Node) {
	l.stage("GatherElements", l.in(n, 0), l.in(n, 1)).with(intAttr("axis", 2)) // onnx.reference does not take −1 here
}

func (l *lowering) softmax(n *graph.Node) {
	l.stage("Softmax", l.in(n, 0)).with(intAttr("axis", -1))
}

func (l *lowering) clamp(n *graph.Node) {
	in := []string{l.in(n, 0), "", ""}
	if !math.IsInf(n.A, -1) {
		in[1] = l.float("min", n.A)
	}
	if !math.IsInf(n.B, 1) {
		in[2] = l.float("max", n.B)
	}
	for in[len(in)-1] == "" {
		in = in[:len(in)-1]
	}
	l.stage("Clip", in...)
}

func (l *lowering) affine(n *graph.Node) {
	x := l.in(n, 0)
	switch {
	case n.B == 0:
		l.stage("Mul", x, l.float("a", n.A))
	case n.A == 1:
		l.stage("Add", x, l.float("b", n.B))
	default:
		l.stage("Add", l.op("ax", "Mul", x, l.float("a", n.A)), l.float("b", n.B))
	}
}

func (l *lowering) mix(n *graph.Node) {
	weighted := l.op("weighted", "Mul", l.in(n, 0), l.unsqueeze("weight", l.in(n, 1), -1))
	l.stage("ReduceSum", weighted, l.ints("axis", 2)).with(intAttr("keepdims", 0))
}

// expertLinear goes by strips of columns, and for each by the experts that any
// row is routed to, in order: a strip of an expert's matrix is decoded and
// multiplied with the rows that want it. What is decoded, and the sum that it
// goes into, stay in the processor's cache, and no float32 matrix is ever in
// memory.
//
// A byte holds the values of an even column of the matrix and of the next. They
// are not put side by side: even columns are multiplied by the input's even
// columns, odd ones by its odd.
func (l *lowering) expertLinear(n *graph.Node) {
	w, weight := l.w.Sources(n.Params[0]), l.g.Params[n.Params[0]]
	k, cols := n.Shape[1], n.Shape.Last()
	in := l.g.Nodes[n.In[0]].Shape // [T, D] or [T, K, D]
	strips := stripsOf(cols, in.Last(), cmp.Or(l.opt.Strip, DefaultStrip))
	height, blocksOfRow := cols/strips, in.Last()/float.BlockSize
	// The same bytes, each expert's rows as strips.
	all := weight.Shape[0] * strips
	blocks := l.tensorOf(weight.Name, ".blocks", &w[0].Data, all, height, blocksOfRow, float.BlockBytes)
	scales := l.tensorOf(weight.Name, ".scales", &w[0].Scales, all, height, blocksOfRow)
	even, odd := l.mxfp4()

	idx := l.in(n, 1)
	chosen := l.reshape("chosen", idx, -1) // [R], R = B·S·K
	active := l.opWith(intAttr("sorted", 1), "active", "Unique", chosen)
	experts := l.op("experts.count", "Size", active)
	pairs := l.reshape("pairs", l.in(n, 0), -1, in.Last()/2, 2)
	rows := func(local string, of int) string {
		return l.opWith(intAttr("axis", 2), local, "Gather", pairs, l.int(local+".column", of))
	}
	rowsEven, rowsOdd := rows("rows.even", 0), rows("rows.odd", 1) // [R/K or R, D/2]
	zero := l.op("zero", "ConstantOfShape", l.concat("zero.shape", 0, l.shape("chosen.size", chosen, 0), l.ints("zero.columns", height)))
	yes := l.constant("yes", &tensor{elem: typeBool, raw: []byte{1}})
	count := l.int("strips.count", strips)
	sum := func(local string) *value { return typed(l.name(local), typeFloat, &dim{symbol: "rows"}, sized(height)) }

	collected := l.loop("strips", []string{count, yes}, nil, []*value{sum("columns")}, func() {
		of := l.loop("experts", []string{experts, yes, zero}, []*value{sum("sum.before")}, []*value{sum("sum")}, func() {
			expert := l.op("expert", "Gather", active, l.name("experts.i"))
			at := l.op("at", "NonZero", l.op("is", "Equal", chosen, expert)) // [1, r]
			from := l.reshape("from", at, -1)                                // rows of the input
			if len(in) == 2 {
				from = l.op("token", "Div", from, l.int("k", k))
			}
			strip := l.op("strip", "Add", l.op("strip.first", "Mul", expert, count), l.name("strips.i"))
			weightEven, weightOdd := l.decoded(l.op("blocks", "Gather", blocks, strip), l.op("scales", "Gather", scales, strip), even, odd, height, in.Last()/2)
			half := func(kind, rows, weight string) string {
				return l.opWith(intAttr("transB", 1), "product."+kind, "Gemm", l.op("picked."+kind, "Gather", rows, from), weight)
			}
			// As a Gemm's C, the other half and the bias would round with each part
			// of the sum.
			product := l.op("product", "Add", half("even", rowsEven, weightEven), half("odd", rowsOdd, weightOdd))
			if len(n.Params) > 1 {
				product = l.op("product.b", "Add", product, l.stripOf(n, 1, strip, all, height))
			}
			l.op("sum", "ScatterND", l.name("sum.before"), l.transpose("where", at, 1, 0), product)
		})
		l.op("columns", "Identity", of)
	})
	// [strips, R, height]; onnx.reference joins rows instead of stacking them.
	collected = l.reshape("strips.columns", collected, strips, -1, height)
	l.stage("Reshape", l.transpose("rows.columns", collected, 1, 0, 2), l.concat("shape", 0, l.shape("idx.shape", idx, 0), l.ints("columns.all", cols)))
}

// decoded returns the even and the odd columns [height, half] of blocks
// [height, D/32, 16] and scales [height, D/32]. Byte and scale together,
// 256·scale + byte, are the index of two values.
func (l *lowering) decoded(blocks, scales, even, odd string, height, half int) (string, string) {
	scale := l.op("scale.code", "Mul", l.cast("scale.int", scales, typeInt32), l.int32("scale.step", 256))
	code := l.op("code", "Add", l.cast("block.int", blocks, typeInt32), l.unsqueeze("scale.block", scale, 2))
	if !l.opt.PlainLookup {
		code = l.reshape("code.lanes", code, lanes, -1)
	}
	columns := func(kind, table string) string {
		var v string
		if l.opt.PlainLookup {
			v = l.op(kind, "Gather", table, code)
		} else {
			v = l.opWith(intAttr("axis", 1), kind, "GatherElements", table, code)
		}
		return l.reshape("weight."+kind, v, height, half)
	}
	return columns("even", even), columns("odd", odd)
}

// stripOf returns a strip of parameter i of n, [experts, cols] in the file, as
// float32 [height].
func (l *lowering) stripOf(n *graph.Node, i int, strip string, all, height int) string {
	segments, p := l.w.Sources(n.Params[i]), l.g.Params[n.Params[i]]
	if len(segments) > 1 {
		l.err = fmt.Errorf("%s: %d tensors, want 1", p.Name, len(segments))
		return ""
	}
	v := l.op("b", "Gather", l.tensorOf(p.Name, "", &segments[0].Data, all, height), strip)
	if segments[0].Data.Type == checkpoint.BF16 {
		v = l.cast("b.f32", v, typeFloat)
	}
	return v
}

// loop adds a Loop whose body make adds. It reads its count, its condition and
// what it starts with; in the body, local.i is the round. It carries inputs to
// outputs and returns what the last round made of them; or, if it carries
// nothing, collects the output of each round.
func (l *lowering) loop(local string, reads []string, inputs, outputs []*value, make func()) string {
	outer := l.body
	var body []*node
	l.body = &body
	make()
	l.op(local+".again", "Identity", l.name(local+".go"))
	l.body = outer
	return l.opWith(&attribute{name: "body", kind: attrGraph, graph: &subgraph{
		nodes:   body,
		name:    local,
		inputs:  append([]*value{typed(l.name(local+".i"), typeInt64), typed(l.name(local+".go"), typeBool)}, inputs...),
		outputs: append([]*value{typed(l.name(local+".again"), typeBool)}, outputs...),
	}}, local, "Loop", reads...)
}

// lanes is into how many parts the codes of a strip are cut: ONNX Runtime looks
// them up in parallel. The tables are repeated as often, for GatherElements
// wants as many rows of data as of indices.
const lanes = 16

// mxfp4 returns the tables of even and odd columns' values, [lanes, 65536], or
// [65536] for a plain lookup.
func (l *lowering) mxfp4() (even, odd string) {
	table := func(name string, shift int) string {
		values := mxfp4Values(shift)
		if l.opt.PlainLookup {
			return l.table(name, []int{len(values)}, values)
		}
		return l.once(name, func() {
			one := l.table(name+".table", []int{1, len(values)}, values)
			l.op(name[1:], "Expand", one, l.ints(name[1:]+".shape", lanes, len(values)))
		})
	}
	return table("/mxfp4.even", 0), table("/mxfp4.odd", 4)
}

// stripsOf returns the fewest strips of equal height that an expert's matrix
// [rows, cols] is cut into so that each has at most most values, or one row.
func stripsOf(rows, cols, most int) int {
	n := 1
	for n < rows && (rows%n != 0 || rows/n*cols > most) {
		n++
	}
	return n
}
