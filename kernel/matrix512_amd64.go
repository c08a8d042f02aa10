package kernel

import (
	"unsafe"

	"ossify/float"
)

//go:generate go run ../tools/gen512 matrix512_amd64.s

// The products with AVX-512. Up to few rows of x are multiplied while the
// weights stream by, read once and in order. For more, four rows of weights at
// a time are decoded into a panel, which is then multiplied with tiles of up to
// six rows of x.
//
// A panel is bfloat16 words, [4 accumulators][groups/4][4 rows][32 words]: that
// holds every weight of either kind.

func avx512Matrix() matrixSet {
	entry := func(kind Kind, half bool) func(j *Job, s *Scratch) {
		return func(j *Job, s *Scratch) { multiply512(j, s, kind, half, lanes16) }
	}
	return matrixSet{
		BF16xBF16:  entry(BF16, true),
		BF16xF32:   entry(BF16, false),
		MXFP4xBF16: entry(MXFP4, true),
		MXFP4xF32:  entry(MXFP4, false),
		PackRows:   packRows,
		full:       lanes16,
		half:       lanes16,
	}
}

// avx512bf16Matrix is avx512Matrix with VDPBF16PS for bfloat16 activations.
func avx512bf16Matrix() matrixSet {
	m := avx512Matrix()
	m.BF16xBF16 = func(j *Job, s *Scratch) { multiply512(j, s, BF16, true, pairs) }
	m.MXFP4xBF16 = func(j *Job, s *Scratch) { multiply512(j, s, MXFP4, true, pairs) }
	m.PackRows = packRows512
	m.half = pairs
	return m
}

const (
	few        = 6  // rows of x that streaming loops take
	batch      = 16 // rows of w a call of those
	panelRows  = 4
	tileRows   = 6
	blockBytes = 448 << 10 // of x that stay in the second cache beside a panel
)

// VDPBF16PS takes subnormal operands and results as zero. It gives the same
// bits if neither can be: if no operand is subnormal, and if all products are
// multiples of the least normal number, for then so are all sums. A bfloat16 of
// exponent field e is a multiple of 2^(e-127-7), so the fields of the lowest
// weight and activation that are not zero must add to at least
const safeExponents = 2*(127+7) - 126

// archScratch is what the sets of this processor need.
type archScratch struct {
	words      []uint16  // a panel
	wide       []uint16  // scales
	sums       []float32 // accumulators between passes, [rows of x][4][16]
	tail       []float32 // results of an incomplete panel, [rows of x][4]
	xoff, yoff []int     // of each row of x and its results, in bytes
	tailoff    []int     // 16·i
	odd        rowSet    // rows of x that VDPBF16PS may not take
}

// A rowSet is some rows of x, as float32.
type rowSet struct {
	values     []float32 // layout lanes16
	have       []bool
	xoff, yoff []int
}

func growInts(b []int, n int) []int {
	if cap(b) >= n {
		return b[:n]
	}
	return make([]int, n)
}

// multiply512 is every entry: with activations of layout pairs it uses
// VDPBF16PS where that gives the same bits.
func multiply512(j *Job, s *Scratch, kind Kind, half bool, l layout) {
	j.check(kind, half, l)
	n := j.n()
	if n == 0 || j.Lo == j.Hi {
		return
	}
	a := &s.arch
	rowBytes := 4 * j.X.width()
	if l == pairs {
		rowBytes = 2 * j.X.width()
	}
	a.xoff, a.yoff = growInts(a.xoff, n), growInts(a.yoff, n)
	a.odd.have = a.odd.have[:0]
	low := int16(1 << 10) // of all rows of x
	for i := range n {
		t := j.x(i)
		a.xoff[i], a.yoff[i] = t*rowBytes, 4*j.y(i)
		if l == pairs {
			low = min(low, j.X.low[t])
		}
	}
	block := max(tileRows, blockBytes/rowBytes/tileRows*tileRows)
	if n <= few {
		for r := j.Lo; r < j.Hi; r += batch {
			rows := min(batch, j.Hi-r)
			if stream512(j, a, r, rows, int(low)) {
				continue
			}
			// Some scales are odd: only their rows go another way.
			for lo, hi := r, r; lo < r+rows; lo = hi {
				hi = lo + 1
				odd := oddScales(&j.W, lo)
				for hi < r+rows && oddScales(&j.W, hi) == odd {
					hi++
				}
				if odd || !stream512(j, a, lo, hi-lo, int(low)) {
					panels512(j, a, lo, hi, 0, n, int(low))
				}
			}
		}
		return
	}
	blocks := (n + block - 1) / block
	block = ((n+blocks-1)/blocks + tileRows - 1) / tileRows * tileRows
	for i := 0; i < n; i += block {
		panels512(j, a, j.Lo, j.Hi, i, min(block, n-i), int(low))
	}
}

