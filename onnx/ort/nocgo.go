//go:build !cgo || noort

package ort

import (
	"context"
	"errors"
)

var errNoCgo = errors.New("this program was built without cgo, which calls of the library need; build it with CGO_ENABLED=1 and a C compiler")

type handle struct{}

func openLibrary(string) (string, error)             { return "", errNoCgo }
func closeLibrary() error                            { return errNoCgo }
func load(string, string, Options) (*Session, error) { return nil, errNoCgo }
func (handle) close() error                          { return errNoCgo }
func (handle) run(context.Context, *Session, map[string]Tensor, map[string]Tensor) error {
	return errNoCgo
}
