//go:build cgo && !noort && unix

package host

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>

static void *baseOf(const char *path) {
	void *library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
	if (library == NULL) return NULL;
	void *(*get)(void) = (void *(*)(void))dlsym(library, "OrtGetApiBase");
	dlclose(library); // who opened it keeps it
	return get ? get() : NULL;
}
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// Base returns the OrtApiBase of the runtime that this process has opened at
// path.
func Base(path string) (unsafe.Pointer, error) {
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	base := C.baseOf(p)
	if base == nil {
		return nil, fmt.Errorf("ossify: %s is not open, or no ONNX Runtime", path)
	}
	return base, nil
}
