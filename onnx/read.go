package onnx

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"ossify/onnx/wire"
	"path/filepath"
	"strings"
)

// maxModel is the largest model file, in bytes: protobuf's own bound.
const maxModel = 1<<31 - 1

// A Model is an ONNX file that was read and checked. Its tensors' bytes are
// not read.
type Model struct {
	Path string
	m    *wire.Model
}

// Read reads the model file at path and checks it: the wire form; that names
// of inputs, outputs, initializers and functions are there and unique; sizes of
// tensors; and that external data lies within files of the model's folder. It
// says nothing about whether the operators make sense.
func Read(path string) (*Model, error) {
	file := filepath.Base(path)
	// Looked at before it is opened: opening a pipe would wait for a writer.
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("onnx: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("onnx: %s: not a regular file", file)
	case info.Size() > maxModel:
		return nil, fmt.Errorf("onnx: %s: %d bytes, want at most %d", file, info.Size(), maxModel)
	}
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("onnx: %w", err)
	}
	defer in.Close()
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(in, data); err != nil {
		return nil, fmt.Errorf("onnx: %s: %w", file, err)
	}
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("onnx: %w", err)
	}
	defer root.Close()
	m, err := parse(data, root.Lstat)
	if err != nil {
		return nil, fmt.Errorf("onnx: %s: %w", wire.Show(file), err)
	}
	return &Model{path, m}, nil
}

// parse decodes and checks a model. lstat looks at a file of its folder.
func parse(data []byte, lstat func(name string) (fs.FileInfo, error)) (*wire.Model, error) {
	m := &wire.Model{}
	if err := wire.Decode(data, m); err != nil {
		return nil, err
	}
	switch {
	case m.Graph == nil:
		return nil, errors.New("no graph: not an ONNX model")
	case m.IR < 3 || m.IR > 100:
		return nil, fmt.Errorf("IR version %d, want 3 or later", m.IR)
	case len(m.Opsets) == 0:
		return nil, errors.New("no opset")
	}
	c := &checker{lstat: lstat, files: map[string]int64{}}
	names := map[string]bool{}
	for _, f := range m.Functions {
		key := f.Domain + "\x00" + f.Name
		if f.Name == "" || names[key] {
			return nil, fmt.Errorf("function %s: want a name that is there once", wire.Show(f.Name))
		}
		names[key] = true
		if err := c.nodes(f.Nodes); err != nil {
			return nil, fmt.Errorf("function %s: %w", wire.Show(f.Name), err)
		}
	}
	for _, list := range [][]*wire.Value{m.Graph.Inputs, m.Graph.Outputs} {
		seen := map[string]bool{}
		for _, v := range list {
			if v.Name == "" || seen[v.Name] {
				return nil, fmt.Errorf("input or output %s: want a name that is there once", wire.Show(v.Name))
			}
			seen[v.Name] = true
		}
	}
	return m, c.graph(m.Graph)
}

// checker checks tensors.
type checker struct {
	lstat func(string) (fs.FileInfo, error)
	files map[string]int64 // sizes
}

func (c *checker) graph(g *wire.Graph) error {
	seen := map[string]bool{}
	for _, t := range g.Initializers {
		if t.Name == "" || seen[t.Name] {
			return fmt.Errorf("initializer %s: want a name that is there once", wire.Show(t.Name))
		}
		seen[t.Name] = true
		if err := c.tensor(t); err != nil {
			return fmt.Errorf("initializer %s: %w", wire.Show(t.Name), err)
		}
	}
	return c.nodes(g.Nodes)
}

func (c *checker) nodes(nodes []*wire.Node) error {
	for _, n := range nodes {
		for _, a := range n.Attributes {
			graphs, tensors := a.Graphs, a.Tensors
			if a.Graph != nil {
				graphs = append(graphs, a.Graph)
			}
			if a.Tensor != nil {
				tensors = append(tensors, a.Tensor)
			}
			for _, t := range tensors {
				if err := c.tensor(t); err != nil {
					return fmt.Errorf("node %s: attribute %s: %w", wire.Show(n.Name), wire.Show(a.Name), err)
				}
			}
			for _, g := range graphs {
				if err := c.graph(g); err != nil {
					return fmt.Errorf("node %s: attribute %s: %w", wire.Show(n.Name), wire.Show(a.Name), err)
				}
			}
		}
	}
	return nil
}

// tensor checks that t's bytes are all there.
func (c *checker) tensor(t *wire.Tensor) error {
	want, err := t.Bytes()
	if err != nil {
		return err
	}
	switch {
	case t.Location == 0 && len(t.External) > 0:
		return errors.New("external data, and data_location says it has none")
	case t.Location == 0 && t.Type != wire.String && len(t.Raw) > 0 && int64(len(t.Raw)) != want:
		return fmt.Errorf("%d bytes for %s, want %d", len(t.Raw), t.Describe(), want)
	case t.Location == 0:
		return nil
	case t.Location != wire.External:
		return fmt.Errorf("data_location %d, want 0 or 1", t.Location)
	case len(t.Raw) > 0 || t.Typed > 0:
		return errors.New("data of its own besides external data")
	case t.Type == wire.String:
		return errors.New("strings in external data")
	}
	p, err := t.Place()
	if err != nil {
		return err
	}
	size, err := c.size(p.File)
	if err != nil {
		return err
	}
	if p.Length < 0 { // absent: to the end of the file
		p.Length = size - p.Offset
	}
	switch {
	case p.Offset > size || p.Length > size-p.Offset:
		return fmt.Errorf("%d bytes at %d of %s, which has %d", p.Length, p.Offset, wire.Show(p.File), size)
	case p.Length != want:
		return fmt.Errorf("%d bytes of external data for %s, want %d", p.Length, t.Describe(), want)
	}
	return nil
}

// size returns that of a file within the folder, reached without links.
func (c *checker) size(name string) (int64, error) {
	if n, ok := c.files[name]; ok {
		return n, nil
	}
	parts := strings.Split(filepath.ToSlash(filepath.Clean(name)), "/")
	for i := range parts {
		info, err := c.lstat(strings.Join(parts[:i+1], "/"))
		if err != nil {
			var at *fs.PathError // whose path is the model's word
			if errors.As(err, &at) {
				err = at.Err
			}
			return 0, fmt.Errorf("external data: location %s: %w", wire.Show(name), err)
		}
		last := i == len(parts)-1
		switch {
		case !last && !info.IsDir(), last && !info.Mode().IsRegular():
			return 0, fmt.Errorf("external data: location %s, want a regular file within the model's folder, without links", wire.Show(name))
		case last:
			c.files[name] = info.Size()
		}
	}
	return c.files[name], nil
}

// WriteText writes the model in a form for review and for goldens: functions
// first, a line a node. Constants of up to 8 values are shown, others by type
// and shape.
func (m *Model) WriteText(w io.Writer) error {
	b := &strings.Builder{}
	m.m.Text(b)
	_, err := io.WriteString(w, b.String())
	return err
}
