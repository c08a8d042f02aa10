package kernel

import (
	"fmt"

	"ossify/float"
)

// The products, y[t, r] = Σ_c w[r, c]·x[t, c], are sums of float32 multiply-adds
// (IEEE: rounded once to nearest even, subnormals kept) in 4 accumulators of 16
// lanes that start at +0.
//
// The columns, padded with zeros (w and x are +0) to whole chunks of 128, are in
// groups of 32, 4 groups a chunk. Group g goes to accumulator g mod 4: lane i
// takes word 2i+1 of the group, then word 2i. That is what VDPBF16PS does (Intel
// SDM), so that it can be used too where its flushing of subnormals cannot
// matter. Which column a word is depends on the kind of weights:
//
//   - BF16 and Packed: word w of group g is column 32g+w.
//   - MXFP4: a chunk is the 64 bytes of 4 blocks. Seen as 32 little-endian words
//     of 4 codes each, code n of word w is column 4w+n of the chunk, and word w
//     of its group n: so no code need change its place.
//
// The accumulators are added lane by lane, ((0+1)+2)+3; then lane i and lane i+8,
// of those i and i+4, i+2, i+1. (Fewer than 64 sums at once would make the
// rounding error of 4096 float32 products larger than 2e-7 of their sum.)
//
// An MXFP4 weight is the float32 product of its value and its scale
// (infinite if that overflows: scales from 253 on); codes 0 and 8 are +0.

// A Kind says how weights are stored.
type Kind uint8

const (
	// BF16 weights are [Rows, Cols] little-endian bfloat16 values.
	BF16 Kind = iota
	// MXFP4 weights are blocks of 32 columns: [Rows, Cols/32, 16] bytes, the low
	// half of a byte first, and [Rows, Cols/32] E8M0 scales, none of them NaN.
	MXFP4
	// Packed weights are bfloat16 values in some 11.2 bits: see packed.go.
	Packed
)

