package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ossify/gptoss"
	"ossify/onnx"
	"ossify/onnx/lower"
	"ossify/onnx/pack"
)

func newExport() *cobra.Command {
	var opt onnx.Options
	var out, shard, target, weights, loader, library string
	var plain bool
	c := &cobra.Command{
		Use:   "export CKPT (--in-place | -o DIR)",
		Short: "Write the model as ONNX",
		Long: `Export writes a checkpoint's model as ONNX: any batch, any length, with a
key/value cache, the experts in their official MXFP4 bytes.

In place, only model.onnx is written, beside the checkpoint's files, to whose
bytes it refers. With -o, the weights go to DIR/model.onnx_data: shared blocks
where the file system can, else copied past the page cache, or converted on the
way if --weights asks for it. All files appear together, or none. What an
earlier export wrote is replaced, other files only with --force.

With --for, the folder has what onnxruntime-genai, transformers.js or optimum
load besides: configuration, tokenizer and chat template, from our own
vocabulary. For triton the folder is a model's of a model repository: its
config.pbtxt, and the model in 1.`,
		Example: `  ossify export --in-place /tmp/20b
  ossify export /tmp/20b -o /tmp/20b-onnx
  ossify export /tmp/20b -o genai --for genai --last
  ossify export /tmp/20b -o models/gpt-oss --for triton --last --ort-library /opt/libossify_ort.so
  ossify export /tmp/20b -o web --for transformersjs --last --weights f16`,
		Args: oneArgument("CKPT"),
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			opt.Target, err = lower.ParseTarget(target)
			opt.Target.PlainLookup = opt.Target.PlainLookup || plain
			program, errProgram := pack.ParseProgram(loader)
			if weights == "" {
				weights = program.DefaultWeights()
			}
			switch {
			case opt.InPlace == (out != ""):
				return usage("want one of --in-place and -o DIR")
			case err != nil:
				return usage("%v (--target)", err)
			case errProgram != nil:
				return usage("%v (--for)", errProgram)
			case library != "" && program != pack.GenAI && program != pack.Triton:
				return usage("--ort-library is for --for genai and triton: other programs are given it in their own code")
			case opt.InPlace && (program == pack.TransformersJS || program == pack.Triton):
				return usage("--for %s wants the model in a folder of its own: -o", program)
			case opt.InPlace && weights != "bf16":
				return usage("--weights %s makes new files, want -o", weights)
			case opt.InPlace && (shard != "" || c.Flags().Changed("align")):
				return usage("--shard-size and --align concern the files that -o writes")
			case opt.Positions < 1 || opt.Positions > 1<<24:
				return usage("--positions %d, want 1 to %d", opt.Positions, 1<<24)
			case opt.Align < 1 || opt.Align > 1<<24 || opt.Align&(opt.Align-1) != 0:
				return usage("--align %d, want a power of two up to %d", opt.Align, 1<<24)
			case opt.Batch < 0 || opt.Seq < 0 || opt.Total < 0 || opt.Total > 0 && opt.Seq > opt.Total:
				return usage("--batch, --seq and --total want 0 or more, seq at most total")
			}
			if opt.Weights, err = onnx.ParseWeights(weights); err != nil {
				return usage("%v (--weights)", err)
			}
			if shard != "" {
				n, err := parseSize(shard)
				if err != nil {
					return usage("--shard-size %q, want a size like 2GB", shard)
				}
				opt.ShardSize = n
			}
			dir := out
			if opt.InPlace {
				dir = args[0]
			}
			ck, err := gptoss.OpenCheckpoint(args[0])
			if err != nil {
				return err
			}
			defer ck.Close()
			opt.Version = version()
			progress, finish := progressOf(c.ErrOrStderr(), "export")
			defer finish()
			opt.Progress = progress
			result, err := pack.Export(c.Context(), ck, args[0], pack.Package{Program: program, Library: library}, opt, dir)
			if err != nil {
				return err
			}
			finish()
			for _, name := range result.Files {
				fmt.Fprintln(c.OutOrStdout(), filepath.Join(dir, name))
			}
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&opt.InPlace, "in-place", false, "write model.onnx into CKPT and refer to its files")
	f.StringVarP(&out, "output", "o", "", "folder to write model and weights to")
	chooseVar(c, &target, "target", lower.Portable().Name, []string{lower.Portable().Name}, "operators to use (portable: opset 21)")
	chooseVar(c, &loader, "for", "", programs(), "write what a program loads besides")
	f.StringVar(&library, "ort-library", "", "of --for genai and triton: operator library that the program is to load ('make ort-library'), where it runs")
	chooseVar(c, &weights, "weights", "", []string{"bf16", "f32", "f16"}, "of -o, what bfloat16 tensors become (bf16: the checkpoint's bytes, the default; f32: exact, the default for transformersjs)")
	f.BoolVar(&opt.Force, "force", false, "replace files of that name that no earlier export wrote")
	f.BoolVar(&opt.Inline, "inline", false, "no functions: one flat graph")
	f.BoolVar(&opt.Trace, "trace", false, "make every stage an output")
	f.BoolVar(&opt.LastOnly, "last", false, "logits of the last position only")
	f.BoolVar(&plain, "plain-lookup", false, "decode experts with Gather: slower, for runtimes whose GatherElements is limited, like onnx.reference")
	f.IntVar(&opt.Batch, "batch", 0, "fix the batch; 0 leaves it open")
	f.IntVar(&opt.Seq, "seq", 0, "fix the tokens of a call; 0 leaves them open")
	f.IntVar(&opt.Total, "total", 0, "fix the positions, past and new; 0 leaves them open")
	f.IntVar(&opt.Positions, "positions", lower.DefaultPositions, "positions that the rotary tables cover")
	f.Int64Var(&opt.Align, "align", onnx.DefaultAlign, "where tensors start in data files, bytes (65536 for mapping on Windows)")
	f.StringVar(&shard, "shard-size", "", "largest data file, like 2GB or 500KB; a tensor beyond it has a file of its own")
	return c
}

// programs names those that exports are packed for.
func programs() (names []string) {
	for _, p := range pack.Programs() {
		names = append(names, string(p))
	}
	return names
}

// parseSize reads a number of bytes: 2GB is 2·10⁹, 2GiB is 2·2³⁰.
func parseSize(s string) (int64, error) {
	units := []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1}, {"", 1}}
	for _, u := range units {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(number, 64)
		if err != nil || !(v*float64(u.size) >= 1 && v*float64(u.size) < 1<<62) {
			return 0, errors.New("want a size like 2GB")
		}
		return int64(v * float64(u.size)), nil
	}
	return 0, errors.New("want a size like 2GB")
}
