package gptoss

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func goldenFile(t testing.TB, name string) []byte {
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
		{"120b-original.json", "120b", Original},
		{"20b-hf.json", "20b", HuggingFace},
		{"120b-hf.json", "120b", HuggingFace},
	} {
		t.Run(tt.file, func(t *testing.T) {
			data := goldenFile(t, tt.file)
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
	if err := json.Unmarshal(goldenFile(t, fmt.Sprintf("20b-%v.json", d)), &all); err != nil {
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

// A variant is an edit of a published 20b configuration and what becomes of
// it: accepted, as the published one; honoured, with the change in Config; or
// refused, with Error.
type variant struct {
	Layout  string                     `json:"layout"`
	Verdict string                     `json:"verdict"`
	Name    string                     `json:"name"`
	Set     map[string]json.RawMessage `json:"set"`  // a.b is b in the object a
	Drop    []string                   `json:"drop"` // keys to leave out
	Config  json.RawMessage            `json:"config"`
	Error   string                     `json:"error"`
	Since   string                     `json:"since"` // first release of transformers that knows the keys, for tools/transformers
}

// Each key that changes the result is honoured or refused, each other key
// accepted. tools/transformers runs the same table in transformers itself.
func TestConfigVariants(t *testing.T) {
	var variants []variant
	d := json.NewDecoder(bytes.NewReader(goldenFile(t, "config-variants.json")))
	d.DisallowUnknownFields()
	if err := d.Decode(&variants); err != nil {
		t.Fatal(err)
	}
	if len(variants) < 60 {
		t.Errorf("%d variants, want at least 60", len(variants))
	}
	doc, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range variants {
		t.Run(v.Layout+" "+v.Name, func(t *testing.T) {
			want, err := Preset("20b")
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := ParseConfig(v.text(t))
			switch v.Verdict {
			case "refused":
				checkConfigError(t, got, err, v.Error)
			case "honoured":
				before := *want
				if err := json.Unmarshal(v.Config, want); err != nil {
					t.Fatal(err)
				}
				if *want == before {
					t.Errorf("config %s changes nothing", v.Config)
				}
				fallthrough
			case "accepted":
				if err != nil {
					t.Fatal(err)
				}
				if *got != *want {
					t.Errorf("%+v, want %+v", *got, *want)
				}
			default:
				t.Errorf("verdict %q", v.Verdict)
			}
			for key := range v.Set {
				_, inner, nested := strings.Cut(key, ".")
				if nested {
					key = inner
				}
				if !bytes.Contains(doc, []byte("`"+key+"`")) {
					t.Errorf("docs/configuration.md does not say what becomes of %s", key)
				}
			}
		})
	}
}

// text returns the configuration that v describes.
func (v variant) text(t *testing.T) []byte {
	t.Helper()
	type object = map[string]json.RawMessage
	decode := func(text []byte) (o object) {
		if err := json.Unmarshal(text, &o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	encode := func(o object) []byte {
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	all := decode(goldenFile(t, "20b-"+v.Layout+".json"))
	edit := func(key string, change func(o object, key string)) {
		if outer, inner, ok := strings.Cut(key, "."); ok {
			o := decode(all[outer])
			change(o, inner)
			all[outer] = encode(o)
			return
		}
		change(all, key)
	}
	for key, value := range v.Set {
		edit(key, func(o object, key string) { o[key] = value })
	}
	for _, key := range v.Drop {
		edit(key, func(o object, key string) {
			if _, ok := o[key]; !ok {
				t.Fatalf("drops %s, which is not there", key)
			}
			delete(o, key)
		})
	}
	return encode(all)
}

func TestBadConfigs(t *testing.T) {
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
		{"product that would overflow", Original, map[string]any{"vocab_size": int64(1 << 40)}, "vocab_size is 1099511627776, want 1 to 16777216"},
		{"beyond int64", Original, map[string]any{"vocab_size": 1e30}, "vocab_size is 1e+30, want a whole number"},
		{"negative window", Original, map[string]any{"sliding_window": -1}, "sliding_window is -1, want 1 to 16777216"},
		{"fraction of a layer", Original, map[string]any{"num_hidden_layers": 1.5}, "num_hidden_layers is 1.5, want a whole number"},
		{"text for a number", Original, map[string]any{"rope_theta": "1e5"}, `rope_theta is "1e5", want a number`},
		{"eps of zero", HuggingFace, map[string]any{"rms_norm_eps": 0}, "rms_norm_eps is 0, want more than 0, at most 1"},
		{"factor below one", Original, map[string]any{"rope_scaling_factor": 0.5}, "rope_scaling_factor is 0.5, want 1 to 1e+06"},
		{"ramp beyond the last column", Original, map[string]any{"rope_theta": 500}, "YaRN's ramp from column 15.52 to 33.37 (rope_ntk_beta 32, rope_ntk_alpha 1, initial_context_length 4096, rope_theta 500), want 0 < from < to < 31"},
		{"ramp reversed", Original, map[string]any{"rope_ntk_alpha": 40}, "YaRN's ramp from column 8.093 to 7.494 (rope_ntk_beta 32, rope_ntk_alpha 40, initial_context_length 4096, rope_theta 150000), want 0 < from < to < 31"},
		{"scaling without factor", HuggingFace, map[string]any{"rope_scaling.factor": nil}, "rope_scaling.factor is missing"},
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
		f.Add(goldenFile(f, name))
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
			if d == HuggingFace && strings.Contains(err.Error(), "whole product") {
				return // has none that all releases of transformers read alike
			}
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

// Where experts may be decoded, quantization_config may be missing, and is read
// as ever if it is there. Nothing else changes.
func TestParseConfigDecoded(t *testing.T) {
	want, err := Preset("20b")
	if err != nil {
		t.Fatal(err)
	}
	for _, edit := range []map[string]any{nil, {"quantization_config": nil}} {
		got, d, err := ParseConfigDecoded(edited(t, HuggingFace, edit))
		if err != nil || *got != *want || d != HuggingFace {
			t.Errorf("%v: %v %+v, %v", edit, d, got, err)
		}
	}
	for _, edit := range []map[string]any{{"quantization_config.quant_method": "gptq"}, {"quantization_config": nil, "hidden_act": "gelu"}} {
		if _, _, err := ParseConfigDecoded(edited(t, HuggingFace, edit)); err == nil {
			t.Errorf("%v: accepted", edit)
		}
	}
	if _, _, err := ParseConfig(edited(t, HuggingFace, map[string]any{"quantization_config": nil})); err == nil {
		t.Error("ParseConfig accepts experts that were decoded")
	}
}
