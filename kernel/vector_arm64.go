package kernel

// vectorNEON returns v with loops for Advanced SIMD.
func vectorNEON(v vectorSet) vectorSet {
	v = vectorLoops{
		round: roundNEON, add: addNEON, roundAdd: roundAddNEON,
		squares: squaresNEON, scale: scaleNEON,
		max: maxNEON, exp: expNEON, share: shareNEON,
		rotate: rotateNEON, swiglu: swigluNEON, mix: mixNEON,
	}.with(v)
	return attendLoops{
		queries: 4, block: 16,
		scoresHalf: scores4HalfNEON, scoresHalf1: scores1HalfNEON,
		scoresFull: scores4FullNEON, scoresFull1: scores1FullNEON,
		valuesHalf: values4HalfNEON, valuesHalf1: values1HalfNEON,
		valuesFull: values4FullNEON, valuesFull1: values1FullNEON,
	}.with(v)
}

//go:noescape
func roundNEON(y, x *float32, n int, r *rounding)

//go:noescape
func addNEON(y, a, b *float32, n int, r *rounding)

//go:noescape
func roundAddNEON(y, a, b *float32, n int, r *rounding)

//go:noescape
func squaresNEON(x *float32, n int) (l lanes)

//go:noescape
func scaleNEON(y, x, s *float32, f float32, n int, r *rounding)

//go:noescape
func maxNEON(x *float32, n int, top float32) float32

//go:noescape
func expNEON(y, x *float32, n int, top float32) (l lanes)

//go:noescape
func shareNEON(y *float32, n int, f float64, r *rounding)

//go:noescape
func rotateNEON(y, x, cos, sin *float32, n int, r *rounding)

//go:noescape
func swigluNEON(y, x *float32, n int, minusAlpha, limit float32, r *rounding)

//go:noescape
func mixNEON(y, x *float32, stride int, w *float32, k, n int, r *rounding)

//go:noescape
func scores4HalfNEON(dst *float32, stride int, q *float32, dim int, keys *uint16, scale float32, r *rounding)

//go:noescape
func scores4FullNEON(dst *float32, stride int, q *float32, dim int, keys *float32, scale float32, r *rounding)

//go:noescape
func scores1HalfNEON(dst *float32, stride int, q *float32, dim int, keys *uint16, scale float32, r *rounding)

//go:noescape
func scores1FullNEON(dst *float32, stride int, q *float32, dim int, keys *float32, scale float32, r *rounding)

//go:noescape
func values4HalfNEON(y *float32, dim int, w *float32, stride int, values *uint16, n int)

//go:noescape
func values4FullNEON(y *float32, dim int, w *float32, stride int, values *float32, n int)

//go:noescape
func values1HalfNEON(y *float32, dim int, w *float32, stride int, values *uint16, n int)

//go:noescape
func values1FullNEON(y *float32, dim int, w *float32, stride int, values *float32, n int)
