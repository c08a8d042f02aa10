package parity

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"ossify/checkpoint"
)

var nan, inf = math.NaN(), math.Inf(1)

// An element passes if it is the rounding of a number within its bounds, and
// no element is free.
func TestJudge(t *testing.T) {
	const ulp16, ulp32 = 0x1p-7, 0x1p-23 // at 1
	for _, tt := range []struct {
		name        string
		typ         checkpoint.DType
		own, lo, hi float64
		ok          bool
	}{
		{"f32, the one value", checkpoint.F32, 1, 1, 1, true},
		{"f32, the next", checkpoint.F32, 1 + ulp32, 1, 1, false},
		{"f32, rounded to it", checkpoint.F32, 1 + ulp32, 1 + 0.6*ulp32, 1 + 0.7*ulp32, true},
		{"f32, rounded from it", checkpoint.F32, 1, 1 + 0.6*ulp32, 1 + 0.7*ulp32, false},
		{"f32, within", checkpoint.F32, 1 + 2*ulp32, 1, 1 + 4*ulp32, true},
		{"f32, below", checkpoint.F32, 1 - ulp32, 1, 1 + 4*ulp32, false},
		{"bf16, the one value", checkpoint.BF16, 1, 1 + 0.3*ulp16, 1 + 0.4*ulp16, true},
		{"bf16, a tie in the bounds, down", checkpoint.BF16, 1, 1 + 0.49*ulp16, 1 + 0.51*ulp16, true},
		{"bf16, a tie in the bounds, up", checkpoint.BF16, 1 + ulp16, 1 + 0.49*ulp16, 1 + 0.51*ulp16, true},
		{"bf16, the other value without a tie", checkpoint.BF16, 1 + ulp16, 1 + 0.3*ulp16, 1 + 0.4*ulp16, false},
		{"bf16, two away from a tie", checkpoint.BF16, 1 + 2*ulp16, 1 + 0.49*ulp16, 1 + 0.51*ulp16, false},
		{"bf16 where the exact value is tiny", checkpoint.BF16, 0, 0x1p-127, 0x1p-127, false},
		{"both zeros are one value", checkpoint.F32, math.Copysign(0, -1), 0, 0, true},
		{"lost to zero", checkpoint.F32, 0, 1e-37, 1.1e-37, false},
		{"NaN", checkpoint.F32, nan, 0, 1, false},
		{"NaN on both sides", checkpoint.F32, nan, nan, nan, false},
		{"NaN in the bounds", checkpoint.F32, 0, nan, nan, false},
		{"infinite bounds of NaN", checkpoint.F32, inf, nan, inf, false},
		{"infinity", checkpoint.F32, inf, 0, 1, false},
		{"beyond the type", checkpoint.F32, inf, 1e39, 1e39, true},
		{"not beyond the type", checkpoint.F32, math.MaxFloat32, 1e39, 1e39, false},
	} {
		f := Judge([]float64{tt.own}, []float64{tt.lo}, []float64{tt.hi}, tt.typ)
		if (f.Outside == 0) != tt.ok || f.Elements != 1 || f.Worst.Index != 0 {
			t.Errorf("%s: %+v, want ok %v", tt.name, *f, tt.ok)
		}
		if s := Fitted("x", []int{7}, f); (s.Verdict == Pass) != tt.ok || (s.Why == "") != tt.ok {
			t.Errorf("%s: %+v", tt.name, s)
		}
	}
	// One of a hundred thousand, in bf16, is a failure and found.
	own, lo := make([]float64, 100000), make([]float64, 100000)
	own[77777] = ulp16 * 1e-6
	if f := Judge(own, lo, lo, checkpoint.BF16); f.Outside != 1 || f.Worst.Index != 77777 {
		t.Errorf("one of many: %+v", *f)
	}
	// What an element needs of its bound is the distance to what rounds to it.
	f := Judge([]float64{1 + 2*ulp32}, []float64{1 - 4*ulp32}, []float64{1 + 4*ulp32}, checkpoint.F32)
	if want := 1.5 / 4; f.Used != want || f.Bounded != 1 {
		t.Errorf("used %g of %d, want %g", f.Used, f.Bounded, want)
	}
	if s := Fitted("x", nil, Judge(nil, nil, nil, checkpoint.F32)); s.Verdict != Fail {
		t.Errorf("nothing: %+v", s)
	}
}

