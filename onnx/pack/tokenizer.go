package pack

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"ossify/harmony"
	"ossify/tokenizer"
)

// pattern is o200k's, of package tokenizer, as the tokenizers library writes it.
const pattern = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?` +
	`|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?` +
	`|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`

// lastNamed is the last special token that the official tokenizer.json lists:
// <|endofprompt|>, 200018.
const lastNamed = 200_018

// An addedToken is a special token, as the tokenizers library describes one.
type addedToken struct {
	ID         *uint32 `json:"id,omitempty"`
	Content    string  `json:"content"`
	SingleWord bool    `json:"single_word"`
	LStrip     bool    `json:"lstrip"`
	RStrip     bool    `json:"rstrip"`
	Normalized bool    `json:"normalized"`
	Special    bool    `json:"special"`
}

func addedTokens(t *tokenizer.Tokenizer) []addedToken {
	var all []addedToken
	for id := uint32(tokenizer.Ordinary); id <= lastNamed; id++ {
		name, _ := t.SpecialName(id)
		all = append(all, addedToken{ID: &id, Content: name, Special: true})
	}
	return all
}

// byteLevel returns the letters that stand for bytes in a tokenizer.json:
// printable ones for themselves, others from U+0100 on.
func byteLevel() (letters [256]string) {
	next := rune(256)
	for b := range letters {
		r := rune(b)
		if !(r >= '!' && r <= '~' || r >= '¡' && r <= '¬' || r >= '®' && r <= 'ÿ') {
			r = next
			next++
		}
		letters[b] = string(r)
	}
	return letters
}

// tokenizerJSON returns the vocabulary as the tokenizers library reads it: the
// same tokens, merges and rules as in the official file.
func tokenizerJSON(t *tokenizer.Tokenizer) []byte {
	letters := byteLevel()
	spell := func(b string) string {
		var s []byte
		for i := range len(b) {
			s = append(s, letters[b[i]]...)
		}
		return string(s)
	}
	ranks := make(map[string]uint32, tokenizer.Ordinary)
	for id := range uint32(tokenizer.Ordinary) {
		token, _ := t.Token(id)
		ranks[token] = id
	}
	var out bytes.Buffer
	text := func(s string) {
		// The letters need no other escapes.
		out.WriteByte('"')
		for _, r := range s {
			if r == '"' || r == '\\' {
				out.WriteByte('\\')
			}
			out.Write(utf8.AppendRune(nil, r))
		}
		out.WriteByte('"')
	}
	type object = map[string]any
	head := object{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": addedTokens(t), "normalizer": nil,
		"pre_tokenizer": object{"type": "Sequence", "pretokenizers": []object{
			{"type": "Split", "pattern": object{"Regex": pattern}, "behavior": "Isolated", "invert": false},
			{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
		}},
		"post_processor": object{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
		"decoder":        object{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
	}
	// The model last: its lists are long, so they are written by hand.
	out.Write(bytes.TrimSuffix(jsonOf(head), []byte("\n}\n")))
	out.WriteString(",\n  \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": true, \"vocab\": {")
	for id := range uint32(tokenizer.Ordinary) {
		if id > 0 {
			out.WriteByte(',')
		}
		token, _ := t.Token(id)
		text(spell(token))
		out.WriteByte(':')
		out.Write(appendUint(nil, id))
	}
	out.WriteString("}, \"merges\": [")
	first := true
	for id := range uint32(tokenizer.Ordinary) {
		token, _ := t.Token(id)
		for _, m := range mergesOf(token, ranks) {
			if !first {
				out.WriteByte(',')
			}
			first = false
			out.WriteByte('[')
			text(spell(token[:m]))
			out.WriteByte(',')
			text(spell(token[m:]))
			out.WriteByte(']')
		}
	}
	out.WriteString("]}\n}\n")
	return out.Bytes()
}

// mergesOf returns where a token can be cut into two tokens, by the rank of the
// first, then of the second.
func mergesOf(token string, ranks map[string]uint32) []int {
	var cuts []int
	for i := 1; i < len(token); i++ {
		_, left := ranks[token[:i]]
		_, right := ranks[token[i:]]
		if left && right {
			cuts = append(cuts, i)
		}
	}
	slices.SortFunc(cuts, func(a, b int) int {
		return cmp.Or(cmp.Compare(ranks[token[:a]], ranks[token[:b]]), cmp.Compare(ranks[token[a:]], ranks[token[b:]]))
	})
	return cuts
}

func appendUint(b []byte, n uint32) []byte { return strconv.AppendUint(b, uint64(n), 10) }

// specialTokens returns special_tokens_map.json.
func specialTokens(t *tokenizer.Tokenizer) map[string]any {
	tokens := map[string]any{}
	for role, id := range map[string]uint32{"bos_token": tokenizer.StartOfText, "eos_token": tokenizer.Return, "pad_token": tokenizer.EndOfText} {
		tokens[role], _ = t.SpecialName(id)
	}
	return tokens
}

// tokenizerConfig returns tokenizer_config.json.
func tokenizerConfig(t *tokenizer.Tokenizer, template string) map[string]any {
	decoder := map[string]addedToken{}
	for _, a := range addedTokens(t) {
		id := strconv.Itoa(int(*a.ID))
		a.ID = nil
		decoder[id] = a
	}
	config := map[string]any{
		"added_tokens_decoder":         decoder,
		"chat_template":                template,
		"clean_up_tokenization_spaces": false,
		"model_input_names":            []string{"input_ids", "attention_mask"},
		"tokenizer_class":              "PreTrainedTokenizerFast",
	}
	maps.Copy(config, specialTokens(t))
	return config
}

// stops are the ids that end an answer.
func stops() []uint32 {
	return append(harmony.StopTokensForAssistantActions(), tokenizer.EndOfText)
}
