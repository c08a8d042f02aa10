package harmony

import (
	"maps"
	"slices"
	"strings"
)

// A Role says who wrote a message.
type Role string

// The roles.
const (
	User      Role = "user"
	Assistant Role = "assistant"
	System    Role = "system"
	Developer Role = "developer"
	Tool      Role = "tool"
)

// Roles lists all roles, in the reference's order.
func Roles() []Role { return []Role{User, Assistant, System, Developer, Tool} }

// ParseRole returns the role with this name, or an *[Error].
func ParseRole(name string) (Role, error) {
	if r := Role(name); r.known() {
		return r, nil
	}
	return "", errorf("unknown role: %s", name)
}

func (r Role) known() bool {
	switch r {
	case User, Assistant, System, Developer, Tool:
		return true
	}
	return false
}

// debug is the role as the reference's errors show it.
func (r Role) debug() string { return strings.ToUpper(string(r[:1])) + string(r[1:]) }

// An Opt is a text or none. An empty text is not none: a message whose channel
// is "" renders <|channel|>.
type Opt struct {
	text string
	ok   bool
}

// Some returns text as an Opt. The zero Opt is none.
func Some(text string) Opt { return Opt{text: text, ok: true} }

// Get returns the text; ok is false if there is none.
func (o Opt) Get() (text string, ok bool) { return o.text, o.ok }

// Or returns the text, or other if there is none.
func (o Opt) Or(other string) string {
	if o.ok {
		return o.text
	}
	return other
}

// Is reports whether there is a text and it is this one.
func (o Opt) Is(text string) bool { return o == Some(text) }

// An Author is who wrote a message. A tool needs a name.
type Author struct {
	Role Role
	Name Opt
}

// A Message is one turn, or one part of a turn.
type Message struct {
	Author
	Recipient   Opt // whom it is for, as functions.f; none is everybody
	Content     []Content
	Channel     Opt // analysis, commentary or final
	ContentType Opt // as <|constrain|>json
}

// NewMessage returns a message with only an author's role and contents.
func NewMessage(role Role, contents ...Content) Message {
	return Message{Author: Author{Role: role}, Content: contents}
}

// WithName returns m with its author's name set.
func (m Message) WithName(name string) Message { m.Name = Some(name); return m }

// WithChannel returns m with its channel set.
func (m Message) WithChannel(channel string) Message { m.Channel = Some(channel); return m }

// WithRecipient returns m with its recipient set.
func (m Message) WithRecipient(recipient string) Message { m.Recipient = Some(recipient); return m }

// WithContentType returns m with the type of its content set.
func (m Message) WithContentType(contentType string) Message {
	m.ContentType = Some(contentType)
	return m
}

// Adding returns m with one more content.
func (m Message) Adding(c Content) Message {
	m.Content = append(slices.Clone(m.Content), c)
	return m
}

// Text returns the text contents of m, joined.
func (m Message) Text() string {
	var b strings.Builder
	for _, c := range m.Content {
		if t, ok := c.(Text); ok {
			b.WriteString(string(t))
		}
	}
	return b.String()
}

// A Conversation is messages in their order.
type Conversation struct{ Messages []Message }

// Content is one of [Text], [SystemContent] and [DeveloperContent].
type Content interface{ content() }

func (Text) content()             {}
func (SystemContent) content()    {}
func (DeveloperContent) content() {}

// Text is content of any message.
type Text string

// SystemContent is content of a system message only.
type SystemContent struct {
	ModelIdentity         Opt
	ReasoningEffort       ReasoningEffort
	Tools                 map[string]ToolNamespaceConfig // by namespace; nil and empty render the same
	ConversationStartDate Opt                            // as 2025-06-28
	KnowledgeCutoff       Opt                            // as 2024-06
	ChannelConfig         *ChannelConfig                 // nil for none
}

// NewSystemContent returns the content that gpt-oss was trained with: its
// identity, medium effort, knowledge up to 2024-06, the three channels, no
// date and no tools. The zero SystemContent renders nothing, and so does one
// read from JSON where fields are missing.
func NewSystemContent() SystemContent {
	return SystemContent{
		ModelIdentity:   Some("You are ChatGPT, a large language model trained by OpenAI."),
		ReasoningEffort: Medium,
		KnowledgeCutoff: Some("2024-06"),
	}.WithRequiredChannels("analysis", "commentary", "final")
}

