package engine_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ossify/checkpoint"
	"ossify/engine"
	"ossify/float"
	"ossify/graph"
	"ossify/internal/modeltest"
	"ossify/kernel"
	"ossify/oracle"
	"ossify/weight"
)

// random returns weights of g's parameters.
func random(t testing.TB, g *graph.Graph) *weight.Set {
	t.Helper()
	sources := make([][]weight.Source, len(g.Params))
	for i, p := range g.Params {
		h := fnv.New64a()
		h.Write([]byte(p.Name))
		src := rand.New(rand.NewPCG(h.Sum64(), 1))
		n := weight.Rows(p) * weight.Columns(p)
		var s weight.Source
		if p.Storage == graph.MXFP4 {
			groups := slices.Clone([]int(p.Shape))
			groups[len(groups)-1] /= float.BlockSize
			data, scales := make([]byte, n/2), make([]byte, n/float.BlockSize)
			for i := range data {
				data[i] = byte(src.Uint32())
			}
			for i := range scales {
				scales[i] = byte(122 + src.IntN(5))
			}
			s.Data = checkpoint.Tensor{Name: p.Name + ".blocks", Type: checkpoint.U8, Shape: append(slices.Clone(groups), float.BlockBytes), Data: data}
			s.Scales = checkpoint.Tensor{Name: p.Name + ".scales", Type: checkpoint.U8, Shape: groups, Data: scales}
		} else {
			sigma := 1.0
			if len(p.Shape) == 2 && !strings.HasPrefix(p.Name, "embedding") {
				sigma = 1 / math.Sqrt(float64(weight.Columns(p)))
			}
			data := make([]byte, 2*n)
			for i := range n {
				binary.LittleEndian.PutUint16(data[2*i:], float.ToBF16(float32(sigma*src.NormFloat64())))
			}
			s.Data = checkpoint.Tensor{Name: p.Name, Type: checkpoint.BF16, Shape: p.Shape, Data: data}
		}
		sources[i] = []weight.Source{s}
	}
	w, err := weight.New(g.Params, sources, nil)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// A subject is a graph with weights.
type subject struct {
	g *graph.Graph
	w *weight.Set
}

func tiny(t testing.TB) subject {
	t.Helper()
	g := modeltest.Graph(t)
	return subject{g, random(t, g)}
}

func model(t testing.TB, r subject, o engine.Options) *engine.Model {
	t.Helper()
	m, err := engine.New(r.g, r.w, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sets are those of kernels that a test runs with: all, but of one the race detector
// (-short) learns as much, for it sees goroutines and no kernels.
func sets() []kernel.Set {
	all := kernel.All()
	if testing.Short() {
		return all[len(all)-1:]
	}
	return all
}

func someTokens(n int) []uint32 { return modeltest.Tokens(n, 11, 12) }

func upTo(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	return p
}

var precisions = []engine.Precision{engine.BF16, engine.F32}

// Each stage, fed with the oracle's values of the stages before it, agrees
// with the oracle to float32's rounding: sums of 64 to 128 products, so 1e-5 of
// the stage's rms leaves room for the 2^-24·√128·max/rms that they may be off,
// and for rope's angles, which are float32 (up to position 63: 2e-6).
func TestStagesAgreeWithOracle(t *testing.T) {
	r := tiny(t)
	tokens := someTokens(64)
	want := map[string][]float64{}
	_, err := oracle.Run(t.Context(), r.g, r.w, tokens, upTo(64), func(stage string, _ []int, v []float64) []float64 {
		want[stage] = slices.Clone(v)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[graph.Op]bool{}
	for _, n := range r.g.Nodes {
		seen[n.Op] = true
	}
	for _, o := range graph.Ops() {
		if !seen[o] {
			t.Errorf("%v is not in the model, so this test proves nothing of it", o)
		}
	}
	m := model(t, r, engine.Options{Precision: engine.F32})
	_, err = m.Replay(t.Context(), tokens, upTo(64), func(stage string, _ []int, got []float32) []float32 {
		ref, ok := want[stage]
		if !ok {
			return nil // inside of an operation
		}
		forced := make([]float32, len(ref))
		sum, worst := 0.0, 0.0
		for i, v := range ref {
			sum += v * v
			if d := math.Abs(float64(got[i]) - v); !(d <= worst) {
				worst = d
			}
			forced[i] = float32(v)
		}
		if rms := math.Sqrt(sum / float64(len(ref))); !(worst <= 1e-5*rms) {
			t.Errorf("%s: off by %g, rms %g", stage, worst, rms)
		}
		return forced
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Chunks of any size, and decode, give the bits of one prefill. The prompt
// runs past every ring of the sliding layers.
func TestChunksGiveTheSameBits(t *testing.T) {
	r := tiny(t)
	tokens := someTokens(130)
	for _, p := range precisions {
		all, err := model(t, r, engine.Options{Precision: p, Chunk: 1000}).NewSession().Forward(t.Context(), tokens)
		if err != nil {
			t.Fatal(err)
		}
		chunks := []int{1, 7, 16, 64, 129}
		if testing.Short() { // for the race detector
			chunks = []int{7, 64}
		}
		for _, chunk := range chunks {
			for _, how := range []string{"chunked by the engine", "chunked by the caller"} {
				o := engine.Options{Precision: p, Chunk: 256}
				step := chunk
				if how == "chunked by the engine" {
					o.Chunk, step = chunk, len(tokens)
				}
				s := model(t, r, o).NewSession()
				var got []float32
				for lo := 0; lo < len(tokens); lo += step {
					out, err := s.Forward(t.Context(), tokens[lo:min(lo+step, len(tokens))])
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, out...)
				}
				same(t, fmt.Sprintf("%v, chunks of %d, %s", p, chunk, how), got, all)
			}
		}
	}
}

func same(t *testing.T, name string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d values, want %d", name, len(got), len(want))
		return
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Errorf("%s: value %d is %g, want %g", name, i, got[i], want[i])
			return
		}
	}
}

// Next is the last row of Forward.
func TestNext(t *testing.T) {
	r := tiny(t)
	tokens := someTokens(50)
	for _, p := range precisions {
		for _, chunk := range []int{1, 7, 256} {
			m := model(t, r, engine.Options{Precision: p, Chunk: chunk})
			all, err := m.NewSession().Forward(t.Context(), tokens)
			if err != nil {
				t.Fatal(err)
			}
			s := m.NewSession()
			for _, n := range []int{20, 49, 50} {
				got, err := s.Next(t.Context(), tokens[s.Len():n])
				if err != nil {
					t.Fatal(err)
				}
				same(t, fmt.Sprintf("%v, chunk %d, %d tokens", p, chunk, n), got, all[(n-1)*512:n*512])
			}
		}
	}
}

// Chosen positions, given the keys and values of all, have the bits of a whole
// run.
func TestReplay(t *testing.T) {
	r := tiny(t)
	tokens := someTokens(60)
	chosen := []int{0, 15, 16, 17, 40, 59}
	for _, p := range precisions {
		m := model(t, r, engine.Options{Precision: p})
		past := map[string][]float32{}
		all, err := m.NewSession().Trace(t.Context(), tokens, func(stage string, _ []int, v []float32) []float32 {
			if strings.HasSuffix(stage, ".rope.k") || strings.HasSuffix(stage, ".attn.v") {
				past[stage] = slices.Clone(v)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var want []float32
		var some []uint32
		for _, at := range chosen {
			want = append(want, all[at*512:(at+1)*512]...)
			some = append(some, tokens[at])
		}
		got, err := m.Replay(t.Context(), some, chosen, func(stage string, _ []int, _ []float32) []float32 { return past[stage] })
		if err != nil {
			t.Fatal(err)
		}
		same(t, p.String(), got, want)
	}
}

// Rows far from the first position take no more room than near ones: what is
// inside of attention has a column for each key that there is.
func TestReplayIsOfItsKeys(t *testing.T) {
	m := model(t, tiny(t), engine.Options{Precision: engine.F32})
	widths := func(first int) map[string]int {
		var positions []int
		for i := range 20 {
			positions = append(positions, first+i)
		}
		seen := map[string]int{}
		_, err := m.Replay(t.Context(), someTokens(20), positions, func(stage string, _ []int, v []float32) []float32 {
			for _, step := range []string{graph.StepScores, graph.StepScaled, graph.StepWeights} {
				if strings.HasSuffix(stage, ".sdpa"+step) {
					seen[stage] = len(v) / 20
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return seen
	}
	near, far := widths(0), widths(131_000)
	if len(near) == 0 || !maps.Equal(near, far) {
		t.Errorf("far rows have %v columns, want %v", far, near)
	}
}

// A model that nobody holds goes, though it was not closed: nothing that it made
// holds it, in whatever way it ran.
func TestModelsAreCollected(t *testing.T) {
	r := tiny(t)
	tokens := someTokens(20)
	for _, tt := range []struct {
		name string
		run  func(m *engine.Model) error
	}{
		{"a replay", func(m *engine.Model) error {
			_, err := m.Replay(t.Context(), tokens, upTo(20), nil)
			return err
		}},
		{"a session that is traced", func(m *engine.Model) error {
			_, err := m.NewSession().Trace(t.Context(), tokens, func(string, []int, []float32) []float32 { return nil })
			return err
		}},
		{"a session that is open", func(m *engine.Model) error {
			_, err := m.Step(t.Context(), []engine.Part{{Session: m.NewSession(), Tokens: tokens, Logits: 1}})
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gone := make(chan bool)
			func() {
				m := model(t, r, engine.Options{Precision: engine.F32})
				if err := tt.run(m); err != nil {
					t.Fatal(err)
				}
				runtime.AddCleanup(m, func(gone chan bool) { close(gone) }, gone)
			}()
			for range 3000 {
				runtime.GC()
				select {
				case <-gone:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
			t.Error("the model is still there")
		})
	}
}

// A session does not see what others did before or do at the same time.
func TestSessionsAreIndependent(t *testing.T) {
	r := tiny(t)
	for _, p := range precisions {
		m := model(t, r, engine.Options{Precision: p})
		x, y := someTokens(40), someTokens(70)[30:]
		alone, err := m.NewSession().Forward(t.Context(), x)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.NewSession().Forward(t.Context(), y); err != nil {
			t.Fatal(err)
		}
		after, err := m.NewSession().Forward(t.Context(), x)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "after another session", after, alone)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				got, err := m.NewSession().Forward(context.Background(), x)
				if err != nil {
					t.Error(err)
				}
				same(t, "beside other sessions", got, alone)
			})
		}
		wg.Wait()
	}
}

// The number of workers changes no bit.
func TestWorkers(t *testing.T) {
	r := tiny(t)
	tokens := someTokens(40)
	var want []float32
	for _, workers := range []int{1, 2, 5} {
		got, err := model(t, r, engine.Options{Precision: engine.F32, Workers: workers}).NewSession().Forward(t.Context(), tokens)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		}
		same(t, fmt.Sprint(workers, " workers"), got, want)
	}
}

// What is wrong with a call is said, and the session goes on from the last
// chunk that was done.
func TestErrors(t *testing.T) {
	r := tiny(t)
	m := model(t, r, engine.Options{Precision: engine.BF16, Chunk: 8})
	s := m.NewSession()
	tokens := someTokens(40)
	if _, err := s.Forward(t.Context(), tokens[:30]); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	calls := 0
	tests := []struct {
		name string
		call func() error
		want string
	}{
		{"no tokens", func() error { _, err := s.Forward(t.Context(), nil); return err }, "engine: no tokens, want at least one"},
		{"id out of range", func() error { _, err := s.Next(t.Context(), []uint32{1, 512}); return err }, "engine: token 2 of 2 is id 512, want below 512"},
		{"largest id", func() error { _, err := s.Next(t.Context(), []uint32{math.MaxUint32}); return err }, "engine: token 1 of 1 is id 4294967295, want below 512"},
		{"cancelled half way", func() error {
			_, err := s.Trace(cancelled, tokens[:20], func(stage string, _ []int, _ []float32) []float32 {
				if calls++; calls == 150 {
					cancel()
				}
				return nil
			})
			return err
		}, "context canceled"},
		{"position twice", func() error { _, err := m.Replay(t.Context(), tokens[:2], []int{3, 3}, nil); return err }, "engine: position 3 at 1, want rising positions from 0"},
		{"position missing", func() error { _, err := m.Replay(t.Context(), tokens[:2], []int{3}, nil); return err }, "engine: 2 tokens at 1 positions, want one position a token and at least one"},
	}
	for _, tt := range tests {
		if err := tt.call(); err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
	if got := s.Len(); got != 38 {
		t.Fatalf("%d tokens seen, want 30 and the chunk of 8 that was done", got)
	}
	got, err := s.Forward(t.Context(), tokens[8:])
	if err != nil {
		t.Fatal(err)
	}
	all, err := m.NewSession().Forward(t.Context(), slices.Concat(tokens[:30], tokens[:8], tokens[8:]))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "after errors", got, all[38*512:])
}

// What a model cannot be made of is refused.
func TestNewRefuses(t *testing.T) {
	r := tiny(t)
	fewer := &graph.Graph{Nodes: r.g.Nodes, Params: r.g.Params[1:]}
	other := r.g.Rewrite(func(n graph.Node, emit func(graph.Node) graph.Value) graph.Value { return emit(n) })
	other.Params[0].Name = "embedding.wait"
	tests := []struct {
		name string
		g    *graph.Graph
		o    engine.Options
		want string
	}{
		{"no precision", r.g, engine.Options{}, "engine: no precision given, want bf16 or f32"},
		{"no nodes", &graph.Graph{Params: r.g.Params}, engine.Options{Precision: engine.F32}, "engine: a graph without nodes"},
		{"other weights", fewer, engine.Options{Precision: engine.F32}, "engine: weight: a set of 55 parameters, want one of 54"},
		{"a parameter of another name", other, engine.Options{Precision: engine.F32}, "engine: weight: parameter 0 is embedding.weight, BF16 [512, 64], want embedding.wait, BF16 [512, 64]"},
		{"less than no worker", r.g, engine.Options{Precision: engine.F32, Workers: -1}, "engine: -1 workers and chunks of 512, want positive numbers"},
	}
	for _, tt := range tests {
		if _, err := engine.New(tt.g, r.w, tt.o); err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v\nwant %s", tt.name, err, tt.want)
		}
	}
}
