// Package engine runs a recorded model fast: on all cores, with a key/value
// cache, its weights used in place.
//
// A [Model] is a graph with its weights and never changes; any number of
// [Session] values run on it, each with a cache of its own. A [Part] is what one
// session has to compute; [Model.Step] takes those of many sessions at once, in
// passes over the graph. A row's result does not depend on the rows computed
// with it, nor on the number of workers or the kernels: prefill in any chunks,
// decode, and any mixture of both, give the same bits.
package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"ossify/graph"
	"ossify/internal/huge"
	"ossify/kernel"
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

// Options are chosen when a model is made.
type Options struct {
	Precision Precision
	Kernels   kernel.Set // the zero value takes kernel.Best
	Workers   int        // goroutines a pass is split over; 0 takes all processors
	Chunk     int        // rows of one pass, at most; 0 takes 512
}

// defaultChunk is enough for each of 32 experts to get 64 rows, which a tile of
// weights is worth decoding for.
const defaultChunk = 512

// A Model is a graph with its weights, ready to run. It is safe for use by
// several goroutines; their passes take turns.
type Model struct {
	g       *graph.Graph
	o       Options
	half    bool // values are rounded to bfloat16
	w       *weight.Set
	vectors [][]float32       // of one-dimensional parameters, by parameter
	experts []kernel.Matrix   // of parameters that ExpertLinear nodes multiply with
	dense   [][]kernel.Matrix // of parameters that Linear nodes multiply with, by source
	attends []int             // Attend nodes
	fused   *plan
	open    *plan // every stage can be seen; made at first use
	opened  sync.Once

	screens atomic.Pointer[screened]

	turn   chan *runner // holds the one runner that passes take turns with
	closed atomic.Bool
	bytes  *atomic.Int64 // of pages in use
}

// New returns g with its weights, which are used in place: the files that they
// lie in must stay open, and unchanged, while the model is in use. No scale of
// the weights may be NaN (see weight.Set.Check).
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
		o.Chunk = defaultChunk
	}
	if o.Workers < 0 || o.Chunk < 0 {
		return nil, fmt.Errorf("engine: %d workers and chunks of %d, want positive numbers", o.Workers, o.Chunk)
	}
	if len(g.Nodes) == 0 {
		return nil, errors.New("engine: a graph without nodes")
	}
	if err := w.Fits(g.Params); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	m := &Model{g: g, o: o, half: o.Precision == BF16, w: w, vectors: make([][]float32, len(g.Params)), turn: make(chan *runner, 1), bytes: new(atomic.Int64)}
	for i, p := range g.Params {
		if len(p.Shape) == 1 {
			m.vectors[i] = w.Vector(i)
		}
	}
	m.dense, m.experts = make([][]kernel.Matrix, len(g.Params)), make([]kernel.Matrix, len(g.Params))
	for i, n := range g.Nodes {
		switch n.Op {
		case graph.Attend:
			m.attends = append(m.attends, i)
		case graph.Linear:
			p := n.Params[0]
			if m.dense[p] == nil {
				for _, from := range w.Sources(p) {
					m.dense[p] = append(m.dense[p], kernel.Matrix{Kind: kernel.BF16, Rows: from.Rows, Cols: g.Params[p].Shape.Last(), Data: from.Data.Data})
					huge.Want(from.Data.Data)
				}
			}
		case graph.ExpertLinear:
			p := n.Params[0]
			if m.experts[p].Data == nil {
				from := &w.Sources(p)[0]
				m.experts[p] = kernel.Matrix{Kind: kernel.MXFP4, Rows: from.Rows, Cols: g.Params[p].Shape.Last(), Data: from.Data.Data, Scales: from.Scales.Data}
				huge.Want(from.Data.Data)
				huge.Want(from.Scales.Data)
			}
		}
	}
	m.fused = newPlan(m, true, g.Output())
	m.turn <- newRunner(m)
	return m, nil
}

// Close waits for the pass that is under way and ends the model's use: what is
// called afterwards fails. No goroutine outlives a pass, so that a model that is
// not used any more need not be closed, but before its weights are.
func (m *Model) Close() error {
	if !m.closed.Swap(true) {
		<-m.turn
		close(m.turn)
	}
	return nil
}

var errClosed = errors.New("engine: the model is closed")

// take waits for a turn to run a pass.
func (m *Model) take(ctx context.Context) (*runner, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case r, ok := <-m.turn:
		if !ok {
			return nil, errClosed
		}
		return r, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// openPlan returns the plan in which every stage is a step of its own.
func (m *Model) openPlan() *plan {
	m.opened.Do(func() { m.open = newPlan(m, false, m.g.Output()) })
	return m.open
}

// Kernels returns the name of the kernel set in use.
func (m *Model) Kernels() string { return m.o.Kernels.Name }

// Precision returns the precision in use.
func (m *Model) Precision() Precision { return m.o.Precision }

// Workers returns the number of goroutines that a pass is split over.
func (m *Model) Workers() int { return m.o.Workers }

// CacheBytes returns the bytes of all pages of keys and values that sessions
// hold; those that a fork shares count once.
func (m *Model) CacheBytes() int64 { return m.bytes.Load() }

// checkTokens proves that each token has a row in every table that is indexed
// by token.
func (m *Model) checkTokens(tokens []uint32) error {
	for i := range m.g.Nodes {
		n := &m.g.Nodes[i]
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

// TokenBytes returns the bytes of weights that a decoded token reads: every
// matrix, but of experts those that a row is routed to, and one row of a table
// that is indexed by token.
func (m *Model) TokenBytes() int64 {
	var sum int64
	of := func(p int) int64 {
		var n int64
		if m.dense[p] != nil {
			for i := range m.dense[p] {
				n += m.dense[p][i].Bytes()
			}
			return n
		}
		for _, s := range m.w.Sources(p) {
			n += int64(len(s.Data.Data) + len(s.Scales.Data))
		}
		return n
	}
	for i := range m.g.Nodes {
		n := &m.g.Nodes[i]
		for _, p := range n.Params {
			rows := int64(m.g.Params[p].Shape[0])
			switch n.Op {
			case graph.ExpertLinear:
				sum += of(p) / rows * int64(n.Shape[1])
			case graph.Gather:
				sum += 2 * int64(m.g.Params[p].Shape.Last())
			default:
				sum += of(p)
			}
		}
	}
	return sum
}
