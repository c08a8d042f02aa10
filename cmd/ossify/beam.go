//go:build !nobeam && !386 && !arm

package main

import (
	"context"
	"io"

	"ossify/pipeline"
	"ossify/pipeline/beam"
)

// beamRunners are the runners of Apache Beam.
func beamRunners() []string { return beam.Runners() }

// runBeam runs a job on a runner of Beam.
func runBeam(ctx context.Context, j pipeline.Job, kinds map[string]pipeline.Kind, r *runnerFlags, log io.Writer) error {
	return beam.Run(ctx, j, kinds, beam.Options{Runner: r.runner, Endpoint: r.endpoint, Flags: r.options, Log: log})
}

// beamWorker runs this process as a worker of Beam, if it was started as one.
func beamWorker(args []string, kinds map[string]pipeline.Kind) bool {
	return beam.Worker(args, kinds)
}
