// Package fault is the table of known ways to port gpt-oss wrongly. Each can be
// put into a recorded model or its weights, one at a time, to show that a
// comparison catches it and names the stage where it sits; and a foreign model
// that is wrong can be compared with each, to say which it looks like.
//
// The first seventeen were injected into the PyTorch reference and let through
// by a published parity test of this model.
package fault

import (
	"bytes"
	"math"
	"slices"
	"strings"

	"ossify/graph"
	"ossify/weight"
)

// A Fault is one bug. Exactly one of Graph, Weight and Unrounded is set.
type Fault struct {
	Name  string // as verify prints it
	Stage string // the first stage that comes out wrong
	Step  string // the first step within it that does, as graph.Node.Steps or below swiglu; may be empty

	// Graph returns the model with the bug.
	Graph func(*graph.Graph) *graph.Graph

	// Weight changes a parameter in place, and reports whether it did. data
	// holds all its rows as the checkpoint stores them: bfloat16 or float32, or
	// MXFP4 blocks with scales.
	Weight func(p graph.Param, heads graph.Heads, data, scales []byte) bool

	// Unrounded is a program in bfloat16 that rounds a stage's result and no
	// step within it.
	Unrounded bool

	// Where the bug is: from a position on, or in what is decoded one by one.
	// By default it is everywhere.
	From   int
	Decode bool
}

// Apply returns the model g and its weights w with the bug.
func (f Fault) Apply(g *graph.Graph, w *weight.Set) (*graph.Graph, *weight.Set) {
	switch {
	case f.Graph != nil:
		return f.Graph(g), w
	case f.Weight != nil:
		var heads graph.Heads
		for _, n := range g.Nodes {
			if n.Op == graph.Attend {
				heads = n.Heads
			}
		}
		return g, w.Edited(func(p graph.Param, data, scales []byte) bool { return f.Weight(p, heads, data, scales) })
	}
	return g, w
}

