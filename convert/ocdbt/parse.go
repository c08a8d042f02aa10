package ocdbt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"ossify/convert/frame"
)

// Magic numbers, big-endian, at the start of a blob.
const (
	manifestMagic = 0x0cdb3a2a
	nodeMagic     = 0x0cdb20de
)

// Limits, far beyond any model of this house.
const (
	mostNode     = 128 << 20 // bytes of a manifest or node, compressed or not
	mostVersions = 1 << 16   // in a manifest
	mostFiles    = 1 << 16   // that a node names
	mostEntries  = 1 << 20   // of a node: the format's own limit
	mostPath     = 1<<16 - 1 // bytes of a key or a file's path: the format's own limit
	mostHeight   = 32
)

// A reader reads the body of a blob. The first mistake stays in err, and what is
// read after it is zero.
type reader struct {
	b   []byte
	at  int
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// take returns the next n bytes.
func (r *reader) take(n uint64) []byte {
	if r.err == nil && n > uint64(len(r.b)-r.at) {
		r.fail("ends within a field, at byte %d", len(r.b))
	}
	if r.err != nil {
		return nil
	}
	b := r.b[r.at : r.at+int(n)]
	r.at += int(n)
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// varint reads an unsigned LEB128 number of at most most.
func (r *reader) varint(what string, most uint64) uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b[r.at:])
	switch {
	case n == 0:
		r.fail("ends within a field, at byte %d", len(r.b))
	case n < 0:
		r.fail("%s is beyond 64 bits", what)
	case v > most:
		r.fail("%s is %d, want at most %d", what, v, most)
	default:
		r.at += n
		return v
	}
	return 0
}

// count reads how many of something follow, each at least a byte.
func (r *reader) count(what string, most uint64) int {
	n := r.varint("the number of "+what, most)
	if n > uint64(len(r.b)-r.at) {
		r.fail("%d %s in the last %d bytes", n, what, len(r.b)-r.at)
		return 0
	}
	return int(n)
}

// varints reads a column.
func (r *reader) varints(what string, n int, most uint64) []uint64 {
	if r.err != nil || n < 0 || n > len(r.b)-r.at {
		r.fail("ends within a field, at byte %d", len(r.b))
		return make([]uint64, max(0, min(n, mostEntries)))
	}
	v := make([]uint64, n)
	for i := range v {
		v[i] = r.varint(what, most)
	}
	return v
}

// column reads n fields of size bytes, and drops them.
func (r *reader) column(n, size int) { r.take(uint64(n) * uint64(size)) }

// end demands that nothing follows.
func (r *reader) end() error {
	if r.err == nil && r.at != len(r.b) {
		r.fail("%d bytes after its last field, want none", len(r.b)-r.at)
	}
	return r.err
}

// open checks what encloses every blob and returns a reader of its body.
func open(blob []byte, magic uint32) (*reader, error) {
	const least = 4 + 8 + 1 + 1 + 4
	if len(blob) < least {
		return nil, fmt.Errorf("%d bytes, want at least %d", len(blob), least)
	}
	end := len(blob) - 4
	switch {
	case binary.BigEndian.Uint32(blob) != magic:
		return nil, fmt.Errorf("begins with %x, want %08x", blob[:4], magic)
	case binary.LittleEndian.Uint64(blob[4:]) != uint64(len(blob)):
		return nil, fmt.Errorf("says that it has %d bytes, but has %d", binary.LittleEndian.Uint64(blob[4:]), len(blob))
	}
	want := binary.LittleEndian.Uint32(blob[end:])
	if got := crc32.Checksum(blob[:end], crc32.MakeTable(crc32.Castagnoli)); got != want {
		return nil, fmt.Errorf("has CRC-32C %08x, want %08x as it says", got, want)
	}
	r := &reader{b: blob[:end], at: 12}
	r.varint("the format's version", 0)
	compression := r.varint("the compression", 1)
	if r.err != nil {
		return nil, r.err
	}
	r = &reader{b: r.b[r.at:]}
	if compression == 1 {
		body, err := frame.Decode(r.b, mostNode)
		if err != nil {
			return nil, err
		}
		r.b = body
	}
	return r, nil
}

