package kernel

import (
	"fmt"
	"math"
	"unsafe"

	"ossify/float"
)

// A layout says where in a packed row the words of a group are. Each puts what
// an accumulator takes one after the other, so that a product reads straight on.
type layout uint8

const (
	// pairs are bfloat16 words, [4 accumulators][groups/4][32 words].
	pairs layout = 0
	// A layout of L lanes is float32,
	// [4 accumulators][16/L][groups/4][odd words, even words][L]:
	// each L of the 16 lanes are summed in a pass of their own.
	lanes4  layout = 4
	lanes8  layout = 8
	lanes16 layout = 16
)

// index returns where word w of group g is, in elements.
func (l layout) index(groups, g, w int) int {
	if l == pairs {
		return (g%chunk*groups/chunk+g/chunk)*group + w
	}
	n, lane := int(l), w/2
	pass := g%chunk*16/n + lane/n
	return (pass*groups/chunk+g/chunk)*2*n + (1-w%2)*n + lane%n
}

// Activations are rows of x packed for products with one kind of weights by one
// set. The zero value is ready for [Set.Pack], and keeps its memory for the next.
type Activations struct {
	n, cols int
	kind    Kind
	half    bool
	layout  layout
	groups  int

	values []float32 // [n, 32·groups], 64-byte aligned; or
	words  []uint16  // the same of layout pairs
	low    []int16   // the lowest exponent field of each row of words, as lowOf has it
	high   []int16   // the highest
}

// Rows returns the number of rows.
func (a *Activations) Rows() int { return a.n }

// Cols returns the number of columns, without padding.
func (a *Activations) Cols() int { return a.cols }

func (a *Activations) width() int            { return a.groups * group }
func (a *Activations) value(t int) []float32 { return a.values[t*a.width():][:a.width()] }
func (a *Activations) word(t int) []uint16   { return a.words[t*a.width():][:a.width()] }

func (a *Activations) resize(l layout, kind Kind, half bool, n, cols int) {
	if n < 0 || cols < 1 {
		panic(fmt.Sprintf("kernel: %d rows of %d activations", n, cols))
	}
	a.n, a.cols, a.kind, a.half, a.layout, a.groups = n, cols, kind, half, l, groups(cols)
	if l == pairs {
		a.words = grow(a.words, n*a.width())
		a.low, a.high = grow(a.low, n), grow(a.high, n)
	} else {
		a.values = grow(a.values, n*a.width())
	}
}

// checkRows panics if rows cannot be packed.
func (a *Activations) checkRows(first int, x []float32, n, stride int) {
	if first < 0 || n < 0 || first+n > a.n || n > 0 && (stride < 0 || (n-1)*stride+a.cols > len(x)) {
		panic(fmt.Sprintf("kernel: rows %d to %d of %d, %d apart in %d values", first, first+n, a.n, stride, len(x)))
	}
}

// packRows is PackRows for any layout, a value at a time.
func packRows(dst *Activations, first int, x []float32, n, stride int) {
	dst.checkRows(first, x, n, stride)
	for t := range n {
		row := x[t*stride:][:dst.cols]
		for g := range dst.groups {
			for w := range group {
				var v float32
				if c := dst.kind.column(g, w); c < dst.cols {
					v = row[c]
				}
				if dst.half {
					v = float.RoundBF16(v)
				}
				i := dst.layout.index(dst.groups, g, w)
				if dst.layout == pairs {
					dst.word(first + t)[i] = uint16(math.Float32bits(v) >> 16)
				} else {
					dst.value(first + t)[i] = v
				}
			}
		}
		if dst.layout == pairs {
			dst.low[first+t], dst.high[first+t] = exponents(dst.word(first + t))
		}
	}
}

// exponents returns the lowest exponent field among the bfloat16 words that are
// not zero, as lowOf has it, and the highest.
func exponents(words []uint16) (low, high int16) {
	least, most := ^uint16(0), uint16(0)
	for _, w := range words {
		least = min(least, w<<1-1) // zero becomes the greatest
		most = max(most, w<<1)
	}
	return int16(lowOf(least)), int16(most >> 8)
}

// never stands for the exponent of a subnormal.
const never = -1 << 10

// lowOf returns the exponent field from the least of twice each word less one:
// 256 if all are zero, never if one is subnormal.
func lowOf(least uint16) int {
	if e := (int(least) + 1) >> 8; e > 0 {
		return e
	}
	return never
}

// Scratch is a worker's own memory. The zero value is ready; it grows as needed.
type Scratch struct {
	panel []float32 // a decoded row of weights
	arch  archScratch

	bytes    []byte // unpacked rows
	unpacked Job    // with those
}

// grow returns n elements, aligned to 64 bytes, their contents undefined: b's
// memory if that suffices.
func grow[T float32 | uint16 | int16 | byte](b []T, n int) []T {
	if cap(b) >= n {
		return b[:n]
	}
	const align = 64
	var zero T
	size := int(unsafe.Sizeof(zero))
	b = make([]T, n+align/size)
	off := 0
	if r := int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) % align); r != 0 {
		off = (align - r) / size
	}
	return b[off:][:n]
}
