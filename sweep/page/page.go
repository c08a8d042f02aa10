// Package page prints a sweep's report as one HTML page that needs nothing else, in
// the style of verify's. docs/sweep.md says how to read it.
package page

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"ossify/internal/quote"
	"ossify/parity"
	"ossify/parity/page"
	"ossify/sweep"
)

//go:embed page.html
var markup string

// Most is how many failures the page has; it says how many there are beyond.
const Most = 1000

// A view is what the page shows, in the order in which it does.
type view struct {
	Name, Headline, Lead string
	Verdict              parity.Verdict
	Class                string // of the verdict
	Tiles                []tile
	Failures             []failure
	More                 int // failures that are not shown
	Worst                *worst
	Table                []row
	Places               []string // ranges of positions
	Grid                 []gridRow
	ByPlace              []place
	PlaceFigures         []figure
	Figures              []figure // units in the last place
	Exact                []string // kinds without any error
	Routing              []routing
	Free                 string
	From                 []parity.Fact
}

type tile struct{ Value, Label, Note string }

type failure struct {
	Element                            int
	Stage, Where, Why, Command, Repeat string
	Class                              string // of Repeat
}

type worst struct{ Stage, Used, Command string }

type row struct {
	Kind, Exact, Near, Used string
	Class                   string // of Used
	Runs, Failed            int
	Elements, Outside       int
	Layer, By               string // the worst
}

type gridRow struct {
	Kind  string
	Cells []cell
}

type cell struct{ Text, Class, Label string }

type place struct {
	Range            string
	Elements, Failed int
	Used, Stage      string
	Numbers          int
	Exact            string
}

type routing struct {
	Range             string
	Rows, Same        int
	Ties, Wrong       int
	Share, WrongClass string
}

type figure struct {
	Title, Note string
	SVG         template.HTML
}

// Write prints the report. name says in a few words of what it is, from how it was
// made; they and all that the report holds may come from strangers. The same report
// gives the same bytes.
func Write(w io.Writer, name string, r *sweep.Report, from []parity.Fact) error {
	v, err := newView(name, r)
	if err != nil {
		return err
	}
	v.From = slices.Concat(r.Title, from)
	return page.Execute(w, "sweep", markup, v)
}

func newView(name string, r *sweep.Report) (*view, error) {
	v := &view{Name: quote.Start(name), Verdict: r.Verdict, Class: "open"}
	switch r.Verdict {
	case parity.Pass:
		v.Class = "pass"
	case parity.Fail:
		v.Class = "fail"
	}
	numbers, outside := 0, 0
	for _, s := range r.Stages {
		numbers, outside = numbers+s.Elements, outside+s.Outside
	}
	failed := r.Elements - r.Passed
	v.say(r, numbers, failed)
	v.Tiles = []tile{
		{page.Count(failed), "comparisons fail", "of " + page.Count(r.Elements)},
		{page.Count(outside), "numbers outside their bounds", "of " + page.Count(numbers)},
	}
	if u, at := most(r.Stages); at != "" {
		v.Tiles = append(v.Tiles, tile{used(u), "of a bound needed at most", at})
	}
	if c := r.Choices; c.Rows > 0 {
		v.Tiles = append(v.Tiles, tile{page.Count(c.Rows-c.Wrong) + " of " + page.Count(c.Rows), "choices of experts right", page.Plural(c.Ties, "tie")})
	}
	for i, f := range r.Failures {
		if i == Most {
			v.More = len(r.Failures) - i
			break
		}
		x := failure{f.Element, f.Stage, f.Where, f.Why, f.Command, f.Repeats, "open"}
		if f.Where == f.Stage {
			x.Where = ""
		}
		switch f.Repeats {
		case "yes":
			x.Class = "pass" // as it must
		case "no":
			x.Class = "fail"
		}
		v.Failures = append(v.Failures, x)
	}
	if r.Worst != nil {
		v.Worst = &worst{Stage: r.Worst.Stage, Command: r.Worst.Command}
		if len(r.Failures) == 0 {
			v.Worst.Used = used(r.Worst.Used)
		}
	}
	for _, s := range r.Stages {
		x := row{Kind: s.Kind, Exact: "–", Near: "–", Used: "–", Class: "none", Runs: s.Runs, Failed: s.Failed, Elements: s.Elements, Outside: s.Outside, Layer: "–", By: "–"}
		if s.Elements > 0 && len(s.ULPs) > 0 {
			x.Exact, x.Near = page.Share(s.ULPs[0], s.Elements), page.Share(sum(s.ULPs[:min(2, len(s.ULPs))]), s.Elements)
			x.Used, x.Class = used(s.Used), "fit"
		}
		if s.Failed > 0 {
			x.Class = "off"
		}
		if s.Failed > 0 || s.Used > 0 {
			x.Layer, x.By = layerOf(s.Worst), strconv.Itoa(s.By)
		}
		v.Table = append(v.Table, x)
	}
	v.places(r)
	if err := v.placeFigures(r); err != nil {
		return nil, err
	}
	return v, v.ulps(r)
}

