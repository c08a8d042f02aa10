package parity

import (
	"fmt"
	"math"
	"slices"

	"ossify/checkpoint"
	"ossify/float"
)

// A Verdict says whether a comparison passed.
type Verdict string

// The verdicts.
const (
	Pass      Verdict = "pass"
	Fail      Verdict = "fail"
	NotJudged Verdict = "not judged"
)

// worst returns the worst of verdicts: one that is none of the above counts as
// a failure, and so do none at all. What was not judged has not passed.
func worst(verdicts ...Verdict) Verdict {
	order := []Verdict{Pass, NotJudged, Fail}
	at := -1
	for _, v := range verdicts {
		i := slices.Index(order, v)
		if i < 0 {
			return Fail
		}
		at = max(at, i)
	}
	if at < 0 {
		return Fail
	}
	return order[at]
}

// A Fit says how the numbers of a stage lie within their bounds.
type Fit struct {
	Elements int     `json:"elements"`
	Outside  int     `json:"outside"`           // elements that are not the rounding of a number within their bounds
	Excused  int     `json:"excused,omitempty"` // elements that are so by a named exception only
	Used     float64 `json:"used"`              // of the elements with an error of summation: the largest part of the bound that one needs
	Bounded  int     `json:"bounded"`           // those elements; the others have one right value
	RMS      float64 `json:"rms"`               // of the exact values
	Error    float64 `json:"rms_error"`         // root mean square of value − exact, the middle of the bounds
	Max      float64 `json:"max_error"`         // largest |value − exact|
	Rounding float64 `json:"rms_rounding"`      // rms error of the exact values' own roundings: nobody has less
	ULPs     []int   `json:"ulps,omitempty"`    // elements by |value − exact|, as [ULPBins] has it
	Worst    Element `json:"worst"`             // the one farthest outside, else the one that needs most
}

// ULPBins is the most bins of [Fit.ULPs]. The first counts elements that are
// the rounding of the exact value; bin i > 0 the others that are off by at most
// 2^(i-1) units in the last place, of the larger of both; the last bin all
// beyond, and what is not finite.
const ULPBins = 16

// An Element is one number of a stage and its bounds.
type Element struct {
	Index int     `json:"index"`
	Value float64 `json:"value"`
	Lo    float64 `json:"lo"`
	Hi    float64 `json:"hi"`
}

// Judge says whether every element of own, in type t (BF16 or F32), is the
// rounding of a number from lo to hi. The slices are of one length.
func Judge(own, lo, hi []float64, t checkpoint.DType) *Fit {
	f := &Fit{Elements: len(own)}
	squares, errors, least, most := 0.0, 0.0, 0.0, -1.0
	var ulps [ULPBins]int
	for i, v := range own {
		mid, half := lo[i]+(hi[i]-lo[i])/2, (hi[i]-lo[i])/2
		squares += mid * mid
		rounded := Round(mid, t)
		least += (rounded - mid) * (rounded - mid)
		off := math.Abs(v - mid)
		errors += off * off
		f.Max = max(f.Max, bounded(off))
		if v == rounded {
			ulps[0]++
		} else {
			ulps[ulpBin(off/Spacing(max(math.Abs(v), math.Abs(mid)), t))]++
		}
		ok := v == mid || Round(lo[i], t) <= v && v <= Round(hi[i], t) // false for NaN
		need := 0.0
		switch {
		case v == mid:
		case !ok:
			f.Outside++
			if need = math.Abs(v-mid) / (half + Spacing(mid, t)/2); !(need >= 1) {
				need = math.MaxFloat64 // NaN
			}
		case half > 0 && !math.IsInf(v, 0):
			// From the middle to the nearest number that rounds to v.
			need = max(0, math.Abs(v-mid)-Spacing(v, t)/2) / half
			f.Used = max(f.Used, min(need, 1))
		}
		if half > 0 {
			f.Bounded++
		}
		if !ok {
			need += 2 // before all that fit
		}
		if need > most {
			most, f.Worst = need, Element{i, bounded(v), bounded(lo[i]), bounded(hi[i])}
		}
	}
	if len(own) > 0 {
		f.RMS = bounded(math.Sqrt(squares / float64(len(own))))
		f.Error = bounded(math.Sqrt(errors / float64(len(own))))
		f.Rounding = bounded(math.Sqrt(least / float64(len(own))))
	}
	f.ULPs = trimmed(ulps[:])
	return f
}

