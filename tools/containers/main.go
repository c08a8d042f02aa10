// Command containers does Go's share of run.sh.
//
//	containers micro DIR     write the checkpoint that fixtures are made of
//	containers pack DIR ZIP  pack a container as a fixture
//	containers same A B      compare two checkpoints, bit for bit: values and logits
//	containers sizes P KIND DIR  write a container of a kind with the arrays of preset P:
//	                         kilobytes that stand for gigabytes
//	containers sized KIND DIR    look whether what convert made of it has its values
package main

import (
	"archive/zip"
	"context"
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
	case len(args) == 4 && args[0] == "sizes":
		return sizes(args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "sized":
		return sized(args[1], args[2])
	}
	return errors.New("usage: containers micro DIR | pack DIR ZIP | same A B | sizes PRESET KIND DIR | sized KIND DIR")
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
