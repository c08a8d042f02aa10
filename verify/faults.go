package verify

import (
	"context"
	"errors"
	"fmt"

	"ossify/engine"
	"ossify/fault"
	"ossify/graph"
	"ossify/parity"
	"ossify/weight"
)

// A Caught is what became of one fault.
type Caught struct {
	Name string `json:"name"`
	Want string `json:"want"`         // the stage where the fault sits
	At   string `json:"at,omitempty"` // the first stage that failed; empty if none did
	Why  string `json:"why,omitempty"`
}

// OK reports whether the fault was caught at its stage.
func (c Caught) OK() bool { return c.At == c.Want }

// A FaultReport says which of the known bugs a comparison with a golden finds.
type FaultReport struct {
	Clean  *parity.Program `json:"clean"` // the model without a fault, which must pass
	Faults []Caught        `json:"faults"`
}

// Caught returns how many faults were caught at their stage.
func (r *FaultReport) Caught() int {
	n := 0
	for _, c := range r.Faults {
		if c.OK() {
			n++
		}
	}
	return n
}

// OK reports whether every fault was caught, and the clean model passed.
func (r *FaultReport) OK() bool {
	return r.Clean.First == "" && len(r.Faults) > 0 && r.Caught() == len(r.Faults)
}

// Faults puts the faults of package fault into the model, one at a time, and
// compares each, teacher-forced, with a golden in f32: bf16 rounding hides the
// small ones. A run ends at the first stage that fails. seen, which may be nil,
// is called after each.
//
// A fault of the weights takes memory for a copy of those that it changes.
func Faults(ctx context.Context, g *graph.Graph, w *weight.Set, t *Golden, o engine.Options, seen func(Caught)) (*FaultReport, error) {
	if t.Precision != engine.F32 {
		return nil, fmt.Errorf("verify: a golden in %v, want one in f32 for the fault table: bf16 rounding hides small faults", t.Precision)
	}
	o.Precision = engine.F32
	truth, tol := parity.Run{}, parity.Stated()
	if err := Oracle(g, w).Forced(ctx, t, keep(truth)); err != nil {
		return nil, err
	}
	run := func(g *graph.Graph, w *weight.Set, add func(parity.StageReport) error) error {
		s, err := Engine(g, w, o)
		if err != nil {
			return err
		}
		return compare(ctx, t, s, truth, tol, add)
	}
	r := &FaultReport{Clean: &parity.Program{Name: "without a fault"}}
	if err := run(g, w, r.Clean.Add); err != nil {
		return nil, err
	}
	var heads graph.Heads
	for _, n := range g.Nodes {
		if n.Op == graph.Attend {
			heads = n.Heads
		}
	}
	for _, f := range fault.Table() {
		bad, weights := g, w
		if f.Graph != nil {
			bad = f.Graph(g)
		} else {
			weights = w.Edited(func(p graph.Param, data, scales []byte) bool { return f.Weight(p, heads, data, scales) })
		}
		c := Caught{Name: f.Name, Want: f.Stage}
		err := run(bad, weights, func(s parity.StageReport) error {
			if s.Verdict == parity.Fail {
				c.At, c.Why = s.Name, s.Why
				return errFound
			}
			return nil
		})
		if err != nil && !errors.Is(err, errFound) {
			return nil, err
		}
		r.Faults = append(r.Faults, c)
		if seen != nil {
			seen(c)
		}
	}
	return r, nil
}

// errFound ends a run at the first stage that fails.
var errFound = errors.New("found")
