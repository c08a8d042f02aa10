package openai

import (
	"context"
	"math"
	"strconv"
	"strings"

	"ossify/harmony"
	"ossify/tokenizer"
)

// chatCall is a request for a chat completion.
type chatCall struct {
	base
	usage bool // a last chunk of a stream tells it
}

// The limits of requests.
const (
	mostChoices = 16
	mostStops   = 16
	mostTop     = 20 // probabilities beside a token's own
)

// sampling returns the sets of the members that all requests for text share.
func (r *reader) sampling(p *sampling) map[string]set {
	p.temperature, p.topP = 1, 1
	return map[string]set{
		"temperature":       r.number(&p.temperature, 0, 2),
		"top_p":             r.number(&p.topP, 0, 1),
		"top_k":             r.integer(&p.topK, 0, math.MaxInt32),
		"min_p":             r.number(&p.minP, 0, 1),
		"presence_penalty":  r.number(&p.presence, -2, 2),
		"frequency_penalty": r.number(&p.frequency, -2, 2),
		"seed": func(v harmony.Value, path string) {
			n, err := strconv.ParseInt(v.Text, 10, 64)
			if v.Kind != harmony.Number || err != nil {
				r.want(v, path, "an integer of 64 bits")
				return
			}
			seed := uint64(n)
			p.seed = &seed
		},
		"logit_bias": func(v harmony.Value, path string) {
			if v.Kind != harmony.Object || len(v.Members) > 1024 {
				r.want(v, path, "an object of at most 1024 members")
				return
			}
			p.bias = map[uint32]float64{}
			for _, m := range v.Members {
				id, err := strconv.ParseUint(m.Name, 10, 32)
				if err != nil || id >= tokenizer.VocabSize {
					r.fail(Invalid(path, "%s is no token, want ids below %d.", shown(m.Name), tokenizer.VocabSize))
					return
				}
				var b float64
				r.number(&b, -100, 100)(m.Value, path)
				if b == -100 {
					b = math.Inf(-1)
				}
				p.bias[uint32(id)] = b
			}
		},
	}
}

func (s *Service) parseChat(v harmony.Value, client Client) (Call, *Error) {
	r := &reader{}
	c := &chatCall{base: base{svc: s, path: PathChat, client: client}}
	conv := conversation{format: format{kind: "text"}}
	var p sampling
	var choice toolChoice
	var stops []string
	var logProbs, has bool
	effort, n, top, most, least := "medium", 1, 0, 0, 0
	parallel := true
	var meta map[string]string
	sets := r.sampling(&p)
	for name, set := range map[string]set{
		"model":                 r.text(&c.model),
		"messages":              func(v harmony.Value, path string) { has = true },
		"stream":                r.boolean(&c.stream),
		"n":                     r.integer(&n, 1, mostChoices),
		"stop":                  r.strings(&stops, mostStops),
		"logprobs":              r.boolean(&logProbs),
		"top_logprobs":          r.integer(&top, 0, mostTop),
		"max_tokens":            r.integer(&least, 1, math.MaxInt32),
		"max_completion_tokens": r.integer(&most, 1, math.MaxInt32),
		"reasoning_effort":      r.effort(&effort),
		"parallel_tool_calls":   r.boolean(&parallel),
		"metadata":              r.metadata(&meta),
		"stream_options": func(v harmony.Value, path string) {
			r.members(v, path, true, map[string]set{"include_usage": r.boolean(&c.usage), "include_obfuscation": nil, "continuous_usage_stats": r.refuse("false")})
		},
		"tools": func(v harmony.Value, path string) {
			r.items(v, path, func(v harmony.Value, path string) {
				var typ string
				there := false
				r.members(v, path, true, map[string]set{
					"type":     r.choice(&typ, "function"),
					"function": func(v harmony.Value, path string) { there = true; r.function(&conv, v, path, nil) },
				})
				if !there {
					r.fail(Invalid(path+".function", "There is no function, want tools of that type."))
				}
			})
		},
		"tool_choice": func(v harmony.Value, path string) {
			if v.Kind == harmony.String {
				r.choice(&choice.mode, "none", "auto", "required")(v, path)
				return
			}
			var typ string
			r.members(v, path, true, map[string]set{
				"type": r.choice(&typ, "function"),
				"function": func(v harmony.Value, path string) {
					r.members(v, path, true, map[string]set{"name": r.text(&choice.name)})
				},
			})
			choice.mode = "function"
		},
		"response_format": func(v harmony.Value, path string) {
			r.members(v, path, true, map[string]set{
				"type":        r.choice(&conv.format.kind, "text", "json_object", "json_schema"),
				"json_schema": r.jsonSchema(&conv.format, nil),
			})
		},
		"user": nil, "store": nil, "service_tier": nil, "verbosity": nil, "prompt_cache_key": nil, "prompt_cache_retention": nil,
		"safety_identifier": nil, "prediction": nil,
		"modalities": r.refuse(`["text"]`), "audio": r.refuse(""), "web_search_options": r.refuse(""),
		"functions": r.refuse(""), "function_call": r.refuse(""),
	} {
		sets[name] = set
	}
	r.members(v, "", true, sets)
	s.checkModel(r, c.model)
	if !has {
		r.missing("messages", "There are no messages.")
	}
	if r.err != nil {
		return nil, r.err
	}
	messages, _ := v.Get("messages")
	r.chatMessages(&conv, messages)
	if top > 0 && !logProbs {
		r.fail(Invalid("top_logprobs", "This needs logprobs to be true."))
	}
	if conv.format.kind == "json_schema" && conv.format.name == "" {
		r.fail(Invalid("response_format.json_schema", "There is no json_schema."))
	}
	choice.apply(r, &conv)
	if r.err != nil {
		return nil, r.err
	}
	conv.effort = efforts[effort]
	if most == 0 {
		most = least
	}
	if e := c.prepare(&conv, choice, p, stops, most); e != nil {
		return nil, e
	}
	c.job.choices = n
	if logProbs {
		c.job.options.LogProbs = top
	}
	return c, nil
}

