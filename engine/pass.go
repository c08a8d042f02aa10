package engine

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"ossify/float"
	"ossify/graph"
)

// pass runs tokens that follow the first positions, and returns the last want
// rows of the output.
func (m *Model) pass(ctx context.Context, tokens []uint32, first, want int, past []*past, tap Tap) ([]float32, error) {
	pos := make([]int, len(tokens))
	for i := range pos {
		pos[i] = first + i
	}
	p := &pass{m: m, ctx: ctx, tokens: tokens, pos: pos, want: want, past: past, tap: tap}
	return p.run()
}

// A pass is one walk over the graph.
type pass struct {
	m      *Model
	ctx    context.Context
	tokens []uint32
	pos    []int // of the tokens
	want   int   // rows of the result
	past   []*past
	tap    Tap

	vals  []mat
	free  [][]float32
	turns map[graph.Rope]turns
}

// A mat is a node's value: rows of width elements.
type mat struct {
	data  []float32
	width int
}

func (a mat) rows() int           { return len(a.data) / a.width }
func (a mat) row(t int) []float32 { return a.data[t*a.width:][:a.width] }
func (a mat) last(n int) mat      { return mat{a.data[len(a.data)-n*a.width:], a.width} }
func (a mat) of(width int) mat    { return mat{a.data, width} }
func (a mat) all() [][]float32    { return a.columns(0, a.width) }
func (a mat) columns(lo, hi int) [][]float32 {
	v := make([][]float32, a.rows())
	for t := range v {
		v[t] = a.row(t)[lo:hi]
	}
	return v
}

func (p *pass) run() ([]float32, error) {
	p.vals = make([]mat, len(p.m.g.Nodes))
	p.turns = map[graph.Rope]turns{}
	for i := range p.m.g.Nodes {
		if err := p.ctx.Err(); err != nil {
			return nil, err
		}
		n := &p.m.g.Nodes[i]
		pos := p.pos
		if p.m.tail[i] {
			pos = pos[len(pos)-p.want:]
		}
		out := p.alloc(len(pos), n.Shape.Width())
		if len(pos) > 0 || n.Op == graph.Attend { // which keeps keys and values even if no query is asked for
			if err := p.eval(i, n, pos, out); err != nil {
				return nil, fmt.Errorf("engine: %s: %w", n.Name, err)
			}
		}
		if p.tap != nil && len(pos) > 0 {
			if r := p.tap(n.Name, pos, out.data); r != nil {
				out = mat{r, out.width}
			}
		}
		p.vals[i] = out
		for _, v := range n.In {
			if p.m.lastUse[v] == i && p.vals[v].data != nil {
				p.free = append(p.free, p.vals[v].data)
				p.vals[v].data = nil
			}
		}
	}
	return p.vals[p.m.g.Output()].data, nil
}

// alloc returns a matrix, its contents undefined.
func (p *pass) alloc(rows, width int) mat {
	n := rows * width
	best := -1
	for i, b := range p.free {
		if cap(b) >= n && (best < 0 || cap(b) < cap(p.free[best])) {
			best = i
		}
	}
	if best < 0 {
		return mat{make([]float32, n), width}
	}
	b := p.free[best][:n]
	p.free = slices.Delete(p.free, best, best+1)
	return mat{b, width}
}

// round rounds to the values that the precision has.
func (p *pass) round(v []float32) {
	if p.m.o.Precision == BF16 {
		for i, f := range v {
			v[i] = float.RoundBF16(f)
		}
	}
}

// rounded is round for one value.
func (p *pass) rounded(f float32) float32 {
	if p.m.o.Precision == BF16 {
		return float.RoundBF16(f)
	}
	return f
}

