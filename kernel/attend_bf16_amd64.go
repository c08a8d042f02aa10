package kernel

// dotDim is the widest head that VDPBF16PS is used for.
const dotDim = 64

// vectorAVX512BF16 returns v, of AVX-512, with VDPBF16PS for the products of
// queries and keys in bfloat16: twice as fast on some processors. It adds the odd
// column first, then the even one, as [Page] has it. Where it could flush a
// subnormal (see safeExponents) v's own entry computes the scores again.
func vectorAVX512BF16(v vectorSet) vectorSet {
	const queries, block = 8, 32
	fma := v.Scores
	v.Scores = func(dst []float32, stride int, q []float32, page Page, at Span, scale float32) {
		dim := page.dim()
		if page.Half == nil || dim == 0 || dim > dotDim || at.Lo >= at.Hi {
			fma(dst, stride, q, page, at, scale)
			return
		}
		page.check(dim, at)
		n := len(q) / dim
		lo, hi := at.Lo/block*block, (at.Hi+block-1)/block*block
		var words [queries * dotDim]uint16
		for ; n >= queries; n -= queries {
			least, rest := packQueriesAVX512(&words[0], &q[0], queries*dim)
			if low := lowOf(least); rest != 0 || low == never { // rest: a query is no bfloat16
				fma(dst, stride, q[:queries*dim], page, at, scale)
			} else {
				_, _ = dst[lo], dst[(queries-1)*stride+hi-1]
				for p := lo; p < hi; p += block {
					least := scores8BF16AVX512(&dst[p], stride, &words[0], dim, &page.Half[2*p], scale, &roundings[1])
					if lowOf(least)+low < safeExponents {
						scores8HalfAVX512(&dst[p], stride, &q[0], dim, &page.Half[2*p], scale, &roundings[1])
					}
				}
			}
			q = q[queries*dim:]
			if n > queries {
				dst = dst[queries*stride:]
			}
		}
		if n > 0 {
			fma(dst, stride, q, page, at, scale)
		}
	}
	return v
}

// packQueriesAVX512 writes the upper halves of n elements, a positive multiple
// of 16. It returns the least of twice each of them less one, and all lower
// halves or'ed.
//
//go:noescape
func packQueriesAVX512(dst *uint16, q *float32, n int) (least, rest uint16)

// scores8BF16AVX512 is scores8HalfAVX512 for words of packQueriesAVX512. It returns
// the least of twice each key's word less one.
//
//go:noescape
func scores8BF16AVX512(dst *float32, stride int, words *uint16, dim int, keys *uint16, scale float32, r *rounding) (least uint16)
