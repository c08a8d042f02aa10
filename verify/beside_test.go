package verify

import (
	"cmp"
	"encoding/binary"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"ossify/checkpoint"
	"ossify/engine"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/parity"
)

// routed writes the choices of a run of ours and opens them beside a golden.
func routed(t *testing.T, golden *Golden, q TraceRequest, edit func([]checkpoint.Tensor)) (*Routing, error) {
	t.Helper()
	ck := open(t, goldenSeed)
	path := filepath.Join(t.TempDir(), "routing.safetensors")
	q.Positions, q.Stages = nil, []string{"*.mlp.gate", "*.mlp.experts"}
	if err := WriteTrace(t.Context(), path, ck, q); err != nil {
		t.Fatal(err)
	}
	path = edited(t, path, func(x []checkpoint.Tensor) []checkpoint.Tensor { edit(x); return x })
	r, err := OpenRouting(path, ck.Graph, golden)
	if err == nil {
		t.Cleanup(func() { r.Close() })
	}
	return r, err
}

// judgedBeside is the report of a golden beside a run of ours.
func judgedBeside(t *testing.T, ck *gptoss.Checkpoint, golden *Golden, q TraceRequest, edit func([]checkpoint.Tensor)) *parity.Report {
	t.Helper()
	r, err := routed(t, golden, q, edit)
	if err != nil {
		t.Fatal(err)
	}
	report, err := Run(t.Context(), ck.Graph, ck.Weights, Request{Golden: golden, Routing: r})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// turned makes the reference choose another expert in a row of a layer, with a
// gap of that many rms above the best of the others.
func turned(layer string, position int, gap float64) func([]checkpoint.Tensor) {
	return func(tensors []checkpoint.Tensor) {
		experts := tensor(tensors, layer+".experts").Data[position*4*4:][:4*4]
		gate := tensor(tensors, layer+".gate").Data
		const n = 8 // experts of tiny
		at := func(i int) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(gate[4*i:]))) }
		squares := 0.0
		for i := range len(gate) / 4 {
			squares += at(i) * at(i)
		}
		chosen, row := map[uint32]bool{}, position*n
		last := binary.LittleEndian.Uint32(experts[3*4:])
		for k := range 4 {
			chosen[binary.LittleEndian.Uint32(experts[4*k:])] = true
		}
		best := -1
		for e := range n {
			if !chosen[uint32(e)] && (best < 0 || at(row+e) > at(row+best)) {
				best = e
			}
		}
		// The best of the others takes the place of the last that was chosen.
		value := at(row+int(last)) + gap*math.Sqrt(squares/float64(len(gate)/4))
		binary.LittleEndian.PutUint32(gate[4*(row+best):], math.Float32bits(float32(value)))
		binary.LittleEndian.PutUint32(experts[3*4:], uint32(best))
	}
}

// A choice may be turned where the reference's gap is small, and what sees the
// turned row is not compared any more; what does not see it is.
func TestBeside(t *testing.T) {
	ck := open(t, goldenSeed)
	q := TraceRequest{Tokens: someTokens(40), Positions: []int{0, 20, 39}, Precision: "f32", Metadata: map[string]string{"checkpoint": "same"}}
	golden := ownGolden(t, ck, q, nil)
	nothing := func([]checkpoint.Tensor) {}
	for _, tt := range []struct {
		name    string
		edit    func([]checkpoint.Tensor)
		experts parity.Verdict
		logits  parity.Verdict
		rows    string
	}{
		{"the same", nothing, parity.Pass, parity.Pass, "3 rows"},
		{"turned at a near tie", turned("block.1.mlp", 30, 1e-5), parity.Pass, parity.Pass, "2 rows"},
		{"turned at a clear gap", turned("block.1.mlp", 30, 0.01), parity.Fail, parity.Pass, "2 rows"},
		{"a second turn, which sees the first", func(x []checkpoint.Tensor) {
			turned("block.1.mlp", 30, 1e-5)(x)
			turned("block.2.mlp", 35, 0.01)(x)
		}, parity.Pass, parity.Pass, "2 rows"},
		{"a second turn, which does not see the first", func(x []checkpoint.Tensor) {
			turned("block.1.mlp", 30, 1e-5)(x)
			turned("block.2.mlp", 25, 0.01)(x)
		}, parity.Fail, parity.Pass, "2 rows"},
		{"a second turn, in the same layer", func(x []checkpoint.Tensor) {
			turned("block.1.mlp", 30, 1e-5)(x)
			turned("block.1.mlp", 35, 0.01)(x)
		}, parity.Fail, parity.Pass, "2 rows"},
		{"turned in the first row", turned("block.3.mlp", 0, 1e-5), parity.Pass, parity.NotJudged, "0 rows"},
	} {
		report := judgedBeside(t, ck, golden, q, tt.edit)
		if got := check(t, report, "free: experts"); got.Verdict != tt.experts {
			t.Errorf("%s: experts %s %s", tt.name, got.Verdict, got.Why)
		}
		if got := check(t, report, "free: logits"); got.Verdict != tt.logits || !strings.HasSuffix(got.Name, tt.rows) {
			t.Errorf("%s: %s %s %s", tt.name, got.Name, got.Verdict, got.Why)
		}
		if got := check(t, report, "free: the same logits, absolutely"); got.Verdict != tt.logits || !got.Absolute || got.Bound != 1e-3 || !strings.HasSuffix(got.Name, tt.rows) {
			t.Errorf("%s: %s %s %s", tt.name, got.Name, got.Verdict, got.Why)
		}
		if got := check(t, report, "forced: rms error"); got.Verdict != parity.Pass {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}

	for name, edit := range map[string]func(*TraceRequest){
		"tokens":     func(q *TraceRequest) { q.Tokens = someTokens(39) },
		"precision":  func(q *TraceRequest) { q.Precision = "bf16" },
		"checkpoint": func(q *TraceRequest) { q.Metadata = map[string]string{"checkpoint": "another"} },
	} {
		other := q
		edit(&other)
		if _, err := routed(t, golden, other, nothing); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("routing of another %s: %v", name, err)
		}
	}
	if _, err := OpenRouting(golden.Path(), ck.Graph, golden); err == nil {
		t.Error("a golden with three rows passes for the choices of all 40")
	}
}

