package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"ossify/float"
)

// fmaExactly is a·b + c by math/big, rounded once.
func fmaExactly(a, b, c float32) float32 {
	p := float64(a) * float64(b)
	if s := p + float64(c); math.IsNaN(s) || math.IsInf(s, 0) || s == 0 {
		return float32(s) // zero: exact, and the sign is IEEE's
	}
	exact := func(v float64) *big.Float { return new(big.Float).SetPrec(1000).SetFloat64(v) }
	f, _ := new(big.Float).SetPrec(1000).Add(exact(p), exact(float64(c))).Float32()
	return f
}

// every is All, which takes its time to find out which of two sets is the faster.
var every = sync.OnceValue(All)

func same(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

func TestFMA32(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	check := func(kind string, a, b, c float32) {
		t.Helper()
		if got, want := fma32(a, b, c), fmaExactly(a, b, c); !same(got, want) {
			t.Fatalf("%s: fma(%x, %x, %x) = %x, want %x", kind, a, b, c, got, want)
		}
	}
	n := 300_000
	if testing.Short() {
		n = 30_000
	}
	for range n {
		check("bits", math.Float32frombits(r.Uint32()), math.Float32frombits(r.Uint32()), math.Float32frombits(r.Uint32()))

		a, b := float32(r.NormFloat64()), float32(r.NormFloat64())
		check("sum", a, b, float32(math.Ldexp(r.NormFloat64(), r.IntN(60)-30)))

		// A product just beside the middle of two values of c: what float64 rounds
		// to the middle.
		c := math.Float32frombits(r.Uint32()&0x807fffff | uint32(60+r.IntN(130))<<23)
		_, e := math.Frexp(float64(c))
		p := float32(math.Ldexp(1, e-25)) // half a unit in the last place of c
		tiny := 1 + float32(r.IntN(3)-1)*0x1p-23
		sign := float32(1 - 2*r.IntN(2))
		check("midway", sign*p, tiny, c)
		check("midway", sign*p*tiny, tiny, c)

		// The same where results are subnormal.
		a = math.Float32frombits(r.Uint32()&0x80ffffff | uint32(r.IntN(30)+40)<<24)
		b = float32(math.Ldexp(1+float64(r.IntN(1<<12))/(1<<12), -126-int(math.Ilogb(float64(a)))-r.IntN(30)))
		check("subnormal", a, b, math.Float32frombits(r.Uint32()&0x807fffff))
		check("underflow", a, b, 0)
	}
	inf, nan, max := float32(math.Inf(1)), float32(math.NaN()), float32(math.MaxFloat32)
	zero := float32(math.Copysign(0, -1))
	special := []float32{0, zero, 1, -1, inf, -inf, nan, max, -max, math.SmallestNonzeroFloat32, 0x1p-126, 0x1p-149, 1 + 0x1p-23, 0x1p103, 0x1p64}
	for _, a := range special {
		for _, b := range special {
			for _, c := range special {
				check("special", a, b, c)
			}
		}
	}
}

// The next lines say the order of a product in the words of matrix.go, without
// the layouts that the package uses.

// product sums one row of decoded weights with one row of activations.
func product(kind Kind, w, x []float32, fma func(a, b, c float32) float32) float32 {
	at := func(v []float32, c int) float32 {
		if c < len(v) {
			return v[c]
		}
		return 0
	}
	var acc [4][16]float32
	for first := 0; first < len(w); first += 128 {
		for g := range 4 {
			for i := range 16 {
				for _, word := range []int{2*i + 1, 2 * i} {
					c := first + 32*g + word
					if kind == MXFP4 {
						c = first + 4*word + g
					}
					acc[g][i] = fma(at(w, c), at(x, c), acc[g][i])
				}
			}
		}
	}
	var lane [16]float32
	for i := range lane {
		lane[i] = ((acc[0][i] + acc[1][i]) + acc[2][i]) + acc[3][i]
	}
	var l8 [8]float32
	for i := range l8 {
		l8[i] = lane[i] + lane[i+8]
	}
	var l4 [4]float32
	for i := range l4 {
		l4[i] = l8[i] + l8[i+4]
	}
	return (l4[0] + l4[2]) + (l4[1] + l4[3])
}

// canary stands around every result: a product must write nothing else.
const canary = -12345

// A fill makes weights and activations. Weights are values that a matrix of
// the kind can hold.
type filling struct {
	name  string
	x     func(r *rand.Rand) float32
	bf16  func(r *rand.Rand) float32
	scale func(r *rand.Rand) byte
}

func normal(r *rand.Rand) float32 { return float32(r.NormFloat64()) }

func scaled(lo, hi int) func(r *rand.Rand) float32 {
	return func(r *rand.Rand) float32 { return float32(math.Ldexp(r.NormFloat64(), lo+r.IntN(hi-lo+1))) }
}

func scales(lo, hi int) func(r *rand.Rand) byte {
	return func(r *rand.Rand) byte { return byte(lo + r.IntN(hi-lo+1)) }
}

func mostly(f, odd func(r *rand.Rand) byte) func(r *rand.Rand) byte {
	return func(r *rand.Rand) byte {
		if r.IntN(64) == 0 {
			return odd(r)
		}
		return f(r)
	}
}

func oneByte(v ...byte) func(r *rand.Rand) byte {
	return func(r *rand.Rand) byte { return v[r.IntN(len(v))] }
}

func oneOf(v ...float32) func(r *rand.Rand) float32 {
	return func(r *rand.Rand) float32 { return v[r.IntN(len(v))] }
}

// rarely mixes one odd value into about 200.
func rarely(f, odd func(r *rand.Rand) float32) func(r *rand.Rand) float32 {
	return func(r *rand.Rand) float32 {
		if r.IntN(200) == 0 {
			return odd(r)
		}
		return f(r)
	}
}

var fillings = []filling{
	{"usual", normal, scaled(-6, -6), scales(116, 125)},
	{"wide", scaled(-20, 20), scaled(-20, 20), scales(90, 160)},
	{"zeros", oneOf(0, float32(math.Copysign(0, -1)), 1), oneOf(0, float32(math.Copysign(0, -1)), -1), scales(0, 3)},
	{"subnormal weights", normal, rarely(normal, scaled(-134, -126)), scales(0, 5)},
	{"subnormal activations", rarely(normal, scaled(-140, -127)), scaled(-6, -6), scales(100, 140)},
	{"subnormal sums", scaled(-70, -60), scaled(-70, -60), scales(50, 70)},
	{"edge of subnormal sums", scaled(-58, -52), scaled(-58, -52), scales(60, 72)},
	{"nothing but underflow", scaled(-126, -120), scaled(-40, -30), scales(60, 90)},
	{"huge", scaled(100, 126), scaled(-5, 100), scales(240, 254)},
	{"huge weights", scaled(-20, 0), scaled(100, 126), scales(250, 254)},
	{"all scales", scaled(-3, 3), normal, scales(0, 254)},
	{"tiny blocks", normal, normal, mostly(scales(116, 125), oneByte(0, 1))},
	{"infinite activations, tiny blocks", rarely(normal, oneOf(float32(math.Inf(1)))), normal, oneByte(0, 1, 120, 121)},
	{"infinite and NaN", rarely(normal, oneOf(float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()))), rarely(normal, oneOf(float32(math.Inf(1)), float32(math.NaN()))), scales(110, 130)},
	{"infinite weights", normal, rarely(normal, oneOf(float32(math.Inf(1)))), scales(252, 254)},
}

