// Package pipeline says what it takes to process many elements, each by itself,
// on one machine or many, and does it in one process.
//
// Elements are the lines of a file. A worker processes one as a whole and writes
// its result where it sees fit, under a name that depends on the element alone;
// so an element may be processed twice, and a run that was ended goes on where it
// was. Package pipeline/beam runs the same jobs on Apache Beam, and is a value of
// type Beam to programs that may be without it.
package pipeline

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// A Worker processes elements. It is safe for use by several goroutines.
type Worker interface {
	// Do processes an element, or sees that this has been done. It returns when
	// the result is on disk.
	Do(ctx context.Context, element []byte) error
	Close() error
}

// A Kind opens workers: once in each process, for a job's Config.
type Kind func(ctx context.Context, config []byte) (Worker, error)

// A Job is elements and who processes them.
type Job struct {
	Kind     string // the name of a Kind
	Config   []byte // for the Kind, as every process understands it
	Elements string // the file; every worker's process sees it under this name
	Skip     int    // its first lines, which are no elements
	Parallel int    // elements under way at once in a process
}

// Check proves a job.
func (j Job) Check() error {
	if j.Kind == "" || j.Elements == "" || j.Skip < 0 || j.Parallel < 1 {
		return fmt.Errorf("pipeline: kind %q, elements %q, skip %d, parallel %d, want names, 0 or more, 1 or more", j.Kind, j.Elements, j.Skip, j.Parallel)
	}
	return nil
}

// MostElement is how many bytes an element may have.
const MostElement = 1 << 20

// Each calls f with each element of a job.
func (j Job) Each(f func(element []byte) error) error {
	file, err := os.Open(j.Elements)
	if err != nil {
		return err
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, MostElement+1)
	for n := 0; ; n++ {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("pipeline: %s: line %d has more than %d bytes", j.Elements, n+1, MostElement)
		case errors.Is(err, io.EOF):
			return fmt.Errorf("pipeline: %s: line %d ends early", j.Elements, n+1)
		case err != nil:
			return err
		}
		if n < j.Skip {
			continue
		}
		if err := f(line[:len(line)-1]); err != nil {
			return err
		}
	}
}

// Local processes a job's elements in this process. It ends with the first error.
func Local(ctx context.Context, j Job, kind Kind) error {
	if err := j.Check(); err != nil {
		return err
	}
	p := NewPool(ctx, kind, j.Config, j.Parallel)
	if err := p.Open(); err != nil {
		return errors.Join(err, p.Close())
	}
	g := p.Group()
	err := j.Each(g.Start)
	if failed := g.Wait(); failed != nil {
		err = failed
	}
	if failed := p.Close(); failed != nil {
		err = failed
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// Beam is Apache Beam, for programs that have package pipeline/beam.
type Beam struct {
	// Run runs a job, with workers of kinds, and returns when it has ended.
	// Programs that run in other processes must know the same kinds.
	Run func(ctx context.Context, j Job, kinds map[string]Kind, o BeamOptions) error

	// Worker runs this process as a worker, if these are the arguments with which
	// Beam's containers start one, and reports whether they are. It returns when
	// the runner has no more work.
	Worker func(args []string, kinds map[string]Kind) bool
}

// Prism is the name of Beam's runner that needs no cluster: it runs a job in this
// process.
const Prism = "prism"

// BeamRunners are the names of what Beam runs a job on.
func BeamRunners() []string { return []string{Prism, "flink", "spark", "dataflow", "universal"} }

// BeamOptions say where a job runs.
type BeamOptions struct {
	Runner string // one of BeamRunners

	// Endpoint is the address of a job server, host:port; Prism has none.
	Endpoint string

	// Flags are options of Beam and of its runner, each NAME=VALUE, as Beam's own
	// programs take them on the command line.
	Flags []string

	Log io.Writer // takes warnings and errors of Beam, of a cluster also its news; nil for none
}
