package parity

import (
	"math"
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
	if same, rows := SameTop([]float64{1, 2, 5, 4, 0, 0}, []float64{0, 3, 1, 9, 7, 7}, 2); same != 2 || rows != 3 {
		t.Errorf("same top in %d of %d rows", same, rows)
	}
}

func TestWrap(t *testing.T) {
	if got := wrap("one two three four", 9); !slices.Equal(got, []string{"one two", "three", "four"}) {
		t.Errorf("%q", got)
	}
}
