package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ossify/parity"
	"ossify/server/page"
)

// The names of facts in a report that a server's page speaks of.
const (
	factHash      = "checkpoint, hash"
	factONNX      = "ONNX model"
	factMade      = "made"
	factBuild     = "ossify"
	factPrecision = "precision"
	factTokens    = "tokens"
	factGolden    = "golden"
)

// readVerified reads what verify --json said, and proves that it is of the
// checkpoint in dir, and of the ONNX model if there is one.
func readVerified(c *cobra.Command, file, dir, onnx, precision string) (v page.Verification, err error) {
	r, err := parseInput(c, file, parity.ParseReport)
	if err != nil {
		return v, err
	}
	of := func(list []parity.Fact, name string) string {
		for _, f := range list {
			if f.Name == name {
				return f.Text
			}
		}
		return ""
	}
	fact := func(name string) string { return of(r.Provenance, name) }
	wrong := func(format string, args ...any) (page.Verification, error) {
		return page.Verification{}, inFile(inputName(file), fmt.Errorf(format, args...))
	}
	same := func(what, want, path string, hash func(*cobra.Command, string) (string, error)) error {
		got, err := hash(c, path)
		if err == nil && got != want {
			_, err = wrong("a report of another %s: its hash is %.16s, that of %s is %.16s", what, want, path, got)
		}
		return err
	}
	want := fact(factHash)
	if len(want) != 64 || strings.Trim(want, "0123456789abcdef") != "" {
		return wrong("the report does not say of which checkpoint it is, want what verify --json wrote without --no-hash")
	}
	if err := same("checkpoint", want, dir, hashOf); err != nil {
		return v, err
	}
	_, model, has := strings.Cut(fact(factONNX), ", SHA-256 ")
	switch {
	case onnx == "" && has:
		return wrong("a report of an ONNX model, want one of the engine: it is what computes here")
	case onnx != "" && !has:
		return wrong("a report of the engine, want one of the ONNX model (verify --onnx %s): it is what computes here", onnx)
	case onnx != "":
		if err := same("ONNX model", model, onnx, fileHash); err != nil {
			return v, err
		}
	}
	made, err := time.Parse(time.RFC3339, fact(factMade))
	if err != nil {
		return wrong("the report does not say when it was made")
	}
	switch r.Verdict {
	case parity.Pass, parity.Fail:
		v.Verdict, v.Made = string(r.Verdict), &made
	default:
		return wrong("the report judges nothing")
	}
	// "NAME: PRECISION, …" of a golden, else a fact of its own.
	judged, golden := of(r.Title, factPrecision), of(r.Title, factGolden)
	if _, text, ok := strings.Cut(golden, ": "); ok {
		judged, _, _ = strings.Cut(text, ",")
	}
	add := func(name, text string) {
		if text != "" {
			v.Facts = append(v.Facts, [2]string{name, text})
		}
	}
	add("verdict", v.Verdict)
	if r.First != "" {
		add("first diverging", strings.TrimSuffix(r.First+", "+r.Where, ", "))
	}
	add("made", made.UTC().Format(time.RFC3339))
	add("by ossify", fact(factBuild))
	add("checkpoint", want)
	add("ONNX model", model)
	add("in precision", judged)
	add("on tokens", of(r.Title, factTokens))
	add("golden", golden)
	for _, p := range r.Columns {
		text := p.What + ": " + string(p.Verdict)
		if p.Missing != "" {
			text += "; not judged: " + p.Missing
		}
		add(p.Name, text)
	}
	if n := len(r.Faults); n > 0 {
		caught := 0
		for _, f := range r.Faults {
			if f.OK() {
				caught++
			}
		}
		add("known bugs", fmt.Sprintf("%d of %d caught", caught, n))
	}
	if onnx == "" && judged != precision {
		v.Cautions = append(v.Cautions, fmt.Sprintf("The report is of %s, this server computes in %s.", judged, precision))
	}
	return v, nil
}

// verifyCommandOf is the command whose report readVerified wants.
func verifyCommandOf(dir, onnx, precision string) string {
	words := []string{"ossify", "verify", quoted(dir)}
	if onnx != "" {
		words = append(words, "--onnx", quoted(onnx))
	} else {
		words = append(words, "--precision", precision)
	}
	return strings.Join(append(words, "--json", ">", "verified.json"), " ")
}
