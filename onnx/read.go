package onnx

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxModel is the largest model file, in bytes: protobuf's own bound.
const maxModel = 1<<31 - 1

// A Model is an ONNX file that was read and checked. Its tensors' bytes are
// not read.
type Model struct {
	Path string
	m    *model
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
		return nil, fmt.Errorf("onnx: %s: %w", show(file), err)
	}
	return &Model{path, m}, nil
}

// parse decodes and checks a model. lstat looks at a file of its folder.
func parse(data []byte, lstat func(name string) (fs.FileInfo, error)) (*model, error) {
	m := &model{}
	if err := decode(data, m); err != nil {
		return nil, err
	}
	switch {
	case m.graph == nil:
		return nil, errors.New("no graph: not an ONNX model")
	case m.ir < 3 || m.ir > 100:
		return nil, fmt.Errorf("IR version %d, want 3 or later", m.ir)
	case len(m.opsets) == 0:
		return nil, errors.New("no opset")
	}
	c := &checker{lstat: lstat, files: map[string]int64{}}
	names := map[string]bool{}
	for _, f := range m.functions {
		key := f.domain + "\x00" + f.name
		if f.name == "" || names[key] {
			return nil, fmt.Errorf("function %s: want a name that is there once", show(f.name))
		}
		names[key] = true
		if err := c.nodes(f.nodes); err != nil {
			return nil, fmt.Errorf("function %s: %w", show(f.name), err)
		}
	}
	for _, list := range [][]*value{m.graph.inputs, m.graph.outputs} {
		seen := map[string]bool{}
		for _, v := range list {
			if v.name == "" || seen[v.name] {
				return nil, fmt.Errorf("input or output %s: want a name that is there once", show(v.name))
			}
			seen[v.name] = true
		}
	}
	return m, c.graph(m.graph)
}

// checker checks tensors.
type checker struct {
	lstat func(string) (fs.FileInfo, error)
	files map[string]int64 // sizes
}

func (c *checker) graph(g *subgraph) error {
	seen := map[string]bool{}
	for _, t := range g.initializers {
		if t.name == "" || seen[t.name] {
			return fmt.Errorf("initializer %s: want a name that is there once", show(t.name))
		}
		seen[t.name] = true
		if err := c.tensor(t); err != nil {
			return fmt.Errorf("initializer %s: %w", show(t.name), err)
		}
	}
	return c.nodes(g.nodes)
}

func (c *checker) nodes(nodes []*node) error {
	for _, n := range nodes {
		for _, a := range n.attributes {
			graphs, tensors := a.graphs, a.tensors
			if a.graph != nil {
				graphs = append(graphs, a.graph)
			}
			if a.tensor != nil {
				tensors = append(tensors, a.tensor)
			}
			for _, t := range tensors {
				if err := c.tensor(t); err != nil {
					return fmt.Errorf("node %s: attribute %s: %w", show(n.name), show(a.name), err)
				}
			}
			for _, g := range graphs {
				if err := c.graph(g); err != nil {
					return fmt.Errorf("node %s: attribute %s: %w", show(n.name), show(a.name), err)
				}
			}
		}
	}
	return nil
}

// tensor checks that t's bytes are all there.
func (c *checker) tensor(t *tensor) error {
	want, err := t.bytes()
	if err != nil {
		return err
	}
	switch {
	case t.location == 0 && len(t.external) > 0:
		return errors.New("external data, and data_location says it has none")
	case t.location == 0 && t.elem != typeString && len(t.raw) > 0 && int64(len(t.raw)) != want:
		return fmt.Errorf("%d bytes for %s, want %d", len(t.raw), t.describe(), want)
	case t.location == 0:
		return nil
	case t.location != external:
		return fmt.Errorf("data_location %d, want 0 or 1", t.location)
	case len(t.raw) > 0 || t.typed > 0:
		return errors.New("data of its own besides external data")
	case t.elem == typeString:
		return errors.New("strings in external data")
	}
	p, err := t.place()
	if err != nil {
		return err
	}
	size, err := c.size(p.file)
	if err != nil {
		return err
	}
	if p.length < 0 { // absent: to the end of the file
		p.length = size - p.offset
	}
	switch {
	case p.offset > size || p.length > size-p.offset:
		return fmt.Errorf("%d bytes at %d of %s, which has %d", p.length, p.offset, show(p.file), size)
	case p.length != want:
		return fmt.Errorf("%d bytes of external data for %s, want %d", p.length, t.describe(), want)
	}
	return nil
}

