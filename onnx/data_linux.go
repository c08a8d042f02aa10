package onnx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reflink makes out share the blocks of the file at path, from offset at on.
func reflink(out *os.File, at int64, path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	return unix.IoctlFileCloneRange(int(out.Fd()), &unix.FileCloneRange{Src_fd: int64(in.Fd()), Dest_offset: uint64(at)})
}

var errNoDirect = errors.New("no direct I/O")

// block is what offsets, lengths and memory of direct I/O are multiples of:
// that of every disk in use.
const block = 4096

// copiers is how many chunks are on their way at once: three took half the time
// of one on a virtual disk, more nothing further.
const copiers = 3

// direct copies past the page cache: disks are read and written at their own
// speed, and what others have cached stays cached. It returns errNoDirect if
// the file system of either side has none.
func direct(ctx context.Context, out *os.File, pieces []piece, tell func(int64)) error {
	var size int64
	for _, p := range pieces {
		size = max(size, p.to+p.length)
	}
	if err := setDirect(out); err != nil {
		return errNoDirect
	}
	defer clearDirect(out)
	// Blocks reserved at once lie together; where that cannot be done,
	// writing does it.
	if err := unix.Fallocate(int(out.Fd()), 0, 0, up(size)); errors.Is(err, unix.ENOSPC) {
		return err
	}

	// Each worker reads a chunk, then writes it. Several are under way at once
	// because one request at a time leaves the disk idle between two.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var told sync.Mutex
	var all sync.WaitGroup
	for range copiers {
		all.Go(func() {
			r := &directReader{scratch: aligned(chunk + block)}
			defer r.close()
			buf, rest := aligned(chunk), pieces
			for ctx.Err() == nil {
				at := next.Add(chunk) - chunk
				if at >= size {
					return
				}
				n, err := r.fill(buf, at, &rest)
				if err == nil {
					_, err = out.WriteAt(buf[:min(chunk, up(size-at))], at)
				}
				if errors.Is(err, syscall.EINVAL) {
					err = errNoDirect
				}
				if err != nil {
					cancel(err)
					return
				}
				told.Lock()
				tell(n)
				told.Unlock()
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return out.Truncate(size)
}

func up(n int64) int64 { return (n + block - 1) &^ (block - 1) }

// aligned returns n bytes that start at a multiple of block.
func aligned(n int) []byte {
	b := make([]byte, n+block)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (block - 1)
	return b[skip:][:n:n]
}

func setDirect(f *os.File) error {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags|unix.O_DIRECT)
	}
	return err
}

func clearDirect(f *os.File) {
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); err == nil {
		unix.FcntlInt(f.Fd(), unix.F_SETFL, flags&^unix.O_DIRECT)
	}
}

// directReader reads pieces, whose offsets are not multiples of block, through
// scratch.
type directReader struct {
	opener
	scratch []byte
}

// fill sets buf to what the data file has from offset at on, zero between
// pieces. It takes finished pieces off the list.
func (r *directReader) fill(buf []byte, at int64, pieces *[]piece) (n int64, err error) {
	end, done := at+int64(len(buf)), int64(0) // done is how much of buf is set
	for len(*pieces) > 0 {
		p := &(*pieces)[0]
		from, to := max(p.to, at), min(p.to+p.length, end)
		if from < to {
			clear(buf[done : from-at])
			done = to - at
			a, b := p.source(from-p.to, to-p.to)
			src := p.data
			if p.from == "" {
				src = src[a:b]
			} else if src, err = r.read(p.from, p.offset+a, int(b-a)); err != nil {
				return n, err
			}
			if err := p.put(buf[from-at:done], src, from-p.to); err != nil {
				return n, err
			}
			n += to - from
		}
		if p.to+p.length > end {
			break
		}
		*pieces = (*pieces)[1:]
	}
	clear(buf[done:])
	return n, nil
}

// read returns n bytes of the file at offset, until the next read. They are no
// more than a chunk.
func (r *directReader) read(path string, offset int64, n int) ([]byte, error) {
	in, err := r.file(path, syscall.O_DIRECT)
	if errors.Is(err, syscall.EINVAL) {
		return nil, errNoDirect
	}
	if err != nil {
		return nil, err
	}
	first := offset &^ (block - 1)
	skip := int(offset - first)
	want := skip + n
	b := r.scratch[:up(int64(want))]
	got, err := in.ReadAt(b, first)
	switch {
	case errors.Is(err, syscall.EINVAL):
		return nil, errNoDirect
	case got >= want: // at the end of the file a block may be short
		return b[skip:want], nil
	case err == nil || err == io.EOF:
		return nil, fmt.Errorf("%s: shorter than when it was opened", path)
	}
	return nil, err
}
