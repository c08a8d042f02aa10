package gptoss_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/internal/mapped"
	"ossify/internal/modeltest"
)

// open opens a checkpoint of tiny.
func open(t *testing.T, d gptoss.Dialect, seed uint64) *gptoss.Checkpoint {
	t.Helper()
	return modeltest.Open(t, modeltest.Write(t, modeltest.Tiny(t), d, seed))
}

// The two dialects of one seed give the same bits, in both precisions, all at
// once and in chunks of 1, 7 and 64.
func TestDialectsAndChunksGiveTheSameBits(t *testing.T) {
	const seed = 7
	src := rand.New(rand.NewPCG(1, 2))
	tokens := make([]uint32, 140)
	for i := range tokens {
		tokens[i] = uint32(src.IntN(512))
	}
	chunks := []int{256, 64, 7, 1}
	if testing.Short() { // for the race detector: the rest is the same goroutines, more often
		chunks = []int{256, 7}
	}
	for _, p := range []engine.Precision{engine.BF16, engine.F32} {
		var want []float32
		for _, d := range []gptoss.Dialect{gptoss.Original, gptoss.HuggingFace} {
			ck := open(t, d, seed)
			for _, chunk := range chunks {
				m, err := ck.Engine(t.Context(), engine.Options{Precision: p, Chunk: chunk})
				if err != nil {
					t.Fatal(err)
				}
				got, err := m.NewSession().Forward(t.Context(), tokens)
				if err != nil {
					t.Fatal(err)
				}
				if want == nil {
					want = got
				}
				if at, ok := same(got, want); !ok {
					t.Errorf("%v, %v, chunks of %d: logits differ at %s", p, d, chunk, at)
				}
			}
		}
		if other, err := open(t, gptoss.Original, seed+1).Engine(t.Context(), engine.Options{Precision: p}); err != nil {
			t.Fatal(err)
		} else if got, err := other.NewSession().Forward(t.Context(), tokens); err != nil {
			t.Fatal(err)
		} else if _, ok := same(got, want); ok {
			t.Errorf("%v: another seed gives the same logits", p)
		}
	}
}

func same(a, b []float32) (at string, ok bool) {
	if len(a) != len(b) {
		return fmt.Sprintf("%d values and %d", len(a), len(b)), false
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return fmt.Sprintf("%d: %g and %g", i, a[i], b[i]), false
		}
	}
	return "", true
}

// A file that is cut while it is mapped is an error, on whichever worker it
// shows; whole again, it is read again.
func TestShortenedFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a mapped file cannot be cut there")
	}
	dir := modeltest.Write(t, modeltest.Tiny(t), gptoss.Original, 1)
	ck := modeltest.Open(t, dir)
	path := ck.Folder.Files()[0].Path
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, workers := range []int{1, 2, 5} {
		m, err := ck.Engine(t.Context(), engine.Options{Precision: engine.BF16, Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		s := m.NewSession()
		want, err := s.Next(t.Context(), []uint32{1, 2, 3})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 8192); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Next(t.Context(), []uint32{4}); !errors.Is(err, mapped.ErrShortened) {
			t.Errorf("%d workers: got %v, want %v", workers, err, mapped.ErrShortened)
		}
		if s.Len() != 3 {
			t.Errorf("%d workers: %d tokens seen, want 3", workers, s.Len())
		}
		if err := os.WriteFile(path, whole, 0o666); err != nil {
			t.Fatal(err)
		}
		got, err := m.NewSession().Next(t.Context(), []uint32{1, 2, 3})
		if err != nil {
			t.Fatal(err)
		}
		if at, ok := same(got, want); !ok {
			t.Errorf("%d workers: logits differ at %s", workers, at)
		}
	}
}
