package verify

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/engine"
	"ossify/float"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/parity"
)

// stepped is a golden of our own in which every row has its steps.
func stepped(t *testing.T, p engine.Precision) (*gptoss.Checkpoint, *Golden) {
	t.Helper()
	ck := open(t, goldenSeed)
	rows := []int{0, 3, 15, 16, 17, 30, 58, 59}
	return ck, ownGolden(t, ck, TraceRequest{Tokens: someTokens(60), Precision: p.String(), Positions: rows, Steps: rows}, nil)
}

// wrong is the engine with something wrong within stages, on a golden's values.
// Stages within which the rotary embedding rounds are not shown.
type wrong struct {
	engineSubject
	leak  []string                                      // ends of steps' names: the next is computed from the engine's own value
	shown func(step string, values []float64) []float64 // may be nil
	see   func(see See) See                             // may be nil
}

func (s wrong) forced(ctx context.Context, t *Golden, b *Bounds) (first string, err error) {
	var c parity.Column
	see := judging(b, c.Add)
	if s.see != nil {
		see = s.see(see)
	}
	r := watch(ctx, func(stage string, at []int, values []float64) error {
		if strings.Contains(stage, ".rope.") {
			return nil
		}
		if s.shown != nil {
			values = s.shown(stage, values)
		}
		return see(stage, at, values)
	})
	_, err = s.m.Replay(r.ctx, t.Sequence().at(t.Judged()), t.Judged(), func(stage string, at []int, values []float32) []float32 {
		reference, ok := t.values[stage]
		if !ok {
			return nil
		}
		if step, ok := s.steps[stage]; ok {
			own := s.step(r, t, step, at, values)
			if slices.ContainsFunc(s.leak, func(end string) bool { return strings.HasSuffix(stage, end) }) {
				return nil
			}
			return own
		}
		r.see(stage, at, convert[float64](values))
		return convert[float32](reference)
	})
	return c.First, r.end(err)
}

// A program that rounds a step's result too late, and shows it as if it did
// not, fails at what it makes of it, and nowhere before: the engine in float32,
// what it shows rounded to bfloat16, with one step's float32 value in the next.
func TestRoundedTooLate(t *testing.T) {
	ck, golden := stepped(t, engine.BF16)
	b, err := golden.bounds(t.Context(), ck.Graph, ck.Weights, golden.arithmetic())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		leak []string
		want string
	}{
		{nil, ""},
		{[]string{"sdpa.scores"}, ""}, // 1/√16 is a power of two: to round before or after is the same
		{[]string{"sdpa.scores", "sdpa.scaled"}, "attn.sdpa.weights"},
		{[]string{"sdpa.weights"}, "attn.sdpa"},
		{[]string{"mlp1.product"}, "mlp.mlp1"}, // its bias is added before it is rounded
		{[]string{"swiglu.alpha"}, "mlp.swiglu.sigmoid"},
		{[]string{"swiglu.sigmoid"}, "mlp.swiglu.out_glu"},
		{[]string{"swiglu.out_glu"}, "mlp.swiglu"},
		{[]string{"swiglu.linear.plus1"}, "mlp.swiglu"},
		{[]string{"mlp2.product"}, "mlp.mlp2"},
	} {
		first, err := wrong{subject(t, ck, engine.F32).(engineSubject), tt.leak, nil, narrowed}.forced(t.Context(), golden, b)
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimPrefix(first, "block.0.") != tt.want {
			t.Errorf("%s leaks: first diverging stage %q, want %q in block 0", tt.leak, first, tt.want)
		}
	}
}