// A problem is a product to be computed, and its operands in float32.
type problem struct {
	w    Matrix
	half bool
	vals []float32 // [Rows, Cols]
	x    []float32 // [n, stride]
	n    int
	xs   int // stride of x
}

// newProblem fills a problem; its weights are not aligned.
func newProblem(r *rand.Rand, kind Kind, half bool, rows, cols, n int, f filling) *problem {
	p := &problem{w: Matrix{Kind: kind, Rows: rows, Cols: cols}, half: half, n: n, xs: cols + 3}
	p.vals = make([]float32, rows*cols)
	shift := 1 + r.IntN(63)
	if kind != MXFP4 {
		p.w.Kind = BF16
		p.w.Data = make([]byte, shift+2*rows*cols)[shift:]
		for i := range p.vals {
			b := float.ToBF16(f.bf16(r))
			p.vals[i] = float.FromBF16(b)
			binary.LittleEndian.PutUint16(p.w.Data[2*i:], b)
		}
		if kind == Packed {
			p.w = packed(p.w, shift)
		}
	} else {
		p.w.Data = make([]byte, shift+rows*cols/2)[shift:]
		p.w.Scales = make([]byte, shift+rows*cols/32)[shift:]
		for i := range p.w.Data {
			p.w.Data[i] = byte(r.Uint32())
		}
		for i := range p.w.Scales {
			p.w.Scales[i] = f.scale(r)
		}
		float.DecodeMXFP4(p.vals, p.w.Data, p.w.Scales)
		for i, v := range p.vals {
			p.vals[i] = v + 0 // -0 is +0
		}
	}
	p.x = make([]float32, n*p.xs)
	for i := range p.x {
		p.x[i] = f.x(r)
	}
	return p
}

