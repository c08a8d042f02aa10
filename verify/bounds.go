package verify

import (
	"context"
	"fmt"
	"slices"

	"ossify/checkpoint"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/oracle"
	"ossify/parity"
)

// Bounds say what a program may compute at every stage, at some positions,
// from given values of the stages before it; and, at positions of which these
// are given too, at the steps within stages.
type Bounds struct {
	Stages    []gptoss.Stage // in execution order, each after its steps if there are any
	Positions []int
	Within    []int // positions at which steps are judged, among Positions

	typ   checkpoint.DType
	spans map[string]span
	by    map[string][]float64 // of a choice, the values that it is made by
}

type span struct{ lo, hi []float64 }

// NewBounds computes bounds at positions of a sequence, from the values own of
// every stage: of keys and values all rows, of the others a row for each of the
// positions, of steps one for each of within. If only names stages or steps,
// those alone can be judged.
func NewBounds(ctx context.Context, g *graph.Graph, w oracle.Weights, q Sequence, positions, within []int, own parity.Run, a oracle.Arithmetic, only ...string) (*Bounds, error) {
	b := &Bounds{Stages: stagesOf(g, q, within), Positions: positions, Within: within, typ: checkpoint.F32, spans: map[string]span{}, by: map[string][]float64{}}
	if a.BF16 {
		b.typ = checkpoint.BF16
	}
	values, steps := parity.Run{}, map[string]gptoss.Stage{}
	for _, s := range b.Stages {
		v, rows := own[s.Name], len(b.rows(s))
		if s.Whole {
			rows = positions[len(positions)-1] + 1 - q.First
			v = v[:min(len(v), rows*s.Shape.Width())] // nobody sees what comes later
		}
		if len(v) != rows*s.Shape.Width() {
			return nil, fmt.Errorf("verify: %s: %d values, want %d rows of %d", s.Name, len(v), rows, s.Shape.Width())
		}
		if s.Op == graph.TopK { // the oracle takes them for columns
			for i, e := range v {
				if most := g.Nodes[s.In[0]].Shape.Last(); !(e >= 0 && e < float64(most)) {
					return nil, fmt.Errorf("verify: %s: expert %g at %d, want 0 to %d", s.Name, e, i, most-1)
				}
			}
			b.by[s.Name] = own[s.By]
		}
		values[s.Name] = v
		if s.Within != "" {
			steps[s.Name] = s
		}
	}
	var known func(stage string) []float64
	if len(only) > 0 {
		asked := map[string]bool{}
		for _, s := range b.Stages {
			if slices.Contains(only, s.Name) {
				asked[s.Name], asked[s.Within] = true, true // a step is computed on the way to its stage
			}
		}
		known = func(stage string) []float64 {
			if _, step := steps[stage]; step || asked[stage] {
				return nil
			}
			return values[stage]
		}
	}
	tell := tellerOf(ctx)
	err := oracle.Bounds(ctx, g, w, q.at(positions), positions, a, known, func(stage string, at []int, lo, hi []float64) ([]float64, []bool) {
		if tell != nil {
			if i := slices.IndexFunc(g.Nodes, func(n graph.Node) bool { return n.Name == stage }); i >= 0 {
				tell(stage, i, len(g.Nodes))
			}
		}
		v, ok := values[stage]
		if s, step := steps[stage]; step {
			return b.step(s, v, at, lo, hi)
		}
		if ok {
			b.spans[stage] = span{lo, hi}
		}
		return v, nil
	})
	return b, err
}

// A teller is told which node has its bounds, and how many of how many come before
// it.
type teller func(stage string, done, of int)

type tellerKey struct{}

// Telling returns a context in which NewBounds, and what computes bounds by it,
// tells how far it is.
func Telling(ctx context.Context, tell func(stage string, done, of int)) context.Context {
	return context.WithValue(ctx, tellerKey{}, teller(tell))
}

func tellerOf(ctx context.Context) teller {
	tell, _ := ctx.Value(tellerKey{}).(teller)
	return tell
}

// stagesOf returns the stages of a model, with their steps if these are judged.
func stagesOf(g *graph.Graph, q Sequence, within []int) []gptoss.Stage {
	if len(within) == 0 {
		return gptoss.Stages(g)
	}
	return gptoss.StagesAndSteps(g, len(q.Tokens))
}

// stage returns a stage, or a step within one, of the model.
func (b *Bounds) stage(name string) gptoss.Stage {
	return b.Stages[slices.IndexFunc(b.Stages, func(s gptoss.Stage) bool { return s.Name == name })]
}

// rows returns the positions at which a stage is judged.
func (b *Bounds) rows(s gptoss.Stage) []int {
	if s.Within != "" {
		return b.Within
	}
	return b.Positions
}

// step notes the bounds of a step in the rows of which own has it, and returns
// those rows. What attention leaves out at the end of its keys nobody sees.
func (b *Bounds) step(s gptoss.Stage, own []float64, at []int, lo, hi []float64) (values []float64, has []bool) {
	width, n := s.Shape.Width(), len(lo)/len(at)
	known, ok := b.spans[s.Name]
	if !ok {
		known = span{make([]float64, len(own)), make([]float64, len(own))}
		b.spans[s.Name] = known
	}
	heads := 1
	if s.Keys {
		heads = s.Shape[1]
	}
	for i, p := range at {
		row, ok := slices.BinarySearch(b.Within, p)
		if !ok {
			continue
		}
		if values == nil {
			values, has = make([]float64, len(lo)), make([]bool, len(at))
		}
		has[i] = true
		for h := range heads {
			from, to := i*n+h*n/heads, row*width+h*width/heads
			copy(values[from:][:n/heads], own[to:])
			copy(known.lo[to:], lo[from:][:n/heads])
			copy(known.hi[to:], hi[from:][:n/heads])
		}
	}
	return values, has
}

