package harmony

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"ossify/tokenizer"
)

// What the reference says of its encoding.
const (
	Name             = "HarmonyGptOss"
	TokenizerName    = "o200k_harmony"
	MaxContext       = 1 << 20                      // tokens of a conversation
	MaxActionLength  = 1 << 19                      // tokens of an action
	MaxMessageTokens = MaxContext - MaxActionLength // tokens of a message
)

// The channels of gpt-oss.
const (
	Analysis   = "analysis"   // thinking, and calls of built-in tools; not for the user
	Commentary = "commentary" // calls of functions, and words to the user before them
	Final      = "final"      // the answer
)

// StopTokens end a message.
func StopTokens() []uint32 {
	return []uint32{tokenizer.Return, tokenizer.End, tokenizer.Call}
}

// StopTokensForAssistantActions end a turn: sampling stops at them. A server
// should stop at tokenizer.EndOfText as well.
func StopTokensForAssistantActions() []uint32 {
	return []uint32{tokenizer.Return, tokenizer.Call}
}

func isStop(id uint32) bool {
	return id == tokenizer.Return || id == tokenizer.End || id == tokenizer.Call
}

// Encoding renders and parses conversations. It does not change after New and
// may be used by many goroutines at once.
type Encoding struct{ t *tokenizer.Tokenizer }

// New returns the encoding of gpt-oss.
func New(t *tokenizer.Tokenizer) *Encoding { return &Encoding{t: t} }

// Tokenizer returns what New was given: it encodes and decodes plain text.
func (e *Encoding) Tokenizer() *tokenizer.Tokenizer { return e.t }

// A Drop says which analysis of a conversation is not rendered. Dropped are
// messages of any role on the channel analysis, calls of built-in tools and
// their results included.
type Drop uint8

const (
	// DropAuto is the reference's auto_drop_analysis, its default in Python: if
	// the last assistant message is final, what comes before the first final
	// message. Analysis between later finals stays.
	DropAuto Drop = iota
	// DropNone is auto_drop_analysis switched off, the default in Rust.
	DropNone
	// DropBeforeLastFinal drops what comes before the last final message of the
	// assistant, and so keeps the current turn: what OpenAI's servers, vLLM and
	// the chat template on Hugging Face do.
	DropBeforeLastFinal
)

// before returns the index before which analysis is dropped.
func (d Drop) before(messages []Message) int {
	final := func(m Message) bool { return m.Channel.Is(Final) }
	switch d {
	case DropAuto:
		for _, m := range slices.Backward(messages) {
			if m.Role == Assistant {
				if !final(m) {
					return 0
				}
				return slices.IndexFunc(messages, final)
			}
		}
	case DropBeforeLastFinal:
		for i, m := range slices.Backward(messages) {
			if m.Role == Assistant && final(m) {
				return i
			}
		}
	}
	return 0
}

// RenderOptions is what a message alone does not know.
type RenderOptions struct {
	// ConversationHasFunctionTools adds a line about calls to the system message.
	ConversationHasFunctionTools bool
}

// Render returns the ids of one message. Errors are of type *[Error].
func (e *Encoding) Render(m Message, o RenderOptions) ([]uint32, error) {
	return e.AppendMessage(nil, m, o)
}

// RenderConversation returns the ids of c.
func (e *Encoding) RenderConversation(c Conversation, d Drop) ([]uint32, error) {
	return e.AppendConversation(nil, c, d)
}

// RenderForCompletion returns the ids of c and the start of a message of next,
// which a model is to complete.
func (e *Encoding) RenderForCompletion(c Conversation, next Role, d Drop) ([]uint32, error) {
	return e.AppendForCompletion(nil, c, next, d)
}

// RenderForTraining returns the ids of c. If its last message is of the
// assistant and final, the last id is Return.
func (e *Encoding) RenderForTraining(c Conversation, d Drop) ([]uint32, error) {
	ids, err := e.AppendConversation(nil, c, d)
	if n := len(c.Messages); err == nil && n > 0 && len(ids) > 0 {
		if last := c.Messages[n-1]; last.Role == Assistant && last.Channel.Is(Final) {
			ids[len(ids)-1] = tokenizer.Return
		}
	}
	return ids, err
}