// prepare makes the job of a conversation.
func (b *base) prepare(conv *conversation, choice toolChoice, p sampling, stops []string, most int) *Error {
	conv.room = most
	if most == 0 {
		conv.room = b.svc.o.Context / 8
	}
	ids, head, err := conv.fitted(b.svc)
	if err != nil {
		param := "messages"
		if b.path == PathResponses {
			param = "input"
		}
		return Invalid(param, "%s.", strings.TrimPrefix(err.Error(), "harmony: "))
	}
	b.job = job{svc: b.svc, path: b.path, owner: b.client.Turn, share: b.client.Owner, prompt: ids, stops: stops, json: conv.format.isJSON(), choices: 1}
	if head > 0 {
		b.job.marks = []int{head}
	}
	if choice.mode != "function" {
		b.job.builtins = conv.recipients()
	}
	for _, t := range conv.tools {
		b.job.functions = append(b.job.functions, t.name)
	}
	if err := b.job.ready(); err != nil {
		return err
	}
	b.job.options = b.svc.options(p, ids, most)
	return b.job.guided(conv, choice)
}

// chatMessages adds the messages of a chat.
func (r *reader) chatMessages(c *conversation, v harmony.Value) {
	n := 0
	r.items(v, "messages", func(v harmony.Value, path string) {
		n++
		var role, content, id, thoughts, refusal string
		var calls []functionCall
		there := false
		r.members(v, path, false, map[string]set{
			"role": r.choice(&role, "system", "developer", "user", "assistant", "tool"),
			"content": func(v harmony.Value, path string) {
				there = true
				r.content(&content, "text", "refusal")(v, path)
			},
			"refusal":           r.text(&refusal),
			"reasoning":         r.text(&thoughts),
			"reasoning_content": r.text(&thoughts),
			"tool_call_id":      r.text(&id),
			"function_call":     r.refuse(""),
			"tool_calls": func(v harmony.Value, path string) {
				r.items(v, path, func(v harmony.Value, path string) { calls = append(calls, r.toolCall(v, path)) })
			},
		})
		if r.err != nil {
			return
		}
		if !there && role != "" && role != "assistant" {
			r.missing(path+".content", "There is no content.")
			return
		}
		switch role {
		case "":
			r.fail(Invalid(path+".role", "There is no role."))
		case "system", "developer":
			c.instruct(content)
		case "user":
			c.user(content)
		case "assistant":
			c.assistant(harmony.Analysis, thoughts)
			channel := harmony.Final
			if len(calls) > 0 {
				channel = harmony.Commentary
			}
			c.assistant(channel, content+refusal)
			for _, f := range calls {
				c.call(f.id, f.name, f.arguments)
			}
		case "tool":
			c.result(r, path+".tool_call_id", id, content)
		}
	})
	if n == 0 {
		r.fail(Invalid("messages", "There are no messages, want at least one."))
	}
}

type functionCall struct{ id, name, arguments string }

