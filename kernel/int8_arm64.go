package kernel

func int8NEONWith(y []int64, w []byte, x *Int16) {
	stride := x.rows(y, w)
	if stride == 0 {
		return
	}
	for r := range y {
		hi, lo := int8NEON(&w[r*stride], &x.limbs[0], stride)
		y[r] = 256*int64(hi) + int64(lo)
	}
}

// int8NEON returns Σ (w − 128)·hi and Σ (w − 128)·lo. stride is a positive multiple
// of 64.
//
//go:noescape
func int8NEON(w *byte, limbs *int8, stride int) (hi, lo int32)

// readNEON returns the exclusive or of the words of b. n is a positive multiple of
// 256.
//
//go:noescape
func readNEON(b *byte, n int) uint64
