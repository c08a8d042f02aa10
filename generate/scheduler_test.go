package generate_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ossify/generate"
)

// batcher is the model of generate_test.go for many sequences at once, which
// sees to it that steps are what a Batcher takes.
type batcher struct {
	vocab, memory int
	window        int // positions that a sequence can be cut back by
	fail          atomic.Int64
	panics        atomic.Int64
	slow          time.Duration
	gate          chan bool // if there is one, steps begin when it is closed
	steps         atomic.Int64
	rows          atomic.Int64 // the most of a step
	tokens        atomic.Int64
	open          atomic.Int64 // sequences
	marked        atomic.Int64 // the step in which a prompt began with the token marked
}

const marked = 11

type sequence struct {
	b *batcher
	model
	closed bool
}

func (b *batcher) NewSequence() generate.Sequence {
	b.open.Add(1)
	return &sequence{b: b, model: model{vocab: b.vocab, memory: b.memory}}
}

func (s *sequence) Least() int        { return max(0, len(s.seen)-s.b.window) }
func (s *sequence) CacheBytes() int64 { return int64(len(s.seen)) }

func (s *sequence) Fork() generate.Sequence {
	f := s.b.NewSequence().(*sequence)
	f.seen = slices.Clone(s.seen)
	return f
}

func (s *sequence) Truncate(n int) error {
	if n > 0 && n < s.Least() {
		return errors.New("too short")
	}
	return s.model.Truncate(n)
}

func (s *sequence) Close() error {
	if s.closed {
		panic("closed twice")
	}
	s.closed = true
	s.b.open.Add(-1)
	return nil
}

func (b *batcher) Step(ctx context.Context, parts []generate.Part) ([][]float32, error) {
	switch n := b.steps.Add(1); n {
	case b.fail.Load():
		return nil, errors.New("the model failed")
	case b.panics.Load():
		panic("the model panicked")
	}
	if b.gate != nil {
		<-b.gate
	}
	time.Sleep(b.slow)
	runtime.Gosched() // one processor too has requests come while others are under way
	out := make([][]float32, len(parts))
	rows := int64(0)
	for i, p := range parts {
		s := p.Sequence.(*sequence)
		if s.closed || len(p.Tokens) == 0 {
			panic("a part of nothing")
		}
		if len(s.seen) == 0 && p.Tokens[0] == marked {
			b.marked.CompareAndSwap(0, b.steps.Load())
		}
		for j := range i {
			if parts[j].Sequence == p.Sequence {
				panic("a sequence twice")
			}
		}
		rows += int64(len(p.Tokens))
		s.seen = append(s.seen, p.Tokens...)
		if p.Logits {
			out[i] = s.logits()
		}
	}
	b.tokens.Add(rows)
	b.rows.Store(max(b.rows.Load(), rows))
	return out, nil
}

// request returns one of many kinds; prompts of the same family begin alike.
func request(seed uint64) generate.Request {
	r := rand.New(rand.NewPCG(seed, 2))
	family := rand.New(rand.NewPCG(seed%5, 3))
	var prompt []uint32
	for range 1 + family.IntN(60) {
		prompt = append(prompt, uint32(family.IntN(12)))
	}
	mark := len(prompt)
	for range r.IntN(50) {
		prompt = append(prompt, uint32(r.IntN(12)))
	}
	o := generate.Options{Most: 1 + r.IntN(60), LogProbs: int(seed%4) - 1, Sampling: generate.Sampling{Temperature: float64(seed%3) * 0.5, Seed: seed}}
	if seed%4 == 0 {
		o.Sampling.Frequency = 0.2
		o.Stop = []uint32{7}
	}
	if seed%6 == 1 {
		o.Context = len(prompt) + 9
	}
	return generate.Request{Prompt: prompt, Marks: []int{mark}, Options: o, Owner: fmt.Sprint(seed % 3)}
}

