package onnx

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// aFile is what lstat says of a file of 100 bytes.
type aFile struct {
	fs.FileInfo
	mode fs.FileMode
}

func (aFile) Size() int64         { return 100 }
func (f aFile) Mode() fs.FileMode { return f.mode }
func (f aFile) IsDir() bool       { return f.mode.IsDir() }

func fakeLstat(name string) (fs.FileInfo, error) {
	switch name {
	case "data", "sub/data":
		return aFile{}, nil
	case "sub":
		return aFile{mode: fs.ModeDir}, nil
	case "link", "sub/link":
		return aFile{mode: fs.ModeSymlink}, nil
	case "pipe":
		return aFile{mode: fs.ModeNamedPipe}, nil
	}
	return nil, fs.ErrNotExist
}

// far is a model with one initializer of 8 bytes, described by entries.
func far(entries ...*entry) *model {
	m := sample()
	m.graph.initializers = []*tensor{{name: "w", elem: typeFloat, dims: []int64{2}, location: external, external: entries}}
	return m
}

func TestExternalData(t *testing.T) {
	at := func(location, offset, length string) []*entry {
		return []*entry{{"location", location}, {"offset", offset}, {"length", length}}
	}
	tests := []struct {
		name    string
		entries []*entry
		want    string // "" passes
	}{
		{"in the middle", at("data", "50", "8"), ""},
		{"to the last byte", at("data", "92", "8"), ""},
		{"in a subfolder", at("sub/data", "0", "8"), ""},
		{"to the end, without length", []*entry{{"location", "data"}, {"offset", "92"}}, ""},
		{"checksum", append(at("data", "0", "8"), &entry{"checksum", "x"}), ""},
		{"unknown key", append(at("data", "0", "8"), &entry{"basepath", "/"}), `unknown key "basepath"`},
		{"key twice", append(at("data", "0", "8"), &entry{"offset", "8"}), `"offset" is there twice`},
		{"no location", []*entry{{"offset", "0"}}, `location "", want a file within`},
		{"above the folder", at("../data", "0", "8"), "want a file within the model's folder"},
		{"above in the middle", at("sub/../../data", "0", "8"), "want a file within the model's folder"},
		{"absolute", at("/etc/passwd", "0", "8"), "want a file within the model's folder"},
		{"backslash", at(`..\data`, "0", "8"), "want a file within the model's folder"},
		{"zero byte", at("data\x00", "0", "8"), "want a file within the model's folder"},
		{"a link", at("link", "0", "8"), "without links"},
		{"a link below", at("sub/link", "0", "8"), "without links"},
		{"through a link", at("link/data", "0", "8"), "without links"},
		{"a folder", at("sub", "0", "8"), "want a regular file"},
		{"a pipe", at("pipe", "0", "8"), "want a regular file"},
		{"missing", at("other", "0", "8"), "file does not exist"},
		{"negative offset", at("data", "-1", "8"), `offset "-1"`},
		{"negative length", at("data", "0", "-8"), `length "-8"`},
		{"offset too large for a number", at("data", "9223372036854775808", "8"), "offset"},
		{"sum that overflows", at("data", "9223372036854775800", "8"), "8 bytes at 9223372036854775800"},
		{"beyond the end", at("data", "93", "8"), `8 bytes at 93 of "data", which has 100`},
		{"offset is no number", at("data", "0x1", "8"), `offset "0x1"`},
		{"length of another shape", at("data", "0", "12"), "12 bytes of external data for float[2], want 8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(encode(far(tt.entries...)), fakeLstat)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	edit := func(f func(*model)) *model {
		m := far(place{"data", 0, 8}.entries()...)
		f(m)
		return m
	}
	tests := []struct {
		name string
		m    *model
		want string
	}{
		{"no graph", edit(func(m *model) { m.graph = nil }), "no graph"},
		{"no opset", edit(func(m *model) { m.opsets = nil }), "no opset"},
		{"IR version 0", edit(func(m *model) { m.ir = 0 }), "IR version 0"},
		{"input twice", edit(func(m *model) { m.graph.inputs = append(m.graph.inputs, m.graph.inputs[0]) }), `input or output "x"`},
		{"initializer twice", edit(func(m *model) { m.graph.initializers = append(m.graph.initializers, m.graph.initializers[0]) }), `initializer "w"`},
		{"function twice", edit(func(m *model) { m.functions = append(m.functions, m.functions[0]) }), `function "F"`},
		{"unknown type", edit(func(m *model) { m.graph.initializers[0].elem = 1000 }), "element type 1000"},
		{"negative dimension", edit(func(m *model) { m.graph.initializers[0].dims = []int64{-2, -1} }), "dimension -2"},
		{"shape that overflows", edit(func(m *model) { m.graph.initializers[0].dims = []int64{1 << 40, 1 << 40, 0} }), "has no size"},
		{"raw data cut short", edit(func(m *model) {
			m.graph.initializers[0] = &tensor{name: "w", elem: typeFloat, dims: []int64{2}, raw: make([]byte, 7)}
		}), "7 bytes for float[2], want 8"},
		{"raw and external", edit(func(m *model) { m.graph.initializers[0].raw = make([]byte, 8) }), "besides external data"},
		{"external and not", edit(func(m *model) { m.graph.initializers[0].location = 0 }), "data_location says it has none"},
		{"in a loop's body", edit(func(m *model) {
			m.graph.nodes[0].attributes = []*attribute{{name: "body", kind: attrGraph, graph: &subgraph{initializers: far(place{"../x", 0, 8}.entries()...).graph.initializers}}}
		}), "within the model's folder"},
		{"in a function's constant", edit(func(m *model) {
			m.functions[0].nodes[0].attributes = []*attribute{{name: "value", kind: attrTensor, tensor: far(place{"../x", 0, 8}.entries()...).graph.initializers[0]}}
		}), "within the model's folder"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parse(encode(tt.m), fakeLstat); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// On a real disk: what is a link, and what is no model.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write("data", make([]byte, 8))
	write("model.onnx", encode(far(place{"data", 0, 8}.entries()...)))
	m, err := Read(filepath.Join(dir, "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	s := m.Summary()
	if len(s.Initializers) != 1 || s.Initializers[0].File != "data" || s.Initializers[0].Bytes != 8 || s.Functions[0].Name != "ossify::F" || s.Metadata["key"] != "value" {
		t.Errorf("summary %+v", s)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "away")); err != nil {
		t.Fatal(err)
	}
	write("link.onnx", encode(far(place{"away", 0, 8}.entries()...)))
	write("text.onnx", []byte("not a model, and not protobuf either"))
	write("empty.onnx", nil)
	for _, name := range []string{"link.onnx", "text.onnx", "empty.onnx", "none.onnx", "."} {
		_, err := Read(filepath.Join(dir, name))
		if err == nil || !strings.HasPrefix(err.Error(), "onnx: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line", name, err)
		}
		if name == "none.onnx" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Functions that call each other end, and counts do not overflow.
func TestSummaryOfFunctions(t *testing.T) {
	m := far(place{"data", 0, 8}.entries()...)
	m.functions = nil
	name := func(i int) string { return string(rune('a' + i)) }
	for i := range 26 { // each calls the next 16 times
		f := &function{name: name(i), domain: "d"}
		for range 16 {
			f.nodes = append(f.nodes, newNode(name(i+1), nil, "y"))
			f.nodes[len(f.nodes)-1].domain = "d"
		}
		m.functions = append(m.functions, f)
	}
	m.functions = append(m.functions, &function{name: name(26), domain: "d", nodes: []*node{newNode("Add", nil, "y"), {op: "a", domain: "d", outputs: []string{"r"}}}})
	m.graph.nodes = []*node{{op: "a", domain: "d", outputs: []string{"z"}}}
	s := m.summary()
	if got := s.Operators["Add"]; got != 1<<40 {
		t.Errorf("%d Add, want the bound of 2^40", got)
	}
	if s.Functions[1].Calls != 16 || s.Functions[2].Calls != 256 {
		t.Errorf("calls %+v", s.Functions[:3])
	}
}

func FuzzParse(f *testing.F) {
	f.Add(encode(sample()))
	f.Add(encode(far(place{"data", 0, 8}.entries()...)))
	f.Add(encode(far(place{"sub/../../data", 93, 8}.entries()...)))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parse(data, func(name string) (fs.FileInfo, error) {
			if strings.Contains(name, "..") || strings.HasPrefix(name, "/") {
				t.Fatalf("looked at %q", name)
			}
			return fakeLstat(name)
		})
		if err != nil {
			return
		}
		m.summary()
		m.text(&strings.Builder{})
	})
}
