package serde

import (
	"fmt"
	"slices"
	"strings"

	"ossify/harmony"
	"ossify/harmony/internal/rust"
)

// ParseConversation reads {"messages": [...]}. Errors are of type *[harmony.Error].
func ParseConversation(data []byte) (c harmony.Conversation, err error) {
	err = readAll(data, func(r *reader) (err *harmony.Error) {
		c.Messages, err = r.conversation()
		return err
	})
	if err != nil {
		return harmony.Conversation{}, err
	}
	return c, nil
}

// ParseMessage reads one message. Errors are of type *[harmony.Error].
func ParseMessage(data []byte) (m harmony.Message, err error) {
	err = readAll(data, func(r *reader) (err *harmony.Error) {
		m, err = r.message()
		return err
	})
	if err != nil {
		return harmony.Message{}, err
	}
	return m, nil
}

// ParseValue reads a JSON text. A repeated name keeps its first place and its
// last value. Errors are of type *[harmony.Error].
func ParseValue(data []byte) (harmony.Value, error) {
	var v harmony.Value
	err := readAll(data, func(r *reader) (err *harmony.Error) {
		v, err = r.value()
		return err
	})
	return unique(v), err
}

// The functions below follow the readers that serde 1.0.219 derives for the
// reference's types. A type may be given as an array of its fields, too.

