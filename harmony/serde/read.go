package serde

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"ossify/harmony"
)

// maxDepth is how deep arrays and objects may nest, as in serde_json.
const maxDepth = 128

// The reference reads JSON with serde_json 1.0.140. Its words and places:
const (
	eofList       = "EOF while parsing a list"
	eofObject     = "EOF while parsing an object"
	eofString     = "EOF while parsing a string"
	eofValue      = "EOF while parsing a value"
	wantColon     = "expected `:`"
	wantListEnd   = "expected `,` or `]`"
	wantObjectEnd = "expected `,` or `}`"
	wantIdent     = "expected ident"
	wantValue     = "expected value"
	wantName      = "key must be a string"
	badEscape     = "invalid escape"
	badNumber     = "invalid number"
	outOfRange    = "number out of range"
	controlChar   = "control character (\\u0000-\\u001F) found while parsing a string"
	loneSurrogate = "lone leading surrogate in hex escape"
	halfSurrogate = "unexpected end of hex escape"
	badUTF8       = "invalid unicode code point"
	trailingComma = "trailing comma"
	trailing      = "trailing characters"
	tooDeep       = "recursion limit exceeded"
)

// A reader reads a JSON text the way serde_json drives a typed reader: what is
// wanted decides how a part is read, and the first mistake met is the error.
// An error that concerns a type has no place at first; the array or object
// around gives it the one where it stopped reading ([reader.placed]).
type reader struct {
	s     string
	i     int // the next byte
	depth int // arrays and objects that may still be entered
}

// readAll calls read on a whole text.
func readAll(data []byte, read func(*reader) *harmony.Error) error {
	r := &reader{s: string(data), depth: maxDepth}
	if !utf8.ValidString(r.s) {
		for r.i < len(r.s) {
			c, n := utf8.DecodeRuneInString(r.s[r.i:])
			if c == utf8.RuneError && n == 1 {
				break
			}
			r.i += n
		}
		return r.fail(badUTF8)
	}
	if err := read(r); err != nil {
		return err
	}
	if _, ok := r.space(); ok {
		return r.failNext(trailing)
	}
	return nil
}

// fail returns an error at the bytes read so far.
func (r *reader) fail(text string) *harmony.Error { return r.at(r.i, text) }

// failNext returns an error at the next byte.
func (r *reader) failNext(text string) *harmony.Error { return r.at(min(r.i+1, len(r.s)), text) }

func (r *reader) at(i int, text string) *harmony.Error {
	line := strings.LastIndexByte(r.s[:i], '\n') + 1
	return &harmony.Error{Text: text, Line: 1 + strings.Count(r.s[:line], "\n"), Column: i - line}
}

// placed gives err a place, if there is an error and it has none.
func (r *reader) placed(err *harmony.Error) *harmony.Error {
	if err != nil && err.Line == 0 {
		return r.fail(err.Text)
	}
	return err
}

// peek returns the next byte, 0 at the end.
func (r *reader) peek() byte {
	if r.i < len(r.s) {
		return r.s[r.i]
	}
	return 0
}

// space skips white space and returns the byte after it.
func (r *reader) space() (c byte, ok bool) {
	for ; r.i < len(r.s); r.i++ {
		switch c := r.s[r.i]; c {
		case ' ', '\n', '\t', '\r':
		default:
			return c, true
		}
	}
	return 0, false
}

// ident reads the rest of null, true or false.
func (r *reader) ident(rest string) *harmony.Error {
	for i := range len(rest) {
		if r.i == len(r.s) {
			return r.fail(eofValue)
		}
		r.i++
		if r.s[r.i-1] != rest[i] {
			return r.fail(wantIdent)
		}
	}
	return nil
}

