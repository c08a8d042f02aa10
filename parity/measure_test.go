package parity

import (
	"math"
	"testing"

	"ossify/checkpoint"
)

var (
	nan     = math.NaN()
	inf     = math.Inf(1)
	negZero = math.Copysign(0, -1)
)

func TestMeasure(t *testing.T) {
	const tiny16 = 0x1p-133 // smallest bfloat16
	for _, tt := range []struct {
		name               string
		reference, ours    []float64
		typ                checkpoint.DType
		rms, max, mean     float64
		identical          int
		ulps               ULPs
		zeroOne, nonFinite int
	}{
		{name: "equal", reference: []float64{3, -4}, ours: []float64{3, -4}, typ: checkpoint.F32, rms: math.Sqrt(12.5), identical: 2, ulps: ULPs{2}},
		{name: "one off", reference: []float64{3, -4}, ours: []float64{3, -4.5}, typ: checkpoint.BF16, rms: math.Sqrt(12.5), max: 0.5, mean: 0.25, identical: 1, ulps: ULPs{0: 1, 5: 1}},
		{name: "next f32", reference: []float64{1}, ours: []float64{1 + 0x1p-23}, typ: checkpoint.F32, rms: 1, max: 0x1p-23, mean: 0x1p-23, ulps: ULPs{1: 1}},
		{name: "next bf16", reference: []float64{1}, ours: []float64{1 + 0x1p-7}, typ: checkpoint.BF16, rms: 1, max: 0x1p-7, mean: 0x1p-7, ulps: ULPs{1: 1}},
		{name: "not rounded", reference: []float64{1}, ours: []float64{1 + 0x1p-20}, typ: checkpoint.BF16, rms: 1, max: 0x1p-20, mean: 0x1p-20, ulps: ULPs{1}},
		{name: "zeros of two signs", reference: []float64{0}, ours: []float64{negZero}, typ: checkpoint.F32, ulps: ULPs{1}},
		{name: "all zero", reference: []float64{0, 0}, ours: []float64{0, 0}, typ: checkpoint.F32, identical: 2, ulps: ULPs{2}},
		{name: "lost to zero", reference: []float64{tiny16, 0}, ours: []float64{0, -tiny16}, typ: checkpoint.BF16, rms: tiny16 / math.Sqrt2, max: tiny16, mean: tiny16, ulps: ULPs{1: 2}, zeroOne: 2},
		{name: "across zero", reference: []float64{tiny16}, ours: []float64{-tiny16}, typ: checkpoint.BF16, rms: tiny16, max: 2 * tiny16, mean: 2 * tiny16, ulps: ULPs{2: 1}},
		{name: "far", reference: []float64{1}, ours: []float64{-1}, typ: checkpoint.BF16, rms: 1, max: 2, mean: 2, ulps: ULPs{7: 1}},
		{name: "NaN is ours", reference: []float64{1, 1}, ours: []float64{nan, 1}, typ: checkpoint.F32, rms: 1, identical: 1, ulps: ULPs{1}, nonFinite: 1},
		{name: "NaN is theirs", reference: []float64{nan, 1}, ours: []float64{1, 1}, typ: checkpoint.F32, rms: 1, identical: 1, ulps: ULPs{1}, nonFinite: 1},
		{name: "NaN on both sides", reference: []float64{nan}, ours: []float64{nan}, typ: checkpoint.F32, identical: 1, nonFinite: 1},
		{name: "infinity on both sides", reference: []float64{inf, 2}, ours: []float64{inf, 2}, typ: checkpoint.BF16, rms: 2, identical: 2, ulps: ULPs{2}},
		{name: "infinity is ours", reference: []float64{1}, ours: []float64{inf}, typ: checkpoint.F32, rms: 1, nonFinite: 1},
		{name: "infinity is theirs", reference: []float64{inf}, ours: []float64{1}, typ: checkpoint.F32, nonFinite: 1},
		{name: "infinities of two signs", reference: []float64{inf}, ours: []float64{-inf}, typ: checkpoint.F32, nonFinite: 1},
	} {
		e := Measure(tt.reference, tt.ours, nil, tt.typ)
		if !(math.Abs(e.RMS-tt.rms) <= 1e-15*tt.rms) || e.Max != tt.max || e.Mean != tt.mean || e.Identical != tt.identical ||
			e.ULPs != tt.ulps || e.ZeroOne != tt.zeroOne || e.NonFinite != tt.nonFinite || e.Elements != len(tt.reference) || e.Exact {
			t.Errorf("%s: %+v", tt.name, *e)
		}
	}
}

func TestMeasureExact(t *testing.T) {
	for _, tt := range []struct {
		name                   string
		reference, ours, exact []float64
		our, their             float64
		ratio                  float64
		nonFinite              int
	}{
		{"half the error", []float64{1.2, 1.2}, []float64{1.1, 0.9}, []float64{1, 1}, 0.1, 0.2, 0.5, 0},
		{"none at all", []float64{1}, []float64{1}, []float64{1}, 0, 0, 1, 0},
		{"only ours", []float64{1}, []float64{2}, []float64{1}, 1, 0, inf, 0},
		{"exact NaN", []float64{1}, []float64{1}, []float64{nan}, 0, 0, 1, 1},
		{"both beyond the range", []float64{inf, 1}, []float64{inf, 1}, []float64{1e39, 0}, 1, 1, 1, 0},
	} {
		e := Measure(tt.reference, tt.ours, tt.exact, checkpoint.F32)
		near := func(a, b float64) bool { return a == b || math.Abs(a-b) <= 1e-12 }
		if !e.Exact || !near(e.Ours, tt.our) || !near(e.Reference, tt.their) || !near(e.Ratio(), tt.ratio) || e.NonFinite != tt.nonFinite {
			t.Errorf("%s: ratio %g, %+v", tt.name, e.Ratio(), *e)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b float64
		typ  checkpoint.DType
		want uint64
	}{
		{"equal", 1.5, 1.5, checkpoint.F32, 0},
		{"zeros", negZero, 0, checkpoint.BF16, 0},
		{"across zero", -0x1p-149, 0x1p-149, checkpoint.F32, 2},
		{"across a power of two", 1 - 0x1p-24, 1 + 0x1p-23, checkpoint.F32, 2},
		{"bf16 across a power of two", 1 - 0x1p-8, 1 + 0x1p-7, checkpoint.BF16, 2},
		{"negative", -1, -1 - 0x1p-23, checkpoint.F32, 1},
		{"largest to infinity", math.MaxFloat32, inf, checkpoint.F32, 1},
		{"all of f64", -math.MaxFloat64, math.MaxFloat64, checkpoint.F64, 2 * math.Float64bits(math.MaxFloat64)},
	} {
		if got := Distance(tt.a, tt.b, tt.typ); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
		if got := Distance(tt.b, tt.a, tt.typ); got != tt.want {
			t.Errorf("%s, swapped: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestULPBuckets(t *testing.T) {
	for d, want := range map[uint64]int{0: 0, 1: 1, 2: 2, 3: 3, 4: 3, 5: 4, 8: 4, 9: 5, 16: 5, 17: 6, 32: 6, 33: 7, math.MaxUint64: 7} {
		var u ULPs
		if u.add(d); u[want] != 1 {
			t.Errorf("%d: %v, want bucket %s", d, u, ulpLabels[want])
		}
	}
}
