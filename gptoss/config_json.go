package gptoss

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// fields reads the keys of one JSON object. Mistakes collect in errs.
type fields struct {
	place string // what stands before the key in a message
	raw   map[string]json.RawMessage
	used  map[string]bool
	errs  []error

	decoded bool // experts may be bfloat16
}

// parseFields splits an object into its fields; no key may repeat.
func parseFields(data []byte, place string) (*fields, error) {
	f := &fields{place: place, raw: map[string]json.RawMessage{}, used: map[string]bool{}}
	if !utf8.Valid(data) {
		return nil, errors.New("not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil {
		return nil, jsonError(err)
	} else if t != json.Delim('{') {
		return nil, errors.New("want an object")
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, jsonError(err)
		}
		key := t.(string) // the decoder accepts nothing else here
		if _, ok := f.raw[key]; ok {
			return nil, fmt.Errorf("%s appears twice", show(key))
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, jsonError(err)
		}
		f.raw[key] = v
	}
	if _, err := dec.Token(); err != nil {
		return nil, jsonError(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("data after its closing brace")
	}
	return f, nil
}

func jsonError(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("JSON ends before its closing brace")
	}
	return fmt.Errorf("JSON: %w", err)
}

// show returns text of a file as it may stand in a message: quoted, cut.
func show(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return strconv.Quote(s)
}

// showJSON returns a valid JSON value on one line, cut.
func showJSON(raw json.RawMessage) string {
	var b bytes.Buffer
	json.Compact(&b, raw)
	s := strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, b.String())
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return s
}

func (f *fields) errorf(format string, args ...any) {
	f.errs = append(f.errs, fmt.Errorf(format, args...))
}

// has reports whether the key is there with a value other than null.
func (f *fields) has(key string) bool {
	return f.raw[key] != nil && string(f.raw[key]) != "null"
}

// value decodes a key that is there into v; want says what it must be. A key
// that is not there leaves v as it is; null is a value.
func value[T any](f *fields, key, want string, v *T) {
	f.used[key] = true
	raw, ok := f.raw[key]
	if !ok {
		return
	}
	var got T
	if err := json.Unmarshal(raw, &got); err != nil || string(raw) == "null" {
		f.errorf("%s%s is %s, want %s", f.place, key, showJSON(raw), want)
		return
	}
	*v = got
}

func (f *fields) int(key string, v *int)        { value(f, key, "a whole number", v) }
func (f *fields) number(key string, v *float64) { value(f, key, "a number", v) }
func (f *fields) bool(key string, want, missing bool, why string) {
	got := missing
	value(f, key, strconv.FormatBool(want), &got)
	if got != want {
		f.errorf("%s%s is %v, want %v: %s", f.place, key, got, want, why)
	}
}

// text checks that a string is want.
func (f *fields) text(key, want, missing string) {
	got := missing
	value(f, key, show(want), &got)
	if got != want {
		f.errorf("%s%s is %s, want %s", f.place, key, show(got), show(want))
	}
}

// rest refuses every key that was not used: what it means is not known.
func (f *fields) rest() {
	var unknown []string
	for key := range f.raw {
		if !f.used[key] {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	for _, key := range unknown {
		f.errorf("%s%s is not a key that is understood here", f.place, show(key))
	}
}