// packed packs w, whatever it holds; shift says how Data lies in memory.
func packed(w Matrix, shift int) Matrix {
	p, ok := packMatrix(w, func(n int) []byte { return make([]byte, shift+n)[shift:] }, thirds, 1)
	if !ok {
		panic("not packed")
	}
	return p
}

// thirds splits in two uneven ranges, the later first.
func thirds(n int, f func(lo, hi int)) { f(n/3, n); f(0, n/3) }

// want returns the product of a row of x and a row of weights.
func (p *problem) want(t, row int, fma func(a, b, c float32) float32) float32 {
	x := p.x[t*p.xs:][:p.w.Cols]
	if p.half {
		x = append([]float32(nil), x...)
		for i, v := range x {
			x[i] = float.RoundBF16(v)
		}
	}
	return product(p.w.Kind, p.vals[row*p.w.Cols:][:p.w.Cols], x, fma)
}

// wants returns the products of all rows, [n, Rows].
func (p *problem) wants(fma func(a, b, c float32) float32) []float32 {
	all := make([]float32, p.n*p.w.Rows)
	for i := range all {
		all[i] = p.want(i/p.w.Rows, i%p.w.Rows, fma)
	}
	return all
}

// checkSets runs all of a problem by every set: see [checkJob].
func checkSets(t *testing.T, p *problem, s *Scratch, want []float32) {
	t.Helper()
	for _, set := range every() {
		checkJob(t, set, p, s, 0, p.w.Rows, nil, nil, want)
	}
}

// checkJob runs a part of a problem and compares each result with want, which
// is [n, Rows]. Nothing else may be written.
func checkJob(t *testing.T, set Set, p *problem, s *Scratch, lo, hi int, xrows, yrows []int32, want []float32) {
	t.Helper()
	checkPacked(t, set, p, p.pack(set), s, lo, hi, xrows, yrows, want)
}

// pack packs all rows of x.
func (p *problem) pack(set Set) *Activations {
	var x Activations
	set.Pack(&x, p.w.Kind, p.half, p.x, p.n, p.w.Cols, p.xs)
	return &x
}

