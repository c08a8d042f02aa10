package harmony

import (
	"unicode/utf8"
)

// A Kind is the type of a [Value].
type Kind uint8

// The types of JSON.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

// A Value is a JSON value that keeps what a tool's schema needs and
// encoding/json loses: the order of an object's members and how a number is
// printed. The zero Value is null.
type Value struct {
	Kind    Kind
	Text    string   // of a String; a Number or Bool as printed
	Items   []Value  // of an Array
	Members []Member // of an Object, in their order
}

// A Member is one name and value of an object.
type Member struct {
	Name  string
	Value Value
}

// Get returns a member of an object. ok is false if there is none, or if v is
// no object.
func (v Value) Get(name string) (member Value, ok bool) {
	for _, m := range v.Members {
		if m.Name == name {
			return m.Value, true
		}
	}
	return Value{}, false
}

// str returns the text of a member that is a string.
func (v Value) str(name string) (text string, ok bool) {
	m, _ := v.Get(name)
	return m.Text, m.Kind == String
}

// array returns the elements of a member that is an array.
func (v Value) array(name string) (items []Value, ok bool) {
	m, _ := v.Get(name)
	return m.Items, m.Kind == Array
}

// truth reports whether a member is true.
func (v Value) truth(name string) bool {
	m, _ := v.Get(name)
	return m.Kind == Bool && m.Text == "true"
}

// MarshalJSON returns v without white space.
func (v Value) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

// AppendJSON appends v to dst without white space, as serde_json writes it.
func (v Value) AppendJSON(dst []byte) []byte {
	switch v.Kind {
	case Bool, Number:
		return append(dst, v.Text...)
	case String:
		return appendQuoted(dst, v.Text)
	case Array:
		dst = append(dst, '[')
		for i, e := range v.Items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = e.AppendJSON(dst)
		}
		return append(dst, ']')
	case Object:
		dst = append(dst, '{')
		for i, m := range v.Members {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendQuoted(dst, m.Name), ':')
			dst = m.Value.AppendJSON(dst)
		}
		return append(dst, '}')
	}
	return append(dst, "null"...)
}

// appendQuoted appends s as a JSON string: only what JSON requires is escaped.
// Bytes that are not UTF-8 become U+FFFD.
func appendQuoted(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	if !utf8.ValidString(s) {
		s = wellFormed(s)
	}
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, `\u00`...)
			dst = append(dst, hex[c>>4], hex[c&15])
		}
	}
	return append(append(dst, s[from:]...), '"')
}
