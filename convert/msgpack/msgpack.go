// Package msgpack reads the tree of arrays that flax.serialization writes, one
// file of MessagePack. It keeps places of values, never values: memory does not
// grow with the arrays.
//
// Maps are the tree; an array is extension 1, whose bytes are MessagePack again:
// [shape, name of the type, bytes]. One of more than 2^30 bytes is a map of
// chunks. See flax/serialization.py; the format is at
// https://github.com/msgpack/msgpack/blob/master/spec.md.
package msgpack

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"ossify/checkpoint"
	"ossify/convert/array"
	"ossify/internal/quote"
)

// Limits, far beyond any model of this house.
const (
	mostDepth  = 8       // maps in each other
	mostKeys   = 1 << 16 // in all
	mostString = 1 << 10 // bytes of a key or a type's name
	mostDims   = 8
	mostChunks = 1 << 12 // of an array
)

// What flax.serialization knows.
const (
	extArray   = 1
	chunkedKey = "__msgpack_chunked_array__"
)

// A File is an open file of arrays.
type File struct {
	in     *os.File
	arrays []array.Array
}

// Open opens the file at path and reads all of it but the arrays' bytes.
func Open(path string) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("msgpack: %w", err)
	}
	name := quote.Name(filepath.Base(path))
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("msgpack: %s: not a regular file", name)
	}
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("msgpack: %w", err)
	}
	if info, err = in.Stat(); err == nil {
		var arrays []array.Array
		if arrays, err = Parse(in, info.Size()); err == nil {
			return &File{in, arrays}, nil
		}
		err = fmt.Errorf("msgpack: %s: %w", name, err)
	}
	in.Close()
	return nil, err
}

// Arrays returns the arrays in the order of the file.
func (f *File) Arrays() []array.Array { return f.arrays }

// Close closes the file. No array may be read afterwards.
func (f *File) Close() error { return f.in.Close() }

// Parse finds the arrays in size bytes of MessagePack.
func Parse(from io.ReaderAt, size int64) ([]array.Array, error) {
	w := &walker{from: from, size: size}
	w.seek(0)
	if err := w.tree(nil); err != nil {
		return nil, fmt.Errorf("at byte %d: %w", w.at, err)
	}
	if w.at != size {
		return nil, fmt.Errorf("%d bytes after its end, at %d", size-w.at, w.at)
	}
	if len(w.arrays) == 0 {
		return nil, errors.New("no arrays in it")
	}
	return w.arrays, nil
}

// A walker stands before the next value.
type walker struct {
	from   io.ReaderAt
	size   int64
	at     int64
	buf    *bufio.Reader
	keys   int
	arrays []array.Array
}

// seek goes to an offset, within the file.
func (w *walker) seek(at int64) {
	w.at = at
	r := io.NewSectionReader(w.from, at, w.size-at)
	if w.buf == nil {
		w.buf = bufio.NewReader(r)
	}
	w.buf.Reset(r)
}

// bytes reads the next n, of which there are not many.
func (w *walker) bytes(n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := io.ReadFull(w.buf, b)
	w.at += int64(got)
	if err != nil {
		return nil, w.ends(err)
	}
	return b, nil
}

func (w *walker) ends(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file ends within a value")
	}
	return err
}

func (w *walker) byte() (byte, error) {
	b, err := w.buf.ReadByte()
	if err != nil {
		return 0, w.ends(err)
	}
	w.at++
	return b, nil
}

// number reads a big-endian number of n bytes.
func (w *walker) number(n int) (uint64, error) {
	b, err := w.bytes(n)
	if err != nil {
		return 0, err
	}
	var all [8]byte
	copy(all[8-n:], b)
	return binary.BigEndian.Uint64(all[:]), nil
}

// kinds of values. Those that no tree of arrays has are other.
type kind uint8

const (
	other kind = iota
	isMap
	isList
	isString
	isBytes
	isExt
	isInt
	isTrue
)

func (k kind) String() string {
	return [...]string{"another value", "a map", "a list", "a string", "bytes", "an extension", "a whole number", "true"}[k]
}

