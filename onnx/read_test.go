package onnx

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"ossify/onnx/build"
	"ossify/onnx/wire"
	"path/filepath"
	"runtime"
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
	return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
}

// sample is a model with a function and a loop.
func sample() *wire.Model {
	return &wire.Model{
		IR: 10, Producer: "p", Opsets: []*wire.Opset{{Version: 21}, {Domain: "ossify", Version: 1}},
		Metadata: []*wire.Entry{{Key: "key", Value: "value"}},
		Functions: []*wire.Function{{
			Name: "F", Domain: "ossify", Inputs: []string{"x"}, Outputs: []string{"y"}, Opsets: []*wire.Opset{{Version: 21}},
			Nodes: []*wire.Node{build.NewNode("Clip", []string{"x", "", "w"}, "y")},
		}},
		Graph: &wire.Graph{
			Name: "g",
			Nodes: []*wire.Node{build.NewNode("Loop", nil, "z").With(
				&wire.Attribute{Name: "g", Kind: wire.AttrGraph, Graph: &wire.Graph{Name: "body"}})},
			Inputs:  []*wire.Value{build.Typed("x", wire.Int64, build.Symbol(0, "batch"), build.Size(0)), {Name: "untyped"}},
			Outputs: []*wire.Value{build.Typed("scalar", wire.Float)},
		},
	}
}

// far is a model with one initializer of 8 bytes, described by entries.
func far(entries ...*wire.Entry) *wire.Model {
	m := sample()
	m.Graph.Initializers = []*wire.Tensor{{Name: "w", Type: wire.Float, Dims: []int64{2}, Location: wire.External, External: entries}}
	return m
}

