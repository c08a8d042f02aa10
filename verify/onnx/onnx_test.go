//go:build cgo && !noort

package onnx

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/fault"
	"ossify/gptoss"
	"ossify/internal/modeltest"
	file "ossify/onnx"
	"ossify/onnx/lower"
	"ossify/onnx/ort"
	"ossify/parity"
	"ossify/verify"
)

// library opens the ONNX Runtime that `make deps` installs.
func library(t *testing.T) *ort.Runtime {
	t.Helper()
	path, _, err := ort.Find(filepath.Join("..", "..", ort.DepsFolder))
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

func open(t *testing.T) *gptoss.Checkpoint {
	t.Helper()
	return modeltest.Open(t, modeltest.Write(t, modeltest.Tiny(t), gptoss.Original, 1))
}

// request judges some tokens, past the first row of the rotary tables' second
// half, with twice the window and more decoded.
func request(ck *gptoss.Checkpoint) Request {
	q := Request{Decode: 40, Twin: true, Load: ort.Options{Plain: true}}
	for i := range 290 {
		q.Tokens = append(q.Tokens, uint32(i*i*7+i*31+11)%uint32(ck.Config.Vocab))
	}
	q.Positions = verify.Positions(ck.Graph, 290, 5e7, 16, 250, 256, 290)
	return q
}

// shorter leaves out the second half of the tables: a third of the time.
func shorter(q Request) Request {
	q.Tokens = q.Tokens[:100]
	q.Positions = []int{0, 1, 14, 15, 16, 17, 40, 59, 60, 61, 77, 98, 99}
	return q
}

// exportWith writes a model with a fault, or without one.
func exportWith(t *testing.T, ck *gptoss.Checkpoint, name string, o file.Options) (path string) {
	t.Helper()
	g, w := ck.Graph, ck.Weights
	for _, f := range fault.Table() {
		if f.Name == name {
			g, w = f.Apply(g, w)
		}
	}
	dir := t.TempDir()
	if _, err := file.Export(t.Context(), g, w, o, dir); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, file.ModelFile)
}

