// Package jsonobject reads JSON objects from strangers whose keys are not all
// known before: no key may repeat, at any depth, and nothing may follow. (Where
// all keys are known, internal/strictjson reads them in one pass.)
package jsonobject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"ossify/internal/quote"
)

// An Object is one whose values are still text.
type Object map[string]json.RawMessage

// Parse reads an object.
func Parse(text []byte) (Object, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if err := unique(d, 0); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("text after its end")
	}
	var o Object
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, err
	}
	return o, nil
}

// unique reads a value and refuses a key that repeats in an object.
func unique(d *json.Decoder, depth int) error {
	const most = 32
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	if depth == most {
		return fmt.Errorf("values deeper than %d", most)
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			t, err := d.Token()
			if err != nil {
				return err
			}
			key := t.(string) // the decoder accepts nothing else here
			if seen[key] {
				return fmt.Errorf("key %s appears twice", quote.Value(key))
			}
			seen[key] = true
		}
		if err := unique(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// Read decodes the value of a key, which must be there, into v.
func (o Object) Read(key string, v any) error {
	raw, ok := o[key]
	if !ok {
		return fmt.Errorf("%s is missing", key)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// Only refuses keys other than these.
func (o Object) Only(keys ...string) error {
	for key := range o {
		if !slices.Contains(keys, key) {
			return fmt.Errorf("key %s, want only %s", quote.Value(key), strings.Join(keys, " "))
		}
	}
	return nil
}

// Number refuses a value of a key that is another number.
func (o Object) Number(key string, want int) error {
	var got int
	if err := o.Read(key, &got); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s is %d, want %d", key, got, want)
	}
	return nil
}

// Sizes reads a list of sizes.
func (o Object) Sizes(key string) ([]int, error) {
	var list []int
	if err := o.Read(key, &list); err != nil {
		return nil, err
	}
	for _, n := range list {
		if n < 0 {
			return nil, fmt.Errorf("%s: %d, want 0 or more", key, n)
		}
	}
	return list, nil
}
