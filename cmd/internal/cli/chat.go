package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ossify/harmony"
)

// chatMost is the longest line that chat reads, in bytes.
const chatMost = 1 << 20

func newChat() *cobra.Command {
	var a answerFlags
	var thoughts, quiet bool
	c := &cobra.Command{
		Use:   "chat DIR",
		Short: "Talk with a model, line by line",
		Long: `Chat reads a line, lets the model answer, and so on until the input ends. What
was said before stays in the model's cache: only what is new is computed.

Ctrl-C ends the answer, and the chat. /new begins a new conversation.`,
		Example: `  ossify chat /tmp/20b
  ossify chat /tmp/20b --reasoning low --temperature 1
  printf 'What is jade?\nAnd where is it found?\n' | ossify chat /tmp/20b -q`,
		Args: oneArgument("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.check(c); err != nil {
				return err
			}
			t, err := openTalker(c, args[0], &a, quiet)
			if err != nil {
				return err
			}
			defer t.Close()
			ask := ""
			if f, ok := c.InOrStdin().(*os.File); ok && term.IsTerminal(int(f.Fd())) && terminalOf(c.ErrOrStderr()).width > 0 {
				ask = "> "
			}
			messages := []harmony.Message{t.system()}
			lines := linesOf(c.InOrStdin())
			for {
				fmt.Fprint(c.ErrOrStderr(), ask)
				var line string
				select {
				case <-c.Context().Done():
					return context.Cause(c.Context())
				case l := <-lines:
					if l.err == io.EOF {
						return nil
					}
					if l.err != nil {
						return fmt.Errorf("chat: %w", l.err)
					}
					line = l.text
				}
				switch line = strings.TrimSpace(line); line {
				case "":
					continue
				case "/new":
					messages = messages[:1]
					continue
				}
				messages = append(messages, harmony.NewMessage(harmony.User, harmony.Text(line)))
				// As servers do: thoughts of turns that are over are left out.
				ids, err := t.encoding.RenderForCompletion(harmony.Conversation{Messages: messages}, harmony.Assistant, harmony.DropBeforeLastFinal)
				if err != nil {
					return err
				}
				said, err := t.answer(c.Context(), ids, newScreen(c.OutOrStdout(), thoughts), nil)
				if !quiet && (err == nil || errors.Is(err, context.Canceled)) {
					fmt.Fprintln(c.ErrOrStderr(), t.figures(said))
				}
				if err != nil {
					return err
				}
				for _, m := range said.Messages {
					messages = append(messages, m.Message)
				}
			}
		},
	}
	c.Flags().BoolVar(&thoughts, "thoughts", false, "show thoughts even if stdout is no terminal")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "no figures on stderr")
	a.add(c)
	return c
}

type line struct {
	text string
	err  error // io.EOF at the end
}

// linesOf reads lines, so that an interrupt need not wait for one.
func linesOf(r io.Reader) <-chan line {
	lines := make(chan line)
	go func() {
		s := bufio.NewScanner(r)
		s.Buffer(nil, chatMost)
		for s.Scan() {
			lines <- line{text: s.Text()}
		}
		err := s.Err()
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("a line of more than %d bytes, want at most that", chatMost)
		}
		if err == nil {
			err = io.EOF
		}
		lines <- line{err: err}
	}()
	return lines
}
