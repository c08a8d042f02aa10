package verify

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"ossify/engine"
	"ossify/fault"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/kernel"
	"ossify/parity"
)

// goldenSeed is the seed of the checkpoint of which the goldens are traces.
const goldenSeed = 1

// openGolden opens a committed trace of PyTorch's, and proves that ck is its
// checkpoint.
func openGolden(t *testing.T, ck *gptoss.Checkpoint, name string) *Golden {
	t.Helper()
	golden, err := OpenGolden("../testdata/goldens/"+name+".safetensors", ck.Graph)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { golden.Close() })
	hash, err := CheckpointHash(t.Context(), ck.Folder.Dir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := golden.Metadata()["checkpoint"]; hash != want {
		t.Fatalf("%s is of checkpoint %s, but seed %d gives %s: synthesis has changed since", name, want, goldenSeed, hash)
	}
	return golden
}

// PyTorch and the engine stay within their bounds, in both precisions, with the
// portable kernels and the best of this machine. What the test asks of the
// golden is what makes it one: it reaches past the window, and routes.
func TestEngineAgainstPyTorch(t *testing.T) {
	ck := open(t, goldenSeed)
	for _, p := range []engine.Precision{engine.F32, engine.BF16} {
		golden := openGolden(t, ck, "tiny-"+p.String())
		if n, last := len(golden.Tokens()), golden.Positions()[len(golden.Positions())-1]; golden.Precision != p || n < 400 || last != n-1 {
			t.Errorf("golden in %v, %d tokens, last position %d", golden.Precision, n, last)
		}
		for _, k := range []kernel.Set{kernel.Best(), kernel.Portable()} {
			if testing.Short() && k.Name == "portable" {
				continue
			}
			r, err := Run(t.Context(), ck.Graph, ck.Weights, Request{Golden: golden, Engine: engine.Options{Kernels: k}})
			if err != nil {
				t.Fatal(err)
			}
			passes(t, r, columnReference, columnForced, columnCached, columnFree)
			// Sums need a part of their bounds that shows that these are no wider
			// than they have to be.
			for _, c := range r.Columns {
				for _, s := range c.Stages {
					if p == engine.F32 && s.Name == "unembedding" && !(s.Fit.Used > 0.05) {
						t.Errorf("%s: %s needs %.3g of its bound", c.Name, s.Name, s.Fit.Used)
					}
				}
			}
		}
	}
}

