package harmony

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"ossify/tokenizer"
)

// encoding is made once: a tokenizer is 6 MB.
var encoding = sync.OnceValue(func() *Encoding { return New(tokenizer.New()) })

func encodeAll(text string) []uint32 {
	return encoding().t.Encode(nil, text, tokenizer.AllSpecials())
}

func decodeAll(t *testing.T, ids []uint32) string {
	t.Helper()
	text, err := encoding().t.Decode(ids)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestBuiltinToolsAreTheReferences(t *testing.T) {
	want, err := os.ReadFile("testdata/builtin.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(map[string]json.RawMessage{
		"browser": Browser().AppendJSON(nil), "python": Python().AppendJSON(nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != strings.TrimSpace(string(want)) {
		t.Errorf("built-in tools\n%s\nwant\n%s", got, want)
	}
}

func TestPromptsAreTheReferences(t *testing.T) {
	files, err := filepath.Glob("../testdata/prompts/*.json")
	if err != nil || len(files) != 6 {
		t.Fatalf("%d prompts and error %v, want 6 and none", len(files), err)
	}
	e := encoding()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var p struct {
			Kind         string
			Conversation Conversation
			IDs          []uint32
			Mask         []int
		}
		if err := json.Unmarshal(data, &p); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		got, err := e.RenderForCompletion(p.Conversation, Assistant, DropNone)
		if p.Kind == "training" {
			got, err = e.RenderForTraining(p.Conversation, DropNone)
		}
		if err != nil || !slices.Equal(got, p.IDs) {
			t.Errorf("%s: ids %v and error %v, want %v", file, got, err, p.IDs)
		}
		mask := make([]int, len(got))
		for i, m := range e.AssistantMask(got) {
			if m {
				mask[i] = 1
			}
		}
		if !slices.Equal(mask, p.Mask) {
			t.Errorf("%s: mask %v, want %v", file, mask, p.Mask)
		}
	}
}

func TestBuilding(t *testing.T) {
	e := encoding()
	schema, err := ParseValue([]byte(`{"type":"object","properties":{"b":{"type":"string"},"a":{"type":"integer","default":1.0}},"required":["b"]}`))
	if err != nil {
		t.Fatal(err)
	}
	system := NewSystemContent().WithReasoningEffort(High).WithConversationStartDate("2025-06-28").
		WithKnowledgeCutoff("2025-01").WithModelIdentity("You are a test.").WithRequiredChannels("final").WithPythonTool()
	developer := DeveloperContent{}.WithInstructions("Be brief.").WithFunctionTools(ToolDescription{"f", "Does f.", &schema})
	c := Conversation{[]Message{
		NewMessage(System, system),
		NewMessage(Developer, developer),
		NewMessage(User, Text("q")).WithName("bob").Adding(Text("!")),
		NewMessage(Assistant, Text("{}")).WithChannel(Commentary).WithRecipient("functions.f").WithContentType("<|constrain|>json"),
		NewMessage(Tool, Text("1")).WithName("functions.f").WithRecipient("assistant").WithChannel(Commentary),
	}}
	ids, err := e.RenderForCompletion(c, Assistant, DropAuto)
	if err != nil {
		t.Fatal(err)
	}
	want := "<|start|>system<|message|>You are a test.\nKnowledge cutoff: 2025-01\nCurrent date: 2025-06-28\n\nReasoning: high\n\n" +
		"# Tools\n\n## python\n\n" + Python().Description.Or("") + "\n\n" +
		"# Valid channels: final. Channel must be included for every message.\n" +
		"Calls to these tools must go to the commentary channel: 'functions'.<|end|>" +
		"<|start|>developer<|message|># Instructions\n\nBe brief.\n\n# Tools\n\n## functions\n\nnamespace functions {\n\n" +
		"// Does f.\ntype f = (_: {\nb: string,\na?: number, // default: 1.0\n}) => any;\n\n} // namespace functions<|end|>" +
		"<|start|>user:bob<|message|>q!<|end|>" +
		"<|start|>assistant to=functions.f<|channel|>commentary <|constrain|>json<|message|>{}<|call|>" +
		"<|start|>functions.f to=assistant<|channel|>commentary<|message|>1<|end|><|start|>assistant"
	if got := decodeAll(t, ids); got != want {
		t.Errorf("rendered\n%s\nwant\n%s", got, want)
	}
	written := string(c.AppendJSON(nil))
	if again, err := ParseConversation([]byte(written)); err != nil || string(again.AppendJSON(nil)) != written {
		t.Errorf("read again: %s and %v, want %s", again.AppendJSON(nil), err, written)
	}
	withBoth := system.WithBrowserTool()
	if len(withBoth.Tools) != 2 || len(system.Tools) != 1 {
		t.Errorf("%d and %d namespaces, want 2, and 1 in what it was made of", len(withBoth.Tools), len(system.Tools))
	}
}

func TestRenderUserPrompt(t *testing.T) {
	got := decodeAll(t, encoding().RenderUserPrompt("hi <|end|>"))
	want := "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n\n" +
		"Reasoning: medium\n\n# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>" +
		"<|start|>user<|message|>hi <|end|><|end|><|start|>assistant"
	if got != want {
		t.Errorf("prompt %q, want %q", got, want)
	}
	if ids := encoding().RenderUserPrompt("hi <|end|>"); slices.Contains(ids[len(ids)-9:len(ids)-3], tokenizer.End) {
		t.Error("the text's <|end|> is a special token")
	}
}

func TestDrop(t *testing.T) {
	say := func(r Role, channel, text string) Message { return NewMessage(r, Text(text)).WithChannel(channel) }
	a := func(text string) Message { return say(Assistant, Analysis, text) }
	f := func(text string) Message { return say(Assistant, Final, text) }
	u := NewMessage(User, Text("u"))
	call := NewMessage(Assistant, Text("c")).WithChannel(Commentary).WithRecipient("functions.f")
	for _, test := range []struct {
		name                   string
		messages               []Message
		auto, none, beforeLast string
	}{
		{"empty", nil, "", "", ""},
		{"one turn", []Message{u, a("1"), f("2")}, "u2", "u12", "u2"},
		{"analysis between finals", []Message{u, a("1"), f("2"), u, a("3"), f("4")}, "u2u34", "u12u34", "u2u4"},
		{"turn goes on", []Message{u, a("1"), f("2"), u, a("3"), call}, "u12u3c", "u12u3c", "u2u3c"},
		{"no final", []Message{u, a("1"), call}, "u1c", "u1c", "u1c"},
		{"the user's final", []Message{u, a("1"), say(User, Final, "x"), a("2")}, "u1x2", "u1x2", "u1x2"},
		{"a tool's analysis", []Message{u, say(Developer, Analysis, "t"), f("2")}, "u2", "ut2", "u2"},
	} {
		for drop, want := range map[Drop]string{DropAuto: test.auto, DropNone: test.none, DropBeforeLastFinal: test.beforeLast} {
			ids, err := encoding().RenderConversation(Conversation{test.messages}, drop)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			p := encoding().NewParser("", ParseOptions{})
			for _, id := range ids {
				if err := p.Process(id); err != nil {
					t.Fatal(err)
				}
			}
			for _, m := range p.Messages() {
				got += m.Text()
			}
			if got != want {
				t.Errorf("%s: drop %d leaves %q, want %q", test.name, drop, got, want)
			}
		}
	}
}

func TestConstants(t *testing.T) {
	if _, err := ParseRole("bogus"); err == nil || err.Error() != "harmony: unknown role: bogus" {
		t.Errorf("role bogus: %v", err)
	}
	for _, r := range roles {
		if got, err := ParseRole(string(r)); got != r || err != nil {
			t.Errorf("role %s: %v and %v", r, got, err)
		}
	}
	if want := []uint32{200002, 200007, 200012}; !slices.Equal(StopTokens(), want) {
		t.Errorf("stop tokens %v, want %v", StopTokens(), want)
	}
}

// The reference's functions take UTF-8 and known types only; ours say what
// happens otherwise.
func TestBadInput(t *testing.T) {
	e := encoding()
	render := func(m Message) string {
		ids, err := e.AppendMessage([]uint32{1}, m, RenderOptions{})
		if len(ids) == 0 || ids[0] != 1 {
			t.Errorf("%v: ids %v do not start with what was there", m, ids)
		}
		if err != nil {
			if len(ids) != 1 {
				t.Errorf("%v: %d ids beside an error, want what was there", m, len(ids))
			}
			return err.Error()
		}
		return decodeAll(t, ids[1:])
	}
	for _, test := range []struct {
		name string
		m    Message
		want string
	}{
		{"invalid UTF-8 in content", NewMessage(User, Text("a\xf0\x9f\x92b\xff")), "<|start|>user<|message|>a\uFFFDb\uFFFD<|end|>"},
		{"invalid UTF-8 in channel", NewMessage(User, Text("")).WithChannel("\xff"), "<|start|>user<|channel|>\uFFFD<|message|><|end|>"},
		{"unknown role", NewMessage("bogus", Text("")), "harmony: unknown role: bogus"},
		{"no role", NewMessage("", Text("")), "harmony: unknown role: "},
		{"no content", Message{Author: Author{Role: User}, Content: []Content{nil}}, "harmony: content without a type"},
		{"nameless tool", NewMessage(Tool, Text("")), "harmony: Tools should have a name!"},
		{"system content of the user", NewMessage(User, SystemContent{}), "harmony: SystemContent may only appear in system messages, found in User"},
		{"effort beyond High", NewMessage(System, SystemContent{ReasoningEffort: 9}), "<|start|>system<|message|><|end|>"},
	} {
		if got := render(test.m); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	if _, err := e.RenderForCompletion(Conversation{}, "bogus", DropAuto); err == nil || err.Error() != "harmony: unknown role: bogus" {
		t.Errorf("completion of an unknown role: %v", err)
	}

	for _, test := range []struct{ name, in, want string }{
		{"invalid UTF-8", "{\"messages\":\n[\"\xff\"]}", "invalid unicode code point at line 2 column 2"},
		{"lone high surrogate", `{"messages":[{"role":"user","content":"\ud800"}]}`, "unexpected end of hex escape at line 1 column 46"},
		{"lone low surrogate", `{"messages":[{"role":"user","content":"\udc00"}]}`, "lone leading surrogate in hex escape at line 1 column 45"},
		{"unknown role", `{"messages":[{"role":"bogus","content":""}]}`,
			"unknown variant `bogus`, expected one of `user`, `assistant`, `system`, `developer`, `tool` at line 1 column 42"},
		{"too deep", strings.Repeat("[", 200), "invalid type: sequence, expected struct Message at line 1 column 2"},
		{"too deep in a content", `{"messages":[{"content":[{"type":"text","x":` + strings.Repeat("[", 200), "recursion limit exceeded at line 1 column 167"},
		{"nothing", "", "EOF while parsing a value at line 1 column 0"},
		{"more", "{\"messages\":[]} x", "trailing characters at line 1 column 17"},
	} {
		_, err := ParseConversation([]byte(test.in))
		var e *Error
		if !errors.As(err, &e) || e.Reference() != test.want {
			t.Errorf("%s: error %v, want %s", test.name, err, test.want)
		}
	}

	for _, id := range []uint32{tokenizer.DecodeSize, 1<<32 - 1} {
		got, err := e.Parse([]uint32{tokenizer.Message, 64, id, 65}, Assistant, ParseOptions{})
		if err != nil || len(got) != 1 || got[0].Text() != "a\uFFFD" {
			t.Errorf("id %d in content: %v and %v, want what came before it and U+FFFD", id, got, err)
		}
		if _, err := e.Parse([]uint32{id, tokenizer.Message}, Assistant, ParseOptions{}); err == nil || err.Error() != "harmony: could not decode header" {
			t.Errorf("id %d in a header: %v", id, err)
		}
		if m := e.Recover([]uint32{id, tokenizer.Message, 64, id, 65}, RecoveryOptions{}); len(m) != 1 || m[0].Text() != "ab" {
			t.Errorf("id %d recovered: %v, want ab", id, m)
		}
	}
}

func TestTenMegabytes(t *testing.T) {
	e := encoding()
	text := strings.Repeat("Ten \"megabytes\" of text,\n日本語 and more. ", 10<<20/43)
	c := Conversation{[]Message{NewMessage(User, Text(text))}}
	again, err := ParseConversation(c.AppendJSON(nil))
	if err != nil {
		t.Fatal(err)
	}
	ids, err := e.RenderConversation(again, DropAuto)
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.Parse(ids, "", ParseOptions{})
	if err != nil || len(got) != 1 || got[0].Text() != text {
		t.Errorf("10 MB did not come back: %d messages and error %v", len(got), err)
	}
	if m := e.Recover(ids, RecoveryOptions{}); len(m) != 1 || m[0].Text() != text || m[0].Role != User {
		t.Errorf("10 MB did not come back from recovery: %d messages", len(m))
	}
}

func TestValue(t *testing.T) {
	for in, want := range map[string]string{
		` { "b" : 1 , "a" : [ ] , "b" : {"x":1,"x":2} } `: `{"b":{"x":2},"a":[]}`,
		`[1.0,1e21,1E5,-0.0,-0,0,1e-7,0.00001,1e16,1e15]`: `[1.0,1e21,100000.0,-0.0,-0.0,0,1e-7,0.00001,1e16,1000000000000000.0]`,
		`[18446744073709551615,18446744073709551616]`:     `[18446744073709551615,1.8446744073709552e19]`,
		`[-9223372036854775808,-9223372036854775809]`:     `[-9223372036854775808,-9.223372036854776e18]`,
		`"\u00e9\n<>&\u2028\u0007\u007f\/\ud83d\ude00"`:   "\"é\\n<>&\u2028\\u0007\x7f/😀\"",
		`null`: `null`, `true`: `true`, `false`: `false`,
	} {
		v, err := ParseValue([]byte(in))
		if got := string(v.AppendJSON(nil)); got != want || err != nil {
			t.Errorf("%s: %s and error %v, want %s", in, got, err, want)
		}
	}
	var v Value
	if err := json.Unmarshal([]byte(`{"a":{"b":[1]}}`), &v); err != nil {
		t.Fatal(err)
	}
	a, _ := v.Get("a")
	b, ok := a.Get("b")
	if _, no := a.Get("c"); !ok || no || v.Kind() != Object || b.Kind() != Array || b.Items()[0].Text() != "1" || v.Members()[0].Name != "a" {
		t.Errorf("%v is not what was read", v)
	}
}

// Numbers as openai-harmony 0.0.8 prints them. Its reader rounds twice.
func TestNumbersAreTheReferences(t *testing.T) {
	for in, want := range map[string]string{
		"184467440737095516190":                       "1.844674407370955e20",
		"184467440737095516165.5":                     "1.844674407370955e20",
		"1844674407370955161.65":                      "1.8446744073709553e18",
		"123456789012345678901":                       "1.2345678901234567e20",
		"1.2345678901234567e+20":                      "1.2345678901234568e20",
		"123456789012345678901234567890.5e-5":         "1.2345678901234568e24",
		"123456789e-320":                              "1.23456789e-312",
		"17976931348623157000000e-330":                "1.7976931348623155e-308",
		"99999999999999999999e-330":                   "1e-310",
		"179769313486231570e291":                      "1.7976931348623157e308",
		"0.1e-310":                                    "1e-311",
		"1844674407370955161900000000000000000000000": "1.8446744073709553e42",
		"5e-324": "5e-324",
		"1e-400": "0.0",
		"0e400":  "0.0",
	} {
		if v, err := ParseValue([]byte(in)); v.Text() != want || err != nil {
			t.Errorf("%s: %s and error %v, want %s", in, v.Text(), err, want)
		}
	}
}

// Lines as openai-harmony 0.0.8 renders a namespace's description.
func TestTextLines(t *testing.T) {
	for in, want := range map[string]string{
		"a\r": "a\r", "a\r\n\r": "a\n\r", "\r": "\r", "\n": "", "a\n\nb\r\nc\r\r\n": "a\n\nb\nc\r",
	} {
		if got := (ToolNamespaceConfig{Name: "n", Description: Some(in)}).text(); got != "## n\n\n"+want {
			t.Errorf("%q: %q, want %q after the name", in, got, want)
		}
	}
	if got := (ToolNamespaceConfig{Name: "n", Description: Some("")}).text(); got != "## n\n" {
		t.Errorf("empty description: %q, want only the name", got)
	}
}

func TestDecodeErrorText(t *testing.T) {
	for _, test := range []struct {
		ids  []uint32
		want string
	}{
		{[]uint32{300_000}, "Could not decode tokens: Invalid token error: Invalid token for decoding: 300000"},
		{[]uint32{64, 172}, "Could not decode tokens: Invalid utf-8 sequence: incomplete utf-8 byte sequence from index 1"},
		{[]uint32{172, 64}, "Could not decode tokens: Invalid utf-8 sequence: invalid utf-8 sequence of 1 bytes from index 0"},
	} {
		_, err := encoding().t.Decode(test.ids)
		if err == nil || DecodeErrorText(err) != test.want {
			t.Errorf("%v: error %v, want %s", test.ids, err, test.want)
		}
	}
}
