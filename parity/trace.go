package parity

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"ossify/checkpoint"
)

// Format is the version of trace files, in their metadata under "format".
//
// A trace holds tokens I32 [T], the ids of the whole sequence; positions I32
// [R], rising, the rows that it keeps; and a tensor [R, ..] for each stage
// under the stage's path. A stage may keep all T rows instead, as keys and
// values do, which later rows read. Indices are I32; all else is of the type
// that metadata calls precision.
//
// A trace may hold what is within stages too: steps I32 [S], rising, some of the
// positions, and a tensor [S, ..] for each step under a path below its stage's.
const Format = "ossify-trace-1"

// Names of the tensors that are not stages.
const (
	tokensName    = "tokens"
	positionsName = "positions"
	stepsName     = "steps"
)

// precisions are the values of metadata's precision.
var precisions = [...]struct {
	name string
	t    checkpoint.DType
}{{"bf16", checkpoint.BF16}, {"f32", checkpoint.F32}, {"f64", checkpoint.F64}}

// ParsePrecision returns the type of the numbers of a trace whose precision has
// that name: bf16, f32 or f64.
func ParsePrecision(name string) (checkpoint.DType, error) {
	for _, p := range precisions {
		if p.name == name {
			return p.t, nil
		}
	}
	return 0, fmt.Errorf("parity: precision %q, want bf16, f32 or f64", name)
}

// A Trace is an open trace file. It is safe for use by several goroutines.
type Trace struct {
	file      *checkpoint.File
	tokens    []uint32
	positions []int
	steps     []int // none if there are no steps
	precision checkpoint.DType
	stages    []Stage // in the order of the file
}

// A Stage is the values of one stage in a trace.
type Stage struct {
	Name   string
	Shape  []int // [rows, ..]
	tensor checkpoint.Tensor
}

// OpenTrace opens a trace and checks all but the stages' values: what it
// returns has tokens, positions within them and stages of the right number of
// rows. Numbers may be NaN or infinite, for a trace shows what was computed;
// no comparison lets them pass.
func OpenTrace(path string) (*Trace, error) {
	f, err := checkpoint.OpenFile(path)
	if err != nil {
		return nil, err
	}
	t := &Trace{file: f}
	if err := t.parse(); err != nil {
		return nil, errors.Join(fmt.Errorf("parity: %s: %w", filepath.Base(path), err), f.Close())
	}
	return t, nil
}

func (t *Trace) parse() error {
	meta := t.file.Metadata()
	if got := meta["format"]; got != Format {
		return fmt.Errorf("format %q, want %q", cut(got), Format)
	}
	var err error
	if t.precision, err = ParsePrecision(meta["precision"]); err != nil {
		return fmt.Errorf("precision %q, want bf16, f32 or f64", cut(meta["precision"]))
	}
	ids, err := t.indices(tokensName)
	if err != nil {
		return err
	}
	for _, id := range ids {
		t.tokens = append(t.tokens, uint32(id))
	}
	if t.positions, err = t.indices(positionsName); err != nil {
		return err
	}
	for i, p := range t.positions {
		switch {
		case p >= len(ids):
			return fmt.Errorf("%s: %d at %d, want below %d, the number of tokens", positionsName, p, i, len(ids))
		case i > 0 && p <= t.positions[i-1]:
			return fmt.Errorf("%s: %d after %d, want them rising", positionsName, p, t.positions[i-1])
		}
	}
	if _, ok := t.file.Tensor(stepsName); ok {
		if t.steps, err = t.indices(stepsName); err != nil {
			return err
		}
	}
	for i, p := range t.steps {
		if _, ok := slices.BinarySearch(t.positions, p); !ok || i > 0 && p <= t.steps[i-1] {
			return fmt.Errorf("%s: %d at %d, want them rising and among the positions", stepsName, p, i)
		}
	}
	tensors := slices.Clone(t.file.Tensors())
	slices.SortFunc(tensors, func(a, b checkpoint.Tensor) int { return cmp.Compare(a.Offset, b.Offset) })
	for _, x := range tensors {
		if x.Name == tokensName || x.Name == positionsName || x.Name == stepsName {
			continue
		}
		if x.Type != t.precision && x.Type != checkpoint.I32 {
			return fmt.Errorf("%s: %v values in a trace of precision %s, want %v or I32", cut(x.Name), x.Type, meta["precision"], t.precision)
		}
		if len(x.Shape) < 2 || x.Shape[0] != len(t.positions) && x.Shape[0] != len(t.tokens) && x.Shape[0] != len(t.steps) || len(x.Data) == 0 {
			return fmt.Errorf("%s: shape %v, want %d rows of one or more columns, or all %d", cut(x.Name), x.Shape[:min(len(x.Shape), 8)], len(t.positions), len(t.tokens))
		}
		if x.Type == checkpoint.I32 {
			for i := range len(x.Data) / 4 {
				if v := int32(binary.LittleEndian.Uint32(x.Data[4*i:])); v < 0 {
					return fmt.Errorf("%s: %d at %d, want 0 or more", cut(x.Name), v, i)
				}
			}
		}
		t.stages = append(t.stages, Stage{x.Name, x.Shape, x})
	}
	if len(t.stages) == 0 {
		return errors.New("no stages, want one or more")
	}
	return nil
}

