package openai_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ossify/generate"
	"ossify/generate/script"
	"ossify/grammar"
	"ossify/harmony"
	"ossify/openai"
	"ossify/tokenizer"
)

var (
	encoding   = harmony.New(tokenizer.New())
	vocabulary = grammar.NewVocabulary(encoding.Tokenizer())
)

// ids returns the tokens of a text in which special tokens are spelled.
func ids(text string) []uint32 {
	return encoding.Tokenizer().Encode(nil, text, tokenizer.AllSpecials())
}

// service returns a service whose model writes text, and counts ids up from 1.
func service(text string) *openai.Service {
	return serviceOf(script.Generator(func(context.Context, generate.Request) ([]uint32, error) { return ids(text), nil }))
}

func serviceOf(g generate.Generator) *openai.Service {
	var n atomic.Int64 // responses in the background count, too
	return openai.New(openai.Options{
		Generator: g, Encoding: encoding, Vocabulary: vocabulary, Models: []string{"gpt-oss"}, Context: 4096, Store: openai.NewStore(100, 1<<20),
		Now:  func() time.Time { return time.Unix(1_700_000_000, 0) },
		ID:   func(prefix string) string { return fmt.Sprint(prefix, n.Add(1)) },
		Seed: func([]uint32) uint64 { return 1 },
	})
}

// do posts a body, with the model added, and returns the answer as it lies.
func do(t *testing.T, s *openai.Service, path, body string) (int, map[string]any) {
	t.Helper()
	if strings.HasPrefix(body, "{") && !strings.Contains(body, `"model"`) {
		body = strings.Replace(`{"model":"gpt-oss",`+body[1:], ",}", "}", 1)
	}
	status, answer := s.Do(t.Context(), path, []byte(body), openai.Client{})
	var v map[string]any
	if err := json.Unmarshal(answer, &v); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	return status, v
}

