package checkpoint

import (
	"bytes"
	"maps"
	"path/filepath"
	"slices"
	"testing"
)

// sample holds one tensor of every kind of shape.
func sample() []Tensor {
	return []Tensor{
		{Name: "matrix", Type: F32, Shape: []int{2, 3}, Data: bytes.Repeat([]byte{0, 0, 128, 63}, 6)},
		{Name: "vector", Type: BF16, Shape: []int{3}, Data: []byte{128, 63, 0, 64, 64, 192}},
		{Name: "scalar", Type: I64, Shape: []int{}, Data: []byte{254, 255, 255, 255, 255, 255, 255, 255}},
		{Name: "empty", Type: F64, Shape: []int{0, 7}, Data: []byte{}},
		{Name: "odd", Type: U8, Shape: []int{5}, Data: []byte{1, 2, 3, 4, 5}},
	}
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sample.safetensors")
	metadata := map[string]string{"format": "pt", "who": "a <name> & \"quotes\", é"}
	if err := Save(path, sample(), metadata); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !maps.Equal(f.Metadata(), metadata) {
		t.Errorf("metadata %v, want %v", f.Metadata(), metadata)
	}
	for _, want := range sample() {
		got, ok := f.Tensor(want.Name)
		if !ok || got.Type != want.Type || !slices.Equal(got.Shape, want.Shape) || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%s: %+v, want %+v", want.Name, got, want)
		}
	}
	if n := len(f.Tensors()); n != len(sample()) {
		t.Errorf("%d tensors, want %d", n, len(sample()))
	}
}