// indices reads tokens or positions.
func (t *Trace) indices(name string) ([]int, error) {
	x, ok := t.file.Tensor(name)
	switch {
	case !ok:
		return nil, fmt.Errorf("%s: missing, want an I32 vector", name)
	case x.Type != checkpoint.I32 || len(x.Shape) != 1:
		return nil, fmt.Errorf("%s: %v of shape %v, want an I32 vector", name, x.Type, x.Shape[:min(len(x.Shape), 8)])
	case len(x.Data) == 0:
		return nil, fmt.Errorf("%s: empty, want one or more", name)
	}
	list, err := x.Ints()
	for i, v := range list {
		if v < 0 {
			return nil, fmt.Errorf("%s: %d at %d, want 0 or more", name, v, i)
		}
	}
	return list, err
}

// cut shortens text of a file for a one-line message.
func cut(s string) string {
	if len(s) > 100 {
		s = s[:100] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// Close unmaps the file. No stage may be read afterwards.
func (t *Trace) Close() error { return t.file.Close() }

// Path returns the path the trace was opened by.
func (t *Trace) Path() string { return t.file.Path() }

// Tokens returns the ids of the whole sequence.
func (t *Trace) Tokens() []uint32 { return t.tokens }

// Positions returns the positions of the rows, rising.
func (t *Trace) Positions() []int { return t.positions }

// Steps returns the positions of the rows of steps, rising; none if there are no
// steps.
func (t *Trace) Steps() []int { return t.steps }

// Precision returns the type of the numbers.
func (t *Trace) Precision() checkpoint.DType { return t.precision }

// Metadata returns what the trace says of its making.
func (t *Trace) Metadata() map[string]string { return t.file.Metadata() }

// Stages returns the stages in the order of the file.
func (t *Trace) Stages() []Stage { return t.stages }

// Stage returns the stage of that name.
func (t *Trace) Stage(name string) (Stage, bool) {
	i := slices.IndexFunc(t.stages, func(s Stage) bool { return s.Name == name })
	if i < 0 {
		return Stage{}, false
	}
	return t.stages[i], true
}

// Indices reports whether the stage holds indices and not numbers.
func (s Stage) Indices() bool { return s.tensor.Type == checkpoint.I32 }

// Rows returns how many rows there are: one for each position that the trace
// keeps, for every token, or for each position that has steps.
func (s Stage) Rows() int { return s.Shape[0] }

// Width returns the elements of a row.
func (s Stage) Width() int {
	w := 1
	for _, d := range s.Shape[1:] {
		w *= d
	}
	return w
}

// Float64s returns all values, in a slice of their own.
func (s Stage) Float64s() []float64 {
	if s.Indices() {
		v := make([]float64, len(s.tensor.Data)/4)
		for i := range v {
			v[i] = float64(int32(binary.LittleEndian.Uint32(s.tensor.Data[4*i:])))
		}
		return v
	}
	v, _ := s.tensor.Float64s() // of a type that OpenTrace let in
	return v
}

// At returns the rows of values, a row of width elements for each of at, at the
// positions wanted, which are among them. Both lists rise.
func At(values []float64, width int, at, wanted []int) []float64 {
	if len(at) == len(wanted) {
		return values
	}
	out := make([]float64, 0, len(wanted)*width)
	for _, p := range wanted {
		i, ok := slices.BinarySearch(at, p)
		if !ok {
			panic(fmt.Sprintf("parity: no row at position %d", p))
		}
		out = append(out, values[i*width:(i+1)*width]...)
	}
	return out
}
