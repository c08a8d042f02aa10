package gptoss

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"ossify/float"
)

// A Config holds the sizes and constants in which gpt-oss models differ. One
// that ParseConfig or Preset returned is valid; see Validate.
type Config struct {
	Layers          int     // transformer blocks
	Vocab           int     // rows of embedding and unembedding
	Dim             int     // width of the residual stream
	Inner           int     // width of an expert, after swiglu
	Heads           int     // query heads
	KVHeads         int     // key/value heads, each shared by Heads/KVHeads query heads
	HeadDim         int     // columns of a head
	Window          int     // keys that a query of a sliding layer sees, its own included
	Experts         int     // experts of a block
	ExpertsPerToken int     // experts that a token is routed to
	Context         int     // positions before YaRN's extension
	Eps             float64 // of RMSNorm
	Limit           float64 // clamp of swiglu
	Theta           float64 // base of the rotary embedding
	Factor          float64 // YaRN's extension of Context; 1 is plain rotary embedding
	Alpha, Beta     float64 // turns within Context where YaRN's ramp ends and starts
}

// A Dialect is one of the two forms in which checkpoints are published.
type Dialect uint8

// The dialects.
const (
	Original    Dialect = iota + 1 // OpenAI's own: the original/ folder of the repositories
	HuggingFace                    // transformers'
)

// String returns the dialect's name on the command line.
func (d Dialect) String() string {
	switch d {
	case Original:
		return "original"
	case HuggingFace:
		return "hf"
	}
	return "no dialect"
}

// ParseDialect is the inverse of String.
func ParseDialect(name string) (Dialect, error) {
	for _, d := range []Dialect{Original, HuggingFace} {
		if name == d.String() {
			return d, nil
		}
	}
	return 0, fmt.Errorf("gptoss: layout %q, want original or hf", name)
}

// defaults are those of ModelConfig in gpt_oss/torch/model.py, and of
// transformers' GptOssConfig: gpt-oss-120b.
var defaults = Config{
	Layers: 36, Vocab: 201088, Dim: 2880, Inner: 2880, Heads: 64, KVHeads: 8, HeadDim: 64,
	Window: 128, Experts: 128, ExpertsPerToken: 4, Context: 4096,
	Eps: 1e-5, Limit: 7, Theta: 150000, Factor: 32, Alpha: 1, Beta: 32,
}

// Presets lists the names that Preset knows.
func Presets() []string { return []string{"tiny", "small", "20b", "120b"} }

// Preset returns a named configuration: the two published ones, 20b and 120b;
// small, 20b's widths with two layers and few tokens; and tiny, which keeps
// every feature on in a model that runs in a moment.
func Preset(name string) (*Config, error) {
	c := defaults
	switch name {
	case "120b":
	case "20b":
		c.Layers, c.Experts = 24, 32
	case "small":
		c.Layers, c.Experts, c.Vocab = 2, 32, 1024
	case "tiny":
		c.Layers, c.Vocab, c.Dim, c.Inner = 4, 512, 64, 64
		c.Heads, c.KVHeads, c.HeadDim, c.Window, c.Experts = 8, 2, 16, 16, 8
	default:
		return nil, fmt.Errorf("gptoss: preset %q, want one of %s", name, strings.Join(Presets(), " "))
	}
	return &c, nil
}

// ParseConfig reads a config.json of either dialect, told apart by model_type,
// which only Hugging Face's has. Its error lists every mistake, one a line.
func ParseConfig(data []byte) (*Config, Dialect, error) {
	f, err := parseFields(data, "")
	if err != nil {
		return nil, 0, fmt.Errorf("gptoss: config.json: %w", err)
	}
	c, d := defaults, Original
	if f.has("model_type") {
		d = HuggingFace
		f.huggingFace(&c)
	} else {
		f.original(&c)
	}
	if len(f.errs) == 0 {
		f.errs = c.mistakes(keysOf(d))
	}
	if len(f.errs) > 0 {
		return nil, 0, joined(f.errs)
	}
	return &c, d, nil
}

