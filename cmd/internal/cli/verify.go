package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ossify/engine"
	"ossify/fault"
	"ossify/gptoss"
	"ossify/kernel"
	"ossify/parity"
	"ossify/verify"
)

// A verifyCommand is the flags of verify.
type verifyCommand struct {
	golden, routing      string
	prompt, conversation string
	html                 string
	force                bool
	precision            string
	kernels              func() kernel.Set
	faults               bool
	attack               int
	seed                 uint64
	length               int
	first, injectAt      int
	tokensSeed           uint64
	inject               string
	asJSON, all, noHash  bool
	most                 float64
	onnx                 verifyONNX
}

func newVerify() *cobra.Command {
	v := &verifyCommand{}
	c := &cobra.Command{
		Use:   "verify DIR [--golden FILE | --prompt TEXT | --conversation FILE]",
		Short: "Judge the engine and the PyTorch reference, stage by stage",
		Long: `Verify judges every element of every stage of a checkpoint: it must be the
rounding of a number within bounds that the oracle computes in float64, from the
values of the stages before. docs/parity.md derives the bounds.

With a golden, a trace that tools/reference wrote with PyTorch, it judges
PyTorch by its own values, then the engine by PyTorch's values: all rows at once,
and in chunks and one by one through the cache. In any case it judges a run of
the engine by its own values. The verdict is pass or fail, with exit code 1; the
first diverging stage is named.

With --faults it puts known bugs into the model instead, one at a time, and
fails unless each is caught at the stage where it sits. With --attack it edits
weights at random, and counts how many of the edits are found.

With --onnx it judges a model in ONNX Runtime in the same way.

With --html it writes the report as a page for a browser, too, with pictures
(docs/report.md); with --faults beside it, of the comparison and the faults.`,
		Example: `  ossify verify /tmp/tiny --golden testdata/goldens/tiny-bf16.safetensors
  ossify verify /tmp/tiny --golden testdata/goldens/tiny-f32.safetensors --faults
  ossify verify /tmp/tiny --golden testdata/goldens/tiny-bf16.safetensors --attack 1000
  ossify verify /tmp/tiny --golden testdata/goldens/tiny-f32.safetensors --faults --html report.html
  ossify verify /tmp/20b --prompt 'What is jade?'
  ossify verify /tmp/tiny --onnx /tmp/tiny/model.onnx`,
		Args: oneArgument("DIR"),
		RunE: func(c *cobra.Command, args []string) error { return v.run(c, args[0]) },
	}
	v.onnx.flags(c)
	f := c.Flags()
	f.StringVar(&v.golden, "golden", "", "trace of the reference")
	f.StringVar(&v.routing, "routing", "", "of a golden: the reference's choices of experts at all positions, to judge choices, logits and errors beside its own")
	f.StringVar(&v.prompt, "prompt", "", "text of a user's message, instead of a golden")
	f.StringVar(&v.conversation, "conversation", "", "JSON file of a conversation, instead of a golden")
	f.IntVar(&v.length, "length", 0, "without any of these: random tokens (default 256 and more than three windows)")
	f.Uint64Var(&v.tokensSeed, "tokens-seed", 8, "seed of random tokens")
	f.IntVar(&v.first, "first", 0, "position of the first token, which sees none before; beyond 0 all rows at once")
	f.StringVar(&v.inject, "inject", "", "name of a bug of the fault table, put into the engine at --inject-at alone, to see that it is found")
	f.IntVar(&v.injectAt, "inject-at", 0, "position of --inject")
	chooseVar(c, &v.precision, "precision", "f32", []string{"f32", "bf16"}, "rounding of the engine; a golden has its own")
	f.BoolVar(&v.faults, "faults", false, "show that known bugs are caught")
	f.IntVar(&v.attack, "attack", 0, "random edits of weights; show how many are found")
	f.Uint64Var(&v.seed, "seed", 1, "seed of --attack")
	f.BoolVar(&v.asJSON, "json", false, "print JSON")
	f.StringVar(&v.html, "html", "", "file for the report as a page, beside what is printed")
	f.BoolVar(&v.force, "force", false, "replace the --html file though verify did not write it")
	f.BoolVar(&v.all, "all", false, "print a line for every stage of every layer")
	f.BoolVar(&v.noHash, "no-hash", false, "do not read the whole checkpoint to see that it is the golden's")
	v.kernels = kernelsVar(c, "kernels")
	f.Float64Var(&v.most, "oracle-most", 1.5e8, "most multiplications that the oracle may take to judge a run by its own values; decides at how many positions")
	return c
}