// say puts the verdict in plain words.
func (v *view) say(r *sweep.Report, numbers, failed int) {
	judged := fmt.Sprintf("%s, with %s and %s of experts", page.Plural(r.Elements, "comparison"), page.Plural(numbers, "number"), page.Plural(r.Choices.Rows, "choice"))
	switch {
	case r.Verdict == parity.Pass:
		v.Headline = "Nothing changed."
		v.Lead = judged + ", were judged one by one. Each number is what exact arithmetic gives, but for rounding that is accounted for."
	case r.Elements == 0:
		v.Headline, v.Lead = "Nothing was compared.", "A sweep of nothing proves nothing."
	default:
		v.Headline = "Something changed."
		v.Lead = fmt.Sprintf("%s of %s fail.", page.Count(failed), page.Plural(r.Elements, "comparison"))
		if len(r.Failures) > 0 {
			f := r.Failures[0]
			v.Lead += fmt.Sprintf(" The first is element %d", f.Element)
			if f.Stage != "" {
				v.Lead += fmt.Sprintf(", at the stage %s", quote.Start(f.Stage))
			}
			v.Lead += ". Below are all of them, each with the command that repeats it."
		}
	}
}

// layerOf is the number in a stage's name.
func layerOf(stage string) string {
	for part := range strings.SplitSeq(stage, ".") {
		if _, err := strconv.ParseUint(part, 10, 16); err == nil {
			return part
		}
	}
	return "–"
}

// most is the largest part of a bound that is needed, and where.
func most(list []sweep.Stage) (u float64, at string) {
	for _, s := range list {
		if s.Used > u {
			u, at = s.Used, s.Worst
		}
	}
	return u, at
}

func sum(list []int) (n int) {
	for _, x := range list {
		n += x
	}
	return n
}

func used(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }

// rangeOf names a place's positions.
func rangeOf(p sweep.Place) string { return page.Count(p.From) + " to " + page.Count(p.To) }

// places fills what depends on the position of the first token.
func (v *view) places(r *sweep.Report) {
	all := routing{Range: "all", Rows: r.Choices.Rows, Same: r.Choices.Same, Ties: r.Choices.Ties, Wrong: r.Choices.Wrong}
	for _, p := range r.Places {
		v.Places = append(v.Places, rangeOf(p))
		x := place{Range: rangeOf(p), Elements: p.Elements, Failed: p.Failed, Used: used(p.Used), Stage: p.Stage, Exact: "–"}
		exact := 0
		for _, s := range p.Stages {
			x.Numbers += s.Elements
			exact += sum(s.ULPs[:min(1, len(s.ULPs))])
		}
		if x.Numbers > 0 {
			x.Exact = page.Share(exact, x.Numbers)
		}
		v.ByPlace = append(v.ByPlace, x)
		if c := p.Choices; c.Rows > 0 {
			v.Routing = append(v.Routing, routing{Range: rangeOf(p), Rows: c.Rows, Same: c.Same, Ties: c.Ties, Wrong: c.Wrong})
		}
	}
	if all.Rows > 0 {
		v.Routing = append(v.Routing, all)
	}
	for i := range v.Routing {
		x := &v.Routing[i]
		x.Share = page.Share(x.Same, x.Rows)
		if x.Wrong > 0 {
			x.WrongClass = "off"
		}
	}
	if f := r.Free; f.Rows > 0 {
		v.Free = fmt.Sprintf("Free runs chose the reference’s experts in %s of %s rows (%s).", page.Count(f.Same), page.Count(f.Rows), page.Share(f.Same, f.Rows))
	}
	for _, s := range r.Stages {
		g := gridRow{Kind: page.Short(s.Kind)}
		for _, p := range r.Places {
			c := cell{"–", "none", "not judged"}
			if i := slices.IndexFunc(p.Stages, func(x sweep.Stage) bool { return x.Kind == s.Kind }); i >= 0 {
				c = cellOf(p.Stages[i])
			}
			g.Cells = append(g.Cells, c)
		}
		v.Grid = append(v.Grid, g)
	}
}