// A place is where a blob or a value lies.
type place struct {
	file           file
	offset, length uint64
}

// A file is named by a node: base is what the nodes below it put before theirs.
type file struct{ base, name string }

func (f file) path() string { return f.base + f.name }

// files reads a table of files, below a base.
func (r *reader) files(base string) []file {
	n := r.count("files", mostFiles)
	if n == 0 {
		return nil
	}
	prefix := append([]uint64{0}, r.varints("a file's prefix", n-1, mostPath)...)
	suffix := r.varints("a file's suffix", n, mostPath)
	bases := r.varints("a file's base", n, mostPath)
	var list []file
	last := ""
	for i := range n {
		if prefix[i] > uint64(len(last)) {
			r.fail("a file's prefix of %d bytes, of a path of %d", prefix[i], len(last))
		}
		rest := string(r.take(suffix[i]))
		if r.err != nil {
			return nil
		}
		last = last[:prefix[i]] + rest
		if len(last) > mostPath || bases[i] > uint64(len(last)) {
			r.fail("a file's base of %d bytes, of a path of %d", bases[i], len(last))
			return nil
		}
		list = append(list, file{base + last[:bases[i]], last[bases[i]:]})
		if len(list[i].path()) > mostPath {
			r.fail("a path of %d bytes, want at most %d", len(list[i].path()), mostPath)
		}
	}
	return list
}

// places reads the columns file, offset and length.
func (r *reader) places(files []file, n int) []place {
	list := make([]place, n)
	for i, f := range r.varints("a file's number", n, math.MaxUint64) {
		if r.err == nil && f >= uint64(len(files)) {
			r.fail("file %d of %d", f, len(files))
		}
		if r.err == nil {
			list[i].file = files[f]
		}
	}
	for i, v := range r.varints("an offset", n, math.MaxUint64) {
		list[i].offset = v
	}
	for i, v := range r.varints("a length", n, math.MaxUint64) {
		list[i].length = v
	}
	return list
}

// A root is the tree of one version.
type root struct {
	place  place
	height int
	keys   uint64
}

// parseManifest returns the newest version's tree.
func parseManifest(blob []byte) (root, error) {
	r, err := open(blob, manifestMagic)
	if err != nil {
		return root{}, err
	}
	r.take(16) // uuid
	if kind := r.byte(); r.err == nil && kind != 0 {
		return root{}, fmt.Errorf("has kind %d, want 0: versions in files of their own are not supported", kind)
	}
	r.varint("the longest inline value", math.MaxUint64)
	r.varint("the largest node", math.MaxUint64)
	r.byte() // log2 of the version tree's arity
	if r.varint("the compression", 1) == 1 {
		r.take(4) // level
	}
	files := r.files("")
	n := r.count("versions", mostVersions)
	generations := r.varints("a generation", n, math.MaxUint64)
	heights := r.take(uint64(n))
	places := r.places(files, n)
	keys := r.varints("a number of keys", n, math.MaxUint64)
	r.varints("the bytes of a tree", n, math.MaxUint64)
	r.varints("the bytes of values", n, math.MaxUint64)
	r.column(n, 8) // commit times
	// Nodes of versions that are older.
	m := r.count("version nodes", mostVersions)
	r.varints("a generation", m, math.MaxUint64)
	r.places(files, m)
	r.varints("a number of generations", m, math.MaxUint64)
	r.column(m, 8)
	r.column(m, 1)
	if err := r.end(); err != nil {
		return root{}, err
	}
	if n == 0 {
		return root{}, errors.New("has no version, want one")
	}
	for i := 1; i < n; i++ {
		if generations[i] <= generations[i-1] {
			return root{}, fmt.Errorf("has generation %d after %d, want a later one", generations[i], generations[i-1])
		}
	}
	last := root{places[n-1], int(heights[n-1]), keys[n-1]}
	switch p := last.place; {
	case p.offset == math.MaxUint64 && p.length == math.MaxUint64:
		return root{}, errors.New("is empty in its newest version, want keys")
	case last.height > mostHeight:
		return root{}, fmt.Errorf("has a tree of height %d, want at most %d", last.height, mostHeight)
	}
	return last, nil
}

