package onnx

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"ossify/checkpoint"
	"ossify/float"
	"ossify/internal/fileset"
	"ossify/onnx/lower"
	"ossify/onnx/wire"
	"ossify/weight"
)

// dataFiles are the data files of an export under construction.
type dataFiles struct {
	set      *fileset.Set
	dir      string // the model's
	align    int64
	most     int64 // bytes of a file; 0 is no limit
	files    []checkpoint.FileInfo
	progress func(done, total int64)

	first  *fileset.File // the only one that there may be before it is known how many there are
	names  []string      // in dir
	bytes  int64         // planned
	done   int64         // written
	method string
}

// A piece is a run of bytes to be copied, or converted: from a file or from
// memory.
type piece struct {
	from   string // path; "" is memory
	offset int64  // in from
	data   []byte
	to     int64 // offset in the data file
	length int64 // there

	conversion *conversion // nil copies
	name       string      // of the initializer
	shape      []int
}

// source returns which bytes, from p.offset or of p.data, make the bytes of the
// piece from byte at up to byte end.
func (p *piece) source(at, end int64) (from, to int64) {
	if c := p.conversion; c != nil {
		return at / int64(c.to) * int64(c.from), end / int64(c.to) * int64(c.from)
	}
	return at, end
}

// put sets dst, the bytes of the piece from byte at on, to src or what it
// becomes.
func (p *piece) put(dst, src []byte, at int64) error {
	if p.conversion != nil {
		return p.convert(dst, src, at)
	}
	copy(dst, src)
	return nil
}

// write plans the files, writes them, and returns where each initializer is.
func (d *dataFiles) write(ctx context.Context, inits []lower.Initializer) ([]wire.Place, error) {
	paths := map[string]string{}
	for _, f := range d.files {
		paths[f.Name] = f.Path
	}
	for _, in := range inits {
		if in.From != nil && in.From.File != "" && paths[in.From.File] == "" {
			return nil, fmt.Errorf("onnx: %s: in %s, which is not among the sources' files", in.Name, in.From.File)
		}
	}
	places, pieces, err := d.clone(inits)
	if errors.Is(err, errNoReflink) {
		places, pieces, err = d.plan(inits, paths)
	}
	if err != nil {
		return nil, err
	}
	for i := range pieces {
		for _, p := range pieces[i] {
			d.bytes += p.length
		}
	}
	if d.method == "reflink" {
		d.tell(d.bytes)
		return places, nil
	}
	for i := range pieces {
		if err := d.fill(ctx, i, pieces[i]); err != nil {
			return nil, err
		}
	}
	return places, nil
}

// plan lays tensors out in the order in which their sources have them, each at
// a multiple of the alignment. A tensor beyond the shard size has a file of its
// own.
func (d *dataFiles) plan(inits []lower.Initializer, paths map[string]string) ([]wire.Place, [][]piece, error) {
	order := make([]int, 0, len(inits))
	for i, in := range inits {
		if in.From != nil {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := inits[a].From, inits[b].From
		return cmp.Or(cmp.Compare(x.File, y.File), cmp.Compare(x.Offset, y.Offset))
	})
	places := make([]wire.Place, len(inits))
	pieces := [][]piece{nil}
	var end int64
	for _, i := range order {
		in := &inits[i]
		t := in.From
		c, err := conversionOf(in)
		if err != nil {
			return nil, nil, err
		}
		size, _ := t.Entry().Bytes()
		n := size
		if c != nil {
			n = size / int64(c.from) * int64(c.to)
		}
		at := d.up(end, c)
		if d.most > 0 && at+n > d.most && len(pieces[len(pieces)-1]) > 0 {
			pieces, at = append(pieces, nil), 0
		}
		last := len(pieces) - 1
		places[i] = wire.Place{File: dataFile(last), Offset: at, Length: n}
		p := piece{to: at, length: n, conversion: c, name: in.Name, shape: t.Shape}
		if t.File == "" {
			p.data = t.Data
			if int64(len(t.Data)) != size {
				return nil, nil, fmt.Errorf("onnx: %s: %d bytes, want %d", in.Name, len(t.Data), size)
			}
		} else {
			p.from, p.offset = paths[t.File], t.Offset
		}
		pieces[last] = append(pieces[last], p)
		end = at + n
	}
	for i := range pieces {
		d.names = append(d.names, dataFile(i))
	}
	return places, pieces, nil
}

