package onnx

import (
	"encoding/binary"
	"fmt"
	"math"

	"ossify/checkpoint"
	"ossify/float"
	"ossify/onnx/lower"
	"ossify/onnx/wire"
)

// weightsNames are the names of an [Options.Weights].
var weightsNames = map[wire.DataType]string{0: "bf16", wire.Float: "f32", wire.Float16: "f16"}

// ParseWeights reads the name of an [Options.Weights]: bf16, f32 or f16.
func ParseWeights(s string) (wire.DataType, error) {
	for t, name := range weightsNames {
		if name == s {
			return t, nil
		}
	}
	return 0, fmt.Errorf("onnx: weights %s, want bf16, f32 or f16", wire.Show(s))
}

// A conversion makes elements of a model from those of a checkpoint.
type conversion struct {
	from, to int // bytes of an element
	// do converts as many elements as dst takes. It returns the first that does
	// not fit, or −1.
	do func(dst, src []byte) int
}

// conversionOf returns how an initializer's bytes are made of its tensor's, nil
// if they are the same.
func conversionOf(in *lower.Initializer) (*conversion, error) {
	from := in.From.Type
	switch {
	case in.Type == lower.ElementType(from):
		return nil, nil
	case from == checkpoint.BF16 && in.Type == wire.Float:
		return &conversion{2, 4, func(dst, src []byte) int {
			for i := range len(dst) / 4 {
				binary.LittleEndian.PutUint32(dst[4*i:], uint32(binary.LittleEndian.Uint16(src[2*i:]))<<16)
			}
			return -1
		}}, nil
	case from == checkpoint.BF16 && in.Type == wire.Float16:
		return &conversion{2, 2, func(dst, src []byte) int {
			for i := range len(dst) / 2 {
				v := float.FromBF16(binary.LittleEndian.Uint16(src[2*i:]))
				h := float.ToF16(v)
				if h&0x7fff == 0x7c00 && !math.IsInf(float64(v), 0) {
					return i
				}
				binary.LittleEndian.PutUint16(dst[2*i:], h)
			}
			return -1
		}}, nil
	}
	return nil, fmt.Errorf("onnx: %s: %v in the model, and the checkpoint has %v: want %v, or bfloat16 made float or float16", in.Name, in.Type, from, lower.ElementType(from))
}

// convert makes dst, which is part of the piece from byte at on.
func (p *piece) convert(dst, src []byte, at int64) error {
	bad := p.conversion.do(dst, src)
	if bad < 0 {
		return nil
	}
	v := float.FromBF16(binary.LittleEndian.Uint16(src[bad*p.conversion.from:]))
	i := at/int64(p.conversion.to) + int64(bad)
	index := make([]int64, len(p.shape))
	for d := len(p.shape) - 1; d >= 0; d-- {
		index[d], i = i%int64(p.shape[d]), i/int64(p.shape[d])
	}
	return fmt.Errorf("%s%v is %g, want at most 65504 for float16", p.name, index, v)
}
