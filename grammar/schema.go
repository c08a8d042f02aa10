package grammar

import (
	"fmt"
	"math/big"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"ossify/harmony"
	"ossify/internal/quote"
)

// A SchemaError says where a JSON schema asks for what no grammar can hold a
// model to, or is none.
type SchemaError struct {
	Path string // a JSON pointer
	Text string
}

func (e *SchemaError) Error() string { return "grammar: schema " + quote.Start(e.Path) + ": " + e.Text }

// Annotations do not say what is valid.
var annotations = []string{"title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "$schema", "$id", "$comment", "$defs", "definitions", "$anchor", "contentEncoding", "contentMediaType", "discriminator"}

// Limits of schemas.
const (
	mostCount = 16384 // of minLength, maxItems and the like
	mostDepth = 64
)

// schema is a JSON schema that is compiled.
type schema struct {
	b    *Builder
	j    *jsonExprs
	root harmony.Value
	refs map[string]Expr
	todo []string // pointers whose references have no meaning yet

	told  map[string]*tells // what tells a reference's schema from others
	chars map[string]Expr   // classes of characters of patterns
}

// Schema returns the JSON texts that are valid by a schema of JSON Schema 2020-12,
// in the order of its properties. What it cannot hold a model to is an error,
// not left out. Numbers have at most 15 digits before the point.
func (b *Builder) Schema(v harmony.Value) (Expr, error) {
	s := &schema{b: b, j: b.json(), root: v, refs: map[string]Expr{}, told: map[string]*tells{}, chars: map[string]Expr{}}
	e, err := s.compile(v, "#", 0)
	for err == nil && len(s.todo) > 0 {
		at := s.todo[0]
		s.todo = s.todo[1:]
		var d Expr
		target, ok := s.find(at)
		if !ok {
			return never, &SchemaError{at, "there is nothing at this reference"}
		}
		if d, err = s.compile(target, at, 0); err == nil {
			b.Define(s.refs[at], d)
		}
	}
	if err == nil {
		err = b.err
	}
	if err == nil && e == never { // not to be taken for no schema
		err = ErrEndless
	}
	return e, err
}

// equal reports whether two values are written alike.
func equal(x, y harmony.Value) bool { return string(x.AppendJSON(nil)) == string(y.AppendJSON(nil)) }

// Object returns any JSON object.
func (b *Builder) Object() Expr { return b.json().object }

func (s *schema) ref(at string) Expr {
	if e, ok := s.refs[at]; ok {
		return e
	}
	e := s.b.Ref()
	s.refs[at] = e
	s.todo = append(s.todo, at)
	return e
}

// find returns what a JSON pointer of the form #/a/b names.
func (s *schema) find(at string) (harmony.Value, bool) {
	v := s.root
	rest, ok := strings.CutPrefix(at, "#")
	if !ok || rest != "" && rest[0] != '/' {
		return v, false
	}
	for _, name := range strings.Split(rest, "/")[1:] {
		name = strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")
		if v.Kind == harmony.Array {
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(v.Items) {
				return v, false
			}
			v = v.Items[i]
			continue
		}
		s.b.spend(len(v.Members) / 16)
		if v, ok = v.Get(name); !ok {
			return v, false
		}
	}
	return v, true
}

// A reading is a schema object whose keywords are taken one by one; those left
// over are not supported.
type reading struct {
	v     harmony.Value
	path  string
	taken []string
}

func (r *reading) take(name string) (harmony.Value, bool) {
	r.taken = append(r.taken, name)
	return r.v.Get(name)
}

func (r *reading) fail(format string, args ...any) error {
	return &SchemaError{r.path, fmt.Sprintf(format, args...)}
}

// rest reports a keyword that nothing took.
func (r *reading) rest() error {
	for _, m := range r.v.Members {
		if !slices.Contains(r.taken, m.Name) && !slices.Contains(annotations, m.Name) {
			return r.fail("the keyword %s is not supported here", quote.Value(m.Name))
		}
	}
	return nil
}

// count takes a number that is not negative; −1 for none.
func (r *reading) count(name string) (int, error) {
	v, ok := r.take(name)
	if !ok {
		return -1, nil
	}
	n, err := strconv.Atoi(v.Text)
	if v.Kind != harmony.Number || err != nil || n < 0 || n > mostCount {
		return 0, r.fail("%s is no number from 0 to %d", name, mostCount)
	}
	return n, nil
}

// counts is count of two names.
func (r *reading) counts(min, max string) (least, most int, err error) {
	if least, err = r.count(min); err == nil {
		most, err = r.count(max)
	}
	return least, most, err
}

func (s *schema) compile(v harmony.Value, path string, depth int) (Expr, error) {
	b := s.b
	r := &reading{v: v, path: path}
	switch {
	case depth > mostDepth:
		return never, r.fail("more than %d levels deep", mostDepth)
	case b.err != nil:
		return never, b.err
	case v.Kind == harmony.Bool && v.Text == "true":
		return s.j.value, nil
	case v.Kind != harmony.Object:
		return never, r.fail("this is no schema, want an object")
	}
	if ref, ok := r.take("$ref"); ok {
		if ref.Kind != harmony.String || !strings.HasPrefix(ref.Text, "#") {
			return never, r.fail("$ref is no reference of the form #/$defs/name")
		}
		if err := r.rest(); err != nil {
			return never, err
		}
		return s.ref(ref.Text), nil
	}
	values, listed := r.take("enum")
	if c, ok := r.take("const"); ok {
		if listed && !slices.ContainsFunc(values.Items, func(v harmony.Value) bool { return equal(v, c) }) {
			return never, r.fail("const is none of enum")
		}
		values, listed = harmony.Value{Kind: harmony.Array, Items: []harmony.Value{c}}, true
	}
	if listed {
		types, err := r.types()
		if err != nil {
			return never, err
		}
		var all []Expr
		for _, c := range values.Items {
			if len(types) == 0 || slices.ContainsFunc(types, func(t string) bool { return isType(c, t) }) {
				all = append(all, s.literal(c))
			}
		}
		if len(all) == 0 {
			return never, r.fail("enum or const has no value of the type")
		}
		return b.Alt(all...), r.rest()
	}
	for _, name := range []string{"anyOf", "oneOf", "allOf"} {
		list, ok := r.take(name)
		if !ok {
			continue
		}
		if list.Kind != harmony.Array || len(list.Items) == 0 {
			return never, r.fail("%s is no array of schemas", name)
		}
		if name == "allOf" && len(list.Items) > 1 {
			return never, r.fail("allOf of more than one schema is not supported")
		}
		if name == "oneOf" && !s.disjoint(list.Items) {
			if b.err != nil {
				return never, b.err
			}
			return never, r.fail("oneOf is supported where types, or a constant of each, tell the schemas apart: want anyOf")
		}
		var all []Expr
		for i, item := range list.Items {
			e, err := s.compile(item, path+"/"+name+"/"+strconv.Itoa(i), depth+1)
			if err != nil {
				return never, err
			}
			all = append(all, e)
		}
		return b.Alt(all...), r.rest()
	}
	null := never
	if n, ok := r.take("nullable"); ok && n.Kind == harmony.Bool && n.Text == "true" {
		null = b.Text("null")
	}
	types, err := r.types()
	if err != nil {
		return never, err
	}
	if len(types) == 0 {
		guess := map[string]string{"properties": "object", "required": "object", "additionalProperties": "object", "items": "array"}
		for _, m := range v.Members {
			if g, ok := guess[m.Name]; ok {
				return never, r.fail("there are %s but no type, want \"type\": %q", m.Name, g)
			}
		}
		if err := r.rest(); err != nil {
			return never, err
		}
		return s.j.value, nil
	}
	all := []Expr{null}
	for _, t := range types {
		var e Expr
		var err error
		switch t {
		case "null":
			e = b.Text("null")
		case "boolean":
			e = b.Alt(b.Text("true"), b.Text("false"))
		case "integer", "number":
			e, err = s.number(r, t)
		case "string":
			e, err = s.str(r)
		case "array":
			e, err = s.array(r, depth)
		case "object":
			e, err = s.object(r, depth)
		}
		if err != nil {
			return never, err
		}
		all = append(all, e)
	}
	return b.Alt(all...), r.rest()
}

// types takes the names of types, each once; none if there is no type.
func (r *reading) types() (list []string, err error) {
	t, ok := r.take("type")
	if !ok {
		return nil, nil
	}
	items := []harmony.Value{t}
	if t.Kind == harmony.Array {
		items = t.Items
	}
	for _, n := range items {
		switch _, ok := kinds[n.Text]; {
		case n.Kind != harmony.String:
			return nil, r.fail("type is no name of a type, nor an array of such")
		case !ok:
			return nil, r.fail("there is no type %s", quote.Value(n.Text))
		case !slices.Contains(list, n.Text):
			list = append(list, n.Text)
		}
	}
	if len(list) == 0 {
		return nil, r.fail("type is an array of nothing")
	}
	return list, nil
}

// kinds are how values of each type are written.
var kinds = map[string]harmony.Kind{
	"null": harmony.Null, "boolean": harmony.Bool, "integer": harmony.Number, "number": harmony.Number,
	"string": harmony.String, "array": harmony.Array, "object": harmony.Object,
}

// isType reports whether a value is of a type.
func isType(v harmony.Value, typ string) bool {
	if typ == "integer" {
		n, ok := rational(v)
		return ok && n.IsInt()
	}
	kind, ok := kinds[typ]
	return ok && v.Kind == kind
}

// rational is a number as it is written. One of more than 400 digits, exponent
// included, is none: its fraction would take a time that grows with them.
func rational(v harmony.Value) (*big.Rat, bool) {
	if v.Kind != harmony.Number || len(v.Text) > 400 {
		return nil, false
	}
	if i := strings.IndexAny(v.Text, "eE"); i >= 0 {
		if n, err := strconv.Atoi(v.Text[i+1:]); err != nil || n < -400 || n > 400 {
			return nil, false
		}
	}
	return new(big.Rat).SetString(v.Text)
}

// literal is a constant without white space.
func (s *schema) literal(v harmony.Value) Expr { return s.b.Text(string(v.AppendJSON(nil))) }

// What tells a schema from others: the constants that it lists, its type, and
// of an object the constants of members that it must have.
type tells struct {
	constants map[string]bool // nil if it lists none
	typ       string
	members   map[string]map[string]bool
}

// disjoint reports whether no value is valid by two of the schemas, as far as
// their types and constants tell.
func (s *schema) disjoint(list []harmony.Value) bool {
	all := make([]*tells, len(list))
	for i, v := range list {
		all[i] = s.tells(v)
	}
	owned := map[string]bool{} // constants
	for i, x := range all {
		for c := range x.constants {
			if owned[c] {
				return false
			}
			owned[c] = true
		}
		for _, y := range all[:i] {
			if (x.constants == nil || y.constants == nil) && !s.apart(x, y) {
				return false
			}
		}
	}
	return true
}

func (s *schema) tells(v harmony.Value) *tells {
	at := ""
	for range 8 {
		ref, ok := v.Get("$ref")
		if !ok {
			break
		}
		if known, ok := s.told[ref.Text]; ok {
			return known
		}
		to, ok := s.find(ref.Text)
		if !ok {
			break
		}
		if at == "" {
			at = ref.Text
		}
		v = to
	}
	t := &tells{constants: constants(v)}
	typ, _ := v.Get("type")
	t.typ = typ.Text
	if t.typ == "object" {
		list, _ := v.Get("required")
		required := map[string]bool{}
		for _, n := range list.Items {
			required[n.Text] = n.Kind == harmony.String
		}
		t.members = map[string]map[string]bool{}
		properties, _ := v.Get("properties")
		for _, m := range properties.Members {
			if c := constants(m.Value); required[m.Name] && c != nil {
				t.members[m.Name] = c
			}
		}
	}
	if at != "" {
		s.told[at] = t
	}
	return t
}

func (s *schema) apart(x, y *tells) bool {
	s.b.spend(1)
	if x.typ != "" && y.typ != "" && x.typ != y.typ {
		number := func(t string) bool { return t == "integer" || t == "number" }
		return !(number(x.typ) && number(y.typ))
	}
	if x.typ != "object" || y.typ != "object" {
		return false
	}
	if len(x.members) > len(y.members) {
		x, y = y, x
	}
	s.b.spend(len(x.members))
	for name, a := range x.members {
		if b := y.members[name]; b != nil && !s.share(a, b) {
			return true
		}
	}
	return false
}

// share reports whether two sets have something in common.
func (s *schema) share(x, y map[string]bool) bool {
	if len(x) > len(y) {
		x, y = y, x
	}
	if !s.b.spend(len(x)) {
		return true
	}
	for c := range x {
		if y[c] {
			return true
		}
	}
	return false
}

// constants returns the values that a schema lists, nil if it lists none.
func constants(v harmony.Value) map[string]bool {
	if c, ok := v.Get("const"); ok {
		return map[string]bool{string(c.AppendJSON(nil)): true}
	}
	enum, _ := v.Get("enum")
	if len(enum.Items) == 0 {
		return nil
	}
	all := map[string]bool{}
	for _, c := range enum.Items {
		all[string(c.AppendJSON(nil))] = true
	}
	return all
}

func (s *schema) number(r *reading, typ string) (Expr, error) {
	b := s.b
	limit := func(name string) (*big.Rat, error) {
		v, ok := r.take(name)
		if !ok {
			return nil, nil
		}
		n, ok := rational(v)
		if !ok {
			return nil, r.fail("%s is no number of at most 400 digits", name)
		}
		return n, nil
	}
	var limits [4]*big.Rat
	for i, name := range []string{"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"} {
		n, err := limit(name)
		if err != nil {
			return never, err
		}
		limits[i] = n
	}
	if limits == [4]*big.Rat{} {
		if typ == "integer" {
			return s.j.integer, nil
		}
		return s.j.number, nil
	}
	if typ == "number" {
		if limits[1] == nil && limits[2] == nil && limits[3] == nil && limits[0].Sign() == 0 {
			return b.Seq(b.Alt(b.Text("0"), b.seq(b.between('1', '9'), b.Repeat(s.j.digit, 0, mostDigits-1))),
				b.Opt(b.seq(b.Text("."), b.Repeat(s.j.digit, 1, mostFraction))),
				b.Opt(b.Seq(b.oneOf("eE"), b.Opt(b.oneOf("+-")), b.Repeat(s.j.digit, 1, 2)))), nil
		}
		return never, r.fail("of the type number no limit is supported but a minimum of 0; of the type integer all are")
	}
	most := new(big.Int).Exp(big.NewInt(10), big.NewInt(mostDigits), nil)
	most.Sub(most, big.NewInt(1))
	lo, hi := new(big.Int).Neg(most), most
	one := big.NewInt(1)
	up := func(n *big.Rat, more bool) {
		v := new(big.Int).Neg(floor(new(big.Rat).Neg(n)))
		if more && n.IsInt() {
			v.Add(v, one)
		}
		if v.Cmp(lo) > 0 {
			lo = v
		}
	}
	down := func(n *big.Rat, less bool) {
		v := floor(n)
		if less && n.IsInt() {
			v.Sub(v, one)
		}
		if v.Cmp(hi) < 0 {
			hi = v
		}
	}
	for i, n := range limits {
		switch {
		case n == nil:
		case i < 2:
			up(n, i == 1)
		default:
			down(n, i == 3)
		}
	}
	if lo.Cmp(hi) > 0 {
		return never, r.fail("no integer of at most %d digits lies within the limits", mostDigits)
	}
	var all []Expr
	if lo.Sign() < 0 {
		from := big.NewInt(1)
		if hi.Sign() < 0 {
			from = new(big.Int).Neg(hi)
		}
		all = append(all, b.seq(b.Text("-"), b.whole(from.String(), new(big.Int).Neg(lo).String())))
	}
	if hi.Sign() >= 0 {
		from := big.NewInt(0)
		if lo.Sign() > 0 {
			from = lo
		}
		all = append(all, b.whole(from.String(), hi.String()))
	}
	return b.Alt(all...), nil
}

func floor(n *big.Rat) *big.Int {
	return new(big.Int).Div(n.Num(), n.Denom()) // Euclidean; the denominator is positive
}

// formats are those that are held to; others are annotations.
var formats = map[string]string{
	"date":      `[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])`,
	"time":      `([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])`,
	"date-time": `[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])`,
	"uuid":      `[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}`,
	"ipv4":      `((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])`,
	"email":     `[a-zA-Z0-9_+-]+(\.[a-zA-Z0-9_+-]+)*@[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)+`,
}

func (s *schema) str(r *reading) (Expr, error) {
	b := s.b
	least, most, err := r.counts("minLength", "maxLength")
	if err != nil {
		return never, err
	}
	pattern, hasPattern := r.take("pattern")
	if hasPattern && pattern.Kind != harmony.String {
		return never, r.fail("pattern is no string")
	}
	format, _ := r.take("format")
	form, hasForm := formats[format.Text]
	if hasPattern && hasForm || (hasPattern || hasForm) && (least >= 0 || most >= 0) {
		return never, r.fail("pattern, format and lengths are supported one without the others")
	}
	quoted := func(e Expr) Expr { return b.Seq(b.Text(`"`), e, b.Text(`"`)) }
	switch {
	case hasPattern || hasForm:
		text := "^(" + form + ")$"
		if hasPattern {
			text = pattern.Text
		}
		e, err := s.pattern(r, text)
		return quoted(e), err
	case most >= 0 && most < least:
		return never, r.fail("maxLength %d is below minLength %d", most, least)
	}
	return quoted(b.Repeat(s.j.char, max(least, 0), most)), nil
}

// pattern is the contents of strings that a regular expression finds something
// in.
func (s *schema) pattern(r *reading, text string) (Expr, error) {
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return never, r.fail("the pattern %s is not supported: %v", quote.Value(text), err)
	}
	re = re.Simplify()
	any := s.b.Repeat(s.j.char, 0, -1)
	parts := []*syntax.Regexp{re}
	if re.Op == syntax.OpConcat {
		parts = re.Sub
	}
	before, after := any, any
	if n := len(parts); n > 0 && parts[0].Op == syntax.OpBeginText {
		before, parts = empty, parts[1:]
	}
	if n := len(parts); n > 0 && parts[n-1].Op == syntax.OpEndText {
		after, parts = empty, parts[:n-1]
	}
	all := []Expr{before}
	for _, p := range parts {
		e, err := s.regexp(r, p)
		if err != nil {
			return never, err
		}
		all = append(all, e)
	}
	return s.b.Seq(append(all, after)...), nil
}

