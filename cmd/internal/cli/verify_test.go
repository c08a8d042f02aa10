package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ossify/gptoss"
	"ossify/internal/modeltest"
	"ossify/kernel"
)

const (
	goldenF32  = "../../../testdata/goldens/tiny-f32.safetensors"
	goldenBF16 = "../../../testdata/goldens/tiny-bf16.safetensors"
)

// call runs one command line.
func call(t *testing.T, args ...string) (code int, out, errors string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	return lines[len(lines)-1]
}

// A run says which kernels it had: those asked for, and without that the best.
func TestVerifyKernels(t *testing.T) {
	dir := synthesised(t, gptoss.Original)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, kernel.Best().Name},
		{[]string{"--kernels", "best"}, kernel.Best().Name},
		{[]string{"--kernels", kernel.All()[len(kernel.All())/2].Name}, kernel.All()[len(kernel.All())/2].Name},
	} {
		code, out, errs := call(t, append([]string{"verify", dir, "--golden", goldenF32, "--no-hash"}, tt.args...)...)
		if want := "engine f32, " + tt.want + " kernels"; code != 0 || !strings.Contains(out, want) {
			t.Errorf("%v: exit code %d, %s%s, want %q", tt.args, code, out, errs, want)
		}
	}
}

// The verdict is the last line, and the exit code: 0 for pass, 1 for fail.
func TestVerify(t *testing.T) {
	dir := synthesised(t, gptoss.Original)
	for _, tt := range []struct {
		name string
		args []string
		code int
		last string // line of the output
		err  string // part of the message
	}{
		{"f32", []string{"verify", dir, "--golden", goldenF32}, 0, "verdict: pass", ""},
		{"f32, all stages, portable kernels", []string{"verify", dir, "--golden", goldenF32, "--all", "--kernels", "portable"}, 0, "verdict: pass", ""},
		{"bf16", []string{"verify", dir, "--golden", goldenBF16}, 0, "verdict: pass", ""},
		{"attack", []string{"verify", dir, "--golden", goldenBF16, "--attack", "40", "--seed", "3"}, 0, "found: of the findable edits 40/40 (100%), of all that change an exact value 40/40 (100%); 0 at a wrong stage", ""},
		{"no golden", []string{"verify", dir, "--length", "20"}, 0, "verdict: pass", ""},
		{"no golden, bf16", []string{"verify", dir, "--length", "20", "--precision", "bf16"}, 0, "verdict: pass", ""},
		{"faults without a golden", []string{"verify", dir, "--faults"}, 2, "", "want a --golden"},
		{"attack of none", []string{"verify", dir, "--golden", goldenF32, "--attack", "-1"}, 2, "", "--attack -1, want 1 or more"},
		{"both", []string{"verify", dir, "--golden", goldenF32, "--attack", "1", "--faults"}, 2, "", "one of --faults and --attack"},
		{"precision of a golden", []string{"verify", dir, "--golden", goldenF32, "--precision", "bf16"}, 2, "", "has a precision of its own"},
		{"no such golden", []string{"verify", dir, "--golden", "none.safetensors"}, 1, "", "none.safetensors"},
		{"golden that is none", []string{"verify", dir, "--golden", filepath.Join(dir, model)}, 1, "", `model.safetensors: format "", want "ossify-trace-1"`},
		{"kernels", []string{"verify", dir, "--golden", goldenF32, "--kernels", "worst"}, 2, "", "best portable"},
	} {
		if testing.Short() && tt.code == 0 && tt.name != "bf16" && tt.name != "no golden" {
			continue
		}
		code, out, errors := call(t, tt.args...)
		if code != tt.code || out == "" != (tt.last == "") || tt.last != "" && lastLine(out) != tt.last || !strings.Contains(errors, tt.err) || (tt.err == "") != (errors == "") {
			t.Errorf("%s: exit code %d, want %d; output %q; message %q", tt.name, code, tt.code, lastLine(out), errors)
		}
	}
}

// Of another checkpoint's golden the hash says so; compared all the same, it
// fails, and the report says where first.
func TestVerifyOfAnotherCheckpoint(t *testing.T) {
	dir := modeltest.Write(t, modeltest.Tiny(t), gptoss.Original, 2)
	code, out, errors := call(t, "verify", dir, "--golden", goldenF32)
	if code != 1 || out != "" || !strings.Contains(errors, "tiny-f32.safetensors: made from a checkpoint with hash") || strings.Count(errors, "\n") != 1 {
		t.Errorf("exit code %d, output %q, message %q", code, out, errors)
	}
	code, out, errors = call(t, "verify", dir, "--golden", goldenF32, "--no-hash")
	if code != 1 || lastLine(out) != "verdict: fail" || !strings.Contains(out, "first diverging stage: embedding, pytorch\n") || errors != "ossify: verify: tiny-f32.safetensors: fail\n" {
		t.Errorf("exit code %d, output %q, message %q", code, out, errors)
	}
	code, out, errors = call(t, "verify", dir, "--golden", goldenF32, "--onnx", filepath.Join(dir, "model.onnx"))
	if code != 1 || out != "" || !strings.Contains(errors, "tiny-f32.safetensors: made from a checkpoint with hash") {
		t.Errorf("with a model: exit code %d, output %q, message %q", code, out, errors)
	}
}

