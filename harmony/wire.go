package harmony

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ParseConversation reads {"messages": [...]}. Errors are of type *[Error].
func ParseConversation(data []byte) (c Conversation, err error) {
	err = readAll(data, func(r *reader) (err *Error) {
		c.Messages, err = r.conversation()
		return err
	})
	if err != nil {
		return Conversation{}, err
	}
	return c, nil
}

// ParseMessage reads one message. Errors are of type *[Error].
func ParseMessage(data []byte) (m Message, err error) {
	err = readAll(data, func(r *reader) (err *Error) {
		m, err = r.message()
		return err
	})
	if err != nil {
		return Message{}, err
	}
	return m, nil
}

// UnmarshalJSON is [ParseConversation].
func (c *Conversation) UnmarshalJSON(data []byte) (err error) {
	*c, err = ParseConversation(data)
	return err
}

// UnmarshalJSON is [ParseMessage].
func (m *Message) UnmarshalJSON(data []byte) (err error) {
	*m, err = ParseMessage(data)
	return err
}

// The functions below follow the readers that serde 1.0.219 derives for the
// reference's types. A type may be given as an array of its fields, too.

func (r *reader) conversation() (messages []Message, err *Error) {
	c, ok := r.space()
	switch {
	case !ok:
		return nil, r.failNext(eofValue)
	case c == '[':
		err = r.list(func(a *access) *Error {
			more, err := a.element()
			if err != nil {
				return err
			}
			if !more {
				return errorf("invalid length 0, expected struct Conversation with 1 element")
			}
			messages, err = r.messages()
			return err
		})
		return messages, err
	case c == '{':
		err = r.object(func(a *access) *Error {
			seen := false
			for {
				name, more, err := a.name()
				if err != nil {
					return err
				}
				switch {
				case !more && !seen:
					return missing("messages")
				case !more:
					return nil
				case name == "messages" && seen:
					return duplicate(name)
				}
				if err := r.colon(); err != nil {
					return err
				}
				if name == "messages" {
					seen = true
					messages, err = r.messages()
				} else {
					err = r.skip()
				}
				if err != nil {
					return err
				}
			}
		})
		return messages, err
	}
	return nil, r.reject("struct Conversation", false)
}

func (r *reader) messages() (messages []Message, err *Error) {
	c, ok := r.space()
	switch {
	case !ok:
		return nil, r.failNext(eofValue)
	case c != '[':
		return nil, r.reject("a sequence", false)
	}
	messages = []Message{}
	err = r.list(func(a *access) *Error {
		for {
			if more, err := a.element(); err != nil || !more {
				return err
			}
			m, err := r.message()
			if err != nil {
				return err
			}
			messages = append(messages, m)
		}
	})
	return messages, err
}

func (r *reader) message() (m Message, err *Error) {
	c, ok := r.space()
	switch {
	case !ok:
		return m, r.failNext(eofValue)
	case c != '{':
		return m, r.reject("struct Message", false)
	}
	err = r.object(func(a *access) *Error {
		var others []Member
		seen := make(map[string]bool, 4)
		for {
			name, more, err := a.name()
			if err != nil {
				return err
			}
			if !more {
				break
			}
			var opt *Opt
			switch name {
			case "recipient":
				opt = &m.Recipient
			case "channel":
				opt = &m.Channel
			case "content_type":
				opt = &m.ContentType
			case "content":
			default:
				v, err := a.value()
				if err != nil {
					return err
				}
				others = append(others, Member{Name: name, Value: v})
				continue
			}
			if seen[name] {
				return duplicate(name)
			}
			seen[name] = true
			if err := r.colon(); err != nil {
				return err
			}
			if opt != nil {
				*opt, err = r.opt()
			} else {
				m.Content, err = r.contents()
			}
			if err != nil {
				return err
			}
		}
		if !seen["content"] {
			return missing("content")
		}
		var err *Error
		m.Author, err = authorOf(Value{kind: Object, members: others})
		return err
	})
	return m, err
}

