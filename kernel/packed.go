package kernel

import (
	"encoding/binary"
	"sync"
)

// Packed weights are bfloat16 values in 12 bits each, without loss: the lower
// byte, which is the mantissa and the exponent's last bit, as it is, and a code
// of four bits for the upper one, the sign and the rest of the exponent. A
// matrix has 15 upper bytes that codes 0 to 14 stand for. Code 15 is any other:
// those, rare in a trained matrix, are listed row by row. (The weights of a
// matrix are near to normal, and 15 upper bytes are 14 binades of either sign:
// two weights in ten thousand have none.)
//
// A row is chunks of 128 columns, 64 bytes of codes then 128 lower bytes, and in
// the end perhaps a half, 32 bytes of codes then 64 lower bytes. Codes and lower
// bytes of 64 columns are in an order in which interleaving both, in vectors of
// any width, yields columns in theirs: byte p is column 8·(p/16) + p%8, and 32
// more if p%16 is 8 or more. Byte i of a chunk's codes has those of byte i of
// both 64 columns, of the first in its lower half; of half a chunk, those of
// bytes i and i+32.
//
// Products of packed weights are those of the bfloat16 values, in all bits.

// Codes is what a Packed matrix has beside its Data.
type Codes struct {
	upper   [16]byte // of codes 0 to 14
	starts  []uint32 // of each row's in rare, and the end
	rare    []byte   // upper bytes that have no code, in the order of their bytes in Data
	columns []uint16 // of rare
	low     []int16  // of each row, as lowOf has it
}

const (
	rareCode  = 15
	rareMost  = 32      // a matrix with more than one rare byte in so many columns is not packed
	packedMax = 1 << 16 // columns
	vector    = 64      // bytes that may be read after the last rare one
)

// packedStride returns the bytes of a packed row.
func packedStride(cols int) int { return (cols + 63) / 64 * 96 }

// packedColumn returns the column of byte p of 64.
func packedColumn(p int) int { return 8*(p/16) + p%8 + 4*(p&8) }

// PackMatrix returns w, of kind BF16, as a Packed matrix. It reports false if
// too many of its values would have no code: the bytes would hardly be fewer.
//
// Data comes from alloc; split calls a function on ranges that cover the rows,
// at the same time.
func PackMatrix(w Matrix, alloc func(n int) []byte, split func(n int, f func(lo, hi int))) (Matrix, bool) {
	return packMatrix(w, alloc, split, rareMost)
}

