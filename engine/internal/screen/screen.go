// Package screen finds the rows of a large bfloat16 matrix that can have the
// largest products with a vector, from a copy in three eighths of the bytes.
//
// For each row w it keeps 6-bit integers q and a scale s, so that w = s·q + e,
// and the norms of w and e. A vector x becomes 16-bit integers: x = t·p + d.
// Then
//
//	w·x = s·t·(q·p) + s·q·d + e·x
//
// where q·p is an exact integer, and by Cauchy and Schwarz the rest is at most
// (|w|+|e|)·|d| + |e|·|x|. The rows of the largest estimates s·t·(q·p) are
// computed as always. A row whose upper bound is below the k-th largest of those
// products is not among the k largest. The others are computed too: nothing that
// leaves the engine comes from the copy.
package screen

import (
	"cmp"
	"context"
	"fmt"
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
	q                  []byte // [rows, stride]
	bounds             []bound
	highs              sync.Pool // of *[]float64: what Find's products can be at most
}

// A bound is what is known of a row beside its integers.
type bound struct {
	scale float32
	err   float32 // |e|, or more
	norm  float32 // |w|+|e|, or more
}

// A Split calls f on ranges that cover 0 to n, at the same time, and waits.
type Split func(n int, f func(lo, hi int))

// New copies w, which is of bfloat16, to memory from alloc.
func New(ctx context.Context, w kernel.Matrix, alloc func(n int) []byte, split Split) (*Screen, error) {
	if w.Cols > kernel.Int6Most {
		return nil, fmt.Errorf("screen: rows of %d columns, want at most %d", w.Cols, kernel.Int6Most)
	}
	s := &Screen{rows: w.Rows, cols: w.Cols, stride: kernel.Int6Stride(w.Cols)}
	s.q = alloc(s.rows * s.stride)
	s.bounds = make([]bound, s.rows)
	split(s.rows, func(lo, hi int) {
		row, q := make([]float32, s.cols), make([]int8, s.cols)
		for r := lo; r < hi && ctx.Err() == nil; r++ {
			float.DecodeBF16(row, w.Data[2*r*s.cols:])
			s.bounds[r] = quantise(q, row)
			kernel.PackInt6(s.q[r*s.stride:][:s.stride], q)
		}
	})
	return s, ctx.Err()
}

// levels is the largest integer of the copy.
const levels = 31

// scales are those that are tried for a row, of the one that clips no weight. With
// a smaller one few weights lose more and all others less.
var scales = [...]float32{1, 0.9, 0.8, 0.7, 0.6}

// quantise sets q to w in integers from −levels to levels, by the scale of the
// least error.
func quantise(q []int8, w []float32) bound {
	clear(q)
	most, norm := float32(0), 0.0
	for _, v := range w {
		a := math.Float32frombits(math.Float32bits(v) &^ (1 << 31))
		if !(a <= math.MaxFloat32) {
			return bound{0, float32(math.Inf(1)), float32(math.Inf(1))} // always a candidate
		}
		most = max(most, a)
		norm += float64(v) * float64(v)
	}
	if most == 0 {
		return bound{}
	}
	b, errs := bound{}, norm                           // of zeros
	if most/levels*scales[len(scales)-1] >= 0x1p-120 { // else nearly subnormal: the integers would not be right
		errs = math.Inf(1)
		for _, s := range scales {
			s *= most / levels
			e := errors(w, s)
			if e >= errs {
				break
			}
			b.scale, errs = s, e
		}
		inverse := 1 / float64(b.scale)
		for i, v := range w {
			q[i] = int8(integer(v, inverse))
		}
	}
	b.err = up(math.Sqrt(errs))
	b.norm = up(math.Sqrt(norm) + float64(b.err))
	return b
}

// integer is the integer of the copy for v by a scale.
func integer(v float32, inverse float64) float64 {
	const toEven = 3 << 51 // added and taken away, it rounds to an integer
	n := float64(v)*inverse + toEven - toEven
	if n > levels {
		return levels
	}
	if n < -levels {
		return -levels
	}
	return n
}

