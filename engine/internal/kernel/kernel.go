// Package kernel holds the inner loops of the engine. A [Set] is one
// implementation of all of them; the portable set is plain Go, is always
// compiled, and defines what every other set must compute.
package kernel

import "ossify/float"

// A Set is a table of inner loops, filled once and never changed. A faster
// level copies the set below it and replaces what it does better.
//
// Results may differ between sets by the rounding of another summation order,
// never between two calls of one set: row y[t] depends on x[t] and w alone, not
// on how many rows are computed together.
type Set struct {
	Name string

	// BF16 sets y[t][r] = Σ w[r, c]·x[t][c], accumulated in float32.
	// w holds len(y[t]) rows of len(x[t]) little-endian bfloat16 values.
	BF16 func(y, x [][]float32, w []byte)

	// MXFP4 is BF16 for weights of 16-byte blocks with a scale byte each;
	// len(x[t]) is a multiple of 32.
	MXFP4 func(y, x [][]float32, blocks, scales []byte)

	// Dot returns Σ x[i]·y[i]; the slices are of one length.
	Dot func(x, y []float32) float32

	// AddScaled adds a·x[i] to y[i]; the slices are of one length.
	AddScaled func(y []float32, a float32, x []float32)
}

// Portable returns the defining set.
func Portable() Set {
	return Set{Name: "portable", BF16: bf16, MXFP4: mxfp4, Dot: dot, AddScaled: addScaled}
}

// All returns the sets this machine can run, slowest first.
func All() []Set { return []Set{Portable()} }

// Best returns the last of [All].
func Best() Set {
	all := All()
	return all[len(all)-1]
}

func bf16(y, x [][]float32, w []byte) {
	if len(x) == 0 {
		return
	}
	cols := len(x[0])
	row := make([]float32, cols)
	for r := range y[0] {
		float.DecodeBF16(row, w[2*cols*r:])
		for t := range x {
			y[t][r] = dot(row, x[t])
		}
	}
}

func mxfp4(y, x [][]float32, blocks, scales []byte) {
	if len(x) == 0 {
		return
	}
	cols := len(x[0])
	groups := cols / float.BlockSize
	row := make([]float32, cols)
	for r := range y[0] {
		float.DecodeMXFP4(row, blocks[r*groups*float.BlockBytes:][:groups*float.BlockBytes], scales[r*groups:][:groups])
		for t := range x {
			y[t][r] = dot(row, x[t])
		}
	}
}

// dot sums in eight lanes, so that rounding errors grow with n/8 and the
// processor need not wait for one addition before the next.
func dot(x, y []float32) float32 {
	y = y[:len(x)]
	var a, b, c, d, e, f, g, h float32
	for len(x) >= 8 {
		u, v := (*[8]float32)(x), (*[8]float32)(y)
		a += u[0] * v[0]
		b += u[1] * v[1]
		c += u[2] * v[2]
		d += u[3] * v[3]
		e += u[4] * v[4]
		f += u[5] * v[5]
		g += u[6] * v[6]
		h += u[7] * v[7]
		x, y = x[8:], y[8:]
	}
	for i, v := range x {
		a += v * y[i]
	}
	return ((a + b) + (c + d)) + ((e + f) + (g + h))
}

func addScaled(y []float32, a float32, x []float32) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] += a * v
	}
}
