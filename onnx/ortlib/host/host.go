//go:build cgo && !noort && unix

package host

/*
#include "op.h"
*/
import "C"

import (
	"fmt"
	"runtime"
	"runtime/cgo"
	"sync/atomic"
	"unsafe"

	"ossify/kernel"
	"ossify/onnx/ortlib"
)

// Register adds the operators to options, an OrtSessionOptions, through base, an
// OrtApiBase. It returns an OrtStatus, nil if there is no error. A runtime older
// than 1.17 gets none: it runs the functions as they are.
func Register(options, base unsafe.Pointer) unsafe.Pointer {
	return unsafe.Pointer(C.ossifyRegister((*C.OrtSessionOptions)(options), (*C.OrtApiBase)(base)))
}

// ossifyOp describes operator i; its name is the caller's to free. Beyond the
// last there is none.
//
//export ossifyOp
func ossifyOp(i C.int, o *C.ossifyOperator) C.int {
	for _, s := range ortlib.Signatures() {
		if int(i) < len(s.Names) {
			*o = C.ossifyOperator{name: C.CString(s.Names[i]), inputs: C.int(s.Inputs), outputs: C.int(s.Outputs), experts: flag(s.Experts), gate: flag(s.Gate)}
			return 1
		}
		i -= C.int(len(s.Names))
	}
	return 0
}

func flag(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// ossifyLibrary makes what kernels are made by, once in a process.
//
//export ossifyLibrary
func ossifyLibrary() C.uintptr_t {
	return C.uintptr_t(cgo.NewHandle(ortlib.NewLibrary(kernel.Best())))
}

// ossifyNew makes a kernel. Errors are texts, the caller's to free.
//
//export ossifyNew
func ossifyNew(library C.uintptr_t, name *C.char, experts C.int64_t, alpha, limit C.float, kernelOut *C.uintptr_t) *C.char {
	a := ortlib.Attributes{Experts: int(experts), Alpha: float32(alpha), Limit: float32(limit)}
	f, err := cgo.Handle(library).Value().(*ortlib.Library).New(C.GoString(name), a)
	if err != nil {
		return C.CString(err.Error())
	}
	*kernelOut = C.uintptr_t(cgo.NewHandle(f))
	return nil
}

//export ossifyFree
func ossifyFree(k C.uintptr_t) { cgo.Handle(k).Delete() }

// ossifyShapes computes the outputs' dimensions.
//
//export ossifyShapes
func ossifyShapes(k C.uintptr_t, in *C.ossifyTensor, n C.int, out *C.ossifyTensor, outputs C.int) (text *C.char) {
	return caught(func() error {
		shapes, err := cgo.Handle(k).Value().(*ortlib.Function).Shapes(tensors(in, n))
		if err != nil {
			return err
		}
		if len(shapes) != int(outputs) {
			return fmt.Errorf("ossify: %d outputs, want %d", outputs, len(shapes))
		}
		for i, t := range unsafe.Slice(out, int(outputs)) {
			if len(shapes[i]) > len(t.dims) {
				return fmt.Errorf("ossify: output of %d dimensions, want at most %d", len(shapes[i]), len(t.dims))
			}
			for j, d := range shapes[i] {
				t.dims[j] = C.int64_t(d)
			}
			t.rank = C.int32_t(len(shapes[i]))
			unsafe.Slice(out, int(outputs))[i] = t
		}
		return nil
	})
}

// ossifyRun computes the outputs, on the threads of the runtime.
//
//export ossifyRun
func ossifyRun(k C.uintptr_t, context *C.OrtKernelContext, in *C.ossifyTensor, n C.int, out *C.ossifyTensor, outputs C.int) (text *C.char) {
	return caught(func() error {
		values := make([][]float32, outputs)
		for i, t := range unsafe.Slice(out, int(outputs)) {
			size := 1
			for _, d := range t.dims[:t.rank] {
				size *= int(d)
			}
			if size > 0 {
				values[i] = unsafe.Slice((*float32)(t.data), size)
			}
		}
		return cgo.Handle(k).Value().(*ortlib.Function).Run(tensors(in, n), values, func(n int, f func(i int)) {
			if n == 1 {
				f(0)
				return
			}
			u := &units{f: f, n: int64(n)}
			work := cgo.NewHandle(u)
			defer work.Delete()
			C.ossifyParallel(context, C.size_t(min(n, runtime.NumCPU())), C.uintptr_t(work))
			if v := u.panicked.Load(); v != nil {
				panic(*v)
			}
		})
	})
}

// units are what the runtime's threads run, of which one may panic. The runtime
// would give each thread its share beforehand: they take the next one here, so that
// none waits for another that is held up.
type units struct {
	f        func(i int)
	n        int64
	next     atomic.Int64
	panicked atomic.Pointer[any]
}

//export ossifyUnits
func ossifyUnits(work C.uintptr_t) {
	u := cgo.Handle(work).Value().(*units)
	defer func() {
		if v := recover(); v != nil {
			u.panicked.Store(&v)
		}
	}()
	for i := u.next.Add(1) - 1; i < u.n; i = u.next.Add(1) - 1 {
		u.f(int(i))
	}
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
