package zarr

import (
	"errors"
	"fmt"
	"io"

	"ossify/checkpoint"
	"ossify/convert/frame"
	"ossify/internal/quote"
)

// open begins to read the array in the order of its elements. Chunks that lie
// beside each other are open at the same time, and each is read once.
func (g *grid) open() (io.ReadCloser, error) {
	r := &reader{g: g, open: map[int]*stream{}, at: make([]int, len(g.shape))}
	// A run is what lies together in one chunk: the part of a line of dimension
	// axis, and whole chunks of the dimensions after it.
	r.axis = len(g.shape) - 1
	r.unit = int64(g.typ.Size())
	for r.axis > 0 && g.chunk[r.axis] == g.shape[r.axis] {
		r.unit *= int64(g.shape[r.axis])
		r.axis--
	}
	return r, nil
}

// A reader reads runs one after the other.
type reader struct {
	g    *grid
	axis int   // dimension along which a run goes; -1 without dimensions
	unit int64 // bytes of one index of it
	at   []int // the next run's first element; dimensions after axis stay 0
	done bool
	left int64   // bytes of the current run
	in   *stream // that it lies in
	open map[int]*stream
	used int64 // bytes of memory that open streams need
}

// A stream is a chunk that is read from front to back.
type stream struct {
	r      io.ReadCloser
	at     int64 // byte
	size   int64
	memory int64
	last   int64 // byte after the last run in it
}

func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.left == 0 {
		if r.done {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, fmt.Errorf("zarr: %s: %w", quote.Name(r.g.name), err)
		}
	}
	n, err := r.in.r.Read(p[:min(int64(len(p)), r.left)])
	r.in.at += int64(n)
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		err = errors.New("a chunk ends early")
	}
	if err == io.EOF {
		err = nil
	}
	if err == nil && r.left == 0 && r.in.at == r.in.last {
		err = r.finish()
	}
	if err != nil {
		err = fmt.Errorf("zarr: %s: %w", quote.Name(r.g.name), err)
	}
	return n, err
}

// next goes to the run that begins at r.at, and r.at to the one after it.
func (r *reader) next() error {
	g := r.g
	chunk := make([]int, len(g.shape))
	number := 0 // of the chunk
	offset := int64(0)
	for i, x := range r.at {
		chunk[i] = x / g.chunk[i]
		number = number*((g.shape[i]-1)/g.chunk[i]+1) + chunk[i]
		offset = offset*int64(g.chunk[i]) + int64(x%g.chunk[i])
	}
	offset *= int64(g.typ.Size())
	s, err := r.stream(chunk, number)
	if err != nil {
		return err
	}
	if err := skip(s, offset-s.at); err != nil {
		return err
	}
	r.in = s
	if r.axis < 0 {
		r.left, r.done = r.unit, true
		return nil
	}
	n := min(g.chunk[r.axis]-r.at[r.axis]%g.chunk[r.axis], g.shape[r.axis]-r.at[r.axis])
	r.left = int64(n) * r.unit
	r.at[r.axis] += n
	for i := r.axis; r.at[i] == g.shape[i]; i-- {
		if i == 0 {
			r.done = true
			break
		}
		r.at[i] = 0
		r.at[i-1]++
	}
	return nil
}

// stream returns a chunk that is open, or opens it.
func (r *reader) stream(at []int, number int) (*stream, error) {
	if s := r.open[number]; s != nil {
		return s, nil
	}
	g := r.g
	if len(r.open) == mostBeside {
		return nil, fmt.Errorf("more than %d chunks beside each other", mostBeside)
	}
	v, err := g.chunkAt(at)
	if err != nil {
		return nil, err
	}
	place := fmt.Sprintf("chunk %v", at)
	size, _ := checkpoint.Entry{Type: g.typ, Shape: g.chunk}.Bytes()
	s := &stream{size: size, last: int64(g.typ.Size())}
	// Its last element that belongs to the array.
	end := int64(0)
	for i, c := range at {
		end = end*int64(g.chunk[i]) + int64(min(g.chunk[i], g.shape[i]-c*g.chunk[i])-1)
	}
	s.last = (end + 1) * int64(g.typ.Size())
	if !g.zstd {
		if v.Size() != size {
			return nil, fmt.Errorf("%s: %d bytes, want %d", place, v.Size(), size)
		}
		s.r = io.NopCloser(io.NewSectionReader(v, 0, size))
	} else {
		info, err := frame.Inspect(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", place, err)
		}
		const around = 512 << 10 // buffers of a decoder besides its window
		s.memory = info.Window + around
		if r.used += s.memory; r.used > mostMemory && len(r.open) > 0 {
			return nil, fmt.Errorf("%d chunks beside each other need more than %d bytes to be decoded", len(r.open)+1, mostMemory)
		}
		f, err := frame.NewReader(v, size)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", place, err)
		}
		s.r = &placed{f, place}
	}
	r.open[number] = s
	s.at = 0
	return s, nil
}

// placed says which chunk an error is of.
type placed struct {
	io.ReadCloser
	place string
}

func (p *placed) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%s: %w", p.place, err)
	}
	return n, err
}

// skip leaves out n bytes: elements of a chunk that lie beyond the array.
func skip(s *stream, n int64) error {
	got, err := io.CopyN(io.Discard, s.r, n)
	s.at += got
	if err == io.EOF {
		err = errors.New("a chunk ends early")
	}
	return err
}

// finish reads the current stream to its end, which must be there, and closes it.
func (r *reader) finish() error {
	s := r.in
	if err := skip(s, s.size-s.at); err != nil {
		return err
	}
	var one [1]byte
	if _, err := io.ReadFull(s.r, one[:]); err == nil {
		return errors.New("a chunk has more bytes than it should")
	} else if err != io.EOF {
		return err
	}
	for number, open := range r.open {
		if open == s {
			delete(r.open, number)
		}
	}
	r.used -= s.memory
	r.in = nil
	return s.r.Close()
}

// Close closes what is open still.
func (r *reader) Close() error {
	var err error
	for _, s := range r.open {
		err = errors.Join(err, s.r.Close())
	}
	r.open = nil
	return err
}
