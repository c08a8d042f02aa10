package parity

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/internal/fileset"
)

func i32s(v ...int32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, uint32(x))
	}
	return b
}

// sound returns the tensors and metadata of a good trace: 3 tokens, of which
// two rows are kept.
func sound() ([]checkpoint.Tensor, map[string]string) {
	return []checkpoint.Tensor{
		{Name: "tokens", Type: checkpoint.I32, Shape: []int{3}, Data: i32s(7, 0, 9)},
		{Name: "positions", Type: checkpoint.I32, Shape: []int{2}, Data: i32s(0, 2)},
		{Name: "b.attn.norm", Type: checkpoint.BF16, Shape: []int{2, 2}, Data: []byte{128, 63, 0, 64, 192, 127, 0, 0}}, // 1 2 NaN 0
		{Name: "b.attn.v", Type: checkpoint.BF16, Shape: []int{3, 1}, Data: []byte{128, 63, 0, 64, 64, 64}},            // 1 2 3
		{Name: "b.experts", Type: checkpoint.I32, Shape: []int{2, 2}, Data: i32s(1, 0, 3, 2)},
	}, map[string]string{"format": Format, "precision": "bf16"}
}

func TestOpenTrace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.safetensors")
	tensors, meta := sound()
	if err := checkpoint.Save(path, tensors, meta); err != nil {
		t.Fatal(err)
	}
	x, err := OpenTrace(path)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if !slices.Equal(x.Tokens(), []uint32{7, 0, 9}) || !slices.Equal(x.Positions(), []int{0, 2}) || x.Precision() != checkpoint.BF16 || len(x.Stages()) != 3 {
		t.Errorf("%v %v %v %v", x.Tokens(), x.Positions(), x.Precision(), x.Stages())
	}
	norm, _ := x.Stage("b.attn.norm")
	if v := norm.Float64s(); len(v) != 4 || v[1] != 2 || !math.IsNaN(v[2]) || norm.Width() != 2 || norm.Indices() {
		t.Errorf("norm: %v", v)
	}
	v, _ := x.Stage("b.attn.v")
	if got := At(v.Float64s(), v.Width(), []int{0, 1, 2}, x.Positions()); !slices.Equal(got, []float64{1, 3}) {
		t.Errorf("v at %v: %v", x.Positions(), got)
	}
	experts, _ := x.Stage("b.experts")
	if got := experts.Float64s(); !experts.Indices() || !slices.Equal(got, []float64{1, 0, 3, 2}) {
		t.Errorf("experts: %v", got)
	}
	if _, ok := x.Stage("tokens"); ok {
		t.Error("tokens are no stage")
	}
}

func TestOpenTraceRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(tensors []checkpoint.Tensor, meta map[string]string) []checkpoint.Tensor
		want string
	}{
		{"no format", func(x []checkpoint.Tensor, m map[string]string) []checkpoint.Tensor { delete(m, "format"); return x }, `format "", want "ossify-trace-1"`},
		{"another format", func(x []checkpoint.Tensor, m map[string]string) []checkpoint.Tensor {
			m["format"] = "ossify-trace-2"
			return x
		}, `format "ossify-trace-2", want "ossify-trace-1"`},
		{"no precision", func(x []checkpoint.Tensor, m map[string]string) []checkpoint.Tensor { delete(m, "precision"); return x }, `precision "", want bf16, f32 or f64`},
		{"line break in the precision", func(x []checkpoint.Tensor, m map[string]string) []checkpoint.Tensor {
			m["precision"] = "bf\n16"
			return x
		}, `precision "bf?16", want bf16, f32 or f64`},
		{"no tokens", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor { return x[1:] }, "tokens: missing, want an I32 vector"},
		{"empty tokens", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor {
			x[0].Shape, x[0].Data = []int{0}, nil
			return x
		}, "tokens: empty, want one or more"},
		{"tokens of floats", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor {
			x[0].Type = checkpoint.F32
			return x
		}, "tokens: F32 of shape [3], want an I32 vector"},
		{"matrix of tokens", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor {
			x[0].Shape = []int{3, 1}
			return x
		}, "tokens: I32 of shape [3 1], want an I32 vector"},
		{"negative token", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor {
			x[0].Data = i32s(7, -1, 9)
			return x
		}, "tokens: -1 at 1, want 0 or more"},
		{"no positions", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor { return slices.Delete(x, 1, 2) }, "positions: missing, want an I32 vector"},
		{"position beyond the tokens", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor {
			x[1].Data = i32s(0, 3)
			return x
		}, "positions: 3 at 1, want below 3, the number of tokens"},
		{"position twice", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor {
			x[1].Data = i32s(2, 2)
			return x
		}, "positions: 2 after 2, want them rising"},
		{"positions falling", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor {
			x[1].Data = i32s(2, 0)
			return x
		}, "positions: 0 after 2, want them rising"},
		{"steps elsewhere", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor {
			return append(x, checkpoint.Tensor{Name: "steps", Type: checkpoint.I32, Shape: []int{1}, Data: i32s(1)})
		}, "steps: 1 at 0, want them rising and among the positions"},
		{"steps twice", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor {
			return append(x, checkpoint.Tensor{Name: "steps", Type: checkpoint.I32, Shape: []int{2}, Data: i32s(2, 2)})
		}, "steps: 2 at 1, want them rising and among the positions"},
		{"steps that are numbers", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor {
			return append(x, checkpoint.Tensor{Name: "steps", Type: checkpoint.BF16, Shape: []int{2}, Data: make([]byte, 4)})
		}, "steps: BF16 of shape [2], want an I32 vector"},
		{"rows of steps that are not there", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor {
			return append(x, checkpoint.Tensor{Name: "b.attn.sdpa.scores", Type: checkpoint.BF16, Shape: []int{1, 2}, Data: make([]byte, 4)})
		}, "b.attn.sdpa.scores: shape [1 2], want 2 rows of one or more columns, or all 3"},
		{"stage of another precision", func(x []checkpoint.Tensor, m map[string]string) []checkpoint.Tensor {
			m["precision"] = "f32"
			return x
		}, "b.attn.norm: BF16 values in a trace of precision f32, want F32 or I32"},
		{"row missing", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor {
			x[2].Shape, x[2].Data = []int{1, 2}, x[2].Data[:4]
			return x
		}, "b.attn.norm: shape [1 2], want 2 rows of one or more columns, or all 3"},
		{"no columns", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor {
			x[2].Shape, x[2].Data = []int{2, 0}, nil
			return x
		}, "b.attn.norm: shape [2 0], want 2 rows of one or more columns, or all 3"},
		{"vector", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor {
			x[2].Shape, x[2].Data = []int{2}, x[2].Data[:4]
			return x
		}, "b.attn.norm: shape [2], want 2 rows of one or more columns, or all 3"},
		{"negative expert", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor {
			x[4].Data = i32s(1, 0, -3, 2)
			return x
		}, "b.experts: -3 at 2, want 0 or more"},
		{"no stage", func(x []checkpoint.Tensor, _ map[string]string) []checkpoint.Tensor { return x[:2] }, "no stages, want one or more"},
	} {
		path := filepath.Join(t.TempDir(), "bad.safetensors")
		tensors, meta := sound()
		if err := checkpoint.Save(path, tt.edit(tensors, meta), meta); err != nil {
			t.Fatal(err)
		}
		x, err := OpenTrace(path)
		if want := "parity: bad.safetensors: " + tt.want; err == nil || err.Error() != want {
			t.Errorf("%s: got %v\nwant %s", tt.name, err, want)
		}
		if err == nil {
			x.Close()
		}
	}
	if _, err := OpenTrace(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: %v", err)
	}
}

func TestWriteTrace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "t.safetensors")
	for _, precision := range []string{"bf16", "f32", "f64"} {
		meta := map[string]string{"precision": precision, "who": "we"}
		set := fileset.New(t.Context(), fileset.Options{Ours: fileset.Any})
		w, err := CreateTrace(set, path, []uint32{7, 0, 9}, []int{0, 2}, []int{2}, []Layout{
			{Name: "b.attn.norm", Row: []int{2}}, {Name: "b.attn.v", Row: []int{1}, Whole: true},
			{Name: "b.attn.sdpa.scores", Row: []int{2, 3}, Step: true}, {Name: "b.experts", Row: []int{2}, Indices: true},
		}, meta)
		if err != nil {
			t.Fatal(err)
		}
		all, some := []int{0, 1, 2}, []int{0, 2}
		for _, err := range []error{
			w.Stage("b.attn.norm", all, []float64{1, 2, 3, 4, -0.5, math.Inf(1)}),
			w.Stage("b.attn.v", all, []float64{1, 2, 3}),
			w.Stage("b.attn.sdpa.scores", some, []float64{1, 0, 0, 1, 0, 0, 1, 2, 3, 4, 5, 6}),
			w.Stage("b.experts", some, []float64{1, 0, 3, 2}),
			w.Close(),
			set.Commit(),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		x, err := OpenTrace(path)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string][]float64{"b.attn.norm": {1, 2, -0.5, math.Inf(1)}, "b.attn.v": {1, 2, 3}, "b.attn.sdpa.scores": {1, 2, 3, 4, 5, 6}, "b.experts": {1, 0, 3, 2}} {
			if s, ok := x.Stage(name); !ok || !slices.Equal(s.Float64s(), want) {
				t.Errorf("%s: %s: %v, want %v", precision, name, s.Float64s(), want)
			}
		}
		if !slices.Equal(x.Steps(), []int{2}) {
			t.Errorf("steps at %v, want 2", x.Steps())
		}
		if want := map[string]string{"format": Format, "precision": precision, "who": "we"}; !maps.Equal(x.Metadata(), want) {
			t.Errorf("metadata %v, want %v", x.Metadata(), want)
		}
		x.Close()
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("%d files left, want one", len(list))
	}
}

