package verify

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"ossify/checkpoint"
	"ossify/engine"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/oracle"
	"ossify/parity"
)

// A Golden is a reference trace that fits a model: every stage is there, of the
// model's shape, its tokens and experts within the model's tables.
type Golden struct {
	*parity.Trace
	Precision engine.Precision // that of the reference
	First     int              // position of the first token, which sees none before it
	stages    []gptoss.Stage   // in execution order, each after its steps if it has them
	values    parity.Run
}

// OpenGolden opens a trace and proves that it is one of the model g.
func OpenGolden(path string, g *graph.Graph) (*Golden, error) {
	t, err := parity.OpenTrace(path)
	if err != nil {
		return nil, err
	}
	golden := &Golden{Trace: t, values: parity.Run{}}
	golden.stages = stagesOf(g, golden.Sequence(), t.Steps())
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
	default:
		return fmt.Errorf("a trace in f64, want bf16 or f32: without a golden the oracle judges by itself")
	}
	if text, ok := t.Metadata()["first"]; ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n+len(t.Tokens()) > 1<<24 {
			return fmt.Errorf("first position %.20q, want a number, all positions below 2^24", text)
		}
		if n > 0 && len(t.Positions()) != len(t.Tokens()) {
			return fmt.Errorf("%d of %d rows of a sequence that begins at position %d, want all", len(t.Positions()), len(t.Tokens()), n)
		}
		t.First = n
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
	for _, n := range t.stages {
		s, ok := t.Trace.Stage(n.Name)
		if !ok {
			what := "stages"
			if len(t.Steps()) > 0 {
				what = "stages and steps"
			}
			return fmt.Errorf("%s: missing, want a trace with all %d %s of the model", n.Name, len(t.stages), what)
		}
		if want := n.Shape[1:]; !slices.Equal(s.Shape[1:], want) {
			return fmt.Errorf("%s: rows of shape %v, want %v", n.Name, s.Shape[1:], want)
		}
		rows := len(t.Positions())
		switch {
		case n.Whole:
			rows = len(t.Tokens())
		case n.Within != "":
			rows = len(t.Steps())
		}
		if s.Rows() != rows {
			return fmt.Errorf("%s: %d rows, want %d", n.Name, s.Rows(), rows)
		}
		if want := map[bool]string{false: "numbers", true: "indices"}; s.Indices() != (n.Op == graph.TopK) {
			return fmt.Errorf("%s: %s, want %s", n.Name, want[s.Indices()], want[!s.Indices()])
		}
		t.values[n.Name] = s.Float64s()
		if n.Op == graph.TopK {
			experts := g.Nodes[n.In[0]].Shape.Last()
			for i, e := range t.values[n.Name] {
				if e >= float64(experts) {
					return fmt.Errorf("%s: expert %g at %d, want below %d", n.Name, e, i, experts)
				}
			}
		}
	}
	if have := t.Trace.Stages(); len(have) > len(t.stages) {
		for _, s := range have {
			if _, ok := t.values[s.Name]; !ok {
				return fmt.Errorf("%.100q: no stage of the model", s.Name)
			}
		}
	}
	return nil
}

// Values returns what the reference computed; the caller must not change it.
func (t *Golden) Values() parity.Run { return t.values }

// arithmetic is that of a program in the golden's precision.
func (t *Golden) arithmetic() oracle.Arithmetic { return arithmetic(t.Precision) }

// arithmetic is that of the engine.
func arithmetic(p engine.Precision) oracle.Arithmetic {
	return oracle.Arithmetic{BF16: p == engine.BF16}
}

// bounds are those of the golden's own values in an arithmetic.
func (t *Golden) bounds(ctx context.Context, g *graph.Graph, w oracle.Weights, a oracle.Arithmetic) (*Bounds, error) {
	return NewBounds(ctx, g, w, t.Sequence(), t.Judged(), t.Within(), t.values, a)
}

// at returns a stage's values at the golden's positions.
func (t *Golden) at(stage gptoss.Stage) []float64 {
	if !stage.Whole {
		return t.values[stage.Name]
	}
	return parity.At(t.values[stage.Name], stage.Shape.Width(), parity.UpTo(len(t.Tokens())), t.Positions())
}

// Sequence returns the golden's tokens.
func (t *Golden) Sequence() Sequence { return Sequence{t.Tokens(), t.First} }

// Judged returns the positions of the rows that the golden keeps.
func (t *Golden) Judged() []int { return t.later(t.Positions()) }

// Within returns those of the rows of which it keeps what is within stages too.
func (t *Golden) Within() []int { return t.later(t.Steps()) }

func (t *Golden) later(positions []int) []int {
	at := slices.Clone(positions)
	for i := range at {
		at[i] += t.First
	}
	return at
}

// row returns the row of position p in the values of a stage, if there is one.
func (t *Golden) row(s gptoss.Stage, p int) (row int, ok bool) {
	p -= t.First
	switch {
	case s.Whole:
		return p, p >= 0 && p < len(t.Tokens())
	case s.Within != "":
		return slices.BinarySearch(t.Steps(), p)
	}
	return slices.BinarySearch(t.Positions(), p)
}

// A Sequence is tokens at positions from First on. Without First, each sees all
// before it; with one, those from First on only.
type Sequence struct {
	Tokens []uint32
	First  int
}

// at returns the tokens at positions.
func (s Sequence) at(positions []int) []uint32 {
	ids := make([]uint32, len(positions))
	for i, p := range positions {
		ids[i] = s.Tokens[p-s.First]
	}
	return ids
}