// checkPacked is checkJob with rows of x that are packed.
func checkPacked(t *testing.T, set Set, p *problem, x *Activations, s *Scratch, lo, hi int, xrows, yrows []int32, want []float32) {
	t.Helper()
	rows := p.n
	for _, y := range yrows {
		rows = max(rows, int(y)+1)
	}
	stride := p.w.Rows + 5
	backing := make([]float32, rows*stride+32)
	for i := range backing {
		backing[i] = canary
	}
	j := &Job{W: p.w, Lo: lo, Hi: hi, X: x, XRows: xrows, Y: backing[16 : 16+rows*stride], YRows: yrows, Stride: stride}
	set.Multiply(j, s)
	for i := range j.n() {
		for r := lo; r < hi; r++ {
			got := &j.Y[j.y(i)+r]
			if w := want[j.x(i)*p.w.Rows+r]; !same(*got, w) {
				t.Fatalf("%s: row %d of x, row %d of w: got %x, want %x", set.Name, j.x(i), r, *got, w)
			}
			*got = canary
		}
	}
	for i, v := range backing {
		if v != canary {
			t.Fatalf("%s: wrote %g at %d, outside of its results", set.Name, v, i-16)
		}
	}
}

// entries are all of matrixSet.
var entries = []struct {
	kind Kind
	half bool
}{{BF16, true}, {BF16, false}, {MXFP4, true}, {MXFP4, false}, {Packed, true}, {Packed, false}}

func entryName(kind Kind, half bool) string {
	if half {
		return kind.String() + "×BF16"
	}
	return kind.String() + "×F32"
}

// Every set gives the bits of the stated order: for odd and true shapes, rows
// alone and among others, in lists, in parts, and for whatever values.
func TestProducts(t *testing.T) {
	sets := every()
	for _, e := range entries {
		cols := []int{32, 64, 96, 128, 160, 2880, 4096, 5760}
		if e.kind != MXFP4 {
			cols = append(cols, 1, 2, 31, 33, 63, 65, 90, 100)
		}
		if e.kind == Packed { // as BF16 once unpacked: see TestPackedBytes
			cols = []int{1, 63, 64, 65, 128, 160, 2880}
		}
		for _, c := range cols {
			if testing.Short() && !slices.Contains([]int{1, 31, 63, 65, 160, 2880}, c) {
				continue
			}
			t.Run(fmt.Sprintf("%s/cols=%d", entryName(e.kind, e.half), c), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(c), uint64(e.kind)))
				var s Scratch
				for _, f := range fillings {
					if testing.Short() && c > 200 && f.name != "usual" {
						continue
					}
					shapes := [][2]int{{9, 130}, {64, 17}} // rows, rows of x
					if c > 200 {
						shapes = [][2]int{{9, 17}}
						if f.name == "usual" {
							shapes = [][2]int{{9, 64}, {64, 9}}
						}
					}
					for _, shape := range shapes {
						p := newProblem(r, e.kind, e.half, shape[0], c, shape[1], f)
						want := p.wants(fma32)
						for _, set := range sets {
							t.Run(f.name+"/"+set.Name, func(t *testing.T) {
								checkJob(t, set, p, &s, 0, p.w.Rows, nil, nil, want)
								checkParts(t, set, r, p, &s, want)
							})
						}
					}
				}
			})
		}
	}
}

// checkParts takes rows of weights and of x in all small numbers, listed out of
// order and twice.
func checkParts(t *testing.T, set Set, r *rand.Rand, p *problem, s *Scratch, want []float32) {
	t.Helper()
	x := p.pack(set)
	for rows := range 10 {
		n := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 16}[rows]
		if n > p.n || rows > p.w.Rows {
			continue
		}
		if set.Name == "portable" && p.w.Cols > 200 {
			n, rows = min(n, 2), min(rows, 3)
		}
		lo := r.IntN(p.w.Rows - rows + 1)
		xrows, yrows := make([]int32, n), make([]int32, n)
		for i, y := range r.Perm(n + 2)[:n] {
			xrows[i], yrows[i] = int32(r.IntN(p.n)), int32(y)
		}
		checkPacked(t, set, p, x, s, lo, lo+rows, xrows, yrows, want)
	}
	// Few rows of x, which sets have loops of their own for.
	for n := 1; n <= min(11, p.n); n++ {
		for _, rows := range []int{1, 2, 3, 5, p.w.Rows} {
			if n > 3 && rows < 5 {
				continue
			}
			if set.Name == "portable" && p.w.Cols > 200 {
				if n > 1 {
					continue
				}
				rows = min(rows, 2)
			}
			lo := r.IntN(p.w.Rows - rows + 1)
			xrows, yrows := make([]int32, n), make([]int32, n)
			for i, y := range r.Perm(n + 2)[:n] {
				xrows[i], yrows[i] = int32(r.IntN(p.n)), int32(y)
			}
			checkPacked(t, set, p, x, s, lo, lo+rows, xrows, yrows, want)
		}
	}
	checkPacked(t, set, p, x, s, 0, p.w.Rows, []int32{}, []int32{}, want)
}

