package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ossify/gptoss"
	"ossify/internal/fileset"
	"ossify/kernel"
	"ossify/parity"
	"ossify/pipeline"
	"ossify/sweep"
	"ossify/sweep/page"
	"ossify/verify"
)

// sweepFlags are the flags of sweep.
type sweepFlags struct {
	runner     runnerFlags
	q          sweep.Request
	prompts    string
	inject     string
	state      string
	checkpoint string
	workers    int
	repeat     int
	noHash     bool
	asJSON     bool
	html       string
	force      bool
}

// A sweepConfig is what every process of a sweep knows.
type sweepConfig struct {
	Dir        string `json:"dir"`
	Checkpoint string `json:"checkpoint"`
	Hash       string `json:"hash,omitempty"`
}

func newSweep(p program) *cobra.Command {
	var a sweepFlags
	c := &cobra.Command{
		Use:   "sweep DIR",
		Short: "Judge a checkpoint by many comparisons, on one machine or many",
		Long: `Sweep runs verify many times: with random tokens of many seeds and lengths, at
positions near and far, in both precisions; with texts of a file, with goldens,
with an ONNX model. One report says which stage is worst, how errors are
distributed by stage and position, how often choices of experts agree, and for
each failure the command that repeats it, which was run.

The report is the same whatever the number of workers and their order. With
--state a sweep that was ended goes on. With --html it is written as a page for a
browser, too. See docs/sweep.md.`,
		Example: `  ossify sweep /tmp/tiny --elements 500
  ossify sweep /tmp/tiny --elements 40 --html report.html
  ossify sweep /tmp/20b --elements 40 --lengths 160,328 --first 0,4088,131056 --prompts questions.txt --state /tmp/sweep
  ossify sweep /tmp/tiny --elements 20 --inject 'no sinks@3:20'`,
		Args: oneArgument("DIR"),
		RunE: func(c *cobra.Command, args []string) error { return a.run(c, args[0]) },
	}
	f := c.Flags()
	f.IntVar(&a.q.Elements, "elements", 100, "comparisons of random tokens")
	f.Uint64Var(&a.q.Seed, "seed", 1, "seed of tokens, lengths and positions")
	f.IntSliceVar(&a.q.Lengths, "lengths", []int{17, 60, 90, 160}, "numbers of random tokens")
	f.IntSliceVar(&a.q.First, "first", []int{0, 0, 0, 0, 1490, 4088, 32760, 131000}, "positions of the first token; through the cache from 0 only")
	f.StringSliceVar(&a.q.Precisions, "precision", []string{"f32", "bf16"}, "rounding of the engine: f32, bf16")
	f.StringVar(&a.prompts, "prompts", "", "file of texts of user messages, one a line, each a comparison")
	f.StringArrayVar(&a.q.Goldens, "golden", nil, "trace of the reference, a comparison more, may be repeated")
	f.StringVar(&a.q.ONNX, "onnx", "", "model for ONNX Runtime, which every eighth random comparison judges")
	f.StringVar(&a.inject, "inject", "", "NAME@ELEMENT:POSITION, a bug of the fault table in one element at one position, to see that it is found")
	f.StringVar(&a.state, "state", "", "folder for outcomes, where a sweep that was ended goes on; clusters need it")
	f.StringVar(&a.checkpoint, "checkpoint-at", "", "the checkpoint's folder as workers see it, if not as here")
	f.IntVar(&a.workers, "workers", 2, "comparisons of a process at once")
	f.IntVar(&a.repeat, "repeat", 20, "failures whose commands are run again, at most")
	f.BoolVar(&a.noHash, "no-hash", false, "do not read the whole checkpoint to prove that all workers have the same")
	f.BoolVar(&a.asJSON, "json", false, "print JSON")
	f.StringVar(&a.html, "html", "", "file for the report as a page, beside what is printed")
	f.BoolVar(&a.force, "force", false, "replace the --html file though ossify did not write it")
	a.runner.add(c, p)
	return c
}