// value reads any value. Repeated names are kept.
func (r *reader) value() (v harmony.Value, err *harmony.Error) {
	c, ok := r.space()
	if !ok {
		return v, r.failNext(eofValue)
	}
	switch c {
	case '[':
		v.Kind = harmony.Array
		err = r.list(func(a *access) *harmony.Error { return r.items(a, &v) })
		return v, err
	case '{':
		v.Kind = harmony.Object
		err = r.object(func(a *access) *harmony.Error {
			for {
				name, more, err := a.name()
				if err != nil || !more {
					return err
				}
				e, err := a.value()
				if err != nil {
					return err
				}
				v.Members = append(v.Members, harmony.Member{Name: name, Value: e})
			}
		})
		return v, err
	}
	return r.scalar(c)
}

// items reads what is left of an array into v.
func (r *reader) items(a *access, v *harmony.Value) *harmony.Error {
	return a.elements(func() *harmony.Error {
		e, err := r.value()
		if err == nil {
			v.Items = append(v.Items, e)
		}
		return err
	})
}

// scalar reads a value that is no array or object and starts with c.
func (r *reader) scalar(c byte) (v harmony.Value, err *harmony.Error) {
	switch {
	case c == 'n':
		r.i++
		return v, r.ident("ull")
	case c == 't':
		r.i++
		return harmony.Value{Kind: harmony.Bool, Text: "true"}, r.ident("rue")
	case c == 'f':
		r.i++
		return harmony.Value{Kind: harmony.Bool, Text: "false"}, r.ident("alse")
	case c == '-':
		r.i++
		v.Kind = harmony.Number
		v.Text, err = r.number(false)
		return v, err
	case '0' <= c && c <= '9':
		v.Kind = harmony.Number
		v.Text, err = r.number(true)
		return v, err
	case c == '"':
		r.i++
		v.Kind = harmony.String
		v.Text, err = r.str()
		return v, err
	}
	return v, r.failNext(wantValue)
}

// An access walks through an array or an object.
type access struct {
	r     *reader
	later bool // the first element or name was read
}

// list reads an array that is next; visit reads its elements.
func (r *reader) list(visit func(*access) *harmony.Error) *harmony.Error {
	return r.nested(visit, ']', eofList)
}

// object reads an object that is next; visit reads its members.
func (r *reader) object(visit func(*access) *harmony.Error) *harmony.Error {
	return r.nested(visit, '}', eofObject)
}

func (r *reader) nested(visit func(*access) *harmony.Error, end byte, eof string) *harmony.Error {
	r.depth--
	if r.depth == 0 {
		return r.failNext(tooDeep)
	}
	r.i++
	err := visit(&access{r: r})
	r.depth++
	// The end is looked for even after an error: it decides the place.
	if e := r.end(end, eof); err == nil {
		err = e
	}
	return r.placed(err)
}

func (r *reader) end(end byte, eof string) *harmony.Error {
	switch c, ok := r.space(); {
	case !ok:
		return r.failNext(eof)
	case c == end:
		r.i++
		return nil
	case c == ',' && end == '}':
		return r.failNext(trailingComma)
	case c == ',': // of an array it is read
		r.i++
		if c, _ := r.space(); c == end {
			return r.failNext(trailingComma)
		}
	}
	return r.failNext(trailing)
}

// next reports whether an element or a name follows, and reads the comma before
// it. eof and wantEnd are what is wrong where neither follows, nor the end.
func (a *access) next(end byte, eof, wantEnd string) (more bool, err *harmony.Error) {
	r := a.r
	c, ok := r.space()
	switch {
	case !ok:
		return false, r.failNext(eof)
	case c == end:
		return false, nil
	case !a.later:
		a.later = true
		return true, nil
	case c != ',':
		return false, r.failNext(wantEnd)
	}
	r.i++
	switch c, ok := r.space(); {
	case !ok:
		return false, r.failNext(eofValue)
	case c == end:
		return false, r.failNext(trailingComma)
	}
	return true, nil
}

// element reports whether an element follows.
func (a *access) element() (more bool, err *harmony.Error) {
	return a.next(']', eofList, wantListEnd)
}

