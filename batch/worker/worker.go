// Package worker opens what answers a batch: a checkpoint by path, or pulled where
// it is missing, its hash checked; the engine over its mapped files; one scheduler
// and one service for all threads of a process.
package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"ossify/batch"
	"ossify/engine"
	"ossify/generate"
	"ossify/generate/onengine"
	"ossify/gptoss"
	"ossify/harmony"
	"ossify/internal/fileset"
	"ossify/openai"
	"ossify/pipeline"
	"ossify/pull"
	"ossify/tokenizer"
	"ossify/verify"
)

// Kind is the name of this kind of worker.
const Kind = "batch"

// A Config is what every process of a batch knows.
type Config struct {
	Dir    string   `json:"dir"` // of the answers
	Inputs []string `json:"inputs"`

	Checkpoint string `json:"checkpoint"`     // a folder
	Hash       string `json:"hash,omitempty"` // of verify.CheckpointHash; "" checks nothing
	Pull       *Pull  `json:"pull,omitempty"` // if the folder is not there

	Names     []string `json:"names"` // of the model in requests
	Precision string   `json:"precision"`
	Threads   int      `json:"threads,omitempty"` // 0 takes all
	Context   int      `json:"context,omitempty"` // 0 is what the model can tell apart
	Most      int      `json:"most,omitempty"`    // tokens of an answer; 0 is no limit
	Cache     int64    `json:"cache"`             // bytes of keys and values
	Active    int      `json:"active"`            // requests computed together
}

// A Pull says where a missing checkpoint comes from.
type Pull struct {
	Endpoint string `json:"endpoint"`
	Repo     string `json:"repo"`
	Revision string `json:"revision,omitempty"`
	Original bool   `json:"original,omitempty"`
}

// A Process is what a process gives to its workers.
type Process struct {
	Token string                                // for Pull; "" is none
	Proxy func(*http.Request) (*url.URL, error) // for Pull; may be nil
	Known map[string]string                     // hashes of checkpoints that this process has computed, by folder
	Done  func(batch.Finished)                  // is told of finished lines; may be nil
	Used  func(openai.Record)                   // is told of answers; may be nil
}

// URLs are what requests of a batch may ask.
func URLs() []string {
	return []string{openai.PathChat, openai.PathResponses, openai.PathCompletions}
}

// Opener returns the Kind of a process.
func Opener(p Process) pipeline.Kind {
	return func(ctx context.Context, config []byte) (pipeline.Worker, error) {
		var c Config
		if err := json.Unmarshal(config, &c); err != nil {
			return nil, fmt.Errorf("worker: config: %w", err)
		}
		return open(ctx, c, p)
	}
}

type worker struct {
	*batch.Runner
	ends []func() error // in order of opening
}

func (w *worker) Close() error {
	var err error
	for i := len(w.ends) - 1; i >= 0; i-- {
		err = errors.Join(err, w.ends[i]())
	}
	return err
}

func open(ctx context.Context, c Config, p Process) (_ pipeline.Worker, err error) {
	w := &worker{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if err := fetch(ctx, c, p); err != nil {
		return nil, err
	}
	if c.Hash != "" && p.Known[c.Checkpoint] != c.Hash {
		got, err := verify.CheckpointHash(ctx, c.Checkpoint, nil)
		if err != nil {
			return nil, err
		}
		if got != c.Hash {
			return nil, fmt.Errorf("worker: %s has the hash %.16s, want %.16s: it is another checkpoint", c.Checkpoint, got, c.Hash)
		}
	}
	ck, err := gptoss.OpenCheckpoint(c.Checkpoint)
	if err != nil {
		return nil, err
	}
	w.ends = append(w.ends, ck.Close)
	most, err := Room(ck.Config, c)
	if err != nil {
		return nil, err
	}
	o := engine.Options{Precision: engine.BF16, Workers: c.Threads}
	if c.Precision == "f32" {
		o.Precision = engine.F32
	}
	e, err := ck.Engine(ctx, o)
	if err != nil {
		return nil, err
	}
	w.ends = append(w.ends, e.Close)
	// A request may have many choices: none is refused for want of room.
	s, err := generate.NewScheduler(onengine.New(e), generate.SchedulerOptions{Active: c.Active, Waiting: 1 << 20, CacheBytes: c.Cache})
	if err != nil {
		return nil, err
	}
	w.ends = append(w.ends, s.Close)
	svc := openai.New(openai.Options{
		Generator: s, Encoding: harmony.New(tokenizer.New()), Models: c.Names, Context: most, Most: c.Most,
		Fingerprint: "ossify-" + e.Precision().String(), Done: p.Used,
	})
	w.Runner, err = batch.NewRunner(c.Dir, c.Inputs, URLs(), c.Active, Answerer(svc), p.Done)
	if err != nil {
		return nil, err
	}
	w.ends = append(w.ends, w.Runner.Close)
	return w, nil
}

// Answerer returns what a service answers to requests of a batch, which take
// turns with others as one owner's.
func Answerer(svc *openai.Service) batch.Answerer {
	return func(ctx context.Context, url string, body []byte) (int, []byte) {
		return svc.Do(ctx, url, body, openai.Client{Turn: "batch"})
	}
}

// Room returns how many tokens prompt and answer may have.
func Room(m *gptoss.Config, c Config) (int, error) {
	if m.Vocab != tokenizer.VocabSize {
		return 0, fmt.Errorf("worker: the model has %d tokens, want the %d of o200k_harmony", m.Vocab, tokenizer.VocabSize)
	}
	most := m.Positions()
	if c.Context > most {
		return 0, fmt.Errorf("worker: a context of %d, want at most the model's %d", c.Context, most)
	}
	if c.Context > 0 {
		most = c.Context
	}
	return most, nil
}

// fetch pulls a checkpoint that is not there, or not all of it. Processes that
// share a folder take turns.
func fetch(ctx context.Context, c Config, p Process) error {
	if c.Pull == nil || isThere(c.Checkpoint) {
		return nil
	}
	if err := os.MkdirAll(c.Checkpoint, 0o777); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	lock, err := fileset.WaitLock(ctx, filepath.Join(c.Checkpoint, pullLock))
	if err != nil {
		return err
	}
	defer lock.Close()
	if isThere(c.Checkpoint) { // another process pulled it
		return nil
	}
	q := pull.Request{Endpoint: c.Pull.Endpoint, Repo: c.Pull.Repo, Revision: c.Pull.Revision, Token: p.Token, Dir: c.Checkpoint, Proxy: p.Proxy}
	if c.Pull.Original {
		q.Layout = pull.Original
	}
	_, err = pull.Run(ctx, q)
	return err
}

// pullLock is the file of a folder that is locked while its checkpoint is pulled. It
// stays.
const pullLock = ".ossify-lock"

// isThere reports whether a folder holds a checkpoint. A file of one that is being
// pulled has its name when it is whole.
func isThere(dir string) bool {
	ck, err := gptoss.OpenCheckpoint(dir)
	if err != nil {
		return false
	}
	return ck.Close() == nil
}
