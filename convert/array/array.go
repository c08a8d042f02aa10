// Package array is what containers of other tools hold: named tensors whose
// bytes are read from front to back, as often as wanted, in little memory.
package array

import (
	"errors"
	"fmt"
	"io"

	"ossify/checkpoint"
)

// An Array is a tensor that lies in a container of any kind.
type Array struct {
	Name  string // as the container calls it; keys of a tree are joined by "/"
	Type  checkpoint.DType
	Shape []int // row-major

	// Open begins to read the bytes: little-endian, row-major, exactly those
	// that Entry().Bytes() counts. Whatever the container can prove of its
	// end is proved before io.EOF is returned.
	Open func() (io.ReadCloser, error)
}

// Entry returns name, type and shape, as a safetensors header states them.
func (a Array) Entry() checkpoint.Entry {
	return checkpoint.Entry{Name: a.Name, Type: a.Type, Shape: a.Shape}
}

// Skip leaves out the next n bytes of r, without reading them if r has Discard.
func Skip(r io.Reader, n int64) error {
	if d, ok := r.(interface{ Discard(n int64) error }); ok {
		return d.Discard(n)
	}
	_, err := io.CopyN(io.Discard, r, n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Sections returns an Open for bytes that lie in pieces of files, one after the
// other, as they are.
func Sections(parts ...*io.SectionReader) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		return &sections{parts: parts}, nil
	}
}

// sections reads at a place of its own, so that several readers share parts.
type sections struct {
	parts []*io.SectionReader
	at    int64 // in parts[0]
}

func (s *sections) Read(p []byte) (int, error) {
	for len(s.parts) > 0 && s.at == s.parts[0].Size() {
		s.parts, s.at = s.parts[1:], 0
	}
	if len(s.parts) == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.parts[0].Size()-s.at)]
	n, err := s.parts[0].ReadAt(p, s.at)
	s.at += int64(n)
	switch {
	case n == len(p):
		err = nil
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("a file became shorter while it was read: %w", io.ErrUnexpectedEOF)
	}
	return n, err
}

// Discard leaves out n bytes.
func (s *sections) Discard(n int64) error {
	for n > 0 {
		if len(s.parts) == 0 {
			return io.ErrUnexpectedEOF
		}
		step := min(n, s.parts[0].Size()-s.at)
		s.at += step
		if n -= step; s.at == s.parts[0].Size() {
			s.parts, s.at = s.parts[1:], 0
		}
	}
	return nil
}

func (s *sections) Close() error { return nil }
