package parity

import (
	"math"
	"testing"

	"ossify/checkpoint"
)

// thousand returns n·1000 ones, of which the first few are replaced.
func thousand(n int, first ...float64) []float64 {
	v := make([]float64, 1000*n)
	for i := range v {
		v[i] = 1
	}
	copy(v, first)
	return v
}

func TestForced(t *testing.T) {
	up16, up32 := 1+0x1p-7, 1+0x1p-23
	for _, tt := range []struct {
		name                   string
		typ                    checkpoint.DType
		reference, ours, exact []float64
		want                   Verdict
	}{
		{"f32 equal", checkpoint.F32, thousand(1), thousand(1), nil, Pass},
		{"f32 next", checkpoint.F32, thousand(1), thousand(1, up32), nil, Pass},
		{"f32 at the bound", checkpoint.F32, thousand(1), thousand(1, 1+0.9999e-5), nil, Pass},
		{"f32 beyond it", checkpoint.F32, thousand(1), thousand(1, 1+1.01e-5), nil, Fail},
		{"f32 beyond it, reference to blame", checkpoint.F32, thousand(1, 1+1.2e-5), thousand(1, 1+0.1e-5), thousand(1), Pass},
		{"f32 beyond it, we to blame", checkpoint.F32, thousand(1, 1+0.1e-5), thousand(1, 1+1.2e-5), thousand(1), Fail},
		{"f32 beyond it, reference to blame as much", checkpoint.F32, thousand(1, 1+0.6e-5), thousand(1, 1-0.5e-5), thousand(1), Pass},
		{"f32 beyond it without exact values", checkpoint.F32, thousand(1, 1+1.2e-5), thousand(1), nil, Fail},
		{"f32 far beyond it, whoever is to blame", checkpoint.F32, thousand(1, 1+4e-5), thousand(1), thousand(1), Fail},
		{"f32 all zero", checkpoint.F32, []float64{0, 0}, []float64{0, 0}, nil, Pass},
		{"f32 zero wanted", checkpoint.F32, []float64{0, 0}, []float64{0, 1e-30}, nil, Fail},
		{"f32 tiny lost, one in a thousand", checkpoint.F32, thousand(1, 1e-37), thousand(1, 0), nil, Fail},
		{"f32 NaN", checkpoint.F32, thousand(1), thousand(1, nan), nil, Fail},
		{"f32 NaN on both sides", checkpoint.F32, thousand(1, nan), thousand(1, nan), nil, Fail},
		{"f32 all NaN", checkpoint.F32, []float64{nan}, []float64{nan}, []float64{nan}, Fail},
		{"f32 infinite reference hides nothing", checkpoint.F32, []float64{inf, 1}, []float64{inf, 2}, nil, Fail},
		{"bf16 equal", checkpoint.BF16, thousand(1), thousand(1), thousand(1), Pass},
		{"bf16 5 in 1000 differ", checkpoint.BF16, thousand(1, up16, up16, up16, up16, up16), thousand(1), thousand(1), Pass},
		{"bf16 6 in 1000 differ", checkpoint.BF16, thousand(1, up16, up16, up16, up16, up16, up16), thousand(1), thousand(1), Fail},
		{"bf16 error 1.04 of the reference's", checkpoint.BF16, thousand(1, 1.25), thousand(1, 1.26), thousand(1), Pass},
		{"bf16 error 1.06 of the reference's", checkpoint.BF16, thousand(1, 1.25), thousand(1, 1.265), thousand(1), Fail},
		{"bf16 error where the reference has none", checkpoint.BF16, thousand(1), thousand(1, up16), thousand(1), Fail},
		{"bf16 without exact values", checkpoint.BF16, thousand(1), thousand(1), nil, Fail},
		{"bf16 NaN", checkpoint.BF16, thousand(1), thousand(1, nan), thousand(1), Fail},
	} {
		e := Measure(tt.reference, tt.ours, tt.exact, tt.typ)
		e.ByChannel(tt.reference, tt.ours, 1)
		got, why := Stated().Forced(e, tt.typ)
		if got != tt.want {
			t.Errorf("%s: %s (%s), want %s", tt.name, got, why, tt.want)
		}
		if (got == Fail) != (why != "") && got != Pass {
			t.Errorf("%s: %s for the reason %q", tt.name, got, why)
		}
	}
}

