package openai

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"ossify/generate"
	"ossify/harmony"
	"ossify/tokenizer"
)

// A kind is what a segment of an answer is to a client.
type kind uint8

const (
	reasoning kind = iota // thoughts, and whatever is neither text nor a call
	text                  // for the user
	call                  // of a function
	builtin               // a call of a tool that the server runs
)

// A segment is a message of the model as a client gets it.
type segment struct {
	kind     kind
	name     string // of the function
	text     strings.Builder
	logProbs []logProb // of the tokens of a text, if asked for
	cut      bool      // it came to no end: the answer's length ran out
}

// An event says what became visible of a segment: it was opened, grew by text,
// or is done.
type event struct {
	segment  int
	opened   bool
	text     string
	logProbs []logProb
	done     bool
}

// A turn reads what a model writes after <|start|>assistant.
type turn struct {
	functions map[string]bool // that may be called
	builtins  map[string]bool // recipients that are tools of the server
	json      bool            // text is final only: words before it would spoil it
	tokens    *tokenizer.Tokenizer
	recovery  *harmony.Recovery
	stops     []string
	asked     bool // for log probabilities
	raw       bool // there are no messages: all is one text
	specials  bool // of which special tokens are part
	decoder   *tokenizer.Decoder

	segments []*segment
	of       []int // segment of each message, −1 for none yet
	events   []event
	stop     generate.StopText
	current  int // message whose content is being read, −1 for none
	length   int // bytes of its content so far
	chars    int // and characters
	held     []heldProb
	sent     int  // bytes of it that were sent
	stopped  bool // by one of stops
}

// A heldProb is a token whose text was not sent yet.
type heldProb struct {
	start int // of its text in the content
	logProb
}

// newTurn returns a turn of a job.
func (j *job) newTurn() *turn {
	t := &turn{functions: map[string]bool{}, builtins: map[string]bool{}, json: j.json, tokens: j.svc.o.Encoding.Tokenizer(), stops: j.stops, asked: j.options.LogProbs >= 0, current: -1}
	if j.raw {
		t.raw, t.specials, t.decoder = true, j.specials, t.tokens.NewDecoder()
		return t
	}
	var tools []string
	for _, name := range j.functions {
		t.functions["functions."+name] = true
		tools = append(tools, "functions."+name)
	}
	for _, name := range j.builtins {
		t.builtins[name] = true
		tools = append(tools, name)
	}
	t.recovery = j.svc.o.Encoding.NewRecovery(harmony.RecoveryOptions{Tools: tools})
	return t
}

// kindOf says what a message is to a client. What is for nobody there, a call
// of what was not declared, or a message in another's name, is reasoning.
func (t *turn) kindOf(m harmony.Message) (kind, string) {
	if to, ok := m.Recipient.Get(); ok && to != "all" && m.Role == harmony.Assistant {
		if t.functions[to] {
			return call, strings.TrimPrefix(to, "functions.")
		}
		if t.builtins[to] {
			return builtin, to
		}
		return reasoning, ""
	}
	switch {
	case m.Role != harmony.Assistant, m.Channel.Is(harmony.Analysis):
		return reasoning, ""
	case t.json && m.Channel.Is(harmony.Commentary):
		return reasoning, ""
	}
	return text, ""
}

// push reads a token. The events are valid until the next call. It reports
// whether the answer ends here, before one of the texts to stop at.
func (t *turn) push(tok generate.Token) (events []event, stopped bool) {
	t.events = t.events[:0]
	if !t.raw && t.asked && t.current >= 0 && tok.ID < tokenizer.Ordinary && t.textAt(t.current) {
		t.held = append(t.held, heldProb{t.length, t.logProb(tok)})
	}
	if t.raw {
		t.pushRaw(tok)
	} else {
		t.take(t.recovery.Push(tok.ID))
	}
	return t.events, t.stopped
}

// pushRaw reads a token of a text without messages.
func (t *turn) pushRaw(tok generate.Token) {
	if tok.ID < tokenizer.Ordinary || t.specials {
		if t.asked {
			t.held = append(t.held, heldProb{t.length, t.logProb(tok)})
		}
		s, _ := t.decoder.Push(tok.ID) // ids that are no token have no text
		t.take([]harmony.Event{{Text: s}})
	}
}

