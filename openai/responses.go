package openai

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"slices"

	"ossify/harmony"
)

// responseCall is a request for a response.
type responseCall struct {
	base
	store      bool
	background bool
	response   response
	input      []*item      // of this request, and of those before it
	fresh      int          // where this request's begin
	conv       conversation // which grows by what tools of the server return
}

// A response is the answer's object.
type response struct {
	ID                 string            `json:"id"`
	Object             string            `json:"object"`
	CreatedAt          int64             `json:"created_at"`
	Status             string            `json:"status"`
	Background         bool              `json:"background"`
	Error              *responseError    `json:"error"`
	IncompleteDetails  *incomplete       `json:"incomplete_details"`
	Instructions       *string           `json:"instructions"`
	MaxOutputTokens    *int              `json:"max_output_tokens"`
	MaxToolCalls       *int              `json:"max_tool_calls"`
	Model              string            `json:"model"`
	Output             []*item           `json:"output"`
	ParallelToolCalls  bool              `json:"parallel_tool_calls"`
	PreviousResponseID *string           `json:"previous_response_id"`
	Reasoning          responseReasoning `json:"reasoning"`
	Store              bool              `json:"store"`
	Temperature        float64           `json:"temperature"`
	Text               responseText      `json:"text"`
	ToolChoice         any               `json:"tool_choice"`
	Tools              []responseTool    `json:"tools"`
	TopLogProbs        int               `json:"top_logprobs"`
	TopP               float64           `json:"top_p"`
	Truncation         string            `json:"truncation"`
	Usage              *responseUsage    `json:"usage"`
	User               *string           `json:"user"`
	Metadata           map[string]string `json:"metadata"`
}

type (
	responseError struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	incomplete struct {
		Reason string `json:"reason"`
	}
	responseReasoning struct {
		Effort  string  `json:"effort"`
		Summary *string `json:"summary"`
	}
	responseText struct {
		Format    any    `json:"format"`
		Verbosity string `json:"verbosity"`
	}
	responseTool struct {
		Type        string          `json:"type"`
		Name        string          `json:"name"`
		Description string          `json:"description"`
		Parameters  json.RawMessage `json:"parameters"` // its values would take forty times as much
		Strict      bool            `json:"strict"`
	}
	responseUsage struct {
		Input     int `json:"input_tokens"`
		InputMore struct {
			Cached int `json:"cached_tokens"`
		} `json:"input_tokens_details"`
		Output     int `json:"output_tokens"`
		OutputMore struct {
			Reasoning int `json:"reasoning_tokens"`
		} `json:"output_tokens_details"`
		Total int `json:"total_tokens"`
	}
)

// MarshalJSON returns the tool in OpenAI's form: one of the server has a type
// alone.
func (t responseTool) MarshalJSON() ([]byte, error) {
	if t.Name == "" {
		return encode(map[string]string{"type": t.Type}), nil
	}
	type plain responseTool
	return encode(plain(t)), nil
}

func (u Usage) response() *responseUsage {
	r := &responseUsage{Input: u.Prompt, Output: u.Completion, Total: u.Prompt + u.Completion}
	r.InputMore.Cached = u.Cached
	r.OutputMore.Reasoning = u.Reasoning
	return r
}

