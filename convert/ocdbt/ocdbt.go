// Package ocdbt reads a database of TensorStore's OCDBT format, in which Orbax
// keeps arrays: a B+tree of keys whose values lie in the tree's nodes or in data
// files beside. It reads the newest version, and writes nothing.
//
// The format: https://google.github.io/tensorstore/kvstore/ocdbt/index.html. The
// manifest has a byte more than that page says, its kind, before the limits.
//
// Nodes carry a checksum, values do not.
package ocdbt

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"ossify/internal/quote"
)

// Manifest is the file that makes a folder a database.
const Manifest = "manifest.ocdbt"

// Limits on all nodes of a database together.
const (
	mostNodes = 1 << 16
	mostKeys  = 1 << 20
	mostBytes = 256 << 20 // of nodes, decoded keys and values within
	mostOpen  = 1 << 10   // data files
)

// A DB is an open database. It is safe for use by several goroutines.
type DB struct {
	root   *os.Root
	files  map[string]*os.File
	values map[string]*io.SectionReader
	keys   []string // in order
	paths  []string // of the files
}

// Open opens the database in the folder dir and reads its tree.
func Open(dir string) (*DB, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("ocdbt: %w", err)
	}
	d := &DB{root: r, files: map[string]*os.File{}, values: map[string]*io.SectionReader{}}
	if err := d.read(); err != nil {
		d.Close()
		return nil, err
	}
	for path := range d.files {
		d.paths = append(d.paths, filepath.Join(dir, filepath.FromSlash(path)))
	}
	slices.Sort(d.paths)
	return d, nil
}

// Close closes the files. No value may be read afterwards.
func (d *DB) Close() error { return CloseFiles(d.root, d.files) }

// CloseFiles closes a folder, and files of it.
func CloseFiles(dir *os.Root, files map[string]*os.File) error {
	err := dir.Close()
	for _, f := range files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// Keys returns all keys, in order. The caller must not change the slice.
func (d *DB) Keys() []string { return d.keys }

// Files returns the paths of all files that were opened.
func (d *DB) Files() []string { return d.paths }

// Get returns the value of a key; fs.ErrNotExist if there is none.
func (d *DB) Get(key string) (*io.SectionReader, error) {
	v, ok := d.values[key]
	if !ok {
		return nil, fmt.Errorf("ocdbt: %s: %w", quote.Name(key), fs.ErrNotExist)
	}
	return v, nil
}

// bad is an error of a file.
func bad(path string, err error) error { return fmt.Errorf("ocdbt: %s: %w", quote.Name(path), err) }

// read reads manifest and tree.
func (d *DB) read() error {
	f, err := d.file(Manifest)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return bad(Manifest, err)
	}
	blob, err := d.blob(place{file: file{name: Manifest}, length: uint64(size)})
	if err != nil {
		return err
	}
	top, err := parseManifest(blob)
	if err != nil {
		return bad(Manifest, err)
	}
	w := &walk{db: d}
	n, err := w.node(top.place, top.height, nil)
	if err != nil {
		return err
	}
	if n != top.keys {
		return bad(Manifest, fmt.Errorf("says %d keys, its tree has %d", top.keys, n))
	}
	return w.apart()
}

// file opens a file of the database once.
func (d *DB) file(path string) (*os.File, error) {
	if f := d.files[path]; f != nil {
		return f, nil
	}
	if len(d.files) == mostOpen {
		return nil, bad(path, fmt.Errorf("one file more than %d", mostOpen))
	}
	if !utf8.ValidString(path) || strings.ContainsAny(path, "\\:\x00") || !fs.ValidPath(path) || path == "." {
		return nil, bad(path, errors.New("want a path within the database's folder"))
	}
	// No part of it may be a link: data lies where Orbax wrote it.
	for at := path; ; at = at[:strings.LastIndexByte(at, '/')] {
		info, err := d.root.Lstat(at)
		switch {
		case err != nil:
			return nil, bad(path, err)
		case at == path && !info.Mode().IsRegular():
			return nil, bad(path, errors.New("not a regular file"))
		case at != path && !info.IsDir():
			return nil, bad(path, fmt.Errorf("%s is not a folder", quote.Name(at)))
		}
		if !strings.Contains(at, "/") {
			break
		}
	}
	f, err := d.root.Open(path)
	if err != nil {
		return nil, bad(path, err)
	}
	d.files[path] = f
	return f, nil
}

