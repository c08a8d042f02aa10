package graph

import (
	"strings"
	"testing"
)

// Every mistake of a recording is reported, each with its path.
func TestBuildReportsEveryMistake(t *testing.T) {
	tests := []struct {
		name   string
		record func(s Scope, x Value) // x is [T, 4]
		want   string
	}{
		{"add different widths", func(s Scope, x Value) { s.At("a").Add(x, s.At("wide").Project(x, 5)) }, "graph: a: [T, 4] and [T, 5], want the same shape"},
		{"stage twice", func(s Scope, x Value) { s.At("o").Softmax(x); s.At("o").Sigmoid(x) }, "graph: o: second stage of that name, want it once"},
		{"parameter twice", func(s Scope, x Value) { s.At("o").Project(x, 4); s.At("o").Project(x, 4) }, "graph: o: second parameter o.weight, want it once\ngraph: o: second stage of that name, want it once"},
		{"columns beyond the end", func(s Scope, x Value) { s.At("c").Columns(x, 2, 3) }, "graph: c: columns 2 to 5 of 4, want one or more of them"},
		{"negative column", func(s Scope, x Value) { s.At("c").Columns(x, -1, 3) }, "graph: c: columns -1 to 2 of 4, want one or more of them"},
		{"odd split", func(s Scope, x Value) { s.At("e").Every(s.At("w").Project(x, 5), 0) }, "graph: e: every second of 5 columns from 0, want an even number from 0 or 1"},
		{"too many experts", func(s Scope, x Value) { s.At("k").TopK(x, 5) }, "graph: k: top 5 of 4 columns, want 1 to 4"},
		{"heads do not divide", func(s Scope, x Value) { s.Attend(x, x, x, "sdpa", Heads{Query: 4, KV: 3, Dim: 1}) }, "graph: sdpa: 4 query heads on 3 key/value heads, want a multiple\ngraph: sdpa: keys of 4 columns, want 3 heads of 1\ngraph: sdpa: values of 4 columns, want 3 heads of 1"},
		{"odd head", func(s Scope, x Value) { s.At("r").Rotate(x, Rope{Dim: 3}) }, "graph: r: 4 columns in heads of 3, want whole heads of an even number"},
		{"clamp reversed", func(s Scope, x Value) { s.At("c").Clamp(x, 1, -1) }, "graph: c: clamp from 1 to -1, want bounds that rise"},
		{"mix without experts", func(s Scope, x Value) { s.At("m").Mix(x, x) }, "graph: m: [T, 4] with weights [T, 4], want [T, K, D] and [T, K]"},
		{"MXFP4 row not in blocks", func(s Scope, x Value) { s.ExpertLinear(x, s.At("k").TopK(x, 2), "mlp1", 4, 6) }, "graph: parameter mlp1_weight: MXFP4 rows of 4 elements, want a multiple of 32"},
		{"empty dimension", func(s Scope, x Value) { s.At("p").Project(x, 0) }, "graph: p: shape [T, 0] has a dimension below 1, want none"},
		{"two mistakes", func(s Scope, x Value) { s.At("c").Columns(x, 3, 3); s.At("k").TopK(x, 9) }, "graph: c: columns 3 to 6 of 4, want one or more of them\ngraph: k: top 9 of 4 columns, want 1 to 4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, err := Build(func(s Scope) { tt.record(s, s.At("embedding").Gather(s.At("tokens").Tokens(), 8, 4)) })
			if err == nil || strings.ReplaceAll(err.Error(), "graph: : ", "graph: ") != tt.want {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
			if g != nil {
				t.Error("a graph came with the error")
			}
		})
	}
}

// Rewrite renumbers what follows an insertion, and leaves the original alone.
func TestRewrite(t *testing.T) {
	g, err := Build(func(s Scope) {
		x := s.At("embedding").Gather(s.At("tokens").Tokens(), 8, 4)
		s.At("sum").Add(x, s.At("gate").Sigmoid(x))
	})
	if err != nil {
		t.Fatal(err)
	}
	before := g.String()
	got := g.Rewrite(func(n Node, emit func(Node) Value) Value {
		if n.Op == Sigmoid {
			n.In[0] = emit(Node{Name: "gate.twice", Op: Affine, In: n.In, A: 2, Shape: n.Shape})
		}
		return emit(n)
	}).String()
	const want = `param embedding.weight BF16 [8, 4]
tokens [T] = Tokens()
embedding [T, 4] = Gather(tokens, @embedding.weight)
gate.twice [T, 4] = Affine(embedding) a=2 b=0
gate [T, 4] = Sigmoid(gate.twice)
sum [T, 4] = Add(embedding, gate)
`
	if got != want {
		t.Errorf("got\n%s", got)
	}
	if g.String() != before {
		t.Error("Rewrite changed its receiver")
	}
}

func TestOpsAreNamed(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range Ops() {
		if n := o.String(); n == "" || seen[n] {
			t.Errorf("operation %d is named %q", o, n)
		}
		seen[o.String()] = true
	}
}
