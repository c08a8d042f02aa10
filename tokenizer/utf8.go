package tokenizer

import "unicode/utf8"

// ScanUTF8 returns the length of the longest prefix of b that is UTF-8, and
// the length of the maximal ill-formed subpart after it (Unicode 16.0, section
// 3.9: the bytes that one U+FFFD replaces). bad is 0 if b is UTF-8, or if it
// ends inside a code point that more bytes could complete. These are
// valid_up_to and error_len of Rust's Utf8Error.
func ScanUTF8(b []byte) (valid, bad int) {
	if utf8.Valid(b) {
		return len(b), 0
	}
	for valid < len(b) {
		r, n := utf8.DecodeRune(b[valid:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		valid += n
	}
	return valid, subpart(b[valid:])
}

// subpart returns the length of the maximal ill-formed subpart that b starts
// with, 0 if b ends in it.
func subpart(b []byte) int {
	// The second byte's range depends on the first: Unicode 16.0, table 3-7.
	low, high, length := byte(0x80), byte(0xBF), 1
	switch c := b[0]; {
	case c < 0xC2 || c > 0xF4:
		return 1
	case c < 0xE0:
		length = 2
	case c < 0xF0:
		length = 3
		if c == 0xE0 {
			low = 0xA0
		} else if c == 0xED {
			high = 0x9F
		}
	default:
		length = 4
		if c == 0xF0 {
			low = 0x90
		} else if c == 0xF4 {
			high = 0x8F
		}
	}
	n := 1
	for ; n < length; n++ {
		if n == len(b) {
			return 0
		}
		if b[n] < low || b[n] > high {
			break
		}
		low, high = 0x80, 0xBF
	}
	return n
}

// AppendReplacing appends b to dst with one U+FFFD for every maximal
// ill-formed subpart, as WHATWG's decoder, Python and Rust do. (A Go
// conversion to runes has one for every byte, strings.ToValidUTF8 one for a
// run of them.)
func AppendReplacing(dst, b []byte) []byte {
	dst, used := appendCertain(dst, b)
	if used < len(b) {
		dst = append(dst, "\uFFFD"...)
	}
	return dst
}

// appendCertain is AppendReplacing up to a code point that b's end cuts off.
func appendCertain(dst, b []byte) (out []byte, used int) {
	for {
		valid, bad := ScanUTF8(b[used:])
		dst = append(dst, b[used:used+valid]...)
		used += valid
		if bad == 0 {
			return dst, used
		}
		dst = append(dst, "\uFFFD"...)
		used += bad
	}
}
