package kernel

import "math"

// The exponential is computed in float64 by multiply-adds: x = n·ln 2 + r with n whole
// and |r| ≤ ln 2/2, then a polynomial in r times 2^n. Its relative error is below
// 2^-45, so the float32 nearest to it is the correctly rounded value but for 23 of
// the 564 million between ±2^-27 and ±105.
//
// expTable has a layout: the assembly reads it.
var expTable = struct {
	low, high    float64 // beyond, float32 has 0 or +Inf
	log2e, ln2   float64
	shift        float64    // added to |v| < 2^51 it leaves v, rounded to a whole number, in the low bits
	one          float64    // the coefficient of 1 and of r
	coefficients [8]float64 // of r^2 to r^9: minimax for the relative error, 2^-45.8, by Remez's algorithm
}{
	-110, 110,
	0x1.71547652b82fep+0, 0x1.62e42fefa39efp-1,
	0x1.8p52,
	1,
	[8]float64{
		0x1.fffffffff13f5p-2, 0x1.5555555589f03p-3, 0x1.5555557deefedp-5, 0x1.1111108e2c71ap-7,
		0x1.6c163be90213fp-10, 0x1.a01b738487b3fp-13, 0x1.a16e32e2c4edep-16, 0x1.7101824654be4p-19,
	},
}

// exp64 returns e^x for x within ±110, and that of the limit beyond.
func exp64(x float64) float64 {
	e := &expTable
	x = min(max(x, e.low), e.high)
	t := math.FMA(x, e.log2e, e.shift)
	r := math.FMA(t-e.shift, -e.ln2, x)
	p := e.coefficients[7]
	for i := 6; i >= 0; i-- {
		p = math.FMA(p, r, e.coefficients[i])
	}
	p = math.FMA(p, r, e.one)
	p = math.FMA(p, r, e.one)
	// The low bits of t are n. A NaN's are 0.
	return math.Float64frombits(math.Float64bits(p) + math.Float64bits(t)<<52)
}

// Exp returns e^x rounded to float32; above 88.7 that is +Inf.
func Exp(x float32) float32 { return float32(exp64(float64(x))) }

// Sigmoid returns 1/(1 + e^-x), computed in float64 and rounded to float32.
func Sigmoid(x float32) float32 { return float32(1 / (1 + exp64(-float64(x)))) }
