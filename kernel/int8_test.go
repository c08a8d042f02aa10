package kernel

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// int8Values are extremes and random values of both sides.
func int8Values(r *rand.Rand, cols, rows, kind int) (w []byte, v []int16) {
	stride := Int8Stride(cols)
	w, v = bytes.Repeat([]byte{128}, rows*stride), make([]int16, cols)
	for c := range v {
		for row := range rows {
			switch kind {
			case 0:
				w[row*stride+c] = byte(1 + r.IntN(255))
			case 1:
				w[row*stride+c] = 255
			case 2:
				w[row*stride+c] = 1
			}
		}
		v[c] = int16(r.IntN(2*Int16Most+1) - Int16Most)
		if kind == 1 {
			v[c] = Int16Most
		}
		if kind == 2 {
			v[c] = -Int16Most
		}
	}
	return w, v
}

func TestInt8(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, cols := range []int{1, 15, 16, 63, 64, 65, 128, 192, 2048, 2049, 2880, 4096, Int8Most} {
		for _, rows := range []int{0, 1, 2, 63, 64, 65, 130} {
			if cols == Int8Most && rows > 2 {
				continue
			}
			for kind := range 3 {
				w, v := int8Values(r, cols, rows, kind)
				want := make([]int64, rows)
				for row := range want {
					for c, f := range v {
						want[row] += int64(f) * (int64(w[row*Int8Stride(cols)+c]) - 128)
					}
				}
				for _, s := range All() {
					var x Int16
					x.Pack(slices.Repeat([]int16{99}, cols+70)) // old contents must not show
					x.Pack(v)
					y := make([]int64, rows+1)
					y[rows] = 12345
					s.Int8(y[:rows], w, &x)
					if !slices.Equal(y[:rows], want) || y[rows] != 12345 {
						t.Fatalf("%s: %d columns, %d rows, kind %d: %v, want %v", s.Name, cols, rows, kind, y, want)
					}
				}
			}
		}
	}
}

func BenchmarkInt8(b *testing.B) {
	const cols, rows = 2880, 65536 // beyond the caches
	w, v := int8Values(rand.New(rand.NewPCG(1, 2)), cols, rows, 0)
	y := make([]int64, rows)
	var x Int16
	x.Pack(v)
	for _, s := range All() {
		b.Run(fmt.Sprint(s.Name), func(b *testing.B) {
			b.SetBytes(int64(len(w)))
			for b.Loop() {
				s.Int8(y, w, &x)
			}
		})
	}
}
