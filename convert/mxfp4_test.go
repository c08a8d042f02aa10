package convert

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"ossify/float"
)

// decoded decodes a block to bfloat16.
func decoded(scale byte, codes []byte) []byte {
	var v [float.BlockSize]float32
	float.DecodeMXFP4(v[:], codes, []byte{scale})
	out := make([]byte, valueBytes)
	float.EncodeBF16(out, v[:])
	return out
}

// Blocks of every scale and any codes come back as the same values, signs of
// zeros included; those whose largest code is 4 or 6 as the same bytes.
func TestEncodeIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for scale := range 253 {
		for range 200 {
			codes := make([]byte, float.BlockBytes)
			top, zero := byte(r.IntN(8)), r.IntN(3)
			most := byte(0)
			for i := range codes {
				for _, shift := range []int{0, 4} {
					c := byte(r.IntN(int(top)+1)) | byte(r.IntN(2)<<3)
					if zero == 0 && r.IntN(2) == 0 {
						c &= 8
					}
					codes[i] |= c << shift
					most = max(most, c&7)
				}
			}
			src := decoded(byte(scale), codes)
			got := make([]byte, float.BlockBytes)
			s, ok := encodeBlock(got, src)
			if !ok {
				t.Fatalf("scale %d, codes %x: %s", scale, codes, whyNot(src))
			}
			if !bytes.Equal(decoded(s, got), src) {
				t.Fatalf("scale %d, codes %x became scale %d, codes %x", scale, codes, s, got)
			}
			if most >= 6 && (int(s) != scale || !bytes.Equal(got, codes)) {
				t.Fatalf("scale %d, codes %x became scale %d, codes %x, want the same", scale, codes, s, got)
			}
		}
	}
}

// A block is taken just if some scale holds it: all 255 are tried.
func TestEncodeRefusesWhatNoScaleHolds(t *testing.T) {
	holds := func(src []byte) bool {
		var v [float.BlockSize]float32
		float.DecodeBF16(v[:], src)
	scales:
		for s := range 255 {
			unit := float64(float.E8M0(byte(s)))
			for _, x := range v {
				if c := float.ToE2M1(float32(float64(x) / unit)); float64(float.E2M1(c))*unit != float64(x) {
					continue scales
				}
			}
			return true
		}
		return false
	}
	r := rand.New(rand.NewPCG(3, 4))
	taken, refused := 0, 0
	for range 20000 {
		codes := make([]byte, float.BlockBytes)
		for i := range codes {
			codes[i] = byte(r.IntN(256))
		}
		scale := byte(r.IntN(253))
		if r.IntN(2) == 0 {
			scale = byte(r.IntN(5))
		}
		src := decoded(scale, codes)
		for range r.IntN(3) {
			switch at := r.IntN(float.BlockSize); r.IntN(4) {
			case 0: // any bit
				src[2*at+r.IntN(2)] ^= 1 << r.IntN(8)
			case 1: // half or double
				var v [1]float32
				float.DecodeBF16(v[:], src[2*at:])
				v[0] *= []float32{0.5, 2, 0.25, 1.5}[r.IntN(4)]
				float.EncodeBF16(src[2*at:], v[:])
			case 2:
				float.EncodeBF16(src[2*at:], []float32{float32(math.NaN())})
			default:
				float.EncodeBF16(src[2*at:], []float32{float32(math.Inf(-1))})
			}
		}
		dst := make([]byte, float.BlockBytes)
		s, ok := encodeBlock(dst, src)
		if want := holds(src); ok != want {
			t.Fatalf("%x: taken %v, want %v", src, ok, want)
		}
		if ok {
			taken++
			if !bytes.Equal(decoded(s, dst), src) {
				t.Fatalf("%x became scale %d, codes %x", src, s, dst)
			}
			continue
		}
		refused++
		if why := whyNot(src); why == "its codes are not those of one scale" {
			t.Fatalf("%x: no reason", src)
		}
	}
	if taken < 2000 || refused < 2000 {
		t.Errorf("%d taken, %d refused: the test has lost its balance", taken, refused)
	}
}

// The encoder takes its values in portions of any size.
func TestEncoderPortions(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	const blocks = 300
	scales, codes := make([]byte, blocks), make([]byte, blocks*float.BlockBytes)
	var src []byte
	for i := range blocks {
		scales[i] = byte(1 + r.IntN(250))
		c := codes[i*float.BlockBytes : (i+1)*float.BlockBytes]
		for j := range c {
			c[j] = byte(r.IntN(256))
		}
		c[0] |= 7
		src = append(src, decoded(scales[i], c)...)
	}
	for _, most := range []int{1, 63, 64, 65, 1000, len(src)} {
		var got bytes.Buffer
		e := &encoder{w: &got, place: func(b int) string { return fmt.Sprint("block ", b) }}
		for rest := src; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(most))
			if _, err := e.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if !bytes.Equal(got.Bytes(), codes) || !bytes.Equal(e.scales, scales) || len(e.rest) > 0 {
			t.Fatalf("portions of up to %d: other bytes", most)
		}
	}
	src[64*7+2] ^= 1
	e := &encoder{w: &bytes.Buffer{}, place: func(b int) string { return fmt.Sprint("block ", b) }}
	if _, err := e.Write(src); err == nil || err.Error()[:27] != "block 7 is no MXFP4 block: " {
		t.Errorf("got %v, want block 7 named", err)
	}
}
