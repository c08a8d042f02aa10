package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ossify/harmony"
	"ossify/harmony/serde"
	"ossify/tokenizer"
)

func newHarmony() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "harmony",
		Short: "Render conversations for gpt-oss, and parse what it wrote",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage("harmony: give render or parse")
		},
	}
	cmd.AddCommand(newHarmonyRender(), newHarmonyParse())
	return cmd
}

// The values of --drop.
var dropNames = map[string]harmony.Drop{
	"auto": harmony.DropAuto, "none": harmony.DropNone, "last-final": harmony.DropBeforeLastFinal,
}

func newHarmonyRender() *cobra.Command {
	var next, drop, prompt string
	var training, text bool
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Render a conversation on stdin, JSON, as ids",
		Long: `Render a conversation on stdin, JSON, as a JSON array of ids.

The conversation is {"messages": [{"role", "content", ...}]} in openai-harmony's
form. It ends with the start of the assistant's answer unless --next says
otherwise. With --prompt, nothing is read: it is the text, as a message of the
user after the default system message.`,
		Example: `  echo '{"messages":[{"role":"user","content":"hi"}]}' | ossify harmony render
  ossify harmony render --text <conversation.json
  ossify harmony render --prompt 'What is jade?'
  ossify harmony render --training --drop none <conversation.json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := dropNames[drop]
			if _, err := harmony.ParseRole(next); err != nil && next != "none" {
				return usage("harmony: --next %s: want a role or none", next)
			}
			if training && cmd.Flags().Changed("next") {
				return usage("harmony: --training ends the conversation: it goes without --next")
			}
			t := tokenizer.New()
			e := harmony.New(t)
			var c harmony.Conversation
			var err error
			switch {
			case prompt == "":
				in, err := readInput(cmd, "-")
				if err != nil {
					return err
				}
				if c, err = serde.ParseConversation(in); err != nil {
					return err
				}
			case training || cmd.Flags().Changed("next") || cmd.Flags().Changed("drop"):
				return usage("harmony: --prompt is a whole prompt: it goes without --training, --next and --drop")
			}
			var ids []uint32
			switch {
			case prompt != "":
				ids = e.RenderUserPrompt(prompt)
			case training:
				ids, err = e.RenderForTraining(c, d)
			case next == "none":
				ids, err = e.RenderConversation(c, d)
			default:
				ids, err = e.RenderForCompletion(c, harmony.Role(next), d)
			}
			if err != nil {
				return err
			}
			if !text {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(append([]uint32{}, ids...))
			}
			s, err := t.DecodeReplacing(ids)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), s)
			return err
		},
	}
	cmd.Flags().StringVar(&prompt, "prompt", "", "text of a user's message, instead of a conversation on stdin")
	cmd.Flags().StringVar(&next, "next", "assistant", "whose message is to follow: a role, or none")
	chooseVar(cmd, &drop, "drop", "auto", []string{"auto", "none", "last-final"}, "analysis to leave out, auto as openai-harmony in Python does")
	cmd.Flags().BoolVar(&training, "training", false, "end with <|return|> if the last message is final")
	cmd.Flags().BoolVar(&text, "text", false, "print the text of the ids instead")
	return cmd
}

func newHarmonyParse() *cobra.Command {
	var role string
	var lenient, recovery, text bool
	var tools []string
	cmd := &cobra.Command{
		Use:   "parse",
		Short: "Parse ids on stdin, a JSON array, as messages",
		Long: `Parse ids on stdin, a JSON array, as a JSON array of messages.

The ids are a completion: they start after <|start|>assistant. Parsing is
openai-harmony's and fails where it fails; --recover takes anything, as a
server needs, and loses no text.`,
		Example: `  echo '[200005,17196,200008,12194,200002]' | ossify harmony parse
  printf '<|channel|>final<|message|>Hi<|return|>' | ossify harmony parse --text
  ossify harmony render --next none <conversation.json | ossify harmony parse --role none
  printf '<|channel|>final Hi' | ossify harmony parse --text --recover`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := harmony.ParseRole(role)
			switch {
			case err != nil && role != "none":
				return usage("harmony: --role %s: want a role or none", role)
			case recovery && (lenient || cmd.Flags().Changed("role")):
				return usage("harmony: --recover goes without --lenient and --role")
			case !recovery && len(tools) > 0:
				return usage("harmony: --tool needs --recover")
			}
			in, err := readInput(cmd, "-")
			if err != nil {
				return err
			}
			t := tokenizer.New()
			e := harmony.New(t)
			var ids []uint32
			if text {
				ids = t.Encode(nil, string(in), tokenizer.AllSpecials())
			} else if err := json.Unmarshal(in, &ids); err != nil {
				return fmt.Errorf("harmony: stdin: want a JSON array of ids: %w", err)
			}
			messages := []harmony.Message{}
			if recovery {
				for _, m := range e.Recover(ids, harmony.RecoveryOptions{Tools: tools}) {
					messages = append(messages, m.Message)
				}
			} else {
				got, err := e.Parse(ids, r, harmony.ParseOptions{Lenient: lenient})
				if err != nil {
					return err
				}
				messages = append(messages, got...)
			}
			_, err = cmd.OutOrStdout().Write(append(serde.AppendMessages(nil, messages), '\n'))
			return err
		},
	}
	cmd.Flags().StringVar(&role, "role", "assistant", "role of the first message, or none if the ids start with <|start|>")
	cmd.Flags().BoolVar(&lenient, "lenient", false, "as openai-harmony with strict=False")
	cmd.Flags().BoolVar(&recovery, "recover", false, "take anything")
	cmd.Flags().StringArrayVar(&tools, "tool", nil, "with --recover: a tool's name, as functions.f; may be repeated")
	cmd.Flags().BoolVar(&text, "text", false, "stdin is text that spells special tokens by their names")
	return cmd
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 && cmd.HasSubCommands() {
		return unknown(cmd, args[0])
	}
	if len(args) > 0 {
		return usage("%s: unexpected argument %s", strings.TrimPrefix(cmd.CommandPath(), "ossify "), args[0])
	}
	return nil
}

// inFile says which file an error is about, unless it says so already.
func inFile(name string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) || errors.Is(err, os.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}
