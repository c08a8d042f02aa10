package kernel

import (
	"math/bits"
	"slices"
	"unsafe"

	"ossify/float"
)

//go:generate go run ../tools/genmatrix avx512 matrix512_amd64.s

// The products with AVX-512. A few rows of x are multiplied while the
// weights stream by, read once and in order. For more, four rows of weights at
// a time are decoded into a panel, which is then multiplied with tiles of up to
// six rows of x. A few more rows than stream take bfloat16 weights as they lie, as
// a tile, from the second cache.
//
// A panel is bfloat16 words, [4 accumulators][groups/4][4 rows][32 words]: that
// holds every weight of either kind.

// Whether rows can be unpacked with AVX-512 VBMI2 is expand.
func avx512Matrix(expand bool) matrixSet {
	return matrixWith(lanes16, packRows512, func(j *Job, s *Scratch, kind Kind, half bool) {
		multiply512(j, s, kind, half, lanes16)
	}).packed512(expand)
}

// packed512 completes a set whose bfloat16 activations are of layout half.
func (m matrixSet) packed512(expand bool) matrixSet {
	if !expand {
		return m.withPacked(avx2Unpack)
	}
	half := m.half
	m.PackedxBF16 = func(j *Job, s *Scratch) { multiply512(j, s, Packed, true, half) }
	m.PackedxF32 = func(j *Job, s *Scratch) { multiply512(j, s, Packed, false, lanes16) }
	return m
}

// packedFrom is where the exponents of packed rows come from. The loops step
// from one row's base to the next.
type packedFrom struct{ base, rare *byte }

// streamPacked512 is stream512 for packed weights. If it reports false it has
// written nothing.
func streamPacked512(j *Job, a *archScratch, r, rows, i, n int) bool {
	w := &j.W
	loops, x := &fmaPacked512, unsafe.Pointer(unsafe.SliceData(j.X.values))
	if j.X.layout == pairs {
		if w.lowest(r, r+rows)+a.low < safeExponents {
			return false
		}
		loops, x = &dpPacked512, unsafe.Pointer(unsafe.SliceData(j.X.words))
	}
	a.from = w.packedFrom(r)
	loops[n-1](&w.data(r)[0], &a.from, x, &a.xoff[i], &j.Y[r], &a.yoff[i], rows, w.Cols, j.X.groups/chunk)
	return true
}

// packedFrom returns where the exponents come from, from row r on.
func (m *Matrix) packedFrom(r int) packedFrom {
	return packedFrom{&m.Codes.base[m.first+r], &m.rareOf(r)[0]}
}

// lowest returns the lowest exponent field of packed rows, as lowOf has it.
func (m *Matrix) lowest(lo, hi int) int {
	return int(slices.Min(m.Codes.low[m.first+lo : m.first+hi]))
}

type packedLoop func(data *byte, from *packedFrom, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int)

// The streaming loops of packed weights, by rows of x.
var (
	dpPacked512  = [few]packedLoop{packedDP512x1, packedDP512x2, packedDP512x3, packedDP512x4, packedDP512x5}
	fmaPacked512 = [few]packedLoop{packedFMA512x1, packedFMA512x2, packedFMA512x3, packedFMA512x4, packedFMA512x5}
)

// avx512bf16Matrix is avx512Matrix with VDPBF16PS for bfloat16 activations.
func avx512bf16Matrix(expand bool) matrixSet {
	m := avx512Matrix(expand)
	m.BF16xBF16 = func(j *Job, s *Scratch) { multiply512(j, s, BF16, true, pairs) }
	m.MXFP4xBF16 = func(j *Job, s *Scratch) { multiply512(j, s, MXFP4, true, pairs) }
	m.half = pairs
	return m.packed512(expand)
}

