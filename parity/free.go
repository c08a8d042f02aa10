package parity

import (
	"fmt"
	"slices"
	"strings"

	"ossify/checkpoint"
)

// A Run is what a program computed from its own values: stages, a row for each
// of the positions that are compared.
type Run map[string][]float64

// Free says how a free-running program compares.
type Free struct {
	Logits   *Errors        `json:"logits"`
	RowError float64        `json:"row_error,omitempty"` // of bf16: median over rows of our rms error in units of the reference's
	Top      Agreement      `json:"top"`                 // rows with the same largest logit
	Routed   Agreement      `json:"routing"`             // choices of experts, a row of a layer each, with the same set
	Layers   []RoutingLayer `json:"layers"`
	Verdict  Verdict        `json:"verdict"`
	Why      string         `json:"why,omitempty"`
	Unjudged string         `json:"unjudged,omitempty"` // why there are no exact values
}

// An Agreement counts rows in which two programs say the same. What the
// reference and the exact values agree on shows what its rounding changes.
type Agreement struct {
	Rows      int `json:"rows"`
	Reference int `json:"ours_and_reference"`
	Exact     int `json:"ours_and_exact"`
	Witness   int `json:"reference_and_exact"`
}

// A RoutingLayer is the routing of one layer.
type RoutingLayer struct {
	Stage string `json:"stage"`
	*Routing
}

// Gate returns the stage whose values decide a stage of experts.
func Gate(experts string) string { return strings.TrimSuffix(experts, "experts") + "gate" }

// CompareFree compares free runs: the logits, and the experts chosen at each
// stage of routes, in execution order. The exact run may be nil.
//
// In f32 a choice may differ where the reference's gate values are so close
// that errors within the tolerance of logits turn it. From there on that row,
// and all later ones, which attend to it, compute something else: they are not
// judged, and if they are off the verdict is ambiguous.
//
// In bf16 rounding itself turns choices, ours and the reference's alike, and a
// row that is turned is off by a hundred times more than the others. So rows are
// judged one by one, our rms error against the exact logits in units of the
// reference's, and their median decides, however far off a few are.
func (t Tolerances) CompareFree(positions []int, routes []string, logits string, reference, ours, exact Run, typ checkpoint.DType) *Free {
	f := &Free{}
	rows := len(positions)
	judged := rows // the rows before the first near-tie
	for _, route := range routes {
		gate := reference[Gate(route)]
		allowance := 0.0
		if typ != checkpoint.BF16 {
			allowance = 2 * t.Logits * Measure(gate, gate, nil, typ).RMS // either value may be off
		}
		ref, our := Indices(reference[route]), Indices(ours[route])
		r := CompareRouting(positions, ref, our, gate, allowance, false)
		f.Layers = append(f.Layers, RoutingLayer{route, r})
		f.Routed.Rows += rows
		f.Routed.Reference += r.Same
		if exact != nil {
			x := Indices(exact[route])
			f.Routed.Exact += sameSets(our, x, rows)
			f.Routed.Witness += sameSets(ref, x, rows)
		}
		if typ != checkpoint.BF16 && f.Verdict == "" && judged > 0 {
			k, experts := len(ref)/rows, len(gate)/rows
			before := CompareRouting(positions[:judged], ref[:judged*k], our[:judged*k], gate[:judged*experts], allowance, false)
			if v, why := t.Routed(before); v == Fail {
				f.Verdict, f.Why = v, route+": "+why
			} else if len(before.Differing) > 0 {
				judged, _ = slices.BinarySearch(positions, before.Differing[0].Position)
				f.Why = fmt.Sprintf("%s: experts %v for %v at position %d, which are %.3g apart; later rows follow from it",
					route, before.Differing[0].Ours, before.Differing[0].Reference, positions[judged], before.Differing[0].Reach)
			}
		}
	}
	ref, our, x := reference[logits], ours[logits], exact[logits]
	width := len(ref) / rows
	f.Logits = Measure(ref, our, x, typ)
	f.Top = Agreement{Rows: rows, Reference: sameTop(ref, our, width), Exact: sameTop(our, x, width), Witness: sameTop(ref, x, width)}
	bound := t.Logits * f.Logits.RMS
	off := fmt.Sprintf("logit %d is off by %.3g, rms %.3g, want at most %.3g of it", f.Logits.Worst, f.Logits.Max, f.Logits.RMS, t.Logits)
	switch {
	case f.Verdict == Fail:
	case f.Logits.NonFinite > 0:
		f.Verdict, f.Why = Fail, fmt.Sprintf("%d logits are NaN, or infinite on one side", f.Logits.NonFinite)
	case typ == checkpoint.BF16 && exact == nil:
		f.Verdict, f.Why = NotJudged, "bf16 is judged by the exact values, which were not computed"
	case typ == checkpoint.BF16:
		f.RowError = rowError(ref, our, x, width)
		if f.Verdict = Pass; !(f.RowError <= t.Rows) {
			f.Verdict, f.Why = Fail, fmt.Sprintf("in the median row our rms error is %.4g times the reference's, want at most %g", f.RowError, t.Rows)
		}
	case f.Logits.Max <= bound && judged == rows:
		f.Verdict = Pass
	case judged < rows && Measure(ref[:judged*width], our[:judged*width], nil, typ).Max <= bound:
		f.Verdict = Ambiguous
	default:
		f.Verdict, f.Why = Fail, off
	}
	return f
}

// rowError returns the median over rows of our rms error in units of the
// reference's.
func rowError(reference, ours, exact []float64, width int) float64 {
	var ratios []float64
	for i := 0; i < len(reference); i += width {
		e := Measure(reference[i:i+width], ours[i:i+width], exact[i:i+width], checkpoint.BF16)
		ratios = append(ratios, bounded(e.Ratio()))
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

// Indices converts a stage of indices.
func Indices(values []float64) []int {
	list := make([]int, len(values))
	for i, v := range values {
		list[i] = int(v)
	}
	return list
}

// sameSets counts the rows in which a and b hold the same indices.
func sameSets(a, b []int, rows int) int {
	n, k := 0, len(a)/rows
	for i := 0; i < len(a); i += k {
		if len(without(a[i:i+k], b[i:i+k])) == 0 && len(without(b[i:i+k], a[i:i+k])) == 0 {
			n++
		}
	}
	return n
}

// sameTop counts the rows whose largest value stands in the same column.
func sameTop(a, b []float64, width int) int {
	n := 0
	for i := 0; i+width <= min(len(a), len(b)); i += width {
		if top(a[i:i+width]) == top(b[i:i+width]) {
			n++
		}
	}
	return n
}

// top returns the first column of the largest value.
func top(row []float64) int {
	best := 0
	for j, v := range row {
		if v > row[best] {
			best = j
		}
	}
	return best
}