// eval computes node i into out, a row for each of pos. The rounding is that
// of docs/numerics.md: once an operation, but where a case says otherwise.
func (p *pass) eval(i int, n *graph.Node, pos []int, out mat) error {
	in := func(j int) mat { // the rows of input j that out needs
		v := p.vals[n.In[j]]
		if n.Op != graph.Attend && v.rows() > len(pos) {
			v = v.last(len(pos))
		}
		return v
	}
	cols := n.Shape.Last()
	var x, y mat
	var xcols int
	if len(n.In) > 0 {
		x, xcols = in(0), p.m.g.Nodes[n.In[0]].Shape.Last()
	}
	if len(n.In) > 1 {
		y = in(1)
	}

	switch n.Op {
	case graph.Tokens:
		for t, id := range p.tokens[len(p.tokens)-len(pos):] {
			out.data[t] = float32(id) // exact: ids are below 2^24
		}

	case graph.Gather:
		for t, id := range x.data {
			p.m.w.Row32(n.Params[0], int(id), out.row(t))
		}

	case graph.RMSNorm:
		scale := p.m.vectors[n.Params[0]]
		p.each(out, func(t int, y []float32) {
			x, sum := x.row(t), 0.0
			for _, v := range x {
				sum += float64(v) * float64(v)
			}
			inv := float32(1 / math.Sqrt(sum/float64(cols)+n.Eps))
			for j, v := range x {
				y[j] = v * inv * scale[j]
			}
			p.round(y)
		})

	case graph.Linear:
		var bias []float32
		if len(n.Params) > 1 {
			bias = p.m.vectors[n.Params[1]]
		}
		p.linear(out, x, n.Params[0], bias)

	case graph.ExpertLinear:
		bias := -1
		if len(n.Params) > 1 {
			bias = n.Params[1]
		}
		k := n.Shape[1]
		shared := len(p.m.g.Nodes[n.In[0]].Shape) == 2 // one row of x for all K
		p.expertLinear(out.of(cols), x.of(xcols), y.data, func(i int) int {
			if shared {
				return i / k
			}
			return i
		}, n.Params[0], bias)

	case graph.Columns:
		from, to := x.of(xcols), out.of(cols)
		for t := range to.rows() {
			copy(to.row(t), from.row(t)[n.Lo:])
		}

	case graph.Every:
		for i := range out.data {
			out.data[i] = x.data[2*i+n.Lo]
		}

	case graph.Rotate:
		turns := p.turnsAt(n.Rope, pos)
		p.each(out, func(t int, y []float32) {
			for h := 0; h < cols; h += n.Rope.Dim {
				p.rotate(y[h:][:n.Rope.Dim], x.row(t)[h:][:n.Rope.Dim], turns, t, n.Rope.Adjacent)
			}
		})

	case graph.Attend:
		return p.attend(i, n, pos, out, x, y, in(2))

	case graph.TopK:
		p.each(out, func(t int, y []float32) { topK(y, x.row(t)) })

	case graph.Pick:
		for t := range pos {
			for j, c := range y.row(t) {
				out.row(t)[j] = x.row(t)[int(c)]
			}
		}

	case graph.Softmax:
		rows := out.of(cols)
		for t := range rows.rows() {
			softmax(rows.row(t), x.of(cols).row(t))
		}
		p.round(out.data)

	case graph.Clamp:
		lo, hi := float32(n.A), float32(n.B)
		p.each(out, func(t int, y []float32) {
			for j, v := range x.row(t) {
				y[j] = min(max(v, lo), hi)
			}
		})

	case graph.Affine:
		a, b := float32(n.A), float32(n.B)
		p.each(out, func(t int, y []float32) {
			for j, v := range x.row(t) {
				y[j] = float32(a*v) + b
			}
			p.round(y)
		})

	case graph.Sigmoid:
		p.each(out, func(t int, y []float32) {
			for j, v := range x.row(t) {
				y[j] = float32(1 / (1 + math.Exp(-float64(v))))
			}
			p.round(y)
		})

	case graph.Mul:
		p.each(out, func(t int, z []float32) {
			b := y.row(t)
			for j, v := range x.row(t) {
				z[j] = v * b[j]
			}
			p.round(z)
		})

	case graph.Add:
		p.each(out, func(t int, z []float32) {
			b := y.row(t)
			for j, v := range x.row(t) {
				z[j] = v + b[j]
			}
			p.round(z)
		})

	case graph.Mix:
		p.each(out, func(t int, z []float32) {
			clear(z)
			for k, w := range y.row(t) {
				p.m.o.Kernels.AddScaled(z, w, x.row(t)[k*cols:][:cols])
			}
			p.round(z)
		})

	default:
		return fmt.Errorf("no case for %v", n.Op)
	}
	return nil
}

