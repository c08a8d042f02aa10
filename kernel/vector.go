package kernel

import (
	"math"

	"ossify/float"
)

// A vectorSet is the part of a [Set] that holds everything but matrix products.
// All sets return the same bits, NaN apart: a NaN stays a NaN, of any sign and
// payload. Each operation below is one of IEEE 754, rounded to nearest, ties to
// even, subnormals kept; r rounds to bfloat16 if half is true, and is nothing
// otherwise. Where the reference rounds is said in docs/numerics.md.
//
// A result may be the same slice as an operand of its length; they must not
// overlap in another way.
type vectorSet struct {
	// Round sets y[i] to the bfloat16 nearest x[i].
	Round func(y, x []float32)

	// Add sets y[i] = r(a[i] + b[i]): a bias or a residual.
	Add func(y, a, b []float32, half bool)

	// RoundAdd sets y[i] = r(r(a[i]) + b[i]), rounding to bfloat16: the bias of
	// an expert, whose product the reference rounds first.
	RoundAdd func(y, a, b []float32)

	// Norm sets y[i] = r(x[i]·f · scale[i]), each product rounded to float32, where f
	// is 1/√(mean(x²) + eps), computed in float64 with the squares summed in
	// the lanes of [lanes], then rounded to float32.
	Norm func(y, x, scale []float32, eps float64, half bool)

	// Softmax sets y[i] = r(e[i]/sum) where e[i] = exp(x[i] − top), top is the largest of
	// x and sink (NaN passed over), and sum is that of e in the lanes of
	// [lanes], then exp(sink − top), in float64. The division is a product with
	// 1/sum in float64, rounded to float32. The sink takes its share and is
	// dropped; −Inf is none. If all are −Inf then y is 0.
	Softmax func(y, x []float32, sink float32, half bool)

	// Rotate turns each head of x, of 2·len(cos) elements: with a the first half and
	// b the second, y = r(r(a·cos) − r(b·sin)) and r(r(b·cos) + r(a·sin)).
	Rotate func(y, x, cos, sin []float32, half bool)

	// SwiGLU sets y[j] = r(r(g·r(σ(r(alpha·g)))) · r(l + 1)), where g = min(x[2j], limit) and
	// l = x[2j+1] within ±limit; len(x) is 2·len(y), limit above 0, σ that of [Sigmoid].
	SwiGLU func(y, x []float32, alpha, limit float32, half bool)

	// Mix sets y[i] = r(Σ w[k]·x[k·stride + i]), from +0 by float32 multiply-adds
	// in order of k.
	Mix func(y, x []float32, stride int, w []float32, half bool)

	// Scores sets dst[i·stride + p] for the keys Lo ≤ p < Hi of a page and each query
	// i of q [n, Dim]: see [Page]. It may write anything to the page's others.
	Scores func(dst []float32, stride int, q []float32, page Page, at Span, scale float32)

	// AddValues adds to row i of y [n, Dim] the sum of the page's values Lo ≤ p < Hi,
	// each times w[i·stride + p]: see [Page].
	AddValues func(y []float32, w []float32, stride int, page Page, at Span)

	// columns is AddValues for the columns from lo on: what the blocks of a faster
	// set leave.
	columns func(y, w []float32, stride int, page Page, at Span, lo int)
}

// portableVector returns the definition of every entry.
func portableVector() vectorSet {
	return vectorSet{
		Round:     round,
		Add:       add,
		RoundAdd:  roundAdd,
		Norm:      norm,
		Softmax:   softmax,
		Rotate:    rotate,
		SwiGLU:    swiglu,
		Mix:       mix,
		Scores:    scores,
		AddValues: addValues,
		columns:   addColumns,
	}
}

// rounded is r.
func rounded(x float32, half bool) float32 {
	if half {
		return float.RoundBF16(x)
	}
	return x
}

func round(y, x []float32) {
	for i, v := range x {
		y[i] = float.RoundBF16(v)
	}
}

