package parity

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"ossify/checkpoint"
)

// A Report is the result of comparing programs with a reference trace.
type Report struct {
	Golden     string            `json:"golden"`
	Precision  string            `json:"precision"`
	Tokens     int               `json:"tokens"`
	Positions  int               `json:"positions"`
	Reference  map[string]string `json:"reference"`  // the trace's metadata
	Checkpoint string            `json:"checkpoint"` // what is known of the two checkpoints being one
	Tolerances Tolerances        `json:"tolerances"`
	Programs   []*Program        `json:"programs"`
	Verdict    Verdict           `json:"verdict"`
}

// A Program is one that was compared.
type Program struct {
	Name    string        `json:"name"`
	Stages  []StageReport `json:"stages"`                    // teacher-forced, in execution order
	First   string        `json:"first_diverging,omitempty"` // the first stage that failed
	Free    *Free         `json:"free_running"`
	Verdict Verdict       `json:"verdict"`
}

// A StageReport is a stage, teacher-forced: numbers or a choice of experts.
type StageReport struct {
	Name    string   `json:"name"`
	Errors  *Errors  `json:"errors,omitempty"`
	Routing *Routing `json:"routing,omitempty"`
	Verdict Verdict  `json:"verdict"`
	Why     string   `json:"why,omitempty"`
}

// CompareStage compares a stage that was computed from the reference's own
// inputs. exact may be nil.
func (t Tolerances) CompareStage(name string, reference, ours, exact []float64, typ checkpoint.DType) StageReport {
	return t.JudgeStage(name, Measure(reference, ours, exact, typ), typ)
}

// JudgeStage judges a stage that was measured.
func (t Tolerances) JudgeStage(name string, e *Errors, typ checkpoint.DType) StageReport {
	s := StageReport{Name: name, Errors: e}
	s.Verdict, s.Why = t.Forced(e, typ)
	return s
}

// CompareChoice compares experts that were chosen by the reference's own gate
// values: only equal ones may stand in for each other.
func (t Tolerances) CompareChoice(name string, positions []int, reference, ours, gate []float64) StageReport {
	s := StageReport{Name: name, Routing: CompareRouting(positions, Indices(reference), Indices(ours), gate, 0, true)}
	s.Verdict, s.Why = t.Routed(s.Routing)
	return s
}

// Add adds a stage; they come in execution order. It never fails.
func (p *Program) Add(s StageReport) error {
	p.Stages = append(p.Stages, s)
	if s.Verdict == Fail && p.First == "" {
		p.First = s.Name
	}
	return nil
}

// Judge draws the verdicts from what was added.
func (r *Report) Judge() {
	var programs []Verdict
	for _, p := range r.Programs {
		var list []Verdict
		for _, s := range p.Stages {
			list = append(list, s.Verdict)
		}
		p.Verdict = worst(list...)
		if p.Free != nil {
			p.Verdict = worst(p.Verdict, p.Free.Verdict)
		}
		programs = append(programs, p.Verdict)
	}
	r.Verdict = worst(programs...)
}

// WriteJSON writes the report as JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// WriteText writes the report for a terminal: a line for each kind of stage,
// with the worst figures of its layers, or for each stage if all is set.
func (r *Report) WriteText(w io.Writer, all bool) error {
	var b strings.Builder
	r.header(&b)
	for _, p := range r.Programs {
		fmt.Fprintf(&b, "\n%s\nTeacher-forced: each stage computed from the reference's own inputs.\n\n", p.Name)
		p.table(&b, r.Tolerances, all)
		p.remarks(&b)
		if p.Free != nil {
			p.Free.text(&b)
		}
	}
	fmt.Fprintf(&b, "\nverdict: %s\n", r.Verdict)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) header(b *strings.Builder) {
	rows := "all positions"
	if r.Positions != r.Tokens {
		rows = fmt.Sprintf("%d positions", r.Positions)
	}
	fmt.Fprintf(b, "golden      %s: %s, %d tokens, %s\n", r.Golden, r.Precision, r.Tokens, rows)
	reference := show(r.Reference["reference"])
	if torch := r.Reference["torch"]; torch != "" {
		reference += ", torch " + show(torch) + ", " + show(r.Reference["cpu"])
	}
	fmt.Fprintf(b, "reference   %s\n", reference)
	fmt.Fprintf(b, "checkpoint  %s\n", r.Checkpoint)
	t := r.Tolerances
	if r.Precision == "bf16" {
		fmt.Fprintf(b, "to pass     teacher-forced: %s of a stage identical, rms error against float64 at most %g × the reference's\n", percent(t.Same), t.Error)
		fmt.Fprintf(b, "            free-running: rms error of a row's logits against float64 at most %g × the reference's, in the median row\n", t.Rows)
	} else {
		fmt.Fprintf(b, "to pass     teacher-forced: max|Δ| at most %g × the stage's rms, %s of it 0 on one side only\n", t.Stage, percent(t.Zeros))
		fmt.Fprintf(b, "            free-running: max|Δ| of the logits at most %g × their rms\n", t.Logits)
	}
}

