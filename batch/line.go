package batch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"ossify/internal/quote"
)

// A Request is one line of the input.
type Request struct {
	ID   string          // custom_id
	id   json.RawMessage // as it was written
	URL  string
	Body []byte // as it was written
}

// A LineError is why a line is no request.
type LineError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Param   string `json:"param,omitempty"`
	Line    int    `json:"line,omitempty"` // of the input file, from 1
	File    string `json:"file,omitempty"` // if there are several

	id json.RawMessage // of custom_id, if that much was read
}

func (e *LineError) Error() string { return fmt.Sprintf("batch: line %d: %s", e.Line, e.Message) }

// Codes of LineErrors.
const (
	CodeJSON      = "invalid_json_line"
	CodeLong      = "line_too_long"
	CodeMissing   = "missing_required_parameter"
	CodeValue     = "invalid_value"
	CodeUnknown   = "unknown_parameter"
	CodeURL       = "invalid_url"
	CodeDuplicate = "duplicate_custom_id"
	CodeExpired   = "batch_expired"
	CodeCancelled = "batch_cancelled"
)

// mostID is how many bytes a custom_id may have.
const mostID = 512

// parse proves a line, of which urls are those that may be asked.
func parse(line []byte, urls []string) (*Request, *LineError) {
	fail := func(code, param, format string, args ...any) *LineError {
		return &LineError{Code: code, Param: param, Message: fmt.Sprintf(format, args...)}
	}
	if !utf8.Valid(line) {
		return nil, fail(CodeJSON, "", "The line is not UTF-8.")
	}
	members, err := object(line)
	if err != nil {
		return nil, fail(CodeJSON, "", "The line is not a JSON object: %s.", quote.Plain(err.Error()))
	}
	r := &Request{}
	var wrong *LineError
	text := func(name string, most int) (s string) {
		raw, ok := members[name]
		switch {
		case wrong != nil:
		case !ok || string(raw) == "null":
			wrong = fail(CodeMissing, name, "There is no %s, want a string.", name)
		case json.Unmarshal(raw, &s) != nil:
			wrong = fail(CodeValue, name, "%s is no string.", name)
		case s == "" || len(s) > most:
			wrong = fail(CodeValue, name, "%s has %d bytes, want 1 to %d.", name, len(s), most)
		}
		return s
	}
	r.ID = text("custom_id", mostID)
	if wrong != nil {
		return nil, wrong
	}
	r.id = members["custom_id"]
	method := text("method", 16)
	r.URL = text("url", 256)
	body, ok := members["body"]
	switch {
	case wrong != nil:
	case method != "POST":
		wrong = fail(CodeValue, "method", "The method is %s, want POST.", quote.Name(method))
	case !has(urls, r.URL):
		wrong = fail(CodeURL, "url", "The url is %s, want %s.", quote.Name(r.URL), strings.Join(urls, " or "))
	case !ok || string(body) == "null":
		wrong = fail(CodeMissing, "body", "There is no body, want an object.")
	case body[0] != '{':
		wrong = fail(CodeValue, "body", "The body is no object.")
	}
	for name := range members {
		switch name {
		case "custom_id", "method", "url", "body":
		default:
			if wrong == nil {
				wrong = fail(CodeUnknown, "", "Unknown member: %s.", quote.Name(name))
			}
		}
	}
	if wrong != nil {
		wrong.id = r.id
		return nil, wrong
	}
	r.Body = body
	return r, nil
}

func has(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// object reads a JSON object whose keys do not repeat, and nothing after it.
func object(text []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	t, err := d.Token()
	if err != nil {
		return nil, early(err)
	}
	if t != json.Delim('{') {
		return nil, fmt.Errorf("it is of another type")
	}
	members := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, early(err)
		}
		name := t.(string)
		if _, ok := members[name]; ok {
			return nil, fmt.Errorf("%s is there twice", quote.Name(name))
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, early(err)
		}
		members[name] = v
	}
	if _, err := d.Token(); err != nil {
		return nil, early(err)
	}
	if rest := bytes.TrimSpace(text[d.InputOffset():]); len(rest) > 0 {
		return nil, fmt.Errorf("something follows it")
	}
	return members, nil
}

func early(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("it ends early")
	}
	return err
}
