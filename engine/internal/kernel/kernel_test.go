package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"ossify/float"
)

// lengths sit on and beside every vector width and unroll, and gpt-oss's own.
var lengths = []int{0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 90, 2880, 2881, 4096, 5760}

// blocks are lengths that MXFP4 rows can have.
var blocks = []int{32, 64, 96, 128, 512, 2880, 4096, 5760}

// inputs are the values a slice is filled with.
var inputs = []struct {
	name string
	next func(r *rand.Rand) float32
}{
	{"normal", func(r *rand.Rand) float32 { return float32(r.NormFloat64()) }},
	{"wide", func(r *rand.Rand) float32 { return float32(r.NormFloat64() * math.Exp2(float64(r.IntN(40)-20))) }},
	{"zeros", func(r *rand.Rand) float32 { return float32(math.Copysign(0, float64(r.IntN(2))-0.5)) }},
	{"subnormal", func(r *rand.Rand) float32 { return float32(r.NormFloat64() * 0x1p-130) }},
}

// bound is the error that n roundings of products and sums allow: each product
// is rounded once and passes through at most n additions, of relative error
// 2^-24 each (Higham, Accuracy and Stability, section 3.1); magnitude is Σ|x·y|.
// Below the normal range a rounding is at most 2^-150 instead.
func bound(n int, magnitude float64) float64 {
	u := float64(n+1) * 0x1p-24
	return u/(1-u)*magnitude + float64(n+1)*0x1p-149
}

// canary stands around every result: a kernel must write nothing else.
const canary = -12345

func fenced(n int) []float32 {
	b := make([]float32, n+16)
	for i := range b {
		b[i] = canary
	}
	return b[8 : 8+n]
}

func checkFence(t *testing.T, name string, v []float32) {
	t.Helper()
	first := (*[8]float32)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(v)), -32))
	last := (*[8]float32)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(v)), 4*len(v)))
	for i := range 8 {
		if first[i] != canary || last[i] != canary {
			t.Errorf("%s: wrote outside its result", name)
			return
		}
	}
}

func fill(r *rand.Rand, n int, next func(*rand.Rand) float32) []float32 {
	v := make([]float32, n+1)[1:] // not aligned to a vector
	for i := range v {
		v[i] = next(r)
	}
	return v
}

func TestDot(t *testing.T) {
	for _, set := range All() {
		for _, in := range inputs {
			r := rand.New(rand.NewPCG(1, 2))
			for _, n := range lengths {
				x, y := fill(r, n, in.next), fill(r, n, in.next)
				var want, magnitude float64
				for i := range x {
					p := float64(x[i]) * float64(y[i])
					want, magnitude = want+p, magnitude+math.Abs(p)
				}
				got := float64(set.Dot(x, y))
				if tol := bound(n, magnitude); !(math.Abs(got-want) <= tol) {
					t.Errorf("%s, %s, n=%d: got %g, want %g ± %g", set.Name, in.name, n, got, want, tol)
				}
			}
		}
	}
}

func TestAddScaled(t *testing.T) {
	for _, set := range All() {
		for _, in := range inputs {
			r := rand.New(rand.NewPCG(3, 4))
			for _, n := range lengths {
				x, a, y := fill(r, n, in.next), in.next(r), fenced(n)
				before := make([]float32, n)
				for i := range y {
					y[i] = in.next(r)
					before[i] = y[i]
				}
				set.AddScaled(y, a, x)
				checkFence(t, set.Name, y)
				for i := range y {
					p := float64(a) * float64(x[i])
					want := float64(before[i]) + p
					if tol := bound(2, math.Abs(p)+math.Abs(want)); !(math.Abs(float64(y[i])-want) <= tol) {
						t.Fatalf("%s, %s, n=%d, %d: got %g, want %g ± %g", set.Name, in.name, n, i, y[i], want, tol)
					}
				}
			}
		}
	}
}

// A matrix kernel agrees with a float64 sum, and a row's result is the same
// alone and among others.
func TestBF16(t *testing.T) {
	for _, set := range All() {
		for _, in := range inputs {
			r := rand.New(rand.NewPCG(5, 6))
			for _, n := range lengths[1:] {
				const rows = 3
				w, raw := fill(r, rows*n, in.next), make([]byte, 1+2*rows*n)[1:]
				for i, v := range w {
					w[i] = float.RoundBF16(v)
					binary.LittleEndian.PutUint16(raw[2*i:], float.ToBF16(v))
				}
				checkMatrix(t, fmt.Sprintf("%s, %s, n=%d", set.Name, in.name, n), w, n, fillRows(r, n, in.next), func(y, x [][]float32) { set.BF16(y, x, raw) })
			}
		}
	}
}

// Every byte of codes appears with every scale.
func TestMXFP4(t *testing.T) {
	for _, set := range All() {
		for _, in := range inputs {
			r := rand.New(rand.NewPCG(7, 8))
			for _, n := range blocks {
				const rows = 3
				data, scales := make([]byte, 1+rows*n/2)[1:], make([]byte, rows*n/32)
				for i := range data {
					data[i] = byte(r.Uint32())
				}
				for i := range scales {
					scales[i] = byte(110 + r.IntN(20))
				}
				w := make([]float32, rows*n)
				for i := range w {
					w[i] = float.E2M1(data[i/2]>>(4*(i%2))) * float.E8M0(scales[i/32])
				}
				checkMatrix(t, fmt.Sprintf("%s, %s, n=%d", set.Name, in.name, n), w, n, fillRows(r, n, in.next), func(y, x [][]float32) { set.MXFP4(y, x, data, scales) })
			}
		}
	}
}

