package float

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// ieeeValue decodes 16 bits from their fields, in float64, as IEEE 754 (3.4)
// defines them: the sign, a biased exponent, and mantissa bits (10 of binary16, 7
// of bfloat16).
func ieeeValue(b uint16, mantissa int) float64 {
	one := 1 << mantissa
	most := 1<<(15-mantissa) - 1 // the exponent of Inf and NaN
	e, m := int(b)>>mantissa&most, int(b)&(one-1)
	bias := most / 2
	var v float64
	switch {
	case e == most && m != 0:
		return math.NaN()
	case e == most:
		v = math.Inf(1)
	case e == 0:
		v = math.Ldexp(float64(m), 1-bias-mantissa)
	default:
		v = math.Ldexp(float64(one+m), e-bias-mantissa)
	}
	if b>>15 == 1 {
		v = -v
	}
	return v
}

func TestBF16AllCodes(t *testing.T) {
	for i := range 1 << 16 {
		b := uint16(i)
		got, want := FromBF16(b), ieeeValue(b, 7)
		if math.IsNaN(want) {
			if got == got {
				t.Fatalf("FromBF16(%#04x) = %v, want NaN", b, got)
			}
			back := ToBF16(got)
			if back != b|0x40 {
				t.Fatalf("ToBF16(NaN %#04x) = %#04x, want %#04x", b, back, b|0x40)
			}
			continue
		}
		if float64(got) != want || math.Signbit(float64(got)) != math.Signbit(want) {
			t.Fatalf("FromBF16(%#04x) = %v, want %v", b, got, want)
		}
		if back := ToBF16(got); back != b {
			t.Fatalf("ToBF16(FromBF16(%#04x)) = %#04x", b, back)
		}
	}
}

// Between every pair of neighbouring finite magnitudes: the midpoint goes to
// the even code, a float32 step to either side goes to the nearer one.
func TestBF16RoundsToNearestEven(t *testing.T) {
	for i := 0; i < 0x7f80; i++ {
		lo := uint16(i)
		mid := uint32(lo)<<16 | 0x8000
		even := lo + lo&1
		for _, c := range []struct {
			bits uint32
			want uint16
		}{
			{mid - 1, lo}, {mid, even}, {mid + 1, lo + 1}, {mid + 0x7fff, lo + 1}, {mid - 0x7fff, lo},
		} {
			if got := ToBF16(math.Float32frombits(c.bits)); got != c.want {
				t.Fatalf("ToBF16(bits %#08x) = %#04x, want %#04x", c.bits, got, c.want)
			}
			if got := ToBF16(math.Float32frombits(c.bits | 1<<31)); got != c.want|0x8000 {
				t.Fatalf("ToBF16(bits -%#08x) = %#04x, want %#04x", c.bits, got, c.want|0x8000)
			}
		}
	}
}

func TestBF16Edges(t *testing.T) {
	for _, c := range []struct {
		name string
		f    float32
		want uint16
	}{
		{"zero", 0, 0},
		{"minus zero", float32(math.Copysign(0, -1)), 0x8000},
		{"one", 1, 0x3f80},
		{"alpha of swiglu, 1.702 to 1.703125", 1.702, 0x3fda},
		{"largest float32 overflows", math.MaxFloat32, 0x7f80},
		{"minus largest float32 overflows", -math.MaxFloat32, 0xff80},
		{"infinity", float32(math.Inf(1)), 0x7f80},
		{"smallest float32 to zero", math.SmallestNonzeroFloat32, 0},
		{"NaN whose payload is in the low half", math.Float32frombits(0x7f800001), 0x7fc0},
	} {
		if got := ToBF16(c.f); got != c.want {
			t.Errorf("%s: ToBF16(%v) = %#04x, want %#04x", c.name, c.f, got, c.want)
		}
	}
	if got := RoundBF16(1.702); got != 1.703125 {
		t.Errorf("RoundBF16(1.702) = %v, want 1.703125", got)
	}
}

func TestSlices(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 3, 8, 65} {
		f := make([]float32, n)
		for i := range f {
			f[i] = float32(r.NormFloat64())
		}
		b16, b32 := make([]byte, 2*n+1), make([]byte, 4*n+1)
		EncodeBF16(b16, f)
		EncodeF32(b32, f)
		if b16[2*n] != 0 || b32[4*n] != 0 {
			t.Fatalf("n=%d: wrote past the end", n)
		}
		d16, d32 := BF16Bytes(b16), make([]float32, n)
		DecodeF32(d32, b32)
		if len(d16) != n {
			t.Fatalf("n=%d: BF16Bytes returned %d values", n, len(d16))
		}
		for i := range f {
			if binary.LittleEndian.Uint16(b16[2*i:]) != ToBF16(f[i]) || d16[i] != RoundBF16(f[i]) || d32[i] != f[i] {
				t.Fatalf("n=%d i=%d: %v became %v and %v", n, i, f[i], d16[i], d32[i])
			}
		}
	}
}

