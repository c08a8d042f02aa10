package openai

import (
	"encoding/json"

	"ossify/harmony"
)

// An item is one of a response's input or output.
type item struct {
	ID        string
	Type      string // message, reasoning, function_call, function_call_output or mcp_call
	Role      string // of a message
	Status    string
	Text      string // of a message, of reasoning, or what a function or tool returned
	Failed    bool   // a tool's Text says what went wrong
	Parts     int    // of a message or reasoning: 0 has no content
	LogProbs  []logProb
	CallID    string
	Name      string // of a function; of an mcp_call the recipient
	Arguments string
}

// A part is content of an item.
type part struct {
	Type        string     `json:"type"`
	Text        string     `json:"text"`
	Annotations *[]string  `json:"annotations,omitempty"` // of output: there are none
	LogProbs    *[]logProb `json:"logprobs,omitempty"`
}

// part returns an item's content. Each has one part at most.
func (i *item) part() part {
	p := part{Text: i.Text}
	switch {
	case i.Type == "reasoning":
		p.Type = "reasoning_text"
	case i.Role == "assistant":
		p.Type = "output_text"
		p.Annotations = &[]string{}
		probs := i.LogProbs
		if probs == nil {
			probs = []logProb{}
		}
		p.LogProbs = &probs
	default:
		p.Type = "input_text"
	}
	return p
}

// MarshalJSON returns the item in OpenAI's form.
func (i *item) MarshalJSON() ([]byte, error) {
	content := []part{}
	if i.Parts > 0 {
		content = append(content, i.part())
	}
	type head struct {
		ID     string `json:"id,omitempty"`
		Type   string `json:"type"`
		Status string `json:"status,omitempty"`
	}
	h := head{i.ID, i.Type, i.Status}
	switch i.Type {
	case "message":
		return encode(struct {
			head
			Role    string `json:"role"`
			Content []part `json:"content"`
		}{h, i.Role, content}), nil
	case "reasoning":
		return encode(struct {
			head
			Summary []string `json:"summary"`
			Content []part   `json:"content"`
		}{h, []string{}, content}), nil
	case "function_call":
		return encode(struct {
			head
			CallID    string `json:"call_id"`
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		}{h, i.CallID, i.Name, i.Arguments}), nil
	case "mcp_call":
		tool, function := splitRecipient(i.Name)
		call := struct {
			head
			ServerLabel string  `json:"server_label"`
			Name        string  `json:"name"`
			Arguments   string  `json:"arguments"`
			Output      *string `json:"output"`
			Error       *string `json:"error"`
			Approval    *string `json:"approval_request_id"`
		}{head: h, ServerLabel: tool, Name: function, Arguments: i.Arguments}
		if i.Failed {
			call.Error = &i.Text
		} else if i.Status == "completed" {
			call.Output = &i.Text
		}
		return encode(call), nil
	}
	return encode(struct {
		head
		CallID string `json:"call_id"`
		Output string `json:"output"`
	}{h, i.CallID, i.Text}), nil
}

var _ json.Marshaler = (*item)(nil)