func (s *schema) regexp(r *reading, re *syntax.Regexp) (Expr, error) {
	b := s.b
	if !b.spend(1) {
		return never, b.err
	}
	var subs []Expr
	for _, sub := range re.Sub {
		e, err := s.regexp(r, sub)
		if err != nil {
			return never, err
		}
		subs = append(subs, e)
	}
	// Repeat takes nothing that may be empty: x* of such an x is that of the rest.
	star := func(x Expr, least int) Expr {
		if b.nodes[x].null {
			return never
		}
		return b.Repeat(x, least, -1)
	}
	switch re.Op {
	case syntax.OpEmptyMatch:
		return empty, nil
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 {
			break
		}
		e := empty
		for _, c := range slices.Backward(re.Rune) {
			e = b.seq(s.char(c, c), e)
		}
		return e, nil
	case syntax.OpCharClass:
		class := fmt.Sprint(re.Rune)
		if e, ok := s.chars[class]; ok {
			b.spend(len(re.Rune) / 16)
			return e, nil
		}
		var all []Expr
		for i := 0; i+1 < len(re.Rune); i += 2 {
			all = append(all, s.char(re.Rune[i], re.Rune[i+1]))
		}
		s.chars[class] = b.Alt(all...)
		return s.chars[class], nil
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return s.char(0x20, 0x10ffff), nil
	case syntax.OpCapture:
		return subs[0], nil
	case syntax.OpConcat:
		return b.Seq(subs...), nil
	case syntax.OpAlternate:
		return b.Alt(subs...), nil
	case syntax.OpQuest:
		return b.Opt(subs[0]), nil
	case syntax.OpStar, syntax.OpPlus:
		if b.nodes[subs[0]].null {
			break
		}
		return star(subs[0], map[syntax.Op]int{syntax.OpStar: 0, syntax.OpPlus: 1}[re.Op]), nil
	}
	return never, r.fail("the part %s of a pattern is not supported", quote.Value(re.String()))
}

