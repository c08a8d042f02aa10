//go:build cgo

package ort_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ossify/checkpoint"
	"ossify/onnx/build"
	"ossify/onnx/ort"
	"ossify/onnx/wire"
)

// open loads the library that `make deps` installs.
func open(t *testing.T) *ort.Runtime {
	t.Helper()
	path, _, err := ort.Find(filepath.Join("../..", ort.DepsFolder))
	if err != nil {
		t.Fatalf("%v\nThese tests need ONNX Runtime; `make deps` installs it.", err)
	}
	r, err := ort.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func load(t *testing.T, r *ort.Runtime, model string, o ort.Options) *ort.Session {
	t.Helper()
	s, err := r.Load(t.Context(), filepath.Join("testdata", model), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Every type goes in and comes out with the same bytes, tensors without
// elements too.
func TestTypes(t *testing.T) {
	s := load(t, open(t), "types.onnx", ort.Options{})
	if len(s.Inputs) != 13 || len(s.Outputs) != 13 {
		t.Fatalf("%d inputs and %d outputs, want 13", len(s.Inputs), len(s.Outputs))
	}
	for _, rows := range []int{3, 0} {
		in, out := map[string]ort.Tensor{}, map[string]ort.Tensor{}
		for i, x := range s.Inputs {
			data := make([]byte, rows*2*x.Type.Size())
			for j := range data {
				if data[j] = byte(i + 7*j); x.Type == checkpoint.BOOL {
					data[j] &= 1
				}
			}
			in[x.Name] = ort.Tensor{Type: x.Type, Shape: []int{rows, 2}, Data: data}
			if x.Type.Size() == 2 {
				out["out."+strings.TrimPrefix(x.Name, "in.")] = ort.Tensor{Type: x.Type, Shape: []int{rows, 2}}
			}
		}
		if err := s.Run(t.Context(), in, out); err != nil {
			t.Fatal(err)
		}
		for name, x := range in {
			got := out["out."+strings.TrimPrefix(name, "in.")]
			if got.Type != x.Type || !slices.Equal(got.Shape, x.Shape) || !slices.Equal(got.Data, x.Data) {
				t.Errorf("%s: %v %v % x, want %v %v % x", name, got.Type, got.Shape, got.Data, x.Type, x.Shape, x.Data)
			}
		}
	}
}

func TestFloat64s(t *testing.T) {
	half := ort.Tensor{Type: checkpoint.F16, Shape: []int{8}, Data: []byte{0, 0x3c, 0, 0xc0, 1, 0, 0xff, 0x7b, 0, 0x7c, 0, 0xfc, 0, 0x80, 0, 0x04}}
	want := []float64{1, -2, math.Ldexp(1, -24), 65504, math.Inf(1), math.Inf(-1), math.Copysign(0, -1), math.Ldexp(1, -14)}
	for i, got := range half.Float64s() {
		if math.Float64bits(got) != math.Float64bits(want[i]) {
			t.Errorf("half %d is %g, want %g", i, got, want[i])
		}
	}
	half.Data = []byte{1, 0x7e}
	if got := half.Float64s()[0]; got == got {
		t.Errorf("a NaN became %g", got)
	}
	tests := []struct {
		typ  checkpoint.DType
		data []byte
		want float64
	}{
		{checkpoint.F32, []byte{0, 0, 0x80, 0xbf}, -1},
		{checkpoint.F64, []byte{0, 0, 0, 0, 0, 0, 0xf0, 0xbf}, -1},
		{checkpoint.BF16, []byte{0x80, 0xbf}, -1},
		{checkpoint.I64, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, -1},
		{checkpoint.U64, []byte{0, 0, 0, 0, 1, 0, 0, 0}, 1 << 32},
		{checkpoint.I32, []byte{0xff, 0xff, 0xff, 0xff}, -1},
		{checkpoint.U32, []byte{0xff, 0xff, 0xff, 0xff}, 1<<32 - 1},
		{checkpoint.I16, []byte{0xff, 0xff}, -1},
		{checkpoint.U16, []byte{0xff, 0xff}, 1<<16 - 1},
		{checkpoint.I8, []byte{0xff}, -1},
		{checkpoint.U8, []byte{0xff}, 255},
		{checkpoint.BOOL, []byte{1}, 1},
	}
	for _, tt := range tests {
		if got := (ort.Tensor{Type: tt.typ, Shape: []int{1}, Data: tt.data}).Float64s(); len(got) != 1 || got[0] != tt.want {
			t.Errorf("%v: %v, want %g", tt.typ, got, tt.want)
		}
	}
}

// A batch of three lengths goes through a cache of float16, scalars and
// positions included.
func TestDecoder(t *testing.T) {
	d, err := ort.NewDecoder(load(t, open(t), "decoder.onnx", ort.Options{Want: func(x ort.Info) bool { return x.Name != "seen" }}), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := d.NewState(3)
	calls := [][][]uint32{{{1, 2, 3}, {4}, {5, 6}}, {{7}, {8, 9}, {10}}}
	// The last rows of each sequence: id and position.
	want := [][][]float64{{{1, 0, 2, 1, 3, 2}, {4, 0}, {5, 0, 6, 1}}, {{7, 3}, {8, 1, 9, 2}, {10, 2}}}
	for i, call := range calls {
		out, err := s.Forward(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		for j, tokens := range call {
			if got := ort.Rows(out["logits"], j, len(tokens)); !slices.Equal(got, want[i][j]) {
				t.Errorf("call %d, sequence %d: %v, want %v", i, j, got, want[i][j])
			}
		}
	}
	key, value := s.Cache(0)
	for _, tt := range []struct {
		name string
		t    ort.Tensor
		want []float64
	}{
		{"keys", key, []float64{1, 2, 3, 0, 7, 0, 0, 4, 8, 9, 0, 5, 6, 0, 10}},
		{"values", value, []float64{-1, -2, -3, 0, -7, 0, 0, -4, -8, -9, 0, -5, -6, 0, -10}},
	} {
		if got := tt.t.Float64s(); !slices.Equal(got, tt.want) || !slices.Equal(tt.t.Shape, []int{3, 1, 5, 1}) {
			t.Errorf("%s are %v, shape %v, want %v", tt.name, got, tt.t.Shape, tt.want)
		}
	}
}

func TestErrors(t *testing.T) {
	r := open(t)
	reshape := load(t, r, "reshape.onnx", ort.Options{Plain: true})
	x := ort.Float32s([]float32{1, 2, 3}, 3)
	shape := func(a, b int64) ort.Tensor { return ort.Int64s(checkpoint.I64, []int64{a, b}, 2) }
	done, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name    string
		ctx     context.Context
		in, out map[string]ort.Tensor
		want    string
	}{
		{"missing input", t.Context(), map[string]ort.Tensor{"x": x}, nil, "ort: input shape is missing"},
		{"unknown input", t.Context(), map[string]ort.Tensor{"z": x}, nil, "ort: no input z"},
		{"unknown output", t.Context(), map[string]ort.Tensor{"x": x, "shape": shape(1, 3)}, map[string]ort.Tensor{"z": {}}, "ort: no output z"},
		{"wrong type", t.Context(), map[string]ort.Tensor{"x": shape(1, 3)}, nil, "ort: input x: I64, want F32"},
		{"too few bytes", t.Context(), map[string]ort.Tensor{"x": {Type: checkpoint.F32, Shape: []int{4}, Data: x.Data}}, nil, "ort: input x: 12 bytes of F32, shape [4]"},
		{"no size", t.Context(), map[string]ort.Tensor{"x": {Type: checkpoint.F32, Shape: []int{1 << 62, 4}, Data: x.Data}}, nil, "ort: input x: 12 bytes of F32, shape [4611686018427387904 4]"},
		{"no size, no bytes", t.Context(), map[string]ort.Tensor{"x": {Type: checkpoint.F32, Shape: []int{1 << 62, 4}, Data: nil}}, nil, "ort: input x: 0 bytes of F32, shape [4611686018427387904 4]"},
		{"fails while it runs", t.Context(), map[string]ort.Tensor{"x": x, "shape": shape(2, 2)}, nil, "Reshape"},
		{"output of another shape", t.Context(), map[string]ort.Tensor{"x": x, "shape": shape(1, 3)}, map[string]ort.Tensor{"y": {Type: checkpoint.F32, Shape: []int{2, 2}, Data: make([]byte, 16)}}, "shape"},
		{"cancelled", done, map[string]ort.Tensor{"x": x, "shape": shape(1, 3)}, nil, "context canceled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.out == nil {
				tt.out = map[string]ort.Tensor{}
			}
			checkError(t, reshape.Run(tt.ctx, tt.in, tt.out), tt.want)
		})
	}
	out := map[string]ort.Tensor{}
	if err := reshape.Run(t.Context(), map[string]ort.Tensor{"x": x, "shape": shape(1, 3)}, out); err != nil || !slices.Equal(out["y"].Float64s(), []float64{1, 2, 3}) {
		t.Errorf("after the errors: %v, %v", out["y"], err)
	}

	types := load(t, r, "types.onnx", ort.Options{Want: func(x ort.Info) bool { return x.Name == "out.float16" }})
	in := map[string]ort.Tensor{}
	for _, x := range types.Inputs {
		in[x.Name] = ort.Tensor{Type: x.Type, Shape: []int{1, 2}, Data: make([]byte, 2*x.Type.Size())}
	}
	checkError(t, types.Run(t.Context(), in, map[string]ort.Tensor{}), "output out.float16: F16 outputs need a shape")

	_, err := ort.Open("testdata/types.onnx")
	checkError(t, err, "a library is open already")
	dir := t.TempDir()
	for _, tt := range []struct{ name, data, want string }{
		{"empty.onnx", "", "ort: "},
		{"text.onnx", "not a model", "ort: "},
	} {
		path := filepath.Join(dir, tt.name)
		if err := os.WriteFile(path, []byte(tt.data), 0o666); err != nil {
			t.Fatal(err)
		}
		_, err := r.Load(t.Context(), path, ort.Options{})
		checkError(t, err, tt.want)
	}
	_, err = r.Load(t.Context(), filepath.Join(dir, "none.onnx"), ort.Options{})
	checkError(t, err, "no such file")

	d, err := ort.NewDecoder(load(t, r, "decoder.onnx", ort.Options{Want: func(x ort.Info) bool { return x.Name != "seen" }}), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.NewState(2).Forward(t.Context(), [][]uint32{{1}})
	checkError(t, err, "ort: tokens of 1 sequences, want 2")
	_, err = d.NewState(2).Forward(t.Context(), [][]uint32{{1}, {}})
	checkError(t, err, "ort: sequence 1: no tokens, want at least one")
}

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("got %v\nwant one line with %q", err, want)
	}
}

// A load that is given up returns at once, and leaves nothing behind that
// matters: the runtime can be closed or used on.
func TestLoadIsGivenUp(t *testing.T) {
	r := open(t)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Load(done, "testdata/types.onnx", ort.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for i := range 50 { // at any moment
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*40*time.Microsecond)
		s, err := r.Load(ctx, "testdata/types.onnx", ort.Options{})
		cancel()
		switch {
		case err == nil:
			s.Close()
		case !errors.Is(err, context.DeadlineExceeded):
			t.Errorf("got %v", err)
		}
	}
	load(t, r, "types.onnx", ort.Options{})

	// A model of 2^10 operators takes the library most of a second: Load has
	// returned long before.
	slow := filepath.Join(t.TempDir(), "slow.onnx")
	if err := os.WriteFile(slow, doubling(10), 0o600); err != nil {
		t.Fatal(err)
	}
	for try := 1; ; try++ { // on a busy machine the library may be done before we are heard
		ctx, cancel := context.WithCancel(t.Context())
		before := r.Loading()
		go func() {
			for r.Loading() == before && ctx.Err() == nil {
				runtime.Gosched()
			}
			cancel()
		}()
		s, err := r.Load(ctx, slow, ort.Options{})
		cancel()
		if errors.Is(err, context.Canceled) && r.Loading() > 0 {
			break
		}
		if err == nil {
			s.Close()
		}
		if try == 10 || err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, %d loads still going on, want one that was given up", err, r.Loading())
		}
	}
	for r.Loading() > 0 { // the library may be unloaded then
		time.Sleep(time.Millisecond)
	}
}