// MX 5.4.1, and what the parity table calls the E8M0 edges.
func TestE8M0AllCodes(t *testing.T) {
	for i := range 255 {
		if got, want := float64(E8M0(byte(i))), math.Ldexp(1, i-127); got != want {
			t.Errorf("E8M0(%d) = %v, want %v", i, got, want)
		}
	}
	if got := E8M0(255); got == got {
		t.Errorf("E8M0(255) = %v, want NaN", got)
	}
}

// e2m1Value decodes the fields of MX 5.3.3 in float64.
func e2m1Value(c int) float64 {
	e, m := c>>1&3, float64(c&1)
	v := math.Ldexp(1+m/2, e-1)
	if e == 0 {
		v = m / 2
	}
	if c&8 != 0 {
		v = math.Copysign(v, -1)
	}
	return v
}

func TestE2M1(t *testing.T) {
	for c := range 16 {
		got, want := E2M1(byte(c)), e2m1Value(c)
		if float64(got) != want || math.Signbit(float64(got)) != math.Signbit(want) {
			t.Errorf("E2M1(%d) = %v, want %v", c, got, want)
		}
		if E2M1Table()[c] != got || E2M1(byte(c|0xf0)) != got {
			t.Errorf("E2M1(%d): table or high nibble differ", c)
		}
		if back := ToE2M1(got); back != byte(c) {
			t.Errorf("ToE2M1(%v) = %d, want %d", got, back, c)
		}
	}
}

func TestToE2M1RoundsToNearestEven(t *testing.T) {
	up := float32(math.Inf(1))
	for c := range 7 { // between code c and c+1
		mid := (E2M1(byte(c)) + E2M1(byte(c+1))) / 2
		for _, x := range []struct {
			f    float32
			want int
		}{
			{math.Nextafter32(mid, 0), c}, {mid, c + c&1}, {math.Nextafter32(mid, up), c + 1},
		} {
			if got := ToE2M1(x.f); got != byte(x.want) {
				t.Errorf("ToE2M1(%v) = %d, want %d", x.f, got, x.want)
			}
			if got := ToE2M1(-x.f); got != byte(x.want|8) {
				t.Errorf("ToE2M1(%v) = %d, want %d", -x.f, got, x.want|8)
			}
		}
	}
	for _, x := range []struct {
		f    float32
		want byte
	}{{6.5, 7}, {1e30, 7}, {up, 7}, {-up, 15}, {float32(math.NaN()), 0}} {
		if got := ToE2M1(x.f); got != x.want {
			t.Errorf("ToE2M1(%v) = %d, want %d", x.f, got, x.want)
		}
	}
}

// All 16 codes under all 256 scales, in both nibbles, against float64.
func TestMXFP4AllCodesAndScales(t *testing.T) {
	blocks := make([]byte, BlockBytes)
	for i := range blocks {
		blocks[i] = byte(i | (15-i)<<4) // element 2i is code i, element 2i+1 is code 15-i
	}
	dst := make([]float32, BlockSize)
	for s := range 256 {
		DecodeMXFP4(dst, blocks, []byte{byte(s)})
		for i, got := range dst {
			c := i / 2
			if i&1 == 1 {
				c = 15 - c
			}
			exact := math.Ldexp(e2m1Value(c), s-127)
			want := float32(exact) // exact, or ±Inf beyond float32
			switch {
			case s == 255:
				if got == got {
					t.Fatalf("scale 255, code %d: %v, want NaN", c, got)
				}
			case got != want || math.Signbit(float64(got)) != math.Signbit(exact):
				t.Fatalf("scale %d, code %d: %v, want %v", s, c, got, want)
			case !math.IsInf(float64(want), 0) && float64(want) != exact:
				t.Fatalf("scale %d, code %d: float32 cannot hold %v", s, c, exact)
			case math.IsInf(float64(got), 0) != (math.Abs(exact) > math.MaxFloat32):
				t.Fatalf("scale %d, code %d: %v for %v", s, c, got, exact)
			}
		}
	}
}

func TestDecodeMXFP4Blocks(t *testing.T) {
	blocks := make([]byte, 2*BlockBytes)
	blocks[0], blocks[1], blocks[BlockBytes] = 0x52, 0xa0, 0x07
	dst := make([]float32, 2*BlockSize)
	DecodeMXFP4(dst, blocks, []byte{128, 126})
	for i, want := range map[int]float32{0: 2, 1: 6, 2: 0, 3: -2, 32: 3, 33: 0} {
		if dst[i] != want {
			t.Errorf("element %d: %v, want %v", i, dst[i], want)
		}
	}
}
