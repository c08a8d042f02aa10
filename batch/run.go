package batch

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"ossify/internal/fileset"
	"ossify/internal/quote"
)

// An Answerer answers a request as [ossify/openai.Service.Do] does: with the HTTP
// status and JSON.
type Answerer func(ctx context.Context, url string, body []byte) (status int, answer []byte)

// A Runner computes shards of a plan. It is a worker of package pipeline.
type Runner struct {
	dir    string
	files  []*os.File
	urls   []string
	many   bool // files
	answer Answerer
	slots  chan struct{}  // requests under way
	done   func(Finished) // may be nil

	id func(prefix string) string
}

// NewRunner returns a Runner that writes into dir, where a plan for these files
// is, with that many requests under way at once. done, which may be nil, is told
// of each line that is finished.
func NewRunner(dir string, files, urls []string, active int, answer Answerer, done func(Finished)) (*Runner, error) {
	if active < 1 || len(files) == 0 {
		return nil, fmt.Errorf("batch: %d requests at once of %d files, want 1 or more", active, len(files))
	}
	r := &Runner{dir: dir, urls: urls, many: len(files) > 1, answer: answer, slots: make(chan struct{}, active), done: done, id: randomID}
	for _, name := range files {
		f, err := openInput(name)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		r.files = append(r.files, f)
	}
	return r, nil
}

// Close closes the files.
func (r *Runner) Close() error {
	var err error
	for _, f := range r.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

func randomID(prefix string) string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])
}

// A Finished line has its place in a part file.
type Finished struct {
	Ref
	Failed  bool // it is a line of the errors
	Earlier bool // by an earlier run
}

func (r *Runner) tell(ref Ref, kind byte, earlier bool) {
	if r.done != nil {
		r.done(Finished{ref, kind == kindError, earlier})
	}
}

// Do computes a shard, which is JSON, as far as it is not there.
func (r *Runner) Do(ctx context.Context, element []byte) error {
	var s Shard
	if err := json.Unmarshal(element, &s); err != nil || s.Number < 1 || len(s.Lines) > mostShard {
		return fmt.Errorf("batch: %q is no shard", element[:min(len(element), 60)])
	}
	if _, err := os.Stat(OutputPath(r.dir, s.Number)); err == nil {
		removeParts(r.dir, s.Number)
		return nil
	}
	found, err := findParts(r.dir, s)
	if err != nil {
		return err
	}
	defer found.close()
	name := partPath(r.dir, s.Number, r.id(""))
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o666)
	if err != nil {
		return fmt.Errorf("batch: %w", err)
	}
	own := &part{file: file}
	found.files = append(found.files, file)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	earlier := maps.Clone(found.lines)
	left := slices.DeleteFunc(slices.Clone(s.Lines), func(ref Ref) bool {
		_, ok := earlier[ref.Number]
		return ok
	})
	for _, ref := range s.Lines {
		if l, ok := earlier[ref.Number]; ok {
			r.tell(ref, l.kind, true)
		}
	}
	for _, ref := range left {
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-r.slots }()
			kind, line, err := r.line(ctx, ref)
			if err == nil {
				err = own.add(found, ref.Number, kind, line)
			}
			if err != nil {
				cancel(err)
				return
			}
			r.tell(ref, kind, false)
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	// A runner that has given up a worker, which goes on, has another compute the
	// same: the first to come here writes all of the shard.
	lock, err := fileset.WaitLock(ctx, partPath(r.dir, s.Number, "lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Stat(OutputPath(r.dir, s.Number)); err == nil {
		removeParts(r.dir, s.Number)
		return nil
	}
	if err := compose(ctx, found, s.Lines, OutputPath(r.dir, s.Number), ErrorsPath(r.dir, s.Number)); err != nil {
		return err
	}
	removeParts(r.dir, s.Number)
	return nil
}

// Kinds of finished lines.
const (
	kindOutput = 'o'
	kindError  = 'e'
)

type output struct {
	ID       string          `json:"id"`
	CustomID json.RawMessage `json:"custom_id"`
	Response *response       `json:"response"`
	Error    *LineError      `json:"error"`
}

type response struct {
	Status  int             `json:"status_code"`
	Request string          `json:"request_id"`
	Body    json.RawMessage `json:"body"`
}

// line computes a line.
func (r *Runner) line(ctx context.Context, ref Ref) (kind byte, line []byte, err error) {
	if ref.File < 0 || ref.File >= len(r.files) || ref.Length < 0 {
		return 0, nil, fmt.Errorf("batch: line %d of file %d: there is none", ref.Line, ref.File+1)
	}
	f := r.files[ref.File]
	text := make([]byte, ref.Length)
	if _, err := f.ReadAt(text, ref.Offset); err != nil && !errors.Is(err, io.EOF) {
		return 0, nil, fmt.Errorf("batch: %w", err)
	}
	if crc32.Checksum(text, castagnoli) != ref.Sum {
		return 0, nil, fmt.Errorf("batch: %s: line %d is not what it was when the batch began", quote.Name(f.Name()), ref.Line)
	}
	out := output{ID: r.id("batch_req_")}
	fail := func(e *LineError) (byte, []byte, error) {
		if e.Line = ref.Line; r.many {
			e.File = quote.Plain(filepath.Base(f.Name()))
		}
		out.Error, out.CustomID = e, e.id
		line, err := encode(out)
		return kindError, line, err
	}
	if ref.Wrong == CodeLong {
		return fail(&LineError{Code: CodeLong, Message: "The line has more bytes than a line may have."})
	}
	q, wrong := parse(text, r.urls)
	if wrong != nil {
		return fail(wrong)
	}
	if ref.Wrong == CodeDuplicate {
		return fail(&LineError{Code: CodeDuplicate, Param: "custom_id", Message: fmt.Sprintf("The custom_id is that of an earlier line, number %d of all.", ref.First), id: q.id})
	}
	status, body := r.answer(ctx, q.URL, q.Body)
	if ctx.Err() != nil {
		return 0, nil, context.Cause(ctx) // no answer, but an end
	}
	switch status {
	case 429, 499, 503: // not this request's: there was no room, or an end
		return 0, nil, fmt.Errorf("batch: line %d: status %d: %s", ref.Line, status, body[:min(len(body), 200)])
	}
	out.CustomID, out.Response = q.id, &response{status, r.id("req_"), body}
	kind = kindOutput
	if status != 200 {
		kind = kindError
	}
	line, err = encode(out)
	return kind, line, err
}

