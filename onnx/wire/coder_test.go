package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

func typed(name string, elem DataType, dims ...*Dim) *Value {
	return &Value{Name: name, Type: &Type{Tensor: &TensorType{Elem: elem, Shape: &Shape{Dims: dims}}}}
}

// sample holds every field that is written.
func sample() *Model {
	return &Model{
		IR: 10, Producer: "p", ProducerVersion: "v", Doc: "d",
		Opsets:   []*Opset{{Version: 21}, {"ossify", 1}},
		Metadata: []*Entry{{"key", "value"}, {"empty", ""}},
		Functions: []*Function{{
			Name: "F", Inputs: []string{"x", ""}, Outputs: []string{"y"}, Attributes: []string{"a"}, Doc: "d", Domain: "ossify",
			Nodes:  []*Node{{Inputs: []string{"x", "", "w"}, Outputs: []string{"y"}, Name: "n", Op: "Clip", Domain: "o"}},
			Opsets: []*Opset{{Version: 21}},
		}},
		Graph: &Graph{
			Name: "g",
			Nodes: []*Node{{Op: "Loop", Outputs: []string{"z"}, Attributes: []*Attribute{
				{Name: "f", Kind: AttrFloat, Float: 0},
				{Name: "i", Kind: AttrInt, Int: -1},
				{Name: "s", Kind: AttrString, String: []byte("text")},
				{Name: "t", Kind: AttrTensor, Tensor: &Tensor{Type: Int64, Dims: []int64{0, 1 << 40}}},
				{Name: "g", Kind: AttrGraph, Graph: &Graph{Name: "body"}},
				{Name: "is", Kind: AttrInts, Ints: []int64{0, -1, 1 << 62}},
				{Name: "ss", Kind: AttrStrings, Strings: []string{"", "a"}},
				{Name: "r", Kind: AttrInt, Ref: "a"},
			}}},
			Initializers: []*Tensor{
				{Name: "raw", Type: Float, Dims: []int64{1}, Raw: []byte{1, 2, 3, 4}},
				{Name: "far", Type: Bfloat16, Dims: []int64{2}, Location: External, External: Place{File: "file", Offset: 8, Length: 4}.Entries()},
			},
			Inputs:  []*Value{typed("x", Int64, &Dim{Symbol: "batch"}, &Dim{Sized: true}, &Dim{}), {Name: "untyped", Doc: "d"}},
			Outputs: []*Value{typed("scalar", Float)},
			Values:  []*Value{typed("v", Bool, &Dim{Size: 3, Sized: true})},
		},
	}
}

func TestWireRoundTrip(t *testing.T) {
	want := sample()
	got := &Model{}
	if err := Decode(Encode(want), got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(normal(got), normal(want)) {
		t.Errorf("got %+v", got)
	}
	if !bytes.Equal(Encode(got), Encode(want)) {
		t.Error("written again, the bytes differ")
	}
}

// normal is m with its one scalar shape as decoded: DeepEqual tells a nil list
// from an empty one.
func normal(m *Model) *Model {
	for _, v := range m.Graph.Outputs {
		v.Type.Tensor.Shape.Dims = nil
	}
	return m
}

// A pieces is a writer that notes how much it is given at once, and may fail.
type pieces struct {
	bytes.Buffer
	longest, left int
}

func (p *pieces) Write(b []byte) (int, error) {
	p.longest = max(p.longest, len(b))
	if p.left -= len(b); p.left < 0 {
		return 0, errors.New("no space left")
	}
	return p.Buffer.Write(b)
}

// numbers are n numbers, and the bytes that they are in a file.
func numbers(n int) (values []float32, raw []byte) {
	for i := range n {
		values = append(values, float32(i)/3)
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(values[i]))
	}
	return values, raw
}

