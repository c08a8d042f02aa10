// Package store keeps files and batches in a folder, as OpenAI's API has them, and
// computes the batches one after the other. It knows no HTTP.
//
// Everything is on disk before it is told: a store that is opened again goes on
// with the batch under way, line by line. A folder is for one store at a time: it
// is locked, and the lock ends with the process.
//
// Files and batches belong to whoever made them. An owner sees its own, and what
// belongs to others is not there for it; the owner "" sees all.
package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"ossify/batch"
	"ossify/internal/fileset"
	"ossify/internal/quote"
	"ossify/pipeline"
)

// Options say what a Store keeps and who answers.
type Options struct {
	Dir    string
	URLs   []string // that batches may ask
	Answer Answerer // of one request
	Active int      // requests under way at once; 0 takes 8

	File  int64 // bytes of a file; 0 is 200 MiB
	Bytes int64 // of all files that were uploaded; 0 is 10 GiB
	Files int   // that were uploaded; 0 is 10,000
	Lines int   // of a batch; 0 is 50,000
	Line  int   // bytes of a line; 0 is 4 MiB

	Failed func(batch string, err error) // is told why a batch could not be computed; may be nil
	Now    func() time.Time              // nil is time.Now
}

// An Answerer is a [batch.Answerer] that is told whose batch it is.
type Answerer func(ctx context.Context, owner, url string, body []byte) (status int, answer []byte)

// A File is one that was uploaded, or written by a batch.
type File struct {
	ID      string `json:"id"`
	Object  string `json:"object"` // file
	Bytes   int64  `json:"bytes"`
	Created int64  `json:"created_at"`
	Name    string `json:"filename"`
	Purpose string `json:"purpose"` // batch or batch_output
	Status  string `json:"status"`  // processed
}

// A Batch is what the API says of one. Times are seconds since 1970.
type Batch struct {
	ID         string            `json:"id"`
	Object     string            `json:"object"` // batch
	Endpoint   string            `json:"endpoint"`
	Errors     *Errors           `json:"errors"`
	Input      string            `json:"input_file_id"`
	Window     string            `json:"completion_window"` // 24h
	Status     string            `json:"status"`
	Output     *string           `json:"output_file_id"`
	ErrorFile  *string           `json:"error_file_id"`
	Created    int64             `json:"created_at"`
	Started    *int64            `json:"in_progress_at"`
	Expires    int64             `json:"expires_at"`
	Finalizing *int64            `json:"finalizing_at"`
	Completed  *int64            `json:"completed_at"`
	Failed     *int64            `json:"failed_at"`
	Expired    *int64            `json:"expired_at"`
	Cancelling *int64            `json:"cancelling_at"`
	Cancelled  *int64            `json:"cancelled_at"`
	Counts     Counts            `json:"request_counts"`
	Metadata   map[string]string `json:"metadata"`
}

// Counts are of requests.
type Counts struct {
	Total     int `json:"total"`
	Completed int `json:"completed"`
	Failed    int `json:"failed"`
}

// Errors are why a batch failed as a whole.
type Errors struct {
	Object string             `json:"object"` // list
	Data   []*batch.LineError `json:"data"`
}

// What a batch's status can be.
const (
	Validating = "validating"
	InProgress = "in_progress"
	Finalizing = "finalizing"
	Completed  = "completed"
	Failed     = "failed"
	Expired    = "expired"
	Cancelling = "cancelling"
	Cancelled  = "cancelled"
)

// Ended reports whether nothing of a batch will change.
func (b *Batch) Ended() bool {
	return slices.Contains([]string{Completed, Failed, Expired, Cancelled}, b.Status)
}

const window = 24 * time.Hour

// Errors of a Store.
var (
	ErrNone   = errors.New("store: there is none")
	ErrLarge  = errors.New("store: the file is too large")
	ErrFull   = errors.New("store: the files together are too large, or too many")
	ErrInUse  = errors.New("store: a batch reads the file")
	ErrEnded  = errors.New("store: the batch has ended")
	ErrClosed = errors.New("store: closed")
	ErrMany   = errors.New("store: too many batches are kept")
	ErrLocked = errors.New("store: another server uses this folder, want one for each")
)

