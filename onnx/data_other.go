//go:build !linux

package onnx

import (
	"context"
	"errors"
	"os"
)

var errNoDirect = errors.New("no direct I/O")

func reflink(*os.File, int64, string) error { return errors.ErrUnsupported }

func direct(context.Context, *os.File, []piece, func(int64)) error { return errNoDirect }
