package verify

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"ossify/engine"
	"ossify/fault"
	"ossify/gptoss"
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

// The engine keeps the stated bounds against PyTorch, in both precisions, with
// the portable kernels and the best of this machine. What the test asks of the
// golden is what makes it one: it reaches past the window, and routes.
func TestEngineAgainstPyTorch(t *testing.T) {
	ck := open(t, goldenSeed)
	for _, p := range []engine.Precision{engine.F32, engine.BF16} {
		golden := openGolden(t, ck, "tiny-"+p.String())
		if n, last := len(golden.Tokens()), golden.Positions()[len(golden.Positions())-1]; golden.Precision != p || n < 400 || last != n-1 {
			t.Errorf("golden in %v, %d tokens, last position %d", golden.Precision, n, last)
		}
		var subjects []Subject
		for _, k := range []kernel.Set{kernel.Portable(), kernel.Best()} {
			subjects = append(subjects, subject(t, ck, p, k))
		}
		r, err := Run(t.Context(), ck.Graph, golden, subjects, Oracle(ck.Graph, ck.Weights), Options{OracleMost: 1e10})
		if err != nil {
			t.Fatal(err)
		}
		for _, program := range r.Programs {
			if len(program.Stages) != 79 {
				t.Errorf("%s: %d stages, want 79", program.Name, len(program.Stages))
			}
			for _, s := range program.Stages {
				if s.Verdict == parity.Fail {
					t.Errorf("%s: %s: %s", program.Name, s.Name, s.Why)
				}
			}
			if f := program.Free; f.Verdict != parity.Pass {
				t.Errorf("%s: free-running: %s: %s", program.Name, f.Verdict, f.Why)
			}
		}
	}
}

// The same at the widths of gpt-oss-20b, past its window of 128; and with its
// vocabulary, on the ids of a fixture prompt. The free-running oracle is left
// out of the first: it takes a minute.
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
		most   float64 // of the oracle
		check  func(t *testing.T, g *Golden)
	}{
		{"small", "small", 0, 0, func(t *testing.T, g *Golden) {
			for _, p := range []int{127, 128, 129} {
				if !slices.Contains(g.Positions(), p) {
					t.Errorf("no row at position %d", p)
				}
			}
		}},
		{"prompt", "tiny", 201088, 1e10, func(t *testing.T, g *Golden) {
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
			ck := openConfig(t, c, goldenSeed)
			for _, p := range []engine.Precision{engine.F32, engine.BF16} {
				golden := openGolden(t, ck, tt.name+"-"+p.String())
				tt.check(t, golden)
				r, err := Run(t.Context(), ck.Graph, golden, []Subject{subject(t, ck, p, kernel.Best())}, Oracle(ck.Graph, ck.Weights), Options{OracleMost: tt.most})
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range r.Programs[0].Stages {
					if s.Verdict != parity.Pass {
						t.Errorf("%v: %s: %s: %s", p, s.Name, s.Verdict, s.Why)
					}
				}
				if f := r.Programs[0].Free; f.Verdict != parity.Pass && f.Unjudged == "" {
					t.Errorf("%v: free-running: %s: %s", p, f.Verdict, f.Why)
				}
			}
		})
	}
}

// Each fault of the table is caught at the stage where it sits, with the bounds
// that the model without one keeps.
func TestFaultsAgainstPyTorch(t *testing.T) {
	ck := open(t, goldenSeed)
	var names []string
	r, err := Faults(t.Context(), ck.Graph, ck.Weights, openGolden(t, ck, "tiny-f32"), engine.Options{}, func(c Caught) { names = append(names, c.Name) })
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Faults {
		if !c.OK() {
			t.Errorf("%s: caught at %q (%s), want %s", c.Name, c.At, c.Why, c.Want)
		}
	}
	if r.Clean.First != "" || !r.OK() || r.Caught() < 22 {
		t.Errorf("%d of %d caught; without a fault the first diverging stage is %q", r.Caught(), len(r.Faults), r.Clean.First)
	}
	var want []string
	for _, f := range fault.Table() {
		want = append(want, f.Name)
	}
	if !slices.Equal(names, want) {
		t.Errorf("shown %q, want %q", names, want)
	}
}

// A golden in bf16 cannot show small faults, so it is refused.
func TestFaultsWantF32(t *testing.T) {
	ck := open(t, goldenSeed)
	const want = "verify: a golden in bf16, want one in f32 for the fault table: bf16 rounding hides small faults"
	if _, err := Faults(t.Context(), ck.Graph, ck.Weights, openGolden(t, ck, "tiny-bf16"), engine.Options{}, nil); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// A report that says that faults went uncaught, or that the clean model failed,
// is not a good one.
func TestFaultReport(t *testing.T) {
	good := Caught{Name: "x", Want: "s", At: "s"}
	for _, tt := range []struct {
		name  string
		clean string
		list  []Caught
		ok    bool
		n     int
	}{
		{"all caught", "", []Caught{good, good}, true, 2},
		{"none", "", nil, false, 0},
		{"one not caught", "", []Caught{good, {Name: "x", Want: "s"}}, false, 1},
		{"one caught elsewhere", "", []Caught{{Name: "x", Want: "s", At: "r"}, good}, false, 1},
		{"clean model fails", "s", []Caught{good}, false, 1},
	} {
		r := FaultReport{Clean: &parity.Program{First: tt.clean}, Faults: tt.list}
		if r.OK() != tt.ok || r.Caught() != tt.n {
			t.Errorf("%s: %v, %d caught", tt.name, r.OK(), r.Caught())
		}
	}
}