// next reads the head of a value: its kind and what counts it, or the number. Of
// an extension code is the type.
func (w *walker) next() (k kind, n uint64, code byte, err error) {
	c, err := w.byte()
	if err != nil {
		return 0, 0, 0, err
	}
	sized := func(k kind, size int) (kind, uint64, byte, error) {
		n, err := w.number(size)
		return k, n, 0, err
	}
	switch {
	case c < 0x80:
		return isInt, uint64(c), 0, nil
	case c < 0x90:
		return isMap, uint64(c & 15), 0, nil
	case c < 0xa0:
		return isList, uint64(c & 15), 0, nil
	case c < 0xc0:
		return isString, uint64(c & 31), 0, nil
	case c == 0xc3:
		return isTrue, 0, 0, nil
	case c >= 0xc4 && c <= 0xc6:
		return sized(isBytes, 1<<(c-0xc4))
	case c >= 0xc7 && c <= 0xc9:
		if k, n, _, err = sized(isExt, 1<<(c-0xc7)); err == nil {
			code, err = w.byte()
		}
		return k, n, code, err
	case c >= 0xcc && c <= 0xcf:
		return sized(isInt, 1<<(c-0xcc))
	case c >= 0xd4 && c <= 0xd8:
		code, err = w.byte()
		return isExt, 1 << (c - 0xd4), code, err
	case c >= 0xd9 && c <= 0xdb:
		return sized(isString, 1<<(c-0xd9))
	case c == 0xdc || c == 0xdd:
		return sized(isList, 2<<(c-0xdc))
	case c == 0xde || c == 0xdf:
		return sized(isMap, 2<<(c-0xde))
	}
	return other, 0, 0, nil
}

// want reads the head of a value of one kind.
func (w *walker) want(k kind, what string) (uint64, error) {
	got, n, _, err := w.next()
	if err != nil {
		return 0, err
	}
	if got != k {
		return 0, fmt.Errorf("%s is %v, want %v", what, got, k)
	}
	return n, nil
}

// text reads a string.
func (w *walker) text(what string) (string, error) {
	n, err := w.want(isString, what)
	if err != nil {
		return "", err
	}
	if n > mostString {
		return "", fmt.Errorf("%s of %d bytes, want at most %d", what, n, mostString)
	}
	b, err := w.bytes(int(n))
	if err == nil && !utf8.Valid(b) {
		err = fmt.Errorf("%s is not valid UTF-8", what)
	}
	return string(b), err
}

// tree reads a map of maps and arrays.
func (w *walker) tree(path []string) error {
	place := strings.Join(path, "/")
	k, n, code, err := w.next()
	switch {
	case err != nil:
		return err
	case k == isExt && code == extArray && len(path) > 0:
		shape, typ, data, err := w.array(n)
		if err != nil {
			return fmt.Errorf("%s: %w", quote.Name(place), err)
		}
		w.add(place, shape, typ, data)
		return nil
	case k == isExt:
		return fmt.Errorf("%s: extension %d, want arrays, which are extension %d", quote.Name(place), int8(code), extArray)
	case k != isMap:
		return fmt.Errorf("%s: %v, want a map or an array", quote.Name(place), k)
	case len(path) >= mostDepth:
		return fmt.Errorf("%s: maps deeper than %d", quote.Name(place), mostDepth)
	}
	seen := map[string]bool{}
	for i := range n {
		key, err := w.key(seen)
		if err != nil {
			return fmt.Errorf("%s: %w", quote.Name(place), err)
		}
		if key == chunkedKey {
			if i > 0 || n != 3 || len(path) == 0 {
				return fmt.Errorf("%s: %s is not the first of three keys", quote.Name(place), chunkedKey)
			}
			if err := w.chunked(place); err != nil {
				return fmt.Errorf("%s: %w", quote.Name(place), err)
			}
			return nil
		}
		if key == "" || strings.Contains(key, "/") {
			return fmt.Errorf("%s: key %s, want one without / that is not empty", quote.Name(place), quote.Value(key))
		}
		if err := w.tree(append(path, key)); err != nil {
			return err
		}
	}
	return nil
}

// key reads a key of a map, which no other of it has.
func (w *walker) key(seen map[string]bool) (string, error) {
	if w.keys++; w.keys > mostKeys {
		return "", fmt.Errorf("more than %d keys", mostKeys)
	}
	key, err := w.text("a key")
	if err == nil && seen[key] {
		err = fmt.Errorf("key %s appears twice", quote.Value(key))
	}
	seen[key] = true
	return key, err
}