// opt reads a string or null.
func (r *reader) opt() (Opt, *Error) {
	switch c, ok := r.space(); {
	case !ok:
		return Opt{}, r.failNext(eofValue)
	case c == 'n':
		r.i++
		return Opt{}, r.ident("ull")
	case c == '"':
		r.i++
		s, err := r.str()
		return Some(s), err
	}
	return Opt{}, r.reject("a string", false)
}

func (r *reader) contents() (contents []Content, err *Error) {
	c, ok := r.space()
	switch {
	case !ok:
		return nil, r.failNext(eofValue)
	case c == '"':
		r.i++
		s, err := r.str()
		return []Content{Text(s)}, err
	case c != '[':
		return nil, r.reject("string or list of content", true)
	}
	contents = []Content{}
	err = r.list(func(a *access) *Error {
		for {
			if more, err := a.element(); err != nil || !more {
				return err
			}
			tag, v, err := r.tagged()
			if err != nil {
				return err
			}
			// A mistake in v is found when the reader is past it.
			c, err := contentOf(tag, v)
			if err != nil {
				return err
			}
			contents = append(contents, c)
		}
	})
	return contents, err
}

// The types of content.
const (
	tagText      = "text"
	tagSystem    = "system_content"
	tagDeveloper = "developer_content"
)

// tagged reads a content: its type, and the fields beside.
func (r *reader) tagged() (tag string, v Value, err *Error) {
	c, ok := r.space()
	switch {
	case !ok:
		return "", v, r.failNext(eofValue)
	case c == '[':
		v.kind = Array
		err = r.list(func(a *access) *Error {
			more, err := a.element()
			if err != nil {
				return err
			}
			if !more {
				return missing("type")
			}
			if tag, err = r.tag(); err != nil {
				return err
			}
			for {
				if more, err := a.element(); err != nil || !more {
					return err
				}
				e, err := r.value()
				if err != nil {
					return err
				}
				v.items = append(v.items, e)
			}
		})
		return tag, v, err
	case c != '{':
		return "", v, r.reject("internally tagged enum Content", true)
	}
	v.kind = Object
	err = r.object(func(a *access) *Error {
		for {
			name, more, err := a.name()
			switch {
			case err != nil:
				return err
			case !more && tag == "":
				return missing("type")
			case !more:
				return nil
			case name == "type" && tag != "":
				return duplicate(name)
			case name == "type":
				if err := r.colon(); err != nil {
					return err
				}
				if tag, err = r.tag(); err != nil {
					return err
				}
				continue
			}
			e, err := a.value()
			if err != nil {
				return err
			}
			v.members = append(v.members, Member{Name: name, Value: e})
		}
	})
	return tag, v, err
}

func (r *reader) tag() (string, *Error) {
	c, ok := r.space()
	switch {
	case !ok:
		return "", r.failNext(eofValue)
	case c != '"':
		return "", r.reject("variant identifier", false)
	}
	r.i++
	s, err := r.str()
	if err != nil {
		return "", err
	}
	_, err = variantOf(s, tagText, tagSystem, tagDeveloper)
	return s, r.placed(err)
}

// reject returns the error for a value of the wrong type. Scalars are read;
// an array or object is entered if the wanted thing could have been any value.
func (r *reader) reject(want string, enter bool) *Error {
	switch c := r.peek(); {
	case c == '[' && enter:
		return r.list(func(*access) *Error { return wrongType(Value{kind: Array}, want) })
	case c == '{' && enter:
		return r.object(func(*access) *Error { return wrongType(Value{kind: Object}, want) })
	case c == '[':
		return r.placed(wrongType(Value{kind: Array}, want))
	case c == '{':
		return r.placed(wrongType(Value{kind: Object}, want))
	default:
		v, err := r.scalar(c)
		if err == nil {
			err = wrongType(v, want)
		}
		return r.placed(err)
	}
}

