package openai_test

import (
	"context"
	"encoding/json"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"

	"ossify/generate"
	"ossify/openai"
	"ossify/tokenizer"
)

// drawn is a model that writes anything its guide allows, with a liking for
// special tokens and for what ends a value.
type drawn struct{ r *rand.Rand }

func (d drawn) Generate(_ context.Context, r generate.Request, emit func(generate.Token) error) (res generate.Result, err error) {
	var closing []uint32
	for _, c := range "\"}]fce,:0anilurbtsomywhd {1=" {
		closing = append(closing, ids(string(c))...)
	}
	for {
		mask, err := r.Options.Guide.Allowed()
		if err != nil {
			return res, err
		}
		has := func(id uint32) bool { return mask[id/64]>>(id%64)&1 != 0 }
		var liked []uint32
		for id := uint32(tokenizer.Ordinary); id < tokenizer.VocabSize; id++ {
			if has(id) {
				liked = append(liked, id)
			}
		}
		if len(liked) == 0 && len(res.Tokens) > 20 {
			for _, id := range closing {
				if has(id) && len(liked) == 0 {
					liked = append(liked, id)
				}
			}
		}
		n := 0
		for _, w := range mask {
			n += bits.OnesCount64(w)
		}
		id := uint32(0)
		if len(liked) > 0 && (len(res.Tokens) > 20 || d.r.IntN(3) == 0) {
			id = liked[d.r.IntN(len(liked))]
		} else {
			for n = d.r.IntN(n); ; id++ {
				if has(id) {
					if n == 0 {
						break
					}
					n--
				}
			}
		}
		if err := r.Options.Guide.Accept(id); err != nil {
			return res, err
		}
		if done, err := took(r, &res, id, emit); err != nil || done {
			return res, err
		}
	}
}

// took adds a token to an answer and says whether that is its last.
func took(r generate.Request, res *generate.Result, id uint32, emit func(generate.Token) error) (done bool, err error) {
	res.Tokens = append(res.Tokens, id)
	if err := emit(generate.Token{ID: id}); err != nil {
		return false, err
	}
	res.Reason = r.Options.Ends(id, len(r.Prompt), len(res.Tokens))
	return res.Reason != 0, nil
}

// Whatever the model would like to write, what it does write is what the request
// asks for.
func TestGuidedAnswers(t *testing.T) {
	const schema = `{"type":"object","properties":{"name":{"type":"string","maxLength":12},"n":{"type":"integer","minimum":1,"maximum":9},"of":{"enum":["a","b"]}},"required":["name","n","of"],"additionalProperties":false}`
	strict := strings.Replace(strings.Replace(weather, `"name":"weather"`, `"strict":true,"name":"weather"`, 1), `{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}`, schema, 1)
	isValid := func(t *testing.T, text any) {
		t.Helper()
		var v struct {
			Name *string
			N    *int
			Of   string
		}
		d := json.NewDecoder(strings.NewReader(text.(string)))
		d.DisallowUnknownFields()
		if err := d.Decode(&v); err != nil || d.More() || v.Name == nil || len([]rune(*v.Name)) > 12 || v.N == nil || *v.N < 1 || *v.N > 9 || v.Of != "a" && v.Of != "b" {
			t.Errorf("%s is not valid by the schema: %v", text, err)
		}
	}
	for _, c := range []struct {
		name, path, more string
		judge            func(t *testing.T, v map[string]any)
	}{
		{"json_schema", openai.PathChat, `"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":` + schema + `}}`, func(t *testing.T, v map[string]any) {
			isValid(t, at(v, "choices.0.message.content"))
		}},
		{"json_object", openai.PathChat, `"response_format":{"type":"json_object"}`, func(t *testing.T, v map[string]any) {
			var o map[string]any
			if err := json.Unmarshal([]byte(at(v, "choices.0.message.content").(string)), &o); err != nil {
				t.Errorf("%v: %v", at(v, "choices.0.message.content"), err)
			}
		}},
		{"text.format", openai.PathResponses, `"text":{"format":{"type":"json_schema","name":"x","schema":` + schema + `}}`, func(t *testing.T, v map[string]any) {
			output := v["output"].([]any)
			isValid(t, at(output[len(output)-1], "content.0.text"))
		}},
		{"required", openai.PathChat, `"tool_choice":"required",` + strict, func(t *testing.T, v map[string]any) {
			if at(v, "choices.0.finish_reason") != "tool_calls" {
				t.Errorf("%v", v)
			}
			isValid(t, at(v, "choices.0.message.tool_calls.0.function.arguments"))
		}},
		{"named", openai.PathChat, `"tool_choice":{"type":"function","function":{"name":"weather"}},` + weather, func(t *testing.T, v map[string]any) {
			if at(v, "choices.0.message.tool_calls.0.function.name") != "weather" || !json.Valid([]byte(at(v, "choices.0.message.tool_calls.0.function.arguments").(string))) {
				t.Errorf("%v", v)
			}
		}},
		{"none", openai.PathChat, `"tool_choice":"none",` + weather, func(t *testing.T, v map[string]any) {
			if at(v, "choices.0.message.tool_calls") != nil || at(v, "choices.0.finish_reason") != "stop" {
				t.Errorf("%v", v)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(max(1, fewer(5))) {
				s := serviceOf(drawn{rand.New(rand.NewPCG(seed, 5))})
				body := `{"messages":[{"role":"user","content":"Hi"}],` + c.more + `}`
				if c.path == openai.PathResponses {
					body = `{"input":"Hi",` + c.more + `}`
				}
				status, v := do(t, s, c.path, body)
				if status != 200 {
					t.Fatalf("%d %v", status, v)
				}
				c.judge(t, v)
			}
		})
	}
	for more, param := range map[string]string{
		`"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","not":{}}}}`: "response_format",
		`"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"$ref":"#"}}}`:               "response_format",
		strings.Replace(strict, `"required"`, `"patternProperties"`, 1):                                           "tools[0]",
	} {
		if status, v := do(t, service(""), openai.PathChat, `{"messages":[{"role":"user","content":"Hi"}],`+more+`}`); status != 400 || at(v, "error.code") != "invalid_json_schema" || at(v, "error.param") != param {
			t.Errorf("%s: %d %v", more, status, v)
		}
	}
}

// The schema of an answer is told to the model.
func TestFormatIsInThePrompt(t *testing.T) {
	var prompt []uint32
	s := serviceOf(asks(func(r generate.Request) { prompt = r.Prompt }))
	do(t, s, openai.PathChat, `{"messages":[{"role":"system","content":"Be."},{"role":"user","content":"Hi"}],"response_format":{"type":"json_schema","json_schema":{"name":"x","description":"What.","schema":{"type":"object"}}}}`)
	text, _ := encoding.Tokenizer().Decode(prompt)
	if want := "# Instructions\n\nBe.\n\n# Response Formats\n\n## x\n\n// What.\n{\"type\":\"object\"}<|end|>"; !strings.Contains(text, want) {
		t.Errorf("%q, want %q in it", text, want)
	}
}

type asks func(r generate.Request)

func (a asks) Generate(_ context.Context, r generate.Request, emit func(generate.Token) error) (generate.Result, error) {
	a(r)
	return generate.Result{Reason: generate.Stopped}, nil
}
