package page

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"ossify/parity"
	"ossify/parity/page"
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

// outside is what a page must not have: whatever asks for something elsewhere,
// or runs.
var outside = regexp.MustCompile(`(?i)<script|<link|<img|<iframe|<object|<embed|<base|<[^<>]*\s(on[a-z]+|style)\s*=|<[^<>]*javascript:|url\(|@import|<form`)

var tag = regexp.MustCompile(`<(/?[a-zA-Z!][a-zA-Z0-9]*)`)

// elements counts the tags of a page: text has no "<".
func elements(t *testing.T, text string) map[string]int {
	t.Helper()
	n := map[string]int{}
	for _, m := range tag.FindAllStringSubmatch(text, -1) {
		n[m[1]]++
	}
	for _, name := range []string{"html", "section", "table", "svg", "ol", "li", "code"} {
		if n[name] != n["/"+name] {
			t.Errorf("%d <%s>, %d of its ends", n[name], name, n["/"+name])
		}
	}
	return n
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
		elements(t, got)
		if !strings.HasPrefix(got, page.Mark) || !strings.HasSuffix(got, "</html>\n") || len(got) > 1e6 || outside.MatchString(got) {
			t.Errorf("%s: %d bytes, starts %.40q, has %q", c.name, len(got), got, outside.FindString(got))
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

// fill puts text into every string of a report, but its verdicts.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fill(v.Elem(), text)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), text)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			fill(v.Index(i), text)
		}
	case reflect.String:
		if v.Type() != reflect.TypeFor[parity.Verdict]() {
			v.SetString(v.String() + text)
		}
	}
}

// Whatever names and numbers a report holds, its page has the same elements, and no
// text that a browser takes for markup.
func TestHostile(t *testing.T) {
	for _, elementsOf := range []*sweep.Report{made(4, 0), made(4, 2)} {
		fill(reflect.ValueOf(elementsOf), "plain")
		want := elements(t, written(t, "plain", elementsOf))
		for _, text := range []string{
			`</title><script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `</style><style>body{display:none}`,
			`javascript:alert(1)`, `<!-- `, `-->`, `]]>`, `{{.}}`, `&lt;b&gt;`, "a\x00b\x1b[31m\u202eevil", "\xff\xfe", `<svg onload=alert(1)>`,
			strings.Repeat("long ", 1000),
		} {
			r := made(4, len(elementsOf.Failures))
			fill(reflect.ValueOf(r), text)
			got := written(t, text, r)
			if found := outside.FindString(got); found != "" {
				t.Errorf("%.30q: the page has %q", text, found)
			}
			if strings.ContainsAny(got, "\x00\x1b\u202e") || strings.Contains(got, "\xff") {
				t.Errorf("%.30q: not printable", text)
			}
			if have := elements(t, got); !reflect.DeepEqual(have, want) {
				t.Errorf("%.30q: %v, want %v", text, have, want)
			}
		}
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
		elements(t, written(t, "x", r))
	}
}

// A writer that fails is the error, and gets nothing of a page in pieces.
func TestWriterFails(t *testing.T) {
	w := &broken{}
	if err := Write(w, "x", made(2, 1), nil); !errors.Is(err, errBroken) || w.calls != 1 {
		t.Errorf("%v after %d writes", err, w.calls)
	}
}

var errBroken = errors.New("broken")

type broken struct{ calls int }

func (w *broken) Write([]byte) (int, error) { w.calls++; return 0, errBroken }
