package batch

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"ossify/internal/fileset"
	"ossify/internal/quote"
)

// A Count is how many lines came to what end.
type Count struct {
	Total     int `json:"total"`
	Completed int `json:"completed"`
	Failed    int `json:"failed"` // wrong lines, and requests that were answered with an error
	Open      int `json:"open"`   // not answered
}

// Check counts the finished lines in a folder, and says if a finished shard has
// not the number of lines that the plan says.
func (p *Plan) Check(dir string) (Count, error) {
	c := Count{Total: p.Head.Lines}
	for _, s := range p.Shards {
		outputs, err := lines(OutputPath(dir, s.Number))
		if errors.Is(err, os.ErrNotExist) {
			c.Open += len(s.Lines)
			continue
		}
		if err != nil {
			return c, err
		}
		failed, err := lines(ErrorsPath(dir, s.Number))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return c, err
		}
		if outputs+failed != len(s.Lines) {
			return c, fmt.Errorf("batch: %s: shard %d has %d answers and %d errors, want %d together", quote.Name(dir), s.Number, outputs, failed, len(s.Lines))
		}
		c.Completed += outputs
		c.Failed += failed
	}
	return c, nil
}

// lines counts the lines of a file.
func lines(name string) (n int, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	ended := true
	for {
		part, err := r.ReadSlice('\n')
		if len(part) > 0 {
			if ended = part[len(part)-1] == '\n'; ended {
				n++
			}
		}
		switch {
		case errors.Is(err, io.EOF) && !ended:
			return n, fmt.Errorf("batch: %s ends within a line", quote.Name(name))
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return n, err
		}
	}
}

// End removes what a finished batch needs no more.
func End(dir string) error {
	if err := os.RemoveAll(filepath.Join(dir, partsName)); err != nil {
		return fmt.Errorf("batch: %w", err)
	}
	return nil
}

// Collect puts what is finished in a folder together: all answers in one file,
// all errors in another, shard by shard. Lines that are not finished get the
// error that left makes of them; with nil they must all be. Files that would be
// empty are not made.
func (p *Plan) Collect(ctx context.Context, dir string, files []string, outputs, failed string, left *LineError) (c Count, err error) {
	r, err := NewRunner(dir, files, p.Head.URLs, 1, nil, nil)
	if err != nil {
		return c, err
	}
	defer r.Close()
	c.Total = p.Head.Lines
	set := fileset.New(ctx, fileset.Options{Ours: fileset.Any})
	defer set.Abort()
	type target struct {
		name string
		w    *bufio.Writer
	}
	targets := map[byte]*target{kindOutput: {name: outputs}, kindError: {name: failed}}
	writer := func(kind byte) (*bufio.Writer, error) {
		t := targets[kind]
		if t.w == nil {
			f, err := set.Create(t.name)
			if err != nil {
				return nil, err
			}
			t.w = bufio.NewWriterSize(f, 64<<10)
		}
		return t.w, nil
	}
	whole := func(kind byte, name string) error {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || info.Size() == 0 {
			return err
		}
		w, err := writer(kind)
		if err == nil {
			_, err = io.Copy(w, f)
		}
		return err
	}
	for _, s := range p.Shards {
		n, err := lines(OutputPath(dir, s.Number))
		if err == nil {
			c.Completed += n
			c.Failed += len(s.Lines) - n
			err = whole(kindOutput, OutputPath(dir, s.Number))
			if err == nil && n < len(s.Lines) {
				err = whole(kindError, ErrorsPath(dir, s.Number))
			}
			if err != nil {
				return c, err
			}
			continue
		}
		if !errors.Is(err, os.ErrNotExist) {
			return c, err
		}
		if left == nil {
			return c, fmt.Errorf("batch: shard %d is not finished", s.Number)
		}
		if err := r.rest(s, &c, writer, *left); err != nil {
			return c, err
		}
	}
	for _, t := range targets {
		if t.w != nil {
			if err := t.w.Flush(); err != nil {
				return c, err
			}
		}
	}
	return c, set.Commit()
}

// rest collects a shard that is not finished.
func (r *Runner) rest(s Shard, c *Count, writer func(kind byte) (*bufio.Writer, error), left LineError) error {
	p, err := findParts(r.dir, s)
	if err != nil {
		return err
	}
	defer p.close()
	for _, ref := range s.Lines {
		l, ok := p.lines[ref.Number]
		if !ok {
			l.kind = kindError
			c.Open++
		} else if l.kind == kindOutput {
			c.Completed++
		} else {
			c.Failed++
		}
		w, err := writer(l.kind)
		if err != nil {
			return err
		}
		if ok {
			_, err = io.Copy(w, io.NewSectionReader(l.file, l.offset, int64(l.length)))
		} else {
			text := make([]byte, ref.Length)
			var id json.RawMessage
			if _, err := r.files[ref.File].ReadAt(text, ref.Offset); err == nil || errors.Is(err, io.EOF) {
				if q, wrong := parse(text, r.urls); wrong == nil {
					id = q.id
				} else {
					id = wrong.id
				}
			}
			e := left
			e.Line = ref.Line
			var line []byte
			if line, err = encode(output{ID: r.id("batch_req_"), CustomID: id, Error: &e}); err == nil {
				_, err = w.Write(line)
			}
		}
		if err != nil {
			return err
		}
		if err := w.WriteByte('\n'); err != nil {
			return err
		}
	}
	return nil
}
