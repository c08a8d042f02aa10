package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/parity"
	"ossify/testdata/goldens"
	"ossify/tokenizer"
	"ossify/verify"
)

// demoSeed is that of the checkpoint from which the embedded goldens were made.
const demoSeed = 1

func newDemo() *cobra.Command {
	var prompt, conversation string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job on a small model",
		Long: `Demo writes a small random checkpoint in OpenAI's layout, runs it on the engine
and on the oracle, and compares every stage with what PyTorch computed of the
same checkpoint, in bf16 and in f32: the traces come with the program. Then it
shows that known bugs are caught.

With a prompt or a conversation the model is given the full vocabulary, and the
engine is compared with the oracle on those tokens.`,
		Example: `  ossify demo
  ossify demo --prompt 'What is jade?'`,
		Args: noArgs,
		RunE: func(c *cobra.Command, args []string) (err error) {
			dir, err := os.MkdirTemp("", "ossify-demo-")
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
			d := &demo{c, filepath.Join(dir, "tiny"), dir}
			if prompt != "" || conversation != "" {
				return d.prompt(prompt, conversation)
			}
			for _, step := range []func() error{d.synth, d.compare, d.faults} {
				if err := step(); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&prompt, "prompt", "", "text of a user's message")
	f.StringVar(&conversation, "conversation", "", "JSON file of a conversation")
	return c
}

// A demo is one run of the command: what each step leaves in its folder.
type demo struct {
	c       *cobra.Command
	model   string // folder of the checkpoint
	scratch string
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.c.OutOrStdout(), format+"\n", args...)
}

// prompt runs a model that knows all tokens on those of a prompt.
func (d *demo) prompt(prompt, conversation string) error {
	tokens, err := promptTokens(prompt, conversation)
	if err != nil {
		return err
	}
	config, err := gptoss.Preset("tiny")
	if err != nil {
		return err
	}
	config.Vocab = tokenizer.VocabSize
	d.say("# ossify synth --preset tiny --vocab %d --seed %d tiny\n", config.Vocab, demoSeed)
	if err := gptoss.Synthesize(d.c.Context(), d.model, config, gptoss.Original, demoSeed, nil); err != nil {
		return err
	}
	ck, err := gptoss.OpenCheckpoint(d.model)
	if err != nil {
		return err
	}
	defer ck.Close()
	d.say("# ossify verify tiny, on %d tokens: %d\n", len(tokens), tokens)
	golden, remove, err := oracleGolden(d.c, ck, tokens)
	if err != nil {
		return err
	}
	defer remove()
	return d.report(ck, golden, "traced just now")
}

func (d *demo) synth() error {
	config, err := gptoss.Preset("tiny")
	if err != nil {
		return err
	}
	d.say("# ossify synth --preset tiny --seed %d tiny\n", demoSeed)
	return gptoss.Synthesize(d.c.Context(), d.model, config, gptoss.Original, demoSeed, nil)
}

// golden unpacks an embedded golden and returns its path.
func (d *demo) golden(name string) (string, error) {
	data, err := fs.ReadFile(goldens.Tiny, name)
	if err != nil {
		return "", err
	}
	path := filepath.Join(d.scratch, name)
	return path, os.WriteFile(path, data, 0o600)
}

// compare runs the engine beside PyTorch's goldens in both precisions.
func (d *demo) compare() error {
	for _, name := range []string{"tiny-bf16.safetensors", "tiny-f32.safetensors"} {
		d.say("# ossify verify tiny --golden %s\n", name)
		path, err := d.golden(name)
		if err != nil {
			return err
		}
		if err := d.verify(path); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) verify(golden string) error {
	ck, err := gptoss.OpenCheckpoint(d.model)
	if err != nil {
		return err
	}
	defer ck.Close()
	return d.report(ck, golden, "")
}

// report compares the engine with a golden and prints the table. known says
// why the golden's checkpoint is this one; if empty, it is looked up.
func (d *demo) report(ck *gptoss.Checkpoint, golden, known string) error {
	t, err := verify.OpenGolden(golden, ck.Graph)
	if err != nil {
		return err
	}
	defer t.Close()
	if known == "" {
		if known, err = sameCheckpoint(d.c, d.model, t); err != nil {
			return err
		}
	}
	subject, err := verify.Engine(ck.Graph, ck.Weights.Segments(), engine.Options{Precision: t.Precision})
	if err != nil {
		return err
	}
	r, err := verify.Run(d.c.Context(), ck.Graph, t, []verify.Subject{subject}, verify.Oracle(ck.Graph, ck.Weights), verify.Options{OracleMost: oracleMost})
	if err != nil {
		return err
	}
	r.Checkpoint = fmt.Sprintf("tiny, %v layout, %s", ck.Dialect, known)
	if err := r.WriteText(d.c.OutOrStdout(), false); err != nil {
		return err
	}
	d.say("")
	if r.Verdict != parity.Pass && r.Verdict != parity.Ambiguous {
		return fmt.Errorf("demo: %s: %s", filepath.Base(golden), r.Verdict)
	}
	return nil
}

// faults shows that the comparison can fail.
func (d *demo) faults() error {
	d.say("# ossify verify tiny --golden tiny-f32.safetensors --faults\n")
	ck, err := gptoss.OpenCheckpoint(d.model)
	if err != nil {
		return err
	}
	defer ck.Close()
	t, err := verify.OpenGolden(filepath.Join(d.scratch, "tiny-f32.safetensors"), ck.Graph)
	if err != nil {
		return err
	}
	defer t.Close()
	return verifyFaults(d.c, ck, t, engine.Options{}, false)
}