// joined puts the place before each mistake.
func joined(mistakes []error) error {
	list := make([]error, len(mistakes))
	for i, err := range mistakes {
		list[i] = fmt.Errorf("gptoss: config.json: %w", err)
	}
	return errors.Join(list...)
}

// Validate reports everything that is wrong with c, one mistake a line: sizes
// that do not fit each other, or so large that a product of them could
// overflow.
func (c *Config) Validate() error {
	if m := c.mistakes(keysOf(Original)); len(m) > 0 {
		return joined(m)
	}
	return nil
}

// keyNames are the keys of a config.json for the fields of a Config.
type keyNames struct {
	layers, vocab, dim, inner, heads, kvHeads, headDim, window, experts, perToken, context,
	eps, limit, theta, factor, alpha, beta string
}

// keysOf returns a dialect's keys.
func keysOf(d Dialect) keyNames {
	k := keyNames{
		"num_hidden_layers", "vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
		"head_dim", "sliding_window", "num_experts", "experts_per_token", "initial_context_length",
		"rms_norm_eps", "swiglu_limit", "rope_theta", "rope_scaling_factor", "rope_ntk_alpha", "rope_ntk_beta",
	}
	if d == HuggingFace {
		k.experts, k.perToken, k.context = "num_local_experts", "num_experts_per_tok", "original_max_position_embeddings"
		k.factor, k.alpha, k.beta = "factor", "beta_slow", "beta_fast"
	}
	return k
}

// mistakes lists what is wrong with c, in terms of a dialect's keys.
func (c *Config) mistakes(k keyNames) []error {
	var errs []error
	check := func(ok bool, format string, args ...any) bool {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
		return ok
	}
	// The upper bounds are far beyond any model of this kind. The largest
	// product, layers · experts · 2·inner · dim, stays below 2^56.
	whole := true
	for _, f := range []struct {
		key  string
		v    int
		most int
	}{
		{k.layers, c.Layers, 1 << 10}, {k.vocab, c.Vocab, 1 << 24}, {k.dim, c.Dim, 1 << 16}, {k.inner, c.Inner, 1 << 16},
		{k.heads, c.Heads, 1 << 12}, {k.kvHeads, c.KVHeads, 1 << 12}, {k.headDim, c.HeadDim, 1 << 12},
		{k.window, c.Window, 1 << 24}, {k.experts, c.Experts, 1 << 12}, {k.perToken, c.ExpertsPerToken, 1 << 12},
		{k.context, c.Context, 1 << 24},
	} {
		whole = check(f.v >= 1 && f.v <= f.most, "%s is %d, want 1 to %d", f.key, f.v, f.most) && whole
	}
	for _, f := range []struct {
		key         string
		v           float64
		above, most float64
	}{
		{k.eps, c.Eps, 0, 1}, {k.limit, c.Limit, 0, 1e6}, {k.theta, c.Theta, 1, 1e12},
		{k.alpha, c.Alpha, 0, 1e6}, {k.beta, c.Beta, 0, 1e6},
	} {
		whole = check(f.v > f.above && f.v <= f.most, "%s is %g, want more than %g, at most %g", f.key, f.v, f.above, f.most) && whole
	}
	whole = check(c.Factor >= 1 && c.Factor <= 1e6, "%s is %g, want 1 to 1e+06", k.factor, c.Factor) && whole
	if !whole {
		return errs
	}
	check(c.Heads%c.KVHeads == 0, "%s is %d, want a multiple of %s, %d", k.heads, c.Heads, k.kvHeads, c.KVHeads)
	check(c.HeadDim%2 == 0, "%s is %d, want an even number", k.headDim, c.HeadDim)
	check(c.Dim%float.BlockSize == 0, "%s is %d, want a multiple of %d, the block of MXFP4", k.dim, c.Dim, float.BlockSize)
	check(c.Inner%float.BlockSize == 0, "%s is %d, want a multiple of %d, the block of MXFP4", k.inner, c.Inner, float.BlockSize)
	check(c.ExpertsPerToken <= c.Experts, "%s is %d, want at most %s, %d", k.perToken, c.ExpertsPerToken, k.experts, c.Experts)
	if c.Factor > 1 {
		r, last := rope(c), float64(c.HeadDim)/2-1
		check(0 < r.Low && r.Low < r.High && r.High < last,
			"YaRN's ramp from column %.4g to %.4g (%s %g, %s %g, %s %d, %s %g), want 0 < from < to < %g",
			r.Low, r.High, k.beta, c.Beta, k.alpha, c.Alpha, k.context, c.Context, k.theta, c.Theta, last)
	}
	return errs
}

