// Package oracle evaluates a recorded model in float64, one plain loop an
// operation. It is slow and right: the definition that the engine, the ONNX
// exporter and PyTorch itself are measured against. Read it as a
// specification.
package oracle

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sort"

	"ossify/graph"
	"ossify/internal/mapped"
)

// Weights yields parameters, row by row, to several goroutines at once. A parameter [.., D] is Π(..) rows of
// D values, in order; a vector [D] is D rows of one.
type Weights interface {
	// Row writes row i of parameter p to dst.
	Row(p int, i int, dst []float64)
}

// A Tap sees each stage once it is computed: its values, row-major, one row for
// each of the positions. If it returns a slice, that stands in for the stage
// from there on. The replacement of a key or value stage may hold a row for
// every position from 0 to the last, which is what lets chosen positions be
// computed alone.
type Tap func(stage string, positions []int, values []float64) (replacement []float64)

// Run evaluates g for tokens at positions (the two are of one length) and
// returns its output [T, ..].
func Run(ctx context.Context, g *graph.Graph, w Weights, tokens []uint32, positions []int, tap Tap) ([]float64, error) {
	if len(tokens) == 0 || len(tokens) != len(positions) {
		return nil, fmt.Errorf("oracle: %d tokens at %d positions, want one position a token and at least one", len(tokens), len(positions))
	}
	r := &run{g: g, w: w, tokens: tokens, pos: positions, vals: make([][]float64, len(g.Nodes))}
	for i := range g.Nodes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := &g.Nodes[i]
		v, err := r.eval(n)
		if err != nil {
			return nil, fmt.Errorf("oracle: %s: %w", n.Name, err)
		}
		if tap != nil {
			if v2 := tap(n.Name, positions, v); v2 != nil {
				v = v2
			}
		}
		r.vals[i] = v
	}
	return r.vals[g.Output()], nil
}

type run struct {
	g      *graph.Graph
	w      Weights
	tokens []uint32
	pos    []int
	vals   [][]float64 // by node
}

