// Package weight holds a model's parameters as a checkpoint stores them: runs
// of rows in place, proved once. The oracle, the engine and the exporters read
// the same [Set].
package weight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"

	"ossify/checkpoint"
	"ossify/float"
	"ossify/graph"
	"ossify/internal/mapped"
)

// A Source is a run of a parameter's rows. The rows of a parameter [.., D] are
// Π(..), those of a vector [D] are D of one value.
//
// Its bytes are mapped if its tensors name a file, which is where they lie; a
// tensor that names none was made or changed in memory.
type Source struct {
	Rows   int               // New counts them
	Data   checkpoint.Tensor // BF16 or F32 values, or U8 blocks [.., D/32, 16] of MXFP4
	Scales checkpoint.Tensor // U8 [.., D/32] of MXFP4, else the zero Tensor
}

// A Set is the parameters of a graph. It does not change, and is safe for use
// by several goroutines.
type Set struct {
	params  []graph.Param
	sources [][]Source // by parameter, in row order
	files   []checkpoint.FileInfo
}

// New returns the set of params, whose bytes sources have, for each parameter
// in row order, in the files that their tensors name. It proves that no reader
// of a row can leave its bytes: types and shapes are those that the parameter
// asks for, and each tensor has the bytes of its shape. Only vectors may be F32;
// an MXFP4 parameter is one source.
func New(params []graph.Param, sources [][]Source, files []checkpoint.FileInfo) (*Set, error) {
	if len(sources) != len(params) {
		return nil, fmt.Errorf("weight: sources of %d parameters, want %d", len(sources), len(params))
	}
	s := &Set{params: params, sources: make([][]Source, len(params)), files: files}
	var errs []error
	for i, p := range params {
		s.sources[i] = slices.Clone(sources[i])
		if err := prove(p, s.sources[i]); err != nil {
			errs = append(errs, fmt.Errorf("weight: %s: %w", p.Name, err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

// prove checks the sources of p and counts their rows.
func prove(p graph.Param, sources []Source) error {
	if len(sources) == 0 {
		return errors.New("no tensor")
	}
	if p.Storage == graph.MXFP4 {
		if len(sources) != 1 {
			return fmt.Errorf("%d tensors of blocks, want one: an expert's rows lie together", len(sources))
		}
		last := len(p.Shape) - 1
		scales := append(slices.Clone([]int(p.Shape[:last])), p.Shape[last]/float.BlockSize)
		blocks := append(slices.Clone(scales), float.BlockBytes)
		if err := is(sources[0].Data, checkpoint.U8, blocks); err != nil {
			return err
		}
		sources[0].Rows = Rows(p)
		return is(sources[0].Scales, checkpoint.U8, scales)
	}
	rows := 0
	for i, s := range sources {
		t := s.Data
		if t.Type != checkpoint.BF16 && (t.Type != checkpoint.F32 || len(p.Shape) > 1) || t.Type != sources[0].Data.Type {
			want := "BF16"
			if len(p.Shape) == 1 {
				want = "BF16 or F32, all the same"
			}
			return fmt.Errorf("tensor %s is %v, want %s", t.Name, t.Type, want)
		}
		if len(t.Shape) != len(p.Shape) || !slices.Equal(t.Shape[1:], []int(p.Shape[1:])) || t.Shape[0] < 0 {
			return fmt.Errorf("tensor %s is %v, want rows of %v", t.Name, graph.Shape(t.Shape), p.Shape)
		}
		if err := is(t, t.Type, t.Shape); err != nil {
			return err
		}
		if s.Scales.Data != nil {
			return fmt.Errorf("tensor %s has scales, want none for %v", t.Name, p.Storage)
		}
		of := p
		of.Shape = t.Shape
		sources[i].Rows = Rows(of)
		rows += t.Shape[0]
	}
	if rows != p.Shape[0] {
		return fmt.Errorf("%d rows, want %v", rows, p.Shape)
	}
	return nil
}

// is checks type and shape of a tensor, and that its bytes are there.
func is(t checkpoint.Tensor, kind checkpoint.DType, shape []int) error {
	want := checkpoint.Entry{Name: t.Name, Type: kind, Shape: shape}
	if t.Type != kind || !slices.Equal(t.Shape, shape) {
		return fmt.Errorf("tensor %s is %v, want %v", t.Name, t.Entry(), want)
	}
	if n, ok := want.Bytes(); !ok || n != int64(len(t.Data)) {
		return fmt.Errorf("tensor %s: %d bytes for %v, want %d", t.Name, len(t.Data), want, n)
	}
	return nil
}

// Rows returns the rows of a parameter, Columns the values of one.
func Rows(p graph.Param) int {
	if len(p.Shape) == 1 {
		return p.Shape[0]
	}
	n := 1
	for _, d := range p.Shape[:len(p.Shape)-1] {
		n *= d
	}
	return n
}

// Columns returns the values of a row of a parameter.
func Columns(p graph.Param) int {
	if len(p.Shape) == 1 {
		return 1
	}
	return p.Shape.Last()
}

// Fits reports whether the set holds just these parameters, in this order: the
// weights of a graph, or of an edit of it, are those of its own parameters.
func (s *Set) Fits(params []graph.Param) error {
	if len(params) != len(s.params) {
		return fmt.Errorf("weight: a set of %d parameters, want one of %d", len(s.params), len(params))
	}
	for i, p := range params {
		if q := s.params[i]; q.Name != p.Name || q.Storage != p.Storage || !slices.Equal(q.Shape, p.Shape) {
			return fmt.Errorf("weight: parameter %d is %s, %v %v, want %s, %v %v", i, q.Name, q.Storage, q.Shape, p.Name, p.Storage, p.Shape)
		}
	}
	return nil
}

// Params returns the parameters. The caller must not change the slice.
func (s *Set) Params() []graph.Param { return s.params }

// Sources returns where parameter p of the graph lies, in row order. The
// caller must not change the slice.
func (s *Set) Sources(p int) []Source { return s.sources[p] }

// Files returns the files that sources name. The caller must not change the
// slice.
func (s *Set) Files() []checkpoint.FileInfo { return s.files }

// Row writes row i of parameter p to dst, which has the row's length. The
// conversion is exact.
func (s *Set) Row(p, i int, dst []float64) {
	var part [8 * float.BlockSize]float32 // not on the heap: the oracle asks for millions of rows
	for lo := 0; lo < len(dst); lo += len(part) {
		to := dst[lo:min(lo+len(part), len(dst))]
		s.Part32(p, i, lo, part[:len(to)])
		for j := range to {
			to[j] = float64(part[j])
		}
	}
}

// Row32 is Row in float32, exact too.
func (s *Set) Row32(p, i int, dst []float32) { s.Part32(p, i, 0, dst) }

// Part32 writes the columns from lo on of row i of parameter p to dst. Of MXFP4
// they must be whole blocks.
func (s *Set) Part32(p, i, lo int, dst []float32) {
	cols := Columns(s.params[p])
	for k := range s.sources[p] {
		from := &s.sources[p][k]
		if i >= from.Rows {
			i -= from.Rows
			continue
		}
		at, data := i*cols+lo, from.Data.Data
		switch {
		case s.params[p].Storage == graph.MXFP4:
			g, n := at/float.BlockSize, len(dst)/float.BlockSize
			float.DecodeMXFP4(dst, data[g*float.BlockBytes:], from.Scales.Data[g:g+n])
		case from.Data.Type == checkpoint.F32:
			float.DecodeF32(dst, data[4*at:])
		default:
			float.DecodeBF16(dst, data[2*at:])
		}
		return
	}
	panic(fmt.Sprintf("weight: %s: row %d beyond its end", s.params[p].Name, i))
}

// Vector returns the values of a parameter [D].
func (s *Set) Vector(p int) []float32 {
	v := make([]float32, 0, s.params[p].Shape[0])
	for _, from := range s.sources[p] {
		part := v[len(v) : len(v)+from.Rows]
		if from.Data.Type == checkpoint.F32 {
			float.DecodeF32(part, from.Data.Data)
		} else {
			float.DecodeBF16(part, from.Data.Data)
		}
		v = v[:len(v)+from.Rows]
	}
	return v
}

// Check reads the scales of all MXFP4 weights and refuses those that are NaN,
// 255. It is apart from New because it reads every page that holds a scale
// (6% of an MXFP4 weight: 0.6 GB of gpt-oss-20b): whoever is going to run the
// model calls it, whoever only looks at it need not.
func (s *Set) Check(ctx context.Context) error {
	var scales []checkpoint.Tensor
	for p, sources := range s.sources {
		if s.params[p].Storage == graph.MXFP4 {
			scales = append(scales, sources[0].Scales)
		}
	}
	errs := make([]error, len(scales))
	var next atomic.Int64
	mapped.Each(min(runtime.GOMAXPROCS(0), len(scales)), func(int) {
		for i := next.Add(1) - 1; i < int64(len(scales)) && ctx.Err() == nil; i = next.Add(1) - 1 {
			t := scales[i]
			if at := bytes.IndexByte(t.Data, float.ScaleNaN); at >= 0 {
				errs[i] = fmt.Errorf("weight: %s: %s: scale 255, which is NaN, at %v, want at most 254", t.File, t.Name, index(t.Shape, at))
			}
		}
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.Join(errs...)
}

// index returns the indices of element i of a row-major shape.
func index(shape []int, i int) []int {
	at := make([]int, len(shape))
	for d := len(shape) - 1; d >= 0; d-- {
		at[d], i = i%shape[d], i/shape[d]
	}
	return at
}

// Edited returns a set in which edit has changed parameters. It is given each
// with all its rows, values or MXFP4 blocks and scales as they are stored, in a
// copy, and says whether it changed it; what it did not change stays in place.
// Changed parameters lie in no file.
func (s *Set) Edited(edit func(p graph.Param, data, scales []byte) bool) *Set {
	out := &Set{params: s.params, sources: slices.Clone(s.sources), files: s.files}
	for i, p := range s.params {
		var data, scales []byte
		for _, from := range s.sources[i] {
			data, scales = append(data, from.Data.Data...), append(scales, from.Scales.Data...)
		}
		if !edit(p, data, scales) {
			continue
		}
		first := s.sources[i][0]
		shape := slices.Clone(first.Data.Shape)
		if p.Storage != graph.MXFP4 {
			shape[0] = p.Shape[0]
		}
		to := Source{Rows: Rows(p), Data: checkpoint.Tensor{Name: first.Data.Name, Type: first.Data.Type, Shape: shape, Data: data}}
		if scales != nil {
			to.Scales = checkpoint.Tensor{Name: first.Scales.Name, Type: first.Scales.Type, Shape: first.Scales.Shape, Data: scales}
		}
		out.sources[i] = []Source{to}
	}
	return out
}
