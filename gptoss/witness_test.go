package gptoss

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ossify/graph"
)

// The second witness of the model's constants: gpt-oss-20b and 120b as OpenAI's
// source and paper state them, written down a second time as hard numbers that
// no -update blesses. Lines are of gpt_oss/torch/model.py in PyPI's gpt-oss
// 0.0.9; the paper is arXiv 2508.10925, its sections on
// architecture and tokenizer.
//
// A node of the recorded graph is compared as a whole, so that nothing beside
// the constants can slip in either.

// witness is one published model.
type witness struct {
	preset          string
	blocks, experts int // paper: 24 and 36 layers, 32 and 128 experts
}

var witnesses = []witness{{"20b", 24, 32}, {"120b", 36, 128}}

// A seen node has its inputs and parameters by name.
type seen struct {
	graph.Node
	in, params string
}

// nodes lists the model that the source describes, in execution order.
func (w witness) nodes() []seen {
	const (
		rows      = graph.T
		residual  = 2880   // hidden_size, line 18; paper
		inner     = 2880   // intermediate_size, line 19
		vocab     = 201088 // line 17; paper
		heads     = 64     // query heads, line 22; paper
		kv        = 8      // key/value heads, line 23
		dim       = 64     // head_dim, line 21
		window    = 128    // line 24; paper: a bandwidth of 128 tokens
		top       = 4      // experts_per_token, line 16; paper
		eps       = 1e-5   // line 34
		limit     = 7      // swiglu_limit, line 20
		alpha     = 1.702  // line 249
		nq        = 4096   // heads · dim
		nkv       = 512    // kv · dim
		low, high = 8.092779115512402, 17.39802450158856
	)
	var list []seen
	add := func(n graph.Node, in, params string) {
		list = append(list, seen{n, in, params})
	}
	add(graph.Node{Name: "tokens", Op: graph.Tokens, Shape: graph.Shape{rows}}, "", "")
	add(graph.Node{Name: "embedding", Op: graph.Gather, Shape: graph.Shape{rows, residual}}, "tokens", "embedding.weight")
	x := "embedding"
	for i := range w.blocks {
		b := "block." + strconv.Itoa(i) + "."
		slides := 0
		if i%2 == 0 { // line 188: layer_idx % 2 == 0
			slides = window
		}
		node := func(name string, op graph.Op, n graph.Node, columns []int, in, params string) {
			n.Name, n.Op, n.Shape = b+name, op, append(graph.Shape{rows}, columns...)
			add(n, in, params)
		}
		// here puts the block before each name of a list.
		here := func(names string) string {
			list := strings.Fields(names)
			for i := range list {
				list[i] = b + list[i]
			}
			return strings.Join(list, " ")
		}
		wide := func(n ...int) []int { return n }

		// AttentionBlock, lines 218 to 246.
		node("attn.norm", graph.RMSNorm, graph.Node{Eps: eps}, wide(residual), x, here("attn.norm.scale"))
		node("attn.qkv", graph.Linear, graph.Node{}, wide(nq+2*nkv), here("attn.norm"), here("attn.qkv.weight attn.qkv.bias"))
		node("attn.q", graph.Columns, graph.Node{Lo: 0, N: nq}, wide(nq), here("attn.qkv"), "")
		node("attn.k", graph.Columns, graph.Node{Lo: nq, N: nkv}, wide(nkv), here("attn.qkv"), "")
		node("attn.v", graph.Columns, graph.Node{Lo: nq + nkv, N: nkv}, wide(nkv), here("attn.qkv"), "")
		// RotaryEmbedding, lines 85 to 123, of lines 26 to 30. Bounds and
		// concentration were computed by those lines in Python.
		rope := graph.Rope{Dim: dim, Theta: 150000, Factor: 32, Low: low, High: high, Concentration: 1.3465735902799727}
		node("attn.rope.q", graph.Rotate, graph.Node{Rope: rope}, wide(nq), here("attn.q"), "")
		node("attn.rope.k", graph.Rotate, graph.Node{Rope: rope}, wide(nkv), here("attn.k"), "")
		// sdpa, lines 153 to 174: the query's own key is the newest in view, a
		// sink for each query head.
		node("attn.sdpa", graph.Attend, graph.Node{Heads: graph.Heads{Query: heads, KV: kv, Dim: dim, Window: slides}}, wide(nq),
			here("attn.rope.q attn.rope.k attn.v"), here("attn.sinks"))
		node("attn.out", graph.Linear, graph.Node{}, wide(residual), here("attn.sdpa"), here("attn.out.weight attn.out.bias"))
		node("attn", graph.Add, graph.Node{}, wide(residual), x+" "+here("attn.out"), "")

		// MLPBlock, lines 312 to 338: softmax after the choice of experts.
		node("mlp.norm", graph.RMSNorm, graph.Node{Eps: eps}, wide(residual), here("attn"), here("mlp.norm.scale"))
		node("mlp.gate", graph.Linear, graph.Node{}, wide(w.experts), here("mlp.norm"), here("mlp.gate.weight mlp.gate.bias"))
		node("mlp.experts", graph.TopK, graph.Node{N: top}, wide(top), here("mlp.gate"), "")
		node("mlp.scores", graph.Pick, graph.Node{}, wide(top), here("mlp.gate mlp.experts"), "")
		node("mlp.weights", graph.Softmax, graph.Node{}, wide(top), here("mlp.scores"), "")
		node("mlp.mlp1", graph.ExpertLinear, graph.Node{}, wide(top, 2*inner), here("mlp.norm mlp.experts"), here("mlp.mlp1_weight mlp.mlp1_bias"))
		// swiglu, lines 249 to 256: interleaved halves, clamps, alpha, and 1 more
		// on the linear half.
		half := wide(top, inner)
		node("mlp.swiglu.glu", graph.Every, graph.Node{Lo: 0}, half, here("mlp.mlp1"), "")
		node("mlp.swiglu.glu.clamp", graph.Clamp, graph.Node{A: math.Inf(-1), B: limit}, half, here("mlp.swiglu.glu"), "")
		node("mlp.swiglu.linear", graph.Every, graph.Node{Lo: 1}, half, here("mlp.mlp1"), "")
		node("mlp.swiglu.linear.clamp", graph.Clamp, graph.Node{A: -limit, B: limit}, half, here("mlp.swiglu.linear"), "")
		node("mlp.swiglu.alpha", graph.Affine, graph.Node{A: alpha}, half, here("mlp.swiglu.glu.clamp"), "")
		node("mlp.swiglu.sigmoid", graph.Sigmoid, graph.Node{}, half, here("mlp.swiglu.alpha"), "")
		node("mlp.swiglu.out_glu", graph.Mul, graph.Node{}, half, here("mlp.swiglu.glu.clamp mlp.swiglu.sigmoid"), "")
		node("mlp.swiglu.linear.plus1", graph.Affine, graph.Node{A: 1, B: 1}, half, here("mlp.swiglu.linear.clamp"), "")
		node("mlp.swiglu", graph.Mul, graph.Node{}, half, here("mlp.swiglu.out_glu mlp.swiglu.linear.plus1"), "")
		// The bias of each expert before its weight.
		node("mlp.mlp2", graph.ExpertLinear, graph.Node{}, wide(top, residual), here("mlp.swiglu mlp.experts"), here("mlp.mlp2_weight mlp.mlp2_bias"))
		node("mlp.mix", graph.Mix, graph.Node{}, wide(residual), here("mlp.mlp2 mlp.weights"), "")
		node("mlp", graph.Add, graph.Node{}, wide(residual), here("attn mlp.mix"), "")
		x = b + "mlp"
	}
	add(graph.Node{Name: "norm", Op: graph.RMSNorm, Eps: eps, Shape: graph.Shape{rows, residual}}, x, "norm.scale")
	add(graph.Node{Name: "unembedding", Op: graph.Linear, Shape: graph.Shape{rows, vocab}}, "norm", "unembedding.weight")
	return list
}

