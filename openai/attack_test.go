package openai_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"ossify/generate"
	"ossify/generate/script"
	"ossify/openai"
	"ossify/tokenizer"
)

// An item of any kind can be referred to, calls of the server's tools too.
func TestReferences(t *testing.T) {
	s := withTools([]string{search, answer, answer}, openai.Tools{}, func(context.Context, string, string) (string, bool, error) { return "jade is green", false, nil })
	status, v := do(t, s.Service, openai.PathResponses, `{"input":"What is jade?",`+both+`}`)
	if status != 200 {
		t.Fatalf("%d %v", status, v)
	}
	var refer []string
	kinds := map[string]bool{}
	for i := range v["output"].([]any) {
		id := at(v, fmt.Sprintf("output.%d.id", i)).(string)
		kinds[id[:strings.Index(id, "_")]] = true
		refer = append(refer, fmt.Sprintf(`{"type":"item_reference","id":%q}`, id))
	}
	if len(kinds) != 3 || !kinds["mcp"] {
		t.Fatalf("%v", kinds)
	}
	status, v = do(t, s.Service, openai.PathResponses, `{"input":[{"role":"user","content":"What is jade?"},`+strings.Join(refer, ",")+`,{"role":"user","content":"And now?"}]}`)
	if status != 200 {
		t.Fatalf("references to %v: %d %v", refer, status, v)
	}
	// What came before the last answer goes, but for the answer.
	if p := s.prompts[len(s.prompts)-1]; !strings.Contains(p, "It is green.") {
		t.Errorf("the prompt is %s", p)
	}
}

// A line of a batch is answered when it is answered: nothing goes on behind it.
func TestNoBackgroundInBatches(t *testing.T) {
	s := service(answer)
	status, body := s.Do(t.Context(), openai.PathResponses, []byte(`{"model":"gpt-oss","input":"x","background":true}`), openai.Client{})
	if status != 400 || !strings.Contains(string(body), `"param":"background"`) {
		t.Errorf("%d %s", status, body)
	}
	if status, body = s.Do(t.Context(), openai.PathResponses, []byte(`{"model":"gpt-oss","input":"x","background":false}`), openai.Client{}); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}

// sampled is a model whose logits are all the same.
var sampled = generate.Generator(sampling{})

type sampling struct{}

func (sampling) Generate(_ context.Context, r generate.Request, emit func(generate.Token) error) (res generate.Result, err error) {
	p, err := generate.NewSampler(r.Options.Sampling)
	if err != nil {
		return res, err
	}
	for {
		var allowed []uint64
		if r.Options.Guide != nil {
			if allowed, err = r.Options.Guide.Allowed(); err != nil {
				return res, err
			}
		}
		id, err := p.PickAllowed(make([]float32, tokenizer.VocabSize), len(r.Prompt)+len(res.Tokens), nil, allowed)
		if err != nil {
			return res, err
		}
		if r.Options.Guide != nil {
			if err := r.Options.Guide.Accept(id); err != nil {
				return res, err
			}
		}
		if done, err := took(r, &res, id, emit); err != nil || done {
			return res, err
		}
	}
}

// A bias that bans what the answer's form needs is the request's mistake.
func TestBiasBeyondTheForm(t *testing.T) {
	s := serviceOf(sampled)
	for _, c := range []struct{ name, path, body string }{
		{"a chat", openai.PathChat, `{"messages":[{"role":"user","content":"x"}],"logit_bias":{"200005":-100},"max_tokens":5}`},
		{"a chat, streamed", openai.PathChat, `{"messages":[{"role":"user","content":"x"}],"logit_bias":{"200005":-100},"max_tokens":5,"n":2}`},
		{"a response", openai.PathResponses, `{"input":"x","logit_bias":{"200005":-100},"max_output_tokens":5}`},
	} {
		status, v := do(t, s, c.path, c.body)
		if status != 400 || at(v, "error.param") != "logit_bias" {
			t.Errorf("%s: %d %v", c.name, status, v)
		}
	}
	if status, v := do(t, s, openai.PathChat, `{"messages":[{"role":"user","content":"x"}],"logit_bias":{"13":-100},"max_tokens":5}`); status != 200 {
		t.Errorf("%d %v", status, v)
	}
}

// A panic is its request's alone, also where a goroutine of its own computes.
func TestPanicsAreContained(t *testing.T) {
	for _, c := range []struct{ name, path, body string }{
		{"choices", openai.PathChat, `{"messages":[{"role":"user","content":"x"}],"n":3}`},
		{"prompts", openai.PathCompletions, `{"prompt":["a","b"],"n":2}`},
	} {
		s := openai.New(openai.Options{
			Generator: script.Generator(func(context.Context, generate.Request) ([]uint32, error) { return ids(answer), nil }),
			Encoding:  encoding, Vocabulary: vocabulary, Models: []string{"gpt-oss"}, Context: 4096,
			Done: func(openai.Record) { panic("counting fails") }, // which no generator contains
		})
		if status, v := do(t, s, c.path, c.body); status != 500 || at(v, "error.code") != "internal_error" {
			t.Errorf("%s: %d %v", c.name, status, v)
		}
	}
	// In the background nobody else would catch it.
	s := withTools([]string{search}, openai.Tools{}, func(context.Context, string, string) (string, bool, error) { panic("the tool fails") })
	call, e := s.Parse(openai.PathResponses, []byte(`{"model":"gpt-oss","input":"x","background":true,`+both+`}`), openai.Client{})
	if e != nil {
		t.Fatal(e)
	}
	body, e := call.Answer(t.Context())
	if e != nil {
		t.Fatal(e)
	}
	var v struct{ ID, Status string }
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if err := json.Unmarshal(body, &v); err != nil {
			t.Fatal(err)
		}
		if v.Status == "failed" {
			break
		}
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("%s", body)
		}
		if body, e = s.GetResponse(v.ID, ""); e != nil {
			t.Fatal(e)
		}
	}
}

