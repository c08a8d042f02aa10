package kernel

// vectorAVX2 returns v with loops for AVX2 and FMA.
func vectorAVX2(v vectorSet) vectorSet {
	v = vectorLoops{
		round: roundAVX2, add: addAVX2, roundAdd: roundAddAVX2,
		squares: squaresAVX2, scale: scaleAVX2,
		max: maxAVX2, exp: expAVX2, share: shareAVX2,
		rotate: rotateAVX2, swiglu: swigluAVX2, mix: mixAVX2,
	}.with(v)
	return attendLoops{
		queries: 4, block: 16,
		scoresHalf: scores4HalfAVX2, scoresHalf1: scores1HalfAVX2,
		scoresFull: scores4FullAVX2, scoresFull1: scores1FullAVX2,
		valuesHalf: values4HalfAVX2, valuesHalf1: values1HalfAVX2,
		valuesFull: values4FullAVX2, valuesFull1: values1FullAVX2,
	}.with(v)
}

// vectorAVX512 returns v with loops for AVX-512F and VL.
func vectorAVX512(v vectorSet) vectorSet {
	v = vectorLoops{
		round: roundAVX512, add: addAVX512, roundAdd: roundAddAVX512,
		squares: squaresAVX512, scale: scaleAVX512,
		max: maxAVX512, exp: expAVX512, share: shareAVX512,
		rotate: rotateAVX512, swiglu: swigluAVX512, mix: mixAVX512,
	}.with(v)
	return attendLoops{
		queries: 8, block: 32,
		scoresHalf: scores8HalfAVX512, scoresHalf1: scores1HalfAVX512,
		scoresFull: scores8FullAVX512, scoresFull1: scores1FullAVX512,
		valuesHalf: values8HalfAVX512, valuesHalf1: values1HalfAVX512,
		valuesFull: values8FullAVX512, valuesFull1: values1FullAVX512,
	}.with(v)
}

//go:noescape
func roundAVX2(y, x *float32, n int, r *rounding)

//go:noescape
func addAVX2(y, a, b *float32, n int, r *rounding)

//go:noescape
func roundAddAVX2(y, a, b *float32, n int, r *rounding)

//go:noescape
func squaresAVX2(x *float32, n int) (l lanes)

//go:noescape
func scaleAVX2(y, x, s *float32, f float32, n int, r *rounding)

//go:noescape
func maxAVX2(x *float32, n int, top float32) float32

//go:noescape
func expAVX2(y, x *float32, n int, top float32) (l lanes)

//go:noescape
func shareAVX2(y *float32, n int, f float64, r *rounding)

//go:noescape
func rotateAVX2(y, x, cos, sin *float32, n int, r *rounding)

//go:noescape
func swigluAVX2(y, x *float32, n int, minusAlpha, limit float32, r *rounding)

//go:noescape
func mixAVX2(y, x *float32, stride int, w *float32, k, n int, r *rounding)

//go:noescape
func scores4HalfAVX2(dst *float32, stride int, q *float32, dim int, keys *uint16, scale float32, r *rounding)

//go:noescape
func scores4FullAVX2(dst *float32, stride int, q *float32, dim int, keys *float32, scale float32, r *rounding)

//go:noescape
func scores1HalfAVX2(dst *float32, stride int, q *float32, dim int, keys *uint16, scale float32, r *rounding)

//go:noescape
func scores1FullAVX2(dst *float32, stride int, q *float32, dim int, keys *float32, scale float32, r *rounding)

//go:noescape
func values4HalfAVX2(y *float32, dim int, w *float32, stride int, values *uint16, n int)

//go:noescape
func values4FullAVX2(y *float32, dim int, w *float32, stride int, values *float32, n int)

//go:noescape
func values1HalfAVX2(y *float32, dim int, w *float32, stride int, values *uint16, n int)

//go:noescape
func values1FullAVX2(y *float32, dim int, w *float32, stride int, values *float32, n int)

//go:noescape
func roundAVX512(y, x *float32, n int, r *rounding)

//go:noescape
func addAVX512(y, a, b *float32, n int, r *rounding)

//go:noescape
func roundAddAVX512(y, a, b *float32, n int, r *rounding)

//go:noescape
func squaresAVX512(x *float32, n int) (l lanes)

//go:noescape
func scaleAVX512(y, x, s *float32, f float32, n int, r *rounding)

//go:noescape
func maxAVX512(x *float32, n int, top float32) float32

//go:noescape
func expAVX512(y, x *float32, n int, top float32) (l lanes)

//go:noescape
func shareAVX512(y *float32, n int, f float64, r *rounding)

//go:noescape
func rotateAVX512(y, x, cos, sin *float32, n int, r *rounding)

//go:noescape
func swigluAVX512(y, x *float32, n int, minusAlpha, limit float32, r *rounding)

//go:noescape
func mixAVX512(y, x *float32, stride int, w *float32, k, n int, r *rounding)

//go:noescape
func scores8HalfAVX512(dst *float32, stride int, q *float32, dim int, keys *uint16, scale float32, r *rounding)

//go:noescape
func scores8FullAVX512(dst *float32, stride int, q *float32, dim int, keys *float32, scale float32, r *rounding)

//go:noescape
func scores1HalfAVX512(dst *float32, stride int, q *float32, dim int, keys *uint16, scale float32, r *rounding)

//go:noescape
func scores1FullAVX512(dst *float32, stride int, q *float32, dim int, keys *float32, scale float32, r *rounding)

//go:noescape
func values8HalfAVX512(y *float32, dim int, w *float32, stride int, values *uint16, n int)

//go:noescape
func values8FullAVX512(y *float32, dim int, w *float32, stride int, values *float32, n int)

//go:noescape
func values1HalfAVX512(y *float32, dim int, w *float32, stride int, values *uint16, n int)

//go:noescape
func values1FullAVX512(y *float32, dim int, w *float32, stride int, values *float32, n int)
