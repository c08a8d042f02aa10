package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// inputMost is how many bytes of text, ids or JSON a command takes from a file
// or from standard input: fifty times what fills the model's context.
const inputMost = 64 << 20

// argumentsOrInput returns the arguments joined by spaces, or all of standard
// input if there are none.
func argumentsOrInput(c *cobra.Command, args []string) (string, error) {
	if len(args) > 0 {
		return strings.Join(args, " "), nil
	}
	b, err := readInput(c, "-")
	return string(b), err
}

// readInput reads a file to its end, standard input if name is -, up to
// inputMost bytes.
func readInput(c *cobra.Command, name string) ([]byte, error) {
	b, err := readAll(c.Context(), func() (io.ReadCloser, error) {
		if name == "-" {
			return io.NopCloser(c.InOrStdin()), nil
		}
		return os.Open(name) // of a pipe, this waits for its writer
	})
	if err == nil && len(b) > inputMost {
		err = fmt.Errorf("%s: more than %d bytes", inputName(name), inputMost)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// parseInput reads a file as readInput does and parses it. An error of parse
// names the file.
func parseInput[T any](c *cobra.Command, name string, parse func([]byte) (T, error)) (v T, err error) {
	text, err := readInput(c, name)
	if err != nil {
		return v, err
	}
	if v, err = parse(text); err != nil {
		err = inFile(inputName(name), err)
	}
	return v, err
}

// inputName is what messages call a file given as an argument.
func inputName(name string) string {
	if name == "-" {
		return "standard input"
	}
	return name
}

// readAll reads what open returns, up to a byte more than inputMost. Unlike
// io.ReadAll it is ended by an interrupt: a read from a terminal would wait on.
func readAll(ctx context.Context, open func() (io.ReadCloser, error)) ([]byte, error) {
	type result struct {
		b   []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		r, err := open()
		if err != nil {
			done <- result{nil, err}
			return
		}
		defer r.Close()
		b, err := io.ReadAll(io.LimitReader(r, inputMost+1))
		done <- result{b, err}
	}()
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case r := <-done:
		return r.b, r.err
	}
}
