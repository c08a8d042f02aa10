package gptoss_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/float"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/internal/modeltest"
	"ossify/weight"
)

// tiny writes a checkpoint of tiny with seed 1 and returns its folder.
func tiny(t *testing.T, d gptoss.Dialect) string {
	t.Helper()
	return modeltest.Write(t, modeltest.Tiny(t), d, 1)
}

// values returns all values of a parameter.
func values(w *weight.Set, p int) []float64 {
	var all []float64
	param := w.Params()[p]
	row := make([]float64, weight.Columns(param))
	for i := range weight.Rows(param) {
		w.Row(p, i, row)
		all = append(all, row...)
	}
	return all
}

// resave replaces the tensors of a folder in the original layout.
func resave(t *testing.T, dir string, edit func(tensors []checkpoint.Tensor) []checkpoint.Tensor) {
	t.Helper()
	f, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := checkpoint.Save(filepath.Join(dir, "model.safetensors"), edit(slices.Clone(f.Tensors())), nil); err != nil {
		t.Fatal(err)
	}
}

// at returns the tensor of that name, to be changed.
func at(tensors []checkpoint.Tensor, name string) *checkpoint.Tensor {
	return &tensors[slices.IndexFunc(tensors, func(t checkpoint.Tensor) bool { return t.Name == name })]
}

