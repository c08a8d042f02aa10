// Package float converts the storage formats of gpt-oss checkpoints to and
// from float32: BF16, and the two halves of MXFP4, E8M0 scales and F4E2M1
// elements.
//
// MXFP4 is defined by the OCP Microscaling Formats (MX) Specification v1.0,
// cited below as "MX". Every conversion to float32 is exact except where it
// overflows; conversions from float32 round to nearest, ties to even.
package float

import (
	"encoding/binary"
	"math"
)

// FromBF16 returns the value of a bfloat16 bit pattern: the upper half of a
// float32.
func FromBF16(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// ToBF16 rounds f to the nearest bfloat16, ties to even, and returns its bits.
// Values beyond the largest bfloat16 become infinite, as IEEE 754 rounding
// has it. A NaN stays a NaN of the same sign, made quiet.
func ToBF16(f float32) uint16 {
	u := math.Float32bits(f)
	if f != f {
		return uint16(u>>16) | 0x40 // the quiet bit; also keeps the mantissa non-zero
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

// RoundBF16 returns the bfloat16 nearest to f as a float32.
func RoundBF16(f float32) float32 { return FromBF16(ToBF16(f)) }

// DecodeBF16 reads len(dst) little-endian bfloat16 values from src, which must
// hold at least 2·len(dst) bytes.
func DecodeBF16(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = FromBF16(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// EncodeBF16 writes src to dst as little-endian bfloat16 values, rounded as
// ToBF16 rounds. dst must hold at least 2·len(src) bytes.
func EncodeBF16(dst []byte, src []float32) {
	dst = dst[:2*len(src)]
	for i, f := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], ToBF16(f))
	}
}

// BF16Bytes returns the little-endian bfloat16 values of b as float32. A
// trailing odd byte is ignored.
func BF16Bytes(b []byte) []float32 {
	f := make([]float32, len(b)/2)
	DecodeBF16(f, b)
	return f
}

// DecodeF32 reads len(dst) little-endian float32 values from src, which must
// hold at least 4·len(dst) bytes.
func DecodeF32(dst []float32, src []byte) {
	src = src[:4*len(dst)]
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

// EncodeF32 writes src to dst as little-endian float32 values. dst must hold
// at least 4·len(src) bytes.
func EncodeF32(dst []byte, src []float32) {
	dst = dst[:4*len(src)]
	for i, f := range src {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(f))
	}
}
