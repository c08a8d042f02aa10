package screen

import "ossify/kernel"

// Row returns a row of the copy.
func (s *Screen) Row(r int) []float32 {
	var x kernel.Int16
	set := kernel.Portable()
	row, one, y := make([]float32, s.cols), make([]int16, s.cols), make([]int64, 1)
	for c := range row {
		one[c] = 1
		x.Pack(one)
		one[c] = 0
		set.Int6(y, s.q[r*s.stride:][:s.stride], &x)
		row[c] = s.bounds[r].scale * float32(y[0])
	}
	return row
}