// Joined returns bounds of several runs as those of one: of positions that follow
// each other, without steps within stages.
func Joined(parts ...*Bounds) (*Bounds, error) {
	b := &Bounds{Stages: parts[0].Stages, typ: parts[0].typ, spans: map[string]span{}, by: map[string][]float64{}}
	for _, p := range parts {
		if n := len(b.Positions); len(p.Within) > 0 || p.typ != b.typ || len(p.Stages) != len(b.Stages) || n > 0 && p.Positions[0] <= b.Positions[n-1] {
			return nil, fmt.Errorf("verify: bounds from position %d on do not follow those before", p.Positions[0])
		}
		b.Positions = append(b.Positions, p.Positions...)
		for _, s := range b.Stages {
			if by, ok := p.by[s.Name]; ok {
				b.by[s.Name] = append(b.by[s.Name], by...)
			}
			if x, ok := p.spans[s.Name]; ok {
				b.spans[s.Name] = span{append(b.spans[s.Name].lo, x.lo...), append(b.spans[s.Name].hi, x.hi...)}
			}
		}
	}
	return b, nil
}

// Judge judges a stage's values, a row for each of the positions. A strict
// choice takes the lower of equal values first.
func (b *Bounds) Judge(stage string, values []float64, strict bool) (parity.StageReport, error) {
	i := slices.IndexFunc(b.Stages, func(s gptoss.Stage) bool { return s.Name == stage })
	if i < 0 {
		return parity.StageReport{}, fmt.Errorf("verify: %s: no stage of the model", stage)
	}
	rows := b.rows(b.Stages[i])
	if want := len(rows) * b.Stages[i].Shape.Width(); len(values) != want {
		return parity.StageReport{}, fmt.Errorf("verify: %s: %d values, want %d", stage, len(values), want)
	}
	if by, ok := b.by[stage]; ok {
		return parity.Chosen(stage, parity.JudgeChoice(stage, b.Positions, values, by, strict)), nil
	}
	s, ok := b.spans[stage]
	if !ok {
		return parity.StageReport{}, fmt.Errorf("verify: %s: no bounds were computed", stage)
	}
	r := parity.Fitted(stage, rows, parity.Judge(values, s.lo, s.hi, b.typ))
	if n := b.Stages[i]; n.Op == graph.Attend && n.Within == "" {
		w := n.Shape.Width()
		for row, p := range rows {
			if slices.Contains(edge(n.Heads), p) {
				r.Rows = append(r.Rows, parity.JudgeRow(p, values[row*w:][:w], s.lo[row*w:][:w], s.hi[row*w:][:w]))
			}
		}
	}
	return r, nil
}

// JudgeAll judges every stage of a run and adds them to a column.
func (b *Bounds) JudgeAll(run parity.Run, strict bool, add func(parity.StageReport) error) error {
	for _, s := range b.Stages {
		v := run[s.Name]
		if s.Whole {
			v = parity.At(v, s.Shape.Width(), parity.UpTo(len(v)/s.Shape.Width()), b.Positions)
		}
		r, err := b.Judge(s.Name, v, strict)
		if err == nil {
			err = add(r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A Keeper keeps what a run shows: of keys and values every row, of the other
// stages those at some positions, of the steps within stages those at others.
type Keeper struct {
	Run    parity.Run
	stages map[string]gptoss.Stage
	keep   map[int]bool
	within map[int]bool
	next   map[string]int
}

// NewKeeper returns one that has seen nothing.
func NewKeeper(stages []gptoss.Stage, positions, within []int) *Keeper {
	k := &Keeper{Run: parity.Run{}, stages: map[string]gptoss.Stage{}, keep: map[int]bool{}, within: map[int]bool{}, next: map[string]int{}}
	for _, s := range stages {
		k.stages[s.Name] = s
	}
	for _, p := range positions {
		k.keep[p] = true
	}
	for _, p := range within {
		k.within[p] = true
	}
	return k
}

// Knows reports whether a stage is one of those that are kept.
func (k *Keeper) Knows(stage string) bool { _, ok := k.stages[stage]; return ok }

// Skip says that the next row of a stage will be that of position p.
func (k *Keeper) Skip(stage string, p int) { k.next[stage] = p }

// See is shown a stage: its values, a row for each of the positions at. They
// come in order; without a gap, but for steps.
func (k *Keeper) See(stage string, at []int, values []float64) error {
	s, ok := k.stages[stage]
	if !ok {
		return nil
	}
	width := s.Shape.Width()
	if len(values) != len(at)*width {
		return fmt.Errorf("verify: %s: %d values for %d rows of %d", stage, len(values), len(at), width)
	}
	for i, p := range at {
		if next := k.next[stage]; p < next || p > next && s.Within == "" {
			return fmt.Errorf("verify: %s: row of position %d, want %d", stage, p, next)
		}
		k.next[stage] = p + 1
		if s.Whole || s.Within == "" && k.keep[p] || s.Within != "" && k.within[p] {
			k.Run[stage] = append(k.Run[stage], values[i*width:(i+1)*width]...)
		}
	}
	return nil
}
