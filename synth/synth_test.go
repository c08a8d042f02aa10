package synth_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/internal/modeltest"
	"ossify/oracle"
	"ossify/synth"
	"ossify/weight"
)

type param = graph.Param

// rows returns all values of a parameter.
func rows(w *weight.Set, p int, param graph.Param) []float64 {
	var all []float64
	row := make([]float64, weight.Columns(param))
	for i := range weight.Rows(param) {
		w.Row(p, i, row)
		all = append(all, row...)
	}
	return all
}

// tiny writes a checkpoint of tiny with seed 1 and returns its folder.
func tiny(t *testing.T, d gptoss.Dialect) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "parent", "tiny")
	if err := synth.Write(t.Context(), dir, modeltest.Tiny(t), d, 1, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

func names(t *testing.T, dir string) string {
	t.Helper()
	list, err := fs.Glob(os.DirFS(dir), "*")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, " ")
}

// The bytes of tiny with seed 1. Goldens of the model depend on them: who
// changes the recipe makes those anew.
func TestWriteIsPinned(t *testing.T) {
	const want = "8b43aef6cbdcee81913ba49ee6102c4ba9e47b54a9c05bd3ba5ae8f87cea197d"
	f, err := os.Open(filepath.Join(tiny(t, gptoss.Original), "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("sha256 %s, want %s", got, want)
	}
}

func TestDialectsHoldTheSameValues(t *testing.T) {
	a, b := modeltest.Open(t, tiny(t, gptoss.Original)), modeltest.Open(t, tiny(t, gptoss.HuggingFace))
	if got := names(t, a.Folder.Dir()); got != "config.json dtypes.json model.safetensors" {
		t.Errorf("original files: %s", got)
	}
	if got := names(t, b.Folder.Dir()); got != "config.json generation_config.json model-00000-of-00002.safetensors model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json" {
		t.Errorf("hf files: %s", got)
	}
	if *a.Config != *b.Config {
		t.Errorf("%+v and %+v", *a.Config, *b.Config)
	}
	for p, param := range a.Graph.Params {
		if !slices.Equal(rows(a.Weights, p, param), rows(b.Weights, p, param)) {
			t.Errorf("%s differs", param.Name)
		}
	}
}

// A parameter depends on the seed and its path, not on what else there is.
func TestParametersDrawAlone(t *testing.T) {
	c := modeltest.Tiny(t)
	c.Layers, c.Vocab = 2, 256
	values := func(seed uint64) map[string][]float64 {
		dir := t.TempDir()
		if err := synth.Write(t.Context(), dir, c, gptoss.Original, seed, nil); err != nil {
			t.Fatal(err)
		}
		ck := modeltest.Open(t, dir)
		all := make(map[string][]float64)
		for p, param := range ck.Graph.Params {
			all[param.Name] = rows(ck.Weights, p, param)
		}
		return all
	}
	short, other := values(1), values(2)
	full := modeltest.Open(t, tiny(t, gptoss.Original))
	for p, param := range full.Graph.Params {
		got, ok := short[param.Name]
		if !ok || param.Name == "norm.scale" { // its level follows from the depth
			continue
		}
		if want := rows(full.Weights, p, param)[:len(got)]; !slices.Equal(got, want) {
			t.Errorf("%s changed with the number of layers or tokens", param.Name)
		}
		if slices.Equal(got, other[param.Name]) {
			t.Errorf("%s is the same with another seed", param.Name)
		}
	}
	if w := short["block.0.attn.qkv.bias"]; slices.Equal(w, short["block.1.attn.qkv.bias"]) {
		t.Error("two layers have the same bias")
	}
}

// What the recipe promises of the weights.
func TestWritedWeights(t *testing.T) {
	c := modeltest.Open(t, tiny(t, gptoss.Original))
	for p, param := range c.Graph.Params {
		name := param.Name[strings.LastIndex(param.Name, ".")+1:]
		values := rows(c.Weights, p, param)
		for i, v := range values {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Fatalf("%s: element %d is %v", param.Name, i, v)
			}
		}
		switch {
		case name == "sinks":
			var signs [2]int
			for _, v := range values {
				if a := math.Abs(v); a < synth.SinkLeast || a > synth.SinkMost {
					t.Errorf("%s: %v, want a magnitude of %d to %d", param.Name, v, synth.SinkLeast, synth.SinkMost)
				}
				if v < 0 {
					signs[0]++
				} else {
					signs[1]++
				}
			}
			if signs[0] == 0 || signs[1] == 0 {
				t.Errorf("%s: %d negative and %d positive", param.Name, signs[0], signs[1])
			}
		case name == "bias" || strings.HasSuffix(name, "_bias"):
			zeros := 0
			for _, v := range values {
				if v == 0 {
					zeros++
				}
			}
			want := 0
			if name == "mlp1_bias" {
				want = c.Config.Experts / 4
			}
			if zeros != want {
				t.Errorf("%s: %d zeros, want %d", param.Name, zeros, want)
			}
		case name == "scale":
			if least := slices.Min(values); !(least > 0) {
				t.Errorf("%s: %v, want only positive scales", param.Name, least)
			}
		case param.Storage == graph.MXFP4:
			exponents := make(map[byte]int)
			for _, s := range c.Weights.Sources(p)[0].Scales.Data {
				exponents[s]++
			}
			if exponents[0] == 0 || len(exponents) < 6 {
				t.Errorf("%s: scales %v, want 0 and five others", param.Name, exponents)
			}
		}
		if name == "mlp1_weight" {
			for e := range c.Config.Experts {
				row := values[(e*2*c.Config.Inner+synth.ZeroRow)*c.Config.Dim:][:c.Config.Dim]
				most := slices.MaxFunc(row, func(a, b float64) int { return int(math.Copysign(1, math.Abs(a)-math.Abs(b))) })
				if tiny := math.Abs(most) < 1e-30; tiny != (e%4 == 1) {
					t.Errorf("%s: row %d of expert %d reaches %v", param.Name, synth.ZeroRow, e, most)
				}
			}
		}
	}
	// Massive channels: the embedding's columns.
	p := slices.IndexFunc(c.Graph.Params, func(p param) bool { return p.Name == "embedding.weight" })
	level := make([]float64, c.Config.Dim)
	for i, v := range rows(c.Weights, p, c.Graph.Params[p]) {
		level[i%len(level)] += v / float64(c.Config.Vocab)
	}
	massive := 0
	for _, v := range level {
		switch a := math.Abs(v); {
		case a > synth.ResidualLevel*synth.MassiveLevel*0.9 && a < synth.ResidualLevel*synth.MassiveLevel*1.1:
			massive++
		case a > synth.ResidualLevel*0.5:
			t.Errorf("a channel has level %v", v)
		}
	}
	if massive != 2 {
		t.Errorf("%d massive channels, want 2", massive)
	}
}

