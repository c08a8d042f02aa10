//go:build !386 && !arm

package beam

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/dataflow"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/universal/extworker"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/universal/runnerlib"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"

	"ossify/pipeline"
)

// Worker is [pipeline.Beam]'s.
func Worker(args []string, kinds map[string]pipeline.Kind) bool {
	if !slices.Contains(args, "--worker=true") && !slices.Contains(args, "--worker") {
		return false
	}
	endWithParent()
	flag.CommandLine.Init("ossify worker", flag.ExitOnError)
	flag.CommandLine.Parse(args) // exits if they are wrong
	here.start(kinds)            // runs the worker
	return true
}

// endWithParent has this process end when the one that started it has ended. Runners
// end a worker by ending Beam's boot program, which tells nobody, and Beam's worker
// stays for ever when its connection ends in good order.
func endWithParent() {
	parent := os.Getppid()
	var look func()
	look = func() {
		if os.Getppid() != parent {
			fmt.Fprintln(os.Stderr, "ossify worker: what started it has ended")
			os.Exit(1)
		}
		time.AfterFunc(time.Second, look)
	}
	look()
}

// Run is [pipeline.Beam]'s.
func Run(ctx context.Context, j pipeline.Job, kinds map[string]pipeline.Kind, o pipeline.BeamOptions) error {
	if err := j.Check(); err != nil {
		return err
	}
	kind, ok := kinds[j.Kind]
	switch {
	case !ok:
		return fmt.Errorf("beam: no workers of kind %q", j.Kind)
	case !slices.Contains(pipeline.BeamRunners(), o.Runner):
		return fmt.Errorf("beam: runner %q, want one of %s", o.Runner, strings.Join(pipeline.BeamRunners(), ", "))
	case o.Runner == pipeline.Prism && o.Endpoint != "":
		return errors.New("beam: prism runs in this process, want no endpoint; universal reaches one that runs elsewhere")
	case (o.Runner == "flink" || o.Runner == "spark" || o.Runner == "universal") && o.Endpoint == "":
		return fmt.Errorf("beam: %s without an endpoint, want its job server's host:port", o.Runner)
	}
	for _, f := range o.Flags {
		name, value, ok := strings.Cut(f, "=")
		if !ok || flag.CommandLine.Lookup(name) == nil || name == "worker" || name == "async" {
			return fmt.Errorf("beam: %q is no option of Beam, want NAME=VALUE", f)
		}
		if err := flag.CommandLine.Set(name, value); err != nil {
			return fmt.Errorf("beam: option %s: %w", name, err)
		}
	}
	if o.Endpoint != "" {
		if err := flag.CommandLine.Set("endpoint", o.Endpoint); err != nil {
			return err
		}
	}
	if err := workerProgram(o); err != nil {
		return err
	}
	here.start(kinds)
	quieten(ctx, o) // Beam's start makes a log of its own

	var id [8]byte
	rand.Read(id[:])
	run := hex.EncodeToString(id[:])
	p := pipeline.NewPool(ctx, kind, j.Config, j.Parallel)
	here.begin(run, p)
	defer here.end(run)

	plan, root := beam.NewPipelineWithRoot()
	elements := beam.ParDo(root, &splitFn{j.Elements, j.Skip}, beam.Impulse(root))
	done := beam.ParDo(root, &workFn{Run: run, Kind: j.Kind, Config: j.Config, Parallel: j.Parallel}, beam.Reshuffle(root, elements))
	beam.ParDo0(root, &endFn{}, beam.Reshuffle(root, done)) // of another stage, or it is no output
	var err error
	switch o.Runner {
	case pipeline.Prism:
		err = runPrism(ctx, plan)
	case "dataflow":
		_, err = beam.Run(ctx, o.Runner, plan)
	default:
		err = runCluster(ctx, plan)
	}
	// What a worker here said is nearer to the cause than what Beam makes of it.
	switch failed := p.Close(); {
	case context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case failed != nil:
		return failed
	case err != nil:
		return fmt.Errorf("beam: %s: %w", o.Runner, err)
	}
	return nil
}

// workerProgram has a cluster's workers run this very program, unless Flags name
// another or have workers in this process. Beam would compile one anew.
func workerProgram(o pipeline.BeamOptions) error {
	if o.Runner == pipeline.Prism || *jobopts.WorkerBinary != "" || jobopts.IsLoopback() {
		return nil
	}
	if runtime.GOOS != "linux" {
		return errors.New("beam: workers are programs for Linux, want one named by the option worker_binary")
	}
	self, err := os.Executable()
	if err == nil {
		*jobopts.WorkerBinary = self
	}
	return err
}

