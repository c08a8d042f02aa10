package onnx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"ossify/checkpoint"
	"ossify/onnx/lower"
	"ossify/onnx/wire"
)

// dataFiles are the data files of an export under construction. They have
// temporary names until commit.
type dataFiles struct {
	dir      string
	align    int64
	most     int64 // bytes of a file; 0 is no limit
	files    []checkpoint.FileInfo
	progress func(done, total int64)

	names  []string // they will have
	temps  []string // they have; "" once renamed
	bytes  int64    // planned
	done   int64    // written
	method string
}

// A piece is a run of bytes to be copied: from a file or from memory.
type piece struct {
	from   string // path; "" is memory
	offset int64  // in from
	data   []byte
	to     int64 // offset in the data file
	length int64
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
// a multiple of the alignment.
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
		t, n := inits[i].From, tensorBytes(inits[i].From)
		if d.most > 0 && n > d.most {
			return nil, nil, fmt.Errorf("onnx: %s: %d bytes, more than the shard size of %d", inits[i].Name, n, d.most)
		}
		at := d.up(end)
		if d.most > 0 && at+n > d.most {
			pieces, at = append(pieces, nil), 0
		}
		last := len(pieces) - 1
		places[i] = wire.Place{File: d.name(last), Offset: at, Length: n}
		p := piece{to: at, length: n}
		if t.File == "" {
			p.data = t.Data
			if int64(len(t.Data)) != n {
				return nil, nil, fmt.Errorf("onnx: %s: %d bytes, want %d", inits[i].Name, len(t.Data), n)
			}
		} else {
			p.from, p.offset = paths[t.File], t.Offset
		}
		pieces[last] = append(pieces[last], p)
		end = at + n
	}
	for i := range pieces {
		d.names = append(d.names, d.name(i))
	}
	return places, pieces, nil
}

func (d *dataFiles) up(n int64) int64 { return (n + d.align - 1) &^ (d.align - 1) }

// name returns the name of data file i.
func (d *dataFiles) name(i int) string {
	switch {
	case d.most == 0:
		return DataFile
	case i == 0:
		return shardFile
	}
	return fmt.Sprintf("%s_%d", shardFile, i)
}

// create starts data file i under a temporary name.
func (d *dataFiles) create(name string) (*os.File, error) {
	for {
		temp := filepath.Join(d.dir, fmt.Sprintf(".%s.%08x.tmp", name, rand.Uint32()))
		f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		switch {
		case err == nil:
			d.temps = append(d.temps, temp)
			return f, nil
		case !errors.Is(err, os.ErrExist):
			return nil, fmt.Errorf("onnx: %w", err)
		}
	}
}

var errNoReflink = errors.New("no reflink")

// clone makes one data file out of the sources' files as they are, each from a
// multiple of the alignment on, sharing their blocks. Tensors keep the places
// that they have in their files.
func (d *dataFiles) clone(inits []lower.Initializer) ([]wire.Place, [][]piece, error) {
	if d.most > 0 || len(d.files) == 0 || slices.ContainsFunc(inits, func(in lower.Initializer) bool { return in.From != nil && in.From.File == "" }) {
		return nil, nil, errNoReflink
	}
	out, err := d.create(DataFile)
	if err != nil {
		return nil, nil, err
	}
	defer out.Close()
	start, end := map[string]int64{}, int64(0)
	for _, f := range d.files {
		at := max(d.up(end), (end+DefaultAlign-1)&^(DefaultAlign-1)) // of file systems' blocks
		if err := reflink(out, at, f.Path); err != nil {
			d.abort()
			return nil, nil, errNoReflink
		}
		start[f.Name], end = at, at+f.Size
	}
	if err := out.Sync(); err != nil {
		return nil, nil, fmt.Errorf("onnx: %w", err)
	}
	places := make([]wire.Place, len(inits))
	for i, in := range inits {
		if t := in.From; t != nil {
			places[i] = wire.Place{File: DataFile, Offset: start[t.File] + t.Offset, Length: tensorBytes(t)}
		}
	}
	d.names, d.method = []string{DataFile}, "reflink"
	return places, [][]piece{{{length: end}}}, nil
}

// fill writes data file i.
func (d *dataFiles) fill(ctx context.Context, i int, pieces []piece) (err error) {
	out, err := d.create(d.names[i])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	d.method = "direct"
	done := d.done
	err = direct(ctx, out, pieces, d.tell)
	if errors.Is(err, errNoDirect) {
		d.method, d.done = "buffered", done
		err = buffered(ctx, out, pieces, d.tell)
	}
	if err == nil {
		err = out.Sync()
	}
	if err != nil {
		return fmt.Errorf("onnx: %s: %w", d.names[i], err)
	}
	return nil
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
	buf := make([]byte, chunk)
	open := &opener{}
	defer open.close()
	for _, p := range pieces {
		for at := int64(0); at < p.length; {
			if err := ctx.Err(); err != nil {
				return err
			}
			b := buf[:min(chunk, p.length-at)]
			if p.from == "" {
				b = p.data[at:][:len(b)]
			} else {
				in, err := open.file(p.from, 0)
				if err != nil {
					return err
				}
				if _, err := in.ReadAt(b, p.offset+at); err != nil {
					return shortened(p.from, err)
				}
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

// commit gives the files their names.
func (d *dataFiles) commit() ([]string, error) {
	for i, temp := range d.temps {
		if err := os.Rename(temp, filepath.Join(d.dir, d.names[i])); err != nil {
			return nil, fmt.Errorf("onnx: %w", err)
		}
		d.temps[i] = ""
	}
	return d.names, nil
}

// abort removes the files that have no name yet.
func (d *dataFiles) abort() {
	for _, temp := range d.temps {
		if temp != "" {
			os.Remove(temp)
		}
	}
	d.temps = nil
}
