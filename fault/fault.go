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
)

// A Fault is one bug. Exactly one of Graph and Weight is set.
type Fault struct {
	Name  string // as verify prints it
	Stage string // the first stage that comes out wrong

	// Graph returns the model with the bug.
	Graph func(*graph.Graph) *graph.Graph

	// Weight changes a parameter in place, and reports whether it did. data
	// holds all its rows as the checkpoint stores them: bfloat16, or MXFP4
	// blocks with scales.
	Weight func(p graph.Param, heads graph.Heads, data, scales []byte) bool
}

// Table returns all faults.
func Table() []Fault {
	return []Fault{
		// The mask: which keys a query sees.
		{Name: "window +1", Stage: "block.0.attn.sdpa", Graph: attends(func(h *graph.Heads, _ int) { h.Window += sign(h.Window) })},
		{Name: "window -1", Stage: "block.0.attn.sdpa", Graph: attends(func(h *graph.Heads, _ int) { h.Window -= sign(h.Window) })},
		{Name: "no sliding window", Stage: "block.0.attn.sdpa", Graph: attends(func(h *graph.Heads, _ int) { h.Window = 0 })},
		{Name: "no sinks", Stage: "block.0.attn.sdpa", Graph: nodes(graph.Attend, "", func(n *graph.Node) { n.Params = nil })},

		{Name: "eps 1e-6", Stage: "block.0.attn.norm", Graph: nodes(graph.RMSNorm, "", func(n *graph.Node) { n.Eps = 1e-6 })},

		// swiglu.
		{Name: "alpha 1.703125 (rounded to bf16)", Stage: "block.0.mlp.swiglu", Graph: nodes(graph.Affine, ".swiglu.alpha", func(n *graph.Node) { n.A = 1.703125 })},
		{Name: "alpha 1 (plain SiLU)", Stage: "block.0.mlp.swiglu", Graph: nodes(graph.Affine, ".swiglu.alpha", func(n *graph.Node) { n.A = 1 })},
		{Name: "no +1 on the linear half", Stage: "block.0.mlp.swiglu", Graph: nodes(graph.Affine, ".swiglu.linear.plus1", func(n *graph.Node) { n.B = 0 })},
		{Name: "halves instead of interleaved", Stage: "block.0.mlp.swiglu", Graph: nodes(graph.Every, "", func(n *graph.Node) {
			n.N = n.Shape.Last()
			n.Op, n.Lo = graph.Columns, n.Lo*n.N
		})},
		{Name: "no clamp", Stage: "block.0.mlp.swiglu", Graph: nodes(graph.Clamp, "", func(n *graph.Node) { n.A, n.B = math.Inf(-1), math.Inf(1) })},

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
		{Name: "nibbles swapped", Stage: "block.0.mlp.mlp1", Weight: swapNibbles},
		{Name: "scale 0 decoded as 0", Stage: "block.0.mlp.mlp1", Weight: dropScaleZero},
		{Name: "key and value heads permuted", Stage: "block.0.attn.qkv", Weight: permuteHeads},
		{Name: "cache off by one (own key unseen)", Stage: "block.0.attn.sdpa", Graph: attends(func(h *graph.Heads, _ int) { h.Delay = 1 })},
		{Name: "window on odd layers too", Stage: "block.1.attn.sdpa", Graph: attends(func(h *graph.Heads, window int) { h.Window = window })},
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
