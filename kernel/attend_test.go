package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"ossify/float"
)

// A context is what queries attend to: keys and values of positions 0 to n.
type testContext struct {
	key, value [][]float32
	pages      []Page
}

// newContext draws keys and values and puts them in pages whose other slots
// hold NaN: nothing of those may be seen.
func newContext(r *rand.Rand, n, dim int, half bool, next func(*rand.Rand) float32) *testContext {
	c := &testContext{}
	for p := range n {
		if p%PageLen == 0 {
			c.pages = append(c.pages, nanPage(dim, half))
		}
		k, v := make([]float32, dim), make([]float32, dim)
		for d := range dim {
			k[d], v[d] = rounded(next(r), half), rounded(next(r), half)
		}
		c.pages[p/PageLen].Put(p%PageLen, k, v)
		c.key, c.value = append(c.key, k), append(c.value, v)
	}
	return c
}

func nanPage(dim int, half bool) Page {
	if half {
		p := Page{Half: make([]uint16, PageSize(dim))}
		for i := range p.Half {
			p.Half[i] = 0x7fc0
		}
		return p
	}
	p := Page{Full: make([]float32, PageSize(dim))}
	for i := range p.Full {
		p.Full[i] = float32(math.NaN())
	}
	return p
}

// attention returns rows of queries, row t at position first+t with the given
// window (0 is none), their results fenced.
func attention(r *rand.Rand, c *testContext, group, dim, first, rows, window int, half bool, next func(*rand.Rand) float32) *Attention {
	a := &Attention{
		Group: group, Dim: dim, Half: half, Scale: float32(1 / math.Sqrt(float64(dim))), Sinks: make([]float32, group),
		Pages: c.pages, QStride: group*dim + 3, YStride: group*dim + 1,
	}
	a.Q, a.Y = make([]float32, rows*a.QStride), make([]float32, rows*a.YStride)
	for i := range a.Q {
		a.Q[i] = rounded(next(r), half)
	}
	for g := range a.Sinks {
		a.Sinks[g] = rounded(float32(r.NormFloat64()), half)
	}
	for t := range rows {
		lo := 0
		if window > 0 {
			lo = max(0, first+t-window+1)
		}
		a.Lo, a.Hi = append(a.Lo, lo), append(a.Hi, first+t+1)
	}
	return a
}

type attendCase struct {
	name                            string
	group, dim, first, rows, window int
}

var attendCases = []attendCase{
	{"one key", 8, 64, 0, 1, 0},
	{"decode", 8, 64, 200, 1, 0},
	{"decode at the end of a page", 8, 64, 127, 1, 0},
	{"decode, window", 8, 64, 300, 1, 128},
	{"window of one", 8, 64, 100, 3, 1},
	{"prefill", 8, 64, 0, 150, 0},
	{"prefill, window", 8, 64, 0, 150, 20},
	{"a chunk", 8, 64, 60, 70, 0},
	{"a chunk, window", 8, 64, 250, 70, 128},
	{"one head", 1, 64, 30, 70, 0},
	{"small heads", 4, 6, 0, 80, 12},
	{"odd group", 11, 34, 100, 5, 0},
	{"large heads", 3, 130, 90, 3, 70},
}

