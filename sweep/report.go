package sweep

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"ossify/internal/quote"
	"ossify/parity"
)

// A Report is what the outcomes of a sweep say together.
type Report struct {
	Title    []parity.Fact  `json:"title"`
	Elements int            `json:"elements"`
	Passed   int            `json:"passed"`
	Verdict  parity.Verdict `json:"verdict"`
	Worst    *Worst         `json:"worst,omitempty"`
	Stages   []Stage        `json:"stages"`    // in the order in which they are met
	Places   []Place        `json:"positions"` // by position of the first token
	Choices  Choices        `json:"choices"`   // of experts, by the values before
	Free     Choices        `json:"free"`      // of free runs beside the reference's
	Failures []Failure      `json:"failures,omitempty"`

	stages map[string]int // places in Stages
}

// A Worst stage is the one that failed first, else that needs most of its bound.
type Worst struct {
	Stage   string  `json:"stage"`
	Used    float64 `json:"used"`
	Command string  `json:"command"`
}

// A Place is a range of positions.
type Place struct {
	From     int     `json:"from"`
	To       int     `json:"to"` // inclusive
	Elements int     `json:"elements"`
	Failed   int     `json:"failed,omitempty"`
	Used     float64 `json:"used"`
	Stage    string  `json:"worst,omitempty"`
	Stages   []Stage `json:"stages"` // of its elements alone
	Choices  Choices `json:"choices"`
}

// A Failure is one element that did not pass.
type Failure struct {
	Element int    `json:"element"`
	Stage   string `json:"first_diverging,omitempty"`
	Where   string `json:"where,omitempty"`
	Why     string `json:"why"`
	Command string `json:"command"`
	Repeats string `json:"repeats"` // yes, no or not tried

	args []string
}

// NewReport returns a report of nothing.
func NewReport(title []parity.Fact) *Report {
	r := &Report{Title: title, stages: map[string]int{}}
	for from, to := 0, 255; from < 1<<24; from, to = to+1, to*4+3 {
		r.Places = append(r.Places, Place{From: from, To: to})
	}
	return r
}

// Add adds an outcome; they come in their order. command is what repeats it.
func (r *Report) Add(o Outcome, command string) {
	r.Elements++
	if o.Verdict == parity.Pass {
		r.Passed++
	} else {
		r.Failures = append(r.Failures, Failure{o.Number, o.Stage, o.Where, o.Why, command, "not tried", o.Args})
	}
	place := &r.Places[0]
	for i := range r.Places {
		if o.First >= r.Places[i].From {
			place = &r.Places[i]
		}
	}
	place.Elements++
	if o.Verdict != parity.Pass {
		place.Failed++
	}
	for _, s := range o.Stages {
		if s.Used > place.Used {
			place.Used, place.Stage = s.Used, s.Worst
		}
		i, ok := r.stages[s.Kind]
		if !ok {
			i = len(r.Stages)
			r.stages[s.Kind] = i
			r.Stages = append(r.Stages, Stage{Kind: s.Kind, By: -1})
		}
		r.Stages[i].add(s)
		j := slices.IndexFunc(place.Stages, func(p Stage) bool { return p.Kind == s.Kind })
		if j < 0 {
			j = len(place.Stages)
			place.Stages = append(place.Stages, Stage{Kind: s.Kind, By: -1})
		}
		place.Stages[j].add(s)
		if o.Verdict == parity.Pass && (r.Worst == nil || s.Used > r.Worst.Used) {
			r.Worst = &Worst{s.Worst, s.Used, command}
		}
	}
	place.Choices.add(o.Choices)
	r.Choices.add(o.Choices)
	r.Free.add(o.Free)
}

// Repeat runs the commands of failures again, so many at most, and notes whether
// they fail at the same stage for the same reason.
func (r *Report) Repeat(ctx context.Context, judge Judge, most int) error {
	for i := range r.Failures {
		if i == most {
			return nil
		}
		f := &r.Failures[i]
		again, err := judge(ctx, f.args)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f.Repeats = "no"
		if err != nil {
			if quote.Plain(err.Error()) == f.Why {
				f.Repeats = "yes"
			}
			continue
		}
		if o := outcome(Element{Number: f.Element, Args: f.args}, again); o.Verdict != parity.Pass && o.Stage == f.Stage && o.Where == f.Where && o.Why == f.Why {
			f.Repeats = "yes"
		}
	}
	return nil
}

