package kernel

import (
	"encoding/binary"
	"sync"
	"time"
)

// readAll is the defining Read.
func readAll(b []byte) (sum uint64) {
	var s [4]uint64
	for len(b) >= 32 {
		s[0] ^= binary.LittleEndian.Uint64(b)
		s[1] ^= binary.LittleEndian.Uint64(b[8:])
		s[2] ^= binary.LittleEndian.Uint64(b[16:])
		s[3] ^= binary.LittleEndian.Uint64(b[24:])
		b = b[32:]
	}
	sum = s[0] ^ s[1] ^ s[2] ^ s[3]
	for i, v := range b {
		sum ^= uint64(v) << (8 * (i % 8))
	}
	return sum
}

// readWith reads whole steps of 256 bytes by a loop, the rest portably.
func readWith(loop func(b *byte, n int) uint64) func(b []byte) uint64 {
	return func(b []byte) (sum uint64) {
		if n := len(b) &^ 255; n > 0 {
			sum, b = loop(&b[0], n), b[n:]
		}
		return sum ^ readAll(b)
	}
}

// ReadBandwidth reads b once, shared among workers, and returns bytes a second:
// the speed that no product over weights in memory can pass. b should be larger
// than the caches, and written before: pages never touched have no memory.
func (s *Set) ReadBandwidth(b []byte, workers int) float64 {
	const step = 1 << 20
	var next uint64
	var mu sync.Mutex
	take := func() []byte {
		mu.Lock()
		defer mu.Unlock()
		lo := next
		next = min(lo+step, uint64(len(b)))
		return b[lo:next]
	}
	start := time.Now()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for part := take(); len(part) > 0; part = take() {
				s.Read(part)
			}
		})
	}
	wg.Wait()
	seconds := time.Since(start).Seconds()
	return float64(len(b)) / seconds
}
