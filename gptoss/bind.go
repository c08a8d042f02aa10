package gptoss

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"ossify/checkpoint"
	"ossify/float"
	"ossify/graph"
	"ossify/internal/quote"
	"ossify/weight"
)

// A Checkpoint is an open checkpoint folder whose tensors are bound to the
// model that its config.json describes. It is safe for use by several
// goroutines.
type Checkpoint struct {
	Config  *Config
	Dialect Dialect
	Folder  *checkpoint.Folder
	Graph   *graph.Graph
	Weights *weight.Set
}

const (
	configFile = "config.json"
	configMost = 1 << 20 // bytes of it that are read
)

// ReadConfig reads the config.json of a checkpoint folder.
func ReadConfig(dir string) (*Config, Dialect, error) {
	data, err := checkpoint.ReadFile(dir, configFile, configMost)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, 0, noCheckpoint(dir)
	}
	if err != nil {
		return nil, 0, err
	}
	return ParseConfig(data)
}

// noCheckpoint says what is there in place of a checkpoint's folder, and what may
// have been meant.
func noCheckpoint(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("gptoss: %s: no such folder, want that of a checkpoint", quote.Name(dir))
	case err != nil:
		return fmt.Errorf("gptoss: %w", err)
	case !info.IsDir():
		return fmt.Errorf("gptoss: %s: a file, want the folder of a checkpoint", quote.Name(dir))
	}
	// original/ of a repository; the snapshots of one in a Hugging Face cache;
	// anything else that holds one.
	for _, below := range []string{"original", "snapshots/*", "*"} {
		found, err := fs.Glob(os.DirFS(dir), below+"/"+configFile)
		if err == nil && len(found) > 0 {
			sub := filepath.Join(dir, filepath.FromSlash(path.Dir(found[0])))
			return fmt.Errorf("gptoss: %s: no %s; give %s, which has one", quote.Name(dir), configFile, quote.Name(sub))
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("gptoss: %w", err)
	}
	return fmt.Errorf("gptoss: %s: no %s among its %d entries, want a folder with it and the *.safetensors it describes", quote.Name(dir), configFile, len(entries))
}

// OpenCheckpoint opens a checkpoint folder of either dialect. It reads names,
// types, shapes and places of the tensors, not their bytes; see Weights.Check.
func OpenCheckpoint(dir string) (*Checkpoint, error) {
	c, d, err := ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	g, err := Build(c)
	if err != nil {
		return nil, err
	}
	f, err := checkpoint.Open(dir)
	if err != nil {
		return nil, err
	}
	w, err := Bind(g, f, c, d.Names())
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Checkpoint{c, d, f, g, w}, nil
}

// Close unmaps the files. Nothing may read the weights afterwards.
func (c *Checkpoint) Close() error { return c.Folder.Close() }

// A Container holds named tensors, like a checkpoint folder.
type Container interface {
	Tensor(name string) (checkpoint.Tensor, bool)
	Tensors() []checkpoint.Tensor
	Files() []checkpoint.FileInfo
}

// Bind finds the tensors of every parameter of g, under a dialect's names, of
// the types and shapes that it asks for. It reports all that are missing or
// different, and all that no parameter asks for, one a line.
func Bind(g *graph.Graph, from Container, c *Config, names Names) (*weight.Set, error) {
	used := make(map[string]bool)
	var errs []error
	take := func(want checkpoint.Entry, types ...checkpoint.DType) checkpoint.Tensor {
		used[want.Name] = true
		t, ok := from.Tensor(want.Name)
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("gptoss: %s: missing, want %v", want.Name, want))
		case !slices.Contains(types, t.Type) || !slices.Equal(t.Shape, want.Shape):
			errs = append(errs, fmt.Errorf("gptoss: %s: %s: %v, want %v", t.File, t.Name, t.Entry(), want))
		}
		return t
	}
	all := make([][]weight.Source, len(g.Params))
	for i, p := range g.Params {
		pieces, err := piecesOf(p, c, names)
		if err != nil {
			return nil, err
		}
		for _, pc := range pieces {
			types := []checkpoint.DType{pc.data.Type}
			if len(p.Shape) == 1 && strings.HasSuffix(p.Name, "norm.scale") {
				types = append(types, checkpoint.F32) // the reference's own type for it
			}
			s := weight.Source{Data: take(pc.data, types...)}
			if p.Storage == graph.MXFP4 {
				s.Scales = take(pc.scales, checkpoint.U8)
			}
			all[i] = append(all[i], s)
		}
	}
	for _, t := range from.Tensors() {
		if !used[t.Name] {
			errs = append(errs, fmt.Errorf("gptoss: %s: %s: not part of the model that config.json describes", t.File, show(t.Name)))
		}
	}
	if len(errs) > 0 {
		return nil, several(errs)
	}
	return weight.New(g.Params, all, from.Files())
}

// several joins errors; of very many it shows the first.
func several(errs []error) error {
	const most = 20
	if n := len(errs) - most; n > 0 {
		errs = append(errs[:most:most], fmt.Errorf("gptoss: and %d more", n))
	}
	return errors.Join(errs...)
}

// An extent is a piece of a parameter with its numbers filled in.
type extent struct {
	first, rows  int // rows of the parameter
	data, scales checkpoint.Entry
}

// piecesOf returns the tensors that hold p under a dialect's names, in row
// order.
func piecesOf(p graph.Param, c *Config, names Names) ([]extent, error) {
	pattern, layer := p.Name, ""
	if parts := strings.SplitN(p.Name, ".", 3); parts[0] == "block" && len(parts) == 3 {
		pattern, layer = "block.*."+parts[2], parts[1]
	}
	pieces, ok := names[pattern]
	if !ok {
		return nil, fmt.Errorf("gptoss: %s: no names for this parameter", p.Name)
	}
	total := weight.Rows(p)
	var list []extent
	first := 0
	for _, pc := range pieces {
		e := extent{first: first, rows: total}
		switch pc.Rows {
		case QueryRows:
			e.rows = c.Heads * c.HeadDim
		case KVRows:
			e.rows = c.KVHeads * c.HeadDim
		}
		shape := slices.Clone([]int(p.Shape))
		if pc.Rows != AllRows {
			shape[0] = e.rows
		}
		name := func(pattern string) string { return strings.Replace(pattern, "*", layer, 1) }
		if p.Storage == graph.MXFP4 {
			last := len(shape) - 1
			groups := append(shape[:last:last], shape[last]/float.BlockSize)
			e.data = checkpoint.Entry{Name: name(pc.Data), Type: checkpoint.U8, Shape: append(groups[:last+1:last+1], float.BlockBytes)}
			e.scales = checkpoint.Entry{Name: name(pc.Scales), Type: checkpoint.U8, Shape: groups}
		} else {
			e.data = checkpoint.Entry{Name: name(pc.Data), Type: checkpoint.BF16, Shape: shape}
		}
		list = append(list, e)
		first += e.rows
	}
	if first != total {
		return nil, fmt.Errorf("gptoss: %s: %d rows named of %d", p.Name, first, total)
	}
	return list, nil
}
