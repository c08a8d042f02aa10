package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"ossify/float"
)

// draws are the values that vector kernels are tried with.
var draws = []struct {
	name string
	next func(r *rand.Rand) float32
}{
	{"normal", func(r *rand.Rand) float32 { return float32(r.NormFloat64()) }},
	{"scores", func(r *rand.Rand) float32 { return float32(20 * r.NormFloat64()) }},
	{"wide", func(r *rand.Rand) float32 { return float32(r.NormFloat64() * math.Exp2(float64(r.IntN(60)-30))) }},
	{"zeros", func(r *rand.Rand) float32 { return float32(math.Copysign(0, float64(r.IntN(2))-0.5)) }},
	{"subnormal", func(r *rand.Rand) float32 { return float32(r.NormFloat64() * 0x1p-130) }},
	// Products and sums on and about the edge of the subnormal ones.
	{"edge", func(r *rand.Rand) float32 { return float32(r.NormFloat64() * math.Exp2(float64(r.IntN(15)-67))) }},
	{"huge", func(r *rand.Rand) float32 {
		return float32(math.Copysign(math.MaxFloat32, r.Float64()-0.5) * r.Float64())
	}},
	// On and beside the middle of two bfloat16 values, or of two float32 ones
	// after a product.
	{"ties", func(r *rand.Rand) float32 {
		u := r.Uint32()&0x7fff0000 | 0x8000 + uint32(r.IntN(3)) - 1
		return math.Float32frombits(u&0x3fffffff | u<<1&0x80000000)
	}},
	{"bits", func(r *rand.Rand) float32 { return math.Float32frombits(r.Uint32()) }},
	{"special", func(r *rand.Rand) float32 {
		if r.IntN(8) > 0 {
			return float32(r.NormFloat64())
		}
		s := []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, math.MaxFloat32, -math.MaxFloat32, 0x1p-149, 0x1p-126}
		return float32(s[r.IntN(len(s))])
	}},
}

// vectorLengths lie on and beside every vector width, and are gpt-oss's own.
func vectorLengths() []int {
	n := []int{0, 1, 2, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 128, 129, 1000}
	if !testing.Short() {
		n = append(n, 2880, 2881, 4097)
	}
	return n
}

// A vectorCase is an entry of a set with the inputs it is proved and timed
// with.
type vectorCase struct {
	name    string
	sizes   []int
	typical int // size for the benchmark
	args    func(n int, next func() float32) *vectorArgs
	call    func(s *Set, a *vectorArgs)
	want    func(a *vectorArgs) []interval
}

// An interval is where a result must lie: at ± tol, unless a step on the way,
// of at most the given size, may overflow.
type interval struct{ at, tol, size float64 }

// vectorArgs are operands; y is both what a call changes and its result.
type vectorArgs struct {
	y       []float32
	x, b, c []float32
	n       int
	f       float32
	page    Page
	at      Span
}

// The largest relative error of one rounding to bfloat16, and to float32.
const (
	roundBF16 = 0x1p-8
	roundF32  = 0x1p-24
	// below the normal range the largest error of a rounding is this; for
	// float32 it is less
	tiny = 0x1p-134
)

// unit is the relative error of one rounding to float32 and then r.
func unit(half bool) float64 {
	if half {
		return roundBF16 + 2*roundF32
	}
	return roundF32
}

