package verify

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/engine"
	"ossify/fault"
	"ossify/gptoss"
	"ossify/kernel"
	"ossify/parity"
	"ossify/synth"
)

// open synthesises tiny and opens it.
func open(t *testing.T, seed uint64) *gptoss.Checkpoint {
	t.Helper()
	c, err := gptoss.Preset("tiny")
	if err != nil {
		t.Fatal(err)
	}
	return openConfig(t, c, seed)
}

// openConfig synthesises c and opens it.
func openConfig(t *testing.T, c *gptoss.Config, seed uint64) *gptoss.Checkpoint {
	t.Helper()
	dir := t.TempDir()
	if err := synth.Write(t.Context(), dir, c, gptoss.Original, seed, nil); err != nil {
		t.Fatal(err)
	}
	ck, err := gptoss.OpenCheckpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ck.Close() })
	return ck
}

func someTokens(n int) []uint32 {
	src := rand.New(rand.NewPCG(3, 4))
	tokens := make([]uint32, n)
	for i := range tokens {
		tokens[i] = uint32(src.IntN(512))
	}
	return tokens
}

// ownGolden writes a trace of our own, which stands in for a golden where it
// does not matter who is right.
func ownGolden(t *testing.T, ck *gptoss.Checkpoint, q TraceRequest) *Golden {
	t.Helper()
	path := filepath.Join(t.TempDir(), "own.safetensors")
	if err := WriteTrace(t.Context(), path, ck, q); err != nil {
		t.Fatal(err)
	}
	golden, err := OpenGolden(path, ck.Graph)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { golden.Close() })
	return golden
}

