package verify

import (
	"fmt"
	"math"
	"slices"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/parity"
)

// Bounds of what is judged beside the reference (docs/parity.md).
const (
	near     = 1e-4 // |Δ| of two programs in float32, each from its own values, in units of the rms
	nearMost = 1e-3 // and absolutely
	noWorse  = 1.05 // the engine's rms error of a stage, of the reference's
)

// noWorseOf is noWorse for a stage of n elements: of few, two equal programs'
// rms errors differ by more, five standard deviations of it.
func noWorseOf(n int) float64 { return max(noWorse, 1+3.2/math.Sqrt(float64(n))) }

// A Routing is the reference's choices of experts at every position of a
// sequence: a trace of the stages that choose and of those by which they do.
type Routing struct {
	*parity.Trace
	stages []gptoss.Stage // that choose, in execution order
	values parity.Run     // of the choices and of what they are made by
}

// OpenRouting opens a trace of choices and proves that it is of the model g and
// of the golden's sequence and precision.
func OpenRouting(path string, g *graph.Graph, golden *Golden) (*Routing, error) {
	t, err := parity.OpenTrace(path)
	if err != nil {
		return nil, err
	}
	r := &Routing{Trace: t, values: parity.Run{}}
	if err := r.prove(g, golden); err != nil {
		t.Close()
		return nil, fmt.Errorf("verify: %s: %w", path, err)
	}
	return r, nil
}

func (r *Routing) prove(g *graph.Graph, golden *Golden) error {
	switch {
	case golden.First > 0:
		return fmt.Errorf("beside a golden that begins at position %d, want 0", golden.First)
	case !slices.Equal(r.Tokens(), golden.Tokens()):
		return fmt.Errorf("other tokens than the golden's %d", len(golden.Tokens()))
	case r.Precision() != golden.Trace.Precision():
		return fmt.Errorf("precision %v, the golden has %v", r.Precision(), golden.Trace.Precision())
	case r.Metadata()["checkpoint"] != golden.Metadata()["checkpoint"]:
		return fmt.Errorf("of another checkpoint than the golden")
	}
	for _, s := range gptoss.Stages(g) {
		if s.Op != graph.TopK {
			continue
		}
		r.stages = append(r.stages, s)
		for _, n := range []graph.Node{s.Node, g.Nodes[s.In[0]]} {
			have, ok := r.Stage(n.Name)
			if !ok || have.Rows() != len(r.Tokens()) || have.Width() != n.Shape.Width() || have.Indices() != (n.Op == graph.TopK) {
				return fmt.Errorf("%s: want it with a row of %d for each of the %d tokens", n.Name, n.Shape.Width(), len(r.Tokens()))
			}
			r.values[n.Name] = have.Float64s()
		}
	}
	return nil
}

// A Beside judges a program's own run by the reference's own: choices of
// experts at all positions, logits.
type Beside struct {
	r      *Routing
	t      *Golden
	kept   *Keeper // the run's choices, at all positions
	logits *Keeper // at the golden's
}

// NewBeside returns one that has seen nothing.
func NewBeside(r *Routing, t *Golden) *Beside {
	last := t.stages[len(t.stages)-1]
	return &Beside{r, t, NewKeeper(r.stages, parity.UpTo(len(r.Tokens())), nil), NewKeeper([]gptoss.Stage{last}, t.Positions(), nil)}
}

// See is shown the stages of a run of the golden's sequence, which may go on.
func (b *Beside) See(stage string, at []int, values []float64) error {
	rows := 0
	for rows < len(at) && at[rows] < len(b.r.Tokens()) {
		rows++
	}
	if rows == 0 {
		return nil
	}
	at, values = at[:rows], values[:rows*(len(values)/len(at))]
	if err := b.logits.See(stage, at, values); err != nil {
		return err
	}
	return b.kept.See(stage, at, values)
}

// A turn is the first choice of a row that is not the reference's.
type turn struct {
	layer    int // index of the stage that chooses
	position int
	gap      float64 // between the reference's last that is chosen and the next, in units of the rms
}

// choices compares the run's sets of experts with the reference's. A row whose
// choice is turned is another computation from there on, and so are, in later
// layers, the rows that see it: turns has those before which nothing was turned,
// compared counts the sets up to them, same those of all that are equal. clean
// is how many positions, from the first, have no turn in any layer.
func (b *Beside) choices() (turns []turn, clean, compared, same, all int) {
	rows := len(b.r.Tokens())
	first := slices.Repeat([]int{len(b.r.stages)}, rows) // layer of a row's first turn
	differs := func(s gptoss.Stage, p int) bool {
		k := s.Shape.Width()
		ref, our := slices.Clone(b.r.values[s.Name][p*k:][:k]), slices.Clone(b.kept.Run[s.Name][p*k:][:k])
		slices.Sort(ref)
		slices.Sort(our)
		return !slices.Equal(ref, our)
	}
	for l, s := range b.r.stages {
		for p := range rows {
			if all++; !differs(s, p) {
				same++
			} else if first[p] > l {
				first[p] = l
			}
		}
	}
	least, clean := len(b.r.stages), rows // earliest turn among the positions so far
	for p := range rows {
		if first[p] <= least && first[p] < len(b.r.stages) {
			s := b.r.stages[first[p]]
			turns = append(turns, turn{first[p], p, b.gap(s, p)})
			if clean == rows {
				clean = p
			}
		}
		compared += min(first[p]+1, least+1, len(b.r.stages))
		least = min(least, first[p])
	}
	return turns, clean, compared, same, all
}

