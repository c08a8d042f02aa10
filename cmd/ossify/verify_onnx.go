package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/onnx"
	"ossify/onnx/ort"
	"ossify/parity"
	"ossify/verify"
)

// libraryVariable names an environment variable with the path of ONNX Runtime's
// library, for --onnxruntime.
const libraryVariable = "OSSIFY_ONNXRUNTIME"

// verifyONNX is what verify does with --onnx and --onnx-faults.
type verifyONNX struct {
	model          string
	faults         bool
	library        string
	length, decode int
}

func (x *verifyONNX) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&x.model, "onnx", "", "ONNX model to compare, ossify's or another's")
	f.BoolVar(&x.faults, "onnx-faults", false, "export the model with known bugs; show that each is caught and named")
	f.StringVar(&x.library, "onnxruntime", "", "ONNX Runtime's library, or its folder; default $"+libraryVariable+", else where 'make deps' and packages put it")
	f.IntVar(&x.length, "length", 250, "of --onnx without --golden: random tokens")
	f.IntVar(&x.decode, "decode", 50, "of --onnx: tokens at the end that are decoded one by one")
}

// asked reports whether an ONNX model is to be compared.
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

// run compares an ONNX model on the golden's tokens, else on tokens, else, if
// there are none, on random ones.
func (x *verifyONNX) run(c *cobra.Command, dir, golden string, tokens []uint32, o engine.Options, most float64, asJSON, all bool) error {
	if x.model != "" && x.faults {
		return usage("want one of --onnx and --onnx-faults")
	}
	if x.length < 2 || x.decode < 0 {
		return usage("--length %d and --decode %d, want at least 2 and 0", x.length, x.decode)
	}
	ck, err := gptoss.OpenCheckpoint(dir)
	if err != nil {
		return err
	}
	defer ck.Close()
	if err := ck.Weights.Check(c.Context()); err != nil {
		return err
	}
	q := verify.ONNXRequest{
		Model: x.model, Decode: x.decode, Engine: o, OracleMost: most,
		Twin:     true,
		Progress: sayOn(c.ErrOrStderr()),
	}
	if golden != "" {
		if q.Golden, err = verify.OpenGolden(golden, ck.Graph); err != nil {
			return err
		}
		defer q.Golden.Close()
	} else {
		if q.Tokens = tokens; tokens == nil {
			q.Tokens = randomTokens(x.length, ck.Config.Vocab)
		}
		q.Positions = compared(ck, len(q.Tokens), x.decode)
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
		return x.runFaults(c, rt, ck, q, asJSON)
	}
	r, err := verify.ONNX(c.Context(), rt, ck, q)
	if err != nil {
		return err
	}
	if asJSON {
		err = r.WriteJSON(c.OutOrStdout())
	} else {
		err = r.WriteText(c.OutOrStdout(), all)
	}
	if err == nil && r.Verdict != parity.Pass && r.Verdict != parity.Ambiguous {
		err = fmt.Errorf("verify: %s: %s", filepath.Base(x.model), r.Verdict)
	}
	return err
}

// randomTokens returns tokens that are the same each time.
func randomTokens(n, vocab int) (tokens []uint32) {
	r := rand.New(rand.NewPCG(20, 8)) // any
	for range n {
		tokens = append(tokens, uint32(r.IntN(vocab)))
	}
	return tokens
}

// compared returns the positions of n tokens that are compared: all of a small
// model; of a large one about as many as the oracle computes in ten seconds,
// with those at the edges of the window, of the prompt before the last decoded
// tokens, and of the sequence.
func compared(ck *gptoss.Checkpoint, n, decoded int) (positions []int) {
	rows := n
	for rows > 1 && (verify.Cost(ck.Graph, rows) > 1e10 || rows*ck.Config.Vocab > 1<<24) {
		rows--
	}
	for i := range rows {
		positions = append(positions, (i+1)*n/rows-1)
	}
	for _, edge := range []int{0, ck.Config.Window, n - decoded, n} {
		for p := edge - 1; p <= edge+1; p++ {
			if p >= 0 && p < n {
				positions = append(positions, p)
			}
		}
	}
	slices.Sort(positions)
	return slices.Compact(positions)
}

func (x *verifyONNX) runFaults(c *cobra.Command, rt *ort.Runtime, ck *gptoss.Checkpoint, q verify.ONNXRequest, asJSON bool) error {
	out := c.OutOrStdout()
	seen := func(f verify.ONNXCaught) {
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
		fmt.Fprintf(out, "%-34s %-22s %-12s %s\n", f.Name, at, named, logits)
	}
	if asJSON {
		seen = nil
	} else {
		fmt.Fprintf(out, "%-34s %-22s %-12s %s\n", "fault in the exported file", "first diverging stage", "by stage", "by logits alone")
	}
	r, err := verify.ONNXFaults(c.Context(), rt, ck, q, seen)
	if err != nil {
		return err
	}
	named, byLogits := r.Counts()
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		err = e.Encode(r)
	} else {
		clean := "passes"
		if r.Clean != "" {
			clean = "diverges at " + r.Clean
		}
		_, err = fmt.Fprintf(out, "%-34s %s\n%d/%d named from their logits alone\n%d/%d faults caught and named\n",
			"without a fault", clean, byLogits, len(r.Faults), named, len(r.Faults))
	}
	if err == nil && !r.OK() {
		err = fmt.Errorf("verify: %d of %d faults caught and named; the model without one diverges first at %q", named, len(r.Faults), r.Clean)
	}
	return err
}
