package kernel

import "unsafe"

//go:generate go run ../tools/genmatrix avx2 matrix256_amd64.s

// The products with AVX2. One row of x is multiplied while the weights stream
// by. For more, four rows of weights at a time are decoded into a panel of
// float32, which is then multiplied with tiles of up to three rows of x.
//
// A panel is eight runs, two for each accumulator:
// [groups/4][4 rows][odd, even][8].

func avx2Matrix() matrixSet {
	entry := func(kind Kind, half bool) func(j *Job, s *Scratch) {
		return func(j *Job, s *Scratch) { multiply256(j, s, kind, half) }
	}
	return matrixSet{
		BF16xBF16:  entry(BF16, true),
		BF16xF32:   entry(BF16, false),
		MXFP4xBF16: entry(MXFP4, true),
		MXFP4xF32:  entry(MXFP4, false),
		PackRows:   packLanes,
		full:       lanes8,
		half:       lanes8,
	}
}

const tileRows256 = 3

func multiply256(j *Job, s *Scratch, kind Kind, half bool) {
	j.check(kind, half, lanes8)
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
				y[r] = dotMXFP4x256(x, w.data, w.scales, w.whole, w.last, w.lastScales, w.steps)
			} else {
				y[r] = dotBF16x256(x, w.data, w.whole, w.last, w.steps)
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

// A weightRow is a row of weights: whole chunks in place, and a last one that is
// padded elsewhere, or nil.
type weightRow struct {
	data, scales     *byte
	last, lastScales *byte
	whole, steps     int
}

func (a *archScratch) row(w *Matrix, r int) weightRow {
	data, scales := w.data(r), w.scales(r)
	bytes := 2 * chunk * group
	if w.Kind == MXFP4 {
		bytes = chunk * group / 2
	}
	row := weightRow{data: unsafe.SliceData(data), scales: unsafe.SliceData(scales), whole: len(data) / bytes, steps: groups(w.Cols) / chunk}
	if row.whole < row.steps {
		clear(a.lastData[copy(a.lastData[:], data[row.whole*bytes:]):bytes])
		row.last = &a.lastData[0]
		if w.Kind == MXFP4 {
			clear(a.lastScales[copy(a.lastScales[:], scales[row.whole*chunk:]):])
			row.lastScales = &a.lastScales[0]
		}
	}
	return row
}

// panels256 multiplies the job's rows of w with rows i to i+n of x.
func panels256(j *Job, a *archScratch, i, n int) {
	a.panel = grow(a.panel, panelRows*j.X.width())
	a.panelResults(n)
	for r := j.Lo; r < j.Hi; r += panelRows {
		rows := min(panelRows, j.Hi-r)
		for k := range rows {
			w := a.row(&j.W, r+k)
			if j.W.Kind == MXFP4 {
				panelMXFP4x256(&a.panel[16*k], w.data, w.scales, w.whole, w.last, w.lastScales, w.steps)
			} else {
				panelBF16x256(&a.panel[16*k], w.data, w.whole, w.last, w.steps)
			}
		}
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
// positive but whole, which may be 0 if there is a last chunk, and offsets are in
// bytes. A run is steps long.

//go:noescape
func dotBF16x256(x *float32, data *byte, whole int, tail *byte, steps int) float32

//go:noescape
func dotMXFP4x256(x *float32, data *byte, scales *byte, whole int, tail *byte, tailScales *byte, steps int) float32

// panelBF16x256 and panelMXFP4x256 decode a row into a panel.
//
//go:noescape
func panelBF16x256(x *float32, data *byte, whole int, tail *byte, steps int)

//go:noescape
func panelMXFP4x256(x *float32, data *byte, scales *byte, whole int, tail *byte, tailScales *byte, steps int)

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

// read256 reads n bytes, a multiple of 256.
//
//go:noescape
func read256(b *byte, n int) uint64
