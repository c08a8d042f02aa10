package parity

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// one is a report of one program with one stage and one check.
func one(precision string, stage, check Verdict) *Report {
	r := &Report{
		Title:      []Fact{{"checkpoint", "x"}, {"precision", precision}},
		Facts:      []Fact{{"same top token", precision}},
		Exceptions: []Exception{{Column: "engine", Rule: "rule", Count: 1, Of: 2, Where: "s"}},
		Checks:     []Check{{Name: "cache", Verdict: check}},
	}
	c := &Column{Name: "engine", What: precision}
	s := exact("norm")
	s.Verdict = stage
	c.Add(s)
	r.Columns = append(r.Columns, c)
	r.Judge()
	return r
}

// A merged report passes only if every part does, and says which does not.
func TestMerge(t *testing.T) {
	for _, tt := range []struct {
		name         string
		a, b         *Report
		want         Verdict
		first, where string
	}{
		{"both pass", one("bf16", Pass, Pass), one("f32", Pass, Pass), Pass, "", ""},
		{"a stage fails", one("bf16", Pass, Pass), one("f32", Fail, Pass), Fail, "norm", "f32 engine"},
		{"a check fails", one("bf16", Pass, Fail), one("f32", Pass, Pass), Fail, "bf16 cache", "bf16 cache"},
		{"a check is not judged", one("bf16", Pass, NotJudged), one("f32", Pass, Pass), NotJudged, "", ""},
	} {
		r := Merge(Part{"bf16", tt.a}, Part{"f32", tt.b})
		if r.Verdict != tt.want || r.First != tt.first || r.Where != tt.where {
			t.Errorf("%s: %s, first %q in %q", tt.name, r.Verdict, r.First, r.Where)
		}
		if tt.a.Columns[0].Name != "engine" {
			t.Errorf("%s: the part was changed: %q", tt.name, tt.a.Columns[0].Name)
		}
	}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(Merge(Part{"bf16", one("bf16", Pass, Pass)}, Part{"f32", one("f32", Pass, Pass)})); err != nil {
		t.Fatal(err)
	}
	for text, count := range map[string]int{`"name":"checkpoint"`: 1, `"name":"bf16: precision"`: 1, `"name":"f32: same top token"`: 1, `"bf16 engine"`: 2, `"f32 cache"`: 1} {
		if n := strings.Count(b.String(), text); n != count {
			t.Errorf("%s: %d times, want %d\n%s", text, n, count, b.String())
		}
	}
	if r := Merge(); r.Verdict == Pass {
		t.Error("nothing passes")
	}
}

// What a file says of its verdict counts for nothing.
func TestParseReport(t *testing.T) {
	whole, err := json.Marshal(one("f32", Fail, Pass))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"whole", string(whole), ""},
		{"not JSON", "verdict: pass", "no report"},
		{"nothing", "{}", "without programs"},
		{"null", `{"programs":[null]}`, "program 1"},
		{"no stages", `{"programs":[{"name":"engine","verdict":"pass"}]}`, "program 1"},
		{"of another type", `{"programs":7}`, "no report"},
	} {
		r, err := ParseReport([]byte(tt.text))
		switch {
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		case tt.want == "" && (err != nil || r.Verdict != Fail || r.First != "norm" || r.Columns[0].First != "norm"):
			t.Errorf("%s: %v %+v", tt.name, err, r)
		}
	}
	text := `{"programs":[{"name":"engine","stages":[{"name":"norm","verdict":"fail","why":"off"}],"verdict":"pass"}],"verdict":"pass"}`
	if r, err := ParseReport([]byte(text)); err != nil || r.Verdict != Fail || r.Columns[0].Verdict != Fail {
		t.Errorf("%v %+v", err, r)
	}
}

// What is said of one run, and the faults put into one, are kept.
func TestMergeKeepsTheRest(t *testing.T) {
	a, b := one("bf16", Pass, Pass), one("f32", Pass, Pass)
	b.Routing, b.Edges = []Routing{{Stage: "s"}}, []Edge{{Stage: "s"}}
	a.Provenance, b.Provenance = []Fact{{"ossify", "1"}, {"made", "then"}}, []Fact{{"ossify", "1"}, {"made", "now"}}
	b.Faults = []Caught{{Name: "x", Want: "s", At: "s", Where: "forced"}}
	r := Merge(Part{"bf16", a}, Part{"f32", b})
	if len(r.Routing) != 1 || len(r.Edges) != 1 || len(r.Provenance) != 3 || len(r.Faults) != 1 || r.Faults[0].Where != "f32 forced" || r.Verdict != Pass {
		t.Errorf("%+v", r)
	}
	b.Faults[0].At = ""
	if r := Merge(Part{"bf16", a}, Part{"f32", b}); r.Verdict != Fail || r.Where != Faults {
		t.Errorf("%s in %s", r.Verdict, r.Where)
	}
}
