// Package screen finds the rows of a large bfloat16 matrix that can have the
// largest products with a vector, from a copy in half the bytes.
//
// For each row w it keeps 8-bit integers q and a scale s, so that w = s·q + e,
// and the norms of w and e. A vector x becomes 16-bit integers: x = t·p + d.
// Then
//
//	w·x = s·t·(q·p) + s·q·d + e·x
//
// where q·p is an exact integer, and by Cauchy and Schwarz the rest is at most
// (|w|+|e|)·|d| + |e|·|x|. A row whose upper bound is below the k-th largest of
// all lower bounds is not among the k largest. The others are computed again,
// as always: nothing that leaves the engine comes from the copy.
package screen

import (
	"context"
	"math"
	"slices"
	"sync"

	"ossify/float"
	"ossify/kernel"
)

// A Screen is the copy of a matrix. It does not change, and is safe for use by
// several goroutines.
type Screen struct {
	rows, cols, stride int
	q                  []byte // [rows, stride], 128 more than the integers
	bounds             []bound
	ranges             sync.Pool // of *[2][]float64: what Find's products can be
}

// A bound is what is known of a row beside its integers.
type bound struct {
	scale float32
	err   float32 // |e|, or more
	norm  float32 // |w|+|e|, or more
}

// A Split calls f on ranges that cover 0 to n, at the same time, and waits.
type Split func(n int, f func(lo, hi int))

// Bytes returns the memory that the screen of a matrix takes.
func Bytes(rows, cols int) int64 {
	return int64(rows) * (int64(kernel.Int8Stride(cols)) + 12)
}

// New copies w, which is of bfloat16, to memory from alloc.
func New(ctx context.Context, w kernel.Matrix, alloc func(n int) []byte, split Split) (*Screen, error) {
	s := &Screen{rows: w.Rows, cols: w.Cols, stride: kernel.Int8Stride(w.Cols)}
	s.q = alloc(s.rows * s.stride)
	s.bounds = make([]bound, s.rows)
	split(s.rows, func(lo, hi int) {
		row := make([]float32, s.cols)
		for r := lo; r < hi && ctx.Err() == nil; r++ {
			float.DecodeBF16(row, w.Data[2*r*s.cols:])
			s.bounds[r] = quantise(s.q[r*s.stride:][:s.stride], row)
		}
	})
	return s, ctx.Err()
}

// quantise sets q to w in integers from −127 to 127, plus 128.
func quantise(q []byte, w []float32) bound {
	for i := range q {
		q[i] = 128
	}
	most := float32(0)
	for _, v := range w {
		a := math.Float32frombits(math.Float32bits(v) &^ (1 << 31))
		if !(a <= math.MaxFloat32) {
			return bound{0, float32(math.Inf(1)), float32(math.Inf(1))} // always a candidate
		}
		most = max(most, a)
	}
	if most == 0 {
		return bound{}
	}
	b := bound{scale: most / 127}
	if b.scale < 0x1p-120 { // nearly subnormal: the integers would not be right
		b.scale = 0
	}
	var errs, norm float64
	inverse := 0.0
	if b.scale > 0 {
		inverse = 1 / float64(b.scale)
	}
	const toEven = 3 << 51 // added and taken away, it rounds to an integer
	for i, v := range w {
		n := min(max(float64(v)*inverse+toEven-toEven, -127), 127)
		q[i] = byte(int(n) + 128)
		e := float64(v) - float64(b.scale)*n // exact: 24 and 31 bits, of nearly the same size
		errs += e * e
		norm += float64(v) * float64(v)
	}
	b.err = up(math.Sqrt(errs))
	b.norm = up(math.Sqrt(norm) + float64(b.err))
	return b
}

// up returns a float32 no smaller than v is, for all that summing squares in
// float64 has rounded away.
func up(v float64) float32 {
	return math.Nextafter32(float32(v*(1+1e-9)), float32(math.Inf(1)))
}

// Rounding says how far a product that the engine computes may be from the
// exact one: relative to |w|·|x|, for its sums, and to itself, for its result.
type Rounding struct{ Sum, Result float64 }

// SumError bounds Rounding.Sum for a product of [kernel.Set]: none of its terms
// takes part in more than cols/64 + 8 roundings (64 sums at once, then 6
// additions), each by 2^-24 at most.
func SumError(cols int) float64 { return float64(cols/64+16) * 0x1p-24 }

// some is how many rows' products are taken at a time.
const some = 256

// Find returns the rows that can be among the k largest products with x, in
// order; every row of a product equal to the k-th largest is among them. It
// returns nil if the screen leaves too many rows to be of use, or if x is not
// finite.
func (s *Screen) Find(set *kernel.Set, x []float32, k int, r Rounding, split Split) []int32 {
	most, norm := 0.0, 0.0
	for _, v := range x {
		most = max(most, math.Abs(float64(v)))
		norm += float64(v) * float64(v)
		if v != v {
			return nil
		}
	}
	norm = float64(up(math.Sqrt(norm)))
	t := most / kernel.Int16Most
	if !(t > 0x1p-120) || math.IsInf(most, 0) || k >= s.rows {
		return nil
	}
	ints, rest := make([]int16, len(x)), 0.0
	for i, v := range x {
		n := min(max(math.RoundToEven(float64(v)/t), -kernel.Int16Most), kernel.Int16Most)
		ints[i] = int16(n)
		d := float64(v) - t*n
		rest += d * d
	}
	// Each d was rounded too, by less than 2^-52 of x.
	rest = float64(up(math.Sqrt(rest) + norm*0x1p-50))

	var packed kernel.Int16
	packed.Pack(ints)
	ranges, _ := s.ranges.Get().(*[2][]float64)
	if ranges == nil {
		ranges = &[2][]float64{make([]float64, s.rows), make([]float64, s.rows)}
	}
	defer s.ranges.Put(ranges)
	low, high := ranges[0], ranges[1]
	one := func(lo, hi int) {
		var products [some]int64
		y := products[:hi-lo]
		set.Int8(y, s.q[lo*s.stride:hi*s.stride], &packed)
		for i, n := range y {
			b := &s.bounds[lo+i]
			v := float64(b.scale) * t * float64(n)
			off := float64(b.norm)*(rest+r.Sum*norm) + float64(b.err)*norm
			off += r.Result*(math.Abs(v)+off) + 0x1p-50*math.Abs(v)
			off = off*(1+1e-9) + 0x1p-120 // subnormal sums and results round by more
			if !(float64(b.norm)*norm < math.MaxFloat32/4) {
				off = math.Inf(1) // a sum may overflow on its way
			}
			low[lo+i], high[lo+i] = v-off, v+off
		}
	}
	split(s.rows, func(lo, hi int) {
		for ; lo < hi; lo += some {
			one(lo, min(lo+some, hi))
		}
	})
	least := kth(low, k)
	var found []int32
	for i, v := range high {
		if !(v < least) {
			found = append(found, int32(i))
			if len(found) > s.rows/8+8*k {
				return nil
			}
		}
	}
	return found
}

// kth returns the k-th largest of v. NaN counts as the least.
func kth(v []float64, k int) float64 {
	best := make([]float64, 0, k+1) // largest first
	for _, x := range v {
		if x != x || len(best) == k && !(x > best[k-1]) {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, x, func(a, b float64) int {
			if a >= b {
				return -1
			}
			return 1
		})
		best = slices.Insert(best, at, x)
		best = best[:min(k, len(best))]
	}
	if len(best) < k {
		return math.Inf(-1)
	}
	return best[k-1]
}