func (r *reader) conversation() (messages []harmony.Message, err *harmony.Error) {
	c, ok := r.space()
	switch {
	case !ok:
		return nil, r.failNext(eofValue)
	case c == '[':
		err = r.list(func(a *access) *harmony.Error {
			err := a.first(errorf("invalid length 0, expected struct Conversation with 1 element"))
			if err == nil {
				messages, err = r.messages()
			}
			return err
		})
		return messages, err
	case c == '{':
		err = r.object(func(a *access) *harmony.Error {
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

func (r *reader) messages() (messages []harmony.Message, err *harmony.Error) {
	if err := r.begins('[', "a sequence"); err != nil {
		return nil, err
	}
	messages = []harmony.Message{}
	err = r.list(func(a *access) *harmony.Error {
		return a.elements(func() *harmony.Error {
			m, err := r.message()
			if err == nil {
				messages = append(messages, m)
			}
			return err
		})
	})
	return messages, err
}

// begins looks for the character with which something wanted begins.
func (r *reader) begins(with byte, want string) *harmony.Error {
	switch c, ok := r.space(); {
	case !ok:
		return r.failNext(eofValue)
	case c != with:
		return r.reject(want, false)
	}
	return nil
}

func (r *reader) message() (m harmony.Message, err *harmony.Error) {
	if err := r.begins('{', "struct Message"); err != nil {
		return m, err
	}
	err = r.object(func(a *access) *harmony.Error {
		var others []harmony.Member
		seen := make(map[string]bool, 4)
		for {
			name, more, err := a.name()
			if err != nil {
				return err
			}
			if !more {
				break
			}
			var opt *harmony.Opt
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
				others = append(others, harmony.Member{Name: name, Value: v})
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
		var err *harmony.Error
		m.Author, err = authorOf(harmony.Value{Kind: harmony.Object, Members: others})
		return err
	})
	return m, err
}

// opt reads a string or null.
func (r *reader) opt() (harmony.Opt, *harmony.Error) {
	switch c, ok := r.space(); {
	case !ok:
		return harmony.Opt{}, r.failNext(eofValue)
	case c == 'n':
		r.i++
		return harmony.Opt{}, r.ident("ull")
	case c == '"':
		r.i++
		s, err := r.str()
		return harmony.Some(s), err
	}
	return harmony.Opt{}, r.reject("a string", false)
}

func (r *reader) contents() (contents []harmony.Content, err *harmony.Error) {
	c, ok := r.space()
	switch {
	case !ok:
		return nil, r.failNext(eofValue)
	case c == '"':
		r.i++
		s, err := r.str()
		return []harmony.Content{harmony.Text(s)}, err
	case c != '[':
		return nil, r.reject("string or list of content", true)
	}
	contents = []harmony.Content{}
	err = r.list(func(a *access) *harmony.Error {
		return a.elements(func() *harmony.Error {
			tag, v, err := r.tagged()
			if err != nil {
				return err
			}
			// A mistake in v is found when the reader is past it.
			c, err := contentOf(tag, v)
			if err == nil {
				contents = append(contents, c)
			}
			return err
		})
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
func (r *reader) tagged() (tag string, v harmony.Value, err *harmony.Error) {
	c, ok := r.space()
	switch {
	case !ok:
		return "", v, r.failNext(eofValue)
	case c == '[':
		v.Kind = harmony.Array
		err = r.list(func(a *access) *harmony.Error {
			err := a.first(missing("type"))
			if err != nil {
				return err
			}
			if tag, err = r.tag(); err != nil {
				return err
			}
			return r.items(a, &v)
		})
		return tag, v, err
	case c != '{':
		return "", v, r.reject("internally tagged enum Content", true)
	}
	v.Kind = harmony.Object
	err = r.object(func(a *access) *harmony.Error {
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
			v.Members = append(v.Members, harmony.Member{Name: name, Value: e})
		}
	})
	return tag, v, err
}

func (r *reader) tag() (string, *harmony.Error) {
	if err := r.begins('"', "variant identifier"); err != nil {
		return "", err
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
func (r *reader) reject(want string, enter bool) *harmony.Error {
	switch c := r.peek(); {
	case c == '[' && enter:
		return r.list(func(*access) *harmony.Error { return wrongType(harmony.Value{Kind: harmony.Array}, want) })
	case c == '{' && enter:
		return r.object(func(*access) *harmony.Error { return wrongType(harmony.Value{Kind: harmony.Object}, want) })
	case c == '[':
		return r.placed(wrongType(harmony.Value{Kind: harmony.Array}, want))
	case c == '{':
		return r.placed(wrongType(harmony.Value{Kind: harmony.Object}, want))
	default:
		v, err := r.scalar(c)
		if err == nil {
			err = wrongType(v, want)
		}
		return r.placed(err)
	}
}

func errorf(format string, args ...any) *harmony.Error {
	return &harmony.Error{Text: fmt.Sprintf(format, args...)}
}

func missing(field string) *harmony.Error   { return errorf("missing field `%s`", field) }
func duplicate(field string) *harmony.Error { return errorf("duplicate field `%s`", field) }

func wrongType(got harmony.Value, want string) *harmony.Error {
	return errorf("invalid type: %s, expected %s", unexpected(got), want)
}

func unexpected(v harmony.Value) string {
	switch v.Kind {
	case harmony.Bool:
		return "boolean `" + v.Text + "`"
	case harmony.Number:
		if isFloat(v) {
			return "floating point `" + v.Text + "`"
		}
		return "integer `" + v.Text + "`"
	case harmony.String:
		return "string " + rust.Debug(v.Text)
	case harmony.Array:
		return "sequence"
	case harmony.Object:
		return "map"
	}
	return "null"
}

// The functions below make things of values that were read before. Their
// errors have no place.

func authorOf(v harmony.Value) (a harmony.Author, err *harmony.Error) {
	err = fieldsOf(v, "Author", []field{
		{"role", func(v harmony.Value) (err *harmony.Error) {
			roles := harmony.Roles()
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

func contentOf(tag string, v harmony.Value) (harmony.Content, *harmony.Error) {
	switch tag {
	case tagText:
		var t string
		err := fieldsOf(v, "TextContent", []field{{"text", into(&t, textOf), true}})
		return harmony.Text(t), err
	case tagDeveloper:
		var d harmony.DeveloperContent
		err := fieldsOf(v, "DeveloperContent", []field{
			{"instructions", intoOpt(&d.Instructions), false},
			{"tools", intoTools(&d.Tools), false},
		})
		return d, err
	}
	var s harmony.SystemContent
	err := fieldsOf(v, "SystemContent", []field{
		{"model_identity", intoOpt(&s.ModelIdentity), false},
		{"reasoning_effort", notNull(func(v harmony.Value) *harmony.Error {
			i, err := enumOf(v, harmony.Low.String(), harmony.Medium.String(), harmony.High.String())
			s.ReasoningEffort = harmony.Low + harmony.ReasoningEffort(i)
			return err
		}), false},
		{"tools", intoTools(&s.Tools), false},
		{"conversation_start_date", intoOpt(&s.ConversationStartDate), false},
		{"knowledge_cutoff", intoOpt(&s.KnowledgeCutoff), false},
		{"channel_config", notNull(func(v harmony.Value) *harmony.Error {
			s.ChannelConfig = &harmony.ChannelConfig{}
			return fieldsOf(v, "ChannelConfig", []field{
				{"valid_channels", into(&s.ChannelConfig.ValidChannels, listOf(textOf)), true},
				{"channel_required", into(&s.ChannelConfig.ChannelRequired, boolOf), true},
			})
		}), false},
	})
	return s, err
}

func namespaceOf(v harmony.Value) (ns harmony.ToolNamespaceConfig, err *harmony.Error) {
	err = fieldsOf(v, "ToolNamespaceConfig", []field{
		{"name", into(&ns.Name, textOf), true},
		{"description", intoOpt(&ns.Description), false},
		{"tools", into(&ns.Tools, listOf(toolOf)), true},
	})
	return ns, err
}

func toolOf(v harmony.Value) (t harmony.ToolDescription, err *harmony.Error) {
	err = fieldsOf(v, "ToolDescription", []field{
		{"name", into(&t.Name, textOf), true},
		{"description", into(&t.Description, textOf), true},
		{"parameters", notNull(func(v harmony.Value) *harmony.Error {
			v = unique(v)
			t.Parameters = &v
			return nil
		}), false},
	})
	return t, err
}

// A field is a field of a struct.
type field struct {
	name     string
	set      func(harmony.Value) *harmony.Error
	required bool
}

// fieldsOf sets the fields of a struct from an object, or from an array that
// has them in their order.
func fieldsOf(v harmony.Value, name string, fields []field) *harmony.Error {
	switch v.Kind {
	case harmony.Object:
		seen := make([]bool, len(fields))
		for _, m := range v.Members {
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
	case harmony.Array:
		for i, f := range fields {
			if i == len(v.Items) {
				return errorf("invalid length %d, expected struct %s with %s", i, name, elements(len(fields)))
			}
			if err := f.set(v.Items[i]); err != nil {
				return err
			}
		}
		if len(v.Items) > len(fields) {
			return errorf("invalid length %d, expected %s in sequence", len(v.Items), elements(len(fields)))
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

func into[T any](dst *T, of func(harmony.Value) (T, *harmony.Error)) func(harmony.Value) *harmony.Error {
	return func(v harmony.Value) (err *harmony.Error) {
		*dst, err = of(v)
		return err
	}
}

// notNull leaves a field as it is when it is null.
func notNull(set func(harmony.Value) *harmony.Error) func(harmony.Value) *harmony.Error {
	return func(v harmony.Value) *harmony.Error {
		if v.Kind == harmony.Null {
			return nil
		}
		return set(v)
	}
}

func intoOpt(dst *harmony.Opt) func(harmony.Value) *harmony.Error {
	return notNull(func(v harmony.Value) *harmony.Error {
		s, err := textOf(v)
		*dst = harmony.Some(s)
		return err
	})
}

func intoTools(dst *map[string]harmony.ToolNamespaceConfig) func(harmony.Value) *harmony.Error {
	return notNull(func(v harmony.Value) *harmony.Error {
		if v.Kind != harmony.Object {
			return wrongType(v, "a map")
		}
		*dst = make(map[string]harmony.ToolNamespaceConfig, len(v.Members))
		for _, m := range v.Members {
			ns, err := namespaceOf(m.Value)
			if err != nil {
				return err
			}
			(*dst)[m.Name] = ns
		}
		return nil
	})
}

func textOf(v harmony.Value) (string, *harmony.Error) {
	if v.Kind != harmony.String {
		return "", wrongType(v, "a string")
	}
	return v.Text, nil
}

func boolOf(v harmony.Value) (bool, *harmony.Error) {
	if v.Kind != harmony.Bool {
		return false, wrongType(v, "a boolean")
	}
	return v.Text == "true", nil
}

func listOf[T any](of func(harmony.Value) (T, *harmony.Error)) func(harmony.Value) ([]T, *harmony.Error) {
	return func(v harmony.Value) ([]T, *harmony.Error) {
		if v.Kind != harmony.Array {
			return nil, wrongType(v, "a sequence")
		}
		list := make([]T, len(v.Items))
		for i, e := range v.Items {
			var err *harmony.Error
			if list[i], err = of(e); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
}

// enumOf returns the index of a variant: "name" or {"name": null}.
func enumOf(v harmony.Value, names ...string) (int, *harmony.Error) {
	switch v.Kind {
	case harmony.String:
		return variantOf(v.Text, names...)
	case harmony.Object:
		if len(v.Members) != 1 {
			return 0, errorf("invalid value: map, expected map with a single key")
		}
		m := v.Members[0]
		i, err := variantOf(m.Name, names...)
		// An empty object passes for null here.
		if err == nil && m.Value.Kind != harmony.Null && !(m.Value.Kind == harmony.Object && len(m.Value.Members) == 0) {
			err = wrongType(m.Value, "unit")
		}
		return i, err
	}
	return 0, wrongType(v, "string or map")
}

func variantOf(s string, names ...string) (int, *harmony.Error) {
	if i := slices.Index(names, s); i >= 0 {
		return i, nil
	}
	return 0, errorf("unknown variant `%s`, expected one of `%s`", s, strings.Join(names, "`, `"))
}
