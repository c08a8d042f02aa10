package gptoss

import (
	"ossify/tokenizer"
)

// What a key of this form means is what the releases of transformers that know
// it make of it, 4.55 to 5.24. A value that changes the model's arithmetic is
// used, or refused if the model has no such parameter; a value of which
// releases make different things is refused. docs/configuration.md lists them.

// huggingFace reads transformers' form, which holds many keys that do not
// concern the model's arithmetic.
func (f *fields) huggingFace(c *Config) {
	k := keysOf(HuggingFace)
	f.text("model_type", "gpt_oss", "")
	f.sizes(c, k)
	f.number(k.eps, &c.Eps)
	// Other names of sizes: the published files have the first, transformers
	// 5.8 and later read the second.
	f.again("experts_per_token", c.ExpertsPerToken, k.perToken)
	f.again("num_experts", c.Experts, k.experts)
	f.text("hidden_act", "silu", "silu")
	f.fixed("swiglu_alpha", swigluAlpha, "the model's constant")
	f.bool("attention_bias", true, true, "the projections have biases")
	f.bool("tie_word_embeddings", false, false, "embedding and unembedding are separate matrices")
	f.bool("is_causal", true, true, "a token does not see later ones")
	f.none("per_layer_config", "blocks have the same sizes")
	f.none("num_kv_shared_layers", "every block has keys and values of its own")
	f.none("kv_sharing_modes", "every block has keys and values of its own")
	for _, key := range []string{"torch_dtype", "dtype"} {
		if f.has(key) {
			f.dtype(key)
		}
	}
	f.layerTypes(c.Layers)
	f.quantization()
	f.rotary(c, k)
}

// rotary reads the constants of the rotary embedding: from rope_scaling, or
// rope_parameters as transformers 5 has named it.
func (f *fields) rotary(c *Config, k keyNames) {
	f.number(k.theta, &c.Theta)
	f.whole("partial_rotary_factor")
	place := "rope_scaling"
	if f.has("rope_parameters") {
		if place = "rope_parameters"; f.has("rope_scaling") {
			f.errorf("rope_parameters and rope_scaling, want one of them")
			return
		}
	}
	if !f.has(place) {
		state := "missing"
		if f.raw[place] != nil {
			state = "null"
		}
		f.errorf("%s is %s, want an object with rope_type: releases of transformers fill it in differently", place, state)
		return
	}
	r, err := parseFields(f.raw[place], place+".")
	if err != nil {
		f.errorf("%s: %v", place, err)
		return
	}
	defer func() { f.errs = append(f.errs, r.errs...) }()

	// transformers 4 takes the theta beside rope_scaling, 5 the one in it.
	outer := c.Theta
	r.number(k.theta, &c.Theta)
	if (place == "rope_scaling" || f.has(k.theta)) && c.Theta != outer {
		r.errorf("%s%s is %g, want that beside %s, %g", r.place, k.theta, c.Theta, place, outer)
	}
	r.whole("partial_rotary_factor")

	switch kind, ok := r.kind(); {
	case !ok:
		return
	case kind == "default":
		c.Factor = 1
		return
	case kind != "yarn":
		r.errorf("%srope_type is %s, want \"yarn\"", r.place, show(kind))
		return
	}
	r.yarn(c, k)
	if len(r.errs) > 0 {
		return
	}
	f.again("initial_context_length", c.Context, place+"."+k.context)
	// transformers 5 prefers this one to the one in the object, 4 ignores it.
	f.again(k.context, c.Context, place+"."+k.context)
	if place == "rope_scaling" {
		positions := 131072 // transformers' default
		f.int("max_position_embeddings", &positions)
		if float64(positions)/float64(c.Context) != c.Factor && len(f.errs) == 0 {
			f.errorf("max_position_embeddings is %d, want %s, %d, times %s, %g: transformers 4.55 takes their ratio as factor, later releases factor",
				positions, k.context, c.Context, k.factor, c.Factor)
		}
	}
}

// kind reads rope_type, or type as older files call it. It reports whether
// there is one.
func (f *fields) kind() (kind string, ok bool) {
	key := "rope_type"
	if f.raw[key] == nil && f.raw["type"] != nil {
		key = "type"
	}
	before := len(f.errs)
	if value(f, key, `"yarn"`, &kind); f.raw[key] == nil {
		f.errorf("%s%s is missing, want \"yarn\"", f.place, key)
	}
	if key != "type" && len(f.errs) == before {
		f.text("type", kind, kind) // releases take one or the other
	}
	return kind, len(f.errs) == before
}

