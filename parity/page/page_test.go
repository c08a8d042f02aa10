package page

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/parity"
	"ossify/parity/page/pagetest"
)

// stages are those of a layer, in execution order, with steps within two.
var stages = strings.Fields(`attn.norm attn.qkv attn.q attn.k attn.v attn.rope.q attn.rope.k attn.sdpa.scores attn.sdpa.weights attn.sdpa
	attn.out attn mlp.norm mlp.gate mlp.experts mlp.weights mlp.mlp1 mlp.swiglu.glu mlp.swiglu mlp.mlp2 mlp.mix mlp`)

// made is a report of a model with that many layers, of random numbers.
func made(layers int) *parity.Report {
	random := rand.New(rand.NewPCG(20, 8))
	r := &parity.Report{
		Title:      []parity.Fact{{Name: "golden", Text: "some.safetensors: bf16, 420 tokens"}},
		Facts:      []parity.Fact{{Name: "same top token", Text: "75 of 75 rows"}},
		Checks:     []parity.Check{{Name: "the same bits", Verdict: parity.Pass}},
		Exceptions: []parity.Exception{{Column: "pytorch", Rule: "a rule", Count: 3, Of: 12, Where: "a stage"}},
		Provenance: []parity.Fact{{Name: "checkpoint", Text: "20b, original layout"}, {Name: "made", Text: "2026-01-02T03:04:05Z"}},
	}
	for _, name := range []string{"pytorch", "forced", "cached", "free"} {
		c := &parity.Column{Name: name, What: "a run"}
		numbers := func(stage string) {
			const n = 200
			own, lo, hi := make([]float64, n), make([]float64, n), make([]float64, n)
			for i := range own {
				x := random.NormFloat64()
				e := 1e-7 * (1 + random.Float64())
				lo[i], hi[i] = x-e, x+e
				own[i] = parity.Round(x+e*0.4*random.NormFloat64()/3, checkpoint.F32)
			}
			if strings.HasSuffix(stage, "attn.q") {
				copy(own, lo)
				hi = lo
				for i := range own {
					own[i] = parity.Round(own[i], checkpoint.F32)
					lo[i] = own[i]
				}
			}
			s := parity.Fitted(stage, []int{0, 1}, parity.Judge(own, lo, hi, checkpoint.F32))
			if strings.HasSuffix(stage, "attn.sdpa") {
				for p := 127; p < 130; p++ {
					s.Rows = append(s.Rows, parity.RowError{Position: p, RMS: 1, Error: 1e-7 * random.Float64()})
				}
			}
			c.Add(s)
		}
		numbers("embedding")
		for l := range layers {
			for _, s := range stages {
				stage := fmt.Sprintf("block.%d.%s", l, s)
				if s != "mlp.experts" {
					numbers(stage)
					continue
				}
				values, chosen := []float64{3, 2, 1, random.Float64()}, []float64{0, 1}
				c.Add(parity.Chosen(stage, parity.JudgeChoice(stage, []int{0}, chosen, values, true)))
				if name == "free" {
					r.Routing = append(r.Routing, parity.CompareChoices(stage, 1, chosen, []float64{0, float64(1 + l%2)}, values))
				}
			}
			if name == "free" && l%2 == 0 {
				e := parity.Edge{Stage: fmt.Sprintf("block.%d.attn.sdpa", l), Window: 128}
				for p := 127; p < 130; p++ {
					e.Rows = append(e.Rows, parity.EdgeRow{Position: p, Keys: 128, Oldest: random.Float64() / 50, Sink: random.Float64(), Wider: random.Float64() / 100, Narrower: random.Float64() / 100})
				}
				r.Edges = append(r.Edges, e)
			}
		}
		numbers("norm")
		numbers("unembedding")
		r.Columns = append(r.Columns, c)
	}
	for i := range 46 {
		at := fmt.Sprintf("block.0.%s", stages[i%len(stages)])
		r.Faults = append(r.Faults, parity.Caught{Name: fmt.Sprintf("fault %d", i), Want: at, At: at, Where: "forced", Stages: []string{at}})
	}
	r.Judge()
	return r
}

func written(t *testing.T, name string, r *parity.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, name, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A page of a model of the published depth is small, whole, and needs nothing.
func TestPage(t *testing.T) {
	for _, layers := range []int{0, 1, 2, 24, 36} {
		r := made(layers)
		got := written(t, "some.safetensors", r)
		if file := os.Getenv("OSSIFY_PAGE"); file != "" {
			os.WriteFile(fmt.Sprintf("%s-%d.html", file, layers), []byte(got), 0o644)
		}
		if !strings.HasPrefix(got, Mark) || !strings.HasSuffix(got, "</html>\n") || len(got) > 1e6 {
			t.Errorf("%d layers: %d bytes, starts %.40q", layers, len(got), got)
		}
		pagetest.Elements(t, fmt.Sprintf("%d layers", layers), got)
		if again := written(t, "some.safetensors", r); again != got {
			t.Errorf("%d layers: written again, it is another page", layers)
		}
		for _, want := range []string{"Nothing changed.", ">PASS<", "<caption", "46 of 46"} {
			if want == ">PASS<" {
				want = `<span class="badge">pass</span>`
			}
			if !strings.Contains(got, want) {
				t.Errorf("%d layers: no %q", layers, want)
			}
		}
		if n := strings.Count(got, "<svg"); layers >= 2 && n < 20 || strings.Count(got, "<title") != n+1 || strings.Count(got, "<desc") != n {
			t.Errorf("%d layers: %d pictures, %d titles, %d descriptions", layers, n, strings.Count(got, "<title"), strings.Count(got, "<desc"))
		}
	}
}
