// Package lower makes ONNX of a recorded model: nodes, one case an operation
// (lower.go), which become functions, one for the stages and modules that are
// alike (outline.go). What operators there are is a [Target]'s.
package lower

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	"ossify/checkpoint"
	"ossify/float"
	"ossify/graph"
	"ossify/onnx/build"
	"ossify/onnx/wire"
	"ossify/weight"
)

// DefaultPositions is how many positions the rotary embedding's tables cover.
const DefaultPositions = 131072

// Names of dimensions that vary, as the field spells them.
const (
	batchSize      = "batch_size"
	sequenceLength = "sequence_length"
	pastLength     = "past_sequence_length"
	totalLength    = "total_sequence_length"
)

// Options says what a model takes and shows.
type Options struct {
	Target   Target            // default Portable
	Inline   bool              // no functions: one flat graph
	Trace    bool              // every stage is an output too
	LastOnly bool              // logits of the last position only
	Titles   map[string]string // names of functions, by the last word of a module's path; default that word

	// Fixed sizes of the inputs; 0 leaves one symbolic. Total is past + seq.
	Batch, Seq, Total int

	Positions int // that the model can tell apart, default DefaultPositions

	// Weights is what bfloat16 tensors of the checkpoint become: float, which is
	// exact, float16, or, by default, what they are. Others stay as they are.
	Weights wire.DataType
}

// Model is a lowered graph: a model but for the places of its weights.
type Model struct {
	IR           int64
	Opsets       []*wire.Opset
	Nodes        []*wire.Node
	Functions    []*wire.Function
	Inputs       []*wire.Value
	Outputs      []*wire.Value
	Values       []*wire.Value // types of the stages that Nodes make, but for outputs
	Initializers []Initializer
}

// An Initializer is a constant of the model: its own values, or a tensor of the
// checkpoint, converted on the way if its type is another.
type Initializer struct {
	Name   string
	Type   wire.DataType
	Shape  []int
	Floats iter.Seq[float32]
	From   *checkpoint.Tensor
}

// Graph returns g as ONNX. Its weights are w.
func Graph(g *graph.Graph, w *weight.Set, opt Options) (*Model, error) {
	if opt.Target.Name == "" {
		opt.Target = Portable()
	}
	opt.Positions = cmp.Or(opt.Positions, DefaultPositions)
	l := &lowering{Builder: build.NewBuilder(8 * len(g.Nodes)), g: g, w: w, opt: opt, t: opt.Target,
		role: map[string]string{"input_ids": "input_ids", "attention_mask": "attention_mask"}, leafRole: map[string]string{}}
	if err := w.Fits(g.Params); err != nil {
		return nil, fmt.Errorf("onnx: %w", err)
	}
	if err := l.run(); err != nil {
		return nil, err
	}
	m := &Model{IR: l.t.IR, Opsets: l.opsets(), Nodes: l.Nodes, Inputs: l.inputs, Outputs: l.outputs, Initializers: l.inits}
	if !opt.Inline {
		m.Nodes, m.Functions = l.outline()
	}
	m.Values = l.values(m.Nodes)
	if len(m.Functions) > 0 {
		m.Opsets = append(m.Opsets, &wire.Opset{Domain: domain, Version: domainVersion})
	}
	return m, nil
}

// A lowering is a graph on its way to ONNX: a flat list of nodes.
//
// A stage's value has the stage's path as its name. Other values of a stage
// are path/name, and those that stages share /name: no path holds a slash, so
// that names cannot meet.
type lowering struct {
	*build.Builder
	g   *graph.Graph
	w   *weight.Set
	opt Options
	t   Target
	err error

	first    []int // by node of the graph: the first of Nodes that it became; one more for the end
	inits    []Initializer
	role     map[string]string // what a value is called inside of functions
	leafRole map[string]string // what a parameter is called inside of an operation's function
	inputs   []*wire.Value
	outputs  []*wire.Value
	at       int         // the node of the graph that is lowered
	attends  int         // Attend nodes so far
	tail     int         // the first node of the graph that has last rows only
	outside  map[int]int // by node of the graph: nodes that make last rows of its inputs, before its own
}

