// Package conform runs recorded answers of other tokenizers and of
// openai-harmony against ours. A record is one line of JSON in one of two
// forms:
//
//	{"t": text, "ids": [...]}                     ordinary encoding
//	{"name": ..., "query": {"op": ...}, "result"} a call of openai-harmony
//
// A query is in "query_raw" as text where the order or repetition of names
// matters. Its op is one of:
//
//	encode, decode, info             the tokenizer
//	render                           "message", "options"
//	conversation, training           "messages", "config"
//	completion                       the same, and "role"
//	wire                             "json", what one of these reads, as text, and
//	                                 its op as "call"; errors tell their place
//	parse                            "tokens" or "text", "role", "strict"
//	stream                           the same, and "eos": every visible state;
//	                                 at most 2048 ids
//
// The result is {"ok": ...} or {"err": text}; render, conversation, training,
// completion and wire may add the "text" of the ids, stream has "steps" and
// "messages".
package conform

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"ossify/harmony"
	"ossify/harmony/serde"
	"ossify/internal/quote"
	"ossify/tokenizer"
)

// streamMost is how many ids a query of op stream may have.
const streamMost = 2048

// A Checker runs records.
type Checker struct {
	t *tokenizer.Tokenizer
	e *harmony.Encoding
}

// NewChecker returns a Checker.
func NewChecker(t *tokenizer.Tokenizer) *Checker {
	return &Checker{t: t, e: harmony.New(t)}
}

type record struct {
	T   *string         `json:"t"`
	IDs json.RawMessage `json:"ids"`

	Name     string `json:"name"`
	Query    query  `json:"query"`
	QueryRaw string `json:"query_raw"`
	Result   any    `json:"result"`
}

// Check runs one line. name and diff may be shown on a terminal. diff is empty if our answer is the recorded one. err
// says that the line is no record.
func (c *Checker) Check(line []byte) (name, diff string, err error) {
	var r record
	if err := json.Unmarshal(line, &r); err != nil {
		return "", "", fmt.Errorf("conform: %w", err)
	}
	if r.T != nil {
		name = fmt.Sprintf("%.40q", *r.T)
		got := c.t.EncodeOrdinary(nil, *r.T)
		var want []uint32
		if json.Unmarshal(r.IDs, &want) == nil && slices.Equal(got, want) {
			return name, "", nil
		}
		return name, differences(plain(r.IDs), plain(got)), nil
	}
	name = quote.Start(r.Name)
	if r.QueryRaw != "" {
		if err := json.Unmarshal([]byte(r.QueryRaw), &r.Query); err != nil {
			return name, "", fmt.Errorf("conform: %s: query_raw: %w", name, err)
		}
	}
	if r.Query == nil || r.Result == nil {
		return name, "", errors.New(`conform: no record: want "t" and "ids", or "query" and "result"`)
	}
	got, err := c.answer(r.Query)
	if err != nil {
		return name, "", fmt.Errorf("conform: %s: %w", name, err)
	}
	return name, differences(r.Result, visible(r.Result, plain(got))), nil
}

