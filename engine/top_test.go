package engine_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"ossify/engine"
)

// NextTop gives the largest of the logits that Next gives, with a screen and
// without, in both precisions and by every set of kernels.
func TestNextTop(t *testing.T) {
	r := tiny(t)
	src := rand.New(rand.NewPCG(8, 8))
	for _, p := range precisions {
		for _, k := range sets() {
			t.Run(fmt.Sprint(p, " ", k.Name), func(t *testing.T) {
				m := model(t, r, engine.Options{Precision: p, Kernels: k, Workers: 3})
				defer m.Close()
				all, top, screened := m.NewSession(), m.NewSession(), m.NewSession()
				for i := range 60 {
					tokens := []uint32{uint32(src.IntN(512))}
					if i%7 == 0 {
						tokens = append(tokens, 5, 6, 7)
					}
					n := []int{1, 1, 2, 40, 512, 9999}[src.IntN(6)]
					logits, err := all.Next(t.Context(), tokens)
					if err != nil {
						t.Fatal(err)
					}
					want := make([]engine.Top, len(logits))
					for id, l := range logits {
						want[id] = engine.Top{ID: uint32(id), Logit: l}
					}
					slices.SortFunc(want, func(a, b engine.Top) int {
						return cmp.Or(cmp.Compare(b.Logit, a.Logit), cmp.Compare(a.ID, b.ID))
					})
					want = want[:min(n, len(want))]
					if i < 20 {
						got, err := top.NextTop(t.Context(), tokens, n)
						if err != nil || !slices.Equal(got, want) {
							t.Fatalf("token %d, %d largest: %v, %v, want %v", i, n, got, err, want)
						}
					}
					if i == 19 {
						if err := m.Screen(t.Context()); err != nil {
							t.Fatal(err)
						}
						screened = all.Fork()
						continue
					}
					if i < 20 {
						continue
					}
					got, err := screened.NextTop(t.Context(), tokens, n)
					if err != nil || !slices.Equal(got, want) {
						t.Fatalf("token %d, screened, %d largest: %v, %v, want %v", i, n, got, err, want)
					}
					if screened.Len() != all.Len() {
						t.Fatalf("the session has seen %d tokens, want %d", screened.Len(), all.Len())
					}
				}
			})
		}
	}
}

func TestNextTopRefuses(t *testing.T) {
	r := tiny(t)
	m := model(t, r, engine.Options{Precision: engine.BF16})
	for range 2 {
		s := m.NewSession()
		if _, err := s.NextTop(t.Context(), nil, 1); err == nil {
			t.Error("no tokens pass")
		}
		if _, err := s.NextTop(t.Context(), []uint32{99999}, 1); err == nil {
			t.Error("an id without a row passes")
		}
		if s.Len() != 0 {
			t.Errorf("the session has seen %d tokens", s.Len())
		}
		if err := m.Screen(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