// yarn reads the constants of YaRN.
func (f *fields) yarn(c *Config, k keyNames) {
	for _, key := range []string{k.factor, k.context} {
		if !f.has(key) {
			f.errorf("%s%s is missing", f.place, key)
			delete(f.raw, key)
		}
	}
	// Null is the default for these, and no rounding for truncate.
	for _, key := range []string{k.alpha, k.beta, "attention_factor", "mscale", "mscale_all_dim"} {
		if !f.has(key) {
			delete(f.raw, key)
		}
	}
	f.rope(c, k)
	// transformers rounds the ramp's bounds unless told not to.
	if _, ok := f.raw["truncate"]; !ok || f.has("truncate") {
		f.bool("truncate", false, true, "rounded bounds are not supported")
	}
	f.used["truncate"] = true
	f.concentration(c, k)
	for _, key := range []string{"short_factor", "long_factor", "low_freq_factor", "high_freq_factor"} {
		f.used[key] = true // of other rope types: YaRN does not read them
	}
	f.rest()
}

// concentration checks what may replace the concentration that follows from
// the factor. transformers multiplies a float32 by it, so that values of one
// float32 are the same.
func (f *fields) concentration(c *Config, k keyNames) {
	own := rope(c).Concentration
	if f.has("attention_factor") {
		got := own
		if f.number("attention_factor", &got); float32(got) != float32(own) {
			f.errorf("%sattention_factor is %g, want null or that of %s %g, %.17g", f.place, got, k.factor, c.Factor, own)
		}
	}
	var m, all float64
	f.number("mscale", &m)
	f.number("mscale_all_dim", &all)
	if m == 0 || all == 0 || f.has("attention_factor") {
		return // no effect
	}
	scaled := func(m float64) float64 { return (own-1)*m + 1 }
	if got := scaled(m) / scaled(all); float32(got) != float32(own) {
		f.errorf("%smscale is %g and %smscale_all_dim %g, want none: they make the concentration %g in place of %g", f.place, m, f.place, all, got, own)
	}
}

// again checks a key that states a size another time.
func (f *fields) again(key string, want int, other string) {
	if !f.has(key) {
		return
	}
	got := want
	if f.int(key, &got); got != want {
		f.errorf("%s%s is %d, want %s, %d", f.place, key, got, other, want)
	}
}

// fixed checks a number that is a constant here.
func (f *fields) fixed(key string, want float64, why string) {
	got := want
	if f.number(key, &got); got != want {
		f.errorf("%s%s is %g, want %g: %s", f.place, key, got, want, why)
	}
}

// whole checks a factor of columns that turn: all of them.
func (f *fields) whole(key string) {
	f.used[key] = true
	if f.has(key) {
		f.fixed(key, 1, "all columns of a head turn")
	}
}

// none checks that a key asks for nothing.
func (f *fields) none(key, why string) {
	f.used[key] = true
	switch string(f.raw[key]) {
	case "", "null", "0", "[]", "{}":
	default:
		f.errorf("%s%s is %s, want none: %s", f.place, key, showJSON(f.raw[key]), why)
	}
}

func (f *fields) dtype(key string) {
	var kind string
	value(f, key, `"bfloat16"`, &kind)
	switch kind {
	case "bfloat16", "":
	case "float16":
		f.errorf("%s is \"float16\", want \"bfloat16\": this model's activations overflow float16", key)
	default:
		f.errorf("%s is %s, want \"bfloat16\"", key, show(kind))
	}
}

// layerTypes checks that layers alternate, the first sliding.
func (f *fields) layerTypes(layers int) {
	if !f.has("layer_types") {
		return // transformers' default alternates
	}
	var types []string
	value(f, "layer_types", "a list of strings", &types)
	if types == nil {
		return
	}
	if len(types) != layers {
		f.errorf("layer_types has %d entries, want num_hidden_layers, %d", len(types), layers)
		return
	}
	for i, t := range types {
		if want := layerType(i); t != want {
			f.errorf("layer_types[%d] is %s, want %q", i, show(t), want)
			return // one line for a list of another pattern
		}
	}
}

// layerType is transformers' name for the attention of a layer.
func layerType(layer int) string {
	if layer%2 == 0 {
		return "sliding_attention"
	}
	return "full_attention"
}

