package ortlib

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"ossify/kernel"
)

// runOnce runs a function of one output, concurrently and not, with the same bits.
func runOnce(t *testing.T, name string, a Attributes, set kernel.Set, in []Tensor, want []int) []float32 {
	t.Helper()
	f, err := NewLibrary(set).New(name, a)
	if err != nil {
		t.Fatal(err)
	}
	shape, err := oneShape(f, in)
	if err != nil || !slices.Equal(shape, want) {
		t.Fatalf("shape %v, %v, want %v", shape, err, want)
	}
	n, _ := Elements(shape)
	out, again := make([]float32, n), make([]float32, n)
	if err := f.Run(in, [][]float32{out}, concurrent); err != nil {
		t.Fatal(err)
	}
	if err := f.Run(in, [][]float32{again}, serial); err != nil || !slices.Equal(out, again) {
		t.Fatalf("another order gives other bits, %v", err)
	}
	return out
}

// InterleavedSwiGLU is x·σ(αx)·(y + 1) of the clamped even and odd columns.
func TestInterleavedSwiGLU(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	for _, set := range kernel.All() {
		for _, lead := range [][]int{{}, {1}, {2, 3, 4}, {0, 4}, {700}} {
			for _, width := range []int{1, 2, 31, 90, 2880} {
				t.Run(fmt.Sprint(set.Name, lead, width), func(t *testing.T) {
					n, _ := Elements(lead)
					x := randomFloats(r, n*2*width)
					for i := range x {
						x[i] *= 6 // beyond the limit, too
					}
					a := Attributes{Alpha: 1.702, Limit: 7}
					out := runOnce(t, "InterleavedSwiGLU", a, set, []Tensor{floatTensor(x, append(slices.Clone(lead), 2*width)...)}, append(slices.Clone(lead), width))
					for i, got := range out {
						g, l := math.Min(float64(x[2*i]), 7), math.Min(math.Max(float64(x[2*i+1]), -7), 7)
						want := g / (1 + math.Exp(-float64(a.Alpha)*g)) * (l + 1)
						// Four roundings of 2⁻²⁴, those of the exponential and of its argument, at most 12.
						if !(math.Abs(float64(got)-want) <= 0x1p-20*math.Abs(want)+0x1p-40) {
							t.Fatalf("element %d of %g, %g is %g, want %g", i, x[2*i], x[2*i+1], got, want)
						}
					}
				})
			}
		}
	}
}

// Mix is the sum of K rows, each times its weight.
func TestMix(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	for _, set := range kernel.All() {
		for _, lead := range [][]int{{}, {1, 1}, {2, 130}, {0}} {
			for _, k := range []int{1, 4, 7} {
				if testing.Short() && k == 7 && len(lead) == 2 {
					continue
				}
				for _, width := range []int{1, 33, 2880} {
					t.Run(fmt.Sprint(set.Name, lead, k, width), func(t *testing.T) {
						n, _ := Elements(lead)
						x, w := randomFloats(r, n*k*width), randomFloats(r, n*k)
						weights := append(slices.Clone(lead), k)
						out := runOnce(t, "Mix", Attributes{}, set,
							[]Tensor{floatTensor(w, weights...), floatTensor(x, append(slices.Clone(weights), width)...)}, append(slices.Clone(lead), width))
						for i := range out {
							row, col := i/width, i%width
							want, terms := 0.0, 0.0
							for j := range k {
								p := float64(w[row*k+j]) * float64(x[(row*k+j)*width+col])
								want, terms = want+p, terms+math.Abs(p)
							}
							closeTo(t, fmt.Sprintf("row %d, column %d", row, col), out[i], want, terms)
						}
					})
				}
			}
		}
	}
}
