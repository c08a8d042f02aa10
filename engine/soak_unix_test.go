//go:build unix

package engine_test

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"testing"
	"time"

	"ossify/engine"
)

var (
	soakTokens  = flag.Int("soak-tokens", 500, "tokens that TestSoak decodes")
	soakCancels = flag.Int("soak-cancels", 60, "requests that TestSoak cancels")
)

// Under a collector that always runs, signals, and requests that are cancelled
// at any moment, tokens stay the same and nothing is left behind.
func TestSoak(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGURG, syscall.SIGWINCH)
	defer signal.Stop(signals)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-signals:
			case <-time.After(100 * time.Microsecond):
				syscall.Kill(os.Getpid(), syscall.SIGURG)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()

	r := tiny(t)
	m := model(t, r, engine.Options{Precision: engine.BF16, Workers: 3})
	defer m.Close()
	before := runtime.NumGoroutine()

	// Tokens that follow each other greedily, in stretches, from a fork each.
	decode := func(s *engine.Session, first uint32, n int) (ids []uint32) {
		for id := first; len(ids) < n; ids = append(ids, id) {
			top, err := s.NextTop(t.Context(), []uint32{id}, 1)
			if err != nil {
				t.Fatal(err)
			}
			id = top[0].ID
		}
		return ids
	}
	root := m.NewSession()
	if _, err := root.Next(t.Context(), someTokens(150)); err != nil {
		t.Fatal(err)
	}
	const stretch = 100
	most := *soakTokens
	if testing.Short() { // the race detector sees as much of fewer, with as many cancelled
		most = min(most, 2*stretch)
	}
	want := decode(root.Fork(), 7, stretch)
	src := rand.New(rand.NewPCG(1, 1))
	for n := 0; n < most; n += stretch {
		s := root.Fork()
		if got := decode(s, 7, stretch); !slices.Equal(got, want) {
			t.Fatalf("after %d tokens: %v, want %v", n, got, want)
		}
		s.Close()
		for range *soakCancels * stretch / max(most, stretch) {
			s := root.Fork()
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(src.IntN(3000))*time.Microsecond)
			_, err := s.Forward(ctx, someTokens(1+src.IntN(600)))
			cancel()
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			s.Close()
		}
	}
	root.Close()
	for range 3000 {
		if runtime.GC(); m.CacheBytes() == 0 && runtime.NumGoroutine() <= before {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := m.CacheBytes(); n != 0 {
		t.Errorf("%d bytes of pages are left", n)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, were %d", n, before)
	}
}
