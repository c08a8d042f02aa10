package harmony

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"ossify/harmony/internal/rust"
	"ossify/tokenizer"
)

// A State is where a [Parser] is in a message.
type State uint8

// The states.
const (
	ExpectStart State = iota // between messages
	Header                   // from <|start|> to <|message|>
	InContent                // from <|message|> to a stop token; "Content" in the reference
)

func (s State) String() string { return [...]string{"ExpectStart", "Header", "Content"}[s] }

// ParseOptions change what a [Parser] accepts.
type ParseOptions struct {
	// Lenient is the reference's strict=False: a message that ends in its header
	// becomes one, if its role was given; without a given role it is dropped
	// silently. Other mistakes remain errors.
	Lenient bool
}

// A Parser reads messages from ids as they come, exactly as the reference's
// StreamableParser does: it fails on malformed headers, and its deltas may lag
// behind or miss text. See [Recovery] for one that does not.
type Parser struct {
	e       *Encoding
	lenient bool
	role    Role // of the message that comes; "" if its header has to say
	state   State
	ids     []uint32
	header  []uint32
	message Message // in state InContent: all but its content

	content []byte
	pieces  []int  // ends of the parts of content, each encoded on its own
	pending []byte // bytes that are no text yet
	lost    bool   // an unknown id came: the message's further text is lost
	delta   Opt

	messages []Message
}

// NewParser returns a Parser. If role is given, the first message's header
// starts after <|start|> and the role, as a completion does; if it is "", the
// stream starts with <|start|>.
func (e *Encoding) NewParser(role Role, o ParseOptions) *Parser {
	p := &Parser{e: e, lenient: o.Lenient, role: role}
	if role != "" {
		p.state = Header
	}
	return p
}

// Parse returns the messages of a completion. Errors are of type *[Error].
func (e *Encoding) Parse(ids []uint32, role Role, o ParseOptions) ([]Message, error) {
	p := e.NewParser(role, o)
	for _, id := range ids {
		if err := p.Process(id); err != nil {
			return nil, err
		}
	}
	if err := p.ProcessEOS(); err != nil {
		return nil, err
	}
	return p.Messages(), nil
}

// Process reads one id. After an *[Error] the Parser may still be used; after
// a malformed header it expects <|start|>.
func (p *Parser) Process(id uint32) error {
	p.ids = append(p.ids, id)
	switch p.state {
	case ExpectStart:
		if id != tokenizer.Start {
			return errorf("Unexpected token %d while expecting start token %d", id, tokenizer.Start)
		}
		p.state, p.header = Header, nil
	case Header:
		switch {
		case id == tokenizer.Message:
			return p.endHeader()
		case p.lenient && isStop(id):
			return p.endInHeader()
		}
		p.header = append(p.header, id)
	case InContent:
		if isStop(id) {
			p.endMessage()
		} else {
			p.push(id)
		}
	}
	return nil
}

// ProcessEOS says that no id follows. It is an *[Error] within a header.
func (p *Parser) ProcessEOS() error {
	switch p.state {
	case Header:
		return errorf("Unexpected EOS while waiting for message header to complete")
	case InContent:
		p.endMessage()
	}
	return nil
}

func (p *Parser) endHeader() error {
	p.state = ExpectStart
	text, err := p.e.t.Decode(p.header)
	if err != nil {
		return errorf("could not decode header")
	}
	m, words, e := parseHeader(text, p.role)
	if e != nil {
		return e
	}
	if words = m.address(words); len(words) > 0 {
		return errorf("unexpected tokens remaining in message header: Some(%s)", rust.Debug(strings.Join(words, " ")))
	}
	p.state, p.role, p.message = InContent, "", m
	return nil
}

// endInHeader makes a message of a header at whose end a stop token came.
func (p *Parser) endInHeader() error {
	if p.role != "" && len(p.header) > 0 {
		text, err := p.e.t.Decode(p.header)
		if err != nil {
			return &Error{Text: DecodeErrorText(err)}
		}
		m, words, e := parseHeader(text, p.role)
		if e != nil {
			return e
		}
		m.Content = []Content{Text(strings.Join(words, " "))}
		p.messages = append(p.messages, m)
	}
	p.state, p.role = ExpectStart, ""
	return nil
}

// DecodeErrorText is what the reference says for an error of the tokenizer's
// Decode.
func DecodeErrorText(err error) string {
	text := err.Error()
	var id *tokenizer.UnknownIDError
	var invalid *tokenizer.InvalidUTF8Error
	switch {
	case errors.As(err, &id):
		text = fmt.Sprintf("Invalid token error: Invalid token for decoding: %d", id.ID)
	case errors.As(err, &invalid):
		text = "Invalid utf-8 sequence: " + invalid.Reference()
	}
	return "Could not decode tokens: " + text
}

