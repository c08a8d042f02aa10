package tokenizer

import (
	"fmt"
	"unicode/utf8"
)

// An UnknownIDError says that an id is no token.
type UnknownIDError struct {
	Index int // in the ids given
	ID    uint32
}

func (e *UnknownIDError) Error() string {
	return fmt.Sprintf("tokenizer: ids[%d]: Invalid token for decoding: %d", e.Index, e.ID)
}

// An InvalidUTF8Error says that decoded bytes are not UTF-8.
type InvalidUTF8Error struct {
	Offset int // of the first byte that is not UTF-8
	Length int // bytes of the ill-formed sequence; 0 if the end cuts it off
}

func (e *InvalidUTF8Error) Error() string { return "tokenizer: " + e.Reference() }

// Reference is the reference's wording, which is that of Rust's Utf8Error.
func (e *InvalidUTF8Error) Reference() string {
	if e.Length == 0 {
		return fmt.Sprintf("incomplete utf-8 byte sequence from index %d", e.Offset)
	}
	return fmt.Sprintf("invalid utf-8 sequence of %d bytes from index %d", e.Length, e.Offset)
}

// Token returns the bytes of one token, a special's being its name. It copies
// nothing. ok is false if id is no token.
func (t *Tokenizer) Token(id uint32) (bytes string, ok bool) {
	if id < Ordinary {
		return t.tokens[t.offsets[id]:t.offsets[id+1]], true
	}
	return t.SpecialName(id)
}

// DecodeBytes appends the bytes of ids to dst, which need not be UTF-8. At an
// id that is no token it stops and returns an *UnknownIDError beside what came
// before.
func (t *Tokenizer) DecodeBytes(dst []byte, ids []uint32) ([]byte, error) {
	for i, id := range ids {
		token, ok := t.Token(id)
		if !ok {
			return dst, &UnknownIDError{Index: i, ID: id}
		}
		dst = append(dst, token...)
	}
	return dst, nil
}

// Decode returns the text of ids, or an *UnknownIDError, or an
// *InvalidUTF8Error if their bytes are not UTF-8.
func (t *Tokenizer) Decode(ids []uint32) (string, error) {
	b, err := t.DecodeBytes(nil, ids)
	if err != nil {
		return "", err
	}
	if valid, bad := ScanUTF8(b); valid < len(b) {
		return "", &InvalidUTF8Error{Offset: valid, Length: bad}
	}
	return string(b), nil
}

// DecodeReplacing returns the text of ids with one U+FFFD for every maximal
// ill-formed subpart, or an *UnknownIDError.
func (t *Tokenizer) DecodeReplacing(ids []uint32) (string, error) {
	b, err := t.DecodeBytes(nil, ids)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(b) {
		b = AppendReplacing(nil, b)
	}
	return string(b), nil
}

// A Decoder decodes ids as they come. The texts of Push and Flush joined are
// those of DecodeReplacing: none holds half a code point.
type Decoder struct {
	t       *Tokenizer
	pending []byte // the start of a code point, at most 3 bytes
}

// NewDecoder returns a Decoder at the start of a text.
func (t *Tokenizer) NewDecoder() *Decoder { return &Decoder{t: t} }

// Push returns the text that is certain now that id has come; it may be empty.
// An id that is no token is an *UnknownIDError and changes nothing.
func (d *Decoder) Push(id uint32) (string, error) {
	token, ok := d.t.Token(id)
	if !ok {
		return "", &UnknownIDError{ID: id}
	}
	if len(d.pending) == 0 && utf8.ValidString(token) {
		return token, nil
	}
	b := append(d.pending, token...)
	text, used := appendCertain(nil, b)
	d.pending = append(d.pending[:0], b[used:]...)
	return string(text), nil
}

// Flush ends the text: it returns U+FFFD if a code point is incomplete, else
// nothing. The Decoder is then as new.
func (d *Decoder) Flush() string {
	if len(d.pending) == 0 {
		return ""
	}
	d.pending = d.pending[:0]
	return "\uFFFD"
}
