package harmony

// Browser returns the built-in tools browser.search, browser.open and
// browser.find. They go into the system message; calls are on analysis.
func Browser() ToolNamespaceConfig {
	return ToolNamespaceConfig{
		Name: "browser",
		Description: Some("Tool for browsing.\n" +
			"The `cursor` appears in brackets before each browsing display: `[{cursor}]`.\n" +
			"Cite information from the tool using the following format:\n" +
			"`【{cursor}†L{line_start}(-L{line_end})?】`, for example: `【6†L9-L11】` or `【8†L3】`.\n" +
			"Do not quote more than 10 words directly from the tool output.\n" +
			"sources=web (default: web)"),
		Tools: []ToolDescription{
			{
				Name:        "search",
				Description: "Searches for information related to `query` and displays `topn` results.",
				Parameters: parameters("query",
					parameter("query", "", "string"), parameter("topn", "10", "number"), parameter("source", "", "string")),
			},
			{
				Name: "open",
				Description: "Opens the link `id` from the page indicated by `cursor` starting at line number `loc`, showing `num_lines` lines.\n" +
					"Valid link ids are displayed with the formatting: `【{id}†.*】`.\n" +
					"If `cursor` is not provided, the most recent page is implied.\n" +
					"If `id` is a string, it is treated as a fully qualified URL associated with `source`.\n" +
					"If `loc` is not provided, the viewport will be positioned at the beginning of the document or centered on the most relevant passage, if available.\n" +
					"Use this function without `id` to scroll to a new location of an opened page.",
				Parameters: parameters("",
					parameter("id", "-1", "number", "string"), parameter("cursor", "-1", "number"), parameter("loc", "-1", "number"),
					parameter("num_lines", "-1", "number"), parameter("view_source", "false", "boolean"), parameter("source", "", "string")),
			},
			{
				Name:        "find",
				Description: "Finds exact matches of `pattern` in the current page, or the page given by `cursor`.",
				Parameters:  parameters("pattern", parameter("pattern", "", "string"), parameter("cursor", "-1", "number")),
			},
		},
	}
}

// Python returns the built-in tool python, a namespace without functions: its
// input is code. It goes into the system message; calls are on analysis.
func Python() ToolNamespaceConfig {
	return ToolNamespaceConfig{
		Name: "python",
		Description: Some("Use this tool to execute Python code in your chain of thought. The code will not be shown to the user. " +
			"This tool should be used for internal reasoning, but not for code that is intended to be visible to the user " +
			"(e.g. when creating plots, tables, or files).\n\n" +
			"When you send a message containing Python code to python, it will be executed in a stateful Jupyter notebook environment. " +
			"python will respond with the output of the execution or time out after 120.0 seconds. " +
			"The drive at '/mnt/data' can be used to save and persist user files. " +
			"Internet access for this session is UNKNOWN. Depends on the cluster."),
	}
}

// parameters returns the schema of a tool's parameters, of which one may be
// required.
func parameters(required string, properties ...Member) *Value {
	members := []Member{{"type", text("object")}, {"properties", Value{Kind: Object, Members: properties}}}
	if required != "" {
		members = append(members, Member{"required", Value{Kind: Array, Items: []Value{text(required)}}})
	}
	return &Value{Kind: Object, Members: members}
}

// parameter returns a property of one or several types; its default is a
// number or false, "" for none.
func parameter(name, standard string, types ...string) Member {
	typ := text(types[0])
	if len(types) > 1 {
		typ = Value{Kind: Array}
		for _, t := range types {
			typ.Items = append(typ.Items, text(t))
		}
	}
	members := []Member{{"type", typ}}
	switch standard {
	case "":
	case "false":
		members = append(members, Member{"default", Value{Kind: Bool, Text: standard}})
	default:
		members = append(members, Member{"default", Value{Kind: Number, Text: standard}})
	}
	return Member{name, Value{Kind: Object, Members: members}}
}

func text(s string) Value { return Value{Kind: String, Text: s} }