func show(s string) string {
	if s == "" {
		return "not said"
	}
	s, _, _ = strings.Cut(cut(s), " sha256 ")
	return strings.TrimSuffix(s, ", model.py")
}

// table writes stages, one a line, or one for each kind.
func (p *Program) table(b *strings.Builder, t Tolerances, all bool) {
	head := []string{"stage", "max|Δ|/rms", "mean|Δ|/rms", "identical", "our error", "reference's", "ratio", "verdict"}
	if all {
		head = slices.Insert(head, 4, append(ulpLabels[:], "one-sided 0")...)
	} else {
		head = slices.Insert(head, 1, "layers", "worst in")
	}
	rows := [][]string{head}
	for _, g := range p.groups(all) {
		w := g.stages[0] // the one with the largest difference
		figures := []float64{0, 0, 1, 0, 0, 0}
		numbers := false
		var verdicts []Verdict
		same, of := 0, 0
		for _, s := range g.stages {
			verdicts = append(verdicts, s.Verdict)
			if s.Routing != nil {
				same, of = same+s.Routing.Same, of+s.Routing.Rows
				if s.Routing.Same < w.Routing.Same {
					w = s
				}
				continue
			}
			numbers = true
			e := s.Errors
			if e.Relative(e.Max) > w.Errors.Relative(w.Errors.Max) || worst(s.Verdict) == Fail && w.Verdict != Fail {
				w = s
			}
			for i, v := range []float64{e.Relative(e.Max), e.Relative(e.Mean), e.IdenticalPart(), e.Relative(e.Ours), e.Relative(e.Reference), e.Ratio()} {
				if i == 2 {
					figures[i] = min(figures[i], v)
				} else {
					figures[i] = max(figures[i], v)
				}
			}
		}
		row := []string{g.name}
		if !all {
			where := ""
			if len(g.stages) > 1 && (numbers && w.Errors.Max > 0 || !numbers && same < of) {
				where = layerOf(w.Name)
			}
			row = append(row, fmt.Sprint(len(g.stages)), where)
		}
		if numbers {
			row = append(row, small(figures[0]), small(figures[1]), percent(figures[2]))
			if all {
				for _, n := range w.Errors.ULPs {
					row = append(row, percent(part(n, w.Errors.Elements)))
				}
				row = append(row, percent(part(w.Errors.ZeroOne, w.Errors.Elements)))
			}
			if w.Errors.Exact {
				ratio := "-" // the reference has no error
				if !math.IsInf(figures[5], 1) {
					ratio = fmt.Sprintf("%.3f", figures[5])
				}
				row = append(row, small(figures[3]), small(figures[4]), ratio)
			}
		} else {
			row = append(row, "", "", fmt.Sprintf("%d of %d sets", same, of))
		}
		for len(row) < len(head)-1 {
			row = append(row, "")
		}
		rows = append(rows, append(row, string(worst(verdicts...))))
	}
	left := 0
	if !all {
		left = 2
	}
	writeTable(b, rows, left, true)
}

// A group is the stages of one line.
type group struct {
	name   string
	stages []StageReport
}

