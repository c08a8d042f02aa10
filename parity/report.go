package parity

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// A Report is the result of judging programs, put together by [Report.Judge].
type Report struct {
	Title      []Fact      `json:"title"` // what was compared with what
	Columns    []*Column   `json:"programs"`
	Exceptions []Exception `json:"exceptions,omitempty"`
	Ties       []Tie       `json:"ties,omitempty"`
	Checks     []Check     `json:"checks,omitempty"`
	Facts      []Fact      `json:"for_information,omitempty"` // judged by nobody
	Routing    []Routing   `json:"routing,omitempty"`         // likewise
	Edges      []Edge      `json:"window_edges,omitempty"`    // likewise
	Faults     []Caught    `json:"faults,omitempty"`          // known bugs, put into the model one at a time
	Provenance []Fact      `json:"provenance,omitempty"`      // of what is compared, by which program, on which machine

	Table   []Row   `json:"table"`
	First   string  `json:"first_diverging,omitempty"` // the first stage, or else check or fault, that failed
	Where   string  `json:"where,omitempty"`           // the column or the check, or [Faults]
	Remark  string  `json:"remark,omitempty"`          // what the failure looks like
	Verdict Verdict `json:"verdict"`
}

// A Fact is a name and what there is to say.
type Fact struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// An Exception is a rule by which elements pass that the bounds do not explain.
type Exception struct {
	Column string `json:"program"`
	Rule   string `json:"rule"`
	Count  int    `json:"count"`
	Of     int    `json:"of"`
	Where  string `json:"where"`
}

// A Routing says how often two programs, each from its own values, choose the
// same experts.
type Routing struct {
	Stage  string `json:"stage"`
	Rows   int    `json:"rows"`
	Same   int    `json:"same"`             // rows with the same experts, in any order
	Gaps   []int  `json:"gaps,omitempty"`   // rows by the reference's gap, as [GapBin] has it
	Turned []int  `json:"turned,omitempty"` // of those, rows with other experts
}

// CompareChoices fills a Routing: indices [rows, K] of two programs, and the
// values [rows, N] by which the first chose.
func CompareChoices(stage string, rows int, reference, others, values []float64) Routing {
	r := Routing{Stage: stage, Rows: rows}
	if rows == 0 {
		return r
	}
	k, n := len(reference)/rows, len(values)/rows
	var gaps, turned [GapBins]int
	for i := range rows {
		a, b := slices.Clone(reference[i*k:][:k]), slices.Clone(others[i*k:][:k])
		slices.Sort(a)
		slices.Sort(b)
		bin := GapBin(Gap(values[i*n:][:n], k))
		gaps[bin]++
		if slices.Equal(a, b) {
			r.Same++
		} else {
			turned[bin]++
		}
	}
	r.Gaps, r.Turned = trimmed(gaps[:]), trimmed(turned[:])
	return r
}

// An Edge is what the rows of a stage look at beside the edge of the window.
type Edge struct {
	Stage  string    `json:"stage"`
	Window int       `json:"window"` // newest keys in view
	Rows   []EdgeRow `json:"rows"`
}

// An EdgeRow is one row of attention: shares of its weight, means of all heads,
// and what a window that is wrong by one key would do to it.
type EdgeRow struct {
	Position int     `json:"position"`
	Keys     int     `json:"keys"`     // in view
	Oldest   float64 `json:"oldest"`   // share of the oldest key in view
	Sink     float64 `json:"sink"`     // share of the sinks
	Wider    float64 `json:"wider"`    // rms change of the row with a key more, in units of its rms; 0 if there is none
	Narrower float64 `json:"narrower"` // rms change with a key fewer
}

// A Caught is what became of one known bug that was put into the model.
type Caught struct {
	Name   string   `json:"name"`
	Want   string   `json:"want"`             // the stage where the fault sits
	Step   string   `json:"step,omitempty"`   // the step within it, if it is in one
	At     string   `json:"at,omitempty"`     // the first stage or step that failed; empty if none did
	Where  string   `json:"where,omitempty"`  // in which run
	Stages []string `json:"stages,omitempty"` // all that failed in that run
	Why    string   `json:"why,omitempty"`
}

