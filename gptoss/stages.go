package gptoss

import (
	"slices"
	"strings"

	"ossify/graph"
)

// A Stage is a node whose value gpt_oss/torch/model.py has too, so that traces
// of it and of ours can be compared.
type Stage struct {
	graph.Node
	Whole bool   // keys or values of attention: later rows read those of every position
	By    string // of a choice: the stage by whose values it is made; else empty
}

// Stages returns the stages of a recorded model, in execution order. What is
// left out are token ids and the steps within a stage.
func Stages(g *graph.Graph) []Stage {
	whole := map[graph.Value]bool{}
	for _, n := range g.Nodes {
		if n.Op == graph.Attend {
			whole[n.In[1]], whole[n.In[2]] = true, true
		}
	}
	var all []Stage
	for i, n := range g.Nodes {
		s := Stage{Node: n, Whole: whole[graph.Value(i)]}
		if n.Op == graph.TopK {
			s.By = g.Nodes[n.In[0]].Name
		}
		all = append(all, s)
	}
	return slices.DeleteFunc(all, func(s Stage) bool {
		return s.Op == graph.Tokens || strings.HasSuffix(s.Name, ".mlp.scores") || strings.Contains(s.Name, ".mlp.swiglu.")
	})
}
