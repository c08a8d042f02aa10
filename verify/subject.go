package verify

import (
	"context"
	"fmt"
	"slices"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/parity"
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
	// the wanted stages, of what is within them the rows that s names. If wanted
	// is nil it is not watched, and shows the last.
	Free(ctx context.Context, tokens []uint32, s Steps, wanted func(stage string) bool, see See) error
}

// See is shown a stage, or a step within one: its values, a row for each of the
// positions at. It may keep them. An error ends the run.
type See func(stage string, at []int, values []float64) error

// Steps say how a sequence passes through a cache: in chunks, then the last
// Decode tokens one by one.
type Steps struct {
	Chunk, Decode int

	Within []int // positions of which Free shows what is within stages, rising
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
	steps  map[string]gptoss.Stage // what is within stages
	over   engine.Tap              // what stands in for stages of a run that is not forced; may be nil
}

// tap returns a tap that sees what stands in for a stage.
func (s engineSubject) tap(see engine.Tap) engine.Tap {
	if s.over == nil {
		return see
	}
	return func(stage string, at []int, values []float32) []float32 {
		own := s.over(stage, at, values)
		if own != nil {
			values = own
		}
		if see != nil {
			if by := see(stage, at, values); by != nil {
				return by
			}
		}
		return own
	}
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
	s := engineSubject{m: m, logits: g.Nodes[g.Output()].Name, steps: map[string]gptoss.Stage{}}
	for _, step := range gptoss.StagesAndSteps(g, 0) {
		if step.Within != "" {
			s.steps[step.Name] = step
		}
	}
	return s, nil
}

func (s engineSubject) Name() string {
	return fmt.Sprintf("engine %v, %s kernels", s.m.Precision(), s.m.Kernels())
}

func (s engineSubject) Forced(ctx context.Context, t *Golden, see See) error {
	r := watch(ctx, see)
	_, err := s.m.Replay(r.ctx, t.Sequence().at(t.Judged()), t.Judged(), s.forcing(r, t, func(stage string, _ []int, _ []float32) []float32 {
		return convert[float32](t.values[stage])
	}))
	return r.end(err)
}

func (s engineSubject) Cached(ctx context.Context, t *Golden, steps Steps, see See) error {
	r := watch(ctx, see)
	stages := map[string]gptoss.Stage{}
	for _, s := range t.stages {
		stages[s.Name] = s
	}
	tap := s.forcing(r, t, func(stage string, at []int, values []float32) []float32 {
		width := len(values) / len(at)
		own := slices.Clone(values)
		for i, p := range at {
			if from, ok := t.row(stages[stage], p); ok {
				copy(own[i*width:], convert[float32](t.values[stage][from*width:][:width]))
			}
		}
		return own
	})
	return r.end(s.through(r.ctx, t.Tokens(), steps, tap, nil))
}

// forcing returns a tap that shows what the golden has. In place of a step stands
// what step returns of it, in place of another stage what forced returns.
func (s engineSubject) forcing(r *watched, t *Golden, forced engine.Tap) engine.Tap {
	return func(stage string, at []int, values []float32) []float32 {
		if _, ok := t.values[stage]; !ok {
			return nil
		}
		if step, ok := s.steps[stage]; ok {
			return s.step(r, t, step, at, values)
		}
		r.see(stage, at, convert[float64](values))
		return forced(stage, at, values)
	}
}

// step shows the rows of a step that the golden has, and returns the engine's
// values with these replaced; nil if there are none.
func (s engineSubject) step(r *watched, t *Golden, step gptoss.Stage, at []int, values []float32) []float32 {
	var rows []int
	var shown []float64
	var own []float32
	tokens, width := len(t.Tokens()), len(values)/len(at)
	for i, p := range at {
		from, ok := t.row(step, p)
		if !ok {
			continue
		}
		if own == nil {
			own = slices.Clone(values)
		}
		rows, shown = append(rows, p), append(shown, columns(step, values[i*width:][:width], t.First, tokens)...)
		reference := t.values[step.Name]
		n := len(reference) / len(t.Steps())
		replace(step, own[i*width:][:width], reference[from*n:][:n], t.First)
	}
	if rows != nil {
		r.see(step.Name, rows, shown)
	}
	return own
}

// columns returns a row of a step: of attention, where the engine shows a column
// for each position from 0 on, one for each token of a sequence.
func columns(step gptoss.Stage, row []float32, first, tokens int) []float64 {
	if !step.Keys {
		return convert[float64](row)
	}
	heads := step.Shape[1]
	n := len(row) / heads
	out := make([]float64, heads*tokens)
	for h := range heads {
		for j := range max(0, min(tokens, n-first)) {
			out[h*tokens+j] = float64(row[h*n+first+j])
		}
	}
	return out
}

// replace is the reverse of columns.
func replace(step gptoss.Stage, row []float32, by []float64, first int) {
	heads := 1
	if step.Keys {
		heads = step.Shape[1]
	} else {
		first = 0
	}
	n, tokens := len(row)/heads, len(by)/heads
	for h := range heads {
		for j := range max(0, min(tokens, n-first)) {
			row[h*n+first+j] = float32(by[h*tokens+j])
		}
	}
}

func (s engineSubject) Free(ctx context.Context, tokens []uint32, steps Steps, wanted func(stage string) bool, see See) error {
	r := watch(ctx, see)
	if wanted == nil {
		return r.end(s.through(r.ctx, tokens, steps, nil, func(at []int, logits []float32) {
			r.see(s.logits, at, convert[float64](logits))
		}))
	}
	tap := func(stage string, at []int, values []float32) []float32 {
		if !wanted(stage) {
			return nil
		}
		step, ok := s.steps[stage]
		if !ok {
			r.see(stage, at, convert[float64](values))
			return nil
		}
		var rows []int
		var shown []float64
		width := len(values) / len(at)
		for i, p := range at {
			if _, ok := slices.BinarySearch(steps.Within, p); ok {
				rows, shown = append(rows, p), append(shown, columns(step, values[i*width:][:width], 0, len(tokens))...)
			}
		}
		if rows != nil {
			r.see(stage, rows, shown)
		}
		return nil
	}
	return r.end(s.through(r.ctx, tokens, steps, tap, nil))
}

// through passes tokens through a session in steps.
func (s engineSubject) through(ctx context.Context, tokens []uint32, steps Steps, tap engine.Tap, done func(at []int, logits []float32)) error {
	session, first := s.m.NewSession(), 0
	for _, n := range steps.sizes(len(tokens)) {
		logits, err := session.Trace(ctx, tokens[first:first+n], s.tap(tap))
		if err != nil {
			return err
		}
		if done != nil {
			done(parity.UpTo(first + n)[first:], logits)
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
