package gptoss

import (
	"math"
	"strconv"

	"ossify/graph"
)

// Build records the model that c describes. Its stages are the modules and
// functions of gpt_oss/torch/model.py, under the same names.
func Build(c *Config) (*graph.Graph, error) {
	return graph.Build(func(s graph.Scope) { transformer(s, c) })
}

// transformer is Transformer: token ids to logits.
func transformer(s graph.Scope, c *Config) {
	x := s.At("embedding").Gather(s.At("tokens").Tokens(), c.Vocab, c.Dim) // [T, Dim]
	for layer := range c.Layers {
		block := s.At("block").At(strconv.Itoa(layer))
		x = attention(block.At("attn"), c, layer, x)
		x = mlp(block.At("mlp"), c, x)
	}
	x = s.At("norm").RMSNorm(x, c.Eps)
	s.At("unembedding").Project(x, c.Vocab) // [T, Vocab]
}

// attention is AttentionBlock, residual included.
func attention(s graph.Scope, c *Config, layer int, x graph.Value) graph.Value {
	h := graph.Heads{Query: c.Heads, KV: c.KVHeads, Dim: c.HeadDim}
	if layer%2 == 0 {
		h.Window = c.Window // even layers see the last Window keys, self included
	}
	nq, nkv := h.Query*h.Dim, h.KV*h.Dim

	t := s.At("norm").RMSNorm(x, c.Eps)    // [T, Dim]
	t = s.At("qkv").Linear(t, nq+2*nkv)    // [T, nq+2*nkv]
	q := s.At("q").Columns(t, 0, nq)       // [T, nq]
	k := s.At("k").Columns(t, nq, nkv)     // [T, nkv]
	v := s.At("v").Columns(t, nq+nkv, nkv) // [T, nkv]
	q = s.At("rope.q").Rotate(q, rope(c))
	k = s.At("rope.k").Rotate(k, rope(c))
	t = s.Attend(q, k, v, "sdpa", h) // [T, nq]; reads attn.sinks
	t = s.At("out").Linear(t, c.Dim) // [T, Dim]
	return s.Add(x, t)
}

// rope is RotaryEmbedding: YaRN by parts, its ramp between the columns that
// turn Beta and Alpha times within the original context. The bounds are not
// rounded ("truncate": false).
func rope(c *Config) graph.Rope {
	r := graph.Rope{Dim: c.HeadDim, Theta: c.Theta, Factor: c.Factor, High: 1, Concentration: 1}
	if c.Factor > 1 {
		column := func(turns float64) float64 {
			return float64(c.HeadDim) / 2 * math.Log(float64(c.Context)/(turns*2*math.Pi)) / math.Log(c.Theta)
		}
		r.Low, r.High = column(c.Beta), column(c.Alpha)
		r.Concentration = 0.1*math.Log(c.Factor) + 1
	}
	return r
}

// mlp is MLPBlock, residual included: each row goes to its best experts.
func mlp(s graph.Scope, c *Config, x graph.Value) graph.Value {
	t := s.At("norm").RMSNorm(x, c.Eps)                        // [T, Dim]
	g := s.At("gate").Linear(t, c.Experts)                     // [T, Experts]
	best := s.At("experts").TopK(g, c.ExpertsPerToken)         // [T, K]
	w := s.At("weights").Softmax(s.At("scores").Pick(g, best)) // [T, K]
	t = s.ExpertLinear(t, best, "mlp1", c.Experts, 2*c.Inner)  // [T, K, 2*Inner]
	t = swiglu(s.At("swiglu"), t, c.Limit)                     // [T, K, Inner]
	t = s.ExpertLinear(t, best, "mlp2", c.Experts, c.Dim)      // [T, K, Dim]
	return s.Add(x, s.At("mix").Mix(t, w))
}

// swigluAlpha makes x·sigmoid(alpha·x) follow GELU. Checkpoints do not choose
// it: swiglu in gpt_oss/torch/model.py has it as a default that nobody changes.
const swigluAlpha = 1.702

// swiglu multiplies odd columns by a gate of the even ones: the checkpoint
// interleaves the two.
func swiglu(s graph.Scope, x graph.Value, limit float64) graph.Value {
	glu := s.At("glu.clamp").Clamp(s.At("glu").Every(x, 0), math.Inf(-1), limit)
	linear := s.At("linear.clamp").Clamp(s.At("linear").Every(x, 1), -limit, limit)
	gate := s.At("sigmoid").Sigmoid(s.At("alpha").Affine(glu, swigluAlpha, 0))
	return s.Mul(s.At("out_glu").Mul(glu, gate), s.At("linear.plus1").Affine(linear, 1, 1))
}
