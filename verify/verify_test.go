package verify

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/engine"
	"ossify/fault"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/internal/modeltest"
	"ossify/kernel"
	"ossify/parity"
)

// open synthesises tiny and opens it.
func open(t *testing.T, seed uint64) *gptoss.Checkpoint {
	t.Helper()
	return openConfig(t, modeltest.Tiny(t), seed)
}

// openConfig synthesises c and opens it.
func openConfig(t *testing.T, c *gptoss.Config, seed uint64) *gptoss.Checkpoint {
	t.Helper()
	return modeltest.Open(t, modeltest.Write(t, c, gptoss.Original, seed))
}

func someTokens(n int) []uint32 { return modeltest.Tokens(n, 3, 4) }

// ownGolden writes a trace of our own, which stands in for a golden where it
// does not matter who is right, and edits it.
func ownGolden(t *testing.T, ck *gptoss.Checkpoint, q TraceRequest, edit func([]checkpoint.Tensor)) *Golden {
	t.Helper()
	path := filepath.Join(t.TempDir(), "own.safetensors")
	if err := WriteTrace(t.Context(), path, ck, q); err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		path = edited(t, path, func(x []checkpoint.Tensor) []checkpoint.Tensor { edit(x); return x })
	}
	golden, err := OpenGolden(path, ck.Graph)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { golden.Close() })
	return golden
}

// edited writes a trace with its tensors changed beside path.
func edited(t *testing.T, path string, edit func([]checkpoint.Tensor) []checkpoint.Tensor) string {
	t.Helper()
	f, err := checkpoint.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	bad := filepath.Join(t.TempDir(), "bad.safetensors")
	if err := checkpoint.Save(bad, edit(slices.Clone(f.Tensors())), f.Metadata()); err != nil {
		t.Fatal(err)
	}
	return bad
}

// tensor returns the tensor of that name, its bytes in a copy.
func tensor(list []checkpoint.Tensor, name string) *checkpoint.Tensor {
	i := slices.IndexFunc(list, func(x checkpoint.Tensor) bool { return x.Name == name })
	list[i].Data = slices.Clone(list[i].Data)
	return &list[i]
}

