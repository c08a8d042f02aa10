//go:build !386 && !arm

package beam

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"ossify/pipeline"
)

// splitFn emits a job's elements.
type splitFn struct {
	Elements string
	Skip     int
}

func (f *splitFn) ProcessElement(ctx context.Context, _ []byte, emit func(string)) error {
	return pipeline.Job{Elements: f.Elements, Skip: f.Skip}.Each(func(element []byte) error {
		emit(string(element))
		return ctx.Err()
	})
}

// workFn gives elements to the worker of its process, several at a time: a bundle
// ends when all of its elements are done. It has an output, to which nothing comes:
// for as long as a bundle without outputs is under way, Prism spins (2.77.0,
// stage.Execute waits in a select with a channel that is closed already), and the
// worker has what is left of the processors.
type workFn struct {
	Run      string // of the process that began the job
	Kind     string
	Config   []byte
	Parallel int

	pool   *pipeline.Pool
	bundle *pipeline.Group
}

func (f *workFn) Setup(context.Context) error {
	p, err := here.find(f)
	if err != nil {
		return err
	}
	f.pool = p
	return p.Open()
}

func (f *workFn) StartBundle(_ context.Context, _ func(string)) { f.bundle = f.pool.Group() }

func (f *workFn) ProcessElement(_ context.Context, element string, _ func(string)) error {
	return f.bundle.Start([]byte(element))
}

func (f *workFn) FinishBundle(_ context.Context, _ func(string)) error { return f.bundle.Wait() }

// endFn takes workFn's output.
type endFn struct{}

func (*endFn) ProcessElement(string) {}

// A table is what this process knows. Beam makes values of its functions by
// itself, by their types' names, from what was sent: what they share in a process
// they can find by nothing but a variable of the package.
type table struct {
	mu    sync.Mutex
	kinds map[string]pipeline.Kind
	jobs  map[string]*pipeline.Pool // by the run that began them here, or by kind and config
}

var here = table{jobs: map[string]*pipeline.Pool{}}

func (t *table) find(f *workFn) (*pipeline.Pool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, ok := t.jobs[f.Run]; ok {
		return p, nil
	}
	key := f.Kind + " " + string(f.Config)
	if p, ok := t.jobs[key]; ok {
		return p, nil
	}
	kind, ok := t.kinds[f.Kind]
	if !ok {
		return nil, fmt.Errorf("beam: this program has no workers of kind %q", f.Kind)
	}
	if f.Parallel < 1 {
		return nil, fmt.Errorf("beam: %d elements at once, want 1 or more", f.Parallel)
	}
	p := pipeline.NewPool(context.Background(), kind, f.Config, f.Parallel)
	p.Lasting = true
	t.jobs[key] = p
	return p, nil
}

func (t *table) begin(run string, p *pipeline.Pool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.jobs[run] = p
}

func (t *table) end(run string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.jobs, run)
}

// start readies Beam, once in a process.
func (t *table) start(kinds map[string]pipeline.Kind) {
	t.mu.Lock()
	t.kinds = kinds
	t.mu.Unlock()
	if !beam.Initialized() {
		beam.RegisterDoFn(reflect.TypeFor[*splitFn]())
		beam.RegisterDoFn(reflect.TypeFor[*workFn]())
		beam.RegisterDoFn(reflect.TypeFor[*endFn]())
		beam.Init()
	}
}
