package kernel

import "unsafe"

//go:generate go run ../tools/genmatrix avx2 matrix256_amd64.s

// The products with AVX2. One row of x, or a few, are multiplied while the
// weights stream by. For more, four rows of weights at a time are decoded into a
// panel of float32, which is then multiplied with tiles of up to three rows of x.
//
// A panel is eight runs, two for each accumulator:
// [groups/4][4 rows][odd, even][8].

func avx2Matrix() matrixSet {
	return matrixWith(lanes8, packLanes, multiply256).withPacked(avx2Unpack)
}

var avx2Unpack = unpackWith(unpack256)

const (
	tileRows256 = 3
	few256      = 4 // rows of x that are faster one by one if weights need little decoding
)

func multiply256(j *Job, s *Scratch, kind Kind, half bool) {
	j.check(kind, half, lanes8)
	n := j.n()
	if n == 0 || j.Lo == j.Hi {
		return
	}
	a := &s.arch
	if n == 1 || kind == BF16 && n <= few256 {
		loop := dotBF16x256
		if kind == MXFP4 {
			loop = dotMXFP4x256
		}
		for r := j.Lo; r < j.Hi; r += batch {
			for i := range n { // from the second on, the weights are in the cache
				a.rows256(loop, &j.X.value(j.x(i))[0], &j.W, r, min(batch, j.Hi-r), &j.Y[j.y(i)+r])
			}
		}
		return
	}
	a.setOffsets(j, 4*j.X.width())
	block := xBlock(n, 4*j.X.width(), tileRows256)
	for i := 0; i < n; {
		m := min(block, n-i)
		if n-i-m == 1 { // a tile has at least two rows
			m++
		}
		panels256(j, a, i, m)
		i += m
	}
}

// A rowLoop takes rows of weights. Whole chunks of a row are in place; if there
// is a last one with fewer columns, those of all rows are elsewhere, padded.
type rowLoop func(x *float32, data, scales *byte, whole int, last, lastScales *byte, steps, rows, dataStride, scaleStride int, y *float32)

// rows256 calls a loop for rows of w, at most batch.
func (a *archScratch) rows256(loop rowLoop, x *float32, w *Matrix, r, rows int, y *float32) {
	bytes := 2 * chunk * group
	if w.Kind == MXFP4 {
		bytes = chunk * group / 2
	}
	whole, steps := w.dataStride()/bytes, groups(w.Cols)/chunk
	if whole < steps {
		for k := range rows {
			last := a.lastData[k*bytes:][:bytes]
			clear(last[copy(last, w.data(r + k)[whole*bytes:]):])
			if w.Kind == MXFP4 {
				clear(a.lastScales[k][copy(a.lastScales[k][:], w.scales(r + k)[whole*chunk:]):])
			}
		}
	}
	loop(x, &w.data(r)[0], unsafe.SliceData(w.scales(r)), whole, &a.lastData[0], &a.lastScales[0][0], steps, rows, w.dataStride(), w.scaleStride(), y)
}

// panels256 multiplies the job's rows of w with rows i to i+n of x.
func panels256(j *Job, a *archScratch, i, n int) {
	a.panel = grow(a.panel, panelRows*j.X.width())
	a.panelResults(n)
	loop := panelBF16x256
	if j.W.Kind == MXFP4 {
		loop = panelMXFP4x256
	}
	for r := j.Lo; r < j.Hi; r += panelRows {
		rows := min(panelRows, j.Hi-r)
		a.rows256(loop, &a.panel[0], &j.W, r, rows, nil)
		y, yoff := &j.Y[r], a.yoff[i:]
		if rows < panelRows {
			y, yoff = &a.tail[0], a.tailoff
		}
		tiles256(&a.panel[0], &j.X.values[0], &a.xoff[i], n, j.X.groups/chunk, &a.sums[0], y, &yoff[0])
		if rows < panelRows {
			for k := range n {
				copy(j.Y[a.yoff[i+k]/4+r:][:rows], a.tail[k*panelRows:])
			}
		}
	}
}

// The loops of matrix256_amd64.s. They look at no length: every count is
// positive but whole, which may be 0 if there is a last chunk, and strides and
// offsets are in bytes. A run is steps long.
//
// The dot loops multiply with a row of x, the panel loops write rows of a panel.

//go:noescape
func dotBF16x256(x *float32, data, scales *byte, whole int, last, lastScales *byte, steps, rows, dataStride, scaleStride int, y *float32)

//go:noescape
func dotMXFP4x256(x *float32, data, scales *byte, whole int, last, lastScales *byte, steps, rows, dataStride, scaleStride int, y *float32)

//go:noescape
func panelBF16x256(x *float32, data, scales *byte, whole int, last, lastScales *byte, steps, rows, dataStride, scaleStride int, y *float32)

//go:noescape
func panelMXFP4x256(x *float32, data, scales *byte, whole int, last, lastScales *byte, steps, rows, dataStride, scaleStride int, y *float32)

// tiles256 multiplies a panel with n rows of x, at least two.
//
//go:noescape
func tiles256(panel, x *float32, xoff *int, n, steps int, sums, y *float32, yoff *int)

// The pack loops order whole chunks, of layouts lanes8 and lanes16.
//
//go:noescape
func packLanesBF16x256(dst, x *float32, chunks, steps int, r *rounding)

//go:noescape
func packLanesMXFP4x256(dst, x *float32, chunks, steps int, r *rounding)

//go:noescape
func packLanesBF16x512(dst, x *float32, chunks, steps int, r *rounding)

//go:noescape
func packLanesMXFP4x512(dst, x *float32, chunks, steps int, r *rounding)

// unpack256 unpacks rows of n columns but for exponents that have no code, and
// up to 63 columns after the last.
//
//go:noescape
func unpack256(dst, data, base *byte, rows, n int)

// read256 reads n bytes, a multiple of 256.
//
//go:noescape
func read256(b *byte, n int) uint64