// linear sets out = x·wᵀ + bias, rounded once. Workers share the rows of w.
func (p *pass) linear(out, x mat, param int, bias []float32) {
	first := 0
	xs := x.all()
	for _, s := range p.m.w.Sources(param) {
		p.split(s.Rows, 16, func(lo, hi int) {
			ys := out.columns(first+lo, first+hi)
			p.m.o.Kernels.BF16(ys, xs, s.Data.Data[2*lo*x.width:2*hi*x.width])
			for _, y := range ys {
				if bias != nil {
					for j := range y {
						y[j] += bias[first+lo+j]
					}
				}
				p.round(y)
			}
		})
		first += s.Rows
	}
}

// expertLinear sets row i of out to experts[i]'s weights times row from(i) of
// x, rounded, plus the expert's bias, rounded. Only experts that are listed
// are read; workers share their rows.
func (p *pass) expertLinear(out, x mat, experts []float32, from func(i int) int, param, bias int) {
	type job struct{ ys, xs [][]float32 }
	jobs := make([]job, p.m.g.Params[param].Shape[0])
	var active []int
	for i, e := range experts {
		j := &jobs[int(e)]
		if j.xs == nil {
			active = append(active, int(e))
		}
		j.xs = append(j.xs, x.row(from(i)))
		j.ys = append(j.ys, out.row(i))
	}
	const panel = 96 // weight rows of one task: small enough to share evenly, large enough to be worth it
	rows, panels := out.width, (out.width+panel-1)/panel
	groups := x.width / float.BlockSize
	p.split(len(active)*panels, 1, func(first, end int) {
		ys := make([][]float32, 0, len(experts))
		b := make([]float32, rows)
		for task := first; task < end; task++ {
			e := active[task/panels]
			lo := task % panels * panel
			hi := min(lo+panel, rows)
			ys = ys[:0]
			for _, y := range jobs[e].ys {
				ys = append(ys, y[lo:hi])
			}
			s, row := p.m.w.Sources(param)[0], e*rows+lo
			blocks := s.Data.Data[row*groups*float.BlockBytes:]
			p.m.o.Kernels.MXFP4(ys, jobs[e].xs, blocks[:(hi-lo)*groups*float.BlockBytes], s.Scales.Data[row*groups:][:(hi-lo)*groups])
			if bias >= 0 {
				p.m.w.Row32(bias, e, b)
			}
			for _, y := range ys {
				p.round(y)
				if bias >= 0 {
					for j := range y {
						y[j] += b[lo+j]
					}
					p.round(y)
				}
			}
		}
	})
}

// topK writes the columns of the largest values of x, largest first, equal
// ones in column order.
func topK(out, x []float32) {
	order := make([]int, len(x))
	for j := range order {
		order[j] = j
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case x[a] > x[b]:
			return -1
		case x[a] < x[b]:
			return 1
		}
		return 0
	})
	for j := range out {
		out[j] = float32(order[j])
	}
}

func softmax(y, x []float32) {
	top, sum := slices.Max(x), 0.0
	for j, v := range x {
		y[j] = exp(v - top)
		sum += float64(y[j])
	}
	for j := range y {
		y[j] = float32(float64(y[j]) / sum)
	}
}

func exp(x float32) float32 { return float32(math.Exp(float64(x))) }

// split calls f on ranges that cover 0 to n, at least grain long but for the
// last, over all workers, and waits.
func (p *pass) split(n, grain int, f func(lo, hi int)) {
	workers := min(p.m.o.Workers, (n+grain-1)/grain)
	if workers <= 1 {
		f(0, n)
		return
	}
	// More ranges than workers, so that one that is held up holds up little.
	step := max(grain, (n+4*workers-1)/(4*workers))
	var next atomic.Int64
	var wg sync.WaitGroup
	work := func() {
		for {
			hi := int(next.Add(int64(step)))
			if lo := hi - step; lo < n {
				f(lo, min(hi, n))
				continue
			}
			return
		}
	}
	for range workers - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}

// each calls f on every row of out, over all workers where that is worth it.
func (p *pass) each(out mat, f func(t int, row []float32)) {
	grain := max(1, 1<<14/out.width)
	p.split(out.rows(), grain, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			f(t, out.row(t))
		}
	})
}