// Every set agrees with the portable one to the bit, that with the exact
// result, and each row has the same bits alone.
func TestAttend(t *testing.T) {
	for _, half := range []bool{false, true} {
		for _, c := range attendCases {
			name := fmt.Sprintf("%s, half=%v", c.name, half)
			var want []float32
			for _, s := range every() {
				r := rand.New(rand.NewPCG(11, 12))
				next := func(r *rand.Rand) float32 { return float32(r.NormFloat64()) }
				ctx := newContext(r, c.first+c.rows, c.dim, half, next)
				a := attention(r, ctx, c.group, c.dim, c.first, c.rows, c.window, half, next)
				y, intact := fence(a.Y)
				a.Y = y
				buf := s.Attend(a, nil)
				if !intact() {
					t.Errorf("%s, %s: wrote outside its result", s.Name, name)
				}
				for row := range a.Lo {
					if a.Y[row*a.YStride+c.group*c.dim] != 0 {
						t.Errorf("%s, %s: wrote between rows %d and %d", s.Name, name, row, row+1)
					}
				}
				if want == nil {
					want = y
					checkAttention(t, name, a, ctx)
					continue
				}
				for i := range y {
					if !same(y[i], want[i]) {
						t.Fatalf("%s, %s: result %d is %g, portable has %g", s.Name, name, i, y[i], want[i])
					}
				}
				// Alone, its pages no more than it sees, and the memory full of the last.
				for row := range a.Lo {
					one := *a
					drop := a.Lo[row] / PageLen
					one.Pages, one.First = a.Pages[drop:(a.Hi[row]+PageLen-1)/PageLen], drop*PageLen
					one.Lo, one.Hi, one.Q, one.Y = a.Lo[row:row+1], a.Hi[row:row+1], a.Q[row*a.QStride:], make([]float32, a.YStride)
					buf = s.Attend(&one, buf)
					for i := range c.group * c.dim {
						if !same(one.Y[i], y[row*a.YStride+i]) {
							t.Fatalf("%s, %s: row %d: result %d is %g alone, %g among others", s.Name, name, row, i, one.Y[i], y[row*a.YStride+i])
						}
					}
				}
			}
		}
	}
}

// checkAttention compares a with float64 arithmetic that rounds the same steps
// to bfloat16 as docs/numerics.md has them. Values that are nearly ties may
// be rounded the other way, so the tolerance has a step for each.
func checkAttention(t *testing.T, name string, a *Attention, c *testContext) {
	t.Helper()
	u := unit(a.Half)
	for row := range a.Lo {
		for g := range a.Group {
			q := a.Q[row*a.QStride+g*a.Dim:][:a.Dim]
			var s []float64
			top, largest := float64(a.Sinks[g]), 0.0
			for p := a.Lo[row]; p < a.Hi[row]; p++ {
				var sum float64
				for d, v := range q {
					sum += float64(v) * float64(c.key[p][d])
				}
				s = append(s, sum*float64(a.Scale))
				top, largest = max(top, s[len(s)-1]), max(largest, math.Abs(s[len(s)-1]))
			}
			total := math.Exp(float64(a.Sinks[g]) - top)
			for i := range s {
				s[i] = math.Exp(s[i] - top)
				total += s[i]
			}
			// A score is rounded twice, and its sum as often as it has terms, of at most
			// a few times its size; that moves each weight, and the sum of them, by
			// as much. The weight and the result are rounded once more.
			rel := 2*largest*(2*u+float64(a.Dim)*8*roundF32) + 2*u
			for d := range a.Dim {
				var want, size float64
				for i, w := range s {
					v := float64(c.value[a.Lo[row]+i][d])
					want, size = want+w*v/total, size+w*math.Abs(v)/total
				}
				tol := (rel + (PageLen+4)*roundF32) * size
				if got := float64(a.Y[row*a.YStride+g*a.Dim+d]); !(math.Abs(got-want) <= tol) {
					t.Fatalf("%s: row %d, head %d, column %d is %g, want %g ± %g", name, row, g, d, got, want, tol)
				}
			}
		}
	}
}