// The order is that of exact multiply-adds, each rounded once.
func TestProductsExactly(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	var s Scratch
	for _, e := range entries {
		for _, f := range fillings {
			for _, c := range []int{32, 96, 160} {
				p := newProblem(r, e.kind, e.half, 3, c, 3, f)
				want := p.wants(fmaExactly)
				for _, set := range every() {
					t.Run(fmt.Sprintf("%s/%s/cols=%d/%s", entryName(e.kind, e.half), f.name, c, set.Name), func(t *testing.T) {
						checkJob(t, set, p, &s, 0, p.w.Rows, nil, nil, want)
					})
				}
			}
		}
	}
}

// All codes with all scales, alone: exact, for a product has no sum.
func TestEveryCodeAndScale(t *testing.T) {
	var s Scratch
	for _, set := range every() {
		for _, half := range []bool{true, false} {
			for scale := range 255 {
				w := Matrix{Kind: MXFP4, Rows: 16, Cols: 64, Data: make([]byte, 16*32), Scales: make([]byte, 32)}
				for code := range 16 {
					at := (code*5 + scale) % 32
					w.Data[32*code+at/2] = byte(code << (4 * (at % 2)))
					w.Scales[2*code], w.Scales[2*code+1] = byte(scale), 127
				}
				one := make([]float32, 64)
				for i := range one {
					one[i] = 1
				}
				var x Activations
				set.Pack(&x, MXFP4, half, one, 1, 64, 64)
				y := make([]float32, 16)
				set.Multiply(&Job{W: w, Hi: 16, X: &x, Y: y, Stride: 16}, &s)
				for code, got := range y {
					if want := float.E2M1(byte(code))*float.E8M0(byte(scale)) + 0; !same(got, want) {
						t.Fatalf("%s, half %v: code %d, scale %d: got %g, want %g", set.Name, half, code, scale, got, want)
					}
				}
			}
		}
	}
}

// Against float64: the error is that of float32 sums of a few hundred terms.
func TestProductsAgainstFloat64(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	var s Scratch
	for _, e := range entries {
		for _, c := range []int{2880, 4096} {
			p := newProblem(r, e.kind, e.half, 40, c, 4, fillings[0])
			var x Activations
			set := Best()
			set.Pack(&x, e.kind, e.half, p.x, p.n, c, p.xs)
			y := make([]float32, p.n*p.w.Rows)
			set.Multiply(&Job{W: p.w, Hi: p.w.Rows, X: &x, Y: y, Stride: p.w.Rows}, &s)
			var errs, sums float64
			for i, got := range y {
				sum := 0.0
				for k, w := range p.vals[i%p.w.Rows*c:][:c] {
					v := p.x[i/p.w.Rows*p.xs+k]
					if e.half {
						v = float.RoundBF16(v)
					}
					sum += float64(w) * float64(v)
				}
				errs += (float64(got) - sum) * (float64(got) - sum)
				sums += sum * sum
			}
			if rel := math.Sqrt(errs / sums); !(rel <= 2e-7) {
				t.Errorf("%s, %d columns: rms error %.2g of rms, want at most 2e-7", entryName(e.kind, e.half), c, rel)
			} else {
				t.Logf("%s, %d columns: rms error %.2g of rms", entryName(e.kind, e.half), c, rel)
			}
		}
	}
}

