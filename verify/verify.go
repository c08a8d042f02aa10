package verify

import (
	"context"
	"fmt"
	"path/filepath"

	"ossify/graph"
	"ossify/parity"
)

// Options choose how a comparison is made.
type Options struct {
	// OracleMost is the largest number of multiplications that the free-running
	// oracle may take: about a thousand million a second and processor.
	OracleMost float64

	// Progress, which may be nil, is told what begins.
	Progress func(what string)
}

// Run compares subjects with a golden of the model g, and both with exact, which
// is the oracle. The report still lacks what is known of the checkpoint.
func Run(ctx context.Context, g *graph.Graph, t *Golden, subjects []Subject, exact Subject, o Options) (*parity.Report, error) {
	say := func(format string, args ...any) {
		if o.Progress != nil {
			o.Progress(fmt.Sprintf(format, args...))
		}
	}
	r := &parity.Report{
		Golden: filepath.Base(t.Path()), Precision: t.Precision.String(), Tokens: len(t.Tokens()), Positions: len(t.Positions()),
		Reference: t.Metadata(), Tolerances: parity.Stated(),
	}
	say("%s, teacher-forced", exact.Name())
	truth := parity.Run{}
	if err := exact.Forced(ctx, t, keep(truth)); err != nil {
		return nil, err
	}
	for _, s := range subjects {
		say("%s, teacher-forced", s.Name())
		p := &parity.Program{Name: s.Name()}
		if err := compare(ctx, t, s, truth, r.Tolerances, p.Add); err != nil {
			return nil, err
		}
		if len(p.Stages) != len(t.nodes) {
			return nil, fmt.Errorf("verify: %s: %d stages, want %d", s.Name(), len(p.Stages), len(t.nodes))
		}
		r.Programs = append(r.Programs, p)
	}

	run := newFree(t)
	var free parity.Run
	var unjudged string
	if cost := Cost(g, len(t.Tokens())); cost > o.OracleMost {
		unjudged = fmt.Sprintf("The free-running oracle would take %.2g multiplications, more than %.2g: it was left out.", cost, o.OracleMost)
	} else {
		say("%s, free-running", exact.Name())
		var err error
		if free, err = run.of(ctx, exact); err != nil {
			return nil, err
		}
	}
	reference := parity.Run{}
	for stage := range run.wanted {
		reference[stage] = t.rows(stage)
	}
	for i, s := range subjects {
		say("%s, free-running", s.Name())
		ours, err := run.of(ctx, s)
		if err != nil {
			return nil, err
		}
		f := r.Tolerances.CompareFree(t.Positions(), run.routes, run.logits, reference, ours, free, t.dtype())
		f.Unjudged = unjudged
		r.Programs[i].Free = f
	}
	r.Judge()
	return r, nil
}

// keep returns a See that keeps every stage.
func keep(run parity.Run) See {
	return func(stage string, _ []int, values []float64) error {
		run[stage] = values
		return nil
	}
}

// compare runs s teacher-forced and compares each stage. exact may be nil.
func compare(ctx context.Context, t *Golden, s Subject, exact parity.Run, tol parity.Tolerances, add func(parity.StageReport) error) error {
	return s.Forced(ctx, t, func(stage string, _ []int, ours []float64) error {
		reference := t.rows(stage)
		if len(ours) != len(reference) {
			return fmt.Errorf("verify: %s: %s: %d values, want %d", s.Name(), stage, len(ours), len(reference))
		}
		if t.stages[stage].Indices() {
			return add(tol.CompareChoice(stage, t.Positions(), reference, ours, t.rows(parity.Gate(stage))))
		}
		e := parity.Measure(reference, ours, exact[stage], t.dtype())
		shape := t.stages[stage].Shape
		e.ByChannel(reference, ours, shape[len(shape)-1])
		return add(t.tolerances(stage, tol).JudgeStage(stage, e, t.dtype()))
	})
}

// free says what is kept of free runs.
type free struct {
	t      *Golden
	routes []string // stages of experts, in order
	logits string
	wanted map[string]bool
}

func newFree(t *Golden) *free {
	f := &free{t: t, logits: t.nodes[len(t.nodes)-1].Name, wanted: map[string]bool{}}
	for _, n := range t.nodes {
		if n.Op == graph.TopK {
			f.routes = append(f.routes, n.Name)
			f.wanted[n.Name], f.wanted[parity.Gate(n.Name)] = true, true
		}
	}
	f.wanted[f.logits] = true
	return f
}

// of runs s freely and keeps the wanted stages at the golden's positions.
func (f *free) of(ctx context.Context, s Subject) (parity.Run, error) {
	run := parity.Run{}
	next := map[string]int{} // position that the stage shows next
	positions := map[int]bool{}
	for _, p := range f.t.Positions() {
		positions[p] = true
	}
	err := s.Free(ctx, f.t.Tokens(), func(stage string) bool { return f.wanted[stage] }, func(stage string, at []int, values []float64) error {
		width := f.t.stages[stage].Width()
		if len(values) != len(at)*width {
			return fmt.Errorf("verify: %s: %s: %d values for %d rows of %d", s.Name(), stage, len(values), len(at), width)
		}
		for i, p := range at {
			if p != next[stage] {
				return fmt.Errorf("verify: %s: %s: row of position %d, want %d", s.Name(), stage, p, next[stage])
			}
			next[stage]++
			if positions[p] {
				run[stage] = append(run[stage], values[i*width:(i+1)*width]...)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for stage := range f.wanted {
		if next[stage] != len(f.t.Tokens()) {
			return nil, fmt.Errorf("verify: %s: %s: %d rows, want %d", s.Name(), stage, next[stage], len(f.t.Tokens()))
		}
	}
	return run, nil
}

// Cost returns how many multiplications g takes for a sequence of that length.
func Cost(g *graph.Graph, tokens int) float64 {
	t, sum := float64(tokens), 0.0
	for _, n := range g.Nodes {
		switch n.Op {
		case graph.Linear, graph.ExpertLinear:
			sum += t * float64(n.Shape.Width()) * float64(g.Params[n.Params[0]].Shape.Last())
		case graph.Attend:
			sum += 2 * t * t * float64(n.Shape.Width()) // as the oracle does it: every key, in view or not
		}
	}
	return sum
}
