package onnx

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// sample holds every field that is written.
func sample() *model {
	return &model{
		ir: 10, producer: "p", producerVersion: "v", doc: "d",
		opsets:   []*opset{{version: 21}, {"ossify", 1}},
		metadata: []*entry{{"key", "value"}, {"empty", ""}},
		functions: []*function{{
			name: "F", inputs: []string{"x", ""}, outputs: []string{"y"}, attributes: []string{"a"}, doc: "d", domain: "ossify",
			nodes:  []*node{{inputs: []string{"x", "", "w"}, outputs: []string{"y"}, name: "n", op: "Clip", domain: "o"}},
			opsets: []*opset{{version: 21}},
		}},
		graph: &subgraph{
			name: "g",
			nodes: []*node{{op: "Loop", outputs: []string{"z"}, attributes: []*attribute{
				{name: "f", kind: attrFloat, float: 0},
				{name: "i", kind: attrInt, int: -1},
				{name: "s", kind: attrString, string: []byte("text")},
				{name: "t", kind: attrTensor, tensor: &tensor{elem: typeInt64, dims: []int64{0, 1 << 40}}},
				{name: "g", kind: attrGraph, graph: &subgraph{name: "body"}},
				{name: "is", kind: attrInts, ints: []int64{0, -1, 1 << 62}},
				{name: "ss", kind: attrStrings, strings: []string{"", "a"}},
				{name: "r", kind: attrInt, ref: "a"},
			}}},
			initializers: []*tensor{
				{name: "raw", elem: typeFloat, dims: []int64{1}, raw: []byte{1, 2, 3, 4}},
				{name: "far", elem: typeBfloat16, dims: []int64{2}, location: external, external: place{"file", 8, 4}.entries()},
			},
			inputs:  []*value{typed("x", typeInt64, &dim{symbol: "batch"}, sized(0), &dim{}), {name: "untyped"}},
			outputs: []*value{typed("scalar", typeFloat)},
			values:  []*value{typed("v", typeBool, sized(3))},
		},
	}
}

func TestWireRoundTrip(t *testing.T) {
	want := sample()
	got := &model{}
	if err := decode(encode(want), got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(normal(got), normal(want)) {
		t.Errorf("got %+v", got)
	}
	if !bytes.Equal(encode(got), encode(want)) {
		t.Error("written again, the bytes differ")
	}
}

// normal is m with its one scalar shape as decoded: DeepEqual tells a nil list
// from an empty one.
func normal(m *model) *model {
	for _, v := range m.graph.outputs {
		v.typ.tensor.shape.dims = nil
	}
	return m
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
			err := decode(tt.data, &model{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// Fields that are not known are passed over.
func TestWireSkipsTheUnknown(t *testing.T) {
	b := encode(sample())
	b = protowire.AppendBytes(protowire.AppendTag(b, 1000, protowire.BytesType), []byte("new"))
	b = protowire.AppendFixed64(protowire.AppendTag(b, 1001, protowire.Fixed64Type), 7)
	b = protowire.AppendGroup(protowire.AppendTag(b, 1002, protowire.StartGroupType), 1002, nil)
	got := &model{}
	if err := decode(b, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encode(got), encode(sample())) {
		t.Error("what is known was not read")
	}
}

// Lists of numbers may come packed.
func TestWireReadsPackedInts(t *testing.T) {
	packed := protowire.AppendVarint(protowire.AppendVarint(nil, 3), 1<<40)
	b := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), packed)
	got := &tensor{}
	if err := decode(b, got); err != nil || !reflect.DeepEqual(got.dims, []int64{3, 1 << 40}) {
		t.Errorf("got %v, %v", got.dims, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(sample()))
	f.Add([]byte{0x3a, 2, 0x0a, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &model{}
		if decode(data, m) != nil {
			return
		}
		again := &model{}
		if err := decode(encode(m), again); err != nil {
			t.Fatalf("what was read and written does not read: %v", err)
		}
		if !bytes.Equal(encode(again), encode(m)) {
			t.Fatal("written twice, the bytes differ")
		}
	})
}
