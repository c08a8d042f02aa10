package pull

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ossify/pull/hubtest"
)

var largeBytes = flag.Int64("large", 24<<20, "bytes of the file in TestCutOften")

const commit = hubtest.Commit

// A server is a hub, and what pull's tests ask of it.
type server struct {
	*hubtest.Server
	t *testing.T
}

func newServer(t *testing.T) *server { return &server{hubtest.New(t), t} }

func (s *server) request(dir string) Request {
	return Request{Endpoint: s.Hub.URL, Repo: hubtest.Repo, Token: s.Token, Dir: dir, rangeBytes: 16 << 10, patience: time.Millisecond}
}

// has checks that dir holds exactly these files of the server, and no others.
func (s *server) has(dir string, want ...string) {
	s.t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && len(want) > 0 {
		s.t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		got = append(got, e.Name())
	}
	names := []string{}
	for _, w := range want {
		names = append(names, filepath.Base(w))
		data, err := os.ReadFile(filepath.Join(dir, filepath.Base(w)))
		if err != nil || !bytes.Equal(data, s.Files[w]) {
			s.t.Errorf("%s: %d bytes, %v, want %d", w, len(data), err, len(s.Files[w]))
		}
	}
	slices.Sort(names)
	if !slices.Equal(got, names) {
		s.t.Errorf("files %v, want %v", got, names)
	}
}

var (
	hfFiles       = []string{"README.md", "config.json", "generation_config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"}
	originalFiles = []string{"original/config.json", "original/dtypes.json", "original/model.safetensors"}
)

func TestPull(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(s *server, q *Request)
		want []string
	}{
		{"Hugging Face layout", func(*server, *Request) {}, hfFiles},
		{"original layout", func(_ *server, q *Request) { q.Layout = Original }, originalFiles},
		{"by commit", func(_ *server, q *Request) { q.Revision = commit }, hfFiles},
		{"pages of the list", func(s *server, _ *Request) { s.Page = 3 }, hfFiles},
		{"with a token", func(s *server, q *Request) { s.Token, q.Token = "secret", "secret" }, hfFiles},
		{"one range at a time", func(_ *server, q *Request) { q.Parallel = 1 }, hfFiles},
		{"many ranges", func(_ *server, q *Request) { q.Parallel, q.rangeBytes = 16, 999 }, hfFiles},
		{"a server without ranges", func(s *server, _ *Request) { s.NoRanges = true }, hfFiles},
		{"an endpoint with a slash", func(_ *server, q *Request) { q.Endpoint += "/" }, hfFiles},
		{"busy now and then", func(s *server, _ *Request) {
			var n atomic.Int64
			s.Before = func(w http.ResponseWriter, r *http.Request) bool {
				if n.Add(1)%3 != 1 {
					return false
				}
				w.Header().Set("Retry-After", "0")
				w.WriteHeader([]int{429, 503, 500}[n.Load()%3])
				return true
			}
		}, hfFiles},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t)
			dir := filepath.Join(t.TempDir(), "new", "folder")
			q := s.request(dir)
			c.edit(s, &q)
			var last, total int64
			var mu sync.Mutex
			q.Progress = func(done, all int64) { mu.Lock(); last, total = done, all; mu.Unlock() }
			r, err := Run(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			s.has(dir, c.want...)
			if r.Commit != commit || len(r.Files) != len(c.want) || last != total || total != r.Bytes {
				t.Errorf("%+v, progress %d of %d", r, last, total)
			}
			// Again: hashes are read, nothing comes.
			r, err = Run(t.Context(), q)
			if err != nil || r.Fetched != 0 {
				t.Errorf("again: %+v, %v", r, err)
			}
		})
	}
}

