package harmony

import (
	"slices"
	"strings"
	"unicode/utf8"

	"ossify/tokenizer"
)

// RecoveryOptions are what a server knows of a completion.
type RecoveryOptions struct {
	// Tools are the names there are, as functions.f, browser.search or python.
	// They mend recipients: a name without functions., or with something glued
	// to its end. A recipient that stays unknown is kept as it was written.
	Tools []string
}

// A Recovered is a message as [Recovery] made it out.
type Recovered struct {
	// Message has one Text, once it is done. The assistant's messages have one
	// of the three channels.
	Message
	// Tokens are the ids it was made of, those of <|start|> and the like
	// included. The Tokens of all messages and Rest are all ids that came.
	Tokens []uint32
	// Header is the text that was taken for its header, without special tokens.
	// What is not in a Header is in a content.
	Header string
}

// An Event is something that became visible: a message was opened (no Text,
// not Done), its content grew by Text, or it is Done.
type Event struct {
	Message int // index in Messages
	Text    string
	Done    bool
}

// A Recovery reads messages from whatever a model sampled after
// <|start|>assistant. It never fails, and every byte of text becomes content
// of a message or stands in its Header; no name of a special token becomes
// text unless the model spelled it. The Texts of a message's events joined are
// its content. Work is linear in the ids.
//
// Well-formed messages come out as from [Parser]. As for the rest:
//
//   - <|channel|> and <|message|> need no <|start|> before them: they begin a
//     message of the assistant, also within a content. <|start|> and
//     <|endoftext|> end a content.
//   - A header that ends without <|message|>, or grows beyond 1 KiB, is content
//     but for the role and the channel at their places. So is text between
//     messages; only white space is not.
//   - A channel counts by the known name it starts with; else it is final. The
//     first known one counts.
//   - The role is the assistant's unless the header names another or reads like
//     a tool's answer.
//   - json, code and <|constrain|>x are types of content, also after a space or
//     without recipient; other extra words stay in Header.
//   - <|message|> and <|constrain|> within a content, other special tokens and
//     ids that are no token have no text.
type Recovery struct {
	e     *Encoding
	tools []string

	open   bool   // in a content
	given  bool   // the role was given: no header named one yet
	parts  []part // of the header
	size   int    // bytes of parts
	lead   []byte // header text that led to no message yet
	tokens []uint32

	content []byte
	pending []byte // the start of a code point, at most 3 bytes

	messages []Recovered
	events   []Event
}

// A part of a header is text after a special token, 0 for the first.
type part struct {
	marker uint32
	text   []byte
}

// maxHeader is more bytes than any sensible header has: what is longer is
// content, which must not be held back.
const maxHeader = 1024

// NewRecovery returns a Recovery at the start of a completion.
func (e *Encoding) NewRecovery(o RecoveryOptions) *Recovery {
	return &Recovery{e: e, tools: o.Tools, given: true}
}

// Recover returns the messages of a whole completion.
func (e *Encoding) Recover(ids []uint32, o RecoveryOptions) []Recovered {
	r := e.NewRecovery(o)
	for _, id := range ids {
		r.Push(id)
	}
	r.Finish()
	return r.Messages()
}

// Messages returns the messages that were opened so far.
func (r *Recovery) Messages() []Recovered { return r.messages }

// Rest returns the ids that belong to no message yet. After Finish their text
// is white space or a role at most.
func (r *Recovery) Rest() []uint32 { return r.tokens }

// Push reads one id. The events are valid until the next call.
func (r *Recovery) Push(id uint32) []Event {
	r.events = r.events[:0]
	switch id {
	case tokenizer.Return, tokenizer.End, tokenizer.Call, tokenizer.EndOfText:
		r.tokens = append(r.tokens, id)
		r.end()
		return r.events
	case tokenizer.Start:
		r.end()
		r.given = false
	case tokenizer.Channel:
		if r.open {
			r.end()
		}
		r.mark(id)
	case tokenizer.Constrain:
		if !r.open {
			r.mark(id)
		}
	case tokenizer.Message:
		if !r.open {
			r.tokens = append(r.tokens, id)
			m, header := r.completeHeader()
			r.begin(m, header)
			return r.events
		}
	}
	r.tokens = append(r.tokens, id)
	if id >= tokenizer.Ordinary {
		r.limit()
		return r.events
	}
	token, _ := r.e.t.Token(id)
	if r.open {
		r.write(token)
		return r.events
	}
	if len(r.parts) == 0 {
		r.parts = append(r.parts, part{})
	}
	last := &r.parts[len(r.parts)-1]
	last.text = append(last.text, token...)
	r.size += len(token)
	r.limit()
	return r.events
}

