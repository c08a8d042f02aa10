package verify

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"ossify/checkpoint"
	"ossify/engine"
	"ossify/float"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/parity"
	"ossify/weight"
)

// An AttackReport says how many random edits of weights a comparison with a
// golden finds, by kind of parameter.
type AttackReport struct {
	Precision string       `json:"precision"`
	Seed      uint64       `json:"seed"`
	Kinds     []AttackKind `json:"kinds"`
	Total     AttackKind   `json:"total"`
	Missed    []Miss       `json:"missed,omitempty"` // changing edits that were not found, and what there is to see of them
	Stray     []string     `json:"stray,omitempty"`  // stages that failed without an edit of their weights
}

// An AttackKind counts edits of one kind of parameter: the same in all layers.
type AttackKind struct {
	Kind     string `json:"kind"`
	Edits    int    `json:"edits"`
	Changing int    `json:"changing"` // that change an exact value by more than its bound
	Findable int    `json:"findable"` // of these, that change one by more than its bound and what rounding it may add
	Certain  int    `json:"certain"`  // of these, that change what an element may be altogether
	Seen     int    `json:"seen"`     // found, of those changing
	Found    int    `json:"found"`    // found, of those findable
	Wrong    int    `json:"wrong"`    // stages that failed without an edit of what they read
}

// Unexplained returns how many of the missed edits a tighter check might have
// found.
func (r *AttackReport) Unexplained() int {
	n := 0
	for i := range r.Missed {
		if !r.Missed[i].Explained() {
			n++
		}
	}
	return n
}

// OK reports whether of the findable edits 99.5% and of the certain ones all
// were found, each at its stage, and of the others nothing can be seen.
func (r *AttackReport) OK() bool {
	t := r.Total
	return t.Edits > 0 && r.Unexplained() == 0 && t.Wrong == 0 && len(r.Stray) == 0 && t.Found >= t.Certain && float64(t.Found) >= 0.995*float64(t.Findable)
}

// batch is how many edits are made at once. They are told apart because stages
// are judged on the golden's values: an edit reaches the elements that read the
// weight, and no others.
const batch = 200

