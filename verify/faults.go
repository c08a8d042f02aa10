package verify

import (
	"context"
	"fmt"

	"ossify/checkpoint"
	"ossify/engine"
	"ossify/fault"
	"ossify/graph"
	"ossify/parity"
	"ossify/weight"
)

// A FaultReport says which of the known bugs a comparison with a golden finds.
type FaultReport struct {
	Precision string          `json:"precision"`
	Clean     string          `json:"clean,omitempty"` // the first stage of the model without a fault that fails; none should
	Faults    []parity.Caught `json:"faults"`
}

// Caught returns how many faults were caught at their stage.
func (r *FaultReport) Caught() int {
	n := 0
	for _, c := range r.Faults {
		if c.OK() {
			n++
		}
	}
	return n
}

// OK reports whether every fault was caught, and the clean model passed.
func (r *FaultReport) OK() bool {
	return r.Clean == "" && len(r.Faults) > 0 && r.Caught() == len(r.Faults)
}

// Faults puts the faults of package fault into the model, one at a time, and
// judges each on a golden's values, all rows at once and through the cache. A
// fault of bfloat16 arithmetic is left out where the golden is in float32. seen,
// which may be nil, is called after each.
//
// A fault of the weights takes memory for a copy of those that it changes.
func Faults(ctx context.Context, g *graph.Graph, w *weight.Set, t *Golden, o engine.Options, seen func(parity.Caught)) (*FaultReport, error) {
	if t.First > 0 {
		return nil, fmt.Errorf("verify: a golden that begins at position %d, want 0 for the fault table: some faults are in the cache", t.First)
	}
	return faults(ctx, g, w, t, o, fault.Table(), seen)
}

func faults(ctx context.Context, g *graph.Graph, w *weight.Set, t *Golden, o engine.Options, table []fault.Fault, seen func(parity.Caught)) (*FaultReport, error) {
	b, err := t.bounds(ctx, g, w, t.arithmetic())
	if err != nil {
		return nil, err
	}
	o.Precision = t.Precision
	clean, err := Engine(g, w, o)
	if err != nil {
		return nil, err
	}
	r := &FaultReport{Precision: t.Precision.String()}
	at, err := judged(ctx, b, g, t, clean)
	if err != nil {
		return nil, err
	}
	r.Clean = at.At
	var known cleanRuns
	for _, f := range table {
		if f.Unrounded && t.Precision != engine.BF16 {
			continue
		}
		s, err := faulty(g, w, f, o, clean, &known)
		if err != nil {
			return nil, fmt.Errorf("%w (with the fault %q)", err, f.Name)
		}
		c, err := judged(ctx, b, g, t, s)
		if err != nil {
			return nil, fmt.Errorf("%w (with the fault %q)", err, f.Name)
		}
		c.Name, c.Want, c.Step = f.Name, f.Stage, f.Step
		r.Faults = append(r.Faults, c)
		if seen != nil {
			seen(c)
		}
	}
	return r, nil
}

// judged returns the first stage of a subject that fails, all rows at once, else
// through the cache.
func judged(ctx context.Context, b *Bounds, g *graph.Graph, t *Golden, s Subject) (parity.Caught, error) {
	forced, cached := &parity.Column{Name: columnForced}, &parity.Column{Name: columnCached}
	if err := s.Forced(ctx, t, judging(b, forced.Add)); err != nil {
		return parity.Caught{}, err
	}
	if forced.First == "" && t.First == 0 { // a cache begins at position 0
		k := NewKeeper(b.Stages, t.Positions(), t.Within())
		if err := s.Cached(ctx, t, StepsOf(g, len(t.Tokens())), k.See); err != nil {
			return parity.Caught{}, err
		}
		if err := b.JudgeAll(k.Run, true, cached.Add); err != nil {
			return parity.Caught{}, err
		}
	}
	r := parity.Report{Columns: []*parity.Column{forced, cached}}
	r.Judge()
	c := parity.Caught{At: r.First, Where: r.Where}
	for _, col := range r.Columns {
		for _, s := range col.Stages {
			if col.Name != c.Where || s.Verdict != parity.Fail {
				continue
			}
			if c.Stages = append(c.Stages, s.Name); s.Name == c.At {
				c.Why = s.Why
			}
		}
	}
	return c, nil
}

// faulty returns the engine with a fault, everywhere or where the fault is.
func faulty(g *graph.Graph, w *weight.Set, f fault.Fault, o engine.Options, clean Subject, known *cleanRuns) (Subject, error) {
	if f.Unrounded {
		o.Precision = engine.F32
		s, err := Engine(g, w, o)
		return unrounded{s}, err
	}
	bad, weights := f.Apply(g, w)
	s, err := Engine(bad, weights, o)
	if err != nil || f.From == 0 && !f.Decode {
		return s, err
	}
	return mixed{clean, s, f, known}, nil
}

// A fullRun is what a subject shows: by stage, by position.
type fullRun map[string]map[int][]float64

// cleanRuns are those of the model without a fault on one golden, made when the
// first is asked for.
type cleanRuns struct{ forced, cached fullRun }

// mixed is a subject that turns into another one: at a position, or where it
// decodes.
type mixed struct {
	Subject
	bad   Subject
	f     fault.Fault
	known *cleanRuns
}

func (m mixed) Forced(ctx context.Context, t *Golden, see See) error {
	if m.f.Decode { // no row is decoded
		return m.Subject.Forced(ctx, t, see)
	}
	return m.mix(m.f.From, see, &m.known.forced, func(s Subject, see See) error { return s.Forced(ctx, t, see) })
}

func (m mixed) Cached(ctx context.Context, t *Golden, steps Steps, see See) error {
	from := m.f.From
	if m.f.Decode {
		from = len(t.Tokens()) - steps.Decode
	}
	return m.mix(from, see, &m.known.cached, func(s Subject, see See) error { return s.Cached(ctx, t, steps, see) })
}

// mix shows the rows before position from as the good subject has them, and the
// others as the bad one has.
func (m mixed) mix(from int, see See, clean *fullRun, do func(Subject, See) error) error {
	if *clean == nil {
		run := fullRun{}
		err := do(m.Subject, func(stage string, at []int, values []float64) error {
			if run[stage] == nil {
				run[stage] = map[int][]float64{}
			}
			width := len(values) / len(at)
			for j, p := range at {
				run[stage][p] = values[j*width : (j+1)*width]
			}
			return nil
		})
		if err != nil {
			return err
		}
		*clean = run
	}
	return do(m.bad, func(stage string, at []int, values []float64) error {
		width := len(values) / len(at)
		for j, p := range at {
			if p >= from {
				continue
			}
			good := (*clean)[stage][p]
			if len(good) != width {
				return fmt.Errorf("verify: %s: %d values at position %d with the fault, %d without", stage, width, p, len(good))
			}
			copy(values[j*width:], good)
		}
		return see(stage, at, values)
	})
}

// unrounded is a subject in float32 whose results are rounded to bfloat16.
type unrounded struct{ Subject }

func (u unrounded) Forced(ctx context.Context, t *Golden, see See) error {
	return u.Subject.Forced(ctx, t, narrowed(see))
}

func (u unrounded) Cached(ctx context.Context, t *Golden, s Steps, see See) error {
	return u.Subject.Cached(ctx, t, s, narrowed(see))
}

func narrowed(see See) See {
	return func(stage string, at []int, values []float64) error {
		out := make([]float64, len(values))
		for i, v := range values {
			out[i] = parity.Round(v, checkpoint.BF16)
		}
		return see(stage, at, out)
	}
}
