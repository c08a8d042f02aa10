package ort

import (
	"encoding/binary"
	"fmt"
	"math"

	"ossify/checkpoint"
	"ossify/float"
)

// A Tensor is an input or output: little-endian elements, row-major.
type Tensor struct {
	Type  checkpoint.DType
	Shape []int
	Data  []byte // len = Type.Size() · product of Shape
}

// An Info describes an input or output of a model.
type Info struct {
	Name  string
	Type  checkpoint.DType // none for what is not a tensor of numbers
	Shape []int            // −1 varies
}

// newTensor returns a tensor of zeros.
func newTensor(t checkpoint.DType, shape ...int) Tensor {
	n, _ := checkpoint.Entry{Type: t, Shape: shape}.Bytes()
	return Tensor{t, shape, make([]byte, n)}
}

func (t Tensor) check() error {
	if n, ok := (checkpoint.Entry{Type: t.Type, Shape: t.Shape}).Bytes(); !ok || int64(len(t.Data)) != n {
		return fmt.Errorf("%d bytes of %v, shape %v", len(t.Data), t.Type, t.Shape)
	}
	return nil
}

// Int64s makes a tensor of I64, or of I32 if that is the type asked for.
func Int64s(typ checkpoint.DType, v []int64, shape ...int) Tensor {
	t := Tensor{Type: typ, Shape: shape}
	for _, x := range v {
		if typ == checkpoint.I32 {
			t.Data = binary.LittleEndian.AppendUint32(t.Data, uint32(x))
		} else {
			t.Data = binary.LittleEndian.AppendUint64(t.Data, uint64(x))
		}
	}
	return t
}

// Float32s makes a tensor of F32.
func Float32s(v []float32, shape ...int) Tensor {
	t := Tensor{Type: checkpoint.F32, Shape: shape}
	for _, x := range v {
		t.Data = binary.LittleEndian.AppendUint32(t.Data, math.Float32bits(x))
	}
	return t
}

// Float64s returns the elements, whatever their type.
func (t Tensor) Float64s() []float64 {
	size := t.Type.Size()
	if size == 0 {
		return nil
	}
	v, le := make([]float64, len(t.Data)/size), binary.LittleEndian
	for i := range v {
		b := t.Data[i*size:]
		switch t.Type {
		case checkpoint.F64:
			v[i] = math.Float64frombits(le.Uint64(b))
		case checkpoint.F32:
			v[i] = float64(math.Float32frombits(le.Uint32(b)))
		case checkpoint.BF16:
			v[i] = float64(float.FromBF16(le.Uint16(b)))
		case checkpoint.F16:
			v[i] = float64(float.FromF16(le.Uint16(b)))
		case checkpoint.I64:
			v[i] = float64(int64(le.Uint64(b)))
		case checkpoint.U64:
			v[i] = float64(le.Uint64(b))
		case checkpoint.I32:
			v[i] = float64(int32(le.Uint32(b)))
		case checkpoint.U32:
			v[i] = float64(le.Uint32(b))
		case checkpoint.I16:
			v[i] = float64(int16(le.Uint16(b)))
		case checkpoint.U16:
			v[i] = float64(le.Uint16(b))
		case checkpoint.I8:
			v[i] = float64(int8(b[0]))
		default: // U8, BOOL
			v[i] = float64(b[0])
		}
	}
	return v
}