// runPrism runs a pipeline on Prism with workers in this process.
func runPrism(ctx context.Context, plan *beam.Pipeline) error {
	client, err := connect()
	if err != nil {
		return err
	}
	// There is no program to be sent; what is sent must be a file.
	return submit(ctx, client, plan, os.DevNull, &runnerlib.JobOptions{Name: "ossify", Loopback: true, Parallelism: -1})
}

// runCluster runs a pipeline by a job server.
func runCluster(ctx context.Context, plan *beam.Pipeline) error {
	conn, err := grpcx.Dial(ctx, *jobopts.Endpoint, 2*time.Minute)
	if err != nil {
		return err
	}
	defer conn.Close()
	o := &runnerlib.JobOptions{
		Name:         jobopts.GetJobName(),
		Experiments:  jobopts.GetExperiments(),
		RetainDocker: *jobopts.RetainDockerContainers,
		Parallelism:  *jobopts.Parallelism,
		Loopback:     jobopts.IsLoopback(),
	}
	program := *jobopts.WorkerBinary
	if o.Loopback {
		program = os.DevNull
	}
	return submit(ctx, jobpb.NewJobServiceClient(conn), plan, program, o)
}

// patience is how long a job that was cancelled may take to end.
const patience = 30 * time.Second

// submit sends a pipeline and the program of its workers to a job server and
// returns when the job has ended. When ctx ends, the job server is asked to cancel it.
func submit(ctx context.Context, client jobpb.JobServiceClient, plan *beam.Pipeline, program string, o *runnerlib.JobOptions) error {
	edges, _, err := plan.Build()
	if err != nil {
		return err
	}
	// An end is the runner's and its workers', so that nothing of theirs is left.
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	urn, config := jobopts.GetEnvironmentUrn(lasting), jobopts.GetEnvironmentConfig
	if o.Loopback {
		loop, err := extworker.StartLoopback(lasting, 0)
		if err != nil {
			return err
		}
		defer loop.Stop(lasting)
		urn, config = graphx.URNEnvExternal, loop.EnvironmentConfig
	}
	env, err := graphx.CreateEnvironment(lasting, urn, config)
	if err != nil {
		return err
	}
	proto, err := graphx.Marshal(edges, &graphx.Options{Environment: env, PipelineResourceHints: jobopts.GetPipelineResourceHints()})
	if err != nil {
		return err
	}
	if err := runnerlib.UpdateGoEnvironmentWorker(program, proto); err != nil {
		return err
	}
	id, artifacts, token, err := runnerlib.Prepare(ctx, client, proto, o)
	if err != nil {
		return err
	}
	if token, err = runnerlib.Stage(ctx, id, artifacts, program, token); err != nil {
		return err
	}
	job, err := runnerlib.Submit(lasting, client, id, token)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(patience, cancel)
		defer timer.Stop()
		client.Cancel(lasting, &jobpb.CancelJobRequest{JobId: job})
		<-lasting.Done()
	})
	defer stop()
	return runnerlib.WaitForCompletion(lasting, client, job)
}

// quieten has Beam log to where o says, until ctx ends: what it then says is of that
// end, which nobody needs to be told.
func quieten(ctx context.Context, o pipeline.BeamOptions) {
	w := o.Log
	if w == nil {
		w = io.Discard
	}
	level := slog.LevelWarn
	if o.Runner != pipeline.Prism {
		level = slog.LevelInfo
	} else if o.Log == nil {
		level = slog.LevelError + 1
	}
	h := logUntil{slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}), ctx}
	slog.SetDefault(slog.New(h)) // Prism takes no other
	log.SetLogger(logger{slog.New(h)})
}

// A logUntil logs until a context ends.
type logUntil struct {
	slog.Handler
	end context.Context
}

func (l logUntil) Enabled(ctx context.Context, level slog.Level) bool {
	return l.end.Err() == nil && l.Handler.Enabled(ctx, level)
}

func (l logUntil) WithAttrs(a []slog.Attr) slog.Handler {
	return logUntil{l.Handler.WithAttrs(a), l.end}
}
func (l logUntil) WithGroup(name string) slog.Handler {
	return logUntil{l.Handler.WithGroup(name), l.end}
}

type logger struct{ log *slog.Logger }

func (l logger) Log(ctx context.Context, s log.Severity, _ int, text string) {
	level := slog.LevelDebug
	switch {
	case s >= log.SevError:
		level = slog.LevelError
	case s == log.SevWarn:
		level = slog.LevelWarn
	case s == log.SevInfo:
		level = slog.LevelInfo
	}
	l.log.Log(ctx, level, text)
}

// prismServer is the Prism of this process, which has no end.
var prismServer struct {
	sync.Mutex
	client jobpb.JobServiceClient
	port   int
}