func TestBindReportsEveryMismatch(t *testing.T) {
	type list = []checkpoint.Tensor
	without := func(tensors list, name string) list {
		return slices.DeleteFunc(tensors, func(t checkpoint.Tensor) bool { return t.Name == name })
	}
	for _, tt := range []struct {
		name string
		edit func(tensors list) list
		want []string // lines, without "gptoss: "
	}{
		{"missing tensor", func(x list) list { return without(x, "block.3.attn.sinks") },
			[]string{"block.3.attn.sinks: missing, want BF16 [8]"}},
		{"missing scales", func(x list) list { return without(x, "block.0.mlp.mlp2_weight.scales") },
			[]string{"block.0.mlp.mlp2_weight.scales: missing, want U8 [8, 64, 2]"}},
		{"extra tensor", func(x list) list {
			return append(x, checkpoint.Tensor{Name: "block.4.attn.sinks", Type: checkpoint.BF16, Shape: []int{1}, Data: []byte{0, 0}})
		}, []string{`model.safetensors: "block.4.attn.sinks": not part of the model that config.json describes`}},
		{"wrong type", func(x list) list {
			at(x, "unembedding.weight").Type = checkpoint.F16
			return x
		}, []string{"model.safetensors: unembedding.weight: F16 [512, 64], want BF16 [512, 64]"}},
		{"wrong shape of the same size", func(x list) list {
			at(x, "block.1.attn.qkv.weight").Shape = []int{64, 192}
			return x
		}, []string{"model.safetensors: block.1.attn.qkv.weight: BF16 [64, 192], want BF16 [192, 64]"}},
		{"blocks flattened", func(x list) list {
			at(x, "block.1.mlp.mlp1_weight.blocks").Shape = []int{8, 128, 32}
			return x
		}, []string{"model.safetensors: block.1.mlp.mlp1_weight.blocks: U8 [8, 128, 32], want U8 [8, 128, 2, 16]"}},
		{"F32 where only norms may be", func(x list) list {
			s := at(x, "block.0.attn.sinks")
			s.Type, s.Data = checkpoint.F32, make([]byte, 32)
			return x
		}, []string{"model.safetensors: block.0.attn.sinks: F32 [8], want BF16 [8]"}},
		{"three at once", func(x list) list {
			at(x, "norm.scale").Type = checkpoint.I16
			at(x, "block.2.attn.out.bias").Name = "block.2.attn.out.bios"
			return x
		}, []string{
			"block.2.attn.out.bias: missing, want BF16 [64]",
			"model.safetensors: norm.scale: I16 [64], want BF16 [64]",
			`model.safetensors: "block.2.attn.out.bios": not part of the model that config.json describes`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tiny(t, gptoss.Original)
			resave(t, dir, tt.edit)
			c, err := gptoss.OpenCheckpoint(dir)
			if err == nil {
				c.Close()
				t.Fatal("accepted")
			}
			want := "gptoss: " + strings.Join(tt.want, "\ngptoss: ")
			if err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

// In place of a checkpoint's folder: what is there, and what may have been meant.
func TestNoCheckpoint(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []string
		open  string
		want  string // after the folder's name
	}{
		{"nothing", nil, "none", ": no such folder, want that of a checkpoint"},
		{"a file", []string{"model.safetensors"}, "model.safetensors", ": a file, want the folder of a checkpoint"},
		{"original alone", []string{"README.md", "original/config.json"}, ".", ": no config.json; give DIR/original, which has one"},
		{"a cached repository", []string{"refs/main", "blobs/x", "snapshots/0a1b/config.json"}, ".", ": no config.json; give DIR/snapshots/0a1b, which has one"},
		{"a folder of models", []string{"20[b]/config.json"}, ".", ": no config.json; give DIR/20[b], which has one"},
		{"other things", []string{"a", "b/c"}, ".", ": no config.json among its 2 entries, want a folder with it and the *.safetensors it describes"},
		{"an unprintable name", []string{"\x1b[31m/x"}, "\x1b[31m", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range tt.files {
				path := filepath.Join(dir, f)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, nil, 0o666)); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, tt.open)
			_, err := gptoss.OpenCheckpoint(path)
			want := "gptoss: " + path + strings.ReplaceAll(tt.want, "DIR", path)
			if err == nil || tt.want != "" && err.Error() != want || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

// The config of the other dialect: nothing fits, and the message stays short.
func TestBindShowsTheFirstOfMany(t *testing.T) {
	dir := tiny(t, gptoss.Original)
	c, err := gptoss.Preset("tiny")
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.Marshal(gptoss.HuggingFace)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = gptoss.OpenCheckpoint(dir)
	if err == nil {
		t.Fatal("accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 21 || lines[0] != "gptoss: model.embed_tokens.weight: missing, want BF16 [512, 64]" || lines[20] != "gptoss: and 122 more" {
		t.Errorf("%d lines: %v", len(lines), err)
	}
}

func TestNormScalesMayBeF32(t *testing.T) {
	dir := tiny(t, gptoss.Original)
	before := modeltest.Open(t, dir)
	p := slices.IndexFunc(before.Graph.Params, func(p graph.Param) bool { return p.Name == "block.1.mlp.norm.scale" })
	want := values(before.Weights, p)
	resave(t, dir, func(x []checkpoint.Tensor) []checkpoint.Tensor {
		s := at(x, "block.1.mlp.norm.scale")
		wide := make([]byte, 2*len(s.Data))
		float.EncodeF32(wide, float.BF16Bytes(s.Data))
		s.Type, s.Data = checkpoint.F32, wide
		return x
	})
	after := modeltest.Open(t, dir)
	if got := values(after.Weights, p); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if kind := after.Weights.Sources(p)[0].Data.Type; kind != checkpoint.F32 {
		t.Errorf("type %v, want F32", kind)
	}
}

func TestCheckRefusesScale255(t *testing.T) {
	dir := tiny(t, gptoss.Original)
	resave(t, dir, func(x []checkpoint.Tensor) []checkpoint.Tensor {
		s := at(x, "block.2.mlp.mlp2_weight.scales")
		s.Data = slices.Clone(s.Data)
		s.Data[(5*64+7)*2+1] = 255
		return x
	})
	c := modeltest.Open(t, dir)
	const want = "weight: model.safetensors: block.2.mlp.mlp2_weight.scales: scale 255, which is NaN, at [5 7 1], want at most 254"
	if err := c.Weights.Check(t.Context()); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	clean := modeltest.Open(t, tiny(t, gptoss.HuggingFace))
	if err := clean.Weights.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// In both dialects: every segment is where its file says, and the segments of
// a parameter have its rows.
func TestSources(t *testing.T) {
	for _, d := range []gptoss.Dialect{gptoss.Original, gptoss.HuggingFace} {
		c := modeltest.Open(t, tiny(t, d))
		segments := 0
		for p, param := range c.Graph.Params {
			n := 0
			for _, s := range c.Weights.Sources(p) {
				n += s.Rows
				segments++
				for _, x := range []checkpoint.Tensor{s.Data, s.Scales} {
					if x.Name == "" {
						continue
					}
					disk, err := os.ReadFile(filepath.Join(c.Folder.Dir(), x.File))
					if err != nil {
						t.Fatal(err)
					}
					if got := disk[x.Offset:][:len(x.Data)]; !slices.Equal(got, x.Data) {
						t.Errorf("%v: %s is not at %d of %s", d, x.Name, x.Offset, x.File)
					}
				}
			}
			if n != weight.Rows(param) {
				t.Errorf("%v: %s: %d rows, want %d", d, param.Name, n, weight.Rows(param))
			}
		}
		want := len(c.Graph.Params)
		if d == gptoss.HuggingFace {
			want += 4 * 2 * 2 // q, k, v for qkv, of weight and bias, in four layers
		}
		if segments != want {
			t.Errorf("%v: %d segments, want %d", d, segments, want)
		}
	}
}
