package generate

import (
	"cmp"
	"math"
	"slices"
)

// few candidates are sorted by comparing them.
const few = 1 << 11

// order sorts candidates, which lie in order of their ids, by their logits, the
// largest first, of equal ones the lower id first. It returns one of its arguments,
// and the other as room for the next time. Of a vocabulary's 200,000 it takes a
// fifth of the time that comparing them takes: it deals them out by eleven bits of
// their logits after the other, the lowest first.
func order(list, spare []candidate) (sorted, rest []candidate) {
	if len(list) <= few {
		slices.SortFunc(list, compare)
		return list, spare
	}
	const width, digits = 11, 6
	var count [digits][1 << width]int32
	for _, c := range list {
		for d, k := 0, key(c.v); d < digits; d, k = d+1, k>>width {
			count[d][k&(1<<width-1)]++
		}
	}
	spare = slices.Grow(spare[:0], len(list))[:len(list)]
	first := key(list[0].v)
	for d := range digits {
		shift := d * width
		counts := &count[d]
		if int(counts[first>>shift&(1<<width-1)]) == len(list) {
			continue // they have the same there, as what was a float32 has
		}
		at := int32(0)
		for i, n := range counts {
			counts[i] = at
			at += n
		}
		for _, c := range list {
			place := &counts[key(c.v)>>shift&(1<<width-1)]
			spare[*place] = c
			*place++
		}
		list, spare = spare, list
	}
	return list, spare
}

// key returns a number that is the smaller the larger v is, and the same for the
// two zeros. v is not NaN.
func key(v float64) uint64 {
	if v == 0 {
		v = 0
	}
	b := math.Float64bits(v)
	if b>>63 == 0 {
		return ^b & math.MaxInt64
	}
	return b
}

func compare(a, b candidate) int { // of 200,000: cmp.Compare, which knows NaN, takes twice as long
	switch {
	case a.v > b.v:
		return -1
	case a.v < b.v:
		return 1
	}
	return cmp.Compare(a.id, b.id)
}
