package verify

import (
	"context"
	"fmt"

	"ossify/engine"
	"ossify/graph"
	"ossify/weight"
)

// A Subject is a program that computes the model.
type Subject interface {
	// Name says which program, with what settings.
	Name() string

	// Forced computes every stage from the golden's values of the stages before
	// it and shows it: a row for each of the golden's positions, all at once.
	Forced(ctx context.Context, t *Golden, see See) error

	// Cached is Forced through a cache: the sequence comes in steps, which are
	// shown one after the other with all their rows. Those that the golden does
	// not hold are computed from the subject's own values.
	Cached(ctx context.Context, t *Golden, s Steps, see See) error

	// Free computes a sequence from nothing but its tokens, in steps, and shows
	// the wanted stages. If wanted is nil it is not watched, and shows the last.
	Free(ctx context.Context, tokens []uint32, s Steps, wanted func(stage string) bool, see See) error
}

// See is shown a stage: its values, a row for each of the positions at. It may
// keep them. An error ends the run.
type See func(stage string, at []int, values []float64) error

// Steps say how a sequence passes through a cache: in chunks, then the last
// Decode tokens one by one.
type Steps struct {
	Chunk, Decode int
}

// sizes returns the number of tokens of each step.
func (s Steps) sizes(tokens int) []int {
	var sizes []int
	for left := tokens - s.Decode; left > 0; left -= s.Chunk {
		sizes = append(sizes, min(s.Chunk, left))
	}
	for range min(s.Decode, tokens) {
		sizes = append(sizes, 1)
	}
	return sizes
}

// chunk is the size of a step of a prefill. It is not a multiple of any window.
const chunk = 60

type engineSubject struct {
	m      *engine.Model
	logits string
}

// Engine returns our engine as a subject.
func Engine(g *graph.Graph, w *weight.Set, o engine.Options) (Subject, error) {
	o.Chunk = chunk
	return engineOf(g, w, o)
}

func engineOf(g *graph.Graph, w *weight.Set, o engine.Options) (Subject, error) {
	m, err := engine.New(g, w, o)
	if err != nil {
		return nil, err
	}
	return engineSubject{m, g.Nodes[g.Output()].Name}, nil
}

func (s engineSubject) Name() string {
	return fmt.Sprintf("engine %v, %s kernels", s.m.Precision(), s.m.Kernels())
}

func (s engineSubject) Forced(ctx context.Context, t *Golden, see See) error {
	r := watch(ctx, see)
	_, err := s.m.Replay(r.ctx, t.Sequence().at(t.Judged()), t.Judged(), func(stage string, at []int, values []float32) []float32 {
		reference, ok := t.values[stage]
		if !ok {
			return nil
		}
		r.see(stage, at, convert[float64](values))
		return convert[float32](reference)
	})
	return r.end(err)
}

func (s engineSubject) Cached(ctx context.Context, t *Golden, steps Steps, see See) error {
	r := watch(ctx, see)
	row := map[int]int{} // of a position, in the golden
	for i, p := range t.Positions() {
		row[p] = i
	}
	whole := map[string]bool{}
	for _, s := range t.stages {
		whole[s.Name] = s.Whole
	}
	tap := func(stage string, at []int, values []float32) []float32 {
		reference, ok := t.values[stage]
		if !ok {
			return nil
		}
		r.see(stage, at, convert[float64](values))
		width := len(values) / len(at)
		own := append([]float32(nil), values...)
		for i, p := range at {
			from, ok := row[p]
			if whole[stage] {
				from, ok = p, true
			}
			if ok {
				copy(own[i*width:], convert[float32](reference[from*width:][:width]))
			}
		}
		return own
	}
	return r.end(s.through(r.ctx, t.Tokens(), steps, tap, nil))
}

func (s engineSubject) Free(ctx context.Context, tokens []uint32, steps Steps, wanted func(stage string) bool, see See) error {
	r := watch(ctx, see)
	if wanted == nil {
		return r.end(s.through(r.ctx, tokens, steps, nil, func(at []int, logits []float32) {
			r.see(s.logits, at, convert[float64](logits))
		}))
	}
	tap := func(stage string, at []int, values []float32) []float32 {
		if wanted(stage) {
			r.see(stage, at, convert[float64](values))
		}
		return nil
	}
	return r.end(s.through(r.ctx, tokens, steps, tap, nil))
}

// through passes tokens through a session in steps.
func (s engineSubject) through(ctx context.Context, tokens []uint32, steps Steps, tap engine.Tap, done func(at []int, logits []float32)) error {
	session, first := s.m.NewSession(), 0
	for _, n := range steps.sizes(len(tokens)) {
		logits, err := session.Trace(ctx, tokens[first:first+n], tap)
		if err != nil {
			return err
		}
		if done != nil {
			done(upTo(first + n)[first:], logits)
		}
		first += n
	}
	return nil
}

// A watched run is cancelled by the first error of what watches it.
type watched struct {
	ctx    context.Context
	cancel context.CancelFunc
	look   See
	err    error
}

func watch(ctx context.Context, see See) *watched {
	ctx, cancel := context.WithCancel(ctx)
	return &watched{ctx: ctx, cancel: cancel, look: see}
}

func (r *watched) see(stage string, at []int, values []float64) {
	if r.err != nil {
		return
	}
	if r.err = r.look(stage, at, values); r.err != nil {
		r.cancel()
	}
}

// end returns the error of a run that ended with err.
func (r *watched) end(err error) error {
	r.cancel()
	if r.err != nil {
		return r.err
	}
	return err
}

func convert[To, From float32 | float64](values []From) []To {
	out := make([]To, len(values))
	for i, v := range values {
		out[i] = To(v)
	}
	return out
}