// Logits that are further than the bound from the reference's fail; so does a
// stage whose error is larger than the reference's.
func TestBesideFails(t *testing.T) {
	ck := open(t, goldenSeed)
	q := TraceRequest{Tokens: someTokens(40), Positions: []int{39}, Precision: "f32"}
	far := ownGolden(t, ck, q, func(tensors []checkpoint.Tensor) {
		x := tensor(tensors, "unembedding").Data[12:]
		binary.LittleEndian.PutUint32(x, math.Float32bits(math.Float32frombits(binary.LittleEndian.Uint32(x))+0.01))
	})
	report := judgedBeside(t, ck, far, q, func([]checkpoint.Tensor) {})
	if got := check(t, report, "free: logits"); got.Verdict != parity.Fail {
		t.Errorf("a logit that is 0.01 off: %+v", got)
	}
	if got := check(t, report, "free: the same logits, absolutely"); got.Verdict != parity.Fail || !(got.Max > 0.009 && got.Max < 0.011) {
		t.Errorf("a logit that is 0.01 off: %+v", got)
	}

	for _, tt := range []struct {
		name      string
		our, ref  float64
		n         int // elements, if not many
		want      parity.Verdict
		noNumbers bool
	}{
		{name: "as good", our: 1, ref: 1, want: parity.Pass},
		{name: "a little worse", our: 1.049, ref: 1, want: parity.Pass},
		{name: "worse", our: 1.051, ref: 1, want: parity.Fail},
		{name: "worse by the chance of few elements", our: 1.15, ref: 1, n: 256, want: parity.Pass},
		{name: "worse than by the chance of few elements", our: 1.25, ref: 1, n: 256, want: parity.Fail},
		{name: "both exact", want: parity.Pass},
		{name: "only the reference is exact", our: 1e-9, want: parity.Fail},
		{name: "NaN", our: math.NaN(), ref: 1, want: parity.Fail},
		{name: "no stages", noNumbers: true, want: parity.Fail},
	} {
		v := &comparison{r: &parity.Report{}, p: engine.F32, stages: []gptoss.Stage{{Node: graph.Node{Name: "s"}}}}
		reference, forced := &parity.Column{}, &parity.Column{}
		if !tt.noNumbers {
			n := cmp.Or(tt.n, 1<<20)
			reference.Add(parity.StageReport{Name: "s", Fit: &parity.Fit{Error: tt.ref, Elements: n}})
			forced.Add(parity.StageReport{Name: "s", Fit: &parity.Fit{Error: tt.our, Elements: n}})
		}
		v.noWorse(reference, forced)
		if got := v.r.Checks[0]; got.Verdict != tt.want {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

// check returns the check whose name begins so.
func check(t *testing.T, r *parity.Report, name string) parity.Check {
	t.Helper()
	for _, c := range r.Checks {
		if strings.HasPrefix(c.Name, name) {
			return c
		}
	}
	t.Fatalf("no check %q", name)
	return parity.Check{}
}
