package onnx

import (
	"context"
	"fmt"

	"ossify/fault"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/internal/fileset"
	file "ossify/onnx"
	"ossify/onnx/ort"
	"ossify/parity"
	"ossify/verify"
	"ossify/weight"
)

// A Caught is what became of one fault in an exported model.
type Caught struct {
	parity.Caught
	Named    string `json:"named,omitempty"`     // the fault that its stages look like
	ByLogits string `json:"by_logits,omitempty"` // the one that its logits alone look like
}

// OK reports whether the fault was caught at its stage and called by its name.
func (c Caught) OK() bool { return c.Caught.OK() && c.Named == c.Name }

// A FaultReport says which of the known bugs a comparison of an exported model
// finds.
type FaultReport struct {
	Clean  string   `json:"clean,omitempty"` // the first stage of the model without a fault that fails; none should
	Faults []Caught `json:"faults"`
}

// Counts returns how many faults were caught and named, and how many were named
// from their logits alone.
func (r *FaultReport) Counts() (named, byLogits int) {
	for _, c := range r.Faults {
		if c.OK() {
			named++
		}
		if c.ByLogits == c.Name {
			byLogits++
		}
	}
	return named, byLogits
}

// OK reports whether all were, and the model without a fault passed.
func (r *FaultReport) OK() bool {
	named, _ := r.Counts()
	return r.Clean == "" && len(r.Faults) > 0 && named == len(r.Faults)
}

// Faults exports the model once for each fault of package fault but those of
// bfloat16 arithmetic, with the fault in it, runs each file in ONNX Runtime, and
// says where the comparison finds it and what it takes it for. A model whose
// fault is in part of a sequence goes on from the cache of the right one.
// q.Model is not looked at. seen, which may be nil, is called after each.
func Faults(ctx context.Context, rt *ort.Runtime, c *gptoss.Checkpoint, q Request, seen func(Caught)) (*FaultReport, error) {
	v, err := newCheck(rt, c, q)
	if err != nil {
		return nil, err
	}
	all, err := v.suspects(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := fileset.TempDir("ossify-right")
	if err != nil {
		return nil, err
	}
	defer dir.Remove()
	right, err := v.exported(ctx, c.Graph, c.Weights, dir.Path())
	if err != nil {
		return nil, err
	}
	defer right.s.Close()
	r := &FaultReport{}
	run, err := right.run(ctx, v, v.calls(1<<30))
	if err != nil {
		return nil, err
	}
	clean, err := v.first(ctx, run.stages)
	if err != nil {
		return nil, err
	}
	r.Clean = clean.At
	for _, f := range fault.Table() {
		if f.Unrounded {
			continue
		}
		got, err := v.faulty(ctx, f, right, all)
		if err != nil {
			return nil, fmt.Errorf("%w (with the fault %q)", err, f.Name)
		}
		r.Faults = append(r.Faults, got)
		if seen != nil {
			seen(got)
		}
	}
	return r, nil
}

// faulty judges a model with a fault.
func (v *check) faulty(ctx context.Context, f fault.Fault, right *model, all []suspect) (Caught, error) {
	dir, err := fileset.TempDir("ossify-fault")
	if err != nil {
		return Caught{}, err
	}
	defer dir.Remove()
	g, w := f.Apply(v.c.Graph, v.c.Weights)
	bad, err := v.exported(ctx, g, w, dir.Path())
	if err != nil {
		return Caught{}, err
	}
	defer bad.s.Close()
	sizes := v.calls(1 << 30)
	var run *modelRun
	if from := v.from(f); from > 0 {
		if !f.Decode { // a call begins there
			sizes = append([]int{from, len(v.tokens) - v.q.Decode - from}, sizes[1:]...)
		}
		run, err = right.turned(ctx, v, sizes, bad, from)
	} else {
		run, err = bad.run(ctx, v, sizes)
	}
	if err != nil {
		return Caught{}, err
	}
	first, err := v.first(ctx, run.stages)
	if err != nil {
		return Caught{}, err
	}
	got := Caught{Caught: first}
	got.Name, got.Want = f.Name, f.Stage
	if got.At != "" {
		l, err := v.byStage(ctx, got.At, run.stages)
		if err != nil {
			return Caught{}, err
		}
		got.Named, got.Why = l.Fault, l.String()
	}
	got.ByLogits = v.byLogits(all, &modelRun{stages: run.stages, at: v.positions}).Fault
	return got, nil
}

// first returns the first stage of a run that fails.
func (v *check) first(ctx context.Context, own parity.Run) (parity.Caught, error) {
	b, err := verify.NewBounds(ctx, v.c.Graph, v.c.Weights, verify.Sequence{Tokens: v.tokens}, v.positions, nil, own, arithmetic())
	if err != nil {
		return parity.Caught{}, err
	}
	c := parity.Column{Name: columnONNX}
	err = b.JudgeAll(own, false, c.Add)
	return parity.Caught{At: c.First, Where: columnONNX}, err
}

// exported exports g into dir, with its stages, and opens the file.
func (v *check) exported(ctx context.Context, g *graph.Graph, w *weight.Set, dir string) (*model, error) {
	path, sum, err := v.export(ctx, g, w, file.Options{}, dir)
	if err != nil {
		return nil, err
	}
	return v.open(ctx, path, sum, true)
}
