package cli

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ossify/onnx"
)

func TestExportCommand(t *testing.T) {
	run := func(args []string) int { return run(t.Context(), args, strings.NewReader(""), io.Discard, io.Discard) }
	dir := t.TempDir()
	ckpt := filepath.Join(dir, "tiny")
	if code := run([]string{"synth", "--preset", "tiny", ckpt}); code != 0 {
		t.Fatalf("synth: exit %d", code)
	}
	out := filepath.Join(dir, "out")
	tests := []struct {
		name string
		args []string
		code int
	}{
		{"neither way", []string{ckpt}, 2},
		{"both ways", []string{ckpt, "--in-place", "-o", out}, 2},
		{"unknown target", []string{ckpt, "-o", out, "--target", "cuda"}, 2},
		{"shards in place", []string{ckpt, "--in-place", "--shard-size", "1GB"}, 2},
		{"shard size that is no size", []string{ckpt, "-o", out, "--shard-size", "-2GB"}, 2},
		{"odd alignment", []string{ckpt, "-o", out, "--align", "100"}, 2},
		{"more new tokens than all", []string{ckpt, "-o", out, "--seq", "5", "--total", "4"}, 2},
		{"no positions", []string{ckpt, "-o", out, "--positions", "0"}, 2},
		{"no checkpoint", []string{dir, "-o", out}, 1},
		{"below a file", []string{ckpt, "-o", filepath.Join(ckpt, "config.json", "out")}, 1},
		{"converted in place", []string{ckpt, "--in-place", "--weights", "f32"}, 2},
		{"for an unknown program", []string{ckpt, "-o", out, "--for", "vim"}, 2},
		{"a library without genai", []string{ckpt, "-o", out, "--ort-library", "x.so"}, 2},
		{"a library that is not there", []string{ckpt, "-o", out, "--for", "genai", "--ort-library", "x.so"}, 1},
		{"for transformers.js, in place", []string{ckpt, "--in-place", "--for", "transformersjs"}, 2},
		{"weights of another type", []string{ckpt, "-o", out, "--weights", "fp8"}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if code := run(append([]string{"export"}, tt.args...)); code != tt.code {
				t.Errorf("exit %d, want %d", code, tt.code)
			}
			if _, err := os.Stat(out); !os.IsNotExist(err) {
				t.Errorf("left %s: %v", out, err)
			}
		})
	}
	other := filepath.Join(dir, "parent", "other")
	for _, args := range [][]string{{"--in-place"}, {"-o", out, "--shard-size", "200KB", "--last"}, {"-o", other, "--weights", "f16"}} {
		if code := run(append([]string{"export", ckpt}, args...)); code != 0 {
			t.Fatalf("%v: exit %d", args, code)
		}
	}
	for _, d := range []string{ckpt, out, other} {
		m, err := onnx.Read(filepath.Join(d, onnx.ModelFile))
		if err != nil {
			t.Fatal(err)
		}
		if s := m.Summary(); s.Metadata["ossify.source"] != "tiny" || s.Metadata["ossify.source.config"] == "" {
			t.Errorf("%s: metadata %v", d, s.Metadata)
		}
		if code := run([]string{"inspect", filepath.Join(d, onnx.ModelFile)}); code != 0 {
			t.Errorf("inspect: exit %d", code)
		}
	}
}

// What is not an export's is replaced with --force only.
func TestExportAsks(t *testing.T) {
	var said strings.Builder
	run := func(args ...string) int {
		said.Reset()
		return run(t.Context(), args, strings.NewReader(""), io.Discard, &said)
	}
	dir := t.TempDir()
	ckpt, out := filepath.Join(dir, "tiny"), filepath.Join(dir, "out")
	if code := run("synth", "--preset", "tiny", ckpt); code != 0 {
		t.Fatalf("synth: exit %d", code)
	}
	if err := os.Mkdir(out, 0o777); err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(out, onnx.ModelFile)
	if err := os.WriteFile(model, []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	if code := run("export", ckpt, "-o", out); code != 1 || strings.Count(said.String(), "--force") != 1 {
		t.Errorf("exit %d: %s", code, &said)
	}
	if data, err := os.ReadFile(model); err != nil || string(data) != "mine" {
		t.Errorf("%q, %v", data, err)
	}
	for _, args := range [][]string{{"--force"}, {}} {
		if code := run(append([]string{"export", ckpt, "-o", out}, args...)...); code != 0 {
			t.Errorf("%v: exit %d: %s", args, code, &said)
		}
	}
}

// The 120b of either layout, its values holes, is exported in place: no byte of
// a weight is written, and its initializers are the whole checkpoint.
func TestExport120b(t *testing.T) {
	run := func(args ...string) int { return run(t.Context(), args, strings.NewReader(""), io.Discard, io.Discard) }
	for _, layout := range []string{"original", "hf"} {
		t.Run(layout, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "120b")
			if code := run("synth", "--preset", "120b", "--zeros", "--layout", layout, dir); code != 0 {
				t.Fatalf("synth: exit %d", code)
			}
			before := states(t, dir)
			if code := run("export", dir, "--in-place"); code != 0 {
				t.Fatalf("export: exit %d", code)
			}
			after := states(t, dir)
			model := after[onnx.ModelFile]
			if model.size == 0 || model.size > 4<<20 {
				t.Errorf("the model is of %d bytes", model.size)
			}
			delete(after, onnx.ModelFile)
			if !maps.Equal(before, after) {
				t.Errorf("files before %v, after %v", before, after)
			}
			path := filepath.Join(dir, onnx.ModelFile)
			m, err := onnx.Read(path)
			if err != nil {
				t.Fatal(err)
			}
			var bytes int64
			for _, x := range m.Summary().Initializers {
				if x.File != "" {
					bytes += x.Bytes
				}
			}
			if want := int64(65248815744); bytes != want { // total_size of the published index
				t.Errorf("%d bytes in the checkpoint's files, want %d", bytes, want)
			}
		})
	}
}

// A state is what changes when a file is written.
type state struct {
	size     int64
	modified time.Time
}

// states returns the states of a folder's files, by name.
func states(t *testing.T, dir string) map[string]state {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]state{}
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = state{info.Size(), info.ModTime()}
	}
	return all
}