// run lowers all nodes of the graph.
func (l *lowering) run() error {
	if len(l.g.Nodes) == 0 {
		return fmt.Errorf("onnx: the model has no stages")
	}
	l.tail, l.outside = len(l.g.Nodes), map[int]int{}
	if l.opt.LastOnly {
		if err := l.findTail(); err != nil {
			return err
		}
	}
	batch, seq, total := build.Symbol(l.opt.Batch, batchSize), build.Symbol(l.opt.Seq, sequenceLength), build.Symbol(l.opt.Total, totalLength)
	l.inputs = append(l.inputs, build.Typed("input_ids", wire.Int64, batch, seq), build.Typed("attention_mask", wire.Int64, batch, total))
	for i := range l.g.Nodes {
		n := &l.g.Nodes[i]
		c, ok := l.t.cases[n.Op]
		if !ok {
			return fmt.Errorf("onnx: %s: target %v has no case for %v", n.Name, l.t, n.Op)
		}
		if strings.Contains(n.Name, "/") || n.Name == "" {
			return fmt.Errorf("onnx: %q: want a stage path without a slash", n.Name)
		}
		l.Enter(n.Name)
		l.at = i
		l.first = append(l.first, len(l.Nodes))
		if i >= l.tail {
			at := len(l.Nodes)
			l.lastRows(n)
			l.outside[i] = len(l.Nodes) - at
		}
		if l.err == nil {
			c(l, n)
		}
		if l.err != nil {
			return fmt.Errorf("onnx: %s: %w", n.Name, l.err)
		}
		if l.opt.Trace {
			l.outputs = append(l.outputs, l.stageType(i, n.Name))
		}
	}
	last := l.g.Output()
	l.first = append(l.first, len(l.Nodes))
	for i := range l.first {
		l.first[i] += len(l.Shared)
	}
	l.Nodes = slices.Concat(l.Shared, l.Nodes, []*wire.Node{build.NewNode("Identity", []string{l.g.Nodes[last].Name}, "logits")})
	l.outputs = slices.Insert(l.outputs, 0, l.stageType(int(last), "logits"))
	return nil
}

// values describes the stages that nodes make, but for those that are outputs:
// shape inference does not look into functions everywhere.
func (l *lowering) values(nodes []*wire.Node) []*wire.Value {
	known := map[string]bool{}
	for _, v := range l.outputs {
		known[v.Name] = true
	}
	made := map[string]bool{}
	for _, n := range nodes {
		for _, v := range n.Outputs {
			made[v] = true
		}
	}
	var values []*wire.Value
	for i := range l.g.Nodes {
		if n := &l.g.Nodes[i]; made[n.Name] && !known[n.Name] {
			values = append(values, l.stageType(i, n.Name))
		}
	}
	return values
}

// opsets returns the target's, as a model or a function asks for them.
func (l *lowering) opsets() []*wire.Opset { return []*wire.Opset{{Version: l.t.Opset}} }

// stageType describes the value of node i: [batch, seq, ..].
func (l *lowering) stageType(i int, name string) *wire.Value {
	n, elem := &l.g.Nodes[i], l.t.Float
	if n.Op == graph.Tokens || n.Op == graph.TopK {
		elem = wire.Int64
	}
	seq := build.Symbol(l.opt.Seq, sequenceLength)
	if i >= l.tail {
		seq = build.Size(1)
	}
	dims := []*wire.Dim{build.Symbol(l.opt.Batch, batchSize), seq}
	for _, d := range n.Shape[1:] {
		dims = append(dims, build.Size(d))
	}
	return build.Typed(name, elem, dims...)
}

// Building blocks.

// in returns the name of input i of n.
func (l *lowering) in(n *graph.Node, i int) string {
	if l.at >= l.tail && int(n.In[i]) < l.tail {
		return l.Name(lastOf(i))
	}
	return l.g.Nodes[n.In[i]].Name
}

func lastOf(input int) string { return fmt.Sprintf("last%d", input) }

// findTail finds where last rows are enough for the logits of the last position:
// behind the last operation that needs all rows, or their positions, so that the
// last layer's experts see one row. With the stages as outputs all of them have all rows, but for the last.
func (l *lowering) findTail() error {
	l.tail = 0
	for i := range l.g.Nodes {
		switch l.g.Nodes[i].Op {
		case graph.Tokens, graph.Gather, graph.Rotate, graph.Attend:
			l.tail = i + 1
		}
	}
	last := len(l.g.Nodes) - 1
	if l.tail > last {
		return fmt.Errorf("onnx: %s: the last stage is %v, want one that goes by rows for the logits of the last position only", l.g.Nodes[last].Name, l.g.Nodes[last].Op)
	}
	if l.opt.Trace {
		l.tail = last
	}
	return nil
}

