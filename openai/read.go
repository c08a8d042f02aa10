package openai

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"ossify/harmony"
	"ossify/harmony/serde"
)

// mostValues is how many values a request may hold: a JSON text of a few bytes
// a value must not become a hundred times that in memory.
const mostValues = 1 << 18

// parseObject reads a request's body.
func parseObject(body []byte) (harmony.Value, *Error) {
	if !utf8.Valid(body) {
		return harmony.Value{}, Invalid("", "The body is not UTF-8.")
	}
	values, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ',' || c == '[' || c == '{' || c == ':'):
			values++
		}
	}
	if values > mostValues {
		return harmony.Value{}, Invalid("", "The body holds %d values, want at most %d.", values, mostValues)
	}
	v, err := serde.ParseValue(body)
	if err != nil {
		return v, Invalid("", "The body is not JSON: %s.", strings.TrimPrefix(err.Error(), "harmony: "))
	}
	if v.Kind != harmony.Object {
		return v, Invalid("", "The body is %s, want a JSON object.", kindName(v))
	}
	return v, nil
}

func kindName(v harmony.Value) string {
	return [...]string{"null", "a boolean", "a number", "a string", "an array", "an object"}[v.Kind]
}

// A reader keeps the first mistake of a request.
type reader struct{ err *Error }

func (r *reader) fail(e *Error) {
	if r.err == nil {
		r.err = e
	}
}

// missing says that a member that must be there is not.
func (r *reader) missing(path, text string) {
	e := Invalid(path, "%s", text)
	e.Code = "missing_required_parameter"
	r.fail(e)
}

// want says that a value is of the wrong type.
func (r *reader) want(v harmony.Value, path, want string) {
	e := Invalid(path, "This is %s, want %s.", kindName(v), want)
	e.Code = "invalid_type"
	r.fail(e)
}

// is reports whether a value is of a kind; if not, that is a mistake.
func (r *reader) is(v harmony.Value, path string, kind harmony.Kind, want string) bool {
	if v.Kind != kind {
		r.want(v, path, want)
	}
	return v.Kind == kind
}

// A set takes a member's value, which is not null.
type set func(v harmony.Value, path string)

// members gives each member of an object to its set; null is as if it were not
// there. Unknown members are mistakes if strict, else left alone.
func (r *reader) members(v harmony.Value, path string, strict bool, sets map[string]set) {
	if !r.is(v, path, harmony.Object, "an object") {
		return
	}
	for _, m := range v.Members {
		at := m.Name
		if path != "" {
			at = path + "." + m.Name
		}
		set, ok := sets[m.Name]
		switch {
		case !ok && strict:
			e := Invalid(quoteParam(at), "Unknown parameter: %s.", shown(at))
			e.Code = "unknown_parameter"
			r.fail(e)
		case ok && set != nil && m.Value.Kind != harmony.Null:
			set(m.Value, at)
		}
	}
}

// quoteParam is a path that a client wrote as it may stand in an answer.
func quoteParam(s string) string {
	if len(s) > 200 {
		return s[:strings.LastIndexFunc(s[:200], func(r rune) bool { return r < utf8.RuneSelf })+1]
	}
	return s
}

// items gives each element of an array to a set.
func (r *reader) items(v harmony.Value, path string, set set) {
	if !r.is(v, path, harmony.Array, "an array") {
		return
	}
	for i, e := range v.Items {
		set(e, path+"["+strconv.Itoa(i)+"]")
	}
}

func (r *reader) text(p *string) set {
	return func(v harmony.Value, path string) {
		if !r.is(v, path, harmony.String, "a string") {
			return
		}
		*p = v.Text
	}
}

// choice reads one of a few words.
func (r *reader) choice(p *string, words ...string) set {
	return func(v harmony.Value, path string) {
		r.text(p)(v, path)
		if v.Kind == harmony.String && !slices.Contains(words, v.Text) {
			r.fail(Invalid(path, "This is %s, want one of %s.", shown(v.Text), strings.Join(words, ", ")))
		}
	}
}

func (r *reader) boolean(p *bool) set {
	return func(v harmony.Value, path string) {
		if !r.is(v, path, harmony.Bool, "a boolean") {
			return
		}
		*p = v.Text == "true"
	}
}

func (r *reader) number(p *float64, least, most float64) set {
	return func(v harmony.Value, path string) {
		if !r.is(v, path, harmony.Number, "a number") {
			return
		}
		n, err := strconv.ParseFloat(v.Text, 64)
		if err != nil || !(n >= least && n <= most) {
			r.fail(Invalid(path, "This is %s, want %g to %g.", v.Text, least, most))
			return
		}
		*p = n
	}
}

func (r *reader) integer(p *int, least, most int) set {
	return func(v harmony.Value, path string) {
		if !r.is(v, path, harmony.Number, "an integer") {
			return
		}
		n, err := strconv.Atoi(v.Text)
		if err != nil || n < least || n > most {
			want := "an integer from " + strconv.Itoa(least) + " to " + strconv.Itoa(most)
			if most == math.MaxInt {
				want = "an integer of at least " + strconv.Itoa(least)
			}
			r.fail(Invalid(path, "This is %s, want %s.", v.Text, want))
			return
		}
		*p = n
	}
}

// strings reads a string or an array of at most so many strings, none empty.
func (r *reader) strings(p *[]string, most int) set {
	return func(v harmony.Value, path string) {
		add := func(v harmony.Value, path string) {
			var s string
			r.text(&s)(v, path)
			if v.Kind == harmony.String && s == "" {
				r.fail(Invalid(path, "This is empty, want a text."))
			}
			*p = append(*p, s)
		}
		if v.Kind == harmony.String {
			add(v, path)
			return
		}
		r.items(v, path, add)
		if len(*p) > most {
			r.fail(Invalid(path, "There are %d strings, want at most %d.", len(*p), most))
		}
	}
}

// refuse reads what there is not, unless it is the one value that asks for
// nothing.
func (r *reader) refuse(nothing string) set {
	return func(v harmony.Value, path string) {
		if nothing == "" || string(v.AppendJSON(nil)) != nothing {
			r.fail(unsupported(path, "This is not supported."))
		}
	}
}

// metadata reads up to 16 strings by name.
func (r *reader) metadata(p *map[string]string) set {
	return func(v harmony.Value, path string) {
		if !r.is(v, path, harmony.Object, "an object") {
			return
		}
		*p = map[string]string{}
		for _, m := range v.Members {
			if m.Value.Kind != harmony.String || len(m.Name) > 64*4 || len(m.Value.Text) > 512*4 {
				r.fail(Invalid(path, "A member is too long or no string: want names of at most 64 characters and values of at most 512."))
				return
			}
			(*p)[m.Name] = m.Value.Text
		}
		if len(*p) > 16 {
			r.fail(Invalid(path, "There are %d members, want at most 16.", len(*p)))
		}
	}
}
