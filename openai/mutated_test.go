package openai_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ossify/generate"
	"ossify/generate/script"
	"ossify/harmony"
	"ossify/openai"
	"ossify/tokenizer"
)

var mutations = flag.Int("mutations", 1000, "malformed outputs of a model that are answered")

// fewer is a tenth of n for the race detector (-short), which sees goroutines, and
// those are alike whatever is said.
func fewer(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// outputs are well formed, or are known from models.
var outputs = []string{
	"<|channel|>analysis<|message|>We need to think. 日本語 😀 done.<|end|><|start|>assistant<|channel|>final<|message|>The answer is **4**.\n\nÄ<|return|>",
	"<|channel|>analysis<|message|>Call it.<|end|><|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"city\": \"Köln\"}<|call|>",
	"<|channel|>commentary<|message|>I will look.<|end|><|start|>assistant to=functions.weather<|channel|>commentary json<|message|>{}<|call|>",
	"<|channel|>commentary to=browser.search code<|message|>{\"query\":\"x\"}<|call|>",
	"<|channel|>final<|message|>one<|end|><|start|>user<|message|>two<|end|><|start|>functions.weather to=assistant<|channel|>commentary<|message|>three<|end|><|start|>assistant<|channel|>final<|message|>four<|return|>",
	" to=functions.weather<|channel|>analysis<|message|>{\"a\":[1,2,{}]}<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>{\"b\":1}<|return|>",
	"plain text without any header and then <|channel|>commentary?!<|message|>more<|endoftext|>",
}

// mutated returns a malformed output.
func mutated(r *rand.Rand) []uint32 {
	out := slices.Clone(ids(outputs[r.IntN(len(outputs))]))
	if r.IntN(4) == 0 {
		out = append(out, ids(outputs[r.IntN(len(outputs))])...)
	}
	specials := []uint32{tokenizer.Return, tokenizer.Constrain, tokenizer.Channel, tokenizer.Start, tokenizer.End, tokenizer.Message, tokenizer.Call, tokenizer.EndOfText, tokenizer.StartOfText, 200018, 201087}
	words := ids("analysis commentary final assistant user to= functions. weather json code <| |> {} \n  \xf0\x9f\x98 é assistantanalysis")
	for range r.IntN(6) {
		at := r.IntN(len(out) + 1)
		switch r.IntN(7) {
		case 0:
			out = slices.Insert(out, at, specials[r.IntN(len(specials))])
		case 1:
			out = slices.Insert(out, at, words[r.IntN(len(words))])
		case 2:
			out = slices.Insert(out, at, uint32(r.IntN(tokenizer.VocabSize)))
		case 3:
			out = out[:at]
		case 4:
			if at < len(out) {
				out = slices.Delete(out, at, min(at+1+r.IntN(4), len(out)))
			}
		case 5:
			if at < len(out) {
				out[at] = specials[r.IntN(len(specials))]
			}
		case 6:
			if to := r.IntN(len(out) + 1); at < to {
				out = slices.Insert(out, at, slices.Clone(out[at:to])...)
			}
		}
	}
	return out
}

// Whatever a model writes, every byte of it is told, where it belongs, and every
// token is counted; streams say the same as whole answers.
func TestMutatedOutputs(t *testing.T) {
	var out []uint32
	s := serviceOf(script.Generator(func(context.Context, generate.Request) ([]uint32, error) { return out, nil }))
	for seed := range uint64(fewer(*mutations)) {
		r := rand.New(rand.NewPCG(seed, 11))
		out = mutated(r)
		tools, limit := r.IntN(3) > 0, r.IntN(4) == 0
		more := ""
		if tools {
			more = "," + weather
		}
		// What should come of it, by harmony's own account.
		said := out
		if i := slices.IndexFunc(said, func(id uint32) bool {
			return id == tokenizer.Return || id == tokenizer.Call || id == tokenizer.EndOfText
		}); i >= 0 {
			said = said[:i+1]
		}
		if limit {
			n := 1 + r.IntN(30)
			more += fmt.Sprintf(`,"max_completion_tokens":%d`, n)
			said = said[:min(n, len(said))]
		}
		o := harmony.RecoveryOptions{}
		if tools {
			o.Tools = []string{"functions.weather"}
		}
		var texts, thoughts, calls []string
		reasoning := 0
		for _, m := range encoding.Recover(said, o) {
			to, addressed := m.Recipient.Get()
			addressed = addressed && to != "all"
			switch text := m.Text(); {
			case m.Role == harmony.Assistant && to == "functions.weather" && tools:
				calls = append(calls, text)
			case m.Role == harmony.Assistant && !addressed && !m.Channel.Is(harmony.Analysis):
				texts = append(texts, text)
			default:
				thoughts = append(thoughts, text)
				reasoning += len(m.Tokens)
			}
		}
		full := func(list []string) string {
			return strings.Join(slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" }), "\n\n")
		}
		fail := func(form string, got, want any) {
			t.Helper()
			text, _ := encoding.Tokenizer().DecodeReplacing(out)
			t.Fatalf("seed %d, %s: %q: %q, want %q", seed, form, text, got, want)
		}

		body := `{"messages":[{"role":"user","content":"Hi"}]` + more + `}`
		status, v := do(t, s, openai.PathChat, body)
		if status != 200 {
			fail("chat", v, 200)
		}
		whole := []any{at(v, "choices.0.message.content"), at(v, "choices.0.message.reasoning"), at(v, "usage.completion_tokens"), at(v, "usage.completion_tokens_details.reasoning_tokens"), at(v, "choices.0.finish_reason")}
		text, _ := whole[0].(string)
		thought, _ := whole[1].(string)
		var args []string
		list, _ := at(v, "choices.0.message.tool_calls").([]any)
		for _, c := range list {
			args = append(args, at(c, "function.arguments").(string))
		}
		if text != full(texts) || thought != full(thoughts) || !slices.Equal(args, calls) || whole[2] != float64(len(said)) || whole[3] != float64(reasoning) {
			fail("chat", []any{whole, args}, []any{texts, thoughts, calls, len(said), reasoning})
		}
		if seed%4 != 0 {
			continue // the rest of each form, of a quarter
		}
		chatStream(t, s, body, fail, text, thought, args, whole[4].(string))
		responseStream(t, s, strings.Replace(more, "max_completion_tokens", "max_output_tokens", 1), fail, texts, thoughts, calls, len(said), reasoning)
	}
}

func events(t *testing.T, s *openai.Service, path, body string) (names []string, data []map[string]any, raw []string) {
	t.Helper()
	call, e := s.Parse(path, []byte(body), openai.Client{})
	if e != nil {
		t.Fatal(e)
	}
	if e := call.Events(t.Context(), func(name string, b []byte) error {
		var v map[string]any
		json.Unmarshal(b, &v)
		names, data, raw = append(names, name), append(data, v), append(raw, string(b))
		return nil
	}); e != nil {
		t.Fatal(e)
	}
	return names, data, raw
}

func chatStream(t *testing.T, s *openai.Service, body string, fail func(string, any, any), text, thought string, args []string, finish string) {
	t.Helper()
	_, data, raw := events(t, s, openai.PathChat, `{"model":"gpt-oss","stream":true,`+body[1:])
	var gotText, gotThought, gotFinish string
	var gotArgs []string
	for _, v := range data[:len(data)-1] {
		c, _ := at(v, "choices.0.delta.content").(string)
		th, _ := at(v, "choices.0.delta.reasoning").(string)
		gotText += c
		gotThought += th
		if list, ok := at(v, "choices.0.delta.tool_calls").([]any); ok {
			i := int(at(list[0], "index").(float64))
			if i == len(gotArgs) {
				gotArgs = append(gotArgs, "")
			}
			gotArgs[i] += at(list[0], "function.arguments").(string)
		}
		if f, ok := at(v, "choices.0.finish_reason").(string); ok {
			gotFinish += f
		}
	}
	if gotText != text || gotThought != thought || !slices.Equal(gotArgs, args) || gotFinish != finish || raw[len(raw)-1] != "[DONE]" || at(data[0], "choices.0.delta.role") != "assistant" {
		fail("chat stream", []any{gotText, gotThought, gotArgs, gotFinish}, []any{text, thought, args, finish})
	}
}

func responseStream(t *testing.T, s *openai.Service, more string, fail func(string, any, any), texts, thoughts, calls []string, tokens, reasoning int) {
	t.Helper()
	more = strings.Replace(more, weather, `"tools":[{"type":"function","name":"weather","parameters":{}}]`, 1)
	names, data, _ := events(t, s, openai.PathResponses, `{"model":"gpt-oss","stream":true,"input":"Hi"`+more+`}`)
	deltas := map[int]string{}
	for i, v := range data {
		if at(v, "sequence_number") != float64(i) || v["type"] != names[i] {
			fail("response stream", v, i)
		}
		if d, ok := v["delta"].(string); ok {
			deltas[int(v["output_index"].(float64))] += d
		}
	}
	last := data[len(data)-1]
	var got [3][]string
	output, _ := at(last, "response.output").([]any)
	for i, item := range output {
		kind, path := 0, "content.0.text"
		switch at(item, "type") {
		case "reasoning":
			kind = 1
		case "function_call":
			kind, path = 2, "arguments"
		}
		text, _ := at(item, path).(string)
		got[kind] = append(got[kind], text)
		if deltas[i] != text {
			fail("response stream", deltas[i], text)
		}
		if st := at(item, "status"); st != "completed" && st != "incomplete" {
			fail("response stream", item, "a status")
		}
	}
	for kind, want := range [][]string{texts, thoughts, calls} {
		if kind < 2 {
			want = slices.DeleteFunc(slices.Clone(want), func(s string) bool { return s == "" })
		}
		if !slices.Equal(got[kind], want) {
			fail("response stream", got[kind], want)
		}
	}
	if at(last, "response.usage.output_tokens") != float64(tokens) || at(last, "response.usage.output_tokens_details.reasoning_tokens") != float64(reasoning) {
		fail("response stream", at(last, "response.usage"), []int{tokens, reasoning})
	}
	if st := at(last, "response.status"); names[len(names)-1] != "response."+fmt.Sprint(st) {
		fail("response stream", names, st)
	}
}