func TestJudgeChoice(t *testing.T) {
	values := []float64{1, 3, 3, 2}
	for _, tt := range []struct {
		name              string
		chosen            []float64
		same, tied, wrong int // not strict
	}{
		{"largest, low first", []float64{1, 2, 3}, 1, 0, 0},
		{"tie the other way", []float64{2, 1, 3}, 0, 1, 0},
		{"out of order", []float64{1, 3, 2}, 0, 0, 1},
		{"not the largest", []float64{1, 2, 0}, 0, 0, 1},
		{"one twice", []float64{1, 1, 3}, 0, 0, 1},
		{"no index", []float64{1, 2, 4}, 0, 0, 1},
		{"negative", []float64{1, 2, -1}, 0, 0, 1},
		{"NaN", []float64{1, 2, nan}, 0, 0, 1},
	} {
		c := JudgeChoice("x", []int{9}, tt.chosen, values, false)
		if c.Same != tt.same || len(c.Ties) != tt.tied || c.Wrong != tt.wrong || (c.First != nil) != (tt.wrong > 0) {
			t.Errorf("%s: %+v", tt.name, *c)
		}
		if s := Chosen("x", c); (s.Verdict == Fail) != (tt.wrong > 0) {
			t.Errorf("%s: %+v", tt.name, s)
		}
		if c := JudgeChoice("x", []int{9}, tt.chosen, values, true); c.Same != tt.same || c.Wrong != tt.wrong+tt.tied {
			t.Errorf("%s, strict: %+v", tt.name, *c)
		}
	}
	if c := JudgeChoice("x", []int{0}, []float64{0, 1}, []float64{nan, 1}, false); c.Wrong+c.Same != 1 || len(c.Ties) > 0 {
		t.Errorf("chosen by NaN: %+v", *c)
	}
	if s := Chosen("x", &Choice{}); s.Verdict != Fail {
		t.Errorf("no rows: %+v", s)
	}
}

func TestWorst(t *testing.T) {
	for _, tt := range []struct {
		list []Verdict
		want Verdict
	}{
		{nil, Fail}, {[]Verdict{Pass, Pass}, Pass}, {[]Verdict{Pass, NotJudged}, NotJudged},
		{[]Verdict{NotJudged, Fail, Pass}, Fail}, {[]Verdict{Pass, "fine"}, Fail}, {[]Verdict{""}, Fail},
	} {
		if got := worst(tt.list...); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.list, got, tt.want)
		}
	}
}

func TestDiffer(t *testing.T) {
	d := Differ([]float64{3, 4, nan, inf, inf}, []float64{3, 5, 0, inf, 1})
	if d.Elements != 5 || d.NonFinite != 2 || d.Max != 1 || d.Worst != 1 || d.RMS != math.Sqrt(12.5) || d.Error != math.Sqrt(0.5) {
		t.Errorf("%+v", *d)
	}
	for _, tt := range []struct {
		name      string
		want, got []float64
		verdict   Verdict
	}{
		{"equal", []float64{1, 2}, []float64{1, 2}, Pass},
		{"near", []float64{1, 1}, []float64{1, 1.00009}, Pass},
		{"far", []float64{1, 1}, []float64{1, 1.00011}, Fail},
		{"NaN", []float64{1, nan}, []float64{1, nan}, Fail},
		{"none", nil, nil, Fail},
		{"too few", []float64{1, 2}, []float64{1}, Fail},
		{"all zero but one", []float64{0, 0}, []float64{0, 1e-30}, Fail},
	} {
		if c := CheckNear(tt.name, 1e-4, tt.want, tt.got); c.Verdict != tt.verdict || (c.Why == "") != (tt.verdict == Pass) {
			t.Errorf("%s: %+v", tt.name, c)
		}
	}
	for _, tt := range []struct {
		name      string
		want, got []float64
		verdict   Verdict
	}{
		{"equal", []float64{1, 2}, []float64{1, 2}, Pass},
		{"near", []float64{900, 1}, []float64{900, 1.0009}, Pass},
		{"far, but not beside the others", []float64{900, 1}, []float64{900, 1.0011}, Fail},
		{"NaN", []float64{1, nan}, []float64{1, nan}, Fail},
		{"none", nil, nil, Fail},
		{"too few", []float64{1, 2}, []float64{1}, Fail},
	} {
		if c := CheckWithin(tt.name, 1e-3, tt.want, tt.got); c.Verdict != tt.verdict || (c.Why == "") != (tt.verdict == Pass) || !c.Absolute {
			t.Errorf("%s: %+v", tt.name, c)
		}
	}
	if same, rows := SameTop([]float64{1, 2, 5, 4, 0, 0}, []float64{0, 3, 1, 9, 7, 7}, 2); same != 2 || rows != 3 {
		t.Errorf("same top in %d of %d rows", same, rows)
	}
}

func TestWrap(t *testing.T) {
	if got := wrap("one two three four", 9); !slices.Equal(got, []string{"one two", "three", "four"}) {
		t.Errorf("%q", got)
	}
}