// What is kept of files and batches: what the API says of them, and whose they are.
type (
	keptFile struct {
		File
		Owner string `json:"owner,omitempty"`
	}
	keptBatch struct {
		Batch
		Owner string `json:"owner,omitempty"`
	}
)

// sees reports whether an owner sees what belongs to another.
func sees(owner, of string) bool {
	return owner == "" || subtle.ConstantTimeCompare([]byte(owner), []byte(of)) == 1
}

// mostBatches is how many batches a folder keeps.
const mostBatches = 10_000

// A Store is safe for use by several goroutines.
type Store struct {
	o      Options
	ctx    context.Context
	cancel context.CancelCauseFunc
	wake   chan struct{} // holds one
	ended  chan struct{}
	lock   *fileset.Lock

	mu      sync.Mutex
	files   map[string]*keptFile
	batches map[string]*keptBatch
	bytes   int64                   // of files that were uploaded, those that are being uploaded included
	uploads int                     // likewise
	stop    context.CancelCauseFunc // of the batch under way
	running string
}

var (
	errCancelled = errors.New("store: the batch was cancelled")
	errExpired   = errors.New("store: the batch has expired")
)

// Open opens a folder, which it makes, and goes on with its batches. While another
// store has it open, in whatever process, the error is [ErrLocked].
func Open(o Options) (*Store, error) {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.File, 200<<20)
	def(&o.Bytes, 10<<30)
	if o.Active == 0 {
		o.Active = 8
	}
	if o.Files == 0 {
		o.Files = 10_000
	}
	if o.Lines == 0 {
		o.Lines = 50_000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Answer == nil || len(o.URLs) == 0 || o.File < 0 || o.Bytes < 0 || o.Files < 0 || o.Active < 0 || o.Lines < 0 || o.Line < 0 {
		return nil, errors.New("store: nobody answers, or a limit is negative")
	}
	s := &Store{o: o, wake: make(chan struct{}, 1), ended: make(chan struct{}), files: map[string]*keptFile{}, batches: map[string]*keptBatch{}}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	for _, dir := range []string{s.path("files"), s.path("batches")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	var err error
	switch s.lock, err = fileset.LockDir(o.Dir); {
	case errors.Is(err, fileset.ErrLocked):
		return nil, fmt.Errorf("%w: %s", ErrLocked, quote.Name(o.Dir))
	case err != nil:
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := s.load(); err != nil {
		s.lock.Close()
		return nil, err
	}
	go s.run()
	return s, nil
}

// Stop ends the batch under way, which a later store goes on with.
func (s *Store) Stop() {
	s.cancel(ErrClosed)
	<-s.ended
}

// Close stops the store, and gives its folder to others: nothing may use it any
// more.
func (s *Store) Close() error {
	s.Stop()
	return s.lock.Close()
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.o.Dir}, parts...)...)
}

func (s *Store) data(id string) string     { return s.path("files", id+".data") }
func (s *Store) fileMeta(id string) string { return s.path("files", id+".json") }
func (s *Store) work(id string) string     { return s.path("batches", id) }
func (s *Store) batchMeta(id string) string {
	return s.path("batches", id+".json")
}

// load reads what is there. What has no description was not told to anybody, and goes.
func (s *Store) load() error {
	read := func(kind string, each func(id string, text []byte) error) error {
		names, err := os.ReadDir(s.path(kind))
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		for _, n := range names {
			id, ok := strings.CutSuffix(n.Name(), ".json")
			if !ok || strings.HasPrefix(id, ".") {
				continue
			}
			text, err := os.ReadFile(s.path(kind, n.Name()))
			if err == nil {
				err = each(id, text)
			}
			if err != nil {
				return fmt.Errorf("store: %s: %w", quote.Name(s.path(kind, n.Name())), err)
			}
		}
		return nil
	}
	err := read("files", func(id string, text []byte) error {
		var f keptFile
		if err := kept(text, &f, &f.ID, id); err != nil {
			return err
		}
		s.files[id] = &f
		if f.Purpose == "batch" {
			s.bytes += f.Bytes
			s.uploads++
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = read("batches", func(id string, text []byte) error {
		var b keptBatch
		if err := kept(text, &b, &b.ID, id); err != nil {
			return err
		}
		s.batches[id] = &b
		if b.Ended() {
			os.RemoveAll(s.work(id))
		}
		return nil
	})
	if err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(strings.NewReplacer("*", "\\*", "?", "\\?", "[", "\\[").Replace(s.path("files")), "*.data"))
	if err != nil {
		return err
	}
	for _, name := range left {
		if id := strings.TrimSuffix(filepath.Base(name), ".data"); s.files[id] == nil {
			os.Remove(name)
		}
	}
	return nil
}

// kept reads what is kept of a file or a batch, which has the id that its name says.
func kept(text []byte, v any, got *string, id string) error {
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("not what this store writes: %w", err)
	}
	if *got != id {
		return fmt.Errorf("the id in it is %s", quote.Value(*got))
	}
	return nil
}

func newID(prefix string) string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])
}

