package openai

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"ossify/harmony"
	"ossify/harmony/serde"
)

// The names of the tools that the model knows from its training.
const (
	browserTool = "browser"
	pythonTool  = "python"
)

// Tools are what runs the built-in tools of gpt-oss. A request gets those that
// it asks for, of those that are there; nothing runs in this process.
type Tools struct {
	Browser, Python Runner // nil for none

	Rounds int           // calls of one response, at most; 0 is 16
	Time   time.Duration // of one call; 0 is two minutes, as the model is told
	Bytes  int           // of what a call returns; more is left out; 0 is 64 KiB

	// Failed is told why a tool could not be asked, which clients and the model
	// are not: it may name addresses. May be nil.
	Failed func(tool string, err error)
}

// A Runner starts sessions of a tool: a conversation's pages or variables are
// not another's.
type Runner func() RunnerSession

// A RunnerSession is one response's. Call returns the text that the tool answers
// to arguments in JSON, and whether it says that it failed; err is why it could
// not be asked.
type RunnerSession interface {
	Call(ctx context.Context, tool string, arguments []byte) (text string, failed bool, err error)
	Close()
}

func (t *Tools) defaults() {
	if t.Rounds == 0 {
		t.Rounds = 16
	}
	if t.Time == 0 {
		t.Time = 2 * time.Minute
	}
	if t.Bytes == 0 {
		t.Bytes = 64 << 10
	}
}

func (t *Tools) runner(name string) Runner {
	if name == browserTool {
		return t.Browser
	}
	return t.Python
}

// builtinTypes are the types of tools in requests, and what they are to the
// model.
var builtinTypes = map[string]string{
	"web_search": browserTool, "web_search_preview": browserTool, "browser_search": browserTool,
	"code_interpreter": pythonTool,
}

// builtinTool reads a tool of the server, as it stands in a request's tools.
func (r *reader) builtinTool(s *Service, c *conversation, typ string, v harmony.Value, path string) {
	name := builtinTypes[typ]
	sets := map[string]set{"type": nil}
	if name == browserTool {
		// What the user is near to and how much is wanted are hints; whom to ask is not.
		sets["search_context_size"], sets["user_location"], sets["filters"] = nil, nil, r.refuse("")
	} else {
		sets["container"] = func(v harmony.Value, path string) {
			r.members(v, path, true, map[string]set{"type": r.choice(new(string), "auto")})
		}
	}
	r.members(v, path, true, sets)
	if s.o.Tools.runner(name) == nil {
		r.fail(unsupported(path+".type", "This server runs no %s.", name))
	}
	if c.builtins == nil {
		c.builtins = map[string]bool{}
	}
	c.builtins[name] = true
}

// recipients are the names by which the model calls the tools of the server.
func (c *conversation) recipients() (names []string) {
	if c.builtins[browserTool] {
		for _, t := range harmony.Browser().Tools {
			names = append(names, browserTool+"."+t.Name)
		}
	}
	if c.builtins[pythonTool] {
		names = append(names, pythonTool)
	}
	return names
}

// splitRecipient returns a recipient's tool, and the name of its function at the
// tool's server.
func splitRecipient(to string) (tool, function string) {
	tool, function, ok := strings.Cut(to, ".")
	if !ok {
		function = tool
	}
	return tool, function
}

// isBuiltin reports whether a name is one by which the model calls a tool.
func isBuiltin(to string) bool {
	all := conversation{builtins: map[string]bool{browserTool: true, pythonTool: true}}
	return contains(all.recipients(), to)
}

// addBuiltin adds a call of a tool of the server, and what it returned.
func (c *conversation) addBuiltin(to, arguments, output string) {
	c.add(harmony.NewMessage(harmony.Assistant, harmony.Text(arguments)).
		WithRecipient(to).WithChannel(harmony.Analysis).WithContentType("code"))
	c.add(harmony.NewMessage(harmony.Tool, harmony.Text(output)).
		WithName(to).WithRecipient("assistant").WithChannel(harmony.Analysis))
}

// sessions are those of one response, by tool.
type sessions map[string]RunnerSession

func (s sessions) close() {
	for _, r := range s {
		r.Close()
	}
}

