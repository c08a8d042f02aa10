// Package page is the page at the server's root: a conversation with the model,
// and what verify said of it.
//
// It is a few files of its own, asks for nothing of anybody else, and is told by
// its headers that it may not.
package page

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

//go:embed index.html app.js style.css icon.svg
var files embed.FS

// About is what the page says of the server. Whoever reaches the server reads
// it, with a key or without.
type About struct {
	Models       []string     `json:"models"`    // names of the model in requests, at least one
	Precision    string       `json:"precision"` // that it computes in
	Context      int          `json:"context"`   // tokens of prompt and answer
	KeyNeeded    bool         `json:"key_needed"`
	Tools        []Tool       `json:"tools"` // that the server runs
	Verification Verification `json:"verification"`
}

// A Tool is one that a request may ask for by its type.
type Tool struct {
	Type  string `json:"type"`
	Title string `json:"title"`
}

// A Verification is what verify said of the checkpoint.
type Verification struct {
	Verdict  string      `json:"verdict,omitempty"` // pass or fail; "" if nobody said
	Made     *time.Time  `json:"made,omitempty"`
	Facts    [][2]string `json:"facts,omitempty"`    // names and texts
	Cautions []string    `json:"cautions,omitempty"` // where the report is of something else than what is served
	Command  string      `json:"command,omitempty"`  // that verifies, where nobody did
}

// policy lets the page load its own files and ask its own server, nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// New returns a handler of / and of the paths below /page/. It answers GET and
// HEAD; what is not there gets an error of status 404.
func New(about About) (http.Handler, error) {
	switch v := about.Verification; {
	case len(about.Models) == 0:
		return nil, errors.New("page: no model")
	case v.Verdict != "" && v.Verdict != "pass" && v.Verdict != "fail":
		return nil, fmt.Errorf("page: verdict %q, want pass, fail or none", v.Verdict)
	}
	if about.Tools == nil {
		about.Tools = []Tool{}
	}
	said, err := json.Marshal(about)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	serve := func(path, name, media string, data []byte) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Type", media)
			h.Set("Content-Security-Policy", policy)
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("X-Frame-Options", "DENY")
			h.Set("Referrer-Policy", "no-referrer")
			h.Set("Cross-Origin-Opener-Policy", "same-origin")
			h.Set("Cross-Origin-Resource-Policy", "same-origin")
			h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
			h.Set("Cache-Control", "no-cache") // the next version's page asks the next version's server
			http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(data))
		})
	}
	for _, f := range []struct{ path, name, media string }{
		{"/{$}", "index.html", "text/html; charset=utf-8"},
		{"/page/app.js", "app.js", "text/javascript; charset=utf-8"},
		{"/page/style.css", "style.css", "text/css; charset=utf-8"},
		{"/page/icon.svg", "icon.svg", "image/svg+xml"},
	} {
		data, err := files.ReadFile(f.name)
		if err != nil {
			return nil, err
		}
		serve(f.path, f.name, f.media, data)
	}
	serve("/page/about.json", "about.json", "application/json", said)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		w.Write([]byte(`{"error":{"message":"There is nothing at this path.","type":"invalid_request_error","param":null,"code":"not_found"}}`))
	})
	return mux, nil
}
