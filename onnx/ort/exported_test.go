//go:build cgo

package ort_test

import (
	"path/filepath"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/gptoss"
	"ossify/internal/modeltest"
	"ossify/onnx"
	"ossify/onnx/ort"
)

// exported writes a tiny model of ossify's.
func exported(t *testing.T, opt onnx.Options) string {
	t.Helper()
	out := t.TempDir()
	ck := modeltest.Open(t, modeltest.Write(t, modeltest.Tiny(t), gptoss.HuggingFace, 1))
	if _, err := onnx.Export(t.Context(), ck.Graph, ck.Weights, opt, out); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(out, onnx.ModelFile)
}

// An exported model refuses ids that are not of its vocabulary: ONNX's Gather
// alone would count negative ones from the end.
func TestExportedModelRefusesIDs(t *testing.T) {
	r, model := open(t), exported(t, onnx.Options{})
	for _, plain := range []bool{true, false} {
		s, err := r.Load(t.Context(), model, ort.Options{Plain: plain, Fold: !plain})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for id, want := range map[int64]string{0: "", 511: "", 512: "out of data bounds", -1: "out of data bounds", -512: "out of data bounds", -1 << 63: "out of data bounds"} {
			in := map[string]ort.Tensor{
				"input_ids":      ort.Int64s(checkpoint.I64, []int64{1, id}, 1, 2),
				"attention_mask": ort.Int64s(checkpoint.I64, []int64{1, 1}, 1, 2),
			}
			for _, x := range s.Inputs {
				if len(x.Shape) == 4 {
					in[x.Name] = ort.Tensor{Type: checkpoint.F32, Shape: []int{1, x.Shape[1], 0, x.Shape[3]}}
				}
			}
			err := s.Run(t.Context(), in, map[string]ort.Tensor{})
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("id %d: %v, want %q", id, err, want)
			}
		}
	}
}
