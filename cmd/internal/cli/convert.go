package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"ossify/convert"
	"ossify/gptoss"
)

func newConvert() *cobra.Command {
	var opt convert.Options
	var layout string
	var asJSON bool
	c := &cobra.Command{
		Use:   "convert SRC DIR",
		Short: "Write a checkpoint that another tool stored in the official form",
		Long: `Convert reads a gpt-oss model from a container of other tools and writes it as a
checkpoint in the official form into DIR. SRC is

  - a folder of Orbax (OCDBT or a folder an array, Zarr 2 or 3), or one above it;
  - a file of Flax, NAME.msgpack, beside NAME.config.json or config.json;
  - a folder of safetensors in either layout, with experts in MXFP4 or bfloat16.

Nothing is rounded. Experts in bfloat16 become MXFP4 again where each block of 32
values can be written so exactly; the first that cannot is an error that names it.
With --keep-bf16 experts are written in bfloat16, under the names that gpt_oss.torch
or transformers have for them. A chunk that is missing is an error.

A conversion that is ended goes on, when it is run again, after the last tensor
that was complete.

With --rank and --ranks, what is written are the parameters that gpt_oss.torch has
on one of several processes, experts in bfloat16.`,
		Example: `  ossify convert ~/orbax/gpt-oss-20b /tmp/20b
  ossify convert gpt-oss.msgpack /tmp/20b --layout hf
  ossify convert ~/gpt-oss-20b-bf16 /tmp/20b
  ossify convert /tmp/20b /tmp/rank0 --rank 0 --ranks 4`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usage("%d arguments, want SRC and DIR", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if opt.Layout, err = gptoss.ParseDialect(layout); err != nil {
				return err
			}
			slices := c.Flags().Changed("ranks")
			switch {
			case slices != c.Flags().Changed("rank"):
				return usage("want --rank and --ranks together")
			case slices && (opt.Ranks < 1 || opt.Rank < 0 || opt.Rank >= opt.Ranks):
				return usage("--rank %d of --ranks %d, want 0 to ranks-1", opt.Rank, opt.Ranks)
			case slices && opt.Layout != gptoss.Original:
				return usage("--ranks is for --layout original: slices are those of gpt_oss.torch")
			}
			progress, finish := progressOf(c.ErrOrStderr(), "convert")
			defer finish()
			opt.Progress = progress
			r, err := convert.Run(c.Context(), args[0], args[1], opt)
			if err != nil {
				return err
			}
			finish()
			if asJSON {
				return printJSON(c.OutOrStdout(), r)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %d tensors, %d bytes, in %s\n", r.Kind, r.Tensors, r.Bytes, args[1])
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&opt.Config, "config", "", "the model's config.json, where it does not lie beside SRC")
	chooseVar(c, &layout, "layout", "original", []string{"original", "hf"}, "form of the checkpoint")
	f.BoolVar(&opt.KeepBF16, "keep-bf16", false, "write experts in bfloat16")
	f.IntVar(&opt.Rank, "rank", 0, "which of the processes")
	f.IntVar(&opt.Ranks, "ranks", 0, "number of processes that share the experts")
	f.BoolVar(&asJSON, "json", false, "print what was written as JSON")
	return c
}