func missing(field string) *Error   { return errorf("missing field `%s`", field) }
func duplicate(field string) *Error { return errorf("duplicate field `%s`", field) }

func wrongType(got Value, want string) *Error {
	return errorf("invalid type: %s, expected %s", unexpected(got), want)
}

func unexpected(v Value) string {
	switch v.kind {
	case Bool:
		return "boolean `" + v.text + "`"
	case Number:
		if v.isFloat() {
			return "floating point `" + v.text + "`"
		}
		return "integer `" + v.text + "`"
	case String:
		return "string " + debugString(v.text)
	case Array:
		return "sequence"
	case Object:
		return "map"
	}
	return "null"
}

// The functions below make things of values that were read before. Their
// errors have no place.

func authorOf(v Value) (a Author, err *Error) {
	err = fieldsOf(v, "Author", []field{
		{"role", func(v Value) (err *Error) {
			var names []string
			for _, r := range roles {
				names = append(names, string(r))
			}
			i, err := enumOf(v, names...)
			if err == nil {
				a.Role = roles[i]
			}
			return err
		}, true},
		{"name", intoOpt(&a.Name), false},
	})
	return a, err
}

func contentOf(tag string, v Value) (Content, *Error) {
	switch tag {
	case tagText:
		var t string
		err := fieldsOf(v, "TextContent", []field{{"text", into(&t, textOf), true}})
		return Text(t), err
	case tagDeveloper:
		var d DeveloperContent
		err := fieldsOf(v, "DeveloperContent", []field{
			{"instructions", intoOpt(&d.Instructions), false},
			{"tools", intoTools(&d.Tools), false},
		})
		return d, err
	}
	var s SystemContent
	err := fieldsOf(v, "SystemContent", []field{
		{"model_identity", intoOpt(&s.ModelIdentity), false},
		{"reasoning_effort", notNull(func(v Value) *Error {
			i, err := enumOf(v, efforts[Low:]...)
			s.ReasoningEffort = Low + ReasoningEffort(i)
			return err
		}), false},
		{"tools", intoTools(&s.Tools), false},
		{"conversation_start_date", intoOpt(&s.ConversationStartDate), false},
		{"knowledge_cutoff", intoOpt(&s.KnowledgeCutoff), false},
		{"channel_config", notNull(func(v Value) *Error {
			s.ChannelConfig = &ChannelConfig{}
			return fieldsOf(v, "ChannelConfig", []field{
				{"valid_channels", into(&s.ChannelConfig.ValidChannels, listOf(textOf)), true},
				{"channel_required", into(&s.ChannelConfig.ChannelRequired, boolOf), true},
			})
		}), false},
	})
	return s, err
}

func namespaceOf(v Value) (ns ToolNamespaceConfig, err *Error) {
	err = fieldsOf(v, "ToolNamespaceConfig", []field{
		{"name", into(&ns.Name, textOf), true},
		{"description", intoOpt(&ns.Description), false},
		{"tools", into(&ns.Tools, listOf(toolOf)), true},
	})
	return ns, err
}

func toolOf(v Value) (t ToolDescription, err *Error) {
	err = fieldsOf(v, "ToolDescription", []field{
		{"name", into(&t.Name, textOf), true},
		{"description", into(&t.Description, textOf), true},
		{"parameters", notNull(func(v Value) *Error {
			v = v.unique()
			t.Parameters = &v
			return nil
		}), false},
	})
	return t, err
}

// A field is a field of a struct.
type field struct {
	name     string
	set      func(Value) *Error
	required bool
}

