package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"ossify/batch"
	"ossify/batch/worker"
	"ossify/gptoss"
	"ossify/openai"
	"ossify/pipeline"
)

// batchFlags are the flags of batch.
type batchFlags struct {
	in     []string
	out    string
	runner runnerFlags
	limits batch.Limits
	worker worker.Config
	pull   worker.Pull
	cache  float64
	noHash bool
	asJSON bool
}

func newBatch(p program) *cobra.Command {
	var a batchFlags
	c := &cobra.Command{
		Use:   "batch DIR --in FILE --out DIR",
		Short: "Answer files of requests, on one machine or many",
		Long: `Batch answers files of requests in the form of OpenAI's batches: lines of JSON
with custom_id, method, url (/v1/chat/completions, /v1/responses or
/v1/completions) and body. A line is answered as serve answers it.

Answers are lines of the files output-*.jsonl, errors those of errors-*.jsonl.
A line that is no request becomes an error, and stops no other. A run that was
ended goes on when the same command is given again: what is answered stays, and
every line is answered once.

The pipeline runs in one process, on Apache Beam if ossify-beam is installed, or on
a cluster of Beam's whose workers see the files under the same names. See
docs/batch.md.`,
		Example: `  ossify batch /tmp/20b --in requests.jsonl --out answers
  ossify batch /tmp/20b --in a.jsonl --in b.jsonl --out answers --name gpt-oss-20b
  ossify batch /mnt/20b --in /mnt/in.jsonl --out /mnt/out --runner flink --endpoint jobs:8099 \
    --beam-option environment_type=EXTERNAL --beam-option environment_config=localhost:50000`,
		Args: oneArgument("DIR"),
		RunE: func(c *cobra.Command, args []string) error { return a.run(c, args[0]) },
	}
	f := c.Flags()
	f.StringArrayVar(&a.in, "in", nil, "file of requests, may be repeated")
	f.StringVar(&a.out, "out", "", "folder for the answers; made, or that of a run that was ended")
	a.runner.add(c, p)
	f.StringArrayVar(&a.worker.Names, "name", nil, "name of the model in requests, may be repeated; the folder's name unless given")
	chooseVar(c, &a.worker.Precision, "precision", "bf16", []string{"bf16", "f32"}, "of values between operations")
	f.IntVar(&a.worker.Threads, "threads", 0, "processors of a worker to use; 0 takes all")
	f.IntVar(&a.worker.Context, "context", 0, "tokens of prompt and answer, at most; 0 is what the model can tell apart")
	f.IntVar(&a.worker.Most, "max-tokens", 0, "tokens of an answer, at most; 0 is no limit but the context")
	f.Float64Var(&a.cache, "cache", 4, "gigabytes of a worker's keys and values")
	f.IntVar(&a.worker.Active, "active", 16, "requests that a worker computes together")
	f.IntVar(&a.limits.Line, "max-line", 4<<20, "bytes of a line; a longer one is an error")
	f.IntVar(&a.limits.Shard, "shard", 256, "lines of a shard, up to 4096")
	f.StringVar(&a.worker.Checkpoint, "checkpoint-at", "", "the checkpoint's folder as workers see it, if not as here")
	f.StringVar(&a.pull.Repo, "pull", "", "OWNER/NAME on a model hub, from which workers without the folder get it")
	f.StringVar(&a.pull.Revision, "revision", "main", "of --pull: branch, tag or commit")
	f.BoolVar(&a.pull.Original, "original", false, "of --pull: the checkpoint in original/")
	f.BoolVar(&a.noHash, "no-hash", false, "do not read the whole checkpoint to prove that all workers, and all runs, have the same")
	f.BoolVar(&a.asJSON, "json", false, "print the counts as JSON")
	return c
}

func (a *batchFlags) check(c *cobra.Command) error {
	if err := a.runner.check(); err != nil {
		return err
	}
	for name, n := range map[string]int{"threads": a.worker.Threads, "context": a.worker.Context, "max-tokens": a.worker.Most} {
		if n < 0 {
			return usage("--%s %d, want 0 or more", name, n)
		}
	}
	switch {
	case len(a.in) == 0:
		return usage("no --in, want a file of requests")
	case a.out == "":
		return usage("no --out, want a folder for the answers")
	case a.worker.Active < 1:
		return usage("--active %d, want 1 or more", a.worker.Active)
	case a.limits.Line < 1:
		return usage("--max-line %d, want 1 or more", a.limits.Line)
	case a.limits.Shard < 1 || a.limits.Shard > 4096:
		return usage("--shard %d, want 1 to 4096", a.limits.Shard)
	case !(a.cache > 0 && a.cache < 1e6):
		return usage("--cache %g, want gigabytes", a.cache)
	case a.pull.Repo == "" && (c.Flags().Changed("revision") || a.pull.Original):
		return usage("--revision and --original are of --pull, which is missing")
	}
	for _, n := range a.worker.Names {
		if n == "" {
			return usage("--name is empty, want a name")
		}
	}
	return nil
}