// Each code times each scale, alone: exact, for one product has no sum.
func TestMXFP4EveryCodeAndScale(t *testing.T) {
	for _, set := range All() {
		x := make([]float32, 32)
		y := make([]float32, 1)
		for scale := range 255 {
			for code := range 16 {
				for _, at := range []int{0, 1, 30, 31} {
					data := make([]byte, 16)
					data[at/2] = byte(code << (4 * (at % 2)))
					clear(x)
					x[at] = 1
					set.MXFP4([][]float32{y}, [][]float32{x}, data, []byte{byte(scale)})
					// The product may overflow; then both are infinite.
					if want := float.E2M1(byte(code)) * float.E8M0(byte(scale)); y[0] != want {
						t.Fatalf("%s: code %d, scale %d, column %d: got %g, want %g", set.Name, code, scale, at, y[0], want)
					}
				}
			}
		}
	}
}

func fillRows(r *rand.Rand, n int, next func(*rand.Rand) float32) [][]float32 {
	x := make([][]float32, 5)
	for t := range x {
		x[t] = fill(r, n, next)
	}
	return x
}

func checkMatrix(t *testing.T, name string, w []float32, n int, x [][]float32, mul func(y, x [][]float32)) {
	t.Helper()
	rows := len(w) / n
	y := make([][]float32, len(x))
	for i := range y {
		y[i] = fenced(rows)
	}
	mul(y, x)
	for i := range x {
		checkFence(t, name, y[i])
		alone := [][]float32{fenced(rows)}
		mul(alone, x[i:i+1])
		for j := range rows {
			var want, magnitude float64
			for c, v := range w[j*n:][:n] {
				p := float64(v) * float64(x[i][c])
				want, magnitude = want+p, magnitude+math.Abs(p)
			}
			if tol := bound(n, magnitude); !(math.Abs(float64(y[i][j])-want) <= tol) {
				t.Fatalf("%s: row %d, column %d: got %g, want %g ± %g", name, i, j, y[i][j], want, tol)
			}
			if math.Float32bits(alone[0][j]) != math.Float32bits(y[i][j]) {
				t.Fatalf("%s: row %d, column %d: %g alone, %g among %d", name, i, j, alone[0][j], y[i][j], len(x))
			}
		}
	}
}

// NaN and infinity come through.
func TestSpecialValues(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, set := range All() {
		for at := range 9 {
			x, one := make([]float32, 9), make([]float32, 9)
			for i := range one {
				one[i] = 1
			}
			x[at] = inf
			if got := set.Dot(x, one); got != inf {
				t.Errorf("%s: infinity at %d gives %g", set.Name, at, got)
			}
			x[at] = nan
			if got := set.Dot(x, one); got == got {
				t.Errorf("%s: NaN at %d gives %g", set.Name, at, got)
			}
		}
	}
}

func BenchmarkKernels(b *testing.B) {
	r := rand.New(rand.NewPCG(9, 10))
	const n, rows = 2880, 64
	data, scales := make([]byte, rows*n*2), make([]byte, rows*n/32)
	for i := range scales {
		scales[i] = 120
	}
	for i := range rows * n {
		binary.LittleEndian.PutUint16(data[2*i:], float.ToBF16(float32(r.NormFloat64())))
	}
	for _, set := range All() {
		for _, tokens := range []int{1, 32} {
			x, y := make([][]float32, tokens), make([][]float32, tokens)
			for t := range x {
				x[t], y[t] = fill(r, n, inputs[0].next), make([]float32, rows)
			}
			b.Run(fmt.Sprintf("%s/BF16/tokens=%d", set.Name, tokens), func(b *testing.B) {
				b.SetBytes(rows * n * 2)
				for b.Loop() {
					set.BF16(y, x, data)
				}
			})
			b.Run(fmt.Sprintf("%s/MXFP4/tokens=%d", set.Name, tokens), func(b *testing.B) {
				b.SetBytes(rows * n * 17 / 32)
				for b.Loop() {
					set.MXFP4(y, x, data[:rows*n/2], scales)
				}
			})
		}
	}
}

// The sets above the portable one sum in the same order, so that a model gives
// the same bits whichever of them a machine has.
func TestFasterSetsAgreeToTheBit(t *testing.T) {
	sets := faster()
	r := rand.New(rand.NewPCG(11, 12))
	for _, n := range blocks {
		x := fillRows(r, n, inputs[1].next)
		data, scales := make([]byte, n/2), make([]byte, n/32)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		for i := range scales {
			scales[i] = byte(r.IntN(250))
		}
		var want [][]float32
		for _, set := range sets {
			y := [][]float32{make([]float32, 1), make([]float32, 1), make([]float32, 1), make([]float32, 1), make([]float32, 1)}
			set.MXFP4(y, x, data, scales)
			if want == nil {
				want = y
			}
			for i := range y {
				if math.Float32bits(y[i][0]) != math.Float32bits(want[i][0]) {
					t.Errorf("%s, n=%d: %g, %s has %g", set.Name, n, y[i][0], sets[0].Name, want[i][0])
				}
			}
		}
	}
}