func vectorCases() []vectorCase {
	lengths := vectorLengths()
	draw := func(n int, next func() float32) []float32 {
		v := make([]float32, n+1)[1:] // aligned to 4 bytes only
		for i := range v {
			v[i] = next()
		}
		return v
	}
	even := []int{2, 4, 6, 8, 14, 16, 18, 30, 32, 34, 48, 62, 64, 66, 80, 96, 128}
	page := func(dim int, half bool, next func() float32) Page {
		if half {
			p := Page{Half: make([]uint16, PageSize(dim)+1)[1:]}
			for i := range p.Half {
				p.Half[i] = float.ToBF16(next())
			}
			return p
		}
		return Page{Full: draw(PageSize(dim), next)}
	}
	both := []bool{false, true}
	var cases []vectorCase
	for _, half := range both {
		form := map[bool]string{false: "f32", true: "bf16"}[half]
		u := unit(half)
		cases = append(cases, []vectorCase{
			{
				name: "Add/" + form, sizes: lengths, typical: 2880,
				args: func(n int, next func() float32) *vectorArgs {
					return &vectorArgs{y: make([]float32, n), x: draw(n, next), b: draw(n, next)}
				},
				call: func(s *Set, a *vectorArgs) { s.Add(a.y, a.x, a.b, half) },
				want: func(a *vectorArgs) (w []interval) {
					for i, v := range a.x {
						sum := float64(v) + float64(a.b[i])
						w = append(w, interval{sum, u*math.Abs(sum) + tiny, 0})
					}
					return w
				},
			}, {
				name: "Norm/" + form, sizes: lengths, typical: 2880,
				args: func(n int, next func() float32) *vectorArgs {
					return &vectorArgs{y: make([]float32, n), x: draw(n, next), b: draw(n, next)}
				},
				call: func(s *Set, a *vectorArgs) { s.Norm(a.y, a.x, a.b, 1e-5, half) },
				want: func(a *vectorArgs) (w []interval) {
					var sum float64
					for _, v := range a.x {
						sum += float64(v) * float64(v)
					}
					inv := 1 / math.Sqrt(sum/float64(len(a.x))+1e-5)
					for i, v := range a.x {
						s := float64(a.b[i])
						y := float64(v) * inv * s
						// The factor and the first product are rounded to float32.
						w = append(w, interval{y, (u+3*roundF32)*math.Abs(y) + tiny*(1+math.Abs(s)), 0})
					}
					return w
				},
			}, {
				name: "Softmax/" + form, sizes: lengths, typical: 1000,
				args: func(n int, next func() float32) *vectorArgs {
					return &vectorArgs{y: make([]float32, n), x: draw(n, next), f: next()}
				},
				call: func(s *Set, a *vectorArgs) { s.Softmax(a.y, a.x, a.f, half) },
				want: func(a *vectorArgs) []interval {
					return wantSoftmax(a.x, a.f, u)
				},
			}, {
				name: "Softmax/in place, no sink/" + form, sizes: lengths, typical: 4,
				args: func(n int, next func() float32) *vectorArgs {
					x := draw(n, next)
					return &vectorArgs{y: slices.Clone(x), x: x}
				},
				call: func(s *Set, a *vectorArgs) { s.Softmax(a.y, a.y, float32(math.Inf(-1)), half) },
				want: func(a *vectorArgs) []interval {
					return wantSoftmax(a.x, float32(math.Inf(-1)), u)
				},
			}, {
				name: "Rotate/" + form, sizes: even, typical: 64, // three heads
				args: func(n int, next func() float32) *vectorArgs {
					return &vectorArgs{y: make([]float32, 3*n), x: draw(3*n, next), b: draw(n/2, next), c: draw(n/2, next)}
				},
				call: func(s *Set, a *vectorArgs) { s.Rotate(a.y, a.x, a.b, a.c, half) },
				want: func(a *vectorArgs) []interval {
					w := make([]interval, len(a.x))
					n := len(a.b)
					for h := 0; h < len(a.x); h += 2 * n {
						for i := range n {
							x, y, c, s := float64(a.x[h+i]), float64(a.x[h+n+i]), float64(a.b[i]), float64(a.c[i])
							// Each product is rounded, then their sum.
							size := math.Abs(x*c) + math.Abs(y*s)
							w[h+i] = interval{x*c - y*s, 2*u*size + 4*tiny, size}
							size = math.Abs(y*c) + math.Abs(x*s)
							w[h+n+i] = interval{y*c + x*s, 2*u*size + 4*tiny, size}
						}
					}
					return w
				},
			}, {
				name: "SwiGLU/" + form, sizes: lengths, typical: 2880,
				args: func(n int, next func() float32) *vectorArgs {
					return &vectorArgs{y: make([]float32, n), x: draw(2*n, next)}
				},
				call: func(s *Set, a *vectorArgs) { s.SwiGLU(a.y, a.x, 1.702, 7, half) },
				want: func(a *vectorArgs) []interval {
					w := make([]interval, len(a.y))
					for j := range w {
						g, l := min(float64(a.x[2*j]), 7), min(max(float64(a.x[2*j+1]), -7), 7)
						z := float64(float32(1.702)) * g
						s := 1 / (1 + math.Exp(-z))
						y := g * s * (l + 1)
						// σ's relative error is that of z times |z|·(1−σ); z, σ, the product, l+1 and
						// the result are rounded.
						rel := u * (math.Abs(z)*(1-s)*1.1 + 4.1)
						// A subnormal σ is multiplied with |g| below 64: for |z| above 104 it is 0.
						w[j] = interval{y, rel*math.Abs(y) + tiny*(64*8+8+1), math.Abs(z)}
						if z < -104 && y == y {
							w[j] = interval{0, 0x1p-120, math.Abs(z)}
						}
					}
					return w
				},
			}, {
				name: "Mix/" + form, sizes: lengths, typical: 2880, // four rows
				args: func(n int, next func() float32) *vectorArgs {
					return &vectorArgs{y: make([]float32, n), x: draw(4*(n+3), next), b: draw(4, next), n: n + 3}
				},
				call: func(s *Set, a *vectorArgs) { s.Mix(a.y, a.x, a.n, a.b, half) },
				want: func(a *vectorArgs) []interval {
					w := make([]interval, len(a.y))
					for i := range w {
						var sum, size float64
						for k, v := range a.b {
							p := float64(v) * float64(a.x[k*a.n+i])
							sum, size = sum+p, size+math.Abs(p)
						}
						w[i] = interval{sum, (4*roundF32+u)*size + 5*tiny, size}
					}
					return w
				},
			},
		}...)
		for _, n := range []int{1, 3, 8, 11, 18} {
			cases = append(cases, vectorCase{
				name: fmt.Sprintf("Scores/%s/queries=%d", form, n), sizes: even, typical: 64,
				args: func(dim int, next func() float32) *vectorArgs {
					p, at := page(dim, half, next), someSpan(next)
					q := draw(n*dim, next)
					if n != 11 { // as the engine has them; else with bits that bfloat16 has not
						for i, v := range q {
							q[i] = rounded(v, half)
						}
					}
					return &vectorArgs{y: make([]float32, n*PageLen), x: q, page: p, at: at, f: 0.125}
				},
				call: func(s *Set, a *vectorArgs) {
					s.Scores(a.y, PageLen, a.x, a.page, a.at, a.f)
					for i := range a.y { // the rest of the page is nobody's
						if p := i % PageLen; p < a.at.Lo || p >= a.at.Hi {
							a.y[i] = 0
						}
					}
				},
				want: func(a *vectorArgs) []interval {
					w, dim := make([]interval, len(a.y)), a.page.dim()
					for i := range w {
						p := i % PageLen
						if p < a.at.Lo || p >= a.at.Hi {
							continue
						}
						var sum, size float64
						for d, v := range a.x[i/PageLen*dim:][:dim] {
							t := float64(v) * float64(a.page.key(d, p))
							sum, size = sum+t, size+math.Abs(t)
						}
						w[i] = interval{sum * 0.125, 0.125*size*float64(dim)*roundF32 + 2.1*u*math.Abs(sum)*0.125 + (float64(dim)+3)*tiny, size}
					}
					return w
				},
			}, vectorCase{
				name: fmt.Sprintf("AddValues/%s/queries=%d", form, n), sizes: even, typical: 64,
				args: func(dim int, next func() float32) *vectorArgs {
					p, at := page(dim, half, next), someSpan(next)
					y := draw(n*dim, next)
					return &vectorArgs{y: y, b: slices.Clone(y), x: draw((n-1)*(PageLen+5)+PageLen, next), n: PageLen + 5, page: p, at: at}
				},
				call: func(s *Set, a *vectorArgs) { s.AddValues(a.y, a.x, a.n, a.page, a.at) },
				want: func(a *vectorArgs) []interval {
					w, dim := make([]interval, len(a.y)), a.page.dim()
					for i := range w {
						sum := float64(a.b[i])
						size := math.Abs(sum)
						for p := a.at.Lo; p < a.at.Hi; p++ {
							t := float64(a.x[i/dim*a.n+p]) * float64(a.page.value(p, i%dim))
							sum, size = sum+t, size+math.Abs(t)
						}
						w[i] = interval{sum, size*float64(a.at.Hi-a.at.Lo+2)*roundF32 + (PageLen+2)*tiny, size}
					}
					return w
				},
			})
		}
	}
	return append(cases, vectorCase{
		name: "Round", sizes: lengths, typical: 2880,
		args: func(n int, next func() float32) *vectorArgs {
			return &vectorArgs{y: make([]float32, n), x: draw(n, next)}
		},
		call: func(s *Set, a *vectorArgs) { s.Round(a.y, a.x) },
		want: func(a *vectorArgs) (w []interval) {
			for _, v := range a.x {
				w = append(w, interval{float64(v), roundBF16*math.Abs(float64(v)) + tiny, 0})
			}
			return w
		},
	}, vectorCase{
		name: "RoundAdd/in place", sizes: lengths, typical: 2880,
		args: func(n int, next func() float32) *vectorArgs {
			x := draw(n, next)
			return &vectorArgs{y: slices.Clone(x), x: x, b: draw(n, next)}
		},
		call: func(s *Set, a *vectorArgs) { s.RoundAdd(a.y, a.y, a.b) },
		want: func(a *vectorArgs) (w []interval) {
			for i, v := range a.x {
				sum := float64(v) + float64(a.b[i])
				w = append(w, interval{sum, 1.1*roundBF16*math.Abs(float64(v)) + 1.1*roundBF16*math.Abs(sum) + 2*tiny, math.Abs(float64(v))})
			}
			return w
		},
	})
}