func add(y, a, b []float32, half bool) {
	b = b[:len(a)]
	for i, v := range a {
		y[i] = rounded(v+b[i], half)
	}
}

func roundAdd(y, a, b []float32) {
	b = b[:len(a)]
	for i, v := range a {
		y[i] = float.RoundBF16(float.RoundBF16(v) + b[i])
	}
}

// lanes are the partial sums of a long sum in float64: element i goes to lane
// i mod 16. Lanes i and i+8 are added, then i and i+4, i+2, i+1.
type lanes [16]float64

func (l *lanes) sum() float64 {
	for n := 8; n > 0; n /= 2 {
		for i := range n {
			l[i] += l[i+n]
		}
	}
	return l[0]
}

func norm(y, x, scale []float32, eps float64, half bool) {
	var l lanes
	for i, v := range x {
		l[i%16] += float64(v) * float64(v) // the product is exact
	}
	inv := normFactor(&l, len(x), eps)
	for i, v := range x {
		y[i] = rounded(float32(v*inv)*scale[i], half)
	}
}

// normFactor is f of Norm.
func normFactor(squares *lanes, n int, eps float64) float32 {
	return float32(1 / math.Sqrt(squares.sum()/float64(n)+eps))
}

func softmax(y, x []float32, sink float32, half bool) {
	top := sink
	if top != top {
		top = float32(math.Inf(-1))
	}
	for _, v := range x {
		if v > top {
			top = v
		}
	}
	top = softmaxTop(top)
	var l lanes
	for i, v := range x {
		y[i] = Exp(v - top)
		l[i%16] += float64(y[i])
	}
	inv := softmaxFactor(&l, sink-top)
	for i, v := range y[:len(x)] {
		y[i] = rounded(float32(float64(v)*inv), half)
	}
}

// softmaxTop replaces a maximum of −Inf, from which nothing can be taken.
func softmaxTop(top float32) float32 {
	if math.IsInf(float64(top), -1) {
		return 0
	}
	return top
}

// softmaxFactor is 1/sum, or 0 where nothing is in view.
func softmaxFactor(l *lanes, sink float32) float64 {
	sum := l.sum() + float64(Exp(sink))
	if sum == 0 {
		return 0
	}
	return 1 / sum
}

func rotate(y, x, cos, sin []float32, half bool) {
	n := len(cos)
	sin = sin[:n]
	for h := 0; h < len(x); h += 2 * n {
		for i, c := range cos {
			a, b, s := x[h+i], x[h+n+i], sin[i]
			y[h+i] = rounded(rounded(float32(a*c), half)-rounded(float32(b*s), half), half)
			y[h+n+i] = rounded(rounded(float32(b*c), half)+rounded(float32(a*s), half), half)
		}
	}
}

func swiglu(y, x []float32, alpha, limit float32, half bool) {
	for j := range y {
		g, l := min(x[2*j], limit), min(max(x[2*j+1], -limit), limit)
		s := rounded(Sigmoid(rounded(float32(alpha*g), half)), half)
		y[j] = rounded(rounded(float32(g*s), half)*rounded(l+1, half), half)
	}
}

func mix(y, x []float32, stride int, w []float32, half bool) {
	for i := range y {
		var sum float32
		for k, v := range w {
			sum = fma32(v, x[k*stride+i], sum)
		}
		y[i] = rounded(sum, half)
	}
}

// TopK writes the indices of the largest values of x, largest first, equal ones
// in order of index, +0 and −0 being equal. A NaN is larger than any number, as
// PyTorch has it: it then shows in the result. len(dst) is at most len(x).
func TopK(dst []int32, x []float32) {
	n := 0
	for i, v := range x {
		if n == len(dst) {
			if n == 0 || !larger(v, x[dst[n-1]]) {
				continue
			}
			n--
		}
		j := n
		for ; j > 0 && larger(v, x[dst[j-1]]); j-- {
			dst[j] = dst[j-1]
		}
		dst[j] = int32(i)
		n++
	}
}

func larger(a, b float32) bool { return a > b || a != a && b == b }