// Table returns all faults.
func Table() []Fault {
	own := attends(func(h *graph.Heads, _ int) { h.Delay = 1 })
	noSinks := nodes(graph.Attend, "", func(n *graph.Node) { n.Params = nil })
	return []Fault{
		// The mask: which keys a query sees.
		{Name: "window +1", Stage: "block.0.attn.sdpa", Step: graph.StepScores, Graph: attends(func(h *graph.Heads, _ int) { h.Window += sign(h.Window) })},
		{Name: "window -1", Stage: "block.0.attn.sdpa", Step: graph.StepScores, Graph: attends(func(h *graph.Heads, _ int) { h.Window -= sign(h.Window) })},
		{Name: "no sliding window", Stage: "block.0.attn.sdpa", Step: graph.StepScores, Graph: attends(func(h *graph.Heads, _ int) { h.Window = 0 })},
		{Name: "no sinks", Stage: "block.0.attn.sdpa", Step: graph.StepWeights, Graph: noSinks},

		{Name: "eps 1e-6", Stage: "block.0.attn.norm", Graph: nodes(graph.RMSNorm, "", func(n *graph.Node) { n.Eps = 1e-6 })},

		// swiglu.
		{Name: "alpha 1.703125 (rounded to bf16)", Stage: "block.0.mlp.swiglu", Step: ".alpha", Graph: nodes(graph.Affine, ".swiglu.alpha", func(n *graph.Node) { n.A = 1.703125 })},
		{Name: "alpha 1 (plain SiLU)", Stage: "block.0.mlp.swiglu", Step: ".alpha", Graph: nodes(graph.Affine, ".swiglu.alpha", func(n *graph.Node) { n.A = 1 })},
		{Name: "no +1 on the linear half", Stage: "block.0.mlp.swiglu", Step: ".linear.plus1", Graph: nodes(graph.Affine, ".swiglu.linear.plus1", func(n *graph.Node) { n.B = 0 })},
		{Name: "halves instead of interleaved", Stage: "block.0.mlp.swiglu", Step: ".alpha", Graph: nodes(graph.Every, "", func(n *graph.Node) {
			n.N = n.Shape.Last()
			n.Op, n.Lo = graph.Columns, n.Lo*n.N
		})},
		{Name: "no clamp", Stage: "block.0.mlp.swiglu", Step: ".alpha", Graph: nodes(graph.Clamp, "", func(n *graph.Node) { n.A, n.B = math.Inf(-1), math.Inf(1) })},

		// The rotary embedding.
		{Name: "YaRN bounds rounded", Stage: "block.0.attn.rope.q", Graph: ropes(func(r *graph.Rope) { r.Low, r.High = math.Floor(r.Low), math.Ceil(r.High) })},
		{Name: "YaRN without concentration", Stage: "block.0.attn.rope.q", Graph: ropes(func(r *graph.Rope) { r.Concentration = 1 })},
		{Name: "no YaRN", Stage: "block.0.attn.rope.q", Graph: ropes(func(r *graph.Rope) { r.Factor, r.Concentration = 1, 1 })},
		{Name: "GPT-J RoPE pairing", Stage: "block.0.attn.rope.q", Graph: ropes(func(r *graph.Rope) { r.Adjacent = true })},

		// Routing.
		{Name: "softmax before top-k", Stage: "block.0.mlp.weights", Graph: softmaxFirst},
		{Name: "down bias not weighted", Stage: "block.0.mlp.mix", Graph: biasUnweighted},
		{Name: "no router bias", Stage: "block.0.mlp.gate", Graph: nodes(graph.Linear, ".mlp.gate", func(n *graph.Node) { n.Params = n.Params[:1] })},

		// Not in the published seventeen.
		{Name: "nibbles swapped", Stage: "block.0.mlp.mlp1", Step: graph.StepProduct, Weight: swapNibbles},
		{Name: "scale 0 decoded as 0", Stage: "block.0.mlp.mlp1", Step: graph.StepProduct, Weight: dropScaleZero},
		{Name: "key and value heads permuted", Stage: "block.0.attn.qkv", Weight: permuteHeads},
		{Name: "cache off by one (own key unseen)", Stage: "block.0.attn.sdpa", Step: graph.StepScores, Graph: own},
		{Name: "window on odd layers too", Stage: "block.1.attn.sdpa", Step: graph.StepScores, Graph: attends(func(h *graph.Heads, window int) { h.Window = window })},

		// What only decode does, or only far positions.
		{Name: "decode without sinks", Stage: "block.0.attn.sdpa", Step: graph.StepWeights, Decode: true, Graph: noSinks},
		{Name: "decode sees itself alone", Stage: "block.0.attn.sdpa", Step: graph.StepScores, Decode: true, Graph: attends(func(h *graph.Heads, _ int) { h.Window = 1 })},
		{Name: "decode does not see itself", Stage: "block.0.attn.sdpa", Step: graph.StepScores, Decode: true, Graph: own},
		{Name: "decode, window -1", Stage: "block.0.attn.sdpa", Step: graph.StepScores, Decode: true, Graph: attends(func(h *graph.Heads, _ int) { h.Window -= sign(h.Window) })},
		{Name: "window +1 from position 256", Stage: "block.0.attn.sdpa", Step: graph.StepScores, From: 256, Graph: attends(func(h *graph.Heads, _ int) { h.Window += sign(h.Window) })},
		{Name: "rotary tables wrong from 256", Stage: "block.0.attn.rope.q", From: 256, Graph: ropes(func(r *graph.Rope) { r.Theta *= 1.01 })},

		{Name: "windows of even and odd layers swapped", Stage: "block.0.attn.sdpa", Step: graph.StepScores, Graph: attends(func(h *graph.Heads, window int) { h.Window = window - h.Window })},
		{Name: "theta 10000", Stage: "block.0.attn.rope.q", Graph: ropes(func(r *graph.Rope) { r.Theta = 10000 })},
		{Name: "YaRN factor 31.99", Stage: "block.0.attn.rope.q", Graph: ropes(func(r *graph.Rope) { r.Factor = 31.99 })},
		{Name: "a frequency 4096 ulp off", Stage: "block.0.attn.rope.q", Graph: ropes(func(r *graph.Rope) { r.Slip, r.SlipAt = 4096, 1 })},

		{Name: "gate clamped on both sides", Stage: "block.0.mlp.swiglu", Step: ".alpha", Graph: nodes(graph.Clamp, ".glu.clamp", func(n *graph.Node) { n.A = -n.B })},
		{Name: "linear half clamped above only", Stage: "block.0.mlp.swiglu", Step: ".linear.plus1", Graph: nodes(graph.Clamp, ".linear.clamp", func(n *graph.Node) { n.A = math.Inf(-1) })},
		{Name: "clamp at 6", Stage: "block.0.mlp.swiglu", Step: ".alpha", Graph: nodes(graph.Clamp, "", func(n *graph.Node) { n.A, n.B = n.A*6/7, n.B*6/7 })},
		{Name: "no bias of the qkv projection", Stage: "block.0.attn.qkv", Graph: nodes(graph.Linear, ".attn.qkv", func(n *graph.Node) { n.Params = n.Params[:1] })},
		{Name: "no bias of the experts", Stage: "block.0.mlp.mlp1", Graph: nodes(graph.ExpertLinear, "", func(n *graph.Node) { n.Params = n.Params[:1] })},
		{Name: "attention without its residual", Stage: "block.0.attn", Graph: nodes(graph.Add, ".attn", func(n *graph.Node) { n.Op, n.In, n.A = graph.Affine, n.In[1:], 1 })},
		{Name: "no last norm", Stage: "norm", Graph: lastNorm},

		// Weights: wrong scale, wrong row, wrong order.
		{Name: "scales one too small", Stage: "block.0.mlp.mlp1", Step: graph.StepProduct, Weight: smallerScales},
		{Name: "sign of the codes lost", Stage: "block.0.mlp.mlp1", Step: graph.StepProduct, Weight: unsigned},
		{Name: "two rows of the unembedding huge", Stage: "unembedding", Weight: hugeRows},
		{Name: "embedding off by a row", Stage: "embedding", Weight: rotated("embedding.weight")},
		{Name: "experts of mlp2 off by one", Stage: "block.0.mlp.mlp2", Step: graph.StepProduct, Weight: rotated(".mlp.mlp2_weight")},
		{Name: "sinks off by a head", Stage: "block.0.attn.sdpa", Step: graph.StepWeights, Weight: rotated(".attn.sinks")},
		{Name: "scale of a norm off by a column", Stage: "block.0.attn.norm", Weight: rotated(".attn.norm.scale")},

		{Name: "steps within a stage not rounded", Stage: "block.0.attn.rope.q", Unrounded: true},
	}
}