// Written in pieces, a model has the bytes that it has at once, wherever pieces
// end; numbers that are made on the way have those of their raw form.
func TestWriteInPieces(t *testing.T) {
	for _, n := range []int{0, 1, 2, longOut/4 - 1, longOut / 4, longOut/4 + 1, 3*longOut/4 - 20, 100_000} {
		values, raw := numbers(n)
		made, held := sample(), sample()
		tensor := func(t Tensor) []*Tensor {
			t.Name, t.Type, t.Dims = "table", Float, []int64{int64(n)}
			return append(sample().Graph.Initializers, &t, &Tensor{Name: "last", Type: Float})
		}
		made.Graph.Initializers = tensor(Tensor{Floats: slices.Values(values)})
		held.Graph.Initializers = tensor(Tensor{Raw: raw})
		for range n / 100 { // small ones, too
			held.Functions, made.Functions = append(held.Functions, sample().Functions...), append(made.Functions, sample().Functions...)
		}
		var a, b pieces
		a.left, b.left = 1<<30, 1<<30
		if err := errors.Join(Write(&a, held), Write(&b, made)); err != nil {
			t.Fatal(err)
		}
		if want := Encode(held); n > 0 && (!bytes.Equal(a.Bytes(), want) || !bytes.Equal(b.Bytes(), want) || !bytes.Equal(Encode(made), want)) {
			t.Errorf("%d numbers: other bytes in pieces than at once", n)
		}
		if a.longest > 2*longOut || b.longest > 2*longOut {
			t.Errorf("%d numbers: %d and %d bytes at once, want at most %d", n, a.longest, b.longest, 2*longOut)
		}
		got := &Model{}
		if err := Decode(b.Bytes(), got); err != nil || len(got.Functions) != len(made.Functions) || !bytes.Equal(got.Graph.Initializers[2].Raw, raw) {
			t.Errorf("%d numbers: read back: %v, other values", n, err)
		}
		for left := range 3 {
			full := pieces{left: left * len(a.Bytes()) / 3}
			if err := Write(&full, made); err == nil || !strings.Contains(err.Error(), "no space left") {
				t.Errorf("%d numbers, a disk of %d bytes: %v", n, left, err)
			}
		}
	}
	for name, tt := range map[string]struct {
		dims []int64
		want string
	}{
		"one too many":      {[]int64{2, 1}, `"t": 12 bytes of values, want 8`},
		"one too few":       {[]int64{4}, `"t": 12 bytes of values, want 16`},
		"none wanted":       {[]int64{0}, `"t": 4 bytes of values, want 0`},
		"no such dimension": {[]int64{-1}, "dimension -1, want 0 or more"},
	} {
		m := sample()
		m.Graph.Initializers = []*Tensor{{Name: "t", Type: Float, Dims: tt.dims, Floats: slices.Values([]float32{1, 2, 3})}}
		if err := Write(&pieces{left: 1 << 30}, m); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// One message after another has the bytes that it has alone.
func TestEncoderIsUsedAgain(t *testing.T) {
	var e Encoder
	large := sample()
	large.Doc = strings.Repeat("x", 1000)
	large.Graph.Nodes = append(large.Graph.Nodes, sample().Graph.Nodes...)
	for i, m := range []message{sample(), large, sample(), sample().Functions[0], &Opset{}, large} {
		if !bytes.Equal(e.Encode(m), Encode(m)) {
			t.Errorf("message %d: other bytes than alone", i)
		}
	}
}

func TestWireRefuses(t *testing.T) {
	deep := []byte(nil)
	for range maxDepth + 2 { // a graph in an attribute in a node in a graph ...
		attr := protowire.AppendBytes(protowire.AppendTag(nil, 6, protowire.BytesType), deep)
		n := protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), attr)
		deep = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), n)
	}
	graph := func(b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, 7, protowire.BytesType), b)
	}
	many := graph(bytes.Repeat([]byte{0x0a, 0}, maxMessages+1)) // nodes of no bytes
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"a tag cut short", []byte{0x80}, "unexpected EOF"},
		{"a length beyond the end", []byte{0x3a, 100, 1}, "unexpected EOF"},
		{"a negative length", append([]byte{0x3a}, bytes.Repeat([]byte{0xff}, 10)...), "variable length integer overflow"},
		{"field 0", []byte{0x02, 0}, "invalid field number"},
		{"another wire type", []byte{0x38, 1}, "field 7 has wire type 0, want 2"},
		{"two graphs", append(graph(nil), graph(nil)...), "second message of a single field"},
		{"nested without end", graph(deep), "more than 64 levels"},
		{"too many messages", many, "more than 4194304 messages"},
		{"a group without end", []byte{0x0b}, "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Decode(tt.data, &Model{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// Fields that are not known are passed over.
func TestWireSkipsTheUnknown(t *testing.T) {
	b := Encode(sample())
	b = protowire.AppendBytes(protowire.AppendTag(b, 1000, protowire.BytesType), []byte("new"))
	b = protowire.AppendFixed64(protowire.AppendTag(b, 1001, protowire.Fixed64Type), 7)
	b = protowire.AppendGroup(protowire.AppendTag(b, 1002, protowire.StartGroupType), 1002, nil)
	got := &Model{}
	if err := Decode(b, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(Encode(got), Encode(sample())) {
		t.Error("what is known was not read")
	}
}

// Lists of numbers may come packed.
func TestWireReadsPackedInts(t *testing.T) {
	packed := protowire.AppendVarint(protowire.AppendVarint(nil, 3), 1<<40)
	b := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), packed)
	got := &Tensor{}
	if err := Decode(b, got); err != nil || !reflect.DeepEqual(got.Dims, []int64{3, 1 << 40}) {
		t.Errorf("got %v, %v", got.Dims, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(sample()))
	f.Add([]byte{0x3a, 2, 0x0a, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &Model{}
		if Decode(data, m) != nil {
			return
		}
		again := &Model{}
		if err := Decode(Encode(m), again); err != nil {
			t.Fatalf("what was read and written does not read: %v", err)
		}
		if !bytes.Equal(Encode(again), Encode(m)) {
			t.Fatal("written twice, the bytes differ")
		}
	})
}
