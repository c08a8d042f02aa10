package onnx

import (
	"context"
	"fmt"
	"math"
	"slices"

	"ossify/checkpoint"
	"ossify/fault"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/oracle"
	"ossify/parity"
	"ossify/weight"
)

// A Likeness says which known bug explains what a model computes.
type Likeness struct {
	By       string  `json:"by"`                 // what was compared: a stage, or the logits
	Fault    string  `json:"fault,omitempty"`    // the bug; empty if none explains it
	Distance float64 `json:"distance,omitempty"` // of logits from the model with that bug, in units of the rms; else from the nearest
	Right    float64 `json:"right,omitempty"`    // from the model without one
	Tried    int     `json:"tried"`              // bugs
}

// String is for a report.
func (l *Likeness) String() string {
	switch {
	case l.Fault == "" && l.Tried == 0:
		return "no known fault sits at this stage"
	case l.Fault == "" && l.Distance == 0:
		return fmt.Sprintf("no known fault: %s are not those of any of %d faults", l.By, l.Tried)
	case l.Fault == "":
		return fmt.Sprintf("no known fault: %s %.2g of their rms from the right ones, and no nearer than %.2g to those of %d faults", l.By, l.Right, l.Distance, l.Tried)
	case l.Distance == 0:
		return fmt.Sprintf("looks like %q: with it, all %s are right", l.Fault, l.By)
	}
	return fmt.Sprintf("looks like %q: %s %.2g of their rms from those with this fault, %.2g from the right ones", l.Fault, l.By, l.Distance, l.Right)
}

// nearer is how much nearer to a bug than to the right model a model's logits
// must be to be called by it. Rounding of whatever kind moves them by about the
// same distance from both.
const nearer = 2

// diagnose says which known fault the model looks like: by its first stage that
// fails if it shows its stages itself, else by its logits.
func (v *check) diagnose(ctx context.Context, own parity.Run, r *modelRun) error {
	var err error
	for _, c := range v.r.Columns {
		if c.Name == columnONNX && c.First != "" && !v.r.Twin {
			v.r.Likeness, err = v.byStage(ctx, c.First, own)
			return err
		}
	}
	all, err := v.suspects(ctx)
	if err == nil {
		v.r.Likeness = v.byLogits(all, r)
	}
	return err
}

// byStage looks among the faults that sit at a stage for the one with which all
// of the stage would be right; of several, for that with which all others would.
func (v *check) byStage(ctx context.Context, stage string, own parity.Run) (*Likeness, error) {
	l := &Likeness{By: "values of " + stage}
	right, err := v.rows(ctx, stage, v.c.Graph, v.c.Weights, own)
	if err != nil {
		return nil, err
	}
	var like []fault.Fault
	for _, f := range fault.Table() {
		if f.Stage != stage || f.Unrounded {
			continue
		}
		l.Tried++
		fits, err := v.with(ctx, f, stage, right, own)
		if err != nil {
			return nil, err
		}
		if fits {
			like = append(like, f)
		}
	}
	if len(like) > 1 {
		if right, err = v.rows(ctx, v.logits.Name, v.c.Graph, v.c.Weights, own); err != nil {
			return nil, err
		}
		for _, f := range like {
			if fits, err := v.with(ctx, f, v.logits.Name, right, own); err != nil {
				return nil, err
			} else if fits {
				like = []fault.Fault{f}
				break
			}
		}
	}
	if len(like) > 0 {
		l.Fault = like[0].Name
	}
	return l, nil
}

// with reports whether the stages up to last would be right in a model with a
// fault, in the rows that have it, where right says which are in the model.
func (v *check) with(ctx context.Context, f fault.Fault, last string, right []bool, own parity.Run) (bool, error) {
	g, w := f.Apply(v.c.Graph, v.c.Weights)
	bad, err := v.rows(ctx, last, g, w, own)
	if err != nil {
		return false, err
	}
	from, n := v.from(f), 0
	for i, p := range v.positions {
		if p < from && !right[i] || p >= from && !bad[i] {
			return false, nil
		}
		if p >= from {
			n++
		}
	}
	return n > 0, nil
}

// from returns the first position that has a fault.
func (v *check) from(f fault.Fault) int {
	if f.Decode {
		return len(v.tokens) - v.q.Decode
	}
	return f.From
}

// rows says for each row whether a model would give it, in all stages up to
// last, but for choices.
func (v *check) rows(ctx context.Context, last string, g *graph.Graph, w *weight.Set, own parity.Run) ([]bool, error) {
	ids := make([]uint32, len(v.positions))
	for i, p := range v.positions {
		ids[i] = v.tokens[p]
	}
	stages := map[string]gptoss.Stage{}
	for _, s := range v.stages {
		stages[s.Name] = s
	}
	i := slices.IndexFunc(g.Nodes, func(n graph.Node) bool { return n.Name == last })
	up := &graph.Graph{Nodes: g.Nodes[:i+1], Params: g.Params}
	fits := slices.Repeat([]bool{true}, len(v.positions))
	err := oracle.Bounds(ctx, up, w, ids, v.positions, arithmetic(), nil, func(name string, at []int, lo, hi []float64) ([]float64, []bool) {
		s, ok := stages[name]
		if !ok {
			return nil, nil
		}
		values := own[name]
		if s.Whole {
			values = parity.At(values, s.Shape.Width(), parity.UpTo(len(v.tokens)), v.positions)
		}
		if width := s.Shape.Width(); s.By == "" {
			for t := range at {
				fits[t] = fits[t] && parity.Judge(values[t*width:][:width], lo[t*width:][:width], hi[t*width:][:width], checkpoint.F32).Outside == 0
			}
		}
		return own[name], nil
	})
	return fits, err
}

// A suspect is a model with a fault, or without one, and its logits.
type suspect struct {
	fault string // empty for the right model
	run   parity.Run
}

// suspects runs the engine without a fault and with each.
func (v *check) suspects(ctx context.Context) ([]suspect, error) {
	logits := func(stage string) bool { return stage == v.logits.Name }
	right, err := v.engine(ctx, v.c.Graph, v.c.Weights, logits)
	if err != nil {
		return nil, err
	}
	all := []suspect{{"", right}}
	for _, f := range fault.Table() {
		if f.Unrounded || f.Decode || f.From > 0 { // rows before are right, and decide nothing
			continue
		}
		v.say("engine, %s", f.Name)
		g, w := f.Apply(v.c.Graph, v.c.Weights)
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
func (v *check) byLogits(all []suspect, r *modelRun) *Likeness {
	l := &Likeness{By: "logits", Distance: math.MaxFloat64, Tried: len(all) - 1}
	name := ""
	for _, s := range all {
		e := parity.Differ(v.logitsAt(s.run, v.positions, r.at), r.stages[v.logits.Name])
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