// Offsets of tokens count characters, as clients index texts, in streams too.
func TestTextOffsets(t *testing.T) {
	const text = "né ☃ 🦴 ab" // of tokens with one and more characters, and with parts of one
	s := service(text)
	var want []int
	for _, tokens := 0, ids(text); len(tokens) > 0; tokens = tokens[1:] {
		before, _ := encoding.Tokenizer().DecodeReplacing(ids(text)[:len(ids(text))-len(tokens)])
		want = append(want, len([]rune(strings.TrimRight(before, "\uFFFD"))))
	}
	status, v := do(t, s, openai.PathCompletions, `{"prompt":"x","logprobs":0,"max_tokens":50}`)
	got := fmt.Sprint(at(v, "choices.0.logprobs.text_offset"))
	if status != 200 || got != fmt.Sprint(want) {
		t.Errorf("%d %v, want %v", status, got, want)
	}
	call, e := s.Parse(openai.PathCompletions, []byte(`{"model":"gpt-oss","prompt":"x","logprobs":0,"max_tokens":50,"stream":true}`), openai.Client{})
	if e != nil {
		t.Fatal(e)
	}
	var streamed []any
	if e := call.Events(t.Context(), func(_ string, data []byte) error {
		var v any
		if json.Unmarshal(data, &v) == nil {
			if list, ok := at(v, "choices.0.logprobs.text_offset").([]any); ok {
				streamed = append(streamed, list...)
			}
		}
		return nil
	}); e != nil {
		t.Fatal(e)
	}
	if fmt.Sprint(streamed) != fmt.Sprint(want) {
		t.Errorf("streamed %v, want %v", streamed, want)
	}
}

// A message without its content is a mistake, not an empty message.
func TestContentIsWanted(t *testing.T) {
	s := service(answer)
	const call = `{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}`
	for _, c := range []struct {
		name, path, body, param string
	}{
		{"a user's message", openai.PathChat, `{"messages":[{"role":"user","contents":"x"}]}`, "messages[0].content"},
		{"null", openai.PathChat, `{"messages":[{"role":"user","content":null}]}`, "messages[0].content"},
		{"a system's message", openai.PathChat, `{"messages":[{"role":"system"},{"role":"user","content":"x"}]}`, "messages[0].content"},
		{"a result", openai.PathChat, `{"messages":[` + call + `,{"role":"tool","tool_call_id":"c"}]}`, "messages[1].content"},
		{"an item", openai.PathResponses, `{"input":[{"role":"user","text":"x"}]}`, "input[0].content"},
		{"an output", openai.PathResponses, `{"input":[{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c"}]}`, "input[1].output"},
	} {
		status, v := do(t, s, c.path, c.body)
		if status != 400 || at(v, "error.param") != c.param || at(v, "error.code") != "missing_required_parameter" {
			t.Errorf("%s: %d %v", c.name, status, v)
		}
	}
	for _, body := range []string{
		`{"messages":[{"role":"user","content":""}]}`,
		`{"messages":[` + call + `,{"role":"tool","tool_call_id":"c","content":""}]}`,
		`{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":null,"reasoning":"y"},{"role":"user","content":[]}]}`,
	} {
		if status, v := do(t, s, openai.PathChat, body); status != 200 {
			t.Errorf("%s: %d %v", body, status, v)
		}
	}
}

// What one owner's prompts had computed is not used for another's: cached_tokens
// would tell how much of a guessed prompt somebody asked.
func TestOwnersShareNothing(t *testing.T) {
	var shares []string
	s := serviceOf(script.Generator(func(_ context.Context, r generate.Request) ([]uint32, error) {
		shares = append(shares, r.Share+"/"+r.Owner)
		return ids(answer), nil
	}))
	for _, path := range [][2]string{
		{openai.PathChat, `{"model":"gpt-oss","messages":[{"role":"user","content":"x"}]}`},
		{openai.PathResponses, `{"model":"gpt-oss","input":"x"}`}, {openai.PathCompletions, `{"model":"gpt-oss","prompt":"x"}`},
	} {
		if status, body := s.Do(t.Context(), path[0], []byte(path[1]), openai.Client{Turn: "turn", Owner: "owner"}); status != 200 {
			t.Errorf("%d %s", status, body)
		}
	}
	if got := strings.Join(shares, " "); got != "owner/turn owner/turn owner/turn" {
		t.Errorf("asked as %s", got)
	}
}

// A schema that no text is valid by is refused; it is not taken for none.
func TestImpossibleSchema(t *testing.T) {
	s := serviceOf(sampled)
	const schema = `{"type":"array","minItems":1,"items":{"type":"string","pattern":"^\\x01$"}}`
	for _, c := range []struct{ path, body, param string }{
		{openai.PathChat, `{"messages":[{"role":"user","content":"x"}],"max_tokens":5,"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":` + schema + `}}}`, "response_format"},
		{openai.PathResponses, `{"input":"x","max_output_tokens":5,"text":{"format":{"type":"json_schema","name":"n","schema":` + schema + `}}}`, "text.format"},
		{openai.PathChat, `{"messages":[{"role":"user","content":"x"}],"max_tokens":5,"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":` + schema + `}}]}`, "tools[0]"},
	} {
		status, v := do(t, s, c.path, c.body)
		if status != 400 || at(v, "error.code") != "invalid_json_schema" || at(v, "error.param") != c.param {
			t.Errorf("%s: %d %v", c.path, status, v)
		}
	}
}
