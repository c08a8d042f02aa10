package convert

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"ossify/float"
)

// valueBytes is the size of a block's values in bfloat16.
const valueBytes = 2 * float.BlockSize

// encodeBlock writes 32 bfloat16 values as an MXFP4 block, without loss: codes
// to dst, and returns the scale. It reports false if no scale holds them all.
//
// Several scales may hold a block. The one chosen is the least: the largest
// value gets code 4 or 6, as in a block that was quantised with all its codes
// in use. It is floor(log2 of the largest) - 2, and 0 in a block of zeros.
func encodeBlock(dst, src []byte) (scale byte, ok bool) {
	most := uint16(0)
	for i := range float.BlockSize {
		most = max(most, binary.LittleEndian.Uint16(src[2*i:])&0x7fff)
	}
	exponent := int(most >> 7) // of the largest, biased by 127
	switch {
	case most == 0 || exponent < 4:
		return encodeSmall(dst, src, exponent)
	case exponent == 255: // infinite, or NaN
		return 0, false
	}
	scale = byte(exponent - 2)
	// Normal values with one bit of mantissa are evenly numbered from code 2 on,
	// which is the scale itself: half is the number of 1.0·scale.
	half := 2 * int(scale)
	for i := 0; i < float.BlockSize; i += 2 {
		lo, okLo := code(binary.LittleEndian.Uint16(src[2*i:]), half)
		hi, okHi := code(binary.LittleEndian.Uint16(src[2*i+2:]), half)
		if !okLo || !okHi {
			return 0, false
		}
		dst[i/2] = lo | hi<<4
	}
	return scale, true
}

// code returns the E2M1 code of a bfloat16 value in a block in which half·2^6 is
// the value of code 2, and no value exceeds code 7.
func code(v uint16, half int) (c byte, ok bool) {
	sign := byte(v >> 15 << 3)
	if v &= 0x7fff; v == 0 {
		return sign, true
	}
	n := int(v>>6) - half + 2
	switch {
	case v&0x3f != 0 || n < 0 || n == 1: // 1 would be three quarters of the scale
		return 0, false
	case n == 0:
		n = 1 // half of it
	}
	return sign | byte(n), true
}

// encodeSmall is encodeBlock where subnormal numbers may be, or nothing but
// zeros.
func encodeSmall(dst, src []byte, exponent int) (scale byte, ok bool) {
	scale = byte(max(0, exponent-2))
	unit := float64(float.E8M0(scale))
	for i := range float.BlockSize {
		v := float64(float.FromBF16(binary.LittleEndian.Uint16(src[2*i:])))
		c := float.ToE2M1(float32(v / unit)) // exact: a power of two, and no more than 6
		if float64(float.E2M1(c))*unit != v {
			return 0, false
		}
		if i%2 == 0 {
			dst[i/2] = c
		} else {
			dst[i/2] |= c << 4
		}
	}
	return scale, true
}

// whyNot says what keeps 32 values from being an MXFP4 block.
func whyNot(src []byte) string {
	var v [float.BlockSize]float32
	float.DecodeBF16(v[:], src)
	most := 0.0
	for i, x := range v {
		if a := math.Abs(float64(x)); !(a <= math.MaxFloat32) {
			return fmt.Sprintf("element %d of it is %v", i, x)
		} else if a > most {
			most = a
		}
	}
	// What the least scale cannot hold, no larger one can: a larger one has
	// larger steps.
	unit := math.Ldexp(1, max(-127, math.Ilogb(most)-2))
	for i, x := range v {
		if c := float.ToE2M1(float32(float64(x) / unit)); float64(float.E2M1(c))*unit != float64(x) {
			return fmt.Sprintf("element %d of it is %v, whose largest is %v: at the scale %v it would be %v", i, x, most, unit, float64(float.E2M1(c))*unit)
		}
	}
	return "its codes are not those of one scale"
}

// An encoder writes rows of bfloat16 values as blocks to w, and keeps their
// scales.
type encoder struct {
	w      io.Writer
	place  func(block int) string // for messages
	scales []byte
	blocks []byte // to be written
	rest   []byte // less than a block's values
}

func (e *encoder) Write(p []byte) (int, error) {
	n := len(p)
	if len(e.rest) > 0 {
		take := min(len(p), valueBytes-len(e.rest))
		e.rest, p = append(e.rest, p[:take]...), p[take:]
		if len(e.rest) < valueBytes {
			return n, nil
		}
		if err := e.encode(e.rest); err != nil {
			return 0, err
		}
		e.rest = e.rest[:0]
	}
	whole := len(p) / valueBytes * valueBytes
	if err := e.encode(p[:whole]); err != nil {
		return 0, err
	}
	e.rest = append(e.rest, p[whole:]...)
	return n, nil
}

// encode writes whole blocks.
func (e *encoder) encode(values []byte) error {
	n := len(values) / valueBytes
	if cap(e.blocks) < n*float.BlockBytes {
		e.blocks = make([]byte, n*float.BlockBytes)
	}
	blocks := e.blocks[:n*float.BlockBytes]
	for i := range n {
		src := values[i*valueBytes : (i+1)*valueBytes]
		scale, ok := encodeBlock(blocks[i*float.BlockBytes:(i+1)*float.BlockBytes], src)
		if !ok {
			return fmt.Errorf("%s is no MXFP4 block: %s", e.place(len(e.scales)), whyNot(src))
		}
		e.scales = append(e.scales, scale)
	}
	_, err := e.w.Write(blocks)
	return err
}

// A decoder reads the values of MXFP4 blocks, as bfloat16.
type decoder struct {
	blocks, scales io.ReadCloser
	place          func(block int) string
	block          int // the next
	buf            []byte
	out            []byte // of buf, still to be read
}

const decodeBlocks = 1 << 13 // at a time

func (d *decoder) Read(p []byte) (int, error) { return read(p, &d.out, d.fill) }

func (d *decoder) fill() error {
	var scales [decodeBlocks]byte
	n, err := io.ReadFull(d.scales, scales[:])
	if err == io.EOF {
		// Both end here, or one is too long.
		if _, err := io.ReadFull(d.blocks, scales[:1]); err != io.EOF {
			return fmt.Errorf("%s: blocks beyond the last scale", d.place(d.block))
		}
		return io.EOF
	} else if err != nil && err != io.ErrUnexpectedEOF {
		return err
	}
	blocks := make([]byte, n*float.BlockBytes)
	if _, err := io.ReadFull(d.blocks, blocks); err != nil {
		return short(err)
	}
	values := make([]float32, n*float.BlockSize)
	float.DecodeMXFP4(values, blocks, scales[:n])
	if cap(d.buf) < 2*len(values) {
		d.buf = make([]byte, 2*decodeBlocks*float.BlockSize)
	}
	d.out = d.buf[:2*len(values)]
	float.EncodeBF16(d.out, values)
	for i, v := range values {
		// All others are exact: of 2 bits, at least 2^-128, and bfloat16 goes down
		// to 2^-133.
		if !(math.Abs(float64(v)) <= math.MaxFloat32) {
			return fmt.Errorf("%s has scale %d, at which element %d of it is %v, want a number", d.place(d.block+i/float.BlockSize), scales[i/float.BlockSize], i%float.BlockSize, v)
		}
	}
	d.block += n
	return nil
}

func (d *decoder) Close() error {
	d.blocks.Close()
	return d.scales.Close()
}
