package checkpoint

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"unicode/utf8"

	"ossify/internal/fileset"
	"ossify/internal/quote"
)

// A Writer writes a safetensors file, one tensor after the other, in constant
// memory. The bytes depend on nothing but what is written. The file takes its
// name when the set that it belongs to is committed.
type Writer struct {
	file    *fileset.File
	buf     *bufio.Writer // of file
	entries []Entry
	next    int   // index of the tensor that Tensor has to name next
	left    int64 // bytes still missing of tensor next-1
	closed  bool
	err     error // first failure; everything after it fails with it
}

// Create starts the file at path, as one of set. The entries are its tensors,
// in the order in which they are going to be written; metadata may be nil.
func Create(set *fileset.Set, path string, entries []Entry, metadata map[string]string) (*Writer, error) {
	header, err := encodeHeader(filepath.Base(path), entries, metadata)
	if err != nil {
		return nil, err
	}
	file, err := set.Create(path)
	if err != nil {
		return nil, err
	}
	w := &Writer{file: file, buf: bufio.NewWriterSize(file, 1<<16), entries: entries}
	if _, err := w.buf.Write(header); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *Writer) name() string { return quote.Name(filepath.Base(w.file.Name())) }

// Tensor begins the next tensor, which must be name, and returns the writer of
// its bytes: little-endian, exactly as many as its entry asks for. The tensor
// before it must be complete.
func (w *Writer) Tensor(name string) (io.Writer, error) {
	switch {
	case w.err != nil:
		return nil, w.err
	case w.closed:
		return nil, w.fail("writer is closed")
	case w.left > 0:
		return nil, w.short()
	case w.next == len(w.entries):
		return nil, w.fail("%s: written after the last tensor", quote.Name(name))
	case w.entries[w.next].Name != name:
		return nil, w.fail("%s: written where %s was declared", quote.Name(name), quote.Name(w.entries[w.next].Name))
	}
	w.left, _ = w.entries[w.next].Bytes()
	w.next++
	return tensorWriter{w, w.next}, nil
}

// Zeros writes the next tensor, which must be name, as zeros: a hole, where the
// file system has them.
func (w *Writer) Zeros(name string) error {
	if _, err := w.Tensor(name); err != nil {
		return err
	}
	err := w.buf.Flush()
	if err == nil {
		err = w.file.Skip(w.left)
	}
	if err != nil {
		w.err = err
		return err
	}
	w.left = 0
	return nil
}

// Keep leaves the next tensor, which must be name, as an earlier run wrote it, if
// its bytes are there (see fileset.Options.Resume) and good reads them and says
// so. Else it does nothing, and returns false.
func (w *Writer) Keep(name string, good func(io.Reader) (bool, error)) (bool, error) {
	if w.err != nil || w.closed || w.left > 0 || w.next == len(w.entries) || w.entries[w.next].Name != name || w.file.OS() == nil {
		return false, nil // Tensor says what is wrong
	}
	n, _ := w.entries[w.next].Bytes()
	if w.err = w.buf.Flush(); w.err != nil {
		return false, w.err
	}
	file := w.file.OS()
	at, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return false, w.fail("%w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return false, w.fail("%w", err)
	}
	if info.Size()-at < n {
		return false, nil
	}
	ok, err := good(io.NewSectionReader(file, at, n))
	if err != nil || !ok {
		return false, err
	}
	if _, err := file.Seek(at+n, io.SeekStart); err != nil {
		return false, w.fail("%w", err)
	}
	w.next++
	return true, nil
}

// tensorWriter writes the bytes of one tensor, as long as it is the current.
type tensorWriter struct {
	w    *Writer
	next int // what w.next is while the tensor is current
}

func (t tensorWriter) Write(p []byte) (int, error) {
	w := t.w
	switch {
	case w.err != nil:
		return 0, w.err
	case w.closed:
		return 0, w.fail("writer is closed")
	case t.next != w.next:
		return 0, w.fail("%s: written after the next tensor was begun", quote.Name(w.entries[t.next-1].Name))
	case int64(len(p)) > w.left:
		e := w.entries[w.next-1]
		n, _ := e.Bytes()
		return 0, w.fail("%s: more bytes than the %d of %v", quote.Name(e.Name), n, e)
	}
	n, err := w.buf.Write(p)
	w.left -= int64(n)
	if err != nil {
		w.err = err
	}
	return n, w.err
}

