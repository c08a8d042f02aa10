package parity

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"

	"ossify/checkpoint"
	"ossify/float"
	"ossify/internal/fileset"
)

// A Layout announces a stage of a trace that is going to be written.
type Layout struct {
	Name    string
	Row     []int // dimensions of a row, one or more
	Indices bool  // I32 and not the trace's precision
	Whole   bool  // all rows are kept, and not those at the positions only
	Step    bool  // it is within a stage: the rows at the positions of steps are kept
}

// A TraceWriter writes a trace, one stage after the other.
type TraceWriter struct {
	w         *checkpoint.Writer
	name      string
	tokens    int
	positions []int
	steps     []int
	stages    []Layout
	types     []checkpoint.DType // by stage
	next      int
}

// CreateTrace starts a trace of tokens, as one file of set, that keeps the rows
// at positions, which must rise; of what is within stages those at steps, which
// are some of them or none. Metadata must say the precision; the format is added to it.
func CreateTrace(set *fileset.Set, path string, tokens []uint32, positions, steps []int, stages []Layout, metadata map[string]string) (*TraceWriter, error) {
	name := filepath.Base(path)
	bad := func(format string, args ...any) (*TraceWriter, error) {
		return nil, fmt.Errorf("parity: %s: "+format, append([]any{name}, args...)...)
	}
	precision, err := ParsePrecision(metadata["precision"])
	if err != nil {
		return nil, err
	}
	switch {
	case len(tokens) == 0:
		return bad("no tokens, want one or more")
	case len(positions) == 0:
		return bad("no positions, want one or more")
	case len(stages) == 0:
		return bad("no stages, want one or more")
	}
	ids, rows := make([]byte, 4*len(tokens)), make([]byte, 4*len(positions))
	for i, id := range tokens {
		if id > math.MaxInt32 {
			return bad("token %d at %d, want at most %d", id, i, math.MaxInt32)
		}
		binary.LittleEndian.PutUint32(ids[4*i:], id)
	}
	for i, p := range positions {
		if p < 0 || p >= len(tokens) || i > 0 && p <= positions[i-1] {
			return bad("position %d at %d, want them rising and below %d, the number of tokens", p, i, len(tokens))
		}
		binary.LittleEndian.PutUint32(rows[4*i:], uint32(p))
	}
	within := make([]byte, 4*len(steps))
	for i, p := range steps {
		if _, ok := slices.BinarySearch(positions, p); !ok || i > 0 && p <= steps[i-1] {
			return bad("steps at %d, want them rising and among the positions", p)
		}
		binary.LittleEndian.PutUint32(within[4*i:], uint32(p))
	}
	entries := []checkpoint.Entry{
		{Name: tokensName, Type: checkpoint.I32, Shape: []int{len(tokens)}},
		{Name: positionsName, Type: checkpoint.I32, Shape: []int{len(positions)}},
	}
	if len(steps) > 0 {
		entries = append(entries, checkpoint.Entry{Name: stepsName, Type: checkpoint.I32, Shape: []int{len(steps)}})
	}
	t := &TraceWriter{name: name, tokens: len(tokens), positions: positions, steps: steps, stages: stages}
	for _, s := range stages {
		e := checkpoint.Entry{Name: s.Name, Type: precision, Shape: append([]int{len(positions)}, s.Row...)}
		switch {
		case s.Whole:
			e.Shape[0] = len(tokens)
		case s.Step:
			e.Shape[0] = len(steps)
		}
		if s.Indices {
			e.Type = checkpoint.I32
		}
		entries, t.types = append(entries, e), append(t.types, e.Type)
	}
	metadata = maps.Clone(metadata)
	metadata["format"] = Format
	if t.w, err = checkpoint.Create(set, path, entries, metadata); err != nil {
		return nil, err
	}
	if err := t.write(tokensName, ids); err != nil {
		return nil, err
	}
	if err := t.write(positionsName, rows); err != nil {
		return nil, err
	}
	if len(steps) > 0 {
		if err := t.write(stepsName, within); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *TraceWriter) write(name string, data []byte) error {
	w, err := t.w.Tensor(name)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// Stage writes the next stage, which must be the one of that name: values holds
// a row for each position in at, which rises and has all that the stage keeps.
func (t *TraceWriter) Stage(name string, at []int, values []float64) error {
	if t.next >= len(t.stages) || t.stages[t.next].Name != name {
		return fmt.Errorf("parity: %s: %s: not the next stage", t.name, name)
	}
	s, typ := t.stages[t.next], t.types[t.next]
	t.next++
	width := 1
	for _, d := range s.Row {
		width *= d
	}
	wanted := t.positions
	switch {
	case s.Whole:
		wanted = UpTo(t.tokens)
	case s.Step:
		wanted = t.steps
	}
	if len(values) != len(at)*width {
		return fmt.Errorf("parity: %s: %s: %d values, want %d rows of %d", t.name, name, len(values), len(at), width)
	}
	for _, p := range wanted {
		if _, ok := slices.BinarySearch(at, p); !ok {
			return fmt.Errorf("parity: %s: %s: no row at position %d", t.name, name, p)
		}
	}
	return t.write(name, encode(At(values, width, at, wanted), typ))
}

func encode(values []float64, t checkpoint.DType) []byte {
	b := make([]byte, 0, len(values)*t.Size())
	for _, v := range values {
		switch t {
		case checkpoint.BF16:
			b = binary.LittleEndian.AppendUint16(b, float.ToBF16(float32(v)))
		case checkpoint.F32:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
		case checkpoint.F64:
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		default: // I32
			b = binary.LittleEndian.AppendUint32(b, uint32(int32(v)))
		}
	}
	return b
}

// Close completes the file: every stage must have been written.
func (t *TraceWriter) Close() error { return t.w.Close() }

// UpTo returns the positions of n tokens: 0 to n − 1.
func UpTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}
