package fault

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"ossify/graph"
	"ossify/internal/modeltest"
)

// Every fault changes the model, or some parameter's bytes, and leaves what it
// was given alone.
func TestEveryFaultChangesSomething(t *testing.T) {
	g := modeltest.Graph(t)
	clean := g.String()
	seen, names := map[string]bool{clean: true}, map[string]bool{}
	for _, f := range Table() {
		if _, ok := g.Find(f.Stage); !ok {
			t.Errorf("%s: no stage %s", f.Name, f.Stage)
		}
		kinds := 0
		for _, is := range []bool{f.Graph != nil, f.Weight != nil, f.Unrounded} {
			if is {
				kinds++
			}
		}
		if kinds != 1 || names[f.Name] {
			t.Errorf("%s: want one of Graph, Weight and Unrounded, and a name of its own", f.Name)
			continue
		}
		names[f.Name] = true
		if f.Unrounded {
			continue
		}
		if f.Graph != nil {
			text := f.Graph(g).String()
			if text != clean && (f.Decode || f.From > 0) {
				text += fmt.Sprint(f.Decode, f.From)
			}
			if seen[text] {
				t.Errorf("%s: the model is unchanged, or that of another fault", f.Name)
			}
			seen[text] = true
			if g.String() != clean {
				t.Fatalf("%s: changed the graph it was given", f.Name)
			}
			continue
		}
		if !changesBytes(f, g) {
			t.Errorf("%s: changed no parameter", f.Name)
		}
	}
	if n := len(Table()); n < 45 {
		t.Errorf("%d faults, want 45 or more", n)
	}
}

func changesBytes(f Fault, g *graph.Graph) bool {
	heads := graph.Heads{Query: 8, KV: 2, Dim: 16}
	for _, p := range g.Params {
		n := 1
		for _, d := range p.Shape {
			n *= d
		}
		data, scales := make([]byte, 2*n), []byte(nil)
		if p.Storage == graph.MXFP4 {
			data, scales = data[:n/2], make([]byte, n/32)
			for i := range scales {
				scales[i] = byte(i % 3)
			}
		}
		for i := range data {
			data[i] = byte(1 + i*7/5)
		}
		before, beforeScales := bytes.Clone(data), slices.Clone(scales)
		changed := f.Weight(p, heads, data, scales)
		if differs := !bytes.Equal(before, data) || !bytes.Equal(beforeScales, scales); differs != changed {
			return false
		}
		if changed {
			return true
		}
	}
	return false
}

// The rewritten graphs are well formed: nodes read only nodes before them,
// names are unique and shapes fit their readers.
func TestFaultedGraphsAreWellFormed(t *testing.T) {
	g := modeltest.Graph(t)
	for _, f := range Table() {
		if f.Graph == nil {
			continue
		}
		names := map[string]bool{}
		bad := f.Graph(g)
		for i, n := range bad.Nodes {
			if names[n.Name] {
				t.Errorf("%s: second stage %s", f.Name, n.Name)
			}
			names[n.Name] = true
			for _, v := range n.In {
				if int(v) >= i {
					t.Errorf("%s: %s reads a later node", f.Name, n.Name)
				}
			}
			if n.Op == graph.Mul || n.Op == graph.Add {
				if x, y := bad.Nodes[n.In[0]].Shape, bad.Nodes[n.In[1]].Shape; !slices.Equal(x, y) {
					t.Errorf("%s: %s of %v and %v", f.Name, n.Name, x, y)
				}
			}
		}
		for _, n := range g.Nodes {
			if !names[n.Name] {
				t.Errorf("%s: lost stage %s", f.Name, n.Name)
			}
		}
	}
}
