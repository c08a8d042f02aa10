//go:build cgo

package verify

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ossify/fault"
	"ossify/gptoss"
	"ossify/onnx"
	"ossify/onnx/lower"
	"ossify/onnx/ort"
	"ossify/parity"
)

// library opens the ONNX Runtime that `make deps` installs.
func library(t *testing.T) *ort.Runtime {
	t.Helper()
	path, _, err := ort.Find(filepath.Join("..", ort.DepsFolder))
	if err != nil {
		t.Fatalf("%v\nThese tests need ONNX Runtime; `make deps` installs it.", err)
	}
	rt, err := ort.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	return rt
}

// request compares all positions of some tokens, more than windows and chunks
// are long.
func request(ck *gptoss.Checkpoint) ONNXRequest {
	return ONNXRequest{Tokens: someTokens(90), Decode: 20, Twin: true, OracleMost: 1e10, Load: ort.Options{Plain: true}}
}

// exportWith writes a model with a fault, or without one.
func exportWith(t *testing.T, ck *gptoss.Checkpoint, name string, o onnx.Options) (path string) {
	t.Helper()
	g, w := ck.Graph, ck.Weights
	for _, f := range fault.Table() {
		if f.Name == name {
			g, w = with(f, ck)
		}
	}
	dir := t.TempDir()
	if _, err := onnx.Export(t.Context(), g, w, o, dir); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, onnx.ModelFile)
}

// The exported model passes, however it shows its stages or does not, and with
// the rewriting that ONNX Runtime does by default.
func TestONNX(t *testing.T) {
	rt, ck := library(t), open(t, 1)
	plain := lower.Portable()
	plain.PlainLookup, plain.Strip = true, 64*24
	tests := []struct {
		name   string
		export onnx.Options
		load   ort.Options
		twin   bool
		checks int
	}{
		{"traced, as it is loaded by default", onnx.Options{Trace: true}, ort.Options{}, false, 6},
		{"inline, all rewriting", onnx.Options{Trace: true, Inline: true}, ort.Options{Fold: true, Prepack: true}, false, 6},
		{"with a twin", onnx.Options{}, ort.Options{Plain: true}, true, 6},
		{"with a twin of its target's options", onnx.Options{Target: plain}, ort.Options{Plain: true}, true, 6},
		{"logits of the last position only", onnx.Options{LastOnly: true}, ort.Options{Plain: true}, true, 6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := request(ck)
			q.Model, q.Load = exportWith(t, ck, "", tt.export), tt.load
			r, err := ONNX(t.Context(), rt, ck, q)
			if err != nil {
				t.Fatal(err)
			}
			var text bytes.Buffer
			if err := r.WriteText(&text, true); err != nil {
				t.Fatal(err)
			}
			if r.Verdict != parity.Pass || r.First != "" || r.Likeness != nil || r.Twin != tt.twin || len(r.Checks) != tt.checks {
				t.Errorf("verdict %s, first %q, likeness %v, twin %v, %d checks, want a pass of %d\n%s", r.Verdict, r.First, r.Likeness, r.Twin, len(r.Checks), tt.checks, &text)
			}
			for _, p := range r.Programs {
				if len(p.Stages) != len(Stages(ck.Graph)) {
					t.Errorf("%s: %d stages, want %d", p.Name, len(p.Stages), len(Stages(ck.Graph)))
				}
			}
			if !strings.Contains(text.String(), "block.3.mlp.mlp2") || !strings.Contains(text.String(), "verdict: pass") {
				t.Errorf("report without stages or verdict:\n%s", &text)
			}
			var back ONNXReport
			var js bytes.Buffer
			if err := r.WriteJSON(&js); err != nil {
				t.Error(err)
			} else if err := json.Unmarshal(js.Bytes(), &back); err != nil || back.Verdict != r.Verdict {
				t.Errorf("JSON read back: %v, verdict %q", err, back.Verdict)
			}
		})
	}
}

// A golden of PyTorch is a column of its own.
func TestONNXWithGolden(t *testing.T) {
	rt, ck := library(t), open(t, 1)
	golden, err := OpenGolden(filepath.Join("..", "testdata", "goldens", "tiny-f32.safetensors"), ck.Graph)
	if err != nil {
		t.Fatal(err)
	}
	defer golden.Close()
	q := request(ck)
	q.Model, q.Golden = exportWith(t, ck, "", onnx.Options{Trace: true, Inline: true}), golden
	r, err := ONNX(t.Context(), rt, ck, q)
	if err != nil {
		t.Fatal(err)
	}
	var columns, checks []string
	for _, p := range r.Programs {
		columns = append(columns, p.Name)
	}
	for _, c := range r.Checks {
		checks = append(checks, c.Name)
	}
	if !slices.Equal(columns, []string{columnTorch, columnEngine, columnONNX}) || !slices.Contains(checks, "logits against PyTorch") || r.Verdict != parity.Pass {
		t.Errorf("columns %v, checks %v, verdict %s", columns, checks, r.Verdict)
	}
}

