package parity

import (
	"math"
	"math/bits"

	"ossify/checkpoint"
	"ossify/float"
)

// Errors says how far the values of a stage, ours, are from the reference's,
// and both from the exact ones. It counts elements whose difference is a
// number; of the others it counts how many there are.
type Errors struct {
	Elements  int     `json:"elements"`
	RMS       float64 `json:"rms"`                      // of the reference
	Max       float64 `json:"max"`                      // largest |Δ|
	Mean      float64 `json:"mean"`                     // mean |Δ|
	Error     float64 `json:"rms_error"`                // root mean square of Δ
	Channel   float64 `json:"max_by_channel,omitempty"` // largest |Δ| in units of its channel's rms, or the stage's if that is larger; see ByChannel
	Worst     int     `json:"worst"`                    // index of the element with the largest |Δ|
	Identical int     `json:"identical"`                // elements of the same bits
	ULPs      ULPs    `json:"ulps"`                     // distances
	ZeroOne   int     `json:"zero_one"`                 // elements where exactly one side is 0
	NonFinite int     `json:"non_finite"`               // elements with a NaN, or an infinity on one side only

	// Against the exact values, if there are any.
	Exact        bool    `json:"exact"`
	Ours         float64 `json:"our_error,omitempty"` // root mean square
	Reference    float64 `json:"reference_error,omitempty"`
	OursMax      float64 `json:"our_max,omitempty"` // largest
	ReferenceMax float64 `json:"reference_max,omitempty"`
}

// ULPs is a histogram of distances in units of the last place of the
// reference's type: 0, 1, 2, 3-4, 5-8, and so on by doubling.
type ULPs [8]int

// ulpLabels name the buckets of ULPs.
var ulpLabels = [len(ULPs{})]string{"0", "1", "2", "3-4", "5-8", "9-16", "17-32", "33+"}

// add counts a distance.
func (u *ULPs) add(d uint64) {
	b := 0
	if d > 0 {
		b = 1 + bits.Len64(d-1)
	}
	u[min(b, len(u)-1)]++
}

// IdenticalPart returns the part of the elements that have the same bits.
func (e *Errors) IdenticalPart() float64 { return part(e.Identical, e.Elements) }

// Relative returns v in units of the stage's rms; 0 is 0 of any rms.
func (e *Errors) Relative(v float64) float64 {
	if v == 0 {
		return 0
	}
	return v / e.RMS
}

// Ratio returns our error in units of the reference's; 1 if both are 0.
func (e *Errors) Ratio() float64 {
	if e.Ours == e.Reference {
		return 1
	}
	return e.Ours / e.Reference
}

func part(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

// Measure compares ours with the reference, of type t, and both with the exact
// values, which may be nil. The slices are of one length.
func Measure(reference, ours, exact []float64, t checkpoint.DType) *Errors {
	e := &Errors{Elements: len(reference), Exact: exact != nil}
	var squares, sum, errors, our, their mean
	for i, r := range reference {
		o := ours[i]
		finite := r == r && !math.IsInf(r, 0)
		if finite {
			squares.square(r)
		}
		if math.Float64bits(r) == math.Float64bits(o) {
			e.Identical++
		}
		if r != r || o != o || r != o && (!finite || math.IsInf(o, 0)) {
			e.NonFinite++
			continue
		}
		if (r == 0) != (o == 0) {
			e.ZeroOne++
		}
		e.ULPs.add(Distance(r, o, t))
		if r == o { // equal infinities too, whose difference is none
			sum.add(0)
			errors.add(0)
		} else {
			d := bounded(math.Abs(o - r))
			if d > e.Max {
				e.Max, e.Worst = d, i
			}
			sum.add(d)
			errors.square(d)
		}
		if exact != nil {
			switch x := exact[i]; {
			case !finite: // both the same infinity: beyond the type's range
			case math.IsNaN(x) || math.IsInf(x, 0):
				e.NonFinite++
			default:
				our.square(o - x)
				their.square(r - x)
				e.OursMax = max(e.OursMax, bounded(math.Abs(o-x)))
				e.ReferenceMax = max(e.ReferenceMax, bounded(math.Abs(r-x)))
			}
		}
	}
	e.RMS, e.Mean, e.Error = squares.root(), sum.value(), errors.root()
	e.Ours, e.Reference = our.root(), their.root()
	return e
}

// ByChannel measures Channel, for rows of that many channels, which is the last
// dimension of the stage.
func (e *Errors) ByChannel(reference, ours []float64, channels int) {
	rms := make([]mean, channels)
	for i, r := range reference {
		if !math.IsInf(r, 0) && r == r {
			rms[i%channels].square(r)
		}
	}
	for i, r := range reference {
		if d := math.Abs(ours[i] - r); d > 0 { // not NaN, which is counted elsewhere
			e.Channel = max(e.Channel, bounded(d/max(e.RMS, rms[i%channels].root())))
		}
	}
}

// mean is one under way.
type mean struct {
	sum float64
	n   int
}

func (s *mean) add(v float64)    { s.sum, s.n = s.sum+v, s.n+1 }
func (s *mean) square(v float64) { s.add(v * v) }

func (s *mean) value() float64 {
	if s.n == 0 {
		return 0
	}
	return bounded(s.sum / float64(s.n))
}

func (s *mean) root() float64 { return math.Sqrt(s.value()) }

// bounded keeps v finite, so that it can be written as JSON.
func bounded(v float64) float64 { return min(v, math.MaxFloat64) }

// Distance returns how many values of type t (BF16, F32 or F64) lie from a to
// b, each rounded to it; +0 and −0 are one value.
func Distance(a, b float64, t checkpoint.DType) uint64 {
	x, y := magnitude(a, t), magnitude(b, t)
	switch {
	case (a < 0) != (b < 0):
		return x + y
	case x < y:
		return y - x
	}
	return x - y
}

// magnitude numbers the values of a type upwards from 0, without their sign.
func magnitude(v float64, t checkpoint.DType) uint64 {
	v = math.Abs(v)
	switch t {
	case checkpoint.BF16:
		return uint64(float.ToBF16(float32(v)))
	case checkpoint.F32:
		return uint64(math.Float32bits(float32(v)))
	}
	return math.Float64bits(v)
}
