package graph

import (
	"math"
	"testing"
)

// gptOSS is the rotary embedding of the published checkpoints.
var gptOSS = Rope{Dim: 64, Theta: 150000, Factor: 32, Low: 8.092779115512402, High: 17.39802450158856, Concentration: 1.3465735902799727}

// The bits are those of RotaryEmbedding in PyTorch with ATEN_CPU_CAPABILITY
// default, whose pow is rounded correctly; off at 6 and 10 gives those of its
// vector code.
func TestFrequencies32(t *testing.T) {
	plain := Rope{Dim: 64, Theta: 150000, Factor: 1, High: 1}
	off := make([]int, 32)
	off[6], off[10] = -1, 1
	for _, tt := range []struct {
		name  string
		off   []int
		theta map[int]uint32 // bits of 1/f
	}{
		{"rounded", nil, map[int]uint32{0: 0x3f800000, 6: 0x41157fa4, 10: 0x4225cd30}},
		{"vector code", off, map[int]uint32{0: 0x3f800000, 6: 0x41157fa3, 10: 0x4225cd31}},
	} {
		f := plain.Frequencies32(tt.off)
		for i, bits := range tt.theta {
			if want := 1 / math.Float32frombits(bits); f[i] != want {
				t.Errorf("%s: f(%d) = %g, want %g", tt.name, i, f[i], want)
			}
		}
	}
}

// The frequencies of gpt-oss (theta 150000, factor 32, 4,096 positions) are
// those that the PyTorch reference computes in float32, and the ramp's bounds
// those it computes in float64.
func TestFrequencies(t *testing.T) {
	// inv_freq of gpt_oss.torch.model.RotaryEmbedding, torch 2.15.0, as
	// docs/numerics.md records them.
	want := map[int][]float64{
		16: {0x1p+0, 0x1.cda7f4p-3, 0x1.a04328p-5, 0x1.bd508p-8, 0x1.dea878p-12, 0x1.312650p-16, 0x1.132518p-18, 0x1.f02e5p-21},
		64: {0x1p+0, 0x1.60ca6ap-1, 0x1.e62d44p-2, 0x1.4eff54p-2, 0x1.cda7f4p-3, 0x1.3e19fap-3, 0x1.b65f3ep-4, 0x1.2e0ec8p-4, 0x1.a04328p-5, 0x1.03bbaap-5,
			0x1.3cc8dep-6, 0x1.7bd928p-7, 0x1.bd508p-8, 0x1.f9fc28p-9, 0x1.127006p-9, 0x1.13eefp-10, 0x1.dea878p-12, 0x1.0f3372p-13, 0x1.415b8cp-15, 0x1.badbf8p-16,
			0x1.31265p-16, 0x1.a485f4p-17, 0x1.21c258p-17, 0x1.8f5056p-18, 0x1.132518p-18, 0x1.7b2c8ep-19, 0x1.05448ap-19, 0x1.680cd0p-20, 0x1.f02e5p-21, 0x1.55e4p-21, 0x1.d727d6p-22, 0x1.44a5a6p-22},
	}
	for dim, freq := range want {
		column := func(turns float64) float64 {
			return float64(dim) / 2 * math.Log(4096/(turns*2*math.Pi)) / math.Log(150000)
		}
		r := Rope{Dim: dim, Theta: 150000, Factor: 32, Low: column(32), High: column(1)}
		if dim == 64 && (math.Abs(r.Low-8.092779115512402) > 1e-13 || math.Abs(r.High-17.39802450158856) > 1e-13) {
			t.Errorf("ramp from %.17g to %.17g", r.Low, r.High)
		}
		for i, got := range r.Frequencies() {
			// The reference takes about ten float32 roundings.
			if !(math.Abs(got-freq[i]) <= 10*0x1p-24*freq[i]) {
				t.Errorf("dim %d: f(%d) = %g, want %g", dim, i, got, freq[i])
			}
		}
	}
}

// Six roundings to float32 lie between the two.
func TestFrequenciesAgree(t *testing.T) {
	for _, r := range []Rope{gptOSS, {Dim: 32, Theta: 10000, Factor: 1, High: 1}, {Dim: 6, Theta: 500, Factor: 4, Low: 0.3, High: 1.7}} {
		rounded := r.Frequencies32(nil)
		for i, f := range r.Frequencies() {
			if d := math.Abs(float64(rounded[i]) - f); !(d <= 6*0x1p-23*f) {
				t.Errorf("dim %d: f(%d) = %g in float32, %g in float64", r.Dim, i, rounded[i], f)
			}
		}
	}
}
