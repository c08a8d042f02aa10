// Command fuzz compares package tokenizer with npm tiktoken 1.0.22, whose
// engine is the one of openai-harmony, on generated strings: ordinary encoding
// and encoding with all special tokens allowed. It needs Node.js and npm and
// installs the package into the folder of -dir. Run it from the repository's
// root:
//
//	go run ./tools/fuzz -n 300000 -seed 1
//
// It exits with 1 if any string differs.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"ossify/tokenizer"
)

const (
	batch = 50_000 // strings in memory at once
	shown = 10     // differences printed in full
)

func main() {
	n := flag.Int("n", 5000, "strings to compare")
	seed := flag.Uint64("seed", 1, "of the generator: the same seed gives the same strings")
	dir := flag.String("dir", "build/fuzz", "where to install the oracle")
	ranges := flag.String("ranges", "tokenizer/testdata/unicode16-ranges.json", "Unicode ranges to draw from")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	different, err := run(ctx, *n, *seed, *dir, *ranges)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
	}
	if err != nil || different > 0 {
		os.Exit(1)
	}
}

func run(ctx context.Context, n int, seed uint64, dir, ranges string) (different int, err error) {
	// tiktoken has both names for 200018.
	tok := tokenizer.New(tokenizer.WithEndOfPrompt())
	g, err := newGenerator(seed, ranges, tok)
	if err != nil {
		return 0, err
	}
	if err := install(ctx, dir); err != nil {
		return 0, err
	}
	bytes, ids := 0, 0
	for left := n; left > 0; left -= batch {
		texts := make([]string, min(left, batch))
		for i := range texts {
			texts[i] = g.text()
		}
		err := ask(ctx, dir, texts, func(i int, want answer) {
			bytes += len(texts[i])
			ids += len(want.ordinary)
			if report := compare(tok, texts[i], want); report != "" {
				if different++; different <= shown {
					fmt.Println(report)
				}
			}
		})
		if err != nil {
			return different, err
		}
	}
	fmt.Printf("fuzz: %d strings, %d bytes, %d ids, seed %d: %d differences\n", n, bytes, ids, seed, different)
	return different, nil
}

// compare returns what differs, or nothing.
func compare(tok *tokenizer.Tokenizer, text string, want answer) string {
	if got := tok.EncodeOrdinary(nil, text); !slices.Equal(got, want.ordinary) {
		return fmt.Sprintf("%q\n\tordinary %v\n\toracle   %v", text, got, want.ordinary)
	}
	if got := tok.Encode(nil, text, tokenizer.AllSpecials()); !slices.Equal(got, want.special) {
		return fmt.Sprintf("%q\n\twith specials %v\n\toracle        %v", text, got, want.special)
	}
	if n := tok.Count(text); n != len(want.ordinary) {
		return fmt.Sprintf("%q\n\tcount %d\n\toracle %d", text, n, len(want.ordinary))
	}
	back, err := tok.Decode(want.special)
	if err != nil {
		return fmt.Sprintf("%q\n\tdecode: %v", text, err)
	}
	// 200018 has two names and decodes as one of them.
	if back != text && !slices.Contains(want.special, 200018) {
		return fmt.Sprintf("%q\n\tdecoded %q", text, back)
	}
	return ""
}
