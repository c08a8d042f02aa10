package harmony

import (
	"strconv"
	"strings"
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
	kind    Kind
	text    string // of a String; a Number or Bool as printed
	items   []Value
	members []Member
}

// A Member is one name and value of an object.
type Member struct {
	Name  string
	Value Value
}

// ParseValue reads a JSON text. A repeated name keeps its first place and its
// last value. Errors are of type *[Error].
func ParseValue(data []byte) (Value, error) {
	var v Value
	err := readAll(data, func(r *reader) (err *Error) {
		v, err = r.value()
		return err
	})
	return v.unique(), err
}

// Kind returns the type of v.
func (v Value) Kind() Kind { return v.kind }

// Text returns a string's text, or a number or a boolean as printed.
func (v Value) Text() string { return v.text }

// Items returns the elements of an array.
func (v Value) Items() []Value { return v.items }

// Members returns the members of an object in their order.
func (v Value) Members() []Member { return v.members }

// Get returns a member of an object. ok is false if there is none, or if v is
// no object.
func (v Value) Get(name string) (member Value, ok bool) {
	for _, m := range v.members {
		if m.Name == name {
			return m.Value, true
		}
	}
	return Value{}, false
}

// str returns the text of a member that is a string.
func (v Value) str(name string) (text string, ok bool) {
	m, _ := v.Get(name)
	return m.text, m.kind == String
}

// array returns the elements of a member that is an array.
func (v Value) array(name string) (items []Value, ok bool) {
	m, _ := v.Get(name)
	return m.items, m.kind == Array
}

// truth reports whether a member is true.
func (v Value) truth(name string) bool {
	m, _ := v.Get(name)
	return m.kind == Bool && m.text == "true"
}

// isFloat reports whether a Number is no integer of 64 bits.
func (v Value) isFloat() bool { return strings.ContainsAny(v.text, ".e") }

// unique returns v with every name once in every object.
func (v Value) unique() Value {
	switch v.kind {
	case Array:
		items := make([]Value, len(v.items))
		for i, e := range v.items {
			items[i] = e.unique()
		}
		v.items = items
	case Object:
		members := make([]Member, 0, len(v.members))
		place := make(map[string]int, len(v.members))
		for _, m := range v.members {
			m.Value = m.Value.unique()
			if i, ok := place[m.Name]; ok {
				members[i] = m
				continue
			}
			place[m.Name] = len(members)
			members = append(members, m)
		}
		v.members = members
	}
	return v
}

// MarshalJSON returns v without white space.
func (v Value) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

// UnmarshalJSON is [ParseValue].
func (v *Value) UnmarshalJSON(data []byte) (err error) {
	*v, err = ParseValue(data)
	return err
}

// AppendJSON appends v to dst without white space, as serde_json writes it.
func (v Value) AppendJSON(dst []byte) []byte {
	switch v.kind {
	case Bool, Number:
		return append(dst, v.text...)
	case String:
		return appendQuoted(dst, v.text)
	case Array:
		dst = append(dst, '[')
		for i, e := range v.items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = e.AppendJSON(dst)
		}
		return append(dst, ']')
	case Object:
		dst = append(dst, '{')
		for i, m := range v.members {
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

// floatText prints f as Rust's ryu does: shortest digits that read back as f,
// plain between 1e-5 and 1e16 and then with a point, else with an exponent.
func floatText(f float64) string {
	s := strconv.FormatFloat(f, 'e', -1, 64)
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	mantissa, exp, _ := strings.Cut(s, "e")
	e, _ := strconv.Atoi(exp)
	digits := strings.Replace(mantissa, ".", "", 1)
	switch point := e + 1; { // digits before the point
	case f == 0:
		return sign + "0.0"
	case len(digits) <= point && point <= 16:
		return sign + digits + strings.Repeat("0", point-len(digits)) + ".0"
	case 0 < point && point <= 16:
		return sign + digits[:point] + "." + digits[point:]
	case -5 < point && point <= 0:
		return sign + "0." + strings.Repeat("0", -point) + digits
	}
	return sign + mantissa + "e" + strconv.Itoa(e)
}
