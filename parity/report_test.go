package parity

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"ossify/checkpoint"
)

// fitted is a stage whose second element is at a part of its bound of 4 units.
func fitted(name string, units float64) StageReport {
	const ulp = 0x1p-23
	return Fitted(name, []int{3, 5}, Judge([]float64{1, 1 + units*ulp}, []float64{1, 1 - 4*ulp}, []float64{1, 1 + 4*ulp}, checkpoint.F32))
}

func exact(name string) StageReport {
	return Fitted(name, []int{3, 5}, Judge([]float64{1, 2}, []float64{1, 2}, []float64{1, 2}, checkpoint.F32))
}

func report() *Report {
	r := &Report{
		Title:   []Fact{{"golden", "some.safetensors"}, {"reference", strings.Repeat("a long line of words ", 10)}},
		Columns: []*Column{{Name: "pytorch", What: "the reference"}, {Name: "forced", What: "the engine"}},
		Facts:   []Fact{{"same top token", "5 of 5"}},
	}
	for i, c := range r.Columns {
		c.Add(exact("embedding"))
		c.Add(fitted("block.0.attn.qkv", 1.5+float64(i)))
		c.Add(fitted("block.1.attn.qkv", 2.5))
		c.Add(Chosen("block.0.mlp.experts", &Choice{Rows: 2, Same: 1, Ties: []Tie{{"block.0.mlp.experts", 5, []int{2, 1}, []int{1, 2}}}}))
	}
	return r
}

func text(t *testing.T, r *Report, o Text) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteText(&b, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReport(t *testing.T) {
	r := report()
	r.Exceptions = []Exception{{"pytorch", "a rule", 3, 12, "block.0.mlp.mlp1"}}
	r.Ties = r.Columns[0].Stages[3].Choice.Ties
	r.Judge()
	got := text(t, r, Text{})
	for _, want := range []string{
		"\nstage                pytorch  forced  verdict\n",
		"\nembedding              exact   exact  pass\n",
		"\nblock.*.attn.qkv        0.50    0.50  pass\n",
		"\nblock.*.mlp.experts   1 tied  1 tied  pass\n",
		"\n  pytorch: a rule: 3 of 12, block.0.mlp.mlp1\n",
		"\n  block.0.mlp.experts, position 5: [2 1] for [1 2]\n",
		"\nsame top token  5 of 5\n",
		"\nfirst diverging stage: none\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if !strings.HasSuffix(got, "\nverdict: pass\n") || strings.Contains(got, "\x1b") {
		t.Errorf("ends without its verdict, or with colours:\n%s", got)
	}
	for line := range strings.Lines(got) {
		if utf8.RuneCountInString(line) > 81 {
			t.Errorf("longer than 80: %s", line)
		}
	}
	if all := text(t, r, Text{All: true}); !strings.Contains(all, "\nblock.0.attn.qkv        0.25    0.50  pass\nblock.1.attn.qkv        0.50    0.50  pass\n") {
		t.Errorf("all stages:\n%s", all)
	}
	if colour := text(t, r, Text{Colour: true}); !strings.HasSuffix(colour, "verdict: \x1b[32mpass\x1b[0m\n") {
		t.Errorf("colour:\n%s", colour)
	}
	var b bytes.Buffer
	var back Report
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back.Verdict != Pass || len(back.Table) != 3 || back.Table[1].Layers != 2 || back.Columns[0].Stages[1].Fit.Used == 0 {
		t.Errorf("JSON: %v, %+v", err, back)
	}
}

// A failing kind shows the first layer that fails, and nothing of the others;
// the first stage of all is named, whatever the column.
func TestReportOfFailure(t *testing.T) {
	r := report()
	r.Columns[0].Add(fitted("block.2.attn.qkv", 3.9))
	r.Columns[0].Add(exact("norm"))
	r.Columns[1].Add(fitted("block.2.attn.qkv", 5))
	r.Columns[1].Add(Fitted("norm", []int{3}, Judge([]float64{2}, []float64{1}, []float64{1}, checkpoint.F32)))
	r.Judge()
	got := text(t, r, Text{})
	for _, want := range []string{
		"\nblock.*.attn.qkv        0.85   1 off  fail\n",
		"\nnorm                   exact   1 off  fail\n",
		"1 of 2 elements outside their bounds; position 5,\n    element 0 is 1.0000006, want 0.999999523 to 1.00000048 (rms 1)",
		"\nfirst diverging stage: block.2.attn.qkv, forced\n",
		"\nverdict: fail\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if r.Columns[0].Verdict != Pass || r.Columns[1].First != "block.2.attn.qkv" || r.Verdict != Fail {
		t.Errorf("%+v", r)
	}
}

// What is not judged has not passed.
func TestReportOfWhatIsMissing(t *testing.T) {
	r := report()
	r.Columns = append(r.Columns, &Column{Name: "free", What: "a run", Missing: "no time"})
	r.Judge()
	if got := text(t, r, Text{}); r.Verdict != NotJudged || !strings.Contains(got, "not judged: no time") {
		t.Errorf("%s:\n%s", r.Verdict, got)
	}
	r = &Report{Checks: []Check{CheckNear("near", 1, []float64{1}, []float64{3})}}
	r.Judge()
	if r.Verdict != Fail || r.First != "near" {
		t.Errorf("%+v", r)
	}
	if r = (&Report{}); r.Verdict == Pass {
		t.Error("nothing passes")
	}
	if r.Judge(); r.Verdict != Fail {
		t.Errorf("nothing judged: %s", r.Verdict)
	}
}

// Steps within a stage stand below it, though they are computed before.
func TestSteps(t *testing.T) {
	r := &Report{Columns: []*Column{{Name: "engine"}}}
	for _, name := range []string{"block.0.attn.rope.q", "block.0.attn.sdpa.scores", "block.0.attn.sdpa.a.b", "block.0.attn.sdpa", "block.0.attn", "block.0.mlp.swiglu", "norm", "unembedding"} {
		r.Columns[0].Add(exact(name))
	}
	r.Judge()
	got := text(t, r, Text{})
	if want := `
stage                engine  verdict
block.*.attn.rope.q   exact  pass
block.*.attn.sdpa     exact  pass
  .scores             exact  pass
  .a.b                exact  pass
block.*.attn          exact  pass
block.*.mlp.swiglu    exact  pass
norm                  exact  pass
unembedding           exact  pass
`; !strings.Contains(got, want) {
		t.Errorf("no %s in\n%s", want, got)
	}
}
