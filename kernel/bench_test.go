package kernel

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"ossify/float"
)

func TestRead(t *testing.T) {
	b := make([]byte, 5000)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	for _, set := range every() {
		for n := range 600 {
			var want uint64
			for i, v := range b[3 : 3+n] {
				want ^= uint64(v) << (8 * (i % 8))
			}
			if got := set.Read(b[3 : 3+n]); got != want {
				t.Fatalf("%s: %d bytes give %x, want %x", set.Name, n, got, want)
			}
		}
		if v := set.ReadBandwidth(b, 2); !(v > 0) {
			t.Errorf("%s: %g bytes a second", set.Name, v)
		}
	}
}

// benchMatrix returns random weights of usual sizes; big ones repeat.
func benchMatrix(kind Kind, rows, cols int) Matrix {
	if kind == Packed {
		return packed(benchMatrix(BF16, rows, cols), 0)
	}
	r := rand.New(rand.NewPCG(5, 5))
	w := Matrix{Kind: kind, Rows: rows, Cols: cols}
	w.Data = make([]byte, rows*w.dataStride())
	w.Scales = make([]byte, rows*w.scaleStride())
	part := w.Data[:min(len(w.Data), 3<<20|2)]
	if kind == BF16 {
		v := make([]float32, len(part)/2)
		for i := range v {
			v[i] = float32(r.NormFloat64()) / 64
		}
		float.EncodeBF16(part, v)
	} else {
		for i := range part {
			part[i] = byte(r.Uint32())
		}
	}
	for n := len(part); n < len(w.Data); n *= 2 {
		copy(w.Data[n:], w.Data[:n])
	}
	for i := range w.Scales {
		w.Scales[i] = byte(116 + r.IntN(9))
	}
	return w
}

// benchJob multiplies n rows of x with all of w, in parts taken by workers.
func benchJob(set *Set, w *Matrix, x *Activations, y []float32, workers int, scratch []Scratch) {
	if workers == 1 {
		set.Multiply(&Job{W: *w, Hi: w.Rows, X: x, Y: y, Stride: w.Rows}, &scratch[0])
		return
	}
	part := 128
	var next atomic.Int64
	var wg sync.WaitGroup
	for k := range workers {
		wg.Go(func() {
			for {
				lo := int(next.Add(int64(part))) - part
				if lo >= w.Rows {
					return
				}
				set.Multiply(&Job{W: *w, Lo: lo, Hi: min(lo+part, w.Rows), X: x, Y: y, Stride: w.Rows}, &scratch[k])
			}
		})
	}
	wg.Wait()
}

func benchProduct(b *testing.B, set *Set, w *Matrix, half bool, n, workers int) {
	r := rand.New(rand.NewPCG(6, 6))
	v := make([]float32, n*w.Cols)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	var x Activations
	set.Pack(&x, w.Kind, half, v, n, w.Cols, w.Cols)
	y := make([]float32, n*w.Rows)
	scratch := make([]Scratch, workers)
	benchJob(set, w, &x, y, workers, scratch)
	for b.Loop() {
		benchJob(set, w, &x, y, workers, scratch)
	}
	seconds := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(float64(w.Rows*w.RowBytes())/seconds/1e9, "GB/s")
	b.ReportMetric(2*float64(w.Rows)*float64(w.Cols)*float64(n)/seconds/1e9, "GFLOP/s")
	b.ReportMetric(0, "ns/op")
}

// In the caches: what the processor can do.
func BenchmarkProducts(b *testing.B) {
	for _, e := range entries {
		for _, c := range []int{2880, 4096} {
			w := benchMatrix(e.kind, 192, c)
			for _, n := range []int{1, 2, 4, 6, 8, 12, 16, 32, 64, 128} {
				for _, set := range every() {
					if set.Name == "portable" && n > 2 {
						continue
					}
					b.Run(fmt.Sprintf("%s/cols=%d/rows=%d/%s", entryName(e.kind, e.half), c, n, set.Name), func(b *testing.B) {
						benchProduct(b, &set, &w, e.half, n, 1)
					})
				}
			}
		}
	}
}
