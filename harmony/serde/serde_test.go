package serde

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"ossify/harmony"
	"ossify/tokenizer"
)

// encoding is made once: a tokenizer is 6 MB.
var encoding = sync.OnceValue(func() *harmony.Encoding { return harmony.New(tokenizer.New()) })

func TestBuiltinToolsAreTheReferences(t *testing.T) {
	want, err := os.ReadFile("../testdata/builtin.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(map[string]json.RawMessage{
		"browser": AppendTools(nil, harmony.Browser()), "python": AppendTools(nil, harmony.Python()),
	})
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != strings.TrimSpace(string(want)) {
		t.Errorf("built-in tools\n%s\nwant\n%s", got, want)
	}
}

func TestPromptsAreTheReferences(t *testing.T) {
	files, err := filepath.Glob("../../testdata/prompts/*.json")
	if err != nil || len(files) != 7 {
		t.Fatalf("%d prompts and error %v, want 7 and none", len(files), err)
	}
	e := encoding()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var p struct {
			Kind         string
			Conversation json.RawMessage
			IDs          []uint32
			Mask         []int
		}
		if err := json.Unmarshal(data, &p); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		c, err := ParseConversation(p.Conversation)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		got, err := e.RenderForCompletion(c, harmony.Assistant, harmony.DropNone)
		if p.Kind == "training" {
			got, err = e.RenderForTraining(c, harmony.DropNone)
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

func TestTenMegabytes(t *testing.T) {
	e := encoding()
	text := strings.Repeat("Ten \"megabytes\" of text,\n日本語 and more. ", 10<<20/43)
	c := harmony.Conversation{Messages: []harmony.Message{harmony.NewMessage(harmony.User, harmony.Text(text))}}
	again, err := ParseConversation(AppendConversation(nil, c))
	if err != nil {
		t.Fatal(err)
	}
	ids, err := e.RenderConversation(again, harmony.DropAuto)
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.Parse(ids, "", harmony.ParseOptions{})
	if err != nil || len(got) != 1 || got[0].Text() != text {
		t.Errorf("10 MB did not come back: %d messages and error %v", len(got), err)
	}
	if m := e.Recover(ids, harmony.RecoveryOptions{}); len(m) != 1 || m[0].Text() != text || m[0].Role != harmony.User {
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
	v, err := ParseValue([]byte(`{"a":{"b":[1]}}`))
	if err != nil {
		t.Fatal(err)
	}
	a, _ := v.Get("a")
	b, ok := a.Get("b")
	if _, no := a.Get("c"); !ok || no || v.Kind != harmony.Object || b.Kind != harmony.Array || b.Items[0].Text != "1" || v.Members[0].Name != "a" {
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
		if v, err := ParseValue([]byte(in)); v.Text != want || err != nil {
			t.Errorf("%s: %s and error %v, want %s", in, v.Text, err, want)
		}
	}
}

// Mistakes in the words and at the places of the reference.
func TestMistakesAreTheReferences(t *testing.T) {
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
		var e *harmony.Error
		if !errors.As(err, &e) || e.Reference() != test.want {
			t.Errorf("%s: error %v, want %s", test.name, err, test.want)
		}
	}
}

func FuzzConversationJSON(f *testing.F) {
	f.Add([]byte(`{"messages":[{"role":"user","content":"hi","name":"x","channel":null}]}`))
	f.Add([]byte(`[[{"role":{"system":null},"content":[["system_content",null,"Low",{},null,null,[["a"],true]]]}]]`))
	f.Add([]byte(`{"messages":[{"role":"developer","content":[{"type":"developer_content","instructions":"","tools":{"functions":{"name":"f","tools":[{"name":"","description":"","parameters":{"oneOf":[{"type":["null"],"default":-0}]}}]}}}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConversation(data)
		if err != nil {
			var e *harmony.Error
			if !errors.As(err, &e) || e.Line < 1 || e.Column < 0 || e.Column > len(data) {
				t.Fatalf("error %#v", err)
			}
			return
		}
		written := AppendConversation(nil, c)
		again, err := ParseConversation(written)
		if err != nil {
			t.Fatalf("%s, written of %q: %v", written, data, err)
		}
		a, errA := encoding().RenderConversation(c, harmony.DropAuto)
		b, errB := encoding().RenderConversation(again, harmony.DropAuto)
		if (errA == nil) != (errB == nil) || !slices.Equal(a, b) && !strings.ContainsAny(string(written), "eE.") {
			t.Fatalf("%q renders otherwise after it was written and read", data)
		}
		for _, id := range a {
			if id >= tokenizer.Ordinary && id != tokenizer.Start && id != tokenizer.End && id != tokenizer.Call &&
				id != tokenizer.Message && id != tokenizer.Channel && id != tokenizer.Constrain {
				t.Fatalf("%q renders the special token %d", data, id)
			}
		}
	})
}

func FuzzTypeScript(f *testing.F) {
	f.Add([]byte(`{"type":"object","properties":{"a":{"type":"array","items":{"oneOf":[{"type":"string","enum":["x"]}]},"nullable":true,"default":[1]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := ParseValue(data)
		if err != nil {
			return
		}
		m := harmony.NewMessage(harmony.Developer, harmony.DeveloperContent{}.WithFunctionTools(harmony.ToolDescription{Name: "f", Parameters: &v}))
		ids, err := encoding().Render(m, harmony.RenderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if text, err := encoding().Tokenizer().Decode(ids); err != nil {
			t.Fatalf("%q renders %q: %v", data, text, err)
		}
	})
}

// Whatever comes, the state is JSON.
func FuzzState(f *testing.F) {
	f.Add([]byte("<|start|>assistant to=f<|message|>\xe0\x00\x00\x00\xac<|end|>\xff"), false)
	f.Add([]byte("<|channel|>final\"<|message|>x<|return|>"), true)
	f.Fuzz(func(t *testing.T, data []byte, given bool) {
		role := harmony.Role("")
		if given {
			role = harmony.Assistant
		}
		p := encoding().NewParser(role, harmony.ParseOptions{})
		for _, id := range encoding().Tokenizer().Encode(nil, string(data), tokenizer.AllSpecials()) {
			_ = p.Process(id) // after an error it may be used
			state := AppendState(nil, p)
			if v, err := ParseValue(state); err != nil || v.Kind != harmony.Object {
				t.Fatalf("state %s: %v", state, err)
			}
		}
	})
}
