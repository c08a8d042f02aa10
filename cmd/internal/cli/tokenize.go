package cli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ossify/tokenizer"
)

func newTokenize() *cobra.Command {
	var special, asJSON, count bool
	c := &cobra.Command{
		Use:   "tokenize [TEXT...]",
		Short: "Turn text into o200k_harmony token ids",
		Long: `Tokenize prints the ids of the text on one line. Several arguments are one
text, with a space between them. Without arguments it reads standard input to
its end, a last newline included, at most 64 MiB. Bytes that are not UTF-8
count as U+FFFD.

The names of special tokens, such as <|start|>, are ordinary text unless
--special is given.`,
		Example: `  ossify tokenize 'hello world'
  ossify tokenize --special '<|start|>user<|message|>hi<|end|>'
  ossify tokenize --count < README.md`,
		RunE: func(c *cobra.Command, args []string) error {
			text, err := argumentsOrInput(c, args)
			if err != nil {
				return err
			}
			t := tokenizer.New()
			allowed := tokenizer.NoSpecials()
			if special {
				allowed = tokenizer.AllSpecials()
			}
			var line []byte
			if count && !special {
				line = strconv.AppendInt(line, int64(t.Count(text)), 10)
			} else if ids := t.Encode(nil, text, allowed); count {
				line = strconv.AppendInt(line, int64(len(ids)), 10)
			} else {
				line = appendIDs(line, ids, asJSON)
			}
			_, err = c.OutOrStdout().Write(append(line, '\n'))
			return err
		},
	}
	c.Flags().BoolVar(&special, "special", false, "read the names of special tokens as those tokens")
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	c.Flags().BoolVar(&count, "count", false, "print only how many ids there are")
	return c
}

func newDetokenize() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "detokenize [IDS...]",
		Short: "Turn o200k_harmony token ids into text",
		Long: `Detokenize writes the bytes of the ids, exactly: it adds no newline, and the
ids need not be UTF-8 together. Ids are separated by white space or commas, or
are a JSON array. Without arguments it reads them from standard input.`,
		Example: `  ossify detokenize 24912 2375
  ossify tokenize --json < README.md | ossify detokenize`,
		RunE: func(c *cobra.Command, args []string) error {
			text, err := argumentsOrInput(c, args)
			if err != nil {
				return err
			}
			ids, err := parseIDs(text)
			if err != nil {
				return fmt.Errorf("detokenize: %w", err)
			}
			t := tokenizer.New()
			if !asJSON {
				b, err := t.DecodeBytes(nil, ids)
				if err == nil {
					_, err = c.OutOrStdout().Write(b)
				}
				return err
			}
			s, err := t.DecodeReplacing(ids)
			if err != nil {
				return err
			}
			e := json.NewEncoder(c.OutOrStdout())
			e.SetEscapeHTML(false)
			return e.Encode(s)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON string; bytes that are not UTF-8 become U+FFFD")
	return c
}

// appendIDs appends ids separated by spaces, or as a JSON array.
func appendIDs(line []byte, ids []uint32, asJSON bool) []byte {
	open, between, end := "", " ", ""
	if asJSON {
		open, between, end = "[", ",", "]"
	}
	line = append(line, open...)
	for i, id := range ids {
		if i > 0 {
			line = append(line, between...)
		}
		line = strconv.AppendUint(line, uint64(id), 10)
	}
	return append(line, end...)
}

// fileTokens reads the ids of a file, standard input if it is -.
func fileTokens(c *cobra.Command, name string) ([]uint32, error) {
	return parseInput(c, name, func(text []byte) ([]uint32, error) { return parseIDs(string(text)) })
}

// parseIDs reads ids separated by white space or a comma, or a JSON array.
func parseIDs(text string) ([]uint32, error) {
	text = strings.TrimSpace(text)
	ids := []uint32{}
	if strings.HasPrefix(text, "[") {
		var array json.RawMessage
		if err := json.Unmarshal([]byte(text), &array); err != nil {
			return nil, fmt.Errorf("the ids are no JSON array: %w", err)
		}
		text = strings.TrimFunc(text[1:len(text)-1], isSpace) // what is not a number is found below
	}
	for text != "" {
		end := strings.IndexFunc(text, func(r rune) bool { return r == ',' || isSpace(r) })
		if end < 0 {
			end = len(text)
		}
		id, err := strconv.ParseUint(text[:end], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("ids[%d]: %.80q is no token id, want 0 to %d", len(ids), text[:end], tokenizer.DecodeSize-1)
		}
		ids = append(ids, uint32(id))
		rest := strings.TrimLeftFunc(text[end:], isSpace)
		text = strings.TrimPrefix(rest, ",")
		if comma := text != rest; comma {
			if text = strings.TrimLeftFunc(text, isSpace); text == "" {
				return nil, fmt.Errorf("ids[%d] is missing after the last comma", len(ids))
			}
		}
	}
	return ids, nil
}

func isSpace(r rune) bool { return r == ' ' || '\t' <= r && r <= '\r' }
