package parity

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Text says how a report is printed.
type Text struct {
	All    bool // a line for every stage of every layer
	Colour bool // of verdicts, for a terminal
}

// width is that of a terminal: no line of a report is longer, but for names.
const width = 80

// WriteText writes the report for a terminal: a line for each kind of stage.
func (r *Report) WriteText(w io.Writer, o Text) error {
	var b strings.Builder
	facts := func(list []Fact) {
		left := 0
		for _, f := range list {
			left = max(left, utf8.RuneCountInString(f.Name))
		}
		for _, f := range list {
			for i, line := range wrap(f.Text, width-left-2) {
				name := f.Name
				if i > 0 {
					name = ""
				}
				fmt.Fprintf(&b, "%-*s  %s\n", left, name, line)
			}
		}
	}
	facts(r.Title)
	if len(r.Columns) > 0 {
		b.WriteByte('\n')
		var what []Fact
		for _, c := range r.Columns {
			text := c.What
			if c.Missing != "" {
				text += "; not judged: " + c.Missing
			}
			what = append(what, Fact{c.Name, text})
		}
		facts(what)
		b.WriteString("\nBelow, for each kind of stage, the largest part of its bound that an element\n" +
			"needs; \"exact\" where there is one right value, and it is this.\n\n")
		rows := r.Table
		if o.All {
			rows = r.table(func(name string) string { return name })
		}
		r.grid(&b, rows, o)
	}
	if len(r.Checks) > 0 {
		b.WriteByte('\n')
		lines := [][]string{{"check", "max|Δ|/rms", "at most", "verdict"}}
		for _, c := range r.Checks {
			unit := ""
			if c.Absolute {
				unit = " absolute"
			}
			lines = append(lines, []string{c.Name, fmt.Sprintf("%.1e", c.Max) + unit, fmt.Sprintf("%g", c.Bound), o.verdict(c.Verdict)})
		}
		columns(&b, lines)
	}
	r.remarks(&b, o, facts)
	fmt.Fprintf(&b, "\nverdict: %s\n", o.verdict(r.Verdict))
	_, err := io.WriteString(w, b.String())
	return err
}

// grid writes the table: as many programs side by side as a line has room for,
// the others below.
func (r *Report) grid(b *strings.Builder, rows []Row, o Text) {
	name := len("stage")
	for _, row := range rows {
		name = max(name, utf8.RuneCountInString(row.Kind))
	}
	for from := 0; from < len(r.Columns); {
		to, used := from, name+2+len("not judged")
		for to < len(r.Columns) {
			wide := utf8.RuneCountInString(r.Columns[to].Name)
			for _, row := range rows {
				wide = max(wide, utf8.RuneCountInString(row.Cells[to].Figure))
			}
			if used += 2 + wide; used > width && to > from {
				break
			}
			to++
		}
		if from > 0 {
			b.WriteByte('\n')
		}
		r.some(b, rows, from, to, o)
		from = to
	}
}

// some writes the table of the programs from and up to to.
func (r *Report) some(b *strings.Builder, rows []Row, from, to int, o Text) {
	head := []string{"stage"}
	for _, c := range r.Columns[from:to] {
		head = append(head, c.Name)
	}
	lines := [][]string{append(head, "verdict")}
	for _, row := range rows {
		line := []string{"  " + strings.TrimPrefix(row.Kind, row.Of)}
		if row.Of == "" {
			line[0] = row.Kind
		}
		for _, c := range row.Cells[from:to] {
			figure := c.Figure
			if figure == "" {
				figure = "-"
			}
			line = append(line, figure)
		}
		lines = append(lines, append(line, o.verdict(row.Verdict)))
	}
	columns(b, lines)
}

func (r *Report) remarks(b *strings.Builder, o Text, facts func([]Fact)) {
	const most = 8
	list := func(title string, lines []string) {
		if len(lines) == 0 {
			return
		}
		fmt.Fprintf(b, "\n%s\n", title)
		for i, line := range lines {
			if i == most {
				fmt.Fprintf(b, "  and %d more\n", len(lines)-most)
				break
			}
			for j, part := range wrap(line, width-4) {
				fmt.Fprintf(b, "%s%s\n", []string{"  ", "    "}[min(j, 1)], part)
			}
		}
	}
	var lines []string
	for _, e := range r.Exceptions {
		lines = append(lines, fmt.Sprintf("%s: %s: %d of %d, %s", e.Column, e.Rule, e.Count, e.Of, e.Where))
	}
	list("exceptions", lines)
	lines = nil
	for _, t := range r.Ties {
		lines = append(lines, t.String())
	}
	list(fmt.Sprintf("ties: %d rows choose another of equal values", len(r.Ties)), lines)
	if len(r.Facts) > 0 {
		b.WriteString("\nfor information, judged by nobody\n")
		facts(r.Facts)
	}
	lines = nil
	for _, c := range r.Columns {
		n := 0
		for _, s := range c.Stages {
			if s.Verdict == Pass {
				continue
			}
			if n++; n <= 3 {
				lines = append(lines, fmt.Sprintf("%s: %s: %s", c.Name, s.Name, s.Why))
			}
		}
		if n > 3 {
			lines = append(lines, fmt.Sprintf("%s: and %d more stages", c.Name, n-3))
		}
	}
	for _, c := range r.Checks {
		if c.Why != "" {
			lines = append(lines, fmt.Sprintf("%s: %s: %s", c.Name, c.Verdict, c.Why))
		}
	}
	if len(lines) > 0 {
		fmt.Fprintf(b, "\n%s\n", o.verdict(Fail))
		for _, line := range lines {
			for j, part := range wrap(line, width-4) {
				fmt.Fprintf(b, "%s%s\n", []string{"  ", "    "}[min(j, 1)], part)
			}
		}
	}
	first := "none"
	if r.First != "" {
		if first = r.First; r.Where != r.First {
			first += ", " + r.Where
		}
	}
	fmt.Fprintf(b, "\nfirst diverging stage: %s\n", first)
	if r.Remark != "" {
		for _, line := range wrap(r.Remark, width) {
			fmt.Fprintln(b, line)
		}
	}
}

// verdict is coloured on a terminal.
func (o Text) verdict(v Verdict) string {
	if !o.Colour {
		return string(v)
	}
	return map[Verdict]string{Pass: "\x1b[32m", Fail: "\x1b[31m", NotJudged: "\x1b[33m"}[v] + string(v) + "\x1b[0m"
}

// columns writes lines in columns, the first and the last flush left, the
// others flush right.
func columns(b *strings.Builder, lines [][]string) {
	wide := make([]int, len(lines[0]))
	for _, l := range lines {
		for i, c := range l {
			wide[i] = max(wide[i], utf8.RuneCountInString(c))
		}
	}
	for _, l := range lines {
		line := ""
		for i, c := range l {
			pad := strings.Repeat(" ", wide[i]-utf8.RuneCountInString(c))
			switch {
			case i == 0:
				line = c + pad
			case i == len(l)-1:
				line += "  " + c
			default:
				line += "  " + pad + c
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}

// wrap splits text into lines of at most that many characters, where it has
// spaces.
func wrap(text string, most int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > most {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
