package checkpoint

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"ossify/float"
)

// A DType is the element type of a tensor. The zero DType is none.
type DType uint8

// The types that this package reads and writes, in the order of the Rust
// library, which sorts tensors by it when it writes a file (see Sort).
const (
	BOOL DType = iota + 1
	U8
	I8
	I16
	U16
	F16
	BF16
	I32
	U32
	F32
	F64
	I64
	U64
)

var dtypes = [...]struct {
	name string
	size int // bytes
}{
	BOOL: {"BOOL", 1},
	U8:   {"U8", 1},
	I8:   {"I8", 1},
	I16:  {"I16", 2},
	U16:  {"U16", 2},
	F16:  {"F16", 2},
	BF16: {"BF16", 2},
	I32:  {"I32", 4},
	U32:  {"U32", 4},
	F32:  {"F32", 4},
	F64:  {"F64", 8},
	I64:  {"I64", 8},
	U64:  {"U64", 8},
}

// Valid reports whether t is one of the types above.
func (t DType) Valid() bool { return t > 0 && int(t) < len(dtypes) }

// Size returns the bytes of one element, 0 for an invalid type.
func (t DType) Size() int {
	if !t.Valid() {
		return 0
	}
	return dtypes[t].size
}

// String returns the name that safetensors files use.
func (t DType) String() string {
	if !t.Valid() {
		return "no dtype"
	}
	return dtypes[t].name
}

func parseDType(s string) (DType, bool) {
	for t, d := range dtypes {
		if s == d.name && s != "" {
			return DType(t), true
		}
	}
	return 0, false
}

// A Tensor is a named view of bytes in a mapped file.
type Tensor struct {
	Name   string
	Type   DType
	Shape  []int  // row-major; empty for a scalar
	Data   []byte // len = Type.Size() · product of Shape, little-endian; read-only
	File   string // name of the file within its folder
	Offset int64  // of Data in the file, bytes
}

// Entry returns what the header says of t.
func (t Tensor) Entry() Entry { return Entry{t.Name, t.Type, t.Shape} }

// Float32s returns the elements of a BF16 or F32 tensor.
func (t Tensor) Float32s() ([]float32, error) {
	switch t.Type {
	case BF16:
		return float.BF16Bytes(t.Data), nil
	case F32:
		f := make([]float32, len(t.Data)/4)
		float.DecodeF32(f, t.Data)
		return f, nil
	}
	return nil, unsupported(t.File, t.Name, "%v tensor, want BF16 or F32", t.Type)
}

// Float64s returns the elements of a BF16, F32 or F64 tensor.
func (t Tensor) Float64s() ([]float64, error) {
	if t.Type == F64 {
		f := make([]float64, len(t.Data)/8)
		for i := range f {
			f[i] = math.Float64frombits(binary.LittleEndian.Uint64(t.Data[8*i:]))
		}
		return f, nil
	}
	f32, err := t.Float32s()
	if err != nil {
		return nil, unsupported(t.File, t.Name, "%v tensor, want BF16, F32 or F64", t.Type)
	}
	f := make([]float64, len(f32))
	for i, v := range f32 {
		f[i] = float64(v)
	}
	return f, nil
}

// Ints returns the elements of an I32 or I64 tensor.
func (t Tensor) Ints() ([]int, error) {
	switch t.Type {
	case I32:
		v := make([]int, len(t.Data)/4)
		for i := range v {
			v[i] = int(int32(binary.LittleEndian.Uint32(t.Data[4*i:])))
		}
		return v, nil
	case I64:
		v := make([]int, len(t.Data)/8)
		for i := range v {
			v[i] = int(binary.LittleEndian.Uint64(t.Data[8*i:]))
		}
		return v, nil
	}
	return nil, unsupported(t.File, t.Name, "%v tensor, want I32 or I64", t.Type)
}

// An Entry is a tensor without its bytes: what a header says of it.
type Entry struct {
	Name  string
	Type  DType
	Shape []int
}

// String returns type and shape: BF16 [2, 3].
func (e Entry) String() string {
	const most = 32 // dimensions that are shown
	var b strings.Builder
	for i, d := range e.Shape {
		switch {
		case i == most:
			b.WriteString(", ...")
		case i < most && i > 0:
			b.WriteString(", ")
			fallthrough
		case i < most:
			b.WriteString(strconv.Itoa(d))
		}
	}
	return e.Type.String() + " [" + b.String() + "]"
}

// Bytes returns the size of the tensor. ok is false if the type is invalid, a
// dimension is negative or the size overflows; dimensions of zero do not hide
// an overflow of the others.
func (e Entry) Bytes() (n int64, ok bool) {
	if !e.Type.Valid() {
		return 0, false
	}
	size, zero := uint64(e.Type.Size()), false
	for _, d := range e.Shape {
		switch {
		case d < 0:
			return 0, false
		case d == 0:
			zero = true
			continue
		}
		hi, lo := bits.Mul64(size, uint64(d))
		if hi != 0 || lo > math.MaxInt64 {
			return 0, false
		}
		size = lo
	}
	if zero {
		return 0, true
	}
	return int64(size), true
}

// Sort puts entries into the order in which the safetensors library's
// save_file writes them: by type from the widest to the narrowest, then by
// name.
func Sort(entries []Entry) {
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(-cmp.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name))
	})
}