// Where rows have channels of different scale, an error is set against its own.
func TestByChannel(t *testing.T) {
	reference := []float64{1, 100, -1, 100, 1, 100}
	for _, tt := range []struct {
		name     string
		ours     []float64
		channels int
		want     float64
	}{
		{"none", reference, 2, 0},
		{"large channel", []float64{1, 100, -1, 101, 1, 100}, 2, 1. / 100},
		{"small channel, by the stage's rms", []float64{1, 100, -1, 100, 2, 100}, 2, 1 / math.Sqrt(5000.5)},
		{"one channel", []float64{1, 100, -1, 101, 1, 100}, 1, 1 / math.Sqrt(5000.5)},
		{"NaN and infinity", []float64{nan, 100, inf, 101, 1, 100}, 2, math.MaxFloat64},
	} {
		e := Measure(reference, tt.ours, nil, checkpoint.F32)
		if e.ByChannel(reference, tt.ours, tt.channels); !(math.Abs(e.Channel-tt.want) <= 1e-15*tt.want) {
			t.Errorf("%s: %g, want %g", tt.name, e.Channel, tt.want)
		}
	}
}

// Errors that were never measured pass nothing.
func TestForcedOfNaNs(t *testing.T) {
	for _, e := range []Errors{
		{Elements: 1, RMS: math.NaN(), Identical: 1},
		{Elements: 1, RMS: 1, Max: math.NaN(), Identical: 1},
		{Elements: 1, RMS: 1, Identical: 1, Exact: true, Ours: math.NaN(), Reference: 1},
		{Elements: 1, RMS: 1, Identical: 1, Exact: true, Ours: 1, Reference: math.NaN()},
	} {
		typ := checkpoint.F32
		if e.Exact {
			typ = checkpoint.BF16
		}
		if v, _ := Stated().Forced(&e, typ); v != Fail {
			t.Errorf("%+v: %s", e, v)
		}
	}
}

func TestWorst(t *testing.T) {
	for _, tt := range []struct {
		list []Verdict
		want Verdict
	}{
		{nil, Fail}, {[]Verdict{""}, Fail}, {[]Verdict{Pass, "good"}, Fail}, {[]Verdict{Pass}, Pass}, {[]Verdict{NotJudged, Pass}, Pass},
		{[]Verdict{NotJudged}, NotJudged}, {[]Verdict{Pass, Ambiguous, Pass}, Ambiguous}, {[]Verdict{Ambiguous, Fail, Pass}, Fail},
	} {
		if got := worst(tt.list...); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.list, got, tt.want)
		}
	}
}

