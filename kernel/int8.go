package kernel

// Products of a matrix in eight bits with a row in sixteen: what a screen needs
// to find the rows of a large matrix that can have the largest products. They
// are exact integers, so every set gives the same.

// int8Pad is the multiple to which rows are padded, in bytes.
const int8Pad = 64

// Int8Most is the most columns of an 8-bit matrix: their products with 16-bit
// values sum within 32 bits, in each of two limbs.
const Int8Most = 1 << 15

// int8Set are the entries of a [Set] for 8-bit matrices.
type int8Set struct {
	// Int8 sets y[r] = Σ (w[r, c] − 128)·x[c] for len(y) rows of w, which lie
	// [Int8Stride] bytes apart.
	Int8 func(y []int64, w []byte, x *Int16)
}

// Int8Stride returns the bytes from one row of an 8-bit matrix to the next.
func Int8Stride(cols int) int { return (cols + int8Pad - 1) &^ (int8Pad - 1) }

// An Int16 is a row of 16-bit values, from −32639 to 32639, packed for products
// with 8-bit matrices.
type Int16 struct {
	limbs []int8  // 256·hi + lo: all hi, then all lo, each padded with zeros
	whole []int16 // the same, padded
	sum   int64
}

// Int16Most is the largest magnitude in an [Int16].
const Int16Most = 127*256 + 127

// Pack sets x to v, whose values are at most Int16Most in magnitude.
func (x *Int16) Pack(v []int16) {
	stride := Int8Stride(len(v))
	if cap(x.whole) < stride {
		x.whole, x.limbs = make([]int16, stride), make([]int8, 2*stride)
	}
	x.whole, x.limbs, x.sum = x.whole[:stride], x.limbs[:2*stride], 0
	clear(x.whole)
	clear(x.limbs)
	for i, f := range v {
		lo := int8(f) // two's complement: f − lo is a multiple of 256
		x.whole[i], x.limbs[stride+i], x.limbs[i] = f, lo, int8((int32(f)-int32(lo))>>8)
		x.sum += int64(f)
	}
}

// rows proves that w holds a row for each of y and returns the bytes of one. Of
// no rows, or of rows without columns, it clears y and returns 0.
func (x *Int16) rows(y []int64, w []byte) (stride int) {
	stride = len(x.whole)
	if stride == 0 || len(y) == 0 {
		clear(y)
		return 0
	}
	_ = w[len(y)*stride-1]
	return stride
}

func int8Portable(y []int64, w []byte, x *Int16) {
	stride := len(x.whole)
	for r := range y {
		row, sum := w[r*stride:][:stride], int64(0)
		for c, f := range x.whole {
			sum += int64(int32(f) * (int32(row[c]) - 128))
		}
		y[r] = sum
	}
}
