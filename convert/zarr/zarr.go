// Package zarr reads arrays in chunks, of Zarr's versions 2 and 3, as Orbax has
// TensorStore write them: zstd or nothing, little-endian, row-major. A chunk that
// is missing is an error, whatever fill value the array has.
//
// Formats: https://zarr-specs.readthedocs.io. What they allow and nobody writes
// for a model (other codecs and orders, filters) is refused.
package zarr

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"ossify/checkpoint"
	"ossify/convert/array"
	"ossify/internal/quote"
)

// A Store holds values by key. Get's error is fs.ErrNotExist for a key that has
// none.
type Store interface {
	Get(key string) (*io.SectionReader, error)
}

// Limits, far beyond any model of this house.
const (
	mostMeta   = 1 << 20 // bytes of an array's metadata
	mostDims   = 8
	mostChunks = 1 << 20 // of an array
	mostBeside = 256     // chunks that are read at the same time
	mostMemory = 384 << 20
)

// Names of an array's metadata.
const (
	meta2 = ".zarray"
	meta3 = "zarr.json"
)

// IsMeta reports whether the last part of a key is one of an array's metadata.
func IsMeta(base string) bool { return base == meta2 || base == meta3 }

// A grid is how an array lies in chunks.
type grid struct {
	store   Store
	name    string // of the array, in the store
	typ     checkpoint.DType
	shape   []int
	chunk   []int               // shape of what is decoded at once
	zstd    bool                // chunks are compressed
	key     func([]int) string  // of a value
	shard   []int               // chunks of a value in each dimension; nil: one is one
	indexes map[string][]extent // of shards, by key
	inFront bool                // the index of a shard lies before its chunks
}

// Open returns the array whose metadata lies at name/.zarray or name/zarr.json.
func Open(store Store, name string) (array.Array, error) {
	g := &grid{store: store, name: name, indexes: map[string][]extent{}}
	place := quote.Name(name)
	v2, err2 := store.Get(name + "/" + meta2)
	v3, err3 := store.Get(name + "/" + meta3)
	for _, err := range []error{err2, err3} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return array.Array{}, fmt.Errorf("zarr: %s: %w", place, err)
		}
	}
	var err error
	switch {
	case err2 == nil && err3 == nil:
		err = fmt.Errorf("has %s and %s, want one of them", meta2, meta3)
	case err2 == nil:
		err = g.meta(v2, g.version2)
	case err3 == nil:
		err = g.meta(v3, g.version3)
	default:
		err = fmt.Errorf("no %s and no %s", meta2, meta3)
	}
	if err == nil {
		err = g.check()
	}
	if err != nil {
		return array.Array{}, fmt.Errorf("zarr: %s: %w", place, err)
	}
	return array.Array{Name: name, Type: g.typ, Shape: g.shape, Open: g.open}, nil
}

// meta reads metadata.
func (g *grid) meta(from *io.SectionReader, parse func([]byte) error) error {
	if from.Size() > mostMeta {
		return fmt.Errorf("metadata of %d bytes, want at most %d", from.Size(), mostMeta)
	}
	text := make([]byte, from.Size())
	if _, err := from.ReadAt(text, 0); err != nil && err != io.EOF {
		return err
	}
	return parse(text)
}

// check proves that sizes are those of an array that can be read.
func (g *grid) check() error {
	e := checkpoint.Entry{Type: g.typ, Shape: g.shape}
	c := checkpoint.Entry{Type: g.typ, Shape: g.chunk}
	if n, ok := e.Bytes(); !ok || len(g.shape) > mostDims {
		return fmt.Errorf("%v: no size, or more than %d dimensions", e, mostDims)
	} else if n == 0 {
		return fmt.Errorf("%v: no elements", e)
	}
	if len(g.chunk) != len(g.shape) {
		return fmt.Errorf("chunks of %d dimensions, want %d", len(g.chunk), len(g.shape))
	}
	chunks := 1
	for i, n := range g.chunk {
		if n < 1 {
			return fmt.Errorf("chunks %v, want 1 or more in each dimension", c)
		}
		count := (g.shape[i]-1)/n + 1
		if count > mostChunks/chunks {
			return fmt.Errorf("%v in more than %d chunks of %v", e, mostChunks, g.chunk)
		}
		chunks *= count
	}
	if _, ok := c.Bytes(); !ok {
		return fmt.Errorf("chunks %v have no size", c)
	}
	return nil
}

// chunkAt returns the bytes that hold a chunk.
func (g *grid) chunkAt(at []int) (*io.SectionReader, error) {
	outer := at
	if g.shard != nil {
		outer = make([]int, len(at))
		for i := range at {
			outer[i] = at[i] / g.shard[i]
		}
	}
	key := g.key(outer)
	v, err := g.store.Get(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("chunk %s is missing", quote.Name(key))
	}
	if err != nil || g.shard == nil {
		return v, err
	}
	extents, ok := g.indexes[key]
	if !ok {
		if extents, err = g.index(v); err != nil {
			return nil, fmt.Errorf("%s: %w", quote.Name(key), err)
		}
		g.indexes[key] = extents
	}
	number := 0
	for i := range at {
		number = number*g.shard[i] + at[i]%g.shard[i]
	}
	x := extents[number]
	if x.missing() {
		return nil, fmt.Errorf("chunk %v of %s is missing", at, quote.Name(key))
	}
	return io.NewSectionReader(v, int64(x.offset), int64(x.length)), nil
}

// joined returns a key of a chunk: its indices, with sep between them.
func joined(at []int, sep string) string {
	parts := make([]string, len(at))
	for i, n := range at {
		parts[i] = strconv.Itoa(n)
	}
	return strings.Join(parts, sep)
}