// gap returns how far the reference's last expert in a row is above the next,
// in units of the rms of its gate values.
func (b *Beside) gap(s gptoss.Stage, p int) float64 {
	gate := b.r.values[s.By]
	n := len(gate) / len(b.r.Tokens())
	row := slices.Clone(gate[p*n:][:n])
	slices.Sort(row)
	squares := 0.0
	for _, v := range gate {
		squares += v * v
	}
	at := n - s.Shape.Width()
	if at < 1 {
		return math.Inf(1) // all are chosen: none can turn
	}
	return (row[at] - row[at-1]) / math.Sqrt(squares/float64(len(gate)))
}

// Judge adds what the comparison says to a report, of the run that is called
// who. In bf16 roundings turn choices everywhere, and the comparison is for
// information.
func (b *Beside) Judge(r *parity.Report, who string) error {
	for _, s := range b.r.stages {
		if got, want := len(b.kept.Run[s.Name]), len(b.r.values[s.Name]); got != want {
			return fmt.Errorf("verify: %s: %s: %d choices, want %d", who, s.Name, got, want)
		}
	}
	turns, clean, compared, same, all := b.choices()
	r.Facts = append(r.Facts, parity.Fact{Name: fmt.Sprintf("same sets of experts, %s and pytorch", who), Text: fmt.Sprintf("%d of %d, in all layers at all %d positions", same, all, len(b.r.Tokens()))})
	if b.t.Precision != engine.F32 {
		return nil
	}
	c := parity.Check{Name: who + ": experts as pytorch's, or turned at a gap", Bound: 2 * near, Verdict: parity.Pass}
	for _, x := range turns {
		if c.Max = max(c.Max, x.gap); !(x.gap <= c.Bound) && c.Why == "" {
			c.Verdict, c.Why = parity.Fail, fmt.Sprintf("%s, position %d: other experts, though the reference's gap is %.2g of the rms", b.r.stages[x.layer].Name, x.position, x.gap)
		}
	}
	r.Checks = append(r.Checks, c)
	r.Facts = append(r.Facts, parity.Fact{Name: fmt.Sprintf("sets of experts before a turn, %s", who), Text: fmt.Sprintf("%d of %d; %d turned at a near tie", compared, all, len(turns))})

	rows, _ := slices.BinarySearch(b.t.Positions(), clean) // those before a turn
	name := fmt.Sprintf("%s: logits as pytorch's, %d rows", who, rows)
	absolute := fmt.Sprintf("%s: the same logits, absolutely, %d rows", who, rows)
	if rows == 0 {
		const why = "a choice of experts is turned at or before the first row"
		r.Checks = append(r.Checks,
			parity.Check{Name: name, Bound: near, Verdict: parity.NotJudged, Why: why},
			parity.Check{Name: absolute, Bound: nearMost, Verdict: parity.NotJudged, Why: why, Absolute: true})
		return nil
	}
	last := b.t.stages[len(b.t.stages)-1]
	n := rows * last.Shape.Width()
	ref, our := b.t.values[last.Name][:n], b.logits.Run[last.Name]
	if len(our) < n {
		return fmt.Errorf("verify: %s: %s: %d values, want %d or more", who, last.Name, len(our), n)
	}
	our = our[:n]
	r.Checks = append(r.Checks, parity.CheckNear(name, near, ref, our), parity.CheckWithin(absolute, nearMost, ref, our))
	return nil
}

// noWorse checks that the engine's error of each stage, from the reference's
// values, is not above the reference's own. Steps within stages are few numbers
// each, and left out.
func (v *comparison) noWorse(reference, forced *parity.Column) {
	c := parity.Check{Name: "forced: rms error of each stage, of pytorch's", Bound: noWorse, Verdict: parity.Pass}
	judged, most, at := 0, 0.0, ""
	for i, s := range forced.Stages {
		if s.Fit == nil || !slices.ContainsFunc(v.stages, func(x gptoss.Stage) bool { return x.Name == s.Name }) {
			continue
		}
		judged++
		our, ref, n := s.Fit.Error, reference.Stages[i].Fit.Error, s.Fit.Elements
		part := 0.0
		if our > 0 {
			part = min(our/ref, math.MaxFloat64)
		}
		if part > most {
			most, at = part, fmt.Sprintf("%s, of %d elements", s.Name, n)
		}
		if noWorseOf(n) == noWorse {
			c.Max = max(c.Max, part)
		}
		if !(our <= noWorseOf(n)*ref) && c.Why == "" {
			c.Verdict, c.Why = parity.Fail, fmt.Sprintf("%s: rms error %.3g of %d elements, the reference's is %.3g", s.Name, our, n, ref)
		}
	}
	if judged == 0 {
		c.Verdict, c.Why = parity.Fail, "no stages of numbers"
	}
	v.r.Checks = append(v.r.Checks, c)
	v.r.Facts = append(v.r.Facts, parity.Fact{Name: "largest rms error, forced, of pytorch's", Text: fmt.Sprintf("%.3f, %s", most, at)})
}

// seeing shows what it is shown to all, as long as none fails.
func seeing(all ...See) See {
	return func(stage string, at []int, values []float64) error {
		for _, see := range all {
			if err := see(stage, at, values); err != nil {
				return err
			}
		}
		return nil
	}
}