// sizes are those of parameters that no stage's shape shows.
func (w witness) sizes() map[string]graph.Param {
	const bf16, mxfp4 = graph.BF16, graph.MXFP4
	return map[string]graph.Param{
		"attn.sinks":      {Shape: graph.Shape{64}, Storage: bf16}, // one a query head, line 190
		"attn.qkv.bias":   {Shape: graph.Shape{5120}, Storage: bf16},
		"mlp.mlp1_weight": {Shape: graph.Shape{w.experts, 5760, 2880}, Storage: mxfp4},
		"mlp.mlp2_bias":   {Shape: graph.Shape{w.experts, 2880}, Storage: bf16},
	}
}

// complaints lists how g differs from what the source states.
func (w witness) complaints(g *graph.Graph) (list []string) {
	complain := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	want := w.nodes()
	if len(g.Nodes) != len(want) {
		complain("%d nodes, want %d", len(g.Nodes), len(want))
		return list
	}
	for i, n := range g.Nodes {
		var in, params []string
		for _, v := range n.In {
			in = append(in, g.Nodes[v].Name)
		}
		for _, p := range n.Params {
			params = append(params, g.Params[p].Name)
		}
		got := seen{n, strings.Join(in, " "), strings.Join(params, " ")}
		w := want[i]
		// Few roundings of float64: logarithms differ by one between libraries.
		near := func(got, want float64) bool { return math.Abs(got-want) <= 4e-15*want }
		if r := &got.Rope; near(r.Low, w.Rope.Low) && near(r.High, w.Rope.High) && near(r.Concentration, w.Rope.Concentration) {
			r.Low, r.High, r.Concentration = w.Rope.Low, w.Rope.High, w.Rope.Concentration
		}
		g, s := describe(got), describe(w)
		if g != s {
			complain("got  %s\nwant %s", g, s)
		}
		// sm_scale, line 205.
		if n.Op == graph.Attend && 1/math.Sqrt(float64(n.Heads.Dim)) != 0.125 {
			complain("%s: scale %g, want 1/8", n.Name, 1/math.Sqrt(float64(n.Heads.Dim)))
		}
	}
	for name, want := range w.sizes() {
		for b := range w.blocks {
			name := fmt.Sprintf("block.%d.%s", b, name)
			i := slices.IndexFunc(g.Params, func(p graph.Param) bool { return p.Name == name })
			if i < 0 || !slices.Equal(g.Params[i].Shape, want.Shape) || g.Params[i].Storage != want.Storage {
				complain("%s: not %v %v", name, want.Storage, want.Shape)
			}
		}
	}
	return list
}

