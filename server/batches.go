package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"ossify/batch/store"
	"ossify/openai"
)

// Batches say where files and batches are kept.
type Batches struct {
	Dir    string
	Active int   // requests of batches under way at once; 0 is 8
	File   int64 // bytes of a file; 0 is 200 MiB
	Bytes  int64 // of all files that were uploaded; 0 is 10 GiB
	Files  int   // that were uploaded; 0 is 10,000
}

// batchURLs are what requests of batches may ask.
func batchURLs() []string {
	return []string{openai.PathChat, openai.PathResponses, openai.PathCompletions}
}

// openBatches opens the folder of files and batches.
func (s *Server) openBatches(b Batches) error {
	if b.File == 0 {
		b.File = 200 << 20
	}
	s.o.Batches = &b
	var err error
	s.batches, err = store.Open(store.Options{
		Dir: b.Dir, URLs: batchURLs(), Active: b.Active, File: b.File, Bytes: b.Bytes, Files: b.Files, Line: int(s.o.Body),
		Answer: s.answerBatch,
		Failed: func(id string, err error) { s.log.Error("batch", "batch", id, "error", err) },
	})
	return err
}

// answerBatch answers a request of an owner's batch, which can wait: where there is no
// room it asks again.
func (s *Server) answerBatch(ctx context.Context, owner, url string, body []byte) (int, []byte) {
	for {
		status, answer := s.svc.Do(ctx, url, body, openai.Client{Turn: "batch", Owner: owner})
		if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
			return status, answer
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return status, answer
		}
	}
}

// batchRoutes adds the paths of files and batches.
func (s *Server) batchRoutes(handle func(pattern string, m methods)) {
	if s.batches == nil {
		off := func(http.ResponseWriter, *http.Request) error {
			return openai.NotFound("Files and batches are not kept here: the server was started without a folder for them.")
		}
		for _, p := range []string{"/v1/files", "/v1/files/{id}", "/v1/files/{id}/content", "/v1/batches", "/v1/batches/{id}", "/v1/batches/{id}/cancel"} {
			handle(p, methods{"GET": off, "POST": off, "DELETE": off})
		}
		return
	}
	handle("/v1/files", methods{"POST": s.upload, "GET": func(w http.ResponseWriter, r *http.Request) error {
		q := r.URL.Query()
		return list(w, r, 10_000, s.batches.Files(s.client(r).Owner, q.Get("purpose")), func(f store.File) string { return f.ID })
	}})
	handle("/v1/files/{id}", methods{
		"GET": func(w http.ResponseWriter, r *http.Request) error {
			f, err := s.batches.File(s.client(r).Owner, r.PathValue("id"))
			return told(w, f, err)
		},
		"DELETE": func(w http.ResponseWriter, r *http.Request) error {
			err := s.batches.Delete(s.client(r).Owner, r.PathValue("id"))
			return told(w, map[string]any{"id": r.PathValue("id"), "object": "file", "deleted": true}, err)
		},
	})
	handle("/v1/files/{id}/content", methods{"GET": s.content})
	handle("/v1/batches", methods{"POST": s.createBatch, "GET": func(w http.ResponseWriter, r *http.Request) error {
		return list(w, r, 100, s.batches.Batches(s.client(r).Owner), func(b store.Batch) string { return b.ID })
	}})
	handle("/v1/batches/{id}", methods{"GET": func(w http.ResponseWriter, r *http.Request) error {
		b, err := s.batches.Batch(s.client(r).Owner, r.PathValue("id"))
		return told(w, b, err)
	}})
	handle("/v1/batches/{id}/cancel", methods{"POST": func(w http.ResponseWriter, r *http.Request) error {
		b, err := s.batches.Cancel(s.client(r).Owner, r.PathValue("id"))
		return told(w, b, err)
	}})
}

// told answers with a value, or with what an error of the store means.
func told(w http.ResponseWriter, v any, err error) error {
	if err != nil {
		return storeError(err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, text)
}

func storeError(err error) error {
	conflict := func(code, message string) error {
		return &openai.Error{Status: http.StatusConflict, Type: "invalid_request_error", Code: code, Message: message, Cause: err}
	}
	var known *openai.Error
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, store.ErrNone):
		return openai.NotFound("There is no file or batch of this id.")
	case errors.Is(err, store.ErrLarge):
		return &openai.Error{Status: http.StatusRequestEntityTooLarge, Type: "invalid_request_error", Code: "file_too_large", Param: "file", Message: "The file is too large."}
	case errors.Is(err, store.ErrFull):
		return &openai.Error{Status: http.StatusInsufficientStorage, Type: "server_error", Code: "storage_full", Message: "The files together are too large, or too many: delete some."}
	case errors.Is(err, store.ErrInUse):
		return conflict("file_in_use", "A batch reads the file.")
	case errors.Is(err, store.ErrEnded):
		return conflict("batch_ended", "The batch has ended, or is about to.")
	case errors.Is(err, store.ErrMany):
		return conflict("too_many_batches", "Too many batches are kept.")
	}
	return &openai.Error{Status: http.StatusInternalServerError, Type: "server_error", Code: "internal_error", Message: "The request could not be computed.", Cause: err}
}