// A batchResult is what --json prints.
type batchResult struct {
	batch.Count
	Shards    int     `json:"shards"`
	Finished  int     `json:"finished_before"` // shards
	Seconds   float64 `json:"seconds"`
	Start     float64 `json:"seconds_to_first_answer,omitempty"` // of this process
	Prompt    int     `json:"prompt_tokens,omitempty"`           // likewise
	Generated int     `json:"completion_tokens,omitempty"`       // likewise
}

func (a *batchFlags) run(c *cobra.Command, dir string) error {
	if err := a.check(c); err != nil {
		return err
	}
	if err := a.runner.choose(); err != nil {
		return err
	}
	ctx := c.Context()
	w := a.worker
	if len(w.Names) == 0 {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		w.Names = []string{filepath.Base(abs)}
	}
	process := workerProcess()
	process.Known = map[string]string{}
	hash := ""
	var err error
	if err := servable(dir, w); err != nil {
		return err
	}
	here, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if !a.noHash {
		if hash, err = hashOf(c, dir); err != nil {
			return err
		}
		process.Known[here] = hash
	}
	w.Hash, w.Cache = hash, int64(a.cache*1e9)
	if w.Checkpoint == "" {
		w.Checkpoint = here
	}
	if a.pull.Repo != "" {
		a.pull.Endpoint = hubEndpoint("")
		w.Pull = &a.pull
	}
	for _, in := range a.in {
		abs, err := filepath.Abs(in)
		if err != nil {
			return err
		}
		w.Inputs = append(w.Inputs, abs)
	}
	if w.Dir, err = filepath.Abs(a.out); err != nil {
		return err
	}
	began := time.Now()
	facts := map[string]string{
		"checkpoint": hash, "precision": w.Precision, "names": fmt.Sprintf("%q", w.Names),
		"context": strconv.Itoa(w.Context), "max_tokens": strconv.Itoa(w.Most),
	}
	plan, err := batch.Index(ctx, w.Inputs, worker.URLs(), facts, a.limits)
	if err != nil {
		return err
	}
	r := batchResult{Shards: len(plan.Shards)}
	if r.Finished, err = plan.Begin(ctx, w.Dir); err != nil {
		return err
	}
	watch := &batchWatch{w: c.ErrOrStderr(), total: plan.Head.Lines, began: began, terminal: terminalOf(c.ErrOrStderr()).width > 0}
	process.Done, process.Used = watch.line, watch.answer
	if r.Finished < r.Shards {
		config, err := json.Marshal(w)
		if err != nil {
			return err
		}
		kinds := map[string]pipeline.Kind{worker.Kind: worker.Opener(process)}
		// Two shards at once: while the last answers of one are computed, the next
		// has begun.
		job := pipeline.Job{Kind: worker.Kind, Config: config, Elements: batch.PlanPath(w.Dir), Skip: 1, Parallel: 2}
		err = a.runner.run(ctx, job, kinds, c.ErrOrStderr())
		watch.clear()
		if err != nil {
			return fmt.Errorf("%w; the same command goes on with what is left", err)
		}
	}
	if r.Count, err = plan.Check(w.Dir); err != nil {
		return err
	}
	if r.Open > 0 {
		return fmt.Errorf("batch: %d of %d lines are not answered, though the runner says that it has ended; the same command goes on with what is left", r.Open, r.Total)
	}
	if err := batch.End(w.Dir); err != nil {
		return err
	}
	r.Seconds = time.Since(began).Seconds()
	r.Start, r.Prompt, r.Generated = watch.first.Seconds(), watch.prompt, watch.generated
	if a.asJSON {
		return printJSON(c.OutOrStdout(), r)
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%d lines: %d answered, %d errors; %d shards in %s\n", r.Total, r.Completed, r.Failed, r.Shards, a.out)
	return err
}

// servable fails if a checkpoint cannot answer requests.
func servable(dir string, w worker.Config) error {
	ck, err := gptoss.OpenCheckpoint(dir)
	if err != nil {
		return err
	}
	defer ck.Close()
	_, err = worker.Room(ck.Config, w)
	return err
}

// hubEndpoint returns the address of the model hub.
func hubEndpoint(flag string) string {
	for _, s := range []string{flag, os.Getenv("HF_ENDPOINT")} {
		if s != "" {
			return s
		}
	}
	return hubAddress
}

// A batchWatch sees what workers of this process do.
type batchWatch struct {
	w        io.Writer
	total    int
	terminal bool
	began    time.Time

	mu                sync.Mutex
	lines             int
	first             time.Duration
	prompt, generated int
	last              time.Time
}

func (b *batchWatch) line(batch.Finished) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines++
	if now := time.Now(); b.terminal && now.Sub(b.last) > 100*time.Millisecond {
		b.last = now
		fmt.Fprintf(b.w, "\rbatch: %d lines of %d in this run\x1b[K", b.lines, b.total)
	}
}

func (b *batchWatch) clear() {
	if b.terminal {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}

func (b *batchWatch) answer(r openai.Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.first == 0 {
		b.first = time.Since(b.began)
	}
	b.prompt += r.Usage.Prompt
	b.generated += r.Usage.Completion
}
