package float

import (
	"encoding/binary"
	"math"
)

// FromF16 returns the value of IEEE 754 binary16 bits. A NaN keeps its payload.
func FromF16(b uint16) float32 {
	sign, exponent, fraction := uint32(b>>15)<<31, uint32(b>>10&31), uint32(b&1023)
	switch exponent {
	case 0: // fraction·2⁻²⁴
		v := float32(fraction) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent-15+127)<<23 | fraction<<13)
}

// ToF16 rounds to the nearest binary16, ties to even: from 65520 on to infinity.
// A NaN stays one.
func ToF16(f float32) uint16 {
	bits := math.Float32bits(f)
	sign, exponent, fraction := uint16(bits>>16&0x8000), int(bits>>23&255)-127+15, bits&(1<<23-1)
	switch {
	case exponent == 255-127+15 && fraction != 0:
		return sign | 0x7e00 | uint16(fraction>>13)
	case exponent >= 31:
		return sign | 0x7c00
	case exponent <= 0: // subnormal: units of 2⁻²⁴
		if exponent < -10 {
			return sign
		}
		return sign + nearestEven(fraction|1<<23, uint(14-exponent))
	}
	// A carry out of the fraction raises the exponent, to infinity at last.
	return sign + nearestEven(uint32(exponent)<<23|fraction, 13)
}

// nearestEven returns v / 2^shift, rounded.
func nearestEven(v uint32, shift uint) uint16 {
	half := uint32(1) << (shift - 1)
	return uint16((v + half - 1 + v>>shift&1) >> shift)
}

// DecodeF16 sets dst to the values of src, two little-endian bytes each.
func DecodeF16(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = FromF16(binary.LittleEndian.Uint16(src[2*i:]))
	}
}