// answer is our result of a query.
func (c *Checker) answer(q query) (any, error) {
	op := q.text("op")
	jsonFailure := treeFailure
	messages := slices.Concat([]byte(`{"messages":`), q["messages"], []byte("}"))
	message := []byte(q["message"])
	if op == "wire" {
		op = q.text("call")
		jsonFailure = failure
		messages = []byte(q.text("json"))
		message = messages
	}
	switch op {
	case "encode":
		var names []string
		if err := q.into("allowed", &names); err != nil {
			return nil, err
		}
		return result{"ok": c.t.Encode(nil, q.text("text"), tokenizer.SpecialsOf(names...))}, nil
	case "decode":
		var ids []uint32
		if err := q.into("tokens", &ids); err != nil {
			return nil, err
		}
		text, err := c.t.Decode(ids)
		if err != nil {
			return result{"err": harmony.DecodeErrorText(err)}, nil
		}
		return result{"ok": text}, nil
	case "info":
		return c.info(), nil
	case "render":
		m, err := serde.ParseMessage(message)
		if err != nil {
			return jsonFailure(err), nil
		}
		var o struct {
			Functions bool `json:"conversation_has_function_tools"`
		}
		if err := q.into("options", &o); err != nil {
			return nil, err
		}
		return c.ids(c.e.Render(m, harmony.RenderOptions{ConversationHasFunctionTools: o.Functions})), nil
	case "conversation", "training", "completion":
		conversation, err := serde.ParseConversation(messages)
		if err != nil {
			return jsonFailure(err), nil
		}
		var config struct {
			Drop bool `json:"auto_drop_analysis"`
		}
		if err := q.into("config", &config); err != nil {
			return nil, err
		}
		drop := harmony.DropNone
		if config.Drop {
			drop = harmony.DropAuto
		}
		switch op {
		case "training":
			return c.ids(c.e.RenderForTraining(conversation, drop)), nil
		case "completion":
			next := harmony.Assistant
			if err := q.into("role", &next); err != nil {
				return nil, err
			}
			return c.ids(c.e.RenderForCompletion(conversation, next, drop)), nil
		}
		return c.ids(c.e.RenderConversation(conversation, drop)), nil
	case "parse":
		ids, err := c.stream(q)
		if err != nil {
			return nil, err
		}
		messages, err := c.e.Parse(ids, harmony.Role(q.text("role")), q.options())
		if err != nil {
			return failure(err), nil
		}
		return result{"ok": json.RawMessage(serde.AppendMessages(nil, messages))}, nil
	case "stream":
		ids, err := c.stream(q)
		if err != nil {
			return nil, err
		}
		if len(ids) > streamMost {
			return nil, fmt.Errorf("a stream of %d ids, want at most %d: each step shows all of the content", len(ids), streamMost)
		}
		return c.steps(q, ids), nil
	default:
		return nil, fmt.Errorf("query has the unknown op %q", op)
	}
}

func (c *Checker) info() result {
	var first, last [][2]any
	for i, s := range c.t.Specials() {
		if i < 22 {
			first = append(first, [2]any{s.ID, s.Name})
		}
		if i >= len(c.t.Specials())-2 {
			last = append(last, [2]any{s.ID, s.Name})
		}
	}
	return result{
		"name": harmony.Name, "tokenizer": harmony.TokenizerName, "max_message_tokens": harmony.MaxMessageTokens,
		"stop": harmony.StopTokens(), "stop_actions": harmony.StopTokensForAssistantActions(),
		"nspecial": len(c.t.Specials()), "first": first, "last": last,
	}
}

// steps feeds ids to a parser and shows what is visible after each.
func (c *Checker) steps(q query, ids []uint32) result {
	p := c.e.NewParser(harmony.Role(q.text("role")), q.options())
	steps := []result{}
	step := func(token any, err error) {
		s := result{
			"tok": token, "state": p.State().String(), "content": p.CurrentContent(), "role": nil,
			"channel": opt(p.CurrentChannel()), "recipient": opt(p.CurrentRecipient()),
			"type": opt(p.CurrentContentType()), "delta": opt(p.LastContentDelta()),
			"n": len(p.Messages()), "state_data": json.RawMessage(serde.AppendState(nil, p)),
		}
		if r := p.CurrentRole(); r != "" {
			s["role"] = r
		}
		if err != nil {
			s["err"] = failure(err)["err"]
		}
		steps = append(steps, s)
	}
	for _, id := range ids {
		step(id, p.Process(id))
	}
	if string(q["eos"]) == "true" {
		step("eos", p.ProcessEOS())
	}
	return result{"steps": steps, "messages": json.RawMessage(serde.AppendMessages(nil, p.Messages()))}
}

