package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// sample holds one tensor of every kind of shape, in an order of its own.
func sample() []Tensor {
	return []Tensor{
		{Name: "matrix", Type: F32, Shape: []int{2, 3}, Data: bytes.Repeat([]byte{0, 0, 128, 63}, 6)},
		{Name: "vector", Type: BF16, Shape: []int{3}, Data: []byte{128, 63, 0, 64, 64, 192}},
		{Name: "scalar", Type: I64, Shape: []int{}, Data: []byte{254, 255, 255, 255, 255, 255, 255, 255}},
		{Name: "empty", Type: F64, Shape: []int{0, 7}, Data: []byte{}},
		{Name: "odd", Type: U8, Shape: []int{5}, Data: []byte{1, 2, 3, 4, 5}},
	}
}

// sameTensors compares all but the place.
func sameTensors(t *testing.T, got, want []Tensor) {
	t.Helper()
	want = slices.SortedFunc(slices.Values(want), func(a, b Tensor) int { return strings.Compare(a.Name, b.Name) })
	if len(got) != len(want) {
		t.Fatalf("%d tensors, want %d", len(got), len(want))
	}
	for i, w := range want {
		if g := got[i]; g.Name != w.Name || g.Type != w.Type || !slices.Equal(g.Shape, w.Shape) || !bytes.Equal(g.Data, w.Data) {
			t.Errorf("%+v, want %+v", g, w)
		}
	}
}

