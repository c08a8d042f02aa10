package page

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"

	"ossify/internal/quote"
	"ossify/parity"
)

// A view is what the page shows, in the order in which it does.
type view struct {
	Name     string
	Verdict  parity.Verdict
	Class    string // of the verdict
	Headline string
	Lead     string
	Remark   string
	Tiles    []tile
	Title    []parity.Fact
	Programs []program
	Table    []row
	Failures []failure
	Grids    []grid
	Errors   errorSection
	ULPs     ulpSection
	Routing  *routingSection
	Edge     *edgeSection
	Faults   *faultSection
	Checks   []parity.Check
	Rules    []parity.Exception
	Ties     []string
	Facts    []parity.Fact
	From     []parity.Fact
}

type tile struct{ Value, Label, Note string }

type program struct {
	Class, Name, What, Missing string
	Stages                     int
	Verdict                    parity.Verdict
	VerdictClass               string
}

type row struct {
	Kind   string
	Step   bool
	Layers int
	Cells  []cell
}

type cell struct {
	Text, Class, Label string
}

type failure struct{ Program, Stage, Why string }

// A grid is a program's stages in all layers.
type grid struct {
	Program program
	Layers  []int
	Rows    []row
	Open    bool
}

// A figure is a chart with its title; the note says what its height is.
type figure struct {
	Title, Note string
	Legend      []legend
	SVG         template.HTML
}

type legend struct{ Class, Text string }

type errorSection struct {
	Figures []figure
	Steps   []figure // of steps within stages
	Exact   []string // kinds without any error
	Table   []errorRow
}

type errorRow struct {
	Kind, Rounding string
	Cells          []string
}

type ulpSection struct {
	Figures []figure
	Steps   []figure
	Table   []row
	Bins    []string
}

// mostListed is how many failures or ties are listed, and mostStages how many
// stages a program may have: a page that is larger helps nobody.
const (
	mostListed = 40
	mostStages = 20000
)

func newView(name string, r *parity.Report) (*view, error) {
	v := &view{Name: quote.Start(name), Verdict: r.Verdict, Class: class(r.Verdict), Title: r.Title, Checks: r.Checks, Rules: r.Exceptions, Facts: r.Facts, From: r.Provenance, Remark: r.Remark}
	m := modelOf(r)
	if m.stages > mostStages {
		return nil, fmt.Errorf("page: %d stages, want at most %d", m.stages, mostStages)
	}
	v.Headline, v.Lead = headline(r)
	v.Tiles = tiles(r)
	for i, c := range r.Columns {
		v.Programs = append(v.Programs, program{fmt.Sprintf("p%d", i%6), c.Name, c.What, c.Missing, len(c.Stages), c.Verdict, class(c.Verdict)})
	}
	for _, k := range r.Table {
		line := row{Kind: k.Kind, Step: k.Of != "", Layers: k.Layers}
		for _, c := range k.Cells {
			line.Cells = append(line.Cells, cellOf(c.Figure, c.Verdict))
		}
		v.Table = append(v.Table, line)
	}
	for _, c := range r.Columns {
		for _, s := range c.Stages {
			if s.Verdict != parity.Pass {
				v.Failures = append(v.Failures, failure{c.Name, s.Name, s.Why})
			}
		}
	}
	if n := len(v.Failures) - mostListed; n > 0 {
		v.Failures = append(v.Failures[:mostListed], failure{Why: fmt.Sprintf("and %d more", n)})
	}
	for i, t := range r.Ties {
		if i == mostListed {
			v.Ties = append(v.Ties, fmt.Sprintf("and %d more", len(r.Ties)-mostListed))
			break
		}
		v.Ties = append(v.Ties, t.String())
	}
	v.Grids = m.grids(v.Programs)
	for _, fill := range []func(*model) error{v.errors, v.ulps, v.routing, v.edge} {
		if err := fill(m); err != nil {
			return nil, err
		}
	}
	v.faults(m)
	return v, nil
}

// class is the verdict's in the style sheet.
func class(v parity.Verdict) string {
	switch v {
	case parity.Pass:
		return "pass"
	case parity.Fail:
		return "fail"
	}
	return "open"
}

