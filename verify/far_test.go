package verify

import (
	"fmt"
	"testing"

	"ossify/engine"
	"ossify/fault"
	"ossify/graph"
	"ossify/internal/modeltest"
)

// At far positions, with the published heads, frequencies and factor, PyTorch
// and the engine pass in both precisions: PyTorch by its exception, the engine
// without. What is wrong at far positions only, or by little, is found there.
func TestFarPositions(t *testing.T) {
	c := modeltest.Tiny(t)
	c.Layers, c.Vocab, c.HeadDim, c.Window = 2, 256, 64, 8
	ck := openConfig(t, c, goldenSeed)
	ropes := func(edit func(r *graph.Rope)) func(*graph.Graph) *graph.Graph {
		return func(g *graph.Graph) *graph.Graph {
			return g.Rewrite(func(n graph.Node, emit func(graph.Node) graph.Value) graph.Value {
				if n.Op == graph.Rotate {
					edit(&n.Rope)
				}
				return emit(n)
			})
		}
	}
	window := func(g *graph.Graph) *graph.Graph {
		return g.Rewrite(func(n graph.Node, emit func(graph.Node) graph.Value) graph.Value {
			if n.Heads.Window > 0 {
				n.Heads.Window++
			}
			return emit(n)
		})
	}
	const rope, sdpa = "block.0.attn.rope.q", "block.0.attn.sdpa"
	table := []struct {
		fault.Fault
		bf16 int // the first position at which bfloat16 shows it
	}{
		{fault.Fault{Name: "a frequency 4 units off", Stage: rope, Graph: ropes(func(r *graph.Rope) { r.Slip, r.SlipAt = 4, 1 })}, 1490},
		{fault.Fault{Name: "a middle frequency 4 units off", Stage: rope, Graph: ropes(func(r *graph.Rope) { r.Slip, r.SlipAt = 4, 6 })}, 131056},
		{fault.Fault{Name: "factor 31.99", Stage: rope, Graph: ropes(func(r *graph.Rope) { r.Factor = 31.99 })}, 1490},
		{fault.Fault{Name: "tables wrong from 256", Stage: rope, From: 256, Graph: ropes(func(r *graph.Rope) { r.Theta *= 1.0001 })}, 1490},
		{fault.Fault{Name: "window wrong from 4096", Stage: sdpa, From: 4096, Graph: window}, 4088},
		{fault.Fault{Name: "window wrong", Stage: sdpa, Graph: window}, 1490},
	}
	for _, first := range []int{1490, 2990, 4088, 131056} {
		for _, p := range []engine.Precision{engine.F32, engine.BF16} {
			golden := openGolden(t, ck, fmt.Sprintf("far-%d-%v", first, p))
			if golden.First != first || golden.Judged()[0] != first || len(golden.Judged()) != 16 {
				t.Fatalf("%s begins at %d", golden.Path(), golden.First)
			}
			r, err := Run(t.Context(), ck.Graph, ck.Weights, Request{Golden: golden, Most: 1e7})
			if err != nil {
				t.Fatal(err)
			}
			passes(t, r, columnReference, columnForced, columnFree)
			if p == engine.F32 && (len(r.Exceptions) != 1 || r.Exceptions[0].Count > 2 || r.Exceptions[0].Of != 32) {
				t.Errorf("from %d: exceptions %v", first, r.Exceptions)
			}
			if _, err := Faults(t.Context(), ck.Graph, ck.Weights, golden, engine.Options{}, nil); err == nil {
				t.Error("the whole fault table without a cache")
			}
			var list []fault.Fault
			for _, f := range table {
				list = append(list, f.Fault)
			}
			found, err := faults(t.Context(), ck.Graph, ck.Weights, golden, engine.Options{}, list, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i, c := range found.Faults {
				want := table[i].Stage
				if table[i].From > first+15 || p == engine.BF16 && first < table[i].bf16 {
					want = ""
				}
				if c.At != want && !(p == engine.BF16 && want == "") {
					t.Errorf("from %d, %v, %s: caught at %q (%s), want %q", first, p, c.Name, c.At, c.Why, want)
				}
			}
		}
	}
}