// someSpan draws a range of slots, the whole page in half of the cases. It
// takes next's bits, so that a case needs no other source.
func someSpan(next func() float32) Span {
	u := math.Float32bits(next())
	if u&1 == 0 {
		return Span{0, PageLen}
	}
	lo := int(u >> 3 % PageLen)
	return Span{lo, lo + 1 + int(u>>9)%(PageLen-lo)}
}

func wantSoftmax(x []float32, sink float32, u float64) []interval {
	top := float64(sink)
	for _, v := range x {
		top = max(top, float64(v))
	}
	w := make([]interval, len(x))
	if math.IsInf(top, -1) {
		return w
	}
	// v − top is rounded, which moves exp by as much; then exp is, and twice the
	// result.
	e := func(v float32) (float64, float64) {
		d := float64(v) - top
		if math.IsInf(d, -1) {
			return 0, 0
		}
		return math.Exp(d), roundF32 * (math.Abs(d) + 1.1)
	}
	sum, moved := e(sink)
	moved *= sum
	for _, v := range x {
		y, rel := e(v)
		sum, moved = sum+y, moved+y*rel
	}
	for i, v := range x {
		y, rel := e(v)
		w[i] = interval{y / sum, (rel+moved/sum+1.01*u)*y/sum + 2*tiny, 0}
	}
	return w
}

