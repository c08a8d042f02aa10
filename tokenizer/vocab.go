package tokenizer

import "math/bits"

// An entry of the index, from the high bits down: 17 bits of the hash, 21 of
// the token's place in tokens, 8 of its length, 18 of its id. 0 is empty.
const (
	idBits     = 18
	lengthBits = 8
	placeBits  = 21
	tagShift   = idBits + lengthBits + placeBits

	indexSize = 1 << 19 // 2.6 places a token: 1.3 probes on average for one that is there
)

// maxToken is the length of the longest token in bytes.
const maxToken = 128

func (t *Tokenizer) loadVocabulary() {
	lengths := vocabulary[:Ordinary]
	t.tokens = vocabulary[Ordinary:]
	t.offsets = make([]uint32, Ordinary+1)
	t.index = make([]uint64, indexSize)
	t.pairs = make([]uint32, 1<<16)
	place := 0
	for id := range Ordinary {
		t.offsets[id] = uint32(place)
		n := int(lengths[id])
		token := t.tokens[place : place+n]
		h := hash(token)
		i := h % indexSize
		for t.index[i] != 0 {
			i = (i + 1) % indexSize
		}
		t.index[i] = h>>tagShift<<tagShift | uint64(place)<<(lengthBits+idBits) | uint64(n)<<idBits | uint64(id)
		if n == 2 {
			t.pairs[int(token[0])<<8|int(token[1])] = uint32(id) + 1
		}
		place += n
	}
	t.offsets[Ordinary] = uint32(place)
}

// lookup returns the id of the token with exactly these bytes.
func (t *Tokenizer) lookup(piece string) (id uint32, ok bool) {
	if len(piece) > maxToken {
		return 0, false
	}
	h := hash(piece)
	want := h>>tagShift<<lengthBits | uint64(len(piece))
	for i := h % indexSize; ; i = (i + 1) % indexSize {
		e := t.index[i]
		if e == 0 {
			return 0, false
		}
		if e>>tagShift<<lengthBits|e>>idBits&(1<<lengthBits-1) != want {
			continue
		}
		place := e >> (lengthBits + idBits) & (1<<placeBits - 1)
		if t.tokens[place:place+uint64(len(piece))] == piece {
			return uint32(e & (1<<idBits - 1)), true
		}
	}
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
