package parity

import (
	"fmt"
	"slices"

	"ossify/checkpoint"
)

// A Verdict says whether a comparison passed.
type Verdict string

// The verdicts, from good to bad. Ambiguous is a near-tie: two answers that the
// reference's rounding does not tell apart, of which ours is the other one.
const (
	Pass      Verdict = "pass"
	Ambiguous Verdict = "ambiguous"
	Fail      Verdict = "fail"
	NotJudged Verdict = "not judged"
)

// worst returns the worst of verdicts; one that is none of the above counts as
// a failure, and so do none at all.
func worst(verdicts ...Verdict) Verdict {
	order := []Verdict{NotJudged, Pass, Ambiguous, Fail}
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

// Tolerances are what a comparison must keep to pass. Which apply is decided by
// the type of the reference's numbers.
type Tolerances struct {
	Stage  float64 `json:"f32_stage"`      // f32, teacher-forced: |Δ| of any element, in units of the stage's rms
	Zeros  float64 `json:"f32_zeros"`      // f32, teacher-forced: part of elements that are 0 on one side only
	Logits float64 `json:"f32_logits"`     // f32, free-running: |Δ| of any logit, in units of their rms
	Same   float64 `json:"bf16_identical"` // bf16, teacher-forced: part of a stage's elements that have the same bits
	Error  float64 `json:"bf16_error"`     // bf16, teacher-forced: our rms error against the exact values, in units of the reference's
	Rows   float64 `json:"bf16_rows"`      // bf16, free-running: the same of a row's logits, in the median row
}

// witnessed is how many times the bound of a stage may be exceeded where the
// reference's own error is seen to be the reason.
const witnessed = 3

// Stated returns the tolerances that ossify claims. They leave room for another
// order of summation and for nothing else; docs/parity.md derives them.
//
// Stage: a sum of n products in float32 is off by about 2^-24·√n of the root of
// its terms' squares, in either program: 4e-6 for n = 4096. Sums in blocks, as
// fast kernels have them, stay below a quarter of that. The reference does not
// always: of long plain sums, and in channels of massive activations, dozens of
// times the stage's rms, its largest error alone can exceed the bound. Where
// the exact values show that its largest error is no smaller than ours, a |Δ| of
// three times the bound passes, in units of its channel's rms. Not more, so
// that a mistake that we share with the exact values is no excuse.
// Zeros: what is tiny stays far below Stage's bound, so it is counted instead.
// Logits: errors of that size through some layers, each of which may double them.
// Same: where sums differ in the last bits of float32, one in a few hundred
// rounds to the other bfloat16.
// Error: bfloat16's own rounding is thousands of times larger than what the
// order of summation changes, so the two errors are as good as equal; 5% is
// the scatter of a stage of few elements.
// Rows: a choice of experts that rounding turns in an early row reaches all
// later ones through attention, a little. On ten checkpoints of tiny the median
// was 1 nine times, and 1.045.
func Stated() Tolerances {
	return Tolerances{Stage: 1e-5, Zeros: 1e-4, Logits: 1e-4, Same: 0.995, Error: 1.05, Rows: 1.25}
}

// Forced judges a stage that was computed from the reference's own inputs.
func (t Tolerances) Forced(e *Errors, typ checkpoint.DType) (Verdict, string) {
	if e.NonFinite > 0 {
		return Fail, fmt.Sprintf("%d elements are NaN, or infinite on one side", e.NonFinite)
	}
	if typ == checkpoint.BF16 {
		if !(e.IdenticalPart() >= t.Same) {
			return Fail, fmt.Sprintf("%s of the elements identical, want %s", percent(e.IdenticalPart()), percent(t.Same))
		}
		return t.error(e)
	}
	bound := t.Stage * e.RMS
	if !(e.Max <= bound) {
		if e.Exact && e.OursMax <= e.ReferenceMax && e.Channel > 0 && e.Channel <= witnessed*t.Stage {
			return Pass, fmt.Sprintf("off by %.3g of the rms, where the reference is off by %.3g from the exact values and we by %.3g",
				e.Relative(e.Max), e.Relative(e.ReferenceMax), e.Relative(e.OursMax))
		}
		return Fail, fmt.Sprintf("element %d is off by %.3g, rms %.3g, want at most %.3g of it", e.Worst, e.Max, e.RMS, t.Stage)
	}
	if !(part(e.ZeroOne, e.Elements) <= t.Zeros) {
		return Fail, fmt.Sprintf("%s of the elements are 0 on one side only, want at most %s", percent(part(e.ZeroOne, e.Elements)), percent(t.Zeros))
	}
	return Pass, ""
}

// error judges our error by the reference's.
func (t Tolerances) error(e *Errors) (Verdict, string) {
	switch {
	case !e.Exact:
		return Fail, "no exact values to judge by"
	case !(e.Ours <= t.Error*e.Reference):
		return Fail, fmt.Sprintf("our rms error is %.4g, the reference's %.4g, want at most %g times that", e.Ours, e.Reference, t.Error)
	}
	return Pass, ""
}

// Routed judges choices of experts.
func (t Tolerances) Routed(r *Routing) (Verdict, string) {
	switch {
	case r.Wrong > 0:
		c := r.Differing[0]
		return Fail, fmt.Sprintf("%d of %d rows choose other experts; at position %d %v, want %v", r.Wrong, r.Rows, c.Position, c.Ours, c.Reference)
	case r.NearTies > 0:
		c := r.Differing[0]
		return Ambiguous, fmt.Sprintf("%d of %d rows choose another of tied experts; at position %d %v for %v, %.3g apart",
			r.NearTies, r.Rows, c.Position, c.Ours, c.Reference, c.Reach)
	case r.Same != r.Rows || r.Rows == 0:
		return Fail, fmt.Sprintf("%d of %d rows compared", r.Same, r.Rows)
	}
	return Pass, ""
}
