package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/kernel"
	"ossify/parity"
	"ossify/verify"
)

// oracleMost is what the free-running oracle may take by default, in
// multiplications: about a minute.
const oracleMost = 6e10

func newVerify() *cobra.Command {
	var golden, prompt, conversation, kernels string
	var faults, asJSON, all, noHash bool
	var most float64
	var x verifyONNX
	c := &cobra.Command{
		Use:   "verify DIR [--golden FILE | --prompt TEXT | --conversation FILE]",
		Short: "Compare the engine with the PyTorch reference, stage by stage",
		Long: `Verify compares a checkpoint, run on the engine, with a golden: a trace that
tools/reference wrote of the same checkpoint with PyTorch. Each stage is
computed from the golden's own inputs, then everything from the tokens alone;
the oracle, in float64, says how far off we and PyTorch are. The report states
the bounds, and names the first stage that diverges.

The verdict is pass, fail, or ambiguous: a near-tie in the choice of experts,
which the reference's own rounding does not decide. It fails with exit code 1.

With --prompt or --conversation in its place the oracle's own trace is the
golden, in float64: then only we are compared with it, not PyTorch.

With --faults it puts known bugs into the model instead, one at a time, and
fails unless each is caught at the stage where it sits.`,
		Example: `  ossify verify /tmp/tiny --golden testdata/goldens/tiny-bf16.safetensors
  ossify verify /tmp/tiny --golden testdata/goldens/tiny-f32.safetensors --faults
  ossify verify /tmp/20b --prompt 'What is jade?'`,
		Args: oneArgument("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			var o engine.Options
			switch kernels {
			case "best":
				o.Kernels = kernel.Best()
			case "portable":
				o.Kernels = kernel.Portable()
			default:
				return usage("--kernels %q, want best or portable", kernels)
			}
			var tokens []uint32
			if prompt != "" || conversation != "" {
				if golden != "" {
					return usage("--golden has tokens of its own, want no --prompt and no --conversation beside it")
				}
				var err error
				if tokens, err = promptTokens(c, prompt, conversation); err != nil {
					return err
				}
			}
			if x.asked() {
				return x.run(c, args[0], golden, tokens, o, most, asJSON, all)
			}
			if golden == "" && tokens == nil {
				return usage("want one of --golden, --prompt and --conversation")
			}
			if faults && all {
				return usage("--all is of the report, which --faults does not print")
			}
			ck, err := gptoss.OpenCheckpoint(args[0])
			if err != nil {
				return err
			}
			defer ck.Close()
			if err := ck.Weights.Check(c.Context()); err != nil {
				return err
			}
			known := "not compared with the golden's (--no-hash)"
			if golden == "" {
				known, noHash = "traced just now", true
				var remove func()
				if golden, remove, err = oracleGolden(c, ck, tokens); err != nil {
					return err
				}
				defer remove()
			}
			t, err := verify.OpenGolden(golden, ck.Graph)
			if err != nil {
				return err
			}
			defer t.Close()
			if !noHash {
				if known, err = sameCheckpoint(c, args[0], t); err != nil {
					return err
				}
			}
			if faults {
				return verifyFaults(c, ck, t, o, asJSON)
			}
			o.Precision = t.Precision
			subject, err := verify.Engine(ck.Graph, ck.Weights, o)
			if err != nil {
				return err
			}
			options := verify.Options{OracleMost: most, Progress: sayOn(c.ErrOrStderr())}
			r, err := verify.Run(c.Context(), ck.Graph, t, []verify.Subject{subject}, verify.Oracle(ck.Graph, ck.Weights), options)
			if err != nil {
				return err
			}
			r.Checkpoint = fmt.Sprintf("%s, %v layout, %s", args[0], ck.Dialect, known)
			if asJSON {
				err = r.WriteJSON(c.OutOrStdout())
			} else {
				err = r.WriteText(c.OutOrStdout(), all)
			}
			if err == nil && r.Verdict != parity.Pass && r.Verdict != parity.Ambiguous {
				err = fmt.Errorf("verify: %s: %s", filepath.Base(golden), r.Verdict)
			}
			return err
		},
	}
	x.flags(c)
	f := c.Flags()
	f.StringVar(&golden, "golden", "", "trace of the reference")
	f.StringVar(&prompt, "prompt", "", "text of a user's message, instead of a golden")
	f.StringVar(&conversation, "conversation", "", "JSON file of a conversation, instead of a golden")
	f.BoolVar(&faults, "faults", false, "show that known bugs are caught; the golden must be in f32")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&all, "all", false, "print a line for every stage of every layer")
	f.BoolVar(&noHash, "no-hash", false, "do not read the whole checkpoint to see that it is the golden's")
	f.StringVar(&kernels, "kernels", "best", "kernel set of the engine: best or portable")
	f.Float64Var(&most, "oracle-most", oracleMost, "most multiplications that the free-running oracle may take")
	return c
}

// oracleGolden writes the oracle's trace of tokens to a folder that remove
// removes.
func oracleGolden(c *cobra.Command, ck *gptoss.Checkpoint, tokens []uint32) (path string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "ossify-verify-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	if say := sayOn(c.ErrOrStderr()); say != nil {
		say(fmt.Sprintf("oracle f64, trace of %d tokens", len(tokens)))
	}
	path = filepath.Join(dir, "oracle.safetensors")
	q := verify.TraceRequest{Tokens: tokens, Positions: compared(ck, len(tokens), 0), Precision: "f64"}
	if err := verify.WriteTrace(c.Context(), path, ck, q); err != nil {
		remove()
		return "", nil, err
	}
	return path, remove, nil
}

// sameCheckpoint fails if the golden was made from another checkpoint.
func sameCheckpoint(c *cobra.Command, dir string, t *verify.Golden) (string, error) {
	want := t.Metadata()["checkpoint"]
	got, err := hashOf(c, dir)
	if err != nil {
		return "", err
	}
	if got != want {
		return "", fmt.Errorf("verify: %s: made from a checkpoint with hash %.16q, but %s has %.16q; it is another one, or in another layout (--no-hash compares all the same)",
			filepath.Base(t.Path()), want, dir, got)
	}
	return fmt.Sprintf("hash %.16s as the golden says", got), nil
}

func verifyFaults(c *cobra.Command, ck *gptoss.Checkpoint, t *verify.Golden, o engine.Options, asJSON bool) error {
	seen := func(f verify.Caught) {
		verdict := "caught at " + f.At
		if f.At == "" {
			verdict = "not caught"
		}
		fmt.Fprintf(c.OutOrStdout(), "%-34s %-30s (want %s)\n", f.Name, verdict, f.Want)
	}
	if asJSON {
		seen = nil
	}
	r, err := verify.Faults(c.Context(), ck.Graph, ck.Weights, t, o, seen)
	if err != nil {
		return err
	}
	if asJSON {
		e := json.NewEncoder(c.OutOrStdout())
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		err = e.Encode(r)
	} else {
		clean := "passes"
		if r.Clean.First != "" {
			clean = "fails at " + r.Clean.First
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%-34s %s\n%d/%d faults caught\n", "without a fault", clean, r.Caught(), len(r.Faults))
	}
	if err == nil && !r.OK() {
		err = fmt.Errorf("verify: %d of %d faults caught at their stage; the model without a fault diverges first at %q", r.Caught(), len(r.Faults), r.Clean.First)
	}
	return err
}

// sayOn returns a function that tells a terminal what begins, else nil.
func sayOn(w io.Writer) func(string) {
	if f, ok := w.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return func(what string) { fmt.Fprintf(w, "verify: %s\n", what) }
}