// cellOf is a stage in little room.
func cellOf(s sweep.Stage) cell {
	switch {
	case s.Outside > 0:
		return cell{page.Count(s.Outside), "off", "outside"}
	case s.Failed > 0 || !(s.Used >= 0):
		return cell{"✗", "off", "wrong"}
	case s.Used == 0:
		return cell{Text: "=", Class: "exact"}
	}
	return cell{Text: strings.TrimPrefix(used(s.Used), "0"), Class: fmt.Sprintf("u%d", int(min(4, max(0, s.Used*5))))}
}

// draw adds a chart to a list. note says what its height is.
func draw(list *[]figure, c page.Chart, note, id string) error {
	svg, err := c.SVG(id)
	if err == nil {
		*list = append(*list, figure{c.Title, note, svg})
	}
	return err
}

// placeFigures draws errors by position.
func (v *view) placeFigures(r *sweep.Report) error {
	if len(r.Places) < 2 {
		return nil
	}
	bound, off := page.Series{Class: "p1"}, page.Series{Class: "p1"}
	var labels []string
	top := -7.0
	for i, p := range r.Places {
		labels = append(labels, page.Count(p.From))
		bound.Values = append(bound.Values, p.Used)
		n, exact := 0, 0
		for _, s := range p.Stages {
			n, exact = n+s.Elements, exact+sum(s.ULPs[:min(1, len(s.ULPs))])
		}
		off.Values = append(off.Values, math.NaN())
		if n > exact {
			off.Values[i] = math.Log10(float64(n-exact) / float64(n))
			top = max(top, off.Values[i])
		}
	}
	const x = "first position, from"
	c := page.Chart{Title: "Part of the bound that is needed", X: x, Labels: labels, Series: []page.Series{bound}, Max: 1, Step: 0.25, Format: page.Number,
		Desc: "The largest part of its bound that a number needs, of all stages, by the position of the first token. The table has the numbers."}
	if err := draw(&v.PlaceFigures, c, "1 is all", "places-used"); err != nil {
		return err
	}
	c = page.Chart{Title: "Numbers that are another rounding", X: x, Labels: labels, Series: []page.Series{off}, Min: -7, Max: 0, Step: 1, Format: page.Power,
		Desc: "The share of numbers that are not the very rounding of the exact one, of all stages, by the position of the first token. The table has the numbers."}
	return draw(&v.PlaceFigures, c, "share of numbers", "places-off")
}

// ulps draws how far numbers are from the exact ones, by stage.
func (v *view) ulps(r *sweep.Report) error {
	for n, s := range r.Stages {
		if s.Elements == 0 || len(s.ULPs) == 0 {
			continue
		}
		list := s.ULPs[:min(len(s.ULPs), parity.ULPBins)]
		bins := 0
		for b, n := range list {
			if n > 0 {
				bins = b + 1
			}
		}
		if bins <= 1 {
			v.Exact = append(v.Exact, s.Kind)
			continue
		}
		farthest := page.ULPLabels[bins-1]
		bins = max(bins, 4)
		line := page.Series{Class: "p1"}
		for b := range bins {
			line.Values = append(line.Values, math.NaN())
			if b < len(list) && list[b] > 0 {
				line.Values[b] = math.Log10(float64(list[b]) / float64(s.Elements))
			}
		}
		c := page.Chart{Title: page.Short(s.Kind), X: "units in the last place", Labels: page.ULPLabels[:bins], Series: []page.Series{line}, Min: -7, Max: 0, Step: 1, Format: page.Power}
		c.Desc = fmt.Sprintf("How far numbers of %s are from the exact ones. The very rounding are %s; the farthest are in the class “%s”.", s.Kind, page.Share(s.ULPs[0], s.Elements), farthest)
		if err := draw(&v.Figures, c, "share of numbers", fmt.Sprintf("ulp-%d", n)); err != nil {
			return err
		}
	}
	return nil
}