// save writes what is known of a file or a batch.
func save(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return fileset.WriteFile(context.Background(), name, text, fileset.Options{Ours: fileset.Any})
}

// A budget counts the bytes of an upload.
type budget struct {
	s    *Store
	r    io.Reader
	took int64
}

func (b *budget) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.took += int64(n)
	b.s.bytes += int64(n)
	switch {
	case b.took > b.s.o.File:
		return 0, ErrLarge
	case b.s.bytes > b.s.o.Bytes:
		return 0, ErrFull
	}
	return n, err
}

// Upload keeps an owner's file of requests. ok is asked at the end whether it is
// wanted.
func (s *Store) Upload(ctx context.Context, owner, name string, r io.Reader, ok func() error) (f File, err error) {
	f = File{ID: newID("file-"), Object: "file", Name: name, Purpose: "batch", Status: "processed", Created: s.o.Now().Unix()}
	b := &budget{s: s, r: r}
	s.mu.Lock()
	full := s.uploads >= s.o.Files
	if !full {
		s.uploads++
	}
	s.mu.Unlock()
	if full {
		return f, ErrFull
	}
	defer func() {
		if err != nil {
			s.mu.Lock()
			s.bytes -= b.took
			s.uploads--
			s.mu.Unlock()
			os.Remove(s.data(f.ID))
		}
	}()
	set := fileset.New(ctx, fileset.Options{})
	defer set.Abort()
	to, err := set.Create(s.data(f.ID))
	if err != nil {
		return f, err
	}
	if f.Bytes, err = io.Copy(to, b); err != nil {
		return f, err
	}
	if err := ok(); err != nil {
		return f, err
	}
	if err := set.Commit(); err != nil {
		return f, err
	}
	return f, s.addFile(keptFile{f, owner})
}

func (s *Store) addFile(f keptFile) error {
	if err := save(s.fileMeta(f.ID), f); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[f.ID] = &f
	return nil
}

// File returns a file.
func (s *Store) File(owner, id string) (File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.files[id]; ok && sees(owner, f.Owner) {
		return f.File, nil
	}
	return File{}, ErrNone
}

// Files returns the files of a purpose, "" for any, the newest first.
func (s *Store) Files(owner, purpose string) []File {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []File
	for _, f := range s.files {
		if sees(owner, f.Owner) && (purpose == "" || f.Purpose == purpose) {
			list = append(list, f.File)
		}
	}
	slices.SortFunc(list, func(a, b File) int { return newest(a.Created, b.Created, a.ID, b.ID) })
	return list
}

func newest(a, b int64, x, y string) int {
	if a != b {
		return int(min(max(b-a, -1), 1))
	}
	return strings.Compare(x, y)
}

// Content opens a file's content.
func (s *Store) Content(owner, id string) (*os.File, File, error) {
	f, err := s.File(owner, id)
	if err != nil {
		return nil, f, err
	}
	r, err := os.Open(s.data(id))
	return r, f, err
}

// Delete deletes a file, unless a batch reads it.
func (s *Store) Delete(owner, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.files[id]
	if !ok || !sees(owner, f.Owner) {
		return ErrNone
	}
	for _, b := range s.batches {
		if b.Input == id && !b.Ended() {
			return ErrInUse
		}
	}
	if err := os.Remove(s.fileMeta(id)); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	os.Remove(s.data(id))
	delete(s.files, id)
	if f.Purpose == "batch" {
		s.bytes -= f.Bytes
		s.uploads--
	}
	return nil
}