// fields reads the keys of one JSON object. Mistakes collect in errs.
type fields struct {
	place string // what stands before the key in a message
	raw   map[string]json.RawMessage
	used  map[string]bool
	errs  []error
}

// parseFields splits an object into its fields; no key may repeat.
func parseFields(data []byte, place string) (*fields, error) {
	f := &fields{place: place, raw: map[string]json.RawMessage{}, used: map[string]bool{}}
	if !utf8.Valid(data) {
		return nil, errors.New("not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil {
		return nil, jsonError(err)
	} else if t != json.Delim('{') {
		return nil, errors.New("want an object")
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, jsonError(err)
		}
		key := t.(string) // the decoder accepts nothing else here
		if _, ok := f.raw[key]; ok {
			return nil, fmt.Errorf("%s appears twice", show(key))
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, jsonError(err)
		}
		f.raw[key] = v
	}
	if _, err := dec.Token(); err != nil {
		return nil, jsonError(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("data after its closing brace")
	}
	return f, nil
}

func jsonError(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("JSON ends before its closing brace")
	}
	return fmt.Errorf("JSON: %w", err)
}

// show returns text of a file as it may stand in a message: quoted, cut.
func show(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return strconv.Quote(s)
}

// showJSON returns a valid JSON value on one line, cut.
func showJSON(raw json.RawMessage) string {
	var b bytes.Buffer
	json.Compact(&b, raw)
	s := strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, b.String())
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return s
}

func (f *fields) errorf(format string, args ...any) {
	f.errs = append(f.errs, fmt.Errorf(format, args...))
}

// has reports whether the key is there with a value other than null.
func (f *fields) has(key string) bool {
	return f.raw[key] != nil && string(f.raw[key]) != "null"
}

// value decodes a key that is there into v; want says what it must be. A key
// that is not there leaves v as it is; null is a value.
func value[T any](f *fields, key, want string, v *T) {
	f.used[key] = true
	raw, ok := f.raw[key]
	if !ok {
		return
	}
	var got T
	if err := json.Unmarshal(raw, &got); err != nil || string(raw) == "null" {
		f.errorf("%s%s is %s, want %s", f.place, key, showJSON(raw), want)
		return
	}
	*v = got
}

func (f *fields) int(key string, v *int)        { value(f, key, "a whole number", v) }
func (f *fields) number(key string, v *float64) { value(f, key, "a number", v) }
func (f *fields) bool(key string, want, missing bool, why string) {
	got := missing
	value(f, key, strconv.FormatBool(want), &got)
	if got != want {
		f.errorf("%s%s is %v, want %v: %s", f.place, key, got, want, why)
	}
}

// text checks that a string is want.
func (f *fields) text(key, want, missing string) {
	got := missing
	value(f, key, show(want), &got)
	if got != want {
		f.errorf("%s%s is %s, want %s", f.place, key, show(got), show(want))
	}
}

