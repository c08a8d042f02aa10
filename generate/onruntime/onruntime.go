// Package onruntime lets package generate's Scheduler run on an ONNX model in
// ONNX Runtime.
package onruntime

import (
	"context"

	"ossify/generate"
	"ossify/onnx/ort"
)

// New returns a model as a Batcher. A step calls the model for each part by
// itself: what a sequence gets never depends on the others, and many at once
// take as long as one after the other.
func New(d *ort.Decoder) generate.Batcher { return model{d} }

type model struct{ d *ort.Decoder }

func (m model) NewSequence() generate.Sequence { return sequence{m.d.NewSequence()} }

func (m model) Step(ctx context.Context, parts []generate.Part) ([][]float32, error) {
	logits := make([][]float32, len(parts))
	for i, p := range parts {
		next, err := p.Sequence.(sequence).Next(ctx, p.Tokens)
		if err != nil {
			return nil, err
		}
		if p.Logits {
			logits[i] = next
		}
	}
	return logits, nil
}

type sequence struct{ *ort.Sequence }

func (s sequence) Fork() generate.Sequence { return sequence{s.Sequence.Fork()} }
