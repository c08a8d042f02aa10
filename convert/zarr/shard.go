package zarr

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
)

// An extent is where a chunk lies in a shard.
type extent struct{ offset, length uint64 }

func (x extent) missing() bool { return x.offset == math.MaxUint64 && x.length == math.MaxUint64 }

// index reads the index of a shard: offset and length of each chunk, and a
// checksum. It proves that chunks lie within the shard, apart from each other and
// from the index.
func (g *grid) index(shard *io.SectionReader) ([]extent, error) {
	n := 1
	for _, d := range g.shard {
		n *= d // version3 has bounded it
	}
	size := int64(16*n + 4)
	if shard.Size() < size {
		return nil, fmt.Errorf("shard of %d bytes, want at least the %d of its index", shard.Size(), size)
	}
	b := make([]byte, size)
	at, lo, hi := shard.Size()-size, int64(0), shard.Size()-size
	if g.inFront {
		at, lo, hi = 0, size, shard.Size()
	}
	if _, err := shard.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	want := binary.LittleEndian.Uint32(b[16*n:])
	if got := crc32.Checksum(b[:16*n], crc32.MakeTable(crc32.Castagnoli)); got != want {
		return nil, fmt.Errorf("the shard's index has CRC-32C %08x, want %08x as it says", got, want)
	}
	list := make([]extent, n)
	var there []extent
	for i := range list {
		x := extent{binary.LittleEndian.Uint64(b[16*i:]), binary.LittleEndian.Uint64(b[16*i+8:])}
		if list[i] = x; x.missing() {
			continue
		}
		if x.offset < uint64(lo) || x.offset > uint64(hi) || x.length > uint64(hi)-x.offset {
			return nil, fmt.Errorf("chunk %d of the shard has %d bytes at %d, want them between %d and %d", i, x.length, x.offset, lo, hi)
		}
		there = append(there, x)
	}
	slices.SortFunc(there, func(a, b extent) int {
		return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.length, b.length))
	})
	for i := 1; i < len(there); i++ {
		if a, b := there[i-1], there[i]; a.offset+a.length > b.offset {
			return nil, fmt.Errorf("chunks of the shard at %d and %d overlap", a.offset, b.offset)
		}
	}
	return list, nil
}
