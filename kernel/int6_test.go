package kernel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// int6Extremes are pairs of a weight and a value whose limbs are extreme too;
// 32384 is 127·256 − 128.
var int6Extremes = func() (e []struct {
	w int8
	v int16
}) {
	for _, w := range []int8{-32, 31} {
		for _, v := range []int16{Int16Most, -Int16Most, 32384, -32384} {
			e = append(e, struct {
				w int8
				v int16
			}{w, v})
		}
	}
	return e
}()

// int6Values are random values (kind 0) or extremes.
func int6Values(r *rand.Rand, cols, rows, kind int) (w [][]int8, v []int16) {
	for range rows {
		row := make([]int8, cols)
		for c := range row {
			row[c] = int8(r.IntN(64) - 32)
			if kind > 0 {
				row[c] = int6Extremes[kind-1].w
			}
		}
		w = append(w, row)
	}
	v = make([]int16, cols)
	for c := range v {
		v[c] = int16(r.IntN(2*Int16Most+1) - Int16Most)
		if kind > 0 {
			v[c] = int6Extremes[kind-1].v
		}
	}
	return w, v
}

func packInt6(w [][]int8, cols int) []byte {
	stride := Int6Stride(cols)
	b := make([]byte, len(w)*stride)
	for i, row := range w {
		PackInt6(b[i*stride:][:stride], row)
	}
	return b
}

func TestInt6(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, cols := range []int{1, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 128, 129, 192, 256, 257, 320, 2880, 4096, Int6Most} {
		for _, rows := range []int{0, 1, 2, 63, 64, 65, 130} {
			if rows > 2 && cols > 320 {
				continue
			}
			for kind := range 1 + len(int6Extremes) {
				w, v := int6Values(r, cols, rows, kind)
				want := make([]int64, rows)
				for row := range want {
					for c, f := range v {
						want[row] += int64(f) * int64(w[row][c])
					}
				}
				b := packInt6(w, cols)
				for _, s := range every() {
					var x Int16
					x.Pack(slices.Repeat([]int16{99}, cols+70)) // old contents must not show
					x.Pack(v)
					y := make([]int64, rows+1)
					y[rows] = 12345
					s.Int6(y[:rows], b, &x)
					if !slices.Equal(y[:rows], want) || y[rows] != 12345 {
						t.Fatalf("%s: %d columns, %d rows, kind %d: %v, want %v", s.Name, cols, rows, kind, y, want)
					}
				}
			}
		}
	}
	for _, s := range every() {
		y := []int64{1, 2}
		var x Int16
		if s.Int6(y, nil, &x); y[0] != 0 || y[1] != 0 {
			t.Errorf("%s: rows without columns give %v", s.Name, y)
		}
	}
}

// Each value of each column, in each limb, counts alone.
func TestInt6Columns(t *testing.T) {
	const cols = 5 * int6Cols
	w, v := make([]int8, cols), make([]int16, cols)
	b, y := make([]byte, Int6Stride(cols)), make([]int64, 1)
	var x Int16
	for c := range cols {
		for i := int8(-32); i < 32; i++ {
			w[c] = i
			PackInt6(b, w)
			for _, f := range []int16{1, 256} {
				v[c] = f
				x.Pack(v)
				for _, s := range every() {
					if s.Int6(y, b, &x); y[0] != int64(i)*int64(f) {
						t.Fatalf("%s: %d·%d in column %d gives %d", s.Name, i, f, c, y[0])
					}
				}
			}
			v[c] = 0
		}
		w[c] = 0
	}
}

// int6At returns column c of a row, as the layout says.
func int6At(row []byte, c int) int32 {
	row, c = row[c/64*48:], c%64
	low := row[c%32] >> (c / 32 * 4) & 15
	high := row[32+c%16] >> (2 * (c / 16)) & 3
	return int32(high<<4|low) - 32
}

// Columns are where the layout says; padding is the integer 0, whatever the bytes
// held.
func TestPackInt6(t *testing.T) {
	for cols := range 130 {
		b := slices.Repeat([]byte{0xa5}, Int6Stride(cols)+1)
		v := make([]int8, (cols+63)/64*64)
		for c := range cols {
			v[c] = int8(37*c%64 - 32)
		}
		PackInt6(b[:len(b)-1], v[:cols])
		for c, want := range v {
			if got := int6At(b, c); got != int32(want) {
				t.Fatalf("%d columns: column %d is %d, want %d", cols, c, got, want)
			}
		}
		if b[len(b)-1] != 0xa5 {
			t.Fatalf("%d columns: a byte behind them is %#x", cols, b[len(b)-1])
		}
	}
}

func BenchmarkInt6(b *testing.B) {
	const cols = 2880
	for _, of := range []struct {
		name string
		rows int
	}{{"cache", 128}, {"memory", 65536}} {
		w, v := int6Values(rand.New(rand.NewPCG(1, 2)), cols, 1, 0)
		packed := slices.Repeat(packInt6(w, cols), of.rows)
		y := make([]int64, of.rows)
		var x Int16
		x.Pack(v)
		for _, s := range every() {
			b.Run(fmt.Sprint(of.name, "/", s.Name), func(b *testing.B) {
				b.SetBytes(int64(len(packed)))
				for b.Loop() {
					s.Int6(y, packed, &x)
				}
			})
		}
	}
}
