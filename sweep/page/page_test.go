package page

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"ossify/parity"
	"ossify/parity/page"
	"ossify/parity/page/pagetest"
	"ossify/sweep"
)

// made is a report of so many comparisons in two ranges of positions; every
// failing one fails.
func made(elements, failing int) *sweep.Report {
	r := sweep.NewReport([]parity.Fact{{Name: "checkpoint", Text: "20b, original layout"}})
	for i := range elements {
		o := sweep.Outcome{Element: sweep.Element{Number: i, First: i % 2 * 4088, Tokens: 17}, Verdict: parity.Pass}
		if i < failing {
			o.Verdict, o.Stage, o.Where, o.Why = parity.Fail, "block.1.attn.qkv", "free", "3 of 10 outside; position 7, element 3"
		}
		for j, kind := range []string{"embedding", "block.*.attn.qkv", "block.*.mlp.experts"} {
			s := sweep.Stage{Kind: kind, Runs: 2, By: i, Worst: strings.Replace(kind, "*", "1", 1), Elements: 100, ULPs: []int{100}}
			switch j {
			case 1:
				s.Used, s.ULPs = 0.25+float64(i%2)/2, []int{90, 9, 1}
				if i < failing {
					s.Failed, s.Outside = 1, 3
				}
			case 2:
				s.Elements, s.ULPs = 0, nil
			}
			o.Stages = append(o.Stages, s)
		}
		o.Choices = sweep.Choices{Rows: 34, Same: 34}
		if i == 0 {
			o.Free = sweep.Choices{Rows: 10, Same: 9}
		}
		r.Add(o, fmt.Sprintf("ossify verify x --tokens-seed %d", i))
	}
	r.End()
	return r
}

func written(t *testing.T, name string, r *sweep.Report) string {
	t.Helper()
	var b, again bytes.Buffer
	from := []parity.Fact{{Name: "made", Text: "2026-01-02T03:04:05Z"}}
	if err := errors.Join(Write(&b, name, r, from), Write(&again, name, r, from)); err != nil {
		t.Fatal(err)
	}
	if again.String() != b.String() {
		t.Error("written again, it is another page")
	}
	return b.String()
}

func TestPage(t *testing.T) {
	for _, c := range []struct {
		name              string
		elements, failing int
		want, not         []string
	}{
		{"all pass", 6, 0, []string{"Nothing changed.", `<span class="badge">pass</span>`, "6 comparisons, with 1,200 numbers and 204 choices",
			"<code>block.1.attn.qkv</code> needs most of its bound: 0.75", "ossify verify x --tokens-seed 1<", `id="places-used-t"`, "0 to 255", "1,024 to 4,095",
			`<td class="u1">.25</td><td class="u3">.75</td>`, "<code>embedding</code>", "9 of 10 rows (90.0%)", "20b, original layout", "2026-01-02T03:04:05Z", ">204<"}, []string{"What failed"}},
		{"two fail", 6, 2, []string{"Something changed.", "2 of 6 comparisons fail. The first is element 0, at the stage block.1.attn.qkv.", "What failed",
			"<strong>block.1.attn.qkv</strong>, free: 3 of 10 outside; position 7, element 3", "ossify verify x --tokens-seed 0<", "ossify verify x --tokens-seed 1<", "run again: <span class=\"verdict open\">not tried</span>",
			`<td class="off">3<span class="sr"> outside</span></td>`, "failed first. This command repeats it"}, []string{"--tokens-seed 2<", "more, which"}},
		{"one comparison", 1, 0, []string{"Nothing changed.", "1 comparison,"}, []string{`id="places-used-t"`}},
		{"nothing", 0, 0, []string{"Nothing was compared.", `<span class="badge">fail</span>`}, []string{"Nothing changed", `id="stages"`}},
		{"more than it holds", Most + 7, Most + 7, []string{"And 7 more, which <code>--json</code> has", fmt.Sprintf("--tokens-seed %d<", Most-1)}, []string{fmt.Sprintf("--tokens-seed %d<", Most)}},
	} {
		r := made(c.elements, c.failing)
		got := written(t, "20b", r)
		pagetest.Elements(t, c.name, got)
		if !strings.HasPrefix(got, page.Mark) || !strings.HasSuffix(got, "</html>\n") || len(got) > 1e6 {
			t.Errorf("%s: %d bytes, starts %.40q", c.name, len(got), got)
		}
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q", c.name, want)
			}
		}
		for _, not := range c.not {
			if strings.Contains(got, not) {
				t.Errorf("%s: has %q", c.name, not)
			}
		}
	}
	r := made(3, 2)
	r.Failures[0].Repeats, r.Failures[1].Repeats = "yes", "no"
	if got := written(t, "x", r); !strings.Contains(got, `<span class="verdict pass">yes</span>`) || !strings.Contains(got, `<span class="verdict fail">no</span>`) {
		t.Error("what came of running them again is not said")
	}
}

// Whatever names and numbers a report holds, its page has the same elements, and no
// text that a browser takes for markup.
func TestHostile(t *testing.T) {
	for _, failing := range []int{0, 2} {
		pagetest.Hostile(t, func(text string) string {
			r := made(4, failing)
			pagetest.Fill(r, text)
			return written(t, text, r)
		})
	}
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, -1, 5e-324} {
		r := made(4, 1)
		r.Worst.Used = x
		for i := range r.Stages {
			r.Stages[i].Used, r.Stages[i].ULPs = x, make([]int, 100)
			r.Stages[i].ULPs[99] = 1
		}
		for i := range r.Places {
			r.Places[i].Used = x
			for j := range r.Places[i].Stages {
				r.Places[i].Stages[j].Used = x
			}
		}
		pagetest.Elements(t, "numbers", written(t, "x", r))
	}
}

// A writer that fails is the error, and gets nothing of a page in pieces.
func TestWriterFails(t *testing.T) {
	pagetest.WriterFails(t, func(w io.Writer) error { return Write(w, "x", made(2, 1), nil) })
}
