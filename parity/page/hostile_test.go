package page

import (
	"encoding/xml"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"ossify/parity"
	"ossify/parity/page/pagetest"
)

// Whatever names a report holds, its page has the same elements as one with
// plain names, and no text that a browser takes for markup.
func TestHostileNames(t *testing.T) {
	pagetest.Hostile(t, func(text string) string {
		r := made(2)
		pagetest.Fill(r, text)
		r.Judge()
		return written(t, text, r)
	})
}

// Numbers that are none, or beyond all, leave a page that is whole.
func TestHostileNumbers(t *testing.T) {
	for _, x := range []float64{math.NaN(), math.Inf(1), math.MaxFloat64, -1, 0, 5e-324} {
		r := made(2)
		for _, c := range r.Columns {
			for i := range c.Stages {
				if f := c.Stages[i].Fit; f != nil {
					f.RMS, f.Error, f.Max, f.Used, f.Rounding = x, x, x, x, x
				}
				if c := c.Stages[i].Choice; c != nil {
					c.LeastGap, c.MedianGap = x, x
				}
				for j := range c.Stages[i].Rows {
					c.Stages[i].Rows[j].Error = x
				}
			}
		}
		for i := range r.Edges {
			for j := range r.Edges[i].Rows {
				r.Edges[i].Rows[j] = parity.EdgeRow{Position: 128, Oldest: x, Sink: x, Wider: x, Narrower: x}
			}
		}
		r.Judge()
		got := written(t, "x", r)
		pagetest.Elements(t, "numbers", got)
		if strings.Contains(got, "NaN") && x == x || len(got) > 1e6 {
			t.Errorf("%g: %d bytes, or NaN", x, len(got))
		}
	}
	r := made(2)
	for _, c := range r.Columns {
		for i := range c.Stages {
			if f := c.Stages[i].Fit; f != nil {
				f.ULPs = make([]int, 100)
				f.ULPs[99] = 1
			}
			if c := c.Stages[i].Choice; c != nil {
				c.Gaps = make([]int, 100)
			}
		}
	}
	for i := range r.Routing {
		r.Routing[i].Gaps, r.Routing[i].Turned = make([]int, 100), make([]int, 100)
	}
	pagetest.Elements(t, "long lists", written(t, "long lists", r))
}

// A report of nothing, of one stage, of too many.
func TestSizes(t *testing.T) {
	r := &parity.Report{}
	r.Judge()
	if got := written(t, "nothing", r); !strings.Contains(got, "Something changed.") {
		t.Error("nothing judged is no pass")
	}
	r = &parity.Report{Columns: []*parity.Column{{Name: "free", Missing: "no time"}}}
	r.Judge()
	if got := written(t, "x", r); !strings.Contains(got, "Not everything was judged.") || !strings.Contains(got, "not judged: no time") {
		t.Error("a run that was not judged is not said")
	}
	r = made(0)
	for range mostStages {
		r.Columns[0].Stages = append(r.Columns[0].Stages, r.Columns[0].Stages[0])
	}
	if err := Write(io.Discard, "x", r); err == nil || !strings.Contains(err.Error(), "want at most 20000") {
		t.Errorf("too many stages: %v", err)
	}
}

// What failed is said, first in plain words.
func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*parity.Report)
		want []string
	}{
		{"stage", func(r *parity.Report) {
			s := &r.Columns[1].Stages[5]
			s.Verdict, s.Why, s.Fit.Outside = parity.Fail, "3 of 200 elements", 3
		}, []string{"Something changed.", "The first stage that is not as it must be is block.0.attn.v, in the run “forced”", "<strong>block.0.attn.v</strong>, forced: 3 of 200 elements",
			`<td class="off">3<span class="sr"> outside</span></td>`, `<td class="num off">3 off</td>`}},
		{"check", func(r *parity.Report) { r.Checks[0].Verdict, r.Checks[0].Why = parity.Fail, "off by 1" }, []string{"The stages agree, but this check does not: the same bits", "off by 1"}},
		{"fault", func(r *parity.Report) { r.Faults[3].At, r.Faults[3].Stages = "", nil }, []string{"A known bug went uncaught.", "“fault 3”", "not caught", "45 of 46"}},
		{"fault elsewhere", func(r *parity.Report) { r.Faults[3].At = "norm" }, []string{"A known bug went uncaught.", "elsewhere", "45 of 46"}},
		{"many", func(r *parity.Report) {
			for i := range r.Columns[0].Stages {
				r.Columns[0].Stages[i].Verdict = parity.Fail
			}
		}, []string{"and 7 more"}},
		{"tie", func(r *parity.Report) {
			t := parity.Tie{Stage: "block.0.mlp.experts", Position: 5, Chosen: []int{2, 1}, Lowest: []int{1, 2}}
			r.Ties = append(r.Ties, t)
		}, []string{"block.0.mlp.experts, position 5: [2 1] for [1 2]"}},
		{"no faults", func(r *parity.Report) { r.Faults = nil }, []string{"Nothing changed.", "No faults were put into the model"}},
	} {
		r := made(2)
		tt.edit(r)
		r.Judge()
		got := written(t, "x", r)
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q", tt.name, want)
			}
		}
	}
}