// first proves that there is a first element; if not, none is the error.
func (a *access) first(none *harmony.Error) *harmony.Error {
	more, err := a.element()
	if err == nil && !more {
		err = none
	}
	return err
}

// elements calls read for each element that is left.
func (a *access) elements(read func() *harmony.Error) *harmony.Error {
	for {
		if more, err := a.element(); err != nil || !more {
			return err
		}
		if err := read(); err != nil {
			return err
		}
	}
}

// name reads the next member's name, if there is one.
func (a *access) name() (name string, more bool, err *harmony.Error) {
	if more, err := a.next('}', eofObject, wantObjectEnd); err != nil || !more {
		return "", false, err
	}
	r := a.r
	if c, _ := r.space(); c != '"' {
		return "", false, r.failNext(wantName)
	}
	r.i++
	name, err = r.str()
	return name, err == nil, err
}

// colon reads what separates a name from its value.
func (r *reader) colon() *harmony.Error { return r.mark(':', wantColon) }

// mark reads a character that an object must have next.
func (r *reader) mark(mark byte, want string) *harmony.Error {
	switch c, ok := r.space(); {
	case !ok:
		return r.failNext(eofObject)
	case c != mark:
		return r.failNext(want)
	}
	r.i++
	return nil
}

// value reads a member's value after its name.
func (a *access) value() (harmony.Value, *harmony.Error) {
	if err := a.r.colon(); err != nil {
		return harmony.Value{}, err
	}
	return a.r.value()
}

// str reads a string after its first quote.
func (r *reader) str() (string, *harmony.Error) {
	var b []byte
	from := r.i
	for ; ; r.i++ {
		if r.i == len(r.s) {
			return "", r.fail(eofString)
		}
		switch c := r.s[r.i]; {
		case c == '"':
			r.i++
			if b == nil {
				return r.s[from : r.i-1], nil
			}
			return string(append(b, r.s[from:r.i-1]...)), nil
		case c == '\\':
			b = append(b, r.s[from:r.i]...)
			r.i++
			var err *harmony.Error
			if b, err = r.escape(b); err != nil {
				return "", err
			}
			from = r.i
			r.i--
		case c < 0x20:
			r.i++
			return "", r.fail(controlChar)
		}
	}
}

// escape reads an escape after its backslash and appends its meaning to b,
// which is not nil afterwards.
func (r *reader) escape(b []byte) ([]byte, *harmony.Error) {
	if r.i == len(r.s) {
		return b, r.fail(eofString)
	}
	c := r.s[r.i]
	r.i++
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		return append(b, "\"\\/\b\f\n\r\t"[i]), nil
	}
	if c != 'u' {
		return b, r.fail(badEscape)
	}
	n, err := r.hex4()
	switch {
	case err != nil:
		return b, err
	case n < 0xD800 || n > 0xDFFF:
		return utf8.AppendRune(b, n), nil
	case n >= 0xDC00:
		return b, r.fail(loneSurrogate)
	}
	for _, want := range []byte(`\u`) {
		if r.i == len(r.s) {
			return b, r.fail(eofString)
		}
		r.i++
		if r.s[r.i-1] != want {
			return b, r.fail(halfSurrogate)
		}
	}
	low, err := r.hex4()
	if err != nil {
		return b, err
	}
	if low < 0xDC00 || low > 0xDFFF {
		return b, r.fail(loneSurrogate)
	}
	return utf8.AppendRune(b, (n-0xD800)<<10+(low-0xDC00)+0x10000), nil
}

func (r *reader) hex4() (n rune, err *harmony.Error) {
	if len(r.s)-r.i < 4 {
		r.i = len(r.s)
		return 0, r.fail(eofString)
	}
	text := r.s[r.i : r.i+4]
	r.i += 4
	u, e := strconv.ParseUint(text, 16, 16)
	if e != nil {
		return 0, r.fail(badEscape)
	}
	return rune(u), nil
}