// runTool asks a tool of the server. Whatever happens becomes text for the
// model: its answer, or what went wrong; only the end of ctx is an error.
func (s *Service) runTool(ctx context.Context, open sessions, to, arguments string) (output string, failed bool, err error) {
	tool, function := splitRecipient(to)
	if tool == pythonTool {
		arguments = string(encode(map[string]string{"code": arguments}))
	} else if v, err := serde.ParseValue([]byte(arguments)); err != nil || v.Kind != harmony.Object {
		return "Error: the arguments are no JSON object.", true, nil
	}
	session := open[tool]
	if session == nil {
		session = s.o.Tools.runner(tool)()
		open[tool] = session
	}
	limited, cancel := context.WithTimeout(ctx, s.o.Tools.Time)
	defer cancel()
	output, failed, err = session.Call(limited, function, []byte(arguments))
	switch {
	case ctx.Err() != nil:
		return "", true, context.Cause(ctx)
	case err != nil:
		if s.o.Tools.Failed != nil {
			s.o.Tools.Failed(tool, err)
		}
		delete(open, tool) // its state is gone
		session.Close()
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Sprintf("Error: %s took longer than %v.", tool, s.o.Tools.Time), true, nil
		}
		return fmt.Sprintf("Error: %s cannot be reached.", tool), true, nil
	}
	return shortened(strings.ToValidUTF8(output, "\uFFFD"), s.o.Tools.Bytes), failed, nil
}

// shortened is a text of at most so many bytes, and a word about the rest.
func shortened(text string, most int) string {
	if len(text) <= most {
		return text
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return fmt.Sprintf("%s\n[%d bytes more were left out]", text[:cut], len(text)-cut)
}

// rounds computes the response: the model's turn, the tool that it calls, its
// next turn, until it calls none. emit gets the events of each turn, and how many
// segments came before it.
func (c *responseCall) rounds(ctx context.Context, emit func(t *turn, base int, events []event) error, e *emitter) (outcome, *Error) {
	open := sessions{}
	defer open.close()
	left := c.svc.o.Tools.Rounds
	if c.response.MaxToolCalls != nil {
		left = min(left, *c.response.MaxToolCalls)
	}
	most := c.job.options.Most
	var sum outcome
	for round := 0; ; round++ {
		base := len(sum.segments)
		outs, failed := c.job.runAll(ctx, func(_ int, t *turn, events []event) error { return emit(t, base, events) }, nil)
		out := outs[0]
		sum.segments = append(sum.segments, out.segments...)
		sum.finish = out.finish
		sum.usage.Prompt += out.usage.Prompt
		sum.usage.Cached += out.usage.Cached
		sum.usage.Completion += out.usage.Completion
		sum.usage.Reasoning += out.usage.Reasoning
		if failed != nil {
			return sum, failed
		}
		n := len(out.segments)
		asks := n > 0 && out.segments[n-1].kind == builtin && out.finish != finishLength
		for i, s := range out.segments {
			if s.kind == builtin && !(asks && i == n-1) {
				if err := c.dropped(e, base+i); err != nil {
					return sum, failure(err)
				}
			}
		}
		if !asks {
			return sum, nil
		}
		called := out.segments[n-1]
		output, bad, err := c.svc.runTool(ctx, open, called.name, called.text.String())
		if err != nil {
			return sum, failure(err)
		}
		// What the model wrote is rendered anew: what was no message would spoil
		// the prompt.
		for _, s := range out.segments[:n-1] {
			switch s.kind {
			case reasoning:
				c.conv.assistant(harmony.Analysis, s.text.String())
			case text:
				c.conv.assistant(harmony.Commentary, s.text.String())
			}
		}
		c.conv.addBuiltin(called.name, called.text.String(), output)
		if left--; left <= 0 {
			c.job.builtins = nil
		}
		if most > 0 {
			if c.job.options.Most = most - sum.usage.Completion; c.job.options.Most <= 0 {
				sum.finish = finishLength
			}
		}
		if sum.finish != finishLength {
			output, bad, failed = c.again(output, bad)
			if failed != nil && failed.Code == "context_length_exceeded" {
				sum.finish, failed = finishLength, nil
			}
		}
		if err := c.returned(e, base+n-1, output, bad); err != nil {
			return sum, failure(err)
		}
		if failed != nil || sum.finish == finishLength {
			return sum, failed
		}
		c.job.options.Sampling.Seed += 0x9e3779b97f4a7c15
	}
}

// again makes the next turn's prompt. What a tool returned that has no room
// becomes a word about that.
func (c *responseCall) again(output string, bad bool) (string, bool, *Error) {
	for {
		ids, head, err := c.conv.fitted(c.svc)
		if err != nil {
			return output, bad, failure(err)
		}
		c.job.prompt, c.job.marks = ids, nil
		if head > 0 {
			c.job.marks = []int{head}
		}
		failed := c.job.ready()
		const large = "Error: the answer is too large for this conversation."
		if failed == nil || output == large {
			if failed == nil {
				// A call was asked for, and came: from here on the model may answer.
				failed = c.job.guided(&c.conv, toolChoice{mode: "auto"})
			}
			return output, bad, failed
		}
		output, bad = large, true
		last := &c.conv.messages[len(c.conv.messages)-1]
		last.Content = []harmony.Content{harmony.Text(output)}
	}
}
