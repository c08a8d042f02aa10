package parity

import (
	"fmt"
	"math"
)

// A Run is what a program computed: stages, a row for each of the positions
// that are compared, of keys and values for every position.
type Run map[string][]float64

// Difference says how far values are from others.
type Difference struct {
	Elements  int     `json:"elements"`
	RMS       float64 `json:"rms"`        // of the others
	Max       float64 `json:"max"`        // largest |Δ|
	Error     float64 `json:"rms_error"`  // root mean square of Δ
	Worst     int     `json:"worst"`      // index of the element with the largest |Δ|
	NonFinite int     `json:"non_finite"` // elements with a NaN, or an infinity on one side only
}

// Differ compares values with others of the same length.
func Differ(others, values []float64) *Difference {
	d := &Difference{Elements: len(others)}
	squares, errors, n := 0.0, 0.0, 0
	for i, r := range others {
		v := values[i]
		switch {
		case r != r || v != v || r != v && (math.IsInf(r, 0) || math.IsInf(v, 0)):
			d.NonFinite++
			continue
		case math.IsInf(r, 0): // on both sides
			continue
		}
		n++
		squares += r * r
		e := math.Abs(v - r)
		errors += e * e
		if e > d.Max {
			d.Max, d.Worst = bounded(e), i
		}
	}
	if n > 0 {
		d.RMS, d.Error = bounded(math.Sqrt(squares/float64(n))), bounded(math.Sqrt(errors/float64(n)))
	}
	return d
}

// Relative returns v in units of the rms; 0 is 0 of any rms.
func (d *Difference) Relative(v float64) float64 {
	if v == 0 {
		return 0
	}
	return bounded(v / d.RMS)
}

// A Check is a comparison of values of which no stages are seen.
type Check struct {
	Name    string  `json:"name"`
	Max     float64 `json:"max"` // |Δ|, in units of the rms, or of nothing if it is absolute
	Bound   float64 `json:"bound"`
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why,omitempty"`

	Absolute bool `json:"absolute,omitempty"`
}

// CheckNear checks that no value is farther from want than bound times their
// rms.
func CheckNear(name string, bound float64, want, values []float64) Check {
	c := Check{Name: name, Bound: bound, Verdict: Pass}
	if len(want) != len(values) || len(values) == 0 {
		c.Verdict, c.Why = Fail, fmt.Sprintf("%d values, want %d", len(values), len(want))
		return c
	}
	d := Differ(want, values)
	c.Max = d.Relative(d.Max)
	switch {
	case d.NonFinite > 0:
		c.Verdict, c.Why = Fail, fmt.Sprintf("%d values are NaN, or infinite on one side", d.NonFinite)
	case !(d.Max <= bound*d.RMS):
		c.Verdict, c.Why = Fail, fmt.Sprintf("value %d is off by %.3g, rms %.3g", d.Worst, d.Max, d.RMS)
	}
	return c
}

// CheckWithin checks that no value is farther from want than bound, absolutely.
func CheckWithin(name string, bound float64, want, values []float64) Check {
	c := Check{Name: name, Bound: bound, Verdict: Pass, Absolute: true}
	if len(want) != len(values) || len(values) == 0 {
		c.Verdict, c.Why = Fail, fmt.Sprintf("%d values, want %d", len(values), len(want))
		return c
	}
	d := Differ(want, values)
	c.Max = bounded(d.Max)
	switch {
	case d.NonFinite > 0:
		c.Verdict, c.Why = Fail, fmt.Sprintf("%d values are NaN, or infinite on one side", d.NonFinite)
	case !(d.Max <= bound):
		c.Verdict, c.Why = Fail, fmt.Sprintf("value %d is off by %.3g", d.Worst, d.Max)
	}
	return c
}

// SameTop counts the rows of width values whose largest stands in the same
// column.
func SameTop(a, b []float64, width int) (same, rows int) {
	for i := 0; i+width <= min(len(a), len(b)); i += width {
		rows++
		if top(a[i:i+width]) == top(b[i:i+width]) {
			same++
		}
	}
	return same, rows
}

// top returns the first column of the largest value.
func top(row []float64) int {
	best := 0
	for j, v := range row {
		if v > row[best] {
			best = j
		}
	}
	return best
}
