package openai

import (
	"slices"
	"sort"
	"strings"

	"ossify/harmony"
)

// A conversation is gathered from a request and becomes a prompt.
type conversation struct {
	effort       harmony.ReasoningEffort
	instructions []string // of the first developer message
	messages     []harmony.Message
	calls        map[string]string // names of functions by the ids of their calls
	tools        []tool
	builtins     map[string]bool // tools of the server that are declared, by their names
	format       format

	truncate bool // the oldest turns go where all do not fit
	room     int  // tokens that are then left for the answer
}

// A tool is a function that may be called.
type tool struct {
	name        string
	description string
	parameters  *harmony.Value
	strict      bool
}

// A format says what the answer's text must be.
type format struct {
	kind        string // text, json_object or json_schema
	name        string
	description string
	schema      harmony.Value
	strict      bool
}

func (f format) isJSON() bool { return f.kind == "json_object" || f.kind == "json_schema" }

// instruct adds a system or developer message: what comes first is one message
// with the tools.
func (c *conversation) instruct(text string) {
	switch {
	case text == "":
	case len(c.messages) == 0:
		c.instructions = append(c.instructions, text)
	default:
		c.add(harmony.NewMessage(harmony.Developer, harmony.DeveloperContent{}.WithInstructions(text)))
	}
}

func (c *conversation) add(m harmony.Message) { c.messages = append(c.messages, m) }

func (c *conversation) user(text string) {
	c.add(harmony.NewMessage(harmony.User, harmony.Text(text)))
}

func (c *conversation) assistant(channel, text string) {
	if text != "" {
		c.add(harmony.NewMessage(harmony.Assistant, harmony.Text(text)).WithChannel(channel))
	}
}

func (c *conversation) call(id, name, arguments string) {
	if c.calls == nil {
		c.calls = map[string]string{}
	}
	c.calls[id] = name
	c.add(harmony.NewMessage(harmony.Assistant, harmony.Text(arguments)).
		WithRecipient("functions." + name).WithChannel(harmony.Commentary).WithContentType("<|constrain|>json"))
}

func (c *conversation) result(r *reader, path, id, text string) {
	name, ok := c.calls[id]
	if !ok {
		r.fail(Invalid(path, "No call before this has the id %s.", shown(id)))
		return
	}
	c.add(harmony.NewMessage(harmony.Tool, harmony.Text(text)).
		WithName("functions." + name).WithRecipient("assistant").WithChannel(harmony.Commentary))
}

// prompt returns the ids of the conversation up to the start of the assistant's
// answer, and how many of them come before the first message of it.
func (c *conversation) prompt(s *Service) (ids []uint32, head int, err error) {
	system := harmony.NewSystemContent().WithReasoningEffort(c.effort).
		WithConversationStartDate(s.o.Now().UTC().Format("2006-01-02"))
	if c.builtins[browserTool] {
		system = system.WithBrowserTool()
	}
	if c.builtins[pythonTool] {
		system = system.WithPythonTool()
	}
	messages := []harmony.Message{harmony.NewMessage(harmony.System, system)}

	var d harmony.DeveloperContent
	var contents []harmony.Content
	if len(c.instructions) > 0 {
		d = d.WithInstructions(strings.Join(c.instructions, "\n\n"))
	}
	if len(c.tools) > 0 {
		var tools []harmony.ToolDescription
		for _, t := range c.tools {
			tools = append(tools, harmony.ToolDescription{Name: t.name, Description: t.description, Parameters: t.parameters})
		}
		d = d.WithFunctionTools(tools...)
	}
	if len(c.instructions)+len(c.tools) > 0 {
		contents = append(contents, d)
	}
	if c.format.kind == "json_schema" {
		var b strings.Builder
		if len(contents) > 0 {
			b.WriteString("\n\n")
		}
		b.WriteString("# Response Formats\n\n## " + c.format.name + "\n\n")
		for line := range strings.Lines(c.format.description) {
			b.WriteString("// " + strings.TrimRight(line, "\r\n") + "\n")
		}
		b.Write(c.format.schema.AppendJSON(nil))
		contents = append(contents, harmony.Text(b.String()))
	}
	if len(contents) > 0 {
		messages = append(messages, harmony.NewMessage(harmony.Developer, contents...))
	}
	e := s.o.Encoding
	first, err := e.RenderConversation(harmony.Conversation{Messages: messages}, harmony.DropNone)
	if err != nil {
		return nil, 0, err
	}
	ids, err = e.RenderForCompletion(harmony.Conversation{Messages: append(messages, c.messages...)}, harmony.Assistant, harmony.DropBeforeLastFinal)
	if err == nil && len(first) < len(ids) && slices.Equal(first, ids[:len(first)]) {
		head = len(first)
	}
	return ids, head, err
}

