package grammar

import (
	"strings"
	"unicode/utf8"
)

// What a model writes as JSON is bounded where nothing needs it to be longer:
// white space, digits. A model that cannot choose anything else would go on for
// ever.
const (
	mostIndent   = 64 // blanks after a line feed
	mostDigits   = 15 // of a whole number: those that a float64 tells apart
	mostFraction = 17
)

// jsonExprs are the parts of JSON.
type jsonExprs struct {
	space   Expr // between tokens
	comma   Expr
	colon   Expr
	value   Expr // a reference: any value
	object  Expr // any object
	array   Expr
	str     Expr // any string, quoted
	char    Expr // one character of a string
	plain   Expr // the same without escapes
	integer Expr
	number  Expr
	digit   Expr
}

// json returns the parts of JSON.
func (b *Builder) json() *jsonExprs {
	if b.parsed != nil {
		return b.parsed
	}
	j := &jsonExprs{}
	b.parsed = j
	j.digit = b.between('0', '9')
	j.space = b.Opt(b.Alt(b.Text(" "), b.seq(b.Text("\n"), b.Repeat(b.oneOf(" \t"), 0, mostIndent))))
	j.comma = b.Seq(j.space, b.Text(","), j.space)
	j.colon = b.Seq(j.space, b.Text(":"), j.space)

	// RFC 8259, section 7. A surrogate stands in a pair only.
	hex := b.oneOf("0123456789abcdefABCDEF")
	escape := b.seq(b.Text(`\`), b.Alt(
		b.oneOf(`"\/bfnrt`),
		b.seq(b.Text("u"), b.Alt(
			b.Seq(b.oneOf("0123456789abcefABCEF"), hex, hex, hex),
			b.Seq(b.oneOf("dD"), b.oneOf("01234567"), hex, hex),
			b.Seq(b.oneOf("dD"), b.oneOf("89abAB"), hex, hex, b.Text(`\u`), b.oneOf("dD"), b.oneOf("cdefCDEF"), hex, hex),
		)),
	))
	j.plain = b.Alt(b.runes(0x20, 0x21), b.runes(0x23, 0x5b), b.runes(0x5d, utf8.MaxRune))
	j.char = b.Alt(j.plain, escape)
	j.str = b.Seq(b.Text(`"`), b.Repeat(j.char, 0, -1), b.Text(`"`))

	j.integer = b.seq(b.Opt(b.Text("-")), b.Alt(b.Text("0"), b.seq(b.between('1', '9'), b.Repeat(j.digit, 0, mostDigits-1))))
	j.number = b.Seq(j.integer,
		b.Opt(b.seq(b.Text("."), b.Repeat(j.digit, 1, mostFraction))),
		b.Opt(b.Seq(b.oneOf("eE"), b.Opt(b.oneOf("+-")), b.Repeat(j.digit, 1, 2))))

	j.value = b.Ref()
	member := b.Seq(j.str, j.colon, j.value)
	j.object = b.Seq(b.Text("{"), j.space, b.Opt(b.Seq(member, b.Repeat(b.seq(j.comma, member), 0, -1), j.space)), b.Text("}"))
	j.array = b.Seq(b.Text("["), j.space, b.Opt(b.Seq(j.value, b.Repeat(b.seq(j.comma, j.value), 0, -1), j.space)), b.Text("]"))
	b.Define(j.value, b.Alt(j.object, j.array, j.str, j.number, b.Text("true"), b.Text("false"), b.Text("null")))
	return j
}

// runes is one character of a range, in UTF-8. Surrogates are none.
func (b *Builder) runes(lo, hi rune) Expr {
	if lo > hi {
		return never
	}
	if lo < 0xd800 && hi > 0xdfff {
		return b.Alt(b.runes(lo, 0xd7ff), b.runes(0xe000, hi))
	}
	if lo >= 0xd800 && hi <= 0xdfff {
		return never
	}
	if lo >= 0xd800 && lo <= 0xdfff {
		return b.runes(0xe000, hi)
	}
	if hi >= 0xd800 && hi <= 0xdfff {
		return b.runes(lo, 0xd7ff)
	}
	for _, last := range []rune{0x7f, 0x7ff, 0xffff} { // of one, two and three bytes
		if lo <= last && hi > last {
			return b.Alt(b.runes(lo, last), b.runes(last+1, hi))
		}
	}
	var x, y [utf8.UTFMax]byte
	n := utf8.EncodeRune(x[:], lo)
	utf8.EncodeRune(y[:], hi)
	return b.span(x[:n], y[:n])
}

// span is the byte sequences from x to y, of one length, whose later bytes are
// those of UTF-8.
func (b *Builder) span(x, y []byte) Expr {
	if len(x) == 1 {
		return b.between(x[0], y[0])
	}
	least, most := make([]byte, len(x)-1), make([]byte, len(x)-1)
	for i := range least {
		least[i], most[i] = 0x80, 0xbf
	}
	if x[0] == y[0] {
		return b.seq(b.between(x[0], x[0]), b.span(x[1:], y[1:]))
	}
	lo, hi := x[0]+1, y[0]-1
	parts := []Expr{
		b.seq(b.between(x[0], x[0]), b.span(x[1:], most)),
		b.seq(b.between(y[0], y[0]), b.span(least, y[1:])),
	}
	if lo <= hi {
		parts = append(parts, b.seq(b.between(lo, hi), b.span(least, most)))
	}
	return b.Alt(parts...)
}

// whole is the whole numbers from lo to hi, neither of which is negative.
func (b *Builder) whole(lo, hi string) Expr {
	if len(lo) < len(hi) {
		nines, ones := make([]byte, len(lo)), make([]byte, len(lo)+1)
		for i := range nines {
			nines[i], ones[i+1] = '9', '0'
		}
		ones[0] = '1'
		return b.Alt(b.digits(lo, string(nines)), b.whole(string(ones), hi))
	}
	return b.digits(lo, hi)
}

// digits is the texts of digits from lo to hi, which have one length.
func (b *Builder) digits(lo, hi string) Expr {
	switch {
	case lo > hi:
		return never
	case lo == "":
		return empty
	case strings.Trim(lo, "0") == "" && strings.Trim(hi, "9") == "":
		// Else this would take 3 to the power of their number of steps.
		return b.Repeat(b.between('0', '9'), len(lo), len(lo))
	case lo[0] == hi[0]:
		return b.seq(b.Text(lo[:1]), b.digits(lo[1:], hi[1:]))
	}
	nines, zeros := make([]byte, len(lo)-1), make([]byte, len(lo)-1)
	for i := range nines {
		nines[i], zeros[i] = '9', '0'
	}
	parts := []Expr{
		b.seq(b.Text(lo[:1]), b.digits(lo[1:], string(nines))),
		b.seq(b.Text(hi[:1]), b.digits(string(zeros), hi[1:])),
	}
	if lo[0]+1 < hi[0] {
		parts = append(parts, b.seq(b.between(lo[0]+1, hi[0]-1), b.digits(string(zeros), string(nines))))
	}
	return b.Alt(parts...)
}
