package ort

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"
)

// A Runtime is the loaded library. There is one in a process.
type Runtime struct {
	path    string
	version string
	loading atomic.Int64 // models that are being loaded, those that were given up too
}

// Open loads the library at path. It must be ONNX Runtime 1.24 or newer. A
// process can have it open once at a time. Its telemetry is off, always: from
// 1.32 on it would write files to the user's cache and look for Microsoft's
// servers. Turning it off sets an environment variable of this process, for the
// library asks for it before anything can be called.
func Open(path string) (*Runtime, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("ort: %w", err)
	}
	version, err := openLibrary(path)
	if err != nil {
		return nil, fmt.Errorf("ort: %s: %s", path, oneLine(err))
	}
	return &Runtime{path: path, version: version}, nil
}

// Version returns the release of the library, such as 1.32.0.
func (r *Runtime) Version() string { return r.version }

// Loading returns how many models are being loaded, those that were given up too.
func (r *Runtime) Loading() int { return int(r.loading.Load()) }

// Close unloads the library. All sessions must be closed before. While a load
// that was given up goes on, the library stays: it has the process to end with.
func (r *Runtime) Close() error {
	if r.loading.Load() > 0 {
		return nil
	}
	return closeLibrary()
}

// Options say how a model is loaded. The zero Options keeps the weights where
// they are, in the mapped files; see docs/onnxruntime.md for what the others
// cost and gain.
type Options struct {
	Threads int  // of one operator; 0 takes all processors
	Fold    bool // compute at load what depends on no input: bfloat16 matrices become float32 in memory
	Prepack bool // keep matrices in memory in the order in which the kernels read them
	Plain   bool // no rewriting of the graph at all: each operator as it stands
	Spin    bool // threads keep their processors busy while they wait: quicker where nobody else wants them

	// Operators has functions of ossify's models run on the engine's kernels, as
	// the operator library does in other programs (package ortlib).
	Operators bool

	// Want says which outputs are computed; nil takes all.
	Want func(Info) bool

	// Providers run what they can of the model, the first one first; the
	// processor runs the rest.
	Providers []Provider
}

// A Provider is an execution provider of ONNX Runtime's, such as XNNPACK or
// OpenVINO, with its own options.
type Provider struct {
	Name    string
	Options map[string]string
}

// config returns the session's settings in ONNX Runtime's words.
func (o Options) config() map[string]string {
	c := map[string]string{}
	if !o.Fold {
		c["optimization.disable_specified_optimizers"] = "ConstantFolding"
	}
	if !o.Prepack {
		c["session.disable_prepacking"] = "1"
	}
	if !o.Spin {
		c["session.intra_op.allow_spinning"] = "0"
	}
	return c
}

// A Session is a loaded model. It is safe for use by several goroutines.
type Session struct {
	Inputs, Outputs []Info // Outputs are those that Options.Want named
	handle          handle
}

// Load opens the model file at path, whose external data lies in its folder.
// The file is given to ONNX Runtime as it is; validate what comes from a
// stranger first, with package onnx. If ctx ends, Load returns; the library goes
// on for as long as it takes, and what it has loaded then is freed.
func (r *Runtime) Load(ctx context.Context, path string, o Options) (*Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// The library prints paths that do not exist in its own words.
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("ort: %w", err)
	}
	type loaded struct {
		s   *Session
		err error
	}
	done := make(chan loaded, 1)
	r.loading.Add(1)
	go func() {
		s, err := load(r.path, path, o)
		if ctx.Err() != nil && err == nil {
			s.Close()
			s, err = nil, ctx.Err()
		}
		r.loading.Add(-1)
		done <- loaded{s, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case l := <-done:
		if l.err == nil || l.err == ctx.Err() {
			return l.s, l.err
		}
		why := oneLine(l.err)
		if _, after, ok := strings.Cut(why, "Load model from "+path+" failed:"); ok {
			why = after
		}
		return nil, fmt.Errorf("ort: %s: %s", shown(path), why)
	}
}

// Close frees the session.
func (s *Session) Close() error { return s.handle.close() }

// Run computes the outputs from the inputs, which must all be given. Outputs
// that are in out with a shape are written to memory of that size, or to their
// Data if it is not nil; the others are allocated. When Run returns, out holds
// every output of the session. If ctx ends, the run stops between two
// operators.
func (s *Session) Run(ctx context.Context, in, out map[string]Tensor) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for name, t := range in {
		i := slices.IndexFunc(s.Inputs, func(x Info) bool { return x.Name == name })
		switch {
		case i < 0:
			return fmt.Errorf("ort: no input %s", shown(name))
		case s.Inputs[i].Type != t.Type:
			return fmt.Errorf("ort: input %s: %v, want %v", shown(name), t.Type, s.Inputs[i].Type)
		}
		if err := t.check(); err != nil {
			return fmt.Errorf("ort: input %s: %w", shown(name), err)
		}
	}
	for _, x := range s.Inputs {
		if _, ok := in[x.Name]; !ok {
			return fmt.Errorf("ort: input %s is missing", shown(x.Name))
		}
	}
	for name := range out {
		if !slices.ContainsFunc(s.Outputs, func(x Info) bool { return x.Name == name }) {
			return fmt.Errorf("ort: no output %s", shown(name))
		}
	}
	for _, x := range s.Outputs {
		t := out[x.Name]
		if t.Shape != nil && t.Data == nil {
			t = newTensor(x.Type, t.Shape...)
		}
		if t.Shape != nil {
			if err := t.check(); err != nil || t.Type != x.Type {
				return fmt.Errorf("ort: output %s: %d bytes of %v, shape %v, want %v", shown(x.Name), len(t.Data), t.Type, t.Shape, x.Type)
			}
		}
		out[x.Name] = t
	}
	if err := s.handle.run(ctx, s, in, out); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("ort: %s", oneLine(err))
	}
	return nil
}

// oneLine is an error of the library, which may be of several lines, and may
// hold names out of a stranger's model.
func oneLine(err error) string {
	var words []string
	for _, w := range strings.Fields(err.Error()) {
		words = append(words, shown(w))
	}
	return strings.Join(words, " ")
}

// shown returns a name as it may stand in a message: quoted if it could upset a
// terminal.
func shown(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return !strconv.IsPrint(r) }) >= 0 || !utf8.ValidString(name) {
		return strconv.Quote(name)
	}
	return name
}
