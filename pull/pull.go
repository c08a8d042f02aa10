// Package pull downloads a checkpoint from a model hub that speaks as Hugging
// Face's does, or from a mirror of one.
//
// A file is fetched in ranges, several at a time. What came stays when the run
// ends, and the next run goes on with it. A file gets its name when its size
// and hash are those that the hub states, never before.
package pull

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Layout says which of a repository's two forms of the model is wanted.
type Layout uint8

// The layouts of OpenAI's repositories.
const (
	HuggingFace Layout = iota // the files at the top
	Original                  // those in original/
)

// Request says what is pulled.
type Request struct {
	Endpoint string // of the hub: https://host[/path]
	Repo     string // owner/name
	Revision string // a branch, tag or commit; "" is main
	Token    string // is sent to the endpoint's host alone; "" is none
	Layout   Layout
	Dir      string // where files go; made if need be

	Parallel int                                   // ranges at a time; 0 takes 4
	Proxy    func(*http.Request) (*url.URL, error) // as http.Transport has it; nil is none

	// Room fails if so many bytes cannot be written to a folder; nil does not ask.
	Room     func(dir string, bytes int64) error
	Progress func(done, total int64) // bytes; may be nil
	Warn     func(text string)       // what is waited for, or tried again; may be nil

	client     *http.Client  // nil takes one with time-outs for connecting and for headers
	rangeBytes int64         // of one request; 0 takes 32 MiB
	patience   time.Duration // wait before the first retry; 0 takes a second
}

// Result says what was pulled.
type Result struct {
	Commit  string // of the repository
	Files   []string
	Bytes   int64 // of all files
	Fetched int64 // bytes that came in this run
}

// tries is how often a request is sent without a byte coming before it fails.
const tries = 6

// Run pulls. If it fails or ctx ends, files that are complete have their names,
// and what came of the others waits in hidden files for the next run.
func Run(ctx context.Context, q Request) (*Result, error) {
	h, err := newHub(q)
	if err != nil {
		return nil, err
	}
	commit, all, err := h.list(ctx)
	if err != nil {
		return nil, err
	}
	files, err := choose(all, q.Layout)
	if err != nil {
		return nil, fmt.Errorf("pull: %s: %w", q.Repo, err)
	}
	if err := os.MkdirAll(q.Dir, 0o777); err != nil {
		return nil, fmt.Errorf("pull: %w", err)
	}
	r := &Result{Commit: commit}
	var need int64
	jobs := make([]*download, len(files))
	defer func() {
		for _, d := range jobs {
			if d != nil {
				d.close()
			}
		}
	}()
	for i, f := range files {
		d, err := h.open(f, filepath.Join(q.Dir, f.name()))
		if err != nil {
			return nil, err
		}
		jobs[i] = d
		r.Files = append(r.Files, f.name())
		r.Bytes += f.Size
		need += d.missing()
	}
	if q.Room != nil {
		if err := q.Room(q.Dir, need); err != nil {
			return nil, fmt.Errorf("pull: %w", err)
		}
	}
	h.commit, h.total, h.done = commit, r.Bytes, r.Bytes-need
	// What is there already is looked at first: if it is another's, nothing comes.
	slices.SortStableFunc(jobs, func(a, b *download) int {
		switch {
		case a.whole == b.whole:
			return 0
		case a.whole:
			return -1
		}
		return 1
	})
	for _, d := range jobs {
		if err := d.run(ctx); err != nil {
			return nil, err
		}
	}
	r.Fetched = h.fetched
	return r, nil
}

// A file is one of a repository.
type file struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
	OID  string `json:"oid"` // git's SHA-1 of a blob
	LFS  *struct {
		OID string `json:"oid"` // SHA-256
	} `json:"lfs"`
	Type string `json:"type"`
}

// name returns the name without folders.
func (f file) name() string { return f.Path[strings.LastIndexByte(f.Path, '/')+1:] }

// extras are files beside config.json and the weights that are worth having.
var extras = []string{
	"generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
	"dtypes.json", "LICENSE", "USAGE_POLICY", "README.md",
}

// choose returns the files of a layout, small ones first.
func choose(all []file, l Layout) ([]file, error) {
	folder, want := "", "the Hugging Face layout"
	if l == Original {
		folder, want = "original/", "the original layout"
	}
	var files []file
	config, weights := false, false
	for _, f := range all {
		name, ok := strings.CutPrefix(f.Path, folder)
		if !ok || f.Type != "file" || !plain(name) {
			continue
		}
		switch {
		case name == "config.json":
			config = true
		case strings.HasSuffix(name, ".safetensors"):
			weights = true
		case strings.HasSuffix(name, ".safetensors.index.json"), slices.Contains(extras, name):
		default:
			continue
		}
		files = append(files, f)
	}
	if !config || !weights {
		return nil, fmt.Errorf("%d files, want config.json and *.safetensors of %s", len(all), want)
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Or(cmp.Compare(a.Size, b.Size), cmp.Compare(a.Path, b.Path)) })
	return files, nil
}

// plain reports whether a name from the hub can be one of a file here.
func plain(name string) bool {
	return name != "" && name[0] != '.' && len(name) <= 200 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// An AccessError says that the hub does not give a repository to whoever asks.
type AccessError struct {
	Repo   string
	Status string
	Token  bool // one was sent
}

func (e *AccessError) Error() string {
	hint := "it may be private, gated or misspelt: want a token of an account that may read it"
	if e.Token {
		hint = "the token is not one of an account that may read it"
	}
	return fmt.Sprintf("pull: %s: the hub says %s: %s", e.Repo, e.Status, hint)
}

// An OfflineError says that no hub was reached.
type OfflineError struct {
	Host string
	Err  error
}

func (e *OfflineError) Error() string {
	return fmt.Sprintf("pull: %s cannot be reached (%v): want a connection, a mirror's address, or a folder that was copied from elsewhere", e.Host, e.Err)
}

// Unwrap returns what the network said.
func (e *OfflineError) Unwrap() error { return e.Err }

var errCut = errors.New("the connection was cut")