// fence puts canaries around v: a kernel must write nothing else.
func fence(v []float32) (inside []float32, intact func() bool) {
	const n = 32
	all := make([]float32, len(v)+2*n+1)[1:]
	for i := range all {
		all[i] = canary
	}
	inside = all[n : n+len(v) : n+len(v)]
	copy(inside, v)
	return inside, func() bool {
		for i, c := range all {
			if (i < n || i >= n+len(v)) && c != canary {
				return false
			}
		}
		return true
	}
}

// Each set has the bits of the portable one, which is near the exact result.
func TestVectors(t *testing.T) {
	sets := every()
	for _, c := range vectorCases() {
		for _, d := range draws {
			for _, n := range c.sizes {
				seed := uint64(n)
				var want []float32
				for _, s := range sets {
					r := rand.New(rand.NewPCG(1, seed))
					a := c.args(n, func() float32 { return d.next(r) })
					y, intact := fence(a.y)
					a.y = y
					c.call(&s, a)
					at := fmt.Sprintf("%s %s, %s, n=%d, slots %v", s.Name, c.name, d.name, n, a.at)
					if !intact() {
						t.Errorf("%s: wrote outside its result", at)
					}
					if want == nil {
						want = y
						checkInterval(t, at, y, c.want(a))
						continue
					}
					for i := range y {
						if !same(y[i], want[i]) {
							t.Errorf("%s: result %d is %g (%08x), portable has %g (%08x)", at, i, y[i], math.Float32bits(y[i]), want[i], math.Float32bits(want[i]))
							break
						}
					}
				}
			}
		}
	}
}