func TestExternalData(t *testing.T) {
	at := func(location, offset, length string) []*wire.Entry {
		return []*wire.Entry{{Key: "location", Value: location}, {Key: "offset", Value: offset}, {Key: "length", Value: length}}
	}
	tests := []struct {
		name    string
		entries []*wire.Entry
		want    string // "" passes
	}{
		{"in the middle", at("data", "50", "8"), ""},
		{"to the last byte", at("data", "92", "8"), ""},
		{"in a subfolder", at("sub/data", "0", "8"), ""},
		{"to the end, without length", []*wire.Entry{{Key: "location", Value: "data"}, {Key: "offset", Value: "92"}}, ""},
		{"checksum", append(at("data", "0", "8"), &wire.Entry{Key: "checksum", Value: "x"}), ""},
		{"unknown key", append(at("data", "0", "8"), &wire.Entry{Key: "basepath", Value: "/"}), `unknown key "basepath"`},
		{"key twice", append(at("data", "0", "8"), &wire.Entry{Key: "offset", Value: "8"}), `"offset" is there twice`},
		{"no location", []*wire.Entry{{Key: "offset", Value: "0"}}, `location "", want a file within`},
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
		{"missing", at("other", "0", "8"), `location "other": file does not exist`},
		{"missing, in colours", at("other\x1b[31m", "0", "8"), `location "other\x1b[31m": file does not exist`},
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
			_, err := parse(wire.Encode(far(tt.entries...)), fakeLstat)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("not one line of text: %q", err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	edit := func(f func(*wire.Model)) *wire.Model {
		m := far(wire.Place{File: "data", Offset: 0, Length: 8}.Entries()...)
		f(m)
		return m
	}
	tests := []struct {
		name string
		m    *wire.Model
		want string
	}{
		{"no graph", edit(func(m *wire.Model) { m.Graph = nil }), "no graph"},
		{"no opset", edit(func(m *wire.Model) { m.Opsets = nil }), "no opset"},
		{"IR version 0", edit(func(m *wire.Model) { m.IR = 0 }), "IR version 0"},
		{"input twice", edit(func(m *wire.Model) { m.Graph.Inputs = append(m.Graph.Inputs, m.Graph.Inputs[0]) }), `input or output "x"`},
		{"initializer twice", edit(func(m *wire.Model) { m.Graph.Initializers = append(m.Graph.Initializers, m.Graph.Initializers[0]) }), `initializer "w"`},
		{"function twice", edit(func(m *wire.Model) { m.Functions = append(m.Functions, m.Functions[0]) }), `function "F"`},
		{"unknown type", edit(func(m *wire.Model) { m.Graph.Initializers[0].Type = 1000 }), "element type 1000"},
		{"negative dimension", edit(func(m *wire.Model) { m.Graph.Initializers[0].Dims = []int64{-2, -1} }), "dimension -2"},
		{"shape that overflows", edit(func(m *wire.Model) { m.Graph.Initializers[0].Dims = []int64{1 << 40, 1 << 40, 0} }), "want less than 2^56 elements"},
		{"raw data cut short", edit(func(m *wire.Model) {
			m.Graph.Initializers[0] = &wire.Tensor{Name: "w", Type: wire.Float, Dims: []int64{2}, Raw: make([]byte, 7)}
		}), "7 bytes for float[2], want 8"},
		{"raw and external", edit(func(m *wire.Model) { m.Graph.Initializers[0].Raw = make([]byte, 8) }), "besides external data"},
		{"external and not", edit(func(m *wire.Model) { m.Graph.Initializers[0].Location = 0 }), "data_location says it has none"},
		{"in a loop's body", edit(func(m *wire.Model) {
			m.Graph.Nodes[0].Attributes = []*wire.Attribute{{Name: "body", Kind: wire.AttrGraph, Graph: &wire.Graph{Initializers: far(wire.Place{File: "../x", Offset: 0, Length: 8}.Entries()...).Graph.Initializers}}}
		}), "within the model's folder"},
		{"in a function's constant", edit(func(m *wire.Model) {
			m.Functions[0].Nodes[0].Attributes = []*wire.Attribute{{Name: "value", Kind: wire.AttrTensor, Tensor: far(wire.Place{File: "../x", Offset: 0, Length: 8}.Entries()...).Graph.Initializers[0]}}
		}), "within the model's folder"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parse(wire.Encode(tt.m), fakeLstat); err == nil || !strings.Contains(err.Error(), tt.want) {
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
	write("model.onnx", wire.Encode(far(wire.Place{File: "data", Offset: 0, Length: 8}.Entries()...)))
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
	write("link.onnx", wire.Encode(far(wire.Place{File: "away", Offset: 0, Length: 8}.Entries()...)))
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
	m := far(wire.Place{File: "data", Offset: 0, Length: 8}.Entries()...)
	m.Functions = nil
	name := func(i int) string { return string(rune('a' + i)) }
	for i := range 26 { // each calls the next 16 times
		f := &wire.Function{Name: name(i), Domain: "d"}
		for range 16 {
			f.Nodes = append(f.Nodes, build.NewNode(name(i+1), nil, "y"))
			f.Nodes[len(f.Nodes)-1].Domain = "d"
		}
		m.Functions = append(m.Functions, f)
	}
	m.Functions = append(m.Functions, &wire.Function{Name: name(26), Domain: "d", Nodes: []*wire.Node{build.NewNode("Add", nil, "y"), {Op: "a", Domain: "d", Outputs: []string{"r"}}}})
	m.Graph.Nodes = []*wire.Node{{Op: "a", Domain: "d", Outputs: []string{"z"}}}
	s := summarize(m)
	if got := s.Operators["Add"]; got != 1<<40 {
		t.Errorf("%d Add, want the bound of 2^40", got)
	}
	if s.Functions[1].Calls != 16 || s.Functions[2].Calls != 256 {
		t.Errorf("calls %+v", s.Functions[:3])
	}
}

// A long chain of functions, each calling the one before, takes memory and time
// in proportion to its length; calls that close a ring count as nothing.
func TestSummaryIsLinear(t *testing.T) {
	const length = 20000
	m := sample()
	m.Functions = nil
	call := func(name string) *wire.Node { return &wire.Node{Op: name, Domain: "d", Outputs: []string{"y"}} }
	for i := range length {
		f := &wire.Function{Name: fmt.Sprint("f", i), Domain: "d", Nodes: []*wire.Node{build.NewNode("Add", nil, "x"), call(fmt.Sprint("f", i-1))}}
		if i == 0 {
			f.Nodes[1] = call(fmt.Sprint("f", length-1)) // the ring
		}
		m.Functions = append(m.Functions, f)
	}
	m.Graph.Nodes = []*wire.Node{call(fmt.Sprint("f", length-1))}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s := summarize(m)
	runtime.ReadMemStats(&after)
	if s.Operators["Add"] != length || s.Functions[0].Calls != 1 || s.Functions[length-1].Calls != 1 {
		t.Errorf("operators %v, the last is called %d times", s.Operators, s.Functions[0].Calls)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 4000*length {
		t.Errorf("%d bytes for %d functions", used, length)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(wire.Encode(sample()))
	f.Add(wire.Encode(far(wire.Place{File: "data", Offset: 0, Length: 8}.Entries()...)))
	f.Add(wire.Encode(far(wire.Place{File: "sub/../../data", Offset: 93, Length: 8}.Entries()...)))
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
		summarize(m)
		m.Text(&strings.Builder{})
	})
}
