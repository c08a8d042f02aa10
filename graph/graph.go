// Package graph holds a model as plain data: a list of named operations over
// named parameters. Model code records a [Graph] once, through a [Scope]; the
// oracle evaluates it, the engine runs it and the exporter lowers it.
//
// One dotted path names four things: a stage of the model, the tensor it
// yields, the checkpoint parameters it reads, and its golden. No name holds a
// counter, so adding an operation renames nothing.
//
// The package does no I/O and knows no weights.
package graph

import "slices"

// A Value is the result of a node: its index in [Graph.Nodes].
type Value int

// T is the symbolic dimension: the rows of one call, one row a token.
const T = -1

// A Shape lists dimensions, outermost first. A dimension is a size, or [T].
type Shape []int

// Last returns the size of the last dimension: the columns of a row.
func (s Shape) Last() int { return s[len(s)-1] }

// Width returns the elements of one row: the product of all dimensions but the
// first.
func (s Shape) Width() int {
	w := 1
	for _, d := range s[1:] {
		w *= d
	}
	return w
}

// Op is an operation. Its comment is the contract every back end implements:
// x, y and z are inputs, p and q parameters, in order. A parameter in brackets
// may be absent.
type Op uint8

// The vocabulary. It is closed: a test requires a case for each of these in
// the oracle, the engine and every ONNX target.
const (
	_            Op = iota
	Tokens          // token ids                                                  [T]
	Gather          // row x of p                                                 [T, D]
	RMSNorm         // x / √(mean(x²) + Eps) · p                                  like x
	Linear          // x·pᵀ [+ q]                                                 [T, N]
	Columns         // x[..., Lo : Lo+N]                                          [..., N]
	Rotate          // rotary embedding of each head of x, by its row's position  like x
	Attend          // softmax(x·yᵀ/√Dim over visible keys [and sink p])·z        like x
	TopK            // columns of the N largest of x, largest first, ties low     [T, N]
	Pick            // x[t, y[t, i]]                                              like y
	Softmax         // exp(x) / Σ exp(x), over the last dimension                 like x
	ExpertLinear    // x·p[e]ᵀ [+ q[e]], for each expert e = y[t, k]              [T, K, N]
	Every           // x[..., Lo::2]                                              [..., N]
	Clamp           // min(max(x, A), B)                                          like x
	Affine          // A·x + B                                                    like x
	Sigmoid         // 1 / (1 + exp(−x))                                          like x
	Mul             // x · y                                                      like x
	Add             // x + y                                                      like x
	Mix             // Σ over k of y[t, k] · x[t, k]                              [T, D]
	opEnd
)

var opNames = [opEnd]string{
	"", "Tokens", "Gather", "RMSNorm", "Linear", "Columns", "Rotate", "Attend", "TopK", "Pick", "Softmax",
	"ExpertLinear", "Every", "Clamp", "Affine", "Sigmoid", "Mul", "Add", "Mix",
}

func (o Op) String() string {
	if o == 0 || o >= opEnd {
		return "Op(?)"
	}
	return opNames[o]
}

// Ops lists the vocabulary.
func Ops() []Op {
	var all []Op
	for o := Op(1); o < opEnd; o++ {
		all = append(all, o)
	}
	return all
}

// A Node is one operation. Only the attributes that its [Op] names are set.
type Node struct {
	Name   string // stage path
	Op     Op
	In     []Value
	Params []int // indices in Graph.Params
	Shape  Shape

	A, B  float64 // Clamp, Affine
	Eps   float64 // RMSNorm
	Lo, N int     // Columns, Every, TopK
	Heads Heads   // Attend
	Rope  Rope    // Rotate
}

// Heads says how the columns of queries, keys and values split into heads, and
// which keys a query sees. Query head h reads key/value head h / (Query/KV).
//
// The query at position i sees the key at position j when
// i−Window < j ≤ i−Delay; without a Window, when j ≤ i−Delay.
type Heads struct {
	Query, KV, Dim int
	Window         int // newest keys in view, the query's own included; 0 is no limit
	Delay          int // newest keys out of view; 0 lets a query see its own
}

// Rope is a rotary embedding with YaRN's frequencies (arXiv 2309.00071,
// "NTK-by-parts"). Column i of the first half of a head turns with column i of
// the second, by the angle position·f(i), where with θ(i) = Theta^(2i/Dim)
//
//	f(i) = (1−m)/(Factor·θ(i)) + m/θ(i),  m = 1 − clamp((i−Low)/(High−Low), 0, 1)
//
// and both cosine and sine are multiplied by Concentration. Factor 1 is plain
// RoPE.
type Rope struct {
	Dim           int
	Theta         float64
	Factor        float64
	Low, High     float64 // bounds of the ramp, in units of i; not rounded
	Concentration float64
	Adjacent      bool // columns 2i and 2i+1 turn together instead
	Slip, SlipAt  int  // θ(SlipAt) is off by Slip units in the last place of float32: a fault
}

// Storage says how a checkpoint keeps a parameter.
type Storage uint8

// The two storages of gpt-oss checkpoints.
const (
	_     Storage = iota
	BF16          // bfloat16; norm scales may also be float32
	MXFP4         // E2M1 codes in blocks of 32 along the last dimension, with an E8M0 scale each
)

func (s Storage) String() string { return [...]string{"Storage(?)", "BF16", "MXFP4"}[s] }

// A Param is a weight that the graph reads.
type Param struct {
	Name    string
	Shape   Shape
	Storage Storage
}

// A Graph is a recorded model. Its nodes stand in execution order: a node
// reads only nodes before it.
type Graph struct {
	Nodes  []Node
	Params []Param
}

// Find returns the node of that name.
func (g *Graph) Find(name string) (Value, bool) {
	i := slices.IndexFunc(g.Nodes, func(n Node) bool { return n.Name == name })
	return Value(i), i >= 0
}

// Output returns the last node: the model's result.
func (g *Graph) Output() Value { return Value(len(g.Nodes) - 1) }

// Rewrite returns a copy of g made node by node: edit is given each node, its
// inputs already renumbered, and emits what shall stand in its place. The
// value edit returns replaces the node wherever it is read.
func (g *Graph) Rewrite(edit func(n Node, emit func(Node) Value) Value) *Graph {
	out := &Graph{Params: slices.Clone(g.Params)}
	emit := func(n Node) Value {
		n.In, n.Params, n.Shape = slices.Clone(n.In), slices.Clone(n.Params), slices.Clone(n.Shape)
		out.Nodes = append(out.Nodes, n)
		return Value(len(out.Nodes) - 1)
	}
	moved := make([]Value, len(g.Nodes))
	for i, n := range g.Nodes {
		n.In, n.Params = slices.Clone(n.In), slices.Clone(n.Params)
		for j, v := range n.In {
			n.In[j] = moved[v]
		}
		moved[i] = edit(n, emit)
	}
	return out
}