// Both layouts of one seed are the golden's checkpoint but for the hash.
func TestVerifyHuggingFace(t *testing.T) {
	code, out, errors := call(t, "verify", synthesised(t, gptoss.HuggingFace), "--golden", goldenF32, "--no-hash")
	if code != 0 || lastLine(out) != "verdict: pass" || !strings.Contains(out, "hf layout") {
		t.Errorf("exit code %d, output %q, message %q", code, lastLine(out), errors)
	}
}

func TestVerifyJSON(t *testing.T) {
	dir := synthesised(t, gptoss.Original)
	code, out, _ := call(t, "verify", dir, "--golden", goldenBF16, "--json")
	var r struct {
		Verdict  string
		Programs []struct {
			Name, Verdict string
			Stages        []struct{ Name, Verdict string }
		}
		Table []struct{ Stage string }
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
		t.Fatalf("exit code %d: %v", code, err)
	}
	if r.Verdict != "pass" || len(r.Programs) != 4 || len(r.Programs[3].Stages) != 115 || r.Programs[3].Verdict != "pass" || len(r.Table) != 31 {
		t.Errorf("%s, %d programs, %d rows", r.Verdict, len(r.Programs), len(r.Table))
	}
}

// A trace of ours, of tokens from any source, is one that verify reads.
func TestTrace(t *testing.T) {
	dir, work := synthesised(t, gptoss.Original), t.TempDir()
	ids, own := filepath.Join(work, "ids"), filepath.Join(work, "own.safetensors")
	write(t, ids, []byte("5 6\n7"))
	for _, tt := range []struct {
		name string
		args []string
		code int
		err  string
	}{
		{"ids", []string{"--tokens", "5,6,7", "--precision", "f32"}, 0, ""},
		{"ids of a file, one position", []string{"--tokens-file", ids, "--positions", "1-2"}, 0, ""},
		{"the oracle", []string{"--tokens", "[5, 6, 7]", "--precision", "f64"}, 0, ""},
		{"two sources", []string{"--tokens", "5", "--tokens-file", ids}, 2, "2 sources of tokens"},
		{"no source", nil, 2, "0 sources of tokens"},
		{"precision", []string{"--tokens", "5", "--precision", "fp16"}, 2, "want one of bf16 f32 f64"},
		{"positions", []string{"--tokens", "5", "--positions", "x"}, 2, `"x" is no position`},
		{"position beyond", []string{"--tokens", "5", "--positions", "0-1"}, 1, "positions 0-1, want them below 1"},
		{"not an id", []string{"--tokens", "5,x"}, 1, `"x" is no token id`},
	} {
		os.Remove(own)
		code, out, errors := call(t, append([]string{"trace", dir, "-o", own}, tt.args...)...)
		if code != tt.code || out != "" || !strings.Contains(errors, tt.err) || (tt.err == "") != (errors == "") {
			t.Errorf("%s: exit code %d, want %d; output %q; message %q", tt.name, code, tt.code, out, errors)
		}
		if _, err := os.Stat(own); (err == nil) != (tt.code == 0) {
			t.Errorf("%s: file: %v", tt.name, err)
		} else if err == nil {
			want := 0
			if tt.name == "the oracle" { // which is no reference
				want = 1
			}
			if code, out, errors := call(t, "verify", dir, "--golden", own); code != want {
				t.Errorf("%s: verify: exit code %d, %q, message %q", tt.name, code, lastLine(out), errors)
			}
		}
	}
	if code, _, errors := call(t, "trace", dir, "--tokens", "5"); code != 2 || !strings.Contains(errors, "-o FILE is missing") {
		t.Errorf("no output: exit code %d, message %q", code, errors)
	}
}

// Tokens of no golden pass the first 256 rows of an exported model's rotary
// tables, and the window, whatever the preset.
func TestRandomTokens(t *testing.T) {
	for _, name := range gptoss.Presets() {
		c, err := gptoss.Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		v := &verifyCommand{}
		a, b := v.randomTokens(c), v.randomTokens(c)
		if len(a) <= 256+c.Window || len(a) < 3*c.Window || !slices.Equal(a, b) || slices.Max(a) >= uint32(c.Vocab) {
			t.Errorf("%s: %d tokens, window %d", name, len(a), c.Window)
		}
	}
}
