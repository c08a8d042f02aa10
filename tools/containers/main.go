// Command containers does Go's share of run.sh.
//
//	containers micro DIR     write the checkpoint that fixtures are made of
//	containers pack DIR ZIP  pack a container as a fixture
//	containers same A B      compare two checkpoints, bit for bit: values and logits
//	containers sizes P DIR   write a folder of Orbax with the arrays of preset P, each
//	                         one chunk of 3.0 everywhere: kilobytes that stand for gigabytes
package main

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/synth"
	"ossify/weight"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "containers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "micro":
		return micro(ctx, args[1])
	case len(args) == 3 && args[0] == "pack":
		return pack(args[1], args[2])
	case len(args) == 3 && args[0] == "same":
		return same(ctx, args[1], args[2])
	case len(args) == 3 && args[0] == "sizes":
		return sizes(args[1], args[2])
	}
	return errors.New("usage: containers micro DIR | pack DIR ZIP | same A B | sizes PRESET DIR")
}

// micro writes a model of one layer that has everything: several heads to a key,
// experts of different widths, a vocabulary that is not a round number.
func micro(ctx context.Context, dir string) error {
	c, err := gptoss.Preset("tiny")
	if err != nil {
		return err
	}
	c.Layers, c.Vocab, c.Inner, c.Experts, c.Heads, c.KVHeads = 1, 21, 32, 5, 4, 2
	return synth.Write(ctx, dir, c, gptoss.Original, 1, nil)
}

// pack writes the files below dir to a zip archive: without times, and without
// the file in which Orbax notes where it wrote.
func pack(dir, to string) error {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	z := zip.NewWriter(out)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "commit_success.txt" {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		w, err := z.Create(filepath.ToSlash(name))
		if err != nil {
			return err
		}
		_, err = io.Copy(w, in)
		return err
	})
	if err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return out.Close()
}

// same compares two checkpoints of one model: every value of every parameter,
// and logits of a sequence in both precisions.
func same(ctx context.Context, a, b string) error {
	var all [2]*gptoss.Checkpoint
	for i, dir := range []string{a, b} {
		ck, err := gptoss.OpenCheckpoint(dir)
		if err != nil {
			return err
		}
		defer ck.Close()
		all[i] = ck
	}
	if *all[0].Config != *all[1].Config {
		return fmt.Errorf("configurations %+v and %+v", *all[0].Config, *all[1].Config)
	}
	values := 0
	for i, p := range all[0].Graph.Params {
		x, y := make([]float32, weight.Columns(p)), make([]float32, weight.Columns(p))
		for row := range weight.Rows(p) {
			all[0].Weights.Row32(i, row, x)
			all[1].Weights.Row32(i, row, y)
			for j := range x {
				if math.Float32bits(x[j]) != math.Float32bits(y[j]) {
					return fmt.Errorf("%s: row %d, column %d: %v and %v", p.Name, row, j, x[j], y[j])
				}
			}
			values += len(x)
		}
	}
	const n = 20
	r := rand.New(rand.NewPCG(1, 1))
	tokens := make([]uint32, n)
	for i := range tokens {
		tokens[i] = uint32(r.IntN(all[0].Config.Vocab))
	}
	logits := 0
	for _, p := range []engine.Precision{engine.BF16, engine.F32} {
		var got [2][]float32
		for i, ck := range all {
			m, err := ck.Engine(ctx, engine.Options{Precision: p})
			if err != nil {
				return err
			}
			if got[i], err = m.NewSession().Forward(ctx, tokens); err != nil {
				return err
			}
			if err := m.Close(); err != nil {
				return err
			}
		}
		if !slices.EqualFunc(got[0], got[1], func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) }) {
			return fmt.Errorf("logits of %v differ", p)
		}
		logits += len(got[0])
	}
	fmt.Printf("%d values and %d logits, the same\n", values, logits)
	return nil
}

// sizes writes a folder of Orbax, an array a folder, Zarr 2.
func sizes(preset, dir string) error {
	c, err := gptoss.Preset(preset)
	if err != nil {
		return err
	}
	d, e, q := c.Dim, c.Experts, (c.Heads+2*c.KVHeads)*c.HeadDim
	leaves := map[string][]int{
		"embedding.embedding": {c.Vocab, d}, "unembedding.kernel": {d, c.Vocab}, "norm.scale": {d},
	}
	for i := range c.Layers {
		for name, shape := range map[string][]int{
			"attn.norm.scale": {d}, "attn.qkv.kernel": {d, q}, "attn.qkv.bias": {q}, "attn.sinks": {c.Heads},
			"attn.out.kernel": {c.Heads * c.HeadDim, d}, "attn.out.bias": {d}, "mlp.norm.scale": {d},
			"mlp.gate.kernel": {d, e}, "mlp.gate.bias": {e}, "mlp.mlp1_weight": {e, 2 * c.Inner, d}, "mlp.mlp1_bias": {e, 2 * c.Inner},
			"mlp.mlp2_weight": {e, d, c.Inner}, "mlp.mlp2_bias": {e, d},
		} {
			leaves[fmt.Sprintf("block_%d.%s", i, name)] = shape
		}
	}
	item := filepath.Join(dir, "0", "state")
	tree := map[string]any{}
	for name, shape := range leaves {
		var keys []any
		for k := range strings.SplitSeq(name, ".") {
			keys = append(keys, map[string]any{"key": k, "key_type": 2})
		}
		tree[name] = map[string]any{"key_metadata": keys, "value_metadata": map[string]any{"value_type": "jax.Array"}}
		at, zeros := filepath.Join(item, name), make([]string, len(shape))
		n := 2
		for i, d := range shape {
			n, zeros[i] = n*d, "0"
		}
		meta, err := json.Marshal(map[string]any{"zarr_format": 2, "shape": shape, "chunks": shape, "dtype": "bfloat16", "order": "C",
			"fill_value": nil, "filters": nil, "dimension_separator": ".", "compressor": map[string]any{"id": "zstd", "level": 1}})
		if err != nil {
			return err
		}
		if err := os.MkdirAll(at, 0o777); err != nil {
			return err
		}
		if err := errors.Join(os.WriteFile(filepath.Join(at, ".zarray"), meta, 0o666), os.WriteFile(filepath.Join(at, strings.Join(zeros, ".")), repeated(n), 0o666)); err != nil {
			return err
		}
	}
	meta, err := json.Marshal(map[string]any{"use_ocdbt": false, "use_zarr3": false, "tree_metadata": tree})
	if err != nil {
		return err
	}
	config, err := c.Marshal(gptoss.Original)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(item, "_METADATA"), meta, 0o666), os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666))
}

// repeated is a zstd frame of n bytes 0x40, two of which are 3.0 in bfloat16: blocks
// that say how often their byte comes (RFC 8878).
func repeated(n int) []byte {
	const most = 128 << 10 // of a block; the window too
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3}
	for {
		size := min(n, most)
		head := size<<3 | 1<<1
		if n -= size; n == 0 {
			head |= 1
		}
		if b = append(b, byte(head), byte(head>>8), byte(head>>16), 0x40); n == 0 {
			return b
		}
	}
}
