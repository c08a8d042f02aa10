// Package hubtest is a model hub for tests.
package hubtest

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The repository that a [Server] has, and its only commit.
const (
	Repo   = "openai/gpt-oss-20b"
	Commit = "0123456789abcdef0123456789abcdef01234567"
)

// A Server behaves like the hub: an API, and files that are on another host behind
// a redirect.
type Server struct {
	Hub, CDN *httptest.Server
	Files    map[string][]byte // by path; New makes some
	OIDs     map[string]string // stated instead of the right ones
	Token    string            // asked for, if not ""
	Page     int               // files of a page of the list; 0 is all
	NoRanges bool              // Range is not understood
	Requests atomic.Int64      // of both hosts

	// Before and Content may answer instead: on the hub's host, and on that of
	// the files, whose data is given.
	Before  func(w http.ResponseWriter, r *http.Request) (handled bool)
	Content func(w http.ResponseWriter, r *http.Request, data []byte) (handled bool)

	t testing.TB
}

// New starts a server of one repository until the test ends.
func New(t testing.TB) *Server {
	s := &Server{t: t, OIDs: map[string]string{}, Files: map[string][]byte{
		"config.json":                              []byte(`{"a": 1}`),
		"generation_config.json":                   []byte(`{}`),
		"model-00001-of-00002.safetensors":         Random(100_000),
		"model-00002-of-00002.safetensors":         Random(70_001),
		"model.safetensors.index.json":             []byte(`{}`),
		"original/config.json":                     []byte(`{"b": 2}`),
		"original/dtypes.json":                     nil,
		"original/model.safetensors":               Random(130_000),
		"metal/model.bin":                          Random(9000),
		"README.md":                                []byte("words"),
		"pytorch_model.bin":                        Random(9000),
		"original/../../../etc/passwd.safetensors": []byte("bad"),
		"evil\\x.safetensors":                      []byte("bad"),
		".hidden.safetensors":                      []byte("bad"),
	}}
	s.Hub = httptest.NewServer(http.HandlerFunc(s.serveHub))
	s.CDN = httptest.NewServer(http.HandlerFunc(s.serveContent))
	// Another name of the same machine, so that the token must not follow.
	s.CDN.URL = strings.Replace(s.CDN.URL, "127.0.0.1", "localhost", 1)
	t.Cleanup(s.Hub.Close)
	t.Cleanup(s.CDN.Close)
	return s
}

// Random returns n bytes, the same each time.
func Random(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func (s *Server) serveHub(w http.ResponseWriter, r *http.Request) {
	s.Requests.Add(1)
	if s.Before != nil && s.Before(w, r) {
		return
	}
	if s.Token != "" && r.Header.Get("Authorization") != "Bearer "+s.Token {
		http.Error(w, "who are you", http.StatusUnauthorized)
		return
	}
	api := "/api/models/" + Repo
	switch {
	case r.URL.Path == api+"/revision/main" || r.URL.Path == api+"/revision/"+Commit:
		json.NewEncoder(w).Encode(map[string]any{"sha": Commit, "private": false})
	case r.URL.Path == api+"/tree/"+Commit:
		list := []map[string]any{{"type": "directory", "path": "original", "size": 0, "oid": "00"}}
		names := make([]string, 0, len(s.Files))
		for name := range s.Files {
			names = append(names, name)
		}
		slices.Sort(names)
		at, _ := strconv.Atoi(r.URL.Query().Get("at"))
		end := len(names)
		if s.Page > 0 && at+s.Page < end {
			end = at + s.Page
			w.Header().Set("Link", fmt.Sprintf(`<%s%s?recursive=true&at=%d>; rel="next"`, s.Hub.URL, r.URL.Path, end))
		}
		for _, name := range names[at:end] {
			data := s.Files[name]
			f := map[string]any{"type": "file", "path": name, "size": len(data), "oid": blob(data)}
			if strings.HasSuffix(name, ".safetensors") {
				sum := sha256.Sum256(data)
				oid := hex.EncodeToString(sum[:])
				if o := s.OIDs[name]; o != "" {
					oid = o
				}
				f["lfs"] = map[string]any{"oid": oid, "size": len(data)}
			}
			list = append(list, f)
		}
		json.NewEncoder(w).Encode(list)
	case strings.HasPrefix(r.URL.Path, "/"+Repo+"/resolve/"+Commit+"/"):
		http.Redirect(w, r, s.CDN.URL+"/"+strings.TrimPrefix(r.URL.Path, "/"+Repo+"/resolve/"+Commit+"/"), http.StatusFound)
	default:
		http.NotFound(w, r)
	}
}

func (s *Server) serveContent(w http.ResponseWriter, r *http.Request) {
	s.Requests.Add(1)
	if r.Header.Get("Authorization") != "" {
		s.t.Error("the token was sent to another host")
	}
	data, ok := s.Files[r.URL.Path[1:]]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if s.Content != nil && s.Content(w, r, data) {
		return
	}
	if s.NoRanges {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func blob(data []byte) string {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(data))
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}