// number reads a number after its sign and returns it as it is printed.
func (r *reader) number(positive bool) (string, *harmony.Error) {
	if r.i == len(r.s) {
		return "", r.fail(eofValue)
	}
	c := r.s[r.i]
	r.i++
	n := uint64(c - '0')
	switch {
	case c == '0':
		if isDigit(r.peek()) {
			return "", r.failNext(badNumber)
		}
	case !isDigit(c):
		return "", r.fail(badNumber)
	}
	exp := 0 // n * 10^exp
	for isDigit(r.peek()) {
		d := uint64(r.peek() - '0')
		if exp > 0 || n > (math.MaxUint64-d)/10 {
			exp++ // further digits do not fit: they only count
		} else {
			n = n*10 + d
		}
		r.i++
	}
	switch r.peek() {
	case '.':
		return r.decimal(positive, n, exp)
	case 'e', 'E':
		return r.exponent(positive, n, exp)
	}
	switch {
	case exp > 0:
		return r.float(positive, n, exp)
	case positive:
		return strconv.FormatUint(n, 10), nil
	case n == 0 || n > 1<<63:
		return floatText(-float64(n)), nil
	}
	return "-" + strconv.FormatUint(n, 10), nil
}

// decimal reads what follows from the point on.
func (r *reader) decimal(positive bool, n uint64, exp int) (string, *harmony.Error) {
	r.i++
	from := r.i
	for full := false; isDigit(r.peek()); r.i++ {
		d := uint64(r.peek() - '0')
		if full = full || n > (math.MaxUint64-d)/10; !full {
			n = n*10 + d
			exp--
		}
	}
	switch {
	case r.i > from:
	case r.i == len(r.s):
		return "", r.failNext(eofValue)
	default:
		return "", r.failNext(badNumber)
	}
	if c := r.peek(); c == 'e' || c == 'E' {
		return r.exponent(positive, n, exp)
	}
	return r.float(positive, n, exp)
}

// exponent reads what follows from the e on.
func (r *reader) exponent(positive bool, n uint64, start int) (string, *harmony.Error) {
	r.i++
	sign := 1
	switch r.peek() {
	case '+':
		r.i++
	case '-':
		r.i++
		sign = -1
	}
	if r.i == len(r.s) {
		return "", r.fail(eofValue)
	}
	c := r.s[r.i]
	r.i++
	if !isDigit(c) {
		return "", r.fail(badNumber)
	}
	exp := int(c - '0')
	for isDigit(r.peek()) {
		exp = exp*10 + int(r.peek()-'0')
		r.i++
		if exp > math.MaxInt32 {
			if n != 0 && sign > 0 {
				return "", r.fail(outOfRange)
			}
			for isDigit(r.peek()) {
				r.i++
			}
			return floatText(signed(0, positive)), nil
		}
	}
	return r.float(positive, n, start+sign*exp)
}

// float returns n * 10^exp as serde_json computes it: one rounding for n and
// one for the multiplication, so the last digit may not be the nearest.
func (r *reader) float(positive bool, n uint64, exp int) (string, *harmony.Error) {
	f := float64(n)
	for f != 0 && exp < -308 {
		f /= 1e308
		exp += 308
	}
	switch {
	case f == 0:
	case exp > 308:
		return "", r.fail(outOfRange)
	case exp >= 0:
		if f *= power10(exp); math.IsInf(f, 0) {
			return "", r.fail(outOfRange)
		}
	default:
		f /= power10(-exp)
	}
	return floatText(signed(f, positive)), nil
}

// power10 returns the float64 nearest to 10^n, n in 0..308. math.Pow10 may be
// one unit beside it.
func power10(n int) float64 {
	f, _ := strconv.ParseFloat("1e"+strconv.Itoa(n), 64)
	return f
}

