// Package tokenizer is o200k_harmony, the tokenizer of gpt-oss: bytes to ids
// and back, with the ids openai-harmony 0.0.8 gives.
//
// A text is cut into pieces by the seven alternatives of o200k's pattern
// (scan.go), on Unicode 16; a piece that is no token itself is merged from its
// bytes, lowest rank first (merge.go). The vocabulary is embedded.
//
// Ids below [Ordinary] are ordinary tokens; the rest are special tokens, which
// steer the model. Only [Tokenizer.Encode] with allowed specials ever makes a
// special id from text: ordinary encoding cannot.
//
// Text that is not UTF-8 is encoded as if each maximal ill-formed subpart of
// it were U+FFFD, as the reference's users get who decode such bytes before
// they pass them on. A lone surrogate that encoding/json reads is one U+FFFD
// already, as in the reference. A text may have up to 2 GiB.
package tokenizer

import (
	_ "embed"
	"unicode/utf8"
)

//go:generate go -C gen run .

// vocabulary is the mergeable tokens of o200k_base in rank order: Ordinary
// length bytes, then the tokens' bytes. Its source and licence are in NOTICE.
//
//go:embed vocab.bin
var vocabulary string

// The sizes of the vocabulary.
const (
	Ordinary   = 199_998 // ids below are ordinary tokens, in merge order
	VocabSize  = 201_088 // rows of gpt-oss's embedding and unembedding
	DecodeSize = 201_089 // ids below can be decoded: harmony names one more than the model has
)

// Tokenizer encodes and decodes. It does not change after New and may be used
// by many goroutines at once.
type Tokenizer struct {
	offsets      []uint32            // Ordinary+1 places in tokens
	tokens       string              // the bytes of all ordinary tokens
	index        []uint32            // hash table from bytes to id: tag of the hash, id+1; 0 for none
	filter       [filterWords]uint64 // which hashes the index may hold
	bytes        [256]uint32         // ids of the single bytes
	pairs        []uint32            // id+1 of the token of two bytes, by those bytes; 0 for none
	longest      []uint8             // bytes of the longest token that starts with two bytes; 1 for none
	specialNames []string            // by id - Ordinary
	specialIDs   map[string]uint32
}

// An Option changes what New returns.
type Option func(*Tokenizer)

// WithEndOfPrompt lets 200018 be <|endofprompt|>, as OpenAI's tiktoken and
// Hugging Face have it. Without it 200018 is <|reserved_200018|> and
// <|endofprompt|> is ordinary text, as in openai-harmony. With it both names
// encode to 200018, which decodes as <|endofprompt|>.
func WithEndOfPrompt() Option {
	return func(t *Tokenizer) {
		t.specialNames[endOfPrompt-Ordinary] = endOfPromptName
		t.specialIDs[endOfPromptName] = endOfPrompt
	}
}

// New returns o200k_harmony. It takes some milliseconds and 3.5 MB; keep the
// result.
func New(options ...Option) *Tokenizer {
	t := &Tokenizer{}
	t.loadVocabulary()
	t.loadSpecials()
	for _, o := range options {
		o(t)
	}
	return t
}

// EncodeOrdinary appends the ids of text to dst. Nothing in text is a special
// token: every id is below Ordinary.
func (t *Tokenizer) EncodeOrdinary(dst []uint32, text string) []uint32 {
	return t.encode(presize(dst, text), wellFormed(text))
}

// Encode appends the ids of text to dst, the names of allowed specials as
// their ids. Other specials in it are ordinary text.
func (t *Tokenizer) Encode(dst []uint32, text string, allowed Specials) []uint32 {
	dst = presize(dst, text)
	text = wellFormed(text)
	for from := 0; ; {
		start, end := t.findSpecial(text, from, allowed)
		dst = t.encode(dst, text[from:start])
		if start == end {
			return dst
		}
		dst = append(dst, t.specialIDs[text[start:end]])
		from = end
	}
}

// EncodeChecked is Encode for text that must not name any special of
// disallowed: then it returns a *DisallowedError and dst as it was. The
// reference's default is NoSpecials() and AllSpecials().
func (t *Tokenizer) EncodeChecked(dst []uint32, text string, allowed, disallowed Specials) ([]uint32, error) {
	if start, end := t.findSpecial(text, 0, disallowed); start < end {
		return dst, &DisallowedError{Name: text[start:end], Offset: start}
	}
	return t.Encode(dst, text, allowed), nil
}

// Count returns the number of ids of EncodeOrdinary, without keeping them.
func (t *Tokenizer) Count(text string) int {
	text = wellFormed(text)
	var m merger
	var ids []uint32
	n := 0
	for i := 0; i < len(text); {
		j := pieceEnd(text, i)
		if _, ok := t.lookup(text[i:j]); ok {
			n++
		} else {
			ids = m.merge(t, ids[:0], text[i:j])
			n += len(ids)
		}
		i = j
	}
	return n
}

// encode appends the ids of text, which is UTF-8.
func (t *Tokenizer) encode(dst []uint32, text string) []uint32 {
	var m merger
	for i := 0; i < len(text); {
		j := pieceEnd(text, i)
		if id, ok := t.lookup(text[i:j]); ok {
			dst = append(dst, id)
		} else {
			dst = m.merge(t, dst, text[i:j])
		}
		i = j
	}
	return dst
}

// presize gives a nil dst room for a typical text: English has 4 to 5 bytes a
// token.
func presize(dst []uint32, text string) []uint32 {
	if dst == nil {
		dst = make([]uint32, 0, len(text)/4+1)
	}
	return dst
}

func wellFormed(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	return string(AppendReplacing(nil, []byte(text)))
}
