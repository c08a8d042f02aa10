// Package onnx judges ONNX models in ONNX Runtime: stage by stage those that
// show their stages, or have a twin that does, by logits and cache any. It is
// apart from package verify, so that who needs no ONNX Runtime needs no cgo.
//
// [Check] judges one model; [Faults] exports the model with known bugs, one at
// a time, and shows that each is caught and named.
package onnx