// An entry of a node is a child, or a value.
type entry struct {
	key    []byte // without what the nodes above put before it
	place  place  // of the child, or of a value that lies out of line
	inline []byte // value; nil if it lies out of line

	// Of a child:
	prefix []byte // what it puts before the keys below, of key
	keys   uint64 // below it
}

// parseNode reads a node of the tree.
func parseNode(blob []byte, base string, height int) ([]entry, error) {
	r, err := open(blob, nodeMagic)
	if err != nil {
		return nil, err
	}
	if h := r.byte(); r.err == nil && int(h) != height {
		return nil, fmt.Errorf("has height %d, want %d", h, height)
	}
	files := r.files(base)
	n := r.count("entries", mostEntries)
	if r.err == nil && n == 0 {
		return nil, errors.New("has no entries")
	}
	if r.err != nil {
		return nil, r.err
	}
	list := make([]entry, n)
	prefix := append([]uint64{0}, r.varints("a key's prefix", n-1, mostPath)...)
	suffix := r.varints("a key's suffix", n, mostPath)
	subtree := make([]uint64, n)
	if height > 0 {
		subtree = r.varints("a subtree's prefix", n, mostPath)
	}
	if r.err != nil {
		return nil, r.err
	}
	var last []byte
	total := 0
	for i := range list {
		if prefix[i] > uint64(len(last)) {
			r.fail("a key's prefix of %d bytes, of a key of %d", prefix[i], len(last))
		}
		rest := r.take(suffix[i])
		if r.err != nil {
			return nil, r.err
		}
		key := append(last[:prefix[i]:prefix[i]], rest...)
		switch total += len(key); {
		case total > mostNode: // a prefix may be shared by many
			return nil, fmt.Errorf("has more than %d bytes of keys", mostNode)
		case i > 0 && bytes.Compare(key, last) <= 0:
			return nil, fmt.Errorf("has key %q after %q, want them in order", key, last)
		case subtree[i] > uint64(len(key)):
			return nil, fmt.Errorf("has a subtree's prefix of %d bytes, of a key of %d", subtree[i], len(key))
		}
		list[i].key, list[i].prefix, last = key, key[:subtree[i]], key
	}
	if height > 0 {
		for i, p := range r.places(files, n) {
			list[i].place = p
		}
		for i, k := range r.varints("a number of keys", n, math.MaxUint64) {
			list[i].keys = k
		}
		r.varints("the bytes of a tree", n, math.MaxUint64)
		r.varints("the bytes of values", n, math.MaxUint64)
		return list, r.end()
	}
	return list, r.leaf(files, list)
}

// leaf reads the values of a leaf's entries.
func (r *reader) leaf(files []file, list []entry) error {
	n := len(list)
	lengths := r.varints("a value's length", n, math.MaxInt64)
	kinds := r.take(uint64(n))
	if r.err != nil {
		return r.err
	}
	var out []int // entries that lie out of line
	for i, k := range kinds {
		switch k {
		case 0:
		case 1:
			out = append(out, i)
		default:
			return fmt.Errorf("has a value of kind %d, want 0 or 1", k)
		}
	}
	for j, f := range r.varints("a file's number", len(out), math.MaxUint64) {
		if r.err == nil && f >= uint64(len(files)) {
			r.fail("file %d of %d", f, len(files))
		}
		if r.err == nil {
			list[out[j]].place.file = files[f]
		}
	}
	for j, v := range r.varints("an offset", len(out), math.MaxUint64) {
		list[out[j]].place.offset, list[out[j]].place.length = v, lengths[out[j]]
	}
	for i, k := range kinds {
		if k == 0 {
			if list[i].inline = r.take(lengths[i]); r.err == nil && list[i].inline == nil {
				list[i].inline = []byte{}
			}
		}
	}
	return r.end()
}
