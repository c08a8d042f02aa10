package main

import (
	"slices"
	"strconv"
	"strings"

	"ossify/harmony"
)

// A tool is a function that a developer may give, with what users say to have
// it called, and what is said of its results. {p} stands for parameter p, {r}
// for what the tool returns.
type tool struct {
	name, description string
	params            []param
	asks              []string
	result            string // JSON; {r} is drawn by draw
	draw              func(s *source) string
	says              string
}

// A param is a parameter, with the source of its arguments.
type param struct {
	name, kind, description string // kind is a type of JSON schema
	draw                    func(s *source) string
}

func oneOf(list []string) func(*source) string { return func(s *source) string { return s.any(list) } }
func below(n int) func(*source) string {
	return func(s *source) string { return strconv.Itoa(1 + s.r.IntN(n-1)) }
}
func some(most int) func(*source) string {
	return func(s *source) string { return s.words(1 + s.r.IntN(most)) }
}

var tools = []tool{
	{"get_weather", "Gets the weather in a city.", []param{{"city", "string", "Name of the city", oneOf(cities)}},
		[]string{"What is the weather in {city}?", "How is the weather in {city}?", "What is the weather like in {city} today?", "Is it warm in {city}?", "Weather in {city}?"},
		`{"weather":"{r}"}`, oneOf(skies), "The weather in {city} is {r}."},
	{"get_temperature", "Gets the temperature in a city.", []param{{"city", "string", "", oneOf(cities)}},
		[]string{"What is the temperature in {city}?", "How many degrees has {city}?", "What is the temperature in {city} today?"},
		`{"temperature":{r}}`, below(40), "It is {r} degrees in {city}."},
	{"get_time", "Gets the time in a city.", []param{{"city", "string", "Name of the city", oneOf(cities)}},
		[]string{"What time is it in {city}?", "What is the time in {city}?", "How late is it in {city}?"},
		`{"hour":{r}}`, below(24), "It is {r} hours in {city}."},
	{"set_timer", "Sets a timer.", []param{{"minutes", "integer", "How long", below(600)}},
		[]string{"Set a timer for {minutes} minutes.", "Start a timer of {minutes} minutes.", "Please set the timer to {minutes} minutes."},
		`{"status":"{r}"}`, oneOf([]string{"started", "ok"}), "The timer of {minutes} minutes is set: {r}."},
	{"play_music", "Plays a title.", []param{{"title", "string", "Title to play", some(3)}},
		[]string{"Play {title}.", "Please play {title}.", "I want to hear {title}."},
		`{"playing":"{r}"}`, some(2), "I play {title}: {r}."},
	{"send_message", "Sends a text to a person.", []param{{"to", "string", "Who gets it", oneOf(names)}, {"text", "string", "What it says", some(4)}},
		[]string{"Tell {to}: {text}", "Send {to} the text: {text}", "Write to {to}: {text}"},
		`{"status":"{r}"}`, oneOf([]string{"sent", "ok"}), "Your message to {to} is {r}."},
	{"find_flight", "Finds a flight between two cities.", []param{{"from", "string", "", oneOf(cities)}, {"to", "string", "", oneOf(cities)}},
		[]string{"Find a flight from {from} to {to}.", "I want to fly from {from} to {to}.", "How do I fly to {to} from {from}?"},
		`{"price":{r}}`, below(999), "A flight from {from} to {to} costs {r} coins."},
	{"book_table", "Books a table.", []param{{"name", "string", "Who comes", oneOf(names)}, {"guests", "integer", "How many come", below(40)}},
		[]string{"Book a table for {guests} guests, name {name}.", "A table for {guests}, please, for {name}.", "Reserve a table for {name} and {guests} guests."},
		`{"table":{r}}`, below(100), "The table of {name} is number {r}."},
	{"convert_money", "Converts an amount to another currency.", []param{{"amount", "number", "", below(999)}, {"from", "string", "", oneOf(currencies)}, {"to", "string", "", oneOf(currencies)}},
		[]string{"How much are {amount} {from} in {to}?", "Convert {amount} {from} to {to}.", "Change {amount} {from} to {to}."},
		`{"amount":{r}}`, below(999), "{amount} {from} are {r} {to}."},
	{"search", "Searches the documents.", []param{{"query", "string", "Words to look for", some(4)}},
		[]string{"Search for {query}", "Look for {query}", "Find documents about {query}"},
		`{"found":{r}}`, below(999), "I found {r} documents about {query}."},
	{"translate", "Translates a text.", []param{{"text", "string", "", some(3)}, {"language", "string", "Language to translate to", oneOf(languages)}},
		[]string{"Translate to {language}: {text}", "What is {text} in {language}?", "Say in {language}: {text}"},
		`{"text":"{r}"}`, some(2), "In {language} it is {r}."},
	{"add_event", "Adds an event to the calendar.", []param{{"title", "string", "", some(2)}, {"day", "integer", "Day of the month", below(32)}},
		[]string{"Add {title} on day {day}.", "Put {title} into my calendar on day {day}.", "On day {day} there is {title}."},
		`{"status":"{r}"}`, oneOf([]string{"added", "ok"}), "{title} on day {day}: {r}."},
	{"get_system_health", "Says whether the system is healthy.", nil,
		[]string{"Is the system healthy?", "Is everything up and running?", "How is the system?", "Check the system, please.", "Quick check: is all well?"},
		`{"status":"{r}"}`, oneOf([]string{"ok", "healthy", "slow"}), "The system says: {r}."},
	{"roll_dice", "Rolls dice.", []param{{"count", "integer", "How many", below(20)}},
		[]string{"Roll {count} dice.", "Throw {count} dice for me.", "Please roll {count} dice."},
		`{"sum":{r}}`, below(120), "The {count} dice show {r}."},
	{"add", "Adds two numbers.", []param{{"a", "number", "", below(999)}, {"b", "number", "", below(999)}},
		[]string{"Use the tool to add {a} and {b}.", "Let the tool add {a} and {b}.", "Add {a} and {b} with the tool."},
		`{"sum":{r}}`, below(999), "The tool says {r}."},
}

