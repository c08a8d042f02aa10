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

// find is Find with the products y, which must be asked for in order and once.
func find(t *testing.T, s *screen.Screen, set *kernel.Set, x []float32, k int, r screen.Rounding, y []float32) []int32 {
	t.Helper()
	asked := make([]bool, len(y))
	found, values := s.Find(set, x, k, r, halves, func(rows []int32) []float32 {
		v := make([]float32, len(rows))
		for i, row := range rows {
			if asked[row] || i > 0 && row <= rows[i-1] {
				t.Fatalf("asked for %v: row %d twice or out of order", rows, row)
			}
			asked[row], v[i] = true, y[row]
		}
		return v
	})
	if len(found) != len(values) {
		t.Fatalf("%d rows, %d products", len(found), len(values))
	}
	for i, row := range found {
		if math.Float32bits(values[i]) != math.Float32bits(y[row]) || i > 0 && row <= found[i-1] {
			t.Fatalf("row %d after %v: %g, want %g", row, found[:i], values[i], y[row])
		}
	}
	return found
}

// missing returns a row of the k largest of y, ties included, that is not in
// found, or -1.
func missing(y []float32, k int, found []int32) int {
	sorted := slices.Clone(y)
	slices.Sort(sorted) // NaN first
	for row, v := range y {
		if v >= sorted[len(y)-k] && !slices.Contains(found, int32(row)) {
			return row
		}
	}
	return -1
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
	weird := func(v float32) func(int, int) float32 {
		return func(row, c int) float32 {
			if row%40 == 5 && c == row%2 {
				return v
			}
			return base[(row*5+c)%len(base)]
		}
	}
	kinds := map[string]func(r0, c int) float32{
		"normal":       normal(0.02),
		"tiny":         normal(1e-30),
		"subnormal":    normal(1e-39),
		"huge":         normal(1e30),
		"overflowing":  normal(1e37),
		"zeros":        func(int, int) float32 { return 0 },
		"equal rows":   func(_, c int) float32 { return base[c] },
		"pairs":        func(row, c int) float32 { return base[(row/2*7+c)%len(base)] },
		"nearly equal": func(row, c int) float32 { return base[c] + float32(row%7)*0.004 },
		"one outlier a row": func(row, c int) float32 {
			if c == row%13 {
				return 50
			}
			return base[c] * 0.01
		},
		"scales far apart": func(row, c int) float32 { return float32(math.Ldexp(r.NormFloat64(), row%60-30)) },
		"infinite rows":    weird(float32(math.Inf(1))),
		"rows of NaN":      weird(float32(math.NaN())),
	}
	sets := kernel.All()
	useful := map[string]int{}
	const rows = 500
	for name, at := range kinds {
		for _, cols := range []int{1, 63, 64, 65, 288} {
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
						for _, k := range []int{1, 2, 50} {
							found := find(t, s, set, x, k, rounding, y)
							if found == nil {
								continue
							}
							useful[name]++
							if row := missing(y, k, found); row >= 0 {
								t.Fatalf("%s, %d columns, %s, k %d: row %d with %g is left out", name, cols, set.Name, k, row, y[row])
							}
						}
						for _, k := range []int{0, rows/4 + 1, rows, 2 * rows} {
							if found := find(t, s, set, x, k, rounding, y); found != nil {
								t.Fatalf("%s: %d rows for k %d, want nil", name, len(found), k)
							}
						}
					}
				}
			}
		}
	}
	for name := range kinds {
		never := slices.Contains([]string{"zeros", "equal rows", "subnormal"}, name) // too many remain
		if never != (useful[name] == 0) {
			t.Errorf("%s: the screen was of use %d times", name, useful[name])
		}
	}
}

// The bound of a row can be reached: x is the very error of its copy, or the
// negative. Many rows have larger estimates than the first, whose product is the
// largest nevertheless.
func TestBoundIsReached(t *testing.T) {
	const rows, cols, decoys = 1000, 512, 100
	r := rand.New(rand.NewPCG(9, 9))
	sets := kernel.All()
	rounding := screen.Rounding{Sum: screen.SumError(cols)}
	for trial := range 8 {
		row := make([]float32, cols)
		for c := range row {
			row[c] = float.RoundBF16(float32(r.NormFloat64()))
		}
		s, err := screen.New(t.Context(), matrix(1, cols, func(_, c int) float32 { return row[c] }), plain, whole)
		if err != nil {
			t.Fatal(err)
		}
		x, sign := make([]float32, cols), float32(1-2*(trial%2))
		var value, estimate, square float64
		for c, v := range s.Row(0) {
			x[c] = float.RoundBF16(sign * (row[c] - v))
			value += float64(x[c]) * float64(row[c])
			estimate += float64(x[c]) * float64(v)
			square += float64(x[c]) * float64(x[c])
		}
		off := math.Abs(value - estimate)
		m := matrix(rows, cols, func(n, c int) float32 {
			switch {
			case n == 0:
				return row[c]
			case n <= decoys:
				// Along x: the product is nearly the bound, and the error small.
				return x[c] * float32((estimate+0.98*off)/square)
			}
			return x[c] * float32((estimate-3*off)/square)
		})
		if s, err = screen.New(t.Context(), m, plain, whole); err != nil {
			t.Fatal(err)
		}
		for i := range sets {
			y := products(&sets[i], m, x, false)
			if largest := slices.Max(y) == y[0]; largest != (sign > 0) {
				t.Fatalf("trial %d: the first product is %g, the largest %g", trial, y[0], slices.Max(y))
			}
			for _, k := range []int{1, 2, 50} {
				found := find(t, s, &sets[i], x, k, rounding, y)
				if found == nil {
					t.Fatalf("trial %d, %s, k %d: the screen is of no use", trial, sets[i].Name, k)
				}
				if row := missing(y, k, found); row >= 0 {
					t.Fatalf("trial %d, %s, k %d: row %d is left out", trial, sets[i].Name, k, row)
				}
			}
		}
	}
}

