package generate_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"ossify/generate"
)

// probabilities computes what a sampler must draw from, by sorting and summing
// as the comments of Sampling say, in another way than the sampler does.
func probabilities(logits []float32, s generate.Sampling, seen map[uint32]int) []float64 {
	n := len(logits)
	v := make([]float64, n)
	for i, l := range logits {
		v[i] = float64(l) + s.Bias[uint32(i)]
		if c := seen[uint32(i)]; c > 0 {
			v[i] -= s.Presence + float64(c)*s.Frequency
		}
		v[i] /= s.Temperature
	}
	p := make([]float64, n)
	norm := func() {
		sum := 0.0
		for _, x := range p {
			sum += x
		}
		for i := range p {
			p[i] /= sum
		}
	}
	for i := range p {
		p[i] = math.Exp(v[i] - slices.Max(v))
	}
	norm()
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[b], p[a]) })
	if s.TopK > 0 {
		for _, i := range order[min(s.TopK, n):] {
			p[i] = 0
		}
		norm()
	}
	if s.TopP > 0 && s.TopP < 1 {
		sum := 0.0
		for _, i := range order {
			if sum >= s.TopP {
				p[i] = 0
			}
			sum += p[i]
		}
		norm()
	}
	if s.MinP > 0 {
		top := slices.Max(p)
		for i := range p {
			if p[i] < s.MinP*top {
				p[i] = 0
			}
		}
		norm()
	}
	return p
}

// Every sampler draws with the probabilities that its settings say: χ² over
// 100,000 draws stays below its 1 − 10⁻⁶ quantile, and nothing is drawn that has
// none. Under the race detector (-short), which has nothing to see in a goroutine
// alone, 5,000 do.
func TestDistribution(t *testing.T) {
	draws := 100_000
	if testing.Short() {
		draws = 5000
	}
	logits := make([]float32, 40)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range logits {
		logits[i] = float32(2 * r.NormFloat64())
	}
	logits[7] = logits[3] // equal ones
	logits[9] = float32(math.Inf(-1))
	for name, s := range map[string]generate.Sampling{
		"temperature 1":   {Temperature: 1},
		"temperature 0.7": {Temperature: 0.7},
		"temperature 3":   {Temperature: 3},
		"top-k 5":         {Temperature: 1, TopK: 5},
		"top-k beyond":    {Temperature: 1, TopK: 500},
		"top-p 0.8":       {Temperature: 1, TopP: 0.8},
		"top-p tiny":      {Temperature: 1, TopP: 1e-9},
		"min-p 0.1":       {Temperature: 1.5, MinP: 0.1},
		"all three":       {Temperature: 1.2, TopK: 20, TopP: 0.9, MinP: 0.02},
		"bias and ban":    {Temperature: 1, Bias: map[uint32]float64{2: 3, 5: math.Inf(-1), 1000: 9}},
		"penalties":       {Temperature: 1, Presence: 0.5, Frequency: 0.25},
	} {
		t.Run(name, func(t *testing.T) {
			seen := map[uint32]int{1: 1, 2: 4, 30: 2}
			want := probabilities(logits, s, seen)
			s.Seed = 99
			sampler, err := generate.NewSampler(s)
			if err != nil {
				t.Fatal(err)
			}
			count := make([]int, len(logits))
			for i := range draws {
				id, err := sampler.Pick(logits, i, seen)
				if err != nil {
					t.Fatal(err)
				}
				count[id]++
			}
			chi, classes := 0.0, 0
			rest, restWant := 0, 0.0
			for i, c := range count {
				if want[i] == 0 && c > 0 {
					t.Errorf("token %d drawn %d times, want never", i, c)
				}
				if e := want[i] * float64(draws); e >= 10 {
					chi += (float64(c) - e) * (float64(c) - e) / e
					classes++
				} else {
					rest, restWant = rest+c, restWant+e
				}
			}
			if restWant >= 10 {
				chi += (float64(rest) - restWant) * (float64(rest) - restWant) / restWant
				classes++
			}
			if bound := quantile(classes - 1); !(chi <= bound) {
				t.Errorf("chi² %.1f of %d classes, want at most %.1f", chi, classes, bound)
			}
		})
	}
}

// quantile is that of χ² at 1 − 10⁻⁶, by Wilson and Hilferty's cube.
func quantile(df int) float64 {
	if df == 0 {
		return 1e-9
	}
	k, z := float64(df), 4.753
	c := 1 - 2/(9*k) + z*math.Sqrt(2/(9*k))
	return k * c * c * c
}