func checkInterval(t *testing.T, at string, y []float32, want []interval) {
	t.Helper()
	if len(y) != len(want) {
		t.Fatalf("%s: %d results, %d wanted", at, len(y), len(want))
	}
	for i, w := range want {
		got := float64(y[i])
		// What has no exact value, or none on its way, is left to the comparison of
		// sets.
		if !(max(w.size, math.Abs(w.at)+w.tol) < math.MaxFloat32*(1-0x1p-8)) {
			continue
		}
		if !(math.Abs(got-w.at) <= w.tol) {
			t.Errorf("%s: result %d is %g, want %g ± %g", at, i, got, w.at, w.tol)
			return
		}
	}
}

func TestExpIsRoundedOnce(t *testing.T) {
	step := uint32(9973)
	if testing.Short() {
		step *= 10
	}
	wrong, n := 0, 0
	for u := uint32(0); u < math.MaxUint32-step; u += step {
		x := math.Float32frombits(u)
		want := math.Exp(float64(x))
		got := Exp(x)
		if x != x {
			if got == got {
				t.Fatalf("exp(NaN) is %g", got)
			}
			continue
		}
		n++
		if got != float32(want) {
			wrong++
			// The neighbour, and only where the exact value is next to the middle.
			lo, hi := float64(min(got, float32(want))), float64(max(got, float32(want)))
			if !(math.Abs((lo+hi)/2-want) <= 0x1p-44*want) {
				t.Fatalf("exp(%g) is %g, want %g", x, got, want)
			}
		}
	}
	if wrong*100000 > n {
		t.Errorf("%d of %d are not correctly rounded", wrong, n)
	}
}

func TestExpAtItsEnds(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, c := range []struct{ x, want float32 }{
		{0, 1}, {float32(math.Copysign(0, -1)), 1}, {inf, inf}, {-inf, 0},
		{88.72283, float32(math.Exp(float64(float32(88.72283))))}, {88.72284, inf}, {1e30, inf},
		{-103.97207, 0x1p-149}, {-103.97209, 0}, {-1e30, 0}, {-87.4, float32(math.Exp(float64(float32(-87.4))))},
	} {
		if got := Exp(c.x); got != c.want {
			t.Errorf("exp(%g) is %g, want %g", c.x, got, c.want)
		}
	}
	for _, c := range []struct{ x, want float32 }{
		{0, 0.5}, {inf, 1}, {-inf, 0}, {-104, 0}, {-100, float32(1 / (1 + math.Exp(100)))}, {20, 1}, {-90, float32(1 / (1 + math.Exp(90)))},
	} {
		if got := Sigmoid(c.x); got != c.want {
			t.Errorf("σ(%g) is %g, want %g", c.x, got, c.want)
		}
	}
	if s := Sigmoid(float32(math.NaN())); s == s {
		t.Errorf("σ(NaN) is %g", s)
	}
}

