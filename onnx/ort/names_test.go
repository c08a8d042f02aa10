package ort_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/onnx/ort"
)

const (
	i64 = checkpoint.I64
	f16 = checkpoint.F16
	f32 = checkpoint.F32
)

// session is one of given inputs and outputs.
func session(inputs, outputs []ort.Info) *ort.Session {
	return &ort.Session{Inputs: inputs, Outputs: outputs}
}

// The names of each exporter lead to the same inputs and outputs.
func TestDecoderNames(t *testing.T) {
	ids, mask := ort.Info{Name: "input_ids", Type: i64, Shape: []int{-1, -1}}, ort.Info{Name: "attention_mask", Type: i64, Shape: []int{-1, -1}}
	logits := ort.Info{Name: "logits", Type: f32, Shape: []int{-1, -1, 512}}
	kv := func(name string) ort.Info { return ort.Info{Name: name, Type: f16, Shape: []int{-1, 2, -1, 16}} }
	open := func(name string) ort.Info { return ort.Info{Name: name, Type: f16, Shape: []int{-1, 2, -1, -1}} }
	tests := []struct {
		name            string
		inputs, outputs []ort.Info
	}{
		{"ossify, genai, Optimum",
			[]ort.Info{ids, mask, kv("past_key_values.0.key"), kv("past_key_values.0.value"), kv("past_key_values.1.key"), kv("past_key_values.1.value")},
			[]ort.Info{logits, kv("present.0.key"), kv("present.0.value"), kv("present.1.key"), kv("present.1.value")}},
		{"genai 0.18, dim left open",
			[]ort.Info{ids, mask, open("past_key_values.0.key"), open("past_key_values.0.value"), open("past_key_values.1.key"), open("past_key_values.1.value")},
			[]ort.Info{logits, open("present.0.key"), open("present.0.value"), open("present.1.key"), open("present.1.value")}},
		{"other order, other names",
			[]ort.Info{kv("past.1.value"), kv("past.1.key"), kv("past.0.value"), kv("past.0.key"), mask, ids},
			[]ort.Info{kv("present_key_values.1.key"), kv("present_key_values.1.value"), kv("present_key_values.0.value"), kv("present_key_values.0.key"), logits}},
		{"letters, a name of its own for the logits",
			[]ort.Info{ids, mask, kv("past_0_k"), kv("past_0_v"), kv("past_1_k"), kv("past_1_v")},
			[]ort.Info{{Name: "output_0", Type: f16, Shape: []int{-1, -1, 512}}, kv("present_0_k"), kv("present_0_v"), kv("present_1_k"), kv("present_1_v")}},
		{"transformers.js",
			[]ort.Info{ids, mask, {Name: "position_ids", Type: i64, Shape: []int{-1, -1}}, {Name: "num_logits_to_keep", Type: i64, Shape: []int{}},
				kv("past_key_values.0.key"), kv("past_key_values.0.value"), kv("past_key_values.1.key"), kv("past_key_values.1.value")},
			[]ort.Info{logits, kv("present.0.key"), kv("present.0.value"), kv("present.1.key"), kv("present.1.value")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := ort.NewDecoder(session(tt.inputs, tt.outputs), 2, 16)
			if err != nil {
				t.Fatal(err)
			}
			if d.IDs.Name != "input_ids" || d.Mask.Name != "attention_mask" || d.Layers() != 2 || d.Logits.Shape[2] != 512 {
				t.Errorf("ids %q, mask %q, %d layers, logits %q", d.IDs.Name, d.Mask.Name, d.Layers(), d.Logits.Name)
			}
			key, _ := d.NewState(3).Cache(0)
			if want := []int{3, 2, 0, 16}; !slices.Equal(key.Shape, want) {
				t.Errorf("an empty cache of shape %v, want %v", key.Shape, want)
			}
			for i := range d.Past {
				layer := []string{"0", "1"}[i]
				for _, x := range []ort.Info{d.Past[i].Key, d.Present[i].Key} {
					if !strings.Contains(x.Name, layer) || !strings.HasSuffix(x.Name, "k") && !strings.HasSuffix(x.Name, "key") {
						t.Errorf("%s is taken for the keys of layer %s", x.Name, layer)
					}
				}
				for _, x := range []ort.Info{d.Past[i].Value, d.Present[i].Value} {
					if !strings.Contains(x.Name, layer) || !strings.HasSuffix(x.Name, "v") && !strings.HasSuffix(x.Name, "value") {
						t.Errorf("%s is taken for the values of layer %s", x.Name, layer)
					}
				}
			}
		})
	}
}

