package kernel

// Products of a matrix in six bits with a row in sixteen: what a screen needs
// to find the rows of a large matrix that can have the largest products. They
// are exact integers, so every set gives the same.
//
// Integers from −32 to 31 are stored plus 32, 64 columns in 48 bytes. Column c of
// the 64 has its low four bits in byte c%32, in the lower half if c < 32, and its
// high two bits in byte 32 + c%16, at bit 2·(c/16): loops spread whole vectors by
// shifts alone. Rows are padded to whole 64 columns with the integer 0.

const (
	int6Cols  = 64 // columns of a group
	int6Bytes = 48 // bytes of a group
)

// Int6Most is the most columns of a 6-bit matrix: their products with 16-bit
// values sum within 32 bits in each of two limbs, 63·128 a column at most.
const Int6Most = 1 << 18

// int6Set are the entries of a [Set] for 6-bit matrices.
type int6Set struct {
	// Int6 sets y[r] = Σ w[r, c]·x[c] for len(y) rows of w, which lie [Int6Stride]
	// bytes apart.
	Int6 func(y []int64, w []byte, x *Int16)
}

// Int6Stride returns the bytes from one row of a 6-bit matrix to the next.
func Int6Stride(cols int) int { return (cols + int6Cols - 1) / int6Cols * int6Bytes }

// PackInt6 sets row to v, whose values are from −32 to 31. It has
// [Int6Stride](len(v)) bytes.
func PackInt6(row []byte, v []int8) {
	for ; len(v) > 0; row = row[int6Bytes:] {
		var u [int6Cols]int8
		n := copy(u[:], v)
		v = v[n:]
		low, high := row[:32], row[32:int6Bytes]
		for c := range high {
			q, r, s, t := byte(u[c]+32), byte(u[c+16]+32), byte(u[c+32]+32), byte(u[c+48]+32)
			low[c], low[c+16] = q&15|s<<4, r&15|t<<4
			high[c] = q>>4 | r>>4<<2 | s>>4<<4 | t>>4<<6
		}
	}
}

// An Int16 is a row of 16-bit values, from −32639 to 32639, packed for products
// with 6-bit matrices.
type Int16 struct {
	limbs []int8  // 256·hi + lo: all hi, then all lo, each padded with zeros
	whole []int16 // the same, padded
	sum   int64
}

// Int16Most is the largest magnitude in an [Int16].
const Int16Most = 127*256 + 127

// Pack sets x to v, whose values are at most Int16Most in magnitude.
func (x *Int16) Pack(v []int16) {
	n := (len(v) + int6Cols - 1) / int6Cols * int6Cols
	if cap(x.whole) < n {
		x.whole, x.limbs = make([]int16, n), make([]int8, 2*n)
	}
	x.whole, x.limbs, x.sum = x.whole[:n], x.limbs[:2*n], 0
	clear(x.whole)
	clear(x.limbs)
	for i, f := range v {
		lo := int8(f) // two's complement: f − lo is a multiple of 256
		x.whole[i], x.limbs[n+i], x.limbs[i] = f, lo, int8((int32(f)-int32(lo))>>8)
		x.sum += int64(f)
	}
}

// rows proves that w holds a row for each of y and returns the bytes of one. Of
// no rows, or of rows without columns, it clears y and returns 0.
func (x *Int16) rows(y []int64, w []byte) (stride int) {
	stride = Int6Stride(len(x.whole))
	if stride == 0 || len(y) == 0 {
		clear(y)
		return 0
	}
	_ = w[len(y)*stride-1]
	return stride
}

func int6Portable(y []int64, w []byte, x *Int16) {
	stride := x.rows(y, w)
	if stride == 0 {
		return
	}
	for r := range y {
		y[r] = -32 * x.sum
		for v, row := x.whole, w[r*stride:][:stride]; len(row) > 0; v, row = v[int6Cols:], row[int6Bytes:] {
			v, sum := v[:int6Cols], int32(0)
			low, high := row[:32], row[32:int6Bytes]
			for c, h := range high {
				a, b, h := int32(low[c]), int32(low[c+16]), int32(h)
				sum += int32(v[c]) * (a&15 | h&3<<4)
				sum += int32(v[c+16]) * (b&15 | h>>2&3<<4)
				sum += int32(v[c+32]) * (a>>4 | h>>4&3<<4)
				sum += int32(v[c+48]) * (b>>4 | h>>6<<4)
			}
			y[r] += int64(sum)
		}
	}
}
