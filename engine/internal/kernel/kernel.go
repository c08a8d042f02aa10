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
	s := Set{Name: "portable", Dot: dot, AddScaled: addScaled}
	return s.matrices(rows{decodeBF16: float.DecodeBF16, decodeMXFP4: float.DecodeMXFP4})
}

// All returns the sets this machine can run, slowest first.
func All() []Set { return append([]Set{Portable()}, faster()...) }

// Best returns the last of [All].
func Best() Set {
	all := All()
	return all[len(all)-1]
}

// rows are what the matrix kernels are made of: a weight row is decoded once,
// then multiplied with every row of x.
type rows struct {
	decodeBF16  func(dst []float32, src []byte)
	decodeMXFP4 func(dst []float32, blocks, scales []byte)

	// dot4 is Dot of w with four rows, to the bit. Without it each is taken
	// alone.
	dot4 func(w []float32, x *[4][]float32) [4]float32
}

// matrices returns s with BF16 and MXFP4 made of r and s.Dot.
func (s Set) matrices(r rows) Set {
	multiply := func(y, x [][]float32, row int, w []float32) {
		t := 0
		if r.dot4 != nil {
			for ; t+4 <= len(x); t += 4 {
				for i, v := range r.dot4(w, (*[4][]float32)(x[t:])) {
					y[t+i][row] = v
				}
			}
		}
		for ; t < len(x); t++ {
			y[t][row] = s.Dot(w, x[t])
		}
	}
	s.BF16 = func(y, x [][]float32, w []byte) {
		if len(x) == 0 {
			return
		}
		buf := make([]float32, len(x[0]))
		for row := range y[0] {
			r.decodeBF16(buf, w[2*len(buf)*row:])
			multiply(y, x, row, buf)
		}
	}
	s.MXFP4 = func(y, x [][]float32, blocks, scales []byte) {
		if len(x) == 0 {
			return
		}
		buf := make([]float32, len(x[0]))
		groups := len(buf) / float.BlockSize
		for row := range y[0] {
			r.decodeMXFP4(buf, blocks[row*groups*float.BlockBytes:][:groups*float.BlockBytes], scales[row*groups:][:groups])
			multiply(y, x, row, buf)
		}
	}
	return s
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
