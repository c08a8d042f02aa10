package parity

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// A Part is a report that becomes part of another, under a name.
type Part struct {
	Name   string
	Report *Report
}

// Merge puts reports together. Columns, checks and what is said of one of them
// only carry its name; what all say is said once. The verdict is drawn anew from
// every stage and check.
func Merge(parts ...Part) *Report {
	r := &Report{}
	facts := func(of func(*Report) []Fact) (list []Fact) {
		for _, p := range parts {
			for _, f := range of(p.Report) {
				common := !slices.ContainsFunc(parts, func(other Part) bool { return !slices.Contains(of(other.Report), f) })
				if !common {
					f.Name = p.Name + ": " + f.Name
				}
				if !slices.Contains(list, f) {
					list = append(list, f)
				}
			}
		}
		return list
	}
	r.Title = facts(func(r *Report) []Fact { return r.Title })
	r.Facts = facts(func(r *Report) []Fact { return r.Facts })
	r.Provenance = facts(func(r *Report) []Fact { return r.Provenance })
	for _, p := range parts {
		name := func(s string) string { return p.Name + " " + s }
		for _, c := range p.Report.Columns {
			column := *c
			column.Name = name(c.Name)
			r.Columns = append(r.Columns, &column)
		}
		for _, e := range p.Report.Exceptions {
			e.Column = name(e.Column)
			r.Exceptions = append(r.Exceptions, e)
		}
		for _, c := range p.Report.Checks {
			c.Name = name(c.Name)
			r.Checks = append(r.Checks, c)
		}
		r.Ties = append(r.Ties, p.Report.Ties...)
		for _, f := range p.Report.Faults {
			if f.Name = name(f.Name); f.Where != "" {
				f.Where = name(f.Where)
			}
			r.Faults = append(r.Faults, f)
		}
		// What is for information is of one run: the first that has it.
		if len(r.Routing) == 0 {
			r.Routing = p.Report.Routing
		}
		if len(r.Edges) == 0 {
			r.Edges = p.Report.Edges
		}
		if p.Report.Remark != "" {
			r.Remark += p.Name + ": " + p.Report.Remark + "\n"
		}
	}
	r.Judge()
	return r
}

// ParseReport reads a report that was written as JSON. Its verdict is not taken
// over but drawn from the stages and checks.
func ParseReport(text []byte) (*Report, error) {
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("parity: no report in JSON: %w", err)
	}
	if len(r.Columns) == 0 && len(r.Checks) == 0 {
		return nil, errors.New("parity: a report without programs and checks, want what verify --json prints")
	}
	for i, c := range r.Columns {
		if c == nil || c.Name == "" || len(c.Stages) == 0 && c.Missing == "" {
			return nil, fmt.Errorf("parity: program %d of the report has no name or no stages", i+1)
		}
		c.First = ""
		for _, s := range c.Stages {
			if s.Verdict == Fail && c.First == "" {
				c.First = s.Name
			}
		}
	}
	r.Judge()
	return &r, nil
}
