package ortlib

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"ossify/float"
	"ossify/kernel"
)

func serial(n int, f func(i int)) {
	for i := range n {
		f(i)
	}
}

func concurrent(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}

func floatTensor(v []float32, shape ...int) Tensor {
	data := make([]byte, 4*len(v))
	float.EncodeF32(data, v)
	return Tensor{Float, shape, data}
}

func randomFloats(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// bf16 rounds v, and gives it as a tensor at an odd address.
func bf16(v []float32, shape ...int) Tensor {
	data := make([]byte, 2*len(v)+1)[1:]
	for i := range v {
		v[i] = float.RoundBF16(v[i])
		binary.LittleEndian.PutUint16(data[2*i:], float.ToBF16(v[i]))
	}
	return Tensor{Bfloat16, shape, data}
}

// oneShape is the shape of the only output.
func oneShape(f *Function, in []Tensor) ([]int, error) {
	shapes, err := f.Shapes(in)
	if err != nil {
		return nil, err
	}
	return shapes[0], nil
}

// close requires |got − want| ≤ 2⁻²⁰ Σ|terms|: what a float32 sum of up to 4096
// terms in 64 accumulators may be off by, and more.
func closeTo(t *testing.T, what string, got float32, want, terms float64) {
	t.Helper()
	if !(math.Abs(float64(got)-want) <= math.Ldexp(terms, -20)) {
		t.Fatalf("%s is %g, want %g within %g", what, got, want, math.Ldexp(terms, -20))
	}
}

// Linear is x·wᵀ + b, of one weight or of several runs of rows, for odd sizes.
func TestLinear(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	tests := []struct {
		lead    []int
		columns int
		rows    []int // of the weights
		biases  []int
	}{
		{[]int{1, 1}, 64, []int{192}, []int{192}},
		{[]int{2, 3}, 90, []int{7, 1, 33}, []int{7, 1, 33}},
		{[]int{1, 17}, 2880, []int{130}, nil},
		{[]int{5}, 1, []int{1}, []int{1}},
		{[]int{}, 33, []int{5}, []int{2, 3}},
		{[]int{0, 4}, 8, []int{3}, nil},
		{[]int{1, 2}, 256, []int{600, 5000}, []int{5600}},
	}
	for _, set := range kernel.All() {
		for _, tt := range tests {
			t.Run(fmt.Sprint(set.Name, tt), func(t *testing.T) {
				n, _ := Elements(tt.lead)
				x := randomFloats(r, n*tt.columns)
				in := []Tensor{floatTensor(x, append(slices.Clone(tt.lead), tt.columns)...)}
				var weights, biases []float32
				for _, rows := range tt.rows {
					w := randomFloats(r, rows*tt.columns)
					in, weights = append(in, bf16(w, rows, tt.columns)), append(weights, w...)
				}
				width := len(weights) / tt.columns
				for i, rows := range tt.biases {
					b := randomFloats(r, rows)
					if i%2 == 0 {
						in = append(in, bf16(b, rows))
					} else {
						in = append(in, floatTensor(b, rows))
					}
					biases = append(biases, b...)
				}
				f, err := NewLibrary(set).New("Linear", Attributes{})
				if err != nil {
					t.Fatal(err)
				}
				shape, err := oneShape(f, in)
				if err != nil || !slices.Equal(shape, append(slices.Clone(tt.lead), width)) {
					t.Fatalf("shape %v, %v", shape, err)
				}
				out, again := make([]float32, n*width), make([]float32, n*width)
				if err := f.Run(in, [][]float32{out}, concurrent); err != nil {
					t.Fatal(err)
				}
				if err := f.Run(in, [][]float32{again}, serial); err != nil || !slices.Equal(out, again) {
					t.Fatalf("another order gives other bits, %v", err)
				}
				for i := range n {
					for j := range width {
						want, terms := 0.0, 0.0
						if biases != nil {
							want = float64(biases[j])
							terms = math.Abs(want)
						}
						for c := range tt.columns {
							p := float64(x[i*tt.columns+c]) * float64(weights[j*tt.columns+c])
							want, terms = want+p, terms+math.Abs(p)
						}
						closeTo(t, fmt.Sprintf("row %d, column %d", i, j), out[i*width+j], want, terms)
					}
				}
			})
		}
	}
}

// expertInputs makes inputs of ExpertLinear; x has a row for each of the K
// experts if own.
func expertInputs(r *rand.Rand, lead []int, k, experts, strips, height, groups int, own bool) (in []Tensor, x, weights, biases []float32) {
	n, _ := Elements(lead)
	rows, columns := n, groups*float.BlockSize
	shape := append(slices.Clone(lead), columns)
	if own {
		rows, shape = n*k, append(slices.Clone(lead), k, columns)
	}
	x = randomFloats(r, rows*columns)
	idx := make([]byte, 8*n*k)
	for i := range n * k {
		binary.LittleEndian.PutUint64(idx[8*i:], uint64(r.IntN(experts)))
	}
	all := experts * strips * height
	blocks, scales := make([]byte, all*groups*float.BlockBytes+1)[1:], make([]byte, all*groups)
	for i := range blocks {
		blocks[i] = byte(r.Uint32())
	}
	for i := range scales {
		scales[i] = byte(120 + r.IntN(8))
	}
	weights = make([]float32, all*columns)
	for i := range all {
		float.DecodeMXFP4(weights[i*columns:][:columns], blocks[i*groups*float.BlockBytes:], scales[i*groups:][:groups])
	}
	biases = randomFloats(r, all)
	none := Tensor{Float, []int{0}, nil}
	in = []Tensor{
		{Int64, append(slices.Clone(lead), k), idx}, floatTensor(x, shape...),
		{Uint8, []int{experts * strips, height, groups, float.BlockBytes}, blocks}, {Uint8, []int{experts * strips, height, groups}, scales},
		none, none, bf16(biases, experts*strips, height),
	}
	return in, x, weights, biases
}

// ExpertLinear applies the experts of each row, in whatever strips they are.
func TestExpertLinear(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	tests := []struct {
		lead                               []int
		k, experts, strips, height, groups int
		own                                bool
	}{
		{[]int{1, 1}, 4, 8, 1, 128, 2, false},
		{[]int{1, 1}, 4, 32, 2, 60, 90, true},
		{[]int{2, 19}, 4, 8, 4, 33, 3, false},
		{[]int{3, 7}, 2, 5, 3, 1, 1, true},
		{[]int{9}, 1, 1, 1, 5, 5, false},
		{[]int{0, 3}, 4, 8, 1, 4, 1, false},
	}
	for _, set := range kernel.All() {
		for _, tt := range tests {
			t.Run(fmt.Sprint(set.Name, tt), func(t *testing.T) {
				in, x, weights, biases := expertInputs(r, tt.lead, tt.k, tt.experts, tt.strips, tt.height, tt.groups, tt.own)
				f, err := NewLibrary(set).New("ExpertLinear", Attributes{Experts: tt.experts})
				if err != nil {
					t.Fatal(err)
				}
				width, columns := tt.strips*tt.height, tt.groups*float.BlockSize
				shape, err := oneShape(f, in)
				if err != nil || !slices.Equal(shape, append(slices.Clone(in[0].Shape), width)) {
					t.Fatalf("shape %v, %v", shape, err)
				}
				n, _ := Elements(shape)
				out := make([]float32, n)
				for range 2 { // the second with memory of the first
					if err := f.Run(in, [][]float32{out}, concurrent); err != nil {
						t.Fatal(err)
					}
				}
				for i := range n / width {
					row := i
					if !tt.own {
						row = i / tt.k
					}
					e := int(binary.LittleEndian.Uint64(in[0].Data[8*i:]))
					for j := range width {
						want := float64(biases[e*width+j])
						terms := math.Abs(want)
						for c := range columns {
							p := float64(x[row*columns+c]) * float64(weights[(e*width+j)*columns+c])
							want, terms = want+p, terms+math.Abs(p)
						}
						closeTo(t, fmt.Sprintf("row %d, column %d", i, j), out[i*width+j], want, terms)
					}
				}
			})
		}
	}
}

// What a model says wrongly is refused, never computed.
func TestRefusals(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	x := floatTensor(randomFloats(r, 64), 1, 2, 32)
	w, b := bf16(randomFloats(r, 96), 3, 32), bf16(randomFloats(r, 3), 3)
	linear := func(in ...Tensor) []Tensor { return in }
	experts := func(edit func(in []Tensor)) []Tensor {
		in, _, _, _ := expertInputs(rand.New(rand.NewPCG(7, 8)), []int{1, 3}, 2, 4, 2, 5, 2, false)
		edit(in)
		return in
	}
	attend := func(edit func(in []Tensor)) []Tensor {
		in := newAttention(rand.New(rand.NewPCG(9, 10)), attentionCase{batch: 1, seq: 3, past: 5, kv: 2, group: 3, dim: 8, sinks: true}).inputs()
		edit(in)
		return in
	}
	tests := []struct {
		name string
		op   string
		in   []Tensor
		want string
	}{
		{"no inputs", "Linear", nil, "Linear of []"},
		{"no weight", "Linear", linear(x), "Linear of"},
		{"x of bfloat16", "Linear", linear(w, w), "want x float"},
		{"a scalar", "Linear", linear(floatTensor([]float32{1}), w), "want x float [.., D]"},
		{"no columns", "Linear", linear(floatTensor(nil, 2, 0), w), "want at least one column"},
		{"weights of float", "Linear", linear(x, floatTensor(randomFloats(r, 96), 3, 32)), "export with --weights bf16"},
		{"weights of other columns", "Linear", linear(x, bf16(randomFloats(r, 9), 3, 3)), "input 1 is bfloat16[3 3]"},
		{"a weight after a bias", "Linear", linear(x, w, b, w), "input 3"},
		{"too many biases", "Linear", linear(x, w, b, b), "biases of 6 columns for weights of 3"},
		{"bytes that are not there", "Linear", linear(x, Tensor{Bfloat16, []int{3, 32}, w.Data[2:]}), "input 1 is bfloat16[3 32], 190 bytes"},
		{"a negative dimension", "Linear", linear(Tensor{Float, []int{-1, 32}, nil}, w), "input 0"},
		{"more than memory", "Linear", linear(Tensor{Float, []int{math.MaxInt, math.MaxInt}, nil}, w), "input 0"},
		{"a type that is none", "Linear", linear(Tensor{99, []int{1}, []byte{1}}, w), "type 99"},
		{"five inputs", "ExpertLinear", experts(func([]Tensor) {})[:5], "ExpertLinear of 5 inputs"},
		{"an expert too many", "ExpertLinear", experts(func(in []Tensor) { in[0].Data[8] = 4 }), "expert 4 at 1, want 0 to 3"},
		{"a negative expert", "ExpertLinear", experts(func(in []Tensor) { in[0].Data[7] = 0x80 }), "at 0, want 0 to 3"},
		{"a scale that is NaN", "ExpertLinear", experts(func(in []Tensor) {
			for i := range in[3].Data {
				in[3].Data[i] = 255
			}
		}), "scale 255"},
		{"x of other rows", "ExpertLinear", experts(func(in []Tensor) { in[1].Shape = []int{3, 1, 64} }), "x float[3 1 64], want float [1 3 64] or [1 3 2 64]"},
		{"blocks of another shape", "ExpertLinear", experts(func(in []Tensor) { in[2].Shape = []int{8, 5, 1, 32} }), "blocks uint8[8 5 1 32], want uint8 [strips of 4 experts"},
		{"strips that experts do not divide", "ExpertLinear", experts(func(in []Tensor) { in[2].Shape = []int{5, 8, 2, 16} }), "blocks"},
		{"scales of another shape", "ExpertLinear", experts(func(in []Tensor) { in[3].Shape = []int{8, 10} }), "scales uint8[8 10], want uint8 [8 5 2]"},
		{"five inputs of attention", "Attend", attend(func([]Tensor) {})[:5], "Attend of 5 inputs"},
		{"queries of bfloat16", "Attend", attend(func(in []Tensor) { in[0].Type, in[0].Data = Bfloat16, in[0].Data[:len(in[0].Data)/2] }), "input 0"},
		{"queries of half a head", "Attend", attend(func(in []Tensor) { in[0].Shape = []int{1, 12, 12} }), "queries float[1 12 12], want a multiple of 2 heads of 8"},
		{"past keys of another batch", "Attend", attend(func(in []Tensor) { in[2].Shape = []int{2, 1, 5, 8} }), "past keys"},
		{"an odd width", "Attend", attend(func(in []Tensor) { in[2].Shape = []int{1, 16, 5, 1} }), "D even"},
		{"past values of another shape", "Attend", attend(func(in []Tensor) { in[4].Shape = []int{1, 5, 2, 8} }), "past values"},
		{"keys of another shape", "Attend", attend(func(in []Tensor) { in[1].Shape = []int{1, 1, 48} }), "keys float[1 1 48], want [1 3 16]"},
		{"values of another shape", "Attend", attend(func(in []Tensor) { in[3].Shape = []int{1, 16, 3} }), "values"},
		{"a mask of another shape", "Attend", attend(func(in []Tensor) { in[5].Shape = []int{1, 1, 1, 8, 3} }), "want [1, 1, 1, 3, 8]"},
		{"a mask of other values", "Attend", attend(func(in []Tensor) { in[5].Data[3] = 0xc0 }), "mask of row 0: "},
		{"sinks of other heads", "Attend", attend(func(in []Tensor) { in[6].Shape = []int{2, 3} }), "sinks"},
		{"a gate of nothing", "InterleavedSwiGLU", nil, "0 inputs, want 1"},
		{"a gate of a number", "InterleavedSwiGLU", []Tensor{floatTensor([]float32{1})}, "1 dimensions or more"},
		{"a gate of bfloat16", "InterleavedSwiGLU", []Tensor{bf16([]float32{1, 2}, 2)}, "want float"},
		{"a gate of half a pair", "InterleavedSwiGLU", []Tensor{floatTensor([]float32{1, 2, 3}, 3)}, "pairs"},
		{"a mix of one input", "Mix", []Tensor{floatTensor([]float32{1, 2}, 1, 2)}, "1 inputs, want 2"},
		{"a mix of a vector", "Mix", []Tensor{floatTensor([]float32{1}), floatTensor([]float32{1, 2}, 2)}, "2 dimensions or more"},
		{"a mix of other weights", "Mix", []Tensor{floatTensor([]float32{1, 2, 3}, 3), floatTensor(make([]float32, 8), 2, 4)}, "weights float[3], want float [2]"},
		{"biases of another shape", "ExpertLinear", experts(func(in []Tensor) { in[6].Shape = []int{40} }), "bias bfloat16[40], want bfloat16 [8 5]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := NewLibrary(kernel.Portable()).New(tt.op, Attributes{Experts: 4, Alpha: 1.702, Limit: 7})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Shapes(tt.in); err == nil || !strings.HasPrefix(err.Error(), "ossify: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err := f.Run(tt.in, nil, serial); err == nil {
				t.Error("it ran")
			}
		})
	}
	if _, err := NewLibrary(kernel.Portable()).New("Foo", Attributes{}); err == nil {
		t.Error("an unknown function")
	}
	if _, err := NewLibrary(kernel.Portable()).New("ExpertLinear", Attributes{}); err == nil {
		t.Error("no experts")
	}
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, a := range []Attributes{{}, {Alpha: 1}, {Alpha: 1, Limit: -7}, {Alpha: 1, Limit: inf}, {Alpha: 1, Limit: nan}, {Alpha: nan, Limit: 7}, {Alpha: -inf, Limit: 7}} {
		if _, err := NewLibrary(kernel.Portable()).New("InterleavedSwiGLU", a); err == nil {
			t.Errorf("%+v was taken", a)
		}
	}
	f, _ := NewLibrary(kernel.Portable()).New("Linear", Attributes{})
	if err := f.Run(linear(x, w), [][]float32{make([]float32, 5)}, serial); err == nil {
		t.Error("an output of another size")
	}
}