// mark adds a part to the header.
func (r *Recovery) mark(marker uint32) {
	r.parts = append(r.parts, part{marker: marker})
	r.size += len(channelMarker)
}

// limit stops holding back what is too long for a header.
func (r *Recovery) limit() {
	if r.size > maxHeader {
		r.brokenHeader()
	}
}

// Finish says that no id follows: the model is done, or its length ran out.
// The events are valid until the next call.
func (r *Recovery) Finish() []Event {
	r.events = r.events[:0]
	r.end()
	return r.events
}

// end ends the content, or makes content of an unfinished header.
func (r *Recovery) end() {
	if !r.open {
		r.brokenHeader()
		r.given = false
	}
	if !r.open {
		return
	}
	i := len(r.messages) - 1
	if len(r.pending) > 0 {
		r.emit("\uFFFD")
		r.pending = r.pending[:0]
	}
	m := &r.messages[i]
	m.Content = []Content{Text(r.content)}
	m.Tokens = r.tokens
	r.events = append(r.events, Event{Message: i, Done: true})
	r.open, r.tokens, r.content = false, nil, r.content[:0]
}

// begin opens a message.
func (r *Recovery) begin(m Message, header []byte) {
	if m.Role == Assistant && !m.Channel.ok {
		m.Channel = Some(Final)
	}
	r.messages = append(r.messages, Recovered{Message: m, Header: wellFormed(string(r.lead) + string(header))})
	r.events = append(r.events, Event{Message: len(r.messages) - 1})
	r.open, r.given = true, false
	r.parts, r.size, r.lead = nil, 0, nil
}

// write adds bytes to the content.
func (r *Recovery) write(token string) {
	if len(r.pending) == 0 && utf8.ValidString(token) {
		r.emit(token)
		return
	}
	b := append(r.pending, token...)
	var text []byte
	for {
		valid, bad := tokenizer.ScanUTF8(b)
		text = append(text, b[:valid]...)
		b = b[valid+bad:]
		if bad == 0 {
			break
		}
		text = append(text, "\uFFFD"...)
	}
	r.pending = append([]byte(nil), b...)
	r.emit(string(text))
}

func (r *Recovery) emit(text string) {
	if text != "" {
		r.content = append(r.content, text...)
		r.events = append(r.events, Event{Message: len(r.messages) - 1, Text: text})
	}
}

// brokenHeader opens a message with the text of a header that has no
// <|message|>, if there is something to open it for.
func (r *Recovery) brokenHeader() {
	m := NewMessage(Assistant)
	var header, content []byte
	marked := false
	for i, p := range r.parts {
		text := p.text
		n := 0
		if i == 0 && p.marker == 0 {
			var role Role
			if role, n = leadingRole(text); role == Assistant || role != "" && !r.given {
				m.Role = role
			} else {
				n = 0
			}
		}
		if p.marker == tokenizer.Channel {
			marked = true
			name := leadingChannel(strings.TrimLeft(string(text), " "))
			n = len(name)
			if n > 0 {
				n += len(text) - len(strings.TrimLeft(string(text), " "))
			}
			if n > 0 && !m.Channel.ok {
				m.Channel = Some(name)
			}
		}
		header = append(header, text[:n]...)
		content = append(content, text[n:]...)
	}
	if strings.TrimFunc(string(content), isASCIISpace) != "" {
		r.begin(m, header)
		r.write(string(content))
		return
	}
	header = header[:0]
	for _, p := range r.parts {
		header = append(header, p.text...)
	}
	if marked {
		r.begin(m, header)
		return
	}
	r.lead = append(r.lead, header...)
	r.parts, r.size = nil, 0
}

// leadingRole returns the role that text starts with as a word, and the bytes
// up to its end.
func leadingRole(text []byte) (Role, int) {
	word := strings.TrimLeftFunc(string(text), isASCIISpace)
	start := len(text) - len(word)
	if i := strings.IndexFunc(word, isASCIISpace); i >= 0 {
		word = word[:i]
	}
	if r := Role(word); r.known() {
		return r, start + len(word)
	}
	return "", 0
}

