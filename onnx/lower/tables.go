package lower

import (
	"math"

	"ossify/float"
	"ossify/graph"
)

// lowPositions splits a position in two: p = lowPositions·high + low.
const lowPositions = 256

// rotation holds cosines and sines by which the angle of any position below
// len(high)·lowPositions is found through
//
//	cos(h+l) = cos h·cos l − sin h·sin l
//	sin(h+l) = sin h·cos l + cos h·sin l
//
// Each is computed in float64 and rounded once, and the sums round three times
// more, so that a result is off by at most 4·2⁻²⁴·Concentration. Multiplying
// position and frequency in float32 would be off by position·2⁻²⁴ radians. The
// concentration is in high.
type rotation struct {
	highCos, highSin []float32 // [positions/lowPositions, Dim/2]
	lowCos, lowSin   []float32 // [lowPositions, Dim/2]
}

func rotationOf(r graph.Rope, positions int) rotation {
	freq := r.Frequencies()
	table := func(n, step int, scale float64) (cos, sin []float32) {
		for i := range n {
			for _, f := range freq {
				s, c := math.Sincos(float64(i*step) * f)
				cos, sin = append(cos, float32(scale*c)), append(sin, float32(scale*s))
			}
		}
		return cos, sin
	}
	var t rotation
	t.highCos, t.highSin = table((positions+lowPositions-1)/lowPositions, lowPositions, r.Concentration)
	t.lowCos, t.lowSin = table(lowPositions, 1, 1)
	return t
}

// mxfp4Codes is how many pairs of a scale and a byte of two codes there are.
const mxfp4Codes = 1 << 16

// mxfp4Values is [mxfp4Codes]: at 256·scale + byte the value, in a block of that
// scale, of the byte's four bits from shift on.
func mxfp4Values(shift int) []float32 {
	t := make([]float32, 0, mxfp4Codes)
	for scale := range 256 {
		for b := range 256 {
			t = append(t, float.E2M1(byte(b>>shift)&15)*float.E8M0(byte(scale)))
		}
	}
	return t
}