// RenderUserPrompt returns the ids of one message of the user to complete, as
// a plain deployment has it: the default system message, the text, and the
// start of the assistant's answer. There is no date, so they never change.
func (e *Encoding) RenderUserPrompt(text string) []uint32 {
	ids, _ := e.RenderForCompletion(Conversation{[]Message{
		NewMessage(System, NewSystemContent()),
		NewMessage(User, Text(text)),
	}}, Assistant, DropAuto) // these messages have no mistake
	return ids
}

// AssistantMask reports for every id of a rendered conversation whether the
// assistant wrote it: all after <|start|>assistant up to and with the id that
// ends the message. These are what training counts.
func (e *Encoding) AssistantMask(ids []uint32) []bool {
	assistant := e.text(nil, string(Assistant))[0] // the role is one token
	mask := make([]bool, len(ids))
	written := false
	for i, id := range ids {
		mask[i] = written
		switch {
		case id == tokenizer.Start || isStop(id):
			written = false
		case i > 0 && ids[i-1] == tokenizer.Start:
			written = id == assistant
		}
	}
	return mask
}

// AppendForCompletion is RenderForCompletion that appends to dst. On an error
// dst is returned as it was.
func (e *Encoding) AppendForCompletion(dst []uint32, c Conversation, next Role, d Drop) ([]uint32, error) {
	if !next.known() {
		return dst, errorf("unknown role: %s", next)
	}
	ids, err := e.AppendConversation(dst, c, d)
	if err != nil {
		return dst, err
	}
	return e.text(append(ids, tokenizer.Start), string(next)), nil
}

// AppendConversation is RenderConversation that appends to dst. On an error
// dst is returned as it was.
func (e *Encoding) AppendConversation(dst []uint32, c Conversation, d Drop) ([]uint32, error) {
	o := RenderOptions{ConversationHasFunctionTools: slices.ContainsFunc(c.Messages, hasFunctionTools)}
	before := d.before(c.Messages)
	ids := dst
	for i, m := range c.Messages {
		if i < before && m.Channel.Is(Analysis) {
			continue
		}
		var err error
		if ids, err = e.AppendMessage(ids, m, o); err != nil {
			return dst, err
		}
	}
	return ids, nil
}

// hasFunctionTools looks at developer content only, and at the namespace's key
// rather than its name.
func hasFunctionTools(m Message) bool {
	return slices.ContainsFunc(m.Content, func(c Content) bool {
		d, ok := c.(DeveloperContent)
		return ok && len(d.Tools["functions"].Tools) > 0
	})
}

// AppendMessage is Render that appends to dst. On an error dst is returned as
// it was. Every part is encoded on its own: no text becomes a special token,
// and no token spans two parts.
func (e *Encoding) AppendMessage(dst []uint32, m Message, o RenderOptions) ([]uint32, error) {
	ids := append(dst, tokenizer.Start)
	name, named := m.Name.Get()
	switch {
	case !m.Role.known():
		return dst, errorf("unknown role: %s", m.Role)
	case m.Role != Tool:
		ids = e.text(ids, string(m.Role))
		if named {
			ids = e.text(ids, ":"+name)
		}
	case named:
		ids = e.text(ids, name)
	default:
		return dst, errorf("Tools should have a name!")
	}
	recipient, addressed := m.Recipient.Get()
	if addressed && recipient != "all" {
		ids = e.text(ids, " to="+recipient)
	}
	if channel, ok := m.Channel.Get(); ok {
		ids = e.text(append(ids, tokenizer.Channel), channel)
	}
	if t, ok := m.ContentType.Get(); ok {
		if rest, ok := strings.CutPrefix(t, constrainMarker); ok {
			ids = append(e.text(ids, " "), tokenizer.Constrain)
			ids = e.text(ids, rest)
		} else {
			ids = e.text(ids, " "+t)
		}
	}
	ids = append(ids, tokenizer.Message)
	for _, c := range m.Content {
		switch c := c.(type) {
		case Text:
			ids = e.text(ids, string(c))
		case SystemContent:
			if m.Role != System {
				return dst, errorf("SystemContent may only appear in system messages, found in %s", m.Role.debug())
			}
			ids = e.text(ids, c.text(o))
		case DeveloperContent:
			if m.Role != Developer {
				return dst, errorf("DeveloperContent may only appear in developer messages, found in %s", m.Role.debug())
			}
			ids = e.text(ids, c.text())
		default:
			return dst, errorf("content without a type")
		}
	}
	// A call ends with its own token, even one to all, who are not named.
	if m.Role == Assistant && addressed {
		return append(ids, tokenizer.Call), nil
	}
	return append(ids, tokenizer.End), nil
}