func (k Kind) String() string {
	switch k {
	case BF16:
		return "BF16"
	case MXFP4:
		return "MXFP4"
	case Packed:
		return "packed BF16"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

const (
	group = 32 // columns: 2 for each of 16 lanes
	chunk = 4  // groups: one for each accumulator
)

// groups returns how many groups the padded columns are.
func groups(cols int) int { return (cols + chunk*group - 1) / (chunk * group) * chunk }

// column returns the column that word w of group g is.
func (k Kind) column(g, w int) int {
	if k == MXFP4 {
		return g/chunk*chunk*group + chunk*w + g%chunk
	}
	return g*group + w
}

// activations returns the kind that activations are in the order of.
func (k Kind) activations() Kind {
	if k == Packed {
		return BF16
	}
	return k
}

// A Matrix is rows of weights in place, as checkpoints have them. The bytes
// need no alignment.
type Matrix struct {
	Kind       Kind
	Rows, Cols int
	Data       []byte // BF16: [Rows, Cols, 2]; MXFP4: [Rows, Cols/32, 16]
	Scales     []byte // MXFP4: [Rows, Cols/32]; none is 255
	Codes      *Codes // Packed
	first      int    // row of Codes that row 0 is
}

// RowBytes returns the bytes that a product reads for each row, scales included.
func (m *Matrix) RowBytes() int { return m.dataStride() + m.scaleStride() }

func (m *Matrix) dataStride() int {
	switch m.Kind {
	case MXFP4:
		return m.Cols / float.BlockSize * float.BlockBytes
	case Packed:
		return packedStride(m.Cols)
	}
	return 2 * m.Cols
}

func (m *Matrix) scaleStride() int {
	if m.Kind == MXFP4 {
		return m.Cols / float.BlockSize
	}
	return 0
}

// data and scales return row r.

func (m *Matrix) data(r int) []byte {
	n := m.dataStride()
	return m.Data[r*n:][:n:n]
}

func (m *Matrix) scales(r int) []byte {
	n := m.scaleStride()
	return m.Scales[r*n:][:n:n]
}

// A Job is part of a product: rows Lo to Hi of W with chosen rows of X. Jobs
// that write different elements of Y may run at the same time, each with a
// Scratch of its own. Faster sets take the weight rows four by four, counted
// from Lo.
type Job struct {
	W      Matrix
	Lo, Hi int

	X     *Activations // packed for W.Kind
	XRows []int32      // the chosen rows of X; nil is all of them

	// The product of XRows[i] and weight row r goes to Y[YRows[i]*Stride+r].
	Y      []float32
	YRows  []int32 // nil is 0, 1, 2, …
	Stride int
}

// n returns the number of rows of X that are chosen.
func (j *Job) n() int {
	if j.XRows == nil {
		return j.X.n
	}
	return len(j.XRows)
}

// x and y return the i-th chosen row of X, and where in Y its results start.

func (j *Job) x(i int) int {
	if j.XRows == nil {
		return i
	}
	return int(j.XRows[i])
}

func (j *Job) y(i int) int {
	if j.YRows != nil {
		i = int(j.YRows[i])
	}
	return i * j.Stride
}

// check panics if the job does not fit its slices: the loops below do not look.
func (j *Job) check(kind Kind, half bool, l layout) {
	w, x := &j.W, j.X
	of := kind.activations()
	bad := func(format string, a ...any) { panic("kernel: " + fmt.Sprintf(format, a...)) }
	switch {
	case w.Kind != kind || x.kind != of:
		bad("weights are %v, activations packed for %v, want %v and %v", w.Kind, x.kind, kind, of)
	case x.half != half || x.layout != l:
		bad("activations are packed for another entry or set")
	case w.Cols < 1 || w.Cols != x.cols:
		bad("%d columns of weights, %d of activations", w.Cols, x.cols)
	case kind == MXFP4 && w.Cols%float.BlockSize != 0:
		bad("%d columns of MXFP4, want a multiple of %d", w.Cols, float.BlockSize)
	case j.Lo < 0 || j.Hi < j.Lo || w.Rows < j.Hi:
		bad("rows %d to %d of %d", j.Lo, j.Hi, w.Rows)
	case len(w.Data) < j.Hi*w.dataStride() || len(w.Scales) < j.Hi*w.scaleStride():
		bad("%d bytes of weights, %d of scales, want %d and %d", len(w.Data), len(w.Scales), j.Hi*w.dataStride(), j.Hi*w.scaleStride())
	case kind == Packed && (w.Codes == nil || w.first+j.Hi >= len(w.Codes.starts)):
		bad("packed rows %d to %d without their codes", j.Lo, j.Hi)
	case j.YRows != nil && len(j.YRows) != j.n() || j.Stride < j.Hi:
		bad("%d result rows of %d for %d rows, %d weights", len(j.YRows), j.Stride, j.n(), j.Hi)
	}
	for i := range j.n() {
		if t := j.x(i); t < 0 || t >= x.n {
			bad("row %d of %d activations", t, x.n)
		}
		if y := j.y(i); y < 0 || y+j.Hi > len(j.Y) {
			bad("result row at %d, %d long, in %d", y, j.Hi, len(j.Y))
		}
	}
}

// matrixSet is the part of a Set that multiplies matrices.
type matrixSet struct {
	// One entry by (weights, activations). Each takes one row of X, a few or
	// many as it does best, with the same bits.
	BF16xBF16, BF16xF32, MXFP4xBF16, MXFP4xF32, PackedxBF16, PackedxF32 func(j *Job, s *Scratch)

	// PackRows packs n rows of x, stride elements apart, as rows first and on of
	// dst, which Resize has made. Rows may be packed at the same time.
	PackRows func(dst *Activations, first int, x []float32, n, stride int)

	full, half layout // of activations
}

// matrixWith returns a set of one product for both kinds of weights and of
// activations, without packed weights. All activations have one layout.
func matrixWith(l layout, pack func(dst *Activations, first int, x []float32, n, stride int), product func(j *Job, s *Scratch, kind Kind, half bool)) matrixSet {
	entry := func(kind Kind, half bool) func(j *Job, s *Scratch) {
		return func(j *Job, s *Scratch) { product(j, s, kind, half) }
	}
	return matrixSet{
		BF16xBF16: entry(BF16, true), BF16xF32: entry(BF16, false),
		MXFP4xBF16: entry(MXFP4, true), MXFP4xF32: entry(MXFP4, false),
		PackRows: pack, full: l, half: l,
	}
}

// Resize makes room in dst for n rows of cols activations, to be multiplied
// with weights of one kind (BF16 and Packed are one); half rounds them to bfloat16. What dst held is lost.
func (m *matrixSet) Resize(dst *Activations, kind Kind, half bool, n, cols int) {
	l := m.full
	if half {
		l = m.half
	}
	dst.resize(l, kind.activations(), half, n, cols)
}

// Pack is Resize and PackRows of all n rows.
func (m *matrixSet) Pack(dst *Activations, kind Kind, half bool, x []float32, n, cols, stride int) {
	m.Resize(dst, kind, half, n, cols)
	m.PackRows(dst, 0, x, n, stride)
}

// Multiply runs the entry that the job is for.
func (m *matrixSet) Multiply(j *Job, s *Scratch) {
	entry := m.BF16xF32
	switch {
	case j.W.Kind == MXFP4 && j.X.half:
		entry = m.MXFP4xBF16
	case j.W.Kind == MXFP4:
		entry = m.MXFP4xF32
	case j.W.Kind == Packed && j.X.half:
		entry = m.PackedxBF16
	case j.W.Kind == Packed:
		entry = m.PackedxF32
	case j.X.half:
		entry = m.BF16xBF16
	}
	entry(j, s)
}
