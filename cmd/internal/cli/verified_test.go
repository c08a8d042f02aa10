package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"ossify/gptoss"
	"ossify/internal/modeltest"
	"ossify/parity"
)

// A server's page tells only of its own checkpoint.
func TestVerified(t *testing.T) {
	dir := modeltest.Write(t, modeltest.Tiny(t), gptoss.Original, 3)
	other := modeltest.Write(t, modeltest.Tiny(t), gptoss.Original, 4)
	code, out, _ := ossify(t, "", "verify", dir, "--length", "20", "--precision", "bf16", "--json")
	if code != 0 {
		t.Fatal(out)
	}
	in := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(in, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := write("good.json", out)
	// changed writes the report with another text for a fact.
	changed := func(name, fact, text string) string {
		var r map[string]any
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		var kept []any
		for _, f := range r["provenance"].([]any) {
			if f := f.(map[string]any); f["name"] == fact {
				if text == "" {
					continue
				}
				f["text"] = text
			}
			kept = append(kept, f)
		}
		r["provenance"] = kept
		b, _ := json.Marshal(r)
		return write(name, string(b))
	}
	var failing parity.Report
	if err := json.Unmarshal([]byte(out), &failing); err != nil {
		t.Fatal(err)
	}
	failing.Columns[0].Stages[2].Verdict = parity.Fail // the verdict at the end still says pass
	b, _ := json.Marshal(failing)
	failed := write("failed.json", string(b))
	model := write("model.onnx", "x")

	c := &cobra.Command{}
	c.SetErr(&bytes.Buffer{})
	c.SetContext(t.Context())
	for _, tt := range []struct {
		name, file, dir, onnx, precision string
		verdict, err                     string
		cautions                         int
	}{
		{"passes", good, dir, "", "bf16", "pass", "", 0},
		{"in another precision", good, dir, "", "f32", "pass", "", 1},
		{"a stage failed", failed, dir, "", "bf16", "fail", "", 0},
		{"of another checkpoint", good, other, "", "bf16", "", "a report of another checkpoint", 0},
		{"of the engine, for ONNX", good, dir, model, "onnx", "", "a report of the engine, want one of the ONNX model", 0},
		{"without a hash", changed("nohash.json", factHash, "not computed (--no-hash)"), dir, "", "bf16", "", "does not say of which checkpoint", 0},
		{"without that fact", changed("nofact.json", factHash, ""), dir, "", "bf16", "", "does not say of which checkpoint", 0},
		{"with a hash that is a path", changed("path.json", factHash, "../../../../etc/passwd"), dir, "", "bf16", "", "does not say of which checkpoint", 0},
		{"without a time", changed("notime.json", factMade, "yesterday"), dir, "", "bf16", "", "when it was made", 0},
		{"not JSON", write("no.json", "pass"), dir, "", "bf16", "", "no report in JSON", 0},
		{"other JSON", write("other.json", `{"verdict":"pass"}`), dir, "", "bf16", "", "want what verify --json prints", 0},
		{"not there", filepath.Join(in, "none"), dir, "", "bf16", "", "no such file", 0},
	} {
		v, err := readVerified(c, tt.file, tt.dir, tt.onnx, tt.precision)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) || v.Verdict != "" {
				t.Errorf("%s: %v %+v, want %q", tt.name, err, v, tt.err)
			}
			continue
		}
		if err != nil || v.Verdict != tt.verdict || v.Made == nil || len(v.Cautions) != tt.cautions {
			t.Errorf("%s: %v %+v", tt.name, err, v)
		}
		for _, f := range v.Facts {
			if strings.Contains(f[1], dir) {
				t.Errorf("%s: %q tells a path", tt.name, f)
			}
		}
	}
}