// up returns where a tensor starts behind n. What is converted starts at a whole
// element at least, so that no chunk ends within one.
func (d *dataFiles) up(n int64, c *conversion) int64 {
	align := d.align
	if c != nil {
		align = max(align, int64(c.to))
	}
	return (n + align - 1) &^ (align - 1)
}

// dataFile returns the name of data file i, as transformers.js looks for it.
func dataFile(i int) string {
	if i == 0 {
		return DataFile
	}
	return fmt.Sprintf("%s_%d", DataFile, i)
}

// create starts data file i, or starts it anew.
func (d *dataFiles) create(i int) (*fileset.File, error) {
	if i == 0 && d.first != nil {
		return d.first, d.first.OS().Truncate(0)
	}
	f, err := d.set.Create(filepath.Join(d.dir, dataFile(i)))
	if i == 0 {
		d.first = f
	}
	return f, err
}

var errNoReflink = errors.New("no reflink")

// clone makes one data file out of the sources' files as they are, each from a
// multiple of the alignment on, sharing their blocks. Tensors keep the places
// that they have in their files.
func (d *dataFiles) clone(inits []lower.Initializer) ([]wire.Place, [][]piece, error) {
	if d.most > 0 || len(d.files) == 0 || slices.ContainsFunc(inits, func(in lower.Initializer) bool {
		return in.From != nil && (in.From.File == "" || in.Type != lower.ElementType(in.From.Type))
	}) {
		return nil, nil, errNoReflink
	}
	f, err := d.create(0)
	if err != nil {
		return nil, nil, err
	}
	start, end := map[string]int64{}, int64(0)
	for _, s := range d.files {
		at := max(d.up(end, nil), (end+DefaultAlign-1)&^(DefaultAlign-1)) // of file systems' blocks
		if reflink(f.OS(), at, s.Path) != nil {
			return nil, nil, errNoReflink
		}
		start[s.Name], end = at, at+s.Size
	}
	if err := f.Close(); err != nil {
		return nil, nil, err
	}
	places := make([]wire.Place, len(inits))
	for i, in := range inits {
		if t := in.From; t != nil {
			n, _ := t.Entry().Bytes()
			places[i] = wire.Place{File: DataFile, Offset: start[t.File] + t.Offset, Length: n}
		}
	}
	d.names, d.method = []string{DataFile}, "reflink"
	return places, [][]piece{{{length: end}}}, nil
}

// fill writes data file i.
func (d *dataFiles) fill(ctx context.Context, i int, pieces []piece) error {
	f, err := d.create(i)
	if err != nil {
		return err
	}
	d.method = "direct"
	done := d.done
	err = direct(ctx, f.OS(), pieces, d.tell)
	if errors.Is(err, errNoDirect) {
		d.method, d.done = "buffered", done
		if err := f.OS().Truncate(0); err != nil {
			return fmt.Errorf("onnx: %s: %w", d.names[i], err)
		}
		err = buffered(ctx, f.OS(), pieces, d.tell)
	}
	if err != nil {
		return fmt.Errorf("onnx: %s: %w", d.names[i], err)
	}
	return f.Close()
}

func (d *dataFiles) tell(n int64) {
	d.done += n
	if d.progress != nil {
		d.progress(d.done, d.bytes)
	}
}

// chunk is how much is copied at a time: large enough for a disk's full speed,
// small enough for a quick answer to Ctrl-C.
const chunk = 8 << 20

