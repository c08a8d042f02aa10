package gptoss_test

import (
	"slices"
	"strings"
	"testing"

	"ossify/gptoss"
	"ossify/graph"
	"ossify/internal/modeltest"
)

// The steps within stages have the names of tools/reference/trace.py, each
// before its stage, and the shapes of its traces; without them the list is that
// of the stages.
func TestStagesAndSteps(t *testing.T) {
	g := modeltest.Graph(t)
	var names, stages []string
	for _, s := range gptoss.StagesAndSteps(g, 50) {
		if s.Within == "" {
			stages = append(stages, s.Name)
		} else if !strings.HasPrefix(s.Name, s.Within+".") || len(s.Params) > 0 {
			t.Errorf("%s is within %s, with parameters %v", s.Name, s.Within, s.Params)
		}
		if rest, ok := strings.CutPrefix(s.Name, "block.1."); ok {
			names = append(names, rest)
		}
		want := map[string]graph.Shape{
			"block.1.attn.sdpa.weights": {graph.T, 8, 50}, "block.1.mlp.mlp1.product": {graph.T, 4, 128},
			"block.1.mlp.swiglu.alpha": {graph.T, 4, 64}, "block.1.mlp.mlp2.product": {graph.T, 4, 64},
		}[s.Name]
		if want != nil && !slices.Equal(s.Shape, want) {
			t.Errorf("%s: shape %v, want %v", s.Name, s.Shape, want)
		}
	}
	const want = "attn.norm attn.qkv attn.q attn.k attn.v attn.rope.q attn.rope.k attn.sdpa.scores attn.sdpa.scaled attn.sdpa.weights attn.sdpa attn.out attn " +
		"mlp.norm mlp.gate mlp.experts mlp.weights mlp.mlp1.product mlp.mlp1 mlp.swiglu.alpha mlp.swiglu.sigmoid mlp.swiglu.out_glu mlp.swiglu.linear.plus1 mlp.swiglu " +
		"mlp.mlp2.product mlp.mlp2 mlp.mix mlp"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("a block has %s\nwant %s", got, want)
	}
	var plain []string
	for _, s := range gptoss.Stages(g) {
		plain = append(plain, s.Name)
	}
	if !slices.Equal(stages, plain) {
		t.Errorf("without steps %v\nwant %v", stages, plain)
	}
}
