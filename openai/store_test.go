package openai_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"ossify/generate"
	"ossify/generate/script"
	"ossify/openai"
)

// Whatever a client makes long in a response counts: the store keeps no more
// than it may.
func TestStoreIsBounded(t *testing.T) {
	long := strings.Repeat(" ", 50_000) // 128 a token
	words := strings.Repeat("word ", 125)
	for _, c := range []struct{ name, body string }{
		{"input", `"input":"` + long + `"`},
		{"instructions", `"input":"x","instructions":"` + long + `"`},
		{"user", `"input":"x","user":"` + long + `"`},
		{"an item's id", `"input":[{"role":"user","content":"x","id":"` + long + `"}]`},
		{"a call's id", `"input":[{"type":"function_call","call_id":"` + long + `","name":"f","arguments":"{}"}]`},
		{"a call's arguments", `"input":[{"type":"function_call","call_id":"1","name":"f","arguments":"` + long + `"}]`},
		{"a tool's description", `"input":"x","tools":[{"type":"function","name":"f","description":"` + long + `"}]`},
		{"a tool's parameters", `"input":"x","tools":[{"type":"function","name":"f","parameters":{"type":"object","description":"` + long + `"}}]`},
		{"a schema", `"input":"x","text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object","description":"` + long + `"}}}`},
		{"a schema's description", `"input":"x","text":{"format":{"type":"json_schema","name":"n","description":"` + long + `","schema":{"type":"object"}}}`},
		{"log probabilities", `"input":"x","top_logprobs":20`},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := 0
			store := openai.NewStore(1000, 1<<18)
			s := openai.New(openai.Options{
				Generator: script.Generator(func(context.Context, generate.Request) ([]uint32, error) {
					return ids("<|channel|>final<|message|>" + words + "<|return|>"), nil
				}),
				Encoding: encoding, Vocabulary: vocabulary, Models: []string{"gpt-oss"}, Context: 4096, Store: store,
				ID: func(prefix string) string { n++; return fmt.Sprint(prefix, n) },
			})
			for range 12 {
				if status, v := do(t, s, openai.PathResponses, `{`+c.body+`}`); status != 200 {
					t.Fatalf("%d %v", status, v)
				}
			}
			if n := store.Len(); n < 1 || n > 8 {
				t.Errorf("%d responses of 50 kB are kept in 256 KiB", n)
			}
		})
	}
}

// References to stored items are found in one pass, however many there are.
func TestItemReferences(t *testing.T) {
	s := service("<|channel|>final<|message|>Four.<|return|>")
	status, v := do(t, s, openai.PathResponses, `{"input":[{"role":"user","content":"2+2?","id":"msg_in"}]}`)
	if status != 200 {
		t.Fatal(v)
	}
	out := at(v, "output.0.id").(string)
	status, v = do(t, s, openai.PathResponses, `{"input":[{"type":"item_reference","id":"msg_in"},{"type":"item_reference","id":"`+out+`"},{"role":"user","content":"And 3+3?"}]}`)
	if status != 200 {
		t.Fatal(v)
	}
	page, e := s.InputItems(v["id"].(string), "", "", "asc", 20)
	if e != nil || strings.Index(string(page), "2+2?") > strings.Index(string(page), "Four.") || !strings.Contains(string(page), "And 3+3?") {
		t.Errorf("%v %s", e, page)
	}
	for _, id := range []string{`"none"`, `""`, `5`, `null`} {
		if status, v := do(t, s, openai.PathResponses, `{"input":[{"type":"item_reference","id":`+id+`}]}`); status != 404 && status != 400 {
			t.Errorf("%s: %d %v", id, status, v)
		}
	}
	big := `{"input":[` + strings.Repeat(`{"type":"item_reference","id":"msg_in"},`, 50_000) + `{"type":"item_reference","id":"none"}]}`
	if status, v := do(t, s, openai.PathResponses, big); status != 404 {
		t.Errorf("%d %v", status, v)
	}
}