// ulpBin returns the bin of [Fit.ULPs] of an element that is so many units in
// the last place off.
func ulpBin(off float64) int {
	if !(off <= 1<<(ULPBins-3)) { // true for NaN
		return ULPBins - 1
	}
	bits := math.Float64bits(off)
	e := int(bits>>52) - 1022 // off = part·2^e, part from 1/2 to 1; a subnormal is in the first bin
	if bits<<12 == 0 {
		e--
	}
	return max(e, 0) + 1
}

// trimmed returns counts without the zeros at their end.
func trimmed(counts []int) []int {
	for len(counts) > 0 && counts[len(counts)-1] == 0 {
		counts = counts[:len(counts)-1]
	}
	return slices.Clone(counts)
}

// Round rounds to a value of type t.
func Round(v float64, t checkpoint.DType) float64 {
	if t == checkpoint.BF16 {
		return float64(float.RoundBF16(float32(v)))
	}
	return float64(float32(v))
}

// Spacing is how far apart the values of type t are at v; of 0, and of what is
// not finite, as at 1/2.
func Spacing(v float64, t checkpoint.DType) float64 {
	digits, least := 24, -149
	if t == checkpoint.BF16 {
		digits, least = 8, -133
	}
	e := int(math.Float64bits(v)>>52&0x7ff) - 1022 // v = part·2^e, part from 1/2 to 1; a subnormal is below least
	if v == 0 || e > 1024 {
		e = 0
	}
	return math.Float64frombits(uint64(max(e-digits, least)+1023) << 52)
}

// bounded keeps v a finite number, so that it can be written as JSON.
func bounded(v float64) float64 {
	if v != v {
		return math.MaxFloat64
	}
	return max(min(v, math.MaxFloat64), -math.MaxFloat64)
}

// A Choice says how the indices chosen in the rows of a stage compare.
type Choice struct {
	Rows  int   `json:"rows"`
	Same  int   `json:"same"`  // rows with the indices of the largest values, of equal ones the lower first
	Wrong int   `json:"wrong"` // rows that do not hold largest values, or not in falling order
	Ties  []Tie `json:"ties,omitempty"`
	First *Tie  `json:"first_wrong,omitempty"`

	// How far the last value that is among the largest is above the next: what an
	// error must reach to turn the choice.
	LeastGap  float64 `json:"least_gap"`
	MedianGap float64 `json:"median_gap"`
	Gaps      []int   `json:"gaps,omitempty"` // rows by gap, as [GapBin] has it
}

// GapBins is how many bins [GapBin] knows.
const GapBins = 18

// GapBin returns the bin of a gap between two values: 0 for none, i > 0 for
// less than 2^(i-14), the last for all beyond.
func GapBin(gap float64) int {
	if gap == 0 {
		return 0
	}
	for bin := 1; bin < GapBins-1; bin++ {
		if gap < math.Ldexp(1, bin-14) {
			return bin
		}
	}
	return GapBins - 1
}

