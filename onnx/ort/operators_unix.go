//go:build cgo && !noort && unix

package ort

import (
	"errors"
	"path/filepath"
	"reflect"

	ort "github.com/yalue/onnxruntime_go"

	"ossify/onnx/ortlib/host"
)

// addOperators lets the runtime at path call the engine's kernels. The binding
// has no word for operators, so its options are handed on as they are inside: a
// pointer to the runtime's own.
func addOperators(path string, opts *ort.SessionOptions) error {
	inner := reflect.ValueOf(opts).Elem().FieldByName("o")
	if !inner.IsValid() || inner.Kind() != reflect.Pointer || inner.IsNil() {
		return errors.New("this binding of ONNX Runtime shows no options to add operators to")
	}
	base, err := host.Base(path)
	if err != nil {
		return err
	}
	if status := host.Register(inner.UnsafePointer(), base); status != nil {
		return errors.New("ONNX Runtime takes no operators of ossify's from " + filepath.Base(path))
	}
	return nil
}