// So can what x loses as 16-bit integers: it is parallel to the first row, which
// loses nothing itself.
func TestBoundOfVectorIsReached(t *testing.T) {
	const rows, cols, decoys = 1000, 256, 100
	x := make([]float32, cols)
	for c := range x {
		x[c] = float32(1-2*(c%2)) * 0.49 // lost
	}
	x[0] = kernel.Int16Most // so the unit is 1
	x[1] += 1000
	m := matrix(rows, cols, func(n, c int) float32 {
		w := float32(31 - 62*(c%2))
		switch {
		case n > decoys && c > 0:
			return 0
		case n > decoys:
			return -31
		case n > 0 && c == 1:
			return w + 1 // an estimate 1000 larger
		case n > 0 && c >= cols/2:
			return -w // against what x loses
		}
		return w
	})
	s, err := screen.New(t.Context(), m, plain, whole)
	if err != nil {
		t.Fatal(err)
	}
	sets := kernel.All()
	for i := range sets {
		y := products(&sets[i], m, x, false)
		if !(y[0] > y[1]+1000) {
			t.Fatalf("products %g and %g, want the first larger", y[0], y[1])
		}
		found := find(t, s, &sets[i], x, 1, screen.Rounding{Sum: screen.SumError(cols)}, y)
		if !slices.Contains(found, 0) {
			t.Errorf("%s: found %v, without row 0", sets[i].Name, found)
		}
	}
}

// A row whose sum overflows on its way is infinite, though the true product is 0.
func TestOverflowOnTheWay(t *testing.T) {
	const rows, cols, row = 500, 128, 77
	m := matrix(rows, cols, func(n, c int) float32 {
		switch {
		case n != row:
			return float32(n%100) * 1e32
		case c < 2:
			return 31 * 0x1p121 // in one sum
		case c == 16 || c == 32:
			return -16 * 0x1p121 // in two others
		case c == 17 || c == 33:
			return -15 * 0x1p121
		}
		return 0
	})
	s, err := screen.New(t.Context(), m, plain, whole)
	if err != nil {
		t.Fatal(err)
	}
	sets := kernel.All()
	for i := range sets {
		for _, half := range []bool{true, false} {
			x := slices.Repeat([]float32{4}, cols)
			y := products(&sets[i], m, x, half)
			if !math.IsInf(float64(y[row]), 1) {
				t.Fatalf("%s: the sum is %g, want infinity", sets[i].Name, y[row])
			}
			for _, k := range []int{1, 5} {
				r := screen.Rounding{Sum: screen.SumError(cols), Result: 0x1p-8}
				if found := find(t, s, &sets[i], x, k, r, y); found == nil || missing(y, k, found) >= 0 {
					t.Errorf("%s, k %d: found %v", sets[i].Name, k, found)
				}
			}
		}
	}
}

// Rows whose weights all lie just above an integer multiple of the scale, or just
// below: copies are equal, products with a positive x as far apart as can be.
func TestAdversarialRows(t *testing.T) {
	const rows, cols = 400, 256
	r := rand.New(rand.NewPCG(9, 9))
	sets := kernel.All()
	set := &sets[len(sets)-1]
	for trial := range 60 {
		m := matrix(rows, cols, func(row, c int) float32 {
			if c == 0 {
				return 31
			}
			n := float32(c % 16)
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
		found := find(t, s, set, x, 1, screen.Rounding{Sum: screen.SumError(cols), Result: 0x1p-8}, y)
		if found != nil && missing(y, 1, found) >= 0 {
			t.Fatalf("trial %d: row %d is left out", trial, missing(y, 1, found))
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
	set := &sets[len(sets)-1]
	x := make([]float32, cols)
	for i := range x {
		x[i] = float.RoundBF16(float32(r.NormFloat64()))
	}
	found := find(t, s, set, x, 1, screen.Rounding{Sum: screen.SumError(cols), Result: 0x1p-8}, products(set, m, x, true))
	if len(found) == 0 || len(found) > 600 {
		t.Errorf("%d of %d rows remain, want some, and at most 600", len(found), rows)
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
		if found := find(t, s, &sets[0], x, 1, screen.Rounding{}, make([]float32, m.Rows)); found != nil {
			t.Errorf("%v: %v, want nil", x, found)
		}
	}
}

func TestTooManyColumns(t *testing.T) {
	m := kernel.Matrix{Kind: kernel.BF16, Cols: kernel.Int6Most + 1}
	if _, err := screen.New(t.Context(), m, plain, whole); err == nil {
		t.Error("sums beyond 32 bits pass")
	}
}
