package verify

import (
	"context"
	"fmt"
	"slices"

	"ossify/engine"
	"ossify/fault"
	"ossify/graph"
	"ossify/weight"
)

// An Injection puts a known bug into the engine at one position alone, to show
// that it is found there: the row of that position is computed with it, from keys
// and values that are right, and what comes after sees the row.
type Injection struct {
	Fault    fault.Fault
	Position int
}

// injected is the engine with a bug at one position.
type injected struct {
	engineSubject
	bad      engineSubject
	position int
}

func inject(g *graph.Graph, w *weight.Set, o engine.Options, good Subject, i Injection) (Subject, error) {
	if i.Fault.Unrounded || i.Fault.Decode || i.Fault.From > 0 || i.Position < 0 {
		return nil, fmt.Errorf("verify: %q at position %d: want a fault that is everywhere, and a position from 0", i.Fault.Name, i.Position)
	}
	bad, weights := i.Fault.Apply(g, w)
	s, err := Engine(bad, weights, o)
	if err != nil {
		return nil, err
	}
	return injected{good.(engineSubject), s.(engineSubject), i.Position}, nil
}

// over runs both models, and returns a tap that puts the bad row in its place.
func (s injected) over(run func(engineSubject, engine.Tap) error) (engine.Tap, error) {
	good, bad := map[string]map[int][]float32{}, map[string][]float32{}
	err := run(s.engineSubject, func(stage string, at []int, values []float32) []float32 {
		if _, step := s.steps[stage]; step {
			return nil
		}
		if good[stage] == nil {
			good[stage] = map[int][]float32{}
		}
		width := len(values) / len(at)
		for i, p := range at {
			good[stage][p] = slices.Clone(values[i*width:][:width])
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = run(s.bad, func(stage string, at []int, values []float32) []float32 {
		width := len(values) / len(at)
		own := slices.Clone(values)
		for i, p := range at {
			if p == s.position {
				bad[stage] = slices.Clone(values[i*width:][:width])
			} else if row := good[stage][p]; len(row) == width {
				copy(own[i*width:], row)
			}
		}
		if _, step := s.steps[stage]; step {
			return nil
		}
		return own
	})
	if err != nil {
		return nil, err
	}
	return func(stage string, at []int, values []float32) []float32 {
		width := len(values) / len(at)
		i := slices.Index(at, s.position)
		if i < 0 || len(bad[stage]) != width {
			return nil
		}
		own := slices.Clone(values)
		copy(own[i*width:], bad[stage])
		return own
	}, nil
}

func (s injected) Free(ctx context.Context, tokens []uint32, steps Steps, wanted func(stage string) bool, see See) error {
	over, err := s.over(func(e engineSubject, tap engine.Tap) error { return e.through(ctx, tokens, steps, tap, nil) })
	if err != nil {
		return err
	}
	e := s.engineSubject
	e.over = over
	return e.Free(ctx, tokens, steps, wanted, see)
}

func (s injected) From(ctx context.Context, q Sequence, see See) error {
	over, err := s.over(func(e engineSubject, tap engine.Tap) error {
		_, err := e.m.Replay(ctx, q.Tokens, q.positions(), tap)
		return err
	})
	if err != nil {
		return err
	}
	e := s.engineSubject
	e.over = over
	return e.From(ctx, q, see)
}
