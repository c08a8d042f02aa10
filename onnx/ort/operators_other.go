//go:build cgo && !noort && !unix

package ort

import (
	"errors"

	ort "github.com/yalue/onnxruntime_go"
)

func addOperators(string, *ort.SessionOptions) error {
	return errors.New("operators of ossify's are for Linux and macOS")
}
