package verify

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/oracle"
	"ossify/parity"
	"ossify/weight"
)

// A Request says what is judged.
type Request struct {
	Golden    *Golden          // of the reference; may be nil
	Routing   *Routing         // of the golden's sequence; may be nil, else the engine is judged beside the reference too
	Tokens    []uint32         // the sequence, if there is no golden
	First     int              // position of the first of Tokens, which see none before; 0 runs through the cache, too
	Precision engine.Precision // if there is no golden
	Inject    *Injection       // a bug to be found, if there is no golden; may be nil
	Engine    engine.Options   // Precision and Chunk are not looked at

	// Most is how many multiplications the oracle may take for a free run, which
	// decides at how many positions it is judged: about 4e8 a second and
	// processor. 0 takes 1.5e8.
	Most float64

	Progress func(what string) // may be nil; is told what begins
}

// Run judges the reference by a golden, and our engine on the golden's values
// and on its own. The report's title still lacks what is known of the checkpoint.
func Run(ctx context.Context, g *graph.Graph, w *weight.Set, q Request) (*parity.Report, error) {
	o := q.Engine
	if o.Precision = q.Precision; q.Golden != nil {
		o.Precision = q.Golden.Precision
	}
	s, err := Engine(g, w, o)
	if err != nil {
		return nil, err
	}
	if q.Golden != nil && (q.First != 0 || q.Inject != nil) {
		return nil, errors.New("verify: a golden has a first position of its own, and no bug is put in beside it but by Faults")
	}
	if q.Inject != nil {
		if s, err = inject(g, w, o, s, *q.Inject); err != nil {
			return nil, err
		}
	}
	return run(ctx, g, w, q, s, o.Precision)
}

func run(ctx context.Context, g *graph.Graph, w oracle.Weights, q Request, s Subject, p engine.Precision) (*parity.Report, error) {
	v := &comparison{ctx: ctx, g: g, w: w, q: q, s: s, p: p, stages: gptoss.Stages(g), r: &parity.Report{}}
	tokens := q.Tokens
	if t := q.Golden; t != nil {
		tokens = t.Tokens()
		v.title(t)
		if err := v.forced(t); err != nil {
			return nil, err
		}
	} else {
		v.r.Title = append(v.r.Title, parity.Fact{Name: "precision", Text: p.String()}, parity.Fact{Name: "tokens", Text: fmt.Sprint(len(tokens))})
	}
	v.r.Title = append(v.r.Title, parity.Fact{Name: "to pass", Text: "every element is the rounding of a number within its bounds (docs/parity.md)"})
	if q.First > 0 {
		if err := v.from(tokens); err != nil {
			return nil, err
		}
	} else if err := v.free(tokens); err != nil {
		return nil, err
	}
	v.r.Judge()
	return v.r, nil
}

// A comparison is under way.
type comparison struct {
	ctx    context.Context
	g      *graph.Graph
	w      oracle.Weights
	q      Request
	s      Subject
	p      engine.Precision
	stages []gptoss.Stage
	r      *parity.Report
}

func (v *comparison) say(format string, args ...any) {
	if v.q.Progress != nil {
		v.q.Progress(fmt.Sprintf(format, args...))
	}
}

func (v *comparison) title(t *Golden) {
	rows := "all positions"
	if len(t.Positions()) != len(t.Tokens()) {
		rows = fmt.Sprintf("%d positions", len(t.Positions()))
	}
	if t.First > 0 {
		rows = fmt.Sprintf("at positions %d to %d, which see none before", t.First, t.First+len(t.Tokens())-1)
	}
	meta := t.Metadata()
	by, _, _ := strings.Cut(clean(meta["reference"]), " sha256 ")
	by = strings.TrimSuffix(by, ", model.py")
	if torch := meta["torch"]; torch != "" {
		by += ", torch " + clean(torch) + ", " + clean(meta["cpu"])
	}
	v.r.Title = append(v.r.Title,
		parity.Fact{Name: "golden", Text: fmt.Sprintf("%s: %v, %d tokens, %s", filepath.Base(t.Path()), t.Precision, len(t.Tokens()), rows)},
		parity.Fact{Name: "reference", Text: by},
		parity.Fact{Name: "steps", Text: rule(t)})
}