// groups puts the stages of all layers together that differ in the layer's
// number only; or none if all is set.
func (p *Program) groups(all bool) []group {
	var list []group
	for _, s := range p.Stages {
		name := s.Name
		if !all {
			name = kind(name)
		}
		i := slices.IndexFunc(list, func(g group) bool { return g.name == name })
		if i < 0 {
			i = len(list)
			list = append(list, group{name: name})
		}
		list[i].stages = append(list[i].stages, s)
	}
	return list
}

// kind replaces the number in a path by a star.
func kind(path string) string {
	parts := strings.Split(path, ".")
	for i, p := range parts {
		if p != "" && strings.Trim(p, "0123456789") == "" {
			parts[i] = "*"
		}
	}
	return strings.Join(parts, ".")
}

// layerOf returns the start of a path up to its number.
func layerOf(path string) string {
	parts := strings.Split(path, ".")
	for i, p := range parts {
		if p != "" && strings.Trim(p, "0123456789") == "" {
			return strings.Join(parts[:i+1], ".")
		}
	}
	return ""
}

// remarks writes the first diverging stage and every reason given.
func (p *Program) remarks(b *strings.Builder) {
	b.WriteByte('\n')
	const most = 6 // remarks of one verdict
	for _, v := range []Verdict{Fail, Ambiguous, Pass} {
		n := 0
		for _, s := range p.Stages {
			if s.Verdict != v || s.Why == "" {
				continue
			}
			if n++; n <= most {
				fmt.Fprintf(b, "%s: %s: %s\n", v, s.Name, s.Why)
			}
		}
		if n > most {
			fmt.Fprintf(b, "%s: and %d more stages\n", v, n-most)
		}
	}
	first := p.First
	if first == "" {
		first = "none"
	}
	fmt.Fprintf(b, "first diverging stage: %s\n", first)
}

func (f *Free) text(b *strings.Builder) {
	fmt.Fprintf(b, "\nFree-running: each program from the tokens alone.\n\n")
	e := f.Logits
	rows := [][]string{{"", "ours and reference", "ours and float64", "reference and float64"}}
	exact := func(s string) string {
		if !e.Exact {
			return "not computed"
		}
		return s
	}
	count := func(a Agreement) []string {
		of := func(n int) string { return fmt.Sprintf("%d of %d", n, a.Rows) }
		return []string{of(a.Reference), exact(of(a.Exact)), exact(of(a.Witness))}
	}
	rows = append(rows,
		[]string{"logits, max|Δ|/rms", small(e.Relative(e.Max)), exact(small(e.Relative(e.OursMax))), exact(small(e.Relative(e.ReferenceMax)))},
		[]string{"logits, rms error/rms", small(e.Relative(e.Error)), exact(small(e.Relative(e.Ours))), exact(small(e.Relative(e.Reference)))},
		append([]string{"same top token"}, count(f.Top)...),
		append([]string{"same set of experts"}, count(f.Routed)...))
	writeTable(b, rows, 0, false)
	if f.Unjudged != "" {
		fmt.Fprintf(b, "\n%s\n", f.Unjudged)
	}
	fmt.Fprintf(b, "\n%s", f.Verdict)
	switch {
	case f.Why != "":
		fmt.Fprintf(b, ": %s", f.Why)
	case f.RowError > 0:
		fmt.Fprintf(b, ": in the median row our rms error is %.4g times the reference's", f.RowError)
	}
	b.WriteByte('\n')
}

// small writes a figure that spans powers of ten.
func small(v float64) string {
	if v == 0 {
		return "0"
	}
	return fmt.Sprintf("%.1e", v)
}

// writeTable writes rows in columns: the first and the next left of them flush
// left, so the last if it is words, the others flush right.
func writeTable(b *strings.Builder, rows [][]string, left int, words bool) {
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	for _, r := range rows {
		line := ""
		for i, c := range r {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i > 0 {
				line += "  "
			}
			if i <= left || words && i == len(r)-1 {
				line += c + pad
			} else {
				line += pad + c
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}