func (s *Service) parseResponse(v harmony.Value, client Client) (Call, *Error) {
	r := &reader{}
	c := &responseCall{base: base{svc: s, path: PathResponses, client: client}, store: true}
	conv := conversation{format: format{kind: "text"}}
	var p sampling
	var choice toolChoice
	var input harmony.Value
	var instructions, previous, user, summary string
	var include, builtins []string
	effort, truncation, verbosity := "medium", "disabled", "medium"
	top, most, calls := 0, 0, 0
	parallel := true
	meta := map[string]string{}
	sets := r.sampling(&p)
	for name, set := range map[string]set{
		"model":                r.text(&c.model),
		"input":                func(v harmony.Value, path string) { input = v },
		"instructions":         r.text(&instructions),
		"previous_response_id": r.text(&previous),
		"stream":               r.boolean(&c.stream),
		"store":                r.boolean(&c.store),
		"background":           r.boolean(&c.background),
		"user":                 r.text(&user),
		"metadata":             r.metadata(&meta),
		"top_logprobs":         r.integer(&top, 0, mostTop),
		"max_output_tokens":    r.integer(&most, 1, math.MaxInt32),
		"max_tool_calls":       r.integer(&calls, 1, math.MaxInt32),
		"parallel_tool_calls":  r.boolean(&parallel),
		"truncation":           r.choice(&truncation, "disabled", "auto"),
		"include":              r.strings(&include, 16),
		"reasoning": func(v harmony.Value, path string) {
			r.members(v, path, true, map[string]set{
				"effort":           r.effort(&effort),
				"summary":          r.choice(&summary, "auto", "concise", "detailed"),
				"generate_summary": r.choice(&summary, "auto", "concise", "detailed"),
			})
		},
		"text": func(v harmony.Value, path string) {
			r.members(v, path, true, map[string]set{
				"verbosity": r.choice(&verbosity, "low", "medium", "high"),
				"format": func(v harmony.Value, path string) {
					kind := map[string]set{"type": r.choice(&conv.format.kind, "text", "json_object", "json_schema")}
					r.members(v, path, false, kind)
					if conv.format.kind == "json_schema" {
						r.jsonSchema(&conv.format, kind)(v, path)
					}
				},
			})
		},
		"stream_options": func(v harmony.Value, path string) {
			r.members(v, path, true, map[string]set{"include_obfuscation": nil})
		},
		"tools": func(v harmony.Value, path string) {
			r.items(v, path, func(v harmony.Value, path string) {
				var typ string
				r.members(v, path, false, map[string]set{"type": r.text(&typ)})
				if builtinTypes[typ] != "" {
					builtins = append(builtins, typ)
					r.builtinTool(s, &conv, typ, v, path)
					return
				}
				if r.err == nil && typ != "function" {
					r.fail(unsupported(path+".type", "This is %s, want function, web_search or code_interpreter: there are no other tools here.", shown(typ)))
					return
				}
				r.function(&conv, v, path, map[string]set{"type": nil})
			})
		},
		"tool_choice": func(v harmony.Value, path string) {
			if v.Kind == harmony.String {
				r.choice(&choice.mode, "none", "auto", "required")(v, path)
				return
			}
			var typ string
			r.members(v, path, true, map[string]set{"type": r.choice(&typ, "function"), "name": r.text(&choice.name)})
			choice.mode = "function"
		},
		"service_tier": nil, "prompt_cache_key": nil, "prompt_cache_retention": nil, "safety_identifier": nil,
		"conversation": r.refuse(""), "prompt": r.refuse(""), "context_management": r.refuse(""),
	} {
		sets[name] = set
	}
	r.members(v, "", true, sets)
	s.checkModel(r, c.model)
	if input.Kind == harmony.Null {
		r.missing("input", "There is no input.")
	}
	if r.err != nil {
		return nil, r.err
	}
	for _, what := range include {
		if !contains([]string{"reasoning.encrypted_content", "message.output_text.logprobs", "file_search_call.results", "web_search_call.results",
			"web_search_call.action.sources", "message.input_image.image_url", "computer_call_output.output.image_url", "code_interpreter_call.outputs"}, what) {
			r.fail(Invalid("include", "This is %s, which nothing includes.", shown(what)))
		}
	}
	if previous != "" {
		before, e := s.o.Store.get(previous, client.Owner)
		switch {
		case e != nil:
			e.Param = "previous_response_id"
			r.fail(e)
		case before.response.Status != "completed" && before.response.Status != "incomplete":
			r.fail(Invalid("previous_response_id", "The response %s is %s, want one that is completed.", shown(previous), before.response.Status))
		default:
			c.input = slices.Concat(before.input, before.response.Output)
		}
	}
	c.fresh = len(c.input)
	if r.err == nil {
		c.input = append(c.input, r.inputItems(s, client.Owner, input)...)
	}
	conv.instruct(instructions)
	if r.err == nil {
		conv.addItems(r, c.input)
	}
	if conv.format.kind == "json_schema" && conv.format.name == "" {
		r.fail(Invalid("text.format", "There is no name."))
	}
	if c.background && (c.stream || !c.store) {
		r.fail(unsupported("background", "A response in the background is stored, and not streamed."))
	}
	if c.background && s.o.Store == nil {
		r.fail(unsupported("background", "No responses are stored here."))
	}
	tools := []responseTool{}
	for _, typ := range builtins {
		tools = append(tools, responseTool{Type: typ})
	}
	for _, t := range conv.tools {
		tools = append(tools, responseTool{"function", t.name, t.description, raw(t.parameters), t.strict})
	}
	choice.apply(r, &conv)
	if r.err != nil {
		return nil, r.err
	}
	conv.effort, conv.truncate = efforts[effort], truncation == "auto"
	if e := c.prepare(&conv, choice, p, nil, most); e != nil {
		return nil, e
	}
	if top > 0 || contains(include, "message.output_text.logprobs") {
		c.job.options.LogProbs = top
	}
	c.response = response{
		ID: s.o.ID("resp_"), Object: "response", CreatedAt: s.o.Now().Unix(), Status: "in_progress", Background: c.background,
		Instructions: optional(instructions), Model: c.model, Output: []*item{}, ParallelToolCalls: parallel, PreviousResponseID: optional(previous),
		Reasoning: responseReasoning{effort, optional(summary)}, Store: c.store, Temperature: p.temperature,
		Text: responseText{conv.format.response(), verbosity}, ToolChoice: choice.response(), Tools: tools, TopLogProbs: top, TopP: p.topP,
		Truncation: truncation, User: optional(user), Metadata: meta,
	}
	c.conv = conv
	if most > 0 {
		c.response.MaxOutputTokens = &most
	}
	if calls > 0 {
		c.response.MaxToolCalls = &calls
	}
	return c, nil
}

