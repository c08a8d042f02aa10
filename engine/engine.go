// Package engine runs a recorded model fast: on all cores, with a key/value
// cache, its weights used in place.
//
// A [Model] is a graph with its weights and never changes; any number of
// [Session] values run on it at once, each with a cache of its own. A row's
// result does not depend on the rows computed with it: prefill in any chunks,
// and decode, give the same bits.
package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"ossify/engine/internal/kernel"
	"ossify/graph"
	"ossify/weight"
)

// Precision says how values between operations are rounded. Sums are float32
// in both.
type Precision uint8

// The two precisions of the reference. None is a default.
const (
	_    Precision = iota
	BF16           // to bfloat16 where gpt_oss/torch/model.py, as shipped, rounds
	F32            // to float32: the reference after model.float()
)

func (p Precision) String() string { return [...]string{"Precision(?)", "bf16", "f32"}[p] }

// Kernels is a set of inner loops.
type Kernels = kernel.Set

// PortableKernels returns the set written in plain Go.
func PortableKernels() Kernels { return kernel.Portable() }

// BestKernels returns the fastest set that this machine can run.
func BestKernels() Kernels { return kernel.Best() }

// Options are chosen when a model is made.
type Options struct {
	Precision Precision
	Kernels   Kernels // the zero value takes BestKernels
	Workers   int     // goroutines an operation is split over; 0 takes all processors
	Chunk     int     // rows of one pass of a prefill; 0 takes 256
}

// A Model is a graph with its weights, ready to run.
type Model struct {
	g       *graph.Graph
	o       Options
	w       *weight.Set
	vectors [][]float32 // of one-dimensional parameters, by parameter
	lastUse []int       // the last node to read each node
	tail    []bool      // nodes of which no key or value depends: only rows asked for are computed
}

// New returns g with its weights, which are used in place: the files that they
// lie in must stay open, and unchanged, while the model is in use.
func New(g *graph.Graph, w *weight.Set, o Options) (*Model, error) {
	if o.Precision != BF16 && o.Precision != F32 {
		return nil, fmt.Errorf("engine: no precision given, want bf16 or f32")
	}
	if o.Kernels.Name == "" {
		o.Kernels = kernel.Best()
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Chunk == 0 {
		o.Chunk = 256
	}
	if o.Workers < 0 || o.Chunk < 0 {
		return nil, fmt.Errorf("engine: %d workers and chunks of %d, want positive numbers", o.Workers, o.Chunk)
	}
	if err := w.Fits(g.Params); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	m := &Model{g: g, o: o, w: w, vectors: make([][]float32, len(g.Params))}
	for i, p := range g.Params {
		if len(p.Shape) == 1 {
			m.vectors[i] = w.Vector(i)
		}
	}
	m.plan()
	return m, nil
}

// plan finds when each value is last read, and which nodes no key or value
// depends on.
func (m *Model) plan() {
	m.lastUse = make([]int, len(m.g.Nodes))
	past := make([]bool, len(m.g.Nodes)) // some key or value depends on it
	for i := len(m.g.Nodes) - 1; i >= 0; i-- {
		n := &m.g.Nodes[i]
		for j, v := range n.In {
			m.lastUse[v] = max(m.lastUse[v], i)
			past[v] = past[v] || past[i] || n.Op == graph.Attend && j > 0
		}
	}
	m.lastUse[m.g.Output()] = len(m.g.Nodes)
	m.tail = make([]bool, len(m.g.Nodes))
	for i := range past {
		m.tail[i] = !past[i]
	}
}

// Kernels returns the name of the kernel set in use.
func (m *Model) Kernels() string { return m.o.Kernels.Name }

// Precision returns the precision in use.
func (m *Model) Precision() Precision { return m.o.Precision }

// NewSession returns a session that has seen no token.
func (m *Model) NewSession() *Session {
	return &Session{m: m, past: make([]*past, len(m.g.Nodes))}
}

// A Session is one sequence of tokens: the keys and values it has seen. It is
// for one goroutine at a time.
type Session struct {
	m    *Model
	past []*past // by Attend node
	n    int     // tokens seen
}

// Len returns the number of tokens seen.
func (s *Session) Len() int { return s.n }

// A Tap sees each stage once it is computed: its values, row-major, one row for
// each of the positions. If it returns a slice, that stands in for the stage
// from there on. It must not keep values, which are reused.
type Tap func(stage string, positions []int, values []float32) (replacement []float32)

// Forward processes tokens and returns the logits of each [len(tokens), Vocab].
// If it fails, the session has seen the chunks that were done, as Len says, and
// can go on from there.
func (s *Session) Forward(ctx context.Context, tokens []uint32) ([]float32, error) {
	return s.Trace(ctx, tokens, nil)
}

// Trace is Forward with a tap, which may be nil. The tap sees a long prompt in
// chunks.
func (s *Session) Trace(ctx context.Context, tokens []uint32, tap Tap) ([]float32, error) {
	var logits []float32
	err := s.chunks(ctx, tokens, func(chunk []uint32, first int) error {
		out, err := s.m.pass(ctx, chunk, first, len(chunk), s.past, tap)
		logits = append(logits, out...)
		return err
	})
	return logits, err
}

// Next processes tokens and returns the logits of the last [Vocab]. It computes
// nothing that only the others' logits need.
func (s *Session) Next(ctx context.Context, tokens []uint32) ([]float32, error) {
	var logits []float32
	end := s.n + len(tokens)
	err := s.chunks(ctx, tokens, func(chunk []uint32, first int) error {
		want := 0
		if first+len(chunk) == end {
			want = 1
		}
		out, err := s.m.pass(ctx, chunk, first, want, s.past, nil)
		logits = out
		return err
	})
	return logits, err
}

func (s *Session) chunks(ctx context.Context, tokens []uint32, do func(chunk []uint32, first int) error) error {
	if len(tokens) == 0 {
		return errors.New("engine: no tokens, want at least one")
	}
	if err := s.m.checkTokens(tokens); err != nil {
		return err
	}
	for lo := 0; lo < len(tokens); lo += s.m.o.Chunk {
		chunk := tokens[lo:min(lo+s.m.o.Chunk, len(tokens))]
		if err := do(chunk, s.n); err != nil {
			return err
		}
		s.n += len(chunk)
	}
	return nil
}

// checkTokens proves that each token has a row in every table that is indexed
// by token.
func (m *Model) checkTokens(tokens []uint32) error {
	for _, n := range m.g.Nodes {
		if n.Op != graph.Gather {
			continue
		}
		rows := m.g.Params[n.Params[0]].Shape[0]
		for i, id := range tokens {
			if int64(id) >= int64(rows) {
				return fmt.Errorf("engine: token %d of %d is id %d, want below %d", i+1, len(tokens), id, rows)
			}
		}
	}
	return nil
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
	p := &pass{m: m, ctx: ctx, tokens: tokens, pos: positions, want: len(tokens), tap: tap}
	return p.run()
}
