package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"ossify/gptoss"
	"ossify/onnx"
	"ossify/onnx/ort"
)

// onnxFlags let an ONNX model compute instead of the engine.
type onnxFlags struct {
	model, library string
	operators      bool
}

func (x *onnxFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&x.model, "onnx", "", "ONNX model of the checkpoint that computes, in ONNX Runtime")
	libraryVar(c, &x.library)
	operatorsVar(c, &x.operators)
}

// check reports flags that do not go together.
func (x *onnxFlags) check(c *cobra.Command) error {
	if x.model != "" {
		if names := given(c, append([]string{"precision", "screen"}, memoryNames...)...); len(names) > 0 {
			return usage("--%s is of the engine, want no --onnx beside it", names[0])
		}
		return nil
	}
	if names := given(c, "operators", "onnxruntime"); len(names) > 0 {
		return usage("--%s is of ONNX models, want --onnx beside it", names[0])
	}
	return nil
}

// open lets the model answer for t.
func (x *onnxFlags) open(ctx context.Context, t *talker) error {
	d, runs, end, err := x.load(ctx, t.ck, t.flags.threads)
	if err != nil {
		return err
	}
	t.closeFirst(end)
	t.session, t.runs = d.NewSequence(), runs
	return nil
}

// load opens the model, which must be of the checkpoint's sizes, and says what
// runs it. end closes all of it.
func (x *onnxFlags) load(ctx context.Context, ck *gptoss.Checkpoint, threads int) (d *ort.Decoder, runs string, end func() error, err error) {
	m, err := onnx.Read(x.model) // before the library: a bad file needs none to be refused
	if err != nil {
		return nil, "", nil, err
	}
	sum := m.Summary()
	if err := sum.Loadable(); err != nil {
		return nil, "", nil, fmt.Errorf("%s: %w", filepath.Base(x.model), err)
	}
	rt, err := openRuntime(x.library)
	if err != nil {
		return nil, "", nil, err
	}
	shut := rt.Close // not end, which an error's return sets to nil
	defer func() {
		if err != nil {
			err = errors.Join(err, shut())
		}
	}()
	s, err := rt.Load(ctx, x.model, ort.Options{Threads: threads, Spin: true, Operators: x.operators, Want: ort.WantDecoder(sum.OutputNames())})
	if err != nil {
		return nil, "", nil, err
	}
	shut = func() error { return errors.Join(s.Close(), rt.Close()) }
	c := ck.Config
	d, err = ort.NewDecoder(s, c.KVHeads, c.HeadDim)
	if err == nil {
		err = d.Fits(c.Vocab, c.Layers, c.KVHeads, c.HeadDim)
	}
	if err != nil {
		return nil, "", nil, fmt.Errorf("%w: %s", err, x.model)
	}
	runs = "ONNX Runtime " + rt.Version()
	if x.operators {
		runs += " with ossify's operators"
	}
	return d, runs, shut, nil
}