// inputItems reads a response's input: a text, or items, of which some refer to
// those of an owner's responses.
func (r *reader) inputItems(s *Service, owner string, v harmony.Value) (items []*item) {
	add := func(i *item) {
		if i.ID == "" {
			i.ID = s.o.ID(map[string]string{"message": "msg_", "reasoning": "rs_", "function_call": "fc_", "function_call_output": "fco_", "mcp_call": "mcp_"}[i.Type])
		}
		items = append(items, i)
	}
	if v.Kind == harmony.String {
		add(&item{Type: "message", Role: "user", Status: "completed", Text: v.Text, Parts: 1})
		return items
	}
	wanted := map[string]bool{}
	for _, e := range v.Items {
		if typ, _ := e.Get("type"); typ.Text == "item_reference" {
			if id, ok := e.Get("id"); ok && id.Text != "" {
				wanted[id.Text] = true
			}
		}
	}
	references := s.o.Store.items(wanted, owner)
	r.items(v, "input", func(v harmony.Value, path string) {
		i := &item{Type: "message", Status: "completed"}
		var summary, label, output, failed string
		r.members(v, path, false, map[string]set{"type": r.text(&i.Type)})
		sets := map[string]set{
			"id":     r.text(&i.ID),
			"status": r.choice(&i.Status, "in_progress", "completed", "incomplete", "calling", "failed"),
		}
		switch i.Type {
		case "message":
			sets["role"] = r.choice(&i.Role, "system", "developer", "user", "assistant")
			sets["content"] = r.content(&i.Text, "input_text", "output_text", "text", "refusal")
			i.Parts = 1
		case "reasoning":
			sets["summary"] = r.content(&summary, "summary_text")
			sets["content"] = r.content(&i.Text, "reasoning_text", "text")
		case "function_call":
			sets["call_id"] = r.text(&i.CallID)
			sets["name"] = r.text(&i.Name)
			sets["arguments"] = r.text(&i.Arguments)
		case "function_call_output":
			sets["call_id"] = r.text(&i.CallID)
			sets["output"] = r.content(&i.Text, "input_text", "output_text", "text")
		case "mcp_call":
			sets["server_label"], sets["name"] = r.text(&label), r.text(&i.Name)
			sets["arguments"], sets["output"], sets["error"] = r.text(&i.Arguments), r.text(&output), r.text(&failed)
		case "item_reference":
			sets["id"] = func(v harmony.Value, path string) {
				r.text(&i.ID)(v, path)
				if known := references[i.ID]; known != nil {
					*i = *known
					return
				}
				e := NotFound("There is no item %s.", shown(i.ID))
				e.Param = path
				r.fail(e)
			}
		default:
			r.fail(unsupported(path+".type", "This is %s, want one of message, reasoning, function_call, function_call_output, mcp_call, item_reference.", shown(i.Type)))
			return
		}
		reference := i.Type == "item_reference"
		there := false
		for _, name := range []string{"content", "output"} {
			if set := sets[name]; set != nil {
				sets[name] = func(v harmony.Value, path string) { there = true; set(v, path) }
			}
		}
		r.members(v, path, false, sets)
		switch {
		case r.err != nil:
			return
		case i.Type == "item_reference":
			r.fail(Invalid(path+".id", "There is no id."))
		case reference: // all of it was proved when it came
		case i.Type == "message" && i.Role != "" && !there:
			r.missing(path+".content", "There is no content.")
		case i.Type == "function_call_output" && !there:
			r.missing(path+".output", "There is no output.")
		case i.Type == "message" && i.Role == "":
			r.fail(Invalid(path+".role", "There is no role."))
		case i.Type == "function_call" && (i.CallID == "" || !isFunctionName(i.Name)):
			r.fail(Invalid(path, "This is no call of a function, want a call_id and a name."))
		case i.Type == "mcp_call":
			if i.Name != label {
				i.Name = label + "." + i.Name
			}
			if !isBuiltin(i.Name) {
				r.fail(Invalid(path, "This is a call of %s, want one of browser or python.", shown(i.Name)))
			}
			if i.Text, i.Failed = output, failed != ""; i.Failed {
				i.Text = failed
			}
		case i.Type == "reasoning":
			if i.Text == "" {
				i.Text = summary
			}
			if i.Text != "" {
				i.Parts = 1
			}
		}
		add(i)
	})
	if len(items) == 0 {
		r.fail(Invalid("input", "There is no input, want at least one item."))
	}
	return items
}

// add adds items to a conversation.
func (c *conversation) addItems(r *reader, items []*item) {
	for n, i := range items {
		switch i.Type {
		case "message":
			switch i.Role {
			case "user":
				c.user(i.Text)
			case "assistant":
				channel := harmony.Final
				for _, next := range items[n+1:] {
					if next.Type == "function_call" || next.Type == "mcp_call" {
						channel = harmony.Commentary
					}
					if next.Type != "reasoning" {
						break
					}
				}
				c.assistant(channel, i.Text)
			default:
				c.instruct(i.Text)
			}
		case "reasoning":
			c.assistant(harmony.Analysis, i.Text)
		case "function_call":
			c.call(i.CallID, i.Name, i.Arguments)
		case "function_call_output":
			c.result(r, "input", i.CallID, i.Text)
		case "mcp_call":
			c.addBuiltin(i.Name, i.Arguments, i.Text)
		}
	}
}

// itemOf returns a segment as it stands in a response's output.
func (s *Service) itemOf(g *segment) *item {
	i := &item{Status: "in_progress"}
	switch g.kind {
	case reasoning:
		i.Type, i.ID, i.Parts = "reasoning", s.o.ID("rs_"), 1
	case text:
		i.Type, i.ID, i.Role, i.Parts = "message", s.o.ID("msg_"), "assistant", 1
	case builtin:
		i.Type, i.ID, i.Name = "mcp_call", s.o.ID("mcp_"), g.name
	case call:
		i.Type, i.ID, i.CallID, i.Name = "function_call", s.o.ID("fc_"), s.o.ID("call_"), g.name
	}
	return i
}
