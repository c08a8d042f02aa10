package kernel

import (
	"encoding/binary"
	"math/bits"
	"sync"
)

// Packed weights are bfloat16 values in some 11.2 bits each, without loss: sign
// and mantissa as they are, and a code of three bits for the exponent. Codes 0 to
// 6 stand for seven exponents, from one of the row's own downwards; code 7 is any
// other exponent, and those are listed row by row. (The weights of a row are near
// to normal: one in forty is outside of the best seven binades.)
//
// A row is units of 64 columns, padded with code 0: three words of 64 bits, the
// lowest bits of the codes, then the middle ones, then the highest; and 64 bytes,
// the mantissa above the sign, which with the exponent above them are the value
// rotated left by a bit. Bits and bytes are in an order in which interleaving
// bytes and exponents, in vectors of any width, yields columns in theirs: position
// p is column 8·(p/16) + p%8, and 32 more if p%16 is 8 or more.
//
// Products of packed weights are those of the bfloat16 values, in all bits.

// Codes is what a Packed matrix has beside its Data.
type Codes struct {
	base    []byte   // of each row, the exponent of code 0; and one more, for pointers past the last
	starts  []uint32 // of each row's in rare, and the end
	rare    []byte   // exponents that have no code, in the order of their positions in Data
	columns []uint16 // of rare
	low     []int16  // of each row, as lowOf has it
}

const (
	rareCode  = 7
	rareMost  = 8       // a matrix with more than one rare exponent in so many columns is not packed
	packedMax = 1 << 16 // columns
	vector    = 64      // bytes that may be read after the last rare one
	unitBytes = 88
)

// packedStride returns the bytes of a packed row.
func packedStride(cols int) int { return (cols + 63) / 64 * unitBytes }

// packedColumn returns the column of position p of 64.
func packedColumn(p int) int { return 8*(p/16) + p%8 + 4*(p&8) }

// PackMatrix returns w, of kind BF16, as a Packed matrix. It reports false if
// too many of its exponents would have no code: the bytes would hardly be fewer.
//
// Data comes from alloc; split calls a function on ranges that cover the rows,
// at the same time.
func PackMatrix(w Matrix, alloc func(n int) []byte, split func(n int, f func(lo, hi int))) (Matrix, bool) {
	return packMatrix(w, alloc, split, rareMost)
}

func packMatrix(w Matrix, alloc func(n int) []byte, split func(n int, f func(lo, hi int)), most int) (Matrix, bool) {
	if w.Kind != BF16 || w.Cols > packedMax || !worthPacking(&w, most) {
		return Matrix{}, false
	}
	c := &Codes{base: make([]byte, w.Rows+1), starts: make([]uint32, w.Rows+1), low: make([]int16, w.Rows)}
	p := Matrix{Kind: Packed, Rows: w.Rows, Cols: w.Cols, Data: alloc(w.Rows * packedStride(w.Cols)), Codes: c}
	type part struct {
		lo      int
		rare    []byte
		columns []uint16
	}
	var parts []part
	var mu sync.Mutex
	split(w.Rows, func(lo, hi int) {
		t := part{lo: lo}
		row := make([]uint16, (w.Cols+63)&^63)
		for r := lo; r < hi && len(t.rare) <= (hi-lo)*w.Cols/most; r++ {
			c.low[r] = lowest(w.data(r))
			c.base[r], _ = rotated(row, w.data(r))
			n := len(t.rare)
			t.rare, t.columns = packRow(p.data(r), row, c.base[r], t.rare, t.columns)
			c.starts[r+1] = uint32(len(t.rare) - n)
		}
		mu.Lock()
		defer mu.Unlock()
		parts = append(parts, t)
	})
	rare := 0
	for _, t := range parts {
		rare += len(t.rare)
	}
	if rare > w.Rows*w.Cols/most || uint64(rare) > 1<<31 {
		return Matrix{}, false
	}
	for r := range w.Rows {
		c.starts[r+1] += c.starts[r]
	}
	c.rare, c.columns = make([]byte, rare+vector), make([]uint16, rare)
	for _, t := range parts {
		copy(c.rare[c.starts[t.lo]:], t.rare)
		copy(c.columns[c.starts[t.lo]:], t.columns)
	}
	return p, true
}

