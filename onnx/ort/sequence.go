package ort

import (
	"context"
	"fmt"
	"slices"
)

// A Sequence is one sequence of tokens in a model, as engine.Session is. It is
// for one goroutine at a time.
type Sequence struct {
	d      *Decoder
	state  *State
	tokens []uint32 // of a model without a cache, which sees all of them in each call
	n      int
}

// NewSequence returns one without a token.
func (d *Decoder) NewSequence() *Sequence { return &Sequence{d: d, state: d.NewState(1)} }

// Len returns how many tokens the sequence has seen.
func (s *Sequence) Len() int { return s.n }

// Least returns how many tokens Truncate must keep at least: none, as the cache
// of an ONNX model holds every position.
func (s *Sequence) Least() int { return 0 }

// Fork returns another sequence that has seen the same tokens. The cache is
// copied.
func (s *Sequence) Fork() *Sequence {
	return &Sequence{d: s.d, state: s.state.clone(), tokens: slices.Clone(s.tokens), n: s.n}
}

// CacheBytes returns how much memory the keys and values take.
func (s *Sequence) CacheBytes() int64 { return s.state.bytes() }

// Close frees the memory of the sequence, which must not be used again.
func (s *Sequence) Close() error {
	s.state, s.tokens = nil, nil
	return nil
}

// Next processes tokens and returns the logits of the last [Vocab].
func (s *Sequence) Next(ctx context.Context, tokens []uint32) ([]float32, error) {
	logits, err := s.forward(ctx, tokens)
	if err != nil {
		return nil, err
	}
	return logits[len(logits)-s.width(logits, len(tokens)):], nil
}

// Forward is Next with the logits of every token [len(tokens), Vocab]. A model
// that shows those of the last one only is called for each.
func (s *Sequence) Forward(ctx context.Context, tokens []uint32) ([]float32, error) {
	if !s.lastOnly() {
		return s.forward(ctx, tokens)
	}
	var all []float32
	for i := range tokens {
		logits, err := s.forward(ctx, tokens[i:i+1])
		if err != nil {
			return nil, err
		}
		all = append(all, logits...)
	}
	return all, nil
}

// lastOnly reports whether the model shows logits of the last position only.
func (s *Sequence) lastOnly() bool { return s.d.Logits.Shape[1] == 1 }

// width returns the length of a row of the logits of n tokens.
func (s *Sequence) width(logits []float32, n int) int {
	if s.lastOnly() {
		n = 1
	}
	return len(logits) / n
}

// forward returns the logits of tokens, or of the last one.
func (s *Sequence) forward(ctx context.Context, tokens []uint32) ([]float32, error) {
	given := tokens
	if s.d.Layers() == 0 {
		given = append(s.tokens[:len(s.tokens):len(s.tokens)], tokens...)
		s.state = s.d.NewState(1)
	}
	out, err := s.state.Forward(ctx, [][]uint32{given})
	if err != nil {
		return nil, err
	}
	t := out[s.d.Logits.Name]
	if len(t.Shape) != 3 || t.Shape[0] != 1 || t.Shape[1] < 1 || t.Shape[2] < 1 {
		return nil, fmt.Errorf("ort: logits of shape %v, want [1, seq, vocab]", t.Shape)
	}
	rows := min(t.Shape[1], len(tokens))
	s.n += len(tokens)
	if s.d.Layers() == 0 {
		s.tokens = given
	}
	values, logits := Rows(t, 0, rows), make([]float32, rows*t.Shape[2])
	for i, v := range values {
		logits[i] = float32(v)
	}
	return logits, nil
}

// Truncate forgets all but the first n tokens.
func (s *Sequence) Truncate(n int) error {
	if n < 0 || n > s.n {
		return fmt.Errorf("ort: %d tokens to keep of %d", n, s.n)
	}
	if s.d.Layers() == 0 {
		s.tokens = s.tokens[:n]
	} else if n < s.n {
		s.state.truncate(n)
	}
	s.n = n
	return nil
}
