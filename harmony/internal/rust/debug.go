// Package rust writes texts as Rust does.
package rust

import (
	"fmt"
	"sort"
	"strings"
)

// Debug writes s as Rust's Debug form does, which some of the reference's
// errors show.
func Debug(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == 0:
			b.WriteString(`\0`)
		case r < 0x20 || r == 0x7f || r >= 0x80 && isDebugEscaped(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func isDebugEscaped(r rune) bool {
	i := sort.Search(len(debugEscaped), func(i int) bool { return r <= debugEscaped[i][1] })
	return i < len(debugEscaped) && debugEscaped[i][0] <= r
}
