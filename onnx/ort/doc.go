// Package ort runs a model in ONNX Runtime.
//
// ONNX Runtime is a shared library, loaded by path while the program runs:
// nothing of ossify but this package needs it. [Find] looks for it, [Open]
// loads it, and `make deps` installs the release that the tests use. The calls
// go through cgo; without it [Open] says so.
//
// A [Session] is an opened model with named inputs and outputs. A [Decoder] is
// one that is a language model with a key/value cache, whoever exported it; its
// [State] carries the cache from call to call. docs/onnxruntime.md has figures
// of memory and speed.
package ort
