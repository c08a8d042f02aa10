package kernel

import (
	"sync/atomic"
	"testing"
)

// Whatever the size and the number of workers, every byte is read once.
func TestBandwidth(t *testing.T) {
	for _, n := range []int{0, 1, 255, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5<<20 + 77} {
		b := make([]byte, n)
		for _, workers := range []int{1, 2, 5} {
			var reads atomic.Int64
			set := Best()
			read := set.Read
			set.Read = func(part []byte) uint64 {
				reads.Add(int64(len(part)))
				for i := range part {
					part[i]++ // a race, if another worker has it too
				}
				return read(part)
			}
			before := byte(0)
			if n > 0 {
				before = b[0]
			}
			if v := set.ReadBandwidth(b, workers); !(v > 0) && n > 0 || reads.Load() != int64(n) {
				t.Errorf("%d bytes by %d workers: %g a second, %d read", n, workers, v, reads.Load())
			}
			for i, v := range b {
				if v != before+1 {
					t.Fatalf("%d bytes by %d workers: byte %d was read %d times", n, workers, i, v-before)
				}
			}
		}
	}
}
