package verify

import (
	"fmt"
	"math"

	"ossify/checkpoint"
	"ossify/parity"
)

// A Miss is an edit that changes an exact value by more than its bound and was not
// found, and what there is to see of it: of every element that reads the weight,
// the number that a program shows with the edit and without.
type Miss struct {
	Edit     string `json:"edit"`
	Findable bool   `json:"findable"`

	// Where it shows most, in units of what the bound and a rounding hide.
	Stage   string  `json:"stage"`
	Row     int     `json:"row"` // of the stage's rows
	Column  int     `json:"column"`
	Value   float64 `json:"value"`   // exact, without the edit
	Shift   float64 `json:"shift"`   // by which the edit moves it
	Bound   float64 `json:"bound"`   // on what summation may add to either
	Spacing float64 `json:"spacing"` // between the numbers of the precision there

	Elements int `json:"elements"` // that read the weight
	Same     int `json:"same"`     // the exact values round to one number, with the edit and without, and the engine gives one number
	Ties     int `json:"ties"`     // others, where summation decides which of two numbers a right program gives, and the engine's is one of them
	Loose    int `json:"loose"`    // others: a tighter bound might find it
}

// Explained reports whether no check of what a program shows could have found
// the edit.
func (m *Miss) Explained() bool { return m.Elements > 0 && m.Loose == 0 }

func (m *Miss) String() string {
	why := fmt.Sprintf("%d elements read it, the same number in %d", m.Elements, m.Same)
	if m.Ties > 0 {
		why += fmt.Sprintf(", at a tie %d", m.Ties)
	}
	if m.Loose > 0 {
		why += fmt.Sprintf(", NOT EXPLAINED %d", m.Loose)
	}
	return fmt.Sprintf("%s: most at %s [%d, %d]: %.6g, moved by %.2g, bound %.2g, rounding %.2g; %s",
		m.Edit, m.Stage, m.Row, m.Column, m.Value, m.Shift, m.Bound, m.Spacing/2, why)
}

// An element is what an edit does to one: bounds without it and with it, and
// what the engine gave without and with.
type element struct {
	clean, edited [2]float64 // low and high
	was, is       float64    // of the engine
}

// note adds an element, i of those of a stage, to what is to be seen of the edit.
func (m *Miss) note(x element, stage string, i, width int, typ checkpoint.DType) {
	was, is := middle(x.clean), middle(x.edited)
	m.Elements++
	switch {
	case parity.Round(was, typ) == parity.Round(is, typ) && x.was == x.is:
		m.Same++
	case x.tie(typ):
		m.Ties++
	default:
		m.Loose++
	}
	bound, spacing := (x.clean[1]-x.clean[0])/2, parity.Spacing(was, typ)
	shift := is - was
	hidden := func(shift, bound, spacing float64) float64 { return math.Abs(shift) / (bound + spacing/2) }
	if m.Stage == "" || hidden(shift, bound, spacing) > hidden(m.Shift, m.Bound, m.Spacing) {
		m.Stage, m.Row, m.Column = stage, i/width, i%width
		m.Value, m.Shift, m.Bound, m.Spacing = was, shift, bound, spacing
	}
}

func middle(x [2]float64) float64 { return x[0] + (x[1]-x[0])/2 }

// tie reports whether a right program may give what the engine gave with the
// edit, without it too, and the bounds leave it no more than they must: in
// bfloat16 one of two neighbours, on either side of the middle between them. In
// float32 there are several numbers within the bound of a sum.
func (x element) tie(typ checkpoint.DType) bool {
	for _, b := range [][2]float64{x.clean, x.edited} {
		lo, hi := parity.Round(b[0], typ), parity.Round(b[1], typ)
		if !(lo <= x.is && x.is <= hi) {
			return false
		}
		if typ == checkpoint.BF16 && !(hi-lo <= parity.Spacing(math.Max(math.Abs(lo), math.Abs(hi)), typ)) {
			return false
		}
	}
	return true
}
