package kernel

import (
	"time"

	"golang.org/x/sys/cpu"
)

// faster returns the sets of this processor above the portable one.
func faster() (sets []Set) {
	x, s := &cpu.X86, Portable()
	if !x.HasAVX2 || !x.HasFMA {
		return nil
	}
	s.Name, s.vectorSet = "avx2", vectorAVX2(s.vectorSet)
	s.matrixSet, s.Int6, s.Read, s.Prefetch = avx2Matrix(), int6With(int6AVX2), readWith(read256), prefetch
	sets = append(sets, s)
	if x.HasBMI2 && x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL {
		s.Name, s.vectorSet = "avx512", vectorAVX512(s.vectorSet)
		s.matrixSet, s.Read = avx512Matrix(x.HasAVX512VBMI2), readWith(read512)
		if x.HasAVX512VNNI {
			s.Int6 = int6With(int6VNNI)
		}
		sets = append(sets, s)
		if x.HasAVX512BF16 {
			s.Name, s.matrixSet = "avx512bf16", avx512bf16Matrix(x.HasAVX512VBMI2)
			s.vectorSet = vectorAVX512BF16(s.vectorSet)
			sets = append(sets, s)
		}
	}
	return sets
}

// order puts the faster of the last two last where both have AVX-512 and one of
// them BF16.
func order(sets []Set) {
	n := len(sets)
	if sets[n-1].Name == "avx512bf16" && productTime(&sets[n-1]) > productTime(&sets[n-2]) {
		sets[n-1], sets[n-2] = sets[n-2], sets[n-1]
	}
}

// productTime returns the time of a small product of bfloat16 activations, the
// best of a few. VDPBF16PS has twice the throughput of a multiply-add on some
// processors (AMD Zen 4) and half of it on others (Intel Granite Rapids), for
// the same bits.
func productTime(set *Set) time.Duration {
	const rows, cols, n = 8, 1024, 12
	w := Matrix{Kind: BF16, Rows: rows, Cols: cols, Data: make([]byte, 2*rows*cols)}
	var x Activations
	var s Scratch
	set.Pack(&x, BF16, true, make([]float32, n*cols), n, cols, cols)
	j := &Job{W: w, Hi: rows, X: &x, Y: make([]float32, n*rows), Stride: rows}
	best := time.Hour
	for range 10 {
		start := time.Now()
		set.Multiply(j, &s)
		best = min(best, time.Since(start))
	}
	return best
}