// A job that does not fit must stop before anything is read or written.
func TestJobsThatDoNotFit(t *testing.T) {
	set := Portable()
	var x, other Activations
	set.Pack(&x, MXFP4, true, make([]float32, 2*64), 2, 64, 64)
	set.Pack(&other, BF16, true, make([]float32, 2*64), 2, 64, 64)
	good := func() *Job {
		return &Job{
			W:  Matrix{Kind: MXFP4, Rows: 4, Cols: 64, Data: make([]byte, 4*32), Scales: make([]byte, 4*2)},
			Hi: 4, X: &x, Y: make([]float32, 8), Stride: 4,
		}
	}
	var s Scratch
	set.Multiply(good(), &s)
	for name, spoil := range map[string]func(j *Job){
		"packed for another kind": func(j *Job) { j.X = &other },
		"other columns":           func(j *Job) { j.W.Cols = 32 },
		"rows beyond":             func(j *Job) { j.Hi = 5 },
		"rows before":             func(j *Job) { j.Lo = -1 },
		"short data":              func(j *Job) { j.W.Data = j.W.Data[1:] },
		"short scales":            func(j *Job) { j.W.Scales = j.W.Scales[1:] },
		"short result":            func(j *Job) { j.Y = j.Y[1:] },
		"row of x":                func(j *Job) { j.XRows = []int32{0, 2} },
		"negative row of x":       func(j *Job) { j.XRows = []int32{-1} },
		"result rows":             func(j *Job) { j.YRows = []int32{0} },
		"negative result row":     func(j *Job) { j.YRows = []int32{0, -1} },
		"stride":                  func(j *Job) { j.Stride = 3 },
	} {
		j := good()
		spoil(j)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			set.Multiply(j, &s)
		}()
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("rows that are not there: no panic")
			}
		}()
		set.Pack(&x, BF16, true, make([]float32, 127), 2, 64, 64)
	}()
}

// Packed rows are aligned, and packing again takes no memory.
func TestPackReuses(t *testing.T) {
	for _, set := range every() {
		var a Activations
		x := make([]float32, 3*2880)
		set.Pack(&a, MXFP4, true, x, 3, 2880, 2880)
		if n := testing.AllocsPerRun(10, func() { set.Pack(&a, MXFP4, true, x, 3, 2880, 2880) }); n != 0 {
			t.Errorf("%s: %g allocations", set.Name, n)
		}
		at := uintptr(unsafe.Pointer(unsafe.SliceData(a.values)))
		if a.layout == pairs {
			at = uintptr(unsafe.Pointer(unsafe.SliceData(a.words)))
		}
		if at%64 != 0 {
			t.Errorf("%s: rows at %#x", set.Name, at)
		}
	}
}