// A row's bits do not depend on how many rows come with it, nor on how far the
// pages reach.
func TestAttendLongContext(t *testing.T) {
	n := 20000
	if testing.Short() {
		n = 2000
	}
	next := func(r *rand.Rand) float32 { return float32(r.NormFloat64()) }
	r := rand.New(rand.NewPCG(13, 14))
	const dim, group = 8, 2
	ctx := newContext(r, n, dim, true, next)
	const rows = 40 // more than a block
	a := attention(r, ctx, group, dim, n-rows, rows, 0, true, next)
	a.Lo[3], a.Hi[3] = 500, 500 // sees nothing
	a.Lo[4], a.Hi[4] = 700, 701 // one key, far from the others
	for _, s := range every() {
		clear(a.Y)
		a.Y[3*a.YStride] = 1
		buf := s.Attend(a, nil)
		if a.Y[3*a.YStride] != 0 {
			t.Errorf("%s: a row that sees nothing is %g", s.Name, a.Y[3*a.YStride])
		}
		for row := range rows {
			one := *a
			one.Lo, one.Hi, one.Q, one.Y = a.Lo[row:row+1], a.Hi[row:row+1], a.Q[row*a.QStride:], make([]float32, a.YStride)
			buf = s.Attend(&one, buf)
			for i := range group * dim {
				if !same(one.Y[i], a.Y[row*a.YStride+i]) {
					t.Fatalf("%s: row %d: result %d is %g alone, %g among others", s.Name, row, i, one.Y[i], a.Y[row*a.YStride+i])
				}
			}
		}
	}
}

func TestPagePutGet(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	for _, half := range []bool{false, true} {
		for _, dim := range []int{2, 6, 64} {
			page := nanPage(dim, half)
			var k, v [PageLen][]float32
			for _, slot := range r.Perm(PageLen) {
				k[slot], v[slot] = make([]float32, dim), make([]float32, dim)
				for d := range dim {
					k[slot][d], v[slot][d] = float32(r.NormFloat64()), float32(r.NormFloat64())
				}
				page.Put(slot, k[slot], v[slot])
			}
			gk, gv := make([]float32, dim), make([]float32, dim)
			for slot := range PageLen {
				page.Get(slot, gk, gv)
				for d := range dim {
					if gk[d] != rounded(k[slot][d], half) || gv[d] != rounded(v[slot][d], half) {
						t.Fatalf("half=%v, dim %d, slot %d, column %d: got %g and %g, put %g and %g", half, dim, slot, d, gk[d], gv[d], k[slot][d], v[slot][d])
					}
				}
			}
		}
	}
	// The layout that other programs may read.
	p := Page{Half: make([]uint16, PageSize(4))}
	p.Put(5, []float32{1, 2, 3, 4}, []float32{5, 6, 7, 8})
	for _, c := range []struct {
		at   int
		want float32
	}{
		{0*2*PageLen + 10, 1}, {0*2*PageLen + 11, 2}, {1*2*PageLen + 10, 3}, {1*2*PageLen + 11, 4},
		{4*PageLen + 20, 5}, {4*PageLen + 23, 8},
	} {
		if got := float.FromBF16(p.Half[c.at]); got != c.want {
			t.Errorf("element %d is %g, want %g", c.at, got, c.want)
		}
	}
}

// 129·131 − 130·130 is −1: the least sum that bfloat16 operands can have, on both
// sides of the least normal number.
func TestLeastScores(t *testing.T) {
	for _, s := range every() {
		for sum := -145; sum <= -115; sum++ {
			for _, e := range []int{-100, -63, -20} {
				scaled := func(m float64, e int) float32 { return float32(math.Ldexp(m, e)) }
				page := Page{Half: make([]uint16, PageSize(2))}
				for p := range PageLen {
					page.Put(p, []float32{scaled(-130, sum-e), scaled(131, sum-e)}, []float32{0, 0})
				}
				const n = 8
				q, y := make([]float32, 2*n), make([]float32, n*PageLen)
				for i := range n {
					q[2*i], q[2*i+1] = scaled(130, e), scaled(129, e)
				}
				s.Scores(y, PageLen, q, page, Span{0, PageLen}, 1)
				// The first product alone may underflow.
				first := float32(math.Ldexp(129*131, sum))
				want := float.RoundBF16(float32(math.Ldexp(-130*130, sum) + float64(first)))
				for i, v := range y {
					if !same(v, want) {
						t.Fatalf("%s: 2^%d, query times 2^%d: score %d is %g, want %g", s.Name, sum, e, i, v, want)
					}
				}
			}
		}
	}
}

