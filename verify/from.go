package verify

import (
	"context"
	"errors"
	"fmt"

	"ossify/gptoss"
	"ossify/parity"
)

// positions returns where the tokens are.
func (s Sequence) positions() []int {
	list := parity.UpTo(len(s.Tokens))
	for i := range list {
		list[i] += s.First
	}
	return list
}

// From computes a sequence that begins at a far position, and sees none before
// it, all rows at once, and shows its stages.
func (s engineSubject) From(ctx context.Context, q Sequence, see See) error {
	r := watch(ctx, see)
	_, err := s.m.Replay(r.ctx, q.Tokens, q.positions(), s.tap(func(stage string, at []int, values []float32) []float32 {
		if _, step := s.steps[stage]; !step {
			r.see(stage, at, convert[float64](values))
		}
		return nil
	}))
	return r.end(err)
}

// mostFrom is the last position that there can be: the rotation's angles are
// exact far beyond it.
const mostFrom = 1 << 24

// from judges the subject on its own values at far positions, all of them.
func (v *comparison) from(tokens []uint32) error {
	s, ok := v.s.(interface {
		From(ctx context.Context, q Sequence, see See) error
	})
	if !ok {
		return errors.New("verify: this program begins at position 0")
	}
	q := Sequence{Tokens: tokens, First: v.q.First}
	if q.First < 0 || q.First+len(tokens) > mostFrom {
		return fmt.Errorf("verify: %d tokens from position %d, want positions from 0 to %d", len(tokens), q.First, mostFrom)
	}
	c := &parity.Column{Name: columnFree, What: fmt.Sprintf("%s, from its own values: positions %d to %d, which see none before, all rows at once", v.s.Name(), q.First, q.First+len(tokens)-1)}
	v.r.Columns = append(v.r.Columns, c)
	v.say("%s, free", v.s.Name())
	stages := gptoss.Stages(v.g)
	k := NewKeeper(stages, q.positions(), nil)
	for _, s := range stages {
		k.Skip(s.Name, q.First)
	}
	if err := s.From(v.ctx, q, k.See); err != nil {
		return err
	}
	v.say("oracle, bounds of %d rows", len(tokens))
	b, err := NewBounds(v.ctx, v.g, v.w, q, q.positions(), nil, k.Run, arithmetic(v.p))
	if err != nil {
		return err
	}
	return b.JudgeAll(k.Run, true, c.Add)
}
