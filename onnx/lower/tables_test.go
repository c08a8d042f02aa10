package lower

import (
	"math"
	"slices"
	"strings"
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
			highCos, highSin, lowCos, lowSin := slices.Collect(table.highCos), slices.Collect(table.highSin), slices.Collect(table.lowCos), slices.Collect(table.lowSin)
			if len(highCos) != table.rows*half || len(lowSin) != lowPositions*half {
				t.Fatalf("%d and %d values, want %d and %d rows of %d", len(highCos), len(lowSin), table.rows, lowPositions, half)
			}
			bound := 4 * math.Ldexp(1, -24) * r.Concentration
			for _, p := range []int{0, 1, 127, 128, 255, 256, 257, 4095, 4096, 50021, 99999, 131071} {
				for i, f := range r.Frequencies() {
					high, low := p/lowPositions*half+i, p%lowPositions*half+i
					hc, hs, lc, ls := highCos[high], highSin[high], lowCos[low], lowSin[low]
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

// Looked up, a byte and its block's scale are what the decoder makes of them,
// bit for bit.
func TestDecodingTables(t *testing.T) {
	even, odd := slices.Collect(mxfp4Values(0)), slices.Collect(mxfp4Values(4))
	if len(even) != 1<<16 || len(odd) != 1<<16 {
		t.Fatalf("%d even and %d odd values", len(even), len(odd))
	}
	block, want := make([]byte, float.BlockBytes), make([]float32, float.BlockSize)
	for scale := range 255 { // 255 is NaN, and no checkpoint may hold it
		for b := range 256 {
			block[b%len(block)] = byte(b)
			float.DecodeMXFP4(want, block, []byte{byte(scale)})
			at := b % len(block) * 2
			for i, got := range []float32{even[256*scale+b], odd[256*scale+b]} {
				if math.Float32bits(got) != math.Float32bits(want[at+i]) {
					t.Fatalf("scale %d, byte %#x: value %d is %g, want %g", scale, b, i, got, want[at+i])
				}
			}
		}
	}
	if !math.IsNaN(float64(even[255<<8])) {
		t.Errorf("scale 255 is %g, want NaN", even[255<<8])
	}
}

func TestEveryOperationHasACase(t *testing.T) {
	for _, target := range Targets() {
		for _, op := range graph.Ops() {
			if target.cases[op] == nil {
				t.Errorf("target %v has no case for %v", target, op)
			}
		}
		if len(target.cases) != len(graph.Ops()) {
			t.Errorf("target %v has %d cases for %d operations", target, len(target.cases), len(graph.Ops()))
		}
	}
}

// What a target calls itself names it, with its options.
func TestTargetNames(t *testing.T) {
	for _, target := range Targets() {
		for _, strip := range []int{1, 1536, DefaultStrip} {
			for _, plain := range []bool{false, true} {
				want := target
				want.Strip, want.PlainLookup = strip, plain
				got, err := ParseTarget(want.String())
				if err != nil || got.Name != want.Name || got.Strip != strip || got.PlainLookup != plain || len(got.cases) != len(want.cases) {
					t.Errorf("%v is read as %v, %v", want, got, err)
				}
			}
		}
	}
	if got := (Target{}).String(); got != ",strip=0" { // no target, and no panic
		t.Errorf("no target is %q", got)
	}
	for _, s := range []string{"", "cuda", "portable,strip=0", "portable,strip=x", "portable,strips=3", "portable,plain-lookup,\x1b[31m"} {
		if got, err := ParseTarget(s); err == nil || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q is read as %v, %v", s, got, err)
		}
	}
}

func TestStrips(t *testing.T) {
	tests := []struct {
		name             string
		rows, cols, most int
		want             int
	}{
		{"all at once", 128, 64, 1 << 19, 1},
		{"just all at once", 128, 64, 128 * 64, 1},
		{"one value too many", 128, 64, 128*64 - 1, 2},
		{"mlp1 of gpt-oss", 5760, 2880, DefaultStrip, 32},
		{"mlp2 of gpt-oss", 2880, 2880, DefaultStrip, 16},
		{"rows that only 3 divides", 27, 10, 100, 3},
		{"a prime number of rows", 7, 10, 60, 7},
		{"rows beyond the bound", 4, 100, 50, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := stripsOf(tt.rows, tt.cols, tt.most); got != tt.want {
				t.Errorf("%d strips, want %d", got, tt.want)
			}
		})
	}
}
