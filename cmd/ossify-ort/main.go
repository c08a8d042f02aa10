//go:build ortlib

// Command ossify-ort is a library of operators for ONNX Runtime: it takes over
// functions of exported models, with the engine's kernels. `make ort-library`
// builds it; docs/onnxruntime.md says how a program loads it.
package main

import "C"

import (
	"unsafe"

	"ossify/onnx/ortlib/host"
)

func main() {}

// RegisterCustomOps is what ONNX Runtime looks for in a library.
//
//export RegisterCustomOps
func RegisterCustomOps(options, base unsafe.Pointer) unsafe.Pointer {
	return host.Register(options, base)
}