// All faults are caught in the exported file, at their stage, and called by
// their name.
func TestONNXFaults(t *testing.T) {
	rt, ck := library(t), open(t, 1)
	q := request(ck)
	q.Decode = 2
	r, err := ONNXFaults(t.Context(), rt, ck, q, func(c ONNXCaught) {
		if !c.OK() {
			t.Errorf("%s: caught at %q, want %q; %s", c.Name, c.At, c.Want, c.Why)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	named, byLogits := r.Counts()
	if r.Clean != "" || !r.OK() || named != 22 || byLogits < 20 {
		t.Errorf("without a fault diverges at %q; %d named, %d from their logits alone", r.Clean, named, byLogits)
	}
}

// A model that shows no stages is called by its logits; its cache names the
// layer.
func TestONNXByLogits(t *testing.T) {
	rt, ck := library(t), open(t, 1)
	for _, name := range []string{"window +1", "nibbles swapped"} {
		q := request(ck)
		q.Model = exportWith(t, ck, name, onnx.Options{})
		r, err := ONNX(t.Context(), rt, ck, q)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != parity.Fail || r.Likeness == nil || r.Likeness.Fault != name || r.Likeness.By != "logits" {
			t.Errorf("%s: verdict %s, %v", name, r.Verdict, r.Likeness)
		}
		i := slices.IndexFunc(r.Checks, func(c Check) bool { return strings.HasPrefix(c.Name, "cache") })
		if i < 0 || r.Checks[i].Verdict != parity.Fail || !strings.Contains(r.Checks[i].Why, "block.1.attn.") {
			t.Errorf("%s: the cache's check is %+v, want block 1 named", name, r.Checks)
		}
	}
}

// What cannot be compared is refused with a reason.
func TestONNXRefusals(t *testing.T) {
	rt, ck := library(t), open(t, 1)
	c := *ck.Config
	c.Vocab = 500
	other := openConfig(t, &c, 1)
	text := filepath.Join(t.TempDir(), "text.onnx")
	if err := os.WriteFile(text, []byte("not a model"), 0o666); err != nil {
		t.Fatal(err)
	}
	good := exportWith(t, ck, "", onnx.Options{})
	tests := []struct {
		name string
		edit func(q *ONNXRequest)
		want string
	}{
		{"not a model", func(q *ONNXRequest) { q.Model = text }, "onnx: "},
		{"no file", func(q *ONNXRequest) { q.Model = "none.onnx" }, "no such file"},
		{"another vocabulary", func(q *ONNXRequest) { q.Model = exportWith(t, other, "", onnx.Options{}) }, "verify: logits of 500 tokens, the checkpoint has 512"},
		{"a token beyond it", func(q *ONNXRequest) { q.Tokens = append(q.Tokens, 512) }, "verify: token 91 of 91 is id 512, want below 512"},
		{"nothing to prefill", func(q *ONNXRequest) { q.Decode = 90 }, "verify: 90 tokens, want more than the 90 that are decoded one by one"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := request(ck)
			q.Model = good
			tt.edit(&q)
			r, err := ONNX(t.Context(), rt, ck, q)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v and %v\nwant one line with %q", r, err, tt.want)
			}
		})
	}
	if err := sane(&onnx.Summary{Operators: map[string]int64{"Add": 1 << 17, "Mul": 1}}); err == nil {
		t.Error("more than 2^17 operators are let through")
	}
}

// Only ossify's own models are loaded with their weights mapped; others' as ONNX
// Runtime does by itself.
func TestLoadOptions(t *testing.T) {
	for producer, others := range map[string]bool{"ossify": false, "ossify (devel)": false, "onnxruntime-genai": true, "": true} {
		o := (&onnxCheck{}).options(&onnx.Summary{Producer: producer})
		if o.Fold != others || o.Prepack != others {
			t.Errorf("producer %q: fold %v, prepack %v, want %v", producer, o.Fold, o.Prepack, others)
		}
	}
}