func TestDecoderRefusals(t *testing.T) {
	ids := ort.Info{Name: "input_ids", Type: i64, Shape: []int{-1, -1}}
	logits := ort.Info{Name: "logits", Type: f32, Shape: []int{-1, -1, 512}}
	kv := func(name string, heads int) ort.Info {
		return ort.Info{Name: name, Type: f32, Shape: []int{-1, heads, -1, 16}}
	}
	tests := []struct {
		name            string
		inputs, outputs []ort.Info
		want            string
	}{
		{"no ids", nil, []ort.Info{logits}, "ort: no input_ids [batch, seq] of whole numbers among the inputs"},
		{"ids of floats", []ort.Info{{Name: "input_ids", Type: f32, Shape: []int{-1, -1}}}, []ort.Info{logits}, "ort: input input_ids, F32 [-1 -1]: not one of a language model that ossify knows"},
		{"no logits", []ort.Info{ids}, []ort.Info{kv("present.0.key", 2)}, "ort: no logits [batch, seq, vocab] among the outputs"},
		{"an image", []ort.Info{ids, {Name: "pixels", Type: f32, Shape: []int{-1, 3, 8, 8}}}, []ort.Info{logits}, "ort: input pixels, F32 [-1 3 8 8]: not one of a language model that ossify knows"},
		{"a name that would change colours", []ort.Info{ids, {Name: "x\x1b[31m", Type: f32, Shape: []int{1}}}, []ort.Info{logits}, `ort: input "x\x1b[31m", F32 [1]: not one of a language model that ossify knows`},
		{"a layer without values", []ort.Info{ids, kv("past.0.key", 2)}, []ort.Info{logits, kv("present.0.key", 2)}, "ort: layer 0 of 1: no key and value in both the inputs and the outputs"},
		{"a layer left out", []ort.Info{ids, kv("past.1.key", 2), kv("past.1.value", 2)}, []ort.Info{logits, kv("present.1.key", 2), kv("present.1.value", 2)}, "ort: layer 0 of 1: no key and value in both the inputs and the outputs"},
		{"a cache that does not come out", []ort.Info{ids, kv("past.0.key", 2), kv("past.0.value", 2)}, []ort.Info{logits}, "ort: a cache of 1 layers as input and 0 as output"},
		{"heads that vary", []ort.Info{ids, kv("past.0.key", -1), kv("past.0.value", 2)}, []ort.Info{logits, kv("present.0.key", 2), kv("present.0.value", 2)}, "ort: input past.0.key of shape [-1 -1 -1 16], want [batch, heads, positions, dim] with heads and dim that the model or the caller fixes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ort.NewDecoder(session(tt.inputs, tt.outputs), 0, 0)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
}

// Find takes a file as it is, looks into a folder, and says where it looked.
func TestFind(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("library names of Linux")
	}
	dir := t.TempDir()
	_, tried, err := ort.Find(dir)
	if !errors.Is(err, ort.ErrNotFound) || len(tried) != 1 || !strings.Contains(err.Error(), "make deps") || !strings.Contains(err.Error(), dir) {
		t.Errorf("of an empty folder: %v", err)
	}
	for _, name := range []string{"libonnxruntime.so.1.24.0", "libonnxruntime.so.1.32.0", "libonnxruntime.so"} {
		want := filepath.Join(dir, name)
		if err := os.WriteFile(want, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		for _, flag := range []string{dir, want} {
			if got, _, err := ort.Find(flag); err != nil || got != want {
				t.Errorf("Find(%s) is %s, %v, want %s", flag, got, err, want)
			}
		}
	}
	if _, _, err := ort.Find(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a path that is not there: %v", err)
	}
	// Without a flag: never in the working directory.
	t.Chdir(dir)
	if got, _, _ := ort.Find(""); strings.HasPrefix(got, dir) || got == "libonnxruntime.so" {
		t.Errorf("found %s in the working directory", got)
	}
}