// section returns the bytes at a place, which lies within its file.
func (d *DB) section(p place) (*io.SectionReader, error) {
	path := p.file.path()
	f, err := d.file(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, bad(path, err)
	}
	if size := uint64(info.Size()); p.offset > size || p.length > size-p.offset {
		return nil, bad(path, fmt.Errorf("%d bytes at %d, of a file of %d", p.length, p.offset, size))
	}
	return io.NewSectionReader(f, int64(p.offset), int64(p.length)), nil
}

// blob reads all bytes at a place.
func (d *DB) blob(p place) ([]byte, error) {
	r, err := d.section(p)
	if err != nil {
		return nil, err
	}
	if p.length > mostNode {
		return nil, bad(p.file.path(), fmt.Errorf("a node of %d bytes, want at most %d", p.length, mostNode))
	}
	b := make([]byte, p.length)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, bad(p.file.path(), err)
	}
	return b, nil
}

// A walk goes through a tree in the order of its keys.
type walk struct {
	db    *DB
	nodes int
	bytes uint64
	last  []byte  // key; nil before the first
	least []byte  // what the next key must be at least: the first that a node above names
	out   []place // values out of line
}

// node reads the node at p, whose keys have a prefix, and those below it, and
// returns how many keys they have.
func (w *walk) node(p place, height int, prefix []byte) (keys uint64, err error) {
	where := fmt.Sprintf("%s: node at %d", p.file.path(), p.offset)
	w.bytes += p.length
	if w.nodes++; w.nodes > mostNodes {
		return 0, bad(where, fmt.Errorf("one node more than %d", mostNodes))
	}
	blob, err := w.db.blob(p)
	if err != nil {
		return 0, err
	}
	list, err := parseNode(blob, p.file.base, height)
	if err != nil {
		return 0, bad(where, err)
	}
	for _, e := range list {
		key := slices.Concat(prefix, e.key)
		if w.bytes += uint64(len(key) + len(e.inline)); w.bytes > mostBytes || len(key) > mostPath {
			return 0, bad(where, fmt.Errorf("keys and values in nodes of more than %d bytes", mostBytes))
		}
		if w.last != nil && bytes.Compare(key, w.last) <= 0 || bytes.Compare(key, w.least) < 0 {
			return 0, bad(where, fmt.Errorf("key %q after %q, want one of %q or more", key, w.last, w.least))
		}
		w.least = key
		if height > 0 {
			n, err := w.node(e.place, height-1, slices.Concat(prefix, e.prefix))
			if err != nil {
				return 0, err
			}
			if n != e.keys {
				return 0, bad(where, fmt.Errorf("says %d keys of a child that has %d", e.keys, n))
			}
			keys += n
			continue
		}
		w.last = key
		if keys++; len(w.db.keys) == mostKeys {
			return 0, bad(where, fmt.Errorf("one key more than %d", mostKeys))
		}
		if err := w.value(string(key), e); err != nil {
			return 0, err
		}
	}
	return keys, nil
}

// value takes a key's value.
func (w *walk) value(key string, e entry) error {
	if !utf8.ValidString(key) {
		return fmt.Errorf("ocdbt: key %s is not valid UTF-8", quote.Value(key))
	}
	v := io.NewSectionReader(bytes.NewReader(e.inline), 0, int64(len(e.inline)))
	if e.inline == nil {
		var err error
		if v, err = w.db.section(e.place); err != nil {
			return fmt.Errorf("%w (value of %s)", err, quote.Name(key))
		}
		w.out = append(w.out, e.place)
	}
	w.db.keys = append(w.db.keys, key)
	w.db.values[key] = v
	return nil
}

// apart demands that no two values share bytes of a file.
func (w *walk) apart() error {
	slices.SortFunc(w.out, func(a, b place) int {
		return cmp.Or(strings.Compare(a.file.path(), b.file.path()), cmp.Compare(a.offset, b.offset), cmp.Compare(a.length, b.length))
	})
	for i := 1; i < len(w.out); i++ {
		a, b := w.out[i-1], w.out[i]
		if a.file.path() == b.file.path() && b.length > 0 && a.offset+a.length > b.offset {
			return bad(b.file.path(), fmt.Errorf("values at %d and %d overlap", a.offset, b.offset))
		}
	}
	return nil
}
