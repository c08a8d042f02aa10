package tokenizer

// mergeByHeap merges with a heap of candidates: the definition, for pieces of
// any length, in 24 bytes a byte.
func mergeByHeap(t *Tokenizer, dst []uint32, piece string) []uint32 {
	type part struct {
		prev, next int32  // starts of the neighbours; -1 and len(piece) at the ends
		id         uint32 // the token the part is
		rank       uint32 // of the part joined with the next
	}
	n := int32(len(piece))
	parts := make([]part, n) // by start
	candidates := make(heap, 0, n)
	for i := range n {
		parts[i] = part{i - 1, i + 1, t.bytes[piece[i]], t.pairRank(piece, int(i))}
		if parts[i].rank != none {
			candidates = append(candidates, candidate(parts[i].rank, i))
		}
	}
	candidates.order()
	rerank := func(i int32) {
		p := &parts[i]
		p.rank = none
		if p.next < n {
			if p.rank = t.rank(piece[i:parts[p.next].next]); p.rank != none {
				candidates.push(candidate(p.rank, i))
			}
		}
	}
	for len(candidates) > 0 {
		c := candidates.pop()
		at := int32(uint32(c))
		if parts[at].rank != uint32(c>>32) {
			continue // made before a neighbour changed
		}
		parts[at].id = parts[at].rank
		gone := parts[at].next
		parts[gone].rank = none
		parts[at].next = parts[gone].next
		if next := parts[at].next; next < n {
			parts[next].prev = at
		}
		rerank(at)
		if prev := parts[at].prev; prev >= 0 {
			rerank(prev)
		}
	}
	for i := int32(0); i < n; i = parts[i].next {
		dst = append(dst, parts[i].id)
	}
	return dst
}

// heap is a binary heap of candidates, the lowest on top: lowest rank, then
// leftmost.
type heap []uint64

func candidate(rank uint32, start int32) uint64 { return uint64(rank)<<32 | uint64(start) }

func (h heap) order() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h *heap) push(c uint64) {
	s := append(*h, c)
	i := len(s) - 1
	for i > 0 {
		up := (i - 1) / 2
		if s[up] <= c {
			break
		}
		s[i] = s[up]
		i = up
	}
	s[i] = c
	*h = s
}

func (h *heap) pop() uint64 {
	s := *h
	top := s[0]
	s[0] = s[len(s)-1]
	*h = s[:len(s)-1]
	h.down(0)
	return top
}

func (h heap) down(i int) {
	if i >= len(h) {
		return
	}
	c := h[i]
	for {
		k := 2*i + 1
		if k >= len(h) {
			break
		}
		if k+1 < len(h) && h[k+1] < h[k] {
			k++
		}
		if h[k] >= c {
			break
		}
		h[i] = h[k]
		i = k
	}
	h[i] = c
}
