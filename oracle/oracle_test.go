package oracle

import (
	"math"
	"slices"
	"testing"

	"ossify/graph"
)

// table is weights given as numbers: rows of each parameter, by name.
type table struct {
	g    *graph.Graph
	rows map[string][][]float64
}

func (w table) Row(p, i int, dst []float64) { copy(dst, w.rows[w.g.Params[p].Name][i]) }

// vocab is how many rows the embedding of TestOps has: the three of x, which the
// tokens 0 to 2 stand for, and one of zeros.
const vocab = 4

// Each operation gives what arithmetic by hand gives. The input x is three
// rows of four.
func TestOps(t *testing.T) {
	x := [][]float64{{3, 4, 0, 0}, {1, -1, 2, 8}, {0, 5, 5, -9}}
	id := func(s graph.Scope, v graph.Value) graph.Value { return v }
	tests := []struct {
		name   string
		record func(s graph.Scope, x graph.Value) graph.Value
		rows   map[string][][]float64
		want   []float64
	}{
		{"Gather", id, nil, []float64{3, 4, 0, 0, 1, -1, 2, 8, 0, 5, 5, -9}},
		{"RMSNorm", func(s graph.Scope, x graph.Value) graph.Value {
			return s.At("n").RMSNorm(s.At("c").Columns(x, 0, 2), 12)
		},
			map[string][][]float64{"n.scale": {{2}, {10}}},
			// √(25/2+12) is not round, so the rows are checked by formula here once.
			[]float64{6 / math.Sqrt(24.5), 40 / math.Sqrt(24.5), 2 / math.Sqrt(13), -10 / math.Sqrt(13), 0, 50 / math.Sqrt(24.5)}},
		{"Linear", func(s graph.Scope, x graph.Value) graph.Value { return s.At("l").Linear(x, 2) },
			map[string][][]float64{"l.weight": {{1, 2, 3, 4}, {0, 0, -1, 0.5}}, "l.bias": {{10}, {-1}}},
			[]float64{21, -1, 47, 1, -1, -10.5}},
		{"Project", func(s graph.Scope, x graph.Value) graph.Value { return s.At("l").Project(x, 1) },
			map[string][][]float64{"l.weight": {{1, 2, 3, 4}}}, []float64{11, 37, -11}},
		{"Columns", func(s graph.Scope, x graph.Value) graph.Value { return s.At("c").Columns(x, 1, 2) }, nil, []float64{4, 0, -1, 2, 5, 5}},
		{"Every, even", func(s graph.Scope, x graph.Value) graph.Value { return s.At("e").Every(x, 0) }, nil, []float64{3, 0, 1, 2, 0, 5}},
		{"Every, odd", func(s graph.Scope, x graph.Value) graph.Value { return s.At("e").Every(x, 1) }, nil, []float64{4, 0, -1, 8, 5, -9}},
		{"TopK, ties take the lower column", func(s graph.Scope, x graph.Value) graph.Value { return s.At("k").TopK(x, 3) }, nil, []float64{1, 0, 2, 3, 2, 0, 1, 2, 0}},
		{"Pick", func(s graph.Scope, x graph.Value) graph.Value { return s.At("p").Pick(x, s.At("k").TopK(x, 2)) }, nil, []float64{4, 3, 8, 2, 5, 5}},
		{"Softmax", func(s graph.Scope, x graph.Value) graph.Value { return s.At("s").Softmax(s.At("c").Columns(x, 1, 2)) }, nil,
			[]float64{1 / (1 + math.Exp(-4)), 1 / (1 + math.Exp(4)), 1 / (1 + math.Exp(3)), 1 / (1 + math.Exp(-3)), 0.5, 0.5}},
		{"Clamp", func(s graph.Scope, x graph.Value) graph.Value { return s.At("c").Clamp(x, -1, 4) }, nil, []float64{3, 4, 0, 0, 1, -1, 2, 4, 0, 4, 4, -1}},
		{"Clamp without a lower bound", func(s graph.Scope, x graph.Value) graph.Value { return s.At("c").Clamp(x, math.Inf(-1), 4) }, nil, []float64{3, 4, 0, 0, 1, -1, 2, 4, 0, 4, 4, -9}},
		{"Affine", func(s graph.Scope, x graph.Value) graph.Value { return s.At("a").Affine(x, 2, 1) }, nil, []float64{7, 9, 1, 1, 3, -1, 5, 17, 1, 11, 11, -17}},
		{"Sigmoid", func(s graph.Scope, x graph.Value) graph.Value { return s.At("s").Sigmoid(s.At("c").Columns(x, 3, 1)) }, nil,
			[]float64{0.5, 1 / (1 + math.Exp(-8)), 1 / (1 + math.Exp(9))}},
		{"Mul", func(s graph.Scope, x graph.Value) graph.Value { return s.At("m").Mul(x, x) }, nil, []float64{9, 16, 0, 0, 1, 1, 4, 64, 0, 25, 25, 81}},
		{"Add", func(s graph.Scope, x graph.Value) graph.Value { return s.At("m").Add(x, x) }, nil, []float64{6, 8, 0, 0, 2, -2, 4, 16, 0, 10, 10, -18}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, err := graph.Build(func(s graph.Scope) {
				tt.record(s, s.At("embedding").Gather(s.At("tokens").Tokens(), vocab, 4))
			})
			if err != nil {
				t.Fatal(err)
			}
			rows := map[string][][]float64{"embedding.weight": append(slices.Clone(x), make([]float64, 4))}
			for k, v := range tt.rows {
				rows[k] = v
			}
			check(t, g, table{g, rows}, []uint32{0, 1, 2}, []int{0, 1, 2}, tt.want)
		})
	}
}

