package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"ossify/batch/worker"
	"ossify/pipeline"
	"ossify/sweep"
)

// runnerFlags say what runs a pipeline.
type runnerFlags struct {
	runner   string
	endpoint string
	options  []string
}

// local is the runner without Beam.
const local = "local"

func (r *runnerFlags) add(c *cobra.Command) {
	all := append([]string{local}, beamRunners()...)
	def := local
	if runtime.GOOS == "linux" && slices.Contains(all, "prism") {
		def = "prism" // elsewhere its port cannot be kept from the network
	}
	chooseVar(c, &r.runner, "runner", def, all, "what runs the pipeline: this process without Beam, with Beam's Prism, or a cluster")
	c.Flags().StringVar(&r.endpoint, "endpoint", "", "address of the job server of flink, spark or universal, host:port")
	c.Flags().StringArrayVar(&r.options, "beam-option", nil, "option of Beam or its runner, NAME=VALUE, may be repeated")
}

func (r *runnerFlags) check() error {
	needs := r.runner == "flink" || r.runner == "spark" || r.runner == "universal"
	switch {
	case needs && r.endpoint == "":
		return usage("--runner %s without --endpoint, want its job server's host:port", r.runner)
	case r.endpoint != "" && !needs:
		return usage("--endpoint is of flink, spark and universal")
	case len(r.options) > 0 && r.runner == local:
		return usage("--beam-option is of Beam, want another --runner than local")
	}
	return nil
}

// run runs a job.
func (r *runnerFlags) run(ctx context.Context, j pipeline.Job, kinds map[string]pipeline.Kind, log io.Writer) error {
	if r.runner != local {
		return runBeam(ctx, j, kinds, r, log)
	}
	return pipeline.Local(ctx, j, kinds[j.Kind])
}

// workerProcess is what the environment gives to workers of this process.
func workerProcess() worker.Process {
	return worker.Process{Token: os.Getenv("HF_TOKEN"), Proxy: http.ProxyFromEnvironment}
}

// kindsOfWorkers are the workers that a process of a cluster can be asked for.
func kindsOfWorkers() map[string]pipeline.Kind {
	return map[string]pipeline.Kind{worker.Kind: worker.Opener(workerProcess()), sweep.Kind: openSweep}
}