func sign(n int) int { return min(1, n) }

// nodes edits every node of an operation whose name ends so.
func nodes(op graph.Op, suffix string, edit func(*graph.Node)) func(*graph.Graph) *graph.Graph {
	return func(g *graph.Graph) *graph.Graph {
		return g.Rewrite(func(n graph.Node, emit func(graph.Node) graph.Value) graph.Value {
			if n.Op == op && strings.HasSuffix(n.Name, suffix) {
				edit(&n)
			}
			return emit(n)
		})
	}
}

// attends edits every Attend; window is that of the layers that slide.
func attends(edit func(h *graph.Heads, window int)) func(*graph.Graph) *graph.Graph {
	return func(g *graph.Graph) *graph.Graph {
		window := 0
		for _, n := range g.Nodes {
			window = max(window, n.Heads.Window)
		}
		return nodes(graph.Attend, "", func(n *graph.Node) { edit(&n.Heads, window) })(g)
	}
}

// lastNorm leaves out the norm before the logits.
func lastNorm(g *graph.Graph) *graph.Graph {
	return g.Rewrite(func(n graph.Node, emit func(graph.Node) graph.Value) graph.Value {
		if n.Name == "norm" {
			n.Op, n.Params, n.A, n.B = graph.Affine, nil, 1, 0
		}
		return emit(n)
	})
}

func ropes(edit func(*graph.Rope)) func(*graph.Graph) *graph.Graph {
	return nodes(graph.Rotate, "", func(n *graph.Node) { edit(&n.Rope) })
}

// softmaxFirst makes scores the softmax over all experts, and weights the
// chosen ones of it, which then do not sum to 1.
func softmaxFirst(g *graph.Graph) *graph.Graph {
	var gate graph.Node
	var experts graph.Value
	return g.Rewrite(func(n graph.Node, emit func(graph.Node) graph.Value) graph.Value {
		switch {
		case strings.HasSuffix(n.Name, ".mlp.gate"):
			gate = n
		case strings.HasSuffix(n.Name, ".mlp.scores"): // was Pick(gate, experts)
			experts = n.In[1]
			return emit(graph.Node{Name: n.Name, Op: graph.Softmax, In: n.In[:1], Shape: gate.Shape})
		case strings.HasSuffix(n.Name, ".mlp.weights"): // was Softmax(scores)
			return emit(graph.Node{Name: n.Name, Op: graph.Pick, In: []graph.Value{n.In[0], experts}, Shape: n.Shape})
		}
		return emit(n)
	})
}