func (v *verifyCommand) run(c *cobra.Command, dir string) error {
	o := engine.Options{Kernels: v.kernels()}
	var tokens []uint32
	if v.prompt != "" || v.conversation != "" {
		if v.golden != "" {
			return usage("--golden has tokens of its own, want no --prompt and no --conversation beside it")
		}
		var err error
		if tokens, err = promptTokens(c, v.prompt, v.conversation); err != nil {
			return err
		}
	}
	shows := v.faults || v.attack != 0
	switch {
	case v.attack < 0:
		return usage("--attack %d, want 1 or more", v.attack)
	case v.faults && v.attack > 0:
		return usage("want one of --faults and --attack")
	case shows && v.onnx.asked():
		return usage("--faults and --attack are of the engine, want no --onnx beside them (--onnx-faults is of ONNX)")
	case shows && v.golden == "":
		return usage("--faults and --attack want a --golden")
	case v.routing != "" && (v.golden == "" || shows || v.onnx.asked() && !v.onnx.brief):
		return usage("--routing is of a --golden by which the engine is judged, or a model with --onnx and --brief")
	case v.onnx.brief && v.onnx.model == "":
		return usage("--brief is of --onnx")
	case shows && v.all:
		return usage("--all is of the report, which --faults and --attack do not print")
	case v.html != "" && (v.attack > 0 || v.onnx.faults):
		return usage("--html is of a comparison and of --faults, want no --attack and no --onnx-faults beside it")
	case v.force && v.html == "":
		return usage("--force is of --html, which is missing")
	case v.golden != "" && c.Flags().Changed("precision"):
		return usage("--golden has a precision of its own, want no --precision beside it")
	case v.first < 0:
		return usage("--first %d, want 0 or more", v.first)
	case (v.first > 0 || v.inject != "") && (v.golden != "" || v.onnx.asked()):
		return usage("--first and --inject are of the engine without a golden")
	case v.inject == "" && c.Flags().Changed("inject-at"):
		return usage("--inject-at is of --inject, which is missing")
	case v.length < 0 || v.length == 1:
		return usage("--length %d, want at least 2", v.length)
	}
	p := engine.F32
	if v.precision == "bf16" {
		p = engine.BF16
	}
	ck, err := gptoss.OpenCheckpoint(dir)
	if err != nil {
		return err
	}
	defer ck.Close()
	if err := ck.Weights.Check(c.Context()); err != nil {
		return err
	}
	var file *reportFile
	if v.html != "" {
		if file, err = createReport(c, dir, v.html, v.force, v.golden, v.routing, v.conversation, v.onnx.model); err != nil {
			return err
		}
		defer file.abort()
	}
	known, hash := "not compared with a golden's", "not computed (--no-hash)"
	var t *verify.Golden
	if v.golden != "" {
		if t, err = verify.OpenGolden(v.golden, ck.Graph); err != nil {
			return err
		}
		defer t.Close()
		known = "not compared with the golden's (--no-hash)"
		if !v.noHash {
			if known, err = sameCheckpoint(c, dir, t); err != nil {
				return err
			}
			hash = t.Metadata()["checkpoint"]
		}
	} else if tokens == nil {
		tokens = v.randomTokens(ck.Config)
	}
	var routing *verify.Routing
	if v.routing != "" {
		if routing, err = verify.OpenRouting(v.routing, ck.Graph, t); err != nil {
			return err
		}
		defer routing.Close()
	}
	if (file != nil || v.asJSON) && t == nil && !v.noHash {
		if hash, err = hashOf(c, dir); err != nil {
			return err
		}
	}
	var from []parity.Fact
	if file != nil || v.asJSON {
		if from, err = v.provenance(c, ck, dir, hash, t, o); err != nil {
			return err
		}
	}
	of := parity.Fact{Name: "checkpoint", Text: fmt.Sprintf("%s, %v layout, %s", dir, ck.Dialect, known)}
	switch {
	case v.onnx.asked():
		return v.onnx.run(c, v, ck, t, routing, tokens, o, of, from, file)
	case v.faults && file == nil:
		_, err := v.runFaults(c, ck, t, o)
		return err
	case v.attack > 0:
		return v.runAttack(c, ck, t, o)
	}
	ctx, say, finish := tellerOn(c.ErrOrStderr()).on(c.Context())
	injection, err := v.injection()
	if err != nil {
		return err
	}
	q := verify.Request{First: v.first, Inject: injection, Golden: t, Routing: routing, Tokens: tokens, Precision: p, Engine: o, Most: v.most, Progress: say}
	r, err := verify.Run(ctx, ck.Graph, ck.Weights, q)
	finish()
	if err != nil {
		return err
	}
	r.Provenance = from
	if v.faults { // printed as without the page, which has the comparison too
		r.Title = append(r.Title, of)
		faults, failed := v.runFaults(c, ck, t, o)
		if faults == nil {
			return failed
		}
		r.Faults = faults.Faults
		r.Judge()
		if err := file.write(pageOf(nameOf(v.golden, dir), r)); err != nil {
			return err
		}
		if failed == nil && r.Verdict != parity.Pass {
			failed = fmt.Errorf("verify: %s: %s", nameOf(v.golden, dir), r.Verdict)
		}
		return failed
	}
	return v.print(c, r, r, of, nameOf(v.golden, dir), file)
}