// at returns what lies at a path of names and numbers.
func at(v any, path string) any {
	for _, name := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			i := 0
			fmt.Sscan(name, &i)
			if i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

const weather = `"tools":[{"type":"function","function":{"name":"weather","description":"Tells it.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}]`

func TestChat(t *testing.T) {
	for _, c := range []struct {
		name, model, more string
		want              map[string]any
	}{
		{"thought and answer", "<|channel|>analysis<|message|>Let me see.<|end|><|start|>assistant<|channel|>final<|message|>Four.<|return|>", ``, map[string]any{
			"choices.0.message.content": "Four.", "choices.0.message.reasoning": "Let me see.", "choices.0.message.reasoning_content": "Let me see.",
			"choices.0.finish_reason": "stop", "usage.completion_tokens_details.reasoning_tokens": 8.0, "usage.completion_tokens": 16.0,
		}},
		{"call", "<|channel|>analysis<|message|>Ask.<|end|><|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"city\":\"Ulm\"}<|call|>", weather, map[string]any{
			"choices.0.message.content": nil, "choices.0.message.tool_calls.0.function.name": "weather", "choices.0.message.tool_calls.0.function.arguments": `{"city":"Ulm"}`,
			"choices.0.message.tool_calls.0.type": "function", "choices.0.finish_reason": "tool_calls",
		}},
		{"words before a call", "<|channel|>commentary<|message|>I ask.<|end|><|start|>assistant to=functions.weather<|channel|>commentary json<|message|>{}<|call|>", weather, map[string]any{
			"choices.0.message.content": "I ask.", "choices.0.message.tool_calls.0.function.arguments": `{}`, "choices.0.finish_reason": "tool_calls",
		}},
		{"call of what is not there", "<|channel|>commentary to=functions.other<|message|>{}<|call|>", weather, map[string]any{
			"choices.0.message.content": "", "choices.0.message.reasoning": "{}", "choices.0.finish_reason": "stop",
		}},
		{"call without tools", "<|channel|>commentary to=functions.weather<|message|>{}<|call|>", `"tool_choice":"none",` + weather, map[string]any{
			"choices.0.message.tool_calls": nil, "choices.0.message.reasoning": "{}", "choices.0.finish_reason": "stop",
		}},
		{"length in a header", "<|channel|>final and more", `"max_tokens":4`, map[string]any{
			"choices.0.message.content": " and more", "choices.0.finish_reason": "length", "usage.completion_tokens": 4.0,
		}},
		{"length in a call", "<|channel|>commentary to=functions.weather<|message|>{\"city\":\"Ulm\"}<|call|>", `"max_tokens":10,` + weather, map[string]any{
			"choices.0.finish_reason": "length", "choices.0.message.tool_calls.0.function.name": "weather",
		}},
		{"stop text across tokens", "<|channel|>final<|message|>one two three<|return|>", `"stop":["o thr"]`, map[string]any{
			"choices.0.message.content": "one tw", "choices.0.finish_reason": "stop",
		}},
		{"two answers", "<|channel|>final<|message|>x<|return|>", `"n":2`, map[string]any{
			"choices.0.message.content": "x", "choices.1.message.content": "x", "choices.1.index": 1.0, "usage.completion_tokens": 10.0,
		}},
		{"log probabilities of the text alone", "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>one two<|return|>", `"logprobs":true,"top_logprobs":1`, map[string]any{
			"choices.0.logprobs.content.0.token": "one", "choices.0.logprobs.content.1.token": " two", "choices.0.logprobs.content.2": nil,
			"choices.0.logprobs.content.1.bytes.0": 32.0, "choices.0.logprobs.content.1.top_logprobs.0.token": " two", "choices.0.logprobs.content.0.logprob": 0.0,
		}},
		{"log probabilities before a stop text", "<|channel|>final<|message|>one two three<|return|>", `"logprobs":true,"stop":" th"`, map[string]any{
			"choices.0.message.content": "one two", "choices.0.logprobs.content.1.token": " two", "choices.0.logprobs.content.2": nil,
		}},
		{"a user's words in the model's mouth", "<|channel|>final<|message|>x<|end|><|start|>user<|message|>y<|end|><|start|>assistant<|channel|>final<|message|>z<|return|>", ``, map[string]any{
			"choices.0.message.content": "x\n\nz", "choices.0.message.reasoning": "y",
		}},
		{"no text at all", "<|return|>", ``, map[string]any{"choices.0.message.content": "", "choices.0.finish_reason": "stop"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			more := c.more
			if more != "" {
				more = "," + more
			}
			status, v := do(t, service(c.model), openai.PathChat, `{"messages":[{"role":"user","content":"Hi"}]`+more+`}`)
			if status != 200 {
				t.Fatalf("%d: %v", status, v)
			}
			for path, want := range c.want {
				if got := at(v, path); got != want {
					t.Errorf("%s: %#v, want %#v", path, got, want)
				}
			}
		})
	}
}

func TestResponses(t *testing.T) {
	s := service("<|channel|>analysis<|message|>Let me see.<|end|><|start|>assistant<|channel|>final<|message|>Four.<|return|>")
	status, v := do(t, s, openai.PathResponses, `{"input":"2+2?","instructions":""}`)
	for path, want := range map[string]any{
		"output.0.type": "reasoning", "output.0.content.0.type": "reasoning_text", "output.0.content.0.text": "Let me see.",
		"output.1.type": "message", "output.1.content.0.text": "Four.", "output.1.status": "completed", "status": "completed",
		"usage.output_tokens": 16.0, "usage.output_tokens_details.reasoning_tokens": 8.0, "usage.input_tokens_details.cached_tokens": 0.0,
	} {
		if got := at(v, path); got != want {
			t.Errorf("%d %s: %#v, want %#v", status, path, got, want)
		}
	}
	id := v["id"].(string)
	stored, e := s.GetResponse(id, "")
	if e != nil {
		t.Fatal(e)
	}
	var again map[string]any
	if err := json.Unmarshal(stored, &again); err != nil || at(again, "output.1.content.0.text") != "Four." {
		t.Errorf("stored: %s", stored)
	}
	if status, v := do(t, s, openai.PathResponses, `{"input":"And 3+3?","previous_response_id":"`+id+`"}`); status != 200 {
		t.Errorf("%d: %v", status, v)
	} else if page, e := s.InputItems(v["id"].(string), "", "", "asc", 20); e != nil || strings.Count(string(page), `"type":"message"`) != 3 {
		t.Errorf("%v: %s", e, page)
	}
}

// What a prompt becomes is what harmony renders of these messages.
func TestPrompts(t *testing.T) {
	for _, c := range []struct{ name, path, body, want string }{
		{"plain", openai.PathChat, `{"messages":[{"role":"user","content":"Hi"}]}`,
			"<|start|>user<|message|>Hi<|end|><|start|>assistant"},
		{"instructions and tools", openai.PathChat, `{"messages":[{"role":"system","content":"A"},{"role":"developer","content":[{"type":"text","text":"B"}]},{"role":"user","content":"Hi"}],` + weather + `}`,
			"<|start|>developer<|message|># Instructions\n\nA\n\nB\n\n# Tools\n\n## functions\n\nnamespace functions {\n\n// Tells it.\ntype weather = (_: {\ncity: string,\n}) => any;\n\n} // namespace functions<|end|><|start|>user<|message|>Hi<|end|><|start|>assistant"},
		{"no instructions", openai.PathResponses, `{"instructions":"","input":"Hi"}`,
			"<|start|>user<|message|>Hi<|end|><|start|>assistant"},
		{"thoughts go once the answer is there", openai.PathChat, `{"messages":[{"role":"user","content":"a"},{"role":"assistant","reasoning":"b","content":"c"},{"role":"user","content":"d"}]}`,
			"<|start|>user<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>c<|end|><|start|>user<|message|>d<|end|><|start|>assistant"},
		{"thoughts stay while a call is open", openai.PathChat, `{"messages":[{"role":"user","content":"a"},{"role":"assistant","reasoning":"b","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"weather","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"rain"}]}`,
			"<|start|>user<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|><|start|>assistant to=functions.weather<|channel|>commentary <|constrain|>json<|message|>{}<|call|><|start|>functions.weather to=assistant<|channel|>commentary<|message|>rain<|end|><|start|>assistant"},
		{"the same of responses", openai.PathResponses, `{"input":[{"role":"user","content":"a"},{"type":"reasoning","id":"r","summary":[],"content":[{"type":"reasoning_text","text":"b"}]},{"type":"function_call","call_id":"1","name":"weather","arguments":"{}"},{"type":"function_call_output","call_id":"1","output":"rain"}]}`,
			"<|start|>user<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|><|start|>assistant to=functions.weather<|channel|>commentary <|constrain|>json<|message|>{}<|call|><|start|>functions.weather to=assistant<|channel|>commentary<|message|>rain<|end|><|start|>assistant"},
		{"special tokens in a text are text", openai.PathChat, `{"messages":[{"role":"user","content":"<|end|>"}]}`,
			"<|start|>user<|message|>\x00<|end|><|start|>assistant"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var prompt []uint32
			s := serviceOf(script.Generator(func(_ context.Context, r generate.Request) ([]uint32, error) {
				prompt = r.Prompt
				return ids("<|channel|>final<|message|>x<|return|>"), nil
			}))
			if status, v := do(t, s, c.path, c.body); status != 200 {
				t.Fatalf("%d: %v", status, v)
			}
			var want []uint32
			for i, piece := range strings.Split(c.want, "\x00") {
				if i > 0 {
					want = encoding.Tokenizer().EncodeOrdinary(want, "<|end|>")
				}
				want = append(want, ids(piece)...)
			}
			got, _ := encoding.Tokenizer().Decode(prompt)
			if _, got, _ = strings.Cut(got, "<|end|>"); got != strings.ReplaceAll(c.want, "\x00", "<|end|>") {
				t.Errorf("%q\nwant %q", got, c.want)
			}
			if !strings.HasSuffix(fmt.Sprint(prompt), strings.TrimPrefix(fmt.Sprint(want), "[")) && c.name == "special tokens in a text are text" {
				t.Errorf("%v, want its end to be %v", prompt, want)
			}
		})
	}
}

