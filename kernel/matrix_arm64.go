package kernel

import "unsafe"

// The products with Advanced SIMD. One row of x is multiplied while the weights
// stream by. For more, four rows of weights at a time are decoded into a panel,
// which is then multiplied with four rows of x at a time.
//
// Activations and panels are float32 in sixteen runs, one for each accumulator
// and four of its lanes. A run of a panel is [groups/4][4 rows][odd, even][4].

func neonMatrix() matrixSet {
	return matrixWith(lanes4, packRowsNEON, multiplyNEON).withPacked(neonUnpack)
}

var neonUnpack = unpackWith(unpackNEON)

const (
	chunkCols = chunk * group // columns that a step takes

	panelRows  = 4
	tileRows   = 4
	blockBytes = 512 << 10 // of x that stay in the second cache beside a panel
)

// archScratch is what the sets of this processor need.
type archScratch struct {
	panel  []float32
	sums   [panelRows * tileRows * 16]float32 // of the accumulators, by lane
	tile   [tileRows * panelRows]float32
	xoff   [tileRows]int
	tail   [2 * chunkCols]byte // the data of an incomplete chunk, padded with zeros
	scales [chunk]byte
}

func multiplyNEON(j *Job, s *Scratch, kind Kind, half bool) {
	j.check(kind, half, lanes4)
	n := j.n()
	if n == 0 || j.Lo == j.Hi {
		return
	}
	a := &s.arch
	if n == 1 {
		x, y := &j.X.value(j.x(0))[0], j.Y[j.y(0):]
		for r := j.Lo; r < j.Hi; r++ {
			w := a.row(&j.W, r)
			if kind == MXFP4 {
				y[r] = dotMXFP4NEON(w.data, w.scales, w.whole, w.tail, w.tailScales, x, w.steps)
			} else {
				y[r] = dotBF16NEON(w.data, w.whole, w.tail, x, w.steps)
			}
		}
		return
	}
	block := max(tileRows, blockBytes/(4*j.X.width())/tileRows*tileRows)
	for i := 0; i < n; i += block {
		panelsNEON(j, a, i, min(n, i+block))
	}
}

// A weightRow is a row of weights: whole chunks in place, and the rest of its
// chunks, which is none or one, padded elsewhere.
type weightRow struct {
	data, scales     *byte
	tail, tailScales *byte // nil is none
	whole, steps     int
}

func (a *archScratch) row(w *Matrix, r int) weightRow {
	data, scales := w.data(r), w.scales(r)
	bytes := 2 * chunkCols
	if w.Kind == MXFP4 {
		bytes = chunkCols / 2
	}
	row := weightRow{data: unsafe.SliceData(data), scales: unsafe.SliceData(scales), whole: w.Cols / chunkCols, steps: groups(w.Cols) / chunk}
	if row.whole < row.steps {
		clear(a.tail[copy(a.tail[:], data[row.whole*bytes:]):])
		row.tail = &a.tail[0]
		if w.Kind == MXFP4 {
			clear(a.scales[copy(a.scales[:], scales[row.whole*chunk:]):])
			row.tailScales = &a.scales[0]
		}
	}
	return row
}

// panelsNEON multiplies the job's rows of w with the chosen rows i to end of x.
func panelsNEON(j *Job, a *archScratch, i, end int) {
	width := j.X.width()
	a.panel = grow(a.panel, panelRows*width)
	for r := j.Lo; r < j.Hi; r += panelRows {
		rows := min(panelRows, j.Hi-r)
		for k := range rows {
			w := a.row(&j.W, r+k)
			dst := &a.panel[8*k]
			if j.W.Kind == MXFP4 {
				panelMXFP4NEON(dst, w.data, w.scales, w.whole, w.tail, w.tailScales, w.steps)
			} else {
				panelBF16NEON(dst, w.data, w.whole, w.tail, w.steps)
			}
		}
		for t := i; t < end; t += tileRows {
			for k := range a.xoff {
				a.xoff[k] = 4 * width * j.x(min(t+k, end-1))
			}
			tileNEON(&a.panel[0], &j.X.values[0], &a.xoff, width/chunkCols, &a.sums, &a.tile)
			for k := range min(tileRows, end-t) {
				copy(j.Y[j.y(t+k)+r:][:rows], a.tile[k*panelRows:])
			}
		}
	}
}

func packRowsNEON(dst *Activations, first int, x []float32, n, stride int) {
	dst.checkRows(first, x, n, stride)
	r := roundingTo(dst.half)
	steps, whole := dst.groups/chunk, dst.cols/chunkCols
	for t := range n {
		row, values := x[t*stride:][:dst.cols], dst.value(first+t)
		if whole > 0 {
			packChunksNEON(dst.kind, &values[0], &row[0], whole, steps, r)
		}
		if whole < steps {
			var last [chunkCols]float32
			copy(last[:], row[whole*chunkCols:])
			packChunksNEON(dst.kind, &values[8*whole], &last[0], 1, steps, r)
		}
	}
}

// packChunksNEON calls the loop itself: through a variable its operands would be
// allocated.
func packChunksNEON(kind Kind, dst, x *float32, chunks, steps int, r *rounding) {
	if kind == MXFP4 {
		packMXFP4NEON(dst, x, chunks, steps, r)
	} else {
		packBF16NEON(dst, x, chunks, steps, r)
	}
}

// The loops of matrix_neon_arm64.s. They look at no length: steps is positive,
// and so is whole or there is a tail.

//go:noescape
func dotBF16NEON(data *byte, whole int, tail *byte, x *float32, steps int) float32

//go:noescape
func dotMXFP4NEON(data, scales *byte, whole int, tail, tailScales *byte, x *float32, steps int) float32

// panelBF16NEON and panelMXFP4NEON decode a row into a panel.
//
//go:noescape
func panelBF16NEON(dst *float32, data *byte, whole int, tail *byte, steps int)

//go:noescape
func panelMXFP4NEON(dst *float32, data, scales *byte, whole int, tail, tailScales *byte, steps int)

// tileNEON multiplies a panel with four rows of x, at offsets in bytes: y is
// [4 rows of x, 4 rows of w].
//
//go:noescape
func tileNEON(panel, x *float32, xoff *[tileRows]int, steps int, sums *[panelRows * tileRows * 16]float32, y *[tileRows * panelRows]float32)

// packBF16NEON and packMXFP4NEON pack whole chunks, whose runs are steps long.
//
//go:noescape
func packBF16NEON(dst, x *float32, chunks, steps int, r *rounding)

//go:noescape
func packMXFP4NEON(dst, x *float32, chunks, steps int, r *rounding)

// unpackNEON unpacks rows of n columns but for exponents that have no code, and
// up to 63 columns after the last.
//
//go:noescape
func unpackNEON(dst, data, base *byte, rows, n int)