// errors is the square of |e| by a scale.
func errors(w []float32, scale float32) float64 {
	sum, inverse := 0.0, 1/float64(scale)
	for _, v := range w {
		e := float64(v) - float64(scale)*integer(v, inverse) // exact: 24 and 29 bits, of nearly the same size
		sum += e * e
	}
	return sum
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

// some is how many rows' products are taken at a time. With fewer, estimates
// take longer: 3 to 10% with 256.
const some = 1024

// limit is how many of rows may remain. A row alone takes three times as long as
// one of many, in order.
func limit(rows int) int { return rows / 4 }

// Find returns the rows that can be among the k largest products with x, in
// order, and their products; every row of a product equal to the k-th largest is
// among them. It returns nil if the screen leaves too many rows to be of use, or
// if x is not finite. The products are by exact, which takes rows in order, and
// are within r of the true ones.
func (s *Screen) Find(set *kernel.Set, x []float32, k int, r Rounding, split Split, exact func(rows []int32) []float32) ([]int32, []float32) {
	if k < 1 || k > limit(s.rows) {
		return nil, nil // at least k rows remain
	}
	high, first := s.estimate(set, x, min(k+64, limit(s.rows)), r, split)
	if len(first) < k {
		return nil, nil
	}
	// At least k rows have products of least or more, as the engine computes them,
	// and no row's is above its bound. So a row with a bound below least is not
	// among the k largest, nor equal to one of them. (Of NaN nothing is below.)
	values := exact(first)
	sorted := slices.Clone(values)
	slices.Sort(sorted) // NaN first
	least := float64(sorted[len(sorted)-k])
	var found []int32
	for i, v := range *high {
		if !(v < least) {
			found = append(found, int32(i))
		}
	}
	s.highs.Put(high)
	if len(found) > limit(s.rows) {
		return nil, nil
	}

	// Those not computed yet.
	var later []int32
	var places []int // in found
	all := make([]float32, len(found))
	for i, row := range found {
		if at, ok := slices.BinarySearch(first, row); ok {
			all[i] = values[at]
		} else {
			later, places = append(later, row), append(places, i)
		}
	}
	if len(later) > 0 {
		for i, v := range exact(later) {
			all[places[i]] = v
		}
	}
	return found, all
}

// estimate returns the upper bounds of all rows' products with x, and the n rows
// of the largest estimates in order: none if x is not finite.
func (s *Screen) estimate(set *kernel.Set, x []float32, n int, r Rounding, split Split) (*[]float64, []int32) {
	most, norm := 0.0, 0.0
	for _, v := range x {
		most = max(most, math.Abs(float64(v)))
		norm += float64(v) * float64(v)
		if v != v {
			return nil, nil
		}
	}
	norm = float64(up(math.Sqrt(norm)))
	t := most / kernel.Int16Most
	if !(t > 0x1p-120) || math.IsInf(most, 0) {
		return nil, nil
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
	high, _ := s.highs.Get().(*[]float64)
	if high == nil {
		high = new(make([]float64, s.rows))
	}
	one := func(lo, hi int, best *top) {
		var products [some]int64
		y := products[:hi-lo]
		set.Int6(y, s.q[lo*s.stride:hi*s.stride], &packed)
		for i, n := range y {
			b := &s.bounds[lo+i]
			v := float64(b.scale) * t * float64(n)
			off := float64(b.norm)*(rest+r.Sum*norm) + float64(b.err)*norm
			off += r.Result*(math.Abs(v)+off) + 0x1p-50*math.Abs(v)
			off = off*(1+1e-9) + 0x1p-120 // subnormal sums and results round by more
			if !(float64(b.norm)*norm < math.MaxFloat32/4) {
				off = math.Inf(1) // a sum may overflow on its way
			}
			(*high)[lo+i] = v + off
			best.add(estimated{v, int32(lo + i)})
		}
	}
	best := newTop(n)
	var mu sync.Mutex
	split(s.rows, func(lo, hi int) {
		part := newTop(n)
		for ; lo < hi; lo += some {
			one(lo, min(lo+some, hi), part)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, e := range part.some {
			best.add(e)
		}
	})
	return high, best.rows()
}

// An estimated row is one with its estimate.
type estimated struct {
	v   float64
	row int32
}

// A top keeps the n largest of what is added.
type top struct {
	n     int
	some  []estimated // the n largest are among them
	least float64     // n are as large
}

func newTop(n int) *top { return &top{n: n, least: math.Inf(-1)} }

func (t *top) add(e estimated) {
	if !(e.v > t.least) {
		return
	}
	if t.some = append(t.some, e); len(t.some) >= 2*t.n {
		t.cut()
	}
}

// cut leaves n.
func (t *top) cut() {
	if len(t.some) > t.n {
		slices.SortFunc(t.some, func(a, b estimated) int { return cmp.Or(cmp.Compare(b.v, a.v), cmp.Compare(a.row, b.row)) })
		t.some = t.some[:t.n]
		t.least = t.some[t.n-1].v
	}
}

// rows returns the rows of the n largest, in order.
func (t *top) rows() []int32 {
	t.cut()
	rows := make([]int32, len(t.some))
	for i, e := range t.some {
		rows[i] = e.row
	}
	slices.Sort(rows)
	return rows
}
