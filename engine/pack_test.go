package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"ossify/engine"
)

// A model whose matrices are packed, or copied, or both, gives the same bits:
// prompts, decoded tokens, the largest logits, and every stage.
func TestPackAndHold(t *testing.T) {
	r := tiny(t)
	tokens := someTokens(21)
	for _, p := range precisions {
		for _, k := range sets() {
			t.Run(fmt.Sprint(p, " ", k.Name), func(t *testing.T) {
				run := func(prepare ...func(m *engine.Model) error) (all []float32, bytes int64) {
					m := model(t, r, engine.Options{Precision: p, Kernels: k, Workers: 3})
					defer m.Close()
					for _, f := range prepare {
						if err := f(m); err != nil {
							t.Fatal(err)
						}
					}
					s := m.NewSession()
					for _, n := range []int{9, 1, 1, 3, 7} {
						logits, err := s.Next(t.Context(), tokens[s.Len():s.Len()+n])
						if err != nil {
							t.Fatal(err)
						}
						all = append(all, logits...)
					}
					top, err := m.NewSession().NextTop(t.Context(), tokens[:9], 5)
					if err != nil {
						t.Fatal(err)
					}
					for _, l := range top {
						all = append(all, float32(l.ID), l.Logit)
					}
					return all, m.TokenBytes()
				}
				pack := func(m *engine.Model) error { return m.Pack(t.Context()) }
				hold := func(m *engine.Model) error { return m.Hold(t.Context()) }
				screen := func(m *engine.Model) error { return m.Screen(t.Context()) }
				want, plain := run()
				got, bytes := run(pack)
				same(t, "packed", got, want)
				if !(bytes < plain) {
					t.Errorf("packed, a token reads %d bytes, want fewer than %d", bytes, plain)
				}
				got, bytes = run(hold)
				same(t, "held", got, want)
				if bytes != plain {
					t.Errorf("held, a token reads %d bytes, want %d", bytes, plain)
				}
				got, _ = run(pack, hold, pack, hold)
				same(t, "both, twice", got, want)
				got, _ = run(pack, screen)
				same(t, "packed, then a screen", got, want)
				got, _ = run(screen, hold, pack)
				same(t, "a screen, then both", got, want)
			})
		}
	}
}

func TestPackErrors(t *testing.T) {
	m := model(t, tiny(t), engine.Options{Precision: engine.BF16})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, f := range map[string]func(context.Context) error{"Pack": m.Pack, "Hold": m.Hold} {
		if err := f(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, cancelled: %v", name, err)
		}
	}
	m.Close()
	if m.Pack(t.Context()) == nil || m.Hold(t.Context()) == nil {
		t.Error("a closed model was packed or held")
	}
}