// WithModelIdentity returns s with the model's identity set.
func (s SystemContent) WithModelIdentity(text string) SystemContent {
	s.ModelIdentity = Some(text)
	return s
}

// WithReasoningEffort returns s with the effort set.
func (s SystemContent) WithReasoningEffort(e ReasoningEffort) SystemContent {
	s.ReasoningEffort = e
	return s
}

// WithConversationStartDate returns s with the current date set.
func (s SystemContent) WithConversationStartDate(date string) SystemContent {
	s.ConversationStartDate = Some(date)
	return s
}

// WithKnowledgeCutoff returns s with the end of the model's knowledge set.
func (s SystemContent) WithKnowledgeCutoff(date string) SystemContent {
	s.KnowledgeCutoff = Some(date)
	return s
}

// WithChannelConfig returns s with its channels set.
func (s SystemContent) WithChannelConfig(c ChannelConfig) SystemContent {
	s.ChannelConfig = &c
	return s
}

// WithRequiredChannels returns s with these channels, one of which every
// message must have.
func (s SystemContent) WithRequiredChannels(channels ...string) SystemContent {
	return s.WithChannelConfig(ChannelConfig{ValidChannels: channels, ChannelRequired: true})
}

// WithTools returns s with a namespace of tools added, or replaced.
func (s SystemContent) WithTools(ns ToolNamespaceConfig) SystemContent {
	s.Tools = withTools(s.Tools, ns)
	return s
}

// WithBrowserTool returns s with [Browser].
func (s SystemContent) WithBrowserTool() SystemContent { return s.WithTools(Browser()) }

// WithPythonTool returns s with [Python].
func (s SystemContent) WithPythonTool() SystemContent { return s.WithTools(Python()) }

// ReasoningEffort is how long the model is to think. Zero is unsaid.
type ReasoningEffort uint8

// The efforts.
const (
	Low ReasoningEffort = iota + 1
	Medium
	High
)

// String returns the effort's name, "" if it is unsaid.
func (e ReasoningEffort) String() string {
	switch e {
	case Low:
		return "Low"
	case Medium:
		return "Medium"
	case High:
		return "High"
	}
	return ""
}

// A ChannelConfig says which channels there are.
type ChannelConfig struct {
	ValidChannels   []string // none renders nothing
	ChannelRequired bool
}

// DeveloperContent is content of a developer message only.
type DeveloperContent struct {
	Instructions Opt
	Tools        map[string]ToolNamespaceConfig // by namespace; nil and empty render the same
}

// WithInstructions returns d with its instructions set.
func (d DeveloperContent) WithInstructions(text string) DeveloperContent {
	d.Instructions = Some(text)
	return d
}

// WithTools returns d with a namespace of tools added, or replaced.
func (d DeveloperContent) WithTools(ns ToolNamespaceConfig) DeveloperContent {
	d.Tools = withTools(d.Tools, ns)
	return d
}

// WithFunctionTools returns d with these tools as namespace functions.
func (d DeveloperContent) WithFunctionTools(tools ...ToolDescription) DeveloperContent {
	return d.WithTools(ToolNamespaceConfig{Name: "functions", Tools: tools})
}

// withTools does not change the map: contents are copied as values.
func withTools(tools map[string]ToolNamespaceConfig, ns ToolNamespaceConfig) map[string]ToolNamespaceConfig {
	tools = maps.Clone(tools)
	if tools == nil {
		tools = make(map[string]ToolNamespaceConfig)
	}
	tools[ns.Name] = ns
	return tools
}

// A ToolNamespaceConfig is tools under one name.
type ToolNamespaceConfig struct {
	Name        string
	Description Opt
	Tools       []ToolDescription
}

// A ToolDescription is one tool.
type ToolDescription struct {
	Name        string
	Description string
	Parameters  *Value // a JSON schema; nil for none
}