// lastRows makes the last rows of those inputs of n that have all rows.
func (l *lowering) lastRows(n *graph.Node) {
	for i, v := range n.In {
		if last := lastOf(i); int(v) < l.tail {
			name := l.Slice(last, l.g.Nodes[v].Name, l.Ints(last+".from", -1), l.End(last+".to"), l.Ints(last+".axis", 1))
			l.leafRole[name] = "x" // so that a stage's function is that of all rows
		}
	}
}

// table adds a constant of our own, once.
func (l *lowering) table(name string, shape []int, values iter.Seq[float32]) string {
	if l.First(name) {
		l.inits = append(l.inits, Initializer{Name: name, Type: l.t.Float, Shape: shape, Floats: values})
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
	if l.First(name) {
		l.leafRole[name] = path[strings.LastIndexAny(path, "._")+1:] + suffix // weight, bias, scale, sinks
		l.inits = append(l.inits, Initializer{Name: name, Type: l.stored(t), Shape: shape, From: t})
	}
	return name
}

// ElementType is a checkpoint's type in ONNX.
func ElementType(t checkpoint.DType) wire.DataType {
	switch t {
	case checkpoint.BF16:
		return wire.Bfloat16
	case checkpoint.F32:
		return wire.Float
	case checkpoint.U8:
		return wire.Uint8
	}
	return 0
}

// stored is the type that a tensor of the checkpoint has in the model.
func (l *lowering) stored(t *checkpoint.Tensor) wire.DataType {
	if t.Type == checkpoint.BF16 && l.opt.Weights != 0 {
		return l.opt.Weights
	}
	return ElementType(t.Type)
}

// A part is a run of a parameter's rows, as its file has it.
type part struct {
	name string
	rows int
	cast bool // to the type of arithmetic
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
		tensors = append(tensors, l.split(s.Data)...)
	}
	var all []part
	first := 0
	for j := range tensors {
		t := &tensors[j]
		suffix := ""
		if len(tensors) > 1 {
			suffix = fmt.Sprintf("[%d:%d]", first, first+t.Shape[0])
		}
		all = append(all, part{l.tensorOf(path, suffix, t), t.Shape[0], l.stored(t) != l.t.Float})
		first += t.Shape[0]
	}
	return all
}