// worthPacking looks at some rows of w: whether few enough of their exponents
// are rare.
func worthPacking(w *Matrix, most int) bool {
	row := make([]uint16, (w.Cols+63)&^63)
	all, rare := 0, 0
	for r := 0; r < w.Rows; r += 1 + w.Rows/256 {
		_, n := rotated(row, w.data(r))
		all, rare = all+w.Cols, rare+n
	}
	return rare <= all/most
}

// rotated writes a row's values to dst, rotated left by a bit so that the
// exponent is the upper byte. It returns the exponent whose code should be 0, a
// positive finite number's, and how many values it leaves without a code. dst is
// padded with positive values of that exponent.
func rotated(dst []uint16, row []byte) (base byte, rare int) {
	var counts [256]int32
	cols := len(row) / 2
	for i := range dst[:cols] {
		v := bits.RotateLeft16(binary.LittleEndian.Uint16(row[2*i:]), 1)
		dst[i] = v
		counts[v>>8]++
	}
	in, best := int32(0), int32(-1)
	for e := range 255 {
		in += counts[e]
		if e >= rareCode {
			in -= counts[e-rareCode]
		}
		if e >= rareCode-1 && in > best {
			base, best = byte(e), in
		}
	}
	for i := cols; i < len(dst); i++ {
		dst[i] = uint16(base) << 8
	}
	return base, cols - int(best)
}

// packRow packs a row of whole units, rotated, and appends the exponents that
// have no code, and their columns.
func packRow(dst []byte, row []uint16, base byte, rare []byte, columns []uint16) ([]byte, []uint16) {
	for u := 0; len(row) > 0; u, row, dst = u+64, row[64:], dst[unitBytes:] {
		from, to := (*[64]uint16)(row), (*[unitBytes]byte)(dst)
		var planes [3]uint64
		for p := range 64 {
			v := from[packedColumn(p)]
			to[24+p] = byte(v)
			code := base - byte(v>>8)
			if code >= rareCode {
				code, rare, columns = rareCode, append(rare, byte(v>>8)), append(columns, uint16(u+packedColumn(p)))
			}
			for k := range planes {
				planes[k] |= uint64(code>>k&1) << p
			}
		}
		for k, v := range planes {
			binary.LittleEndian.PutUint64(to[8*k:], v)
		}
	}
	return rare, columns
}

// lowest returns the lowest exponent field of a row, as lowOf has it.
func lowest(row []byte) int16 {
	least := ^uint16(0)
	for ; len(row) >= 2; row = row[2:] {
		least = min(least, binary.LittleEndian.Uint16(row)<<1-1) // zero becomes the greatest
	}
	return int16(lowOf(least))
}

// Part returns rows lo to hi of m, in place.
func (m *Matrix) Part(lo, hi int) Matrix {
	p := *m
	p.Rows, p.Data = hi-lo, m.Data[lo*m.dataStride():hi*m.dataStride()]
	switch m.Kind {
	case MXFP4:
		p.Scales = m.Scales[lo*m.scaleStride() : hi*m.scaleStride()]
	case Packed:
		p.first += lo
	}
	return p
}

// Bytes returns the memory that a product with all of m reads.
func (m *Matrix) Bytes() int64 {
	n := int64(m.Rows) * int64(m.RowBytes())
	if m.Codes != nil {
		n += int64(len(m.Codes.rare))
	}
	return n
}

// rareOf returns the exponents without a code from row r on.
func (m *Matrix) rareOf(r int) []byte { return m.Codes.rare[m.Codes.starts[m.first+r]:] }

// An unpacker writes rows of m as bfloat16 ones to dst, without a gap, and up to
// 63 columns after them.
type unpacker func(dst []byte, m *Matrix, lo, hi int)