// Close completes the file and puts it on disk: every declared tensor must have
// been written.
func (w *Writer) Close() error {
	switch {
	case w.err != nil:
		return w.err
	case w.closed:
		return w.fail("writer is closed")
	case w.left > 0:
		return w.short()
	case w.next < len(w.entries):
		return w.fail("%s: declared and not written", quote.Name(w.entries[w.next].Name))
	}
	w.closed = true
	if w.err = w.buf.Flush(); w.err == nil {
		w.err = w.file.Close()
	}
	return w.err
}

func (w *Writer) short() error {
	e := w.entries[w.next-1]
	n, _ := e.Bytes()
	return w.fail("%s: %d bytes written of the %d of %v", quote.Name(e.Name), n-w.left, n, e)
}

func (w *Writer) fail(format string, args ...any) error {
	if w.err == nil {
		w.err = fmt.Errorf("checkpoint: %s: %w", w.name(), fmt.Errorf(format, args...))
	}
	return w.err
}

// Save writes tensors, in their order, to a file at path, and replaces what is
// there. File and Offset of the tensors are not looked at.
func Save(path string, tensors []Tensor, metadata map[string]string) error {
	entries := make([]Entry, len(tensors))
	for i, t := range tensors {
		entries[i] = t.Entry()
	}
	set := fileset.New(context.Background(), fileset.Options{Ours: fileset.Any})
	defer set.Abort()
	w, err := Create(set, path, entries, metadata)
	if err != nil {
		return err
	}
	for _, t := range tensors {
		b, err := w.Tensor(t.Name)
		if err != nil {
			return err
		}
		if _, err := b.Write(t.Data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return set.Commit()
}

// encodeHeader returns the first bytes of a file, up to its data: compact JSON
// like the Rust library's, padded with spaces to a multiple of eight bytes.
func encodeHeader(file string, entries []Entry, metadata map[string]string) ([]byte, error) {
	var b bytes.Buffer
	b.Write(make([]byte, prefix))
	b.WriteByte('{')
	if metadata != nil {
		for k, v := range metadata {
			if !utf8.ValidString(k) || !utf8.ValidString(v) {
				return nil, fmt.Errorf("checkpoint: %s: metadata %s is not valid UTF-8", quote.Name(file), quote.Value(k))
			}
		}
		b.WriteString(`"` + metadataKey + `":`)
		encodeJSON(&b, metadata) // keys sorted
	}
	seen := make(map[string]bool, len(entries))
	end := int64(0)
	for i, e := range entries {
		bad := func(reason string) error {
			return fmt.Errorf("checkpoint: %s: %s: %s", quote.Name(file), quote.Name(e.Name), reason)
		}
		switch {
		case !utf8.ValidString(e.Name):
			return nil, bad("name is not valid UTF-8")
		case e.Name == metadataKey:
			return nil, bad("name is reserved")
		case seen[e.Name]:
			return nil, bad("declared twice")
		}
		seen[e.Name] = true
		n, ok := e.Bytes()
		if !ok || n > math.MaxInt64-end {
			return nil, bad(fmt.Sprintf("%v has no size", e))
		}
		if i > 0 || metadata != nil {
			b.WriteByte(',')
		}
		encodeJSON(&b, e.Name)
		b.WriteByte(':')
		encodeJSON(&b, struct {
			Type  string   `json:"dtype"`
			Shape []int    `json:"shape"`
			Span  [2]int64 `json:"data_offsets"`
		}{e.Type.String(), append([]int{}, e.Shape...), [2]int64{end, end + n}})
		end += n
	}
	b.WriteByte('}')
	for b.Len()%prefix != 0 {
		b.WriteByte(' ')
	}
	n := b.Len() - prefix
	if n > MaxHeader {
		return nil, fmt.Errorf("checkpoint: %s: header of %d bytes, want at most %d", quote.Name(file), n, MaxHeader)
	}
	binary.LittleEndian.PutUint64(b.Bytes(), uint64(n))
	return b.Bytes(), nil
}

// encodeJSON appends v, of which the caller knows that it can be encoded.
func encodeJSON(b *bytes.Buffer, v any) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	enc.Encode(v)
	b.Truncate(b.Len() - 1) // the encoder's newline
}
