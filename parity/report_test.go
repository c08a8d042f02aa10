package parity

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"ossify/checkpoint"
)

var update = flag.Bool("update", false, "write the goldens of this package anew")

// sample is a report with every kind of line.
func sample(precision string) *Report {
	typ, _ := ParsePrecision(precision)
	tol := Stated()
	r := &Report{
		Golden: "golden.safetensors", Precision: precision, Tokens: 400, Positions: 3,
		Reference:  map[string]string{"reference": "gpt-oss 0.0.9, model.py sha256 0123", "torch": "2.15.0", "cpu": "some\nprocessor"},
		Checkpoint: "/tmp/tiny, original layout", Tolerances: tol,
	}
	positions := []int{0, 5, 399}
	three := func(v ...float64) []float64 { return v }
	p := &Program{Name: "engine " + precision + ", portable kernels"}
	p.Add(tol.CompareStage("embedding", three(1, 2, 3), three(1, 2, 3), three(1, 2, 3), typ))
	for _, layer := range []string{"block.0.", "block.11."} {
		off := 0.0
		if layer == "block.11." {
			off = 0x1p-20
		}
		p.Add(tol.CompareStage(layer+"attn.norm", three(1, 2, 3), three(1, 2, 3+off), three(1, 2, 3.01), typ))
		p.Add(tol.CompareChoice(layer+"mlp.experts", positions, three(0, 1, 0), three(0, 1, 2*off/0x1p-20), three(1, 0, 1, 0, 1, 0, 1, 0, 1)))
	}
	p.Add(tol.CompareStage("norm", three(1, 2, 3), three(1, 2.5, 3), nil, typ))
	reference := Run{"x.experts": three(0, 0, 0), "x.gate": three(1, 0, 1, 0, 1, 0), "logits": three(1, 0, 1, 0, 1, 0)}
	ours := Run{"x.experts": three(0, 0, 0), "logits": three(1, 0, 1, 0, 1, 1e-5)}
	exact := Run{"x.experts": three(0, 1, 0), "logits": three(1, 0, 1, 0, 1, 1e-5)}
	if typ == checkpoint.BF16 {
		exact = nil
	}
	p.Free = tol.CompareFree(positions, []string{"x.experts"}, "logits", reference, ours, exact, typ)
	if exact == nil {
		p.Free.Unjudged = "The free-running oracle was left out."
	}
	good := &Program{Name: "another"}
	good.Add(tol.CompareStage("embedding", three(1), three(1), three(1), typ))
	r.Programs = append(r.Programs, p, good)
	r.Judge()
	return r
}

func TestReport(t *testing.T) {
	for _, tt := range []struct {
		file  string
		write func(b *bytes.Buffer) error
	}{
		{"f32.txt", func(b *bytes.Buffer) error { return sample("f32").WriteText(b, false) }},
		{"f32-all.txt", func(b *bytes.Buffer) error { return sample("f32").WriteText(b, true) }},
		{"bf16.txt", func(b *bytes.Buffer) error { return sample("bf16").WriteText(b, false) }},
		{"f32.json", func(b *bytes.Buffer) error { return sample("f32").WriteJSON(b) }},
	} {
		var b bytes.Buffer
		if err := tt.write(&b); err != nil {
			t.Fatal(err)
		}
		path := "testdata/" + tt.file
		if *update {
			if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Bytes(), want) {
			t.Errorf("not that of %s; if it should not be, run go test ./parity -update and review the difference:\n%s", path, &b)
		}
	}
}

func TestReportVerdicts(t *testing.T) {
	r := sample("f32")
	if p := r.Programs[0]; p.First != "norm" || p.Verdict != Fail || r.Verdict != Fail {
		t.Errorf("first %q, verdict %s, of all %s", p.First, p.Verdict, r.Verdict)
	}
	if p := r.Programs[1]; p.First != "" || p.Verdict != Pass {
		t.Errorf("first %q, verdict %s", p.First, p.Verdict)
	}
	r.Programs = nil
	if r.Judge(); r.Verdict != Fail {
		t.Errorf("nothing compared: %s", r.Verdict)
	}
}

// Whatever the numbers, a report can be written as JSON.
func TestReportOfAnything(t *testing.T) {
	odd := []float64{nan, inf, -inf, 1e308, -1e308, 0, 5e-324}
	r := &Report{}
	p := &Program{}
	for _, ref := range odd {
		for _, our := range odd {
			for _, x := range odd {
				p.Add(Stated().CompareStage("s", []float64{ref, 1}, []float64{our, 1}, []float64{x, 1}, checkpoint.F64))
			}
		}
	}
	r.Programs = append(r.Programs, p)
	r.Judge()
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(b.Bytes()) {
		t.Error("not JSON")
	}
	if err := r.WriteText(&b, true); err != nil {
		t.Fatal(err)
	}
}
