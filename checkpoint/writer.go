package checkpoint

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"unicode/utf8"
)

// A Writer writes a safetensors file, one tensor after the other, in constant
// memory. The bytes depend on nothing but what is written. Until Commit they
// are in a temporary file beside the target.
type Writer struct {
	target
	entries []Entry
	next    int   // index of the tensor that Tensor has to name next
	left    int64 // bytes still missing of tensor next-1
	err     error // first failure; everything after it fails with it
}

// Create starts the file at path. The entries are its tensors, in the order in
// which they are going to be written; metadata may be nil.
func Create(path string, entries []Entry, metadata map[string]string) (*Writer, error) {
	header, err := encodeHeader(filepath.Base(path), entries, metadata)
	if err != nil {
		return nil, err
	}
	w := &Writer{entries: entries}
	if err := w.target.create(path); err != nil {
		return nil, err
	}
	if _, err := w.buf.Write(header); err != nil {
		w.Abort()
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	return w, nil
}

// Tensor begins the next tensor, which must be name, and returns the writer of
// its bytes: little-endian, exactly as many as its entry asks for. The tensor
// before it must be complete.
func (w *Writer) Tensor(name string) (io.Writer, error) {
	switch {
	case w.err != nil:
		return nil, w.err
	case w.left > 0:
		return nil, w.short()
	case w.next == len(w.entries):
		return nil, w.fail("%s: written after the last tensor", show(name))
	case w.entries[w.next].Name != name:
		return nil, w.fail("%s: written where %s was declared", show(name), show(w.entries[w.next].Name))
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
	if err := w.target.skip(w.left); err != nil {
		w.err = err
		return err
	}
	w.left = 0
	return nil
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
	case t.next != w.next:
		return 0, w.fail("%s: written after the next tensor was begun", show(w.entries[t.next-1].Name))
	case int64(len(p)) > w.left:
		e := w.entries[w.next-1]
		n, _ := e.Bytes()
		return 0, w.fail("%s: more bytes than the %d of %v", show(e.Name), n, e)
	}
	n, err := w.buf.Write(p)
	w.left -= int64(n)
	if err != nil {
		w.err = fmt.Errorf("checkpoint: %w", err)
	}
	return n, w.err
}

// Commit completes the file: every declared tensor must have been written. The
// bytes are on disk before the file takes its name. If Commit fails, the
// temporary file is gone.
func (w *Writer) Commit() error {
	err := w.finish()
	if err == nil {
		err = w.publish()
	}
	w.Abort()
	return err
}

// finish is Commit up to the renaming.
func (w *Writer) finish() error {
	switch {
	case w.err != nil:
		return w.err
	case w.left > 0:
		return w.short()
	case w.next < len(w.entries):
		return w.fail("%s: declared and not written", show(w.entries[w.next].Name))
	}
	w.err = w.target.finish()
	return w.err
}

// Abort gives up and removes the temporary file. It does nothing after Commit,
// so that it can be deferred.
func (w *Writer) Abort() {
	w.target.abort()
	if w.err == nil {
		w.err = fmt.Errorf("checkpoint: %s: writer is closed", w.name())
	}
}

func (w *Writer) short() error {
	e := w.entries[w.next-1]
	n, _ := e.Bytes()
	return w.fail("%s: %d bytes written of the %d of %v", show(e.Name), n-w.left, n, e)
}

func (w *Writer) fail(format string, args ...any) error {
	if w.err == nil {
		w.err = fmt.Errorf("checkpoint: %s: %s", w.name(), fmt.Sprintf(format, args...))
	}
	return w.err
}

// Save writes tensors, in their order, to a file at path. File and Offset of
// the tensors are not looked at.
func Save(path string, tensors []Tensor, metadata map[string]string) error {
	entries := make([]Entry, len(tensors))
	for i, t := range tensors {
		entries[i] = t.Entry()
	}
	w, err := Create(path, entries, metadata)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, t := range tensors {
		b, err := w.Tensor(t.Name)
		if err != nil {
			return err
		}
		if _, err := b.Write(t.Data); err != nil {
			return err
		}
	}
	return w.Commit()
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
				return nil, fmt.Errorf("checkpoint: %s: metadata %s is not valid UTF-8", show(file), quote(k))
			}
		}
		b.WriteString(`"` + metadataKey + `":`)
		encodeJSON(&b, metadata) // keys sorted
	}
	seen := make(map[string]bool, len(entries))
	end := int64(0)
	for i, e := range entries {
		bad := func(reason string) error {
			return fmt.Errorf("checkpoint: %s: %s: %s", show(file), show(e.Name), reason)
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
		return nil, fmt.Errorf("checkpoint: %s: header of %d bytes, want at most %d", show(file), n, MaxHeader)
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

// target is a file under construction: a temporary file that takes the name of
// its path when it is complete.
type target struct {
	path string
	temp string   // "" once there is no temporary file any more
	file *os.File // nil once closed
	buf  *bufio.Writer
}

func (t *target) name() string { return show(filepath.Base(t.path)) }

// create opens a temporary file in the folder of path.
func (t *target) create(path string) error {
	t.path = path
	for {
		temp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%08x.tmp", filepath.Base(path), rand.Uint32()))
		file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		switch {
		case err == nil:
			t.temp, t.file, t.buf = temp, file, bufio.NewWriterSize(file, 1<<20)
			return nil
		case !errors.Is(err, os.ErrExist):
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
}

// skip makes the file n zero bytes longer.
func (t *target) skip(n int64) error {
	err := t.buf.Flush()
	var end int64
	if err == nil {
		end, err = t.file.Seek(n, io.SeekCurrent)
	}
	if err == nil {
		err = t.file.Truncate(end)
	}
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// finish puts the bytes on disk and closes the file.
func (t *target) finish() error {
	err := t.buf.Flush()
	if err == nil {
		err = t.file.Sync()
	}
	err = errors.Join(err, t.file.Close())
	t.file = nil
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// publish gives the finished file its name.
func (t *target) publish() error {
	if err := os.Rename(t.temp, t.path); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	t.temp = ""
	syncDir(filepath.Dir(t.path))
	return nil
}

func (t *target) abort() {
	if t.file != nil {
		t.file.Close()
		t.file = nil
	}
	if t.temp != "" {
		os.Remove(t.temp)
		t.temp = ""
	}
}

// WriteFile writes a small file of a checkpoint folder, such as config.json:
// on disk before it takes its name, or not at all.
func WriteFile(path string, data []byte) error {
	var t target
	if err := t.create(path); err != nil {
		return err
	}
	defer t.abort()
	if _, err := t.buf.Write(data); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := t.finish(); err != nil {
		return err
	}
	return t.publish()
}

// syncDir makes renames in a folder durable where the system can do that; not
// every system can, and the file itself is on disk already.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
}
