package pull

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// A download is one file under way. What came is in a hidden file beside the
// target; which ranges are whole stands in a second one.
type download struct {
	h     *hub
	f     file
	path  string
	part  string
	state string

	whole bool // the target is there already
	out   *os.File
	mu    sync.Mutex
	have  []bool // by range
}

// partial is the state of a download on disk.
type partial struct {
	Hash  string `json:"hash"`  // of the file that the hub has
	Size  int64  `json:"size"`  // of the file
	Range int64  `json:"range"` // bytes of one
	Have  string `json:"have"`  // a 1 for each range that is whole
}

// sum returns the hash that the hub states: SHA-256 of what is in LFS, of the
// rest git's name of a blob.
func (f file) sum() (text string, h hash.Hash) {
	if f.LFS != nil {
		return "sha256:" + strings.TrimPrefix(f.LFS.OID, "sha256:"), sha256.New()
	}
	h = sha1.New()
	fmt.Fprintf(h, "blob %d\x00", f.Size)
	return "git:" + f.OID, h
}

// verify reports whether the file at path is the one that the hub has.
func (f file) verify(ctx context.Context, path string) (bool, error) {
	in, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != f.Size {
		return false, err
	}
	want, sum := f.sum()
	if _, err := io.Copy(sum, contextReader{ctx, in}); err != nil {
		return false, err
	}
	return hex.EncodeToString(sum.Sum(nil)) == want[strings.IndexByte(want, ':')+1:], nil
}

// contextReader ends a long read when the context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// open finds what of f is there already.
func (h *hub) open(f file, path string) (*download, error) {
	dir, name := filepath.Split(path)
	d := &download{h: h, f: f, path: path, part: filepath.Join(dir, "."+name+".ossify-part"), state: filepath.Join(dir, "."+name+".ossify-state")}
	d.have = make([]bool, (f.Size+h.q.rangeBytes-1)/h.q.rangeBytes)
	switch info, err := os.Lstat(path); {
	case err == nil && !info.Mode().IsRegular():
		return nil, fmt.Errorf("pull: %s: no regular file, want a folder without it", path)
	case err == nil && info.Size() == f.Size:
		d.whole = true // run looks at its hash
		return d, nil
	case err == nil:
		return nil, fmt.Errorf("pull: %s: a file of %d bytes, and the hub's has %d: want a folder without it", path, info.Size(), f.Size)
	}
	var p partial
	hash, _ := f.sum()
	if text, err := os.ReadFile(d.state); err == nil && json.Unmarshal(text, &p) == nil &&
		p.Hash == hash && p.Size == f.Size && p.Range == h.q.rangeBytes && len(p.Have) == len(d.have) {
		if info, err := os.Lstat(d.part); err == nil && info.Mode().IsRegular() && info.Size() == f.Size {
			for i := range d.have {
				d.have[i] = p.Have[i] == '1'
			}
		}
	}
	return d, nil
}

func (d *download) size(i int) int64 {
	return min(d.h.q.rangeBytes, d.f.Size-int64(i)*d.h.q.rangeBytes)
}

// missing returns the bytes that are still to come.
func (d *download) missing() (n int64) {
	for i, ok := range d.have {
		if !ok && !d.whole {
			n += d.size(i)
		}
	}
	return n
}

func (d *download) close() {
	if d.out != nil {
		d.out.Close()
		d.out = nil
	}
}

// run fetches what is missing, checks the hash and gives the file its name.
func (d *download) run(ctx context.Context) error {
	if d.whole {
		ok, err := d.f.verify(ctx, d.path)
		if err != nil {
			return fmt.Errorf("pull: %w", err)
		}
		if !ok {
			return fmt.Errorf("pull: %s: its bytes are not the hub's: want a folder without it", d.path)
		}
		return nil
	}
	var err error
	if d.out, err = os.OpenFile(d.part, os.O_RDWR|os.O_CREATE, 0o666); err == nil {
		err = d.out.Truncate(d.f.Size)
	}
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	if err := d.fetch(ctx); err != nil {
		return err
	}
	ok, err := d.f.verify(ctx, d.part)
	if err == nil && !ok {
		os.Remove(d.part)
		os.Remove(d.state)
		hash, _ := d.f.sum()
		return fmt.Errorf("pull: %s: what came does not have the hash that the hub states, %s: thrown away, try again", d.f.name(), hash)
	}
	if err == nil {
		err = d.out.Sync()
	}
	if err == nil {
		err = d.out.Close()
		d.out = nil
	}
	if err == nil {
		err = os.Rename(d.part, d.path)
	}
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	os.Remove(d.state)
	return nil
}