// A subnormal query or key counts for what it is, however large the other.
func TestSubnormalScores(t *testing.T) {
	for _, s := range every() {
		for _, c := range []struct{ q, k float32 }{{0x1p-130, 0x1p100}, {0x1p100, 0x1p-130}, {0x1.8p-127, 0x1p127}, {0x1p-133, 1}} {
			for column := range 2 {
				page := Page{Half: make([]uint16, PageSize(2))}
				key := make([]float32, 2)
				key[column] = c.k
				for p := range PageLen {
					page.Put(p, key, key)
				}
				q, y := make([]float32, 16), make([]float32, 8*PageLen)
				for i := range 8 {
					q[2*i+column] = c.q
				}
				s.Scores(y, PageLen, q, page, Span{0, PageLen}, 1)
				for i, v := range y {
					if v != c.q*c.k {
						t.Fatalf("%s: %g times %g, column %d: score %d is %g", s.Name, c.q, c.k, column, i, v)
					}
				}
			}
		}
	}
}

// What does not fit must stop before anything is read or written.
func TestPagesThatDoNotFit(t *testing.T) {
	whole := Span{0, PageLen}
	for _, s := range every() {
		for _, c := range []struct {
			name   string
			page   Page
			at     Span
			dst, w int
		}{
			{"no page", Page{}, whole, PageLen, PageLen},
			{"odd width", Page{Half: make([]uint16, 2*PageLen*3)}, whole, PageLen, PageLen},
			{"part of a page", Page{Full: make([]float32, PageSize(4)-1)}, whole, PageLen, PageLen},
			{"both", Page{Half: make([]uint16, PageSize(4)), Full: make([]float32, PageSize(4))}, whole, PageLen, PageLen},
			{"slots beyond", Page{Half: make([]uint16, PageSize(4))}, Span{0, PageLen + 1}, 2 * PageLen, 2 * PageLen},
			{"slots before", Page{Half: make([]uint16, PageSize(4))}, Span{-1, 3}, PageLen, PageLen},
			{"short scores", Page{Half: make([]uint16, PageSize(4))}, whole, PageLen - 1, PageLen - 1},
		} {
			v := make([]float32, 4)
			for name, call := range map[string]func(){
				"Scores":    func() { s.Scores(make([]float32, c.dst), PageLen, v, c.page, c.at, 1) },
				"AddValues": func() { s.AddValues(v, make([]float32, c.w), PageLen, c.page, c.at) },
			} {
				func() {
					defer func() {
						if recover() == nil {
							t.Errorf("%s: %s: %s did not stop", s.Name, name, c.name)
						}
					}()
					call()
				}()
			}
		}
	}
}

func BenchmarkAttend(b *testing.B) {
	next := func(r *rand.Rand) float32 { return float32(r.NormFloat64()) }
	for _, c := range []attendCase{
		{"decode", 8, 64, 8000, 1, 0},
		{"prefill", 8, 64, 448, 64, 0},
		{"window", 8, 64, 448, 64, 128},
	} {
		for _, half := range []bool{true, false} {
			r := rand.New(rand.NewPCG(17, 18))
			ctx := newContext(r, c.first+c.rows, c.dim, half, next)
			a := attention(r, ctx, c.group, c.dim, c.first, c.rows, c.window, half, next)
			seen := 0
			for t := range a.Lo {
				seen += a.Hi[t] - a.Lo[t]
			}
			for _, s := range every() {
				b.Run(fmt.Sprintf("%s/half=%v/%s", c.name, half, s.Name), func(b *testing.B) {
					var buf []float32
					for b.Loop() {
						buf = s.Attend(a, buf)
					}
					b.ReportMetric(float64(seen*c.group)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mscores/s")
				})
			}
		}
	}
}
