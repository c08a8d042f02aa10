package float

import "math"

// An MXFP4 block is BlockSize elements sharing one E8M0 scale (MX 5.2). In
// gpt-oss checkpoints its elements lie packed in BlockBytes bytes, in order,
// the even element in the low nibble.
const (
	BlockSize  = 32
	BlockBytes = BlockSize / 2
)

// ScaleNaN is the one E8M0 code that is no number (MX 5.4.1). No checkpoint
// may hold it: every element of its block would be NaN.
const ScaleNaN = 255

// e2m1 is F4E2M1: sign, two exponent bits (bias 1), one mantissa bit, no
// infinity, no NaN (MX 5.3.3).
var e2m1 = [16]float32{
	0, 0.5, 1, 1.5, 2, 3, 4, 6,
	negZero, -0.5, -1, -1.5, -2, -3, -4, -6,
}

// negZero is -0, which Go cannot write as a constant.
var negZero = float32(math.Copysign(0, -1))

// E2M1 returns the value of the F4E2M1 code in the low four bits of c.
func E2M1(c byte) float32 { return e2m1[c&15] }

// E2M1Table returns the values of all 16 F4E2M1 codes.
func E2M1Table() [16]float32 { return e2m1 }

// ToE2M1 returns the F4E2M1 code nearest to f, ties to the even mantissa,
// values beyond 6 to ±6 (MX 6.3: the conversion of an element saturates). The
// format has no NaN: a NaN becomes 0.
func ToE2M1(f float32) byte {
	if f != f {
		return 0
	}
	var c, sign byte
	if math.Signbit(float64(f)) {
		sign, f = 8, -f
	}
	// Midpoints between neighbours; each goes to the side whose code is even.
	for i, mid := range [...]float32{0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5} {
		if f > mid || f == mid && i%2 == 1 {
			c = byte(i + 1)
		}
	}
	return sign | c
}

// E8M0 returns the value of a scale byte: 2^(b-127) (MX 5.4.1). Byte 0 is
// 2^-127, a subnormal float32 and not zero; byte 255 is NaN.
func E8M0(b byte) float32 {
	switch b {
	case 0:
		return math.Float32frombits(1 << 22) // 2^-127 = 2^22 · 2^-149
	case ScaleNaN:
		return math.Float32frombits(0x7fc00000)
	}
	return math.Float32frombits(uint32(b) << 23)
}

// DecodeMXFP4 expands whole MXFP4 blocks: scales[i] belongs to the 16 bytes at
// blocks[16·i] and to the 32 values at dst[32·i] (MX 6.1: value = scale ·
// element). The number of blocks is len(scales); blocks and dst must be long
// enough. From scale byte 253 on large elements overflow to ±Inf.
func DecodeMXFP4(dst []float32, blocks, scales []byte) {
	for i, s := range scales {
		scale := E8M0(s)
		b := blocks[BlockBytes*i : BlockBytes*(i+1)]
		d := dst[BlockSize*i : BlockSize*(i+1)]
		for j, c := range b {
			d[2*j] = scale * e2m1[c&15]
			d[2*j+1] = scale * e2m1[c>>4]
		}
	}
}