// Connections that are cut again and again delay a file, no more. -large sets
// its size.
func TestCutOften(t *testing.T) {
	s := newServer(t)
	large := "model-00001-of-00002.safetensors"
	s.Files[large] = hubtest.Random(int(*largeBytes))
	var cuts atomic.Int64
	s.Content = func(w http.ResponseWriter, r *http.Request, data []byte) bool {
		from, to := int64(0), int64(0)
		if fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); to-from < 100_000 || cuts.Load() >= 20 {
			return false
		}
		cuts.Add(1)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(data)))
		w.Header().Set("Content-Length", strconv.FormatInt(to-from+1, 10))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(data[from : from+(to-from)/3])
		panic(http.ErrAbortHandler)
	}
	s.Hub.Config.ErrorLog, s.CDN.Config.ErrorLog = nil, nil
	dir := t.TempDir()
	q := s.request(dir)
	q.rangeBytes = max(64<<10, *largeBytes/50)
	if _, err := Run(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	s.has(dir, hfFiles...)
	if cuts.Load() != 20 {
		t.Errorf("%d cuts, want 20", cuts.Load())
	}
}

// A run that is ended goes on where it was.
func TestGoesOn(t *testing.T) {
	s := newServer(t)
	s.Files["model-00002-of-00002.safetensors"] = hubtest.Random(900_000)
	dir := t.TempDir()
	fetched := int64(0)
	for try := 0; ; try++ {
		if try == 40 {
			t.Fatal("no end after 40 runs")
		}
		ctx, cancel := context.WithCancel(t.Context())
		q := s.request(dir)
		var mu sync.Mutex
		var here, last int64 = 0, -1
		q.Progress = func(done, _ int64) {
			mu.Lock()
			defer mu.Unlock()
			if last >= 0 && done > last {
				here += done - last
			}
			if last = done; here > 150_000 {
				cancel()
			}
		}
		r, err := Run(ctx, q)
		cancel()
		fetched += here
		if err == nil {
			s.has(dir, hfFiles...)
			if try < 3 || fetched > 2*r.Bytes {
				t.Errorf("%d runs fetched %d bytes of %d", try, fetched, r.Bytes)
			}
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "model-00002-of-00002.safetensors")); err == nil && here <= 150_000 {
			t.Fatal("the file has its name too early")
		}
	}
}

