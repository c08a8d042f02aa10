package synth

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// A slow writer takes its time now and then, and may fail.
type slow struct {
	bytes.Buffer
	left int // bytes until it fails
}

var errFull = errors.New("full")

func (w *slow) Write(b []byte) (int, error) {
	if rand.IntN(4) == 0 {
		time.Sleep(time.Millisecond)
	}
	if w.left -= len(b); w.left < 0 {
		return 0, errFull
	}
	return w.Buffer.Write(b)
}

// numbered is a tensor of rows that hold their number, each in its time.
func numbered(rows, row, first int) (tensor, *atomic.Int64) {
	var under atomic.Int64 // way
	return tensor{row: row, rows: rows, first: first, fill: func(c *chunk, first, n int) {
		under.Add(1)
		defer under.Add(-1)
		if rand.IntN(4) == 0 {
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
		}
		if len(c.data) != n*row {
			panic(fmt.Sprint(len(c.data), " bytes for ", n, " rows of ", row))
		}
		for i := range n {
			b := c.data[i*row : (i+1)*row]
			clear(b)
			binary.LittleEndian.PutUint32(b, uint32(first+i))
		}
	}}, &under
}

// However many processors compute a tensor, and however long each takes, its
// rows are written once and in order; and chunks serve one tensor after another,
// of rows of any length.
func TestChunksAreWrittenInOrder(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, processors := range []int{1, 2, 3, 8} {
		runtime.GOMAXPROCS(processors)
		free := newChunks()
		for _, tt := range []struct{ rows, row, first int }{
			{1, 4, 0}, {0, 4, 0}, {100, chunkBytes / 3, 7}, {5, chunkBytes + 1, 0}, {chunkBytes/8 + 1, 8, 1}, {40, chunkBytes, 3}, {9, 3 * chunkBytes, 2}, {30, chunkBytes / 2, 0},
		} {
			x, _ := numbered(tt.rows, tt.row, tt.first)
			w, wrote := &slow{left: 1 << 30}, 0
			if err := x.write(t.Context(), w, free, func(n int) { wrote += n }); err != nil {
				t.Fatal(err)
			}
			if w.Len() != tt.rows*tt.row || wrote != w.Len() {
				t.Fatalf("%d processors, %+v: %d bytes, and %d were told of", processors, tt, w.Len(), wrote)
			}
			for i := range tt.rows {
				if got := binary.LittleEndian.Uint32(w.Bytes()[i*tt.row:]); int(got) != tt.first+i {
					t.Fatalf("%d processors, %+v: row %d is %d", processors, tt, i, got)
				}
			}
			if len(free) != cap(free) {
				t.Fatalf("%d processors, %+v: %d chunks are left of %d", processors, tt, len(free), cap(free))
			}
		}
	}
}

// A tensor takes memory for its chunks, however large it is.
func TestChunksAreUsedAgain(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	x := tensor{row: 1000, rows: 200_000, fill: func(c *chunk, _, _ int) { c.data[0] = 1 }}
	free := newChunks()
	if err := x.write(t.Context(), io.Discard, free, func(int) {}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n, most := after.TotalAlloc-before.TotalAlloc, uint64(cap(free)*(chunkBytes+8<<10)+64<<10); n > most {
		t.Errorf("%d bytes allocated for 200 MB, want at most %d", n, most)
	}
}

// After an error of the file, or once nobody waits any more, nothing is computed
// any more.
func TestWriteOfATensorEnds(t *testing.T) {
	for _, left := range []int{0, 1, chunkBytes, 10*chunkBytes + 1} {
		x, under := numbered(1000, chunkBytes/2, 0)
		if err := x.write(t.Context(), &slow{left: left}, newChunks(), func(int) {}); !errors.Is(err, errFull) || under.Load() != 0 {
			t.Errorf("a file that takes %d bytes: %v, and %d chunks are still computed", left, err, under.Load())
		}
		ctx, cancel := context.WithCancel(t.Context())
		wrote := 0
		err := x.write(ctx, &slow{left: 1 << 30}, newChunks(), func(n int) {
			if wrote += n; wrote > left {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) || under.Load() != 0 || wrote > left+chunkBytes {
			t.Errorf("cancelled after %d bytes: %v, %d written, and %d chunks are still computed", left, err, wrote, under.Load())
		}
	}
}