func text(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteText(&b, parity.Text{All: true}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The exported model passes, however it shows its stages or does not, and with
// the rewriting that ONNX Runtime does by default.
func TestCheck(t *testing.T) {
	rt, ck := library(t), open(t)
	wide, err := file.ParseWeights("f32")
	if err != nil {
		t.Fatal(err)
	}
	plain := lower.Portable()
	plain.PlainLookup, plain.Strip = true, 64*24
	for i, tt := range []struct {
		name   string
		export file.Options
		load   ort.Options
		twin   bool
	}{
		{"traced, as it is loaded by default", file.Options{Trace: true}, ort.Options{}, false},
		{"inline, all rewriting", file.Options{Trace: true, Inline: true}, ort.Options{Fold: true, Prepack: true}, false},
		{"with a twin", file.Options{}, ort.Options{Plain: true}, true},
		{"with a twin of its target's options", file.Options{Target: plain}, ort.Options{Plain: true}, true},
		{"with a twin of its weights' type", file.Options{Weights: wide}, ort.Options{Plain: true}, true},
		{"logits of the last position only", file.Options{LastOnly: true}, ort.Options{Plain: true}, true},
	} {
		if testing.Short() && i != 1 && i != 4 {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			q := request(ck)
			if i > 0 {
				q = shorter(q)
			}
			q.Model, q.Load = exportWith(t, ck, "", tt.export), tt.load
			r, err := Check(t.Context(), rt, ck, q)
			if err != nil {
				t.Fatal(err)
			}
			out := text(t, r)
			if r.Verdict != parity.Pass || r.First != "" || r.Likeness != nil || r.Twin != tt.twin || len(r.Checks) != 6 || len(r.Columns) != 2 {
				t.Errorf("verdict %s, first %q, likeness %v, twin %v, %d checks\n%s", r.Verdict, r.First, r.Likeness, r.Twin, len(r.Checks), out)
			}
			for _, c := range r.Columns {
				if len(c.Stages) != 79 {
					t.Errorf("%s: %d stages, want 79", c.Name, len(c.Stages))
				}
			}
			if !strings.Contains(out, "block.3.mlp.mlp2") || !strings.Contains(out, "verdict: pass") {
				t.Errorf("report without stages or verdict:\n%s", out)
			}
			var back Report
			var js bytes.Buffer
			if err := json.NewEncoder(&js).Encode(r); err != nil {
				t.Error(err)
			} else if err := json.Unmarshal(js.Bytes(), &back); err != nil || back.Verdict != r.Verdict || back.Twin != r.Twin {
				t.Errorf("JSON read back: %v, verdict %q", err, back.Verdict)
			}
		})
	}
}

// A golden of PyTorch is a column of its own, judged in its own precision. One
// that is wrong fails there, and the stage that is named is the wrong one.
func TestCheckWithGolden(t *testing.T) {
	rt, ck := library(t), open(t)
	model := exportWith(t, ck, "", file.Options{Trace: true, Inline: true})
	for _, tt := range []struct{ precision, spoiled string }{{"f32", ""}, {"bf16", ""}, {"bf16", "block.1.attn.out"}} {
		path := filepath.Join("..", "..", "testdata", "goldens", "tiny-"+tt.precision+".safetensors")
		if tt.spoiled != "" {
			f, err := checkpoint.OpenFile(path)
			if err != nil {
				t.Fatal(err)
			}
			list := slices.Clone(f.Tensors())
			i := slices.IndexFunc(list, func(x checkpoint.Tensor) bool { return x.Name == tt.spoiled })
			list[i].Data = slices.Clone(list[i].Data)
			list[i].Data[len(list[i].Data)-1] ^= 0x80
			path = filepath.Join(t.TempDir(), "bad.safetensors")
			if err := checkpoint.Save(path, list, f.Metadata()); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		golden, err := verify.OpenGolden(path, ck.Graph)
		if err != nil {
			t.Fatal(err)
		}
		q := request(ck)
		q.Model, q.Golden, q.Decode = model, golden, 8
		r, err := Check(t.Context(), rt, ck, q)
		if err != nil {
			t.Fatal(err)
		}
		golden.Close()
		var columns []string
		for _, c := range r.Columns {
			columns = append(columns, c.Name)
		}
		want := parity.Pass
		if tt.spoiled != "" {
			want = parity.Fail
		}
		if !slices.Equal(columns, []string{columnTorch, columnEngine, columnONNX, columnCached}) || r.Verdict != want || r.First != tt.spoiled || tt.spoiled != "" && r.Where != columnTorch {
			t.Errorf("%s, %q spoiled: columns %v, verdict %s, first %q, %s\n%s", tt.precision, tt.spoiled, columns, r.Verdict, r.First, r.Where, text(t, r))
		}
	}
}

// A model that is wrong from a position on is caught there in the column of the
// reference's cache too, at the stage that is wrong, in both precisions; in a
// prefill's chunks and one by one. A right one passes, and each row is judged.
func TestCached(t *testing.T) {
	rt, ck := library(t), open(t)
	for _, tt := range []struct {
		precision, fault string
		from             int
		want             string
	}{
		{"f32", "", 0, ""},
		{"f32", "window +1", 300, "block.0.attn.sdpa"}, // a chunk begins there
		{"bf16", "", 0, ""},
		{"bf16", "YaRN factor 31.99", 418, "block.0.attn.rope.q"},
	} {
		golden, err := verify.OpenGolden(filepath.Join("..", "..", "testdata", "goldens", "tiny-"+tt.precision+".safetensors"), ck.Graph)
		if err != nil {
			t.Fatal(err)
		}
		q := request(ck)
		q.Golden, q.Decode = golden, 10
		v, err := newCheck(rt, ck, q)
		if err != nil {
			t.Fatal(err)
		}
		right, err := v.exported(t.Context(), ck.Graph, ck.Weights, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		var other *model
		for _, f := range fault.Table() {
			if f.Name != tt.fault {
				continue
			}
			g, w := f.Apply(ck.Graph, ck.Weights)
			if other, err = v.exported(t.Context(), g, w, t.TempDir()); err != nil {
				t.Fatal(err)
			}
			defer other.s.Close()
		}
		if (other == nil) != (tt.fault == "") {
			t.Fatalf("no fault %q", tt.fault)
		}
		if err := v.cached(t.Context(), right, other, tt.from); err != nil {
			t.Fatal(err)
		}
		v.r.Judge()
		if c := v.r.Columns[0]; c.First != tt.want || len(c.Stages) != 79 || (v.r.Verdict == parity.Pass) != (tt.want == "") || c.Stages[0].Fit.Elements != len(golden.Positions())*64 {
			t.Errorf("%s, %q from %d: first %q, want %q; %d stages, verdict %s", tt.precision, tt.fault, tt.from, c.First, tt.want, len(c.Stages), v.r.Verdict)
		}
		right.s.Close()
		golden.Close()
	}
}

// All faults are caught in the exported file, at their stage, and called by
// their name.
func TestFaults(t *testing.T) {
	rt, ck := library(t), open(t)
	q := request(ck)
	q.Tokens, q.Decode = q.Tokens[:268], 6
	q.Positions = []int{0, 3, 14, 15, 16, 17, 100, 255, 256, 257, 260, 262, 263, 267}
	r, err := Faults(t.Context(), rt, ck, q, func(c Caught) {
		if !c.OK() || !c.Exact() {
			t.Errorf("%s: caught at %q, want %q; named %q, %s", c.Name, c.At, c.Want, c.Named, c.Why)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	named, byLogits := r.Counts()
	if r.Clean != "" || !r.OK() || named < 40 || byLogits < 35 {
		t.Errorf("without a fault diverges at %q; %d named, %d from their logits alone", r.Clean, named, byLogits)
	}
}

// A model that shows its stages is called by the first that is wrong.
func TestCheckNamesTheFault(t *testing.T) {
	rt, ck := library(t), open(t)
	q := request(ck)
	q.Model = exportWith(t, ck, "YaRN factor 31.99", file.Options{Trace: true})
	r, err := Check(t.Context(), rt, ck, q)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != parity.Fail || r.First != "block.0.attn.rope.q" || r.Likeness == nil || r.Likeness.Fault != "YaRN factor 31.99" {
		t.Errorf("verdict %s, first %q, %v", r.Verdict, r.First, r.Likeness)
	}
}

// A model that shows no stages is called by its logits; its cache names the
// layer.
func TestCheckByLogits(t *testing.T) {
	rt, ck := library(t), open(t)
	for _, name := range []string{"window +1", "nibbles swapped"} {
		q := shorter(request(ck))
		q.Model = exportWith(t, ck, name, file.Options{})
		r, err := Check(t.Context(), rt, ck, q)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != parity.Fail || r.Likeness == nil || r.Likeness.Fault != name || r.Likeness.By != "logits" {
			t.Errorf("%s: verdict %s, %v", name, r.Verdict, r.Likeness)
		}
		i := slices.IndexFunc(r.Checks, func(c parity.Check) bool { return strings.HasPrefix(c.Name, "cache") })
		if i < 0 || r.Checks[i].Verdict != parity.Fail || !strings.Contains(r.Checks[i].Why, "block.1.attn.") {
			t.Errorf("%s: the cache's check is %+v, want block 1 named", name, r.Checks)
		}
	}
}

// What cannot be compared is refused with a reason.
func TestCheckRefuses(t *testing.T) {
	rt, ck := library(t), open(t)
	c := *ck.Config
	c.Vocab = 500
	other := modeltest.Open(t, modeltest.Write(t, &c, gptoss.Original, 1))
	bad := filepath.Join(t.TempDir(), "text.onnx")
	if err := os.WriteFile(bad, []byte("not a model"), 0o666); err != nil {
		t.Fatal(err)
	}
	good := exportWith(t, ck, "", file.Options{})
	for _, tt := range []struct {
		name string
		edit func(q *Request)
		want string
	}{
		{"not a model", func(q *Request) { q.Model = bad }, "onnx: "},
		{"no file", func(q *Request) { q.Model = "none.onnx" }, "no such file"},
		{"another vocabulary", func(q *Request) { q.Model = exportWith(t, other, "", file.Options{}) }, "ort: logits of 500 tokens, the checkpoint has 512"},
		{"a token beyond it", func(q *Request) { q.Tokens = append(q.Tokens, 512) }, "verify: token 291 of 291 is id 512, want below 512"},
		{"nothing to prefill", func(q *Request) { q.Decode = 290 }, "verify: 290 tokens, want more than the 290 that are decoded one by one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := request(ck)
			q.Model = good
			tt.edit(&q)
			r, err := Check(t.Context(), rt, ck, q)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v and %v\nwant one line with %q", r, err, tt.want)
			}
		})
	}
}

// Only ossify's own models are loaded with their weights mapped; others' as ONNX
// Runtime does by itself.
func TestLoadOptions(t *testing.T) {
	for producer, others := range map[string]bool{"ossify": false, "ossify (devel)": false, "onnxruntime-genai": true, "": true} {
		o := (&check{}).options(&file.Summary{Producer: producer})
		if o.Fold != others || o.Prepack != others {
			t.Errorf("producer %q: fold %v, prepack %v, want %v", producer, o.Fold, o.Prepack, others)
		}
	}
}