func save(t *testing.T, path string, tensors []Tensor, metadata map[string]string) {
	t.Helper()
	if err := Save(path, tensors, metadata); err != nil {
		t.Fatal(err)
	}
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sample.safetensors")
	metadata := map[string]string{"format": "pt", "who": "a <name> & \"quotes\",\né \u2028"}
	save(t, path, sample(), metadata)
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !maps.Equal(f.Metadata(), metadata) {
		t.Errorf("metadata %v, want %v", f.Metadata(), metadata)
	}
	sameTensors(t, f.Tensors(), sample())
	disk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range f.Tensors() {
		got, ok := f.Tensor(want.Name)
		if !ok || got.Offset != want.Offset || got.File != "sample.safetensors" {
			t.Errorf("Tensor(%q): %+v, %v", want.Name, got, ok)
		}
		if !bytes.Equal(disk[want.Offset:want.Offset+int64(len(want.Data))], want.Data) {
			t.Errorf("%s: its bytes are not at offset %d of the file", want.Name, want.Offset)
		}
		if cap(want.Data) != len(want.Data) {
			t.Errorf("%s: an append would write into the map", want.Name)
		}
	}
	if _, ok := f.Tensor("none"); ok {
		t.Error("found a tensor that is not there")
	}
	if f.Size() != int64(len(disk)) || f.Path() != path {
		t.Errorf("size %d of %s, want %d of %s", f.Size(), f.Path(), len(disk), path)
	}
	if (binary.LittleEndian.Uint64(disk)+8)%8 != 0 {
		t.Errorf("data starts at %d, want a multiple of 8", binary.LittleEndian.Uint64(disk)+8)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestEmptyFile(t *testing.T) {
	for _, metadata := range []map[string]string{nil, {}, {"a": "b"}} {
		path := filepath.Join(t.TempDir(), "x.safetensors")
		save(t, path, nil, metadata)
		f, err := OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Tensors()) != 0 || !maps.Equal(f.Metadata(), metadata) || (f.Metadata() == nil) != (metadata == nil) {
			t.Errorf("%v and %v, want no tensors and %v", f.Tensors(), f.Metadata(), metadata)
		}
		f.Close()
	}
}

// python.safetensors comes from the Python package (testdata/README.md).
// Element i of each of its tensors is i - 2, as far as the type can hold that.
func TestReadsWhatPythonWrote(t *testing.T) {
	f, err := OpenFile("testdata/python.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if want := map[string]string{"format": "pt"}; !maps.Equal(f.Metadata(), want) {
		t.Errorf("metadata %v, want %v", f.Metadata(), want)
	}
	for _, want := range []struct {
		name  string
		kind  DType
		shape []int
		data  string // hexadecimal
	}{
		{"block.0.attn.qkv.weight", BF16, []int{2, 3}, "00c0 80bf 0000 803f 0040 4040"},
		{"block.10.mlp.mlp1_weight.blocks", U8, []int{1, 2, 1, 16}, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"},
		{"block.2.attn.sinks", BF16, []int{5}, "00c0 80bf 0000 803f 0040"},
		{"bool", BOOL, []int{3}, "01 00 01"},
		{"empty", F64, []int{0, 7}, ""},
		{"f16", F16, []int{3}, "00c0 00bc 0000"},
		{"f32", F32, []int{4, 1}, "000000c0 000080bf 00000000 0000803f"},
		{"f64", F64, []int{3}, "00000000000000c0 000000000000f0bf 0000000000000000"},
		{"i16", I16, []int{3}, "feff ffff 0000"},
		{"i32", I32, []int{3}, "feffffff ffffffff 00000000"},
		{"i64", I64, []int{3}, "feffffffffffffff ffffffffffffffff 0000000000000000"},
		{"i8", I8, []int{5}, "fe ff 00 01 02"},
		{`scalar "é"`, I64, []int{}, "feffffffffffffff"},
	} {
		got, ok := f.Tensor(want.name)
		data, err := hex.DecodeString(strings.ReplaceAll(want.data, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if !ok || got.Type != want.kind || !slices.Equal(got.Shape, want.shape) || !bytes.Equal(got.Data, data) {
			t.Errorf("%s: %v %v %x, want %v %v %x", want.name, got.Type, got.Shape, got.Data, want.kind, want.shape, data)
		}
	}
	if len(f.Tensors()) != 13 {
		t.Errorf("%d tensors, want 13", len(f.Tensors()))
	}
}

// In the order of Sort our bytes are those of Python's save_file.
func TestWritesWhatPythonWrites(t *testing.T) {
	f, err := OpenFile("testdata/python.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var entries []Entry
	for _, x := range f.Tensors() {
		entries = append(entries, x.Entry())
	}
	Sort(entries)
	var tensors []Tensor
	for _, e := range entries {
		x, _ := f.Tensor(e.Name)
		tensors = append(tensors, x)
	}
	path := filepath.Join(t.TempDir(), "ours.safetensors")
	save(t, path, tensors, f.Metadata())
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/python.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("wrote\n%q\nwant\n%q", got, want)
	}
}

func TestValues(t *testing.T) {
	f, err := OpenFile("testdata/python.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, x := range f.Tensors() {
		f32, err32 := x.Float32s()
		f64, err64 := x.Float64s()
		ints, errInt := x.Ints()
		if ok := x.Type == BF16 || x.Type == F32; ok != (err32 == nil) {
			t.Errorf("%v: Float32s: %v", x.Type, err32)
		}
		if ok := x.Type == BF16 || x.Type == F32 || x.Type == F64; ok != (err64 == nil) {
			t.Errorf("%v: Float64s: %v", x.Type, err64)
		}
		if ok := x.Type == I32 || x.Type == I64; ok != (errInt == nil) {
			t.Errorf("%v: Ints: %v", x.Type, errInt)
		}
		for _, err := range []error{err32, err64, errInt} {
			var u *UnsupportedError
			if err != nil && !errors.As(err, &u) {
				t.Errorf("%v: %T, want an UnsupportedError", err, err)
			}
		}
		for i, v := range f32 {
			if v != float32(i-2) {
				t.Errorf("%s: Float32s[%d] = %v, want %d", x.Name, i, v, i-2)
			}
		}
		for i, v := range f64 {
			if v != float64(i-2) {
				t.Errorf("%s: Float64s[%d] = %v, want %d", x.Name, i, v, i-2)
			}
		}
		for i, v := range ints {
			if v != i-2 {
				t.Errorf("%s: Ints[%d] = %v, want %d", x.Name, i, v, i-2)
			}
		}
		n, _ := x.Entry().Bytes()
		if err32 == nil && len(f32)*x.Type.Size() != int(n) || err64 == nil && len(f64)*x.Type.Size() != int(n) || errInt == nil && len(ints)*x.Type.Size() != int(n) {
			t.Errorf("%s: %d, %d and %d values of %d bytes", x.Name, len(f32), len(f64), len(ints), n)
		}
	}
}

func TestEntryBytes(t *testing.T) {
	for _, tt := range []struct {
		kind  DType
		shape []int
		want  int64
		ok    bool
	}{
		{F32, nil, 4, true},
		{BF16, []int{3, 5}, 30, true},
		{I64, []int{4, 0}, 0, true},
		{U8, []int{math.MaxInt}, math.MaxInt, true},
		{F64, []int{math.MaxInt32, math.MaxInt32, 2}, 0, false},
		{U8, []int{1 << 30, 1 << 30, 1 << 3}, 0, false},
		{U8, []int{1 << 30, 1 << 30, 1 << 4}, 0, false},
		{U8, []int{0, 1 << 30, 1 << 30, 1 << 4}, 0, false},
		{U8, []int{-1}, 0, false},
		{U8, []int{-1, -1}, 0, false},
		{0, []int{1}, 0, false},
		{U64 + 1, []int{1}, 0, false},
	} {
		if got, ok := (Entry{"x", tt.kind, tt.shape}).Bytes(); got != tt.want || ok != tt.ok {
			t.Errorf("%v %v: %d, %v, want %d, %v", tt.kind, tt.shape, got, ok, tt.want, tt.ok)
		}
	}
}

func TestDTypes(t *testing.T) {
	for d := BOOL; d <= U64; d++ {
		if got, ok := parseDType(d.String()); !ok || got != d || d.Size() < 1 {
			t.Errorf("%v: parsed as %v, %v; size %d", d, got, ok, d.Size())
		}
	}
	for _, s := range []string{"", "no dtype", "bf16", "F4", "F8_E4M3"} {
		if d, ok := parseDType(s); ok {
			t.Errorf("%q parsed as %v", s, d)
		}
	}
	if DType(0).Size() != 0 || DType(99).String() != "no dtype" {
		t.Error("an invalid type has a size or a name")
	}
}

// raw builds a file from its header's text and n bytes of data.
func raw(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

// badFiles are malformed or unsupported files, and what is said of them.
var badFiles = []struct {
	name        string
	data        []byte
	want        string // without "checkpoint: x.safetensors: "
	unsupported bool
}{
	{"no bytes", nil, "0 bytes, want at least 8", false},
	{"seven bytes", make([]byte, 7), "7 bytes, want at least 8", false},
	{"no header", raw("", 0), "header does not start with {", false},
	{"header of 2^63 bytes", append(binary.LittleEndian.AppendUint64(nil, 1<<63), "{}"...), "header of 9223372036854775808 bytes, want at most 100000000", false},
	{"header of 2^64-1 bytes", append(binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "{}"...), "header of 18446744073709551615 bytes, want at most 100000000", false},
	{"JSON", []byte(`{"model_type": "gpt_oss"}`), "JSON text, want a safetensors file", false},
	{"GGUF", []byte("GGUF\x03\x00\x00\x00\x00"), "a GGUF file, want a safetensors file", false},
	{"PyTorch", []byte("PK\x03\x04\x00\x00\x08\x08\x00"), "a zip archive, such as PyTorch writes, want a safetensors file", false},
	{"Git LFS", []byte("version https://git-lfs.github.com/spec/v1\n"), "a pointer of Git LFS, in place of the file itself, want a safetensors file", false},
	{"header beyond the cap", append(binary.LittleEndian.AppendUint64(nil, MaxHeader+1), "{}"...), "header of 100000001 bytes, want at most 100000000", false},
	{"header beyond the file", append(binary.LittleEndian.AppendUint64(nil, 3), "{}"...), "header of 3 bytes in a file of 10 bytes", false},
	{"space before the header", raw(" {}", 0), "header does not start with {", false},
	{"header is an array", raw("[]", 0), "header does not start with {", false},
	{"header cut off", raw(`{"a":{"dtype":"U8"`, 0), "a: JSON ends at byte 18, want its closing brace", false},
	{"header is not JSON", raw(`{"a":{"dtype":U8}}`, 0), `a: dtype: no JSON at byte 14: "U"`, false},
	{"comma before the brace", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},}`, 1), "header: } at byte 53, want a string", false},
	{"text after the header", raw(`{}x`, 0), "header: byte 0x78 after its closing brace, want spaces", false},
	{"newline after the header", raw("{}\n", 0), "header: byte 0x0a after its closing brace, want spaces", false},
	{"second object", raw(`{}{}`, 0), "header: byte 0x7b after its closing brace, want spaces", false},
	{"header is not UTF-8", raw("{\"a\xff\":{}}", 0), "header is not valid UTF-8", false},
	{"tensor twice", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), `header: key "a" appears twice`, false},
	{"tensor twice by escape", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), `header: key "a" appears twice`, false},
	{"field twice", raw(`{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), `a: key "dtype" appears twice`, false},
	{"metadata twice", raw(`{"__metadata__":{},"__metadata__":{}}`, 0), `header: key "__metadata__" appears twice`, false},
	{"metadata key twice", raw(`{"__metadata__":{"k":"1","k":"2"}}`, 0), `header: key "k" appears twice`, false},
	{"metadata is a number", raw(`{"__metadata__":{"k":1}}`, 0), `header: metadata "k": 1, want a string`, false},
	{"metadata is null", raw(`{"__metadata__":null}`, 0), `header: null, want {`, false},
	{"tensor is null", raw(`{"a":null}`, 0), "a: null, want {", false},
	{"tensor is a string", raw(`{"a":"b"}`, 0), `a: "b", want {`, false},
	{"unknown field", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"strides":[1]}}`, 1), `a: unknown field "strides", want dtype, shape and data_offsets`, false},
	{"missing dtype", raw(`{"a":{"shape":[1],"data_offsets":[0,1]}}`, 1), "a: 2 fields, want dtype, shape and data_offsets", false},
	{"missing shape", raw(`{"a":{"dtype":"U8","data_offsets":[0,1]}}`, 1), "a: 2 fields, want dtype, shape and data_offsets", false},
	{"missing offsets", raw(`{"a":{"dtype":"U8","shape":[1]}}`, 1), "a: 2 fields, want dtype, shape and data_offsets", false},
	{"unknown dtype", raw(`{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}`, 1), `a: dtype "F4", want one of BOOL U8 I8 I16 U16 F16 BF16 I32 U32 F32 F64 I64 U64`, true},
	{"empty dtype", raw(`{"a":{"dtype":"","shape":[],"data_offsets":[0,0]}}`, 0), `a: dtype "", want one of BOOL U8 I8 I16 U16 F16 BF16 I32 U32 F32 F64 I64 U64`, true},
	{"dtype is a number", raw(`{"a":{"dtype":2,"shape":[1],"data_offsets":[0,1]}}`, 1), "a: dtype: 2, want a string", false},
	{"wrong dtype", raw(`{"a":{"dtype":"BF16","shape":[65],"data_offsets":[0,128]}}`, 128), "a: 128 bytes at 0 for BF16 [65], want 130", false},
	{"wrong shape", raw(`{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,12]}}`, 12), "a: 12 bytes at 0 for F32 [2, 2], want 16", false},
	{"negative dimension", raw(`{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}`, 1), "a: shape: -1, want a whole number from 0 to 2^63-1", false},
	{"two negative dimensions", raw(`{"a":{"dtype":"U8","shape":[-1,-1],"data_offsets":[0,1]}}`, 1), "a: shape: -1, want a whole number from 0 to 2^63-1", false},
	{"minus zero", raw(`{"a":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}`, 0), "a: shape: -0, want a whole number from 0 to 2^63-1", false},
	{"fraction", raw(`{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}`, 1), "a: shape: 1.0, want a whole number from 0 to 2^63-1", false},
	{"exponent", raw(`{"a":{"dtype":"U8","shape":[1e0],"data_offsets":[0,1]}}`, 1), "a: shape: 1e0, want a whole number from 0 to 2^63-1", false},
	{"dimension of 2^63", raw(`{"a":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1]}}`, 1), "a: shape: 9223372036854775808, want a whole number from 0 to 2^63-1", false},
	{"dimension is null", raw(`{"a":{"dtype":"U8","shape":[null],"data_offsets":[0,1]}}`, 1), "a: shape: null, want a whole number from 0 to 2^63-1", false},
	{"shape is nested", raw(`{"a":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}}`, 1), "a: shape: [ at byte 28, want a whole number from 0 to 2^63-1", false},
	{"shape is a number", raw(`{"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}}`, 1), "a: shape: 1, want [", false},
	{"product of 2^64", raw(`{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0), "a: the size of U8 [4294967296, 4294967296] overflows", false},
	{"product of 2^63, behind a zero", raw(`{"a":{"dtype":"F64","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}}`, 0), "a: the size of F64 [0, 4294967296, 4294967296] overflows", false},
	{"end before begin", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, 1), "a: data_offsets [1, 0] end before they begin", false},
	{"negative offset", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}`, 1), "a: data_offsets: -1, want a whole number from 0 to 2^63-1", false},
	{"one offset", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1]}}`, 1), "a: 1 data_offsets, want 2", false},
	{"truncated file", raw(`{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}`, 8), "a: data_offsets [0, 9] in a file with 8 bytes of data", false},
	{"offsets beyond int64", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551615,18446744073709551616]}}`, 1), "a: data_offsets: 18446744073709551615, want a whole number from 0 to 2^63-1", false},
	{"overlap", raw(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}`, 7), "b: data begins at 3, overlapping a, which ends at 4", false},
	{"same span twice", raw(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 4), "b: data begins at 0, overlapping a, which ends at 4", false},
	{"empty tensor inside another", raw(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}}`, 4), "b: data begins at 2, overlapping a, which ends at 4", false},
	{"gap", raw(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}}`, 9), "b: data begins at 5, leaving a gap of 1 bytes after 4", false},
	{"gap at the start", raw(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}}`, 5), "a: data begins at 1, leaving a gap of 1 bytes after 0", false},
	{"trailing data", raw(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 5), "1 bytes of data follow the last tensor, want 0", false},
	{"name with a newline", raw("{\"a\\nb\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,5]}}", 5), `"a\nb": 5 bytes at 0 for U8 [4], want 4`, false},
	{"very long name", raw(`{"`+strings.Repeat("n", 1e6)+`":1}`, 0), strings.Repeat("n", 200) + "...: 1, want {", false},
}

func TestBadFiles(t *testing.T) {
	for _, tt := range badFiles {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.safetensors")
			write(t, path, string(tt.data))
			f, err := OpenFile(path)
			if err == nil {
				t.Fatalf("accepted: %+v", f.Tensors())
			}
			checkError(t, err, "checkpoint: x.safetensors: "+tt.want, tt.unsupported)
		})
	}
}

// checkError demands the one line, and the error's kind.
func checkError(t *testing.T, err error, want string, wantUnsupported bool) {
	t.Helper()
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	var f *FormatError
	var u *UnsupportedError
	if errors.As(err, &f) == wantUnsupported || errors.As(err, &u) != wantUnsupported {
		t.Errorf("%v is a %T", err, err)
	}
}

func TestGoodHeaders(t *testing.T) {
	for _, tt := range []struct {
		name string
		data []byte
		want int // tensors
	}{
		{"padded with spaces", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}       `, 1), 1},
		{"not aligned", raw(`{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}`, 8), 1},
		{"white space within", raw("{ \"a\" :\n{\t\"shape\":[ 1 ], \"data_offsets\":[0 ,1],\"dtype\":\"U8\"} }", 1), 1},
		{"empty tensors between others", raw(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[0],"data_offsets":[4,4]},"c":{"dtype":"U8","shape":[1,0],"data_offsets":[4,4]},"d":{"dtype":"U8","shape":[],"data_offsets":[4,5]}}`, 5), 4},
		{"not in the order of offsets", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 2), 2},
		{"nothing", raw(`{}`, 0), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.safetensors")
			write(t, path, string(tt.data))
			f, err := OpenFile(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if len(f.Tensors()) != tt.want {
				t.Errorf("%d tensors, want %d", len(f.Tensors()), tt.want)
			}
		})
	}
}

func TestOpenFileRefusesOtherThings(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenFile(filepath.Join(dir, "none.safetensors")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v, want ErrNotExist", err)
	}
	if _, err := OpenFile(dir); err == nil || !strings.HasSuffix(err.Error(), ": not a regular file") {
		t.Errorf("folder: %v", err)
	}
}

// Whatever is accepted satisfies what the package promises, and comes back from
// our own header.
func FuzzHeader(f *testing.F) {
	for _, tt := range badFiles {
		f.Add(tt.data)
	}
	python, err := os.ReadFile("testdata/python.safetensors")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(python)
	f.Add(raw(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"b":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}}`, 4))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := ParseFile("x", data)
		if err != nil {
			var fe *FormatError
			var ue *UnsupportedError
			if !errors.As(err, &fe) && !errors.As(err, &ue) {
				t.Errorf("%v is a %T", err, err)
			}
			if s := err.Error(); strings.ContainsAny(s, "\n\r") || len(s) > 2000 {
				t.Errorf("message of %d bytes: %q", len(s), s)
			}
			return
		}
		checkInvariants(t, file)
		again, err := encodeHeader("x", entriesByOffset(file), file.metadata)
		if err != nil {
			t.Fatalf("own header: %v", err)
		}
		base := len(data) - int(dataSize(file))
		copied, err := ParseFile("x", append(again, data[base:]...))
		if err != nil {
			t.Fatalf("own header refused: %v\n%s", err, again)
		}
		sameTensors(t, copied.tensors, file.tensors)
		if !maps.Equal(copied.metadata, file.metadata) {
			t.Errorf("metadata %v, want %v", copied.metadata, file.metadata)
		}
	})
}

