package gptoss

import (
	"context"
	"slices"

	"ossify/checkpoint"
	"ossify/engine"
	"ossify/graph"
)

// Engine returns the model ready to run, its weights in place in the mapped
// files. It reads all scales once, to refuse NaN (see Weights.Check).
func (c *Checkpoint) Engine(ctx context.Context, o engine.Options) (*engine.Model, error) {
	if err := c.Weights.Check(ctx); err != nil {
		return nil, err
	}
	return engine.New(c.Graph, c.Weights.Segments(), o)
}

// Segments returns the weights as the engine takes them, one for each
// parameter of the graph.
func (w *Weights) Segments() []engine.Weight {
	all := make([]engine.Weight, len(w.sources))
	for p, sources := range w.sources {
		for _, s := range sources {
			all[p] = append(all[p], engine.Segment{Rows: s.Rows, Data: s.Data.Data, Scales: s.Scales.Data, F32: s.Data.Type == checkpoint.F32})
		}
	}
	return all
}

// Edited returns weights in which edit has changed parameters. It is given each
// with all its rows, bfloat16 values or MXFP4 blocks and scales, in a copy, and
// says whether it changed it; what it did not change stays in place. Changed
// parameters lie in no file.
func (w *Weights) Edited(edit func(p graph.Param, data, scales []byte) bool) *Weights {
	out := &Weights{params: w.params, sources: slices.Clone(w.sources)}
	for i, p := range w.params {
		var data, scales []byte
		for _, s := range w.sources[i] {
			data, scales = append(data, s.Data.Data...), append(scales, s.Scales.Data...)
		}
		if !edit(p, data, scales) {
			continue
		}
		s := Source{Rows: rowsOf(p)}
		first := w.sources[i][0]
		s.Data = checkpoint.Tensor{Name: first.Data.Name, Type: first.Data.Type, Shape: slices.Clone(first.Data.Shape), Data: data}
		if len(s.Data.Shape) > 0 && len(w.sources[i]) > 1 {
			s.Data.Shape[0] = s.Rows
		}
		if scales != nil {
			s.Scales = checkpoint.Tensor{Name: first.Scales.Name, Type: first.Scales.Type, Shape: first.Scales.Shape, Data: scales}
		}
		out.sources[i] = []Source{s}
	}
	return out
}
