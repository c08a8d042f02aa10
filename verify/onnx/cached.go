package onnx

import (
	"context"
	"fmt"

	"ossify/graph"
	"ossify/onnx/ort"
	"ossify/parity"
	"ossify/verify"
)

// cached judges the model through its cache, in which stand the reference's keys
// and values: the sequence comes in chunks, then one by one, and after each call
// the golden's rows take the place of those that the model has put there. So each
// row attends to the reference's own, but for those of its call. From a position
// on another model goes on, if it is not nil.
func (v *check) cached(ctx context.Context, m *model, other *model, from int) error {
	t := v.q.Golden
	sizes := v.calls(verify.StepsOf(v.c.Graph, len(v.tokens)).Chunk)
	what := fmt.Sprintf("through the cache, in which the golden's keys and values stand: %d tokens in %d calls, then %d one by one; each stage from these and from the model's own values of the call",
		len(v.tokens)-v.q.Decode, len(sizes)-v.q.Decode, v.q.Decode)
	c := &parity.Column{Name: columnCached, What: what}
	v.r.Columns = append(v.r.Columns, c)
	if v.narrow != "" {
		c.Missing = fmt.Sprintf("the golden's keys and values: the model's cache is of %s", v.narrow)
		return nil
	}
	v.say("%s, the reference's cache", v.q.Model)
	var first []int // of each call
	r, err := m.through(ctx, v, sizes, func(s *ort.State, at int) {
		if other != nil && at >= from {
			s.Switch(other.d)
		}
		first = append(first, at)
	}, func(s *ort.State, at int) error {
		layer := 0
		for _, n := range v.c.Graph.Nodes {
			if n.Op != graph.Attend {
				continue
			}
			var rows [2][]float64
			for i := range rows {
				all := t.Values()[v.c.Graph.Nodes[n.In[1+i]].Name]
				width := len(all) / len(v.tokens)
				rows[i] = all[at*width : (at+sizes[len(first)-1])*width]
			}
			if err := s.Put(layer, at, rows[0], rows[1]); err != nil {
				return err
			}
			layer++
		}
		return nil
	})
	if err != nil {
		return err
	}
	v.say("oracle, bounds of %d rows", len(v.positions))
	var parts []*verify.Bounds
	rest := v.positions
	for i, at := range first {
		n := 0 // judged positions of the call
		for n < len(rest) && rest[n] < at+sizes[i] {
			n++
		}
		if n == 0 {
			continue
		}
		b, err := v.ofCall(ctx, r.stages, at, len(v.positions)-len(rest), rest[:n])
		if err != nil {
			return err
		}
		parts, rest = append(parts, b), rest[n:]
	}
	b, err := verify.Joined(parts...)
	if err != nil {
		return err
	}
	return b.JudgeAll(r.stages, false, c.Add)
}

// ofCall returns the bounds of a call's values at positions, the rows from row on
// of those that are judged: given the golden's keys and values before at, and
// what the call computed.
func (v *check) ofCall(ctx context.Context, own parity.Run, at, row int, positions []int) (*verify.Bounds, error) {
	given := parity.Run{}
	for _, s := range v.stages {
		width := s.Shape.Width()
		if !s.Whole {
			given[s.Name] = own[s.Name][row*width : (row+len(positions))*width]
			continue
		}
		given[s.Name] = append(v.q.Golden.Values()[s.Name][:at*width:at*width], own[s.Name][at*width:]...)
	}
	return verify.NewBounds(ctx, v.c.Graph, v.c.Weights, verify.Sequence{Tokens: v.tokens}, positions, nil, given, arithmetic())
}
