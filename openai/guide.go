package openai

import (
	"crypto/sha256"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ossify/generate"
	"ossify/grammar"
)

// guided gives the job what its answer must be: messages with headers that
// harmony knows, calls of functions that there are, text that a schema holds
// valid.
func (j *job) guided(c *conversation, choice toolChoice) *Error {
	answer := choice.mode != "required" && choice.mode != "function"
	var key strings.Builder // what tells grammars apart
	key.WriteString(strconv.FormatBool(answer) + "\x00" + c.format.kind)
	if c.format.kind == "json_schema" {
		key.Write(c.format.schema.AppendJSON(nil))
	}
	for _, name := range j.builtins {
		key.WriteString("\x00\x02" + name)
	}
	var tools []int // those that may be called
	for i, t := range c.tools {
		if choice.mode == "function" && t.name != choice.name {
			continue
		}
		tools = append(tools, i)
		key.WriteString("\x00" + t.name)
		if t.strict && t.parameters != nil {
			key.WriteByte('\x01')
			key.Write(t.parameters.AppendJSON(nil))
		}
	}
	g, failed := j.svc.grammars.get(sha256.Sum256([]byte(key.String())), func(b *grammar.Builder, v *grammar.Vocabulary) (*grammar.Grammar, *Error) {
		turn := grammar.Turn{Answer: answer, Quiet: c.format.isJSON() || len(tools)+len(j.builtins) == 0}
		param := "tools"
		for _, name := range j.builtins {
			c := grammar.Builtin{Recipient: name}
			if name != pythonTool {
				c.Arguments = b.Object()
			}
			turn.Builtins = append(turn.Builtins, c)
		}
		for _, i := range tools {
			call := grammar.Call{Name: c.tools[i].name, Arguments: b.Object()}
			if p := c.tools[i].parameters; c.tools[i].strict && p != nil {
				e, err := b.Schema(*p)
				if err != nil {
					return nil, schemaError("tools["+strconv.Itoa(i)+"]", err)
				}
				call.Arguments = e
			}
			turn.Calls = append(turn.Calls, call)
		}
		switch c.format.kind {
		case "json_object":
			turn.Text = b.Object()
		case "json_schema":
			if param = "response_format"; j.path == PathResponses {
				param = "text.format"
			}
			e, err := b.Schema(c.format.schema)
			if err != nil {
				return nil, schemaError(param, err)
			}
			turn.Text = e
		}
		g, err := grammar.New(v, b, b.Turn(turn))
		if err != nil {
			return nil, schemaError(param, err)
		}
		return g, nil
	})
	if failed != nil {
		return failed
	}
	j.guide = func() generate.Guide { return g.Guide() }
	return nil
}

func schemaError(param string, err error) *Error {
	var s *grammar.SchemaError
	text := "The schema is too large."
	switch {
	case errors.Is(err, grammar.ErrNoMemory):
		return failure(err)
	case errors.As(err, &s):
		text = "The schema cannot be held to at " + shown(s.Path) + ": " + s.Text + "."
	case errors.Is(err, grammar.ErrEndless):
		text = "No finite value is valid by the schema."
	}
	e := Invalid(param, "%s", text)
	e.Code = "invalid_json_schema"
	return e
}

// grammars keeps those that requests asked for lately.
type grammars struct {
	vocabulary func() *grammar.Vocabulary
	budget     *grammar.Budget

	mu    sync.Mutex
	known map[[sha256.Size]byte]*grammar.Grammar
	order [][sha256.Size]byte // least used first
}

// mostGrammars is how many are kept, each with masks of some megabytes.
const mostGrammars = 16

// get returns the grammar of a key, which make makes if there is none.
func (g *grammars) get(key [sha256.Size]byte, make func(*grammar.Builder, *grammar.Vocabulary) (*grammar.Grammar, *Error)) (*grammar.Grammar, *Error) {
	if known := g.find(key); known != nil {
		return known, nil
	}
	fresh, err := make(grammar.NewBuilder(g.budget), g.vocabulary())
	if err != nil && errors.Is(err, grammar.ErrNoMemory) {
		// Those that are kept give way.
		g.mu.Lock()
		clear(g.known)
		g.order = nil
		g.mu.Unlock()
		runtime.GC()
		fresh, err = make(grammar.NewBuilder(g.budget), g.vocabulary())
	}
	if err != nil {
		return nil, err
	}
	g.keep(key, fresh)
	return fresh, nil
}

// find returns a grammar that is kept, nil for none.
func (g *grammars) find(key [sha256.Size]byte) *grammar.Grammar {
	g.mu.Lock()
	defer g.mu.Unlock()
	known, ok := g.known[key]
	if !ok {
		return nil
	}
	i := slices.Index(g.order, key)
	g.order = append(slices.Delete(g.order, i, i+1), key)
	if known.Worn() {
		return nil
	}
	return known
}

func (g *grammars) keep(key [sha256.Size]byte, fresh *grammar.Grammar) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.known[key]; !ok {
		g.order = append(g.order, key)
	}
	g.known[key] = fresh
	if len(g.order) > mostGrammars {
		delete(g.known, g.order[0])
		g.order = slices.Delete(g.order, 0, 1)
	}
}
