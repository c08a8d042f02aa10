package screen_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"ossify/engine/internal/screen"
	"ossify/float"
	"ossify/kernel"
)

func plain(n int) []byte { return make([]byte, n) }

func whole(n int, f func(lo, hi int)) { f(0, n) }

// halves splits in two uneven ranges.
func halves(n int, f func(lo, hi int)) { f(0, n/3); f(n/3, n) }

func matrix(rows, cols int, at func(r, c int) float32) kernel.Matrix {
	m := kernel.Matrix{Kind: kernel.BF16, Rows: rows, Cols: cols}
	for r := range rows {
		for c := range cols {
			m.Data = binary.LittleEndian.AppendUint16(m.Data, float.ToBF16(at(r, c)))
		}
	}
	return m
}

// products are what the engine computes: float32 sums, rounded if half.
func products(set *kernel.Set, m kernel.Matrix, x []float32, half bool) []float32 {
	var a kernel.Activations
	set.Pack(&a, kernel.BF16, half, x, 1, m.Cols, m.Cols)
	y := make([]float32, m.Rows)
	var s kernel.Scratch
	set.Multiply(&kernel.Job{W: m, Hi: m.Rows, X: &a, Y: y, Stride: m.Rows}, &s)
	if half {
		for i, v := range y {
			y[i] = float.RoundBF16(v)
		}
	}
	return y
}

// Whatever the weights, every row of the k largest products, ties included, is
// found, in both precisions and by all sets.
func TestFindsTheLargest(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	normal := func(scale float64) func(int, int) float32 {
		return func(int, int) float32 { return float32(scale * r.NormFloat64()) }
	}
	base := make([]float32, 4096)
	for i := range base {
		base[i] = float32(r.NormFloat64())
	}
	kinds := map[string]func(r0, c int) float32{
		"normal":       normal(0.02),
		"tiny":         normal(1e-30),
		"subnormal":    normal(1e-39),
		"huge":         normal(1e30),
		"overflowing":  normal(1e37),
		"zeros":        func(int, int) float32 { return 0 },
		"equal rows":   func(_, c int) float32 { return base[c] },
		"nearly equal": func(row, c int) float32 { return base[c] + float32(row%7)*0.004 },
		"one outlier a row": func(row, c int) float32 {
			if c == row%13 {
				return 50
			}
			return base[c] * 0.01
		},
		"scales far apart": func(row, c int) float32 { return float32(math.Ldexp(r.NormFloat64(), row%60-30)) },
		"an infinite row": func(row, c int) float32 {
			if row == 5 && c == 2 {
				return float32(math.Inf(1))
			}
			return base[c]
		},
	}
	sets := kernel.All()
	useful := 0
	for name, at := range kinds {
		for _, cols := range []int{1, 63, 64, 65, 288} {
			const rows = 300
			m := matrix(rows, cols, at)
			s, err := screen.New(t.Context(), m, plain, halves)
			if err != nil {
				t.Fatal(err)
			}
			for trial := range 4 {
				x := make([]float32, cols)
				for i := range x {
					x[i] = float.RoundBF16(float32(r.NormFloat64() * math.Exp(2*r.NormFloat64())))
					if trial == 1 {
						x[i] = base[i] // aligned with some rows
					}
					if trial == 2 && i != 0 {
						x[i] = 0
					}
				}
				for i := range sets {
					set := &sets[i]
					for _, half := range []bool{true, false} {
						if !half {
							x[0] += 0x1p-20
						} else {
							x[0] = float.RoundBF16(x[0])
						}
						y := products(set, m, x, half)
						rounding := screen.Rounding{Sum: screen.SumError(cols)}
						if half {
							rounding.Result = 0x1p-8
						}
						for _, k := range []int{1, 3, 40} {
							found := s.Find(set, x, k, rounding, halves)
							if found == nil {
								continue
							}
							useful++
							sorted := slices.Clone(y)
							slices.SortFunc(sorted, func(a, b float32) int {
								switch {
								case a > b:
									return -1
								case a < b:
									return 1
								}
								return 0
							})
							for row, v := range y {
								if v >= sorted[k-1] && !slices.Contains(found, int32(row)) {
									t.Fatalf("%s, %d columns, %s, k %d: row %d with %g is left out, the k-th largest is %g", name, cols, set.Name, k, row, v, sorted[k-1])
								}
							}
						}
					}
				}
			}
		}
	}
	if useful < 500 {
		t.Errorf("the screen was of use %d times, want at least 500", useful)
	}
}

// Rows made so that the error of the copy is as large as the bound allows: x is
// the error itself.
func TestAdversarialRows(t *testing.T) {
	const rows, cols = 400, 256
	r := rand.New(rand.NewPCG(9, 9))
	sets := kernel.All()
	set := &sets[len(sets)-1]
	for trial := range 60 {
		// Row 0's weights all lie just above an integer multiple of its scale, row
		// 1's just below: their copies are equal, their products with a positive x
		// are as far apart as can be.
		m := matrix(rows, cols, func(row, c int) float32 {
			if c == 0 {
				return 127
			}
			n := float32(c % 60)
			switch row {
			case 0:
				return n + 0.48
			case 1:
				return n - 0.48
			}
			return n + float32(r.Float64()-0.5)*0.9
		})
		x := make([]float32, cols)
		for i := range x {
			x[i] = float.RoundBF16(float32(1 + 0.1*r.Float64()))
		}
		x[0] = 0
		if trial%2 == 1 {
			for i := range x {
				x[i] = -x[i]
			}
		}
		s, err := screen.New(t.Context(), m, plain, whole)
		if err != nil {
			t.Fatal(err)
		}
		y := products(set, m, x, true)
		want := 0
		for i, v := range y {
			if v > y[want] {
				want = i
			}
		}
		found := s.Find(set, x, 1, screen.Rounding{Sum: screen.SumError(cols), Result: 0x1p-8}, whole)
		if found != nil && !slices.Contains(found, int32(want)) {
			t.Fatalf("trial %d: row %d is left out", trial, want)
		}
	}
}

// Of rows as a model has them, few remain.
func TestFew(t *testing.T) {
	const rows, cols = 8_000, 2880
	r := rand.New(rand.NewPCG(1, 1))
	m := matrix(rows, cols, func(int, int) float32 { return float32(0.02 * r.NormFloat64()) })
	s, err := screen.New(t.Context(), m, plain, whole)
	if err != nil {
		t.Fatal(err)
	}
	sets := kernel.All()
	x := make([]float32, cols)
	for i := range x {
		x[i] = float.RoundBF16(float32(r.NormFloat64()))
	}
	found := s.Find(&sets[len(sets)-1], x, 1, screen.Rounding{Sum: screen.SumError(cols), Result: 0x1p-8}, whole)
	if len(found) == 0 || len(found) > 200 {
		t.Errorf("%d of %d rows remain, want some, and at most 200", len(found), rows)
	}
	t.Logf("%d of %d rows remain", len(found), rows)
}

func TestNotFinite(t *testing.T) {
	m := matrix(100, 4, func(row, c int) float32 { return float32(row + c) })
	s, err := screen.New(t.Context(), m, plain, whole)
	if err != nil {
		t.Fatal(err)
	}
	sets := kernel.All()
	for _, x := range [][]float32{{0, 0, 0, 0}, {float32(math.NaN()), 1, 1, 1}, {float32(math.Inf(-1)), 1, 1, 1}} {
		if found := s.Find(&sets[0], x, 1, screen.Rounding{}, whole); found != nil {
			t.Errorf("%v: %v, want nil", x, found)
		}
	}
}