func dataSize(f *File) (n int64) {
	for _, t := range f.tensors {
		n += int64(len(t.Data))
	}
	return n
}

func entriesByOffset(f *File) []Entry {
	order := slices.Clone(f.tensors)
	slices.SortStableFunc(order, func(a, b Tensor) int {
		if a.Offset != b.Offset {
			return int(a.Offset - b.Offset)
		}
		return len(a.Data) - len(b.Data)
	})
	var entries []Entry
	for _, t := range order {
		entries = append(entries, t.Entry())
	}
	return entries
}

func checkInvariants(t *testing.T, f *File) {
	t.Helper()
	covered := make([]int, f.size)
	for i, x := range f.tensors {
		if i > 0 && f.tensors[i-1].Name >= x.Name {
			t.Errorf("%q before %q", f.tensors[i-1].Name, x.Name)
		}
		n, ok := x.Entry().Bytes()
		if !ok || n != int64(len(x.Data)) {
			t.Errorf("%q: %d bytes, %v, for %v %v", x.Name, len(x.Data), ok, x.Type, x.Shape)
		}
		for j := range x.Data {
			covered[x.Offset+int64(j)]++
		}
	}
	start := int(f.size - dataSize(f))
	for i, n := range covered {
		if want := min(1, max(0, i-start+1)); n != want {
			t.Fatalf("byte %d of %d belongs to %d tensors, want %d", i, f.size, n, want)
		}
	}
}

