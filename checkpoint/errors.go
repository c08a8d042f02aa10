package checkpoint

import (
	"fmt"
	"strconv"
	"strings"
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
	b.WriteString(show(file))
	b.WriteString(": ")
	if tensor != "" {
		b.WriteString(show(tensor))
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

// most is how much of a name or value a message shows, bytes.
const most = 200

// quote returns a value found in a file as it may stand in a message.
func quote(value string) string {
	if len(value) > most {
		return strconv.Quote(value[:most]) + "..."
	}
	return strconv.Quote(value)
}

// show returns a name found in a file as it may stand in a one-line message:
// quoted if it holds anything unprintable, cut if it is absurdly long.
func show(name string) string {
	cut := ""
	if len(name) > most {
		name, cut = name[:most], "..."
	}
	if q := strconv.Quote(name); q != `"`+name+`"` {
		name = q
	}
	return name + cut
}
