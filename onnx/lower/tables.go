package lower

import (
	"iter"
	"math"

	"ossify/float"
	"ossify/graph"
)

// lowPositions splits a position in two: p = lowPositions·high + low.
const lowPositions = 256

// rotation holds cosines and sines by which the angle of any position below
// rows·lowPositions is found through
//
//	cos(h+l) = cos h·cos l − sin h·sin l
//	sin(h+l) = sin h·cos l + cos h·sin l
//
// Each is computed in float64 and rounded once, and the sums round three times
// more, so that a result is off by at most 4·2⁻²⁴·Concentration. Multiplying
// position and frequency in float32 would be off by position·2⁻²⁴ radians. The
// concentration is in high.
type rotation struct {
	rows             int               // of high
	highCos, highSin iter.Seq[float32] // [rows, Dim/2]
	lowCos, lowSin   iter.Seq[float32] // [lowPositions, Dim/2]
}

func rotationOf(r graph.Rope, positions int) rotation {
	freq := r.Frequencies()
	table := func(rows, step int, scale float64) (cos, sin iter.Seq[float32]) {
		values := func(of func(sin, cos float64) float64) iter.Seq[float32] {
			return func(yield func(float32) bool) {
				for i := range rows {
					for _, f := range freq {
						if !yield(float32(scale * of(math.Sincos(float64(i*step)*f)))) {
							return
						}
					}
				}
			}
		}
		return values(func(_, cos float64) float64 { return cos }), values(func(sin, _ float64) float64 { return sin })
	}
	t := rotation{rows: (positions + lowPositions - 1) / lowPositions}
	t.highCos, t.highSin = table(t.rows, lowPositions, r.Concentration)
	t.lowCos, t.lowSin = table(lowPositions, 1, 1)
	return t
}

// mxfp4Codes is how many pairs of a scale and a byte of two codes there are.
const mxfp4Codes = 1 << 16

// mxfp4Values is [mxfp4Codes]: at 256·scale + byte the value, in a block of that
// scale, of the byte's four bits from shift on.
func mxfp4Values(shift int) iter.Seq[float32] {
	return func(yield func(float32) bool) {
		for i := range mxfp4Codes {
			if !yield(float.E2M1(byte(i)>>shift&15) * float.E8M0(byte(i>>8))) {
				return
			}
		}
	}
}
