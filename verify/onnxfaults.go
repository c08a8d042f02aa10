package verify

import (
	"context"
	"fmt"
	"os"

	"ossify/fault"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/onnx/lower"
	"ossify/onnx/ort"
	"ossify/parity"
	"ossify/weight"
)

// An ONNXCaught is what became of one fault in an exported model.
type ONNXCaught struct {
	Caught
	Named    string `json:"named,omitempty"`     // the fault that its stages look like
	ByLogits string `json:"by_logits,omitempty"` // the one that its logits alone look like
}

// OK reports whether the fault was caught at its stage and called by its name.
func (c ONNXCaught) OK() bool { return c.Caught.OK() && c.Named == c.Name }

// An ONNXFaultReport says which of the known bugs a comparison of an exported
// model finds.
type ONNXFaultReport struct {
	Clean  string       `json:"clean,omitempty"` // the first stage of the model without a fault that fails; none should
	Faults []ONNXCaught `json:"faults"`
}

// Counts returns how many faults were caught and named, and how many were named
// from their logits alone.
func (r *ONNXFaultReport) Counts() (named, byLogits int) {
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
func (r *ONNXFaultReport) OK() bool {
	named, _ := r.Counts()
	return r.Clean == "" && len(r.Faults) > 0 && named == len(r.Faults)
}

// ONNXFaults exports the model once for each fault of package fault, with the
// fault in it, runs each file in ONNX Runtime, and says where the comparison
// finds it and what it takes it for. q.Model is not looked at. seen, which may
// be nil, is called after each.
func ONNXFaults(ctx context.Context, rt *ort.Runtime, c *gptoss.Checkpoint, q ONNXRequest, seen func(ONNXCaught)) (*ONNXFaultReport, error) {
	v, err := newONNXCheck(rt, c, q)
	if err != nil {
		return nil, err
	}
	all, err := v.suspects(ctx)
	if err != nil {
		return nil, err
	}
	r := &ONNXFaultReport{}
	if _, r.Clean, err = v.exported(ctx, c.Graph, c.Weights); err != nil {
		return nil, err
	}
	for _, f := range fault.Table() {
		g, w := with(f, c)
		own, first, err := v.exported(ctx, g, w)
		if err != nil {
			return nil, fmt.Errorf("%w (with the fault %q)", err, f.Name)
		}
		got := ONNXCaught{Caught: Caught{Name: f.Name, Want: f.Stage, At: first}}
		if first != "" {
			l, err := v.byStage(ctx, first, own)
			if err != nil {
				return nil, err
			}
			got.Named, got.Why = l.Fault, l.String()
		}
		got.ByLogits = v.byLogits(all, &modelRun{stages: own, at: v.positions}).Fault
		r.Faults = append(r.Faults, got)
		if seen != nil {
			seen(got)
		}
	}
	return r, nil
}

// exported exports g, runs the file, and returns its stages and the first that
// diverges from the checkpoint's model.
func (v *onnxCheck) exported(ctx context.Context, g *graph.Graph, w *weight.Set) (own parity.Run, first string, err error) {
	dir, err := os.MkdirTemp("", "ossify-fault-")
	if err != nil {
		return nil, "", fmt.Errorf("verify: %w", err)
	}
	defer os.RemoveAll(dir)
	path, sum, err := v.export(ctx, g, w, lower.Portable(), dir)
	if err != nil {
		return nil, "", err
	}
	if own, err = v.trace(ctx, path, sum); err != nil {
		return nil, "", err
	}
	v.r.Programs = nil
	if err := v.column(ctx, columnONNX, own); err != nil {
		return nil, "", err
	}
	return own, v.r.Programs[0].First, nil
}
