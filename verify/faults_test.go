package verify

import (
	"context"
	"slices"
	"testing"

	"ossify/fault"
)

// constant is a subject of which every value is the same.
type constant struct {
	Subject
	v float64
}

func (s constant) Forced(ctx context.Context, t *Golden, see See) error {
	return s.Cached(ctx, t, Steps{}, see)
}

// Cached shows two stages of two columns, in steps of 60, 7 and 1 rows.
func (s constant) Cached(_ context.Context, _ *Golden, _ Steps, see See) error {
	first := 0
	for _, n := range []int{60, 7, 1, 1} {
		var at []int
		for p := first; p < first+n; p++ {
			at = append(at, p)
		}
		for _, stage := range []string{"a", "b"} {
			if err := see(stage, at, slices.Repeat([]float64{s.v}, 2*n)); err != nil {
				return err
			}
		}
		first += n
	}
	return nil
}

// A fault in part of a sequence is in its rows and in no other, within a step
// too, and the second fault finds the clean rows as the first did. One of decode
// is in no row of a run of all at once.
func TestMixed(t *testing.T) {
	golden := ownGolden(t, open(t, 1), TraceRequest{Tokens: someTokens(69), Precision: "f32"}, nil)
	var known cleanRuns
	check := func(f fault.Fault, from int, run func(s Subject, see See) error) {
		t.Helper()
		rows := map[string]int{}
		err := run(mixed{constant{v: 1}, constant{v: 2}, f, &known}, func(stage string, at []int, values []float64) error {
			for i, p := range at {
				want := 1.0
				if p >= from {
					want = 2
				}
				if p != rows[stage] || values[2*i] != want || values[2*i+1] != want {
					t.Errorf("from %d, %s: row %d is of position %d, %g", from, stage, rows[stage], p, values[2*i:2*i+2])
				}
				rows[stage]++
			}
			return nil
		})
		if err != nil || rows["a"] != 69 || rows["b"] != 69 {
			t.Errorf("from %d: %v, rows %v", from, err, rows)
		}
	}
	forced := func(s Subject, see See) error { return s.Forced(t.Context(), golden, see) }
	cached := func(decode int) func(s Subject, see See) error {
		return func(s Subject, see See) error { return s.Cached(t.Context(), golden, Steps{Decode: decode}, see) }
	}
	for _, from := range []int{0, 1, 59, 60, 66, 68, 69} {
		check(fault.Fault{From: from}, from, forced)
		check(fault.Fault{From: from}, from, cached(5))
	}
	for _, n := range []int{1, 5, 40} {
		check(fault.Fault{Decode: true}, 69, forced)
		check(fault.Fault{Decode: true}, 69-n, cached(n))
	}
}