func packMatrix(w Matrix, alloc func(n int) []byte, split func(n int, f func(lo, hi int)), most int) (Matrix, bool) {
	if w.Kind != BF16 || w.Cols > packedMax {
		return Matrix{}, false
	}
	c := &Codes{starts: make([]uint32, w.Rows+1), low: make([]int16, w.Rows)}
	codes, ok := c.choose(&w, most)
	if !ok {
		return Matrix{}, false
	}
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
		row := make([]byte, packedStride(w.Cols)/96*128)
		for i := 2 * w.Cols; i < len(row); i += 2 {
			row[i+1] = c.upper[0] // padding: a positive number, for activations of zero
		}
		for r := lo; r < hi && len(t.rare) <= (hi-lo)*w.Cols/most; r++ {
			from := w.data(r)
			c.low[r] = lowest(from)
			copy(row, from)
			n := len(t.rare)
			t.rare, t.columns = packRow(p.data(r), row, &codes, t.rare, t.columns)
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

// choose takes the 15 most frequent upper bytes of some rows, the first of them
// of a positive number, and returns each byte's code. It reports false if that
// would not do for those rows.
func (c *Codes) choose(w *Matrix, most int) (codes [256]byte, ok bool) {
	var counts [256]int
	all := 0
	for r := 0; r < w.Rows; r += 1 + w.Rows/4096 {
		row := w.data(r)
		for i := 1; i < len(row); i += 2 {
			counts[row[i]]++
		}
		all += w.Cols
	}
	for i := range codes {
		codes[i] = rareCode
	}
	best := func(below int) byte {
		b := -1
		for v := range below {
			if codes[v] == rareCode && (b < 0 || counts[v] > counts[b]) {
				b = v
			}
		}
		return byte(b)
	}
	coded := 0
	for k := range rareCode {
		b := best(256)
		if k == 0 {
			b = best(0x7f) // positive and finite
		}
		c.upper[k], codes[b] = b, byte(k)
		coded += counts[b]
	}
	return codes, all-coded <= all/most
}

// packRow packs a row of whole 64 columns, and appends what has no code.
func packRow(dst, row []byte, codes *[256]byte, rare []byte, columns []uint16) ([]byte, []uint16) {
	var c [2][64]byte
	for col := 0; len(row) > 0; {
		units := min(2, len(row)/128)
		for u := range units {
			from, lower := (*[128]byte)(row), (*[64]byte)(dst[32*units+64*u:])
			seen := byte(0)
			for p := range lower {
				k := packedColumn(p)
				lower[p] = from[2*k]
				v := codes[from[2*k+1]]
				c[u][p] = v
				seen = max(seen, v)
			}
			if seen == rareCode {
				for p, v := range c[u] {
					if v == rareCode {
						k := packedColumn(p)
						rare, columns = append(rare, from[2*k+1]), append(columns, uint16(col+k))
					}
				}
			}
			row = row[128:]
			col += 64
		}
		if units == 2 {
			for p := range 64 {
				dst[p] = c[0][p] | c[1][p]<<4
			}
		} else {
			for p := range 32 {
				dst[p] = c[0][p] | c[0][p+32]<<4
			}
		}
		dst = dst[96*units:]
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

// rareOf returns the upper bytes without a code in rows lo to hi, and where
// each row's begin.
func (m *Matrix) rareOf(lo, hi int) (rare []byte, columns []uint16, starts []uint32) {
	c := m.Codes
	starts = c.starts[m.first+lo : m.first+hi+1]
	return c.rare[starts[0]:starts[hi-lo]], c.columns[starts[0]:starts[hi-lo]], starts
}

// An unpacker writes rows of m as bfloat16 ones to dst, without a gap, and up to
// 63 columns after them.
type unpacker func(dst []byte, m *Matrix, lo, hi int)

// unpackWith is what an unpacker does if loop, which is one but for the bytes
// that have no code, does most of it.
func unpackWith(loop func(dst []byte, m *Matrix, lo, hi int)) unpacker {
	return func(dst []byte, m *Matrix, lo, hi int) {
		loop(dst, m, lo, hi)
		rare, columns, starts := m.rareOf(lo, hi)
		if len(rare) == 0 {
			return
		}
		for r := range hi - lo {
			row := dst[2*r*m.Cols:][:2*m.Cols]
			for i := starts[r] - starts[0]; i < starts[r+1]-starts[0]; i++ {
				row[2*int(columns[i])+1] = rare[i]
			}
		}
	}
}

func unpackPortable(dst []byte, m *Matrix, lo, hi int) {
	upper := &m.Codes.upper
	for r := lo; r < hi; r++ {
		row, from := dst[2*(r-lo)*m.Cols:], m.data(r)
		for ; len(from) >= 192; from, row = from[192:], row[256:] {
			f, d := (*[192]byte)(from), (*[256]byte)(row)
			for p := range 64 {
				k := packedColumn(p)
				d[2*k], d[2*k+1] = f[64+p], upper[f[p]&15]
				d[128+2*k], d[128+2*k+1] = f[128+p], upper[f[p]>>4]
			}
		}
		if len(from) > 0 {
			f, d := (*[96]byte)(from), (*[128]byte)(row)
			for p := range 64 {
				k := packedColumn(p)
				d[2*k], d[2*k+1] = f[32+p], upper[f[p%32]>>(p/32*4)&15]
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