// Create begins a batch of a file's requests for an endpoint. It belongs to whom
// the file does.
func (s *Store) Create(owner, input, endpoint string, metadata map[string]string) (Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.files[input]
	if !ok || !sees(owner, f.Owner) || f.Purpose != "batch" {
		return Batch{}, ErrNone
	}
	if len(s.batches) >= mostBatches {
		return Batch{}, ErrMany
	}
	now := s.o.Now()
	b := keptBatch{Batch{
		ID: newID("batch_"), Object: "batch", Endpoint: endpoint, Input: input, Window: "24h", Status: Validating,
		Created: now.Unix(), Expires: now.Add(window).Unix(), Metadata: metadata,
	}, f.Owner}
	if err := save(s.batchMeta(b.ID), b); err != nil {
		return b.Batch, err
	}
	s.batches[b.ID] = &b
	s.signal()
	return b.Batch, nil
}

func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Batch returns a batch.
func (s *Store) Batch(owner, id string) (Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.batches[id]; ok && sees(owner, b.Owner) {
		return b.Batch, nil
	}
	return Batch{}, ErrNone
}

// Batches returns the batches, the newest first.
func (s *Store) Batches(owner string) []Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Batch
	for _, b := range s.batches {
		if sees(owner, b.Owner) {
			list = append(list, b.Batch)
		}
	}
	slices.SortFunc(list, func(a, b Batch) int { return newest(a.Created, b.Created, a.ID, b.ID) })
	return list
}

// Cancel ends a batch: what is finished is kept. One that is being cancelled stays
// as it is.
func (s *Store) Cancel(owner, id string) (Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.batches[id]
	switch {
	case !ok || !sees(owner, b.Owner):
		return Batch{}, ErrNone
	case b.Status == Cancelling:
		return b.Batch, nil
	case b.Ended() || b.Status == Finalizing:
		return b.Batch, ErrEnded
	}
	next := *b
	next.Status, next.Cancelling = Cancelling, s.now()
	if err := save(s.batchMeta(id), next); err != nil {
		return b.Batch, err
	}
	*b = next
	if s.running == id {
		s.stop(errCancelled)
	}
	s.signal()
	return b.Batch, nil
}

func (s *Store) now() *int64 {
	t := s.o.Now().Unix()
	return &t
}

// change changes a batch, on disk first.
func (s *Store) change(id string, f func(*Batch)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := *s.batches[id]
	f(&b.Batch)
	if err := save(s.batchMeta(id), b); err != nil {
		return err
	}
	*s.batches[id] = b
	return nil
}

// run computes batches, the oldest first.
func (s *Store) run() {
	defer close(s.ended)
	for s.ctx.Err() == nil {
		id := ""
		s.mu.Lock()
		var oldest *keptBatch
		for _, b := range s.batches {
			if !b.Ended() && (oldest == nil || newest(oldest.Created, b.Created, b.ID, oldest.ID) < 0) {
				oldest, id = b, b.ID
			}
		}
		s.mu.Unlock()
		if id == "" {
			select {
			case <-s.wake:
			case <-s.ctx.Done():
			}
			continue
		}
		if err := s.compute(id); err != nil && s.ctx.Err() == nil {
			if s.o.Failed != nil {
				s.o.Failed(id, err)
			}
			failed := s.change(id, func(b *Batch) {
				b.Status, b.Failed = Failed, s.now()
				b.Errors = &Errors{"list", []*batch.LineError{{Code: "server_error", Message: "The batch could not be computed."}}}
			})
			if failed != nil { // the disk is full, it may be
				select {
				case <-time.After(10 * time.Second):
				case <-s.ctx.Done():
				}
			}
		}
	}
}