func subject(t *testing.T, ck *gptoss.Checkpoint, p engine.Precision) Subject {
	t.Helper()
	s, err := Engine(ck.Graph, ck.Weights, engine.Options{Precision: p})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// passes fails the test unless a report passes, and shows it then.
func passes(t *testing.T, r *parity.Report, columns ...string) {
	t.Helper()
	var names []string
	for _, c := range r.Columns {
		names = append(names, c.Name)
		// Of four layers and of two, without steps and with them.
		if !slices.Contains([]int{79, 79 + 36, 41, 41 + 18}, len(c.Stages)) {
			t.Errorf("%s: %d stages", c.Name, len(c.Stages))
		}
	}
	if r.Verdict != parity.Pass || !slices.Equal(names, columns) {
		var b bytes.Buffer
		r.WriteText(&b, parity.Text{})
		t.Errorf("columns %v, want %v\n%s", names, columns, &b)
	}
}

// A run on its own passes in both precisions, at any length: in bf16 too, where
// a stage of few elements has nothing to spare.
func TestRunPasses(t *testing.T) {
	ck := open(t, 1)
	for _, p := range []engine.Precision{engine.F32, engine.BF16} {
		for _, n := range []int{1, 2, 3, 100} {
			if testing.Short() && n != 2 {
				continue
			}
			r, err := Run(t.Context(), ck.Graph, ck.Weights, Request{Tokens: someTokens(n), Precision: p})
			if err != nil {
				t.Fatal(err)
			}
			passes(t, r, columnFree)
			for _, positions := range [][]int{nil, {n - 1}} {
				if n == 100 && positions == nil {
					continue
				}
				golden := ownGolden(t, ck, TraceRequest{Tokens: someTokens(n), Precision: p.String(), Positions: positions}, nil)
				if r, err = Run(t.Context(), ck.Graph, ck.Weights, Request{Golden: golden}); err != nil {
					t.Fatal(err)
				}
				passes(t, r, columnReference, columnForced, columnCached, columnFree)
			}
		}
	}
}

// Another checkpoint's golden fails at its first stage, for reference and engine.
func TestRunFails(t *testing.T) {
	golden := ownGolden(t, open(t, 1), TraceRequest{Tokens: someTokens(40), Precision: "f32"}, nil)
	ck := open(t, 2)
	r, err := Run(t.Context(), ck.Graph, ck.Weights, Request{Golden: golden})
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != parity.Fail || r.First != "embedding" || r.Where != columnReference {
		t.Errorf("%s, first %q, %s", r.Verdict, r.First, r.Where)
	}
}

// spoiled is a subject of which one stage is wrong.
type spoiled struct {
	Subject
	stage string
	spoil func(values []float64) []float64
}

func (s spoiled) Forced(ctx context.Context, t *Golden, see See) error {
	return s.Subject.Forced(ctx, t, s.see(see))
}

func (s spoiled) see(see See) See {
	return func(stage string, at []int, values []float64) error {
		if stage == s.stage {
			values = s.spoil(values)
		}
		return see(stage, at, values)
	}
}

// One wrong value in one stage, whichever, in either precision, fails and is
// found there: at the start, at the end, by a thousandth of the rms, or NaN. So
// is one in the golden itself, at the reference's column.
func TestEveryStageIsJudged(t *testing.T) {
	ck := open(t, 1)
	for _, p := range []engine.Precision{engine.F32, engine.BF16} {
		golden := ownGolden(t, ck, TraceRequest{Tokens: someTokens(24), Precision: p.String(), Steps: []int{5, 23}}, nil)
		b, err := NewBounds(t.Context(), ck.Graph, ck.Weights, golden.Sequence(), golden.Judged(), golden.Within(), golden.Values(), golden.arithmetic())
		if err != nil {
			t.Fatal(err)
		}
		inner := subject(t, ck, p)
		for i, n := range gptoss.StagesAndSteps(ck.Graph, 24) {
			spoil := func(v []float64) []float64 {
				switch at := []int{0, len(v) - 1}[i%2]; {
				case n.Op == graph.TopK:
					v[at] = math.Mod(v[at]+1, 8)
				case i%3 == 0:
					v[at] = math.NaN()
				default:
					sum := 0.0
					for _, x := range v {
						sum += x * x
					}
					v[at] = parity.Round(v[at]+math.Copysign(1e-3*math.Sqrt(sum/float64(len(v)))+math.Abs(v[at])*0x1p-7, v[at]), golden.Trace.Precision())
				}
				return v
			}
			var c parity.Column
			if err := (spoiled{inner, n.Name, spoil}).Forced(t.Context(), golden, judging(b, c.Add)); err != nil {
				t.Fatal(err)
			}
			if c.First != n.Name {
				t.Errorf("%v: %s spoiled: first diverging stage %q", p, n.Name, c.First)
			}
		}
	}
}

// A golden that is wrong itself fails, whatever the engine does: where the
// reference is not explained, our graph is not its graph.
func TestReferenceIsJudged(t *testing.T) {
	ck := open(t, 1)
	for _, tt := range []struct{ precision, stage string }{
		{"bf16", "block.1.attn.out"}, {"f32", "block.1.attn.out"}, {"bf16", "unembedding"}, {"f32", "block.3.mlp.mlp1"}, {"bf16", "block.0.attn.rope.q"}, {"f32", "block.2.attn.rope.k"},
	} {
		golden := ownGolden(t, ck, TraceRequest{Tokens: someTokens(24), Precision: tt.precision}, func(x []checkpoint.Tensor) {
			data := tensor(x, tt.stage).Data
			data[len(data)-1] ^= 0x80 // a sign, at the end
		})
		r, err := Run(t.Context(), ck.Graph, ck.Weights, Request{Golden: golden})
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != parity.Fail || r.First != tt.stage || r.Where != columnReference {
			t.Errorf("%s, %s: %s, first %q, %s", tt.precision, tt.stage, r.Verdict, r.First, r.Where)
		}
	}
}

// A frequency that is off by more than one unit is no exception, nor is one
// that is off in some rows only.
func TestThetaHidesNoFault(t *testing.T) {
	c := modeltest.Tiny(t)
	c.HeadDim, c.Layers, c.Heads = 64, 2, 4
	ck := openConfig(t, c, 1)
	for _, tt := range []struct {
		slip int
		half bool
		want parity.Verdict
	}{{0, false, parity.Pass}, {1, false, parity.Pass}, {2, false, parity.Fail}, {4, false, parity.Fail}, {1, true, parity.Fail}} {
		bad := *ck
		bad.Graph = ck.Graph.Rewrite(func(n graph.Node, emit func(graph.Node) graph.Value) graph.Value {
			n.Rope.Slip, n.Rope.SlipAt = tt.slip, 2
			if tt.half && strings.HasPrefix(n.Name, "block.1") {
				n.Rope.Slip = -tt.slip
			}
			return emit(n)
		})
		golden := ownGolden(t, &bad, TraceRequest{Tokens: someTokens(400), Positions: []int{100, 390, 399}, Precision: "f32"}, nil)
		r, err := Run(t.Context(), ck.Graph, ck.Weights, Request{Golden: golden, Most: 1})
		if err != nil {
			t.Fatal(err)
		}
		if r.Columns[0].Verdict != tt.want || tt.slip == 1 && !tt.half && (len(r.Exceptions) != 1 || r.Exceptions[0].Count != 1) {
			t.Errorf("%+v: %s, first %q, exceptions %v", tt, r.Columns[0].Verdict, r.First, r.Exceptions)
		}
	}
}

// With two experts that are the same, ties are everywhere. Each is listed, the
// comparison goes on with the reference's choice, and a fault in rows after
// ties is found.
func TestTies(t *testing.T) {
	ck := open(t, 1)
	two := *ck
	two.Weights = ck.Weights.Edited(func(p graph.Param, data, _ []byte) bool {
		if !strings.Contains(p.Name, ".mlp.gate.") {
			return false
		}
		row := len(data) / p.Shape[0]
		copy(data[row:2*row], data[:row])
		return true
	})
	golden := ownGolden(t, &two, TraceRequest{Tokens: someTokens(60), Precision: "f32"}, func(x []checkpoint.Tensor) {
		// The reference takes the higher of the two first, wherever both are chosen.
		for _, s := range gptoss.Stages(ck.Graph) {
			if s.Op != graph.TopK {
				continue
			}
			data := tensor(x, s.Name).Data
			for i := 0; i+8 <= len(data); i += 4 {
				if i/4%4 < 3 && data[i] == 0 && data[i+4] == 1 {
					data[i], data[i+4] = 1, 0
				}
			}
		}
	})
	// With the ranks of two experts changed, what follows from them does not fit.
	r, err := Run(t.Context(), two.Graph, two.Weights, Request{Golden: golden})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Ties) < 10 {
		t.Errorf("%d ties", len(r.Ties))
	}
	for _, s := range r.Columns[0].Stages {
		if s.Choice != nil && (s.Verdict != parity.Pass || len(s.Choice.Ties) == 0) {
			t.Errorf("%s: %+v", s.Name, *s.Choice)
		}
	}
	// A right one passes, ties or not, and decode without sinks does not.
	golden = ownGolden(t, &two, TraceRequest{Tokens: someTokens(60), Precision: "f32"}, nil)
	decode := slices.DeleteFunc(fault.Table(), func(f fault.Fault) bool { return !f.Decode })
	report, err := faults(t.Context(), two.Graph, two.Weights, golden, engine.Options{}, decode, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Clean != "" {
		t.Errorf("the right model fails at %s", report.Clean)
	}
	for _, c := range report.Faults {
		if !c.Exact() || c.Where != columnCached {
			t.Errorf("%s: at %q, %s", c.Name, c.At, c.Where)
		}
	}
}

// A program that shows too little, too much or nothing is an error and no pass.
func TestRunRefusesSubjects(t *testing.T) {
	ck := open(t, 1)
	golden := ownGolden(t, ck, TraceRequest{Tokens: someTokens(12), Precision: "f32"}, nil)
	inner := subject(t, ck, engine.F32)
	half := func(v []float64) []float64 { return v[:len(v)/2] }
	for _, tt := range []struct {
		name string
		s    Subject
		want string
	}{
		{"short stage", spoiled{inner, "block.0.attn.out", half}, "block.0.attn.out: 384 values, want 768"},
		{"short stage in the cache", spoiledCache{spoiled{inner, "unembedding", half}}, "unembedding: 256 values for 1 rows of 512"},
		{"short free stage", spoiledFree{spoiled{inner, "unembedding", half}}, "unembedding: 256 values for 1 rows of 512"},
		{"nothing", silent{inner}, "0 stages, want 79"},
	} {
		_, err := run(t.Context(), ck.Graph, ck.Weights, Request{Golden: golden}, tt.s, engine.F32)
		if err == nil || !strings.Contains(err.Error(), tt.want) && !strings.Contains(err.Error(), "values for") {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}

type spoiledCache struct{ spoiled }

func (s spoiledCache) Forced(ctx context.Context, t *Golden, see See) error {
	return s.Subject.Forced(ctx, t, see)
}

func (s spoiledCache) Cached(ctx context.Context, t *Golden, steps Steps, see See) error {
	return s.Subject.Cached(ctx, t, steps, s.see(see))
}

type spoiledFree struct{ spoiled }

func (s spoiledFree) Forced(ctx context.Context, t *Golden, see See) error {
	return s.Subject.Forced(ctx, t, see)
}

func (s spoiledFree) Free(ctx context.Context, tokens []uint32, steps Steps, wanted func(string) bool, see See) error {
	return s.Subject.Free(ctx, tokens, steps, wanted, s.see(see))
}

type silent struct{ Subject }

func (silent) Forced(context.Context, *Golden, See) error { return nil }

// twoFaced computes something else when nobody watches.
type twoFaced struct{ Subject }

func (s twoFaced) Free(ctx context.Context, tokens []uint32, steps Steps, wanted func(string) bool, see See) error {
	if wanted != nil {
		return s.Subject.Free(ctx, tokens, steps, wanted, see)
	}
	return s.Subject.Free(ctx, tokens, steps, nil, func(stage string, at []int, v []float64) error {
		v[0] = math.Nextafter(v[0], 9)
		return see(stage, at, v)
	})
}

func TestUnwatchedRunIsCompared(t *testing.T) {
	ck := open(t, 1)
	r, err := run(t.Context(), ck.Graph, ck.Weights, Request{Tokens: someTokens(50)}, twoFaced{subject(t, ck, engine.F32)}, engine.F32)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != parity.Fail || !strings.Contains(r.First, "unwatched") {
		t.Errorf("%s, first %q", r.Verdict, r.First)
	}
}

func TestRunIsInterrupted(t *testing.T) {
	ck := open(t, 1)
	golden := ownGolden(t, ck, TraceRequest{Tokens: someTokens(12), Precision: "f32"}, nil)
	for stop := range 6 {
		ctx, cancel := context.WithCancel(t.Context())
		begun := 0
		_, err := Run(ctx, ck.Graph, ck.Weights, Request{Golden: golden, Progress: func(string) {
			if begun++; begun > stop {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted at step %d: %v", stop, err)
		}
		cancel()
	}
}

func TestPositions(t *testing.T) {
	g := open(t, 1).Graph
	if got := Positions(g, 5, 1e12); !slices.Equal(got, []int{0, 1, 2, 3, 4}) {
		t.Errorf("all of five: %v", got)
	}
	got := Positions(g, 1000, 1e6, 16, 1000)
	if !slices.IsSorted(got) || len(got) > 20 || got[len(got)-1] != 999 {
		t.Errorf("few of a thousand: %v", got)
	}
	for _, p := range []int{15, 16, 17, 999} {
		if !slices.Contains(got, p) {
			t.Errorf("%v has no %d", got, p)
		}
	}
}

func TestOpenGoldenRefuses(t *testing.T) {
	ck := open(t, 1)
	write := func(t *testing.T, q TraceRequest, edit func([]checkpoint.Tensor) []checkpoint.Tensor) string {
		q.Tokens = someTokens(6)
		path := filepath.Join(t.TempDir(), "own.safetensors")
		if err := WriteTrace(t.Context(), path, ck, q); err != nil {
			t.Fatal(err)
		}
		if edit == nil {
			return path
		}
		return edited(t, path, edit)
	}
	f32, steps := TraceRequest{Precision: "f32"}, TraceRequest{Precision: "f32", Steps: []int{2, 5}}
	for _, tt := range []struct {
		name string
		q    TraceRequest
		edit func([]checkpoint.Tensor) []checkpoint.Tensor
		want string
	}{
		{"the oracle's", TraceRequest{Precision: "f64"}, nil, "verify: own.safetensors: a trace in f64, want bf16 or f32: without a golden the oracle judges by itself"},
		{"keys of the kept rows only", TraceRequest{Precision: "f32", Positions: []int{1, 5}}, func(x []checkpoint.Tensor) []checkpoint.Tensor {
			k := tensor(x, "block.1.attn.rope.k")
			k.Shape = []int{2, k.Shape[1]}
			k.Data = k.Data[:4*2*k.Shape[1]]
			return x
		}, "verify: bad.safetensors: block.1.attn.rope.k: 2 rows, want 6"},
		{"some stages", TraceRequest{Precision: "f32", Stages: []string{"block.*.attn.*"}}, nil, "verify: own.safetensors: embedding: missing, want a trace with all 79 stages of the model"},
		{"another stage", f32, func(x []checkpoint.Tensor) []checkpoint.Tensor {
			tensor(x, "norm").Name = "nor m"
			return append(x, checkpoint.Tensor{Name: "norm", Type: checkpoint.F32, Shape: []int{6, 64}, Data: make([]byte, 4*6*64)})
		}, `verify: bad.safetensors: "nor m": no stage of the model`},
		{"another width", f32, func(x []checkpoint.Tensor) []checkpoint.Tensor {
			tensor(x, "norm").Shape = []int{6, 32, 2}
			return x
		}, "verify: bad.safetensors: norm: rows of shape [32 2], want [64]"},
		{"indices for numbers", f32, func(x []checkpoint.Tensor) []checkpoint.Tensor {
			n := tensor(x, "norm")
			n.Type = checkpoint.I32
			clear(n.Data)
			return x
		}, "verify: bad.safetensors: norm: indices, want numbers"},
		{"numbers for indices", f32, func(x []checkpoint.Tensor) []checkpoint.Tensor {
			tensor(x, "block.2.mlp.experts").Type = checkpoint.F32
			return x
		}, "verify: bad.safetensors: block.2.mlp.experts: numbers, want indices"},
		{"a step missing", steps, func(x []checkpoint.Tensor) []checkpoint.Tensor {
			return slices.DeleteFunc(x, func(x checkpoint.Tensor) bool { return x.Name == "block.1.mlp.mlp2.product" })
		}, "verify: bad.safetensors: block.1.mlp.mlp2.product: missing, want a trace with all 115 stages and steps of the model"},
		{"steps of more rows", steps, func(x []checkpoint.Tensor) []checkpoint.Tensor {
			s := tensor(x, "steps")
			s.Shape, s.Data = []int{1}, s.Data[:4]
			return x
		}, "parity: bad.safetensors: block.0.attn.sdpa.scaled: shape [2 8 6], want 6 rows of one or more columns, or all 6"},
		{"steps without their rows", steps, func(x []checkpoint.Tensor) []checkpoint.Tensor {
			return slices.DeleteFunc(x, func(x checkpoint.Tensor) bool { return x.Name == "steps" })
		}, "parity: bad.safetensors: block.0.attn.sdpa.scaled: shape [2 8 6], want 6 rows of one or more columns, or all 6"},
		{"scores of fewer keys", steps, func(x []checkpoint.Tensor) []checkpoint.Tensor {
			tensor(x, "block.1.attn.sdpa.scores").Shape = []int{2, 6, 8}
			return x
		}, "verify: bad.safetensors: block.1.attn.sdpa.scores: rows of shape [6 8], want [8, 6]"},
		{"expert out of range", f32, func(x []checkpoint.Tensor) []checkpoint.Tensor {
			tensor(x, "block.2.mlp.experts").Data[4*5] = 8
			return x
		}, "verify: bad.safetensors: block.2.mlp.experts: expert 8 at 5, want below 8"},
		{"token out of range", f32, func(x []checkpoint.Tensor) []checkpoint.Tensor {
			tensor(x, "tokens").Data[4*3+1] = 2
			return x
		}, "verify: bad.safetensors: token 4 of 6 is id"},
	} {
		golden, err := OpenGolden(write(t, tt.q, tt.edit), ck.Graph)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v\nwant %s", tt.name, err, tt.want)
		}
		if err == nil {
			golden.Close()
		}
	}
}

func TestWriteTraceRefuses(t *testing.T) {
	ck := open(t, 1)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name string
		ctx  context.Context
		q    TraceRequest
		want string
	}{
		{"no tokens", t.Context(), TraceRequest{Precision: "f32"}, "verify: no tokens, want one or more"},
		{"token out of range", t.Context(), TraceRequest{Precision: "f32", Tokens: []uint32{1, 512}}, "verify: token 2 of 2 is id 512, want below 512"},
		{"precision", t.Context(), TraceRequest{Precision: "f16", Tokens: []uint32{1}}, `verify: precision "f16", want bf16, f32 or f64`},
		{"no stage", t.Context(), TraceRequest{Precision: "f32", Tokens: []uint32{1}, Stages: []string{"norm", "block.9.*"}}, `verify: stages "block.9.*": no stage of that name, such as block.0.attn.qkv`},
		{"no pattern", t.Context(), TraceRequest{Precision: "f32", Tokens: []uint32{1}, Stages: []string{"[norm"}}, `verify: stages "[norm": no pattern: unclosed [ or \ at its end`},
		{"position out of range", t.Context(), TraceRequest{Precision: "f32", Tokens: []uint32{1}, Positions: []int{1}}, "parity: x: position 1 at 0, want them rising and below 1, the number of tokens"},
		{"steps of the oracle", t.Context(), TraceRequest{Precision: "f64", Tokens: []uint32{1}, Steps: []int{0}}, "verify: steps of the oracle, want precision bf16 or f32: the oracle does not round within stages"},
		{"steps of some stages", t.Context(), TraceRequest{Precision: "f32", Tokens: []uint32{1}, Steps: []int{0}, Stages: []string{"norm"}}, "verify: steps of chosen stages, want those of all or none"},
		{"steps elsewhere", t.Context(), TraceRequest{Precision: "f32", Tokens: []uint32{1}, Steps: []int{1}}, "parity: x: steps at 1, want them rising and among the positions"},
		{"interrupted", cancelled, TraceRequest{Precision: "f32", Tokens: []uint32{1}}, "context canceled"},
	} {
		dir := t.TempDir()
		err := WriteTrace(tt.ctx, filepath.Join(dir, "x"), ck, tt.q)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
		if list, _ := os.ReadDir(dir); len(list) != 0 {
			t.Errorf("%s: left %v", tt.name, list)
		}
	}
}

// The oracle's trace and the engine's are near each other, and chosen stages
// and positions are those of the whole.
func TestWriteTrace(t *testing.T) {
	ck, dir := open(t, 1), t.TempDir()
	write := func(name string, q TraceRequest) *parity.Trace {
		q.Tokens = someTokens(20)
		path := filepath.Join(dir, name)
		if err := WriteTrace(t.Context(), path, ck, q); err != nil {
			t.Fatal(err)
		}
		x, err := parity.OpenTrace(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { x.Close() })
		return x
	}
	all, exact := write("f32", TraceRequest{Precision: "f32"}), write("f64", TraceRequest{Precision: "f64"})
	some := write("some", TraceRequest{Precision: "f32", Positions: []int{3, 19}, Stages: []string{"block.1.attn.*", "block.*.mlp.swiglu.alpha", "unembedding"}})
	if len(all.Stages()) != 79 || len(exact.Stages()) != 79 {
		t.Fatalf("%d and %d stages", len(all.Stages()), len(exact.Stages()))
	}
	a, _ := all.Stage("unembedding")
	x, _ := exact.Stage("unembedding")
	if e := parity.Differ(x.Float64s(), a.Float64s()); !(e.Relative(e.Max) < 1e-4) || e.Max == 0 {
		t.Errorf("f64 and f32: %+v", *e)
	}
	var names []string
	for _, s := range some.Stages() {
		names = append(names, s.Name)
		whole, ok := all.Stage(s.Name)
		if !ok {
			continue
		}
		want := whole.Float64s()
		if s.Rows() < 20 {
			want = parity.At(want, s.Width(), parity.UpTo(20), []int{3, 19})
		}
		if !slices.Equal(s.Float64s(), want) {
			t.Errorf("%s at chosen positions is not that of the whole", s.Name)
		}
	}
	const want = "block.0.mlp.swiglu.alpha block.1.attn.norm block.1.attn.qkv block.1.attn.q block.1.attn.k block.1.attn.v block.1.attn.rope.q " +
		"block.1.attn.rope.k block.1.attn.sdpa block.1.attn.out block.1.mlp.swiglu.alpha block.2.mlp.swiglu.alpha block.3.mlp.swiglu.alpha unembedding"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("stages %s\nwant %s", got, want)
	}
}

// A trace of the engine is the same file whatever set of kernels made it, for
// which set is the fastest is measured and differs from run to run.
func TestWriteTraceIsOfEverySet(t *testing.T) {
	ck, dir := open(t, 1), t.TempDir()
	for _, precision := range []string{"bf16", "f32"} {
		var want []byte
		for _, k := range kernel.All() {
			path := filepath.Join(dir, precision+k.Name)
			if err := WriteTrace(t.Context(), path, ck, TraceRequest{Tokens: someTokens(20), Precision: precision, Engine: engine.Options{Kernels: k}}); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = got
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s by the kernels %s is not that of the kernels %s", precision, k.Name, kernel.All()[0].Name)
			}
		}
	}
}

// The hash is that of checkpoint_hash in tools/reference/trace.py, which gave
// this value.
func TestCheckpointHash(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"config.json": "{}", "b.safetensors": "bb", "a.safetensors": "a", "README.md": "not counted"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var done, total int64
	got, err := CheckpointHash(t.Context(), dir, func(d, n int64) { done, total = d, n })
	if err != nil {
		t.Fatal(err)
	}
	if want := "1c343d5ced1525f92151885800bf88645de360d042e37b89d4a3c2e3b5eba136"; got != want || done != 5 || total != 5 {
		t.Errorf("%s after %d of %d bytes, want %s", got, done, total, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := CheckpointHash(ctx, dir, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// However little time the oracle has, a free run is judged at some rows, and
// the report says at how many; what is wrong there fails, in bf16 too.
func TestFreeRunIsJudgedAtFewRows(t *testing.T) {
	ck := open(t, 1)
	for _, p := range []engine.Precision{engine.F32, engine.BF16} {
		right := subject(t, ck, p)
		wrong := spoiledFree{spoiled{right, "block.2.attn.out", func(v []float64) []float64 {
			v[len(v)-1] = -v[len(v)-1]
			return v
		}}}
		for _, tt := range []struct {
			s    Subject
			want parity.Verdict
		}{{right, parity.Pass}, {wrong, parity.Fail}} {
			s, want := tt.s, tt.want
			r, err := run(t.Context(), ck.Graph, ck.Weights, Request{Tokens: someTokens(100), Most: 1}, s, p)
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != want || !strings.Contains(r.Columns[0].What, " of 100 positions") || len(r.Columns[0].Stages) != 79+36 {
				t.Errorf("%v: %s, want %s: %s", p, r.Verdict, want, r.Columns[0].What)
			}
			if want == parity.Fail && r.First != "block.2.attn.out" {
				t.Errorf("%v: first %q", p, r.First)
			}
		}
	}
}

// Who computes bounds is told of every node, in order, and of no more than there
// are.
func TestTelling(t *testing.T) {
	ck := open(t, goldenSeed)
	golden := openGolden(t, ck, "tiny-f32")
	next := 0
	ctx := Telling(t.Context(), func(stage string, done, of int) {
		if done != next || of != len(ck.Graph.Nodes) || stage != ck.Graph.Nodes[done].Name {
			t.Errorf("%s: %d of %d, want %d", stage, done, of, next)
		}
		next++
	})
	if _, err := golden.bounds(ctx, ck.Graph, ck.Weights, golden.arithmetic()); err != nil {
		t.Fatal(err)
	}
	if next != len(ck.Graph.Nodes) {
		t.Errorf("told of %d nodes of %d", next, len(ck.Graph.Nodes))
	}
}
