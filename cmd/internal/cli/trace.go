package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ossify/checkpoint"
	"ossify/gptoss"
	"ossify/internal/fileset"
	"ossify/parity"
	"ossify/verify"
)

func newTrace() *cobra.Command {
	var tokens, tokensFile, prompt, conversation, positions, output string
	q := verify.TraceRequest{}
	var noHash, force bool
	c := &cobra.Command{
		Use:   "trace DIR -o FILE",
		Short: "Write what the model computes at every stage",
		Long: `Trace runs a checkpoint on tokens and writes each stage as a tensor of a
safetensors file, under the stage's path, as tools/reference does with PyTorch.
bf16 and f32 run on the engine, f64 on the oracle.

Without --stages it writes those that are values in the PyTorch model too; a
pattern names any: 'block.0.mlp.swiglu.*'. Of chosen --positions, keys and values
still hold every row, for later rows read them.

FILE may be - for standard output. A file that trace wrote before is replaced;
another only with --force, and one of the checkpoint's never.`,
		Example: `  ossify trace /tmp/tiny --tokens 1,2,3 --precision f32 -o trace.safetensors
  ossify trace /tmp/20b --prompt 'What is jade?' --stages 'block.*.mlp.experts' -o experts.safetensors
  ossify inspect trace.safetensors`,
		Args: oneArgument("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			if output == "" {
				return usage("-o FILE is missing")
			}
			if n := len(given(c, "tokens", "tokens-file", "prompt", "conversation")); n != 1 {
				return usage("%d sources of tokens, want one of --tokens, --tokens-file, --prompt and --conversation", n)
			}
			var err error
			switch {
			case c.Flags().Changed("tokens-file"):
				q.Tokens, err = fileTokens(c, tokensFile)
			case c.Flags().Changed("tokens"):
				q.Tokens, err = parseIDs(tokens)
			default:
				q.Tokens, err = promptTokens(c, prompt, conversation)
			}
			if err != nil {
				return err
			}
			if positions != "" {
				if q.Positions, err = parsePositions(positions, len(q.Tokens)); err != nil {
					return err
				}
			}
			ck, err := gptoss.OpenCheckpoint(args[0])
			if err != nil {
				return err
			}
			defer ck.Close()
			q.Metadata = map[string]string{"version": version() + " " + runtime.Version()}
			if q.Output, err = traceOutput(c, output, ck, tokensFile, conversation, force); err != nil {
				return err
			}
			if !noHash {
				if q.Metadata["checkpoint"], err = hashOf(c, args[0]); err != nil {
					return err
				}
			}
			return verify.WriteTrace(c.Context(), output, ck, q)
		},
	}
	f := c.Flags()
	f.StringVar(&tokens, "tokens", "", "token ids: 1,2,3")
	f.StringVar(&tokensFile, "tokens-file", "", "file of token ids, as tokenize prints them; - is standard input")
	f.StringVar(&prompt, "prompt", "", "text of a user's message")
	f.StringVar(&conversation, "conversation", "", "JSON file of a conversation")
	chooseVar(c, &q.Precision, "precision", "bf16", []string{"bf16", "f32", "f64"}, "rounding: of the engine, or float64 of the oracle")
	f.StringSliceVar(&q.Stages, "stages", nil, "stages to write, patterns such as 'block.*.attn.qkv'")
	f.StringVar(&positions, "positions", "", "rows to keep: 0,5-9")
	f.StringVarP(&output, "output", "o", "", "file to write, - for standard output")
	f.BoolVar(&force, "force", false, "replace FILE though trace did not write it")
	f.BoolVar(&noHash, "no-hash", false, "do not read the whole checkpoint to name it by its hash")
	return c
}

// traceOutput says what a trace of ck may replace: an older trace of ours. It
// refuses a name under which the trace would become a part of the checkpoint.
func traceOutput(c *cobra.Command, output string, ck *gptoss.Checkpoint, tokens, conversation string, force bool) (fileset.Options, error) {
	dir := ck.Folder.Dir()
	opt := fileset.Options{Force: force, Stdout: c.OutOrStdout(), Inputs: []string{tokens, conversation}}
	opt.Ours = func(path string) bool {
		f, err := checkpoint.OpenFile(path)
		if err != nil {
			return false
		}
		defer f.Close()
		m := f.Metadata()
		return m["format"] == parity.Format && strings.HasPrefix(m["reference"], "ossify ")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return opt, err
	}
	for _, e := range entries {
		opt.Inputs = append(opt.Inputs, filepath.Join(dir, e.Name()))
	}
	if ck.Dialect != gptoss.Original || filepath.Ext(output) != ".safetensors" {
		return opt, nil
	}
	if in, err := os.Stat(filepath.Dir(output)); err == nil {
		if of, err := os.Stat(dir); err == nil && os.SameFile(in, of) {
			return opt, fmt.Errorf("trace: %s: every .safetensors of that folder is read as the checkpoint's, want another folder", output)
		}
	}
	return opt, nil
}

// parsePositions reads positions below n: 0,5-9 has six.
func parsePositions(text string, n int) ([]int, error) {
	var list []int
	for _, part := range strings.Split(text, ",") {
		from, to, dash := strings.Cut(part, "-")
		first, err := strconv.Atoi(strings.TrimSpace(from))
		last := first
		if dash && err == nil {
			last, err = strconv.Atoi(strings.TrimSpace(to))
		}
		if err != nil {
			return nil, usage("--positions: %q is no position, want a list such as 0,5-9", part)
		}
		if first < 0 || last < first || last >= n {
			return nil, fmt.Errorf("trace: positions %s, want them below %d, the number of tokens", part, n)
		}
		for p := first; p <= last; p++ {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// hashOf returns the hash that names a checkpoint, with a bar on a terminal.
func hashOf(c *cobra.Command, dir string) (string, error) {
	progress, finish := progressOf(c.ErrOrStderr(), "hash")
	defer finish()
	return verify.CheckpointHash(c.Context(), dir, progress)
}