// What is wrong in one step fails at that step, in either precision: rounded
// once more than the precision, computed by less than it, summed in bfloat16,
// or with one key's place taken by another's.
func TestWrongSteps(t *testing.T) {
	bf16 := func(v float64) float64 { return parity.Round(v, checkpoint.BF16) }
	each := func(f func(v float64) float64) func([]float64) []float64 {
		return func(values []float64) []float64 {
			for i, v := range values {
				values[i] = f(v)
			}
			return values
		}
	}
	for _, p := range []engine.Precision{engine.F32, engine.BF16} {
		ck, golden := stepped(t, p)
		b, err := golden.bounds(t.Context(), ck.Graph, ck.Weights, golden.arithmetic())
		if err != nil {
			t.Fatal(err)
		}
		round := func(v float64) float64 { return parity.Round(v, golden.Trace.Precision()) }
		tokens := len(golden.Tokens())
		table := []struct {
			name, step string
			f          func(values []float64) []float64
		}{
			{"scores of the neighbouring key", "attn.sdpa.scores", func(v []float64) []float64 { return append(v[1:], 0) }},
			{"scores not scaled", "attn.sdpa.scaled", each(func(v float64) float64 { return 4 * v })},
			{"scaled by 1/HeadDim", "attn.sdpa.scaled", each(func(v float64) float64 { return v / 4 })},
			{"an unseen key has a weight", "attn.sdpa.weights", func(v []float64) []float64 { v[tokens-1] = round(0x1p-60); return v }},
			{"weights of an exponential by 8 bits", "attn.sdpa.weights", each(func(v float64) float64 { return round(v * (1 + 0x1p-8)) })},
			{"weights that sum to 1 without the sink", "attn.sdpa.weights", func(v []float64) []float64 {
				for i := 0; i < len(v); i += tokens {
					sum := 0.0
					for _, w := range v[i : i+tokens] {
						sum += w
					}
					for j := range v[i : i+tokens] {
						v[i+j] = round(v[i+j] / sum)
					}
				}
				return v
			}},
			{"product of the neighbouring row", "mlp.mlp1.product", func(v []float64) []float64 { return append(v[1:], v[0]) }},
			{"alpha 1.75", "mlp.swiglu.alpha", each(func(v float64) float64 { return round(v / 1.702 * 1.75) })},
			{"a sigmoid 2^-7 off", "mlp.swiglu.sigmoid", each(func(v float64) float64 { return round(v * (1 + 0x1p-7)) })},
			{"+1 twice", "mlp.swiglu.linear.plus1", each(func(v float64) float64 { return round(v + 1) })},
			{"product of mlp2 of another sign", "mlp.mlp2.product", each(func(v float64) float64 { return -v })},
		}
		if p == engine.F32 { // in bfloat16 these are right
			for _, s := range []string{"attn.sdpa.scores", "attn.sdpa.weights", "mlp.mlp1.product", "mlp.swiglu.alpha", "mlp.swiglu.sigmoid", "mlp.swiglu.out_glu", "mlp.swiglu.linear.plus1", "mlp.mlp2.product"} {
				table = append(table, struct {
					name, step string
					f          func(values []float64) []float64
				}{"rounded to bfloat16", s, each(bf16)})
			}
		}
		for _, tt := range table {
			first, err := wrong{subject(t, ck, p).(engineSubject), nil, func(stage string, values []float64) []float64 {
				if strings.HasSuffix(stage, tt.step) {
					return tt.f(values)
				}
				return values
			}, nil}.forced(t.Context(), golden, b)
			if err != nil {
				t.Fatal(err)
			}
			if want := "block.0." + tt.step; first != want {
				t.Errorf("%v, %s, %s: first diverging stage %q", p, tt.step, tt.name, first)
			}
		}

		// Sums in bfloat16, one product after the other.
		first, err := wrong{subject(t, ck, p).(engineSubject), nil, func(stage string, values []float64) []float64 {
			if stage != "block.2.attn.sdpa" {
				return values
			}
			w, v := golden.values[stage+graph.StepWeights], golden.values["block.2.attn.v"]
			const heads, group, dim = 8, 4, 16
			for i := range values {
				row, head, c := i/(heads*dim), i/dim%heads, i%dim
				sum := 0.0
				for key := range tokens {
					sum = bf16(sum + w[(row*heads+head)*tokens+key]*v[key*heads/group*dim+head/group*dim+c])
				}
				values[i] = sum
			}
			return values
		}, nil}.forced(t.Context(), golden, b)
		if err != nil {
			t.Fatal(err)
		}
		if first != "block.2.attn.sdpa" {
			t.Errorf("%v, values summed in bfloat16: first diverging stage %q", p, first)
		}
	}
}

