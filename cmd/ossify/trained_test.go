package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The trained model comes out of the program, and ends by itself.
func TestTrainedTalks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "trained")
	if code, out, stderr := ossify(t, "", "synth", "--preset", "trained", dir); code != 0 || out != "" || stderr != "" {
		t.Fatalf("exit %d, %q, %s", code, out, stderr)
	}
	for _, ask := range []string{"Hello!", "What is a sink?", "What is 34 + 28?"} {
		for _, precision := range []string{"bf16", "f32"} {
			code, out, stderr := ossify(t, "", "generate", dir, "--prompt", ask, "--precision", precision, "--max-tokens", "128")
			if code != 0 || out == "" || !strings.Contains(stderr, "ended by stop;") {
				t.Errorf("%s, %s: exit %d, %q, %s", ask, precision, code, out, stderr)
			}
		}
	}
}

func TestTrainedHasNoSizes(t *testing.T) {
	for _, flag := range []string{"--layers=2", "--vocab=512", "--head-dim=64", "--window=8", "--seed=2", "--zeros"} {
		dir := filepath.Join(t.TempDir(), "trained")
		code, _, stderr := ossify(t, "", "synth", "--preset", "trained", flag, dir)
		if name, _, _ := strings.Cut(flag, "="); code != 2 || !strings.Contains(stderr, name+": the preset trained has sizes") {
			t.Errorf("%s: exit %d, %s", flag, code, stderr)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: %s is there", flag, dir)
		}
	}
}