// describe returns all of a node: two with the same text are the same.
func describe(s seen) string {
	n := s.Node
	return fmt.Sprintf("%s = %v(%s | %s) %v A %v B %v eps %v lo %d n %d heads %+v rope %+v",
		n.Name, n.Op, s.in, s.params, []int(n.Shape), n.A, n.B, n.Eps, n.Lo, n.N, n.Heads, n.Rope)
}

func TestConstantsHaveASecondWitness(t *testing.T) {
	for _, w := range witnesses {
		for i, c := range w.complaints(build(t, w.preset)) {
			if i == 5 {
				break
			}
			t.Errorf("%s: %s", w.preset, c)
		}
	}
}

// The witness can fail: each constant, moved in the last block that has it, is
// seen.
func TestTheWitnessSeesEveryConstant(t *testing.T) {
	w := witnesses[0]
	for _, m := range []struct {
		name, node string
		edit       func(n *graph.Node)
	}{
		{"alpha 1.7", "block.23.mlp.swiglu.alpha", func(n *graph.Node) { n.A = 1.7 }},
		{"alpha rounded to bf16", "block.23.mlp.swiglu.alpha", func(n *graph.Node) { n.A = 1.703125 }},
		{"no +1", "block.23.mlp.swiglu.linear.plus1", func(n *graph.Node) { n.B = 0 }},
		{"limit of the gate", "block.23.mlp.swiglu.glu.clamp", func(n *graph.Node) { n.B = 6 }},
		{"gate clamped below", "block.23.mlp.swiglu.glu.clamp", func(n *graph.Node) { n.A = -7 }},
		{"limit of the linear half", "block.23.mlp.swiglu.linear.clamp", func(n *graph.Node) { n.A, n.B = -8, 8 }},
		{"gate of odd columns", "block.23.mlp.swiglu.glu", func(n *graph.Node) { n.Lo = 1 }},
		{"eps of a block", "block.23.mlp.norm", func(n *graph.Node) { n.Eps = 1e-6 }},
		{"eps at the end", "norm", func(n *graph.Node) { n.Eps = 1e-6 }},
		{"theta", "block.23.attn.rope.k", func(n *graph.Node) { n.Rope.Theta = 10000 }},
		{"factor", "block.23.attn.rope.k", func(n *graph.Node) { n.Rope.Factor = 31.99 }},
		{"bounds rounded", "block.23.attn.rope.k", func(n *graph.Node) { n.Rope.Low, n.Rope.High = 8, 18 }},
		{"low bound moved", "block.23.attn.rope.q", func(n *graph.Node) { n.Rope.Low *= 1 + 1e-14 }},
		{"no concentration", "block.23.attn.rope.q", func(n *graph.Node) { n.Rope.Concentration = 1 }},
		{"adjacent columns turn", "block.23.attn.rope.q", func(n *graph.Node) { n.Rope.Adjacent = true }},
		{"window of 127", "block.22.attn.sdpa", func(n *graph.Node) { n.Heads.Window = 127 }},
		{"window of 129", "block.22.attn.sdpa", func(n *graph.Node) { n.Heads.Window = 129 }},
		{"window on odd blocks", "block.23.attn.sdpa", func(n *graph.Node) { n.Heads.Window = 128 }},
		{"no window", "block.22.attn.sdpa", func(n *graph.Node) { n.Heads.Window = 0 }},
		{"delay", "block.23.attn.sdpa", func(n *graph.Node) { n.Heads.Delay = 1 }},
		{"no sinks", "block.23.attn.sdpa", func(n *graph.Node) { n.Params = nil }},
		{"heads in other groups", "block.23.attn.sdpa", func(n *graph.Node) { n.Heads.KV = 16 }},
		{"scale of wider heads", "block.23.attn.sdpa", func(n *graph.Node) { n.Heads.Dim = 128 }},
		{"top 3", "block.23.mlp.experts", func(n *graph.Node) { n.N = 3 }},
		{"no bias of the router", "block.23.mlp.gate", func(n *graph.Node) { n.Params = n.Params[:1] }},
		{"softmax of all experts", "block.23.mlp.weights", func(n *graph.Node) { n.In[0] -= 2 }},
		{"keys for values", "block.23.attn.v", func(n *graph.Node) { n.Lo = 4096 }},
		{"residual of the input", "block.23.mlp", func(n *graph.Node) { n.In[0]-- }},
	} {
		t.Run(m.name, func(t *testing.T) {
			found := false
			g := build(t, w.preset).Rewrite(func(n graph.Node, emit func(graph.Node) graph.Value) graph.Value {
				if n.Name == m.node {
					found = true
					m.edit(&n)
				}
				return emit(n)
			})
			if !found {
				t.Fatalf("no node %s", m.node)
			}
			if len(w.complaints(g)) == 0 {
				t.Error("not seen")
			}
		})
	}
}
