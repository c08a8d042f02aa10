package onnx_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"ossify/gptoss"
	"ossify/onnx"
)

// A disk that is full when the model is written is an error, and leaves the
// folder as it was, a former export's model too.
func TestExportToAFullDisk(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ) // a limit on files is as good as a full disk
	defer signal.Reset(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	ck, src, dir := tiny(t, gptoss.Original)
	path := filepath.Join(dir, onnx.ModelFile)
	for i, room := range []uint64{0, math.MaxUint64, 0, 1, 40_000, 600_000, math.MaxUint64} {
		before, model := list(t, dir), read(t, path)
		full := syscall.Rlimit{Cur: min(room, limit.Cur), Max: limit.Max}
		opt := onnx.Options{InPlace: true, Files: []onnx.File{{Name: fmt.Sprint("file", i), Make: func(onnx.Made) ([]byte, error) {
			return nil, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full)
		}}}}
		_, err := onnx.Export(t.Context(), ck.Graph, src, opt, dir)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
		if room == math.MaxUint64 {
			if err != nil || read(t, path) == model {
				t.Errorf("room for all: %v, or no new model", err)
			}
			continue
		}
		if after := list(t, dir); !errors.Is(err, syscall.EFBIG) || !slices.Equal(after, before) || read(t, path) != model {
			t.Errorf("room for %d bytes: %v, or another model, and %v where %v was", room, err, after, before)
		}
	}
}

// read returns what a file holds, nothing if it is not there.
func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}