// char is one character of a range as a string of JSON has it.
func (s *schema) char(lo, hi rune) Expr {
	b := s.b
	var all []Expr
	for c, text := range map[rune]string{'"': `\"`, '\\': `\\`, '\n': `\n`, '\t': `\t`, '\r': `\r`} {
		if lo <= c && c <= hi {
			all = append(all, b.Text(text))
		}
	}
	for _, span := range [][2]rune{{0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0x10ffff}} {
		all = append(all, b.runes(max(lo, span[0]), min(hi, span[1])))
	}
	return b.Alt(all...)
}

func (s *schema) array(r *reading, depth int) (Expr, error) {
	b := s.b
	least, most, err := r.counts("minItems", "maxItems")
	if err != nil {
		return never, err
	}
	item := s.j.value
	if v, ok := r.take("items"); ok {
		if item, err = s.compile(v, r.path+"/items", depth+1); err != nil {
			return never, err
		}
	}
	least = max(least, 0)
	switch {
	case most >= 0 && most < least:
		return never, r.fail("maxItems %d is below minItems %d", most, least)
	case most == 0:
		return b.Seq(b.Text("["), s.j.space, b.Text("]")), nil
	}
	more := -1
	if most > 0 {
		more = most - 1
	}
	list := b.Seq(item, b.Repeat(b.seq(s.j.comma, item), max(least-1, 0), more), s.j.space)
	if least == 0 {
		list = b.Opt(list)
	}
	return b.Seq(b.Text("["), s.j.space, list, b.Text("]")), nil
}

