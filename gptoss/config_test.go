package gptoss

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func golden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The published files parse to the presets, and the presets are written as the
// published files.
func TestPublishedConfigs(t *testing.T) {
	for _, tt := range []struct {
		file, preset string
		dialect      Dialect
	}{
		{"20b-original.json", "20b", Original},
		{"20b-hf.json", "20b", HuggingFace},
		{"120b-hf.json", "120b", HuggingFace},
	} {
		t.Run(tt.file, func(t *testing.T) {
			data := golden(t, tt.file)
			got, d, err := ParseConfig(data)
			if err != nil {
				t.Fatal(err)
			}
			want, err := Preset(tt.preset)
			if err != nil {
				t.Fatal(err)
			}
			if *got != *want || d != tt.dialect {
				t.Errorf("%v %+v, want %v %+v", d, *got, tt.dialect, *want)
			}
			text, err := want.Marshal(tt.dialect)
			if err != nil {
				t.Fatal(err)
			}
			if string(text) != string(data) {
				t.Errorf("wrote\n%s\nwant\n%s", text, data)
			}
		})
	}
}

func TestPresetsRoundTrip(t *testing.T) {
	for _, name := range Presets() {
		c, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Build(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, d := range []Dialect{Original, HuggingFace} {
			text, err := c.Marshal(d)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, gd, err := ParseConfig(text)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if *got != *c || gd != d {
				t.Errorf("%s: %v %+v came back as %v %+v", name, d, *c, gd, *got)
			}
		}
	}
	if _, err := Preset("7b"); err == nil {
		t.Error("no error for an unknown preset")
	}
}

// The bounds that the reference computes for the published models (facts:
// executed, float64).
func TestYaRNBoundsOfThePublishedModels(t *testing.T) {
	c, err := Preset("20b")
	if err != nil {
		t.Fatal(err)
	}
	r := rope(c)
	for _, v := range []struct {
		name      string
		got, want float64
	}{
		{"low", r.Low, 8.092779115512402}, {"high", r.High, 17.39802450158856}, {"concentration", r.Concentration, 1.3465735902799727},
	} {
		if !(math.Abs(v.got-v.want) <= 4e-15*v.want) { // a few roundings of float64
			t.Errorf("%s: %.17g, want %.17g", v.name, v.got, v.want)
		}
	}
}

// edited returns the published 20b file of a dialect with some keys replaced;
// a nil value removes the key. A key like a.b is b in the object a.
func edited(t testing.TB, d Dialect, edit map[string]any) []byte {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(golden(t, fmt.Sprintf("20b-%v.json", d)), &all); err != nil {
		t.Fatal(err)
	}
	for key, v := range edit {
		at := all
		if outer, inner, ok := strings.Cut(key, "."); ok {
			at, key = at[outer].(map[string]any), inner
		}
		if at[key] = v; v == nil {
			delete(at, key)
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestConfigVariants(t *testing.T) {
	yarn := map[string]any{"rope_type": "yarn", "factor": 32, "beta_fast": 32, "beta_slow": 1, "truncate": false, "original_max_position_embeddings": 4096}
	moved := maps.Clone(yarn)
	moved["rope_theta"] = 150000
	for _, tt := range []struct {
		name    string
		dialect Dialect
		edit    map[string]any
		change  func(*Config)
	}{
		{"eps of the original form", Original, map[string]any{"rms_norm_eps": 1e-6}, func(c *Config) { c.Eps = 1e-6 }},
		{"no YaRN", Original, map[string]any{"rope_scaling_factor": 1}, func(c *Config) { c.Factor = 1 }},
		{"missing keys are the reference's defaults", Original, map[string]any{"swiglu_limit": nil, "rope_theta": nil, "num_experts": nil}, func(c *Config) { c.Experts = 128 }},
		{"rope_parameters of transformers 5", HuggingFace, map[string]any{"rope_scaling": nil, "rope_theta": nil, "rope_parameters": moved}, func(c *Config) {}},
		{"type for rope_type", HuggingFace, map[string]any{"rope_scaling.rope_type": nil, "rope_scaling.type": "yarn"}, func(c *Config) {}},
		{"rope_type default", HuggingFace, map[string]any{"rope_scaling": map[string]any{"rope_type": "default"}}, func(c *Config) { c.Factor = 1 }},
		{"rope_scaling missing", HuggingFace, map[string]any{"rope_scaling": nil}, func(c *Config) {}},
		{"dtype bfloat16", HuggingFace, map[string]any{"dtype": "bfloat16"}, func(c *Config) {}},
		{"layer_types missing", HuggingFace, map[string]any{"layer_types": nil}, func(c *Config) {}},
		{"keys of no concern", HuggingFace, map[string]any{"initializer_range": 0.5, "new_key": []int{1}}, func(c *Config) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want, err := Preset("20b")
			if err != nil {
				t.Fatal(err)
			}
			tt.change(want)
			got, _, err := ParseConfig(edited(t, tt.dialect, tt.edit))
			if err != nil {
				t.Fatal(err)
			}
			if *got != *want {
				t.Errorf("%+v, want %+v", *got, *want)
			}
		})
	}
	got, _, err := ParseConfig([]byte(strings.Replace(string(golden(t, "20b-hf.json")), `"rope_scaling": {`, `"rope_scaling": null, "x": {`, 1)))
	if err != nil || got.Factor != 1 {
		t.Errorf("rope_scaling null: %+v, %v, want factor 1", got, err)
	}
}

func TestBadConfigs(t *testing.T) {
	types := func(n int) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = layerType(i)
		}
		return list
	}
	shifted := append([]string{"full_attention"}, types(23)...)
	for _, tt := range []struct {
		name    string
		dialect Dialect
		edit    map[string]any
		want    string // lines, without their prefix
	}{
		{"zero heads", Original, map[string]any{"num_attention_heads": 0}, "num_attention_heads is 0, want 1 to 4096"},
		{"heads not in groups", Original, map[string]any{"num_attention_heads": 63}, "num_attention_heads is 63, want a multiple of num_key_value_heads, 8"},
		{"odd head", Original, map[string]any{"head_dim": 63}, "head_dim is 63, want an even number"},
		{"width not in blocks", Original, map[string]any{"hidden_size": 2881}, "hidden_size is 2881, want a multiple of 32, the block of MXFP4"},
		{"expert width not in blocks", HuggingFace, map[string]any{"intermediate_size": 16}, "intermediate_size is 16, want a multiple of 32, the block of MXFP4"},
		{"more experts a token than experts", HuggingFace, map[string]any{"num_local_experts": 3}, "num_experts_per_tok is 4, want at most num_local_experts, 3"},
		{"two counts of experts a token", HuggingFace, map[string]any{"experts_per_token": 2}, "experts_per_token is 2, want num_experts_per_tok, 4"},
		{"product that would overflow", Original, map[string]any{"vocab_size": 1 << 40}, "vocab_size is 1099511627776, want 1 to 16777216"},
		{"beyond int64", Original, map[string]any{"vocab_size": 1e30}, "vocab_size is 1e+30, want a whole number"},
		{"negative window", Original, map[string]any{"sliding_window": -1}, "sliding_window is -1, want 1 to 16777216"},
		{"fraction of a layer", Original, map[string]any{"num_hidden_layers": 1.5}, "num_hidden_layers is 1.5, want a whole number"},
		{"text for a number", Original, map[string]any{"rope_theta": "1e5"}, `rope_theta is "1e5", want a number`},
		{"eps of zero", HuggingFace, map[string]any{"rms_norm_eps": 0}, "rms_norm_eps is 0, want more than 0, at most 1"},
		{"factor below one", Original, map[string]any{"rope_scaling_factor": 0.5}, "rope_scaling_factor is 0.5, want 1 to 1e+06"},
		{"ramp beyond the last column", Original, map[string]any{"rope_theta": 500}, "YaRN's ramp from column 15.52 to 33.37 (rope_ntk_beta 32, rope_ntk_alpha 1, initial_context_length 4096, rope_theta 500), want 0 < from < to < 31"},
		{"ramp reversed", Original, map[string]any{"rope_ntk_alpha": 40}, "YaRN's ramp from column 8.093 to 7.494 (rope_ntk_beta 32, rope_ntk_alpha 40, initial_context_length 4096, rope_theta 150000), want 0 < from < to < 31"},
		{"key that the reference refuses", Original, map[string]any{"num_local_experts": 32}, `"num_local_experts" is not a key that is understood here`},
		{"other model", HuggingFace, map[string]any{"model_type": "llama"}, `model_type is "llama", want "gpt_oss"`},
		{"float16", HuggingFace, map[string]any{"torch_dtype": "float16"}, `torch_dtype is "float16", want "bfloat16": this model's activations overflow float16`},
		{"float32", HuggingFace, map[string]any{"dtype": "float32"}, `dtype is "float32", want "bfloat16"`},
		{"other activation", HuggingFace, map[string]any{"hidden_act": "gelu"}, `hidden_act is "gelu", want "silu"`},
		{"tied embeddings", HuggingFace, map[string]any{"tie_word_embeddings": true}, "tie_word_embeddings is true, want false: embedding and unembedding are separate matrices"},
		{"no biases", HuggingFace, map[string]any{"attention_bias": false}, "attention_bias is false, want true: the projections have biases"},
		{"layer_types too short", HuggingFace, map[string]any{"layer_types": types(23)}, "layer_types has 23 entries, want num_hidden_layers, 24"},
		{"layer_types shifted", HuggingFace, map[string]any{"layer_types": shifted}, `layer_types[0] is "full_attention", want "sliding_attention"`},
		{"not quantized", HuggingFace, map[string]any{"quantization_config": nil}, `quantization_config is missing, want quant_method "mxfp4": experts in other formats are not supported`},
		{"other quantization", HuggingFace, map[string]any{"quantization_config.quant_method": "awq"}, `quantization_config.quant_method is "awq", want "mxfp4"`},
		{"rounded bounds", HuggingFace, map[string]any{"rope_scaling.truncate": true}, "rope_scaling.truncate is true, want false: rounded bounds are not supported"},
		{"rounded bounds by omission", HuggingFace, map[string]any{"rope_scaling.truncate": nil}, "rope_scaling.truncate is true, want false: rounded bounds are not supported"},
		{"other scaling", HuggingFace, map[string]any{"rope_scaling.rope_type": "linear"}, `rope_scaling.rope_type is "linear", want "yarn"`},
		{"scaling without factor", HuggingFace, map[string]any{"rope_scaling.factor": nil}, "rope_scaling.factor is missing"},
		{"attention factor", HuggingFace, map[string]any{"rope_scaling.attention_factor": 1}, `rope_scaling."attention_factor" is not a key that is understood here`},
		{"both ropes", HuggingFace, map[string]any{"rope_parameters": map[string]any{}}, "rope_parameters and rope_scaling, want one of them"},
		{"two contexts", HuggingFace, map[string]any{"initial_context_length": 8192}, "initial_context_length is 8192, want rope_scaling.original_max_position_embeddings, 4096"},
		{"every mistake at once", Original, map[string]any{"num_attention_heads": 0, "num_experts": 0, "swiglu_limit": -7},
			"num_attention_heads is 0, want 1 to 4096\nnum_experts is 0, want 1 to 4096\nswiglu_limit is -7, want more than 0, at most 1e+06"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _, err := ParseConfig(edited(t, tt.dialect, tt.edit))
			checkConfigError(t, c, err, tt.want)
		})
	}
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "JSON ends before its closing brace"},
		{"cut off", `{"head_dim": 64`, "JSON ends before its closing brace"},
		{"no object", `[1]`, "want an object"},
		{"not JSON", `{"head_dim": yes}`, "JSON: invalid character 'y' looking for beginning of value"},
		{"duplicate key", `{"head_dim": 64, "head_dim": 32}`, `"head_dim" appears twice`},
		{"duplicate by escape", `{"head_dim": 64, "head\u005fdim": 32}`, `"head_dim" appears twice`},
		{"trailing data", `{} {}`, "data after its closing brace"},
		{"not UTF-8", "{\"\xff\": 1}", "not valid UTF-8"},
		{"null", `{"head_dim": null}`, "head_dim is null, want a whole number"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _, err := ParseConfig([]byte(tt.text))
			checkConfigError(t, c, err, tt.want)
		})
	}
}