// leadingChannel returns the known channel that s starts with, "" for none.
func leadingChannel(s string) string {
	for _, name := range []string{Analysis, Commentary, Final} {
		if strings.HasPrefix(s, name) {
			return name
		}
	}
	return ""
}

// completeHeader reads the header before <|message|>.
func (r *Recovery) completeHeader() (m Message, header []byte) {
	var b strings.Builder // with the names of markers, which models spell as well
	for _, p := range r.parts {
		switch p.marker {
		case tokenizer.Channel:
			b.WriteString(channelMarker)
		case tokenizer.Constrain:
			b.WriteString(constrainMarker)
		}
		b.Write(p.text)
		header = append(header, p.text...)
	}
	text, channels, marked := strings.Cut(wellFormed(b.String()), channelMarker)
	if marked {
		m.Channel = Some(Final)
		known := false
		for _, c := range strings.Split(channels, channelMarker) {
			c = strings.TrimLeftFunc(c, isASCIISpace)
			if name := leadingChannel(c); name != "" && !known {
				known = true
				m.Channel = Some(name)
			}
			// The rest of the channel's word belongs to no other word.
			if i := strings.IndexFunc(c, func(r rune) bool { return r == '<' || isASCIISpace(r) }); i >= 0 {
				text += " " + c[i:]
			}
		}
	}
	words := strings.FieldsFunc(strings.ReplaceAll(text, constrainMarker, " "+constrainMarker), isASCIISpace)
	words = m.takeAuthor(words, r.given)
	r.takeAddress(&m, words)
	return m, header
}

// takeAuthor takes the author from the start of words and returns the rest.
func (m *Message) takeAuthor(words []string, given bool) []string {
	m.Role = Assistant
	if len(words) == 0 {
		return words
	}
	word, name, named := strings.Cut(words[0], ":")
	switch role := Role(word); {
	case role == Assistant, !given && role.known():
		m.Role = role
		if named {
			m.Name = Some(name)
		}
		return words[1:]
	case !given && slices.Contains(words[1:], "to=assistant"):
		m.Role, m.Name = Tool, Some(words[0])
		return words[1:]
	}
	return words
}

// takeAddress finds the recipient and the type of the content among words.
func (r *Recovery) takeAddress(m *Message, words []string) {
	for i := 0; i < len(words); i++ {
		word := words[i]
		next := "" // the word after a space that should not be there
		if i+1 < len(words) && !strings.HasPrefix(words[i+1], "to=") && !strings.HasPrefix(words[i+1], "<|") {
			next = words[i+1]
		}
		if to, ok := strings.CutPrefix(word, "to="); ok {
			if to == "" && next != "" {
				to = next
				i++
			}
			if to, _, _ = strings.Cut(to, "<|"); to != "" && !m.Recipient.ok {
				m.Recipient = Some(r.mend(to))
			}
			continue
		}
		if typ, ok := strings.CutPrefix(word, constrainMarker); ok {
			if typ == "" && next != "" {
				typ = next
				i++
			}
			if !m.ContentType.ok || !strings.HasPrefix(m.ContentType.text, constrainMarker) {
				m.ContentType = Some(constrainMarker + typ)
			}
			continue
		}
		switch {
		case (word == "json" || word == "code") && !m.ContentType.ok:
			m.ContentType = Some(word)
		case !m.Recipient.ok && r.isTool(word):
			m.Recipient = Some(r.mend(word))
		}
	}
}

// isTool reports whether a bare word is a recipient.
func (r *Recovery) isTool(word string) bool {
	if len(r.tools) > 0 {
		return slices.Contains(r.tools, word) || slices.Contains(r.tools, "functions."+word)
	}
	return word == "python" || strings.HasPrefix(word, "browser.") || strings.HasPrefix(word, "functions.")
}

// mend returns the tool that is meant by name, or name.
func (r *Recovery) mend(name string) string {
	best := ""
	for _, tool := range r.tools {
		switch {
		case tool == name:
			return name
		case tool == "functions."+name:
			best = tool
		case strings.HasPrefix(name, tool) && len(tool) > len(best) && best != "functions."+name:
			best = tool
		}
	}
	if best == "" {
		return name
	}
	return best
}