func check(t *testing.T, g *graph.Graph, w Weights, tokens []uint32, positions []int, want []float64) {
	t.Helper()
	got, err := Run(t.Context(), g, w, tokens, positions, nil)
	if err != nil {
		t.Fatal(err)
	}
	ok := len(got) == len(want)
	for i := range want {
		// A few roundings of float64.
		ok = ok && math.Abs(got[i]-want[i]) <= 8*0x1p-53*math.Abs(want[i])
	}
	if !ok {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// Experts: row t, choice k goes through expert e's rows and bias; mix weighs
// the results.
func TestExperts(t *testing.T) {
	g := &graph.Graph{
		Nodes: []graph.Node{
			{Name: "tokens", Op: graph.Tokens, Shape: graph.Shape{graph.T}},
			{Name: "x", Op: graph.Gather, In: []graph.Value{0}, Params: []int{0}, Shape: graph.Shape{graph.T, 2}},
			{Name: "experts", Op: graph.TopK, In: []graph.Value{1}, N: 2, Shape: graph.Shape{graph.T, 2}},
			{Name: "mlp1", Op: graph.ExpertLinear, In: []graph.Value{1, 2}, Params: []int{1, 2}, Shape: graph.Shape{graph.T, 2, 3}},
			{Name: "mlp2", Op: graph.ExpertLinear, In: []graph.Value{3, 2}, Params: []int{3}, Shape: graph.Shape{graph.T, 2, 1}},
			{Name: "mix", Op: graph.Mix, In: []graph.Value{4, 1}, Shape: graph.Shape{graph.T, 1}},
		},
		Params: []graph.Param{
			{Name: "x", Shape: graph.Shape{2, 2}}, {Name: "w1", Shape: graph.Shape{2, 3, 2}}, {Name: "b1", Shape: graph.Shape{2, 3}}, {Name: "w2", Shape: graph.Shape{2, 1, 3}},
		},
	}
	w := table{g, map[string][][]float64{
		"x":  {{1, 2}, {5, 3}},
		"w1": {{1, 0}, {0, 1}, {1, 1}, {2, 0}, {0, 2}, {2, 2}},
		"b1": {{100, 200, 300}, {0, 0, 1}},
		"w2": {{1, 1, 1}, {1, -1, 10}},
	}}
	// Row 0 prefers expert 1: mlp1 = [2 4 7], mlp2 = 68; then expert 0:
	// [101 202 303], 606. mix = 1·68 + 2·606. Row 1 prefers expert 0:
	// [105 203 308], 616; then expert 1: [10 6 17], 174. mix = 5·616 + 3·174.
	check(t, g, w, []uint32{0, 1}, []int{0, 1}, []float64{1280, 3602})
}

// With queries of zero every visible key weighs the same, so the result counts
// them: values are powers of two, and the sink of score 0 is one more key.
func TestAttendSees(t *testing.T) {
	tests := []struct {
		name      string
		heads     graph.Heads
		positions []int
		all       bool // a tap gives the keys of positions 0 to 5
		want      func(pos int) (keys []int)
	}{
		{"causal", graph.Heads{}, []int{0, 1, 2, 3, 4, 5}, false, func(p int) []int { return []int{0, 1, 2, 3, 4, 5}[:p+1] }},
		{"window of 2, self included", graph.Heads{Window: 2}, []int{0, 1, 2, 3, 4, 5}, false, func(p int) []int { return []int{0, 1, 2, 3, 4, 5}[max(0, p-1) : p+1] }},
		{"window of 1 is self", graph.Heads{Window: 1}, []int{0, 1, 2, 3, 4, 5}, false, func(p int) []int { return []int{p} }},
		{"window as long as the text", graph.Heads{Window: 6}, []int{0, 1, 2, 3, 4, 5}, false, func(p int) []int { return []int{0, 1, 2, 3, 4, 5}[:p+1] }},
		{"own key hidden", graph.Heads{Delay: 1}, []int{0, 1, 2, 3, 4, 5}, false, func(p int) []int { return []int{0, 1, 2, 3, 4, 5}[:p] }},
		{"chosen positions alone", graph.Heads{}, []int{1, 4}, false, func(p int) []int { return map[int][]int{1: {1}, 4: {1, 4}}[p] }},
		{"chosen positions with all keys", graph.Heads{Window: 3}, []int{1, 4}, true, func(p int) []int { return map[int][]int{1: {0, 1}, 4: {2, 3, 4}}[p] }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := tt.heads
			h.Query, h.KV, h.Dim = 2, 1, 1
			g, err := graph.Build(func(s graph.Scope) {
				x := s.At("embedding").Gather(s.At("tokens").Tokens(), 6, 1)
				zero := s.At("zero").Affine(s.At("two").Project(x, 2), 0, 0)
				s.Attend(zero, s.At("k").Affine(x, 1, 0), s.At("v").Affine(x, 1, 0), "sdpa", h)
			})
			if err != nil {
				t.Fatal(err)
			}
			values := []float64{1, 2, 4, 8, 16, 32}
			w := table{g, map[string][][]float64{"embedding.weight": {{1}, {2}, {4}, {8}, {16}, {32}}, "two.weight": {{1}, {1}}, "sinks": {{0}, {math.Log(2)}}}}
			tap := func(stage string, _ []int, _ []float64) []float64 {
				if tt.all && (stage == "k" || stage == "v") {
					return values
				}
				return nil
			}
			tokens := make([]uint32, len(tt.positions))
			var want []float64
			for i, p := range tt.positions {
				tokens[i] = uint32(p)
				sum := 0.0
				for _, k := range tt.want(p) {
					sum += values[k]
				}
				n := float64(len(tt.want(p)))
				want = append(want, sum/(n+1), sum/(n+2)) // a sink of log 2 weighs two keys
			}
			got, err := Run(t.Context(), g, w, tokens, tt.positions, tap)
			if err != nil {
				t.Fatal(err)
			}
			for i := range want {
				if !(math.Abs(got[i]-want[i]) <= 1e-14*want[i]) {
					t.Fatalf("got %v\nwant %v", got, want)
				}
			}
		})
	}
}

// Query heads read the key/value head of their group, and scores are divided by
// √Dim.
func TestAttendHeads(t *testing.T) {
	g, err := graph.Build(func(s graph.Scope) {
		x := s.At("embedding").Gather(s.At("tokens").Tokens(), 2, 16)
		q := s.At("q").Columns(x, 0, 16)
		k, v := s.At("k").Columns(x, 0, 8), s.At("v").Columns(x, 8, 8)
		s.Attend(q, k, v, "sdpa", graph.Heads{Query: 4, KV: 2, Dim: 4})
	})
	if err != nil {
		t.Fatal(err)
	}
	row := []float64{1, 0, 0, 0, 0, 2, 0, 0, 10, 11, 12, 13, 20, 21, 22, 23}
	w := table{g, map[string][][]float64{"embedding.weight": {row, row}, "sinks": {{0}, {0}, {0}, {0}}}}
	// One key. Head 0: score 1·1/2. Head 1: q = [0 2 0 0], k = [1 0 0 0]: 0.
	// Heads 2 and 3 read key [0 2 0 0] with q = [10 11 ..], [20 21 ..]: 11, 21.
	var want []float64
	for head, score := range []float64{0.5, 0, 11, 21} {
		for d := range 4 {
			want = append(want, row[8+head/2*4+d]/(1+math.Exp(-score)))
		}
	}
	check(t, g, w, []uint32{0}, []int{0}, want)
}

// A turn is a rotation of column pairs by position·f, times the concentration.
func TestRotate(t *testing.T) {
	for _, adjacent := range []bool{false, true} {
		g, err := graph.Build(func(s graph.Scope) {
			x := s.At("embedding").Gather(s.At("tokens").Tokens(), 1, 8)
			s.At("rope").Rotate(x, graph.Rope{Dim: 4, Theta: 10000, Factor: 1, High: 1, Concentration: 2, Adjacent: adjacent})
		})
		if err != nil {
			t.Fatal(err)
		}
		w := table{g, map[string][][]float64{"embedding.weight": {{1, 2, 3, 4, 5, 6, 7, 8}}}}
		turn := func(a, b, angle float64) (float64, float64) {
			return 2 * (a*math.Cos(angle) - b*math.Sin(angle)), 2 * (b*math.Cos(angle) + a*math.Sin(angle))
		}
		var want [8]float64
		for h := 0; h < 8; h += 4 {
			x := float64(h)
			if adjacent { // f(0) = 1, f(1) = 10000^(-1/2)
				want[h], want[h+1] = turn(x+1, x+2, 3)
				want[h+2], want[h+3] = turn(x+3, x+4, 0.03)
			} else {
				want[h], want[h+2] = turn(x+1, x+3, 3)
				want[h+1], want[h+3] = turn(x+2, x+4, 0.03)
			}
		}
		got, err := Run(t.Context(), g, w, []uint32{0}, []int{3}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if !(math.Abs(got[i]-want[i]) <= 1e-13) {
				t.Fatalf("adjacent %v: got %v\nwant %v", adjacent, got, want)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	g, err := graph.Build(func(s graph.Scope) { s.At("embedding").Gather(s.At("tokens").Tokens(), 2, 1) })
	if err != nil {
		t.Fatal(err)
	}
	w := table{g, map[string][][]float64{"embedding.weight": {{1}, {2}}}}
	tests := []struct {
		name      string
		tokens    []uint32
		positions []int
		want      string
	}{
		{"no tokens", nil, nil, "oracle: 0 tokens at 0 positions, want one position a token and at least one"},
		{"position missing", []uint32{0, 1}, []int{0}, "oracle: 2 tokens at 1 positions, want one position a token and at least one"},
		{"id out of range", []uint32{1, 2}, []int{0, 7}, "oracle: embedding: token 2 at position 7, want an id below 2"},
	}
	for _, tt := range tests {
		if _, err := Run(t.Context(), g, w, tt.tokens, tt.positions, nil); err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}
