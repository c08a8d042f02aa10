package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/edsrzf/mmap-go"
)

// A File is one safetensors file, mapped or in memory. It is safe for use by
// several goroutines.
type File struct {
	path     string
	name     string
	data     []byte
	mapped   mmap.MMap // data, if it is a map
	size     int64
	tensors  []Tensor // by name
	metadata map[string]string
}

// OpenFile maps the safetensors file at path and checks its header. The file
// must not shrink until Close; see the package comment.
func OpenFile(path string) (*File, error) { return openFile(path, filepath.Base(path)) }

// openFile opens the file at path, which messages and tensors call name.
func openFile(path, name string) (*File, error) {
	// Looked at before it is opened: opening a pipe would wait for a writer.
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	} else if !info.Mode().IsRegular() {
		return nil, malformed(name, "", "not a regular file")
	}
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	defer in.Close() // the map outlives it
	info, err := in.Stat()
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	size := info.Size()
	switch {
	case size < prefix:
		return nil, malformed(name, "", "%d bytes, want at least %d", size, prefix)
	case size > math.MaxInt:
		return nil, unsupported(name, "", "%d bytes are more than the address space", size)
	}
	mapped, err := mmap.MapRegion(in, int(size), mmap.RDONLY, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %s: map: %w", name, err)
	}
	f := &File{path: path, name: name, data: mapped, mapped: mapped, size: size}
	if err := f.parse(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ParseFile checks the header of a safetensors file in memory, which messages
// call name. The tensors point into data.
func ParseFile(name string, data []byte) (*File, error) {
	f := &File{name: name, data: data, size: int64(len(data))}
	if f.size < prefix {
		return nil, malformed(name, "", "%d bytes, want at least %d", f.size, prefix)
	}
	if err := f.parse(); err != nil {
		return nil, err
	}
	return f, nil
}

// parse reads the header and points the tensors into the data.
func (f *File) parse() error {
	n := binary.LittleEndian.Uint64(f.data)
	switch {
	case n > MaxHeader && found(f.data) != "":
		return malformed(f.name, "", "%s, want a safetensors file", found(f.data))
	case n > MaxHeader:
		return malformed(f.name, "", "header of %d bytes, want at most %d", n, MaxHeader)
	case int64(n) > f.size-prefix:
		return malformed(f.name, "", "header of %d bytes in a file of %d bytes", n, f.size)
	}
	base := prefix + int64(n)
	var err error
	f.tensors, f.metadata, err = parseHeader(f.name, f.data[prefix:base], base, f.size-base)
	for i := range f.tensors {
		t := &f.tensors[i]
		n, _ := t.Entry().Bytes()
		t.Data = f.data[t.Offset : t.Offset+n : t.Offset+n]
	}
	return err
}

// found says what a file is that begins like none of safetensors, if it is one
// of those that people take for it; else it returns "".
func found(file []byte) string {
	for _, kind := range []struct{ start, name string }{
		{"version https://git-lfs", "a pointer of Git LFS, in place of the file itself"},
		{"GGUF", "a GGUF file"},
		{"PK\x03\x04", "a zip archive, such as PyTorch writes"},
		{"\x89HDF", "an HDF5 file"},
		{"<", "HTML or XML"},
		{"{", "JSON text"},
	} {
		if bytes.HasPrefix(file, []byte(kind.start)) {
			return kind.name
		}
	}
	return ""
}

// Path returns the path the file was opened by, "" of one in memory.
func (f *File) Path() string { return f.path }

// Size returns the size of the file in bytes.
func (f *File) Size() int64 { return f.size }

// Metadata returns the header's __metadata__; nil if it has none.
func (f *File) Metadata() map[string]string { return f.metadata }

// Tensors returns the tensors, sorted by name. The caller must not change the
// slice.
func (f *File) Tensors() []Tensor { return f.tensors }

// Tensor returns the tensor of that name.
func (f *File) Tensor(name string) (Tensor, bool) { return find(f.tensors, name) }

// Close unmaps the file. No Data of its tensors may be read afterwards.
func (f *File) Close() error {
	f.tensors = nil
	if f.mapped == nil {
		return nil
	}
	return f.mapped.Unmap()
}

func find(sorted []Tensor, name string) (Tensor, bool) {
	i, ok := slices.BinarySearchFunc(sorted, name, func(t Tensor, n string) int { return strings.Compare(t.Name, n) })
	if !ok {
		return Tensor{}, false
	}
	return sorted[i], true
}
