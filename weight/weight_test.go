package weight_test

import (
	"slices"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/float"
	"ossify/graph"
	"ossify/weight"
)

// params are one of each kind: a matrix, a vector, experts.
func params() []graph.Param {
	return []graph.Param{
		{Name: "m", Shape: graph.Shape{3, 4}, Storage: graph.BF16},
		{Name: "v", Shape: graph.Shape{5}, Storage: graph.BF16},
		{Name: "x", Shape: graph.Shape{2, 3, 64}, Storage: graph.MXFP4},
	}
}

func tensor(name string, kind checkpoint.DType, shape ...int) checkpoint.Tensor {
	n, _ := checkpoint.Entry{Name: name, Type: kind, Shape: shape}.Bytes()
	t := checkpoint.Tensor{Name: name, Type: kind, Shape: shape, Data: make([]byte, n)}
	for i := range t.Data {
		t.Data[i] = byte(i*37) & 0x7f // no NaN in any type
	}
	return t
}

func sources() [][]weight.Source {
	return [][]weight.Source{
		{{Data: tensor("m.0", checkpoint.BF16, 1, 4)}, {Data: tensor("m.1", checkpoint.BF16, 2, 4)}},
		{{Data: tensor("v.0", checkpoint.F32, 2)}, {Data: tensor("v.1", checkpoint.F32, 3)}},
		{{Data: tensor("x.blocks", checkpoint.U8, 2, 3, 2, 16), Scales: tensor("x.scales", checkpoint.U8, 2, 3, 2)}},
	}
}