func (f format) response() any {
	if f.kind != "json_schema" {
		return map[string]string{"type": f.kind}
	}
	return map[string]any{"type": f.kind, "name": f.name, "description": optional(f.description), "schema": raw(&f.schema), "strict": f.strict}
}

// raw is a value as JSON, null for nil.
func raw(v *harmony.Value) json.RawMessage {
	if v == nil {
		return json.RawMessage("null")
	}
	return v.AppendJSON(nil)
}

func (t toolChoice) response() any {
	if t.mode == "function" {
		return map[string]string{"type": "function", "name": t.name}
	}
	return t.mode
}

// An emitter numbers the events of a response.
type emitter struct {
	send func(name string, data []byte) error
	n    int
}

// put sends an event. fields is its JSON object without type and number.
func (e *emitter) put(name string, fields map[string]any) error {
	fields["type"], fields["sequence_number"] = name, e.n
	e.n++
	return e.send(name, encode(fields))
}

// run computes the response, changes it as it grows, and sends its events.
func (c *responseCall) run(ctx context.Context, send func(name string, data []byte) error) *Error {
	e := &emitter{send: send}
	a := &c.response
	whole := func(name string) error { return e.put(name, map[string]any{"response": a}) }
	begun := false
	begin := func() error {
		if begun {
			return nil
		}
		begun = true
		if err := whole("response.created"); err != nil {
			return err
		}
		return whole("response.in_progress")
	}
	out, failed := c.rounds(ctx, func(t *turn, base int, events []event) error {
		if err := begin(); err != nil {
			return err
		}
		for _, ev := range events {
			if err := c.event(e, t, base, ev); err != nil {
				return err
			}
		}
		return nil
	}, e)
	if failed == nil {
		if err := begin(); err != nil {
			failed = failure(err)
		}
	}
	if failed != nil {
		a.fail(failed)
		if begun && failed.Status != StatusClientGone {
			whole("response.failed")
		}
		return failed
	}
	a.Usage = out.usage.response()
	a.Status = "completed"
	name := "response.completed"
	if out.finish == finishLength {
		a.Status, name = "incomplete", "response.incomplete"
		a.IncompleteDetails = &incomplete{"max_output_tokens"}
	}
	c.keep()
	if err := whole(name); err != nil {
		return failure(err)
	}
	return nil
}

// fail says why there is no answer, or no more of it.
func (r *response) fail(e *Error) {
	r.Status = "failed"
	if e.Status == StatusClientGone {
		r.Status = "cancelled"
	}
	r.Error = &responseError{e.Code, e.Message}
	for _, i := range r.Output {
		if i.Status == "in_progress" {
			i.Status = "incomplete"
		}
	}
}

