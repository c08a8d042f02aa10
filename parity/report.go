package parity

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
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

	Table   []Row   `json:"table"`
	First   string  `json:"first_diverging,omitempty"` // the first stage, or else check, that failed
	Where   string  `json:"where,omitempty"`           // the column or the check
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
	r.Verdict = worst(all...)
	r.First, r.Where = r.first()
	r.Table = r.table(Kind)
}

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
// column; else the first check.
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

// WriteJSON writes the report as JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}
