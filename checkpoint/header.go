package checkpoint

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"ossify/internal/quote"
	"ossify/internal/strictjson"
)

// MaxHeader is the longest header that is read, in bytes: the limit of the
// Rust library. The header of gpt-oss-120b takes less than 100 kB.
const MaxHeader = 100_000_000

// prefix is the length of the header's length, bytes.
const prefix = 8

// metadataKey holds a file's metadata among the tensors of its header.
const metadataKey = "__metadata__"

// parseHeader reads the JSON header of the named file, whose tensors occupy
// size bytes that start at byte offset base of the file. The tensors are
// sorted by name and still without Data.
//
// It guarantees that names are unique, that every span has the size its type
// and shape ask for, and that the spans cover the bytes exactly.
func parseHeader(file string, header []byte, base, size int64) (tensors []Tensor, metadata map[string]string, err error) {
	switch {
	case len(header) == 0 || header[0] != '{':
		return nil, nil, malformed(file, "", "header does not start with {")
	case !utf8.Valid(header):
		return nil, nil, malformed(file, "", "header is not valid UTF-8")
	}
	const least = len(`"":{"dtype":"U8","shape":[],"data_offsets":[0,0]}`) // of an entry
	tensors = make([]Tensor, 0, min(bytes.Count(header, []byte(`"dtype"`)), len(header)/least))
	s := strictjson.New(header, append(dtypeNames(), "dtype", "shape", "data_offsets")...)
	err = s.Object(func(name string) error {
		if name == metadataKey {
			metadata = make(map[string]string)
			return s.Object(func(key string) error {
				v, err := s.String()
				if err != nil {
					return fmt.Errorf("metadata %s: %w", quote.Value(key), err)
				}
				metadata[key] = v
				return nil
			})
		}
		t, err := parseEntry(s, file, name, size)
		tensors = append(tensors, t)
		return err
	})
	if err != nil {
		switch err.(type) {
		case *FormatError, *UnsupportedError:
			return nil, nil, err
		}
		return nil, nil, malformed(file, "", "header: %v", err)
	}
	// Headers are padded with spaces so that the data starts aligned.
	for i := s.Offset(); i < len(header); i++ {
		if header[i] != ' ' {
			return nil, nil, malformed(file, "", "header: byte %#02x after its closing brace, want spaces", header[i])
		}
	}
	if err := cover(file, tensors, size); err != nil {
		return nil, nil, err
	}
	for i := range tensors {
		tensors[i].Offset += base
	}
	slices.SortFunc(tensors, func(a, b Tensor) int { return strings.Compare(a.Name, b.Name) })
	return tensors, metadata, nil
}

// parseEntry reads one tensor's object. The Offset it returns is relative to
// the first byte of data.
func parseEntry(s *strictjson.Reader, file, name string, size int64) (Tensor, error) {
	var dtype string
	var shape, span []int
	seen := 0
	err := s.Object(func(key string) (err error) {
		seen++
		switch key {
		case "dtype":
			dtype, err = s.String()
		case "shape":
			shape, err = s.Ints()
		case "data_offsets":
			span, err = s.Ints()
		default:
			return fmt.Errorf("unknown field %s, want dtype, shape and data_offsets", quote.Value(key))
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", key, err)
		}
		return err
	})
	if err != nil {
		return Tensor{}, malformed(file, name, "%v", err)
	}
	if seen != 3 {
		return Tensor{}, malformed(file, name, "%d fields, want dtype, shape and data_offsets", seen)
	}
	if len(span) != 2 {
		return Tensor{}, malformed(file, name, "%d data_offsets, want 2", len(span))
	}
	begin, end := int64(span[0]), int64(span[1])
	if end < begin {
		return Tensor{}, malformed(file, name, "data_offsets [%d, %d] end before they begin", begin, end)
	}
	if end > size {
		return Tensor{}, malformed(file, name, "data_offsets [%d, %d] in a file with %d bytes of data", begin, end, size)
	}
	typ, ok := parseDType(dtype)
	if !ok {
		return Tensor{}, unsupported(file, name, "dtype %s, want one of %s", quote.Value(dtype), strings.Join(dtypeNames(), " "))
	}
	e := Entry{name, typ, shape}
	n, ok := e.Bytes()
	if !ok {
		return Tensor{}, malformed(file, name, "the size of %v overflows", e)
	}
	if end-begin != n {
		return Tensor{}, malformed(file, name, "%d bytes at %d for %v, want %d", end-begin, begin, e, n)
	}
	return Tensor{Name: name, Type: typ, Shape: shape, File: file, Offset: begin}, nil
}

// cover checks that the tensors' spans, laid in order of their offsets, cover
// size bytes without a gap and without an overlap.
func cover(file string, tensors []Tensor, size int64) error {
	order := make([]*Tensor, len(tensors))
	for i := range tensors {
		order[i] = &tensors[i]
	}
	length := func(t *Tensor) int64 {
		n, _ := t.Entry().Bytes()
		return n
	}
	slices.SortFunc(order, func(a, b *Tensor) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(length(a), length(b)), strings.Compare(a.Name, b.Name))
	})
	end := int64(0)
	for i, t := range order {
		switch {
		case t.Offset > end:
			return malformed(file, t.Name, "data begins at %d, leaving a gap of %d bytes after %d", t.Offset, t.Offset-end, end)
		case t.Offset < end:
			return malformed(file, t.Name, "data begins at %d, overlapping %s, which ends at %d", t.Offset, quote.Name(order[i-1].Name), end)
		}
		end += length(t)
	}
	if end != size {
		return malformed(file, "", "%d bytes of data follow the last tensor, want 0", size-end)
	}
	return nil
}

func dtypeNames() []string {
	var names []string
	for _, d := range dtypes[1:] {
		names = append(names, d.name)
	}
	return names
}
