package engine

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// sincos is within two units in the last place of float64, and so nearly always
// the float32 next to the true value.
func TestSincos(t *testing.T) {
	src := rand.New(rand.NewPCG(1, 1))
	differ, n := 0, 300_000
	for i := range n {
		x := float64(float32(src.Float64() * math.Ldexp(1, src.IntN(31)-10)))
		if i%2 == 1 {
			x = -x
		}
		s, c := sincos(x)
		ms, mc := math.Sincos(x)
		if !(math.Abs(s-ms) <= 4e-16) || !(math.Abs(c-mc) <= 4e-16) {
			t.Fatalf("sincos(%g) = %g, %g, want %g, %g", x, s, c, ms, mc)
		}
		if float32(s) != float32(ms) || float32(c) != float32(mc) {
			differ++
		}
	}
	if differ > n/100_000+2 {
		t.Errorf("%d of %d differ as float32", differ, n)
	}
	if s, c := sincos(0); s != 0 || c != 1 {
		t.Errorf("sincos(0) = %g, %g", s, c)
	}
}

// The parts of π/2 are it, to 2^-160.
func TestHalfPi(t *testing.T) {
	sum := new(big.Float).SetPrec(400)
	for _, part := range []float64{0x1.921fb54442d18p+0, 0x1.1a62633145c07p-54, -0x1.f1976b7ed8fbcp-110} {
		sum.Add(sum, new(big.Float).SetFloat64(part))
	}
	// 50 digits of π (OEIS A000796).
	pi, _, err := big.ParseFloat("3.14159265358979323846264338327950288419716939937510582097494459", 10, 400, big.ToNearestEven)
	if err != nil {
		t.Fatal(err)
	}
	d, _ := new(big.Float).Sub(sum, pi.Quo(pi, big.NewFloat(2))).Float64()
	if !(math.Abs(d) <= 0x1p-160) {
		t.Errorf("off by %g", d)
	}
}