// OK reports whether the fault was caught at its stage or step: at the layer
// named, or at a later one, if that is the first in which the model shows it.
func (c Caught) OK() bool { return c.Exact() || c.Later() }

// Exact reports whether the fault was caught at its stage, or at its step in it,
// in the very layer.
func (c Caught) Exact() bool { return c.At == c.Want || c.Step != "" && c.At == c.Want+c.Step }

// Later reports whether the fault was caught at its stage, or at its step in it,
// in a later layer. It is in all layers, and every one is judged from the
// reference's own inputs: of a trained model the first may not show it, as one
// whose values do not come to the clamp.
func (c Caught) Later() bool {
	kind := Kind(c.At)
	return layer(c.At) > layer(c.Want) && (kind == Kind(c.Want) || c.Step != "" && kind == Kind(c.Want+c.Step))
}

// A Column is a program, run in one way.
type Column struct {
	Name    string        `json:"name"`
	What    string        `json:"what"`
	Stages  []StageReport `json:"stages"` // in execution order
	First   string        `json:"first_diverging,omitempty"`
	Verdict Verdict       `json:"verdict"`
	Missing string        `json:"missing,omitempty"` // what of it is not judged, and why
}

// Add adds a stage; they come in execution order. It never fails.
func (c *Column) Add(s StageReport) error {
	c.Stages = append(c.Stages, s)
	if s.Verdict == Fail && c.First == "" {
		c.First = s.Name
	}
	return nil
}

// A Row is one kind of stage: the same in all layers.
type Row struct {
	Kind    string  `json:"stage"`
	Of      string  `json:"of,omitempty"` // the stage of which it is a step within; it follows that one
	Layers  int     `json:"layers"`
	Cells   []Cell  `json:"cells"` // one for each column
	Verdict Verdict `json:"verdict"`
}

// A Cell is a column's worst layer of a kind: the first that fails, else the
// one that needs most of its bound. Its figures are of that layer alone.
type Cell struct {
	Stage   string  `json:"worst,omitempty"`
	Figure  string  `json:"figure"`
	Verdict Verdict `json:"verdict"`
}

// Judge draws the verdicts from what was added, and fills the table.
func (r *Report) Judge() {
	var all []Verdict
	for _, c := range r.Columns {
		var list []Verdict
		for _, s := range c.Stages {
			list = append(list, s.Verdict)
		}
		if c.Verdict = worst(list...); c.Missing != "" {
			if len(list) == 0 {
				c.Verdict = NotJudged
			}
			c.Verdict = worst(c.Verdict, NotJudged)
		}
		all = append(all, c.Verdict)
	}
	for _, c := range r.Checks {
		all = append(all, c.Verdict)
	}
	for _, c := range r.Faults {
		if !c.OK() {
			all = append(all, Fail)
		}
	}
	r.Verdict = worst(all...)
	r.First, r.Where = r.first()
	r.Table = r.table(Kind)
}

// Faults is where a fault is that was not caught.
const Faults = "faults"

// inOrder returns the names of all stages in execution order: those of the
// column with the most, for steps are not judged in all, then what others have
// beside.
func (r *Report) inOrder() []string {
	columns := slices.Clone(r.Columns)
	slices.SortStableFunc(columns, func(a, b *Column) int { return len(b.Stages) - len(a.Stages) })
	var names []string
	known := map[string]bool{}
	for _, c := range columns {
		for _, s := range c.Stages {
			if !known[s.Name] {
				known[s.Name] = true
				names = append(names, s.Name)
			}
		}
	}
	return names
}

// first returns the first stage that failed, in execution order, and the
// column; else the first check, else the first fault that was not caught.
func (r *Report) first() (stage, where string) {
	place := map[string]int{}
	for i, name := range r.inOrder() {
		place[name] = i
	}
	for _, c := range r.Columns {
		for _, s := range c.Stages {
			if s.Verdict == Fail && (stage == "" || place[s.Name] < place[stage]) {
				stage, where = s.Name, c.Name
			}
		}
	}
	if stage != "" {
		return stage, where
	}
	for _, c := range r.Checks {
		if c.Verdict == Fail {
			return c.Name, c.Name
		}
	}
	for _, c := range r.Faults {
		if !c.OK() {
			return c.Name, Faults
		}
	}
	return "", ""
}

