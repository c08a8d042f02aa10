package kernel

import (
	"encoding/binary"
	"math"

	"ossify/float"
)

func portableMatrix() matrixSet {
	return matrixWith(lanes16, packRows, portableProduct).withPacked(unpackPortable)
}

// portableProduct decodes a weight row into the layout of the activations, then
// takes each row of those.
func portableProduct(j *Job, s *Scratch, kind Kind, half bool) {
	j.check(kind, half, lanes16)
	s.panel = grow(s.panel, j.X.width())
	for r := j.Lo; r < j.Hi; r++ {
		decodeRow(s.panel, &j.W, r, lanes16)
		for i := range j.n() {
			j.Y[j.y(i)+r] = dot(s.panel, j.X.value(j.x(i)))
		}
	}
}

// decodeRow writes row r as float32 values in the given layout.
func decodeRow(dst []float32, w *Matrix, r int, l layout) {
	groups := groups(w.Cols)
	data, scales := w.data(r), w.scales(r)
	for g := range groups {
		for word := range group {
			var v float32
			if c := w.Kind.column(g, word); c < w.Cols {
				v = weight(w.Kind, data, scales, c)
			}
			dst[l.index(groups, g, word)] = v
		}
	}
}

// weight returns column c of a row.
func weight(kind Kind, data, scales []byte, c int) float32 {
	if kind == BF16 {
		return float.FromBF16(binary.LittleEndian.Uint16(data[2*c:]))
	}
	code := data[c/2] >> (4 * (c % 2)) & 15
	if code == 8 {
		code = 0 // -0
	}
	return float.E2M1(code) * float.E8M0(scales[c/float.BlockSize])
}

// dot sums two rows of layout lanes16.
func dot(w, x []float32) float32 {
	var acc [4][16]float32
	n := len(w) / 4
	for k := range acc {
		for u, v := w[k*n:][:n], x[k*n:][:n]; len(u) >= 16 && len(v) >= 16; u, v = u[16:], v[16:] {
			a, b := (*[16]float32)(u), (*[16]float32)(v)
			for i := range acc[k] {
				acc[k][i] = fma32(a[i], b[i], acc[k][i])
			}
		}
	}
	sum := &acc[0]
	for k := 1; k < 4; k++ {
		for i := range sum {
			sum[i] += acc[k][i]
		}
	}
	for n := 8; n > 0; n /= 2 {
		for i := range n {
			sum[i] += sum[i+n]
		}
	}
	return sum[0]
}

// fma32 returns a·b + c, rounded once to float32.
//
// The product is exact in float64, so only the sum is rounded before the
// conversion rounds again. That is wrong only if the first rounding ends midway
// between two float32 values.
func fma32(a, b, c float32) float32 {
	s := float64(a)*float64(b) + float64(c)
	u := math.Float64bits(s)
	const (
		extra  = 1<<29 - 1   // the bits that float32 has not
		midway = 1 << 28     // of those
		normal = 0x381 << 53 // 2^-126 without its sign; below, float32 has fewer bits
	)
	if u&extra == midway || u<<1 < normal {
		return fma32Odd(a, b, c)
	}
	return float32(s)
}

// fma32Odd is fma32 in all cases. It rounds the sum to odd: an inexact one to
// whichever neighbour has a last bit of 1, so that it keeps its side of every
// float32 midpoint (Boldo and Melquiond, Emulation of FMA and correctly rounded
// sums, 2008).
func fma32Odd(a, b, c float32) float32 {
	p, q := float64(a)*float64(b), float64(c)
	s := p + q
	// The error of the sum, exactly (Knuth's TwoSum).
	t := s - p
	e := (p - (s - t)) + (q - t)
	if e == e && e != 0 {
		if u := math.Float64bits(s); u&1 == 0 {
			if (e > 0) == (s > 0) {
				u++
			} else {
				u--
			}
			s = math.Float64frombits(u)
		}
	}
	return float32(s)
}