// encode returns a line without its end.
func encode(v output) ([]byte, error) {
	if v.CustomID == nil {
		v.CustomID = json.RawMessage("null")
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("batch: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// A part is finished lines of a shard under way, by one worker: each CRC-32C of
// what follows, kind, number, line.
type part struct {
	mu   sync.Mutex
	file *os.File
	size int64
}

// A found line is in a part file.
type found struct {
	file   *os.File
	kind   byte
	offset int64
	length int
}

type parts struct {
	files []*os.File
	lines map[int]found
}

func (p *parts) close() {
	for _, f := range p.files {
		f.Close()
	}
}

func (p *part) add(all *parts, number int, kind byte, line []byte) error {
	rest := fmt.Appendf(nil, "%c %d %s\n", kind, number, line)
	record := append(fmt.Appendf(nil, "%08x ", crc32.Checksum(rest, castagnoli)), rest...)
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.file.Write(record); err != nil {
		return fmt.Errorf("batch: %w", err)
	}
	all.lines[number] = found{p.file, kind, p.size + int64(len(record)-len(line)-1), len(line)}
	p.size += int64(len(record))
	return nil
}

func partPath(dir string, shard int, id string) string {
	return filepath.Join(dir, partsName, fmt.Sprintf("%05d-%s", shard, id))
}

func partNames(dir string, shard int) []string {
	list, _ := filepath.Glob(partPath(escape(dir), shard, "*"))
	return list
}

// escape makes a pattern of a folder's name.
func escape(dir string) string {
	var b []byte
	for i := range len(dir) {
		if c := dir[i]; os.PathSeparator == '/' && (c == '*' || c == '?' || c == '[' || c == '\\') {
			b = append(b, '\\')
		}
		b = append(b, dir[i])
	}
	return string(b)
}

func removeParts(dir string, shard int) {
	for _, name := range partNames(dir, shard) {
		os.Remove(name)
	}
}

// findParts finds what earlier runs finished of a shard. What a killed run left
// half-written is not taken.
func findParts(dir string, s Shard) (*parts, error) {
	p := &parts{lines: map[int]found{}}
	wanted := map[int]bool{}
	for _, ref := range s.Lines {
		wanted[ref.Number] = true
	}
	for _, name := range partNames(dir, s.Number) {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // another worker finished the shard
		}
		if err != nil {
			p.close()
			return nil, fmt.Errorf("batch: %w", err)
		}
		p.files = append(p.files, f)
		if err := p.scan(f, wanted); err != nil {
			p.close()
			return nil, fmt.Errorf("batch: %s: %w", quote.Name(name), err)
		}
	}
	return p, nil
}

func (p *parts) scan(f *os.File, wanted map[int]bool) error {
	r := bufio.NewReaderSize(f, 64<<10)
	for offset := int64(0); ; {
		record, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // with a rest, if there is one
		}
		if err != nil {
			return err
		}
		var sum uint32
		var kind byte
		var number int
		if len(record) > 9 {
			if _, err := fmt.Sscanf(string(record[:9]), "%08x ", &sum); err == nil && crc32.Checksum(record[9:], castagnoli) == sum {
				if _, err := fmt.Sscanf(string(record[9:min(len(record), 40)]), "%c %d ", &kind, &number); err == nil && wanted[number] {
					if _, ok := p.lines[number]; !ok {
						head := 9 + 2 + len(fmt.Sprint(number)) + 1
						p.lines[number] = found{f, kind, offset + int64(head), len(record) - head - 1}
					}
				}
			}
		}
		offset += int64(len(record))
	}
}

// compose writes finished lines of a shard in order: errors and answers, which
// appear together; the answers last, by which a shard is known to be finished.
func compose(ctx context.Context, p *parts, refs []Ref, outputs, errors string) error {
	set := fileset.New(ctx, fileset.Options{Ours: fileset.Any})
	defer set.Abort()
	write := func(name string, kind byte) error {
		f, err := set.Create(name)
		if err != nil {
			return err
		}
		w := bufio.NewWriterSize(f, 64<<10)
		for _, ref := range refs {
			l, ok := p.lines[ref.Number]
			if !ok || l.kind != kind {
				continue
			}
			if _, err := io.Copy(w, io.NewSectionReader(l.file, l.offset, int64(l.length))); err != nil {
				return err
			}
			w.WriteByte('\n') // Flush has its error
		}
		return w.Flush()
	}
	if slices.ContainsFunc(refs, func(r Ref) bool { return p.lines[r.Number].kind == kindError }) {
		if err := write(errors, kindError); err != nil {
			return err
		}
	}
	if err := write(outputs, kindOutput); err != nil {
		return err
	}
	return set.Commit()
}