func TestWriteTraceRefuses(t *testing.T) {
	layout := []Layout{{Name: "x", Row: []int{2}}, {Name: "y.attn.v", Row: []int{1}, Whole: true}}
	meta := map[string]string{"precision": "f32"}
	create := func(path string, tokens []uint32, positions []int, stages []Layout, meta map[string]string) error {
		set := fileset.New(t.Context(), fileset.Options{})
		defer set.Abort()
		_, err := CreateTrace(set, path, tokens, positions, nil, stages, meta)
		return err
	}
	stage := func(name string, at []int, values ...float64) func(string) error {
		return func(path string) error {
			set := fileset.New(t.Context(), fileset.Options{})
			defer set.Abort()
			w, err := CreateTrace(set, path, []uint32{1, 2, 3}, []int{1}, nil, layout, meta)
			if err != nil {
				return err
			}
			if name == "y.attn.v" {
				if err := w.Stage("x", []int{1}, []float64{1, 2}); err != nil {
					return err
				}
			}
			return w.Stage(name, at, values)
		}
	}
	for _, tt := range []struct {
		name string
		do   func(path string) error
		want string
	}{
		{"no precision", func(p string) error { return create(p, []uint32{1}, []int{0}, layout, nil) }, `parity: precision "", want bf16, f32 or f64`},
		{"no tokens", func(p string) error { return create(p, nil, []int{0}, layout, meta) }, "parity: t: no tokens, want one or more"},
		{"no positions", func(p string) error { return create(p, []uint32{1}, nil, layout, meta) }, "parity: t: no positions, want one or more"},
		{"no stages", func(p string) error { return create(p, []uint32{1}, []int{0}, nil, meta) }, "parity: t: no stages, want one or more"},
		{"position out of range", func(p string) error { return create(p, []uint32{1}, []int{1}, layout, meta) }, "parity: t: position 1 at 0, want them rising and below 1, the number of tokens"},
		{"token out of range", func(p string) error { return create(p, []uint32{1 << 31}, []int{0}, layout, meta) }, "parity: t: token 2147483648 at 0, want at most 2147483647"},
		{"steps elsewhere", func(p string) error {
			_, err := CreateTrace(fileset.New(t.Context(), fileset.Options{}), p, []uint32{1, 2}, []int{0}, []int{1}, layout, meta)
			return err
		}, "parity: t: steps at 1, want them rising and among the positions"},
		{"steps twice", func(p string) error {
			_, err := CreateTrace(fileset.New(t.Context(), fileset.Options{}), p, []uint32{1, 2}, []int{0}, []int{0, 0}, layout, meta)
			return err
		}, "parity: t: steps at 0, want them rising and among the positions"},
		{"stage out of turn", stage("z", []int{1}, 1, 2), "parity: t: z: not the next stage"},
		{"row missing", stage("x", []int{0, 2}, 1, 2, 3, 4), "parity: t: x: no row at position 1"},
		{"values missing", stage("x", []int{1}, 1), "parity: t: x: 1 values, want 1 rows of 2"},
		{"not all rows of v", stage("y.attn.v", []int{1}, 1), "parity: t: y.attn.v: no row at position 0"},
	} {
		dir := t.TempDir()
		if err := tt.do(filepath.Join(dir, "t")); err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
		if list, _ := os.ReadDir(dir); len(list) != 0 {
			t.Errorf("%s: left %v", tt.name, list)
		}
	}
}

// Whatever a file holds, opening it fails or gives a trace whose every stage
// can be read.
func FuzzOpenTrace(f *testing.F) {
	tensors, meta := sound()
	path := filepath.Join(f.TempDir(), "seed")
	if err := checkpoint.Save(path, tensors, meta); err != nil {
		f.Fatal(err)
	}
	seed, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(bytes.Replace(seed, []byte("BF16"), []byte(`I32"`), 1))
	f.Add(seed[:len(seed)-3])
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "x")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := OpenTrace(path)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			return
		}
		defer x.Close()
		for _, s := range x.Stages() {
			if n := len(s.Float64s()); n != s.Rows()*s.Width() || n == 0 || s.Rows() != len(x.Positions()) && s.Rows() != len(x.Tokens()) {
				t.Errorf("%q: %d values in %d rows of %d", s.Name, n, s.Rows(), s.Width())
			}
		}
		if last := x.Positions()[len(x.Positions())-1]; last >= len(x.Tokens()) {
			t.Errorf("position %d of %d tokens", last, len(x.Tokens()))
		}
	})
}