// doubling returns a model of functions of which each calls the one before it
// twice: 2^levels operators.
func doubling(levels int) []byte {
	opsets := []*wire.Opset{{Version: 21}, {Domain: "d", Version: 1}}
	call := func(level int, in, out string) *wire.Node {
		n := build.NewNode(fmt.Sprint("f", level), []string{in}, out)
		n.Domain = "d"
		return n
	}
	x := []*wire.Value{build.Typed("x", wire.Float, build.Size(1))}
	y := []*wire.Value{build.Typed("y", wire.Float, build.Size(1))}
	m := &wire.Model{IR: 10, Opsets: opsets, Graph: &wire.Graph{Name: "g", Nodes: []*wire.Node{call(levels, "x", "y")}, Inputs: x, Outputs: y}}
	for i := range levels + 1 {
		f := &wire.Function{Name: fmt.Sprint("f", i), Domain: "d", Inputs: []string{"x"}, Outputs: []string{"y"}, Opsets: opsets}
		if f.Nodes = []*wire.Node{build.NewNode("Neg", []string{"x"}, "y")}; i > 0 {
			f.Nodes = []*wire.Node{call(i-1, "x", "t"), call(i-1, "t", "y")}
		}
		m.Functions = append(m.Functions, f)
	}
	return wire.Encode(m)
}