// Functions have 1 to 64 letters, digits, _, . and -, and no others.
func TestFunctionNames(t *testing.T) {
	for name, want := range map[string]int{
		"f": 200, "_": 200, "a.b-c_D9": 200, "0": 200, strings.Repeat("x", 64): 200, strings.Repeat(".", 64): 200, "AZaz09": 200,
		"": 400, strings.Repeat("x", 65): 400, "a b": 400, " a": 400, "a\n": 400, "é": 400, "a/b": 400, "a:b": 400, "a@b": 400, "a[b": 400,
		"a`b": 400, "a{b": 400, "\x00": 400, "a,b": 400, "<|call|>": 400, strings.Repeat("é", 32): 400,
	} {
		quoted, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		status, answer := do(t, service("<|channel|>final<|message|>Yes.<|return|>"), openai.PathChat,
			`{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":`+string(quoted)+`}}]}`)
		if status != want || want == 400 && at(answer, "error.param") != "tools[0].function.name" {
			t.Errorf("%q: %d %v, want %d", name, status, answer, want)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		path, body   string
		status       int
		param, codes string
	}{
		{openai.PathChat, ``, 400, "", "invalid_value"},
		{openai.PathChat, `[]`, 400, "", "invalid_value"},
		{openai.PathChat, "{\"model\":\"\xff\"}", 400, "", "invalid_value"},
		{openai.PathChat, `{"messages":[]}`, 400, "messages", "invalid_value"},
		{openai.PathChat, `{}`, 400, "messages", "missing_required_parameter"},
		{openai.PathChat, `{"model":"other","messages":[]}`, 404, "model", "model_not_found"},
		{openai.PathChat, `{"messages":[{"role":"user","content":"x"}],"temperature":3}`, 400, "temperature", "invalid_value"},
		{openai.PathChat, `{"messages":[{"role":"user","content":"x"}],"temperature":"hot"}`, 400, "temperature", "invalid_type"},
		{openai.PathChat, `{"messages":[{"role":"user","content":"x"}],"bogus":1}`, 400, "bogus", "unknown_parameter"},
		{openai.PathChat, `{"messages":[{"role":"robot","content":"x"}]}`, 400, "messages[0].role", "invalid_value"},
		{openai.PathChat, `{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, 400, "messages[0].content[0].type", "unsupported_value"},
		{openai.PathChat, `{"messages":[{"role":"tool","tool_call_id":"9","content":"x"}]}`, 400, "messages[0].tool_call_id", "invalid_value"},
		{openai.PathChat, `{"messages":[{"role":"user","content":"` + strings.Repeat("word ", 5000) + `"}]}`, 400, "messages", "context_length_exceeded"},
		{openai.PathChat, `{"messages":[{"role":"user","content":"x"}],"tool_choice":"required"}`, 400, "tool_choice", "invalid_value"},
		{openai.PathChat, `{"messages":[{"role":"user","content":"x"}],"logit_bias":{"201088":1}}`, 400, "logit_bias", "invalid_value"},
		{openai.PathChat, `{"messages":[{"role":"user","content":"x"}],"stream":true}`, 400, "stream", "unsupported_value"},
		{openai.PathChat, strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200), 400, "", "invalid_value"},
		{openai.PathChat, `{"a":[` + strings.Repeat("0,", 1<<18) + `0]}`, 400, "", "invalid_value"},
		{openai.PathResponses, `{"input":"x","previous_response_id":"resp_9"}`, 404, "previous_response_id", "not_found"},
		{openai.PathResponses, `{"input":[]}`, 400, "input", "invalid_value"},
		{openai.PathResponses, `{}`, 400, "input", "missing_required_parameter"},
		{openai.PathResponses, `{"input":"x","tools":[{"type":"web_search"}]}`, 400, "tools[0].type", "unsupported_value"},
		{openai.PathResponses, `{"input":[{"type":"function_call_output","call_id":"1","output":"x"}]}`, 400, "input", "invalid_value"},
		{"/v1/nothing", `{}`, 404, "", "not_found"},
	} {
		status, v := do(t, service("<|return|>"), c.path, c.body)
		param, _ := at(v, "error.param").(string)
		if status != c.status || param != c.param || at(v, "error.code") != c.codes || at(v, "error.message") == "" || at(v, "error.type") == nil {
			t.Errorf("%.100s: %d %v, want %d %s %s", c.body, status, v, c.status, c.param, c.codes)
		}
	}
}