// alone answers a request with Run.
func alone(t *testing.T, b *batcher, r generate.Request) (generate.Result, []generate.Token) {
	t.Helper()
	var all []generate.Token
	res, err := generate.Run(t.Context(), &model{vocab: b.vocab, memory: b.memory}, r.Prompt, r.Options, func(tok generate.Token) error {
		all = append(all, tok)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return res, all
}

func scheduler(t *testing.T, b *batcher, o generate.SchedulerOptions) *generate.Scheduler {
	t.Helper()
	s, err := generate.NewScheduler(b, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if n := b.open.Load(); n != 0 {
			t.Errorf("%d sequences are left", n)
		}
	})
	return s
}

// Whatever runs beside a request, its tokens and probabilities are those of Run.
func TestSchedulerGivesEachWhatItGetsAlone(t *testing.T) {
	for name, o := range map[string]generate.SchedulerOptions{
		"defaults":       {},
		"one at a time":  {Active: 1},
		"small steps":    {Active: 7, Rows: 5},
		"nothing kept":   {Active: 3, Kept: -1, Rows: 1},
		"little memory":  {Active: 9, CacheBytes: 150, Rows: 16},
		"few are kept":   {Active: 4, Kept: 2},
		"long wait list": {Active: 2, Waiting: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			b := &batcher{vocab: 12, memory: 2, window: 30}
			s := scheduler(t, b, o)
			var wg sync.WaitGroup
			for seed := range uint64(120) {
				wg.Go(func() {
					r := request(seed)
					want, all := alone(t, b, r)
					var got []generate.Token
					res, err := s.Generate(t.Context(), r, func(tok generate.Token) error {
						got = append(got, tok)
						return nil
					})
					if err != nil || !slices.Equal(res.Tokens, want.Tokens) || res.Reason != want.Reason {
						t.Errorf("request %d: %v (%v), %v, want %v (%v)", seed, res.Tokens, res.Reason, err, want.Tokens, want.Reason)
						return
					}
					for i := range got {
						if got[i].LogProb != all[i].LogProb || !slices.Equal(got[i].Top, all[i].Top) {
							t.Errorf("request %d: token %d: %v, want %v", seed, i, got[i], all[i])
						}
					}
					if res.Cached >= len(r.Prompt) {
						t.Errorf("request %d: %d cached of %d", seed, res.Cached, len(r.Prompt))
					}
				})
			}
			wg.Wait()
			if o.Rows > 0 && b.rows.Load() > int64(max(o.Rows, o.Active)) {
				t.Errorf("%d rows in a step, want %d at most", b.rows.Load(), max(o.Rows, o.Active))
			}
			st := s.Stats()
			if st.Waiting != 0 || st.Generated == 0 {
				t.Errorf("%+v", st)
			}
			if o.CacheBytes > 0 && st.PutBack == 0 {
				t.Errorf("nobody was put back: %+v", st)
			}
			if o.Kept < 0 && st.Cached != 0 || o.Kept == 0 && o.CacheBytes == 0 && st.Cached == 0 {
				t.Errorf("%d cached tokens", st.Cached)
			}
		})
	}
}