func TestRouting(t *testing.T) {
	gate := []float64{4, 3, 2, 2, 1.75, 0} // 2 and 3 tie
	for _, tt := range []struct {
		name            string
		reference, ours []int
		allowance       float64
		ordered         bool
		want            Verdict
		reach           float64
	}{
		{"same", []int{0, 1, 2}, []int{0, 1, 2}, 0, true, Pass, 0},
		{"same set in another order", []int{0, 1, 2}, []int{1, 0, 2}, 0, false, Pass, 0},
		{"order that the gate denies", []int{0, 1, 2}, []int{1, 0, 2}, 0, true, Fail, 0},
		{"order within a tie", []int{0, 1, 2, 3}, []int{0, 1, 3, 2}, 0, true, Pass, 0},
		{"the other of a tie", []int{0, 1, 2}, []int{0, 1, 3}, 0, true, Ambiguous, 0},
		{"next one without allowance", []int{0, 1, 2, 3}, []int{0, 1, 2, 4}, 0, true, Fail, 0.25},
		{"next one within allowance", []int{0, 1, 2, 3}, []int{0, 1, 2, 4}, 0.25, false, Ambiguous, 0.25},
		{"next one beyond allowance", []int{0, 1, 2, 3}, []int{0, 1, 2, 4}, 0.2, false, Fail, 0.25},
		{"a tie does not excuse a third", []int{0, 1, 2}, []int{0, 3, 5}, 0.25, false, Fail, 3},
		{"expert out of range", []int{0, 1, 2}, []int{0, 1, 6}, 10, false, Fail, 0},
		{"expert twice", []int{0, 1, 2}, []int{0, 1, 1}, 10, false, Fail, 0},
		{"expert twice in the reference", []int{0, 1, 1}, []int{0, 1, 1}, 10, false, Fail, 0},
	} {
		r := CompareRouting([]int{7}, tt.reference, tt.ours, gate, tt.allowance, tt.ordered)
		got, why := Stated().Routed(r)
		if got != tt.want {
			t.Errorf("%s: %s (%s), want %s", tt.name, got, why, tt.want)
		}
		if len(r.Differing) > 0 && (r.Differing[0].Position != 7 || r.Differing[0].Reach != tt.reach) {
			t.Errorf("%s: %+v, want reach %g", tt.name, r.Differing[0], tt.reach)
		}
	}
	if r := CompareRouting([]int{0}, []int{0, 1}, []int{0, 1}, []float64{nan, nan}, 1, true); r.Wrong != 1 {
		t.Errorf("gate of NaN: %+v", r)
	}
	if r := CompareRouting([]int{0}, []int{0}, []int{1}, []float64{nan, nan}, 1, false); r.Wrong != 1 {
		t.Errorf("gate of NaN, unordered: %+v", r)
	}
	if v, _ := Stated().Routed(&Routing{}); v != Fail {
		t.Errorf("nothing compared: %s", v)
	}
}

// Many near-ties do not push the one wrong choice out of the report.
func TestRoutingKeepsTheWrongOne(t *testing.T) {
	var positions, reference, ours []int
	var gate []float64
	for p := range 20 {
		positions, reference = append(positions, p), append(reference, 0)
		ours, gate = append(ours, 1), append(gate, 1, 1, 0)
	}
	ours[17] = 2
	r := CompareRouting(positions, reference, ours, gate, 0, false)
	if r.NearTies != 19 || r.Wrong != 1 || len(r.Differing) != mostChoices || r.Differing[0].Position != 17 || r.Differing[0].Gap != 0 {
		t.Errorf("%+v", r)
	}
}

