package tokenizer

// o200k's pattern, seven alternatives of which the first that matches wins:
//
//	1  [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//	2  [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//	3  \p{N}{1,3}
//	4   ?[^\s\p{L}\p{N}]+[\r\n/]*
//	5  \s*[\r\n]+
//	6  \s+(?!\S)
//	7  \s+
//
// The scanner below is that pattern with the backtracking worked out by hand.
// It needs one class per code point; classes.go has them for Unicode 16.0, the
// version of the reference's regex engine (Go 1.26's package unicode has 15.0).
const (
	other   = '0' + iota // none of the below, unassigned included
	upper                // Lu, Lt
	lower                // Ll
	letter               // Lm, Lo: neither upper nor lower
	mark                 // M
	number               // N
	space                // \s without CR and LF
	newline              // CR, LF
)

// classAt returns the class of the code point at text[i] and its length in
// bytes. text is UTF-8.
func classAt(text string, i int) (class byte, size int) {
	c := text[i]
	if c < 0x80 {
		return classBlocks[c], 1 // block 0 is U+0000 to U+00FF
	}
	var r uint32
	switch {
	case c < 0xE0:
		r = uint32(c&0x1F)<<6 | uint32(text[i+1]&0x3F)
		size = 2
	case c < 0xF0:
		r = uint32(c&0x0F)<<12 | uint32(text[i+1]&0x3F)<<6 | uint32(text[i+2]&0x3F)
		size = 3
	default:
		r = uint32(c&0x07)<<18 | uint32(text[i+1]&0x3F)<<12 | uint32(text[i+2]&0x3F)<<6 | uint32(text[i+3]&0x3F)
		size = 4
	}
	return classBlocks[uint(classIndex[r>>8])<<8|uint(r&0xFF)], size
}

// pieceEnd returns the end of the piece that starts at text[i], i < len(text).
func pieceEnd(text string, i int) int {
	class, size := classAt(text, i)
	if class == number { // alternative 3
		end := i + size
		for range 2 {
			if end == len(text) {
				break
			}
			c, n := classAt(text, end)
			if c != number {
				break
			}
			end += n
		}
		return end
	}
	if class != newline {
		if end := wordEnd(text, i, class, size); end > i {
			return end
		}
		if end := symbolsEnd(text, i); end > i {
			return end
		}
	}
	return spacesEnd(text, i)
}

// wordEnd returns the end of alternative 1 or 2 at text[i], or i if neither
// matches. class and size are those of the first code point.
func wordEnd(text string, i int, class byte, size int) int {
	start := i // of the letters
	if class == other || class == space {
		start += size // the optional prefix; a mark there matches as well without it
	}
	// The upper part. It gives back only as far as the lower part needs: to the
	// end of its last letter or mark if no lower letter follows.
	end, lastUncased := start, -1
	for end < len(text) {
		c, n := classAt(text, end)
		if c == lower {
			return contractionEnd(text, lowerEnd(text, end+n))
		}
		if c != upper && c != letter && c != mark {
			break
		}
		end += n
		if c != upper {
			lastUncased = end
		}
	}
	switch {
	case lastUncased >= 0: // alternative 1, the lower part being one letter or mark
		return contractionEnd(text, lastUncased)
	case end > start: // alternative 2
		return contractionEnd(text, end)
	}
	return i
}

// lowerEnd returns the end of [\p{Ll}\p{Lm}\p{Lo}\p{M}]* at text[i].
func lowerEnd(text string, i int) int {
	for i < len(text) {
		if c := text[i]; 'a' <= c && c <= 'z' { // most bytes of most texts
			i++
			continue
		}
		c, n := classAt(text, i)
		if c != lower && c != letter && c != mark {
			break
		}
		i += n
	}
	return i
}

// contractionEnd returns the end of (?i:'s|'t|'re|'ve|'m|'ll|'d)? at text[i].
// U+017F folds to s; no other letter of these has a fold outside ASCII.
func contractionEnd(text string, i int) int {
	if len(text)-i < 2 || text[i] != '\'' {
		return i
	}
	var c byte // the letter after the next
	if len(text)-i > 2 {
		c = text[i+2]
	}
	switch text[i+1] {
	case 's', 'S', 't', 'T', 'm', 'M', 'd', 'D':
		return i + 2
	case 'r', 'R', 'v', 'V':
		if c == 'e' || c == 'E' {
			return i + 3
		}
	case 'l', 'L':
		if c == 'l' || c == 'L' {
			return i + 3
		}
	case 0xC5:
		if c == 0xBF { // U+017F
			return i + 3
		}
	}
	return i
}

// symbolsEnd returns the end of alternative 4 at text[i], or i.
func symbolsEnd(text string, i int) int {
	start := i
	if text[i] == ' ' {
		start++
	}
	end := start
	for end < len(text) {
		c, n := classAt(text, end)
		if c != other && c != mark {
			break
		}
		end += n
	}
	if end == start {
		return i
	}
	for end < len(text) && (text[end] == '\r' || text[end] == '\n' || text[end] == '/') {
		end++
	}
	return end
}

// spacesEnd returns the end of alternative 5, 6 or 7 at text[i], which is
// white space.
func spacesEnd(text string, i int) int {
	end, last, afterNewline := i, i, -1 // last is the start of the run's last code point
	for end < len(text) {
		c, n := classAt(text, end)
		if c != space && c != newline {
			break
		}
		last = end
		end += n
		if c == newline {
			afterNewline = end
		}
	}
	switch {
	case afterNewline >= 0:
		return afterNewline
	case end == len(text) || last == i:
		return end
	}
	return last // leave one space for the word that follows
}
