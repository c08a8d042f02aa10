package engine

import (
	"fmt"

	"ossify/kernel"
)

// Fill makes the session as if it had seen n more tokens, with keys and values
// that are made up: to measure what a long past costs without computing it.
func (s *Session) Fill(n int) error {
	if n < 0 {
		return fmt.Errorf("engine: a session filled with %d tokens", n)
	}
	for n > 0 {
		k := min(n, s.m.o.Chunk)
		s.reserve(k)
		for i, l := range s.layers {
			for pos := s.n; pos < s.n+k; pos++ {
				if pos > s.n && pos%kernel.PageLen > 0 {
					continue
				}
				for kv := range l.pages { // a page at a time
					made(l.pages[kv][pos/kernel.PageLen-l.first], pos%kernel.PageLen, uint64(pos)<<20|uint64(i)<<8|uint64(kv))
				}
			}
		}
		s.advance(k)
		n -= k
	}
	return nil
}

// made writes numbers between −2 and 2 to the slots of a page from one on.
func made(p kernel.Page, slot int, seed uint64) {
	x := seed*0x9e3779b97f4a7c15 + 1
	dim := max(len(p.Half), len(p.Full)) / (2 * kernel.PageLen)
	key, value := make([]float32, dim), make([]float32, dim)
	for ; slot < kernel.PageLen; slot++ {
		for d := range dim {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			key[d], value[d] = float32(int32(x))*0x1p-30, float32(int32(x>>32))*0x1p-30
		}
		p.Put(slot, key, value)
	}
}
