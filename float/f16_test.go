package float

import (
	"math"
	"testing"
)

func TestF16AllCodes(t *testing.T) {
	for i := range 1 << 16 {
		b := uint16(i)
		v, want := FromF16(b), ieeeValue(b, 10)
		if math.IsNaN(want) {
			if v == v || ToF16(v)&0x7c00 != 0x7c00 || ToF16(v)&1023 == 0 {
				t.Fatalf("%#04x is %g and goes back as %#04x, want a NaN", b, v, ToF16(v))
			}
			continue
		}
		if float64(v) != want || math.Signbit(float64(v)) != math.Signbit(want) || ToF16(v) != b {
			t.Fatalf("%#04x is %g and goes back as %#04x, want %g", b, v, ToF16(v), want)
		}
	}
}

// Between two neighbours a value goes to the nearer one, in the middle to the
// even one.
func TestF16RoundsToNearestEven(t *testing.T) {
	for i := range 0x7bff {
		b := uint16(i)
		low, high := FromF16(b), FromF16(b+1)
		middle := low + (high-low)/2 // exact
		even := b + b&1
		for _, sign := range []float32{1, -1} {
			for _, tt := range []struct {
				v    float32
				want uint16
			}{
				{middle, even},
				{math.Nextafter32(middle, 0), b},
				{math.Nextafter32(middle, 1e9), b + 1},
			} {
				want := tt.want
				if sign < 0 {
					want |= 0x8000
				}
				if got := ToF16(sign * tt.v); got != want {
					t.Fatalf("%g becomes %#04x, want %#04x", sign*tt.v, got, want)
				}
			}
		}
	}
	for _, tt := range []struct {
		v    float32
		want uint16
	}{
		{65519.996, 0x7bff}, {65520, 0x7c00}, {float32(math.Inf(-1)), 0xfc00}, {math.MaxFloat32, 0x7c00},
		{math.SmallestNonzeroFloat32, 0}, {float32(math.Ldexp(1, -25)), 0}, {-float32(math.Ldexp(1, -25)), 0x8000}, {float32(math.Ldexp(1.5, -25)), 1},
	} {
		if got := ToF16(tt.v); got != tt.want {
			t.Errorf("%g becomes %#04x, want %#04x", tt.v, got, tt.want)
		}
	}
}

func TestDecodeF16(t *testing.T) {
	dst := make([]float32, 2)
	if DecodeF16(dst, []byte{0, 0x3c, 1, 0x80, 9}); dst[0] != 1 || dst[1] != -float32(math.Ldexp(1, -24)) {
		t.Errorf("got %v", dst)
	}
}
