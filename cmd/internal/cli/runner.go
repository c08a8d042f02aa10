package cli

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"ossify/batch/worker"
	"ossify/internal/quote"
	"ossify/pipeline"
	"ossify/sweep"
)

// runnerFlags say what runs a pipeline.
type runnerFlags struct {
	program  program
	runner   string
	endpoint string
	options  []string
}

// local is the runner without Beam.
const local = "local"

func (r *runnerFlags) add(c *cobra.Command, p program) {
	r.program = p
	all := append([]string{local}, pipeline.BeamRunners()...)
	chooseVar(c, &r.runner, "runner", "", all, "what runs the pipeline: this process without Beam, with Beam's Prism (the default on Linux, if ossify-beam is installed), or a cluster")
	c.Flags().StringVar(&r.endpoint, "endpoint", "", "address of the job server of flink, spark or universal, host:port")
	c.Flags().StringArrayVar(&r.options, "beam-option", nil, "option of Beam or its runner, NAME=VALUE, may be repeated")
}

// check proves the flags.
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

// choose says what runs the pipeline where the flags do not. If that is Beam, and
// this program has none, the one that has begins anew with this command line.
func (r *runnerFlags) choose() error {
	chosen := r.runner != "" || len(r.options) > 0
	if r.runner == "" {
		r.runner = local
		if len(r.options) > 0 || runtime.GOOS == "linux" { // elsewhere Prism's port cannot be kept from the network
			r.runner = pipeline.Prism
		}
	}
	if r.runner == local || r.program.beam != nil {
		return nil
	}
	err := errNoBeam
	if r.program.handOver != nil {
		err = r.program.handOver()
	}
	if errors.Is(err, errNoBeam) && !chosen {
		r.runner = local
		return nil
	}
	return fmt.Errorf("--runner %s: %w", r.runner, err)
}

// run runs a job.
func (r *runnerFlags) run(ctx context.Context, j pipeline.Job, kinds map[string]pipeline.Kind, log io.Writer) error {
	if r.runner == local {
		return pipeline.Local(ctx, j, kinds[j.Kind])
	}
	return r.program.beam.Run(ctx, j, kinds, pipeline.BeamOptions{Runner: r.runner, Endpoint: r.endpoint, Flags: r.options, Log: log})
}

// beamProgram is the program with Beam, cmd/ossify-beam.
const beamProgram = "ossify-beam"

// errNoBeam says that there is no program with Beam.
var errNoBeam = fmt.Errorf("there is no program %s beside this one, nor in $PATH: install it ('make install', or go build ./cmd/%[1]s), or take --runner %s, which gives the same results", beamProgram, local)

// handOver ends this process by having ossify-beam go on with its arguments. It
// returns only if that fails: if there is none, or one of another build, whose
// results might be others. Builds without git's commit cannot be told apart.
func handOver(args []string) error {
	path, err := findBeam()
	if err != nil {
		return err
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%s: %w, want ossify's own", quote.Plain(path), err)
	}
	this, that := thisBuild(), buildOf(info)
	switch {
	case !strings.HasSuffix(info.Path, "/cmd/"+beamProgram):
		return fmt.Errorf("%s was built from %q, want ossify's cmd/%s", quote.Plain(path), info.Path, beamProgram)
	case this.Version != that.Version || this.Commit != that.Commit || this.Modified != that.Modified:
		return fmt.Errorf("%s is of another build than this program, %s, want %s: install both together, or take --runner %s", quote.Plain(path), that.source(), this.source(), local)
	}
	return execute(path, args)
}

// findBeam returns the path of ossify-beam: beside this program, or else as a shell
// finds it.
func findBeam() (string, error) {
	name := beamProgram
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			path := filepath.Join(filepath.Dir(self), name)
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				return path, nil
			}
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return "", errNoBeam
}

// workerProcess is what the environment gives to workers of this process.
func workerProcess() worker.Process {
	return worker.Process{Token: os.Getenv("HF_TOKEN"), Proxy: http.ProxyFromEnvironment}
}

// kindsOfWorkers are the workers that a process of a cluster can be asked for.
func kindsOfWorkers() map[string]pipeline.Kind {
	return map[string]pipeline.Kind{worker.Kind: worker.Opener(workerProcess()), sweep.Kind: openSweep}
}