// compute computes a batch to its end, or to the store's.
func (s *Store) compute(id string) error {
	s.mu.Lock()
	b := *s.batches[id]
	s.mu.Unlock()
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	ctx, late := context.WithDeadlineCause(ctx, time.Unix(b.Expires, 0), errExpired)
	defer late()
	s.mu.Lock()
	s.running, s.stop = id, cancel
	if s.batches[id].Status == Cancelling {
		cancel(errCancelled)
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.running, s.stop = "", nil
		s.mu.Unlock()
	}()

	files := []string{s.data(b.Input)}
	plan, err := batch.Index(s.ctx, files, []string{b.Endpoint}, nil, batch.Limits{Line: s.o.Line, Lines: s.o.Lines, Shard: 64})
	if err != nil {
		if s.ctx.Err() != nil {
			return err
		}
		return s.change(id, func(b *Batch) {
			b.Status, b.Failed = Failed, s.now()
			b.Errors = &Errors{"list", []*batch.LineError{{Code: "invalid_input_file", Param: "input_file_id", Message: "The file holds no requests, or more than " + fmt.Sprint(s.o.Lines) + "."}}}
		})
	}
	dir := s.work(id)
	if _, err := plan.Begin(s.ctx, dir); err != nil {
		return err
	}
	count, err := plan.Check(dir)
	if err != nil {
		return err
	}
	err = s.change(id, func(b *Batch) {
		if b.Status == Validating {
			b.Status, b.Started = InProgress, s.now()
		}
		b.Counts = Counts{count.Total, count.Completed, count.Failed}
	})
	if err != nil {
		return err
	}
	done := func(f batch.Finished) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if c := &s.batches[id].Counts; f.Failed {
			c.Failed++
		} else {
			c.Completed++
		}
	}
	answer := func(ctx context.Context, url string, body []byte) (int, []byte) {
		return s.o.Answer(ctx, b.Owner, url, body)
	}
	runner, err := batch.NewRunner(dir, files, plan.Head.URLs, s.o.Active, answer, done)
	if err != nil {
		return err
	}
	kind := func(context.Context, []byte) (pipeline.Worker, error) { return runner, nil }
	err = pipeline.Local(ctx, pipeline.Job{Kind: "batch", Elements: batch.PlanPath(dir), Skip: 1, Parallel: 2}, kind)
	var left *batch.LineError
	status := Completed
	switch cause := context.Cause(ctx); {
	case s.ctx.Err() != nil:
		return context.Cause(s.ctx) // the next store goes on
	case errors.Is(cause, errCancelled):
		left, status = &batch.LineError{Code: batch.CodeCancelled, Message: "The batch was cancelled before this request was answered."}, Cancelled
	case errors.Is(cause, errExpired):
		left, status = &batch.LineError{Code: batch.CodeExpired, Message: "This request could not be executed before the completion window expired."}, Expired
	case err != nil:
		return err
	}
	if left == nil {
		err := s.change(id, func(b *Batch) {
			if b.Status == InProgress {
				b.Status, b.Finalizing = Finalizing, s.now()
			}
		})
		if err != nil {
			return err
		}
	}
	return s.finish(id, b.Owner, plan, files, left, status)
}

// finish puts what is finished into files, and ends the batch.
func (s *Store) finish(id, owner string, plan *batch.Plan, files []string, left *batch.LineError, status string) error {
	dir := s.work(id)
	// The names are the same if this has to be done again.
	name := func(kind string) string {
		sum := sha256.Sum256([]byte(id + kind))
		return "file-" + hex.EncodeToString(sum[:12])
	}
	output := File{ID: name("output"), Object: "file", Name: id + "_output.jsonl", Purpose: "batch_output", Status: "processed", Created: s.o.Now().Unix()}
	failed := output
	failed.ID, failed.Name = name("error"), id+"_error.jsonl"
	count, err := plan.Collect(s.ctx, dir, files, s.data(output.ID), s.data(failed.ID), left)
	if err != nil {
		return err
	}
	add := func(f File) (*string, error) {
		info, err := os.Stat(s.data(f.ID))
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		f.Bytes = info.Size()
		return &f.ID, s.addFile(keptFile{f, owner})
	}
	out, err := add(output)
	if err != nil {
		return err
	}
	bad, err := add(failed)
	if err != nil {
		return err
	}
	err = s.change(id, func(b *Batch) {
		b.Status, b.Output, b.ErrorFile = status, out, bad
		b.Counts = Counts{count.Total, count.Completed, count.Failed + count.Open}
		switch status {
		case Completed:
			b.Completed = s.now()
		case Cancelled:
			b.Cancelled = s.now()
		case Expired:
			b.Expired = s.now()
		}
	})
	if err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
