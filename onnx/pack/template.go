package pack

import (
	"fmt"
	"strings"

	"ossify/harmony"
	"ossify/tokenizer"
)

// chatTemplate returns a Jinja template that makes prompts of conversations of
// plain text, as package harmony renders them. Of the assistant it takes the
// answers; a thought is not rendered again once its answer is there. It refuses
// tools, whose declarations are beyond a template's means.
func chatTemplate(t *tokenizer.Tokenizer) (string, error) {
	e := harmony.New(t)
	text := func(m harmony.Message) (string, error) {
		ids, err := e.Render(m, harmony.RenderOptions{})
		if err != nil {
			return "", err
		}
		return t.Decode(ids)
	}
	const content, date = "\ue000", "\ue001" // no prompt has these
	effort := harmony.Medium
	system, err := text(harmony.NewMessage(harmony.System, harmony.NewSystemContent().WithReasoningEffort(effort).WithConversationStartDate(date)))
	if err != nil {
		return "", fmt.Errorf("pack: %w", err)
	}
	dated, after, ok := strings.Cut(system, date)
	line := strings.LastIndexByte(dated, '\n') + 1
	word := strings.ToLower(effort.String())
	between, rest, ok2 := strings.Cut(after, word)
	if !ok || !ok2 || line == 0 {
		return "", fmt.Errorf("pack: system message %q, want a date and an effort in it", system)
	}
	messages := map[string]harmony.Message{
		"developer": harmony.NewMessage(harmony.Developer, harmony.DeveloperContent{}.WithInstructions(content)),
		"user":      harmony.NewMessage(harmony.User, harmony.Text(content)),
		"assistant": harmony.NewMessage(harmony.Assistant, harmony.Text(content)).WithChannel(harmony.Final),
	}
	var b strings.Builder
	b.WriteString("{#- Prompts of gpt-oss, in the Harmony format. Arguments: reasoning_effort (low, medium, high), current_date. -#}\n")
	b.WriteString("{%- if tools %}{{- raise_exception(\"tools need 'ossify harmony render': this template has none\") }}{%- endif %}\n")
	fmt.Fprintf(&b, "{{- %s }}\n", jinja(dated[:line-1]))
	fmt.Fprintf(&b, "{%%- if current_date %%}{{- %s + current_date }}{%%- endif %%}\n", jinja(dated[line-1:]))
	fmt.Fprintf(&b, "{{- %s + (reasoning_effort if reasoning_effort else %s) + %s }}\n", jinja(between), jinja(word), jinja(rest))
	b.WriteString("{%- for message in messages %}\n")
	for i, role := range []string{"developer", "user", "assistant"} {
		before, after, err := around(text, messages[role], content)
		if err != nil {
			return "", err
		}
		test := fmt.Sprintf("message.role == %s", jinja(role))
		if role == "developer" {
			test += ` or message.role == "system"`
		}
		fmt.Fprintf(&b, "  {%%- %s %s %%}{{- %s + message.content + %s }}\n", []string{"if", "elif"}[min(i, 1)], test, jinja(before), jinja(after))
	}
	b.WriteString("  {%- else %}{{- raise_exception(\"role \" + message.role + \", want system, developer, user or assistant\") }}\n  {%- endif %}\n{%- endfor %}\n")
	start, _ := t.SpecialName(tokenizer.Start)
	fmt.Fprintf(&b, "{%%- if add_generation_prompt %%}{{- %s }}{%%- endif -%%}\n", jinja(start+"assistant"))
	return b.String(), nil
}

// around returns what a message has before and after its content.
func around(text func(harmony.Message) (string, error), m harmony.Message, content string) (before, after string, err error) {
	s, err := text(m)
	if err != nil {
		return "", "", fmt.Errorf("pack: %w", err)
	}
	before, after, ok := strings.Cut(s, content)
	if !ok {
		return "", "", fmt.Errorf("pack: message %q, want its content in it", s)
	}
	return before, after, nil
}

// jinja returns s as a string of Jinja's.
func jinja(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}
