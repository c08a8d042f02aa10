package kernel

import (
	"golang.org/x/sys/cpu"

	"ossify/float"
)

// faster returns the sets of this processor above the portable one. Both sum
// in 64 lanes that are then added pairwise, so they agree to the bit.
func faster() (sets []Set) {
	s := Portable()
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		s.Name, s.AddScaled = "avx2", addScaledWith(addScaledAVX2)
		s.Dot = dotWith(dotAVX2)
		s = s.matrices(rows{decodeBF16: bf16With(bf16AVX2), decodeMXFP4: mxfp4With(mxfp4AVX2)})
		sets = append(sets, s)
	}
	if len(sets) > 0 && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL {
		s.Name, s.AddScaled = "avx512", addScaledWith(addScaledAVX512)
		s.Dot = dotWith(dotAVX512)
		s = s.matrices(rows{decodeBF16: bf16With(bf16AVX512), decodeMXFP4: mxfp4With(mxfp4AVX512), dot4: dot4AVX512With})
		sets = append(sets, s)
	}
	return sets
}

// The loops of kernel_amd64.s take whole steps only; the rest is done here.

const (
	dotStep   = 64
	axpyStep  = 16
	bf16Step  = 16
	mxfp4Step = float.BlockSize
)

func dotWith(loop func(x, y *float32, n int) float32) func(x, y []float32) float32 {
	return func(x, y []float32) float32 {
		y = y[:len(x)]
		var sum float32
		n := len(x) &^ (dotStep - 1)
		if n > 0 {
			sum = loop(&x[0], &y[0], n)
		}
		if n < len(x) {
			sum += dot(x[n:], y[n:])
		}
		return sum
	}
}

func dot4AVX512With(w []float32, x *[4][]float32) [4]float32 {
	var sum [4]float32
	n := len(w) &^ (dotStep - 1)
	if n > 0 {
		_, _, _, _ = x[0][n-1], x[1][n-1], x[2][n-1], x[3][n-1]
		dot4AVX512(&w[0], &x[0][0], &x[1][0], &x[2][0], &x[3][0], n, &sum)
	}
	if n < len(w) {
		for i := range sum {
			sum[i] += dot(w[n:], x[i][n:len(w)])
		}
	}
	return sum
}

func addScaledWith(loop func(y *float32, a float32, x *float32, n int)) func(y []float32, a float32, x []float32) {
	return func(y []float32, a float32, x []float32) {
		y = y[:len(x)]
		n := len(x) &^ (axpyStep - 1)
		if n > 0 {
			loop(&y[0], a, &x[0], n)
		}
		addScaled(y[n:], a, x[n:])
	}
}

func bf16With(loop func(dst *float32, src *byte, n int)) func(dst []float32, src []byte) {
	return func(dst []float32, src []byte) {
		src = src[:2*len(dst)]
		n := len(dst) &^ (bf16Step - 1)
		if n > 0 {
			loop(&dst[0], &src[0], n)
		}
		float.DecodeBF16(dst[n:], src[2*n:])
	}
}

func mxfp4With(loop func(dst *float32, blocks, scales *byte, n int)) func(dst []float32, blocks, scales []byte) {
	return func(dst []float32, blocks, scales []byte) {
		n := len(scales)
		if n > 0 {
			_, _ = dst[n*mxfp4Step-1], blocks[n*float.BlockBytes-1]
			loop(&dst[0], &blocks[0], &scales[0], n)
		}
	}
}

// n is a positive multiple of 64.
//
//go:noescape
func dotAVX2(x, y *float32, n int) float32

//go:noescape
func dotAVX512(x, y *float32, n int) float32

//go:noescape
func dot4AVX512(w, x0, x1, x2, x3 *float32, n int, sum *[4]float32)

// n is a positive multiple of 16.
//
//go:noescape
func addScaledAVX2(y *float32, a float32, x *float32, n int)

//go:noescape
func addScaledAVX512(y *float32, a float32, x *float32, n int)

// n is a positive multiple of 16.
//
//go:noescape
func bf16AVX2(dst *float32, src *byte, n int)

//go:noescape
func bf16AVX512(dst *float32, src *byte, n int)

// n is the number of blocks, at least 1.
//
//go:noescape
func mxfp4AVX2(dst *float32, blocks, scales *byte, n int)

//go:noescape
func mxfp4AVX512(dst *float32, blocks, scales *byte, n int)
