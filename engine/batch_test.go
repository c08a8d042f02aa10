package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ossify/engine"
	"ossify/fault"
	"ossify/graph"
	"ossify/kernel"
)

// A twin is a session in a batch, and the tokens that it has seen.
type twin struct {
	s    *engine.Session
	seen []uint32
}

// Random mixtures of prompts, single tokens, forks and truncations of many
// sessions, in passes of any size, on any number of workers, give each session
// the logits of one run over its tokens.
func TestMixtures(t *testing.T) {
	r := tiny(t)
	vocab := 512
	for seed := range uint64(6) {
		src := rand.New(rand.NewPCG(seed, 1))
		o := engine.Options{Precision: precisions[seed%2], Workers: []int{1, 2, 5}[seed%3], Chunk: []int{3, 17, 64, 512}[src.IntN(4)]}
		t.Run(fmt.Sprintf("seed %d, %v, %d workers, chunk %d", seed, o.Precision, o.Workers, o.Chunk), func(t *testing.T) {
			m, plain := model(t, r, o), model(t, r, engine.Options{Precision: o.Precision, Workers: 2})
			defer m.Close()
			check := func(seen []uint32, n int, logits []float32) {
				t.Helper()
				if n == 0 {
					if len(logits) != 0 {
						t.Fatalf("%d logits, want none", len(logits))
					}
					return
				}
				all, err := plain.NewSession().Forward(t.Context(), seen)
				if err != nil {
					t.Fatal(err)
				}
				same(t, fmt.Sprintf("%d tokens, last %d", len(seen), n), logits, all[(len(seen)-n)*vocab:])
			}
			twins := []*twin{{s: m.NewSession()}}
			rounds := 20
			if testing.Short() {
				rounds = 8
			}
			for range rounds {
				switch at := twins[src.IntN(len(twins))]; {
				case src.IntN(4) == 0 && len(twins) < 6:
					twins = append(twins, &twin{at.s.Fork(), slices.Clone(at.seen)})
				case src.IntN(6) == 0 && len(at.seen) > 0:
					n := 0
					if least := at.s.Least(); src.IntN(4) > 0 && least < len(at.seen) {
						n = least + src.IntN(len(at.seen)-least)
					}
					if err := at.s.Truncate(n); err != nil {
						t.Fatal(err)
					}
					at.seen = at.seen[:n]
				case src.IntN(10) == 0 && len(twins) > 1:
					at.s.Close()
					at.seen = nil
				}
				var parts []engine.Part
				var of []*twin
				for _, at := range twins {
					if src.IntN(3) == 0 {
						continue
					}
					n := 1
					if src.IntN(3) == 0 {
						n += src.IntN(90)
					}
					tokens := make([]uint32, n)
					for i := range tokens {
						tokens[i] = uint32(src.IntN(vocab))
					}
					parts = append(parts, engine.Part{Session: at.s, Tokens: tokens, Logits: []int{0, 1, n, src.IntN(n + 1)}[src.IntN(4)]})
					of = append(of, at)
				}
				if len(parts) == 0 {
					continue
				}
				logits, err := m.Step(t.Context(), parts)
				if err != nil {
					t.Fatal(err)
				}
				for i, p := range parts {
					of[i].seen = append(of[i].seen, p.Tokens...)
					if of[i].s.Len() != len(of[i].seen) {
						t.Fatalf("session has seen %d tokens, want %d", of[i].s.Len(), len(of[i].seen))
					}
					if src.IntN(4) == 0 && len(of[i].seen) < 400 {
						check(of[i].seen, p.Logits, logits[i])
					}
				}
			}
		})
	}
}

// What a tap sees does not depend on being seen: the open plan and the fused one
// give the same bits, in every set of kernels.
func TestPlansGiveTheSameBits(t *testing.T) {
	r := tiny(t)
	tokens := someTokens(kernel.PageLen + 6) // more than a page of the cache
	for _, p := range precisions {
		var want []float32
		for _, k := range sets() {
			m := model(t, r, engine.Options{Precision: p, Kernels: k, Chunk: 12})
			for name, run := range map[string]func(s *engine.Session) ([]float32, error){
				"fused":       func(s *engine.Session) ([]float32, error) { return s.Forward(t.Context(), tokens) },
				"open":        func(s *engine.Session) ([]float32, error) { return s.Trace(t.Context(), tokens, nil) },
				"fused again": func(s *engine.Session) ([]float32, error) { return s.Forward(t.Context(), tokens) },
				"seen": func(s *engine.Session) ([]float32, error) {
					return s.Trace(t.Context(), tokens, func(string, []int, []float32) []float32 { return nil })
				},
			} {
				got, err := run(m.NewSession())
				if err != nil {
					t.Fatal(err)
				}
				if want == nil {
					want = got
				}
				same(t, fmt.Sprintf("%v, %s, %s", p, k.Name, name), got, want)
			}
		}
	}
}

