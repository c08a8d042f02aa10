//go:build cgo && !noort

package cli

import (
	"path/filepath"
	"strings"
	"testing"
)

// An ONNX model gives the engine's tokens, in ONNX Runtime, with ossify's
// operators and without, and what is wrong about it is said.
func TestGenerateONNX(t *testing.T) {
	dir := talking(t)
	if code, _, stderr := ossify(t, "", "export", dir, "--in-place", "--last"); code != 0 {
		t.Fatal(stderr)
	}
	model, library := filepath.Join(dir, "model.onnx"), filepath.Join("..", "..", "..", "build", "deps", "onnxruntime")
	onnx := []string{"--onnx", model, "--onnxruntime", library}
	base := []string{"generate", dir, "--prompt", "What is jade?", "--max-tokens", "24", "--raw"}
	for name, more := range map[string][]string{"greedy": nil, "sampled": {"--temperature", "0.8", "--top-k", "40", "--seed", "5"}, "guessed": {"--guess", "3"}} {
		t.Run(name, func(t *testing.T) {
			args := append(append([]string{}, base...), more...)
			_, want, _ := ossify(t, "", append(args[:len(args):len(args)], "--precision", "f32")...)
			for _, operators := range []bool{false, true} {
				all := append(args[:len(args):len(args)], onnx...)
				figures := "ONNX Runtime 1."
				if operators {
					all, figures = append(all, "--operators"), "with ossify's operators"
				}
				if code, got, stderr := ossify(t, "", all...); code != 0 || got != want || len(strings.Fields(want)) != 24 || !strings.Contains(stderr, figures) {
					t.Errorf("exit %d, %q, want %q, %s", code, got, want, stderr)
				}
			}
		})
	}
	small := filepath.Join(t.TempDir(), "small")
	if code, _, stderr := ossify(t, "", "synth", "--preset", "tiny", "--vocab", "600", small); code != 0 {
		t.Fatal(stderr)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"another checkpoint":      {append([]string{"generate", small, "--tokens", "1"}, onnx...), 1, "logits of 201088 tokens, the checkpoint has 600"},
		"not a model":             {[]string{"generate", dir, "--tokens", "1", "--onnx", filepath.Join(dir, "config.json")}, 1, "config.json"},
		"not there":               {[]string{"chat", dir, "--onnx", filepath.Join(dir, "none.onnx")}, 1, "none.onnx"},
		"precision of the engine": {append([]string{"generate", dir, "--tokens", "1", "--precision", "f32"}, onnx...), 2, "--precision is of the engine"},
		"operators alone":         {[]string{"chat", dir, "--operators"}, 2, "--operators is of ONNX models"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, _, stderr := ossify(t, "", c.args...); code != c.code || !strings.Contains(stderr, c.want) {
				t.Errorf("exit %d, %s, want %d and %q", code, stderr, c.code, c.want)
			}
		})
	}
}