// finish says that no token follows. cut is true if the answer's length ran out.
func (t *turn) finish(cut bool) []event {
	t.events = t.events[:0]
	open, before := t.current, len(t.segments)
	switch {
	case t.stopped:
	case t.raw:
		t.take([]harmony.Event{{Text: t.decoder.Flush(), Done: true}})
	default:
		t.take(t.recovery.Finish())
	}
	if n := len(t.segments); cut && (n > before || open >= 0 && t.of[open] == n-1 && n > 0) {
		t.segments[n-1].cut = true
	}
	return t.events
}

func (t *turn) textAt(message int) bool {
	k, _ := t.kindAt(message)
	return k == text
}

func (t *turn) kindAt(message int) (kind, string) {
	if t.raw {
		return text, ""
	}
	return t.kindOf(t.recovery.Messages()[message].Message)
}

// take makes events of the recovery's.
func (t *turn) take(events []harmony.Event) {
	for _, e := range events {
		if t.stopped {
			return
		}
		k, name := t.kindAt(e.Message)
		if e.Message == len(t.of) {
			t.of = append(t.of, -1)
			t.current, t.length, t.chars, t.sent = e.Message, 0, 0, 0
			if !t.raw {
				t.held = nil
			}
			t.stop = generate.StopText{}
			if k == text {
				t.stop.Texts = t.stops
			}
			if k == call || k == builtin {
				t.open(e.Message, k, name)
			}
		}
		t.length += len(e.Text)
		t.chars += utf8.RuneCountInString(e.Text)
		out, found := t.stop.Push(e.Text)
		if e.Done && !found {
			out += t.stop.Flush()
		}
		if out != "" {
			if t.of[e.Message] < 0 {
				t.open(e.Message, k, name)
			}
			t.write(e.Message, out)
		}
		if t.stopped = found; e.Done || found {
			if at := t.of[e.Message]; at >= 0 {
				t.events = append(t.events, event{segment: at, done: true})
			}
			t.current = -1
		}
	}
}

// open opens the segment of a message: of a text not before its first byte.
func (t *turn) open(message int, k kind, name string) {
	t.of[message] = len(t.segments)
	t.segments = append(t.segments, &segment{kind: k, name: name})
	t.events = append(t.events, event{segment: t.of[message], opened: true})
}

// write sends text of a message, and the tokens that begin in it.
func (t *turn) write(message int, out string) {
	at := t.of[message]
	s := t.segments[at]
	s.text.WriteString(out)
	t.sent += len(out)
	e := event{segment: at, text: out}
	n := 0
	for n < len(t.held) && t.held[n].start < t.sent {
		e.logProbs = append(e.logProbs, t.held[n].logProb)
		n++
	}
	t.held = t.held[n:]
	s.logProbs = append(s.logProbs, e.logProbs...)
	t.events = append(t.events, e)
}

// reasoningTokens counts the tokens of messages that are reasoning.
func (t *turn) reasoningTokens() int {
	n := 0
	if t.raw {
		return n
	}
	for _, m := range t.recovery.Messages() {
		if k, _ := t.kindOf(m.Message); k == reasoning {
			n += len(m.Tokens)
		}
	}
	return n
}

// A logProb is a token with its probability, in OpenAI's form.
type logProb struct {
	Token   string    `json:"token"`
	LogProb float64   `json:"logprob"`
	Bytes   []int     `json:"bytes"`
	Top     []logProb `json:"top_logprobs,omitempty"`

	at int // characters of the content before it; those that it is a part of count not
}

// leastLogProb stands for a probability of nothing: JSON has no infinity.
const leastLogProb = -9999.0

func (t *turn) logProb(tok generate.Token) logProb {
	l := t.oneLogProb(tok.ID, tok.LogProb)
	l.Top, l.at = []logProb{}, t.chars
	for _, top := range tok.Top {
		l.Top = append(l.Top, t.oneLogProb(top.ID, top.LogProb))
	}
	return l
}

func (t *turn) oneLogProb(id uint32, p float64) logProb {
	token, _ := t.tokens.Token(id)
	l := logProb{Token: token, LogProb: max(p, leastLogProb), Bytes: []int{}}
	if math.IsNaN(p) {
		l.LogProb = leastLogProb
	}
	for _, b := range []byte(token) {
		l.Bytes = append(l.Bytes, int(b))
	}
	if !utf8.ValidString(token) {
		var b strings.Builder
		b.WriteString("bytes:")
		for _, c := range []byte(token) {
			b.WriteString(`\x` + strconv.FormatUint(uint64(c)|0x100, 16)[1:])
		}
		l.Token = b.String()
	}
	return l
}