// bytes is the size of t's elements, 0 for strings.
func (t *tensor) bytes() (int64, error) {
	types := elementTypes()
	if t.elem < 1 || t.elem >= int64(len(types)) {
		return 0, fmt.Errorf("element type %d is not known", t.elem)
	}
	n := uint64(1)
	zero := false
	for _, d := range t.dims {
		if d < 0 {
			return 0, fmt.Errorf("dimension %d", d)
		}
		if d == 0 {
			zero = true
			continue
		}
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 || lo > math.MaxInt64/128 {
			return 0, fmt.Errorf("shape %s has no size", showDims(t.dims))
		}
		n = lo
	}
	if zero {
		return 0, nil
	}
	return (int64(n)*types[t.elem].bits + 7) / 8, nil
}

func (t *tensor) describe() string { return elementTypes()[t.elem].name + showDims(t.dims) }

// place reads t's external data entries. A length of −1 is one that is absent.
func (t *tensor) place() (place, error) {
	p := place{length: -1}
	seen := map[string]bool{}
	for _, e := range t.external {
		if seen[e.key] {
			return p, fmt.Errorf("external data: %s is there twice", show(e.key))
		}
		seen[e.key] = true
		switch e.key {
		case "location":
			p.file = e.value
		case "offset", "length":
			n, err := strconv.ParseInt(e.value, 10, 64)
			if err != nil || n < 0 {
				return p, fmt.Errorf("external data: %s %s, want a number of bytes", e.key, show(e.value))
			}
			if e.key == "offset" {
				p.offset = n
			} else {
				p.length = n
			}
		case "checksum":
		default:
			return p, fmt.Errorf("external data: unknown key %s, want location, offset, length and checksum", show(e.key))
		}
	}
	if !filepath.IsLocal(p.file) || strings.ContainsAny(p.file, "\\\x00") {
		return p, fmt.Errorf("external data: location %s, want a file within the model's folder", show(p.file))
	}
	return p, nil
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
			return 0, fmt.Errorf("external data: %w", err)
		}
		last := i == len(parts)-1
		switch {
		case !last && !info.IsDir(), last && !info.Mode().IsRegular():
			return 0, fmt.Errorf("external data: location %s, want a regular file within the model's folder, without links", show(name))
		case last:
			c.files[name] = info.Size()
		}
	}
	return c.files[name], nil
}

// show returns text of a file as it may stand in a one-line message: quoted,
// cut.
func show(s string) string {
	const most = 120
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strconv.Quote(s)
}