// panels512 multiplies rows lo to hi of w with rows i to i+n of x.
func panels512(j *Job, a *archScratch, lo, hi, i, n, low int) {
	steps := j.X.groups / chunk
	a.words = grow(a.words, panelRows*j.X.width())
	a.sums = grow(a.sums, n*panelRows*16)
	a.tail = grow(a.tail, n*panelRows)
	for len(a.tailoff) < n {
		a.tailoff = append(a.tailoff, 16*len(a.tailoff))
	}
	for r := lo; r < hi; r += panelRows {
		rows := min(panelRows, hi-r)
		wlow := panel512(j, a, r, rows)
		y, yoff := &j.Y[r], a.yoff[i:]
		if rows < panelRows {
			y, yoff = &a.tail[0], a.tailoff
		}
		switch {
		case j.X.layout != pairs:
			tilesFMA512(&a.words[0], unsafe.Pointer(&j.X.values[0]), &a.xoff[i], n, steps, &a.sums[0], y, &yoff[0])
		case wlow+low >= safeExponents:
			tilesDP512(&a.words[0], unsafe.Pointer(&j.X.words[0]), &a.xoff[i], n, steps, &a.sums[0], y, &yoff[0])
		default:
			if k := a.odd.choose(j, i, n, wlow, yoff); k < n {
				tilesDP512(&a.words[0], unsafe.Pointer(&j.X.words[0]), &a.xoff[i], n, steps, &a.sums[0], y, &yoff[0])
			}
			if k := len(a.odd.xoff); k > 0 {
				tilesFMA512(&a.words[0], unsafe.Pointer(&a.odd.values[0]), &a.odd.xoff[0], k, steps, &a.sums[0], y, &a.odd.yoff[0])
			}
		}
		if rows < panelRows {
			for k := range n {
				copy(j.Y[a.yoff[i+k]/4+r:][:rows], a.tail[k*panelRows:])
			}
		}
	}
}

// choose lists those of rows i to i+n of x that VDPBF16PS may not multiply with
// weights as low as wlow, and returns how many they are.
func (o *rowSet) choose(j *Job, i, n, wlow int, yoff []int) int {
	all, width := j.n(), j.X.width()
	if len(o.have) == 0 {
		o.values = grow(o.values, all*width)
		if cap(o.have) < all {
			o.have = make([]bool, all)
		}
		o.have = o.have[:all]
		clear(o.have)
	}
	o.xoff, o.yoff = o.xoff[:0], o.yoff[:0]
	for k := range n {
		t := j.x(i + k)
		if int(j.X.low[t])+wlow >= safeExponents {
			continue
		}
		at := (i + k) * width
		if !o.have[i+k] {
			o.have[i+k] = true
			expandPairs(o.values[at:][:width], j.X.word(t))
		}
		o.xoff, o.yoff = append(o.xoff, 4*at), append(o.yoff, yoff[k])
	}
	return len(o.xoff)
}

// expandPairs writes a row of layout pairs in layout lanes16.
func expandPairs(dst []float32, words []uint16) {
	for len(words) >= group {
		w, d := (*[group]uint16)(words), (*[group]float32)(dst)
		for i := range 16 {
			d[i] = float.FromBF16(w[2*i+1])
			d[16+i] = float.FromBF16(w[2*i])
		}
		words, dst = words[group:], dst[group:]
	}
}

// panel512 decodes rows of w, at most four, and returns the lowest exponent
// field of their weights, as safeExponents has it.
func panel512(j *Job, a *archScratch, r, rows int) int {
	w, steps := &j.W, j.X.groups/chunk
	if w.Kind == BF16 {
		least := panelBF16x512(&a.words[0], &w.data(r)[0], rows, w.Cols, steps)
		return lowOf(least)
	}
	lo, hi := widen512(w, a, r, rows)
	if lo < 2 || hi > 252 { // some are subnormal, infinite, or not as e2m1x252 has them
		panelMXFP4x512(&a.words[0], &w.data(r)[0], &a.wide[0], rows, w.scaleStride(), steps)
		for k := range rows {
			oddBlocks(a.words, w, r+k, k, steps)
		}
		return never
	}
	panelMXFP4x512(&a.words[0], &w.data(r)[0], &a.wide[0], rows, w.scaleStride(), steps)
	return lo + 6
}

// widen512 prepares the scales of rows of w, and returns the lowest and highest.
func widen512(w *Matrix, a *archScratch, r, rows int) (lo, hi int) {
	n := rows * w.scaleStride()
	a.wide = grow(a.wide, n+16)
	l, h := widenScales512(&a.wide[0], &w.scales(r)[0], n)
	return int(l), int(h)
}

// oddScales reports whether a row of MXFP4 has a scale that the loops do not
// take.
func oddScales(w *Matrix, r int) bool {
	if w.Kind != MXFP4 {
		return false
	}
	for _, s := range w.scales(r) {
		if s-2 > 250 {
			return true
		}
	}
	return false
}