// A writer that fails is the error, and gets nothing of a page in pieces.
func TestWriterFails(t *testing.T) {
	pagetest.WriterFails(t, func(w io.Writer) error { return Write(w, "x", made(1)) })
}

// A line's points stand above their ticks, however many; a bar's do too.
func TestPointsStandAboveTheirTicks(t *testing.T) {
	for _, n := range []int{2, 4, 7, 12, 24, 36} {
		c := Chart{Title: "t", X: "layer", Max: 1, Step: 0.5, Format: Number, Series: []Series{{Class: "p0"}}}
		for i := range n {
			c.Labels = append(c.Labels, strconv.Itoa(i))
			c.Series[0].Values = append(c.Series[0].Values, 0.5)
		}
		text, err := c.SVG("x")
		if err != nil {
			t.Fatal(err)
		}
		ticks, points := map[float64]bool{}, []float64{}
		d := xml.NewDecoder(strings.NewReader(string(text)))
		for {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			e, ok := token.(xml.StartElement)
			if !ok {
				continue
			}
			at := map[string]string{}
			for _, a := range e.Attr {
				at[a.Name.Local] = a.Value
			}
			if x, ok := at["cx"]; ok {
				v, _ := strconv.ParseFloat(x, 64)
				points = append(points, v)
			}
			if e.Name.Local == "path" && at["class"] == "l-axis" {
				x, _, _ := strings.Cut(strings.TrimPrefix(at["d"], "M"), " ")
				v, _ := strconv.ParseFloat(x, 64)
				ticks[v] = true
			}
		}
		if len(points) != n {
			t.Fatalf("%d points, want %d", len(points), n)
		}
		for _, x := range points {
			if !ticks[x] && !ticks[x-1] && !ticks[x+1] {
				t.Errorf("%d points: the one at %g has no tick; ticks %v", n, x, ticks)
			}
		}
	}
}

// The library's colours are ours, else the style sheet would not decide.
func TestColours(t *testing.T) {
	c := Chart{Series: []Series{{Class: "p0"}}}
	for _, colour := range []string{"white", "rgb(0,0,0)", "rgb(1,77,33)", "rgba(0,77,33,0.5)", ""} {
		if class, err := c.class(colour); err == nil {
			t.Errorf("%q is %q, want an error", colour, class)
		}
	}
	if class, err := c.class("rgb(0,77,33)"); class != "p0" || err != nil {
		t.Errorf("%q, %v", class, err)
	}
	for _, bad := range []string{`<svg><image/></svg>`, `<svg><path onload="x"/></svg>`, `<svg><path`, `<svg><path style="fill:red"/></svg>`} {
		if _, err := c.restyled([]byte(bad), "x"); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

// Figures are short and never say more than is.
func TestFigures(t *testing.T) {
	for got, want := range map[string]string{
		small(0): "0", small(1.23e-7): "1.2·10⁻⁷", small(9.99e-8): "1.0·10⁻⁷", small(0.012): "0.012", small(5): "5", small(12345): "1.2·10⁴",
		Count(0): "0", Count(999): "999", Count(1000): "1,000", Count(1234567): "1,234,567", Count(-1234): "-1,234",
		Share(1, 1): "100%", Share(999999, 1000000): "99.9999%", Share(0, 5): "0.0%", Share(0, 0): "–", Share(1, 3): "33.3%",
		brief(9999): "9999", brief(12345): "12k", brief(12345678): "12M",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for _, most := range []float64{1e-9, 0.37, 1, 1.2, 5.9, 6, 9.99, 1e6} {
		unit, top, step := scale(most)
		scaled := most / math.Pow(10, float64(unit))
		if !(top >= scaled-1e-9 && top <= scaled+step+1e-9 && top/step <= 7) {
			t.Errorf("%g: to %g by %g, in 10^%d", most, top, step, unit)
		}
	}
}
