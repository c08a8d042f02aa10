package batch

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"

	"ossify/internal/fileset"
	"ossify/internal/quote"
	"ossify/pipeline"
)

// Limits bound what an index takes on; 0 takes what the comment says.
type Limits struct {
	Line  int // bytes of a line; 0 is 4 MiB
	Lines int // of all files; 0 is 10,000,000
	Shard int // lines of a shard; 0 is 256, and 4096 are the most
}

func (l Limits) fill() (Limits, error) {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Line, 4<<20)
	def(&l.Lines, 10_000_000)
	def(&l.Shard, 256)
	if l.Line < 0 || l.Lines < 0 || l.Shard < 0 || l.Shard > mostShard {
		return l, fmt.Errorf("batch: limits %+v, want none negative and shards of at most %d lines", l, mostShard)
	}
	return l, nil
}

// mostShard lines are an element of a pipeline, which has its own limit.
const mostShard = 4096

// A Plan says which lines there are and how they are sharded.
type Plan struct {
	Head   Head
	Shards []Shard
}

// A Head is what a plan was made of: the same input gives the same plan.
type Head struct {
	Version int               `json:"ossify_batch"`
	Inputs  []Input           `json:"inputs"`
	URLs    []string          `json:"urls"`
	Facts   map[string]string `json:"facts"` // what answers depend on besides
	Lines   int               `json:"lines"` // requests and wrong lines; blank ones are none
	Wrong   int               `json:"wrong"` // lines that are no requests
	Shards  int               `json:"shards"`
	Line    int               `json:"line_limit"`
}

// An Input is a file of requests.
type Input struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// A Shard is lines that are answered together.
type Shard struct {
	Number int   `json:"shard"` // from 1
	Lines  []Ref `json:"lines"`
}