func (r *reader) toolCall(v harmony.Value, path string) (f functionCall) {
	var typ string
	r.members(v, path, false, map[string]set{
		"id":   r.text(&f.id),
		"type": r.choice(&typ, "function"),
		"function": func(v harmony.Value, path string) {
			r.members(v, path, false, map[string]set{"name": r.text(&f.name), "arguments": r.text(&f.arguments)})
		},
	})
	if r.err == nil && (f.id == "" || !isFunctionName(f.name)) {
		r.fail(Invalid(path, "This is no call of a function, want an id and a name."))
	}
	return f
}

// content reads a text, or parts of these types that are joined.
func (r *reader) content(p *string, types ...string) set {
	return func(v harmony.Value, path string) {
		if v.Kind != harmony.Array {
			if v.Kind != harmony.String {
				r.want(v, path, "a string or an array of parts")
			}
			*p = v.Text
			return
		}
		var b strings.Builder
		r.items(v, path, func(v harmony.Value, path string) {
			var typ, text string
			r.members(v, path, false, map[string]set{"type": r.text(&typ), "text": r.text(&text), "refusal": r.text(&text)})
			if r.err == nil && !contains(types, typ) {
				r.fail(unsupported(path+".type", "This is %s, want one of %s: the model reads text.", shown(typ), strings.Join(types, ", ")))
			}
			b.WriteString(text)
		})
		*p = b.String()
	}
}

func contains(words []string, word string) bool {
	for _, w := range words {
		if w == word {
			return true
		}
	}
	return false
}

// What chat completions look like.
type (
	chatCompletion struct {
		ID          string       `json:"id"`
		Object      string       `json:"object"`
		Created     int64        `json:"created"`
		Model       string       `json:"model"`
		Choices     []chatChoice `json:"choices"`
		Usage       *chatUsage   `json:"usage,omitempty"`
		Fingerprint string       `json:"system_fingerprint,omitempty"`
	}
	chatChoice struct {
		Index    int           `json:"index"`
		Message  *chatMessage  `json:"message,omitempty"`
		Delta    *chatDelta    `json:"delta,omitempty"`
		LogProbs *chatLogProbs `json:"logprobs"`
		Finish   *string       `json:"finish_reason"`
	}
	chatMessage struct {
		Role             string     `json:"role"`
		Content          *string    `json:"content"`
		Refusal          *string    `json:"refusal"`
		Reasoning        string     `json:"reasoning,omitempty"`
		ReasoningContent string     `json:"reasoning_content,omitempty"`
		ToolCalls        []toolCall `json:"tool_calls,omitempty"`
	}
	chatDelta struct {
		Role             string     `json:"role,omitempty"`
		Content          *string    `json:"content,omitempty"`
		Reasoning        string     `json:"reasoning,omitempty"`
		ReasoningContent string     `json:"reasoning_content,omitempty"`
		ToolCalls        []toolCall `json:"tool_calls,omitempty"`
	}
	toolCall struct {
		Index    *int         `json:"index,omitempty"` // of a stream's
		ID       string       `json:"id,omitempty"`
		Type     string       `json:"type,omitempty"`
		Function callFunction `json:"function"`
	}
	callFunction struct {
		Name      string `json:"name,omitempty"`
		Arguments string `json:"arguments"`
	}
	chatLogProbs struct {
		Content []logProb `json:"content"`
		Refusal []logProb `json:"refusal"`
	}
	chatUsage struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Total      int `json:"total_tokens"`
		PromptMore struct {
			Cached int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
		CompletionMore struct {
			Reasoning int `json:"reasoning_tokens"`
		} `json:"completion_tokens_details"`
	}
)

func (u Usage) chat() *chatUsage {
	c := &chatUsage{Prompt: u.Prompt, Completion: u.Completion, Total: u.Prompt + u.Completion}
	c.PromptMore.Cached = u.Cached
	c.CompletionMore.Reasoning = u.Reasoning
	return c
}

// between stands between two texts of one answer: words before a call, and the
// answer itself.
const between = "\n\n"

