// Package modeltest makes the small checkpoints that tests share.
package modeltest

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"ossify/gptoss"
	"ossify/graph"
	"ossify/synth"
)

// Tiny is the preset that tests run: all features of the model in 0.5 MB.
func Tiny(t testing.TB) *gptoss.Config {
	t.Helper()
	c, err := gptoss.Preset("tiny")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Graph is the recorded model of Tiny.
func Graph(t testing.TB) *graph.Graph {
	t.Helper()
	g, err := gptoss.Build(Tiny(t))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Tokens returns n tokens of Tiny, drawn from a PCG of two seeds.
func Tokens(n int, seed1, seed2 uint64) []uint32 {
	src := rand.New(rand.NewPCG(seed1, seed2))
	tokens := make([]uint32, n)
	for i := range tokens {
		tokens[i] = uint32(src.IntN(512))
	}
	return tokens
}

// Write writes a checkpoint of c and returns its folder.
func Write(t testing.TB, c *gptoss.Config, d gptoss.Dialect, seed uint64) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := synth.Write(t.Context(), dir, c, d, seed, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Open opens a checkpoint until the test ends.
func Open(t testing.TB, dir string) *gptoss.Checkpoint {
	t.Helper()
	ck, err := gptoss.OpenCheckpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ck.Close() })
	return ck
}