// split cuts a matrix that is too large to be converted at once into runs of
// rows, which lie one after the other in its file.
func (l *lowering) split(t checkpoint.Tensor) []checkpoint.Tensor {
	if len(t.Shape) != 2 || l.stored(&t) == l.t.Float || t.Shape[0]*t.Shape[1] <= maxFolded/4 {
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

// param returns parameter i of n, a vector, in the type of arithmetic.
func (l *lowering) param(n *graph.Node, i int) string {
	parts := l.parts(n, i)
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	x := names[0]
	if len(names) > 1 {
		x = l.Concat(fmt.Sprintf("p%d", i), 0, names...)
	}
	if parts[0].cast {
		x = l.Cast(fmt.Sprintf("p%d.f32", i), x, l.t.Float)
	}
	return x
}

// The cases. Shapes are written B for batch, S for seq, T for total.

func (l *lowering) tokens(*graph.Node) { l.Result("Identity", "input_ids") }

func (l *lowering) gather(n *graph.Node) {
	segments, path := l.w.Sources(n.Params[0]), l.g.Params[n.Params[0]].Name
	if len(segments) != 1 {
		l.err = fmt.Errorf("%s: %d tensors, want 1", path, len(segments)) // no checkpoint has it otherwise
		return
	}
	p := l.tensorOf(path, "", &segments[0].Data)
	// Gather counts negative indices from the end: they are made one that it
	// refuses.
	x := l.in(n, 0)
	negative := l.Op("negative", "Less", x, l.Int("zero", 0))
	row := l.Op("row", "Where", negative, l.Int("beyond", segments[0].Data.Shape[0]), x)
	if l.stored(&segments[0].Data) == l.t.Float {
		l.Result("Gather", p, row)
		return
	}
	// Rows first: the matrix itself is not converted.
	l.Result("Cast", l.Op("rows", "Gather", p, row)).With(build.Int("to", int(l.t.Float)))
}

func (l *lowering) rmsNorm(n *graph.Node) {
	x := l.in(n, 0)
	square := l.Op("square", "Pow", x, l.Float("two", 2))
	mean := l.Op("mean", "ReduceMean", square, l.Ints("axis", -1))
	rms := l.Op("rms", "Sqrt", l.Op("mean.eps", "Add", mean, l.Float("eps", n.Eps)))
	l.Result("Mul", l.Op("x.rms", "Div", x, rms), l.param(n, 0))
}

// linear is a Gemm for each run of the weight's rows: unlike MatMul it takes
// them as they are stored.
func (l *lowering) linear(n *graph.Node) {
	x := l.in(n, 0)
	rows := l.Reshape("rows", x, -1, l.g.Nodes[n.In[0]].Shape.Last())
	parts := l.parts(n, 0)
	var products []string
	for i, p := range parts {
		suffix, w := "", p.name
		if len(parts) > 1 {
			suffix = fmt.Sprint(i)
		}
		if p.cast {
			w = l.Cast("w"+suffix, w, l.t.Float)
		}
		products = append(products, l.OpWith(build.Int("transB", 1), "product"+suffix, "Gemm", rows, w))
	}
	product := products[0]
	if len(products) > 1 {
		product = l.Concat("product", 1, products...)
	}
	shape := l.Concat("shape", 0, l.Shape("batch_seq", x, -1), l.Ints("columns", n.Shape.Last()))
	if len(n.Params) == 1 {
		l.Result("Reshape", product, shape)
		return
	}
	l.Result("Add", l.Op("xw", "Reshape", product, shape), l.param(n, 1))
}

func (l *lowering) columns(n *graph.Node) {
	l.Result("Slice", l.in(n, 0), l.Ints("from", n.Lo), l.Ints("to", n.Lo+n.N), l.Ints("axis", -1))
}

func (l *lowering) every(n *graph.Node) {
	l.Result("Slice", l.in(n, 0), l.Ints("from", n.Lo), l.End("to"), l.Ints("axis", -1), l.Ints("step", 2))
}

// keyPositions is the position of each key [B, T]: how many real tokens come
// before it. Padding has that of the token before it, or −1.
func (l *lowering) keyPositions() string {
	return l.Once("/key_positions", func() {
		sum := l.Op("key_count", "CumSum", "attention_mask", l.Int("time", 1))
		l.Op("key_positions", "Sub", sum, l.Int("one", 1))
	})
}

// queryPositions is that of each row of the call [B, S].
func (l *lowering) queryPositions() string {
	keys := l.keyPositions()
	return l.Once("/query_positions", func() {
		seq := l.Slice("seq", l.Shape("batch_seq", "input_ids", 0), l.Ints("seq.from", 1), l.Ints("seq.to", 2), l.Ints("seq.axis", 0))
		l.Slice("query_positions", keys, l.Op("seq.negative", "Neg", seq), l.End("query.to"), l.Ints("query.axis", 1))
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
	l.Once(cos, func() {
		t := rotationOf(r, l.opt.Positions)
		half := r.Dim / 2
		// GatherND, as tools that quantise weights take a Gather's data for one.
		at := func(name string, rows int, values iter.Seq[float32], index string) string {
			return l.Op(name+suffix, "GatherND", l.table("/"+name+".table"+suffix, []int{rows, half}, values), index)
		}
		// A padded row has no position; any will do.
		p := l.Op("position"+suffix, "Max", query, l.Int("zero"+suffix, 0))
		size := l.Int("low.size"+suffix, lowPositions)
		high := l.Op("high"+suffix, "Div", p, size)
		low := l.Op("low"+suffix, "Sub", p, l.Op("high.first"+suffix, "Mul", high, size))
		high, low = l.Unsqueeze("high.row"+suffix, high, 2), l.Unsqueeze("low.row"+suffix, low, 2)
		hc, hs := at("high.cos", t.rows, t.highCos, high), at("high.sin", t.rows, t.highSin, high)
		lc, ls := at("low.cos", lowPositions, t.lowCos, low), at("low.sin", lowPositions, t.lowSin, low)
		product := func(a, b, name string) string { return l.Op(name+suffix, "Mul", a, b) }
		c := l.Op("cos.flat"+suffix, "Sub", product(hc, lc, "cos.cos"), product(hs, ls, "sin.sin"))
		s := l.Op("sin.flat"+suffix, "Add", product(hs, lc, "sin.cos"), product(hc, ls, "cos.sin"))
		l.Unsqueeze(cos[1:], c, 2)
		l.Unsqueeze(sin[1:], s, 2)
	})
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
		return l.Slice(local, x, l.Ints(local+".from", from), l.Ints(local+".to", to), l.Ints(local+".axis", axis))
	}
	if n.Rope.Adjacent {
		pairs := l.Reshape("pairs", x, 0, 0, -1, half, 2)
		a = l.Op("a", "Squeeze", part(pairs, "a.pair", 4, 0, 1), l.Ints("a.squeeze", 4))
		b = l.Op("b", "Squeeze", part(pairs, "b.pair", 4, 1, 2), l.Ints("b.squeeze", 4))
	} else {
		heads := l.Reshape("heads", x, 0, 0, -1, n.Rope.Dim)
		a, b = part(heads, "a", 3, 0, half), part(heads, "b", 3, half, n.Rope.Dim)
	}
	ra := l.Op("ra", "Sub", l.Op("a.cos", "Mul", a, cos), l.Op("b.sin", "Mul", b, sin))
	rb := l.Op("rb", "Add", l.Op("b.cos", "Mul", b, cos), l.Op("a.sin", "Mul", a, sin))
	var turned string
	if n.Rope.Adjacent {
		turned = l.Concat("turned", 4, l.Unsqueeze("ra.pair", ra, 4), l.Unsqueeze("rb.pair", rb, 4))
	} else {
		turned = l.Concat("turned", 3, ra, rb)
	}
	l.Result("Reshape", turned, l.Ints("shape", 0, 0, -1))
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
	l.Once("/distance", func() {
		l.Op("distance", "Sub", l.Unsqueeze("query", query, 2), l.Unsqueeze("key", keys, 1)) // [B, S, T]
	})
	l.Once("/real", func() { l.Cast("real", l.Unsqueeze("real.mask", "attention_mask", 1), wire.Bool) }) // [B, 1, T]
	l.role["/mask"+suffix] = "mask"
	return l.Once("/mask"+suffix, func() {
		seen := l.Op("seen"+suffix, "And", "/real", l.Op("past"+suffix, "GreaterOrEqual", "/distance", l.Int("delay"+suffix, h.Delay)))
		if h.Window > 0 {
			seen = l.Op("near.seen"+suffix, "And", seen, l.Op("near"+suffix, "Less", "/distance", l.Int("window"+suffix, h.Window)))
		}
		bias := l.Op("bias"+suffix, "Where", seen, l.Float("visible"+suffix, 0), l.Float("hidden"+suffix, hidden))
		l.Unsqueeze("mask"+suffix, bias, 1, 2)
	})
}

func (l *lowering) attend(n *graph.Node) {
	h := n.Heads
	shared := h.Query / h.KV // query heads of a key head
	mask := l.mask(h)

	cache := func(x, kind string) string { // [B, KV, T, Dim]: what came before, and x
		past, present := fmt.Sprintf("past_key_values.%d.%s", l.attends, kind), fmt.Sprintf("present.%d.%s", l.attends, kind)
		total := build.Symbol(l.opt.Total, totalLength)
		before := build.Symbol(0, pastLength)
		if l.opt.Total > 0 && l.opt.Seq > 0 {
			before = build.Size(l.opt.Total - l.opt.Seq)
		}
		batch := build.Symbol(l.opt.Batch, batchSize)
		l.inputs = append(l.inputs, build.Typed(past, l.t.Float, batch, build.Size(h.KV), before, build.Size(h.Dim)))
		l.outputs = append(l.outputs, build.Typed(present, l.t.Float, batch, build.Size(h.KV), total, build.Size(h.Dim)))
		l.role[past], l.role[present] = "past_"+kind, "present_"+kind
		now := l.Transpose(kind+".now", l.Reshape(kind+".heads", x, 0, 0, h.KV, h.Dim), 0, 2, 1, 3)
		l.Add(build.NewNode("Concat", []string{past, now}, present).With(build.Int("axis", 2)))
		return l.Unsqueeze(kind, present, 2)
	}
	q := l.Reshape("query.heads", l.in(n, 0), 0, 0, h.KV, shared, h.Dim)
	key, val := cache(l.in(n, 1), "key"), cache(l.in(n, 2), "value") // [B, KV, 1, T, Dim]
	l.attends++

	q = l.Transpose("query", q, 0, 2, 3, 1, 4) // [B, KV, shared, S, Dim]
	q = l.Op("query.scaled", "Mul", q, l.Float("scale", 1/math.Sqrt(float64(h.Dim))))
	scores := l.Op("scores", "MatMul", q, l.Transpose("key.columns", key, 0, 1, 2, 4, 3)) // [B, KV, shared, S, T]
	scores = l.Op("scores.masked", "Add", scores, mask)
	last := build.Int("axis", -1)
	var weights string
	if len(n.Params) == 0 {
		weights = l.OpWith(last, "weights", "Softmax", scores)
	} else {
		// The sink is one more column, which takes its share and has no value.
		rows := l.Concat("sink.shape", 0, l.Shape("rows", scores, -1), l.Ints("column", 1))
		sink := l.Op("sink", "Expand", l.Reshape("sink.heads", l.param(n, 0), 1, h.KV, shared, 1, 1), rows)
		all := l.OpWith(last, "weights.sink", "Softmax", l.Concat("scores.sink", -1, scores, sink))
		weights = l.Slice("weights", all, l.Ints("keys.from", 0), l.Ints("keys.to", -1), l.Ints("keys.axis", -1))
	}
	out := l.Transpose("rows.out", l.Op("out", "MatMul", weights, val), 0, 3, 1, 2, 4) // [B, S, KV, shared, Dim]
	l.Result("Reshape", out, l.Ints("out.shape", 0, 0, h.Query*h.Dim))
}

func (l *lowering) topK(n *graph.Node) {
	l.Add(build.NewNode("TopK", []string{l.in(n, 0), l.Ints("k", n.N)}, l.Name("values"), n.Name).With(build.Int("axis", -1), build.Int("largest", 1), build.Int("sorted", 1)))
}

func (l *lowering) pick(n *graph.Node) {
	l.Result("GatherElements", l.in(n, 0), l.in(n, 1)).With(build.Int("axis", 2)) // onnx.reference does not take −1 here
}

func (l *lowering) softmax(n *graph.Node) {
	l.Result("Softmax", l.in(n, 0)).With(build.Int("axis", -1))
}

func (l *lowering) clamp(n *graph.Node) {
	in := []string{l.in(n, 0), "", ""}
	if !math.IsInf(n.A, -1) {
		in[1] = l.Float("min", n.A)
	}
	if !math.IsInf(n.B, 1) {
		in[2] = l.Float("max", n.B)
	}
	for in[len(in)-1] == "" {
		in = in[:len(in)-1]
	}
	l.Result("Clip", in...)
}

func (l *lowering) affine(n *graph.Node) {
	x := l.in(n, 0)
	switch {
	case n.B == 0:
		l.Result("Mul", x, l.Float("a", n.A))
	case n.A == 1:
		l.Result("Add", x, l.Float("b", n.B))
	default:
		l.Result("Add", l.Op("ax", "Mul", x, l.Float("a", n.A)), l.Float("b", n.B))
	}
}

func (l *lowering) mix(n *graph.Node) {
	weighted := l.Op("weighted", "Mul", l.in(n, 0), l.Unsqueeze("weight", l.in(n, 1), -1))
	l.Result("ReduceSum", weighted, l.Ints("axis", 2)).With(build.Int("keepdims", 0))
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
	strips := stripsOf(cols, in.Last(), l.t.Strip)
	height, blocksOfRow := cols/strips, in.Last()/float.BlockSize
	// The same bytes, each expert's rows as strips.
	all := weight.Shape[0] * strips
	blocks := l.tensorOf(weight.Name, ".blocks", &w[0].Data, all, height, blocksOfRow, float.BlockBytes)
	scales := l.tensorOf(weight.Name, ".scales", &w[0].Scales, all, height, blocksOfRow)
	even, odd := l.mxfp4()

	idx := l.in(n, 1)
	chosen := l.Reshape("chosen", idx, -1) // [R], R = B·S·K
	active := l.OpWith(build.Int("sorted", 1), "active", "Unique", chosen)
	experts := l.Op("experts.count", "Size", active)
	pairs := l.Reshape("pairs", l.in(n, 0), -1, in.Last()/2, 2)
	rows := func(local string, of int) string {
		return l.OpWith(build.Int("axis", 2), local, "Gather", pairs, l.Int(local+".column", of))
	}
	rowsEven, rowsOdd := rows("rows.even", 0), rows("rows.odd", 1) // [R/K or R, D/2]
	zero := l.Op("zero", "ConstantOfShape", l.Concat("zero.shape", 0, l.Shape("chosen.size", chosen, 0), l.Ints("zero.columns", height)))
	yes := l.Bool("yes", true)
	count := l.Int("strips.count", strips)
	sum := func(local string) *wire.Value {
		return build.Typed(l.Name(local), l.t.Float, &wire.Dim{Symbol: "rows"}, build.Size(height))
	}

	collected := l.Loop("strips", []string{count, yes}, nil, []*wire.Value{sum("columns")}, func() {
		of := l.Loop("experts", []string{experts, yes, zero}, []*wire.Value{sum("sum.before")}, []*wire.Value{sum("sum")}, func() {
			expert := l.Op("expert", "Gather", active, l.Name("experts.i"))
			at := l.Op("at", "NonZero", l.Op("is", "Equal", chosen, expert)) // [1, r]
			from := l.Reshape("from", at, -1)                                // rows of the input
			if len(in) == 2 {
				from = l.Op("token", "Div", from, l.Int("k", k))
			}
			strip := l.Op("strip", "Add", l.Op("strip.first", "Mul", expert, count), l.Name("strips.i"))
			weightEven, weightOdd := l.decoded(l.Op("blocks", "Gather", blocks, strip), l.Op("scales", "Gather", scales, strip), even, odd, height, in.Last()/2)
			half := func(kind, rows, weight string) string {
				return l.OpWith(build.Int("transB", 1), "product."+kind, "Gemm", l.Op("picked."+kind, "Gather", rows, from), weight)
			}
			// As a Gemm's C, the other half and the bias would round with each part
			// of the sum.
			product := l.Op("product", "Add", half("even", rowsEven, weightEven), half("odd", rowsOdd, weightOdd))
			if len(n.Params) > 1 {
				product = l.Op("product.b", "Add", product, l.stripOf(n, 1, strip, all, height))
			}
			l.Op("sum", "ScatterND", l.Name("sum.before"), l.Transpose("where", at, 1, 0), product)
		})
		l.Op("columns", "Identity", of)
	})
	// [strips, R, height]; onnx.reference joins rows instead of stacking them.
	collected = l.Reshape("strips.columns", collected, strips, -1, height)
	l.Result("Reshape", l.Transpose("rows.columns", collected, 1, 0, 2), l.Concat("shape", 0, l.Shape("idx.shape", idx, 0), l.Ints("columns.all", cols)))
}

// decoded returns the even and the odd columns [height, half] of blocks
// [height, D/32, 16] and scales [height, D/32]. Byte and scale together,
// 256·scale + byte, are the index of two values.
func (l *lowering) decoded(blocks, scales, even, odd string, height, half int) (string, string) {
	scale := l.Op("scale.code", "Mul", l.Cast("scale.int", scales, wire.Int32), l.Int32("scale.step", 256))
	code := l.Op("code", "Add", l.Cast("block.int", blocks, wire.Int32), l.Unsqueeze("scale.block", scale, 2))
	if !l.t.PlainLookup {
		code = l.Reshape("code.lanes", code, lanes, -1)
	}
	columns := func(kind, table string) string {
		var v string
		if l.t.PlainLookup {
			v = l.Op(kind, "Gather", table, code)
		} else {
			v = l.OpWith(build.Int("axis", 1), kind, "GatherElements", table, code)
		}
		return l.Reshape("weight."+kind, v, height, half)
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
	v := l.Op("b", "Gather", l.tensorOf(p.Name, "", &segments[0].Data, all, height), strip)
	if l.stored(&segments[0].Data) != l.t.Float {
		v = l.Cast("b.f32", v, l.t.Float)
	}
	return v
}

// lanes is into how many parts the codes of a strip are cut: ONNX Runtime looks
// them up in parallel. The tables are repeated as often, for GatherElements
// wants as many rows of data as of indices.
const lanes = 16

// mxfp4 returns the tables of even and odd columns' values, [lanes, mxfp4Codes],
// or [mxfp4Codes] for a plain lookup.
func (l *lowering) mxfp4() (even, odd string) {
	table := func(name string, shift int) string {
		values := mxfp4Values(shift)
		if l.t.PlainLookup {
			return l.table(name, []int{mxfp4Codes}, values)
		}
		return l.Once(name, func() {
			one := l.table(name+".table", []int{1, mxfp4Codes}, values)
			l.Op(name[1:], "Expand", one, l.Ints(name[1:]+".shape", lanes, mxfp4Codes))
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
