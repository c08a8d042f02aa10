package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/harmony"
	"ossify/tokenizer"
)

// A layerStats sums what a layer shows over all rows.
type layerStats struct {
	rows     int
	toSink   []float64 // attention that each head gives to its sink
	keys     float64   // 1/Σp² over keys and sink: how many a head looks at
	load     []float64 // rows that each expert gets
	shares   float64   // entropy of a row's weights, in bits
	squares  []float64 // of each channel of the residual stream after the layer
	most     float64   // largest magnitude of it, in units of its rms
	hidden   int       // values before swiglu
	clamped  int       // of them, those beyond the clamp
	sinks    []float64 // the parameter
	averaged float64   // rms of the residual stream
}

// stats prints what a checkpoint computes of n conversations: how much attention
// sinks take, how even the experts' work is, how far channels stand out.
func stats(ctx context.Context, dir string, seed uint64, n int) error {
	ck, err := gptoss.OpenCheckpoint(dir)
	if err != nil {
		return err
	}
	defer ck.Close()
	m, err := ck.Engine(ctx, engine.Options{Precision: engine.F32})
	if err != nil {
		return err
	}
	defer m.Close()
	c := ck.Config
	layers := make([]layerStats, c.Layers)
	for i := range layers {
		l := &layers[i]
		l.toSink, l.load, l.squares = make([]float64, c.Heads), make([]float64, c.Experts), make([]float64, c.Dim)
		p := slices.IndexFunc(ck.Graph.Params, func(p graph.Param) bool { return p.Name == fmt.Sprintf("block.%d.attn.sinks", i) })
		for _, v := range ck.Weights.Vector(p) {
			l.sinks = append(l.sinks, float64(v))
		}
	}
	tap := func(stage string, positions []int, values []float32) []float32 {
		rest, ok := strings.CutPrefix(stage, "block.")
		if !ok {
			return nil
		}
		var layer int
		number, rest, _ := strings.Cut(rest, ".")
		fmt.Sscan(number, &layer)
		layers[layer].see(rest, c, len(positions), values)
		return nil
	}
	src, e := newSource(seed, true), harmony.New(tokenizer.New())
	for range n {
		_, ids, err := render(e, src.next(course))
		if err != nil {
			return err
		}
		s := m.NewSession()
		if _, err := s.Trace(ctx, ids, tap); err != nil {
			return err
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	fmt.Println("layer  sinks           attention to sinks    keys   load of experts     share of 1st  residual    channel    largest  beyond")
	fmt.Println("       least   most    mean  least   most    seen   bits    most : even  bits          rms         most/med   value    clamp")
	for i := range layers {
		fmt.Println(layers[i].row(i, c))
	}
	return nil
}

// see takes the values of a stage in.
func (l *layerStats) see(stage string, c *gptoss.Config, rows int, values []float32) {
	width := len(values) / rows
	for r := range rows {
		row := values[r*width:][:width]
		switch stage {
		case "attn.sdpa.weights":
			for h := range c.Heads {
				var sum, squares float64
				for _, p := range row[h*width/c.Heads:][:width/c.Heads] {
					sum += float64(p)
					squares += float64(p) * float64(p)
				}
				sink := max(0, 1-sum)
				l.toSink[h] += sink
				l.keys += 1 / (squares + sink*sink) / float64(c.Heads)
			}
		case "mlp.experts":
			for _, e := range row {
				l.load[int(e)]++
			}
		case "mlp.weights":
			for _, p := range row {
				if p > 0 {
					l.shares -= float64(p) * math.Log2(float64(p))
				}
			}
		case "mlp.mlp1":
			l.hidden += width
			for i, v := range row {
				if float64(v) > c.Limit || i%2 == 1 && float64(v) < -c.Limit {
					l.clamped++
				}
			}
		case "mlp":
			l.rows++
			var sum, most float64
			for i, v := range row {
				square := float64(v) * float64(v)
				l.squares[i] += square
				sum += square
				most = max(most, math.Abs(float64(v)))
			}
			rms := math.Sqrt(sum / float64(width))
			l.averaged += rms
			l.most = max(l.most, most/rms)
		}
	}
}

func (l *layerStats) row(layer int, c *gptoss.Config) string {
	n := float64(l.rows)
	var mean, entropy, all float64
	for _, v := range l.toSink {
		mean += v / n / float64(c.Heads)
	}
	for _, v := range l.load {
		all += v
	}
	for _, v := range l.load {
		if v > 0 {
			entropy -= v / all * math.Log2(v/all)
		}
	}
	channels := slices.Sorted(slices.Values(l.squares))
	return fmt.Sprintf("%5d  %5.2f %6.2f  %6.3f %6.3f %6.3f  %6.1f  %5.2f %8.2f      %5.2f         %-10.3g  %8.1f  %8.1f  %6.3f%%",
		layer, slices.Min(l.sinks), slices.Max(l.sinks), mean, slices.Min(l.toSink)/n, slices.Max(l.toSink)/n, l.keys/n,
		entropy, slices.Max(l.load)/all*float64(c.Experts), l.shares/n, l.averaged/n,
		math.Sqrt(channels[len(channels)-1]/channels[len(channels)/2]), l.most, 100*float64(l.clamped)/float64(l.hidden))
}
