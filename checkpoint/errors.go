package checkpoint

import (
	"fmt"
	"strings"

	"ossify/internal/quote"
)

// A FormatError says that a file is malformed.
type FormatError struct {
	File   string // name of the file
	Tensor string // name of the tensor, if the mistake belongs to one
	Reason string // the fact, and what was wanted
}

func (e *FormatError) Error() string { return place(e.File, e.Tensor, e.Reason) }

// An UnsupportedError says that a file is valid but uses something that this
// package does not implement.
type UnsupportedError struct {
	File   string // name of the file
	Tensor string // name of the tensor, if the feature belongs to one
	Reason string // the fact, and what was wanted
}

func (e *UnsupportedError) Error() string { return place(e.File, e.Tensor, e.Reason) }

func place(file, tensor, reason string) string {
	var b strings.Builder
	b.WriteString("checkpoint: ")
	b.WriteString(quote.Name(file))
	b.WriteString(": ")
	if tensor != "" {
		b.WriteString(quote.Name(tensor))
		b.WriteString(": ")
	}
	b.WriteString(reason)
	return b.String()
}

func malformed(file, tensor, format string, args ...any) error {
	return &FormatError{file, tensor, fmt.Sprintf(format, args...)}
}

func unsupported(file, tensor, format string, args ...any) error {
	return &UnsupportedError{file, tensor, fmt.Sprintf(format, args...)}
}
