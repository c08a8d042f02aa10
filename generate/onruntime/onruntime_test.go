//go:build cgo && !noort

package onruntime_test

import (
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"ossify/generate"
	"ossify/generate/onruntime"
	"ossify/gptoss"
	"ossify/internal/modeltest"
	"ossify/onnx"
	"ossify/onnx/ort"
)

// Requests that are answered together get the tokens that each gets alone, and
// share the starts of their prompts.
func TestScheduler(t *testing.T) {
	library, _, err := ort.Find(filepath.Join("..", "..", ort.DepsFolder))
	if err != nil {
		t.Fatal(err)
	}
	rt, err := ort.Open(library)
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	ck := modeltest.Open(t, modeltest.Write(t, modeltest.Tiny(t), gptoss.Original, 1))
	dir := t.TempDir()
	if _, err := onnx.Export(t.Context(), ck.Graph, ck.Weights, onnx.Options{LastOnly: true}, dir); err != nil {
		t.Fatal(err)
	}
	s, err := rt.Load(t.Context(), filepath.Join(dir, onnx.ModelFile), ort.Options{Operators: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d, err := ort.NewDecoder(s, 0, 0)
	if err != nil {
		t.Fatal(err)
	}

	start := []uint32{7, 300, 12, 12, 90, 4, 33}
	requests := [][]uint32{append(slices.Clone(start), 1), append(slices.Clone(start), 2, 3), {5}, append(slices.Clone(start), 1), {400, 401, 402}}
	o := func(i int) generate.Options {
		return generate.Options{Sampling: generate.Sampling{Temperature: 0.9, Seed: uint64(i)}, Most: 12, LogProbs: -1}
	}
	sched, err := generate.NewScheduler(onruntime.New(d), generate.SchedulerOptions{Rows: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer sched.Close()
	got := make([][]uint32, len(requests))
	for range 2 { // the second time what was kept is used
		var all sync.WaitGroup
		for i, prompt := range requests {
			all.Go(func() {
				r, err := sched.Generate(t.Context(), generate.Request{Prompt: prompt, Marks: []int{min(len(prompt), len(start))}, Options: o(i)}, func(generate.Token) error { return nil })
				if err != nil {
					t.Error(err)
				}
				got[i] = r.Tokens
			})
		}
		all.Wait()
		for i, prompt := range requests {
			want, err := generate.Run(t.Context(), d.NewSequence(), prompt, o(i), func(generate.Token) error { return nil })
			if err != nil || !slices.Equal(got[i], want.Tokens) || len(want.Tokens) != 12 {
				t.Errorf("request %d: %v, want %v, %v", i, got[i], want.Tokens, err)
			}
		}
	}
	if sched.Stats().Cached == 0 {
		t.Error("nothing was shared")
	}
}