func TestFree(t *testing.T) {
	positions := []int{2, 5, 9}
	routes := []string{"a.experts", "b.experts"}
	run := func(a, b []float64, logits ...float64) Run {
		return Run{"a.experts": a, "b.experts": b, "logits": logits}
	}
	near, far := 1-1e-6, 1-1e-2 // gate values beside 1; the allowance is 1e-4
	reference := run([]float64{0, 0, 0}, []float64{0, 0, 0}, 1, 0, 1, 0, 1, 0)
	reference["a.gate"] = []float64{1, far, 1, near, 1, far}
	reference["b.gate"] = []float64{1, far, 1, far, 1, far}
	zero := []float64{0, 0, 0}
	for _, tt := range []struct {
		name  string
		typ   checkpoint.DType
		ours  Run
		exact Run
		want  Verdict
	}{
		{"f32 equal", checkpoint.F32, run(zero, zero, 1, 0, 1, 0, 1, 0), nil, Pass},
		{"f32 within the bound", checkpoint.F32, run(zero, zero, 1, 5e-5, 1, 0, 1, 0), nil, Pass},
		{"f32 beyond it", checkpoint.F32, run(zero, zero, 1, 1e-3, 1, 0, 1, 0), nil, Fail},
		{"f32 NaN", checkpoint.F32, run(zero, zero, 1, nan, 1, 0, 1, 0), nil, Fail},
		{"f32 near-tie, logits well", checkpoint.F32, run([]float64{0, 1, 0}, zero, 1, 0, 1, 0, 1, 0), nil, Ambiguous},
		{"f32 near-tie, logits off after it", checkpoint.F32, run([]float64{0, 1, 0}, zero, 1, 0, 1, 1, 2, 2), nil, Ambiguous},
		{"f32 near-tie, logits off before it", checkpoint.F32, run([]float64{0, 1, 0}, zero, 1, 1, 1, 0, 1, 0), nil, Fail},
		{"f32 near-tie, NaN after it", checkpoint.F32, run([]float64{0, 1, 0}, zero, 1, 0, 1, nan, 1, 0), nil, Fail},
		{"f32 near-tie, other experts after it", checkpoint.F32, run([]float64{0, 1, 0}, []float64{0, 1, 1}, 1, 0, 1, 1, 2, 2), nil, Ambiguous},
		{"f32 near-tie, other experts before it", checkpoint.F32, run([]float64{0, 1, 0}, []float64{1, 0, 0}, 1, 0, 1, 0, 1, 0), nil, Fail},
		{"f32 other experts", checkpoint.F32, run([]float64{1, 0, 0}, zero, 1, 0, 1, 0, 1, 0), nil, Fail},
		{"bf16 without exact values", checkpoint.BF16, run(zero, zero, 1, 0, 1, 0, 1, 0), nil, NotJudged},
		{"bf16 as far off as the reference", checkpoint.BF16, run([]float64{1, 0, 0}, zero, 1.2, 0, 1, 0, 1, 0), run(zero, zero, 1.1, 0, 1, 0, 1, 0), Pass},
		{"bf16 further off in one row", checkpoint.BF16, run(zero, zero, 9, 0, 1, 0, 1, 0), run(zero, zero, 1.1, 0, 1.1, 0, 1.1, 0), Pass},
		{"bf16 further off in two of three", checkpoint.BF16, run(zero, zero, 1, 0, 0.9, 0, 0.9, 0), run(zero, zero, 1.1, 0, 1.1, 0, 1.1, 0), Fail},
		{"bf16 off where the reference is not", checkpoint.BF16, run(zero, zero, 1, 0, 1.1, 0, 1.1, 0), run(zero, zero, 1, 0, 1, 0, 1, 0), Fail},
		{"bf16 NaN", checkpoint.BF16, run(zero, zero, nan, 0, 1, 0, 1, 0), run(zero, zero, 1.1, 0, 1, 0, 1, 0), Fail},
	} {
		f := Stated().CompareFree(positions, routes, "logits", reference, tt.ours, tt.exact, tt.typ)
		if f.Verdict != tt.want {
			t.Errorf("%s: %s (%s), want %s", tt.name, f.Verdict, f.Why, tt.want)
		}
	}
	first := run(zero, zero, 1, 0, 1, 0, 1, 0) // with a tie in its first row: no row is judged
	first["a.gate"], first["b.gate"] = []float64{1, near, 1, far, 1, far}, reference["b.gate"]
	if f := Stated().CompareFree(positions, routes, "logits", first, run([]float64{1, 0, 0}, []float64{1, 1, 1}, 9, 9, 9, 9, 9, 9), nil, checkpoint.F32); f.Verdict != Ambiguous {
		t.Errorf("near-tie in the first row: %s (%s)", f.Verdict, f.Why)
	}
	f := Stated().CompareFree(positions, routes, "logits", reference, run([]float64{1, 0, 0}, zero, 0, 1, 1, 0, 1, 0), run(zero, zero, 1, 0, 1, 0, 0, 1), checkpoint.BF16)
	if want := (Agreement{Rows: 3, Reference: 2, Exact: 1, Witness: 2}); f.Top != want {
		t.Errorf("top: %+v, want %+v", f.Top, want)
	}
	if want := (Agreement{Rows: 6, Reference: 5, Exact: 5, Witness: 6}); f.Routed != want {
		t.Errorf("routing: %+v, want %+v", f.Routed, want)
	}
}