// Nothing is written to the user's cache.
func TestNoTelemetry(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", dir)
	t.Setenv("HOME", dir)
	t.Setenv("ORT_DISABLE_TELEMETRY", "0")
	os.Unsetenv("ORT_DISABLE_TELEMETRY")
	load(t, open(t), "types.onnx", ort.Options{})
	list, err := os.ReadDir(dir)
	if err != nil || len(list) > 0 {
		t.Errorf("ONNX Runtime wrote %v, %v", list, err)
	}
}

// A provider that the library does not have is refused by name, and harms
// nothing.
func TestProviders(t *testing.T) {
	r := open(t)
	for _, name := range []string{"XNNPACK", "none\x1b[31m"} {
		_, err := r.Load(t.Context(), "testdata/types.onnx", ort.Options{Providers: []ort.Provider{{Name: name, Options: map[string]string{"a": "b"}}}})
		checkError(t, err, "provider "+strings.ReplaceAll(strconv.Quote(name), `"XNNPACK"`, "XNNPACK")+": ")
	}
	load(t, r, "types.onnx", ort.Options{})
}

func TestOpenWhatIsNoLibrary(t *testing.T) {
	_, err := ort.Open("testdata/types.onnx")
	checkError(t, err, "ort: testdata/types.onnx: ")
	_, err = ort.Open("testdata/none.so")
	checkError(t, err, "no such file")
}
