package verify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// CheckpointHash returns the hash by which a golden names its checkpoint: the
// SHA-256 of a line for config.json and for each safetensors file of the
// folder, sorted by name: the name, a zero byte, the SHA-256 of the file in
// hexadecimal, a newline. progress, which may be nil, is told the bytes read
// and their total.
func CheckpointHash(ctx context.Context, dir string, progress func(done, total int64)) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("verify: %w", err)
	}
	var names []string
	var total, done int64
	for _, e := range entries {
		if e.Name() != "config.json" && !strings.HasSuffix(e.Name(), ".safetensors") {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, e.Name())) // through links, as a Hugging Face cache has them
		if err != nil {
			return "", fmt.Errorf("verify: %w", err)
		}
		names, total = append(names, e.Name()), total+info.Size()
	}
	slices.Sort(names)
	all := sha256.New()
	buf := make([]byte, 1<<20)
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return "", fmt.Errorf("verify: %w", err)
		}
		h := sha256.New()
		for {
			n, err := f.Read(buf)
			h.Write(buf[:n])
			if done += int64(n); progress != nil {
				progress(done, total)
			}
			if err == nil {
				err = ctx.Err()
			} else if err == io.EOF {
				break
			}
			if err != nil {
				f.Close()
				return "", fmt.Errorf("verify: %s: %w", name, err)
			}
		}
		f.Close()
		fmt.Fprintf(all, "%s\x00%x\n", name, h.Sum(nil))
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}