// Errors are counted in units in the last place, from the exact value; what is
// its rounding is in the first bin, what is not finite in the last.
func TestJudgeULPs(t *testing.T) {
	const ulp = 0x1p-23
	last := make([]int, ULPBins)
	last[ULPBins-1] = 1
	for _, tt := range []struct {
		name       string
		own, exact float64
		typ        checkpoint.DType
		ulps       []int
		max        float64
	}{
		{"exact", 1, 1, checkpoint.F32, []int{1}, 0},
		{"rounded", 1, 1 + ulp/4, checkpoint.F32, []int{1}, ulp / 4},
		{"the other neighbour", 1, 1 + 0.75*ulp, checkpoint.F32, []int{0, 1}, 0.75 * ulp},
		{"one off", 1, 1 + ulp, checkpoint.F32, []int{0, 1}, ulp},
		{"two off", 1, 1 + 2*ulp, checkpoint.F32, []int{0, 0, 1}, 2 * ulp},
		{"three off", 1 + 3*ulp, 1, checkpoint.F32, []int{0, 0, 0, 1}, 3 * ulp},
		{"bf16, one off", 1, 1 + 0x1p-7, checkpoint.BF16, []int{0, 1}, 0x1p-7},
		{"zero for a number", 0, 1, checkpoint.F32, last, 1},
		{"a number for zero", 0x1p-60, 0, checkpoint.F32, last, 0x1p-60},
		{"NaN", math.NaN(), 1, checkpoint.F32, last, math.MaxFloat64},
		{"infinity", math.Inf(1), 1, checkpoint.F32, last, math.MaxFloat64},
	} {
		f := Judge([]float64{tt.own}, []float64{tt.exact}, []float64{tt.exact}, tt.typ)
		if !slices.Equal(f.ULPs, tt.ulps) || f.Max != tt.max || tt.max < 1e9 && f.Error != tt.max {
			t.Errorf("%s: %v, error %g, at most %g; want %v and %g", tt.name, f.ULPs, f.Error, f.Max, tt.ulps, tt.max)
		}
		if want := math.Abs(Round(tt.exact, tt.typ) - tt.exact); f.Rounding != want {
			t.Errorf("%s: rounding alone %g, want %g", tt.name, f.Rounding, want)
		}
	}
}

// The gap is between the last that is chosen and the next, whatever the order.
func TestGaps(t *testing.T) {
	values := []float64{1, 4, 3, 2.5, 2, 2, 2, 2} // two rows of four, two chosen
	c := JudgeChoice("s", []int{0, 1}, []float64{1, 2, 0, 1}, values, true)
	want := make([]int, GapBin(0.5)+1)
	want[0], want[GapBin(0.5)] = 1, 1
	if c.LeastGap != 0 || c.MedianGap != 0.5 || !slices.Equal(c.Gaps, want) || c.Same != 2 {
		t.Errorf("%+v, want gaps %v", c, want)
	}
	for _, tt := range []struct {
		gap  float64
		want int
	}{{0, 0}, {0x1p-20, 1}, {0x1p-13, 2}, {0.5, 14}, {3.99, 16}, {4, GapBins - 1}, {1e300, GapBins - 1}, {math.NaN(), GapBins - 1}} {
		if got := GapBin(tt.gap); got != tt.want {
			t.Errorf("gap %g: bin %d, want %d", tt.gap, got, tt.want)
		}
	}
	if g := Gap([]float64{1, 2}, 2); g != 0 {
		t.Errorf("all chosen: gap %g", g)
	}
	r := CompareChoices("s", 2, []float64{1, 2, 0, 1}, []float64{2, 1, 0, 3}, values)
	if r.Rows != 2 || r.Same != 1 || !slices.Equal(r.Turned, []int{1}) || !slices.Equal(r.Gaps, want) {
		t.Errorf("%+v", r)
	}
}

// The bins of units in the last place are powers of two, ends included.
func TestULPBins(t *testing.T) {
	for bin := 1; bin < ULPBins-1; bin++ {
		top := math.Ldexp(1, bin-1)
		for off, want := range map[float64]int{top: bin, math.Nextafter(top, 0): bin, math.Nextafter(top, math.Inf(1)): bin + 1} {
			if got := ulpBin(off); got != want {
				t.Errorf("%g: bin %d, want %d", off, got, want)
			}
		}
	}
}

// The spacing is that of the definition, by math.Frexp, of any float64.
func TestSpacing(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	values := []float64{0, math.Copysign(0, -1), 0.5, 1, -1, math.Inf(1), math.Inf(-1), math.NaN(), math.MaxFloat64,
		math.SmallestNonzeroFloat64, 0x1p-1022, math.MaxFloat32, 0x1p-126, 0x1p-133, 0x1p-149}
	for range 100000 {
		values = append(values, math.Float64frombits(random.Uint64()), random.NormFloat64())
	}
	for _, v := range values {
		_, e := math.Frexp(v)
		for typ, want := range map[checkpoint.DType]float64{
			checkpoint.F32: math.Ldexp(1, max(e-24, -149)), checkpoint.BF16: math.Ldexp(1, max(e-8, -133)),
		} {
			if got := Spacing(v, typ); got != want {
				t.Fatalf("%v at %g: %g, want %g", typ, v, got, want)
			}
		}
	}
}
