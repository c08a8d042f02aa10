// Package host gives ONNX Runtime the operators of package ortlib, through its C
// interface: in a library that other programs load (cmd/ossify-ort) and in
// ossify itself (package ort). It needs cgo.
package host
