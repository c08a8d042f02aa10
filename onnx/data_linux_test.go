package onnx

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Direct and buffered copies are the same bytes, with pieces on and beside
// every boundary of blocks and buffers, and gaps of zeros.
func TestCopies(t *testing.T) {
	dir := t.TempDir()
	source := make([]byte, 3*chunk+4321)
	for i := range source {
		source[i] = byte(i*31>>3) | 1
	}
	path := filepath.Join(dir, "source")
	if err := os.WriteFile(path, source, 0o666); err != nil {
		t.Fatal(err)
	}
	pieces := []piece{
		{from: path, offset: 1, to: 0, length: 1},
		{from: path, offset: 4095, to: 4096, length: 4097},
		{data: []byte("in memory"), to: 12288, length: 9},
		{from: path, offset: 13, to: 16384, length: 2*chunk + 77},
		{from: path, offset: 0, to: 16384 + 2*chunk + 4096, length: 0},
		{from: path, offset: int64(len(source)) - 5000, to: 16384 + 2*chunk + 8192, length: 5000}, // to the end of the file
	}
	want := make([]byte, 16384+2*chunk+8192+5000)
	var total int64
	for _, p := range pieces {
		from := p.data
		if p.from != "" {
			from = source[p.offset:]
		}
		copy(want[p.to:], from[:p.length])
		total += p.length
	}
	ways := map[string]func(*os.File, func(int64)) error{
		"buffered": func(f *os.File, tell func(int64)) error { return buffered(t.Context(), f, pieces, tell) },
		"direct":   func(f *os.File, tell func(int64)) error { return direct(t.Context(), f, pieces, tell) },
	}
	for name, copyTo := range ways {
		t.Run(name, func(t *testing.T) {
			out, err := os.Create(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			var told int64
			err = copyTo(out, func(n int64) { told += n })
			if errors.Is(err, errNoDirect) {
				t.Logf("%s has no direct I/O; the exporter copies through the page cache there", dir)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(out.Name())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes differ from the %d wanted", len(got), len(want))
			}
			if told != total {
				t.Errorf("told of %d bytes, want %d", told, total)
			}
		})
	}
}