// event applies an event to the response, and sends what it means.
func (c *responseCall) event(e *emitter, t *turn, base int, ev event) error {
	a := &c.response
	s := t.segments[ev.segment]
	ev.segment += base
	if ev.opened {
		i := c.svc.itemOf(s)
		a.Output = append(a.Output, i)
		shown := *i
		shown.Parts = 0
		if err := e.put("response.output_item.added", map[string]any{"output_index": ev.segment, "item": &shown}); err != nil {
			return err
		}
		switch s.kind {
		case call:
			return nil
		case builtin:
			return e.put("response.mcp_call.in_progress", map[string]any{"item_id": i.ID, "output_index": ev.segment})
		}
		return e.put("response.content_part.added", map[string]any{"item_id": i.ID, "output_index": ev.segment, "content_index": 0, "part": i.part()})
	}
	i := a.Output[ev.segment]
	at := func(more map[string]any) map[string]any {
		more["item_id"], more["output_index"] = i.ID, ev.segment
		if s.kind != call && s.kind != builtin {
			more["content_index"] = 0
		}
		return more
	}
	name := map[kind]string{reasoning: "response.reasoning_text", text: "response.output_text", call: "response.function_call_arguments", builtin: "response.mcp_call_arguments"}[s.kind]
	if ev.text != "" {
		if s.kind == call || s.kind == builtin {
			i.Arguments += ev.text
		} else {
			i.Text += ev.text
		}
		i.LogProbs = append(i.LogProbs, ev.logProbs...)
		more := map[string]any{"delta": ev.text}
		if s.kind == text {
			probs := ev.logProbs
			if probs == nil {
				probs = []logProb{}
			}
			more["logprobs"] = probs
		}
		if err := e.put(name+".delta", at(more)); err != nil {
			return err
		}
	}
	if !ev.done {
		return nil
	}
	i.Status = "completed"
	if s.cut {
		i.Status = "incomplete"
	}
	if s.kind == builtin {
		i.Status = "in_progress" // until its tool answered
		return e.put(name+".done", at(map[string]any{"arguments": i.Arguments}))
	}
	more := map[string]any{"text": i.Text}
	switch s.kind {
	case call:
		more = map[string]any{"arguments": i.Arguments, "name": i.Name}
	case text:
		more["logprobs"] = *i.part().LogProbs
	}
	if err := e.put(name+".done", at(more)); err != nil {
		return err
	}
	if s.kind != call {
		if err := e.put("response.content_part.done", at(map[string]any{"part": i.part()})); err != nil {
			return err
		}
	}
	return e.put("response.output_item.done", map[string]any{"output_index": ev.segment, "item": i})
}

// dropped ends the call of a tool that is not asked.
func (c *responseCall) dropped(e *emitter, at int) error {
	i := c.response.Output[at]
	i.Status = "incomplete"
	return e.put("response.output_item.done", map[string]any{"output_index": at, "item": i})
}

// returned completes the call of a tool of the server.
func (c *responseCall) returned(e *emitter, at int, output string, failed bool) error {
	i := c.response.Output[at]
	i.Text, i.Failed, i.Status = output, failed, "completed"
	name := "response.mcp_call.completed"
	if failed {
		i.Status, name = "failed", "response.mcp_call.failed"
	}
	if err := e.put(name, map[string]any{"item_id": i.ID, "output_index": at}); err != nil {
		return err
	}
	return e.put("response.output_item.done", map[string]any{"output_index": at, "item": i})
}

func (c *responseCall) Answer(ctx context.Context) ([]byte, *Error) {
	if c.background {
		return c.later()
	}
	if e := c.run(ctx, func(string, []byte) error { return nil }); e != nil {
		return nil, e
	}
	return encode(&c.response), nil
}

func (c *responseCall) Events(ctx context.Context, send func(name string, data []byte) error) *Error {
	return c.run(ctx, send)
}

// keep stores the response as it is, if it is to be stored.
func (c *responseCall) keep() {
	if c.store && c.svc.o.Store != nil {
		c.svc.o.Store.put(&stored{owner: c.client.Owner, response: c.response.clone(), input: c.input, fresh: c.fresh})
	}
}

// later computes the response while nobody waits.
func (c *responseCall) later() ([]byte, *Error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	c.response.Status = "queued"
	first := encode(&c.response)
	c.keep()
	store := c.svc.o.Store
	if !store.begin(c.response.ID, cancel) {
		cancel(nil)
		store.remove(c.response.ID)
		return nil, &Error{Status: http.StatusTooManyRequests, Type: "server_error", Code: "rate_limit_exceeded", Message: "Too many responses are under way in the background."}
	}
	go func() {
		defer store.end(c.response.ID)
		defer cancel(nil)
		c.response.Status = "in_progress"
		c.keep()
		e := contained(func() *Error { return c.run(ctx, func(string, []byte) error { return nil }) })
		if e != nil {
			c.response.fail(e) // again, unless it was a panic
			c.keep()
		}
	}()
	return first, nil
}

// clone returns a copy that does not change with r.
func (r *response) clone() *response {
	k := *r
	k.Output = nil
	for _, i := range r.Output {
		j := *i
		k.Output = append(k.Output, &j)
	}
	if k.Output == nil {
		k.Output = []*item{}
	}
	return &k
}
