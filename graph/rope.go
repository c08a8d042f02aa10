package graph

import "math"

// Frequencies returns the angle per position of each column pair: f(i).
func (r Rope) Frequencies() []float64 {
	f := make([]float64, r.Dim/2)
	for i := range f {
		theta := math.Pow(r.Theta, 2*float64(i)/float64(r.Dim))
		if i == r.SlipAt {
			theta *= 1 + float64(r.Slip)*0x1p-23
		}
		m := 1 - min(max((float64(i)-r.Low)/(r.High-r.Low), 0), 1)
		f[i] = (1-m)/(r.Factor*theta) + m/theta
	}
	return f
}

// Frequencies32 returns f(i), each step rounded to float32 as RotaryEmbedding
// of gpt_oss/torch/model.py has it: at position 4,096 a last bit of f moves an
// angle by 2e-4, so better arithmetic would be another model.
//
// off, which may be nil, moves θ(i) by that many units in the last place: what
// another program's pow may be off by.
func (r Rope) Frequencies32(off []int) []float32 {
	f := make([]float32, r.Dim/2)
	low, width := float32(r.Low), float32(r.High-r.Low)
	for i := range f {
		theta := float32(math.Pow(r.Theta, float64(float32(2*i)/float32(r.Dim))))
		units := 0
		if off != nil {
			units += off[i]
		}
		if i == r.SlipAt {
			units += r.Slip
		}
		theta = math.Float32frombits(uint32(int(math.Float32bits(theta)) + units))
		extrapolation := 1 / theta
		if r.Factor <= 1 {
			f[i] = extrapolation
			continue
		}
		interpolation := 1 / float32(float32(r.Factor)*theta)
		ramp := (float32(i) - low) / width
		mask := 1 - min(max(ramp, 0), 1)
		f[i] = float32(interpolation*float32(1-mask)) + float32(extrapolation*mask)
	}
	return f
}
