package convert

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ossify/checkpoint"
	"ossify/float"
	"ossify/gptoss"
	"ossify/internal/fileset"
	"ossify/internal/quote"
)

// Options say what is written.
type Options struct {
	Config   string         // path of config.json; "" where it lies beside the container
	Layout   gptoss.Dialect // 0 is gptoss.Original
	KeepBF16 bool           // experts in bfloat16, as gpt_oss.torch and transformers call them then

	// Ranks is how many processes share the experts, as gpt_oss.torch slices
	// them, and Rank which of them is to have its parameters, experts in bfloat16;
	// 0 ranks is a whole checkpoint. Slices are in the original layout.
	Rank, Ranks int

	Progress func(done, total int64) // bytes written; may be nil

	panelMost int // see workspace; 0 takes panelMost
}

// Result says what was converted.
type Result struct {
	Kind    string   `json:"kind"`  // of container
	Files   []string `json:"files"` // of tensors, by name
	Tensors int      `json:"tensors"`
	Bytes   int64    `json:"bytes"` // of them
	Kept    int      `json:"kept"`  // tensors that a run before, which was ended, had written
}

// Run converts the container at path src to a checkpoint in dir, which it makes.
// All files appear together; on an error nothing is left. When ctx ends, or the
// program is killed, hidden files stay: the next run of the same conversion goes on
// after the last tensor that is complete.
func Run(ctx context.Context, src, dir string, opt Options) (r *Result, err error) {
	if opt.Layout == 0 {
		opt.Layout = gptoss.Original
	}
	if opt.panelMost == 0 {
		opt.panelMost = panelMost
	}
	s, err := open(src, opt.Config)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	targets, err := s.targets(opt)
	if err != nil {
		return nil, err
	}
	small, err := s.smallFiles(opt)
	if err != nil {
		return nil, err
	}
	if err := refuse(dir); err != nil {
		return nil, err
	}
	set := fileset.New(ctx, fileset.Options{Inputs: s.files, Resume: true})
	defer set.Abort()
	shards, err := createShards(set, dir, opt, targets)
	if err != nil {
		return nil, err
	}
	files, err := shards.Files()
	if err != nil {
		return nil, err
	}
	r = &Result{Kind: s.kind, Tensors: len(targets)}
	missing := int64(0) // bytes that are still to be written
	head := journalHead{}
	for _, f := range files {
		r.Files = append(r.Files, f.Name)
		missing += f.Size
		if info, err := os.Lstat(fileset.PartName(f.Path)); err == nil {
			missing -= min(info.Size(), f.Size)
		}
	}
	head.Files = r.Files
	if head.Conversion, err = s.conversion(opt, shards.Entries()); err != nil {
		return nil, err
	}
	if err := set.MkdirAll(dir); err != nil {
		return nil, err
	}
	j, err := openJournal(dir, head)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && context.Cause(ctx) != nil {
			j.close()
			return
		}
		j.remove()
		set.Discard() // nothing is left to do for it after a success
	}()
	if err := fileset.Room(dir, missing); err != nil {
		return nil, err
	}
	c := &converter{ctx: ctx, source: s, progress: opt.Progress, work: workspace{panelMost: opt.panelMost}}
	byName := map[string]target{}
	for _, t := range targets {
		n, _ := t.Bytes()
		byName[t.Name] = t
		r.Bytes += n
	}
	c.total = r.Bytes
	for _, e := range shards.Entries() {
		kept, err := c.tensor(shards, j, byName[e.Name])
		if err != nil {
			return nil, err
		}
		if kept {
			r.Kept++
		}
	}
	if err := shards.Close(); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(small)) {
		if err := set.WriteFile(filepath.Join(dir, name), small[name]); err != nil {
			return nil, err
		}
	}
	return r, set.Commit()
}

// refuse refuses a folder with a checkpoint.
func refuse(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("convert: %w", err)
	}
	for _, e := range list {
		if n := e.Name(); strings.HasSuffix(n, ".safetensors") || n == checkpoint.IndexFile || n == configFile {
			return fmt.Errorf("convert: %s: holds %s, want a folder without a checkpoint", quote.Name(dir), quote.Name(n))
		}
	}
	return nil
}

// createShards starts the files that targets go to.
func createShards(set *fileset.Set, dir string, opt Options, targets []target) (*checkpoint.ShardWriter, error) {
	parts := make([]gptoss.Part, len(targets))
	entries := make([]checkpoint.Entry, len(targets))
	for i, t := range targets {
		parts[i], entries[i] = t.Part, t.Entry
	}
	if opt.Ranks == 0 {
		return gptoss.CreateShards(set, dir, opt.Layout, parts)
	}
	// One file, which says what it is: its names are those of a whole model.
	about := map[string]string{"tensor_parallel_rank": fmt.Sprint(opt.Rank), "tensor_parallel_ranks": fmt.Sprint(opt.Ranks)}
	return checkpoint.CreateShards(set, dir, func(int, int) string { return "" }, entries, 1<<62, about, false)
}

// A converter writes targets.
type converter struct {
	ctx         context.Context
	source      *source
	work        workspace
	done, total int64
	progress    func(done, total int64)

	// The scales of the parameter that was encoded last: they are most often the
	// next tensor.
	scalesOf string
	scales   []byte
}

// tensor writes the next tensor, or reports that an earlier run has written it.
func (c *converter) tensor(shards *checkpoint.ShardWriter, j *journal, t target) (kept bool, err error) {
	kept, err = shards.Keep(t.Name, func(r io.Reader) (bool, error) { return j.kept(c.ctx, t.Name, r) })
	if err != nil {
		return false, err
	}
	if kept {
		n, _ := t.Bytes()
		c.wrote(n)
		return true, nil
	}
	w, err := shards.Tensor(t.Name)
	if err != nil {
		return false, err
	}
	h := sha256.New()
	if err := c.write(io.MultiWriter(w, h), t); err != nil {
		return false, err
	}
	return false, j.note(t.Name, h.Sum(nil))
}