func signed(f float64, positive bool) float64 {
	if positive {
		return f
	}
	return math.Copysign(f, -1)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// skip reads a value that nobody wants. Numbers may be of any size, nesting of
// any depth and surrogates alone.
func (r *reader) skip() *harmony.Error {
	var open []byte // brackets around, innermost last
	for {
		c, ok := r.space()
		if !ok {
			return r.failNext(eofValue)
		}
		var err *harmony.Error
		opened := false
		switch {
		case c == 'n':
			r.i++
			err = r.ident("ull")
		case c == 't':
			r.i++
			err = r.ident("rue")
		case c == 'f':
			r.i++
			err = r.ident("alse")
		case c == '-':
			r.i++
			err = r.skipNumber()
		case isDigit(c):
			err = r.skipNumber()
		case c == '"':
			r.i++
			err = r.skipString()
		case c == '[' || c == '{':
			r.i++
			open = append(open, c)
			opened = true
		default:
			err = r.failNext(wantValue)
		}
		if err != nil {
			return err
		}
		if open, err = r.skipEnds(open, opened); err != nil || len(open) == 0 {
			return err
		}
		if open[len(open)-1] == '{' {
			if err := r.skipName(); err != nil {
				return err
			}
		}
	}
}

// skipEnds reads the closing brackets that follow, and a comma unless a
// bracket was opened just now. It returns what is still open.
func (r *reader) skipEnds(open []byte, opened bool) ([]byte, *harmony.Error) {
	for len(open) > 0 {
		frame := open[len(open)-1]
		c, ok := r.space()
		switch {
		case !ok && frame == '[':
			return open, r.failNext(eofList)
		case !ok:
			return open, r.failNext(eofObject)
		case c == ',' && !opened:
			r.i++
			return open, nil
		case c == ']' && frame == '[', c == '}' && frame == '{':
			r.i++
			open, opened = open[:len(open)-1], false
		case opened:
			return open, nil
		case frame == '[':
			return open, r.failNext(wantListEnd)
		default:
			return open, r.failNext(wantObjectEnd)
		}
	}
	return open, nil
}

// skipName reads a member's name and colon.
func (r *reader) skipName() *harmony.Error {
	if err := r.mark('"', wantName); err != nil {
		return err
	}
	if err := r.skipString(); err != nil {
		return err
	}
	return r.colon()
}

func (r *reader) skipString() *harmony.Error {
	for ; r.i < len(r.s); r.i++ {
		switch c := r.s[r.i]; {
		case c == '"':
			r.i++
			return nil
		case c < 0x20:
			return r.fail(controlChar)
		case c == '\\':
			r.i++
			switch c := r.peek(); {
			case r.i == len(r.s):
				return r.fail(eofString)
			case c == 'u':
				r.i++
				if _, err := r.hex4(); err != nil {
					return err
				}
				r.i--
			case strings.IndexByte(`"\/bfnrt`, c) < 0:
				r.i++
				return r.fail(badEscape)
			}
		}
	}
	return r.fail(eofString)
}

// skipNumber reads a number after its sign.
func (r *reader) skipNumber() *harmony.Error {
	digits := func() (n int) {
		for ; isDigit(r.peek()); n++ {
			r.i++
		}
		return n
	}
	switch c := r.peek(); {
	case c == '0':
		r.i++
		if isDigit(r.peek()) {
			return r.failNext(badNumber)
		}
	case digits() == 0:
		r.i = min(r.i+1, len(r.s))
		return r.fail(badNumber)
	}
	if r.peek() == '.' {
		r.i++
		if digits() == 0 {
			return r.failNext(badNumber)
		}
	}
	if c := r.peek(); c == 'e' || c == 'E' {
		r.i++
		if c := r.peek(); c == '+' || c == '-' {
			r.i++
		}
		if digits() == 0 {
			r.i = min(r.i+1, len(r.s))
			return r.fail(badNumber)
		}
	}
	return nil
}
