package harmony

import "strings"

// typeScript renders a JSON schema as the type that gpt-oss was trained to
// read. What the reference leaves out (anyOf, allOf, $ref, const and more) is
// "any"; where its layout is odd, so is this one.
func typeScript(schema Value, indent string) string {
	if variants, ok := schema.array("oneOf"); ok {
		var b strings.Builder
		for _, v := range variants {
			b.WriteString("\n" + indent + " | " + nullable(v, typeScript(v, indent+"   ")))
			var comments []string
			if d, ok := v.str("description"); ok {
				comments = append(comments, d)
			}
			if d, ok := v.Get("default"); ok {
				// An enum's default stays quoted here, not in a property.
				comments = append(comments, "default: "+defaultText(d, false, !isEnum(v)))
			}
			b.WriteString(comment(comments))
		}
		return b.String()
	}
	if names, ok := schema.array("type"); ok {
		var types []string
		for _, n := range names {
			switch {
			case n.Kind == String && n.Text == "integer":
				types = append(types, "number")
			case n.Kind == String:
				types = append(types, n.Text)
			}
		}
		if len(types) > 0 {
			return strings.Join(types, " | ")
		}
	}
	name, _ := schema.str("type")
	switch name {
	case "object":
		return objectType(schema, indent)
	case "string":
		var values []string
		enum, _ := schema.array("enum")
		for _, v := range enum {
			if v.Kind == String {
				values = append(values, `"`+v.Text+`"`)
			}
		}
		if len(values) > 0 {
			return strings.Join(values, " | ")
		}
		return "string"
	case "number", "integer":
		return "number"
	case "boolean":
		return "boolean"
	case "array":
		if items, ok := schema.Get("items"); ok {
			return typeScript(items, indent) + "[]"
		}
		return "Array<any>"
	}
	return "any"
}

// objectType renders a schema of type object. Its description comes before the
// brace even where that is the middle of a line.
func objectType(schema Value, indent string) string {
	var b strings.Builder
	line := func(parts ...string) {
		b.WriteString(indent)
		for _, p := range parts {
			b.WriteString(p)
		}
		b.WriteByte('\n')
	}
	if d, ok := schema.str("description"); ok {
		line("// ", d)
	}
	b.WriteString("{\n")
	required := make(map[string]bool)
	names, _ := schema.array("required")
	for _, n := range names {
		if n.Kind == String {
			required[n.Text] = true
		}
	}
	properties, _ := schema.Get("properties")
	for _, p := range properties.Members {
		v := p.Value
		name := p.Name
		if !required[name] {
			name += "?"
		}
		if t, ok := v.str("title"); ok {
			line("// ", t)
			line("//")
		}
		_, hasOneOf := v.Get("oneOf")
		description, described := v.str("description")
		if described && !hasOneOf {
			line("// ", description)
		}
		if examples, _ := v.array("examples"); len(examples) > 0 {
			line("// Examples:")
			for _, e := range examples {
				if e.Kind == String {
					line(`// - "`, e.Text, `"`)
				}
			}
		}
		value, hasDefault := v.Get("default")

		if variants, ok := v.array("oneOf"); ok {
			above := described
			if described && len(variants) > 0 {
				first, ok := variants[0].str("description")
				above = !(ok && first == description)
			}
			if above {
				line("// ", description)
			}
			if hasDefault {
				line("// default: ", defaultText(value, isEnum(v), !isEnum(v)))
			}
			line(name, ":")
			for i, variant := range variants {
				var comments []string
				d, ok := variant.str("description")
				if ok && !(i == 0 && above) && !(described && d == description) {
					comments = append(comments, d)
				}
				if d, ok := variant.Get("default"); ok {
					comments = append(comments, "default: "+defaultText(d, isEnum(variant), !isEnum(variant)))
				}
				line(" | ", nullable(variant, typeScript(variant, indent+"   ")), comment(comments))
			}
			line(",")
			continue
		}

		tail := ","
		if hasDefault && !hasOneOf {
			tail = ", // default: " + defaultText(value, isEnum(v), !isEnum(v))
		}
		line(name, ": ", nullable(v, typeScript(v, indent+"    ")), tail)
	}
	b.WriteString(indent + "}")
	return b.String()
}

// defaultText shows a default: as JSON, but a string bare or between quotes
// that escape nothing.
func defaultText(v Value, bare, quoted bool) string {
	switch {
	case v.Kind == String && bare:
		return v.Text
	case v.Kind == String && quoted:
		return `"` + v.Text + `"`
	}
	return string(v.AppendJSON(nil))
}

func comment(parts []string) string {
	if len(parts) == 0 {
		return ""
	}
	return " // " + strings.Join(parts, " ")
}

// nullable adds null, unless the type has these letters somewhere.
func nullable(schema Value, typ string) string {
	if schema.truth("nullable") && !strings.Contains(typ, "null") {
		return typ + " | null"
	}
	return typ
}

func isEnum(schema Value) bool {
	values, _ := schema.array("enum")
	return len(values) > 0
}
