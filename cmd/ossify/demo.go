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
	"ossify/verify"
)

// demoSeed is that of the checkpoint from which the embedded goldens were made.
const demoSeed = 1

func newDemo() *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job on a small model",
		Long: `Demo writes a small random checkpoint in OpenAI's layout, runs it on the engine
and on the oracle, and compares every stage with what PyTorch computed of the
same checkpoint, in bf16 and in f32: the traces come with the program. Then it
shows that known bugs are caught.`,
		Example: `  ossify demo`,
		Args:    noArgs,
		RunE: func(c *cobra.Command, args []string) (err error) {
			dir, err := os.MkdirTemp("", "ossify-demo-")
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
			d := &demo{c, filepath.Join(dir, "tiny"), dir}
			for _, step := range []func() error{d.synth, d.compare, d.faults} {
				if err := step(); err != nil {
					return err
				}
			}
			return nil
		},
	}
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
		r, err := d.verify(path)
		if err != nil {
			return err
		}
		if err := r.WriteText(d.c.OutOrStdout(), false); err != nil {
			return err
		}
		d.say("")
		if r.Verdict != parity.Pass && r.Verdict != parity.Ambiguous {
			return fmt.Errorf("demo: %s: %s", name, r.Verdict)
		}
	}
	return nil
}

func (d *demo) verify(golden string) (*parity.Report, error) {
	ck, err := gptoss.OpenCheckpoint(d.model)
	if err != nil {
		return nil, err
	}
	defer ck.Close()
	t, err := verify.OpenGolden(golden, ck.Graph)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	known, err := sameCheckpoint(d.c, d.model, t)
	if err != nil {
		return nil, err
	}
	subject, err := verify.Engine(ck.Graph, ck.Weights.Segments(), engine.Options{Precision: t.Precision})
	if err != nil {
		return nil, err
	}
	r, err := verify.Run(d.c.Context(), ck.Graph, t, []verify.Subject{subject}, verify.Oracle(ck.Graph, ck.Weights), verify.Options{OracleMost: oracleMost})
	if err != nil {
		return nil, err
	}
	r.Checkpoint = fmt.Sprintf("tiny, %v layout, %s", ck.Dialect, known)
	return r, nil
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