func set(t *testing.T) *weight.Set {
	t.Helper()
	s, err := weight.New(params(), sources(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Every mistake is said by the parameter's name, all at once.
func TestNewRefuses(t *testing.T) {
	cut := func(x *checkpoint.Tensor) { x.Data = x.Data[1:] }
	tests := []struct {
		name string
		edit func(s [][]weight.Source) [][]weight.Source
		want []string // lines, without "weight: "
	}{
		{"a parameter too few", func(s [][]weight.Source) [][]weight.Source { return s[1:] }, []string{"sources of 2 parameters, want 3"}},
		{"no tensor", func(s [][]weight.Source) [][]weight.Source { s[1] = nil; return s }, []string{"v: no tensor"}},
		{"a row too few", func(s [][]weight.Source) [][]weight.Source { s[0] = s[0][1:]; return s }, []string{"m: 2 rows, want [3, 4]"}},
		{"an odd type", func(s [][]weight.Source) [][]weight.Source { s[1][0].Data.Type = checkpoint.F64; return s }, []string{"v: tensor v.0 is F64, want BF16 or F32, all the same"}},
		{"two types", func(s [][]weight.Source) [][]weight.Source {
			s[1][1].Data = tensor("v.1", checkpoint.BF16, 3)
			return s
		}, []string{"v: tensor v.1 is BF16, want BF16 or F32, all the same"}},
		{"a float32 matrix", func(s [][]weight.Source) [][]weight.Source {
			s[0] = []weight.Source{{Data: tensor("m", checkpoint.F32, 3, 4)}}
			return s
		}, []string{"m: tensor m is F32, want BF16"}},
		{"other columns", func(s [][]weight.Source) [][]weight.Source { s[0][1].Data.Shape = []int{4, 2}; return s }, []string{"m: tensor m.1 is [4, 2], want rows of [3, 4]"}},
		{"rows below none", func(s [][]weight.Source) [][]weight.Source { s[0][1].Data.Shape = []int{-2, 4}; return s }, []string{"m: tensor m.1 is [-2, 4], want rows of [3, 4]"}},
		{"a byte short", func(s [][]weight.Source) [][]weight.Source { cut(&s[0][1].Data); return s }, []string{"m: tensor m.1: 15 bytes for BF16 [2, 4], want 16"}},
		{"blocks a byte short", func(s [][]weight.Source) [][]weight.Source { cut(&s[2][0].Data); return s }, []string{"x: tensor x.blocks: 191 bytes for U8 [2, 3, 2, 16], want 192"}},
		{"scales missing", func(s [][]weight.Source) [][]weight.Source {
			s[2][0].Scales = checkpoint.Tensor{}
			return s
		}, []string{"x: tensor  is no dtype [], want U8 [2, 3, 2]"}},
		{"scales of another shape", func(s [][]weight.Source) [][]weight.Source { s[2][0].Scales.Shape = []int{12}; return s }, []string{"x: tensor x.scales is U8 [12], want U8 [2, 3, 2]"}},
		{"blocks in two", func(s [][]weight.Source) [][]weight.Source { s[2] = append(s[2], s[2][0]); return s }, []string{"x: 2 tensors of blocks, want one: an expert's rows lie together"}},
		{"scales of bfloat16", func(s [][]weight.Source) [][]weight.Source { s[0][0].Scales = s[2][0].Scales; return s }, []string{"m: tensor m.0 has scales, want none for BF16"}},
		{"two at once", func(s [][]weight.Source) [][]weight.Source { s[0], s[1] = nil, nil; return s }, []string{"m: no tensor", "v: no tensor"}},
	}
	for _, tt := range tests {
		_, err := weight.New(params(), tt.edit(sources()), nil)
		if want := "weight: " + strings.Join(tt.want, "\nweight: "); err == nil || err.Error() != want {
			t.Errorf("%s: got %v\nwant %s", tt.name, err, want)
		}
	}
}

// Rows are read across sources, exactly.
func TestRows(t *testing.T) {
	s := set(t)
	in := sources()
	var m, v, x []float32
	for _, from := range in[0] {
		m = append(m, float.BF16Bytes(from.Data.Data)...)
	}
	for _, from := range in[1] {
		f, err := from.Data.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		v = append(v, f...)
	}
	x = make([]float32, 6*64)
	float.DecodeMXFP4(x, in[2][0].Data.Data, in[2][0].Scales.Data)
	for p, want := range [][]float32{m, v, x} {
		cols := weight.Columns(params()[p])
		var got []float32
		for i := range weight.Rows(params()[p]) {
			row, wide := make([]float32, cols), make([]float64, cols)
			s.Row32(p, i, row)
			s.Row(p, i, wide)
			for j := range row {
				if float64(row[j]) != wide[j] {
					t.Errorf("%s: row %d: %g and %g", params()[p].Name, i, row[j], wide[j])
				}
			}
			got = append(got, row...)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v\nwant %v", params()[p].Name, got, want)
		}
	}
	if !slices.Equal(s.Vector(1), v) {
		t.Errorf("got %v, want %v", s.Vector(1), v)
	}
	if r := s.Sources(0); r[0].Rows != 1 || r[1].Rows != 2 || s.Sources(2)[0].Rows != 6 {
		t.Errorf("rows of sources: %d and %d of m, %d of x", r[0].Rows, r[1].Rows, s.Sources(2)[0].Rows)
	}
}

// An edit gets a parameter whole, and changes nothing of the set it comes from.
func TestEdited(t *testing.T) {
	s := set(t)
	row := func(s *weight.Set, p, i int) []float64 {
		v := make([]float64, weight.Columns(params()[p]))
		s.Row(p, i, v)
		return v
	}
	before := row(s, 0, 2)
	e := s.Edited(func(p graph.Param, data, scales []byte) bool {
		switch p.Name {
		case "m":
			clear(data[2*2*4:]) // the last row
			return true
		case "x":
			clear(data)
			return false // but keeps it to itself
		}
		return false
	})
	if got := row(e, 0, 2); !slices.Equal(got, make([]float64, 4)) {
		t.Errorf("edited: %v, want zeros", got)
	}
	if got := row(s, 0, 2); !slices.Equal(got, before) {
		t.Errorf("the set that was edited from: %v, want %v", got, before)
	}
	if !slices.Equal(row(e, 2, 4), row(s, 2, 4)) || !slices.Equal(row(e, 0, 0), row(s, 0, 0)) {
		t.Error("what was not changed is not in place")
	}
	if n := len(e.Sources(0)); n != 1 || e.Sources(0)[0].Rows != 3 {
		t.Errorf("%d sources of m, want one of 3 rows", n)
	}
	if _, err := weight.New(params(), [][]weight.Source{e.Sources(0), e.Sources(1), e.Sources(2)}, nil); err != nil {
		t.Errorf("what Edited returns is not a valid set: %v", err)
	}
}

func TestFits(t *testing.T) {
	s := set(t)
	if err := s.Fits(params()); err != nil {
		t.Error(err)
	}
	other := params()
	other[1].Shape = graph.Shape{6}
	if err := s.Fits(other); err == nil || err.Error() != "weight: parameter 1 is v, BF16 [5], want v, BF16 [6]" {
		t.Error(err)
	}
	if err := s.Fits(other[1:]); err == nil || err.Error() != "weight: a set of 3 parameters, want one of 2" {
		t.Error(err)
	}
}

// A scale of 255 is named by its indices; 254 may be.
func TestCheck(t *testing.T) {
	in := sources()
	in[2][0].Scales.Data[7] = 254
	s, err := weight.New(params(), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	in[2][0].Scales.Data[9] = 255
	if err := s.Check(t.Context()); err == nil || !strings.HasSuffix(err.Error(), "x.scales: scale 255, which is NaN, at [1 1 1], want at most 254") {
		t.Error(err)
	}
}
