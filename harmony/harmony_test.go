package harmony

import (
	"slices"
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

func TestBuilding(t *testing.T) {
	e := encoding()
	schema := parameters("b", parameter("b", "", "string"), parameter("a", "1.0", "integer"))
	system := NewSystemContent().WithReasoningEffort(High).WithConversationStartDate("2025-06-28").
		WithKnowledgeCutoff("2025-01").WithModelIdentity("You are a test.").WithRequiredChannels("final").WithPythonTool()
	developer := DeveloperContent{}.WithInstructions("Be brief.").WithFunctionTools(ToolDescription{"f", "Does f.", schema})
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
	for _, r := range Roles() {
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