// The same at the widths of gpt-oss-20b, past its window of 128; and with its
// vocabulary, on the ids of a fixture prompt.
func TestEngineAgainstPyTorchElsewhere(t *testing.T) {
	var user struct{ IDs []uint32 }
	data, err := os.ReadFile("../testdata/prompts/user.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &user); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		preset string
		vocab  int
		inner  int
		whole  bool // judge the free run too, which takes a minute of small
		check  func(t *testing.T, m *graph.Graph, g *Golden)
	}{
		{"small", "small", 0, 0, false, func(t *testing.T, _ *graph.Graph, g *Golden) {
			for _, p := range []int{127, 128, 129} {
				if !slices.Contains(g.Positions(), p) {
					t.Errorf("no row at position %d", p)
				}
			}
		}},
		{"long", "small", 0, 64, false, func(t *testing.T, m *graph.Graph, g *Golden) {
			// More than two windows of 128 pass through the cache one by one, and
			// rows of the last of them are judged.
			if n := StepsOf(m, len(g.Tokens())).Decode; n < 256 || len(g.Tokens()) < 300 {
				t.Errorf("%d tokens, of which %d are decoded", len(g.Tokens()), n)
			}
			for _, p := range []int{127, 128, 129, 255, 256, 257, 327} {
				if !slices.Contains(g.Positions(), p) {
					t.Errorf("no row at position %d", p)
				}
			}
			if !slices.Equal(g.Within(), []int{128, 257, 327}) {
				t.Errorf("steps at %v", g.Within())
			}
		}},
		{"prompt", "tiny", 201088, 0, true, func(t *testing.T, _ *graph.Graph, g *Golden) {
			if !slices.Equal(g.Tokens(), user.IDs) {
				t.Errorf("tokens %v, want those of user.json", g.Tokens())
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := gptoss.Preset(tt.preset)
			if err != nil {
				t.Fatal(err)
			}
			if tt.vocab > 0 {
				c.Vocab = tt.vocab
			}
			if tt.inner > 0 {
				c.Inner = tt.inner
			}
			ck := openConfig(t, c, goldenSeed)
			for _, p := range []engine.Precision{engine.F32, engine.BF16} {
				golden := openGolden(t, ck, tt.name+"-"+p.String())
				tt.check(t, ck.Graph, golden)
				if tt.whole {
					r, err := Run(t.Context(), ck.Graph, ck.Weights, Request{Golden: golden, Most: 1e8})
					if err != nil {
						t.Fatal(err)
					}
					passes(t, r, columnReference, columnForced, columnCached, columnFree)
					continue
				}
				v := &comparison{ctx: t.Context(), g: ck.Graph, w: ck.Weights, q: Request{Golden: golden}, s: subject(t, ck, p), p: p, stages: gptoss.Stages(ck.Graph), r: &parity.Report{}}
				if err := v.forced(golden); err != nil {
					t.Fatal(err)
				}
				v.r.Judge()
				passes(t, v.r, columnReference, columnForced, columnCached)
			}
		})
	}
}

// Each fault of the table is caught at the stage where it sits, in both
// precisions, with the bounds that the model without one keeps.
func TestFaultsAgainstPyTorch(t *testing.T) {
	ck := open(t, goldenSeed)
	for _, p := range []engine.Precision{engine.F32, engine.BF16} {
		if testing.Short() && p == engine.F32 { // bf16 has all of its faults, and one more
			continue
		}
		var names []string
		r, err := Faults(t.Context(), ck.Graph, ck.Weights, openGolden(t, ck, "tiny-"+p.String()), engine.Options{}, func(c parity.Caught) { names = append(names, c.Name) })
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range r.Faults {
			if c.At != c.Want+c.Step || !c.OK() {
				t.Errorf("%v: %s: caught at %q (%s), want %s", p, c.Name, c.At, c.Why, c.Want+c.Step)
			}
		}
		for _, c := range r.Faults {
			if !slices.Contains(c.Stages, c.At) {
				t.Errorf("%v: %s: %v failed, want %s among them", p, c.Name, c.Stages, c.At)
			}
		}
		if r.Clean != "" || !r.OK() || r.Caught() < 40 {
			t.Errorf("%v: %d of %d caught; without a fault the first diverging stage is %q", p, r.Caught(), len(r.Faults), r.Clean)
		}
		var want []string
		for _, f := range fault.Table() {
			if !f.Unrounded || p == engine.BF16 {
				want = append(want, f.Name)
			}
		}
		if !slices.Equal(names, want) {
			t.Errorf("%v: shown %q, want %q", p, names, want)
		}
	}
}

// A report that says that faults went uncaught, or that the clean model failed,
// is not a good one.
func TestFaultReport(t *testing.T) {
	good := parity.Caught{Name: "x", Want: "s", At: "s"}
	for _, tt := range []struct {
		name  string
		clean string
		list  []parity.Caught
		ok    bool
		n     int
	}{
		{"all caught", "", []parity.Caught{good, good}, true, 2},
		{"none", "", nil, false, 0},
		{"one not caught", "", []parity.Caught{good, {Name: "x", Want: "s"}}, false, 1},
		{"one caught in a later layer", "", []parity.Caught{{Name: "x", Want: "block.0.s", Step: ".t", At: "block.3.s.t"}, good}, true, 2},
		{"one caught in an earlier layer", "", []parity.Caught{{Name: "x", Want: "block.1.s", At: "block.0.s"}, good}, false, 1},
		{"one caught at another stage of a later layer", "", []parity.Caught{{Name: "x", Want: "block.0.s", At: "block.1.r"}, good}, false, 1},
		{"one caught elsewhere", "", []parity.Caught{{Name: "x", Want: "s", At: "r"}, good}, false, 1},
		{"clean model fails", "s", []parity.Caught{good}, false, 1},
	} {
		r := FaultReport{Clean: tt.clean, Faults: tt.list}
		if r.OK() != tt.ok || r.Caught() != tt.n {
			t.Errorf("%s: %v, %d caught", tt.name, r.OK(), r.Caught())
		}
	}
}

// Random edits of single weights are found, in both precisions, and no stage
// fails that reads none of them.
func TestAttack(t *testing.T) {
	ck := open(t, goldenSeed)
	for _, p := range []engine.Precision{engine.F32, engine.BF16} {
		r, err := Attack(t.Context(), ck.Graph, ck.Weights, openGolden(t, ck, "tiny-"+p.String()), 400, 7, engine.Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !r.OK() || r.Total.Edits != 400 || r.Total.Findable < 390 || len(r.Kinds) != 16 {
			t.Errorf("%v: %+v, missed %v, stray %v", p, r.Total, r.Missed, r.Stray)
		}
	}
	// The report is no good if an edit that shows is missed.
	for _, tt := range []struct {
		total AttackKind
		stray []string
		ok    bool
	}{
		{AttackKind{Edits: 9, Findable: 9, Certain: 8, Found: 9}, nil, true},
		{AttackKind{}, nil, false},
		{AttackKind{Edits: 1000, Findable: 1000, Certain: 990, Found: 994}, nil, false},
		{AttackKind{Edits: 1000, Findable: 1000, Certain: 998, Found: 997}, nil, false},
		{AttackKind{Edits: 9, Findable: 9, Found: 9}, []string{"norm"}, false},
	} {
		if r := (AttackReport{Total: tt.total, Stray: tt.stray}); r.OK() != tt.ok {
			t.Errorf("%+v, stray %v: %v", tt.total, tt.stray, r.OK())
		}
	}
}
