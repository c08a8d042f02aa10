package verify

import (
	"fmt"
	"strings"
	"testing"

	"ossify/engine"
	"ossify/fault"
	"ossify/gptoss"
	"ossify/internal/modeltest"
	"ossify/parity"
)

// A bug at one position is found at its stage and position, through the cache
// and at far positions, in both precisions; without one the engine passes.
func TestInjected(t *testing.T) {
	c := modeltest.Tiny(t)
	c.Layers = 1
	ck := modeltest.Open(t, modeltest.Write(t, c, gptoss.Original, 3))
	faults := map[string]fault.Fault{}
	for _, f := range fault.Table() {
		faults[f.Name] = f
	}
	for _, q := range []Request{
		{Tokens: modeltest.Tokens(20, 1, 2), Precision: engine.F32},
		{Tokens: modeltest.Tokens(20, 1, 2), First: 4088, Precision: engine.F32},
		{Tokens: modeltest.Tokens(20, 1, 2), First: 131056, Precision: engine.BF16},
	} {
		at := q.First + 18
		judge := func(i *Injection) *parity.Report {
			t.Helper()
			q.Inject = i
			r, err := Run(t.Context(), ck.Graph, ck.Weights, q)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		if r := judge(nil); r.Verdict != parity.Pass {
			t.Errorf("from %d without a bug: %s at %s", q.First, r.Verdict, r.First)
		}
		for _, name := range []string{"no sinks", "theta 10000", "nibbles swapped"} {
			f := faults[name]
			if f.Stage == "" {
				t.Fatalf("no fault %q", name)
			}
			r := judge(&Injection{f, at})
			if r.Verdict != parity.Fail || r.First != f.Stage && r.First != f.Stage+f.Step {
				t.Errorf("from %d, %s: %s at %q, want %s", q.First, name, r.Verdict, r.First, f.Stage)
				continue
			}
			for _, s := range r.Columns[0].Stages {
				if s.Verdict == parity.Fail && s.Fit != nil && !strings.Contains(s.Why, fmt.Sprintf("position %d,", at)) {
					t.Errorf("from %d, %s: %s: %s, want position %d", q.First, name, s.Name, s.Why, at)
				}
			}
		}
	}
	for _, i := range []Injection{{faults["decode without sinks"], 3}, {faults["no sinks"], -1}, {faults["steps within a stage not rounded"], 3}} {
		if _, err := Run(t.Context(), ck.Graph, ck.Weights, Request{Tokens: modeltest.Tokens(8, 1, 2), Precision: engine.F32, Inject: &i}); err == nil {
			t.Errorf("%s at %d was put in", i.Fault.Name, i.Position)
		}
	}
	if _, err := Run(t.Context(), ck.Graph, ck.Weights, Request{Tokens: modeltest.Tokens(8, 1, 2), Precision: engine.F32, First: 1 << 24}); err == nil {
		t.Error("a position beyond all")
	}
}