// A second prompt computes what it does not share with the first, and no more.
func TestSchedulerReusesPrefixes(t *testing.T) {
	b := &batcher{vocab: 12, memory: 2, window: 10}
	s := scheduler(t, b, generate.SchedulerOptions{})
	do := func(prompt []uint32, mark int) int {
		t.Helper()
		res, err := s.Generate(t.Context(), generate.Request{Prompt: prompt, Marks: []int{mark}, Options: generate.Options{Most: 40, LogProbs: -1}}, func(generate.Token) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		return res.Cached
	}
	head := make([]uint32, 100)
	for i := range head {
		head[i] = uint32(i % 11)
	}
	one := append(slices.Clone(head), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 1)
	two := append(slices.Clone(head), 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2)
	for _, c := range []struct {
		name   string
		prompt []uint32
		want   int
	}{
		{"nothing is there", one, 0},
		{"the same again", one, len(one) - 1},
		{"the start is shared", two, len(head)},
		{"it goes on after the prompt", append(slices.Clone(one), 3, 3, 3), len(one)},
	} {
		if got := do(c.prompt, len(head)); got != c.want {
			t.Errorf("%s: %d cached, want %d", c.name, got, c.want)
		}
	}
}

func TestSchedulerQueue(t *testing.T) {
	b := &batcher{vocab: 12, memory: 2, window: 30, slow: 2 * time.Millisecond}
	s := scheduler(t, b, generate.SchedulerOptions{Active: 1, Waiting: 2, Wait: 20 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	long := generate.Request{Prompt: []uint32{1}, Options: generate.Options{LogProbs: -1}}
	begun := make(chan bool, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		n := 0
		_, err := s.Generate(ctx, long, func(generate.Token) error {
			if n++; n == 1 {
				begun <- true
			}
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the long one: %v", err)
		}
	})
	<-begun
	errs := make(chan error, 20)
	for range 20 {
		go func() {
			_, err := s.Generate(t.Context(), long, func(generate.Token) error { return nil })
			errs <- err
		}()
	}
	busy, waited := 0, 0
	for range 20 {
		switch err := <-errs; {
		case errors.Is(err, generate.ErrBusy):
			busy++
		case errors.Is(err, generate.ErrWaited):
			waited++
		default:
			t.Errorf("%v", err)
		}
	}
	if busy == 0 || waited < 2 {
		t.Errorf("%d found too many, %d waited too long", busy, waited)
	}
	cancel()
	wg.Wait()
	short := generate.Request{Prompt: []uint32{1}, Options: generate.Options{Most: 3, LogProbs: -1}}
	if _, err := s.Generate(t.Context(), short, func(generate.Token) error { return nil }); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// Owners take turns: one with many requests does not keep another's waiting.
func TestSchedulerOwnersTakeTurns(t *testing.T) {
	b := &batcher{vocab: 12, memory: 2, window: 30, gate: make(chan bool)}
	s := scheduler(t, b, generate.SchedulerOptions{Active: 2})
	var wg sync.WaitGroup
	ask := func(owner string, prompt uint32) {
		wg.Go(func() {
			s.Generate(t.Context(), generate.Request{Prompt: []uint32{prompt}, Owner: owner, Options: generate.Options{Most: 8, LogProbs: -1}}, func(generate.Token) error { return nil })
		})
	}
	for range 30 {
		ask("greedy", 1)
	}
	until := func(n int) {
		for s.Stats().Active+s.Stats().Waiting < n {
			runtime.Gosched()
		}
	}
	until(30)
	ask("modest", marked)
	until(31)
	close(b.gate)
	wg.Wait()
	if at := b.marked.Load(); at < 1 || at > 2*8 { // two rounds of those that had begun
		t.Errorf("the modest one came in step %d of %d", at, b.steps.Load())
	}
}

// A failure is that of the requests in the step; others, and later ones, go on.
func TestSchedulerContainsFailures(t *testing.T) {
	for _, kind := range []string{"error", "panic", "guide", "panic of a guide"} {
		t.Run(kind, func(t *testing.T) {
			b := &batcher{vocab: 12, memory: 2, window: 30}
			s := scheduler(t, b, generate.SchedulerOptions{})
			r := generate.Request{Prompt: []uint32{1, 2}, Options: generate.Options{Most: 5, LogProbs: -1}}
			var broken *generate.PanicError
			switch kind {
			case "error":
				b.fail.Store(2)
			case "panic":
				b.panics.Store(2)
			case "guide":
				r.Options.Guide = guide(func() []uint64 { return []uint64{} })
			default:
				r.Options.Guide = guide(func() []uint64 { panic("no") })
			}
			res, err := s.Generate(t.Context(), r, func(generate.Token) error { return nil })
			if err == nil || errors.As(err, &broken) != (kind == "panic" || kind == "panic of a guide") {
				t.Errorf("%v, %v", res, err)
			}
			r.Options.Guide = guide(func() []uint64 { return []uint64{1 << 9} })
			res, err = s.Generate(t.Context(), r, func(generate.Token) error { return nil })
			if err != nil || !slices.Equal(res.Tokens, []uint32{9, 9, 9, 9, 9}) {
				t.Errorf("afterwards: %v, %v", res, err)
			}
		})
	}
}

// A guide holds whatever the sampling, and probabilities stay the model's own.
type guide func() []uint64

func (g guide) Allowed() ([]uint64, error) { return g(), nil }
func (g guide) Accept(uint32) error        { return nil }

// A guide that takes its time holds up nobody else, and its answer is the same;
// one that fails ends its own answer only.
func TestSchedulerSlowGuide(t *testing.T) {
	b := &batcher{vocab: 12, memory: 2, window: 30}
	s := scheduler(t, b, generate.SchedulerOptions{})
	free, asked := make(chan bool), make(chan bool, 10)
	slow := guide(func() []uint64 {
		asked <- true
		<-free
		return []uint64{1 << 9}
	})
	o := generate.Options{Most: 3, LogProbs: -1}
	type result struct {
		generate.Result
		error
	}
	held := make(chan result, 1)
	go func() {
		o := o
		o.Guide = slow
		res, err := s.Generate(t.Context(), generate.Request{Prompt: []uint32{1, 2}, Options: o}, func(generate.Token) error { return nil })
		held <- result{res, err}
	}()
	for range 3 {
		<-asked
		for range 3 {
			o.Guide = guide(func() []uint64 { return []uint64{1 << 8} })
			res, err := s.Generate(t.Context(), generate.Request{Prompt: []uint32{1, 2, 3}, Options: o}, func(generate.Token) error { return nil })
			if err != nil || !slices.Equal(res.Tokens, []uint32{8, 8, 8}) {
				t.Fatalf("beside: %v, %v", res, err)
			}
		}
		free <- true
	}
	if r := <-held; r.error != nil || !slices.Equal(r.Tokens, []uint32{9, 9, 9}) {
		t.Errorf("%+v", r)
	}
	o.Guide = failing{}
	if res, err := s.Generate(t.Context(), generate.Request{Prompt: []uint32{1, 2}, Options: o}, func(generate.Token) error { return nil }); err != errGuide || len(res.Tokens) > 0 {
		t.Errorf("%v, %v, want %v", res, err, errGuide)
	}
}

var errGuide = errors.New("too much")

type failing struct{}

func (failing) Allowed() ([]uint64, error) { return nil, errGuide }
func (failing) Accept(uint32) error        { return nil }

// A reader that is slow, or stops, holds up nobody else.
func TestSchedulerSlowReader(t *testing.T) {
	b := &batcher{vocab: 12, memory: 2, window: 30}
	s := scheduler(t, b, generate.SchedulerOptions{Active: 2})
	r := generate.Request{Prompt: []uint32{1}, Options: generate.Options{Most: 2500, LogProbs: -1}}
	want, _ := alone(t, b, r)
	free := make(chan bool)
	got := make(chan generate.Result)
	go func() {
		first := true
		res, _ := s.Generate(t.Context(), r, func(generate.Token) error {
			if first {
				first = false
				<-free
			}
			return nil
		})
		got <- res
	}()
	for range 3 {
		if res, err := s.Generate(t.Context(), r, func(generate.Token) error { return nil }); err != nil || !slices.Equal(res.Tokens, want.Tokens) {
			t.Errorf("beside a slow reader: %d tokens, %v", len(res.Tokens), err)
		}
	}
	close(free)
	if res := <-got; !slices.Equal(res.Tokens, want.Tokens) {
		t.Errorf("the slow reader: %d tokens", len(res.Tokens))
	}
}

// Clients that go leave nothing behind: no sequence, no goroutine.
func TestSchedulerForgetsWhoGoes(t *testing.T) {
	before := runtime.NumGoroutine()
	b := &batcher{vocab: 12, memory: 2, window: 30}
	s, err := generate.NewScheduler(b, generate.SchedulerOptions{Kept: 3, Waiting: 2000})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for seed := range uint64(1000) {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r := request(seed)
			r.Options.Most = 0
			n := int(seed % 17)
			if n == 0 {
				cancel()
			}
			_, err := s.Generate(ctx, r, func(generate.Token) error {
				if n--; n == 0 {
					if seed%2 == 0 {
						return generate.ErrDone
					}
					cancel()
				}
				return nil
			})
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for range 60_000 {
		if st := s.Stats(); st.Active == 0 && st.Waiting == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if st, open := s.Stats(), b.open.Load(); st.Active != 0 || open > 3 {
		t.Errorf("%+v with %d sequences", st, open)
	}
	s.Close()
	if b.open.Load() != 0 {
		t.Errorf("%d sequences are left", b.open.Load())
	}
	for i := 0; runtime.NumGoroutine() > before && i < 60_000; i++ {
		time.Sleep(time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, %d before", n, before)
	}
	if _, err := s.Generate(t.Context(), request(1), nil); !errors.Is(err, generate.ErrStopped) {
		t.Errorf("after the end: %v", err)
	}
}

// What a prompt of one share had computed is as if it were not there for another:
// the count of cached tokens says nothing of it.
func TestSchedulerShares(t *testing.T) {
	b := &batcher{vocab: 12, memory: 2, window: 10}
	s := scheduler(t, b, generate.SchedulerOptions{})
	prompt := make([]uint32, 60)
	for i := range prompt {
		prompt[i] = uint32(i * i % 11)
	}
	do := func(share string) (generate.Result, error) {
		r := generate.Request{Prompt: prompt, Marks: []int{30}, Share: share, Options: generate.Options{Most: 20, LogProbs: -1}}
		return s.Generate(t.Context(), r, func(generate.Token) error { return nil })
	}
	var want []uint32
	for _, c := range []struct {
		share  string
		cached int
	}{{"a", 0}, {"a", 59}, {"b", 0}, {"", 0}, {"b", 59}, {"a", 59}, {"", 59}} {
		res, err := do(c.share)
		if err != nil || res.Cached != c.cached {
			t.Errorf("share %q: %d cached, %v, want %d", c.share, res.Cached, err, c.cached)
		}
		if want == nil {
			want = res.Tokens
		}
		if !slices.Equal(res.Tokens, want) {
			t.Errorf("share %q: %v, want %v", c.share, res.Tokens, want)
		}
	}
}