// headline says the verdict in plain words.
func headline(r *parity.Report) (head, lead string) {
	elements, rows, programs := 0, 0, len(r.Columns)
	for _, c := range r.Columns {
		for _, s := range c.Stages {
			if s.Fit != nil {
				elements += s.Fit.Elements
			}
			if s.Choice != nil {
				rows += s.Choice.Rows
			}
		}
	}
	judged := fmt.Sprintf("%s and %s of experts", Plural(elements, "number"), Plural(rows, "choice"))
	switch r.Verdict {
	case parity.Pass:
		return "Nothing changed.", fmt.Sprintf("%s, in %s of the model, were judged one by one. Each is what exact arithmetic gives, but for rounding that is accounted for.",
			upper(judged), Plural(programs, "run"))
	case parity.Fail:
		lead = "The comparison failed"
		if r.First != "" && r.First == r.Where {
			lead = fmt.Sprintf("The stages agree, but this check does not: %s", r.First)
		} else if r.First != "" && r.Where == parity.Faults {
			return "A known bug went uncaught.", fmt.Sprintf("Nothing changed in the model that was compared. But “%s”, put into it, was not caught where it sits: a comparison that cannot see it proves less.", r.First)
		} else if r.First != "" {
			lead = fmt.Sprintf("The first stage that is not as it must be is %s, in the run “%s”. What comes before it is right, so that is the place to look", r.First, r.Where)
		}
		return "Something changed.", lead + "."
	}
	return "Not everything was judged.", "Nothing that was judged is wrong, but what was not judged has not passed. Below it says what, and why."
}

func tiles(r *parity.Report) []tile {
	var all []tile
	elements, outside, excused, rows, wrong, tied := 0, 0, 0, 0, 0, 0
	used, at := 0.0, ""
	for _, c := range r.Columns {
		for _, s := range c.Stages {
			if f := s.Fit; f != nil {
				elements, outside, excused = elements+f.Elements, outside+f.Outside, excused+f.Excused
				if f.Bounded > 0 && f.Used > used {
					used, at = f.Used, s.Name+", "+c.Name
				}
			}
			if s.Choice != nil {
				rows, wrong, tied = rows+s.Choice.Rows, wrong+s.Choice.Wrong, tied+len(s.Choice.Ties)
			}
		}
	}
	if elements > 0 {
		note := Plural(elements, "number") + " judged"
		if excused > 0 {
			note += fmt.Sprintf(", %s by a named exception", Count(excused))
		}
		all = append(all, tile{Count(outside), "outside their bounds", note})
		if at == "" {
			all = append(all, tile{"exact", "every number", "no bound was needed"})
		} else {
			all = append(all, tile{fmt.Sprintf("%.2f", used), "of a bound needed at most", at})
		}
	}
	if rows > 0 {
		note := "each the largest gate values"
		if tied > 0 {
			note = fmt.Sprintf("%s of equal values", Plural(tied, "tie"))
		}
		all = append(all, tile{fmt.Sprintf("%s of %s", Count(rows-wrong), Count(rows)), "choices of experts right", note})
	}
	if n := len(r.Faults); n > 0 {
		caught := 0
		for _, f := range r.Faults {
			if f.OK() {
				caught++
			}
		}
		all = append(all, tile{fmt.Sprintf("%d of %d", caught, n), "known bugs caught", "each put into the model, at its stage"})
	}
	return all
}

func cellOf(text string, v parity.Verdict) cell {
	c := cell{Text: text}
	switch {
	case text == "":
		c.Text, c.Class, c.Label = "–", "none", "not judged"
	case v == parity.Fail:
		c.Class = "off"
	case v != parity.Pass:
		c.Class = "open"
	case text == "exact" || text == "same":
		c.Class = "exact"
	default:
		c.Class = "fit"
	}
	return c
}

// A model puts a report's stages in rows by kind and columns by layer.
type model struct {
	r      *parity.Report
	kinds  []kind
	at     map[string]int // of a kind's name
	layers []int          // numbers, rising
	stages int
}

type kind struct {
	name   string
	step   bool
	cells  []map[int]parity.StageReport // by program, by layer
	single bool                         // without layers
}

