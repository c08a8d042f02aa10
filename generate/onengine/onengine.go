// Package onengine lets package generate's Scheduler run on package engine.
package onengine

import (
	"context"

	"ossify/engine"
	"ossify/generate"
)

// New returns a model as a Batcher.
func New(m *engine.Model) generate.Batcher { return model{m} }

type model struct{ m *engine.Model }

func (m model) NewSequence() generate.Sequence { return sequence{m.m.NewSession()} }

func (m model) Step(ctx context.Context, parts []generate.Part) ([][]float32, error) {
	batch := make([]engine.Part, len(parts))
	for i, p := range parts {
		batch[i] = engine.Part{Session: p.Sequence.(sequence).Session, Tokens: p.Tokens}
		if p.Logits {
			batch[i].Logits = 1
		}
	}
	return m.m.Step(ctx, batch)
}

type sequence struct{ *engine.Session }

func (s sequence) Fork() generate.Sequence { return sequence{s.Session.Fork()} }
