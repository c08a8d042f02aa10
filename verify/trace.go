package verify

import (
	"context"
	"fmt"
	"path"
	"slices"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/internal/fileset"
	"ossify/oracle"
	"ossify/parity"
)

// A TraceRequest says what a trace shall hold.
type TraceRequest struct {
	Tokens    []uint32
	Positions []int    // rows to keep, rising; none is all
	Steps     []int    // those of them of which the steps within stages are kept too
	Precision string   // bf16 or f32 of the engine, f64 of the oracle
	Stages    []string // patterns as of path.Match, where * also matches dots; none is all that goldens hold
	Metadata  map[string]string
	Engine    engine.Options  // Precision and Chunk are not looked at
	Output    fileset.Options // what the file may replace
}

// WriteTrace runs the model on tokens and writes what it computed at every
// stage. If it fails, nothing is left.
func WriteTrace(ctx context.Context, file string, c *gptoss.Checkpoint, q TraceRequest) error {
	if len(q.Tokens) == 0 {
		return fmt.Errorf("verify: no tokens, want one or more")
	}
	for i, id := range q.Tokens {
		if int64(id) >= int64(c.Config.Vocab) {
			return fmt.Errorf("verify: token %d of %d is id %d, want below %d", i+1, len(q.Tokens), id, c.Config.Vocab)
		}
	}
	nodes, err := chosen(c.Graph, q.Stages)
	switch {
	case err != nil:
		return err
	case len(q.Steps) > 0 && len(q.Stages) > 0:
		return fmt.Errorf("verify: steps of chosen stages, want those of all or none")
	case len(q.Steps) > 0 && q.Precision == "f64":
		return fmt.Errorf("verify: steps of the oracle, want precision bf16 or f32: the oracle does not round within stages")
	case len(q.Steps) > 0:
		nodes = gptoss.StagesAndSteps(c.Graph, len(q.Tokens))
	}
	if len(q.Positions) == 0 {
		q.Positions = parity.UpTo(len(q.Tokens))
	}
	name, show, err := shower(ctx, c, q)
	if err != nil {
		return err
	}
	var stages []parity.Layout
	wanted := map[string]bool{}
	for _, n := range nodes {
		stages = append(stages, parity.Layout{Name: n.Name, Row: n.Shape[1:], Indices: n.Op == graph.TopK, Whole: n.Whole, Step: n.Within != ""})
		wanted[n.Name] = true
	}
	meta := map[string]string{"precision": q.Precision, "reference": "ossify " + name}
	for k, v := range q.Metadata {
		meta[k] = v
	}
	set := fileset.New(ctx, q.Output)
	defer set.Abort()
	w, err := parity.CreateTrace(set, file, q.Tokens, q.Positions, q.Steps, stages, meta)
	if err != nil {
		return err
	}
	if err := show(func(stage string) bool { return wanted[stage] }, w.Stage); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return set.Commit()
}

// shower returns the name of the program of that precision, and a function
// that shows every stage of it in one go.
func shower(ctx context.Context, c *gptoss.Checkpoint, q TraceRequest) (name string, show func(wanted func(string) bool, see See) error, err error) {
	if err := c.Weights.Check(ctx); err != nil {
		return "", nil, err
	}
	o := q.Engine
	o.Chunk = len(q.Tokens)
	switch q.Precision {
	case "bf16":
		o.Precision = engine.BF16
	case "f32":
		o.Precision = engine.F32
	case "f64":
		return "oracle f64", func(wanted func(string) bool, see See) error {
			r := watch(ctx, see)
			_, err := oracle.Run(r.ctx, c.Graph, c.Weights, q.Tokens, parity.UpTo(len(q.Tokens)), func(stage string, at []int, values []float64) []float64 {
				if wanted(stage) {
					r.see(stage, at, values)
				}
				return nil
			})
			return r.end(err)
		}, nil
	default:
		return "", nil, fmt.Errorf("verify: precision %q, want bf16, f32 or f64", q.Precision)
	}
	s, err := engineOf(c.Graph, c.Weights, o)
	if err != nil {
		return "", nil, err
	}
	within := q.Steps
	if len(within) == 0 {
		within = parity.UpTo(len(q.Tokens)) // of steps that were chosen by name
	}
	// Not the set of kernels: all give the same bits, and which of two is faster
	// here is measured, so that the same trace would have two forms.
	return "engine " + q.Precision, func(wanted func(string) bool, see See) error {
		return s.Free(ctx, q.Tokens, Steps{Chunk: len(q.Tokens), Within: within}, wanted, see)
	}, nil
}

// chosen returns the nodes that patterns match, each at least one; without
// patterns those of a golden.
func chosen(g *graph.Graph, patterns []string) ([]gptoss.Stage, error) {
	if len(patterns) == 0 {
		return gptoss.Stages(g), nil
	}
	matches := make([]int, len(patterns))
	var all []gptoss.Stage
	for _, n := range g.Nodes {
		s := gptoss.Stage{Node: n}
		for _, known := range gptoss.Stages(g) {
			if known.Name == n.Name {
				s = known
			}
		}
		all = append(all, s)
	}
	nodes := slices.DeleteFunc(all, func(n gptoss.Stage) bool {
		hit := false
		for i, p := range patterns {
			if ok, _ := path.Match(p, n.Name); ok && n.Op != graph.Tokens {
				matches[i]++
				hit = true
			}
		}
		return !hit
	})
	for i, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("verify: stages %q: no pattern: unclosed [ or \\ at its end", p)
		}
		if matches[i] == 0 {
			return nil, fmt.Errorf("verify: stages %q: no stage of that name, such as block.0.attn.qkv", p)
		}
	}
	return nodes, nil
}