// A Ref is where a line is.
type Ref struct {
	Number int    `json:"n"`           // of all lines of all files, from 0: blank ones count
	File   int    `json:"f,omitempty"` // which input
	Line   int    `json:"l"`           // of the file, from 1
	Offset int64  `json:"o"`
	Length int    `json:"b"`           // bytes; of a line that is too long, what is kept of it
	Sum    uint32 `json:"c"`           // CRC-32C of them
	Wrong  string `json:"w,omitempty"` // the code of what only the whole input shows
	First  int    `json:"d,omitempty"` // of a duplicate: the line that has its custom_id
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// keptOfLong is how much of a line that is too long is looked at again.
const keptOfLong = 64

// Index reads files of requests for urls and makes their plan. Facts are what
// the answers depend on besides. It takes about 300 bytes of memory a line.
func Index(ctx context.Context, files, urls []string, facts map[string]string, limits Limits) (*Plan, error) {
	limits, err := limits.fill()
	if err != nil {
		return nil, err
	}
	if len(files) == 0 || len(urls) == 0 {
		return nil, errors.New("batch: no files or no urls")
	}
	x := &index{ctx: ctx, limits: limits, urls: urls, known: map[[16]byte]int{}}
	p := &Plan{Head: Head{Version: 1, URLs: urls, Facts: facts, Line: limits.Line}}
	for i, name := range files {
		in, err := x.read(i, name)
		if err != nil {
			return nil, err
		}
		p.Head.Inputs = append(p.Head.Inputs, in)
	}
	if len(x.refs) == 0 {
		return nil, fmt.Errorf("batch: %s: no requests, want a JSON object a line", quote.Name(files[0]))
	}
	p.Head.Lines, p.Head.Wrong = len(x.refs), x.wrong
	// Lines of like length are computed together, the longest first, so that the
	// end is not one long answer's.
	slices.SortStableFunc(x.refs, func(a, b Ref) int { return b.Length - a.Length })
	for lines := range slices.Chunk(x.refs, limits.Shard) {
		slices.SortFunc(lines, func(a, b Ref) int { return a.Number - b.Number })
		p.Shards = append(p.Shards, Shard{Number: len(p.Shards) + 1, Lines: lines})
	}
	p.Head.Shards = len(p.Shards)
	return p, nil
}

type index struct {
	ctx    context.Context
	limits Limits
	urls   []string
	refs   []Ref
	known  map[[16]byte]int // custom_ids, by hash: the number of their line
	number int
	wrong  int
}

// read adds the lines of a file.
func (x *index) read(file int, name string) (Input, error) {
	f, err := openInput(name)
	if err != nil {
		return Input{}, err
	}
	defer f.Close()
	sum := sha256.New()
	r := bufio.NewReaderSize(io.TeeReader(f, sum), 64<<10)
	offset := int64(0)
	if mark, _ := r.Peek(3); string(mark) == "\xef\xbb\xbf" { // a byte order mark
		r.Discard(3)
		offset = 3
	}
	var buf []byte
	for line := 1; ; line++ {
		if err := x.ctx.Err(); err != nil {
			return Input{}, context.Cause(x.ctx)
		}
		buf = buf[:0]
		length, ended := int64(0), false
		for !ended {
			part, err := r.ReadSlice('\n')
			length += int64(len(part))
			if room := x.limits.Line + 2 - len(buf); room > 0 { // with the line's end
				buf = append(buf, part[:min(len(part), room)]...)
			}
			switch {
			case err == nil, errors.Is(err, io.EOF):
				ended = true
			case !errors.Is(err, bufio.ErrBufferFull):
				return Input{}, fmt.Errorf("batch: %w", err)
			}
			if errors.Is(err, io.EOF) && length == 0 {
				return Input{Bytes: offset, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
			}
		}
		if err := x.add(Ref{Number: x.number, File: file, Line: line, Offset: offset}, buf, length); err != nil {
			return Input{}, fmt.Errorf("batch: %s: %w", quote.Name(name), err)
		}
		x.number++
		offset += length
	}
}

// add adds a line with its end, of which length bytes are in the file.
func (x *index) add(ref Ref, line []byte, length int64) error {
	text := bytes.TrimRight(line, "\r\n")
	if int64(len(line)) == length && len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	if len(x.refs) == x.limits.Lines {
		return fmt.Errorf("line %d: more than %d requests", ref.Line, x.limits.Lines)
	}
	if len(text) > x.limits.Line || int64(len(line)) < length {
		ref.Wrong = CodeLong
		text = text[:min(len(text), keptOfLong)]
	}
	ref.Length, ref.Sum = len(text), crc32.Checksum(text, castagnoli)
	if ref.Wrong == "" {
		r, wrong := parse(text, x.urls)
		var id string
		switch {
		case wrong == nil:
			id = r.ID
		case wrong.id != nil:
			json.Unmarshal(wrong.id, &id) // it was read before
		}
		if id != "" {
			sum := sha256.Sum256([]byte(id))
			key := [16]byte(sum[:16])
			if first, ok := x.known[key]; ok && wrong == nil {
				ref.Wrong, ref.First = CodeDuplicate, first
			} else if !ok {
				x.known[key] = ref.Number + 1
			}
		}
		if wrong != nil {
			x.wrong++
		}
	}
	if ref.Wrong != "" {
		x.wrong++
	}
	x.refs = append(x.refs, ref)
	return nil
}

// openInput opens a regular file.
func openInput(name string) (*os.File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("batch: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("batch: %s is no regular file, want one: it is read at several places", quote.Name(name))
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("batch: %w", err)
	}
	return f, nil
}

// Names of files in the folder of the answers.
const (
	planName  = "plan.jsonl"
	partsName = "parts"
)

// PlanPath returns where a folder's plan is: a line for the head, then the shards.
func PlanPath(dir string) string { return filepath.Join(dir, planName) }

// OutputPath returns where the answers of a shard are.
func OutputPath(dir string, shard int) string {
	return filepath.Join(dir, fmt.Sprintf("output-%05d.jsonl", shard))
}

// ErrorsPath returns where the errors of a shard are, if it has any.
func ErrorsPath(dir string, shard int) string {
	return filepath.Join(dir, fmt.Sprintf("errors-%05d.jsonl", shard))
}

// Begin writes a plan into the folder of the answers, which it makes. If there
// is one already it must be the same, and the run goes on: Begin returns how many
// shards are finished.
func (p *Plan) Begin(ctx context.Context, dir string) (finished int, err error) {
	text, err := p.encode()
	if err != nil {
		return 0, err
	}
	if err := os.MkdirAll(filepath.Join(dir, partsName), 0o777); err != nil {
		return 0, fmt.Errorf("batch: %w", err)
	}
	switch same, err := sameFile(PlanPath(dir), text); {
	case errors.Is(err, os.ErrNotExist):
		if list, err := filepath.Glob(filepath.Join(dir, "*.jsonl")); err != nil || len(list) > 0 {
			return 0, fmt.Errorf("batch: %s holds files and no plan of a batch, want a new or empty folder", quote.Name(dir))
		}
		if err := fileset.WriteFile(ctx, PlanPath(dir), text, fileset.Options{}); err != nil {
			return 0, err
		}
	case err != nil:
		return 0, fmt.Errorf("batch: %w", err)
	case !same:
		return 0, fmt.Errorf("batch: %s holds the answers to another batch: other files, another checkpoint or other options; want another folder", quote.Name(dir))
	}
	for _, s := range p.Shards {
		if _, err := os.Stat(OutputPath(dir, s.Number)); err == nil {
			finished++
		}
	}
	return finished, nil
}

func (p *Plan) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	if err := e.Encode(p.Head); err != nil {
		return nil, err
	}
	for _, s := range p.Shards {
		at := b.Len()
		if err := e.Encode(s); err != nil {
			return nil, err
		}
		if b.Len()-at > pipeline.MostElement {
			return nil, fmt.Errorf("batch: shard %d is too large for an element, want fewer lines in one", s.Number)
		}
	}
	return b.Bytes(), nil
}

func sameFile(name string, text []byte) (bool, error) {
	info, err := os.Stat(name)
	if err != nil {
		return false, err
	}
	if info.Size() != int64(len(text)) {
		return false, nil
	}
	have, err := os.ReadFile(name)
	return bytes.Equal(have, text), err
}
