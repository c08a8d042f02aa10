package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ossify/harmony/conform"
	"ossify/tokenizer"
)

func newConform() *cobra.Command {
	return &cobra.Command{
		Use:   "conform FILE.jsonl...",
		Short: "Run recorded answers of other tokenizers and of openai-harmony against ours",
		Long: `Run recorded answers of other tokenizers and of openai-harmony against ours.

A record is one line of JSON: {"t": text, "ids": [...]} is an ordinary encoding;
{"name", "query": {"op", ...}, "result"} is a call of openai-harmony. Each
failure is printed as a diff, - what was recorded and + what we got. The last
line is "N passed, N failed"; any failure exits with 1. FILE may be - for stdin.
A record has at most 16 MiB.`,
		Example: `  ossify conform harmony/testdata/harmony.jsonl tokenizer/testdata/o200k.jsonl
  echo '{"t":"hello world","ids":[24912,2375]}' | ossify conform -`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("conform: no FILE given")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c := conform.NewChecker(tokenizer.New())
			var passed, failed int
			for _, name := range args {
				p, f, err := conformFile(cmd.Context(), c, name, cmd.InOrStdin(), cmd.OutOrStdout())
				if err == nil && p+f == 0 {
					err = errors.New("conform: no records, want one a line")
				}
				if err != nil {
					return inFile(inputName(name), err)
				}
				passed, failed = passed+p, failed+f
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d passed, %d failed\n", passed, failed)
			if failed > 0 {
				return fmt.Errorf("conform: %d of %d records failed", failed, passed+failed)
			}
			return nil
		},
	}
}

// recordMost is the length of the longest record in bytes.
const recordMost = 16 << 20

// conformFile runs the records of one file, stdin if it is -, and prints its
// failures.
func conformFile(ctx context.Context, c *conform.Checker, name string, stdin io.Reader, out io.Writer) (passed, failed int, err error) {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return 0, 0, err
		}
		defer f.Close()
		in = f
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, recordMost)
	n := 1
	for ; lines.Scan(); n++ {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		if len(lines.Bytes()) == 0 {
			continue
		}
		record, diff, err := c.Check(lines.Bytes())
		switch {
		case err != nil:
			return 0, 0, fmt.Errorf("line %d: %w", n, err)
		case diff == "":
			passed++
		default:
			failed++
			fmt.Fprintf(out, "%s:%d: %s\n%s", name, n, record, diff)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return 0, 0, fmt.Errorf("line %d: more than %d bytes", n, recordMost)
	} else if err != nil {
		return 0, 0, err
	}
	return passed, failed, nil
}