func modelOf(r *parity.Report) *model {
	m := &model{r: r, at: map[string]int{}}
	known := map[int]bool{}
	for i, c := range r.Columns {
		m.stages += len(c.Stages)
		for _, s := range c.Stages {
			name, layer := parity.Kind(s.Name), layerOf(s.Name)
			j, ok := m.at[name]
			if !ok {
				j = len(m.kinds)
				m.at[name] = j
				k := kind{name: name, cells: make([]map[int]parity.StageReport, len(r.Columns)), single: layer < 0}
				for p := range k.cells {
					k.cells[p] = map[int]parity.StageReport{}
				}
				m.kinds = append(m.kinds, k)
			}
			m.kinds[j].cells[i][layer] = s
			if layer >= 0 {
				known[layer] = true
			}
		}
	}
	for l := range known {
		m.layers = append(m.layers, l)
	}
	slices.Sort(m.layers)
	// As the table has them: steps below their stage.
	order := map[string]int{}
	for i, k := range r.Table {
		order[k.Kind] = i
		if j, ok := m.at[k.Kind]; ok {
			m.kinds[j].step = k.Of != ""
		}
	}
	slices.SortStableFunc(m.kinds, func(a, b kind) int { return order[a.name] - order[b.name] })
	for i, k := range m.kinds {
		m.at[k.name] = i
	}
	return m
}

// layerOf returns the number in a stage's name, or -1.
func layerOf(stage string) int {
	for part := range strings.SplitSeq(stage, ".") {
		if n, err := strconv.Atoi(part); err == nil && n >= 0 && n < 1<<20 {
			return n
		}
	}
	return -1
}

// Short is a kind's name without what all of a layer have in common.
func Short(kind string) string { return strings.TrimPrefix(kind, "block.*.") }

func (m *model) grids(programs []program) []grid {
	if len(m.layers) == 0 {
		return nil
	}
	var all []grid
	for i, p := range programs {
		g := grid{Program: p, Layers: m.layers, Open: i == 0}
		for _, k := range m.kinds {
			if k.single || len(k.cells[i]) == 0 {
				continue
			}
			line := row{Kind: Short(k.name), Step: k.step}
			for _, l := range m.layers {
				line.Cells = append(line.Cells, layerCell(k.cells[i][l]))
			}
			g.Rows = append(g.Rows, line)
		}
		all = append(all, g)
	}
	return all
}

// layerCell is a stage in little room.
func layerCell(s parity.StageReport) cell {
	switch {
	case s.Verdict == "":
		return cell{Text: "–", Class: "none", Label: "not judged"}
	case s.Verdict == parity.Fail && s.Fit != nil:
		return cell{Text: brief(s.Fit.Outside), Class: "off", Label: "outside"}
	case s.Verdict == parity.Fail:
		return cell{Text: "✗", Class: "off", Label: "wrong"}
	case s.Choice != nil && len(s.Choice.Ties) > 0:
		return cell{Text: strconv.Itoa(len(s.Choice.Ties)), Class: "tied", Label: "tied"}
	case s.Choice != nil, s.Fit == nil, s.Fit.Bounded == 0:
		return cell{Text: "=", Class: "exact"}
	}
	text := strings.TrimPrefix(fmt.Sprintf("%.2f", s.Fit.Used), "0")
	if text == ".00" {
		text = "0"
	}
	return cell{Text: text, Class: fmt.Sprintf("u%d", int(min(4, max(0, s.Fit.Used*5))))}
}

// brief is a count in four characters.
func brief(n int) string {
	switch {
	case n < 10000:
		return strconv.Itoa(n)
	case n < 1000000:
		return strconv.Itoa(n/1000) + "k"
	}
	return strconv.Itoa(n/1000000) + "M"
}

// Count is a number with commas.
func Count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Plural is a number of things, whose plural ends in s.
func Plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return Count(n) + " " + what + "s"
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// small is a small number, such as 1.2·10⁻⁷.
func small(v float64) string {
	if v == 0 {
		return "0"
	}
	if v >= 0.01 && v < 1000 {
		return strconv.FormatFloat(v, 'g', 2, 64)
	}
	e := int(math.Floor(math.Log10(v)))
	if m := v / math.Pow(10, float64(e)); math.Round(m*10) >= 100 {
		e++
	}
	return fmt.Sprintf("%.1f·10%s", v/math.Pow(10, float64(e)), superscript(e))
}

func superscript(n int) string {
	return strings.NewReplacer("-", "⁻", "0", "⁰", "1", "¹", "2", "²", "3", "³", "4", "⁴", "5", "⁵", "6", "⁶", "7", "⁷", "8", "⁸", "9", "⁹").Replace(strconv.Itoa(n))
}