// table puts the stages together whose names group makes one.
func (r *Report) table(group func(string) string) []Row {
	var rows []Row
	at := map[string]int{}
	for _, name := range r.inOrder() {
		kind := group(name)
		j, ok := at[kind]
		if !ok {
			j = len(rows)
			at[kind] = j
			rows = append(rows, Row{Kind: kind, Cells: make([]Cell, len(r.Columns)), Verdict: Pass})
		}
		rows[j].Layers++
	}
	worst := map[[2]int]StageReport{}
	for i, c := range r.Columns {
		for _, s := range c.Stages {
			j := at[group(s.Name)]
			if w, ok := worst[[2]int{j, i}]; !ok || s.beyond(w) {
				worst[[2]int{j, i}] = s
			}
			if s.Verdict != Pass {
				rows[j].Verdict = s.Verdict
			}
		}
	}
	for k, s := range worst {
		rows[k[0]].Cells[k[1]] = Cell{s.Name, s.figure(), s.Verdict}
	}
	return nested(rows)
}

// nested puts steps within a stage below it. A module's result carries the
// module's name, block.0.attn, and so begins the names of the stages within it,
// block.0.attn.sdpa; what is longer still is a step, block.0.attn.sdpa.scores.
func nested(rows []Row) []Row {
	known := map[string]bool{}
	for _, r := range rows {
		known[r.Kind] = true
	}
	steps := map[string][]Row{}
	var top []Row
	for _, r := range rows {
		within := 0
		for i, c := range r.Kind {
			if c == '.' && known[r.Kind[:i]] {
				if within++; within == 2 {
					r.Of = r.Kind[:i]
				}
			}
		}
		if r.Of == "" {
			top = append(top, r)
		} else {
			steps[r.Of] = append(steps[r.Of], r)
		}
	}
	rows = rows[:0:0]
	for _, r := range top {
		rows = append(append(rows, r), steps[r.Kind]...)
	}
	return rows
}

// beyond reports whether s stands for its kind rather than w, which comes before.
func (s StageReport) beyond(w StageReport) bool {
	if (s.Verdict == Fail) != (w.Verdict == Fail) {
		return s.Verdict == Fail
	}
	if s.Fit != nil && w.Fit != nil && s.Verdict != Fail {
		return s.Fit.Used > w.Fit.Used || w.Fit.Bounded == 0 && s.Fit.Bounded > 0
	}
	return s.Choice != nil && w.Choice != nil && len(s.Choice.Ties) > len(w.Choice.Ties)
}

// figure is what a cell says of the stage.
func (s StageReport) figure() string {
	switch {
	case s.Choice != nil && s.Choice.Wrong > 0:
		return fmt.Sprintf("%d wrong", s.Choice.Wrong)
	case s.Choice != nil && len(s.Choice.Ties) > 0:
		return fmt.Sprintf("%d tied", len(s.Choice.Ties))
	case s.Choice != nil:
		return "same"
	case s.Fit == nil:
		return ""
	case s.Fit.Outside > 0:
		return fmt.Sprintf("%d off", s.Fit.Outside)
	case s.Fit.Bounded == 0:
		return "exact"
	}
	return fmt.Sprintf("%.2f", s.Fit.Used)
}

// Kind returns the name of a stage or parameter with its layer's number replaced
// by a star: what is the same in all layers.
func Kind(path string) string {
	parts := strings.Split(path, ".")
	for i, p := range parts {
		if p != "" && strings.Trim(p, "0123456789") == "" {
			parts[i] = "*"
		}
	}
	return strings.Join(parts, ".")
}

// layer returns the layer that a path names, -1 if none.
func layer(path string) int {
	for p := range strings.SplitSeq(path, ".") {
		if n, err := strconv.Atoi(p); err == nil {
			return n
		}
	}
	return -1
}

// WriteJSON writes the report as JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}