// rest refuses every key that was not used: what it means is not known.
func (f *fields) rest() {
	var unknown []string
	for key := range f.raw {
		if !f.used[key] {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	for _, key := range unknown {
		f.errorf("%s%s is not a key that is understood here", f.place, show(key))
	}
}

// sizes reads what both dialects keep in the same way.
func (f *fields) sizes(c *Config, k keyNames) {
	for _, v := range []struct {
		key string
		at  *int
	}{
		{k.layers, &c.Layers}, {k.vocab, &c.Vocab}, {k.dim, &c.Dim}, {k.inner, &c.Inner}, {k.heads, &c.Heads},
		{k.kvHeads, &c.KVHeads}, {k.headDim, &c.HeadDim}, {k.window, &c.Window}, {k.experts, &c.Experts}, {k.perToken, &c.ExpertsPerToken},
	} {
		f.int(v.key, v.at)
	}
	f.number(k.eps, &c.Eps)
	f.number(k.limit, &c.Limit)
}

// rope reads the rotary embedding's constants.
func (f *fields) rope(c *Config, k keyNames) {
	f.int(k.context, &c.Context)
	f.number(k.theta, &c.Theta)
	f.number(k.factor, &c.Factor)
	f.number(k.alpha, &c.Alpha)
	f.number(k.beta, &c.Beta)
}

// original reads OpenAI's form. Like the reference, which passes the object to
// ModelConfig, it knows no other keys and fills what is missing by default.
func (f *fields) original(c *Config) {
	f.sizes(c, keysOf(Original))
	f.rope(c, keysOf(Original))
	f.rest()
}

// huggingFace reads transformers' form, which holds many keys that do not
// concern the model's arithmetic. Those that do, and ask for what is not
// implemented here, are refused.
func (f *fields) huggingFace(c *Config) {
	k := keysOf(HuggingFace)
	f.text("model_type", "gpt_oss", "")
	f.sizes(c, k)
	if f.has("experts_per_token") {
		n := c.ExpertsPerToken
		if f.int("experts_per_token", &n); n != c.ExpertsPerToken {
			f.errorf("experts_per_token is %d, want %s, %d", n, k.perToken, c.ExpertsPerToken)
		}
	}
	f.text("hidden_act", "silu", "silu")
	f.bool("attention_bias", true, true, "the projections have biases")
	f.bool("tie_word_embeddings", false, false, "embedding and unembedding are separate matrices")
	for _, key := range []string{"torch_dtype", "dtype"} {
		if f.has(key) {
			f.dtype(key)
		}
	}
	f.layerTypes(c.Layers)
	f.quantization()

	// transformers 5 renamed rope_scaling and moved rope_theta into it.
	f.number(k.theta, &c.Theta)
	place := "rope_parameters"
	switch {
	case f.has("rope_parameters") && f.has("rope_scaling"):
		f.errorf("rope_parameters and rope_scaling, want one of them")
		return
	case !f.has("rope_parameters"):
		place = "rope_scaling"
	}
	raw, ok := f.raw[place]
	if !ok {
		return // the defaults
	}
	if string(raw) == "null" {
		c.Factor = 1
		return
	}
	r, err := parseFields(raw, place+".")
	if err != nil {
		f.errorf("%s: %v", place, err)
		return
	}
	r.yarn(c, k)
	f.errs = append(f.errs, r.errs...)
	if context := c.Context; f.has("initial_context_length") {
		if f.int("initial_context_length", &context); context != c.Context {
			f.errorf("initial_context_length is %d, want %s.%s, %d", context, place, k.context, c.Context)
		}
	}
}

// yarn reads rope_scaling or rope_parameters.
func (f *fields) yarn(c *Config, k keyNames) {
	typeKey := "rope_type"
	if !f.has(typeKey) && f.has("type") {
		typeKey = "type" // its name in older files
	}
	var kind string
	value(f, typeKey, `"yarn"`, &kind)
	switch kind {
	case "default":
		c.Factor = 1
		f.number(k.theta, &c.Theta)
		return
	case "yarn":
	default:
		f.errorf("%s%s is %s, want \"yarn\"", f.place, typeKey, show(kind))
		return
	}
	for _, key := range []string{k.factor, k.context} {
		if !f.has(key) {
			f.errorf("%s%s is missing", f.place, key)
		}
	}
	f.rope(c, k)
	// transformers rounds the ramp's bounds unless told not to.
	f.bool("truncate", false, true, "rounded bounds are not supported")
	f.used["type"] = true // some files have both names
	f.rest()
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

// Marshal returns c as a config.json of the dialect: the keys of the official
// files, in their order.
func (c *Config) Marshal(d Dialect) ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	switch d {
	case Original:
		if c.Eps != defaults.Eps {
			return nil, fmt.Errorf("gptoss: config.json: rms_norm_eps is %g, want %g: the original form has no key for it", c.Eps, defaults.Eps)
		}
		data, err := indented(c.originalForm())
		return oneLine(data), err
	case HuggingFace:
		return indented(c.huggingFaceForm())
	}
	return nil, fmt.Errorf("gptoss: config.json: %v", d)
}

func indented(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	return append(data, '\n'), err
}

// oneLine turns an indented flat object into the one line that Python's json
// module writes by default.
func oneLine(data []byte) []byte {
	s := strings.NewReplacer(",\n  ", ", ", "{\n  ", "{", "\n}\n", "}").Replace(string(data))
	return []byte(s)
}

// decimal is a number that keeps its point when it is whole, as in Python.
type decimal float64

// MarshalJSON writes 7.0 and 1e-05.
func (v decimal) MarshalJSON() ([]byte, error) {
	s := strconv.FormatFloat(float64(v), 'g', -1, 64)
	if float64(v) == math.Trunc(float64(v)) && !strings.ContainsAny(s, "e") {
		s += ".0"
	}
	return []byte(s), nil
}

func (c *Config) originalForm() any {
	return struct {
		Layers   int     `json:"num_hidden_layers"`
		Experts  int     `json:"num_experts"`
		PerToken int     `json:"experts_per_token"`
		Vocab    int     `json:"vocab_size"`
		Dim      int     `json:"hidden_size"`
		Inner    int     `json:"intermediate_size"`
		Limit    decimal `json:"swiglu_limit"`
		HeadDim  int     `json:"head_dim"`
		Heads    int     `json:"num_attention_heads"`
		KVHeads  int     `json:"num_key_value_heads"`
		Window   int     `json:"sliding_window"`
		Context  int     `json:"initial_context_length"`
		Theta    float64 `json:"rope_theta"`
		Factor   decimal `json:"rope_scaling_factor"`
		Alpha    float64 `json:"rope_ntk_alpha"`
		Beta     float64 `json:"rope_ntk_beta"`
	}{
		c.Layers, c.Experts, c.ExpertsPerToken, c.Vocab, c.Dim, c.Inner, decimal(c.Limit), c.HeadDim, c.Heads, c.KVHeads,
		c.Window, c.Context, c.Theta, decimal(c.Factor), c.Alpha, c.Beta,
	}
}

// Ids of special tokens that the Hugging Face files name.
const (
	startOfText = 199998
	endOfText   = 199999
	endOfReturn = 200002
	endOfCall   = 200012
)

// special returns the id, or null for a vocabulary that does not reach it.
func (c *Config) special(id int) *int {
	if id >= c.Vocab {
		return nil
	}
	return &id
}

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
	var rope *scaling
	if c.Factor > 1 {
		rope = &scaling{decimal(c.Beta), decimal(c.Alpha), decimal(c.Factor), c.Context, "yarn", false}
	}
	return struct {
		Architectures []string     `json:"architectures"`
		AttentionBias bool         `json:"attention_bias"`
		Dropout       decimal      `json:"attention_dropout"`
		EOS           *int         `json:"eos_token_id"`
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
		Pad           *int         `json:"pad_token_id"`
		Quantization  quantization `json:"quantization_config"`
		Eps           decimal      `json:"rms_norm_eps"`
		Rope          *scaling     `json:"rope_scaling"`
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
		EOS:           c.special(endOfReturn),
		PerToken:      c.ExpertsPerToken,
		HeadDim:       c.HeadDim,
		Act:           "silu",
		Dim:           c.Dim,
		Context:       c.Context,
		Range:         0.02,
		Inner:         c.Inner,
		LayerTypes:    types,
		Positions:     int(float64(c.Context) * c.Factor),
		ModelType:     "gpt_oss",
		Heads:         c.Heads,
		PerTok:        c.ExpertsPerToken,
		Layers:        c.Layers,
		KVHeads:       c.KVHeads,
		Experts:       c.Experts,
		Pad:           c.special(endOfText),
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