// buffered copies through the page cache.
func buffered(ctx context.Context, out *os.File, pieces []piece, tell func(int64)) error {
	dst, read := make([]byte, chunk), make([]byte, chunk)
	open := &opener{}
	defer open.close()
	for i := range pieces {
		p := &pieces[i]
		for at := int64(0); at < p.length; {
			if err := ctx.Err(); err != nil {
				return err
			}
			b := dst[:min(chunk, p.length-at)]
			from, to := p.source(at, at+int64(len(b)))
			src := p.data
			if p.from == "" {
				src = src[from:to]
			} else {
				in, err := open.file(p.from, 0)
				if err != nil {
					return err
				}
				src = read[:to-from]
				if _, err := in.ReadAt(src, p.offset+from); err != nil {
					return shortened(p.from, err)
				}
			}
			if err := p.put(b, src, at); err != nil {
				return err
			}
			if _, err := out.WriteAt(b, p.to+at); err != nil {
				return err
			}
			at += int64(len(b))
			tell(int64(len(b)))
		}
	}
	return nil
}

func shortened(path string, err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%s: shorter than when it was opened", filepath.Base(path))
	}
	return err
}

// opener keeps the one file open that is being read.
type opener struct {
	path string
	in   *os.File
}

func (o *opener) file(path string, flag int) (*os.File, error) {
	if o.path == path {
		return o.in, nil
	}
	o.close()
	in, err := os.OpenFile(path, os.O_RDONLY|flag, 0)
	if err == nil {
		o.path, o.in = path, in
	}
	return in, err
}

func (o *opener) close() {
	if o.in != nil {
		o.in.Close()
		o.in, o.path = nil, ""
	}
}

// checkScales refuses MXFP4 scales that are NaN, as [weight.Set.Check] does. It
// reads them, 6% of an MXFP4 weight, past the mappings: so they take no memory,
// and a file that has shrunk is an error.
func checkScales(ctx context.Context, w *weight.Set) error {
	paths := map[string]string{}
	for _, f := range w.Files() {
		paths[f.Name] = f.Path
	}
	var scales []checkpoint.Tensor
	for p := range w.Params() {
		for _, s := range w.Sources(p) {
			if s.Scales.Shape != nil {
				scales = append(scales, s.Scales)
			}
		}
	}
	errs := make([]error, len(scales)) // several are read at once
	next := make(chan int)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			open := &opener{}
			defer open.close()
			buf := make([]byte, 1<<16) // stays in the first caches
			for i := range next {
				errs[i] = checkScale(open, paths[scales[i].File], scales[i], buf)
			}
		})
	}
	for i := range scales {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	all.Wait()
	return errors.Join(ctx.Err(), errors.Join(errs...))
}

func checkScale(open *opener, path string, t checkpoint.Tensor, buf []byte) error {
	refuse := func(at int64) error {
		return fmt.Errorf("onnx: %s: %s: scale 255, which is NaN, at %d, want at most 254", t.File, t.Name, at)
	}
	if t.File == "" {
		if at := bytes.IndexByte(t.Data, float.ScaleNaN); at >= 0 {
			return refuse(int64(at))
		}
		return nil
	}
	if path == "" {
		return fmt.Errorf("onnx: %s: in %s, which is not among the sources' files", t.Name, t.File)
	}
	in, err := open.file(path, 0)
	if err != nil {
		return fmt.Errorf("onnx: %w", err)
	}
	n, _ := t.Entry().Bytes()
	for at := int64(0); at < n; at += int64(len(buf)) {
		b := buf[:min(n-at, int64(len(buf)))]
		if _, err := in.ReadAt(b, t.Offset+at); err != nil {
			return fmt.Errorf("onnx: %w", shortened(path, err))
		}
		if i := bytes.IndexByte(b, float.ScaleNaN); i >= 0 {
			return refuse(at + int64(i))
		}
	}
	return nil
}