func TestRefuses(t *testing.T) {
	wrong := func(s *server) { s.OIDs["model-00001-of-00002.safetensors"] = strings.Repeat("ab", 32) }
	for _, c := range []struct {
		name string
		edit func(s *server, q *Request)
		want string
		left []string // files that are there after it
	}{
		{"wrong bytes", func(s *server, _ *Request) { wrong(s) }, "does not have the hash that the hub states, sha256:abab", []string{"README.md", "config.json", "generation_config.json", "model-00002-of-00002.safetensors", "model.safetensors.index.json"}},
		{"wrong bytes of a small file", func(s *server, _ *Request) {
			s.Content = func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				if r.URL.Path != "/config.json" {
					return false
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader([]byte(`{"a": 2}`)))
				return true
			}
		}, "does not have the hash", []string{"generation_config.json", "model.safetensors.index.json", "README.md"}},
		{"no token", func(s *server, q *Request) { s.Token, q.Token = "secret", "" }, "401 Unauthorized: it may be private, gated or misspelt", nil},
		{"a wrong token", func(s *server, q *Request) { s.Token, q.Token = "secret", "other" }, "the token is not one of an account", nil},
		{"gated", func(s *server, _ *Request) {
			s.Before = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/resolve/") {
					w.WriteHeader(403)
					return true
				}
				return false
			}
		}, "403 Forbidden", nil},
		{"no such revision", func(_ *server, q *Request) { q.Revision = "v9" }, `no revision "v9"`, nil},
		{"no such repository", func(_ *server, q *Request) { q.Repo = "openai/other" }, "openai/other: the hub has no such repository", nil},
		{"busy for ever", func(s *server, _ *Request) {
			s.Before = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(429); return true }
		}, "429 Too Many Requests", nil},
		{"offline", func(s *server, _ *Request) { s.Hub.Close() }, "cannot be reached", nil},
		{"no hub", func(s *server, _ *Request) {
			s.Before = func(w http.ResponseWriter, _ *http.Request) bool { io.WriteString(w, "<html>"); return true }
		}, "answers what is no list of files", nil},
		{"a list without end", func(s *server, _ *Request) {
			s.Before = func(w http.ResponseWriter, _ *http.Request) bool {
				io.WriteString(w, `{"sha": "`)
				for range 20 {
					w.Write(bytes.Repeat([]byte("a"), 1<<20))
				}
				return true
			}
		}, "a list of more than", nil},
		{"a list that goes on elsewhere", func(s *server, _ *Request) {
			s.Before = func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Link", `<http://example.invalid/x>; rel="next"`)
				return false
			}
		}, "want an address of its own", nil},
		{"pages without end", func(s *server, _ *Request) {
			s.Before = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/tree/") {
					w.Header().Set("Link", fmt.Sprintf(`<%s%s>; rel="next"`, s.Hub.URL, r.URL.Path))
					io.WriteString(w, "[]")
					return true
				}
				return false
			}
		}, "more than 100 pages", nil},
		{"a commit that is none", func(s *server, _ *Request) {
			s.Before = func(w http.ResponseWriter, r *http.Request) bool {
				io.WriteString(w, `{"sha": "../../x"}`)
				return true
			}
		}, "want 40 hex digits", nil},
		{"a negative size", func(s *server, _ *Request) {
			s.Before = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/tree/") {
					io.WriteString(w, `[{"type": "file", "path": "config.json", "size": -1}]`)
					return true
				}
				return false
			}
		}, "with -1 bytes", nil},
		{"no weights", func(s *server, _ *Request) {
			s.Files = map[string][]byte{"config.json": []byte("{}")}
		}, "want config.json and *.safetensors of the Hugging Face layout", nil},
		{"a wrong range", func(s *server, _ *Request) {
			s.Content = func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 1-%d/%d", len(data), len(data)+1))
				w.WriteHeader(206)
				w.Write(data)
				return true
			}
		}, "the hub sends \"bytes 1-", nil},
		{"redirects without end", func(s *server, _ *Request) {
			s.Before = func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, r.URL.String(), http.StatusFound)
				return true
			}
		}, "stopped after 10 redirects", nil},
		{"no space", func(_ *server, q *Request) {
			q.Room = func(_ string, n int64) error { return fmt.Errorf("no room for %d bytes", n) }
		}, "pull: no room for 170", nil},
		{"another file in the way", func(_ *server, q *Request) { os.WriteFile(filepath.Join(q.Dir, "config.json"), []byte("mine"), 0o666) }, "want a folder without it", []string{"config.json"}},
		{"another file of the same size", func(_ *server, q *Request) { os.WriteFile(filepath.Join(q.Dir, "README.md"), []byte("other"), 0o666) }, "its bytes are not the hub's", []string{"README.md"}},
		{"a link in the way", func(_ *server, q *Request) { os.Symlink("/dev/null", filepath.Join(q.Dir, "config.json")) }, "no regular file", []string{"config.json"}},
		{"a bad endpoint", func(_ *server, q *Request) { q.Endpoint = "ftp://x" }, "want an address such as https://host", nil},
		{"a bad repository", func(_ *server, q *Request) { q.Repo = "../x" }, "want owner/name", nil},
		{"too many at a time", func(_ *server, q *Request) { q.Parallel = 1000 }, "1000 ranges at a time", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t)
			dir := t.TempDir()
			q := s.request(dir)
			c.edit(s, &q)
			r, err := Run(t.Context(), q)
			if err == nil || !strings.Contains(err.Error(), c.want) || r != nil {
				t.Fatalf("%v, %v, want %s", r, err, c.want)
			}
			list, _ := os.ReadDir(dir)
			var named []string
			for _, e := range list {
				if !strings.HasPrefix(e.Name(), ".") {
					named = append(named, e.Name())
				}
			}
			slices.Sort(c.left)
			slices.Sort(named)
			if !slices.Equal(named, c.left) {
				t.Errorf("left: %v, want %v", named, c.left)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Error("the token is in the message")
			}
		})
	}
}

// A state file that someone spoilt is no state.
func TestSpoiltState(t *testing.T) {
	for _, state := range []string{"", "{", `{"have":"1"}`, "null", strings.Repeat("[", 1000)} {
		s := newServer(t)
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, ".config.json.ossify-state"), []byte(state), 0o666)
		os.WriteFile(filepath.Join(dir, ".config.json.ossify-part"), []byte("rubbish!"), 0o666)
		if _, err := Run(t.Context(), s.request(dir)); err != nil {
			t.Errorf("%q: %v", state, err)
		}
		s.has(dir, hfFiles...)
	}
}