// eval computes n from the values of its inputs.
func (r *run) eval(n *graph.Node) ([]float64, error) {
	rows := len(r.pos)
	out := make([]float64, rows*n.Shape.Width())
	d := n.Shape.Last() // columns of the result
	var x, y []float64
	var dx int // columns of x
	if len(n.In) > 0 {
		x, dx = r.vals[n.In[0]], r.g.Nodes[n.In[0]].Shape.Last()
	}
	if len(n.In) > 1 {
		y = r.vals[n.In[1]]
	}
	switch n.Op {
	case graph.Tokens:
		for t, id := range r.tokens {
			out[t] = float64(id)
		}

	case graph.Gather:
		vocab := r.g.Params[n.Params[0]].Shape[0]
		for t, id := range x {
			if id < 0 || id >= float64(vocab) {
				return nil, fmt.Errorf("token %g at position %d, want an id below %d", id, r.pos[t], vocab)
			}
			r.w.Row(n.Params[0], int(id), out[t*d:][:d])
		}

	case graph.RMSNorm:
		scale := r.vector(n, 0)
		for t := range rows {
			row, sum := x[t*d:][:d], 0.0
			for _, v := range row {
				sum += v * v
			}
			rms := math.Sqrt(sum/float64(d) + n.Eps)
			for j, v := range row {
				out[t*d+j] = v / rms * scale[j]
			}
		}

	case graph.Linear:
		bias := r.vector(n, 1)
		if bias == nil {
			bias = make([]float64, d)
		}
		products(r.w, n, x, dx, rows, func(t, j int, x, w []float64) { out[t*d+j] = dot(x, w) + bias[j] })

	case graph.ExpertLinear:
		count := r.g.Params[n.Params[0]].Shape[0]
		bias := make([]float64, count*d)
		if len(n.Params) > 1 {
			for e := range count {
				r.w.Row(n.Params[1], e, bias[e*d:][:d])
			}
		}
		expertProducts(r.w, n, x, dx, count, y, func(i, j int, x, w []float64) {
			out[i*d+j] = dot(x, w) + bias[int(y[i])*d+j]
		})

	case graph.Columns:
		for i := range len(out) / d {
			copy(out[i*d:][:d], x[i*dx+n.Lo:])
		}

	case graph.Every:
		for i := range out {
			out[i] = x[2*i+n.Lo]
		}

	case graph.Rotate:
		freq := n.Rope.Frequencies()
		for t, pos := range r.pos {
			for h := 0; h < d; h += n.Rope.Dim {
				rotate(out[t*d+h:][:n.Rope.Dim], x[t*d+h:][:n.Rope.Dim], float64(pos), freq, n.Rope)
			}
		}

	case graph.Attend:
		return out, r.attend(out, n, x, y, r.vals[n.In[2]])

	case graph.TopK:
		for t := range rows {
			top(out[t*d:][:d], x[t*dx:][:dx])
		}

	case graph.Pick:
		for i, j := range y {
			out[i] = x[i/d*dx+int(j)]
		}

	case graph.Softmax:
		for i := 0; i < len(out); i += d {
			top, sum := slices.Max(x[i:i+d]), 0.0
			for j := range d {
				out[i+j] = math.Exp(x[i+j] - top)
				sum += out[i+j]
			}
			for j := range d {
				out[i+j] /= sum
			}
		}

	case graph.Clamp:
		for i, v := range x {
			out[i] = min(max(v, n.A), n.B)
		}

	case graph.Affine:
		for i, v := range x {
			out[i] = n.A*v + n.B
		}

	case graph.Sigmoid:
		for i, v := range x {
			out[i] = 1 / (1 + math.Exp(-v))
		}

	case graph.Mul:
		for i, v := range x {
			out[i] = v * y[i]
		}

	case graph.Add:
		for i, v := range x {
			out[i] = v + y[i]
		}

	case graph.Mix:
		for i, weight := range y { // i = t·K + k
			t := i / (len(y) / rows)
			for j := range d {
				out[t*d+j] += weight * x[i*d+j]
			}
		}

	default:
		return nil, fmt.Errorf("no case for %v", n.Op)
	}
	return out, nil
}

// products calls f with every row x of a Linear's input and every row w of its
// weights, whose product is at [t, j] of the result. It goes by rows of weights,
// so that each is read once.
func products(weights Weights, n *graph.Node, x []float64, dx, rows int, f func(t, j int, x, w []float64)) {
	split(n.Shape.Last(), func(lo, hi int) {
		w := make([]float64, dx)
		for j := lo; j < hi; j++ {
			weights.Row(n.Params[0], j, w)
			for t := range rows {
				f(t, j, x[t*dx:][:dx], w)
			}
		}
	})
}

// expertProducts is products for an ExpertLinear of count experts: x is [T, D] or
// [T, K, D], experts [T, K] and the result [T·K, N].
func expertProducts(weights Weights, n *graph.Node, x []float64, dx, count int, experts []float64, f func(i, j int, x, w []float64)) {
	k, cols := n.Shape[1], n.Shape.Last()
	for e := range count {
		if !slices.Contains(experts, float64(e)) {
			continue
		}
		split(cols, func(lo, hi int) {
			w := make([]float64, dx)
			for j := lo; j < hi; j++ {
				weights.Row(n.Params[0], e*cols+j, w)
				for i, chosen := range experts { // i = t·K + k
					if int(chosen) != e {
						continue
					}
					row := i
					if len(x) < len(experts)*dx { // [T, D]: one row for all K
						row = i / k
					}
					f(i, j, x[row*dx:][:dx], w)
				}
			}
		})
	}
}

