package kernel

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"testing"

	"ossify/float"
	"ossify/internal/golden"
)

var update = flag.Bool("update", false, "write testdata/bits.txt anew")

// hashBits hashes results; all NaN are one.
func hashBits(y []float32) uint64 {
	h := fnv.New64a()
	for _, v := range y {
		if v != v {
			v = float32(math.NaN())
		}
		h.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)))
	}
	return h.Sum64()
}

// Every set, on every architecture, gives the bits whose hashes testdata/bits.txt
// lists. Other tests compare the sets of one processor: this one compares
// processors, the portable set's among them, whose compilers may fuse a product
// with a sum. Inputs are made by exact operations only.
func TestBitsOnEveryProcessor(t *testing.T) {
	const path = "testdata/bits.txt"
	kinds := []struct {
		name string
		next func(r *rand.Rand) float32
	}{
		{"plain", func(r *rand.Rand) float32 { return float32(int32(r.Uint32())) * 0x1p-30 }},
		{"wide", func(r *rand.Rand) float32 {
			return float32(int32(r.Uint32())) * math.Float32frombits(uint32(127-40-31+r.IntN(80))<<23)
		}},
		{"bits", func(r *rand.Rand) float32 { return math.Float32frombits(r.Uint32()) }},
	}
	var want []byte
	for _, s := range every() {
		var got bytes.Buffer
		line := func(name string, h uint64) { fmt.Fprintf(&got, "%s %016x\n", name, h) }
		for _, k := range kinds {
			for _, c := range vectorCases() {
				r := rand.New(rand.NewPCG(21, 22))
				var all []float32
				for _, n := range []int{2, 34, 64, 128} {
					a := c.args(n, func() float32 { return k.next(r) })
					c.call(&s, a)
					all = append(all, a.y...)
				}
				line(c.name+", "+k.name, hashBits(all))
			}
			for _, e := range entries {
				r := rand.New(rand.NewPCG(23, 24))
				const rows, cols, n = 6, 160, 5
				w := Matrix{Kind: e.kind, Rows: rows, Cols: cols}
				if e.kind != MXFP4 {
					w.Kind = BF16
					v := make([]float32, rows*cols)
					for i := range v {
						v[i] = k.next(r)
					}
					w.Data = make([]byte, 2*len(v))
					float.EncodeBF16(w.Data, v)
					if e.kind == Packed {
						w = packed(w, 0)
					}
				} else {
					w.Data, w.Scales = make([]byte, rows*cols/2), make([]byte, rows*cols/32)
					for i := range w.Data {
						w.Data[i] = byte(r.Uint32())
					}
					for i := range w.Scales {
						w.Scales[i] = byte(r.IntN(255))
					}
				}
				x := make([]float32, n*cols)
				for i := range x {
					x[i] = k.next(r)
				}
				var all []float32
				for _, n := range []int{1, n} {
					var packed Activations
					var scratch Scratch
					s.Pack(&packed, e.kind, e.half, x, n, cols, cols)
					y := make([]float32, n*rows)
					s.Multiply(&Job{W: w, Hi: rows, X: &packed, Y: y, Stride: rows}, &scratch)
					all = append(all, y...)
				}
				line(entryName(e.kind, e.half)+", "+k.name, hashBits(all))
			}
		}
		if want == nil {
			want = []byte(golden.Text(t, path, got.String(), *update))
		}
		g, w := bytes.Split(got.Bytes(), []byte("\n")), bytes.Split(want, []byte("\n"))
		if len(g) != len(w) {
			t.Fatalf("%s: %d cases, %s has %d", s.Name, len(g), path, len(w))
		}
		for i := range g {
			if !bytes.Equal(g[i], w[i]) {
				t.Errorf("%s: %s, want %s", s.Name, g[i], w[i])
			}
		}
	}
}