// Two products in one lane that leave 2^e of each other, for e about the least
// normal exponent: where an instruction that flushes subnormals must not be
// used, and where it may. Also operands that are subnormal themselves.
func TestEdgeOfSubnormals(t *testing.T) {
	two := func(e int) float32 { return float32(math.Ldexp(1, e)) }
	type pair struct{ w, x [2]float32 }
	var s Scratch
	for _, e := range entries {
		var pairs []pair
		for low := -131; low <= -122; low++ {
			for a := -60; a <= 60; a += 12 {
				b := low - a // MXFP4: 2^a·(1+2^-7)·2^b - 2^a·2^b = 2^(low-7)
				if e.kind == MXFP4 {
					pairs = append(pairs, pair{[2]float32{two(a), two(a)}, [2]float32{two(b+7) * (1 + 0x1p-7), -two(b + 7)}})
					continue
				}
				// (1+2^-7)² - (1+2^-6) = 2^-14
				u, v := two(a+7), two(b+7)
				pairs = append(pairs, pair{[2]float32{u * (1 + 0x1p-7), u * (1 + 0x1p-6)}, [2]float32{v * (1 + 0x1p-7), -v}})
				pairs = append(pairs, pair{[2]float32{u * (1 + 0x1p-6), u * (1 + 0x1p-7)}, [2]float32{-v, v * (1 + 0x1p-7)}})
			}
		}
		pairs = append(pairs,
			pair{[2]float32{0x1p-127, 0}, [2]float32{0x1p100, 0}}, pair{[2]float32{0, 0x1p-126}, [2]float32{0, 0x1p100}},
			pair{[2]float32{0x1p100, 0}, [2]float32{0x1p-130, 0}}, pair{[2]float32{0x1p1, 0}, [2]float32{0x1p-127, 0}})
		if e.kind != MXFP4 {
			pairs = append(pairs, pair{[2]float32{0x1p-133, 0x1p-127}, [2]float32{0x1p120, 0x1p120}})
		}
		for _, n := range []int{1, 2, 7, 20} {
			for k, p := range pairs {
				if testing.Short() && (k+n)%4 != 0 {
					continue
				}
				const rows, cols = 21, 256
				w := Matrix{Kind: e.kind, Rows: rows, Cols: cols}
				vals := make([]float32, rows*cols)
				row, at := k%rows, 8*(k%16)+k%4
				first, second := at+128, at+4+128 // words 2i and 2i+1 of a group
				if e.kind != MXFP4 {
					first, second = at/2*2, at/2*2+1
				}
				vals[row*cols+first], vals[row*cols+second] = p.w[0], p.w[1]
				if e.kind != MXFP4 {
					w.Kind, w.Data = BF16, make([]byte, 2*len(vals))
					float.EncodeBF16(w.Data, vals)
					if e.kind == Packed {
						w = packed(w, 0)
					}
				} else {
					w.Data, w.Scales = make([]byte, len(vals)/2), make([]byte, len(vals)/32)
					for i := range w.Scales {
						w.Scales[i] = 200
					}
					for i, v := range vals {
						if v != 0 { // ±2^a is code 1, 0.5, at scale a+1
							w.Data[i/2] |= 1 << (4 * (i % 2))
							w.Scales[i/32] = byte(math.Ilogb(float64(v)) + 1 + 127)
						}
					}
				}
				pr := &problem{w: w, half: e.half, vals: vals, n: n, xs: cols, x: make([]float32, n*cols)}
				for i := range pr.x {
					pr.x[i] = 1
				}
				odd := pr.x[k%n*cols:]
				odd[first], odd[second] = p.x[0], p.x[1]
				checkSets(t, pr, &s, pr.wants(fma32))
			}
		}
	}
}

// Packing gives what the layout says, of every kind of value, and pads with
// zeros what was there before.
func TestPack(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	var a Activations
	for _, set := range every() {
		for _, e := range entries {
			for _, f := range fillings {
				for _, cols := range []int{1, 31, 32, 100, 128, 160, 300, 2880} {
					x := make([]float32, 4*cols+3)
					for i := range x {
						x[i] = f.x(r)
						if i%3 == 0 {
							x[i] = math.Float32frombits(r.Uint32())
						}
					}
					set.Pack(&a, e.kind, e.half, x, 4, cols, cols+1)
					want := Activations{}
					want.resize(a.layout, e.kind, e.half, 4, cols)
					packRows(&want, 0, x, 4, cols+1)
					for row := range 4 {
						if a.layout == pairs {
							for i, w := range want.word(row) {
								got := a.word(row)[i]
								if !same(float.FromBF16(got), float.FromBF16(w)) {
									t.Fatalf("%s, %v, %d columns: row %d, %d: %#x, want %#x", set.Name, e.kind, cols, row, i, got, w)
								}
							}
							if a.low[row] != want.low[row] || a.high[row] != want.high[row] {
								t.Fatalf("%s, %v, %d columns: row %d: exponents %d to %d, want %d to %d", set.Name, e.kind, cols, row, a.low[row], a.high[row], want.low[row], want.high[row])
							}
							continue
						}
						for i, w := range want.value(row) {
							if got := a.value(row)[i]; !same(got, w) {
								t.Fatalf("%s, %v, %d columns: row %d, %d: %x, want %x", set.Name, e.kind, cols, row, i, got, w)
							}
						}
					}
				}
			}
		}
	}
}

