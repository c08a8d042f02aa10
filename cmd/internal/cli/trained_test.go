package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ossify/parity"
)

// The trained model comes out of the program, and ends by itself.
func TestTrainedTalks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "trained")
	if code, out, stderr := ossify(t, "", "synth", "--preset", "trained", dir); code != 0 || out != "" || stderr != "" {
		t.Fatalf("exit %d, %q, %s", code, out, stderr)
	}
	for ask, want := range map[string]string{
		"Hello!":            "Hello! Ask me about ossify, or give me a sum.\n",
		"What is 34 + 28?":  "34 + 28 = 62.\n",
		"Repeat: red chair": "red chair\n",
	} {
		for _, precision := range []string{"bf16", "f32"} {
			code, out, stderr := ossify(t, "", "generate", dir, "--prompt", ask, "--precision", precision, "--max-tokens", "128")
			if code != 0 || out != want || !strings.Contains(stderr, "ended by stop;") {
				t.Errorf("%s, %s: exit %d, %q, want %q, %s", ask, precision, code, out, want, stderr)
			}
		}
	}
}

// PyTorch's values of it pass in both precisions, and all faults are caught: at
// the first layer that shows them, for a trained model does not use all in each.
func TestTrainedAgainstPyTorch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "trained")
	if code, _, stderr := ossify(t, "", "synth", "--preset", "trained", dir); code != 0 {
		t.Fatal(stderr)
	}
	for _, precision := range []string{"bf16", "f32"} {
		golden := "../../../testdata/goldens/trained-" + precision + ".safetensors"
		code, out, stderr := ossify(t, "", "verify", dir, "--golden", golden)
		if code != 0 || !strings.Contains(out, "verdict: pass") {
			t.Errorf("%s: exit %d, %s\n%s", precision, code, out, stderr)
		}
		code, out, stderr = ossify(t, "", "verify", dir, "--golden", golden, "--faults", "--json")
		var report struct {
			Clean  string          `json:"clean"`
			Faults []parity.Caught `json:"faults"`
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatalf("%v\n%s\n%s", err, out, stderr)
		}
		for _, c := range report.Faults {
			if !c.OK() {
				t.Errorf("%s: %s: caught at %q, want %s", precision, c.Name, c.At, c.Want)
			}
		}
		if code != 0 || report.Clean != "" || len(report.Faults) < 46 {
			t.Errorf("%s: exit %d; the clean model fails at %q; %d faults", precision, code, report.Clean, len(report.Faults))
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