// deviation returns the standard deviation of values.
func deviation(values []float64) float64 {
	var sum, squares float64
	for _, v := range values {
		sum += v
		squares += v * v
	}
	n := float64(len(values))
	return math.Sqrt(squares/n - sum/n*sum/n)
}

// What the recipe promises of the activations, in the oracle. The bounds are
// wide: they say that no stage has gone mild or wild.
func TestWritedActivations(t *testing.T) {
	c := modeltest.Open(t, tiny(t, gptoss.Original))
	tokens, positions := make([]uint32, 48), make([]int, 48)
	for i := range tokens {
		tokens[i], positions[i] = uint32(i*37%c.Config.Vocab), i
	}
	seen := 0
	_, err := oracle.Run(t.Context(), c.Graph, c.Weights, tokens, positions, func(stage string, _ []int, values []float64) []float64 {
		within := func(got, least, most float64, what string) {
			if seen++; !(got >= least && got <= most) {
				t.Errorf("%s: %s %.3g, want %g to %g", stage, what, got, least, most)
			}
		}
		switch {
		case strings.HasSuffix(stage, ".norm") || stage == "norm":
			within(deviation(values), 0.7, 1.5, "deviation")
		case strings.HasSuffix(stage, "mlp.gate"):
			within(deviation(values), 1, 4, "deviation")
		case strings.HasSuffix(stage, "mlp.mlp1"):
			beyond := 0
			for _, v := range values {
				if math.Abs(v) > c.Config.Limit {
					beyond++
				}
			}
			within(float64(beyond)/float64(len(values)), 0.01, 0.1, "part beyond the clamp")
		case stage == "unembedding":
			within(deviation(values), 1, 2.5, "deviation")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := 4*4 + 2; seen != want {
		t.Errorf("%d stages looked at, want %d", seen, want)
	}
}

func TestWriteLeavesNothing(t *testing.T) {
	c := modeltest.Tiny(t)
	for _, d := range []gptoss.Dialect{gptoss.Original, gptoss.HuggingFace} {
		parent := t.TempDir()
		made := filepath.Join(parent, "made")
		if err := os.Mkdir(made, 0o777); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{filepath.Join(parent, "new"), made} {
			ctx, cancel := context.WithCancel(t.Context())
			err := synth.Write(ctx, dir, c, d, 1, func(done, total int64) {
				if done > total/2 {
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v: %v, want Canceled", d, err)
			}
		}
		if got := names(t, parent) + ", " + names(t, made); got != "made, " {
			t.Errorf("%v: left %s", d, got)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	c := modeltest.Tiny(t)
	dir := t.TempDir()
	for _, name := range []string{"x.safetensors", "config.json", checkpoint.IndexFile} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("synth: %s: holds %s, want a folder without a checkpoint", dir, name)
		if err := synth.Write(t.Context(), dir, c, gptoss.Original, 1, nil); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if got := names(t, dir); got != name {
			t.Errorf("left %s", got)
		}
		os.Remove(path)
	}
	c.Heads = 0
	if err := synth.Write(t.Context(), dir, c, gptoss.Original, 1, nil); err == nil {
		t.Error("no error for a config with zero heads")
	}
	c.Heads = 8
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := synth.Write(t.Context(), filepath.Join(file, "a", "b"), c, gptoss.Original, 1, nil); err == nil {
		t.Error("no error for a folder that cannot be made")
	}
	// No disk has room for tables of 4 PB, and it is asked first.
	c.Vocab, c.Dim = 1<<24, 1<<16
	far := filepath.Join(dir, "far", "too", "large")
	if err := synth.Write(t.Context(), far, c, gptoss.Original, 1, nil); err == nil || !strings.Contains(err.Error(), "GB free") {
		t.Errorf("too large: got %v", err)
	}
	if got := names(t, dir); got != "file" {
		t.Errorf("left %s", got)
	}
}

func TestWriteReportsProgress(t *testing.T) {
	c := modeltest.Tiny(t)
	var last, all int64
	err := synth.Write(t.Context(), t.TempDir(), c, gptoss.Original, 1, func(done, total int64) {
		if done <= last || done > total {
			t.Errorf("%d of %d after %d", done, total, last)
		}
		last, all = done, total
	})
	if err != nil || last != all || all == 0 {
		t.Errorf("ended at %d of %d, %v", last, all, err)
	}
}
