package convert

import (
	"strings"
)

// A jaxLeaf is what the tree of gpt_oss.jax (openai/gpt-oss, pull request 217)
// calls a parameter.
type jaxLeaf struct {
	path    string // within its block, if it has one
	swapped bool   // a kernel of Flax is [in, out], a weight of PyTorch [out, in]
}

// jaxLeaves are those of the parameters, by the path that they have within a
// block.
func jaxLeaves() map[string]jaxLeaf {
	return map[string]jaxLeaf{
		"embedding.weight":   {"embedding/embedding", false},
		"attn.norm.scale":    {"attn/norm/scale", false},
		"attn.qkv.weight":    {"attn/qkv/kernel", true},
		"attn.qkv.bias":      {"attn/qkv/bias", false},
		"attn.sinks":         {"attn/sinks", false},
		"attn.out.weight":    {"attn/out/kernel", true},
		"attn.out.bias":      {"attn/out/bias", false},
		"mlp.norm.scale":     {"mlp/norm/scale", false},
		"mlp.gate.weight":    {"mlp/gate/kernel", true},
		"mlp.gate.bias":      {"mlp/gate/bias", false},
		"mlp.mlp1_weight":    {"mlp/mlp1_weight", false},
		"mlp.mlp1_bias":      {"mlp/mlp1_bias", false},
		"mlp.mlp2_weight":    {"mlp/mlp2_weight", false},
		"mlp.mlp2_bias":      {"mlp/mlp2_bias", false},
		"norm.scale":         {"norm/scale", false},
		"unembedding.weight": {"unembedding/kernel", true},
	}
}

// leaf returns where a parameter lies in the tree, and whether its last two
// dimensions are exchanged there. Every parameter of the model has a place.
func leaf(param string) (path string, swapped bool) {
	local, block := param, ""
	if parts := strings.SplitN(param, ".", 3); parts[0] == "block" && len(parts) == 3 {
		block, local = "block_"+parts[1]+"/", parts[2]
	}
	l := jaxLeaves()[local]
	return block + l.path, l.swapped
}

// treePath is the path in pull request 217's tree of a leaf that is called name:
// its loader knows other names of modules, and Flax programs keep trees below
// "params".
func treePath(name string) string {
	name = strings.TrimPrefix(name, "params/")
	first, rest, ok := strings.Cut(name, "/")
	if !ok {
		return name
	}
	switch first {
	case "embed_tokens":
		return "embedding/" + rest
	case "lm_head":
		return "unembedding/" + rest
	case "layers":
		return "block_" + rest
	}
	return name
}