// Gap returns how far the k-th largest value is above the next; 0 if there is
// none.
func Gap(values []float64, k int) float64 {
	if k < 1 || k >= len(values) {
		return 0
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	gap := bounded(sorted[len(sorted)-k] - sorted[len(sorted)-k-1])
	return max(gap, 0)
}

// A Tie is a row in which another of equal values was chosen, or, if it is
// wrong, of others.
type Tie struct {
	Stage    string `json:"stage"`
	Position int    `json:"position"`
	Chosen   []int  `json:"chosen"`
	Lowest   []int  `json:"lowest_first"`
}

func (t Tie) String() string {
	return fmt.Sprintf("%s, position %d: %v for %v", t.Stage, t.Position, t.Chosen, t.Lowest)
}

// JudgeChoice judges indices [rows, K], chosen by values [rows, N]. Rows in
// which equal values are chosen in another order, or one of them for another,
// are ties, which a program may break as it likes; if strict, it may not.
func JudgeChoice(stage string, positions []int, chosen, values []float64, strict bool) *Choice {
	c := &Choice{Rows: len(positions)}
	if len(positions) == 0 {
		return c
	}
	k, n := len(chosen)/len(positions), len(values)/len(positions)
	gaps, bins := make([]float64, len(positions)), [GapBins]int{}
	for i, p := range positions {
		row := values[i*n:][:n]
		gaps[i] = Gap(row, k)
		bins[GapBin(gaps[i])]++
		order := make([]int, n)
		for j := range order {
			order[j] = j
		}
		slices.SortStableFunc(order, func(a, b int) int {
			switch {
			case row[a] > row[b]:
				return -1
			case row[a] < row[b]:
				return 1
			}
			return 0
		})
		t := Tie{stage, p, indices(chosen[i*k:][:k]), order[:min(k, n)]}
		if slices.Equal(t.Chosen, t.Lowest) {
			c.Same++
			continue
		}
		tied := !strict && k <= n
		for j, e := range t.Chosen {
			tied = tied && e >= 0 && e < n && !slices.Contains(t.Chosen[:j], e) && row[e] == row[t.Lowest[j]] // false for NaN
		}
		if tied {
			c.Ties = append(c.Ties, t)
			continue
		}
		if c.Wrong++; c.First == nil {
			c.First = &t
		}
	}
	slices.Sort(gaps)
	c.LeastGap, c.MedianGap, c.Gaps = gaps[0], gaps[len(gaps)/2], trimmed(bins[:])
	return c
}

func indices(values []float64) []int {
	list := make([]int, len(values))
	for i, v := range values {
		list[i] = -1
		if v >= 0 && v < 1<<31 {
			list[i] = int(v)
		}
	}
	return list
}

// A StageReport is a stage of a program: numbers or a choice.
type StageReport struct {
	Name    string     `json:"name"`
	Fit     *Fit       `json:"fit,omitempty"`
	Choice  *Choice    `json:"choice,omitempty"`
	Rows    []RowError `json:"rows,omitempty"` // of attention with a window: those beside its edge
	Verdict Verdict    `json:"verdict"`
	Why     string     `json:"why,omitempty"`
}

// A RowError says how far one row is from its exact values.
type RowError struct {
	Position int     `json:"position"`
	RMS      float64 `json:"rms"`       // of the exact values
	Error    float64 `json:"rms_error"` // root mean square of value − exact
}

// JudgeRow measures one row, as [Judge] does all.
func JudgeRow(position int, own, lo, hi []float64) RowError {
	squares, errors := 0.0, 0.0
	for i, v := range own {
		mid := lo[i] + (hi[i]-lo[i])/2
		squares += mid * mid
		errors += (v - mid) * (v - mid)
	}
	n := float64(max(1, len(own)))
	return RowError{position, bounded(math.Sqrt(squares / n)), bounded(math.Sqrt(errors / n))}
}

// Fitted is the report of a stage of numbers, with rows of width elements at
// the positions.
func Fitted(stage string, positions []int, f *Fit) StageReport {
	s := StageReport{Name: stage, Fit: f, Verdict: Pass}
	switch {
	case f.Elements == 0:
		s.Verdict, s.Why = Fail, "no elements, want some"
	case f.Outside > 0:
		width := max(1, f.Elements/max(1, len(positions)))
		at := fmt.Sprintf("element %d", f.Worst.Index)
		if row := f.Worst.Index / width; row < len(positions) {
			at = fmt.Sprintf("position %d, element %d", positions[row], f.Worst.Index%width)
		}
		s.Verdict, s.Why = Fail, fmt.Sprintf("%d of %d elements outside their bounds; %s is %.9g, want %s (rms %.3g)",
			f.Outside, f.Elements, at, f.Worst.Value, f.Worst.want(), f.RMS)
	}
	return s
}

func (e Element) want() string {
	if e.Lo == e.Hi {
		return fmt.Sprintf("%.9g", e.Lo)
	}
	return fmt.Sprintf("%.9g to %.9g", e.Lo, e.Hi)
}

// Chosen is the report of a stage of indices.
func Chosen(stage string, c *Choice) StageReport {
	s := StageReport{Name: stage, Choice: c, Verdict: Pass}
	switch {
	case c.Rows == 0:
		s.Verdict, s.Why = Fail, "no rows, want some"
	case c.Wrong > 0:
		s.Verdict, s.Why = Fail, fmt.Sprintf("%d of %d rows choose others; at position %d %v, want %v", c.Wrong, c.Rows, c.First.Position, c.First.Chosen, c.First.Lowest)
	case c.Same+len(c.Ties) != c.Rows:
		s.Verdict, s.Why = Fail, fmt.Sprintf("%d of %d rows compared", c.Same+len(c.Ties), c.Rows)
	}
	return s
}
