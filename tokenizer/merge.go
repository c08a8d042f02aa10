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
	for _, p := range t.mergeParts(m.parts[:], m.ranks[:], piece) {
		dst = append(dst, p.id)
	}
	return dst
}

// mergeParts merges piece in parts and ranks, which have room for a part a byte
// and one more, and returns the parts that are left.
func (t *Tokenizer) mergeParts(parts []part, ranks []uint32, piece string) []part {
	n := len(piece) // parts
	parts, ranks = parts[:n+1], ranks[:n]
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
			return parts[:n]
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
}

// mergeLong is merge for a piece of any length, in time linear in it and, but
// for the ids, in a bit a byte: the array above is quadratic.
//
// Tokens are what merging gives if and only if every two neighbours are what
// merging gives of their bytes. For up to the first merge across a border, what
// happens on its two sides is what happens in those bytes alone; so the two
// alone would have been merged across it as well. The tokens of a piece are
// thus found from left to right, trying the longest first: one that does not
// fit to the token before is not it, and where none fits, no token ends. Up to
// a given place there is one way to come, so that a place is given up once.
func (t *Tokenizer) mergeLong(dst []uint32, piece string) []uint32 {
	b := &borders{t: t}
	dead := make([]uint64, len(piece)/64+1) // bit i: no token ends at i
	before := 0                             // bytes of the token before
	for at, most := 0, maxToken; at < len(piece); {
		n := min(most, len(piece)-at, int(t.longest[firstTwo(piece[at:])]))
		for ; n > 0; n-- {
			if end := at + n; dead[end/64]>>(end%64)&1 == 0 {
				if id, ok := t.lookup(piece[at:end]); ok && (at == 0 || b.fit(dst[len(dst)-1], id, piece[at-before:end])) {
					dst = append(dst, id)
					break
				}
			}
		}
		if n > 0 {
			at, before, most = at+n, n, maxToken
			continue
		}
		dead[at/64] |= 1 << (at % 64)
		at, most = at-before, before-1
		dst = dst[:len(dst)-1] // it is not the first place: some sequence is right
		if at > 0 {
			before = len(t.token(dst[len(dst)-1]))
		}
	}
	return dst
}

// firstTwo returns the first two bytes of text, the second 0 for a single one.
func firstTwo(text string) int {
	if len(text) == 1 {
		return int(text[0]) << 8
	}
	return int(text[0])<<8 | int(text[1])
}

// borders knows which tokens are neighbours.
type borders struct {
	t     *Tokenizer
	parts [2*maxToken + 1]part
	ranks [2 * maxToken]uint32
	known [1 << 12]uint64 // by hash: two tokens, and whether they fit
}

// fit reports whether merging text, the bytes of two tokens, gives these two.
func (b *borders) fit(left, right uint32, text string) bool {
	pair := uint64(left)<<32 | uint64(right)<<1
	at := &b.known[pair*0x9e3779b97f4a7c15>>52]
	if *at>>1 == pair>>1 && *at != 0 {
		return *at&1 == 1
	}
	parts := b.t.mergeParts(b.parts[:], b.ranks[:], text)
	*at = pair
	if len(parts) == 2 && parts[0].id == left && parts[1].id == right {
		*at |= 1
	}
	return *at&1 == 1
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