// oddBlocks writes the blocks of row r that have such scales in row k of a
// panel.
func oddBlocks(panel []uint16, w *Matrix, r, k, steps int) {
	data := w.data(r)
	for b, scale := range w.scales(r) {
		if scale-2 <= 250 {
			continue
		}
		var values [16]uint16 // by code
		for code := range values {
			if code%8 != 0 {
				values[code] = float.ToBF16(float.E2M1(byte(code)) * float.E8M0(scale))
			}
		}
		c := b * float.BlockSize
		for _, pair := range data[c/2:][:float.BlockBytes] {
			for _, code := range [2]byte{pair & 15, pair >> 4} {
				g, word := c%4, c%(chunk*group)/4
				panel[((g*steps+c/(chunk*group))*panelRows+k)*group+word] = values[code]
				c++
			}
		}
	}
}

// stream512 multiplies rows of w with all rows of x. It reports false if it may
// not be used for those; what it wrote must then be written again.
func stream512(j *Job, a *archScratch, r, rows, low int) bool {
	w, n, steps := &j.W, j.n(), j.X.groups/chunk
	loops, x := &fmaStreams512[w.Kind], unsafe.Pointer(unsafe.SliceData(j.X.values))
	if j.X.layout == pairs {
		loops, x = &dpStreams512[w.Kind], unsafe.Pointer(unsafe.SliceData(j.X.words))
	}
	var wide *uint16
	size := w.Cols
	wlow := never
	if w.Kind == MXFP4 {
		lo, hi := widen512(w, a, r, rows)
		if lo < 2 || hi > 252 {
			return false
		}
		size = w.scaleStride()
		wide, wlow = &a.wide[0], lo+6
	}
	data, y, xoff, yoff := &w.data(r)[0], &j.Y[r], &a.xoff[0], &a.yoff[0]
	if j.X.layout == pairs && (low == never || w.Kind == MXFP4 && wlow+low < safeExponents) {
		return false
	}
	if two := loops.two; n == 1 && rows > 1 && two != nil {
		even := rows &^ 1
		least := two(data, wide, x, xoff, y, yoff, even, size, steps)
		if even < rows {
			if wide != nil {
				wide = &a.wide[even*size]
			}
			least = min(least, loops.one[0](&w.data(r + even)[0], wide, x, xoff, &j.Y[r+even], yoff, 1, size, steps))
		}
		if w.Kind == BF16 {
			wlow = lowOf(least)
		}
	} else if least := loops.one[n-1](data, wide, x, xoff, y, yoff, rows, size, steps); w.Kind == BF16 {
		wlow = lowOf(least)
	}
	return j.X.layout != pairs || wlow+low >= safeExponents
}

// streams are the streaming loops of one kind of weights: one row of w and 1 to
// few of x; two rows of w and one of x, if that is faster.
type streams struct {
	one [few]streamLoop
	two streamLoop
}

type streamLoop func(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

// By Kind.
var (
	dpStreams512 = [...]streams{
		{[few]streamLoop{bf16DP512x1x1, bf16DP512x1x2, bf16DP512x1x3, bf16DP512x1x4, bf16DP512x1x5, bf16DP512x1x6}, bf16DP512x2x1},
		{[few]streamLoop{mxfp4DP512x1x1, mxfp4DP512x1x2, mxfp4DP512x1x3, mxfp4DP512x1x4, mxfp4DP512x1x5, mxfp4DP512x1x6}, mxfp4DP512x2x1},
	}
	fmaStreams512 = [...]streams{
		{[few]streamLoop{bf16FMA512x1x1, bf16FMA512x1x2, bf16FMA512x1x3, bf16FMA512x1x4, bf16FMA512x1x5, bf16FMA512x1x6}, bf16FMA512x2x1},
		{[few]streamLoop{mxfp4FMA512x1x1, mxfp4FMA512x1x2, mxfp4FMA512x1x3, mxfp4FMA512x1x4, mxfp4FMA512x1x5, mxfp4FMA512x1x6}, mxfp4FMA512x2x1},
	}
)

// packRows512 is packRows, faster for layout pairs.
func packRows512(dst *Activations, first int, x []float32, n, stride int) {
	if dst.layout != pairs {
		packRows(dst, first, x, n, stride)
		return
	}
	dst.checkRows(first, x, n, stride)
	steps := dst.groups / chunk
	whole := dst.cols / (chunk * group)
	for t := range n {
		row, words := x[t*stride:][:dst.cols], dst.word(first+t)
		least := ^uint16(0)
		if whole > 0 {
			least = packChunks512(dst.kind, &words[0], &row[0], whole, steps)
		}
		if whole < steps {
			var last [chunk * group]float32
			copy(last[:], row[whole*chunk*group:])
			least = min(least, packChunks512(dst.kind, &words[whole*group], &last[0], 1, steps))
		}
		dst.low[first+t] = int16(lowOf(least))
	}
}

func packChunks512(kind Kind, dst *uint16, x *float32, chunks, steps int) (least uint16) {
	if kind == MXFP4 {
		return packMXFP4x512(dst, x, chunks, steps)
	}
	return packBF16x512(dst, x, chunks, steps)
}