// array reads the n bytes of an extension that holds an array, and leaves out
// its data.
func (w *walker) array(n uint64) (shape []int, typ checkpoint.DType, data *io.SectionReader, err error) {
	start := w.at
	if n > uint64(w.size-start) {
		return nil, 0, nil, fmt.Errorf("array of %d bytes, %d before the end of the file", n, w.size-start)
	}
	fields, err := w.want(isList, "an array's content")
	if err == nil && fields != 3 {
		err = fmt.Errorf("%d fields of an array, want 3: shape, type, bytes", fields)
	}
	if err != nil {
		return nil, 0, nil, err
	}
	dims, err := w.want(isList, "a shape")
	if err == nil && dims > mostDims {
		err = fmt.Errorf("%d dimensions, want at most %d", dims, mostDims)
	}
	if err != nil {
		return nil, 0, nil, err
	}
	for range dims {
		d, err := w.dim()
		if err != nil {
			return nil, 0, nil, err
		}
		shape = append(shape, d)
	}
	name, err := w.text("a type")
	if err != nil {
		return nil, 0, nil, err
	}
	typ, ok := types(name)
	if !ok {
		return nil, 0, nil, fmt.Errorf("type %s, want one of %s", quote.Value(name), "bfloat16 float32 float16 float64 uint8 int8 int32 int64 bool")
	}
	length, err := w.want(isBytes, "an array's data")
	if err != nil {
		return nil, 0, nil, err
	}
	e := checkpoint.Entry{Type: typ, Shape: shape}
	switch want, ok := e.Bytes(); {
	case !ok:
		return nil, 0, nil, fmt.Errorf("the size of %v overflows", e)
	case length != uint64(want):
		return nil, 0, nil, fmt.Errorf("%d bytes of %v, want %d", length, e, want)
	case uint64(w.at-start) > n || length != n-uint64(w.at-start):
		return nil, 0, nil, fmt.Errorf("an extension of %d bytes holds %d of an array", n, uint64(w.at-start)+length)
	}
	data = io.NewSectionReader(w.from, w.at, int64(length))
	w.seek(w.at + int64(length))
	return shape, typ, data, nil
}

// dim reads a dimension.
func (w *walker) dim() (int, error) {
	d, err := w.want(isInt, "a dimension")
	if err == nil && d > math.MaxInt {
		err = fmt.Errorf("a dimension of %d", d)
	}
	return int(d), err
}

// chunked reads the rest of a map whose first key says that it is an array in
// chunks: {key: true, "shape": {"0": ..}, "chunks": {"0": array, ..}}, in the
// order that flax writes, or with the two last exchanged.
func (w *walker) chunked(place string) error {
	if _, err := w.want(isTrue, chunkedKey); err != nil {
		return err
	}
	var shape []int
	var typ checkpoint.DType
	var chunks []*io.SectionReader
	elements := int64(0)
	seen := map[string]bool{chunkedKey: true}
	for range 2 {
		key, err := w.key(seen)
		if err != nil {
			return err
		}
		most := mostDims
		if key == "chunks" {
			most = mostChunks
		} else if key != "shape" {
			return fmt.Errorf("key %s of an array in chunks, want shape and chunks", quote.Value(key))
		}
		n, err := w.want(isMap, key)
		if err == nil && n > uint64(most) {
			err = fmt.Errorf("%s of %d, want at most %d", key, n, most)
		}
		if err != nil {
			return err
		}
		within := map[string]bool{}
		for i := range n {
			number, err := w.key(within)
			if err == nil && number != strconv.FormatUint(i, 10) {
				err = fmt.Errorf("%s: key %s, want %d", key, quote.Value(number), i)
			}
			if err != nil {
				return err
			}
			if key == "shape" {
				d, err := w.dim()
				if err != nil {
					return err
				}
				shape = append(shape, d)
				continue
			}
			k, n, code, err := w.next()
			if err == nil && (k != isExt || code != extArray) {
				err = fmt.Errorf("chunk %d is %v, want an array", i, k)
			}
			if err != nil {
				return err
			}
			s, t, data, err := w.array(n)
			switch {
			case err != nil:
				return fmt.Errorf("chunk %d: %w", i, err)
			case len(s) != 1:
				return fmt.Errorf("chunk %d has %d dimensions, want 1", i, len(s))
			case i > 0 && t != typ:
				return fmt.Errorf("chunk %d is %v, those before %v", i, t, typ)
			case elements > math.MaxInt64-int64(s[0]):
				return fmt.Errorf("chunk %d: elements overflow", i)
			}
			typ, elements, chunks = t, elements+int64(s[0]), append(chunks, data)
		}
	}
	e := checkpoint.Entry{Type: typ, Shape: shape}
	if want, ok := e.Bytes(); !ok || len(chunks) == 0 || elements*int64(typ.Size()) != want {
		return fmt.Errorf("chunks of %d elements for %v", elements, e)
	}
	w.add(place, shape, typ, chunks...)
	return nil
}

func (w *walker) add(name string, shape []int, typ checkpoint.DType, data ...*io.SectionReader) {
	w.arrays = append(w.arrays, array.Array{Name: name, Type: typ, Shape: shape, Open: array.Sections(data...)})
}

// types returns the type that NumPy calls name, if it is one that safetensors
// have too.
func types(name string) (checkpoint.DType, bool) {
	t, ok := map[string]checkpoint.DType{
		"bfloat16": checkpoint.BF16, "float32": checkpoint.F32, "float16": checkpoint.F16, "float64": checkpoint.F64,
		"uint8": checkpoint.U8, "int8": checkpoint.I8, "int32": checkpoint.I32, "int64": checkpoint.I64, "bool": checkpoint.BOOL,
	}[name]
	return t, ok
}