// End draws the verdict: all elements passed.
func (r *Report) End() {
	r.Verdict = parity.Pass
	if r.Passed != r.Elements || r.Elements == 0 {
		r.Verdict = parity.Fail
	}
	if len(r.Failures) > 0 {
		f := r.Failures[0]
		r.Worst = &Worst{Stage: f.Stage, Command: f.Command}
	}
	places := r.Places[:0]
	for _, p := range r.Places {
		if p.Elements > 0 {
			places = append(places, p)
		}
	}
	r.Places = places
}

// mostShown is how many failures the text has.
const mostShown = 20

// WriteText writes the report for a terminal.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Title {
		fmt.Fprintf(&b, "%-11s %s\n", f.Name, f.Text)
	}
	fmt.Fprintf(&b, "elements    %d, of which %d pass\n", r.Elements, r.Passed)
	b.WriteString("\nFor each kind of stage: how often it was judged, and failed; its numbers, and how\nmany of them are the rounding of the exact value, and within 1 unit in the last\nplace; the largest part of its bound that one needs, and in which element.\n\n")
	fmt.Fprintf(&b, "%-32s %8s %6s %12s %8s %8s %5s %7s\n", "stage", "judged", "failed", "numbers", "exact", "1 ulp", "used", "element")
	for _, s := range r.Stages {
		exact, one := "", ""
		if len(s.ULPs) > 0 && s.Elements > 0 {
			first := s.ULPs[0]
			exact = fmt.Sprintf("%.3f%%", 100*float64(first)/float64(s.Elements))
			if len(s.ULPs) > 1 {
				first += s.ULPs[1]
			}
			one = fmt.Sprintf("%.3f%%", 100*float64(first)/float64(s.Elements))
		}
		fmt.Fprintf(&b, "%-32s %8d %6d %12d %8s %8s %5.2f %7d\n", s.Kind, s.Runs, s.Failed, s.Elements, exact, one, s.Used, s.By)
	}
	fmt.Fprintf(&b, "\n%-21s %8s %6s %5s  %s\n", "first position", "elements", "failed", "used", "by")
	for _, p := range r.Places {
		fmt.Fprintf(&b, "%-21s %8d %6d %5.2f  %s\n", fmt.Sprintf("%d to %d", p.From, p.To), p.Elements, p.Failed, p.Used, p.Stage)
	}
	fmt.Fprintf(&b, "\nexperts by the values before: %d of %d rows the same, %d tied, %d wrong\n", r.Choices.Same, r.Choices.Rows, r.Choices.Ties, r.Choices.Wrong)
	if r.Free.Rows > 0 {
		fmt.Fprintf(&b, "experts of free runs beside the reference's: %d of %d rows the same\n", r.Free.Same, r.Free.Rows)
	}
	for i, f := range r.Failures {
		if i == mostShown {
			fmt.Fprintf(&b, "\nand %d more failures\n", len(r.Failures)-i)
			break
		}
		at := f.Stage
		if f.Where != "" && f.Where != at {
			at += ", " + f.Where
		}
		fmt.Fprintf(&b, "\nelement %d fails at %s: %s\n  repeats: %s\n  %s\n", f.Element, at, f.Why, f.Repeats, f.Command)
	}
	if r.Worst != nil {
		fmt.Fprintf(&b, "\nworst: %s", r.Worst.Stage)
		if len(r.Failures) == 0 {
			fmt.Fprintf(&b, ", which needs %.2f of its bound", r.Worst.Used)
		}
		fmt.Fprintf(&b, "\n  %s\n", r.Worst.Command)
	}
	fmt.Fprintf(&b, "\nverdict: %s\n", r.Verdict)
	_, err := io.WriteString(w, b.String())
	return err
}