// fitted returns the prompt as prompt does, without the oldest turns if the
// context is too small for all and the request allows it. A turn begins with a
// user's message, so that no result stays without its call. The last turn stays.
func (c *conversation) fitted(s *Service) (ids []uint32, head int, err error) {
	ids, head, err = c.prompt(s)
	most := s.o.Context - max(1, min(c.room, s.o.Context/2))
	if err != nil || !c.truncate || s.o.Context == 0 || len(ids) <= most {
		return ids, head, err
	}
	all := c.messages
	var turns []int // where they begin, but for the first
	for i, m := range all {
		if i > 0 && m.Role == harmony.User && all[i-1].Role != harmony.User {
			turns = append(turns, i)
		}
	}
	if len(turns) == 0 {
		return ids, head, nil
	}
	try := func(n int) bool {
		c.messages = all[turns[n]:]
		ids, head, err = c.prompt(s)
		return err != nil || len(ids) <= most
	}
	// Fewer messages take fewer tokens. What was tried last need not be the answer.
	if n := sort.Search(len(turns), try); err == nil {
		try(min(n, len(turns)-1))
	}
	return ids, head, err
}

// isFunctionName reports whether a function may be called so.
func isFunctionName(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
	return s != "" && len(s) <= 64 && strings.Trim(s, letters) == ""
}

// mostTools is how many functions a request may declare.
const mostTools = 128

// efforts are the words for how long to think. There is no less than low and no
// more than high.
var efforts = map[string]harmony.ReasoningEffort{
	"none": harmony.Low, "minimal": harmony.Low, "low": harmony.Low,
	"medium": harmony.Medium,
	"high":   harmony.High, "xhigh": harmony.High, "max": harmony.High,
}

func (r *reader) effort(word *string) set {
	return r.choice(word, "none", "minimal", "low", "medium", "high", "xhigh", "max")
}

// function reads a declared function, whose members stand at v.
func (r *reader) function(c *conversation, v harmony.Value, path string, extra map[string]set) {
	var t tool
	sets := map[string]set{
		"name":        r.text(&t.name),
		"description": r.text(&t.description),
		"strict":      r.boolean(&t.strict),
		"parameters": func(v harmony.Value, path string) {
			r.is(v, path, harmony.Object, "an object")
			t.parameters = &v
		},
	}
	for name, s := range extra {
		sets[name] = s
	}
	r.members(v, path, true, sets)
	switch {
	case r.err != nil:
	case !isFunctionName(t.name):
		r.fail(Invalid(path+".name", "This is %s, want 1 to 64 letters, digits, _, . and -.", shown(t.name)))
	case slices.ContainsFunc(c.tools, func(o tool) bool { return o.name == t.name }):
		r.fail(Invalid(path+".name", "There are two functions of the name %s.", shown(t.name)))
	case len(c.tools) == mostTools:
		r.fail(Invalid(path, "There are more than %d functions.", mostTools))
	}
	c.tools = append(c.tools, t)
}

// jsonSchema reads what json_schema says of an answer.
func (r *reader) jsonSchema(f *format, extra map[string]set) func(v harmony.Value, path string) {
	return func(v harmony.Value, path string) {
		there := false
		sets := map[string]set{
			"name":        r.text(&f.name),
			"description": r.text(&f.description),
			"strict":      r.boolean(&f.strict),
			"schema": func(v harmony.Value, path string) {
				f.schema, there = v, true
				r.is(v, path, harmony.Object, "an object")
			},
		}
		for name, s := range extra {
			sets[name] = s
		}
		r.members(v, path, true, sets)
		switch {
		case !isFunctionName(f.name):
			r.fail(Invalid(path+".name", "This is %s, want 1 to 64 letters, digits, _, . and -.", shown(f.name)))
		case !there:
			r.fail(Invalid(path+".schema", "There is no schema."))
		}
	}
}

// A choice of tools.
type toolChoice struct {
	mode string // none, auto, required or function
	name string // of the function
}

// apply proves a choice, and leaves in c the functions that may be called.
func (t *toolChoice) apply(r *reader, c *conversation) {
	has := func(name string) bool {
		return slices.ContainsFunc(c.tools, func(o tool) bool { return o.name == name })
	}
	switch {
	case t.mode == "":
		t.mode = "auto"
	case t.mode == "function" && !has(t.name):
		r.fail(Invalid("tool_choice", "There is no function %s among the tools.", shown(t.name)))
	case t.mode == "required" && len(c.tools)+len(c.builtins) == 0:
		r.fail(Invalid("tool_choice", "There are no tools, want some if one is required."))
	}
	if len(c.tools)+len(c.builtins) == 0 {
		t.mode = "none"
	}
	if t.mode == "none" {
		c.tools, c.builtins = nil, nil
	}
}
