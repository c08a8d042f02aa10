package gptoss

import (
	"flag"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"ossify/graph"
	"ossify/internal/golden"
)

var update = flag.Bool("update", false, "write the goldens of this package anew")

// The text form of tiny is kept, so that a change of the model shows in review.
func TestModelText(t *testing.T) {
	got := build(t, "tiny").String()
	const path = "testdata/tiny.graph.txt"
	if got != golden.Text(t, path, got, *update) {
		t.Errorf("the model is not that of %s; if it should not be, run go test ./gptoss -update and review the difference", path)
	}
}

func build(t *testing.T, preset string) *graph.Graph {
	t.Helper()
	c, err := Preset(preset)
	if err != nil {
		t.Fatal(err)
	}
	g, err := Build(c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// The canonical stages exist in every block, and every module of the PyTorch
// model is one of them.
func TestStages(t *testing.T) {
	want := []string{"embedding", "norm", "unembedding"}
	for layer := range 24 {
		for _, s := range strings.Fields("attn.norm attn.qkv attn.q attn.k attn.v attn.rope.q attn.rope.k attn.sdpa attn.out attn " +
			"mlp.norm mlp.gate mlp.experts mlp.weights mlp.mlp1 mlp.swiglu mlp.mlp2 mlp.mix mlp") {
			want = append(want, fmt.Sprintf("block.%d.%s", layer, s))
		}
	}
	g := build(t, "20b")
	for _, s := range want {
		if _, ok := g.Find(s); !ok {
			t.Errorf("no stage %s", s)
		}
	}
}

// The parameters are those of the published checkpoints, by number and size:
// 20.9 and 116.8 billion, as the model card (arXiv 2508.10925, table 1) counts
// them.
func TestParameters(t *testing.T) {
	for preset, want := range map[string]float64{"20b": 20.91, "120b": 116.83} {
		g, layers := build(t, preset), 24
		if preset == "120b" {
			layers = 36
		}
		elements := 0
		for _, p := range g.Params {
			n := 1
			for _, d := range p.Shape {
				n *= d
			}
			elements += n
		}
		if len(g.Params) != 13*layers+3 {
			t.Errorf("%s: %d parameters", preset, len(g.Params))
		}
		if billions := float64(elements) / 1e9; !(math.Abs(billions-want) < 0.005) {
			t.Errorf("%s: %.3f billion elements, want %.2f", preset, billions, want)
		}
	}
}

// Without an extension the rotary embedding is plain.
func TestPlainRope(t *testing.T) {
	c, err := Preset("tiny")
	if err != nil {
		t.Fatal(err)
	}
	c.Factor = 1
	if r := rope(c); r.Factor != 1 || r.Concentration != 1 || !(r.Low < r.High) {
		t.Errorf("%+v", r)
	}
}

// No parameter is read twice or never.
func TestEveryParameterIsReadOnce(t *testing.T) {
	g := build(t, "tiny")
	var read []int
	for _, n := range g.Nodes {
		read = append(read, n.Params...)
	}
	slices.Sort(read)
	for i, p := range read {
		if i != p {
			t.Fatalf("parameters read: %v", read)
		}
	}
	if len(read) != len(g.Params) {
		t.Errorf("%d parameters, %d read", len(g.Params), len(read))
	}
}