// A tap sees what is inside of operations, in order, and may replace it. With
// its own values replaced, or none, the result is the same.
func TestInnerSteps(t *testing.T) {
	r := tiny(t)
	tokens := someTokens(50)
	for _, p := range precisions {
		m := model(t, r, engine.Options{Precision: p})
		var names []string
		all := map[string][]float32{}
		want, err := m.Replay(t.Context(), tokens, upTo(50), func(stage string, pos []int, v []float32) []float32 {
			names = append(names, stage)
			all[stage] = slices.Clone(v)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range []struct {
			stage string
			inner []string
		}{
			{"block.0.attn.sdpa", []string{".scores", ".scaled", ".weights", ""}},
			{"block.3.attn.sdpa", []string{".scores", ".scaled", ".weights", ""}},
			{"block.2.mlp.mlp1", []string{".product", ""}},
			{"block.2.mlp.mlp2", []string{".product", ""}},
		} {
			at := slices.Index(names, op.stage+op.inner[0])
			for i, inner := range op.inner {
				if at < 0 || names[at+i] != op.stage+inner {
					t.Fatalf("%s is not among the stages, or out of order: %v", op.stage+inner, names)
				}
			}
		}
		// Windows of 16 on even layers: weights beyond are 0, and the others sum to
		// no more than 1, for the sink has its share.
		for layer, window := range []int{16, 50} {
			w := all[fmt.Sprintf("block.%d.attn.sdpa.weights", layer)]
			if len(w) != 50*8*50 {
				t.Fatalf("%d weights, want 50 rows of 8 heads and 50 keys", len(w))
			}
			for i := 0; i < len(w); i += 50 {
				row, sum := i/50/8, float32(0)
				for key, v := range w[i : i+50] {
					if seen := key <= row && key > row-window; !seen && v != 0 {
						t.Fatalf("layer %d, row %d: weight %g for key %d, which is not in view", layer, row, v, key)
					}
					sum += v
				}
				if !(sum > 0 && sum < 1.01) { // each is rounded
					t.Fatalf("layer %d, row %d: weights sum to %g", layer, row, sum)
				}
			}
		}
		got, err := m.Replay(t.Context(), tokens, upTo(50), func(stage string, _ []int, v []float32) []float32 { return all[stage] })
		if err != nil {
			t.Fatal(err)
		}
		same(t, fmt.Sprint(p, ": replaced by the same"), got, want)

		// Each replacement counts: zero weights yield zero, a zero product the bias.
		_, err = m.Replay(t.Context(), tokens, upTo(50), func(stage string, _ []int, v []float32) []float32 {
			switch stage {
			case "block.1.attn.sdpa.weights", "block.1.mlp.mlp1.product", "block.2.attn.sdpa.scores":
				return make([]float32, len(v))
			case "block.2.attn.sdpa.scaled", "block.1.attn.sdpa":
				for i, x := range v {
					if x != 0 {
						t.Errorf("%s: %g at %d, want 0", stage, x, i)
						break
					}
				}
			case "block.1.mlp.mlp1":
				if slices.Equal(v, all[stage]) || slices.Equal(v, make([]float32, len(v))) {
					t.Errorf("%s is not the bias alone", stage)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What a tap returns is neither written to nor handed on as memory.
func TestReplacementsAreNotReused(t *testing.T) {
	r := tiny(t)
	m := model(t, r, engine.Options{Precision: engine.BF16, Chunk: 16})
	given, copies := map[string][]float32{}, map[string][]float32{}
	intact := func() {
		t.Helper()
		for stage, v := range given {
			if !slices.Equal(v, copies[stage]) {
				t.Fatalf("%s: the replacement was written to", stage)
			}
		}
	}
	taps := 0
	tap := func(stage string, pos []int, v []float32) []float32 {
		if taps++; taps%16 == 0 {
			intact()
		}
		key := fmt.Sprint(stage, pos[0])
		given[key], copies[key] = slices.Clone(v), slices.Clone(v)
		return given[key]
	}
	s := m.NewSession()
	if _, err := s.Trace(t.Context(), someTokens(40), tap); err != nil {
		t.Fatal(err)
	}
	intact() // of which Replay gives some anew
	if _, err := m.Replay(t.Context(), someTokens(10), upTo(10), tap); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Forward(t.Context(), someTokens(40)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.NewSession().Trace(t.Context(), someTokens(40), nil); err != nil {
		t.Fatal(err)
	}
	intact()
}

// Replacements of the wrong size, and choices that are none, are refused.
func TestTapErrors(t *testing.T) {
	r := tiny(t)
	m := model(t, r, engine.Options{Precision: engine.F32})
	short := func(v []float32) []float32 { return v[1:] }
	tests := []struct {
		stage  string
		replay bool
		edit   func(v []float32) []float32
		want   string
	}{
		{"block.0.attn.norm", false, short, "engine: block.0.attn.norm: replaced by 639 values, want 640"},
		{"block.0.attn.rope.k", false, func(v []float32) []float32 { return append(slices.Clone(v), v...) }, "engine: block.0.attn.rope.k: replaced by 640 values, want 320"},
		{"block.0.attn.rope.k", true, func(v []float32) []float32 { return append(slices.Clone(v), v...) }, "engine: block.0.attn.sdpa: 20 keys and 10 values, want 10"},
		{"block.0.attn.rope.k", true, short, "engine: block.0.attn.rope.k: replaced by 319 values, want 320"},
		{"block.0.attn.sdpa.scores", true, short, "engine: block.0.attn.sdpa.scores: replaced by 799 values, want 800"},
		{"block.1.mlp.experts", true, func(v []float32) []float32 { v[3] = 8; return slices.Clone(v) }, "engine: block.1.mlp.experts: replaced by 8, want a whole number below 8"},
		{"block.1.mlp.experts", true, func(v []float32) []float32 { v[3] = 0.5; return slices.Clone(v) }, "engine: block.1.mlp.experts: replaced by 0.5, want a whole number below 8"},
		{"tokens", true, func(v []float32) []float32 { v[3] = -1; return slices.Clone(v) }, "engine: tokens: replaced by -1, want a whole number below 512"},
	}
	for _, tt := range tests {
		tap := func(stage string, _ []int, v []float32) []float32 {
			if stage == tt.stage {
				return tt.edit(v)
			}
			return nil
		}
		var err error
		if tt.replay {
			_, err = m.Replay(t.Context(), someTokens(10), upTo(10), tap)
		} else {
			_, err = m.NewSession().Trace(t.Context(), someTokens(10), tap)
		}
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v\nwant %s", tt.stage, err, tt.want)
		}
	}
}

// Parts that no batch can have are refused before anything is computed.
func TestStepErrors(t *testing.T) {
	r := tiny(t)
	m, other := model(t, r, engine.Options{Precision: engine.BF16}), model(t, r, engine.Options{Precision: engine.BF16})
	s, x := m.NewSession(), []uint32{1, 2}
	for _, tt := range []struct {
		name  string
		parts []engine.Part
		want  string
	}{
		{"none", nil, "engine: no parts, want at least one"},
		{"no session", []engine.Part{{Tokens: x}}, "engine: part 0: a session of another model, or none"},
		{"another model's", []engine.Part{{Session: other.NewSession(), Tokens: x}}, "engine: part 0: a session of another model, or none"},
		{"no tokens", []engine.Part{{Session: s}}, "engine: no tokens, want at least one"},
		{"one session twice", []engine.Part{{Session: s, Tokens: x}, {Session: s, Tokens: x}}, "engine: parts 0 and 1 are of one session, want each of another"},
		{"more logits than tokens", []engine.Part{{Session: s, Tokens: x, Logits: 3}}, "engine: part 0: logits of 3 tokens of 2"},
		{"a bad id", []engine.Part{{Session: s, Tokens: x}, {Session: m.NewSession(), Tokens: []uint32{512}}}, "engine: token 1 of 1 is id 512, want below 512"},
	} {
		if _, err := m.Step(t.Context(), tt.parts); err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v\nwant %s", tt.name, err, tt.want)
		}
	}
	if s.Len() != 0 {
		t.Errorf("%d tokens seen, want none", s.Len())
	}
	for _, n := range []int{-1, 1} {
		if err := s.Truncate(n); err == nil {
			t.Errorf("truncated an empty session to %d", n)
		}
	}
}

// Layers with a window keep it and a little more, the others everything; the
// bytes are stated, and a fork takes none until it goes its own way.
func TestCache(t *testing.T) {
	r := tiny(t)
	const page = 2 * kernel.PageLen * 2 * 2 * 16 // keys and values of 2 heads of 16 in bfloat16
	for _, p := range precisions {
		m := model(t, r, engine.Options{Precision: p})
		size := int64(page)
		if p == engine.F32 {
			size *= 2
		}
		s := m.NewSession()
		if n := s.CacheBytes(); n != 0 {
			t.Errorf("%d bytes before the first token", n)
		}
		if _, err := s.Next(t.Context(), someTokens(1000)); err != nil {
			t.Fatal(err)
		}
		// 1000 positions are 16 pages; a window of 16 and 128 more are, from
		// position 857 on, 3.
		if got, want := s.CacheBytes(), size*(2*16+2*3); got != want {
			t.Errorf("%v: %d bytes of cache, want %d", p, got, want)
		}
		if got, want := s.Least(), 832+15; got != want {
			t.Errorf("%v: can be cut to %d tokens, want %d", p, got, want)
		}
		if err := s.Truncate(846); err == nil || !strings.Contains(err.Error(), "want 0 or at least 847") {
			t.Errorf("%v: cut too far: %v", p, err)
		}
		if s.Len() != 1000 {
			t.Errorf("%v: %d tokens after an error, want 1000", p, s.Len())
		}
		// What the window has left behind counts until it is collected.
		for range 10_000 {
			if runtime.GC(); m.CacheBytes() == s.CacheBytes() {
				break
			}
			time.Sleep(time.Millisecond)
		}
		before := m.CacheBytes()
		if before != s.CacheBytes() {
			t.Errorf("%v: the model counts %d bytes, the only session %d", p, before, s.CacheBytes())
		}
		f := s.Fork()
		if got := m.CacheBytes(); got != before {
			t.Errorf("%v: a fork takes %d bytes", p, got-before)
		}
		if _, err := f.Next(t.Context(), []uint32{1}); err != nil {
			t.Fatal(err)
		}
		if got, want := m.CacheBytes()-before, 4*size; got != want { // the last page of each layer
			t.Errorf("%v: a fork's first token takes %d bytes, want %d", p, got, want)
		}
		s.Close()
		f.Close()
		for range 10_000 {
			if runtime.GC(); m.CacheBytes() == 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if got := m.CacheBytes(); got != 0 {
			t.Errorf("%v: %d bytes after all sessions were closed", p, got)
		}
	}
}

// No goroutine outlives a pass, and none is left by one that fails.
func TestNoGoroutineStays(t *testing.T) {
	r := tiny(t)
	m := model(t, r, engine.Options{Precision: engine.BF16, Workers: 5})
	before := runtime.NumGoroutine()
	for i := range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		_, err := m.NewSession().Trace(ctx, someTokens(3), func(string, []int, []float32) []float32 {
			if n++; n == i {
				cancel()
			}
			return nil
		})
		if (err != nil) != (i > 0) {
			t.Fatalf("cancelled at stage %d: %v", i, err)
		}
		cancel()
	}
	for range 10_000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d goroutines, want %d", runtime.NumGoroutine(), before)
}

// After Close nothing runs.
func TestClose(t *testing.T) {
	r := tiny(t)
	m := model(t, r, engine.Options{Precision: engine.BF16})
	s := m.NewSession()
	if _, err := s.Next(t.Context(), []uint32{1}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Next(t.Context(), []uint32{1}); err == nil || err.Error() != "engine: the model is closed" {
		t.Errorf("after Close: %v", err)
	}
	if _, err := m.Replay(t.Context(), []uint32{1}, []int{0}, nil); err == nil || err.Error() != "engine: the model is closed" {
		t.Errorf("after Close: %v", err)
	}
}

// A model that is not gpt-oss's in detail runs too: what the plan cannot fuse it
// does one by one.
func TestOtherModels(t *testing.T) {
	r := tiny(t)
	tokens := someTokens(40)
	edits := map[string]func(n *graph.Node){
		"another gate": func(n *graph.Node) {
			if strings.HasSuffix(n.Name, "linear.plus1") {
				n.B = 0
			}
		},
		"adjacent columns turn together": func(n *graph.Node) { n.Rope.Adjacent = n.Op == graph.Rotate },
		"own key unseen":                 func(n *graph.Node) { n.Heads.Delay = min(1, n.Heads.Query) },
		"no sinks": func(n *graph.Node) {
			if n.Op == graph.Attend {
				n.Params = nil
			}
		},
		"no bias": func(n *graph.Node) {
			if n.Op == graph.Linear || n.Op == graph.ExpertLinear {
				n.Params = n.Params[:1]
			}
		},
	}
	graphs := map[string]*graph.Graph{}
	for name, edit := range edits {
		graphs[name] = r.g.Rewrite(func(n graph.Node, emit func(graph.Node) graph.Value) graph.Value {
			edit(&n)
			return emit(n)
		})
	}
	for _, f := range fault.Table() {
		if f.Graph != nil && !testing.Short() { // for the race detector, those that change the plan do
			graphs["fault: "+f.Name] = f.Graph(r.g)
		}
	}
	plain, err := model(t, r, engine.Options{Precision: engine.BF16}).NewSession().Next(t.Context(), tokens)
	if err != nil {
		t.Fatal(err)
	}
	for name, g := range graphs {
		m := model(t, subject{g, r.w}, engine.Options{Precision: engine.BF16, Chunk: 15})
		want, err := m.NewSession().Trace(t.Context(), tokens, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.NewSession().Forward(t.Context(), tokens)
		if err != nil {
			t.Fatal(err)
		}
		same(t, name, got, want)
		last, err := m.NewSession().Next(t.Context(), tokens)
		if err != nil {
			t.Fatal(err)
		}
		same(t, name+", last", last, want[39*512:])
		if slices.Equal(plain, last) && !strings.HasPrefix(name, "fault") { // some faults are below bfloat16
			t.Errorf("%s: no difference from the model as it is", name)
		}
	}
}

// A session that was filled goes on like any other, with the cache of one.
func TestFill(t *testing.T) {
	r := tiny(t)
	for _, p := range precisions {
		m := model(t, r, engine.Options{Precision: p, Chunk: 100})
		s, real := m.NewSession(), m.NewSession()
		for _, n := range []int{70, 3, 900} {
			if err := s.Fill(n); err != nil {
				t.Fatal(err)
			}
			if _, err := real.Next(t.Context(), make([]uint32, n)); err != nil {
				t.Fatal(err)
			}
			if s.Len() != real.Len() || s.CacheBytes() != real.CacheBytes() || s.Least() != real.Least() {
				t.Fatalf("%d tokens, %d bytes, want %d and %d", s.Len(), s.CacheBytes(), real.Len(), real.CacheBytes())
			}
			logits, err := s.Fork().Next(t.Context(), []uint32{1})
			if err != nil {
				t.Fatal(err)
			}
			other, err := s.Fork().Next(t.Context(), []uint32{1})
			if err != nil {
				t.Fatal(err)
			}
			same(t, "forks", logits, other)
		}
		if err := s.Fill(-1); err == nil {
			t.Error("filled with -1 tokens")
		}
	}
}

// Requests that are given up at any time leave nothing behind: the session goes
// on from what was done, others beside it are not disturbed, and the collector
// may run whenever it likes.
func TestCancelledRequests(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	r := tiny(t)
	m := model(t, r, engine.Options{Precision: engine.BF16, Chunk: 8})
	tokens := someTokens(120)
	all, err := m.NewSession().Forward(t.Context(), tokens)
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	requests := 100
	if testing.Short() {
		requests = 20
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			src := rand.New(rand.NewPCG(uint64(i), 2))
			s := m.NewSession()
			for range requests {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(src.IntN(20000))*time.Microsecond)
				logits, err := s.Next(ctx, tokens[s.Len():])
				cancel()
				switch {
				case err == nil:
					same(t, "beside requests that are given up", logits, all[119*512:])
					if err := s.Truncate(src.IntN(120)); err != nil {
						t.Error(err)
					}
				case !errors.Is(err, context.DeadlineExceeded):
					t.Error(err)
				case s.Len()%8 != 0 && s.Len() < 120 && src.IntN(3) == 0:
					s.Close()
				}
			}
		})
	}
	wg.Wait()
	for range 10_000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d goroutines, want %d", runtime.NumGoroutine(), before)
}