// ids is the result of rendering.
func (c *Checker) ids(ids []uint32, err error) result {
	if err != nil {
		return failure(err)
	}
	text, _ := c.t.DecodeReplacing(ids) // the ids are of this tokenizer
	return result{"ok": append([]uint32{}, ids...), "text": text}
}

// stream returns the ids that a query has as such or as text.
func (c *Checker) stream(q query) (ids []uint32, err error) {
	if _, ok := q["tokens"]; ok {
		err = q.into("tokens", &ids)
		return ids, err
	}
	return c.t.Encode(nil, q.text("text"), tokenizer.AllSpecials()), nil
}

type result map[string]any

// failure is the reference's text of an error, with its place.
func failure(err error) result {
	var e *harmony.Error
	if errors.As(err, &e) {
		return result{"err": e.Reference()}
	}
	return result{"err": err.Error()}
}

// treeFailure is an error of JSON that was given as a tree, not as text.
func treeFailure(err error) result {
	var e *harmony.Error
	if errors.As(err, &e) {
		return result{"err": "json: " + e.Text}
	}
	return result{"err": err.Error()}
}

func opt(o harmony.Opt) any {
	if s, ok := o.Get(); ok {
		return s
	}
	return nil
}

// A query keeps its parts as text: a number that is read and written twice may
// change.
type query map[string]json.RawMessage

// text returns a part that is a string, "" if it is none.
func (q query) text(name string) (s string) {
	_ = q.into(name, &s)
	return s
}

// into reads a part; one that is not there changes nothing.
func (q query) into(name string, v any) error {
	part, ok := q[name]
	if !ok {
		return nil
	}
	return json.Unmarshal(part, v)
}

func (q query) options() harmony.ParseOptions {
	return harmony.ParseOptions{Lenient: string(q["strict"]) == "false"}
}

// plain is v as encoding/json reads it.
func plain(v any) (p any) {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return err.Error()
	}
	return p
}

// visible leaves out of got what a record may leave out of want.
func visible(want, got any) any {
	w, _ := want.(map[string]any)
	g, _ := got.(map[string]any)
	if _, ok := w["text"]; !ok {
		delete(g, "text")
	}
	ws, _ := w["steps"].([]any)
	gs, _ := g["steps"].([]any)
	for i := range min(len(ws), len(gs)) {
		w, _ := ws[i].(map[string]any)
		g, _ := gs[i].(map[string]any)
		if _, ok := w["state_data"]; !ok {
			delete(g, "state_data")
		}
	}
	return got
}

// differences lists the first parts that differ, wanted before got.
func differences(want, got any) string {
	var b strings.Builder
	left := 5
	var walk func(path string, want, got any)
	walk = func(path string, want, got any) {
		if left == 0 || reflect.DeepEqual(want, got) {
			return
		}
		switch w := want.(type) {
		case map[string]any:
			if g, ok := got.(map[string]any); ok {
				for _, k := range keys(w, g) {
					walk(path+"."+k, item(w, k), item(g, k))
				}
				return
			}
		case []any:
			if g, ok := got.([]any); ok {
				for i := range max(len(w), len(g)) {
					walk(fmt.Sprintf("%s[%d]", path, i), at(w, i), at(g, i))
				}
				return
			}
		}
		left--
		path = quote.Plain(path)
		fmt.Fprintf(&b, "- %s: %s\n+ %s: %s\n", path, show(want), path, show(got))
	}
	walk("", want, got)
	return b.String()
}

// absent is what one side lacks.
type absent struct{}

func item(m map[string]any, k string) any {
	if v, ok := m[k]; ok {
		return v
	}
	return absent{}
}

func at(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return absent{}
}

func keys(a, b map[string]any) (names []string) {
	for _, m := range []map[string]any{a, b} {
		for k := range m {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func show(v any) string {
	if v == (any)(absent{}) {
		return "(nothing)"
	}
	text, _ := json.Marshal(v) // v came from JSON
	return quote.Plain(string(text))
}
