package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

var (
	//go:embed package.json
	packageJSON []byte
	//go:embed package-lock.json
	packageLock []byte
	//go:embed oracle.cjs
	oracleScript []byte
)

// install puts the oracle and its pinned package into dir, once.
func install(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock := filepath.Join(dir, "package-lock.json")
	old, _ := os.ReadFile(lock)
	for name, data := range map[string][]byte{"package.json": packageJSON, "oracle.cjs": oracleScript} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	_, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json")) // npm writes it last
	if err == nil && string(old) == string(packageLock) {
		return nil
	}
	if err := os.WriteFile(lock, packageLock, 0o644); err != nil {
		return err
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	npm.Dir = dir
	npm.Stdout, npm.Stderr = os.Stderr, os.Stderr
	if err := npm.Run(); err != nil {
		return fmt.Errorf("npm ci in %s: %w (the oracle needs Node.js and npm)", dir, err)
	}
	return nil
}

// answer is the oracle's ids for one string.
type answer struct{ ordinary, special []uint32 }

// ask runs the oracle over texts and calls each with every answer, in order.
func ask(ctx context.Context, dir string, texts []string, each func(i int, a answer)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	node := exec.CommandContext(ctx, "node", "oracle.cjs")
	node.Dir = dir
	node.Stderr = os.Stderr
	in, err := node.StdinPipe()
	if err != nil {
		return err
	}
	out, err := node.StdoutPipe()
	if err != nil {
		return err
	}
	if err := node.Start(); err != nil {
		return err
	}
	go func() { // a failure here ends the oracle, which the reader sees
		defer in.Close()
		w := bufio.NewWriterSize(in, 1<<16)
		for _, text := range texts {
			_ = binary.Write(w, binary.LittleEndian, uint32(len(text)))
			_, _ = w.WriteString(text)
		}
		_ = w.Flush()
	}()
	r := bufio.NewReaderSize(out, 1<<16)
	for i := range texts {
		var a answer
		if a.ordinary, err = readIDs(r); err == nil {
			a.special, err = readIDs(r)
		}
		if err != nil {
			stop()
			_ = node.Wait()
			return fmt.Errorf("oracle: string %d: %w", i, err)
		}
		each(i, a)
	}
	return node.Wait()
}

func readIDs(r io.Reader) ([]uint32, error) {
	var n uint32
	if err := binary.Read(r, binary.LittleEndian, &n); err != nil {
		return nil, err
	}
	ids := make([]uint32, n)
	return ids, binary.Read(r, binary.LittleEndian, ids)
}