// Attack makes n random edits of the weights that the golden's rows read, and
// judges the engine with each: of a bfloat16 value it flips the sign or a bit of
// the exponent, of an MXFP4 weight it changes a code or a scale.
func Attack(ctx context.Context, g *graph.Graph, w *weight.Set, t *Golden, n int, seed uint64, o engine.Options, progress func(done int)) (*AttackReport, error) {
	a := t.arithmetic()
	clean, err := t.bounds(ctx, g, w, a)
	if err != nil {
		return nil, err
	}
	o.Precision = t.Precision
	right := parity.Run{} // what the engine gives without an edit
	s, err := Engine(g, w, o)
	if err != nil {
		return nil, err
	}
	err = s.Forced(ctx, t, func(stage string, _ []int, values []float64) error {
		right[stage] = append(right[stage], values...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	r := &AttackReport{Precision: t.Precision.String(), Seed: seed, Total: AttackKind{Kind: "all"}}
	rnd := rand.New(rand.NewPCG(seed, 9))
	targets := targetsOf(g, w, t)
	for done := 0; done < n; {
		var edits []*edit
		owner := map[string][]*edit{} // by stage, of each element that reads an edited weight
		for tries := 0; len(edits) < min(batch, n-done); tries++ {
			if tries > 100*batch && len(edits) > 0 {
				break // the next batch has room again
			}
			// By kind first, so that those of few weights are not left out.
			list := targets[rnd.IntN(len(targets))]
			e := list[rnd.IntN(len(list))].edit(rnd)
			if e.claim(owner, clean) {
				edits = append(edits, e)
			}
		}
		bad := w.Edited(func(p graph.Param, data, scales []byte) bool {
			hit := false
			for _, e := range edits {
				if e.param.Name == p.Name {
					e.do(data, scales)
					hit = true
				}
			}
			return hit
		})
		exact, err := t.bounds(ctx, g, bad, a)
		if err != nil {
			return nil, err
		}
		s, err := Engine(g, bad, o)
		if err != nil {
			return nil, err
		}
		err = s.Forced(ctx, t, func(stage string, _ []int, values []float64) error {
			r.tally(owner[stage], stage, values, right[stage], clean, exact)
			return nil
		})
		if err != nil {
			return nil, err
		}
		for _, e := range edits {
			i := slices.IndexFunc(r.Kinds, func(k AttackKind) bool { return k.Kind == e.kind })
			if i < 0 {
				i = len(r.Kinds)
				r.Kinds = append(r.Kinds, AttackKind{Kind: e.kind})
			}
			for _, k := range []*AttackKind{&r.Kinds[i], &r.Total} {
				k.Edits++
				if e.changing {
					k.Changing++
					if e.found {
						k.Seen++
					}
				}
				if e.findable {
					k.Findable++
					if e.certain {
						k.Certain++
					}
					if e.found {
						k.Found++
					}
				}
			}
			if e.changing && !e.found {
				e.miss.Edit, e.miss.Findable = e.String(), e.findable
				r.Missed = append(r.Missed, e.miss)
			}
		}
		done += len(edits)
		if progress != nil {
			progress(done)
		}
	}
	slices.SortFunc(r.Kinds, func(a, b AttackKind) int { return strings.Compare(a.Kind, b.Kind) })
	return r, nil
}

// tally notes which edits show in a stage: by values, with edits, beside right,
// without.
func (r *AttackReport) tally(owner []*edit, stage string, values, right []float64, clean, exact *Bounds) {
	s, ok := clean.spans[stage]
	if _, choice := clean.by[stage]; choice || !ok {
		return
	}
	x := exact.spans[stage]
	width := len(values) / len(clean.rows(clean.stage(stage)))
	stray := 0
	for i, v := range values {
		outside := !(parity.Round(s.lo[i], clean.typ) <= v && v <= parity.Round(s.hi[i], clean.typ))
		moved := s.lo[i] != x.lo[i] || s.hi[i] != x.hi[i]
		if !outside && !moved && (owner == nil || owner[i] == nil) {
			continue
		}
		if owner == nil || owner[i] == nil {
			if outside {
				stray++
			}
			continue
		}
		e := owner[i]
		e.found = e.found || outside
		e.miss.note(element{[2]float64{s.lo[i], s.hi[i]}, [2]float64{x.lo[i], x.hi[i]}, right[i], v}, stage, i, width, clean.typ)
		was, is := s.lo[i]+(s.hi[i]-s.lo[i])/2, x.lo[i]+(x.hi[i]-x.lo[i])/2
		off, bound := math.Abs(is-was), (s.hi[i]-s.lo[i])/2
		e.changing = e.changing || !(off <= bound)
		e.findable = e.findable || !(off <= bound+parity.Spacing(was, clean.typ)/2)
		if !(parity.Round(s.lo[i], clean.typ) <= parity.Round(x.hi[i], clean.typ) && parity.Round(x.lo[i], clean.typ) <= parity.Round(s.hi[i], clean.typ)) {
			e.certain = true
		}
	}
	if stray > 0 {
		r.Stray = append(r.Stray, fmt.Sprintf("%s: %d elements", stage, stray))
		r.Total.Wrong++
	}
}

// An edit is one of one weight.
type edit struct {
	kind     string // of the parameter
	param    graph.Param
	row, col int // of the parameter
	what     string
	change   func(data, scales []byte)
	readers  []reader

	changing, findable, certain, found bool
	miss                               Miss // what there is to see of it, should it not be found
}

// A reader is a stage, or a step within one, and those of its elements that read
// a weight.
type reader struct {
	stage string
	reads func(element int) bool
}

func (e *edit) do(data, scales []byte) { e.change(data, scales) }

// claim makes e the owner of the elements that read it. It fails if another edit
// has one, or nothing reads e.
func (e *edit) claim(owner map[string][]*edit, b *Bounds) bool {
	mine := make([][]int, len(e.readers))
	n := 0
	for k, r := range e.readers {
		if owner[r.stage] == nil {
			owner[r.stage] = make([]*edit, len(b.spans[r.stage].lo))
		}
		for i, own := range owner[r.stage] {
			if !r.reads(i) {
				continue
			}
			if own != nil {
				return false
			}
			mine[k] = append(mine[k], i)
			n++
		}
	}
	for k, r := range e.readers {
		for _, i := range mine[k] {
			owner[r.stage][i] = e
		}
	}
	return n > 0
}

func (e *edit) String() string {
	return fmt.Sprintf("%s [%d, %d]: %s", e.param.Name, e.row, e.col, e.what)
}

// A target is a row of a parameter that the golden's rows read.
type target struct {
	kind    string
	param   graph.Param
	f32     bool
	row     int
	readers []reader
}

// targetsOf lists targets by kind of parameter.
func targetsOf(g *graph.Graph, w *weight.Set, t *Golden) [][]target {
	var all [][]target
	kinds := map[string]int{}
	add := func(x target) {
		x.kind = parity.Kind(x.param.Name)
		i, ok := kinds[x.kind]
		if !ok {
			i = len(all)
			kinds[x.kind] = i
			all = append(all, nil)
		}
		all[i] = append(all[i], x)
	}
	tokens := t.Sequence().at(t.Judged())
	// The rows that have steps: what a step reads does not show in its stage.
	stepped := make([]bool, len(tokens))
	for _, p := range t.Within() {
		i, _ := t.row(gptoss.Stage{}, p)
		stepped[i] = true
	}
	for _, s := range gptoss.Stages(g) {
		width, last := s.Shape.Width(), s.Shape.Last()
		for _, p := range s.Params {
			param := g.Params[p]
			x := target{param: param, f32: w.Sources(p)[0].Data.Type == checkpoint.F32}
			by := func(row int, stage string, reads func(element int) bool) {
				x.row = row
				x.readers = append(x.readers, reader{stage, reads})
			}
			done := func() {
				add(x)
				x.readers = nil
			}
			switch {
			case s.Op == graph.Gather:
				for row := range param.Shape[0] {
					if slices.Contains(tokens, uint32(row)) {
						by(row, s.Name, func(i int) bool { return tokens[i/width] == uint32(row) })
						done()
					}
				}
			case s.Op == graph.ExpertLinear:
				experts := t.values[g.Nodes[s.In[1]].Name]
				k := s.Shape[1]
				var within []float64 // in the rows that have steps
				for i, e := range experts {
					if stepped[i/k] {
						within = append(within, e)
					}
				}
				rows, matrix := weight.Rows(param), len(param.Shape) == 3
				for row := range rows {
					e, j := row, 0
					if matrix {
						e, j = row/last, row%last
					}
					if !slices.Contains(experts, float64(e)) {
						continue
					}
					by(row, s.Name, func(i int) bool {
						return experts[i/last] == float64(e) && (!matrix || i%last == j && !stepped[i/width])
					})
					if matrix && len(within) > 0 {
						by(row, s.Name+graph.StepProduct, func(i int) bool { return within[i/last] == float64(e) && i%last == j })
					}
					done()
				}
			case s.Op == graph.Attend:
				for row := range param.Shape[0] {
					by(row, s.Name, func(i int) bool { return i%width/s.Heads.Dim == row && !stepped[i/width] })
					if len(t.Within()) > 0 {
						by(row, s.Name+graph.StepWeights, func(i int) bool { return i/len(t.Tokens())%s.Heads.Query == row })
					}
					done()
				}
			default: // Linear, RMSNorm: row j of the parameter is column j of the stage
				for row := range weight.Rows(param) {
					by(row, s.Name, func(i int) bool { return i%last == row })
					done()
				}
			}
		}
	}
	return all
}

// edit returns a random edit of the row.
func (x target) edit(rnd *rand.Rand) *edit {
	cols := weight.Columns(x.param)
	e := &edit{kind: x.kind, param: x.param, row: x.row, col: rnd.IntN(cols), readers: x.readers}
	at := x.row*cols + e.col
	switch {
	case x.param.Storage == graph.MXFP4 && rnd.IntN(2) == 0:
		by := byte(1 + rnd.IntN(15))
		e.what = fmt.Sprintf("code xor %d", by)
		e.change = func(data, _ []byte) { data[at/2] ^= by << (4 * (at % 2)) }
	case x.param.Storage == graph.MXFP4:
		up := rnd.IntN(2) == 0
		e.what = "scale one step"
		e.change = func(_, scales []byte) {
			s := &scales[at/float.BlockSize]
			if up && *s < 250 || *s == 0 {
				*s++
			} else {
				*s--
			}
		}
	default:
		bit, size := 15, 2
		if rnd.IntN(2) == 0 {
			bit = 7 + rnd.IntN(8)
		}
		if x.f32 {
			bit, size = bit+16, 4
		}
		e.what = fmt.Sprintf("bit %d", bit)
		if len(x.param.Shape) == 2 && strings.HasSuffix(x.param.Name, "_bias") || strings.HasPrefix(x.param.Name, "embedding") { // all columns are one row
			e.readers = nil
			for _, r := range x.readers {
				e.readers = append(e.readers, reader{r.stage, func(i int) bool { return i%cols == e.col && r.reads(i) }})
			}
		}
		e.change = func(data, _ []byte) { data[at*size+bit/8] ^= 1 << (bit % 8) }
	}
	return e
}

// WriteText writes the report for a terminal.
func (r *AttackReport) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%-28s  %6s  %8s  %6s  %8s  %7s  %6s\n", "edits of, "+r.Precision, "edits", "changing", "found", "findable", "certain", "found")
	for _, k := range append(slices.Clone(r.Kinds), r.Total) {
		fmt.Fprintf(&b, "%-28s  %6d  %8d  %6d  %8d  %7d  %6d\n", k.Kind, k.Edits, k.Changing, k.Seen, k.Findable, k.Certain, k.Found)
	}
	b.WriteString("\nchanging: some exact value changes by more than its bound\nfindable: by more than that and half a unit in the last place, which is what summation\n          and rounding may add\ncertain:  some element cannot be what it was\n")
	for i := range r.Missed {
		kind := "missed, changing"
		if r.Missed[i].Findable {
			kind = "missed, findable"
		}
		fmt.Fprintf(&b, "%s: %s\n", kind, &r.Missed[i])
	}
	for _, s := range r.Stray {
		fmt.Fprintf(&b, "failed without an edit: %s\n", s)
	}
	if len(r.Missed) > 0 {
		fmt.Fprintf(&b, "missed: %d, of these %d with nothing to see: each element that reads the weight is the same number with the edit and without, or lies\n        between two of which summation alone decides; not so explained: %d\n", len(r.Missed), len(r.Missed)-r.Unexplained(), r.Unexplained())
	}
	part := func(n, of int) string {
		return fmt.Sprintf("%d/%d (%.4g%%)", n, of, 100*float64(n)/float64(max(of, 1)))
	}
	fmt.Fprintf(&b, "found: of the findable edits %s, of all that change an exact value %s; %d at a wrong stage\n",
		part(r.Total.Found, r.Total.Findable), part(r.Total.Seen, r.Total.Changing), r.Total.Wrong)
	_, err := io.WriteString(w, b.String())
	return err
}
