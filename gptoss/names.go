package gptoss

// Names is a dialect: under which names a container holds each parameter of the
// graph, by path. A star stands for a layer's number.
type Names map[string][]Piece

// A Piece is a run of a parameter's rows: one tensor, or two of MXFP4.
type Piece struct {
	Data   string // values, or blocks of MXFP4
	Scales string // of MXFP4, else empty
	Rows   Span
}

// Span says which rows of the parameter a piece holds.
type Span uint8

// The spans.
const (
	AllRows   Span = iota
	QueryRows      // one for each column of each query head
	KVRows         // one for each column of each key/value head
)

// Names returns the names of one of the two published dialects. Their order is
// that of the modules in gpt_oss/torch/model.py.
func (d Dialect) Names() Names {
	if d == HuggingFace {
		return Names{
			"embedding.weight":        {{Data: "model.embed_tokens.weight"}},
			"block.*.attn.norm.scale": {{Data: "model.layers.*.input_layernorm.weight"}},
			"block.*.attn.qkv.weight": {
				{Data: "model.layers.*.self_attn.q_proj.weight", Rows: QueryRows},
				{Data: "model.layers.*.self_attn.k_proj.weight", Rows: KVRows},
				{Data: "model.layers.*.self_attn.v_proj.weight", Rows: KVRows},
			},
			"block.*.attn.qkv.bias": {
				{Data: "model.layers.*.self_attn.q_proj.bias", Rows: QueryRows},
				{Data: "model.layers.*.self_attn.k_proj.bias", Rows: KVRows},
				{Data: "model.layers.*.self_attn.v_proj.bias", Rows: KVRows},
			},
			"block.*.attn.sinks":      {{Data: "model.layers.*.self_attn.sinks"}},
			"block.*.attn.out.weight": {{Data: "model.layers.*.self_attn.o_proj.weight"}},
			"block.*.attn.out.bias":   {{Data: "model.layers.*.self_attn.o_proj.bias"}},
			"block.*.mlp.norm.scale":  {{Data: "model.layers.*.post_attention_layernorm.weight"}},
			"block.*.mlp.gate.weight": {{Data: "model.layers.*.mlp.router.weight"}},
			"block.*.mlp.gate.bias":   {{Data: "model.layers.*.mlp.router.bias"}},
			"block.*.mlp.mlp1_weight": {{Data: "model.layers.*.mlp.experts.gate_up_proj_blocks", Scales: "model.layers.*.mlp.experts.gate_up_proj_scales"}},
			"block.*.mlp.mlp1_bias":   {{Data: "model.layers.*.mlp.experts.gate_up_proj_bias"}},
			"block.*.mlp.mlp2_weight": {{Data: "model.layers.*.mlp.experts.down_proj_blocks", Scales: "model.layers.*.mlp.experts.down_proj_scales"}},
			"block.*.mlp.mlp2_bias":   {{Data: "model.layers.*.mlp.experts.down_proj_bias"}},
			"norm.scale":              {{Data: "model.norm.weight"}},
			"unembedding.weight":      {{Data: "lm_head.weight"}},
		}
	}
	// OpenAI's names are the paths themselves, except that an MXFP4 weight is two
	// tensors.
	return Names{
		"embedding.weight":        {{Data: "embedding.weight"}},
		"block.*.attn.norm.scale": {{Data: "block.*.attn.norm.scale"}},
		"block.*.attn.qkv.weight": {{Data: "block.*.attn.qkv.weight"}},
		"block.*.attn.qkv.bias":   {{Data: "block.*.attn.qkv.bias"}},
		"block.*.attn.sinks":      {{Data: "block.*.attn.sinks"}},
		"block.*.attn.out.weight": {{Data: "block.*.attn.out.weight"}},
		"block.*.attn.out.bias":   {{Data: "block.*.attn.out.bias"}},
		"block.*.mlp.norm.scale":  {{Data: "block.*.mlp.norm.scale"}},
		"block.*.mlp.gate.weight": {{Data: "block.*.mlp.gate.weight"}},
		"block.*.mlp.gate.bias":   {{Data: "block.*.mlp.gate.bias"}},
		"block.*.mlp.mlp1_weight": {{Data: "block.*.mlp.mlp1_weight.blocks", Scales: "block.*.mlp.mlp1_weight.scales"}},
		"block.*.mlp.mlp1_bias":   {{Data: "block.*.mlp.mlp1_bias"}},
		"block.*.mlp.mlp2_weight": {{Data: "block.*.mlp.mlp2_weight.blocks", Scales: "block.*.mlp.mlp2_weight.scales"}},
		"block.*.mlp.mlp2_bias":   {{Data: "block.*.mlp.mlp2_bias"}},
		"norm.scale":              {{Data: "norm.scale"}},
		"unembedding.weight":      {{Data: "unembedding.weight"}},
	}
}