// Blocks of a scale below 2 beside usual ones: what is left of two products in a
// lane, 2^d of it from a tiny weight, before or after those two; and nothing left
// but the tiny product, or not even that.
func TestTinyBlocks(t *testing.T) {
	const rows, cols = 21, 384
	two := func(e int) float32 { return float32(math.Ldexp(1, e)) }
	var s Scratch
	for _, half := range []bool{true, false} {
		for _, n := range []int{1, 3, 9} {
			for d := -60; d <= 4; d++ {
				for _, left := range []bool{true, false} {
					w := Matrix{Kind: MXFP4, Rows: rows, Cols: cols, Data: make([]byte, rows*cols/2), Scales: make([]byte, rows*cols/32)}
					for i := range w.Scales {
						w.Scales[i] = 120
					}
					set := func(row, col int, code, scale byte) {
						i := row*cols + col
						w.Data[i/2] |= code << (4 * (i % 2))
						w.Scales[i/32] = scale
					}
					row, at := (d+60)%rows, 8*((d+60)%16)+d&3
					first, second, tiny := at+128, at+4+128, at+256*(d&1)
					set(row, first, 1, 118) // 2^-10
					set(row, second, 1, 118)
					set(row, tiny, 7, byte(d&1)) // 6·2^-127 or twice that
					set((row+1)%rows, tiny, 5, 0)
					p := &problem{w: w, half: half, n: n, xs: cols, vals: make([]float32, rows*cols), x: make([]float32, n*cols)}
					float.DecodeMXFP4(p.vals, w.Data, w.Scales)
					for i := range p.x {
						p.x[i] = two(-3)
					}
					for k := range n { // 2^-20 is left, or nothing
						x := p.x[k*cols:]
						x[first], x[second] = two(-3)*(1+0x1p-7), -two(-3)
						if !left {
							x[second] = -x[first]
						}
						x[tiny] = two(max(-3, d+105))
						if k == 1 {
							x[tiny] = 0
						}
					}
					checkSets(t, p, &s, p.wants(fma32))
				}
			}
		}
	}
}

// Where every lane underflows to -0, a zero weight after it shows its sign: codes
// 0 and 8 are +0, and so are the columns that pad.
func TestNegativeZero(t *testing.T) {
	var s Scratch
	for _, half := range []bool{true, false} {
		for _, n := range []int{1, 2, 5, 9} {
			for _, codes := range [][2]byte{{9, 8}, {8, 9}, {9, 0}, {9, 9}} { // of odd and even words
				for _, cols := range []int{96, 128, 160, 256} {
					const rows = 6
					p := &problem{w: Matrix{Kind: MXFP4, Rows: rows, Cols: cols}, half: half, n: n, xs: cols}
					p.w.Data, p.w.Scales = make([]byte, rows*cols/2), make([]byte, rows*cols/32)
					p.vals, p.x = make([]float32, rows*cols), make([]float32, n*cols)
					for i := range p.vals {
						p.w.Data[i/2] |= codes[1-i/4%2] << (4 * (i % 2))
					}
					float.DecodeMXFP4(p.vals, p.w.Data, p.w.Scales)
					for i, v := range p.vals {
						if v == 0 {
							p.vals[i] = 0
						}
					}
					for i := range p.x {
						p.x[i] = 0x1p-30
					}
					want := p.wants(fma32)
					if negative := math.Signbit(float64(want[0])); negative != (codes[1] == 9 && cols%128 == 0) {
						t.Fatalf("codes %d, %d columns: want %g", codes, cols, want[0])
					}
					checkSets(t, p, &s, want)
				}
			}
		}
	}
}