// The names of special tokens that headers spell.
const (
	channelMarker   = "<|channel|>"
	constrainMarker = "<|constrain|>"
)

func (e *Encoding) text(dst []uint32, s string) []uint32 { return e.t.EncodeOrdinary(dst, s) }

// text is what s renders: sections with an empty line between.
func (s SystemContent) text(o RenderOptions) string {
	var sections, top []string
	if id, ok := s.ModelIdentity.Get(); ok {
		top = append(top, id)
	}
	if date, ok := s.KnowledgeCutoff.Get(); ok {
		top = append(top, "Knowledge cutoff: "+date)
	}
	if date, ok := s.ConversationStartDate.Get(); ok {
		top = append(top, "Current date: "+date)
	}
	if len(top) > 0 {
		sections = append(sections, strings.Join(top, "\n"))
	}
	if e := s.ReasoningEffort.String(); e != "" {
		sections = append(sections, "Reasoning: "+strings.ToLower(e))
	}
	if len(s.Tools) > 0 {
		sections = append(sections, toolsText(s.Tools))
	}
	if c := s.ChannelConfig; c != nil && len(c.ValidChannels) > 0 {
		text := "# Valid channels: " + strings.Join(c.ValidChannels, ", ") + "."
		if c.ChannelRequired {
			text += " Channel must be included for every message."
		}
		if o.ConversationHasFunctionTools {
			text += "\nCalls to these tools must go to the commentary channel: 'functions'."
		}
		sections = append(sections, text)
	}
	return strings.Join(sections, "\n\n")
}

// text is what d renders.
func (d DeveloperContent) text() string {
	var sections []string
	if text, ok := d.Instructions.Get(); ok {
		sections = append(sections, "# Instructions", text)
	}
	if len(d.Tools) > 0 {
		sections = append(sections, toolsText(d.Tools))
	}
	return strings.Join(sections, "\n\n")
}

// toolsText renders namespaces in the order of their keys.
func toolsText(tools map[string]ToolNamespaceConfig) string {
	sections := []string{"# Tools"}
	for _, key := range slices.Sorted(maps.Keys(tools)) {
		sections = append(sections, tools[key].text())
	}
	return strings.Join(sections, "\n\n")
}

func (ns ToolNamespaceConfig) text() string {
	lines := []string{"## " + ns.Name + "\n"}
	prefix := ""
	if len(ns.Tools) > 0 {
		prefix = "// "
	}
	for _, l := range textLines(ns.Description.Or("")) {
		lines = append(lines, prefix+l)
	}
	if len(ns.Tools) > 0 {
		lines = append(lines, "namespace "+ns.Name+" {\n")
		for _, t := range ns.Tools {
			for _, l := range textLines(t.Description) {
				lines = append(lines, "// "+l)
			}
			input := ""
			if t.Parameters != nil {
				input = "_: " + typeScript(*t.Parameters, "")
			}
			lines = append(lines, "type "+t.Name+" = ("+input+") => any;\n")
		}
		lines = append(lines, "} // namespace "+ns.Name)
	}
	return strings.Join(lines, "\n")
}

// textLines splits s as Rust's lines does: an end of line is \n or \r\n, and
// the last one starts no line.
func textLines(s string) []string {
	if s == "" {
		return nil
	}
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	for i, l := range lines {
		// The last line keeps a \r that no \n follows.
		if i < len(lines)-1 || strings.HasSuffix(s, "\n") {
			lines[i] = strings.TrimSuffix(l, "\r")
		}
	}
	return lines
}

// wellFormed returns s with U+FFFD for what is not UTF-8.
func wellFormed(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string(tokenizer.AppendReplacing(nil, []byte(s)))
}