func (f *fields) quantization() {
	if !f.has("quantization_config") {
		if f.decoded {
			return
		}
		f.errorf("quantization_config is missing, want quant_method \"mxfp4\": experts in other formats are not supported")
		return
	}
	q, err := parseFields(f.raw["quantization_config"], "quantization_config.")
	if err != nil {
		f.errorf("quantization_config: %v", err)
		return
	}
	q.text("quant_method", "mxfp4", "")
	f.errs = append(f.errs, q.errs...)
}

// special returns the id, or null for a vocabulary that does not reach it.
func (c *Config) special(id uint32) *uint32 {
	if int(id) >= c.Vocab {
		return nil
	}
	return &id
}

// Positions returns how many tokens the model can tell apart:
// max_position_embeddings.
func (c *Config) Positions() int { return int(float64(c.Context) * c.Factor) }

func (c *Config) huggingFaceForm() any {
	types := make([]string, c.Layers)
	for i := range types {
		types[i] = layerType(i)
	}
	type quantization struct {
		Not    []string `json:"modules_to_not_convert"`
		Method string   `json:"quant_method"`
	}
	type scaling struct {
		Fast     decimal `json:"beta_fast"`
		Slow     decimal `json:"beta_slow"`
		Factor   decimal `json:"factor"`
		Context  int     `json:"original_max_position_embeddings"`
		Type     string  `json:"rope_type"`
		Truncate bool    `json:"truncate"`
	}
	var rope any = map[string]string{"rope_type": "default"}
	if c.Factor > 1 {
		rope = scaling{decimal(c.Beta), decimal(c.Alpha), decimal(c.Factor), c.Context, "yarn", false}
	}
	return struct {
		Architectures []string     `json:"architectures"`
		AttentionBias bool         `json:"attention_bias"`
		Dropout       decimal      `json:"attention_dropout"`
		EOS           *uint32      `json:"eos_token_id"`
		PerToken      int          `json:"experts_per_token"`
		HeadDim       int          `json:"head_dim"`
		Act           string       `json:"hidden_act"`
		Dim           int          `json:"hidden_size"`
		Context       int          `json:"initial_context_length"`
		Range         decimal      `json:"initializer_range"`
		Inner         int          `json:"intermediate_size"`
		LayerTypes    []string     `json:"layer_types"`
		Positions     int          `json:"max_position_embeddings"`
		ModelType     string       `json:"model_type"`
		Heads         int          `json:"num_attention_heads"`
		PerTok        int          `json:"num_experts_per_tok"`
		Layers        int          `json:"num_hidden_layers"`
		KVHeads       int          `json:"num_key_value_heads"`
		Experts       int          `json:"num_local_experts"`
		RouterLogits  bool         `json:"output_router_logits"`
		Pad           *uint32      `json:"pad_token_id"`
		Quantization  quantization `json:"quantization_config"`
		Eps           decimal      `json:"rms_norm_eps"`
		Rope          any          `json:"rope_scaling"`
		Theta         float64      `json:"rope_theta"`
		Aux           decimal      `json:"router_aux_loss_coef"`
		Window        int          `json:"sliding_window"`
		Limit         decimal      `json:"swiglu_limit"`
		Tied          bool         `json:"tie_word_embeddings"`
		Version       string       `json:"transformers_version"`
		UseCache      bool         `json:"use_cache"`
		Vocab         int          `json:"vocab_size"`
	}{
		Architectures: []string{"GptOssForCausalLM"},
		AttentionBias: true,
		EOS:           c.special(tokenizer.Return),
		PerToken:      c.ExpertsPerToken,
		HeadDim:       c.HeadDim,
		Act:           "silu",
		Dim:           c.Dim,
		Context:       c.Context,
		Range:         0.02,
		Inner:         c.Inner,
		LayerTypes:    types,
		Positions:     c.Positions(),
		ModelType:     "gpt_oss",
		Heads:         c.Heads,
		PerTok:        c.ExpertsPerToken,
		Layers:        c.Layers,
		KVHeads:       c.KVHeads,
		Experts:       c.Experts,
		Pad:           c.special(tokenizer.EndOfText),
		Quantization: quantization{
			Not:    []string{"model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"},
			Method: "mxfp4",
		},
		Eps:      decimal(c.Eps),
		Rope:     rope,
		Theta:    c.Theta,
		Aux:      0.9,
		Window:   c.Window,
		Limit:    decimal(c.Limit),
		Version:  "4.55.0.dev0",
		UseCache: true,
		Vocab:    c.Vocab,
	}
}
