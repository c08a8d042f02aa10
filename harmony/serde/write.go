package serde

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"ossify/harmony"
)

// AppendConversation appends c as the reference writes it.
func AppendConversation(dst []byte, c harmony.Conversation) []byte {
	dst = append(dst, `{"messages":`...)
	return append(appendList(dst, c.Messages, AppendMessage), '}')
}

// AppendMessage appends m as the reference writes it: a single text is a string.
func AppendMessage(dst []byte, m harmony.Message) []byte {
	dst = append(dst, `{"role":`...)
	dst = appendQuoted(dst, string(m.Role))
	dst = appendSome(dst, `,"name":`, m.Name)
	dst = appendSome(dst, `,"recipient":`, m.Recipient)
	dst = append(dst, `,"content":`...)
	if t, ok := onlyText(m); ok {
		dst = appendQuoted(dst, t)
	} else {
		dst = appendList(dst, m.Content, appendContent)
	}
	dst = appendSome(dst, `,"channel":`, m.Channel)
	dst = appendSome(dst, `,"content_type":`, m.ContentType)
	return append(dst, '}')
}

func onlyText(m harmony.Message) (string, bool) {
	if len(m.Content) != 1 {
		return "", false
	}
	t, ok := m.Content[0].(harmony.Text)
	return string(t), ok
}

// appendContent appends c; one of no known type is null.
func appendContent(dst []byte, c harmony.Content) []byte {
	switch c := c.(type) {
	case harmony.Text:
		dst = append(dst, `{"type":"text","text":`...)
		return append(appendQuoted(dst, string(c)), '}')
	case harmony.SystemContent:
		return appendSystem(dst, c)
	case harmony.DeveloperContent:
		dst = append(dst, `{"type":"developer_content","instructions":`...)
		dst = appendOpt(dst, c.Instructions)
		return append(appendTools(dst, c.Tools), '}')
	}
	return append(dst, "null"...)
}

func appendSystem(dst []byte, s harmony.SystemContent) []byte {
	dst = append(dst, `{"type":"system_content","model_identity":`...)
	dst = appendOpt(dst, s.ModelIdentity)
	dst = append(dst, `,"reasoning_effort":`...)
	if e := s.ReasoningEffort.String(); e != "" {
		dst = appendQuoted(dst, e)
	} else {
		dst = append(dst, "null"...)
	}
	dst = appendTools(dst, s.Tools)
	dst = append(dst, `,"conversation_start_date":`...)
	dst = appendOpt(dst, s.ConversationStartDate)
	dst = append(dst, `,"knowledge_cutoff":`...)
	dst = appendOpt(dst, s.KnowledgeCutoff)
	dst = append(dst, `,"channel_config":`...)
	if c := s.ChannelConfig; c != nil {
		dst = append(dst, `{"valid_channels":`...)
		dst = appendList(dst, c.ValidChannels, appendQuoted)
		dst = fmt.Appendf(dst, `,"channel_required":%t}`, c.ChannelRequired)
	} else {
		dst = append(dst, "null"...)
	}
	return append(dst, '}')
}

func appendTools(dst []byte, tools map[string]harmony.ToolNamespaceConfig) []byte {
	dst = append(dst, `,"tools":`...)
	if tools == nil {
		return append(dst, "null"...)
	}
	dst = append(dst, '{')
	for i, key := range slices.Sorted(maps.Keys(tools)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendQuoted(dst, key), ':')
		dst = AppendTools(dst, tools[key])
	}
	return append(dst, '}')
}

// AppendTools appends a namespace of tools as the reference writes it.
func AppendTools(dst []byte, ns harmony.ToolNamespaceConfig) []byte {
	dst = append(dst, `{"name":`...)
	dst = appendQuoted(dst, ns.Name)
	dst = append(dst, `,"description":`...)
	dst = appendOpt(dst, ns.Description)
	dst = append(dst, `,"tools":`...)
	dst = appendList(dst, ns.Tools, func(dst []byte, t harmony.ToolDescription) []byte {
		dst = append(dst, `{"name":`...)
		dst = appendQuoted(dst, t.Name)
		dst = append(dst, `,"description":`...)
		dst = appendQuoted(dst, t.Description)
		dst = append(dst, `,"parameters":`...)
		if t.Parameters != nil {
			dst = t.Parameters.AppendJSON(dst)
		} else {
			dst = append(dst, "null"...)
		}
		return append(dst, '}')
	})
	return append(dst, '}')
}

func appendOpt(dst []byte, o harmony.Opt) []byte {
	if s, ok := o.Get(); ok {
		return appendQuoted(dst, s)
	}
	return append(dst, "null"...)
}

// appendSome appends key and o, unless o is none.
func appendSome(dst []byte, key string, o harmony.Opt) []byte {
	if s, ok := o.Get(); ok {
		dst = append(dst, key...)
		dst = appendQuoted(dst, s)
	}
	return dst
}

func appendList[T any](dst []byte, list []T, appendOne func([]byte, T) []byte) []byte {
	dst = append(dst, '[')
	for i, e := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendOne(dst, e)
	}
	return append(dst, ']')
}

// AppendMessages appends messages as a JSON array.
func AppendMessages(dst []byte, messages []harmony.Message) []byte {
	return appendList(dst, messages, AppendMessage)
}

func appendQuoted(dst []byte, s string) []byte {
	return harmony.Value{Kind: harmony.String, Text: s}.AppendJSON(dst)
}

// AppendState appends a parser's state with what belongs to it: the ids of the
// header, or the header and the content encoded again.
func AppendState(dst []byte, p *harmony.Parser) []byte {
	switch p.State() {
	case harmony.Header:
		return append(appendIDs(append(dst, `{"state":"Header","header_tokens":`...), p.HeaderTokens()), '}')
	case harmony.InContent:
		author := p.CurrentAuthor()
		dst = append(dst, `{"state":"Content","header":{"author":{"role":`...)
		dst = appendQuoted(dst, string(author.Role))
		dst = appendSome(dst, `,"name":`, author.Name)
		dst = append(dst, `},"recipient":`...)
		dst = appendOpt(dst, p.CurrentRecipient())
		dst = append(dst, `,"channel":`...)
		dst = appendOpt(dst, p.CurrentChannel())
		dst = append(dst, `,"content_type":`...)
		dst = appendOpt(dst, p.CurrentContentType())
		dst = append(dst, `},"content_tokens":`...)
		return append(appendIDs(dst, p.ContentTokens()), '}')
	}
	return append(dst, `{"state":"ExpectStart"}`...)
}

func appendIDs(dst []byte, ids []uint32) []byte {
	return appendList(dst, ids, func(dst []byte, id uint32) []byte { return strconv.AppendUint(dst, uint64(id), 10) })
}
