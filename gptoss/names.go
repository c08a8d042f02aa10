package gptoss

// A parameter of the graph, under the names that it has in each dialect. The
// star stands for a layer's number. OpenAI's names are the paths themselves,
// except that an MXFP4 weight is two tensors.
//
// The order is that of the modules in gpt_oss/torch/model.py.
type parameter struct {
	path     string
	original []piece
	hf       []piece
}

// A piece is a run of a parameter's rows: one tensor, or two of MXFP4.
type piece struct {
	data   string // values, or blocks of MXFP4
	scales string // of MXFP4, else empty
	rows   span
}

// span says which rows of the parameter a piece holds.
type span uint8

const (
	allRows   span = iota
	queryRows      // one for each column of each query head
	kvRows         // one for each column of each key/value head
)

var parameters = [...]parameter{
	{"embedding.weight",
		[]piece{{"embedding.weight", "", allRows}},
		[]piece{{"model.embed_tokens.weight", "", allRows}}},
	{"block.*.attn.norm.scale",
		[]piece{{"block.*.attn.norm.scale", "", allRows}},
		[]piece{{"model.layers.*.input_layernorm.weight", "", allRows}}},
	{"block.*.attn.qkv.weight",
		[]piece{{"block.*.attn.qkv.weight", "", allRows}},
		[]piece{
			{"model.layers.*.self_attn.q_proj.weight", "", queryRows},
			{"model.layers.*.self_attn.k_proj.weight", "", kvRows},
			{"model.layers.*.self_attn.v_proj.weight", "", kvRows}}},
	{"block.*.attn.qkv.bias",
		[]piece{{"block.*.attn.qkv.bias", "", allRows}},
		[]piece{
			{"model.layers.*.self_attn.q_proj.bias", "", queryRows},
			{"model.layers.*.self_attn.k_proj.bias", "", kvRows},
			{"model.layers.*.self_attn.v_proj.bias", "", kvRows}}},
	{"block.*.attn.sinks",
		[]piece{{"block.*.attn.sinks", "", allRows}},
		[]piece{{"model.layers.*.self_attn.sinks", "", allRows}}},
	{"block.*.attn.out.weight",
		[]piece{{"block.*.attn.out.weight", "", allRows}},
		[]piece{{"model.layers.*.self_attn.o_proj.weight", "", allRows}}},
	{"block.*.attn.out.bias",
		[]piece{{"block.*.attn.out.bias", "", allRows}},
		[]piece{{"model.layers.*.self_attn.o_proj.bias", "", allRows}}},
	{"block.*.mlp.norm.scale",
		[]piece{{"block.*.mlp.norm.scale", "", allRows}},
		[]piece{{"model.layers.*.post_attention_layernorm.weight", "", allRows}}},
	{"block.*.mlp.gate.weight",
		[]piece{{"block.*.mlp.gate.weight", "", allRows}},
		[]piece{{"model.layers.*.mlp.router.weight", "", allRows}}},
	{"block.*.mlp.gate.bias",
		[]piece{{"block.*.mlp.gate.bias", "", allRows}},
		[]piece{{"model.layers.*.mlp.router.bias", "", allRows}}},
	{"block.*.mlp.mlp1_weight",
		[]piece{{"block.*.mlp.mlp1_weight.blocks", "block.*.mlp.mlp1_weight.scales", allRows}},
		[]piece{{"model.layers.*.mlp.experts.gate_up_proj_blocks", "model.layers.*.mlp.experts.gate_up_proj_scales", allRows}}},
	{"block.*.mlp.mlp1_bias",
		[]piece{{"block.*.mlp.mlp1_bias", "", allRows}},
		[]piece{{"model.layers.*.mlp.experts.gate_up_proj_bias", "", allRows}}},
	{"block.*.mlp.mlp2_weight",
		[]piece{{"block.*.mlp.mlp2_weight.blocks", "block.*.mlp.mlp2_weight.scales", allRows}},
		[]piece{{"model.layers.*.mlp.experts.down_proj_blocks", "model.layers.*.mlp.experts.down_proj_scales", allRows}}},
	{"block.*.mlp.mlp2_bias",
		[]piece{{"block.*.mlp.mlp2_bias", "", allRows}},
		[]piece{{"model.layers.*.mlp.experts.down_proj_bias", "", allRows}}},
	{"norm.scale",
		[]piece{{"norm.scale", "", allRows}},
		[]piece{{"model.norm.weight", "", allRows}}},
	{"unembedding.weight",
		[]piece{{"unembedding.weight", "", allRows}},
		[]piece{{"lm_head.weight", "", allRows}}},
}
