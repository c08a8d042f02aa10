package grammar

import "ossify/tokenizer"

// mostBefore is how many messages may come before the last of a turn: a model
// that writes empty ones would never be done.
const mostBefore = 16

// A Turn is what an assistant may write after <|start|>assistant: thoughts and
// words on commentary, then an answer on final or a call.
type Turn struct {
	Calls    []Call
	Builtins []Builtin
	Answer   bool // an answer is allowed; else it must call
	Text     Expr // the answer's content; 0 is any text
	Quiet    bool // no words on commentary
}

// A Call is a function that may be called.
type Call struct {
	Name      string
	Arguments Expr // as JSON
}

// A Builtin is a recipient that is no function: browser.search, python.
type Builtin struct {
	Recipient string
	Arguments Expr // 0 is any text
}

// Turn returns the language of a turn. Every header in it is one that harmony
// knows, and every message ends as it must.
func (b *Builder) Turn(t Turn) Expr {
	var all set
	all.add(0, 255)
	any := b.Repeat(b.bytes(all), 0, -1)
	channel := func(name string) Expr { return b.seq(b.Special(tokenizer.Channel), b.Text(name)) }
	content := b.Special(tokenizer.Message)
	next := b.Seq(b.Special(tokenizer.End), b.Special(tokenizer.Start), b.Text("assistant"))
	json := b.Opt(b.Alt(b.Text(" json"), b.Seq(b.Opt(b.Text(" ")), b.Special(tokenizer.Constrain), b.Text("json"))))

	before := []Expr{b.Seq(channel("analysis"), content, any, next)}
	if !t.Quiet {
		before = append(before, b.Seq(channel("commentary"), content, any, next))
	}
	var last []Expr
	if t.Answer {
		text := any
		if t.Text != never {
			text = t.Text
		}
		// A type of content without recipient would be read as one.
		last = append(last, b.Seq(channel("final"), content, text, b.Special(tokenizer.Return)))
	}
	for _, c := range t.Calls {
		to := b.Text(" to=functions." + c.Name)
		header := b.Alt(b.seq(channel("commentary"), to), b.seq(to, channel("commentary")))
		last = append(last, b.Seq(header, json, content, c.Arguments, b.Special(tokenizer.Call)))
	}
	for _, c := range t.Builtins {
		// On analysis by the reference's words, on commentary now and then.
		to := b.Text(" to=" + c.Recipient)
		on := b.Alt(channel("analysis"), channel("commentary"))
		header := b.Alt(b.seq(on, to), b.seq(to, on))
		arguments := any
		if c.Arguments != never {
			arguments = c.Arguments
		}
		last = append(last, b.Seq(header, b.Opt(b.Alt(b.Text(" code"), json)), content, arguments, b.Special(tokenizer.Call)))
	}
	return b.seq(b.Repeat(b.Alt(before...), 0, mostBefore), b.Alt(last...))
}
