package kernel

// int8With makes an entry of a loop that sums the two limbs of every row.
func int8With(loop func(sums *[2]int32, w *byte, limbs *int8, rows, stride int)) func(y []int64, w []byte, x *Int16) {
	return func(y []int64, w []byte, x *Int16) {
		stride := x.rows(y, w)
		if stride == 0 {
			return
		}
		var sums [64][2]int32
		for lo := 0; lo < len(y); lo += len(sums) {
			n := min(len(sums), len(y)-lo)
			loop(&sums[0], &w[lo*stride], &x.limbs[0], n, stride)
			for i, s := range sums[:n] {
				y[lo+i] = 256*int64(s[0]) + int64(s[1]) - 128*x.sum
			}
		}
	}
}

// int8Span is how many columns the AVX2 loop may sum in 32 bits: 127·32639 each,
// in eight lanes.
const int8Span = 2048

func int8AVX2With(y []int64, w []byte, x *Int16) {
	stride := x.rows(y, w)
	if stride == 0 {
		return
	}
	for r := range y {
		y[r] = 0
		for at := 0; at < stride; at += int8Span {
			y[r] += int8AVX2(&w[r*stride+at], &x.whole[at], min(int8Span, stride-at))
		}
	}
}

// int8VNNI sets sums[r] to Σ w·hi and Σ w·lo of each row, w unsigned. stride is
// a positive multiple of 64.
//
//go:noescape
func int8VNNI(sums *[2]int32, w *byte, limbs *int8, rows, stride int)

// int8AVX2 returns Σ (w − 128)·x. n is a positive multiple of 16.
//
//go:noescape
func int8AVX2(w *byte, x *int16, n int) int64
