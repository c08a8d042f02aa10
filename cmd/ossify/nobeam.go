//go:build nobeam || 386 || arm

package main

import (
	"context"
	"errors"
	"io"

	"ossify/pipeline"
)

// Without Beam, which does not compile for 32-bit Linux, the program is smaller by
// half, and runs pipelines in this process alone.
func beamRunners() []string { return nil }

func runBeam(context.Context, pipeline.Job, map[string]pipeline.Kind, *runnerFlags, io.Writer) error {
	return errors.New("this program was built without Apache Beam (tag nobeam)")
}

func beamWorker([]string, map[string]pipeline.Kind) bool { return false }