// A golden without steps is judged by intervals, one with steps at some rows by
// both, and the report says so.
func TestReportSaysWhichRule(t *testing.T) {
	ck := open(t, 1)
	for _, tt := range []struct {
		steps  []int
		want   string
		stages int
	}{
		{nil, "by intervals: the golden does not hold them", 79},
		{[]int{20}, "each by itself at 1 positions, by intervals at the others", 79 + 36},
		{[]int{3, 20, 29}, "within stages each by itself", 79 + 36},
	} {
		golden := ownGolden(t, ck, TraceRequest{Tokens: someTokens(30), Precision: "bf16", Positions: []int{3, 20, 29}, Steps: tt.steps}, nil)
		r, err := Run(t.Context(), ck.Graph, ck.Weights, Request{Golden: golden})
		if err != nil {
			t.Fatal(err)
		}
		passes(t, r, columnReference, columnForced, columnCached, columnFree)
		if i := slices.IndexFunc(r.Title, func(f parity.Fact) bool { return f.Name == "steps" }); i < 0 || !strings.HasSuffix(r.Title[i].Text, tt.want) {
			t.Errorf("steps at %v: the report says %v", tt.steps, r.Title)
		}
		for _, c := range r.Columns[:3] {
			if len(c.Stages) != tt.stages {
				t.Errorf("steps at %v, %s: %d stages, want %d", tt.steps, c.Name, len(c.Stages), tt.stages)
			}
		}
	}
}

// A sigmoid of the reference may be 0 where e^-x is beyond float32, and is counted.
// Nowhere else, by no more, and no other program's.
func TestSmallSigmoids(t *testing.T) {
	const alpha, sigmoid = "block.1.mlp.swiglu.alpha", "block.1.mlp.swiglu.sigmoid"
	ck := open(t, goldenSeed)
	for _, p := range []engine.Precision{engine.F32, engine.BF16} {
		for _, tt := range []struct {
			name    string
			x, y    float64
			excused int // of the reference
			ok      bool
		}{
			{"right", -86, float64(float32(1 / (1 + math.Exp(86)))), 0, true},
			{"0 at -98", -98, 0, 1, true},
			{"0 at -89", -89, 0, 1, true},
			{"0 at -86", -86, 0, 0, false},
			{"2^-120 at -98", -98, 0x1p-120, 0, false},
			{"below 0", -98, -0x1p-126, 0, false},
		} {
			golden := openGolden(t, ck, "tiny-"+p.String())
			if p == engine.BF16 {
				tt.y = float64(float.FromBF16(float.ToBF16(float32(tt.y))))
				if tt.x == -98 && tt.y == 0 {
					tt.excused = 0 // what it should be rounds to 0
				}
			}
			golden.values[alpha][0], golden.values[sigmoid][0] = tt.x, tt.y
			b, err := golden.bounds(t.Context(), ck.Graph, ck.Weights, golden.arithmetic())
			if err != nil {
				t.Fatal(err)
			}
			var c parity.Column
			exceptions, err := JudgeReference(t.Context(), ck.Graph, ck.Weights, golden, b, &c)
			if err != nil {
				t.Fatal(err)
			}
			counted := 0
			for _, e := range exceptions {
				if strings.HasPrefix(e.Rule, "sigmoids") {
					counted += e.Count
				}
			}
			i := slices.IndexFunc(c.Stages, func(s parity.StageReport) bool { return s.Name == sigmoid })
			if s := c.Stages[i]; (s.Verdict == parity.Pass) != tt.ok || counted != tt.excused || tt.ok && s.Fit.Outside != 0 {
				t.Errorf("%v, %s: %v, %d outside, %d excused", p, tt.name, s.Verdict, s.Fit.Outside, counted)
			}
			// Of the engine nothing is excused.
			s, err := b.Judge(sigmoid, golden.values[sigmoid], false)
			if err != nil {
				t.Fatal(err)
			}
			if want := tt.ok && tt.excused == 0; (s.Verdict == parity.Pass) != want {
				t.Errorf("%v, %s: the engine's: %v, want pass %v", p, tt.name, s.Verdict, want)
			}
		}
	}
}
