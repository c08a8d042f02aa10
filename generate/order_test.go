package generate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// many returns candidates in order of their ids.
func many(n int, value func() float64) []candidate {
	var list []candidate
	for id := range n {
		if v := value(); v == v {
			list = append(list, candidate{id: uint32(id), v: v})
		}
	}
	return list
}

func TestOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	values := map[string]func() float64{
		"float32":        func() float64 { return float64(float32(r.NormFloat64() * 5)) },
		"float64":        func() float64 { return r.NormFloat64() },
		"many equal":     func() float64 { return float64(r.IntN(5) - 2) },
		"all equal":      func() float64 { return 3 },
		"two zeros":      func() float64 { return math.Copysign(0, r.Float64()-0.5) },
		"zeros and near": func() float64 { return math.Copysign(5e-324*float64(r.IntN(3)), r.Float64()-0.5) },
		"huge, infinite": func() float64 {
			return []float64{math.MaxFloat64, -math.MaxFloat64, math.Inf(1), math.Inf(-1), 1}[r.IntN(5)]
		},
		"any bits": func() float64 { return math.Float64frombits(r.Uint64()) },
	}
	var spare []candidate
	for name, value := range values {
		for _, n := range []int{0, 1, 2, few - 1, few, few + 1, 5000, 20000} {
			t.Run(fmt.Sprintf("%s %d", name, n), func(t *testing.T) {
				list := many(n, value)
				want := slices.Clone(list)
				slices.SortFunc(want, compare)
				list, spare = order(list, spare)
				for i := range want {
					if list[i].id != want[i].id || math.Float64bits(list[i].v) != math.Float64bits(want[i].v) {
						t.Fatalf("at %d: %v, want %v", i, list[i], want[i])
					}
				}
				if len(list) != len(want) {
					t.Fatalf("%d, want %d", len(list), len(want))
				}
			})
		}
	}
}

func BenchmarkOrder(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	list := many(201088, func() float64 { return float64(float32(r.NormFloat64())) })
	own := slices.Clone(list)
	var spare []candidate
	b.Run("dealt", func(b *testing.B) {
		for b.Loop() {
			copy(own, list)
			own, spare = order(own, spare)
		}
	})
	b.Run("compared", func(b *testing.B) {
		for b.Loop() {
			copy(own, list)
			slices.SortFunc(own, compare)
		}
	})
}
