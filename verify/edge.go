package verify

import (
	"fmt"
	"math"
	"slices"

	"ossify/graph"
	"ossify/oracle"
	"ossify/parity"
)

// edge returns the positions beside the edge of a window: the last that sees
// all before it, and the first two that do not.
func edge(h graph.Heads) []int {
	if h.Window == 0 {
		return nil
	}
	return []int{h.Window - 1, h.Window, h.Window + 1}
}

// Edges says what attention with a window looks at beside its edge, in a run of
// which rows are kept at some positions, keys and values from position 0 on.
// What the run does not hold is left out.
func Edges(g *graph.Graph, w oracle.Weights, positions []int, run parity.Run) ([]parity.Edge, error) {
	var all []parity.Edge
	for _, n := range g.Nodes {
		if n.Op != graph.Attend || n.Heads.Window == 0 {
			continue
		}
		h := n.Heads
		a := attention{h: h, k: run[g.Nodes[n.In[1]].Name], v: run[g.Nodes[n.In[2]].Name]}
		if len(n.Params) > 0 {
			a.sinks = make([]float64, h.Query)
			w.Row(n.Params[0], 0, a.sinks)
		}
		q := run[g.Nodes[n.In[0]].Name]
		width := h.Query * h.Dim
		if len(q) != len(positions)*width || len(a.k) != len(a.v) {
			return nil, fmt.Errorf("verify: %s: %d queries, %d keys, %d values", n.Name, len(q), len(a.k), len(a.v))
		}
		e := parity.Edge{Stage: n.Name, Window: h.Window}
		for _, p := range edge(h) {
			row, ok := slices.BinarySearch(positions, p)
			if !ok || (p+1)*h.KV*h.Dim > len(a.k) {
				continue
			}
			e.Rows = append(e.Rows, a.row(p, q[row*width:][:width]))
		}
		if len(e.Rows) > 0 {
			all = append(all, e)
		}
	}
	return all, nil
}

// attention is one layer's keys and values [positions, KV*Dim], and its sinks.
type attention struct {
	h           graph.Heads
	k, v, sinks []float64
}

// row describes the row of a query [Query*Dim] at position p.
func (a attention) row(p int, q []float64) parity.EdgeRow {
	own, oldest, sink := a.attend(p, q, a.h.Window)
	narrow, _, _ := a.attend(p, q, a.h.Window-1)
	wide, _, _ := a.attend(p, q, a.h.Window+1)
	return parity.EdgeRow{
		Position: p, Keys: min(p+1, a.h.Window), Oldest: oldest, Sink: sink,
		Wider: change(own, wide), Narrower: change(own, narrow),
	}
}

// change returns the root mean square of b − a in units of that of a.
func change(a, b []float64) float64 {
	d := parity.Differ(a, b)
	return d.Relative(d.Error)
}

// attend returns a row of attention with a window, and the mean shares of the
// oldest key in view and of the sinks.
func (a attention) attend(p int, q []float64, window int) (out []float64, oldest, sink float64) {
	h := a.h
	out = make([]float64, h.Query*h.Dim)
	nkv := h.KV * h.Dim
	first, end := max(0, p-window+1), p+1-h.Delay
	for head := range h.Query {
		kv := head / (h.Query / h.KV) * h.Dim
		scores, most := make([]float64, 0, end-first), math.Inf(-1)
		for j := first; j < end; j++ {
			s := 0.0
			for i, v := range a.k[j*nkv+kv:][:h.Dim] {
				s += v * q[head*h.Dim+i]
			}
			scores = append(scores, s/math.Sqrt(float64(h.Dim)))
			most = max(most, scores[j-first])
		}
		if a.sinks != nil {
			most = max(most, a.sinks[head])
		}
		total, rest := 0.0, 0.0
		for j, s := range scores {
			scores[j] = math.Exp(s - most)
			total += scores[j]
		}
		if a.sinks != nil {
			rest = math.Exp(a.sinks[head] - most)
			total += rest
		}
		if !(total > 0) {
			continue // nothing in view
		}
		for j, s := range scores {
			for i, v := range a.v[(first+j)*nkv+kv:][:h.Dim] {
				out[head*h.Dim+i] += s / total * v
			}
		}
		if len(scores) > 0 {
			oldest += scores[0] / total / float64(h.Query)
		}
		sink += rest / total / float64(h.Query)
	}
	return out, oldest, sink
}