// rule says by what the steps within stages are judged.
func rule(t *Golden) string {
	switch within, all := len(t.Steps()), len(t.Positions()); {
	case within == 0:
		return "within stages by intervals: the golden does not hold them"
	case within < all:
		return fmt.Sprintf("within stages each by itself at %d positions, by intervals at the others", within)
	}
	return "within stages each by itself"
}

// clean makes text of a file fit for a terminal.
func clean(s string) string {
	if s == "" {
		return "not said"
	}
	if len(s) > 100 {
		s = s[:100] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// Names of the columns.
const (
	columnReference = "pytorch"
	columnForced    = "forced"
	columnCached    = "cached"
	columnFree      = "free"
)

// forced judges the reference, and the subject on the reference's values.
func (v *comparison) forced(t *Golden) error {
	v.say("oracle, bounds from %s", filepath.Base(t.Path()))
	b, err := t.bounds(v.ctx, v.g, v.w, t.arithmetic())
	if err != nil {
		return err
	}
	c := &parity.Column{Name: columnReference, What: "the reference, from its own values"}
	v.r.Columns = append(v.r.Columns, c)
	if v.r.Exceptions, err = JudgeReference(v.ctx, v.g, v.w, t, b, c); err != nil {
		return err
	}
	for _, s := range c.Stages {
		if s.Choice != nil {
			v.r.Ties = append(v.r.Ties, s.Choice.Ties...)
		}
	}

	v.say("%s, forced", v.s.Name())
	c = &parity.Column{Name: columnForced, What: v.s.Name() + ", each stage from the reference's values, all rows at once"}
	v.r.Columns = append(v.r.Columns, c)
	if err := v.s.Forced(v.ctx, t, judging(b, c.Add)); err != nil {
		return err
	}
	if len(c.Stages) != len(b.Stages) {
		return fmt.Errorf("verify: %s: %d stages, want %d", v.s.Name(), len(c.Stages), len(b.Stages))
	}
	if v.q.Routing != nil {
		v.noWorse(v.r.Columns[0], c)
	}

	if t.First > 0 {
		return nil // a cache begins at position 0
	}
	steps := StepsOf(v.g, len(t.Tokens()))
	v.say("%s, forced through the cache", v.s.Name())
	c = &parity.Column{Name: columnCached, What: "the same through the cache, " + told(steps, len(t.Tokens()))}
	v.r.Columns = append(v.r.Columns, c)
	k := NewKeeper(b.Stages, t.Positions(), t.Within())
	if err := v.s.Cached(v.ctx, t, steps, k.See); err != nil {
		return err
	}
	return b.JudgeAll(k.Run, true, c.Add)
}

// judging returns a See that judges each stage as it is shown.
func judging(b *Bounds, add func(parity.StageReport) error) See {
	return func(stage string, _ []int, values []float64) error {
		r, err := b.Judge(stage, values, true)
		if err != nil {
			return err
		}
		return add(r)
	}
}

// StepsOf are those in which a sequence of that many tokens passes through the
// cache: twice the window and more are decoded, if there are so many, else 40,
// or the last half.
func StepsOf(g *graph.Graph, tokens int) Steps {
	decode := 2*window(g) + 8
	if decode >= tokens {
		decode = min(tokens/2, 40)
	}
	return Steps{Chunk: chunk, Decode: decode}
}

// window returns the window of the layers that slide; 0 if none does.
func window(g *graph.Graph) int {
	w := 0
	for _, n := range g.Nodes {
		w = max(w, n.Heads.Window)
	}
	return w
}

func told(s Steps, tokens int) string {
	return fmt.Sprintf("%d tokens in chunks of %d, then %d one by one", tokens-s.Decode, s.Chunk, s.Decode)
}

// free judges the subject on its own values, at as many positions as the oracle
// is given time for: of a sequence of which twice the window is decoded.
func (v *comparison) free(tokens []uint32) error {
	asked := len(tokens)
	for len(tokens) < 2*window(v.g)+8+chunk {
		tokens = append(slices.Clone(tokens), tokens[:asked]...)
	}
	steps := StepsOf(v.g, len(tokens))
	most := v.q.Most
	if most == 0 {
		most = 1.5e8
	}
	positions := Positions(v.g, len(tokens), most, window(v.g), len(tokens)-steps.Decode, len(tokens))
	if t := v.q.Golden; t != nil && t.First == 0 && Cost(v.g, len(positions)+len(t.Positions())) <= 2*most {
		positions = append(positions, t.Positions()...)
		slices.Sort(positions)
		positions = slices.Compact(positions)
	}
	within := withinOf(v.g, len(tokens), positions)
	steps.Within = within
	c := &parity.Column{Name: columnFree, What: fmt.Sprintf("%s, from its own values: %s; judged at %d of %d positions%s", v.s.Name(), told(steps, len(tokens)), len(positions), len(tokens), toldWithin(within, positions))}
	v.r.Columns = append(v.r.Columns, c)
	v.say("%s, free", v.s.Name())
	sequence := Sequence{Tokens: tokens}
	k := NewKeeper(stagesOf(v.g, sequence, within), positions, within)
	see, by := k.See, (*Beside)(nil)
	if v.q.Routing != nil {
		by = NewBeside(v.q.Routing, v.q.Golden)
		see = seeing(k.See, by.See)
	}
	if err := v.s.Free(v.ctx, tokens, steps, k.Knows, see); err != nil {
		return err
	}
	v.say("oracle, bounds of %d rows", len(positions))
	b, err := NewBounds(v.ctx, v.g, v.w, sequence, positions, within, k.Run, arithmetic(v.p))
	if err != nil {
		return err
	}
	if err := b.JudgeAll(k.Run, true, c.Add); err != nil {
		return err
	}
	if v.r.Edges, err = Edges(v.g, v.w, positions, k.Run); err != nil {
		return err
	}

	// A run that nobody watches may be planned in another way.
	v.say("%s, unwatched", v.s.Name())
	last := v.stages[len(v.stages)-1]
	plain, short := NewKeeper([]gptoss.Stage{last}, positions, nil), Steps{Chunk: chunk, Decode: min(16, steps.Decode)}
	if err := v.s.Free(v.ctx, tokens[:len(tokens)-steps.Decode+short.Decode], short, nil, plain.See); err != nil {
		return err
	}
	same := parity.Check{Name: "logits of the free run, unwatched: the same bits", Verdict: parity.Pass}
	got := plain.Run[last.Name]
	if d := parity.Differ(k.Run[last.Name][:len(got)], got); len(got) == 0 || d.Max > 0 || d.NonFinite > 0 {
		same.Max, same.Verdict, same.Why = d.Relative(d.Max), parity.Fail, fmt.Sprintf("logit %d of %d is off by %.3g", d.Worst, len(got), d.Max)
	}
	v.r.Checks = append(v.r.Checks, same)
	if t := v.q.Golden; t != nil && t.First == 0 {
		v.inform(t, last, positions, k.Run)
	}
	if by != nil {
		return by.Judge(v.r, columnFree)
	}
	return nil
}

// withinMost is how many numbers of the steps within stages of a free run are
// kept.
const withinMost = 1 << 23

// withinOf returns the positions at which steps within stages of a free run are
// judged: all if they are few, else evenly spread and the last among them; none
// if a row alone has too many.
func withinOf(g *graph.Graph, tokens int, positions []int) []int {
	row := 0
	for _, s := range gptoss.StagesAndSteps(g, tokens) {
		if s.Within != "" {
			row += s.Shape.Width()
		}
	}
	n := len(positions)
	if row > 0 {
		n = min(n, withinMost/row)
	}
	var list []int
	for i := range n {
		list = append(list, positions[(i+1)*len(positions)/n-1])
	}
	return list
}

func toldWithin(within, positions []int) string {
	switch {
	case len(within) == 0:
		return ", steps within stages by intervals"
	case len(within) < len(positions):
		return fmt.Sprintf(", their steps at %d", len(within))
	}
	return " and their steps"
}

// inform says how far free runs agree. In bf16 a choice of experts that
// rounding turns makes another computation of a row, so it judges nothing.
func (v *comparison) inform(t *Golden, last gptoss.Stage, positions []int, run parity.Run) {
	var both []int
	for _, p := range t.Positions() {
		if _, ok := slices.BinarySearch(positions, p); ok {
			both = append(both, p)
		}
	}
	if len(both) == 0 {
		return
	}
	width := last.Shape.Width()
	ref, our := parity.At(t.values[last.Name], width, t.Positions(), both), parity.At(run[last.Name], width, positions, both)
	same, rows := parity.SameTop(ref, our, width)
	d := parity.Differ(ref, our)
	for _, s := range v.stages {
		if s.By == "" {
			continue
		}
		by := v.g.Nodes[s.In[0]]
		v.r.Routing = append(v.r.Routing, parity.CompareChoices(s.Name, len(both),
			parity.At(t.values[s.Name], s.Shape.Width(), t.Positions(), both),
			parity.At(run[s.Name], s.Shape.Width(), positions, both),
			parity.At(t.values[by.Name], by.Shape.Width(), t.Positions(), both)))
	}
	v.r.Facts = append(v.r.Facts,
		parity.Fact{Name: "same top token, free and pytorch", Text: fmt.Sprintf("%d of %d rows", same, rows)},
		parity.Fact{Name: "max|Δ| of the logits, free and pytorch", Text: fmt.Sprintf("%.2g of their rms", d.Relative(d.Max))})
}

// Positions returns the positions of n tokens that are judged: all if they
// cost the oracle no more than that many multiplications, else as many as do,
// evenly spread, and in any case those beside the edges.
func Positions(g *graph.Graph, n int, most float64, edges ...int) []int {
	rows := n
	for rows > 1 && (Cost(g, rows) > most || rows*g.Nodes[g.Output()].Shape.Last() > 1<<24) {
		rows -= (rows + 9) / 10
	}
	var list []int
	for i := range max(rows, 1) {
		list = append(list, (i+1)*n/max(rows, 1)-1)
	}
	for _, edge := range edges {
		for p := edge - 1; p <= edge+1; p++ {
			if p >= 0 && p < n {
				list = append(list, p)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Cost returns how many multiplications g takes for that many rows.
func Cost(g *graph.Graph, rows int) float64 {
	t, sum := float64(rows), 0.0
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

// JudgeReference judges a golden's own values by b, the bounds of the
// arithmetic that the golden's precision asks for, and adds its stages to c.
// Elements beyond these bounds are judged again with PyTorch's three exceptions,
// which docs/parity.md derives; it returns how many passed by each.
func JudgeReference(ctx context.Context, g *graph.Graph, w oracle.Weights, t *Golden, b *Bounds, c *parity.Column) ([]parity.Exception, error) {
	var exceptions []parity.Exception
	off, turned, err := thetaOf(g, t)
	if err != nil {
		return nil, err
	}
	if len(turned) > 0 {
		exceptions = append(exceptions, parity.Exception{
			Column: columnReference, Rule: "θ(i) one unit in the last place off (vectorised pow)", Count: len(turned), Of: len(off),
			Where: fmt.Sprintf("frequencies %v", turned),
		})
	}
	var all []parity.StageReport
	var beyond []string // the bounds without exceptions
	err = b.JudgeAll(t.values, false, func(s parity.StageReport) error {
		if all = append(all, s); s.Fit != nil && s.Verdict == parity.Fail {
			beyond = append(beyond, s.Name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var loose *Bounds // with the exceptions
	if len(beyond) > 0 {
		a := t.arithmetic()
		a.Theta, a.Flush = off, true
		if loose, err = NewBounds(ctx, g, w, t.Sequence(), t.Judged(), t.Within(), t.values, a, beyond...); err != nil {
			return nil, err
		}
	}
	type tally struct {
		stages    []string
		count, of int
	}
	var products, sigmoids tally
	for i, s := range all {
		if slices.Contains(beyond, s.Name) {
			again, err := loose.Judge(s.Name, t.at(b.Stages[i]), false)
			if err != nil {
				return nil, err
			}
			again.Fit.Excused = s.Fit.Outside - again.Fit.Outside
			if b.Stages[i].Op != graph.Rotate && again.Fit.Excused > 0 {
				n := &products
				if b.Stages[i].Op == graph.Sigmoid {
					n = &sigmoids
				}
				n.stages = append(n.stages, s.Name)
				n.count, n.of = n.count+again.Fit.Excused, n.of+again.Fit.Elements
			}
			s = again
		}
		if err := c.Add(s); err != nil {
			return nil, err
		}
	}
	for _, e := range []struct {
		tally
		rule string
	}{
		{products, "bf16 products take numbers below 2^-126 for 0"},
		{sigmoids, "sigmoids below 2^-126 are 0 where e^-x is beyond float32"},
	} {
		if e.count > 0 {
			exceptions = append(exceptions, parity.Exception{
				Column: columnReference, Rule: e.rule, Count: e.count, Of: e.of, Where: "elements of " + strings.Join(e.stages, ", "),
			})
		}
	}
	return exceptions, nil
}

// thetaOf finds by how many units in the last place the reference's θ(i) is
// off: for each i one of 0, −1 and 1 that explains every rotated element of
// that pair of columns, in all rows, heads and layers. turned lists the i that
// are not 0.
func thetaOf(g *graph.Graph, t *Golden) (off, turned []int, err error) {
	stages := gptoss.Stages(g)
	for _, s := range stages {
		if s.Op != graph.Rotate {
			continue
		}
		half := s.Rope.Dim / 2
		if off == nil {
			off = make([]int, half)
		}
		if half != len(off) {
			return nil, nil, errors.New("verify: rotary embeddings of two sizes, want one")
		}
	}
	bad := func(theta []int) ([]bool, error) {
		pairs := make([]bool, len(off))
		for _, s := range stages {
			if s.Op != graph.Rotate {
				continue
			}
			x := t.at(stages[slices.IndexFunc(stages, func(x gptoss.Stage) bool { return x.Name == g.Nodes[s.In[0]].Name })])
			a := t.arithmetic()
			a.Theta = theta
			lo, hi := oracle.RotateBounds(s.Rope, t.Judged(), x, a)
			y := t.at(s)
			for i := range y {
				if parity.Judge(y[i:i+1], lo[i:i+1], hi[i:i+1], t.Trace.Precision()).Outside > 0 {
					col := i % s.Rope.Dim
					if s.Rope.Adjacent {
						col /= 2
					}
					pairs[col%len(off)] = true
				}
			}
		}
		return pairs, nil
	}
	wrong, err := bad(nil)
	if err != nil {
		return nil, nil, err
	}
	if !slices.Contains(wrong, true) {
		return off, nil, nil
	}
	for _, step := range []int{-1, 1} {
		theta := slices.Repeat([]int{step}, len(off))
		still, err := bad(theta)
		if err != nil {
			return nil, nil, err
		}
		for i := range off {
			if wrong[i] && off[i] == 0 && !still[i] {
				off[i] = step
			}
		}
	}
	for i, n := range off {
		if n != 0 {
			turned = append(turned, i)
		}
	}
	return off, turned, nil
}
