package onnx

import (
	"math"
	"testing"

	"ossify/float"
	"ossify/graph"
)

// The rotation that the graph computes in float32 is that of float64, at any
// position, to four roundings.
func TestRotationIsExact(t *testing.T) {
	ropes := map[string]graph.Rope{
		"yarn":  {Dim: 64, Theta: 150000, Factor: 32, Low: 8.092779115512402, High: 17.39802450158856, Concentration: 1.3465735902799727},
		"plain": {Dim: 16, Theta: 10000, Factor: 1, High: 1, Concentration: 1},
	}
	for name, r := range ropes {
		t.Run(name, func(t *testing.T) {
			table, half := rotationOf(r, DefaultPositions), r.Dim/2
			bound := 4 * math.Ldexp(1, -24) * r.Concentration
			for _, p := range []int{0, 1, 127, 128, 255, 256, 257, 4095, 4096, 50021, 99999, 131071} {
				for i, f := range frequencies(r) {
					high, low := p/lowPositions*half+i, p%lowPositions*half+i
					hc, hs, lc, ls := table.highCos[high], table.highSin[high], table.lowCos[low], table.lowSin[low]
					cos, sin := float32(hc*lc)-float32(hs*ls), float32(hs*lc)+float32(hc*ls)
					ws, wc := math.Sincos(float64(p) * f)
					if d := math.Abs(float64(cos) - wc*r.Concentration); !(d <= bound) {
						t.Errorf("cos at %d, column %d: off by %g, want at most %g", p, i, d, bound)
					}
					if d := math.Abs(float64(sin) - ws*r.Concentration); !(d <= bound) {
						t.Errorf("sin at %d, column %d: off by %g, want at most %g", p, i, d, bound)
					}
				}
			}
		})
	}
}

// Looked up and multiplied, codes and scales are what the decoder makes of them,
// bit for bit.
func TestDecodingTables(t *testing.T) {
	codes, scales := codeQuads(), scaleValues()
	if len(codes) != 4<<16 || len(scales) != 256 {
		t.Fatalf("%d codes and %d scales", len(codes), len(scales))
	}
	block, want := make([]byte, float.BlockBytes), make([]float32, float.BlockSize)
	for scale := range 255 { // 255 is NaN, and no checkpoint may hold it
		for b := range 256 {
			for i := range block {
				block[i] = byte(b + i*37)
			}
			float.DecodeMXFP4(want, block, []byte{byte(scale)})
			for i := 0; i < len(block); i += 2 {
				pair := int(block[i]) | int(block[i+1])<<8
				for j := range 4 {
					if got := codes[4*pair+j] * scales[scale]; math.Float32bits(got) != math.Float32bits(want[2*i+j]) {
						t.Fatalf("scale %d, bytes %#x: value %d is %g, want %g", scale, pair, j, got, want[2*i+j])
					}
				}
			}
		}
	}
	if !math.IsNaN(float64(scales[255])) {
		t.Errorf("scale 255 is %g, want NaN", scales[255])
	}
}

func TestEveryOperationHasACase(t *testing.T) {
	for _, target := range []Target{Portable} {
		cases := target.cases()
		for _, op := range graph.Ops() {
			if cases[op] == nil {
				t.Errorf("target %v has no case for %v", target, op)
			}
		}
		if len(cases) != len(graph.Ops()) {
			t.Errorf("target %v has %d cases for %d operations", target, len(cases), len(graph.Ops()))
		}
	}
}