// push reads one id of content. At most one ill-formed sequence is replaced
// per id; bytes after it wait for the next.
func (p *Parser) push(id uint32) {
	token, ok := p.e.t.Token(id)
	if p.lost = p.lost || !ok; p.lost {
		p.delta = Opt{}
		return
	}
	p.pending = append(p.pending, token...)
	valid, bad := tokenizer.ScanUTF8(p.pending)
	from := len(p.content)
	if valid > 0 {
		p.content = append(p.content, p.pending[:valid]...)
		p.pieces = append(p.pieces, len(p.content))
	}
	if bad > 0 {
		p.content = append(p.content, "\uFFFD"...)
		p.pieces = append(p.pieces, len(p.content))
	}
	p.pending = append(p.pending[:0], p.pending[valid+bad:]...)
	p.delta = Opt{}
	if from < len(p.content) {
		p.delta = Some(string(p.content[from:]))
	}
}

func (p *Parser) endMessage() {
	if p.lost {
		p.content = append(p.content, "\uFFFD"...)
	}
	p.content = tokenizer.AppendReplacing(p.content, p.pending)
	p.message.Content = []Content{Text(p.content)}
	p.messages = append(p.messages, p.message)
	p.state, p.message, p.delta = ExpectStart, Message{}, Opt{}
	p.content, p.pieces, p.pending, p.lost = p.content[:0], p.pieces[:0], p.pending[:0], false
}

// State returns where the parser is.
func (p *Parser) State() State { return p.state }

// Messages returns the messages that are complete.
func (p *Parser) Messages() []Message { return p.messages }

// Tokens returns all ids that came.
func (p *Parser) Tokens() []uint32 { return p.ids }

// CurrentRole returns the role of the message that is being read, "" if it is
// not known.
func (p *Parser) CurrentRole() Role {
	if p.state == InContent {
		return p.message.Role
	}
	return p.role
}

// CurrentRecipient returns the recipient of the message whose content is being
// read.
func (p *Parser) CurrentRecipient() Opt { return p.message.Recipient }

// CurrentChannel returns the channel of the message whose content is being
// read.
func (p *Parser) CurrentChannel() Opt { return p.message.Channel }

// CurrentContentType returns the type of the content that is being read.
func (p *Parser) CurrentContentType() Opt { return p.message.ContentType }

// CurrentContent returns the content that is being read.
func (p *Parser) CurrentContent() string {
	if p.state != InContent {
		return ""
	}
	return string(p.content)
}

// LastContentDelta returns what the last id added to the content; none while
// bytes wait for more.
func (p *Parser) LastContentDelta() Opt { return p.delta }

// CurrentAuthor returns the author of the message whose content is being read.
func (p *Parser) CurrentAuthor() Author { return p.message.Author }

// HeaderTokens returns the ids of the header that is being read.
func (p *Parser) HeaderTokens() []uint32 {
	if p.state != Header {
		return nil
	}
	return p.header
}

// ContentTokens returns the content that is being read encoded again, part by
// part as it came, which need not be the ids that came.
func (p *Parser) ContentTokens() (ids []uint32) {
	from := 0
	for _, to := range p.pieces {
		ids = p.e.text(ids, string(p.content[from:to]))
		from = to
	}
	return ids
}

// parseHeader reads the text of a header: author and channel into m. words is
// what is left of it.
func parseHeader(text string, role Role) (m Message, words []string, err *Error) {
	if before, after, ok := strings.Cut(text, channelMarker); ok {
		end := strings.IndexFunc(after, func(r rune) bool { return r == '<' || unicode.IsSpace(r) })
		if end < 0 {
			end = len(after)
		}
		if end == 0 {
			return m, nil, errorf("channel marker present but no channel value found in header")
		}
		m.Channel = Some(after[:end])
		text = before + after[end:]
	}
	// Trimming and splitting differ in what white space is.
	text = strings.TrimSpace(text)
	if strings.Contains(text, constrainMarker) {
		text = strings.TrimSpace(strings.ReplaceAll(text, constrainMarker, " "+constrainMarker))
	}
	words = strings.FieldsFunc(text, isASCIISpace)

	m.Role = role
	if role == "" {
		if len(words) == 0 {
			return m, nil, errorf("message header did not contain a role")
		}
		m.Role = Role(words[0])
		if !m.Role.known() {
			if len(words) == 1 && !strings.HasPrefix(words[0], "to=") {
				return m, nil, errorf("Unknown role: %s", words[0])
			}
			m.Role = Tool
			m.Name = Some(words[0])
			words = words[1:]
		} else if m.Role == Tool {
			m.Name = Some(words[0])
		}
	}
	if len(words) > 0 && words[0] == string(m.Role) {
		words = words[1:]
	}
	return m, words, nil
}

// address takes the recipient and the type of the content from the end of
// words and returns the rest.
func (m *Message) address(words []string) []string {
	n := len(words)
	if n == 0 {
		return nil
	}
	recipient, to := strings.CutPrefix(words[n-1], "to=")
	if to || n == 1 {
		m.Recipient = Some(recipient)
		return words[:n-1]
	}
	m.ContentType = Some(words[n-1])
	m.Recipient = Some(strings.TrimPrefix(words[n-2], "to="))
	return words[:n-2]
}

func isASCIISpace(r rune) bool { return strings.ContainsRune(" \t\n\f\r", r) }
