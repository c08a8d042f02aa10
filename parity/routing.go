package parity

import (
	"cmp"
	"slices"
)

// Routing says how the choices of experts compare, row by row, as sets.
type Routing struct {
	Rows      int      `json:"rows"`
	Same      int      `json:"same"`      // rows with the same set
	NearTies  int      `json:"near_ties"` // rows with another set that rounding explains
	Wrong     int      `json:"wrong"`     // rows with another set, or order, that it does not
	Allowance float64  `json:"allowance"`
	Differing []Choice `json:"differing,omitempty"` // the first few of the rows that are not the same
}

// A Choice is a row whose experts differ.
type Choice struct {
	Position  int     `json:"position"`
	Reference []int   `json:"reference"`
	Ours      []int   `json:"ours"`
	Gap       float64 `json:"gap"`   // between the reference's gate values of its last chosen and its first rejected expert
	Reach     float64 `json:"reach"` // between its best expert that we rejected and its worst that we chose
	NearTie   bool    `json:"near_tie"`
}

// mostChoices is how many differing rows are kept for the report.
const mostChoices = 8

// CompareRouting compares our choices with the reference's [rows, k], given the
// reference's gate values [rows, experts].
//
// Two gate values that are not further apart than allowance count as tied:
// either may be chosen before the other. If ordered, the experts must also
// stand in the order of the reference's gate values, up to ties.
func CompareRouting(positions []int, reference, ours []int, gate []float64, allowance float64, ordered bool) *Routing {
	r := &Routing{Rows: len(positions), Allowance: allowance}
	k, experts := len(reference)/len(positions), len(gate)/len(positions)
	for i, p := range positions {
		ref, our, g := reference[i*k:][:k], ours[i*k:][:k], gate[i*experts:][:experts]
		c := Choice{Position: p, Reference: ref, Ours: our}
		same, ok := c.judge(g, allowance, ordered)
		switch {
		case !ok:
			r.Wrong++
			r.Differing = slices.Insert(r.Differing, 0, c) // these first
		case same:
			r.Same++
		default:
			r.NearTies++
			c.NearTie = true
			r.Differing = append(r.Differing, c)
		}
		r.Differing = r.Differing[:min(len(r.Differing), mostChoices)]
	}
	return r
}

// judge fills in gap and reach. same says that the sets are one; ok, that
// nothing differs but by ties.
func (c *Choice) judge(gate []float64, allowance float64, ordered bool) (same, ok bool) {
	for _, list := range [][]int{c.Reference, c.Ours} {
		for i, e := range list {
			if e < 0 || e >= len(gate) || slices.Contains(list[:i], e) {
				return false, false
			}
		}
	}
	falling := slices.SortedFunc(slices.Values(gate), func(a, b float64) int { return cmp.Compare(b, a) })
	if k := len(c.Reference); k < len(falling) {
		c.Gap = falling[k-1] - falling[k]
	}
	ok = true
	if ordered {
		for i, e := range c.Reference {
			d := gate[e] - gate[c.Ours[i]]
			ok = ok && d <= allowance && d >= -allowance // false for NaN
		}
	}
	lost, gained := without(c.Reference, c.Ours), without(c.Ours, c.Reference)
	if len(lost) == 0 && len(gained) == 0 {
		return true, ok
	}
	best, worst := gate[lost[0]], gate[gained[0]]
	for i := range lost {
		best, worst = max(best, gate[lost[i]]), min(worst, gate[gained[i]])
	}
	c.Reach = best - worst
	return false, ok && c.Reach <= allowance
}

// without returns the elements of a that b does not hold.
func without(a, b []int) []int {
	var rest []int
	for _, v := range a {
		if !slices.Contains(b, v) {
			rest = append(rest, v)
		}
	}
	return rest
}
