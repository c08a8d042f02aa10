package tokenizer

import "math"

// Byte pair merging: of all neighbouring parts whose bytes together are a
// token, the pair with the lowest rank is joined, the leftmost of equals,
// until none is left. A token's rank is its id.

// none is the rank of a pair that is no token.
const none = math.MaxUint32

// merger merges short pieces in place. Its zero value is ready for use.
type merger struct {
	parts [maxToken + 1]part // the last is the piece's end
	ranks [maxToken]uint32   // of each part joined with the next
}

type part struct {
	start uint32
	id    uint32 // the token the part is
}

// merge appends the ids of piece, which is not empty.
func (m *merger) merge(t *Tokenizer, dst []uint32, piece string) []uint32 {
	if len(piece) > maxToken {
		return t.mergeLong(dst, piece)
	}
	n := len(piece) // parts
	parts, ranks := m.parts[:n+1], m.ranks[:n]
	for i := range n {
		parts[i] = part{uint32(i), t.bytes[piece[i]]}
		ranks[i] = t.pairRank(piece, i)
	}
	parts[n].start = uint32(n)
	for {
		at, lowest := 0, uint32(none)
		for i, r := range ranks[:n] {
			if r < lowest {
				at, lowest = i, r
			}
		}
		if lowest == none {
			break
		}
		parts[at].id = lowest
		copy(parts[at+1:n], parts[at+2:n+1])
		copy(ranks[at+1:n-1], ranks[at+2:n])
		n--
		ranks[at] = none
		if at+1 < n {
			ranks[at] = t.rank(piece[parts[at].start:parts[at+2].start])
		}
		if at > 0 {
			ranks[at-1] = t.rank(piece[parts[at-1].start:parts[at+1].start])
		}
	}
	for _, p := range parts[:n] {
		dst = append(dst, p.id)
	}
	return dst
}

// mergeLong is merge with a heap of candidates, n log n in the piece's length
// where the array above is n².
func (t *Tokenizer) mergeLong(dst []uint32, piece string) []uint32 {
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

// rank returns the id of the token with these bytes, or none.
func (t *Tokenizer) rank(bytes string) uint32 {
	if id, ok := t.lookup(bytes); ok {
		return id
	}
	return none
}

// pairRank is the rank of the two bytes at piece[i], none at the last one.
func (t *Tokenizer) pairRank(piece string, i int) uint32 {
	if i+1 == len(piece) {
		return none
	}
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
