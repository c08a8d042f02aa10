//go:build amd64 || arm64

package kernel

import "math"

// vectorLoops are the loops of a faster [vectorSet]. They take whole steps of 16
// elements, at least one; the rest is done by the portable definition, which
// has the same bits.
type vectorLoops struct {
	round    func(y, x *float32, n int, r *rounding)
	add      func(y, a, b *float32, n int, r *rounding)
	roundAdd func(y, a, b *float32, n int, r *rounding)

	squares func(x *float32, n int) (l lanes)
	scale   func(y, x, s *float32, f float32, n int, r *rounding) // y = r(x·f·s)

	max   func(x *float32, n int, top float32) float32      // the largest of x and top; NaN in x is passed over
	exp   func(y, x *float32, n int, top float32) (l lanes) // y = exp(x − top), and its sum
	share func(y *float32, n int, f float64, r *rounding)   // y = r(y·f)

	rotate func(y, x, cos, sin *float32, n int, r *rounding) // one head, n is half of it
	swiglu func(y, x *float32, n int, minusAlpha, limit float32, r *rounding)
	mix    func(y, x *float32, stride int, w *float32, k, n int, r *rounding)
}

const vectorStep = 16

// A rounding is r as integer arithmetic on the bits of v: add bias, and one if
// the last bit that stays is set, then keep the high bits. NaN instead takes the
// quiet bit. The assembly reads it.
type rounding struct{ odd, bias, quiet, high uint32 }

var roundings = [2]rounding{
	{high: 0xffffffff}, // to itself
	{odd: 1, bias: 0x7fff, quiet: 0x400000, high: 0xffff0000},
}

// roundingTo returns r.
func roundingTo(half bool) *rounding {
	if half {
		return &roundings[1]
	}
	return &roundings[0]
}

// with returns v with the entries that l has loops for.
func (l vectorLoops) with(v vectorSet) vectorSet {
	v.Round = func(y, x []float32) {
		y = y[:len(x)]
		n := len(x) &^ (vectorStep - 1)
		if n > 0 {
			l.round(&y[0], &x[0], n, &roundings[1])
		}
		round(y[n:], x[n:])
	}
	v.Add = func(y, a, b []float32, half bool) {
		y, b = y[:len(a)], b[:len(a)]
		n := len(a) &^ (vectorStep - 1)
		if n > 0 {
			l.add(&y[0], &a[0], &b[0], n, roundingTo(half))
		}
		add(y[n:], a[n:], b[n:], half)
	}
	v.RoundAdd = func(y, a, b []float32) {
		y, b = y[:len(a)], b[:len(a)]
		n := len(a) &^ (vectorStep - 1)
		if n > 0 {
			l.roundAdd(&y[0], &a[0], &b[0], n, &roundings[1])
		}
		roundAdd(y[n:], a[n:], b[n:])
	}
	v.Norm = func(y, x, scale []float32, eps float64, half bool) {
		y, scale = y[:len(x)], scale[:len(x)]
		n := len(x) &^ (vectorStep - 1)
		var sum lanes
		if n > 0 {
			sum = l.squares(&x[0], n)
		}
		for i, v := range x[n:] {
			sum[i] += float64(v) * float64(v)
		}
		f := normFactor(&sum, len(x), eps)
		if n > 0 {
			l.scale(&y[0], &x[0], &scale[0], f, n, roundingTo(half))
		}
		for i, v := range x[n:] {
			y[n+i] = rounded(float32(v*f)*scale[n+i], half)
		}
	}
	v.Softmax = func(y, x []float32, sink float32, half bool) {
		y = y[:len(x)]
		n := len(x) &^ (vectorStep - 1)
		top := sink
		if top != top {
			top = float32(math.Inf(-1))
		}
		if n > 0 {
			top = l.max(&x[0], n, top)
		}
		for _, v := range x[n:] {
			if v > top {
				top = v
			}
		}
		top = softmaxTop(top)
		var sum lanes
		if n > 0 {
			sum = l.exp(&y[0], &x[0], n, top)
		}
		for i, v := range x[n:] {
			y[n+i] = Exp(v - top)
			sum[i] += float64(y[n+i])
		}
		f := softmaxFactor(&sum, sink-top)
		if n > 0 {
			l.share(&y[0], n, f, roundingTo(half))
		}
		for i, v := range y[n:] {
			y[n+i] = rounded(float32(float64(v)*f), half)
		}
	}
	v.Rotate = func(y, x, cos, sin []float32, half bool) {
		n := len(cos)
		if n == 0 || n%vectorStep != 0 {
			rotate(y, x, cos, sin, half)
			return
		}
		y, sin = y[:len(x)], sin[:n]
		r := roundingTo(half)
		for h := 0; h < len(x); h += 2 * n {
			_, _ = x[h+2*n-1], y[h+2*n-1]
			l.rotate(&y[h], &x[h], &cos[0], &sin[0], n, r)
		}
	}
	v.SwiGLU = func(y, x []float32, alpha, limit float32, half bool) {
		x = x[:2*len(y)]
		n := len(y) &^ (vectorStep - 1)
		if n > 0 {
			l.swiglu(&y[0], &x[0], n, -alpha, limit, roundingTo(half))
		}
		swiglu(y[n:], x[2*n:], alpha, limit, half)
	}
	v.Mix = func(y, x []float32, stride int, w []float32, half bool) {
		n := len(y) &^ (vectorStep - 1)
		if n > 0 && len(w) > 0 {
			_ = x[(len(w)-1)*stride : (len(w)-1)*stride+len(y)]
			l.mix(&y[0], &x[0], stride, &w[0], len(w), n, roundingTo(half))
		} else {
			n = 0
		}
		if n < len(y) {
			mix(y[n:], x[n:], stride, w, half)
		}
	}
	return v
}
