package grammar

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"ossify/harmony"
	"ossify/harmony/serde"
	"ossify/tokenizer"
)

var vocabulary = sync.OnceValue(func() *Vocabulary { return NewVocabulary(tokenizer.New()) })

func value(t testing.TB, text string) harmony.Value {
	t.Helper()
	v, err := serde.ParseValue([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func schemaOf(t testing.TB, text string) *Grammar {
	t.Helper()
	b := NewBuilder(nil)
	e, err := b.Schema(value(t, text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	g, err := New(vocabulary(), b, e)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return g
}

// accepts reports whether a text is of the language, byte by byte.
func (g *Grammar) accepts(text string) bool {
	e := g.start
	for i := range len(text) {
		if e = g.b.next(e, text[i]); e == never {
			return false
		}
	}
	return g.b.nodes[e].null
}

func TestSchema(t *testing.T) {
	for _, c := range []struct {
		name, schema string
		good, bad    []string
	}{
		{"string", `{"type":"string"}`, []string{`""`, `"a"`, `"é 日本 😀"`, `"\n\u00e9\ud83d\ude00"`, `"\ud7ff\ue000\uffff"`},
			[]string{``, `a`, `"`, `"a`, "\"\n\"", `"\x"`, `"\ud83d"`, `"\ude00"`, `"\ud83da"`, "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", `"a""`, "\"\xf4\x90\x80\x80\""}},
		{"lengths", `{"type":"string","minLength":2,"maxLength":3}`, []string{`"ab"`, `"日本語"`, `"\n\n"`}, []string{`"a"`, `"abcd"`, `""`}},
		{"pattern", `{"type":"string","pattern":"^[a-c]+-\\d{2,3}$"}`, []string{`"abc-12"`, `"a-123"`}, []string{`"abc-1"`, `"-12"`, `"abc-12 "`}},
		{"pattern anywhere", `{"type":"string","pattern":"b\"?c"}`, []string{`"abcd"`, `"b\"c"`, `"bbc"`}, []string{`"acb"`, `"b"c"`}},
		{"pattern of any", `{"type":"string","pattern":"^(x|y.)*$"}`, []string{`""`, `"xyé"`, `"y\\"`}, []string{`"y"`, `"z"`}},
		{"date", `{"type":"string","format":"date"}`, []string{`"2026-02-28"`}, []string{`"2026-13-01"`, `"26-01-01"`}},
		{"other formats say nothing", `{"type":"string","format":"color"}`, []string{`"red"`}, nil},
		{"integer", `{"type":"integer"}`, []string{`0`, `-1`, `123456789012345`}, []string{`01`, `1.0`, `--1`, `1e3`, `1234567890123456`, `-`}},
		{"integer within", `{"type":"integer","minimum":-5,"maximum":120}`, []string{`-5`, `-1`, `0`, `7`, `99`, `100`, `120`}, []string{`-6`, `121`, `1000`, `-0`, `007`}},
		{"integer above", `{"type":"integer","exclusiveMinimum":9.5}`, []string{`10`, `99`, `100000`}, []string{`9`, `0`, `-10`}},
		{"integer below", `{"type":"integer","exclusiveMaximum":-10}`, []string{`-11`, `-100`}, []string{`-10`, `-9`, `0`, `11`}},
		{"number", `{"type":"number"}`, []string{`0`, `-1.50`, `1e10`, `2.5E-3`}, []string{`.5`, `1.`, `+1`, `NaN`, `1e`, `00`}},
		{"number from 0", `{"type":"number","minimum":0}`, []string{`0`, `1.5`, `1e3`}, []string{`-1`, `-0`}},
		{"boolean or null", `{"type":["boolean","null"]}`, []string{`true`, `false`, `null`}, []string{`nul`, `True`, `0`}},
		{"nullable", `{"type":"integer","nullable":true}`, []string{`1`, `null`}, []string{`x`}},
		{"enum", `{"enum":["a",1,null,{"x":[1.0]}]}`, []string{`"a"`, `1`, `null`, `{"x":[1.0]}`}, []string{`"b"`, `{"x":[1]}`}},
		{"enum of a type", `{"type":"string","enum":["a",1]}`, []string{`"a"`}, []string{`1`}},
		{"enum and const", `{"enum":["a","b"],"const":"b"}`, []string{`"b"`}, []string{`"a"`}},
		{"a name that is not ASCII", `{"type":"object","properties":{"é日":{"type":"integer"}},"required":["é日"]}`, []string{`{"é日":1}`, `{"é日":1,"x":2}`}, []string{`{"é日":1,"é日":"x"}`, `{}`}},
		{"const", `{"const":"x\"y"}`, []string{`"x\"y"`}, []string{`"x"`}},
		{"array", `{"type":"array","items":{"type":"integer"}}`, []string{`[]`, `[1]`, `[1, 2]`, "[\n  1,\n  2\n]", `[ ]`}, []string{`[1,]`, `[,1]`, `["a"]`, `[1 2]`, "[\n\n1]"}},
		{"array of two or three", `{"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":3}`, []string{`[1,2]`, `[1,2,3]`}, []string{`[1]`, `[]`, `[1,2,3,4]`}},
		{"array of at most one", `{"type":"array","items":{"type":"integer"},"maxItems":1}`, []string{`[]`, `[1]`}, []string{`[1,2]`}},
		{"empty array", `{"type":"array","maxItems":0}`, []string{`[]`}, []string{`[1]`}},
		{"object", `{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["a","b"],"additionalProperties":false}`,
			[]string{`{"a":1,"b":"x"}`, `{ "a": 1, "b": "x" }`, "{\n  \"a\": 1,\n  \"b\": \"x\"\n}"}, []string{`{}`, `{"a":1}`, `{"b":"x","a":1}`, `{"a":1,"b":"x","c":1}`, `{"a":1,"b":"x",}`, `{"a":1"b":"x"}`}},
		{"object with what need not be", `{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"},"c":{"type":"integer"}},"required":["b"],"additionalProperties":false}`,
			[]string{`{"b":1}`, `{"a":1,"b":1}`, `{"b":1,"c":1}`, `{"a":1,"b":1,"c":1}`}, []string{`{}`, `{"a":1}`, `{"c":1}`, `{,"b":1}`, `{"a":1,"c":1}`}},
		{"object of nothing", `{"type":"object","properties":{},"additionalProperties":false}`, []string{`{}`, `{ }`}, []string{`{"a":1}`}},
		{"object with more", `{"type":"object","properties":{"ab":{"type":"integer"}},"required":["ab"]}`,
			[]string{`{"ab":1}`, `{"ab":1,"x":[{}],"y":null}`, `{"ab":1,"abc":"","a":2}`}, []string{`{"x":1}`, `{"ab":1,"ab":"x"}`, `{"ab":1,"\u0061b":2}`, `{"ab":1,}`}},
		{"object as a map", `{"type":"object","additionalProperties":{"type":"integer"}}`, []string{`{}`, `{"x":1}`, `{"x":1, "y":2}`}, []string{`{"x":"y"}`}},
		{"required but no property", `{"type":"object","required":["z"]}`, []string{`{"z":1}`, `{"z":1,"y":2}`}, []string{`{}`}},
		{"anything", `{}`, []string{`{}`, `[{"a":[null,true]}]`, `1`}, []string{`{]`, `{"a"}`}},
		{"any of", `{"anyOf":[{"type":"integer"},{"type":"object","properties":{"a":{"type":"null"}},"required":["a"],"additionalProperties":false}]}`, []string{`1`, `{"a":null}`}, []string{`"x"`, `{}`}},
		{"one of, told apart by a constant", `{"oneOf":[{"type":"object","properties":{"k":{"const":"x"}},"required":["k"]},{"type":"object","properties":{"k":{"const":"y"},"n":{"type":"integer"}},"required":["k","n"]}]}`, []string{`{"k":"x"}`, `{"k":"y","n":1}`}, []string{`{"k":"y"}`}},
		{"all of one", `{"allOf":[{"$ref":"#/$defs/n"}],"$defs":{"n":{"type":"integer"}}}`, []string{`1`}, []string{`"1"`}},
		{"recursion", `{"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{"v":{"type":"integer"},"kids":{"type":"array","items":{"$ref":"#/$defs/tree"}}},"required":["v","kids"],"additionalProperties":false}}}`,
			[]string{`{"v":1,"kids":[]}`, `{"v":1,"kids":[{"v":2,"kids":[{"v":3,"kids":[]}]},{"v":4,"kids":[]}]}`}, []string{`{"v":1}`, `{"v":1,"kids":[{"v":2}]}`}},
		{"recursion of the whole", `{"type":"array","items":{"$ref":"#"}}`, []string{`[]`, `[[],[[]]]`}, []string{`[1]`}},
		{"a pointer with escapes", `{"$ref":"#/$defs/a~1b~0","$defs":{"a/b~":{"const":1}}}`, []string{`1`}, []string{`2`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := schemaOf(t, c.schema)
			for _, text := range c.good {
				if !g.accepts(text) {
					t.Errorf("%s is refused", text)
				}
			}
			for _, text := range c.bad {
				if g.accepts(text) {
					t.Errorf("%s is taken", text)
				}
			}
		})
	}
}

func TestSchemaErrors(t *testing.T) {
	for _, c := range []struct{ schema, path, text string }{
		{`{"type":"strin"}`, "#", "no type"},
		{`{"type":"object","properties":{"a":{"type":"string","minLength":-1}}}`, "#/properties/a", "minLength"},
		{`{"type":"object","patternProperties":{}}`, "#", "patternProperties"},
		{`{"type":"object","properties":{"a/b":{"not":{}}}}`, "#/properties/a~1b", "not"},
		{`{"$ref":"#/$defs/none"}`, "#/$defs/none", "nothing"},
		{`{"$ref":"https://example.com/x"}`, "#", "$ref"},
		{`{"oneOf":[{"type":"integer"},{"type":"number"}]}`, "#", "oneOf"},
		{`{"oneOf":[{"type":"object"},{"type":"object"}]}`, "#", "oneOf"},
		{`{"allOf":[{},{}]}`, "#", "allOf"},
		{`{"type":"number","multipleOf":2}`, "#", "multipleOf"},
		{`{"type":"number","minimum":1}`, "#", "minimum of 0"},
		{`{"type":"integer","minimum":2,"maximum":1}`, "#", "no integer"},
		{`{"type":"string","pattern":"(?=x)"}`, "#", "pattern"},
		{`{"type":"string","pattern":"a\\bc"}`, "#", "pattern"},
		{`{"type":"array","minItems":3,"maxItems":2}`, "#", "maxItems"},
		{`{"type":"array","prefixItems":[{}]}`, "#", "prefixItems"},
		{`{"properties":{"a":{}}}`, "#", "no type"},
		{`{"type":"object","required":["a"],"additionalProperties":false}`, "#", "required"},
		{`{"type":"string","enum":[1]}`, "#", "enum"},
		{`{"enum":[]}`, "#", "enum"},
		{`{"enum":[1,2],"const":3}`, "#", "none of enum"},
		{`{"type":"string","pattern":5}`, "#", "no string"},
		{`[]`, "#", "no schema"},
		{strings.Repeat(`{"anyOf":[`, 63) + `{}` + strings.Repeat(`]}`, 63), "", ""},
	} {
		b := NewBuilder(nil)
		_, err := b.Schema(value(t, c.schema))
		var e *SchemaError
		if c.path == "" {
			if err != nil {
				t.Errorf("%s: %v", c.schema, err)
			}
			continue
		}
		if !errors.As(err, &e) || e.Path != c.path || !strings.Contains(e.Text, c.text) {
			t.Errorf("%s: %v, want %s at %s", c.schema, err, c.text, c.path)
		}
	}
	for _, schema := range []string{
		`{"$ref":"#"}`,
		`{"type":"string","pattern":"^\\x01$"}`, // which strings cannot hold here
		`{"type":"array","minItems":1,"items":{"type":"string","pattern":"^\\x01$"}}`,
		`{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}`,
		`{"anyOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"},{"const":1}]},"b":{"$ref":"#/$defs/a"}}}`,
	} {
		b := NewBuilder(nil)
		e, err := b.Schema(value(t, schema))
		if err == nil {
			_, err = New(vocabulary(), b, e)
		}
		if !errors.Is(err, ErrEndless) {
			t.Errorf("%s: %v, want %v", schema, err, ErrEndless)
		}
	}
}

// A mask has a token if and only if its bytes can follow: looked at one by one.
func TestMask(t *testing.T) {
	v := vocabulary()
	r := rand.New(rand.NewPCG(1, 2))
	for _, schema := range []string{
		`{}`, `{"type":"string","maxLength":5}`,
		`{"type":"object","properties":{"name":{"type":"string"},"n":{"type":"integer","minimum":3,"maximum":4711},"when":{"type":"string","format":"date"}},"required":["name"]}`,
	} {
		g := schemaOf(t, schema)
		for range 4 {
			guide := g.Guide()
			for range 12 {
				mask, _ := guide.Allowed()
				for id := range uint32(tokenizer.VocabSize) {
					want := false
					if id < tokenizer.Ordinary {
						want = g.after(guide.at, id) != never
					}
					if got := mask[id/64]>>(id%64)&1 != 0; got != want {
						token, _ := v.t.Token(id)
						t.Fatalf("%s: token %d %q: %v, want %v", schema, id, token, got, want)
					}
				}
				id, ok := draw(r, mask)
				if !ok {
					break
				}
				if err := guide.Accept(id); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// draw returns one of the tokens that a mask allows.
func draw(r *rand.Rand, mask []uint64) (uint32, bool) {
	n := Count(mask)
	if n == 0 {
		return 0, false
	}
	n = r.IntN(n)
	for id := range uint32(64 * len(mask)) {
		if mask[id/64]>>(id%64)&1 != 0 {
			if n == 0 {
				return id, true
			}
			n--
		}
	}
	return 0, false
}

// Whatever tokens are drawn among those allowed, the text can come to its end,
// and is valid then.
func TestWalksEnd(t *testing.T) {
	v := vocabulary()
	for _, schema := range []string{
		`{}`,
		`{"type":"object","properties":{"name":{"type":"string"},"tags":{"type":"array","items":{"enum":["red","green"]},"maxItems":3},"at":{"type":"string","format":"date-time"},"n":{"type":["integer","null"],"minimum":-20,"maximum":20}},"required":["name","at"]}`,
		`{"$ref":"#/$defs/t","$defs":{"t":{"type":"object","properties":{"kids":{"type":"array","items":{"$ref":"#/$defs/t"}},"p":{"type":"string","pattern":"^[a-z]{2,8}é?$"}},"required":["kids"],"additionalProperties":false}}}`,
	} {
		g := schemaOf(t, schema)
		for seed := range uint64(30) {
			r := rand.New(rand.NewPCG(seed, 7))
			guide := g.Guide()
			var text []byte
			for n := 0; ; n++ {
				mask, _ := guide.Allowed()
				if guide.Done() && (n > 30 || Count(mask) == 0) {
					break
				}
				var id uint32
				if n < 30 {
					id, _ = draw(r, mask)
				} else {
					id = shortest(g, guide, mask)
				}
				token, _ := v.t.Token(id)
				text = append(text, token...)
				if err := guide.Accept(id); err != nil {
					t.Fatalf("%s: %q: %v", schema, text, err)
				}
				if n > 3000 {
					t.Fatalf("%s: %.300q... does not end", schema, text)
				}
			}
			var v any
			if err := json.Unmarshal(text, &v); err != nil || !utf8.Valid(text) {
				t.Errorf("%s: %q: %v", schema, text, err)
			}
		}
	}
}

// shortest picks a token of one byte that leads towards an end: closing
// punctuation before anything else.
func shortest(g *Grammar, guide *Guide, mask []uint64) uint32 {
	for _, c := range []byte("\"}]e,:0123456789:-TZ[{nulltruefalseabcdefghijklmnopqrstuvwxyz \\\n\x80\x81\xa0\x90\xbf\xc3\xa9") {
		ids := g.v.t.EncodeOrdinary(nil, string([]byte{c}))
		if len(ids) == 1 && mask[ids[0]/64]>>(ids[0]%64)&1 != 0 {
			if token, _ := g.v.t.Token(ids[0]); token == string([]byte{c}) {
				return ids[0]
			}
		}
	}
	for i, token := range g.v.tokens {
		if id := g.v.ids[i]; len(token) == 1 && mask[id/64]>>(id%64)&1 != 0 {
			return id
		}
	}
	for i := range g.v.tokens {
		if id := g.v.ids[i]; mask[id/64]>>(id%64)&1 != 0 {
			return id
		}
	}
	return 0
}

// Every turn that can be drawn is one that harmony's strict parser reads, and
// calls are those there are.
func TestTurns(t *testing.T) {
	tok := tokenizer.New()
	e := harmony.New(tok)
	for name, c := range map[string]struct {
		turn  Turn
		calls bool
	}{
		"answer":            {Turn{Answer: true}, false},
		"answer or call":    {Turn{Answer: true}, true},
		"call":              {Turn{}, true},
		"no words":          {Turn{Answer: true, Quiet: true}, true},
		"an answer of JSON": {Turn{Answer: true, Quiet: true, Text: -1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := NewBuilder(nil)
			turn := c.turn
			if turn.Text < 0 {
				turn.Text = b.Object()
			}
			if c.calls {
				turn.Calls = []Call{{"get_weather", b.Object()}, {"get", b.Object()}}
			}
			g, err := New(vocabulary(), b, b.Turn(turn))
			if err != nil {
				t.Fatal(err)
			}
			ends := map[uint32]int{}
			for seed := range uint64(60) {
				r := rand.New(rand.NewPCG(seed, 3))
				guide := g.Guide()
				var ids []uint32
				for n := 0; !guide.Done(); n++ {
					mask, _ := guide.Allowed()
					// Now and then, a special token wherever one may come.
					var specials []uint32
					for _, id := range steering() {
						if mask[id/64]>>(id%64)&1 != 0 {
							specials = append(specials, id)
						}
					}
					var id uint32
					switch {
					case len(specials) > 0 && (r.IntN(3) == 0 || n > 60):
						id = specials[r.IntN(len(specials))]
					case n > 60:
						id = shortest(g, guide, mask)
					default:
						id, _ = draw(r, mask)
					}
					ids = append(ids, id)
					if err := guide.Accept(id); err != nil {
						t.Fatal(err)
					}
					if n > 5000 {
						text, _ := tok.DecodeReplacing(ids[:200])
						t.Fatalf("%q... does not end", text)
					}
				}
				text, _ := tok.DecodeReplacing(ids)
				messages, err := e.Parse(ids, harmony.Assistant, harmony.ParseOptions{})
				if err != nil {
					t.Fatalf("%q: %v", text, err)
				}
				last := messages[len(messages)-1]
				ends[ids[len(ids)-1]]++
				switch to, called := last.Recipient.Get(); {
				case !called:
					if !c.turn.Answer || !last.Channel.Is(harmony.Final) || ids[len(ids)-1] != tokenizer.Return {
						t.Errorf("%q ends without a call", text)
					}
				case !c.calls || !slices.Contains([]string{"functions.get", "functions.get_weather"}, to) || !last.Channel.Is(harmony.Commentary) || !json.Valid([]byte(last.Text())) || ids[len(ids)-1] != tokenizer.Call:
					t.Errorf("%q: a call of %s", text, to)
				}
				for _, m := range messages[:len(messages)-1] {
					if m.Role != harmony.Assistant || m.Recipient != (harmony.Opt{}) || m.Channel.Is(harmony.Final) || c.turn.Quiet && m.Channel.Is(harmony.Commentary) {
						t.Errorf("%q: %+v", text, m)
					}
				}
				if c.turn.Text < 0 && !json.Valid([]byte(last.Text())) {
					t.Errorf("%q is no JSON", last.Text())
				}
			}
			if want := map[bool]int{true: 1}[c.turn.Answer] + map[bool]int{true: 1}[c.calls]; len(ends) != want {
				t.Errorf("turns end with %v, want %d kinds of ends", ends, want)
			}
		})
	}
}

// The turns that gpt-oss is known to write are among those allowed.
func TestKnownTurns(t *testing.T) {
	tok := tokenizer.New()
	b := NewBuilder(nil)
	g, err := New(vocabulary(), b, b.Turn(Turn{
		Answer: true, Calls: []Call{{"f", b.Object()}}, Builtins: []Builtin{{"browser.search", b.Object()}, {Recipient: "python"}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"<|channel|>final<|message|>Hi<|return|>":                                                                                                  true,
		"<|channel|>analysis<|message|>Think.<|end|><|start|>assistant<|channel|>final<|message|>Hi<|return|>":                                     true,
		"<|channel|>analysis<|message|>Think.<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>": true,
		"<|channel|>commentary to=functions.f<|constrain|>json<|message|>{}<|call|>":                                                               true,
		"<|channel|>commentary to=functions.f json<|message|>{\"a\": 1}<|call|>":                                                                   true,
		" to=functions.f<|channel|>commentary <|constrain|>json<|message|>{}<|call|>":                                                              true,
		"<|channel|>commentary<|message|>I will look.<|end|><|start|>assistant<|channel|>commentary to=functions.f<|message|>{}<|call|>":           true,
		"<|channel|>analysis to=browser.search code<|message|>{\"query\": \"x\"}<|call|>":                                                          true,
		" to=browser.search<|channel|>analysis code<|message|>{}<|call|>":                                                                          true,
		"<|channel|>commentary to=browser.search <|constrain|>json<|message|>{}<|call|>":                                                           true,
		"<|channel|>analysis to=browser.search<|message|>{}<|call|>":                                                                               true,
		"<|channel|>analysis<|message|>Run.<|end|><|start|>assistant<|channel|>analysis to=python code<|message|>print(1)\n<|call|>":               true,
		"<|channel|>analysis to=python code<|message|><|call|>":                                                                                    true,
		"<|channel|>analysis to=browser.close code<|message|>{}<|call|>":                                                                           false,
		"<|channel|>analysis to=browser.search code<|message|>[]<|call|>":                                                                          false,
		"<|channel|>final to=python code<|message|>1<|call|>":                                                                                      false,
		"<|channel|>analysis to=python code<|message|>1<|return|>":                                                                                 false,
		"<|channel|>commentary to=functions.g<|message|>{}<|call|>":                                                                                false,
		"<|channel|>commentary to=functions.f<|message|>{<|call|>":                                                                                 false,
		"<|channel|>finale<|message|>Hi<|return|>":                                                                                                 false,
		"<|message|>Hi<|return|>":                        false,
		"<|channel|>final<|message|>Hi<|end|>":           false,
		"<|channel|>final<|message|>Hi<|start|>":         false,
		"<|channel|>analysis<|message|>Think.<|return|>": false,
	} {
		guide := g.Guide()
		var err error
		for _, id := range tok.Encode(nil, text, tokenizer.AllSpecials()) {
			if err == nil {
				err = guide.Accept(id)
			}
		}
		if got := err == nil && guide.Done(); got != want {
			t.Errorf("%s: %v (%v), want %v", text, got, err, want)
		}
	}
}

// Schemas that could take a lot of memory or time are errors, or cheap: what they
// take is counted.
func TestHostileSchemas(t *testing.T) {
	many := func(n int, format string) string {
		all := make([]string, n)
		for i := range all {
			all[i] = strings.ReplaceAll(format, "%", fmt.Sprint(i))
		}
		return strings.Join(all, ",")
	}
	for _, c := range []struct{ name, schema, want string }{
		{"many properties", `{"type":"object","properties":{` + many(3000, `"p%":{"type":"string"}`) + `}}`, ""},
		{"too many properties", `{"type":"object","properties":{` + many(40000, `"p%":{}`) + `}}`, "too large"},
		{"many required ones", `{"type":"object","required":[` + many(80000, `"p%"`) + `]}`, "too large"},
		{"many constants of one", `{"oneOf":[` + many(20000, `{"const":%}`) + `]}`, ""},
		{"many schemas of one", `{"oneOf":[` + many(20000, `{"type":"object","properties":{"k":{"const":%}},"required":["k"]}`) + `]}`, "too large"},
		{"many references of one", `{"oneOf":[` + many(2000, `{"$ref":"#/$defs/a"}`) + `],"$defs":{"a":{"type":"object","required":["x"],"properties":{` + many(2000, `"%":{"const":1}`) + `}}}}`, "tell the schemas apart"},
		{"many types", `{"enum":[` + many(50000, `"%"`) + `],"type":[` + many(50000, `"null"`) + `]}`, "no value of the type"},
		{"many references", `{"anyOf":[` + many(20000, `{"$ref":"#/$defs/%"}`) + `],"$defs":{` + many(20000, `"%":{"const":%}`) + `}}`, "too large"},
		{"a long constant", `{"const":"` + strings.Repeat("x", 4<<20) + `"}`, "too large"},
		{"long repetitions", `{"type":"string","pattern":"^((a{1,500}b){1,500}c){1,500}$"}`, "not supported"},
		{"a pattern that is long when written out", `{"type":"string","pattern":"^(` + strings.Repeat("ab", 1000) + `){1000}$"}`, "too large"},
		{"patterns in a row", `{"type":"string","pattern":"` + strings.Repeat(`(\\p{L}|\\p{N}|x)*`, 300) + `"}`, ""},
		{"nested repetitions", `{"type":"array","maxItems":16384,"items":{"type":"array","maxItems":16384,"items":{"type":"string","maxLength":16384}}}`, ""},
		{"ambiguous", `{"type":"string","pattern":"^` + strings.Repeat(`(a|b|ab|a.)*`, 30) + `x$"}`, ""},
		{"references in a row", `{"$ref":"#/$defs/a0","$defs":{` + chain(2000) + `}}`, ""},
		{"references in a row, the last first", `{"$ref":"#/$defs/2000","$defs":{"0":{"const":1}` + func() (s string) {
			for i := range 2000 {
				s += fmt.Sprintf(`,"%d":{"anyOf":[{"$ref":"#/$defs/%d"},{"$ref":"#/$defs/%d"}]}`, i+1, i, i/2)
			}
			return s
		}() + `}}`, ""},
		// These took 2 to the power of their number of properties, and 3 to that of
		// digits.
		{"endless behind what need not be", `{"type":"object","additionalProperties":false,"required":["z"],"properties":{` + many(60, `"a%":{"type":"null"}`) + `,"z":{"$ref":"#"}}}`, "never end"},
		{"limits of many digits", `{"anyOf":[` + many(300, `{"type":"integer","minimum":1%}`) + `]}`, ""},
	} {
		b := NewBuilder(nil)
		e, err := b.Schema(value(t, c.schema))
		if b.work > built.work+1<<16 || b.size > built.bytes {
			t.Errorf("%s: %d bytes, %d steps", c.name, b.size, b.work)
		}
		var g *Grammar
		if err == nil {
			g, err = New(vocabulary(), b, e)
		}
		if err == nil {
			guide := g.Guide()
			r := rand.New(rand.NewPCG(1, 1))
			for range 20 {
				var mask []uint64
				if mask, err = guide.Allowed(); err != nil {
					break
				}
				id, ok := draw(r, mask)
				if !ok {
					break
				}
				if err = guide.Accept(id); err != nil {
					break
				}
			}
			if b.work > used.work+1<<16 || b.size > used.bytes {
				t.Errorf("%s: %d bytes, %d steps", c.name, b.size, b.work)
			}
			if !g.Worn() && err != nil {
				t.Errorf("%s: %v, but it can be used again", c.name, err)
			}
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %.300v, want %q", c.name, err, c.want)
		}
		t.Logf("%s: %d nodes, %d bytes, %d steps", c.name, len(b.nodes), b.size, b.work)
	}
}

// A grammar whose states take too much says so, and lets nothing wrong through;
// its budget has its memory back when nobody holds it.
func TestStatesWithoutNumber(t *testing.T) {
	budget := NewBudget(64 << 20)
	func() {
		b := NewBuilder(budget)
		e, err := b.Schema(value(t, `{"type":"string","pattern":"(a|b)(.|..){400}(.|..){400}$"}`))
		if err != nil {
			t.Fatal(err)
		}
		g, err := New(vocabulary(), b, e)
		if err != nil {
			t.Fatal(err)
		}
		b.limit = limit{8 << 20, 2_000_000}
		guide := g.Guide()
		r := rand.New(rand.NewPCG(1, 1))
		for n := 0; err == nil && n < 1000; n++ {
			var mask []uint64
			if mask, err = guide.Allowed(); err != nil {
				break
			}
			id, ok := draw(r, mask)
			if !ok {
				t.Fatal("a dead end")
			}
			err = guide.Accept(id)
		}
		if !errors.Is(err, ErrTooLarge) || !g.Worn() || b.size > b.limit.bytes || b.work > b.limit.work+1<<16 {
			t.Errorf("%v after %d bytes, %d steps", err, b.size, b.work)
		}
		if left := budget.Left(); left != 64<<20-b.size {
			t.Errorf("%d bytes of the budget are left, want %d", left, 64<<20-b.size)
		}
		small := NewBuilder(NewBudget(20 << 10))
		if _, err := small.Schema(value(t, `{}`)); !errors.Is(err, ErrNoMemory) {
			t.Errorf("%v, want %v", err, ErrNoMemory)
		}
	}()
	for i := 0; budget.Left() != 64<<20 && i < 10_000; i++ {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	if left := budget.Left(); left != 64<<20 {
		t.Errorf("%d bytes of the budget are left", left)
	}
}

func chain(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"a%d":{"$ref":"#/$defs/a%d"}`, i, i+1))
	}
	return strings.Join(append(all, fmt.Sprintf(`"a%d":{"const":1}`, n)), ",")
}

func FuzzSchema(f *testing.F) {
	for _, s := range []string{`{}`, `{"type":"string","pattern":"a|b*"}`, `{"$ref":"#"}`, `{"type":"object","properties":{"a":{"enum":[1]}},"required":["a"]}`, `{"oneOf":[{"const":1},{"const":2}]}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := serde.ParseValue([]byte(text))
		if err != nil || len(text) > 4096 {
			return
		}
		b := NewBuilder(nil)
		e, err := b.Schema(v)
		if err != nil {
			return
		}
		g, err := New(vocabulary(), b, e)
		if err != nil {
			return
		}
		guide := g.Guide()
		r := rand.New(rand.NewPCG(1, 1))
		for range 3 {
			mask, err := guide.Allowed()
			if errors.Is(err, ErrTooLarge) {
				return
			}
			id, ok := draw(r, mask)
			if !ok {
				if !guide.Done() {
					t.Fatalf("%q: a dead end", text)
				}
				return
			}
			if err := guide.Accept(id); err != nil && !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkMask(b *testing.B) {
	g := schemaOf(b, `{"type":"string"}`)
	e := g.b.next(g.start, '"')
	for b.Loop() {
		clear(g.masks)
		g.mask(e)
	}
}