// biasUnweighted computes mix as Σ w·(mlp2 without bias) + Σ bias.
func biasUnweighted(g *graph.Graph) *graph.Graph {
	var mlp2 graph.Node
	return g.Rewrite(func(n graph.Node, emit func(graph.Node) graph.Value) graph.Value {
		switch {
		case strings.HasSuffix(n.Name, ".mlp2"):
			mlp2 = n
		case n.Op == graph.Mix:
			x, w, under := n.In[0], n.In[1], func(name string) string { return n.Name + "." + name }
			bare := emit(graph.Node{Name: under("bare"), Op: graph.ExpertLinear, In: mlp2.In, Params: mlp2.Params[:1], Shape: mlp2.Shape})
			minus := emit(graph.Node{Name: under("minus"), Op: graph.Affine, In: []graph.Value{bare}, A: -1, Shape: mlp2.Shape})
			bias := emit(graph.Node{Name: under("bias"), Op: graph.Add, In: []graph.Value{x, minus}, Shape: mlp2.Shape})
			ones := emit(graph.Node{Name: under("ones"), Op: graph.Affine, In: []graph.Value{w}, B: 1, Shape: mlp2.Shape[:2]})
			plain := emit(graph.Node{Name: under("plain"), Op: graph.Mix, In: []graph.Value{bias, ones}, Shape: n.Shape})
			weighted := emit(graph.Node{Name: under("weighted"), Op: graph.Mix, In: []graph.Value{bare, w}, Shape: n.Shape})
			return emit(graph.Node{Name: n.Name, Op: graph.Add, In: []graph.Value{weighted, plain}, Shape: n.Shape})
		}
		return emit(n)
	})
}

// swapNibbles takes the high nibble for the even element.
func swapNibbles(p graph.Param, _ graph.Heads, data, _ []byte) bool {
	if p.Storage != graph.MXFP4 {
		return false
	}
	for i, b := range data {
		data[i] = b<<4 | b>>4
	}
	return true
}

// dropScaleZero makes blocks of scale byte 0, which means 2^-127, zero.
func dropScaleZero(p graph.Param, _ graph.Heads, data, scales []byte) bool {
	if p.Storage != graph.MXFP4 || !slices.Contains(scales, 0) {
		return false
	}
	size := len(data) / len(scales)
	for i, s := range scales {
		if s == 0 {
			clear(data[i*size:][:size])
		}
	}
	return true
}

// permuteHeads moves each key and value head of qkv's weight and bias up by
// one place.
func permuteHeads(p graph.Param, h graph.Heads, data, _ []byte) bool {
	if !strings.HasSuffix(p.Name, ".attn.qkv.weight") && !strings.HasSuffix(p.Name, ".attn.qkv.bias") {
		return false
	}
	head := len(data) / (h.Query + 2*h.KV)
	for _, first := range []int{h.Query, h.Query + h.KV} {
		part := data[first*head : (first+h.KV)*head]
		copy(part, slices.Concat(bytes.Clone(part[head:]), part[:head]))
	}
	return true
}

// smallerScales reads E8M0 with a bias of 128.
func smallerScales(p graph.Param, _ graph.Heads, _, scales []byte) bool {
	if p.Storage != graph.MXFP4 {
		return false
	}
	for i, s := range scales {
		scales[i] = s - min(1, s)
	}
	return true
}

// unsigned drops the sign of every code.
func unsigned(p graph.Param, _ graph.Heads, data, _ []byte) bool {
	if p.Storage != graph.MXFP4 {
		return false
	}
	for i := range data {
		data[i] &= 0x77
	}
	return true
}

// hugeRows makes the first two rows of the unembedding 2^20 times as large.
func hugeRows(p graph.Param, _ graph.Heads, data, _ []byte) bool {
	if p.Name != "unembedding.weight" {
		return false
	}
	for i := range 2 * p.Shape.Last() {
		if data[2*i+1]&0x7f != 0 {
			data[2*i+1] += 10 // of the exponent, which it holds but for its last bit
		}
	}
	return true
}

// rotated moves what the first dimension of a parameter counts up by one place.
func rotated(suffix string) func(graph.Param, graph.Heads, []byte, []byte) bool {
	return func(p graph.Param, _ graph.Heads, data, scales []byte) bool {
		if !strings.HasSuffix(p.Name, suffix) {
			return false
		}
		for _, b := range [][]byte{data, scales} {
			one := len(b) / p.Shape[0]
			copy(b, slices.Concat(bytes.Clone(b[one:]), b[:one]))
		}
		return true
	}
}
