package engine

import (
	"context"
	"errors"
	"fmt"
)

// A Part is what one session of a batch shall process.
type Part struct {
	Session *Session
	Tokens  []uint32
	Logits  int // how many tokens, at the end, have their logits computed
}

// Step processes the parts of a batch together, any mixture of prompts and
// single tokens, each of another session, and returns the logits that each part
// asks for [Logits, Vocab]. Each session gets the bits that it would get alone.
//
// Long prompts take several passes. If one fails, sessions have seen what passes
// before it did, as their Len says, and can go on from there.
func (m *Model) Step(ctx context.Context, parts []Part) ([][]float32, error) {
	if err := m.checkParts(parts); err != nil {
		return nil, err
	}
	return m.step(ctx, parts, m.fused, nil)
}

func (m *Model) checkParts(parts []Part) error {
	if len(parts) == 0 {
		return errors.New("engine: no parts, want at least one")
	}
	for i, p := range parts {
		switch {
		case p.Session == nil || p.Session.m != m:
			return fmt.Errorf("engine: part %d: a session of another model, or none", i)
		case len(p.Tokens) == 0:
			return errors.New("engine: no tokens, want at least one")
		case p.Logits < 0 || p.Logits > len(p.Tokens):
			return fmt.Errorf("engine: part %d: logits of %d tokens of %d", i, p.Logits, len(p.Tokens))
		}
		for j := range i {
			if parts[j].Session == p.Session {
				return fmt.Errorf("engine: parts %d and %d are of one session, want each of another", j, i)
			}
		}
		if err := m.checkTokens(p.Tokens); err != nil {
			return err
		}
	}
	return nil
}

func (m *Model) step(ctx context.Context, parts []Part, p *plan, tap Tap) ([][]float32, error) {
	logits := make([][]float32, len(parts))
	done := make([]int, len(parts))
	for {
		more, err := m.pass(ctx, parts, done, logits, p, tap)
		if err != nil {
			return nil, err
		}
		if !more {
			return logits, nil
		}
	}
}

// pass does what is left of parts, as far as one pass goes.
func (m *Model) pass(ctx context.Context, parts []Part, done []int, logits [][]float32, p *plan, tap Tap) (more bool, err error) {
	r, err := m.take(ctx)
	if err != nil {
		return false, err
	}
	defer func() { m.turn <- r }()
	r.begin(p)
	for i, part := range parts {
		tokens := part.Tokens[done[i]:]
		n := min(len(tokens), m.o.Chunk-len(r.tokens))
		more = more || n < len(tokens)
		if n > 0 {
			// The first token whose logits are wanted may lie in a later pass.
			r.add(part.Session, tokens[:n], min(max(0, n-(len(tokens)-part.Logits)), n))
		}
	}
	out, err := r.run(ctx, tap)
	if err != nil {
		return false, err
	}
	width, k := m.g.Nodes[p.end].Shape.Width(), 0
	for i := range parts {
		if k == len(r.parts) || r.parts[k].s != parts[i].Session {
			continue
		}
		part := &r.parts[k]
		part.s.advance(part.hi - part.lo)
		done[i] += part.hi - part.lo
		if mine := out[part.asked.lo*width : part.asked.hi*width : part.asked.hi*width]; logits[i] == nil {
			logits[i] = mine
		} else {
			logits[i] = append(logits[i], mine...)
		}
		k++
	}
	return more, nil
}

// Forward processes tokens and returns the logits of each [len(tokens), Vocab].
// If it fails, the session has seen the passes that were done, as Len says, and
// can go on from there.
func (s *Session) Forward(ctx context.Context, tokens []uint32) ([]float32, error) {
	return s.one(ctx, tokens, len(tokens))
}

// Next processes tokens and returns the logits of the last [Vocab]. It computes
// nothing that only the others' logits need.
func (s *Session) Next(ctx context.Context, tokens []uint32) ([]float32, error) {
	return s.one(ctx, tokens, 1)
}

func (s *Session) one(ctx context.Context, tokens []uint32, logits int) ([]float32, error) {
	out, err := s.m.Step(ctx, []Part{{s, tokens, min(logits, len(tokens))}})
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// Trace is Forward with a tap, which may be nil. The tap sees a long prompt in
// chunks.
func (s *Session) Trace(ctx context.Context, tokens []uint32, tap Tap) ([]float32, error) {
	parts := []Part{{s, tokens, len(tokens)}}
	if err := s.m.checkParts(parts); err != nil {
		return nil, err
	}
	out, err := s.m.step(ctx, parts, s.m.openPlan(), tap)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// Replay computes tokens at chosen positions without a past: each Attend reads
// the keys and values of this pass, or those a tap gives in their place, which
// may be a row for every position from 0 on. It returns the logits of each.
func (m *Model) Replay(ctx context.Context, tokens []uint32, positions []int, tap Tap) ([]float32, error) {
	if len(tokens) == 0 || len(tokens) != len(positions) {
		return nil, fmt.Errorf("engine: %d tokens at %d positions, want one position a token and at least one", len(tokens), len(positions))
	}
	for i, p := range positions {
		if p < 0 || i > 0 && p <= positions[i-1] {
			return nil, fmt.Errorf("engine: position %d at %d, want rising positions from 0", p, i)
		}
	}
	if err := m.checkTokens(tokens); err != nil {
		return nil, err
	}
	r, err := m.take(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { m.turn <- r }()
	r.begin(m.openPlan())
	r.replay = true
	n := len(tokens)
	r.parts = append(r.parts, part{rows: rows{0, 0, n}, layers: make([]*layer, len(m.attends)), asked: rows{hi: n}})
	r.tokens, r.pos = append(r.tokens, tokens...), append(r.pos, positions...)
	for range tokens {
		r.owner = append(r.owner, 0)
	}
	return r.run(ctx, tap)
}
