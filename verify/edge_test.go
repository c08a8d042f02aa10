package verify

import (
	"math"
	"testing"

	"ossify/fault"
	"ossify/oracle"
	"ossify/parity"
)

// What a row of attention is, and what it would be with a key more or fewer, is
// what the oracle makes of the model and of those faults.
func TestEdges(t *testing.T) {
	ck := open(t, 1)
	tokens := someTokens(24)
	runs := map[string]parity.Run{}
	for _, name := range []string{"", "window +1", "window -1"} {
		g := ck.Graph
		for _, f := range fault.Table() {
			if f.Name == name {
				g, _ = f.Apply(ck.Graph, ck.Weights)
			}
		}
		run := parity.Run{}
		_, err := oracle.Run(t.Context(), g, ck.Weights, tokens, parity.UpTo(len(tokens)), func(stage string, _ []int, values []float64) []float64 {
			if own, ok := runs[""][stage]; ok && stage != "block.0.attn.sdpa" {
				return own // so that only this stage differs
			}
			run[stage] = values
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		runs[name] = run
	}
	all, err := Edges(ck.Graph, ck.Weights, parity.UpTo(len(tokens)), runs[""])
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Stage != "block.0.attn.sdpa" || all[1].Stage != "block.2.attn.sdpa" || all[0].Window != ck.Config.Window || len(all[0].Rows) != 3 {
		t.Fatalf("%+v", all)
	}
	width := ck.Config.Heads * ck.Config.HeadDim
	for i, r := range all[0].Rows {
		p := ck.Config.Window - 1 + i
		row := func(name string) []float64 { return runs[name]["block.0.attn.sdpa"][p*width:][:width] }
		if r.Position != p || r.Keys != ck.Config.Window || !(r.Oldest > 0 && r.Oldest < 1) || !(r.Sink > 0 && r.Sink < 1) {
			t.Errorf("%+v", r)
		}
		if want := change(row(""), row("window +1")); math.Abs(r.Wider-want) > 1e-12 || (want > 0) != (i > 0) {
			t.Errorf("position %d: a key more changes %g, want %g", p, r.Wider, want)
		}
		if want := change(row(""), row("window -1")); math.Abs(r.Narrower-want) > 1e-12 || want == 0 {
			t.Errorf("position %d: a key fewer changes %g, want %g", p, r.Narrower, want)
		}
	}

	// Rows that a run does not hold are left out; one that does not fit is an error.
	some := parity.Run{}
	for name, v := range runs[""] {
		some[name] = v
	}
	for _, l := range []string{"0", "2"} {
		name := "block." + l + ".attn.rope.q"
		some[name] = some[name][:width]
	}
	if all, err := Edges(ck.Graph, ck.Weights, []int{0}, some); err != nil || len(all) != 0 {
		t.Errorf("one row: %v, %+v", err, all)
	}
	if _, err := Edges(ck.Graph, ck.Weights, []int{0, 1}, some); err == nil {
		t.Error("one query for two rows: no error")
	}
}

// The rows beside the edge have errors of their own in every column.
func TestEdgeRows(t *testing.T) {
	ck := open(t, 1)
	r, err := Run(t.Context(), ck.Graph, ck.Weights, Request{Golden: openGolden(t, ck, "tiny-bf16")})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Columns {
		for _, s := range c.Stages {
			want := 0
			if s.Name == "block.0.attn.sdpa" || s.Name == "block.2.attn.sdpa" {
				want = 3
			}
			if len(s.Rows) != want {
				t.Errorf("%s: %s: %d rows, want %d", c.Name, s.Name, len(s.Rows), want)
			}
			for _, row := range s.Rows {
				if !(row.RMS > 0 && row.Error > 0 && row.Error < 0.01*row.RMS) {
					t.Errorf("%s: %s: %+v", c.Name, s.Name, row)
				}
			}
		}
	}
	if len(r.Edges) != 2 || len(r.Routing) != 4 || r.Routing[0].Rows != 75 || r.Routing[0].Same != 75 {
		t.Errorf("%d edges, routing %+v", len(r.Edges), r.Routing)
	}
}
