package verify

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"ossify/parity"
)

// WriteJSON writes the report as JSON.
func (r *ONNXReport) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// WriteText writes the report for a terminal: a line for each kind of stage,
// with the worst figures of its layers, or for each stage if all is set.
func (r *ONNXReport) WriteText(w io.Writer, all bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "model     %s, by %s, in %s\n", r.Model, orNobody(r.Producer), r.Runtime)
	fmt.Fprintf(&b, "tokens    %d: %d at once, then %d one by one; compared at %d positions\n", r.Tokens, r.Prefill, r.Tokens-r.Prefill, r.Positions)
	if r.Golden != "" {
		fmt.Fprintf(&b, "golden    %s\n", r.Golden)
	}
	fmt.Fprintf(&b, "to pass   a stage: max|Δ| at most %g of its rms; logits and cache: at most %g\n\n", r.Tolerances.Stage, r.Tolerances.Logits)
	if r.shown() {
		fmt.Fprint(&b, "Every program runs from the tokens alone. Each stage is then computed in float64 from the\n"+
			"program's own values before it: max|Δ| in units of the stage's rms, which the oracle's column gives.\n")
		if r.Twin {
			fmt.Fprint(&b, "The model shows no stages: those in the column onnx are of a twin, exported from the same\n"+
				"checkpoint with --trace.\n")
		}
		b.WriteByte('\n')
		r.table(&b, all)
		b.WriteByte('\n')
	} else {
		fmt.Fprint(&b, "The model shows no stages: its logits and its cache are compared.\n\n")
	}
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "onnx, free-running\tmax|Δ|/rms\tat most\tverdict\n")
	for _, c := range r.Checks {
		fmt.Fprintf(t, "%s\t%.1e\t%g\t%s\n", c.Name, c.Max, c.Bound, c.Verdict)
	}
	t.Flush()
	b.WriteByte('\n')
	for _, c := range r.Checks {
		if c.Why != "" {
			fmt.Fprintf(&b, "%s: %s: %s\n", c.Verdict, c.Name, c.Why)
		}
	}
	for _, p := range r.Programs {
		for _, s := range p.Stages {
			if p.Name == columnONNX && s.Why != "" && (s.Name == p.First || s.Verdict != parity.Fail) {
				fmt.Fprintf(&b, "%s: %s: %s\n", s.Verdict, s.Name, s.Why)
			}
		}
	}
	first := r.First
	if first == "" {
		first = "none"
	}
	fmt.Fprintf(&b, "first diverging stage: %s\n", first)
	if r.Likeness != nil {
		fmt.Fprintf(&b, "%s\n", r.Likeness)
	}
	fmt.Fprintf(&b, "\nverdict: %s\n", r.Verdict)
	_, err := io.WriteString(w, b.String())
	return err
}

// shown reports whether the model shows its stages, itself or in its twin.
func (r *ONNXReport) shown() bool {
	return slices.ContainsFunc(r.Programs, func(p *parity.Program) bool { return p.Name == columnONNX })
}

func orNobody(s string) string {
	if s == "" {
		return "an unnamed producer"
	}
	return s
}

// table writes a column for each program, and the oracle's.
func (r *ONNXReport) table(b *strings.Builder, all bool) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer t.Flush()
	columns := []string{columnTorch, "oracle", columnEngine, columnONNX}
	by := map[string]*parity.Program{}
	for _, p := range r.Programs {
		by[p.Name] = p
	}
	fmt.Fprintf(t, "stage\t%s\tverdict\t\n", strings.Join(columns, "\t"))
	var rows []*tableRow
	for i, s := range by[columnEngine].Stages { // they all have the same
		name := s.Name
		if !all {
			name = starred(name)
		}
		j := slices.IndexFunc(rows, func(x *tableRow) bool { return x.name == name })
		if j < 0 {
			j = len(rows)
			rows = append(rows, &tableRow{name: name, worst: map[string]parity.StageReport{}, verdict: parity.Pass})
		}
		for _, p := range r.Programs {
			if i < len(p.Stages) {
				rows[j].add(p.Name, p.Stages[i])
			}
		}
	}
	width := 0
	for _, row := range rows {
		width = max(width, len(row.name))
	}
	for _, row := range rows {
		fmt.Fprintf(t, "%-*s\t", width, row.name)
		for _, c := range columns {
			fmt.Fprintf(t, "%s\t", row.cell(c))
		}
		fmt.Fprintf(t, "%s\t\n", row.verdict)
	}
}

// starred replaces the numbers in a path by stars.
func starred(path string) string {
	parts := strings.Split(path, ".")
	for i, p := range parts {
		if strings.Trim(p, "0123456789") == "" {
			parts[i] = "*"
		}
	}
	return strings.Join(parts, ".")
}

// A tableRow is a line of the table: a stage, or one kind of all layers.
type tableRow struct {
	name    string
	worst   map[string]parity.StageReport // by program
	verdict parity.Verdict
}

func (row *tableRow) add(program string, s parity.StageReport) {
	if program == columnONNX && s.Verdict == parity.Fail {
		row.verdict = parity.Fail
	}
	w, ok := row.worst[program]
	if !ok || off(s) > off(w) || s.Verdict == parity.Fail && w.Verdict != parity.Fail {
		row.worst[program] = s
	}
}

// off is how far a stage is off: in units of its rms, or in choices.
func off(s parity.StageReport) float64 {
	if s.Routing != nil {
		return float64(s.Routing.Rows - s.Routing.Same)
	}
	return s.Errors.Relative(s.Errors.Max)
}

// cell is what a column says of the row.
func (row *tableRow) cell(column string) string {
	if column == "oracle" {
		for _, name := range []string{columnONNX, columnEngine} {
			if s, ok := row.worst[name]; ok && s.Errors != nil {
				return fmt.Sprintf("%.3g", s.Errors.RMS)
			}
		}
		return "sets"
	}
	s, ok := row.worst[column]
	switch {
	case !ok:
		return "-"
	case s.Routing != nil:
		return fmt.Sprintf("%d/%d", s.Routing.Same, s.Routing.Rows)
	case s.Errors.Max == 0 && s.Errors.NonFinite == 0:
		return "0"
	case s.Errors.NonFinite > 0:
		return "NaN"
	}
	return fmt.Sprintf("%.1e", off(s))
}
