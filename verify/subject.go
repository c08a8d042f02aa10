package verify

import (
	"context"
	"fmt"

	"ossify/engine"
	"ossify/graph"
	"ossify/oracle"
	"ossify/weight"
)

// A Subject is a program that computes the model.
type Subject interface {
	// Name says which program, with what settings.
	Name() string

	// Forced computes every stage from the golden's values of the stages before
	// it and shows it: a row for each of the golden's positions.
	Forced(ctx context.Context, t *Golden, see See) error

	// Free computes a sequence from nothing but its tokens and shows the wanted
	// stages, in one go or in chunks.
	Free(ctx context.Context, tokens []uint32, wanted func(stage string) bool, see See) error
}

// See is shown a stage: its values, a row for each of the positions at. It may
// keep them. An error ends the run.
type See func(stage string, at []int, values []float64) error

// decoded is how many tokens at the end a free-running engine takes one by one,
// as decoding does; the others come in chunks of chunk. Both read a cache that
// chunks before them filled.
const (
	decoded = 8
	chunk   = 64
)

type engineSubject struct {
	m     *engine.Model
	whole bool // free runs take no token one by one
}

// Engine returns our engine as a subject.
func Engine(g *graph.Graph, w *weight.Set, o engine.Options) (Subject, error) {
	o.Chunk = chunk
	m, err := engine.New(g, w, o)
	if err != nil {
		return nil, err
	}
	return engineSubject{m: m}, nil
}

func (s engineSubject) Name() string {
	return fmt.Sprintf("engine %v, %s kernels", s.m.Precision(), s.m.Kernels())
}

func (s engineSubject) Forced(ctx context.Context, t *Golden, see See) error {
	r := watch(ctx, see)
	_, err := s.m.Replay(r.ctx, t.tokensAt(), t.Positions(), func(stage string, at []int, values []float32) []float32 {
		ref, ok := t.stages[stage]
		if !ok {
			return nil
		}
		r.see(stage, at, convert[float64](values))
		return convert[float32](ref.Float64s())
	})
	return r.end(err)
}

func (s engineSubject) Free(ctx context.Context, tokens []uint32, wanted func(stage string) bool, see See) error {
	r := watch(ctx, see)
	tap := func(stage string, at []int, values []float32) []float32 {
		if wanted(stage) {
			r.see(stage, at, convert[float64](values))
		}
		return nil
	}
	session := s.m.NewSession()
	first := len(tokens)
	if !s.whole {
		first = max(min(1, first), first-decoded)
	}
	_, err := session.Trace(r.ctx, tokens[:first], tap)
	for i := first; i < len(tokens) && err == nil; i++ {
		_, err = session.Trace(r.ctx, tokens[i:i+1], tap)
	}
	return r.end(err)
}

type oracleSubject struct {
	g *graph.Graph
	w oracle.Weights
}

// Oracle returns the float64 oracle as a subject.
func Oracle(g *graph.Graph, w oracle.Weights) Subject { return oracleSubject{g, w} }

func (s oracleSubject) Name() string { return "oracle f64" }

func (s oracleSubject) Forced(ctx context.Context, t *Golden, see See) error {
	r := watch(ctx, see)
	_, err := oracle.Run(r.ctx, s.g, s.w, t.tokensAt(), t.Positions(), func(stage string, at []int, values []float64) []float64 {
		ref, ok := t.stages[stage]
		if !ok {
			return nil
		}
		r.see(stage, at, values)
		return ref.Float64s()
	})
	return r.end(err)
}

func (s oracleSubject) Free(ctx context.Context, tokens []uint32, wanted func(stage string) bool, see See) error {
	r := watch(ctx, see)
	_, err := oracle.Run(r.ctx, s.g, s.w, tokens, upTo(len(tokens)), func(stage string, at []int, values []float64) []float64 {
		if wanted(stage) {
			r.see(stage, at, values)
		}
		return nil
	})
	return r.end(err)
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