// list answers with a page of a list: limit of them, after one. The newest come
// first unless order is asc.
func list[T any](w http.ResponseWriter, r *http.Request, most int, all []T, id func(T) string) error {
	q := r.URL.Query()
	limit := min(most, 20)
	if most > 100 {
		limit = most
	}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > most {
			return openai.Invalid("limit", "This is no number from 1 to %d.", most)
		}
		limit = n
	}
	switch q.Get("order") {
	case "", "desc":
	case "asc":
		slices.Reverse(all)
	default:
		return openai.Invalid("order", "This is neither asc nor desc.")
	}
	if after := q.Get("after"); after != "" {
		i := slices.IndexFunc(all, func(v T) bool { return id(v) == after })
		if i < 0 {
			return openai.Invalid("after", "There is none of this id.")
		}
		all = all[i+1:]
	}
	page := all[:min(limit, len(all))]
	out := struct {
		Object string  `json:"object"`
		Data   []T     `json:"data"`
		First  *string `json:"first_id"`
		Last   *string `json:"last_id"`
		More   bool    `json:"has_more"`
	}{Object: "list", Data: append([]T{}, page...), More: len(page) < len(all)}
	if len(page) > 0 {
		first, last := id(page[0]), id(page[len(page)-1])
		out.First, out.Last = &first, &last
	}
	return told(w, out, nil)
}

// patient is a body that may take long, as long as it comes.
type patient struct {
	io.Reader
	c    *http.ResponseController
	most time.Duration
}

func (p patient) Read(b []byte) (int, error) {
	p.c.SetReadDeadline(time.Now().Add(p.most))
	return p.Reader.Read(b)
}

// upload keeps a file: multipart/form-data with file and purpose, in any order.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) error {
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "multipart/form-data" || params["boundary"] == "" {
		return &openai.Error{Status: http.StatusUnsupportedMediaType, Type: "invalid_request_error", Code: "unsupported_media_type", Message: "The body is not of the type multipart/form-data."}
	}
	body := http.MaxBytesReader(w, r.Body, s.o.Batches.File+1<<20)
	form := multipart.NewReader(patient{body, http.NewResponseController(w), s.o.Read}, params["boundary"])
	var purpose *string
	rest := func() (*multipart.Part, error) {
		for {
			p, err := form.NextPart()
			if err == io.EOF {
				return nil, err
			}
			if err != nil {
				return nil, formError{err}
			}
			switch p.FormName() {
			case "file":
				return p, nil
			case "purpose":
				text, err := io.ReadAll(io.LimitReader(p, 100))
				if err != nil {
					return nil, formError{err}
				}
				if purpose != nil {
					return nil, openai.Invalid("purpose", "This is there twice.")
				}
				said := string(text)
				purpose = &said
			default:
				return nil, openai.Invalid(openaiParam(p.FormName()), "This is not supported: want file and purpose.")
			}
		}
	}
	ok := func() error {
		switch {
		case purpose == nil:
			return openai.Invalid("purpose", "There is no purpose, want batch.")
		case *purpose != "batch":
			return openai.Invalid("purpose", "Files are kept for batches alone, want batch.")
		}
		return nil
	}
	part, err := rest()
	switch {
	case errors.Is(err, io.EOF):
		return openai.Invalid("file", "There is no file.")
	case err != nil:
		return uploadError(w, s, err)
	}
	if purpose != nil {
		if err := ok(); err != nil {
			return err
		}
	}
	name := part.FileName()
	if name == "" || len(name) > 255 || !utf8.ValidString(name) || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return openai.Invalid("file", "The file has no name of 1 to 255 bytes.")
	}
	f, err := s.batches.Upload(r.Context(), s.client(r).Owner, name, formPart{part}, func() error {
		switch _, err := rest(); {
		case err == nil:
			return openai.Invalid("file", "There are two files.")
		case !errors.Is(err, io.EOF):
			return err
		}
		return ok()
	})
	if err != nil {
		return uploadError(w, s, err)
	}
	return told(w, f, nil)
}

// A formError is one of reading a form, not of keeping it.
type formError struct{ error }

func (e formError) Unwrap() error { return e.error }

type formPart struct{ io.Reader }

func (p formPart) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if err != nil && err != io.EOF {
		err = formError{err}
	}
	return n, err
}

// openaiParam is what a client wrote as it may stand in an answer.
func openaiParam(name string) string {
	if !utf8.ValidString(name) || len(name) > 100 {
		return ""
	}
	return name
}

// uploadError is what an upload that failed gets.
func uploadError(w http.ResponseWriter, s *Server, err error) error {
	var beyond *http.MaxBytesError
	var slow net.Error
	var known *openai.Error
	var form formError
	switch {
	case errors.As(err, &known), errors.Is(err, store.ErrFull):
	case errors.As(err, &beyond), errors.Is(err, store.ErrLarge):
		w.Header().Set("Connection", "close")
		err = store.ErrLarge
	case errors.As(err, &slow) && slow.Timeout():
		w.Header().Set("Connection", "close")
		return &openai.Error{Status: http.StatusRequestTimeout, Type: "invalid_request_error", Code: "timeout", Message: fmt.Sprintf("Nothing came for %v.", s.o.Read)}
	case errors.As(err, &form):
		return openai.Invalid("", "The form ends early, or is none.")
	}
	return storeError(err)
}

// content answers with what is in a file.
func (s *Server) content(w http.ResponseWriter, r *http.Request) error {
	f, about, err := s.batches.Content(s.client(r).Owner, r.PathValue("id"))
	if err != nil {
		return storeError(err)
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(about.Bytes, 10))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return gone(err)
			}
		}
		if err != nil {
			return nil // its end; an earlier one is seen by the length
		}
	}
}

// createBatch begins a batch.
func (s *Server) createBatch(w http.ResponseWriter, r *http.Request) error {
	body, release, err := s.body(w, r)
	if err != nil {
		return err
	}
	defer release()
	q, e := openai.ParseBatch(body, batchURLs())
	if e != nil {
		return e
	}
	b, err := s.batches.Create(s.client(r).Owner, q.Input, q.Endpoint, q.Metadata)
	if errors.Is(err, store.ErrNone) {
		e := openai.NotFound("There is no file of this id for batches.")
		e.Param = "input_file_id"
		return e
	}
	return told(w, b, err)
}
