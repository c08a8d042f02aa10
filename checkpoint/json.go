package checkpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
)

// strict reads the JSON of headers and shard indices, token by token, because
// encoding/json's Unmarshal keeps the last of two equal keys. Its errors say
// what was found and what was wanted; the caller adds the file.
type strict struct {
	dec *json.Decoder
}

func newStrict(data []byte) strict {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return strict{dec}
}

func (s strict) token() (json.Token, error) {
	t, err := s.dec.Token()
	switch {
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return nil, fmt.Errorf("JSON ends at byte %d, want its closing brace", s.dec.InputOffset())
	case err != nil:
		return nil, fmt.Errorf("JSON at byte %d: %w", s.dec.InputOffset(), err)
	}
	return t, nil
}

func (s strict) wanted(want string, got json.Token) error {
	switch v := got.(type) {
	case json.Delim:
		return fmt.Errorf("%v, want %s", v, want)
	case string:
		return fmt.Errorf("%s, want %s", quote(v), want)
	case json.Number:
		return fmt.Errorf("%s, want %s", show(v.String()), want)
	case nil:
		return fmt.Errorf("null, want %s", want)
	}
	return fmt.Errorf("%v, want %s", got, want)
}

func (s strict) delim(d json.Delim) error {
	t, err := s.token()
	if err == nil && t != d {
		err = s.wanted(d.String(), t)
	}
	return err
}

// object reads an object and calls field at each value; no key may repeat.
func (s strict) object(field func(key string) error) error {
	if err := s.delim('{'); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for s.dec.More() {
		key, err := s.string()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("key %s appears twice", quote(key))
		}
		seen[key] = true
		if err := field(key); err != nil {
			return err
		}
	}
	return s.delim('}')
}

// ints reads an array of whole numbers that are not negative.
func (s strict) ints() ([]int, error) {
	if err := s.delim('['); err != nil {
		return nil, err
	}
	list := []int{}
	for s.dec.More() {
		t, err := s.token()
		if err != nil {
			return nil, err
		}
		n, ok := t.(json.Number)
		v, err := strconv.ParseUint(n.String(), 10, strconv.IntSize-1)
		if !ok || err != nil {
			return nil, s.wanted("a whole number from 0 to 2^63-1", t)
		}
		list = append(list, int(v))
	}
	return list, s.delim(']')
}

func (s strict) string() (string, error) {
	t, err := s.token()
	if err != nil {
		return "", err
	}
	v, ok := t.(string)
	if !ok {
		return "", s.wanted("a string", t)
	}
	return v, nil
}

// skip reads one scalar and drops it.
func (s strict) skip() error {
	t, err := s.token()
	if _, ok := t.(json.Delim); ok && err == nil {
		return s.wanted("a number or a string", t)
	}
	return err
}
