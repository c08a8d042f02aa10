package tokenizer

import (
	"fmt"
	"strings"
)

// The special tokens with a meaning. The other ids from Ordinary to
// DecodeSize-1 are <|reserved_N|>, N being the id.
const (
	StartOfText uint32 = 199_998 // <|startoftext|>
	EndOfText   uint32 = 199_999 // <|endoftext|>: a document ends
	Return      uint32 = 200_002 // <|return|>: the model is done
	Constrain   uint32 = 200_003 // <|constrain|>: the content's type follows
	Channel     uint32 = 200_005 // <|channel|>: the channel's name follows
	Start       uint32 = 200_006 // <|start|>: a message's header follows
	End         uint32 = 200_007 // <|end|>: a message ends
	Message     uint32 = 200_008 // <|message|>: a message's content follows
	Call        uint32 = 200_012 // <|call|>: the model calls a tool
)

const (
	endOfPrompt     = 200_018
	endOfPromptName = "<|endofprompt|>"
)

// A Special is one special token.
type Special struct {
	Name string // as in "<|start|>"
	ID   uint32
}

func (t *Tokenizer) loadSpecials() {
	t.specialNames = make([]string, DecodeSize-Ordinary)
	t.specialIDs = make(map[string]uint32, DecodeSize-Ordinary+1)
	for _, s := range []Special{
		{"<|startoftext|>", StartOfText}, {"<|endoftext|>", EndOfText},
		{"<|return|>", Return}, {"<|constrain|>", Constrain}, {"<|channel|>", Channel},
		{"<|start|>", Start}, {"<|end|>", End}, {"<|message|>", Message}, {"<|call|>", Call},
	} {
		t.specialNames[s.ID-Ordinary] = s.Name
	}
	for i, name := range t.specialNames {
		id := uint32(Ordinary + i)
		if name == "" {
			name = fmt.Sprintf("<|reserved_%d|>", id)
			t.specialNames[i] = name
		}
		t.specialIDs[name] = id
	}
}

// Special returns the id of the special token with this name.
func (t *Tokenizer) Special(name string) (id uint32, ok bool) {
	id, ok = t.specialIDs[name]
	return id, ok
}

// SpecialName returns the name of a special token.
func (t *Tokenizer) SpecialName(id uint32) (name string, ok bool) {
	if !t.IsSpecial(id) {
		return "", false
	}
	return t.specialNames[id-Ordinary], true
}

// IsSpecial reports whether id is a special token, reserved ones included.
func (t *Tokenizer) IsSpecial(id uint32) bool { return id >= Ordinary && id < DecodeSize }

// Specials returns the special tokens in the order of their ids.
func (t *Tokenizer) Specials() []Special {
	table := make([]Special, len(t.specialNames))
	for i, name := range t.specialNames {
		table[i] = Special{Name: name, ID: uint32(Ordinary + i)}
	}
	return table
}

// Specials is a set of special tokens. The zero value is empty.
type Specials struct {
	names  map[string]bool
	except bool // all but names
}

// NoSpecials is the empty set.
func NoSpecials() Specials { return Specials{} }

// AllSpecials is every special token.
func AllSpecials() Specials { return Specials{except: true} }

// SpecialsOf is the specials with these names. Other strings are no members,
// as in the reference.
func SpecialsOf(names ...string) Specials { return Specials{names: setOf(names)} }

// AllSpecialsBut is every special token without these.
func AllSpecialsBut(names ...string) Specials { return Specials{names: setOf(names), except: true} }

// Has reports whether the special called name is in the set.
func (s Specials) Has(name string) bool { return s.names[name] != s.except }

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

// findSpecial returns the place of the first special of set in text[from:], or
// len(text) twice. No name holds another, so the first is the only one there.
func (t *Tokenizer) findSpecial(text string, from int, set Specials) (start, end int) {
	if !set.except && len(set.names) == 0 {
		return len(text), len(text)
	}
	const longest = len("<|reserved_200000|>")
	for {
		i := strings.Index(text[from:], "<|")
		if i < 0 {
			return len(text), len(text)
		}
		start = from + i
		name := text[start:min(len(text), start+longest)]
		if j := strings.Index(name[2:], "|>"); j >= 0 {
			name = name[:2+j+2]
			if _, ok := t.specialIDs[name]; ok && set.Has(name) {
				return start, start + len(name)
			}
		}
		from = start + len("<|")
	}
}

// A DisallowedError says that a text names a special token that it must not.
type DisallowedError struct {
	Name   string // of the special token
	Offset int    // where it is in the text, in bytes
}

func (e *DisallowedError) Error() string {
	return fmt.Sprintf("tokenizer: byte %d: text holds the special token %s, which is not allowed there", e.Offset, e.Name)
}

// Reference is the text that openai-harmony's encode raises.
func (e *DisallowedError) Reference() string {
	return "Encountered text corresponding to disallowed special token '" + e.Name + "'.\n" +
		"If you want this text to be encoded as a special token, pass it to `allowed_special`, e.g. `allowed_special={'" + e.Name + "', ...}`.\n" +
		"If you want this text to be encoded as normal text, disable the check for this token by passing `disallowed_special=(enc.special_tokens_set - {'" + e.Name + "'})`.\n" +
		"To disable this check for all special tokens, pass `disallowed_special=()`.\n"
}