// Whatever types, shapes and bytes: an error, or a result.
func FuzzRun(f *testing.F) {
	f.Add(uint64(1), uint64(0))
	f.Fuzz(func(t *testing.T, seed, kind uint64) {
		r := rand.New(rand.NewPCG(seed, kind))
		in, _, _, _ := expertInputs(r, []int{1 + r.IntN(2), r.IntN(3)}, 1+r.IntN(3), 1+r.IntN(4), 1+r.IntN(2), 1+r.IntN(5), 1+r.IntN(2), r.IntN(2) == 0)
		name := "ExpertLinear"
		switch kind % 5 {
		case 0:
			name = "Linear"
			in = []Tensor{floatTensor(randomFloats(r, 6), 1, 2, 3), bf16(randomFloats(r, 12), 4, 3), bf16(randomFloats(r, 4), 4)}
		case 1:
			name = "Attend"
			in = newAttention(r, attentionCase{batch: 1 + r.IntN(2), seq: r.IntN(4), past: r.IntN(70), kv: 1 + r.IntN(2), group: 1 + r.IntN(3), dim: 2 + 2*r.IntN(9), sinks: r.IntN(2) == 0, holes: r.IntN(2) == 0}).inputs()
		case 2:
			name = "InterleavedSwiGLU"
			in = []Tensor{floatTensor(randomFloats(r, 48), 2, 3, 8)}
		case 3:
			name = "Mix"
			in = []Tensor{floatTensor(randomFloats(r, 6), 2, 3), floatTensor(randomFloats(r, 24), 2, 3, 4)}
		}
		for range r.IntN(3) {
			x := &in[r.IntN(len(in))]
			switch r.IntN(4) {
			case 0:
				x.Type = []Type{Float, Uint8, Int64, Bfloat16, 0, 8}[r.IntN(6)]
			case 1:
				if len(x.Shape) > 0 {
					x.Shape = slices.Clone(x.Shape)
					x.Shape[r.IntN(len(x.Shape))] = r.IntN(9) - 1
				}
			case 2:
				if len(x.Data) > 0 {
					x.Data[r.IntN(len(x.Data))] = byte(r.Uint32())
				}
			case 3:
				in = append(in[:0:0], in[:r.IntN(len(in)+1)]...)
				if len(in) == 0 {
					in = []Tensor{{}}
				}
			}
		}
		fn, err := NewLibrary(kernel.Best()).New(name, Attributes{1 + r.IntN(4), 1.702, 7})
		if err != nil {
			t.Fatal(err)
		}
		shapes, err := fn.Shapes(in)
		if err != nil {
			return
		}
		var out [][]float32
		for _, shape := range shapes {
			n, ok := Elements(shape)
			if !ok {
				t.Fatalf("shape %v", shape)
			}
			out = append(out, make([]float32, n))
		}
		if err := fn.Run(in, out, concurrent); err != nil {
			t.Fatal(err)
		}
	})
}