// fieldsOf sets the fields of a struct from an object, or from an array that
// has them in their order.
func fieldsOf(v Value, name string, fields []field) *Error {
	switch v.kind {
	case Object:
		seen := make([]bool, len(fields))
		for _, m := range v.members {
			i := slices.IndexFunc(fields, func(f field) bool { return f.name == m.Name })
			if i < 0 {
				continue
			}
			if seen[i] {
				return duplicate(m.Name)
			}
			seen[i] = true
			if err := fields[i].set(m.Value); err != nil {
				return err
			}
		}
		for i, f := range fields {
			if f.required && !seen[i] {
				return missing(f.name)
			}
		}
		return nil
	case Array:
		for i, f := range fields {
			if i == len(v.items) {
				return errorf("invalid length %d, expected struct %s with %s", i, name, elements(len(fields)))
			}
			if err := f.set(v.items[i]); err != nil {
				return err
			}
		}
		if len(v.items) > len(fields) {
			return errorf("invalid length %d, expected %s in sequence", len(v.items), elements(len(fields)))
		}
		return nil
	}
	return wrongType(v, "struct "+name)
}

func elements(n int) string {
	if n == 1 {
		return "1 element"
	}
	return fmt.Sprintf("%d elements", n)
}

func into[T any](dst *T, of func(Value) (T, *Error)) func(Value) *Error {
	return func(v Value) (err *Error) {
		*dst, err = of(v)
		return err
	}
}

// notNull leaves a field as it is when it is null.
func notNull(set func(Value) *Error) func(Value) *Error {
	return func(v Value) *Error {
		if v.kind == Null {
			return nil
		}
		return set(v)
	}
}

func intoOpt(dst *Opt) func(Value) *Error {
	return notNull(func(v Value) *Error {
		s, err := textOf(v)
		*dst = Some(s)
		return err
	})
}

func intoTools(dst *map[string]ToolNamespaceConfig) func(Value) *Error {
	return notNull(func(v Value) *Error {
		if v.kind != Object {
			return wrongType(v, "a map")
		}
		*dst = make(map[string]ToolNamespaceConfig, len(v.members))
		for _, m := range v.members {
			ns, err := namespaceOf(m.Value)
			if err != nil {
				return err
			}
			(*dst)[m.Name] = ns
		}
		return nil
	})
}

func textOf(v Value) (string, *Error) {
	if v.kind != String {
		return "", wrongType(v, "a string")
	}
	return v.text, nil
}

func boolOf(v Value) (bool, *Error) {
	if v.kind != Bool {
		return false, wrongType(v, "a boolean")
	}
	return v.text == "true", nil
}

func listOf[T any](of func(Value) (T, *Error)) func(Value) ([]T, *Error) {
	return func(v Value) ([]T, *Error) {
		if v.kind != Array {
			return nil, wrongType(v, "a sequence")
		}
		list := make([]T, len(v.items))
		for i, e := range v.items {
			var err *Error
			if list[i], err = of(e); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
}

// enumOf returns the index of a variant: "name" or {"name": null}.
func enumOf(v Value, names ...string) (int, *Error) {
	switch v.kind {
	case String:
		return variantOf(v.text, names...)
	case Object:
		if len(v.members) != 1 {
			return 0, errorf("invalid value: map, expected map with a single key")
		}
		m := v.members[0]
		i, err := variantOf(m.Name, names...)
		// An empty object passes for null here.
		if err == nil && m.Value.kind != Null && !(m.Value.kind == Object && len(m.Value.members) == 0) {
			err = wrongType(m.Value, "unit")
		}
		return i, err
	}
	return 0, wrongType(v, "string or map")
}

func variantOf(s string, names ...string) (int, *Error) {
	if i := slices.Index(names, s); i >= 0 {
		return i, nil
	}
	return 0, errorf("unknown variant `%s`, expected one of `%s`", s, strings.Join(names, "`, `"))
}

// MarshalJSON returns c as [Conversation.AppendJSON] does.
func (c Conversation) MarshalJSON() ([]byte, error) { return c.AppendJSON(nil), nil }

// MarshalJSON returns m as [Message.AppendJSON] does.
func (m Message) MarshalJSON() ([]byte, error) { return m.AppendJSON(nil), nil }

// AppendJSON appends c as the reference writes it.
func (c Conversation) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"messages":`...)
	return append(appendList(dst, c.Messages, Message.AppendJSON), '}')
}

// AppendJSON appends m as the reference writes it: a single text is a string.
func (m Message) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"role":`...)
	dst = appendQuoted(dst, string(m.Role))
	dst = appendSome(dst, `,"name":`, m.Name)
	dst = appendSome(dst, `,"recipient":`, m.Recipient)
	dst = append(dst, `,"content":`...)
	if t, ok := m.onlyText(); ok {
		dst = appendQuoted(dst, t)
	} else {
		dst = appendList(dst, m.Content, func(c Content, dst []byte) []byte { return c.appendJSON(dst) })
	}
	dst = appendSome(dst, `,"channel":`, m.Channel)
	dst = appendSome(dst, `,"content_type":`, m.ContentType)
	return append(dst, '}')
}

