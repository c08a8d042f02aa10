//go:build amd64 || arm64

package kernel

// int6With makes an entry of a loop that sets sums[r] to Σ w·hi and Σ w·lo of each
// row, w unsigned: as stored. groups, of 64 columns, is positive.
func int6With(loop func(sums *[2]int32, w *byte, limbs *int8, rows, groups int)) func(y []int64, w []byte, x *Int16) {
	return func(y []int64, w []byte, x *Int16) {
		stride := x.rows(y, w)
		if stride == 0 {
			return
		}
		var sums [64][2]int32
		for lo := 0; lo < len(y); lo += len(sums) {
			n := min(len(sums), len(y)-lo)
			loop(&sums[0], &w[lo*stride], &x.limbs[0], n, stride/int6Bytes)
			for i, s := range sums[:n] {
				y[lo+i] = 256*int64(s[0]) + int64(s[1]) - 32*x.sum
			}
		}
	}
}