func (s *schema) object(r *reading, depth int) (Expr, error) {
	b := s.b
	type property struct {
		name     string
		value    Expr
		required bool
	}
	var list []property
	var names []Expr
	props, _ := r.take("properties")
	if props.Kind != harmony.Object && props.Kind != harmony.Null {
		return never, r.fail("properties is no object")
	}
	for _, m := range props.Members {
		e, err := s.compile(m.Value, r.path+"/properties/"+strings.ReplaceAll(strings.ReplaceAll(m.Name, "~", "~0"), "/", "~1"), depth+1)
		if err != nil {
			return never, err
		}
		list = append(list, property{m.Name, e, false})
	}
	extra := s.j.value
	if v, ok := r.take("additionalProperties"); ok {
		if v.Kind == harmony.Bool && v.Text == "false" {
			extra = never
		} else {
			var err error
			if extra, err = s.compile(v, r.path+"/additionalProperties", depth+1); err != nil {
				return never, err
			}
		}
	}
	index := map[string]int{}
	for i, p := range list {
		index[p.name] = i
	}
	must, _ := r.take("required")
	if must.Kind != harmony.Array && must.Kind != harmony.Null {
		return never, r.fail("required is no array of names")
	}
	for _, n := range must.Items {
		at, known := index[n.Text]
		switch {
		case n.Kind != harmony.String:
			return never, r.fail("required is no array of names")
		case known:
			list[at].required = true
		case extra == never:
			return never, r.fail("%s is required, but no property", quote.Value(n.Text))
		default:
			index[n.Text] = len(list)
			list = append(list, property{n.Text, extra, true})
		}
	}
	for _, p := range list {
		names = append(names, b.Seq(s.literal(harmony.Value{Kind: harmony.String, Text: p.name})))
	}
	member := func(key, value Expr) Expr { return b.Seq(key, s.j.colon, value) }
	// first and later are what may stand from a property on, without members
	// before it and with some.
	var first, later Expr = empty, empty
	if extra != never {
		// A name of another property could be spelled with escapes: there are none.
		key := b.except(b.Seq(b.Text(`"`), b.Repeat(s.j.plain, 0, -1), b.Text(`"`)), b.Alt(names...))
		more := b.Repeat(b.seq(s.j.comma, member(key, extra)), 0, -1)
		first, later = b.Opt(b.seq(member(key, extra), more)), more
	}
	for i, p := range slices.Backward(list) {
		here := member(names[i], p.value)
		f, l := b.seq(here, later), b.Seq(s.j.comma, here, later)
		if !p.required {
			f, l = b.either(f, first), b.either(l, later)
		}
		first, later = f, l
	}
	inside := b.seq(first, s.j.space)
	return b.Seq(b.Text("{"), s.j.space, inside, b.Text("}")), nil
}