func checkConfigError(t *testing.T, c *Config, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("accepted as %+v", *c)
	}
	lines := strings.Split(want, "\n")
	for i, l := range lines {
		lines[i] = "gptoss: config.json: " + l
	}
	if want := strings.Join(lines, "\n"); err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// Whatever parses is valid, can be recorded and comes back from its own text.
func FuzzConfig(f *testing.F) {
	for _, name := range []string{"20b-original.json", "20b-hf.json"} {
		f.Add(golden(f, name))
	}
	f.Add([]byte(`{"num_hidden_layers": 1, "vocab_size": 1, "hidden_size": 32, "rope_scaling_factor": 1e400}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, d, err := ParseConfig(data)
		if err != nil {
			if c != nil || strings.Contains(err.Error(), "\n\n") {
				t.Errorf("config %v with error %v", c, err)
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Errorf("accepted %q, and %v", data, err)
		}
		if d == Original && c.Eps != defaults.Eps {
			return // has no written form
		}
		text, err := c.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := ParseConfig(text)
		if err != nil {
			t.Fatalf("own text refused: %v\n%s", err, text)
		}
		if *again != *c && !(c.Factor == 1) { // without YaRN its other constants are not written
			t.Errorf("%+v came back as %+v", *c, *again)
		}
	})
}
