//go:build ortlib

// Command ossify-ort is a library of operators for ONNX Runtime: it takes over
// functions of exported models, with the engine's kernels. `make ort-library`
// builds it; docs/onnxruntime.md says how a program loads it.
package main

/*
#include "op.h"
*/
import "C"

import (
	"fmt"
	"runtime/cgo"
	"sync/atomic"
	"unsafe"

	"ossify/kernel"
	"ossify/onnx/ortlib"
)

func main() {}

// RegisterCustomOps is what ONNX Runtime looks for in a library.
//
//export RegisterCustomOps
func RegisterCustomOps(options *C.OrtSessionOptions, base *C.OrtApiBase) *C.OrtStatus {
	return C.registerOps(options, base)
}

// ossifyOp describes operator i; its name is the caller's to free. Beyond the
// last there is none.
//
//export ossifyOp
func ossifyOp(i C.int, name **C.char, inputs, experts *C.int) C.int {
	for _, s := range ortlib.Signatures() {
		if int(i) < len(s.Names) {
			*name, *inputs, *experts = C.CString(s.Names[i]), C.int(s.Inputs), 0
			if s.Experts {
				*experts = 1
			}
			return 1
		}
		i -= C.int(len(s.Names))
	}
	return 0
}

// ossifyNew makes a kernel. Errors are texts, the caller's to free.
//
//export ossifyNew
func ossifyNew(name *C.char, experts C.int64_t, kernelOut *C.uintptr_t) *C.char {
	f, err := ortlib.New(C.GoString(name), int(experts), kernel.Best())
	if err != nil {
		return C.CString(err.Error())
	}
	*kernelOut = C.uintptr_t(cgo.NewHandle(f))
	return nil
}

//export ossifyFree
func ossifyFree(k C.uintptr_t) { cgo.Handle(k).Delete() }

// ossifyShape computes the output's dimensions.
//
//export ossifyShape
func ossifyShape(k C.uintptr_t, in *C.ossifyTensor, n C.int, dims *C.int64_t, rank *C.int) (text *C.char) {
	return caught(func() error {
		shape, err := cgo.Handle(k).Value().(*ortlib.Function).Shape(tensors(in, n))
		if err != nil {
			return err
		}
		if len(shape) > C.OSSIFY_RANK {
			return fmt.Errorf("ossify: output of %d dimensions, want at most %d", len(shape), C.OSSIFY_RANK)
		}
		for i, d := range shape {
			unsafe.Slice(dims, C.OSSIFY_RANK)[i] = C.int64_t(d)
		}
		*rank = C.int(len(shape))
		return nil
	})
}

// ossifyRun computes the output, on the threads of the runtime.
//
//export ossifyRun
func ossifyRun(k C.uintptr_t, context *C.OrtKernelContext, in *C.ossifyTensor, n C.int, out *C.float, size C.int64_t) (text *C.char) {
	return caught(func() error {
		var values []float32
		if size > 0 {
			values = unsafe.Slice((*float32)(out), int(size))
		}
		return cgo.Handle(k).Value().(*ortlib.Function).Run(tensors(in, n), values, func(n int, f func(i int)) {
			if n == 1 {
				f(0)
				return
			}
			u := &units{f: f}
			work := cgo.NewHandle(u)
			defer work.Delete()
			C.parallel(context, C.size_t(n), C.uintptr_t(work))
			if v := u.panicked.Load(); v != nil {
				panic(*v)
			}
		})
	})
}

// units are what the runtime's threads run, of which one may panic.
type units struct {
	f        func(i int)
	panicked atomic.Pointer[any]
}

//export ossifyUnit
func ossifyUnit(work C.uintptr_t, i C.size_t) {
	u := cgo.Handle(work).Value().(*units)
	defer func() {
		if v := recover(); v != nil {
			u.panicked.Store(&v)
		}
	}()
	u.f(int(i))
}

// caught returns f's error as a text, and a panic too: the host lives on.
func caught(f func() error) (text *C.char) {
	defer func() {
		if v := recover(); v != nil {
			text = C.CString(fmt.Sprintf("ossify: %v", v))
		}
	}()
	if err := f(); err != nil {
		return C.CString(err.Error())
	}
	return nil
}

// tensors are the inputs in the runtime's memory. What has more bytes than
// memory is left without, for the function to refuse.
func tensors(in *C.ossifyTensor, n C.int) []ortlib.Tensor {
	var list []ortlib.Tensor
	for _, t := range unsafe.Slice(in, int(n)) {
		x := ortlib.Tensor{Type: ortlib.Type(t._type), Shape: []int{}}
		for _, d := range t.dims[:t.rank] {
			x.Shape = append(x.Shape, int(d))
		}
		if elements, ok := ortlib.Elements(x.Shape); ok && elements > 0 && t.data != nil {
			x.Data = unsafe.Slice((*byte)(t.data), elements*x.Type.Size())
		}
		list = append(list, x)
	}
	return list
}
