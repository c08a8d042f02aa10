package kernel

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"syscall"
	"testing"
	"unsafe"
)

// guarded copies b to the end of a page after which nothing may be read.
func guarded(t *testing.T, b []byte) []byte {
	t.Helper()
	if len(b) == 0 {
		return nil
	}
	page := syscall.Getpagesize()
	size := (len(b) + page - 1) / page * page
	m, err := syscall.Mmap(-1, 0, size+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(m) })
	copy(m[size-len(b):], b)
	if err := syscall.Mprotect(m[size:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return m[size-len(b) : size : size]
}

// No product reads weights or scales beyond their end, where a mapped file may
// end too, whatever the number of rows and columns is.
func TestProductsStayInside(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	r := rand.New(rand.NewPCG(8, 8))
	var s Scratch
	for _, e := range entries {
		for _, cols := range []int{1, 31, 32, 33, 64, 90, 96, 128, 160, 192, 224, 320, 2880} {
			if e.kind == MXFP4 && cols%32 != 0 {
				continue
			}
			for rows := 1; rows <= 9; rows++ {
				p := newProblem(r, e.kind, e.half, rows, cols, 11, fillings[0])
				p.w.Data, p.w.Scales = guarded(t, p.w.Data), guarded(t, p.w.Scales)
				for _, set := range every() {
					for _, n := range []int{1, 2, 3, 5, 7, 11} {
						func() {
							at := fmt.Sprintf("%s, %s: %d rows of %d columns, %d of x", set.Name, entryName(e.kind, e.half), rows, cols, n)
							defer func() {
								if v := recover(); v != nil {
									t.Errorf("%s: %v", at, v)
								}
							}()
							var x Activations
							set.Pack(&x, e.kind, e.half, p.x, n, cols, p.xs)
							set.Multiply(&Job{W: p.w, Hi: rows, X: &x, Y: make([]float32, n*rows), Stride: rows}, &s)
						}()
					}
				}
			}
		}
	}
}

// Nor does one of a 6-bit matrix read its rows or the other beyond their end.
func TestInt6StaysInside(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	r := rand.New(rand.NewPCG(8, 8))
	for _, cols := range []int{1, 64, 65, 128, 192, 256, 320, 2880} {
		for _, rows := range []int{1, 2, 5} {
			rowsOf, v := int6Values(r, cols, rows, 0)
			w := guarded(t, packInt6(rowsOf, cols))
			var x Int16
			x.Pack(v)
			limbs := make([]byte, len(x.limbs))
			for i, l := range x.limbs {
				limbs[i] = byte(l)
			}
			limbs = guarded(t, limbs)
			x.limbs = unsafe.Slice((*int8)(unsafe.Pointer(&limbs[0])), len(limbs))
			for _, set := range every() {
				func() {
					defer func() {
						if v := recover(); v != nil {
							t.Errorf("%s: %d rows of %d columns: %v", set.Name, rows, cols, v)
						}
					}()
					set.Int6(make([]int64, rows), w, &x)
				}()
			}
		}
	}
}