// Softmax's ends, in every set: what has no weight, and what takes all.
func TestSoftmaxAtItsEnds(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, s := range every() {
		for _, c := range []struct {
			name string
			x    []float32
			sink float32
			want []float32
		}{
			{"nothing", nil, -inf, nil},
			{"nothing in view", []float32{-inf, -inf}, -inf, []float32{0, 0}},
			{"only the sink", []float32{-inf, -inf}, 3, []float32{0, 0}},
			{"one", []float32{-7}, -inf, []float32{1}},
			{"one and an equal sink", []float32{-7}, -7, []float32{0.5}},
			{"one of three", []float32{-inf, 2, -inf}, -inf, []float32{0, 1, 0}},
			{"far below", []float32{0, -200}, -inf, []float32{1, 0}},
			{"NaN among them", []float32{1, nan, 2}, 0, []float32{nan, nan, nan}},
			{"NaN alone", []float32{nan, -inf}, -inf, []float32{nan, nan}},
			{"NaN sink", []float32{1, 2}, nan, []float32{nan, nan}},
			{"infinite", []float32{1, inf}, 0, []float32{nan, nan}},
		} {
			y := make([]float32, len(c.x))
			s.Softmax(y, c.x, c.sink, false)
			for i := range y {
				if !same(y[i], c.want[i]) {
					t.Errorf("%s: %s: got %v, want %v", s.Name, c.name, y, c.want)
					break
				}
			}
		}
	}
}

func TestTopK(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	negZero := float32(math.Copysign(0, -1))
	for _, c := range []struct {
		name string
		x    []float32
		want []int32
	}{
		{"none", []float32{1, 2}, []int32{}},
		{"descending", []float32{1, 3, 2}, []int32{1, 2, 0}},
		{"ties by index", []float32{2, 5, 5, 2, 5, 2}, []int32{1, 2, 4, 0}},
		{"zeros are equal", []float32{negZero, 0, negZero}, []int32{0, 1, 2}},
		{"infinities", []float32{-inf, 1, inf, -inf}, []int32{2, 1, 0, 3}},
		{"NaN first", []float32{1, nan, inf, nan}, []int32{1, 3, 2}},
	} {
		got := make([]int32, len(c.want))
		TopK(got, c.x)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
	// Against a stable sort, with many ties.
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		x := make([]float32, 1+r.IntN(130))
		for i := range x {
			x[i] = float32(r.IntN(20))
		}
		order := make([]int32, len(x))
		for i := range order {
			order[i] = int32(i)
		}
		slices.SortStableFunc(order, func(a, b int32) int { return int(x[b] - x[a]) })
		got := make([]int32, r.IntN(len(x)+1))
		TopK(got, x)
		if !slices.Equal(got, order[:len(got)]) {
			t.Fatalf("%v: got %v, want %v", x, got, order[:len(got)])
		}
	}
}

func BenchmarkVectors(b *testing.B) {
	for _, c := range vectorCases() {
		for _, s := range every() {
			b.Run(c.name+"/"+s.Name, func(b *testing.B) {
				r := rand.New(rand.NewPCG(5, 6))
				a := c.args(c.typical, func() float32 { return float32(r.NormFloat64()) })
				if a.at.Hi > 0 {
					a.at = Span{0, PageLen}
				}
				for b.Loop() {
					c.call(&s, a)
				}
			})
		}
	}
}