// write writes the bytes of one tensor.
func (c *converter) write(w io.Writer, t target) error {
	w = &counted{w, c}
	origins := c.source.origins[t.Param.Name]
	switch {
	case t.form == values:
		return c.rows(w, t.Param.Name, t.First, t.Rows)
	case t.form == sliced:
		return c.rows(&slicer{w: w, t: t, row: make([]byte, 0, 2*origins[0].cols)}, t.Param.Name, t.First, t.Rows)
	case t.form == exchanged:
		lines, width := t.Param.Shape[1], t.Param.Shape[2]
		size := 2 * lines * width
		e := &exchanger{w, lines, width, take(&c.work.matrix, size)[:0:size], take(&c.work.turned, size)}
		return c.rows(e, t.Param.Name, t.First, t.Rows)
	case origins[0].scales != nil: // MXFP4 as it is
		a := origins[0].values
		if t.Scales {
			a = *origins[0].scales
			w = &scaleChecker{w: w, name: a.Name}
		}
		n, _ := a.Entry().Bytes()
		r, err := span(a, 0, n)
		if err != nil {
			return err
		}
		return c.copy(w, r)
	case t.Scales:
		if c.scalesOf != t.Param.Name {
			if err := c.encode(io.Discard, t); err != nil {
				return err
			}
		}
		_, err := w.Write(c.scales)
		return err
	}
	return c.encode(w, t)
}

// encode writes the blocks of a parameter and keeps its scales.
func (c *converter) encode(w io.Writer, t target) error {
	o := &c.source.origins[t.Param.Name][0]
	e := &encoder{w: w, place: o.place, scales: c.scales[:0]}
	c.scalesOf = ""
	err := c.rows(e, t.Param.Name, t.First, t.Rows)
	if err == nil {
		c.scalesOf, c.scales = t.Param.Name, e.scales
	}
	return err
}

// rows writes rows [first, first+n) of a parameter as bfloat16.
func (c *converter) rows(w io.Writer, param string, first, n int) error {
	for i := range c.source.origins[param] {
		o := &c.source.origins[param][i]
		lo, hi := max(first, o.first), min(first+n, o.first+o.rows)
		if lo >= hi {
			continue
		}
		r, err := o.open(&c.work, lo, hi-lo)
		if err != nil {
			return err
		}
		if err := c.copy(w, r); err != nil {
			return err
		}
	}
	return nil
}

// An exchanger writes each expert's matrix with its rows as columns.
type exchanger struct {
	w             io.Writer
	lines, width  int    // of a matrix
	whole, turned []byte // one of them, as it comes and as it goes
}

func (e *exchanger) Write(p []byte) (int, error) {
	return pieces(&e.whole, p, func() error {
		turn(e.turned, 2*e.lines, e.whole, 2*e.width, e.width, e.lines)
		_, err := e.w.Write(e.turned)
		return err
	})
}

// pieces appends p to piece, which it empties whenever it is full: after each.
func pieces(piece *[]byte, p []byte, each func() error) (int, error) {
	n := len(p)
	for len(p) > 0 {
		take := min(len(p), cap(*piece)-len(*piece))
		*piece, p = append(*piece, p[:take]...), p[take:]
		if len(*piece) < cap(*piece) {
			break
		}
		if err := each(); err != nil {
			return 0, err
		}
		*piece = (*piece)[:0]
	}
	return n, nil
}

// copy copies r to w to its end and closes it. A goroutine reads ahead.
func (c *converter) copy(w io.Writer, r io.ReadCloser) error {
	const size, ahead = 1 << 20, 3
	type portion struct {
		b   []byte
		err error
	}
	full, free := make(chan portion, ahead), make(chan []byte, ahead)
	stop := make(chan struct{})
	for range ahead {
		free <- nil
	}
	go func() {
		defer close(full)
		for {
			var b []byte
			select {
			case b = <-free:
			case <-stop:
				return
			}
			if b == nil {
				b = make([]byte, size)
			}
			n, err := io.ReadFull(r, b[:size])
			if err == io.ErrUnexpectedEOF && n > 0 {
				// It may be the end, or what is wrong: the next read will say.
				err = nil
			}
			full <- portion{b[:n], err}
			if err != nil {
				return
			}
		}
	}()
	var err error
	for err == nil {
		p := <-full
		if err = p.err; err == nil {
			_, err = w.Write(p.b)
		}
		if err == nil {
			err = context.Cause(c.ctx)
		}
		free <- p.b
	}
	close(stop)
	for range full { // until the goroutine has ended
	}
	if err == io.EOF {
		err = nil
	}
	return errors.Join(err, r.Close())
}

// counted counts the bytes that are written.
type counted struct {
	io.Writer
	c *converter
}

func (w *counted) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.c.wrote(int64(n))
	return n, err
}

func (c *converter) wrote(n int64) {
	if c.done += n; c.progress != nil {
		c.progress(c.done, c.total)
	}
}

// A scaleChecker refuses scales that are no number.
type scaleChecker struct {
	w    io.Writer
	name string
	at   int64
}

func (s *scaleChecker) Write(p []byte) (int, error) {
	if i := bytes.IndexByte(p, float.ScaleNaN); i >= 0 {
		return 0, fmt.Errorf("convert: %s: scale 255, which is NaN, at element %d, want at most 254", quote.Name(s.name), s.at+int64(i))
	}
	s.at += int64(len(p))
	return s.w.Write(p)
}