func (m Message) onlyText() (string, bool) {
	if len(m.Content) != 1 {
		return "", false
	}
	t, ok := m.Content[0].(Text)
	return string(t), ok
}

func (t Text) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"type":"text","text":`...)
	return append(appendQuoted(dst, string(t)), '}')
}

func (s SystemContent) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"type":"system_content","model_identity":`...)
	dst = appendOpt(dst, s.ModelIdentity)
	dst = append(dst, `,"reasoning_effort":`...)
	if s.ReasoningEffort.known() {
		dst = appendQuoted(dst, efforts[s.ReasoningEffort])
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
		dst = appendList(dst, c.ValidChannels, func(s string, dst []byte) []byte { return appendQuoted(dst, s) })
		dst = fmt.Appendf(dst, `,"channel_required":%t}`, c.ChannelRequired)
	} else {
		dst = append(dst, "null"...)
	}
	return append(dst, '}')
}

func (e ReasoningEffort) known() bool { return Low <= e && e <= High }

func (d DeveloperContent) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"type":"developer_content","instructions":`...)
	dst = appendOpt(dst, d.Instructions)
	return append(appendTools(dst, d.Tools), '}')
}

func appendTools(dst []byte, tools map[string]ToolNamespaceConfig) []byte {
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
		dst = tools[key].AppendJSON(dst)
	}
	return append(dst, '}')
}

// MarshalJSON returns ns as [ToolNamespaceConfig.AppendJSON] does.
func (ns ToolNamespaceConfig) MarshalJSON() ([]byte, error) { return ns.AppendJSON(nil), nil }

// AppendJSON appends ns as the reference writes it.
func (ns ToolNamespaceConfig) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"name":`...)
	dst = appendQuoted(dst, ns.Name)
	dst = append(dst, `,"description":`...)
	dst = appendOpt(dst, ns.Description)
	dst = append(dst, `,"tools":`...)
	dst = appendList(dst, ns.Tools, func(t ToolDescription, dst []byte) []byte {
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

func appendOpt(dst []byte, o Opt) []byte {
	if s, ok := o.Get(); ok {
		return appendQuoted(dst, s)
	}
	return append(dst, "null"...)
}

// appendSome appends key and o, unless o is none.
func appendSome(dst []byte, key string, o Opt) []byte {
	if s, ok := o.Get(); ok {
		dst = append(dst, key...)
		dst = appendQuoted(dst, s)
	}
	return dst
}

func appendList[T any](dst []byte, list []T, appendOne func(T, []byte) []byte) []byte {
	dst = append(dst, '[')
	for i, e := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendOne(e, dst)
	}
	return append(dst, ']')
}

// AppendMessages appends messages as a JSON array.
func AppendMessages(dst []byte, messages []Message) []byte {
	return appendList(dst, messages, Message.AppendJSON)
}
