package ortlib

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"ossify/kernel"
)

// A token of 20b's, after a past of some length.
func BenchmarkAttend(b *testing.B) {
	for _, past := range []int{512, 4096} {
		for _, window := range []int{0, 128} {
			b.Run(fmt.Sprint(past, "/window", window), func(b *testing.B) {
				p := newAttention(rand.New(rand.NewPCG(1, 2)), attentionCase{batch: 1, seq: 1, past: past, kv: 8, group: 8, dim: 64, window: window, sinks: true})
				f, err := NewLibrary(kernel.Best()).New("Attend", Attributes{})
				if err != nil {
					b.Fatal(err)
				}
				in := p.inputs()
				shapes, err := f.Shapes(in)
				if err != nil {
					b.Fatal(err)
				}
				var out [][]float32
				for _, shape := range shapes {
					n, _ := Elements(shape)
					out = append(out, make([]float32, n))
				}
				for b.Loop() {
					if err := f.Run(in, out, serial); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