// A wrong temperature must not pass the test above.
func TestDistributionSeesAFault(t *testing.T) {
	logits := []float32{0, 1, 2, 3}
	sampler, _ := generate.NewSampler(generate.Sampling{Temperature: 1.05})
	want := probabilities(logits, generate.Sampling{Temperature: 1}, nil)
	count := make([]float64, 4)
	for i := range 100_000 {
		id, _ := sampler.Pick(logits, i, nil)
		count[id]++
	}
	chi := 0.0
	for i, w := range want {
		chi += (count[i] - w*1e5) * (count[i] - w*1e5) / (w * 1e5)
	}
	if chi <= quantile(3) {
		t.Errorf("chi² %.1f of a temperature 5%% off, want it above %.1f", chi, quantile(3))
	}
}

func TestPick(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct {
		name   string
		s      generate.Sampling
		logits []float32
		want   uint32
		err    string
	}{
		{"greedy", generate.Sampling{}, []float32{1, 3, 2}, 1, ""},
		{"greedy, tie: the lowest id", generate.Sampling{}, []float32{1, 3, 3}, 1, ""},
		{"greedy among negatives", generate.Sampling{}, []float32{-5, -3, -9}, 1, ""},
		{"greedy, banned", generate.Sampling{Bias: map[uint32]float64{1: math.Inf(-1)}}, []float32{1, 3, 2}, 2, ""},
		{"one token", generate.Sampling{Temperature: 1}, []float32{-7}, 0, ""},
		{"infinite", generate.Sampling{Temperature: 1}, []float32{1, inf, inf}, 1, ""},
		{"a tiny temperature", generate.Sampling{Temperature: 1e-300}, []float32{1, 3, 2}, 1, ""},
		{"large logits", generate.Sampling{Temperature: 1e-3}, []float32{3e38, -3e38, 1}, 0, ""},
		{"NaN", generate.Sampling{}, []float32{1, nan}, 0, "generate: the logit of token 1 is NaN"},
		{"nothing left", generate.Sampling{Bias: map[uint32]float64{0: math.Inf(-1)}}, []float32{1}, 0, "generate: no token is left to pick: all 1 logits are -Inf or banned"},
		{"no logits", generate.Sampling{}, nil, 0, "generate: no token is left to pick: all 0 logits are -Inf or banned"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := generate.NewSampler(c.s)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Pick(c.logits, 0, nil)
			if got != c.want || fmt.Sprint(err) != c.err && !(err == nil && c.err == "") {
				t.Errorf("%d, %v, want %d, %s", got, err, c.want, c.err)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, s := range []generate.Sampling{
		{Temperature: -1}, {Temperature: nan}, {Temperature: inf}, {TopK: -1}, {TopP: 1.01}, {TopP: nan}, {TopP: -0.1}, {MinP: 2}, {MinP: nan},
		{Presence: inf}, {Frequency: nan}, {Bias: map[uint32]float64{3: nan}}, {Bias: map[uint32]float64{3: inf}},
	} {
		if err := s.Check(); err == nil {
			t.Errorf("%+v passes", s)
		}
		if _, err := generate.NewSampler(s); err == nil {
			t.Errorf("%+v makes a sampler", s)
		}
	}
}

func TestLogProbs(t *testing.T) {
	logits := []float32{1, 4, 2, 4, -3}
	sum := 0.0
	for _, l := range logits {
		sum += math.Exp(float64(l))
	}
	lp, top := generate.LogProbs(logits, 2, 3)
	if want := 2 - math.Log(sum); math.Abs(lp-want) > 1e-12 {
		t.Errorf("%g, want %g", lp, want)
	}
	var ids []uint32
	for _, c := range top {
		ids = append(ids, c.ID)
	}
	if !slices.Equal(ids, []uint32{1, 3, 2}) {
		t.Errorf("most probable %v, want [1 3 2]", ids)
	}
	if _, top := generate.LogProbs(logits, 0, 0); len(top) != 0 {
		t.Errorf("%v, want none", top)
	}
	if _, top := generate.LogProbs(logits, 0, 50); len(top) != 5 {
		t.Errorf("%d, want 5", len(top))
	}
}

func BenchmarkPick(b *testing.B) {
	logits := make([]float32, 201_088)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range logits {
		logits[i] = float32(3 * r.NormFloat64())
	}
	for name, s := range map[string]generate.Sampling{"greedy": {}, "temperature": {Temperature: 1}, "top-p": {Temperature: 1, TopP: 0.9}} {
		b.Run(name, func(b *testing.B) {
			p, _ := generate.NewSampler(s)
			for i := 0; b.Loop(); i++ {
				p.Pick(logits, i, nil)
			}
		})
	}
}