// keysOf returns the positions of keys and values: those at pos, or 0 to S−1 if
// there are others.
func keysOf(h graph.Heads, pos []int, k, v []float64) ([]int, error) {
	width := h.KV * h.Dim
	keys := pos
	if len(k) != len(pos)*width {
		keys = make([]int, len(k)/width)
		for j := range keys {
			keys[j] = j
		}
	}
	if len(v) != len(k) || len(keys) <= slices.Max(pos) && len(k) != len(pos)*width {
		return nil, fmt.Errorf("%d keys and %d values for position %d", len(k)/width, len(v)/width, slices.Max(pos))
	}
	return keys, nil
}

// attend reads queries q [T, Query·Dim] at the run's positions, and keys and
// values [S, KV·Dim] at the same positions, or at 0 to S−1 if a tap gave all.
func (r *run) attend(out []float64, n *graph.Node, q, k, v []float64) error {
	h := n.Heads
	nq, nkv := h.Query*h.Dim, h.KV*h.Dim
	keys, err := keysOf(h, r.pos, k, v)
	if err != nil {
		return err
	}
	sinks := r.vector(n, 0)
	for t, pos := range r.pos {
		for head := range h.Query {
			query := q[t*nq+head*h.Dim:][:h.Dim]
			kv := head / (h.Query / h.KV) * h.Dim // first column of the head's keys

			scores := make([]float64, len(keys)) // −Inf where out of view
			top := math.Inf(-1)
			for j, key := range keys {
				scores[j] = math.Inf(-1)
				if key <= pos-h.Delay && (h.Window == 0 || key > pos-h.Window) {
					scores[j] = dot(query, k[j*nkv+kv:][:h.Dim]) / math.Sqrt(float64(h.Dim))
				}
				top = max(top, scores[j])
			}
			if sinks != nil {
				top = max(top, sinks[head])
			}
			if math.IsInf(top, -1) {
				continue // nothing in view: the result is zero
			}

			sum := 0.0
			for _, s := range scores {
				sum += math.Exp(s - top)
			}
			if sinks != nil {
				sum += math.Exp(sinks[head] - top) // takes its share, has no value
			}
			for j, s := range scores {
				weight := math.Exp(s-top) / sum
				for i := range h.Dim {
					out[t*nq+head*h.Dim+i] += weight * v[j*nkv+kv+i]
				}
			}
		}
	}
	return nil
}

func rotate(out, x []float64, pos float64, freq []float64, r graph.Rope) {
	for i, f := range freq {
		a, b := i, i+len(freq)
		if r.Adjacent {
			a, b = 2*i, 2*i+1
		}
		sin, cos := math.Sincos(pos * f)
		sin, cos = sin*r.Concentration, cos*r.Concentration
		out[a] = x[a]*cos - x[b]*sin
		out[b] = x[b]*cos + x[a]*sin
	}
}

// top writes the columns of the largest values of row, largest first, equal
// ones in column order.
func top(out, row []float64) {
	order := make([]int, len(row))
	for j := range order {
		order[j] = j
	}
	sort.SliceStable(order, func(a, b int) bool { return row[order[a]] > row[order[b]] })
	for j := range out {
		out[j] = float64(order[j])
	}
}

// split covers 0 to n with ranges, one a processor, and waits for all. The
// columns of a result do not depend on each other, so it changes no value.
func split(n int, f func(lo, hi int)) {
	parts := runtime.GOMAXPROCS(0)
	mapped.Each(parts, func(i int) { f(i*n/parts, (i+1)*n/parts) })
}

// vector returns parameter i of a node, which is [D]; nil if there is none.
func (r *run) vector(n *graph.Node, i int) []float64 {
	if i >= len(n.Params) {
		return nil
	}
	p := n.Params[i]
	v := make([]float64, r.g.Params[p].Shape[0])
	for j := range v {
		r.w.Row(p, j, v[j:j+1])
	}
	return v
}

func dot(x, w []float64) float64 {
	sum := 0.0
	for i, v := range x {
		sum += v * w[i]
	}
	return sum
}
