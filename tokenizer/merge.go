package tokenizer

import "math"

// Byte pair merging: of all neighbouring parts whose bytes together are a
// token, the pair with the lowest rank is joined, the leftmost of equals,
// until none is left. A token's rank is its id.

// none is the rank of a pair that is no token.
const none = math.MaxUint32

// merger merges short pieces in place. Its zero value is ready for use.
type merger struct {
	starts [maxToken + 1]uint32 // where each part starts; then the piece's length
	ranks  [maxToken]uint32     // of each part joined with the next
}

// merge appends the ids of piece, which is not empty.
func (m *merger) merge(t *Tokenizer, dst []uint32, piece string) []uint32 {
	if len(piece) > maxToken {
		return t.mergeLong(dst, piece)
	}
	parts := len(piece)
	starts, ranks := m.starts[:parts+1], m.ranks[:parts]
	for i := range parts - 1 {
		starts[i] = uint32(i)
		ranks[i] = t.pairRank(piece, i)
	}
	starts[parts-1], ranks[parts-1] = uint32(parts-1), none
	starts[parts] = uint32(parts)
	for {
		at, lowest := 0, uint32(none)
		for i, r := range ranks[:parts] {
			if r < lowest {
				at, lowest = i, r
			}
		}
		if lowest == none {
			break
		}
		copy(starts[at+1:parts], starts[at+2:parts+1])
		copy(ranks[at+1:parts-1], ranks[at+2:parts])
		parts--
		ranks[at] = none
		if at+2 <= parts {
			ranks[at] = t.rank(piece[starts[at]:starts[at+2]])
		}
		if at > 0 {
			ranks[at-1] = t.rank(piece[starts[at-1]:starts[at+1]])
		}
	}
	for i := range parts {
		dst = append(dst, t.rank(piece[starts[i]:starts[i+1]]))
	}
	return dst
}

// mergeLong is merge with a heap of candidates, n log n in the piece's length
// where the array above is n².
func (t *Tokenizer) mergeLong(dst []uint32, piece string) []uint32 {
	type part struct {
		prev, next int32  // starts of the neighbours; -1 and len(piece) at the ends
		rank       uint32 // joined with the next
	}
	n := int32(len(piece))
	parts := make([]part, n) // by start
	var candidates heap
	for i := range n {
		parts[i] = part{i - 1, i + 1, none}
		if i+1 < n {
			parts[i].rank = t.pairRank(piece, int(i))
			if parts[i].rank != none {
				candidates = append(candidates, candidate(parts[i].rank, i))
			}
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
		dst = append(dst, t.rank(piece[i:parts[i].next]))
	}
	return dst
}

// rank returns the id of the token with these bytes, or none.
func (t *Tokenizer) rank(bytes string) uint32 {
	if id, ok := t.lookup(bytes); ok {
		return id
	}
	return none
}

// pairRank is the rank of the two bytes at piece[i].
func (t *Tokenizer) pairRank(piece string, i int) uint32 {
	return t.pairs[int(piece[i])<<8|int(piece[i+1])] - 1 // 0 - 1 is none
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
