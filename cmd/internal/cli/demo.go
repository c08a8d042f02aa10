package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ossify/internal/fileset"
	"ossify/onnx/ort"
	"ossify/testdata/goldens"
	"ossify/tokenizer"
)

// demoSeed is that of the checkpoint from which the embedded goldens were made.
const demoSeed = "1"

// demoQuestion is one that the trained model can answer.
const demoQuestion = "What is a sink?"

func newDemo() *cobra.Command {
	var prompt, conversation, library, html string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job on a small model",
		Long: `Demo runs these commands, and shows what they print: it writes a small random
checkpoint in OpenAI's layout, runs it, and compares every stage with what
PyTorch computed of the same checkpoint, in bf16 and in f32: the traces come
with the program. It shows that known bugs are caught. Then it exports the model
as ONNX and compares that too, if ONNX Runtime is there. At the end the small
trained model, which comes with the program as well, answers a question.

With a prompt or a conversation the model is given the full vocabulary, and is
compared with the oracle on those tokens.

With --html it leaves the report as a page for a browser.`,
		Example: `  ossify demo
  ossify demo --html report.html
  ossify demo --prompt 'What is jade?'`,
		Args: noArgs,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if prompt != "" && conversation != "" {
				return usage("want one of --prompt and --conversation")
			}
			dir, err := fileset.TempDir("ossify-demo")
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, dir.Remove()) }()
			d := &demo{c: c, dir: dir.Path()}
			tiny := d.path("tiny")
			synth := []string{"synth", "--preset", "tiny", "--seed", demoSeed, tiny}
			onnx := []string{"verify", tiny, "--onnx", filepath.Join(tiny, "model.onnx")}
			if library != "" {
				onnx = append(onnx, "--onnxruntime", library)
			}
			judge := []string{"verify", tiny}
			if html != "" {
				judge = append(judge, "--html", html)
			}
			var steps [][]string
			if prompt != "" || conversation != "" {
				tokens := []string{"--prompt", prompt}
				if conversation != "" {
					tokens = append(tokens[:0], "--conversation", conversation)
				}
				steps = [][]string{append(synth, "--vocab", strconv.Itoa(tokenizer.VocabSize)), append(judge, tokens...)}
				onnx = append(onnx, tokens...)
			} else {
				for _, name := range []string{"tiny-bf16.safetensors", "tiny-f32.safetensors"} {
					if err := d.unpack(name); err != nil {
						return err
					}
				}
				f32 := d.path("tiny-f32.safetensors")
				steps = [][]string{synth,
					{"verify", tiny, "--golden", d.path("tiny-bf16.safetensors")},
					{"verify", tiny, "--golden", f32},
					append(judge, "--golden", f32, "--faults")}
				onnx = append(onnx, "--golden", f32)
			}
			if err := d.run(append(steps, []string{"export", tiny, "--in-place"})); err != nil {
				return err
			}
			if html != "" {
				defer func() {
					if err == nil {
						_, err = fmt.Fprintf(c.OutOrStdout(), "\nThe report, for a browser: %s\n", html)
					}
				}()
			}
			if _, _, err := ort.Find(library); errors.Is(err, ort.ErrNotFound) && os.Getenv(libraryVariable) == "" {
				fmt.Fprintf(c.OutOrStdout(), "\nThe ONNX model was not run: %v\n", err)
			} else if err := d.run([][]string{onnx}); err != nil {
				return err
			}
			talker := d.path(presetTrained)
			c.SetErr(c.OutOrStdout()) // the figures of an answer are part of the show
			return d.run([][]string{
				{"synth", "--preset", presetTrained, talker},
				{"generate", talker, "--thoughts", "--prompt", demoQuestion},
			})
		},
	}
	f := c.Flags()
	f.StringVar(&prompt, "prompt", "", "text of a user's message")
	f.StringVar(&conversation, "conversation", "", "JSON file of a conversation")
	f.StringVar(&html, "html", "", "file for the report as a page, as verify has it")
	f.StringVar(&library, "onnxruntime", "", "ONNX Runtime's library, or its folder, as verify has it")
	return c
}

// A demo is one run of the command, in a folder of its own.
type demo struct {
	c   *cobra.Command
	dir string
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

// unpack writes an embedded golden to the demo's folder.
func (d *demo) unpack(name string) error {
	data, err := fs.ReadFile(goldens.Tiny, name)
	if err != nil {
		return err
	}
	return os.WriteFile(d.path(name), data, 0o600)
}

// run runs commands, each after a line that says which.
func (d *demo) run(steps [][]string) error {
	out := d.c.OutOrStdout()
	for _, args := range steps {
		fmt.Fprintf(out, "\n$ ossify %s\n", strings.ReplaceAll(strings.Join(args, " "), d.dir+string(filepath.Separator), ""))
		root := newRoot(program{})
		root.SetArgs(args)
		root.SetOut(out)
		root.SetErr(d.c.ErrOrStderr())
		if err := root.ExecuteContext(d.c.Context()); err != nil {
			return err
		}
	}
	return nil
}
