package verify

import (
	"context"
	"fmt"
	"math"

	"ossify/checkpoint"
	"ossify/fault"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/parity"
	"ossify/weight"
)

// A Likeness says which known bug explains what a model computes.
type Likeness struct {
	By       string  `json:"by"`              // what was compared: a stage, or the logits
	Fault    string  `json:"fault,omitempty"` // the bug; empty if none explains it
	Distance float64 `json:"distance"`        // from the model with that bug, in units of the rms; else from the nearest
	Right    float64 `json:"right"`           // from the model without one
	Tried    int     `json:"tried"`           // bugs
}

// String is for a report.
func (l *Likeness) String() string {
	if l.Fault == "" && l.Tried == 0 {
		return "no known fault sits at this stage"
	}
	if l.Fault == "" {
		return fmt.Sprintf("no known fault: %s %.2g of their rms from the right ones, and no nearer than %.2g to those of %d faults", l.By, l.Right, l.Distance, l.Tried)
	}
	return fmt.Sprintf("looks like %q: %s %.2g of their rms from those with this fault, %.2g from the right ones", l.Fault, l.By, l.Distance, l.Right)
}

// nearer is how much nearer to a bug than to the right model a model's logits
// must be to be called by it. Rounding of whatever kind moves them by about the
// same distance from both.
const nearer = 2

// diagnose says which known fault the model looks like: by the first stage that
// diverges if it shows its stages, else by its logits.
func (v *onnxCheck) diagnose(ctx context.Context, own parity.Run, r *modelRun) error {
	var err error
	if i := v.onnxColumn(); i >= 0 && !v.r.Twin && v.r.Programs[i].First != "" {
		v.r.Likeness, err = v.byStage(ctx, v.r.Programs[i].First, own)
		return err
	}
	all, err := v.suspects(ctx)
	if err == nil {
		v.r.Likeness = v.byLogits(all, r)
	}
	return err
}

// onnxColumn returns the index of the model among the programs, or −1.
func (v *onnxCheck) onnxColumn() int {
	for i, p := range v.r.Programs {
		if p.Name == columnONNX {
			return i
		}
	}
	return -1
}

// with returns the model with a fault.
func with(f fault.Fault, c *gptoss.Checkpoint) (*graph.Graph, *weight.Set) {
	if f.Graph != nil {
		return f.Graph(c.Graph), c.Weights
	}
	var heads graph.Heads
	for _, n := range c.Graph.Nodes {
		if n.Op == graph.Attend {
			heads = n.Heads
		}
	}
	return c.Graph, c.Weights.Edited(func(p graph.Param, data, scales []byte) bool { return f.Weight(p, heads, data, scales) })
}

// byStage looks among the faults that sit at a stage for the one with which the
// stage would be right.
func (v *onnxCheck) byStage(ctx context.Context, stage string, own parity.Run) (*Likeness, error) {
	l := &Likeness{By: "values of " + stage, Distance: math.MaxFloat64}
	measure := func(g *graph.Graph, w *weight.Set) (s parity.StageReport, err error) {
		i, _ := g.Find(stage)
		up := &graph.Graph{Nodes: g.Nodes[:i+1], Params: g.Params}
		err = anchored(ctx, up, w, v.tokens, v.positions, own, func(name string, mine, exact []float64) error {
			if name == stage {
				s = v.stage(columnONNX, stage, exact, mine)
			}
			return nil
		})
		return s, err
	}
	if n, _ := v.c.Graph.Find(stage); v.c.Graph.Nodes[n].Op == graph.TopK {
		return l, nil // no fault of the table sits in a choice
	}
	s, err := measure(v.c.Graph, v.c.Weights)
	if err != nil {
		return nil, err
	}
	l.Right = min(off(s), math.MaxFloat64)
	for _, f := range fault.Table() {
		if f.Stage != stage {
			continue
		}
		l.Tried++
		s, err := measure(with(f, v.c))
		if err != nil {
			return nil, err
		}
		d := min(off(s), math.MaxFloat64)
		switch {
		case s.Verdict == parity.Pass && (l.Fault == "" || d < l.Distance):
			l.Fault, l.Distance = f.Name, d
		case l.Fault == "":
			l.Distance = min(l.Distance, d)
		}
	}
	return l, nil
}

// A suspect is a model with a fault, or without one, and its logits.
type suspect struct {
	fault string // empty for the right model
	run   parity.Run
}

// suspects runs the engine without a fault and with each.
func (v *onnxCheck) suspects(ctx context.Context) ([]suspect, error) {
	logits := func(stage string) bool { return stage == v.logits }
	var all []suspect
	for _, f := range append([]fault.Fault{{Graph: func(g *graph.Graph) *graph.Graph { return g }}}, fault.Table()...) {
		v.say("engine, %s", f.Name)
		g, w := with(f, v.c)
		run, err := v.engine(ctx, g, w, logits)
		if err != nil {
			return nil, err
		}
		all = append(all, suspect{f.Name, run})
	}
	return all, nil
}

// byLogits looks for the suspect whose logits are nearest. A fault that moves
// the logits by less than the model's rounding cannot be told from none.
func (v *onnxCheck) byLogits(all []suspect, r *modelRun) *Likeness {
	l := &Likeness{By: "logits", Distance: math.MaxFloat64, Tried: len(all) - 1}
	name := ""
	for _, s := range all {
		e := parity.Measure(v.logitsAt(s.run, v.positions, r.at), r.stages[v.logits], nil, checkpoint.F32)
		d := min(e.Relative(e.Error), math.MaxFloat64)
		if e.NonFinite > 0 {
			d = math.MaxFloat64
		}
		if s.fault == "" {
			l.Right = d
		} else if d < l.Distance {
			name, l.Distance = s.fault, d
		}
	}
	if l.Distance*nearer < l.Right {
		l.Fault = name
	}
	return l
}