func ExampleOpenFile() {
	f, err := OpenFile("testdata/python.safetensors")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close()
	t, _ := f.Tensor("block.2.attn.sinks")
	values, err := t.Float32s()
	fmt.Println(t.Type, t.Shape, values, err)
	// Output: BF16 [5] [-2 -1 0 1 2] <nil>
}

// Many tensors take memory in proportion to the header.
func TestManyTensors(t *testing.T) {
	const n = 100_000
	header := []byte{'{'}
	for i := range n {
		header = fmt.Appendf(header, `"t%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},`, i)
	}
	header[len(header)-1] = '}'
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	tensors, _, err := parseHeader("x", header, 0, 0)
	runtime.ReadMemStats(&after)
	if err != nil || len(tensors) != n {
		t.Fatalf("%d tensors, %v", len(tensors), err)
	}
	// A Tensor takes 104 bytes, an entry 60; the set of names as much again.
	if used := after.TotalAlloc - before.TotalAlloc; used > 8*uint64(len(header)) {
		t.Errorf("%d bytes for a header of %d, want at most 8 times as many", used, len(header))
	}
}

// A file in memory is read as one on disk; what is cut is refused in the same
// words.
func TestParseFile(t *testing.T) {
	path := "testdata/python.safetensors"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	memory, err := ParseFile("python.safetensors", data)
	if err != nil {
		t.Fatal(err)
	}
	sameTensors(t, memory.Tensors(), disk.Tensors())
	if memory.Size() != disk.Size() || memory.Path() != "" || !maps.Equal(memory.Metadata(), disk.Metadata()) {
		t.Errorf("size %d, path %q, metadata %v", memory.Size(), memory.Path(), memory.Metadata())
	}
	if err := memory.Close(); err != nil || len(memory.Tensors()) > 0 {
		t.Errorf("closed: %v, %d tensors", err, len(memory.Tensors()))
	}
	for _, n := range []int{0, 7, 8, 100, len(data) - 1} {
		cut := filepath.Join(t.TempDir(), "cut.safetensors")
		write(t, cut, string(data[:n]))
		_, want := OpenFile(cut)
		_, got := ParseFile("cut.safetensors", data[:n])
		if want == nil || got == nil || got.Error() != want.Error() {
			t.Errorf("%d bytes: %v, want %v", n, got, want)
		}
	}
}
