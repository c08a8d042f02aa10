package cli

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// The demo's commands succeed, show what the README says, and leave the report.
func TestDemo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "demo.html")
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"embedded goldens", []string{"--html", file}, []string{"The report, for a browser: " + file, "verify tiny --golden tiny-bf16.safetensors", "46/46 faults caught", "first diverging stage: none", "verdict: pass", "A sink is a logit of each head that takes part in the softmax", "ended by stop"}},
		{"prompt", []string{"--prompt", "What is jade?"}, []string{"tokens      60", "verdict: pass"}},
	}
	if testing.Short() { // without the faults
		tests = tests[1:]
		tests[0].args = append(tests[0].args, "--html", file)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := run(t.Context(), append([]string{"demo"}, tt.args...), strings.NewReader(""), &out, &errs); code != 0 || errs.Len() > 0 {
				t.Fatalf("exit code %d, errors %s", code, errs.String())
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, out.String())
				}
			}
		})
	}
	got := read(t, file)
	wanted := []string{"Nothing changed.", "Every stage of every layer", "46 of 46", "window &#43;1"}
	if testing.Short() {
		wanted = wanted[:2]
	}
	for _, want := range wanted {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in the page", want)
		}
	}
}