// print prints a report, whose parity part is r, writes the page, and returns
// the report's failure.
func (v *verifyCommand) print(c *cobra.Command, whole any, r *parity.Report, of parity.Fact, name string, file *reportFile) error {
	r.Title = append(r.Title, of)
	var err error
	if v.asJSON {
		err = printJSON(c.OutOrStdout(), whole)
	} else {
		err = r.WriteText(c.OutOrStdout(), parity.Text{All: v.all, Colour: terminalOf(c.OutOrStdout()).colour})
	}
	if err == nil && file != nil {
		err = file.write(pageOf(name, r))
	}
	if err == nil && r.Verdict != parity.Pass {
		err = fmt.Errorf("verify: %s: %s", name, r.Verdict)
	}
	return err
}

func nameOf(golden, dir string) string {
	if golden != "" {
		return filepath.Base(golden)
	}
	return dir
}

// randomTokens returns tokens that are the same each time: more than the
// rotary tables of an exported model have rows, and three windows.
func (v *verifyCommand) randomTokens(config *gptoss.Config) (tokens []uint32) {
	n := v.length
	if n == 0 {
		n = 256 + 3*config.Window + 16
	}
	r := rand.New(rand.NewPCG(20, v.tokensSeed))
	for range n {
		tokens = append(tokens, uint32(r.IntN(config.Vocab)))
	}
	return tokens
}

// injection returns the bug of --inject.
func (v *verifyCommand) injection() (*verify.Injection, error) {
	if v.inject == "" {
		return nil, nil
	}
	var names []string
	for _, f := range fault.Table() {
		if f.Name == v.inject {
			return &verify.Injection{Fault: f, Position: v.injectAt}, nil
		}
		names = append(names, f.Name)
	}
	return nil, usage("--inject %q, want one of: %s", v.inject, strings.Join(names, ", "))
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

// runFaults prints the fault table. It returns it with the error of a fault that
// was not caught, too, but not if it could not be printed.
func (v *verifyCommand) runFaults(c *cobra.Command, ck *gptoss.Checkpoint, t *verify.Golden, o engine.Options) (*verify.FaultReport, error) {
	seen := func(f parity.Caught) {
		verdict := "caught at " + f.At
		switch {
		case f.At == "":
			verdict = "not caught, want " + f.Want
		case !f.OK():
			verdict += ", want " + f.Want
		case f.Later():
			verdict += ", the first layer that shows it"
		}
		fmt.Fprintf(c.OutOrStdout(), "%-38s  %-7s  %s\n", f.Name, f.Where, verdict)
	}
	if v.asJSON {
		seen = nil
	}
	r, err := verify.Faults(c.Context(), ck.Graph, ck.Weights, t, o, seen)
	if err != nil {
		return nil, err
	}
	if v.asJSON {
		err = printJSON(c.OutOrStdout(), r)
	} else {
		clean := "passes"
		if r.Clean != "" {
			clean = "fails at " + r.Clean
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%-38s  %-7s  %s\n%d/%d faults caught\n", "without a fault", "", clean, r.Caught(), len(r.Faults))
	}
	if err != nil {
		return nil, err
	}
	if !r.OK() {
		err = fmt.Errorf("verify: %d of %d faults caught at their stage; the model without a fault diverges first at %q", r.Caught(), len(r.Faults), r.Clean)
	}
	return r, err
}

func (v *verifyCommand) runAttack(c *cobra.Command, ck *gptoss.Checkpoint, t *verify.Golden, o engine.Options) error {
	progress, finish := progressOf(c.ErrOrStderr(), "attack")
	defer finish()
	seen := func(done int) {
		if progress != nil {
			progress(int64(done), int64(v.attack))
		}
	}
	r, err := verify.Attack(c.Context(), ck.Graph, ck.Weights, t, v.attack, v.seed, o, seen)
	if err != nil {
		return err
	}
	finish()
	if v.asJSON {
		err = printJSON(c.OutOrStdout(), r)
	} else {
		err = r.WriteText(c.OutOrStdout())
	}
	if err == nil && !r.OK() {
		err = errors.New("verify: findable edits were not found, or stages failed that read no edited weight")
	}
	return err
}

// A teller tells a terminal what begins, and how far the oracle is with it.
type teller struct {
	w     io.Writer
	bar   bar
	width func() int
}

// tellerOn returns nil if w is no terminal.
func tellerOn(w io.Writer) *teller {
	if terminalOf(w).width == 0 {
		return nil
	}
	return &teller{w: w, bar: bar{w: w, now: time.Now}, width: func() int { return terminalOf(w).width }}
}

// say is for Request.Progress.
func (t *teller) say(what string) {
	t.bar.clear()
	fmt.Fprintf(t.w, "verify: %s\n", what)
}

// on returns what a request is made with: a context that tells how far it is, and
// a function for what begins. finish leaves an empty line.
func (t *teller) on(ctx context.Context) (with context.Context, say func(string), finish func()) {
	if t == nil {
		return ctx, nil, func() {}
	}
	return verify.Telling(ctx, func(stage string, done, of int) {
		text := fmt.Sprintf("verify: %3.0f%%, %s", 100*float64(done)/float64(of), stage)
		t.bar.line(text[:min(len(text), max(0, t.width()-1))])
	}), t.say, t.bar.clear
}
