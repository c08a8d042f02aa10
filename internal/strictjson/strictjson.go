// Package strictjson reads JSON from strangers in one pass and in memory of a
// small factor: what a caller does not expect is an error, a key that repeats
// too. (encoding/json keeps the last of two equal keys, and its tokens take a
// microsecond each.) Errors say what was found and what was wanted; the caller
// adds the file.
package strictjson

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"ossify/internal/quote"
)

// A Reader stands before the next value of its text.
type Reader struct {
	data  []byte
	at    int
	known map[string]string
	ints  []int // from which slices are cut
}

// New reads data, which must be valid UTF-8. Strings among known are not
// allocated anew.
func New(data []byte, known ...string) *Reader {
	r := &Reader{data: data, known: make(map[string]string, len(known))}
	for _, k := range known {
		r.known[k] = k
	}
	return r
}

// Offset returns how many bytes are read.
func (r *Reader) Offset() int { return r.at }

// peek skips white space and returns the next byte, 0 at the end.
func (r *Reader) peek() byte {
	for r.at < len(r.data) {
		switch c := r.data[r.at]; c {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return c
		}
	}
	return 0
}

// wanted is the error of a next value that is not what it must be.
func (r *Reader) wanted(want string) error {
	c := r.peek()
	rest := r.data[r.at:]
	switch {
	case len(rest) == 0:
		return fmt.Errorf("JSON ends at byte %d, want its closing brace", r.at)
	case c == '"':
		at := r.at
		s, err := r.String()
		r.at = at
		if err != nil {
			return err
		}
		return fmt.Errorf("%s, want %s", quote.Value(s), want)
	}
	for _, word := range []string{"true", "false", "null"} {
		if strings.HasPrefix(string(rest[:min(len(rest), 5)]), word) {
			return fmt.Errorf("%s, want %s", word, want)
		}
	}
	if n := number(rest); n > 0 {
		return fmt.Errorf("%s, want %s", quote.Start(string(rest[:n])), want)
	}
	if strings.IndexByte("{}[]:,", c) >= 0 {
		return fmt.Errorf("%c at byte %d, want %s", c, r.at, want)
	}
	_, n := utf8.DecodeRune(rest)
	return fmt.Errorf("no JSON at byte %d: %s", r.at, quote.Value(string(rest[:n])))
}

// number returns how many bytes belong to a number.
func number(text []byte) int {
	n := 0
	for n < len(text) && strings.IndexByte("+-.0123456789eE", text[n]) >= 0 {
		n++
	}
	return n
}

// next reads one byte of punctuation.
func (r *Reader) next(c byte) error {
	if r.peek() != c {
		return r.wanted(string(rune(c)))
	}
	r.at++
	return nil
}

// Object reads an object and calls field at each value, which it must read. No
// key may repeat.
func (r *Reader) Object(field func(key string) error) error {
	if err := r.next('{'); err != nil {
		return err
	}
	if r.peek() == '}' {
		r.at++
		return nil
	}
	var few [4]string // most objects have no more keys
	var many map[string]bool
	for n := 0; ; n++ {
		key, err := r.String()
		if err != nil {
			return err
		}
		seen := many[key]
		for _, k := range few[:min(n, len(few))] {
			seen = seen || k == key
		}
		if seen {
			return fmt.Errorf("key %s appears twice", quote.Value(key))
		}
		if n < len(few) {
			few[n] = key
		} else {
			if many == nil {
				many = map[string]bool{}
			}
			many[key] = true
		}
		if err := r.next(':'); err != nil {
			return err
		}
		if err := field(key); err != nil {
			return err
		}
		if r.peek() == ',' {
			r.at++
			continue
		}
		if r.peek() != '}' {
			return r.wanted(", or }")
		}
		r.at++
		return nil
	}
}

// Ints reads an array of whole numbers that are not negative.
func (r *Reader) Ints() ([]int, error) {
	if err := r.next('['); err != nil {
		return nil, err
	}
	if cap(r.ints)-len(r.ints) < 8 {
		r.ints = make([]int, 0, 4096)
	}
	list := r.ints[len(r.ints):]
	for r.peek() != ']' {
		if len(list) > 0 {
			if err := r.next(','); err != nil {
				return nil, err
			}
		}
		const want = "a whole number from 0 to 2^63-1"
		if c := r.peek(); c < '0' || c > '9' {
			return nil, r.wanted(want)
		}
		n := number(r.data[r.at:])
		digits := r.data[r.at : r.at+n]
		v, err := strconv.ParseUint(string(digits), 10, strconv.IntSize-1)
		if err != nil || n > 1 && digits[0] == '0' {
			return nil, r.wanted(want)
		}
		r.at += n
		list = append(list, int(v))
	}
	r.at++
	if len(list) <= cap(r.ints)-len(r.ints) {
		r.ints = r.ints[:len(r.ints)+len(list)]
	}
	return list[:len(list):len(list)], nil
}

// String reads a string.
func (r *Reader) String() (string, error) {
	if r.peek() != '"' {
		return "", r.wanted("a string")
	}
	text := r.data[r.at:]
	plain := true
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"' && plain:
			r.at += i + 1
			if s, ok := r.known[string(text[1:i])]; ok {
				return s, nil
			}
			return string(text[1:i]), nil
		case c == '"':
			var s string
			if err := json.Unmarshal(text[:i+1], &s); err != nil {
				return "", fmt.Errorf("string at byte %d: %w", r.at, err)
			}
			r.at += i + 1
			return s, nil
		case c == '\\':
			plain = false
			i++
		case c < ' ':
			return "", fmt.Errorf("string at byte %d: holds byte %#02x, want it escaped", r.at, c)
		}
	}
	return "", fmt.Errorf("JSON ends at byte %d, want its closing brace", len(r.data))
}

// Skip reads a string, a number, true, false or null, and drops it.
func (r *Reader) Skip() error {
	c := r.peek()
	if c == '"' {
		_, err := r.String()
		return err
	}
	rest := r.data[r.at:]
	n := number(rest)
	for _, word := range []string{"true", "false", "null"} {
		if strings.HasPrefix(string(rest[:min(len(rest), 5)]), word) {
			n = len(word)
		}
	}
	if n == 0 || !json.Valid(rest[:n]) {
		return r.wanted("a number or a string")
	}
	r.at += n
	return nil
}

// End reports whether nothing but white space follows.
func (r *Reader) End() bool {
	r.peek()
	return r.at == len(r.data)
}
