package tokenizer

import "math/bits"

const (
	idBits      = 18
	indexSize   = 1 << 19 // 2.6 places a token: 1.3 probes on average for one that is there
	filterWords = 1 << 15 // 10.5 bits a token
)

// maxToken is the length of the longest token in bytes.
const maxToken = 128

func (t *Tokenizer) loadVocabulary() {
	lengths := vocabulary[:Ordinary]
	t.tokens = vocabulary[Ordinary:]
	t.offsets = make([]uint32, Ordinary+1)
	t.index = make([]uint32, indexSize)
	t.pairs = make([]uint32, 1<<16)
	t.longest = make([]uint8, 1<<16)
	for i := range t.longest {
		t.longest[i] = 1
	}
	place := 0
	for id := range Ordinary {
		t.offsets[id] = uint32(place)
		n := int(lengths[id])
		token := t.tokens[place : place+n]
		h := hash(token)
		word, mask := filterBits(h)
		t.filter[word] |= mask
		i := h % indexSize
		for t.index[i] != 0 {
			i = (i + 1) % indexSize
		}
		t.index[i] = tag(h) | uint32(id+1)
		if two := firstTwo(token); n >= 2 {
			t.longest[two] = max(t.longest[two], uint8(n))
		}
		switch n {
		case 1:
			t.bytes[token[0]] = uint32(id)
		case 2:
			t.pairs[int(token[0])<<8|int(token[1])] = uint32(id) + 1
		}
		place += n
	}
	t.offsets[Ordinary] = uint32(place)
}

// token returns the bytes of an ordinary token.
func (t *Tokenizer) token(id uint32) string { return t.tokens[t.offsets[id]:t.offsets[id+1]] }

// lookup returns the id of the token with exactly these bytes.
func (t *Tokenizer) lookup(piece string) (id uint32, ok bool) {
	if len(piece) > maxToken {
		return 0, false
	}
	h := hash(piece)
	if word, mask := filterBits(h); t.filter[word]&mask != mask {
		return 0, false
	}
	for i := h % indexSize; ; i = (i + 1) % indexSize {
		e := t.index[i]
		if e == 0 {
			return 0, false
		}
		if e&^(1<<idBits-1) != tag(h) {
			continue
		}
		id := e&(1<<idBits-1) - 1
		if t.tokens[t.offsets[id]:t.offsets[id+1]] == piece {
			return id, true
		}
	}
}

// tag is what an entry of the index keeps of a token's hash.
func tag(h uint64) uint32 { return uint32(h>>32) &^ (1<<idBits - 1) }

// filterBits gives a token's place in the filter: two bits of one word. Most
// pairs that merging tries are no token, and 256 kB say so from a nearer cache
// than the index's 2 MB.
func filterBits(h uint64) (word, mask uint64) {
	return (h >> 40) % filterWords, 1<<(h>>58) | 1<<(h>>52&63)
}

// hash mixes by 64 × 64 bit multiplication, as wyhash does.
func hash(s string) uint64 {
	const k0, k1 = 0xa0761d6478bd642f, 0xe7037ed1a0b428db
	h := uint64(len(s)) * k0
	for ; len(s) > 8; s = s[8:] {
		hi, lo := bits.Mul64(h^load64(s), k0)
		h = hi ^ lo
	}
	var v uint64
	switch n := len(s); {
	case n == 8:
		v = load64(s)
	case n >= 4:
		v = uint64(load32(s)) | uint64(load32(s[n-4:]))<<32
	case n > 0:
		v = uint64(s[0]) | uint64(s[n/2])<<8 | uint64(s[n-1])<<16
	}
	hi, lo := bits.Mul64(h^v, k1)
	return hi ^ lo
}

func load32(s string) uint32 {
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

func load64(s string) uint64 {
	return uint64(load32(s)) | uint64(load32(s[4:8]))<<32
}