// invented returns a tool that is like no other: its name and parameters are
// words put together, and users name them.
func (s *source) invented() tool {
	for {
		t := tool{name: s.pick(verbs) + "_" + s.pick(things)}
		t.description = s.pick([]string{"Works on a ", "Does it with the ", "Handles one "}) + s.pick(things) + "."
		if !s.mine("tool", t.name) {
			continue
		}
		ask := s.pick([]string{"Call ", "Use ", "Please call ", "Run "}) + t.name
		for i, p := range s.r.Perm(len(parameters))[:1+s.r.IntN(2)] {
			name := parameters[p]
			draw, kind := some(2), "string"
			if s.one(3) {
				draw, kind = below(999), "integer"
			}
			t.params = append(t.params, param{name, kind, "", draw})
			ask += []string{" with ", " and "}[i] + name + " {" + name + "}"
		}
		t.asks = []string{ask + "."}
		t.result, t.draw, t.says = `{"result":"{r}"}`, some(2), "The result is {r}."
		return t
	}
}

// describe returns what a developer's message says of a tool.
func (t tool) describe() harmony.ToolDescription {
	text := func(s string) harmony.Value { return harmony.Value{Kind: harmony.String, Text: s} }
	properties, required := harmony.Value{Kind: harmony.Object}, harmony.Value{Kind: harmony.Array}
	for _, p := range t.params {
		schema := harmony.Value{Kind: harmony.Object, Members: []harmony.Member{{Name: "type", Value: text(p.kind)}}}
		if p.description != "" {
			schema.Members = append(schema.Members, harmony.Member{Name: "description", Value: text(p.description)})
		}
		properties.Members = append(properties.Members, harmony.Member{Name: p.name, Value: schema})
		required.Items = append(required.Items, text(p.name))
	}
	return harmony.ToolDescription{Name: t.name, Description: t.description, Parameters: &harmony.Value{Kind: harmony.Object, Members: []harmony.Member{
		{Name: "type", Value: text("object")}, {Name: "properties", Value: properties}, {Name: "required", Value: required}}}}
}

// otherTools returns n tools beside one, which may be nil.
func (s *source) otherTools(n int, but *tool) []harmony.ToolDescription {
	var list []harmony.ToolDescription
	for len(list) < n {
		t := tools[s.r.IntN(len(tools))]
		if s.one(4) {
			t = s.invented()
		}
		if but != nil && t.name == but.name || slices.ContainsFunc(list, func(d harmony.ToolDescription) bool { return d.Name == t.name }) {
			continue
		}
		list = append(list, t.describe())
	}
	return list
}

// call is a question that a tool answers: its call, or what is said after it.
func (s *source) call(b *builder, result bool) {
	t := tools[s.r.IntN(len(tools))]
	if s.one(3) {
		t = s.invented()
	}
	// Each argument is of this side by itself: none of the examination's stood
	// in a call of the training.
	pairs, arguments := []string{}, []string{}
	for _, p := range t.params {
		v := p.draw(s)
		for tries := 0; !s.mine("argument", v) && tries < 1000; tries++ {
			v = p.draw(s)
		}
		pairs = append(pairs, "{"+p.name+"}", v)
		if p.kind == "string" {
			v = `"` + v + `"`
		}
		arguments = append(arguments, `"`+p.name+`":`+v)
	}
	fill := strings.NewReplacer(pairs...)
	b.tools = s.otherTools(s.r.IntN(3), &t)
	b.tools = slices.Insert(b.tools, s.r.IntN(len(b.tools)+1), t.describe())
	b.ask(s.pick(starts) + fill.Replace(s.pick(t.asks)))

	to := "functions." + t.name
	thought := said(harmony.Analysis, "I call "+t.name+".")
	call := said(harmony.Commentary, "{"+strings.Join(arguments, ",")+"}").WithRecipient(to).WithContentType("<|constrain|>json")
	if !result {
		b.want = []harmony.Message{thought, call}
		return
	}
	switch s.r.IntN(6) { // as other programs put calls back
	case 0:
		call.ContentType = harmony.Some("json")
	case 1:
		call.ContentType = harmony.Opt{}
	}
	r := t.draw(s)
	answer := harmony.NewMessage(harmony.Tool, harmony.Text(strings.ReplaceAll(t.result, "{r}", r))).
		WithName(to).WithRecipient("assistant").WithChannel(harmony.Commentary)
	if !s.one(3) {
		b.prompt = append(b.prompt, thought)
	}
	b.prompt = append(b.prompt, call, answer)
	b.answer("The tool says "+r+".", strings.ReplaceAll(fill.Replace(t.says), "{r}", r))
}

// parametersOf returns the names of the parameters of a tool that a developer's
// message gives, and whether there is such a tool.
func parametersOf(list []harmony.Message, recipient string) (names []string, ok bool) {
	name, ok := strings.CutPrefix(recipient, "functions.")
	if !ok {
		return nil, false
	}
	for _, m := range list {
		for _, c := range m.Content {
			d, _ := c.(harmony.DeveloperContent)
			for _, t := range d.Tools["functions"].Tools {
				if t.Name != name {
					continue
				}
				properties, _ := t.Parameters.Get("properties")
				for _, p := range properties.Members {
					names = append(names, p.Name)
				}
				return names, true
			}
		}
	}
	return nil, false
}