func (a *sweepFlags) run(c *cobra.Command, dir string) error {
	if err := a.runner.check(); err != nil {
		return err
	}
	switch {
	case a.workers < 1:
		return usage("--workers %d, want 1 or more", a.workers)
	case a.repeat < 0:
		return usage("--repeat %d, want 0 or more", a.repeat)
	case a.force && a.html == "":
		return usage("--force is of --html, which is missing")
	case a.runner.endpoint != "" && a.state == "":
		return usage("a cluster wants --state, a folder that all workers see")
	}
	for _, p := range a.q.Precisions {
		if p != "f32" && p != "bf16" {
			return usage("--precision %q, want f32, bf16 or both", p)
		}
	}
	if a.inject != "" {
		name, at, ok := cutLast(a.inject, "@")
		element, position, ok2 := strings.Cut(at, ":")
		e, err1 := strconv.Atoi(element)
		p, err2 := strconv.Atoi(position)
		if !ok || !ok2 || err1 != nil || err2 != nil {
			return usage("--inject %q, want NAME@ELEMENT:POSITION", a.inject)
		}
		if _, err := (&verifyCommand{inject: name}).injection(); err != nil {
			return err
		}
		a.q.Inject = &sweep.Inject{Fault: name, Element: e, Position: p}
	}
	if err := a.runner.choose(); err != nil { // before anything is read
		return err
	}
	if a.prompts != "" {
		f, err := os.Open(a.prompts)
		if err != nil {
			return err
		}
		a.q.Prompts, err = sweep.ReadPrompts(f)
		f.Close()
		if err != nil {
			return err
		}
	}
	for _, p := range append([]*string{&a.q.ONNX}, pointers(a.q.Goldens)...) {
		if *p != "" {
			abs, err := filepath.Abs(*p)
			if err != nil {
				return err
			}
			if _, err := os.Stat(abs); err != nil {
				return err
			}
			*p = abs
		}
	}
	list, err := a.q.List()
	if err != nil {
		return usage("%v", err)
	}
	ctx := c.Context()
	ck, err := gptoss.OpenCheckpoint(dir)
	if err != nil {
		return err
	}
	layout := ck.Dialect.String()
	if err := ck.Close(); err != nil {
		return err
	}
	var file *reportFile
	if a.html != "" {
		inputs := append([]string{a.prompts, a.q.ONNX}, a.q.Goldens...)
		if a.state != "" {
			inputs = append(inputs, sweep.ElementsPath(a.state))
		}
		if file, err = createReport(c, dir, a.html, a.force, inputs...); err != nil {
			return err
		}
		defer file.abort()
	}
	config := sweepConfig{Checkpoint: a.checkpoint}
	if config.Checkpoint == "" {
		if config.Checkpoint, err = filepath.Abs(dir); err != nil {
			return err
		}
	}
	said := "not computed (--no-hash)"
	if !a.noHash {
		if config.Hash, err = hashOf(c, dir); err != nil {
			return err
		}
		said = config.Hash
	}
	config.Dir = a.state
	if a.state == "" {
		temp, err := fileset.TempDir("ossify-sweep")
		if err != nil {
			return err
		}
		defer temp.Remove()
		config.Dir = temp.Join("state")
	} else if config.Dir, err = filepath.Abs(a.state); err != nil {
		return err
	}
	if err := sweep.Begin(ctx, config.Dir, list, map[string]string{"checkpoint": config.Hash}); err != nil {
		return err
	}
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	here := judgeOf(dir)
	kinds := map[string]pipeline.Kind{sweep.Kind: func(context.Context, []byte) (pipeline.Worker, error) {
		return sweep.NewWorker(config.Dir, here), nil // this process has the hash
	}}
	job := pipeline.Job{Kind: sweep.Kind, Config: text, Elements: sweep.ElementsPath(config.Dir), Skip: 1, Parallel: a.workers}
	if err := a.runner.run(ctx, job, kinds, c.ErrOrStderr()); err != nil {
		return err
	}
	r := sweep.NewReport([]parity.Fact{{Name: "checkpoint", Text: dir + ", " + layout + " layout"}, {Name: "hash", Text: said}})
	err = sweep.Read(config.Dir, list, func(o sweep.Outcome) error {
		words := []string{"ossify", "verify", quoted(dir)}
		for _, w := range o.Args {
			words = append(words, quoted(w))
		}
		r.Add(o, strings.Join(words, " "))
		return nil
	})
	if err != nil {
		return err
	}
	if err := r.Repeat(ctx, here, a.repeat); err != nil {
		return err
	}
	r.End()
	if a.asJSON {
		err = printJSON(c.OutOrStdout(), r)
	} else {
		err = r.WriteText(c.OutOrStdout())
	}
	if err == nil && file != nil {
		err = a.page(c, file, dir, r)
	}
	if err == nil && r.Verdict != parity.Pass {
		err = fmt.Errorf("sweep: %d of %d comparisons pass", r.Passed, r.Elements)
	}
	return err
}

// page completes the page, with how it was made.
func (a *sweepFlags) page(c *cobra.Command, file *reportFile, dir string, r *sweep.Report) error {
	from, err := madeBy(c, kernel.Best().Name)
	if err != nil {
		return err
	}
	return file.write(func(w io.Writer) error { return page.Write(w, dir, r, from) })
}

func pointers(list []string) (all []*string) {
	for i := range list {
		all = append(all, &list[i])
	}
	return all
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// judgeOf returns a Judge that runs the command verify, so that the same command
// given by hand does the same.
func judgeOf(dir string) sweep.Judge {
	return func(ctx context.Context, args []string) (*parity.Report, error) {
		var out, errs bytes.Buffer
		c := newVerify()
		c.SilenceErrors, c.SilenceUsage = true, true
		c.SetArgs(append([]string{dir, "--json", "--no-hash"}, args...))
		c.SetOut(&out)
		c.SetErr(&errs)
		failed := c.ExecuteContext(ctx)
		r, err := parity.ParseReport(out.Bytes())
		if err == nil {
			return r, nil // a report that fails is one
		}
		if failed != nil {
			return nil, failed
		}
		return nil, err
	}
}

// openSweep opens the worker of a process of a cluster.
func openSweep(ctx context.Context, config []byte) (pipeline.Worker, error) {
	var c sweepConfig
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("sweep: config: %w", err)
	}
	if c.Hash != "" {
		got, err := verify.CheckpointHash(ctx, c.Checkpoint, nil)
		if err != nil {
			return nil, err
		}
		if got != c.Hash {
			return nil, fmt.Errorf("sweep: %s has the hash %.16s, want %.16s: it is another checkpoint", c.Checkpoint, got, c.Hash)
		}
	}
	return sweep.NewWorker(c.Dir, judgeOf(c.Checkpoint)), nil
}