const (
	few        = 5        // rows of x that streaming loops take
	fewBytes   = 30 << 10 // of x that stay in the first cache while weights stream by
	batch      = 32       // rows of w a call of those
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

// An MXFP4 weight of scale s is a multiple of 2^(s-127-1), as a bfloat16 is of
// field
const scaleField = 6 // more than s

// Blocks of a scale below 2 hold tiny weights, which would be subnormal. They
// are left out, as zeros, where that cannot be seen but in a sum of zero. Let u
// be what all other products are multiples of, and t the sum of all tiny ones.
// If t is at most u·2^-26, a product or sum of the others, which is zero or at
// least u, swallows what is tiny when it is added (the products have so few bits
// that they are float32 values), so that at every step the sums with and without
// the tiny products are equal, or the latter is zero.
//
// The tiny weights are below 2^-123 and the activations, of highest field h,
// below 2^(h-126); u is 2^(s-128)·2^(l-134), of lowest scale s and field l.
func mayLeaveOut(cols, s, l, h int) bool {
	return l != never && h < 255 && h-249+bits.Len(uint(cols)) <= s+l-262-26
}

// archScratch is what the sets of this processor need.
type archScratch struct {
	words      []uint16  // a panel
	wide       []uint16  // scales
	sums       []float32 // accumulators between passes, [rows of x][4][16]
	tail       []float32 // results of an incomplete panel, [rows of x][4]
	xoff, yoff []int     // of each row of x and its results, in bytes
	tailoff    []int     // 16·i
	low, high  int       // exponent fields of all rows of x
	odd        rowSet    // rows of x that VDPBF16PS may not take
	from       packedFrom

	// Of AVX2: a panel, and the last chunks of rows, padded with zeros.
	panel      []float32
	lastData   [batch * 2 * chunk * group]byte
	lastScales [batch][chunk]byte
}

// setOffsets prepares the places of the job's rows of x and their results.
func (a *archScratch) setOffsets(j *Job, rowBytes int) {
	n := j.n()
	a.xoff, a.yoff = growInts(a.xoff, n), growInts(a.yoff, n)
	for i := range n {
		a.xoff[i], a.yoff[i] = j.x(i)*rowBytes, 4*j.y(i)
	}
}

// panelResults makes room for the results of n rows of x and a panel.
func (a *archScratch) panelResults(n int) {
	a.sums = grow(a.sums, n*panelRows*16)
	a.tail = grow(a.tail, n*panelRows)
	for len(a.tailoff) < n {
		a.tailoff = append(a.tailoff, 16*len(a.tailoff))
	}
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
	a.setOffsets(j, rowBytes)
	a.odd.have = a.odd.have[:0]
	a.low, a.high = 1<<10, 0
	if l == pairs {
		for i := range n {
			t := j.x(i)
			a.low, a.high = min(a.low, int(j.X.low[t])), max(a.high, int(j.X.high[t]))
		}
	}
	// Weights that stream by can be multiplied with a second few rows of x while
	// they are in the second cache.
	most := max(1, min(few, fewBytes/rowBytes))
	if kind == BF16 && l == pairs && most < n && n <= most+tileRows {
		thenTiles512(j, a, min(most, (n+1)/2))
		return
	}
	if n <= most || n <= 2*most && kind == BF16 {
		size := (n + most - 1) / most
		size = (n + size - 1) / size
		for r := j.Lo; r < j.Hi; r += batch {
			rows := min(batch, j.Hi-r)
			for i := 0; i < n; i += size {
				if k := min(size, n-i); !stream512(j, a, r, rows, i, k) {
					panels512(j, a, r, r+rows, i, k)
				}
			}
		}
		return
	}
	block := xBlock(n, rowBytes, tileRows)
	for i := 0; i < n; i += block {
		panels512(j, a, j.Lo, j.Hi, i, min(block, n-i))
	}
}

// thenTiles512 multiplies bfloat16 weights with the first few rows of x while they
// stream by, and with the others, a tile, when the second cache has them.
func thenTiles512(j *Job, a *archScratch, first int) {
	n := j.n()
	a.sums = grow(a.sums, batch*(n-first)*16)
	for r := j.Lo; r < j.Hi; r += batch {
		rows := min(batch, j.Hi-r)
		if !stream512(j, a, r, rows, 0, first) {
			panels512(j, a, r, r+rows, 0, n)
			continue
		}
		fours := rows / panelRows
		if fours > 0 {
			bf16DP512tiles(&j.W.data(r)[0], unsafe.Pointer(&j.X.words[0]), &a.xoff[first], n-first, j.W.Cols, j.X.groups/chunk, &a.sums[0], &j.Y[r], &a.yoff[first], fours)
		}
		if fours *= panelRows; fours < rows {
			panels512(j, a, r+fours, r+rows, first, n-first)
		}
	}
}

// xBlock shares n rows of x evenly among as few blocks as stay in the second
// cache, in whole tiles.
func xBlock(n, rowBytes, tile int) int {
	most := max(tile, blockBytes/rowBytes/tile*tile)
	blocks := (n + most - 1) / most
	return ((n+blocks-1)/blocks + tile - 1) / tile * tile
}

// panels512 multiplies rows lo to hi of w with rows i to i+n of x.
func panels512(j *Job, a *archScratch, lo, hi, i, n int) {
	steps := j.X.groups / chunk
	a.words = grow(a.words, panelRows*j.X.width())
	a.panelResults(n)
	for r := lo; r < hi; r += panelRows {
		rows := min(panelRows, hi-r)
		p := panel512(j, a, r, rows)
		y, base, yoff := &j.Y[r], j.Y[r:], a.yoff[i:]
		if rows < panelRows {
			y, base, yoff = &a.tail[0], a.tail, a.tailoff
		}
		if j.X.layout != pairs {
			p.exact(&j.W, a.words)
			tilesFMA512(&a.words[0], unsafe.Pointer(&j.X.values[0]), &a.xoff[i], n, steps, &a.sums[0], y, &yoff[0])
		} else {
			// Rows of x that need more care are few, so that all go the fast way first.
			o := &a.odd
			o.xoff, o.yoff = o.xoff[:0], o.yoff[:0]
			if p.low+a.low < safeExponents || p.tiny {
				for k := range n {
					if t := j.x(i + k); !p.fast(int(j.X.low[t]), int(j.X.high[t]), j.W.Cols) {
						o.add(j, i+k, yoff[k])
					}
				}
			}
			if len(o.xoff) < n {
				tilesDP512(&a.words[0], unsafe.Pointer(&j.X.words[0]), &a.xoff[i], n, steps, &a.sums[0], y, &yoff[0])
			}
			if p.tiny && len(o.xoff) < n {
				o.xoff, o.yoff = o.xoff[:0], o.yoff[:0]
				for k := range n {
					t, v := j.x(i+k), base[yoff[k]/4:][:rows]
					if slices.Contains(v, 0) || !p.fast(int(j.X.low[t]), int(j.X.high[t]), j.W.Cols) {
						o.add(j, i+k, yoff[k])
					}
				}
			}
			if k := len(o.xoff); k > 0 {
				p.exact(&j.W, a.words)
				tilesFMA512(&a.words[0], unsafe.Pointer(&o.values[0]), &o.xoff[0], k, steps, &a.sums[0], y, &o.yoff[0])
			}
		}
		if rows < panelRows {
			for k := range n {
				copy(j.Y[a.yoff[i+k]/4+r:][:rows], a.tail[k*panelRows:])
			}
		}
	}
}

// add lists row i of the job's rows of x, with the offset of its results.
func (o *rowSet) add(j *Job, i, yoff int) {
	all, width := j.n(), j.X.width()
	if len(o.have) == 0 {
		o.values = grow(o.values, all*width)
		if cap(o.have) < all {
			o.have = make([]bool, all)
		}
		o.have = o.have[:all]
		clear(o.have)
	}
	at := i * width
	if !o.have[i] {
		o.have[i] = true
		expandPairs(o.values[at:][:width], j.X.word(j.x(i)))
	}
	o.xoff, o.yoff = append(o.xoff, 4*at), append(o.yoff, yoff)
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

// A panel describes the rows of weights in archScratch.words.
type panel struct {
	r, rows, steps int
	low            int  // the lowest exponent field, as safeExponents has it
	tiny           bool // blocks of a scale below 2 are zeros
	patch          bool // blocks of other scales than 2 to 252 are not as they should be
}

// fast reports whether a row of x of these exponent fields may be multiplied by
// VDPBF16PS, if no result is zero.
func (p *panel) fast(low, high, cols int) bool {
	return p.low+low >= safeExponents && (!p.tiny || mayLeaveOut(cols, p.low-scaleField, low, high))
}

// panel512 decodes rows of w, at most four.
func panel512(j *Job, a *archScratch, r, rows int) panel {
	w, p := &j.W, panel{r: r, rows: rows, steps: j.X.groups / chunk}
	if w.Kind == BF16 {
		p.low = lowOf(panelBF16x512(&a.words[0], &w.data(r)[0], rows, w.Cols, p.steps))
		return p
	}
	if w.Kind == Packed {
		a.from = w.packedFrom(r)
		panelPacked512(&a.words[0], &w.data(r)[0], &a.from, rows, w.Cols, p.steps)
		p.low = w.lowest(r, r+rows)
		return p
	}
	least, lo, hi := widen512(w, a, r, rows)
	panelMXFP4x512(&a.words[0], &w.data(r)[0], &a.wide[0], rows, w.scaleStride(), p.steps)
	p.tiny, p.low = least < 2, lo+scaleField
	p.patch = p.tiny || hi > 252
	if hi > 252 {
		p.low = never
	}
	return p
}

// exact puts right what the loop could not decode.
func (p *panel) exact(w *Matrix, words []uint16) {
	if !p.patch {
		return
	}
	p.patch = false
	for k := range p.rows {
		data, scales := w.data(p.r+k), w.scales(p.r+k)
		for b, s := range scales {
			if s >= 2 && s <= 252 {
				continue
			}
			for c := b * float.BlockSize; c < (b+1)*float.BlockSize; c++ {
				g, word := c%chunk, c/chunk%group
				at := ((g*p.steps+c/(chunk*group))*panelRows+k)*group + word
				words[at] = float.ToBF16(weight(MXFP4, data, scales, c))
			}
		}
	}
}

// widen512 prepares the scales of rows of w, and returns the least, the least of
// those from 2 on, and the highest.
func widen512(w *Matrix, a *archScratch, r, rows int) (least, lo, hi int) {
	n := rows * w.scaleStride()
	a.wide = grow(a.wide, (n+63)&^63)
	if least, hi := widenPlain512(&a.wide[0], &w.scales(r)[0], n); least >= 2 {
		return int(least), int(least), int(hi)
	}
	k, l, h := widenScales512(&a.wide[0], &w.scales(r)[0], n)
	return int(k), int(min(l, 255)), int(h)
}

// stream512 multiplies rows of w with rows i to i+n of x, few at most. It reports
// false if it may not be used for those; what it wrote must then be written again.
func stream512(j *Job, a *archScratch, r, rows, i, n int) bool {
	if j.W.Kind == Packed {
		return streamPacked512(j, a, r, rows, i, n)
	}
	w, steps, xoff, yoff := &j.W, j.X.groups/chunk, a.xoff[i:], a.yoff[i:]
	fast := j.X.layout == pairs
	if fast && a.low == never {
		return false
	}
	size, wlow, tiny := w.Cols, 0, false
	var wide *uint16
	if w.Kind == MXFP4 {
		least, lo, hi := widen512(w, a, r, rows)
		tiny = least < 2
		if hi > 252 || tiny && !(fast && mayLeaveOut(w.Cols, lo, a.low, a.high)) || fast && lo+scaleField+a.low < safeExponents {
			return false
		}
		size, wide, wlow = w.scaleStride(), &a.wide[0], lo+scaleField
	}
	loops, x := &fmaStreams512[w.Kind], unsafe.Pointer(unsafe.SliceData(j.X.values))
	if fast {
		loops, x = &dpStreams512[w.Kind], unsafe.Pointer(unsafe.SliceData(j.X.words))
	}
	from, loop := 0, loops[n-1]
	if fast && wide != nil && n <= len(mxfp4Together512) {
		t := &mxfp4Together512[n-1]
		if from = rows &^ (t.rows - 1); from > 0 {
			t.loop(&w.data(r)[0], wide, x, &xoff[0], &j.Y[r], &yoff[0], from, size, steps)
		}
	}
	least := uint16(0)
	if from < rows {
		if wide != nil {
			wide = &a.wide[from*size]
		}
		least = loop(&w.data(r + from)[0], wide, x, &xoff[0], &j.Y[r+from], &yoff[0], rows-from, size, steps)
	}
	if w.Kind == BF16 {
		wlow = lowOf(least)
	}
	if tiny {
		for k := range rows {
			for _, off := range yoff[:n] {
				if j.Y[off/4+r+k] == 0 {
					panels512(j, a, r+k, r+k+1, i, n)
					break
				}
			}
		}
	}
	return !fast || wlow+a.low >= safeExponents
}

type streamLoop func(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

// The streaming loops by kind of weights and rows of x.
var (
	dpStreams512  = [2][few]streamLoop{{bf16DP512x1, bf16DP512x2, bf16DP512x3, bf16DP512x4, bf16DP512x5}, {mxfp4DP512x1, mxfp4DP512x2, mxfp4DP512x3, mxfp4DP512x4, mxfp4DP512x5}}
	fmaStreams512 = [2][few]streamLoop{{bf16FMA512x1, bf16FMA512x2, bf16FMA512x3, bf16FMA512x4, bf16FMA512x5}, {mxfp4FMA512x1, mxfp4FMA512x2, mxfp4FMA512x3, mxfp4FMA512x4, mxfp4FMA512x5}}
)

// Most of decoding is MXFP4 weights and one row of x, or two or three where
// sessions share an expert: several rows of weights at a time, by rows of x.
var mxfp4Together512 = [...]struct {
	loop streamLoop
	rows int // a power of two
}{{mxfp4DP512fours, 4}, {mxfp4DP512pairs2, 2}, {mxfp4DP512pairs3, 2}}

// packRows512 is packRows for layouts pairs and lanes16.
func packRows512(dst *Activations, first int, x []float32, n, stride int) {
	if dst.layout != pairs {
		packLanes(dst, first, x, n, stride)
		return
	}
	dst.checkRows(first, x, n, stride)
	steps := dst.groups / chunk
	whole := dst.cols / (chunk * group)
	for t := range n {
		row, words := x[t*stride:][:dst.cols], dst.word(first+t)
		least, most := ^uint16(0), uint16(0)
		if whole > 0 {
			least, most = packChunks512(dst.kind, &words[0], &row[0], whole, steps)
		}
		if whole < steps {
			var last [chunk * group]float32
			copy(last[:], row[whole*chunk*group:])
			l, m := packChunks512(dst.kind, &words[whole*group], &last[0], 1, steps)
			least, most = min(least, l), max(most, m)
		}
		dst.low[first+t], dst.high[first+t] = int16(lowOf(least)), int16(most>>8)
	}
}

func packChunks512(kind Kind, dst *uint16, x *float32, chunks, steps int) (least, most uint16) {
	if kind == MXFP4 {
		return packMXFP4x512(dst, x, chunks, steps)
	}
	return packBF16x512(dst, x, chunks, steps)
}

// packLanes is packRows for layouts lanes8 and lanes16.
func packLanes(dst *Activations, first int, x []float32, n, stride int) {
	dst.checkRows(first, x, n, stride)
	r := roundingTo(dst.half)
	steps, whole := dst.groups/chunk, dst.cols/(chunk*group)
	for t := range n {
		row, values := x[t*stride:][:dst.cols], dst.value(first+t)
		if whole > 0 {
			packLaneChunks(dst, &values[0], &row[0], whole, steps, r)
		}
		if whole < steps {
			var last [chunk * group]float32
			copy(last[:], row[whole*chunk*group:])
			packLaneChunks(dst, &values[2*int(dst.layout)*whole], &last[0], 1, steps, r)
		}
	}
}

func packLaneChunks(a *Activations, dst, x *float32, chunks, steps int, r *rounding) {
	switch {
	case a.layout == lanes8 && a.kind == MXFP4:
		packLanesMXFP4x256(dst, x, chunks, steps, r)
	case a.layout == lanes8:
		packLanesBF16x256(dst, x, chunks, steps, r)
	case a.kind == MXFP4:
		packLanesMXFP4x512(dst, x, chunks, steps, r)
	default:
		packLanesBF16x512(dst, x, chunks, steps, r)
	}
}
