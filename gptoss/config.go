package gptoss

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

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
func ParseConfig(data []byte) (*Config, Dialect, error) { return parseConfig(data, false) }

// ParseConfigDecoded is ParseConfig for a checkpoint whose experts may have been
// decoded to bfloat16: Hugging Face's form has no quantization_config then.
func ParseConfigDecoded(data []byte) (*Config, Dialect, error) { return parseConfig(data, true) }

func parseConfig(data []byte, decoded bool) (*Config, Dialect, error) {
	f, err := parseFields(data, "")
	if err != nil {
		return nil, 0, fmt.Errorf("gptoss: config.json: %w", err)
	}
	f.decoded = decoded
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
		if float64(c.Positions())/float64(c.Context) != c.Factor {
			return nil, fmt.Errorf("gptoss: config.json: factor is %g, want a whole product with original_max_position_embeddings, %d: transformers 4.55 takes their ratio", c.Factor, c.Context)
		}
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