// fetch gets the ranges that are missing, several at a time.
func (d *download) fetch(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ranges := make(chan int)
	var workers sync.WaitGroup
	for range d.h.q.Parallel {
		workers.Go(func() {
			for i := range ranges {
				if err := d.one(ctx, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
feed:
	for i, ok := range d.have {
		if ok {
			continue
		}
		select {
		case ranges <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(ranges)
	workers.Wait()
	return context.Cause(ctx)
}

// one gets range i, in as many requests as it takes.
func (d *download) one(ctx context.Context, i int) error {
	from, size := int64(i)*d.h.q.rangeBytes, d.size(i)
	u := d.h.base.JoinPath(d.h.q.Repo, "resolve", d.h.commit, d.f.Path)
	var done int64
	err := d.h.patient(ctx, func() (bool, error) {
		n, err := d.some(ctx, u, from+done, from+size)
		done += n
		return n > 0, err
	})
	if err != nil {
		d.h.tell(-done) // counted again when it comes again
		return err
	}
	return d.keep(i)
}

// some gets bytes from, up to to, and returns how many came.
func (d *download) some(ctx context.Context, u *url.URL, from, to int64) (int64, error) {
	res, err := d.h.get(ctx, u, fmt.Sprintf("bytes=%d-%d", from, to-1))
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	want := fmt.Sprintf("bytes %d-%d/%d", from, to-1, d.f.Size)
	switch got := res.Header.Get("Content-Range"); {
	case res.StatusCode == http.StatusPartialContent && got != want:
		return 0, fmt.Errorf("pull: %s: the hub sends %.80q, want %q", d.f.name(), got, want)
	case res.StatusCode == http.StatusOK && res.ContentLength >= 0 && res.ContentLength != d.f.Size:
		return 0, fmt.Errorf("pull: %s: the hub sends %d bytes, want %d", d.f.name(), res.ContentLength, d.f.Size)
	case res.StatusCode == http.StatusOK && from > 0:
		// A server without ranges: what comes before is passed over.
		if _, err := io.CopyN(io.Discard, contextReader{ctx, res.Body}, from); err != nil {
			return 0, d.cut(ctx)
		}
	}
	var n int64
	buf := make([]byte, 256<<10)
	for n < to-from {
		m, err := res.Body.Read(buf[:min(int64(len(buf)), to-from-n)])
		if m > 0 {
			if _, err := d.out.WriteAt(buf[:m], from+n); err != nil {
				return n, fmt.Errorf("pull: %w", err)
			}
			n += int64(m)
			d.h.tell(int64(m))
		}
		if err != nil && n < to-from {
			return n, d.cut(ctx)
		}
	}
	return n, nil
}

func (d *download) cut(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &temporary{err: fmt.Errorf("pull: %s: %w", d.f.name(), errCut)}
}

// keep notes that range i is whole, once its bytes are on disk.
func (d *download) keep(i int) error {
	if err := d.out.Sync(); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.have[i] = true
	hash, _ := d.f.sum()
	p := partial{Hash: hash, Size: d.f.Size, Range: d.h.q.rangeBytes}
	var have strings.Builder
	for _, ok := range d.have {
		have.WriteByte(map[bool]byte{true: '1', false: '0'}[ok])
	}
	p.Have = have.String()
	text, err := json.Marshal(p)
	if err == nil {
		err = os.WriteFile(d.state+"-new", text, 0o666)
	}
	if err == nil {
		err = os.Rename(d.state+"-new", d.state)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("pull: %w", err), os.Remove(d.state+"-new"))
	}
	return nil
}