// unpackWith is what an unpacker does if loop, which is one but for the values
// whose exponents have no code, does most of it.
func unpackWith(loop func(dst, data, base *byte, rows, n int)) unpacker {
	return func(dst []byte, m *Matrix, lo, hi int) {
		loop(&dst[0], &m.data(lo)[0], &m.Codes.base[m.first+lo], hi-lo, m.Cols)
		starts := m.Codes.starts[m.first+lo:][:hi-lo+1]
		for r := range hi - lo {
			row := dst[2*r*m.Cols:][:2*m.Cols]
			rare := m.Codes.rare[starts[r]:starts[r+1]]
			for i, k := range m.Codes.columns[starts[r]:starts[r+1]][:len(rare)] {
				setExponent(row, int(k), rare[i])
			}
		}
	}
}

// setExponent sets the exponent of the bfloat16 of column k.
func setExponent(row []byte, k int, exponent byte) {
	at := (*[2]byte)(row[2*k:])
	at[0], at[1] = at[0]&0x7f|exponent<<7, at[1]&0x80|exponent>>1
}

// planeOf returns bit k of the codes of a unit.
func planeOf(unit *[unitBytes]byte, k int) uint64 { return binary.LittleEndian.Uint64(unit[8*k:]) }

// value returns the bfloat16 of an exponent, and a mantissa above a sign.
func value(exponent, rest byte) uint16 {
	return bits.RotateLeft16(uint16(exponent)<<8|uint16(rest), -1)
}

func unpackPortable(dst []byte, m *Matrix, lo, hi int) {
	rare := m.rareOf(lo)
	for r := lo; r < hi; r++ {
		row, from, base := dst[2*(r-lo)*m.Cols:], m.data(r), m.Codes.base[m.first+r]
		for ; len(from) > 0; from, row = from[unitBytes:], row[128:] {
			unit, to := (*[unitBytes]byte)(from), (*[128]byte)(row)
			a, b, c := planeOf(unit, 0), planeOf(unit, 1), planeOf(unit, 2)
			for p := range 64 {
				code := byte(a>>p&1 | b>>p&1<<1 | c>>p&1<<2)
				exponent := base - code
				if code == rareCode {
					exponent, rare = rare[0], rare[1:]
				}
				binary.LittleEndian.PutUint16(to[2*packedColumn(p):], value(exponent, unit[24+p]))
			}
		}
	}
}

// unpackRows is how many rows are unpacked at a time to be multiplied with one:
// they stay in the first cache.
const unpackRows = 4

// packedProduct multiplies packed weights: unpacked, they are multiplied as
// bfloat16 ones.
func packedProduct(unpack unpacker, product func(j *Job, s *Scratch)) func(j *Job, s *Scratch) {
	return func(j *Job, s *Scratch) {
		j.check(Packed, j.X.half, j.X.layout)
		n := j.Hi - j.Lo
		if j.n() == 1 {
			n = unpackRows
		}
		s.bytes = grow(s.bytes, 2*min(n, j.Hi-j.Lo)*j.W.Cols+128)
		for lo := j.Lo; lo < j.Hi; lo += n {
			hi := min(lo+n, j.Hi)
			unpack(s.bytes, &j.W, lo, hi)
			s.unpacked = *j
			u := &s.unpacked
			u.W = Matrix{Kind: BF16, Rows: hi - lo, Cols: j.W.Cols, Data: s.bytes[:2*(hi-lo)*j.W.Cols]}
			u.Lo, u.Hi, u.Y = 0, hi-lo, j.Y[lo:]
			product(u, s)
		}
	}
}

// withPacked completes a set that multiplies bfloat16 weights.
func (m matrixSet) withPacked(unpack unpacker) matrixSet {
	m.PackedxBF16, m.PackedxF32 = packedProduct(unpack, m.BF16xBF16), packedProduct(unpack, m.BF16xF32)
	return m
}
