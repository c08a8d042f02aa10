package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"ossify/gptoss"
	"ossify/synth"
	"ossify/trained"
)

func newSynth() *cobra.Command {
	var preset, layout string
	var layers, vocab, headDim, window, inner int
	var seed uint64
	var zeros bool
	presets := append(gptoss.Presets(), presetTrained)
	c := &cobra.Command{
		Use:   "synth --preset NAME DIR",
		Short: "Write a random checkpoint, or the small trained one, in the official form",
		Long: `Synth writes a checkpoint with random weights of realistic scale into DIR, in
the exact form of the published ones: names, types, shapes and files. Both
layouts of one seed hold the same values.

Presets: tiny, all features of the model in 0.5 MB; small, the widths of
gpt-oss-20b in two layers and 1024 tokens, 1 GB; 20b, 13.8 GB; 120b, 65 GB.

The preset trained is not random: it is a small model that talks, which comes
with the program and has the whole vocabulary, 160 MB (docs/trained.md).`,
		Example: `  ossify synth --preset tiny /tmp/tiny
  ossify synth --preset tiny --vocab 201088 /tmp/prompts
  ossify synth --preset 20b --layout hf --seed 7 /tmp/20b
  ossify synth --preset 120b --zeros /tmp/120b
  ossify synth --preset trained /tmp/trained && ossify chat /tmp/trained`,
		Args: oneArgument("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			if preset == "" {
				return usage("--preset NAME is missing, want one of %s", strings.Join(presets, " "))
			}
			d, err := gptoss.ParseDialect(layout)
			if err != nil {
				return err
			}
			if preset == presetTrained {
				return writeTrained(c, args[0], d)
			}
			config, err := gptoss.Preset(preset)
			if err != nil {
				return err
			}
			if c.Flags().Changed("layers") {
				config.Layers = layers
			}
			if c.Flags().Changed("vocab") {
				config.Vocab = vocab
			}
			if c.Flags().Changed("head-dim") {
				config.HeadDim = headDim
			}
			if c.Flags().Changed("window") {
				config.Window = window
			}
			if c.Flags().Changed("inner") {
				config.Inner = inner
			}
			if err := config.Validate(); err != nil {
				return usage("--layers, --vocab, --head-dim, --window, --inner: %v", err)
			}
			if zeros {
				if c.Flags().Changed("seed") {
					return usage("want one of --zeros and --seed")
				}
				return synth.Zeros(c.Context(), args[0], config, d)
			}
			progress, finish := progressOf(c.ErrOrStderr(), "synth")
			defer finish()
			return synth.Write(c.Context(), args[0], config, d, seed, progress)
		},
	}
	f := c.Flags()
	chooseVar(c, &preset, "preset", "", presets, "model to write")
	chooseVar(c, &layout, "layout", "original", []string{"original", "hf"}, "form of the checkpoint")
	f.IntVar(&layers, "layers", 0, "number of layers, instead of the preset's")
	f.IntVar(&vocab, "vocab", 0, "number of tokens, instead of the preset's; 201088 takes what tokenize and harmony print")
	f.IntVar(&headDim, "head-dim", 0, "width of a head, instead of the preset's; 64 has the published frequencies")
	f.IntVar(&window, "window", 0, "keys that sliding layers see, instead of the preset's")
	f.IntVar(&inner, "inner", 0, "width within an expert, instead of the preset's; few make 20b's attention cheap to test")
	f.Uint64Var(&seed, "seed", 1, "seed of the weights")
	f.BoolVar(&zeros, "zeros", false, "zeros for weights, as holes: headers and sizes of any model in a few kB of disk")
	return c
}

// presetTrained is the model of package trained, which has no sizes to choose.
const presetTrained = "trained"

func writeTrained(c *cobra.Command, dir string, d gptoss.Dialect) error {
	if names := given(c, "layers", "vocab", "head-dim", "window", "seed", "zeros"); len(names) > 0 {
		return usage("--%s: the preset %s has sizes and weights of its own, want none of these flags", names[0], presetTrained)
	}
	m, err := trained.Open()
	if err != nil {
		return err
	}
	progress, finish := progressOf(c.ErrOrStderr(), "synth")
	defer finish()
	return m.Write(c.Context(), dir, d, progress)
}

// given returns which of the flags the command line gives.
func given(c *cobra.Command, names ...string) (list []string) {
	for _, name := range names {
		if c.Flags().Changed(name) {
			list = append(list, name)
		}
	}
	return list
}

// oneArgument demands exactly one argument; a mistake is one of usage.
func oneArgument(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage("%d arguments, want %s", len(args), name)
		}
		return nil
	}
}