func (c *chatCall) Answer(ctx context.Context) ([]byte, *Error) {
	a := chatCompletion{ID: c.svc.o.ID("chatcmpl-"), Object: "chat.completion", Created: c.svc.o.Now().Unix(), Model: c.model, Fingerprint: c.svc.o.Fingerprint}
	outs, err := c.job.runAll(ctx, func(int, *turn, []event) error { return nil }, nil)
	if err != nil {
		return nil, err
	}
	for i, o := range outs {
		m := chatMessage{Role: "assistant"}
		choice := chatChoice{Index: i, Message: &m, Finish: &o.finish}
		if c.job.options.LogProbs >= 0 {
			choice.LogProbs = &chatLogProbs{Content: []logProb{}}
		}
		var content, thoughts strings.Builder
		for _, s := range o.segments {
			switch s.kind {
			case reasoning:
				separate(&thoughts, s.text.String())
			case text:
				separate(&content, s.text.String())
				if choice.LogProbs != nil {
					choice.LogProbs.Content = append(choice.LogProbs.Content, s.logProbs...)
				}
			case call:
				m.ToolCalls = append(m.ToolCalls, toolCall{ID: c.svc.o.ID("call_"), Type: "function", Function: callFunction{s.name, s.text.String()}})
			}
		}
		m.Reasoning = thoughts.String()
		m.ReasoningContent = m.Reasoning
		if t := content.String(); t != "" || len(m.ToolCalls) == 0 {
			m.Content = &t
		}
		a.Choices = append(a.Choices, choice)
	}
	a.Usage = total(outs).chat()
	return encode(a), nil
}

// separate adds a text to those before it.
func separate(b *strings.Builder, text string) {
	if b.Len() > 0 && text != "" {
		b.WriteString(between)
	}
	b.WriteString(text)
}

// A chunk is one event of a streamed chat completion.
type chunk struct {
	chatCompletion
	Usage **chatUsage `json:"usage,omitempty"` // null in all but the last if asked for
}

func (c *chatCall) Events(ctx context.Context, send func(name string, data []byte) error) *Error {
	head := chatCompletion{ID: c.svc.o.ID("chatcmpl-"), Object: "chat.completion.chunk", Created: c.svc.o.Now().Unix(), Model: c.model, Fingerprint: c.svc.o.Fingerprint}
	sent := false
	put := func(choice int, d chatDelta, probs []logProb, finish *string) error {
		k := chunk{chatCompletion: head}
		k.Choices = []chatChoice{{Index: choice, Delta: &d, Finish: finish}}
		if probs != nil {
			k.Choices[0].LogProbs = &chatLogProbs{Content: probs}
		}
		if c.usage {
			k.Usage = new(*chatUsage)
		}
		sent = true
		return send("", encode(k))
	}
	type state struct {
		begun           bool
		texts, thoughts bool  // some came
		fresh           bool  // a segment was opened, none of its text came
		calls           []int // indices of calls by segment, −1 for others
		n               int
	}
	states := make([]state, c.job.choices)
	begin := func(i int) error {
		if states[i].begun {
			return nil
		}
		states[i].begun = true
		empty := ""
		return put(i, chatDelta{Role: "assistant", Content: &empty}, nil, nil)
	}
	outs, err := c.job.runAll(ctx, func(i int, t *turn, events []event) error {
		st := &states[i]
		if err := begin(i); err != nil {
			return err
		}
		for _, e := range events {
			s := t.segments[e.segment]
			var d chatDelta
			if e.opened {
				st.fresh = true
				st.calls = append(st.calls, -1)
				if s.kind != call {
					continue
				}
				st.calls[e.segment] = st.n
				st.n++
				n := st.calls[e.segment]
				d.ToolCalls = []toolCall{{Index: &n, ID: c.svc.o.ID("call_"), Type: "function", Function: callFunction{Name: s.name}}}
			} else if e.text == "" {
				continue
			} else {
				out := e.text
				switch s.kind {
				case reasoning:
					if st.fresh && st.thoughts {
						out = between + out
					}
					st.thoughts = true
					d.Reasoning, d.ReasoningContent = out, out
				case text:
					if st.fresh && st.texts {
						out = between + out
					}
					st.texts = true
					d.Content = &out
				case call:
					n := st.calls[e.segment]
					d.ToolCalls = []toolCall{{Index: &n, Function: callFunction{Arguments: out}}}
				}
				st.fresh = false
			}
			if err := put(i, d, e.logProbs, nil); err != nil {
				return err
			}
		}
		return nil
	}, func(i int, o outcome) error {
		if err := begin(i); err != nil {
			return err
		}
		return put(i, chatDelta{}, nil, &o.finish)
	})
	if err != nil {
		if sent && err.Status != StatusClientGone {
			send("", encode(err))
		}
		return err
	}
	if c.usage {
		u := total(outs).chat()
		head.Choices = []chatChoice{}
		if err := send("", encode(chunk{chatCompletion: head, Usage: &u})); err != nil {
			return failure(err)
		}
	}
	if err := send("", []byte("[DONE]")); err != nil {
		return failure(err)
	}
	return nil
}