func subject(t *testing.T, ck *gptoss.Checkpoint, p engine.Precision, k kernel.Set) Subject {
	t.Helper()
	s, err := Engine(ck.Graph, ck.Weights, engine.Options{Precision: p, Kernels: k})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A golden is reproduced from its own inputs, with a cache in chunks and one by
// one, whether it holds all positions or some.
func TestRunPasses(t *testing.T) {
	ck := open(t, 1)
	for _, tt := range []struct {
		precision string
		p         engine.Precision
		positions []int
	}{{"f32", engine.F32, nil}, {"bf16", engine.BF16, nil}, {"f32", engine.F32, []int{0, 15, 16, 17, 99}}, {"bf16", engine.BF16, []int{64, 99}}} {
		golden := ownGolden(t, ck, TraceRequest{Tokens: someTokens(100), Positions: tt.positions, Precision: tt.precision, Engine: engine.Options{Kernels: kernel.Portable()}})
		r, err := Run(t.Context(), ck.Graph, golden, []Subject{subject(t, ck, tt.p, kernel.Portable())}, Oracle(ck.Graph, ck.Weights), Options{OracleMost: 1e9})
		if err != nil {
			t.Fatal(err)
		}
		p := r.Programs[0]
		if r.Verdict != parity.Pass || p.First != "" || len(p.Stages) != 79 || p.Free.Verdict != parity.Pass || !p.Free.Logits.Exact {
			t.Errorf("%s at %v: %s, first %q, %d stages, free %s", tt.precision, tt.positions, r.Verdict, p.First, len(p.Stages), p.Free.Verdict)
		}
		for _, s := range p.Stages { // the same kernels: the same bits, however the rows come
			if s.Errors != nil && s.Errors.Identical != s.Errors.Elements || s.Routing != nil && s.Routing.Same != s.Routing.Rows {
				t.Errorf("%s at %v: %s: %+v %+v", tt.precision, tt.positions, s.Name, s.Errors, s.Routing)
			}
		}
		if l := p.Free.Logits; l.Identical != l.Elements || p.Free.Routed.Reference != p.Free.Routed.Rows {
			t.Errorf("%s at %v: free: %+v", tt.precision, tt.positions, *p.Free)
		}
	}
}

// Another checkpoint's golden fails at its first stage, and freely.
func TestRunFails(t *testing.T) {
	golden := ownGolden(t, open(t, 1), TraceRequest{Tokens: someTokens(40), Precision: "f32"})
	ck := open(t, 2)
	r, err := Run(t.Context(), ck.Graph, golden, []Subject{subject(t, ck, engine.F32, kernel.Set{})}, Oracle(ck.Graph, ck.Weights), Options{OracleMost: 1e9})
	if err != nil {
		t.Fatal(err)
	}
	if p := r.Programs[0]; r.Verdict != parity.Fail || p.First != "embedding" || p.Free.Verdict != parity.Fail {
		t.Errorf("%s, first %q, free %s", r.Verdict, p.First, p.Free.Verdict)
	}
}

// Without the free-running oracle f32 is judged, bf16 is not and says so.
func TestRunWithoutFreeOracle(t *testing.T) {
	ck := open(t, 1)
	for p, want := range map[engine.Precision]parity.Verdict{engine.F32: parity.Pass, engine.BF16: parity.NotJudged} {
		golden := ownGolden(t, ck, TraceRequest{Tokens: someTokens(30), Precision: p.String()})
		r, err := Run(t.Context(), ck.Graph, golden, []Subject{subject(t, ck, p, kernel.Set{})}, Oracle(ck.Graph, ck.Weights), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if f := r.Programs[0].Free; f.Verdict != want || f.Unjudged == "" || f.Logits.Exact || r.Verdict != parity.Pass {
			t.Errorf("%v: %s, free %s, %q", p, r.Verdict, f.Verdict, f.Unjudged)
		}
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

func (s spoiled) Free(ctx context.Context, tokens []uint32, wanted func(string) bool, see See) error {
	return s.Subject.Free(ctx, tokens, wanted, s.see(see))
}

func (s spoiled) see(see See) See {
	return func(stage string, at []int, values []float64) error {
		if stage == s.stage {
			values = s.spoil(values)
		}
		return see(stage, at, values)
	}
}

// One wrong value in one stage, whichever, fails and is found there: at the
// start, at the end, by a little, or NaN.
func TestEveryStageIsCompared(t *testing.T) {
	ck := open(t, 1)
	golden := ownGolden(t, ck, TraceRequest{Tokens: someTokens(24), Precision: "f32"})
	inner, tol := subject(t, ck, engine.F32, kernel.Set{}), parity.Stated()
	for i, n := range Stages(ck.Graph) {
		s := spoiled{inner, n.Name, func(v []float64) []float64 {
			switch at := []int{0, len(v) - 1}[i%2]; {
			case golden.stages[n.Name].Indices():
				v[at] = v[at] - 1
				if v[at] < 0 {
					v[at] = 7
				}
			case i%3 == 0:
				v[at] = math.NaN()
			default:
				sum := 0.0
				for _, x := range v {
					sum += x * x
				}
				v[at] += 1.1 * tol.Stage * math.Sqrt(sum/float64(len(v)))
			}
			return v
		}}
		var p parity.Program
		if err := compare(t.Context(), golden, s, nil, tol, p.Add); err != nil {
			t.Fatal(err)
		}
		if p.First != n.Name {
			t.Errorf("%s spoiled: first diverging stage %q", n.Name, p.First)
		}
	}
}

// A program that shows too little, too much or nothing is an error and no pass.
func TestRunRefusesSubjects(t *testing.T) {
	ck := open(t, 1)
	golden := ownGolden(t, ck, TraceRequest{Tokens: someTokens(12), Precision: "f32"})
	inner := subject(t, ck, engine.F32, kernel.Set{})
	half := func(v []float64) []float64 { return v[:len(v)/2] }
	for _, tt := range []struct {
		name string
		s    Subject
		want string
	}{
		{"short stage", spoiled{inner, "block.0.attn.out", half}, "block.0.attn.out: 384 values, want 768"},
		{"short free stage", spoiledFree{spoiled{inner, "unembedding", half}}, "unembedding: 1024 values for 4 rows of 512"},
		{"nothing", silent{inner}, "0 stages, want 79"},
	} {
		_, err := Run(t.Context(), ck.Graph, golden, []Subject{tt.s}, Oracle(ck.Graph, ck.Weights), Options{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}

type spoiledFree struct{ spoiled }

func (s spoiledFree) Forced(ctx context.Context, t *Golden, see See) error {
	return s.Subject.Forced(ctx, t, see)
}

type silent struct{ Subject }

func (silent) Forced(context.Context, *Golden, See) error { return nil }

func TestRunIsInterrupted(t *testing.T) {
	ck := open(t, 1)
	golden := ownGolden(t, ck, TraceRequest{Tokens: someTokens(12), Precision: "f32"})
	for stop := range 4 {
		ctx, cancel := context.WithCancel(t.Context())
		begun := 0
		_, err := Run(ctx, ck.Graph, golden, []Subject{subject(t, ck, engine.F32, kernel.Set{})}, Oracle(ck.Graph, ck.Weights), Options{OracleMost: 1e9, Progress: func(string) {
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
		f, err := checkpoint.OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		bad := filepath.Join(filepath.Dir(path), "bad.safetensors")
		if err := checkpoint.Save(bad, edit(slices.Clone(f.Tensors())), f.Metadata()); err != nil {
			t.Fatal(err)
		}
		return bad
	}
	tensor := func(list []checkpoint.Tensor, name string) *checkpoint.Tensor {
		i := slices.IndexFunc(list, func(x checkpoint.Tensor) bool { return x.Name == name })
		list[i].Data = slices.Clone(list[i].Data)
		return &list[i]
	}
	f32 := TraceRequest{Precision: "f32"}
	for _, tt := range []struct {
		name string
		q    TraceRequest
		edit func([]checkpoint.Tensor) []checkpoint.Tensor
		want string
	}{
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
	if e := parity.Measure(x.Float64s(), a.Float64s(), nil, checkpoint.F32); !(e.Relative(e.Max) < 1e-4) || e.Max == 0 {
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
		if !parity.Whole(s.Name) {
			want = parity.At(want, s.Width(), upTo(20), []int{3, 19})
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

// For want of a reference the oracle's own trace is a golden, of positions far
// enough that float32 angles show.
func TestOracleAsGolden(t *testing.T) {
	c := open(t, 1)
	file := filepath.Join(t.TempDir(), "oracle.safetensors")
	tokens := make([]uint32, 200)
	for i := range tokens {
		tokens[i] = uint32(i * 31 % c.Config.Vocab)
	}
	if err := WriteTrace(t.Context(), file, c, TraceRequest{Tokens: tokens, Precision: "f64"}); err != nil {
		t.Fatal(err)
	}
	golden, err := OpenGolden(file, c.Graph)
	if err != nil {
		t.Fatal(err)
	}
	defer golden.Close()
	for _, f := range append([]fault.Fault{{Name: "none"}}, fault.Table()...) {
		if !slices.Contains([]string{"none", "window +1", "eps 1e-6", "YaRN bounds rounded"}, f.Name) {
			continue // Faults has them all
		}
		g := c.Graph
		if f.Graph != nil {
			g = f.Graph(g)
		}
		s, err := Engine(g, c.Weights, engine.Options{Precision: engine.F32})
		if err != nil {
			t.Fatal(err)
		}
		r, err := Run(t.Context(), c.Graph, golden, []Subject{s}, Oracle(c.Graph, c.Weights), Options{OracleMost: 1e10})
		if err != nil {
			t.Fatal(err)
		}
		if first := r.Programs[0].First; first != f.Stage {
			t.Errorf("%s: diverges first at %q, want %q", f.Name, first, f.Stage)
		}
	}
}
