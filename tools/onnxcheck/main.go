// Command onnxcheck exports the exporter's examples into a folder, one below
// it each, with what the oracle computes for them. check.py runs them in other
// people's programs.
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"

	"ossify/checkpoint"
	"ossify/fault"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/onnx"
	"ossify/onnx/examples"
	"ossify/onnx/lower"
	"ossify/oracle"
	"ossify/synth"
)

// length of the example sequence: three windows of the tiny model.
const length = 48

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	plain := flag.Bool("plain", false, "export with --plain-lookup")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: onnxcheck [-plain] DIR")
		os.Exit(2)
	}
	if err := run(ctx, flag.Arg(0), *plain); err != nil {
		fmt.Fprintln(os.Stderr, "onnxcheck:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, plain bool) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	target := lower.Portable()
	target.PlainLookup = plain
	for _, layout := range []gptoss.Dialect{gptoss.Original, gptoss.HuggingFace} {
		from := filepath.Join(dir, "checkpoint."+layout.String())
		if err := os.MkdirAll(from, 0o777); err != nil {
			return err
		}
		config, err := gptoss.Preset("tiny")
		if err != nil {
			return err
		}
		if err := synth.Write(ctx, from, config, layout, 1, nil); err != nil {
			return err
		}
		ck, err := gptoss.OpenCheckpoint(from)
		if err != nil {
			return err
		}
		defer ck.Close()
		if layout == gptoss.HuggingFace { // in place, its matrices in pieces
			if err := write(ctx, ck, ck.Graph, onnx.Options{InPlace: true, Trace: true, Target: target}, from); err != nil {
				return err
			}
			continue
		}
		for _, e := range examples.All() {
			if plain {
				strip := e.Options.Target.Strip // of a zero Target: the default
				if e.Options.Target = target; strip > 0 {
					e.Options.Target.Strip = strip
				}
			}
			if err := write(ctx, ck, e.Graph(ck.Graph), e.Options, filepath.Join(dir, e.Name)); err != nil {
				return fmt.Errorf("%s: %w", e.Name, err)
			}
		}
		for _, f := range fault.Table() {
			if f.Graph != nil && !f.Decode && f.From == 0 { // weights are the same to the exporter
				rounded, off, err := amplified(ctx, ck, f.Graph(ck.Graph))
				if err != nil {
					return fmt.Errorf("%s: %w", f.Name, err)
				}
				if !(rounded <= steady) {
					fmt.Printf("fault %s: left out, no program can be held to it: rounding stages to float32 moves the logits by %.2g of their rms\n", f.Name, rounded)
					continue
				}
				to := filepath.Join(dir, "fault "+f.Name)
				if err := write(ctx, ck, f.Graph(ck.Graph), onnx.Options{Target: target}, to); err != nil {
					return fmt.Errorf("%s: %w", f.Name, err)
				}
				amplified := checkpoint.Tensor{Name: "amplified", Type: checkpoint.F64, Shape: []int{1}, Data: binary.LittleEndian.AppendUint64(nil, math.Float64bits(off))}
				if err := checkpoint.Save(to+".amplified.safetensors", []checkpoint.Tensor{amplified}, nil); err != nil {
					return fmt.Errorf("%s: %w", f.Name, err)
				}
			}
		}
	}
	return nil
}

// steady is how far logits may move, in units of their rms, when every stage is
// rounded to float32. One fault makes a model that amplifies rounding: without its
// residual, attention averages what is left to almost nothing, again and again.
const steady = 1e-5

// draws is how often amplified asks: of one draw alone, a model in which few
// roundings decide might show next to nothing.
const draws = 4

// amplified returns how far the logits move, in units of their rms, when every
// stage has an error as one rounding to float32 makes it: the rounding itself, and
// random ones of its standard deviation, 0.42 · 2^-24 of a value. The first, and the
// most of all.
func amplified(ctx context.Context, ck *gptoss.Checkpoint, g *graph.Graph) (rounded, most float64, err error) {
	tokens, positions := sequence(ck.Config.Vocab)
	exact, err := oracle.Run(ctx, g, ck.Weights, tokens, positions, nil)
	if err != nil {
		return 0, 0, err
	}
	squares := 0.0
	for _, v := range exact {
		squares += v * v
	}
	rms := math.Sqrt(squares / float64(len(exact)))
	for draw := range draws {
		r := rand.New(rand.NewPCG(1, uint64(draw)))
		logits, err := oracle.Run(ctx, g, ck.Weights, tokens, positions, func(_ string, _ []int, values []float64) []float64 {
			for i, v := range values {
				if draw == 0 {
					values[i] = float64(float32(v))
				} else if v != math.Trunc(v) { // a choice of experts stays
					values[i] *= 1 + 0.42*0x1p-24*math.Sqrt(3)*(2*r.Float64()-1)
				}
			}
			return values
		})
		if err != nil {
			return 0, 0, err
		}
		for i, v := range logits {
			most = max(most, math.Abs(v-exact[i])/rms)
		}
		if draw == 0 {
			rounded = most
		}
	}
	return rounded, most, nil
}

// sequence returns the tokens of every example.
func sequence(vocab int) (tokens []uint32, positions []int) {
	for i := range length {
		tokens, positions = append(tokens, uint32(i*i*31+i*7)%uint32(vocab)), append(positions, i)
	}
	return tokens, positions
}

// write exports g, and beside it expected.safetensors: tokens, and for each
// stage the oracle's values [length, ..] as F64.
func write(ctx context.Context, ck *gptoss.Checkpoint, g *graph.Graph, opt onnx.Options, dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if _, err := onnx.Export(ctx, g, ck.Weights, opt, dir); err != nil {
		return err
	}
	tokens, positions := sequence(ck.Config.Vocab)
	var ids []byte
	for _, id := range tokens {
		ids = binary.LittleEndian.AppendUint64(ids, uint64(id))
	}
	tensors := []checkpoint.Tensor{{Name: "input_ids", Type: checkpoint.I64, Shape: []int{length}, Data: ids}}
	add := func(name string, shape graph.Shape, values []float64) {
		t := checkpoint.Tensor{Name: name, Type: checkpoint.F64, Shape: append([]int{length}, shape[1:]...)}
		for _, v := range values {
			t.Data = binary.LittleEndian.AppendUint64(t.Data, math.Float64bits(v))
		}
		tensors = append(tensors, t)
	}
	stages := map[string]graph.Shape{}
	for _, n := range g.Nodes {
		stages[n.Name] = n.Shape
	}
	_, err := oracle.Run(ctx, g, ck.Weights, tokens, positions, func(stage string, _ []int, values []float64) []float64 {
		add(stage, stages[stage], values)
		if stage == g.Nodes[g.Output()].Name {
			add("logits", stages[stage], values)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// In a folder of its own: model folders hold what Export wrote.
	return checkpoint.Save(dir+".expected.safetensors", tensors, nil)
}
