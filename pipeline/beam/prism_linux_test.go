//go:build !386 && !arm

package beam

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ossify/pipeline"
)

// While a worker works, the processors are its own: Prism spun for as long as a
// bundle without outputs was under way.
func TestPrismWaits(t *testing.T) {
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	// A bundle of more elements than are under way at once.
	const long, many = 100 * time.Millisecond, 10
	var took time.Duration
	w := &counter{seen: map[string]int{}, do: func(string) error {
		before := used()
		time.Sleep(long)
		took += used() - before
		return nil
	}}
	kinds := map[string]pipeline.Kind{"count": func(context.Context, []byte) (pipeline.Worker, error) { return w, nil }}
	job := pipeline.Job{Kind: "count", Elements: elements(t, many), Skip: 1, Parallel: 1}
	if err := Run(t.Context(), job, kinds, pipeline.BeamOptions{Runner: pipeline.Prism}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%v of processor time in %v in which nothing was to be done", took, many*long)
	if took > many*long/4 {
		t.Errorf("want at most a quarter of the time")
	}
}
