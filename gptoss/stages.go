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

	Within string // of a step: the stage within which it is; else empty
	Keys   bool   // of a step: [T, heads, keys], a column for each token of the sequence
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

// StagesAndSteps returns the stages, each after the steps within it that the
// reference rounds too, for a sequence of so many tokens.
func StagesAndSteps(g *graph.Graph, tokens int) []Stage {
	var all, gate []Stage
	stages := map[string]Stage{}
	for _, s := range Stages(g) {
		stages[s.Name] = s
	}
	for _, n := range g.Nodes {
		s, ok := stages[n.Name]
		if !ok {
			if path, _, within := strings.Cut(n.Name, ".mlp.swiglu."); within && n.Op != graph.Every && n.Op != graph.Clamp {
				gate = append(gate, Stage{Node: n, Within: path + ".mlp.swiglu"})
			}
			continue
		}
		if len(gate) > 0 && gate[0].Within == n.Name {
			all, gate = append(all, gate...), nil
		}
		for _, name := range n.Steps() {
			step := Stage{Node: n, Within: n.Name, Keys: n.Op == graph.Attend}
			step.Name, step.Params = n.Name+name, nil
			if step.Keys {
				step.Shape = graph.Shape{graph.T, n.Heads.Query, tokens}
			}
			all = append(all, step)
		}
		all = append(all, s)
	}
	return all
}
