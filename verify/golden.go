package verify

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"ossify/checkpoint"
	"ossify/engine"
	"ossify/graph"
	"ossify/parity"
)

// A Golden is a reference trace that fits a model: every stage is there, of the
// model's shape, its tokens and experts within the model's tables.
type Golden struct {
	*parity.Trace
	Precision engine.Precision // that of the reference
	nodes     []graph.Node     // its stages, in execution order
	stages    map[string]parity.Stage
}

// Stages returns the nodes of g that a trace holds: those that are values in
// gpt_oss/torch/model.py too. The others are steps within one.
func Stages(g *graph.Graph) []graph.Node {
	return slices.DeleteFunc(slices.Clone(g.Nodes), func(n graph.Node) bool {
		return n.Op == graph.Tokens || strings.HasSuffix(n.Name, ".mlp.scores") || strings.Contains(n.Name, ".mlp.swiglu.")
	})
}

// OpenGolden opens a trace and proves that it is one of the model g.
func OpenGolden(path string, g *graph.Graph) (*Golden, error) {
	t, err := parity.OpenTrace(path)
	if err != nil {
		return nil, err
	}
	golden := &Golden{Trace: t, nodes: Stages(g), stages: map[string]parity.Stage{}}
	if err := golden.prove(g); err != nil {
		return nil, errors.Join(fmt.Errorf("verify: %s: %w", filepath.Base(path), err), t.Close())
	}
	return golden, nil
}

func (t *Golden) prove(g *graph.Graph) error {
	switch t.Trace.Precision() {
	case checkpoint.BF16:
		t.Precision = engine.BF16
	case checkpoint.F32:
		t.Precision = engine.F32
	case checkpoint.F64:
		t.Precision = engine.F32 // the oracle's own trace, for want of a reference
	}
	for _, n := range g.Nodes {
		if n.Op != graph.Gather {
			continue
		}
		for i, id := range t.Tokens() {
			if rows := g.Params[n.Params[0]].Shape[0]; int64(id) >= int64(rows) {
				return fmt.Errorf("token %d of %d is id %d, want below %d", i+1, len(t.Tokens()), id, rows)
			}
		}
	}
	for _, n := range t.nodes {
		s, ok := t.Trace.Stage(n.Name)
		if !ok {
			return fmt.Errorf("%s: missing, want a trace with all %d stages of the model", n.Name, len(t.nodes))
		}
		if want := n.Shape[1:]; !slices.Equal(s.Shape[1:], want) {
			return fmt.Errorf("%s: rows of shape %v, want %v", n.Name, s.Shape[1:], want)
		}
		if want := map[bool]string{false: "numbers", true: "indices"}; s.Indices() != (n.Op == graph.TopK) {
			return fmt.Errorf("%s: %s, want %s", n.Name, want[s.Indices()], want[!s.Indices()])
		}
		if n.Op == graph.TopK {
			experts := g.Nodes[n.In[0]].Shape.Last()
			for i, e := range s.Float64s() {
				if e >= float64(experts) {
					return fmt.Errorf("%s: expert %g at %d, want below %d", n.Name, e, i, experts)
				}
			}
		}
		t.stages[n.Name] = s
	}
	if have := t.Trace.Stages(); len(have) > len(t.nodes) {
		for _, s := range have {
			if _, ok := t.stages[s.Name]; !ok {
				return fmt.Errorf("%.100q: no stage of the model", s.Name)
			}
		}
	}
	return nil
}

// dtype returns the type in which a subject's numbers are compared.
func (t *Golden) dtype() checkpoint.DType {
	if t.Trace.Precision() == checkpoint.BF16 {
		return checkpoint.BF16
	}
	return checkpoint.F32
}

// tolerances returns what the stage must keep. Against the oracle's trace, the
// rotary embedding is given the error of the reference's own arithmetic, which
// the engine follows and the oracle does not: an angle is position·f in
// float32, f itself the result of six roundings, so it is off by at most
// 7·2^-24 of the position. That times the other value of the pair, which is
// four times the rms or less, makes 2^-19 of the position.
func (t *Golden) tolerances(stage string, tol parity.Tolerances) parity.Tolerances {
	i := slices.IndexFunc(t.nodes, func(n graph.Node) bool { return n.Name == stage })
	if t.Trace.Precision() == checkpoint.F64 && t.nodes[i].Op == graph.Rotate {
		tol.Stage += 0x1p-19 * float64(len(t.Tokens()))
	}
	return tol
}

// rows returns a stage's values at the golden's positions.
func (t *Golden) rows(stage string) []float64 {
	s := t.stages[stage]
	if !parity.Whole(stage) {
		return s.Float64s()
	}
	return parity.At(s.Float64s(), s.Width(), upTo(len(t.Tokens())), t.Positions())
}

// tokensAt returns the tokens at the golden's positions.
func (t *Golden) tokensAt() []uint32 {
	ids := make([]uint32, len(t.Positions()))
	for i, p := range t.Positions() {
		ids[i] = t.Tokens()[p]
	}
	return ids
}

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}