func showDims(dims []int64) string {
	parts := make([]string, 0, 16)
	for _, d := range dims[:min(len(dims), 16)] {
		parts = append(parts, strconv.FormatInt(d, 10))
	}
	if len(dims) > 16 {
		parts = append(parts, "...")
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// A Summary is what is in a model.
type Summary struct {
	IR           int64             `json:"ir"`
	Producer     string            `json:"producer"`
	Opsets       map[string]int64  `json:"opsets"` // by domain; "" is ONNX's own
	Metadata     map[string]string `json:"metadata,omitempty"`
	Inputs       []Port            `json:"inputs"`
	Outputs      []Port            `json:"outputs"`
	Functions    []Function        `json:"functions,omitempty"`
	Nodes        int               `json:"nodes"`     // of the main graph
	Operators    map[string]int    `json:"operators"` // with functions expanded and bodies included
	Initializers []Initializer     `json:"initializers"`
	Files        []string          `json:"files,omitempty"` // of external data
}

// A Port is an input or output of a model.
type Port struct {
	Name  string   `json:"name"`
	Type  string   `json:"type"`
	Shape []string `json:"shape"` // sizes, symbols, or ? where neither is given
}

// A Function is a function of a model.
type Function struct {
	Name    string   `json:"name"` // with its domain
	Inputs  []string `json:"inputs"`
	Outputs []string `json:"outputs"`
	Nodes   int      `json:"nodes"`
	Calls   int      `json:"calls"` // with callers expanded
}

// An Initializer is a constant of a model.
type Initializer struct {
	Name   string  `json:"name"`
	Type   string  `json:"type"`
	Shape  []int64 `json:"shape"`
	Bytes  int64   `json:"bytes"`
	File   string  `json:"file,omitempty"` // of external data
	Offset int64   `json:"offset,omitempty"`
}

// Summary tells what is in the model.
func (m *Model) Summary() *Summary { return m.m.summary() }

func (m *model) summary() *Summary {
	s := &Summary{IR: m.ir, Producer: strings.TrimSpace(m.producer + " " + m.producerVersion), Nodes: len(m.graph.nodes),
		Opsets: map[string]int64{}, Metadata: map[string]string{}}
	for _, o := range m.opsets {
		s.Opsets[o.domain] = o.version
	}
	for _, e := range m.metadata {
		s.Metadata[e.key] = e.value
	}
	s.Inputs, s.Outputs = ports(m.graph.inputs), ports(m.graph.outputs)
	s.Operators = m.count(s)
	for _, t := range m.graph.initializers {
		n, _ := t.bytes() // checked by parse
		in := Initializer{Name: t.name, Type: elementTypes()[t.elem].name, Shape: append([]int64{}, t.dims...), Bytes: n}
		if t.location == external {
			p, _ := t.place()
			in.File, in.Offset = p.file, p.offset
			if !slices.Contains(s.Files, p.file) {
				s.Files = append(s.Files, p.file)
			}
		}
		s.Initializers = append(s.Initializers, in)
	}
	return s
}

func ports(values []*value) []Port {
	list := []Port{}
	for _, v := range values {
		p := Port{Name: v.name, Type: "?", Shape: []string{}}
		if v.typ != nil && v.typ.tensor != nil {
			t := v.typ.tensor
			if types := elementTypes(); t.elem >= 0 && t.elem < int64(len(types)) {
				p.Type = types[t.elem].name
			}
			if t.shape == nil {
				p.Shape = nil
			} else {
				for _, d := range t.shape.dims {
					text := "?"
					if d.sized {
						text = strconv.FormatInt(d.size, 10)
					} else if d.symbol != "" {
						text = d.symbol
					}
					p.Shape = append(p.Shape, text)
				}
			}
		}
		list = append(list, p)
	}
	return list
}

// count counts operators with functions expanded, and lists the functions with
// how often each is called. Functions may call each other: each is counted
// once, and a ring of calls as if it called nothing.
func (m *model) count(s *Summary) map[string]int {
	functions := map[string]*function{}
	for _, f := range m.functions {
		functions[f.domain+"\x00"+f.name] = f
	}
	// Counts saturate, as functions that call each other twice double them.
	const most = 1 << 40
	add := func(to map[string]int, key string, n int) { to[key] = min(to[key]+n, most) }
	memo := map[*function][2]map[string]int{} // operators, and calls of functions
	var of func(nodes []*node) (ops, calls map[string]int)
	of = func(nodes []*node) (ops, calls map[string]int) {
		ops, calls = map[string]int{}, map[string]int{}
		merge := func(o, c map[string]int) {
			for k, n := range o {
				add(ops, k, n)
			}
			for k, n := range c {
				add(calls, k, n)
			}
		}
		for _, n := range nodes {
			key := n.domain + "\x00" + n.op
			if f := functions[key]; f != nil {
				add(calls, key, 1)
				inner, ok := memo[f]
				if !ok {
					memo[f] = inner
					inner[0], inner[1] = of(f.nodes)
					memo[f] = inner
				}
				merge(inner[0], inner[1])
				continue
			}
			name := n.op
			if n.domain != "" {
				name = n.domain + "::" + n.op
			}
			add(ops, name, 1)
			for _, a := range n.attributes {
				for _, g := range append(slices.Clip(a.graphs), a.graph) {
					if g != nil {
						merge(of(g.nodes))
					}
				}
			}
		}
		return ops, calls
	}
	ops, calls := of(m.graph.nodes)
	for _, f := range m.functions {
		key := f.domain + "\x00" + f.name
		s.Functions = append(s.Functions, Function{Name: f.domain + "::" + f.name, Inputs: f.inputs, Outputs: f.outputs, Nodes: len(f.nodes), Calls: calls[key]})
	}
	return ops
}
