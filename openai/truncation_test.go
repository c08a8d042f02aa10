package openai_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"ossify/generate"
	"ossify/generate/script"
	"ossify/openai"
)

// Of a conversation that is too long, truncation auto drops the oldest turns,
// as few as need be, and disabled is an error.
func TestTruncation(t *testing.T) {
	prompt, n := "", 0
	s := serviceOf(script.Generator(func(_ context.Context, r generate.Request) ([]uint32, error) {
		prompt, _ = encoding.Tokenizer().DecodeReplacing(r.Prompt)
		n = len(r.Prompt)
		return ids(answer), nil
	}))
	const limit = 4096
	// turn is some 500 tokens: a question, a call, its result, an answer.
	turn := func(i int) string {
		return fmt.Sprintf(`{"role":"user","content":"question %d"},{"role":"user","content":"more of it"},{"type":"function_call","call_id":"c%d","name":"f","arguments":"{}"},`+
			`{"type":"function_call_output","call_id":"c%d","output":%q},{"role":"assistant","content":"answer %d"},`, i, i, i, strings.Repeat("word ", 450), i)
	}
	all := func(turns int, last string) string {
		var b strings.Builder
		for i := range turns {
			b.WriteString(turn(i))
		}
		return `"instructions":"Be kind.","input":[` + b.String() + fmt.Sprintf(`{"role":"user","content":%q}]`, last)
	}
	for _, c := range []struct {
		name, body string
		status     int
		param      string
		kept       string // numbers of the questions in the prompt
		least      int    // tokens that are left
	}{
		{"all fit", `{` + all(3, "last") + `,"truncation":"auto"}`, 200, "", "0 1 2", 1},
		{"too long", `{` + all(20, "last") + `,"truncation":"auto"}`, 200, "", "13 14 15 16 17 18 19", limit / 8},
		{"room for the answer", `{` + all(20, "last") + `,"truncation":"auto","max_output_tokens":2000}`, 200, "", "16 17 18 19", 2000},
		{"room for more than half", `{` + all(20, "last") + `,"truncation":"auto","max_output_tokens":4000}`, 200, "", "17 18 19", limit / 2},
		{"nothing but the last", `{` + all(5, strings.Repeat("word ", 3900)) + `,"truncation":"auto"}`, 200, "", "", 1},
		{"the last is too long", `{` + all(5, strings.Repeat("word ", 5000)) + `,"truncation":"auto"}`, 400, "input", "", 0},
		{"one text that is too long", `{"input":"` + strings.Repeat("word ", 5000) + `","truncation":"auto"}`, 400, "input", "", 0},
		{"disabled", `{` + all(20, "last") + `,"truncation":"disabled"}`, 400, "input", "", 0},
		{"not said", `{` + all(20, "last") + `}`, 400, "input", "", 0},
		{"another word", `{"input":"x","truncation":"none"}`, 400, "truncation", "", 0},
	} {
		prompt, n = "", 0
		status, v := do(t, s, openai.PathResponses, c.body)
		if status != c.status || c.param != "" && at(v, "error.param") != c.param {
			t.Errorf("%s: %d %.300v, want %d %s", c.name, status, v, c.status, c.param)
			continue
		}
		if status != 200 {
			if c.param == "input" && at(v, "error.code") != "context_length_exceeded" {
				t.Errorf("%s: %v", c.name, v)
			}
			continue
		}
		var kept []string
		for _, m := range regexp.MustCompile(`question (\d+)`).FindAllStringSubmatch(prompt, -1) {
			kept = append(kept, m[1])
		}
		if got := strings.Join(kept, " "); got != c.kept {
			t.Errorf("%s: kept %s, want %s", c.name, got, c.kept)
		}
		if !strings.Contains(prompt, "Be kind.") || n > limit-c.least {
			t.Errorf("%s: %d tokens, want %d left of %d, and the instructions", c.name, n, c.least, limit)
		}
		if strings.Contains(c.body, "question 19") && n+550 < limit-c.least {
			t.Errorf("%s: %d tokens, another turn would have had room", c.name, n)
		}
		if calls, results := strings.Count(prompt, "<|call|>"), strings.Count(prompt, "<|start|>functions.f"); calls != results || calls != len(kept) {
			t.Errorf("%s: %d calls, %d results of %d turns", c.name, calls, results, len(kept))
		}
		if want := "disabled"; strings.Contains(c.body, `"auto"`) && at(v, "truncation") == want {
			t.Errorf("%s: truncation is %v", c.name, at(v, "truncation"))
		}
	}
}
