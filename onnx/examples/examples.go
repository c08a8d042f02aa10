// Package examples lists models from which tests of the exporter are made:
// goldens of their text form, chains of operators, runs in several runtimes
// against the oracle. One line in [All] adds an example to all of them.
package examples

import (
	"slices"
	"strings"

	"ossify/graph"
	"ossify/onnx"
	"ossify/onnx/lower"
)

// An Example is a model, and how to export it. Its parameters are those of the
// tiny preset, under the same indices.
type Example struct {
	Name    string
	Graph   func(tiny *graph.Graph) *graph.Graph
	Options onnx.Options
	Chain   string // operators of which each reads the one before it, in the flat graph
}

// All returns the examples.
func All() []Example {
	strips, plain := lower.Portable(), lower.Portable()
	strips.Strip, plain.PlainLookup = 64*24, true
	trace, flat := onnx.Options{Trace: true}, onnx.Options{Inline: true}
	return []Example{
		{"embedding", module("embedding"), onnx.Options{}, "Identity Less Where Gather Cast"},
		{"rmsnorm", module("block.0.attn.norm"), flat, "Pow ReduceMean Add Sqrt Div Mul"},
		{"linear", module("block.0.attn.qkv"), flat, "Cast Gemm Reshape Add"},
		{"rope", module("block.0.attn", "rope.q"), flat, "CumSum Sub Slice Max Div Unsqueeze GatherND Mul Sub Unsqueeze Mul Sub Concat Reshape"},
		{"attention.window", module("block.0.attn"), trace, "Less And Where Unsqueeze Add Concat Softmax Slice MatMul Transpose Reshape"},
		{"attention.full", module("block.1.attn"), trace, "GreaterOrEqual And Where Unsqueeze Add Concat Softmax Slice MatMul Transpose Reshape"},
		{"attention.no sinks", edited(module("block.1.attn"), func(n *graph.Node) {
			if n.Op == graph.Attend {
				n.Params = nil
			}
		}), flat, "MatMul Add Softmax MatMul"},
		{"attention.adjacent", edited(module("block.0.attn"), func(n *graph.Node) { n.Rope.Adjacent = true }), flat, "Slice Squeeze Mul Sub Unsqueeze Concat Reshape"},
		{"attention.delay", edited(module("block.0.attn"), func(n *graph.Node) { n.Heads.Delay = 1 }), flat, "GreaterOrEqual And And Where"},
		{"routing", module("block.0.mlp", "weights"), trace, "TopK GatherElements Softmax"},
		{"experts", module("block.0.mlp", "mlp1"), trace, "Unique Gather Mul Add Gather Cast Add Reshape GatherElements Reshape Gemm Add Add ScatterND"},
		{"experts.strips", module("block.0.mlp", "mlp1"), onnx.Options{Trace: true, Target: strips}, ""},
		{"experts.plain", module("block.0.mlp", "mlp1"), onnx.Options{Trace: true, Target: plain}, "Add Gather Reshape Gemm Add"},
		{"mlp", module("block.0.mlp"), trace, "Slice Clip Mul Sigmoid Mul Mul"},
		{"block", module("block.0"), onnx.Options{}, ""},
		{"model", whole, onnx.Options{Titles: map[string]string{"attn": "AttentionBlock"}}, ""},
		{"model.flat", whole, onnx.Options{Inline: true, Trace: true}, ""},
		{"model.trace", whole, trace, ""},
		{"model.last", whole, onnx.Options{LastOnly: true}, "Reshape Slice Reshape Gemm Reshape Add Add"},
		{"model.static", whole, onnx.Options{Batch: 1, Seq: 48, Total: 48}, ""},
		{"model.static batch", whole, onnx.Options{Batch: 3}, ""},
	}
}

func whole(g *graph.Graph) *graph.Graph { return g }

// module is a part of the model, from its start up to stage last of it (all of
// it by default), on the embedding.
func module(path string, last ...string) func(*graph.Graph) *graph.Graph {
	return func(g *graph.Graph) *graph.Graph {
		out := &graph.Graph{Params: g.Params}
		moved := map[graph.Value]graph.Value{}
		embedding, _ := g.Find("embedding")
		for i, n := range g.Nodes {
			inside := n.Name == path || strings.HasPrefix(n.Name, path+".")
			if !inside && graph.Value(i) > embedding {
				continue
			}
			n.In = slices.Clone(n.In)
			for j, v := range n.In {
				if m, ok := moved[v]; ok {
					n.In[j] = m
				} else {
					n.In[j] = moved[embedding] // what comes before the module
				}
			}
			moved[graph.Value(i)] = graph.Value(len(out.Nodes))
			out.Nodes = append(out.Nodes, n)
			if len(last) > 0 && n.Name == path+"."+last[0] || len(last) == 0 && n.Name == path {
				break
			}
		}
		return out
	}
}

// edited changes nodes of a model.
func edited(make func(*graph.Graph) *graph.Graph, edit func(*graph.Node)) func(*graph.Graph) *graph.Graph {
	return func(g *graph.Graph) *graph.Graph {
		return make(g).Rewrite(func(n graph.Node, emit func(graph.Node) graph.Value) graph.Value {
			edit(&n)
			return emit(n)
		})
	}
}
