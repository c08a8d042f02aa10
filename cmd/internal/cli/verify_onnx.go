package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/onnx"
	"ossify/onnx/ort"
	"ossify/parity"
	"ossify/verify"
	verifyonnx "ossify/verify/onnx"
)

// libraryVariable names an environment variable with the path of ONNX Runtime's
// library, for --onnxruntime.
const libraryVariable = "OSSIFY_ONNXRUNTIME"

func libraryVar(c *cobra.Command, library *string) {
	c.Flags().StringVar(library, "onnxruntime", "", "ONNX Runtime's library, or its folder; default $"+libraryVariable+", else where 'make deps' and packages put it")
}

func operatorsVar(c *cobra.Command, operators *bool) {
	c.Flags().BoolVar(operators, "operators", false, "of --onnx: run functions of ossify's on the engine's kernels, as the operator library does")
}

// verifyONNX is what verify does with --onnx and --onnx-faults.
type verifyONNX struct {
	model   string
	faults  bool
	library string
	decode  int
	brief   bool

	operators bool
}

func (x *verifyONNX) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&x.model, "onnx", "", "ONNX model to judge, ossify's or another's")
	f.BoolVar(&x.faults, "onnx-faults", false, "export the model with known bugs; show that each is caught and named")
	libraryVar(c, &x.library)
	operatorsVar(c, &x.operators)
	f.BoolVar(&x.brief, "brief", false, "of --onnx: judge the model's own run alone, not PyTorch and the engine again, no chunks of other sizes, no batch")
	f.IntVar(&x.decode, "decode", -1, "of --onnx: tokens at the end that are decoded one by one (default twice the window and 8, or half of the tokens)")
}

// asked reports whether an ONNX model is to be judged.
func (x *verifyONNX) asked() bool { return x.model != "" || x.faults }

// openRuntime opens ONNX Runtime, found by flag or by its documented search.
func openRuntime(flag string) (*ort.Runtime, error) {
	if flag == "" {
		flag = os.Getenv(libraryVariable)
	}
	path, _, err := ort.Find(flag)
	if err != nil {
		if errors.Is(err, ort.ErrNotFound) {
			err = fmt.Errorf("%w (--onnxruntime)", err)
		}
		return nil, err
	}
	return ort.Open(path)
}

// run judges an ONNX model on the golden's tokens, else on tokens.
func (x *verifyONNX) run(c *cobra.Command, v *verifyCommand, ck *gptoss.Checkpoint, t *verify.Golden, routing *verify.Routing, tokens []uint32, o engine.Options, of parity.Fact, from []parity.Fact, file *reportFile) error {
	if x.model != "" && x.faults {
		return usage("want one of --onnx and --onnx-faults")
	}
	if x.decode < -1 {
		return usage("--decode %d, want 0 or more", x.decode)
	}
	n := len(tokens)
	if t != nil {
		n = len(t.Tokens())
	}
	decode := x.decode
	if decode < 0 {
		decode = verify.StepsOf(ck.Graph, n).Decode
	}
	ctx, say, finish := tellerOn(c.ErrOrStderr()).on(c.Context())
	q := verifyonnx.Request{Model: x.model, Golden: t, Tokens: tokens, Decode: decode, Engine: o, Twin: true, Brief: x.brief, Routing: routing, Load: ort.Options{Operators: x.operators}, Progress: say}
	if t == nil {
		q.Positions = verify.Positions(ck.Graph, n, v.most, 0, ck.Config.Window, 256, n-decode, n)
	}
	if x.model != "" { // before the library: a bad file needs none to be refused
		if _, err := onnx.Read(x.model); err != nil {
			return err
		}
	}
	rt, err := openRuntime(x.library)
	if err != nil {
		return err
	}
	defer rt.Close()
	if x.faults {
		return x.runFaults(c, v, rt, ck, q)
	}
	r, err := verifyonnx.Check(ctx, rt, ck, q)
	finish()
	if err != nil {
		return err
	}
	if from != nil {
		r.Provenance = append(from, parity.Fact{Name: "ONNX Runtime", Text: rt.Version()})
	}
	return v.print(c, r, &r.Report, of, filepath.Base(x.model), file)
}

func (x *verifyONNX) runFaults(c *cobra.Command, v *verifyCommand, rt *ort.Runtime, ck *gptoss.Checkpoint, q verifyonnx.Request) error {
	out := c.OutOrStdout()
	seen := func(f verifyonnx.Caught) {
		at, named, logits := f.At, f.Named, "named"
		if at == "" {
			at = "not caught"
		}
		switch named {
		case f.Name:
			named = "named"
		case "":
			named = "not named"
		}
		if f.ByLogits != f.Name {
			logits = "not named"
		}
		fmt.Fprintf(out, "%-38s  %-20s  %-9s  %s\n", f.Name, at, named, logits)
	}
	if v.asJSON {
		seen = nil
	} else {
		fmt.Fprintf(out, "%-38s  %-20s  %-9s  %s\n", "fault in the exported file", "first diverging", "by stage", "by logits")
	}
	r, err := verifyonnx.Faults(c.Context(), rt, ck, q, seen)
	if err != nil {
		return err
	}
	named, byLogits := r.Counts()
	if v.asJSON {
		err = printJSON(out, r)
	} else {
		clean := "passes"
		if r.Clean != "" {
			clean = "diverges at " + r.Clean
		}
		_, err = fmt.Fprintf(out, "%-38s  %s\n%d/%d named from their logits alone\n%d/%d faults caught and named\n",
			"without a fault", clean, byLogits, len(r.Faults), named, len(r.Faults))
	}
	if err == nil && !r.OK() {
		err = fmt.Errorf("verify: %d of %d faults caught and named; the model without one diverges first at %q", named, len(r.Faults), r.Clean)
	}
	return err
}
