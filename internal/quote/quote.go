// Package quote shows text from outside, so that no escape sequence in it
// reaches a terminal and no message is longer than a reader takes in.
package quote

import (
	"strconv"
	"unicode/utf8"
)

// Most is how many bytes of a text a message shows.
const Most = 200

// Plain returns text with what is not printable escaped as in a Go string:
// control characters, marks that change the direction, bytes that are not
// UTF-8. Other text is returned as it is, backslashes included.
func Plain(text string) string {
	var b []byte
	from := 0 // what stands before is in b
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		if bad := r == utf8.RuneError && n == 1; bad || !strconv.IsPrint(r) {
			b = append(b, text[from:i]...)
			q := strconv.Quote(text[i : i+n])
			b = append(b, q[1:len(q)-1]...)
			from = i + n
		}
		i += n
	}
	if b == nil {
		return text
	}
	return string(append(b, text[from:]...))
}

// Start is Plain for text of any length: of one that is longer than Most, its
// start and "...".
func Start(text string) string {
	start, cut := head(text)
	return Plain(start) + cut
}

// Name is Start for a name in a message of one line: in quotes if a reader
// could take it for something else, because it holds what is not printable, a
// quote or a backslash.
func Name(name string) string {
	start, cut := head(name)
	if q := strconv.Quote(start); q != `"`+start+`"` {
		start = q
	}
	return start + cut
}

// Value is Start in quotes.
func Value(text string) string {
	start, cut := head(text)
	return strconv.Quote(start) + cut
}

// head returns what is shown of a text, and "..." if that is not all.
func head(text string) (start, cut string) {
	if len(text) <= Most {
		return text, ""
	}
	end := Most
	for end > Most-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end], "..."
}
