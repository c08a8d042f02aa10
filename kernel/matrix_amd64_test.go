package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// Loops write no more of what they work in than has been made for them: what they
// reach of buffers that are much longer than asked for is what is asked for.
func TestScratchIsLargeEnough(t *testing.T) {
	const canary, longer = 0x7fab, 1 << 16
	r := rand.New(rand.NewPCG(12, 12))
	for _, e := range entries {
		for _, cols := range []int{32, 160, 2880, 4096} {
			p := newProblem(r, e.kind, e.half, 37, cols, 19, fillings[0])
			for _, set := range every() {
				if set.Name == "portable" {
					continue
				}
				for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 19} {
					var x Activations
					set.Pack(&x, e.kind, e.half, p.x, n, cols, p.xs)
					for _, rows := range []int{4, 7, p.w.Rows} {
						job := &Job{W: p.w, Hi: rows, X: &x, Y: make([]float32, n*p.w.Rows), Stride: p.w.Rows}
						var fresh, long Scratch
						set.Multiply(job, &fresh)
						a, b := &fresh.arch, &long.arch
						b.sums, b.tail, b.panel = make([]float32, cap(a.sums)+longer), make([]float32, cap(a.tail)+longer), make([]float32, cap(a.panel)+longer)
						b.words, b.wide = make([]uint16, cap(a.words)+longer), make([]uint16, cap(a.wide)+longer)
						floats := map[string][2][]float32{"sums": {a.sums, b.sums}, "tail": {a.tail, b.tail}, "panel": {a.panel, b.panel}}
						words := map[string][2][]uint16{"words": {a.words, b.words}, "wide": {a.wide, b.wide}}
						for _, f := range floats {
							for i := range f[1] {
								f[1][i] = canary
							}
						}
						for _, w := range words {
							for i := range w[1] {
								w[1][i] = canary
							}
						}
						set.Multiply(job, &long)
						at := fmt.Sprintf("%s, %s: %d rows of %d columns, %d of x", set.Name, entryName(e.kind, e.half), rows, cols, n)
						for name, f := range floats {
							for i, v := range f[1][cap(f[0]):] {
								if v != canary {
									t.Fatalf("%s: %s[%d] is written, of %d", at, name, cap(f[0])+i, cap(f[0]))
								}
							}
						}
						for name, w := range words {
							for i, v := range w[1][cap(w[0]):] {
								if v != canary {
									t.Fatalf("%s: %s[%d] is written, of %d", at, name, cap(w[0])+i, cap(w[0]))
								}
							}
						}
					}
				}
			}
		}
	}
}
