package main

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"strings"

	"ossify/harmony"
	"ossify/tokenizer"
)

// A kind is what a conversation is about.
type kind uint8

// The kinds.
const (
	Drill    kind = iota // copying, numbers and their digits: exercises
	Greeting             // said back
	Name                 // the user's, from an earlier turn
	Fact                 // of our documents
	Unknown              // nothing to say to
	Sum                  // with analysis, digit by digit
	Call                 // of a tool that the developer gives
	Result               // what the tool said, put into words
	kinds
)

var kindNames = [kinds]string{"drill", "greeting", "name", "fact", "unknown", "sum", "call", "result"}

func (k kind) String() string { return kindNames[k] }

// An item is a conversation, and what is to follow it.
type item struct {
	kind   kind
	Prompt []harmony.Message // ends with the user's words, or a tool's
	Want   []harmony.Message // the assistant's
}

// A source is a stream of conversations that a seed determines. What a question
// is about (the pair of numbers, the wording, the arguments of a call) has a
// hash, which says once and for all whether it stands in training or in the
// examination: the two have no question in common.
type source struct {
	*lexicon
	r    *rand.Rand
	exam bool
}

// newSource returns the source of a seed: of training, or of the examination.
func newSource(seed uint64, exam bool) *source {
	return &source{newLexicon(tokenizer.New()), rand.New(rand.NewPCG(seed, 0x7472_6169_6e)), exam}
}

// examOneIn is the part of all questions that is kept for the examination.
const examOneIn = 8

// mine reports whether a question stands on this source's side.
func (s *source) mine(key ...any) bool {
	h := fnv.New64a()
	fmt.Fprintln(h, key...)
	x := h.Sum64()
	x ^= x >> 32 // the low bits of FNV are weak
	return (x*0x9E3779B97F4A7C15>>40%examOneIn == 0) == s.exam
}

func (s *source) pick(list []string) string { return list[s.r.IntN(len(list))] }
func (s *source) one(n int) bool            { return s.r.IntN(n) == 0 }

// any returns one of a list's words, or any other word: what is copied must not
// be learnt by heart.
func (s *source) any(list []string) string {
	if s.one(2) {
		return s.pick(s.plain)
	}
	return s.pick(list)
}

// words returns n words of the lexicon.
func (s *source) words(n int) string {
	lists := [][]string{nouns, nouns, nouns, colours, names, cities}
	list := make([]string, n)
	for i := range list {
		list[i] = s.any(lists[s.r.IntN(len(lists))])
	}
	return strings.Join(list, " ")
}

// weights says how often each kind comes.
type weights [kinds]int

// The parts of a course, exercises first, and the examination's, which has none.
var (
	exercises   = weights{Drill: 46, Greeting: 3, Name: 5, Fact: 12, Unknown: 2, Sum: 14, Call: 12, Result: 6}
	course      = weights{Drill: 28, Greeting: 8, Name: 7, Fact: 19, Unknown: 5, Sum: 34, Call: 20, Result: 8}
	examination = weights{Greeting: 4, Name: 6, Fact: 18, Unknown: 4, Sum: 27, Call: 20, Result: 9}
)

// next returns an item of a kind drawn by weight.
func (s *source) next(w weights) item {
	total := 0
	for _, n := range w {
		total += n
	}
	at := s.r.IntN(total)
	for k, n := range w {
		if at -= n; at < 0 {
			return s.of(kind(k))
		}
	}
	panic("train: weights that have no sum")
}

// of returns an item of a kind.
func (s *source) of(kind kind) item {
	b := &builder{s: s}
	switch kind {
	case Drill:
		s.drill(b)
	case Greeting:
		s.greeting(b)
	case Name:
		s.name(b)
	case Fact:
		s.fact(b)
	case Unknown:
		s.unknown(b)
	case Sum:
		s.sum(b)
	default:
		s.call(b, kind == Result)
	}
	return item{kind, append(s.before(b), b.prompt...), b.want}
}

// A builder gathers a conversation.
type builder struct {
	s            *source
	tools        []harmony.ToolDescription
	history      []harmony.Message // turns that are over
	prompt, want []harmony.Message
}

func (b *builder) ask(text string) {
	b.prompt = append(b.prompt, harmony.NewMessage(harmony.User, harmony.Text(text)))
}

// answer ends a turn: a thought, then what is said.
func (b *builder) answer(thought, text string) {
	b.want = append(b.want, said(harmony.Analysis, thought), said(harmony.Final, text))
}

func said(channel, text string) harmony.Message {
	return harmony.NewMessage(harmony.Assistant, harmony.Text(text)).WithChannel(channel)
}

// before returns what precedes the prompt: the system's message, the
// developer's if there are tools or now and then, and turns that are over.
func (s *source) before(b *builder) []harmony.Message {
	system := harmony.NewSystemContent()
	switch s.r.IntN(12) {
	case 0:
		system = system.WithReasoningEffort(harmony.Low)
	case 1:
		system = system.WithReasoningEffort(harmony.High)
	case 2, 3:
		system = system.WithConversationStartDate(fmt.Sprintf("%d-%02d-%02d", 2024+s.r.IntN(5), 1+s.r.IntN(12), 1+s.r.IntN(28)))
	}
	list := []harmony.Message{harmony.NewMessage(harmony.System, system)}
	developer := harmony.DeveloperContent{}
	if s.one(12) {
		developer = developer.WithInstructions(s.pick(instructions))
	}
	if len(b.tools) == 0 && b.s.one(16) { // tools that are not needed
		b.tools = s.otherTools(1, nil)
	}
	if len(b.tools) > 0 {
		developer = developer.WithFunctionTools(b.tools...)
	}
	if _, ok := developer.Instructions.Get(); ok || len(b.tools) > 0 {
		list = append(list, harmony.NewMessage(harmony.Developer, developer))
	}
	if len(b.history) == 0 && s.one(6) {
		for range 1 + s.r.IntN(2) {
			other := &builder{s: s}
			switch s.r.IntN(4) {
			case 0:
				s.greeting(other)
			case 1:
				s.fact(other)
			default:
				s.sum(other)
			}
			b.history = append(b.history, over(other)...)
		}
	}
	return append(list, b.history...)
}

// over returns a turn as a later prompt has it: without thoughts.
func over(b *builder) []harmony.Message {
	list := b.prompt
	for _, m := range b.want {
		if !m.Channel.Is(harmony.Analysis) {
			list = append(list, m)
		}
	}
	return list
}

var instructions = []string{"Answer briefly.", "Be brief.", "You are a helpful assistant.", "Be friendly.", "Answer in English.", "Use metric units.", "Be precise."}

// An exercise of copying, or of a number's digits. Exercises are not examined:
// the digits of all numbers and the forms of all words have to be learnt.
func (s *source) drill(b *builder) {
	n := s.r.IntN(mostSum + 1)
	number, digits := strconv.Itoa(n), spaced(n)
	switch s.r.IntN(10) {
	case 0:
		b.ask("Spell " + number + ".")
		b.answer("Digits "+digits+".", digits)
	case 1:
		b.ask("Join " + digits + ".")
		b.answer("Digits "+digits+".", number)
	case 2, 3, 4:
		list := make([]string, 2+s.r.IntN(5))
		for i := range list {
			list[i] = s.words(1)
			if s.one(4) {
				list[i] = strconv.Itoa(s.r.IntN(1000))
			}
		}
		text := strings.Join(list, " ")
		b.ask("Repeat: " + text)
		b.answer("I repeat it.", text)
	case 5, 6, 7: // as arguments of a call have it: without spaces before
		list, quoted := make([]string, 2+s.r.IntN(4)), []string{}
		for i := range list {
			v, q := s.value()
			list[i], quoted = v, append(quoted, q)
		}
		b.ask("Quote: " + s.listed(list))
		b.answer("I quote it.", "{"+strings.Join(quoted, ",")+"}")
	default: // with names, too, but nothing that is kept for the examination
		list, pairs := make([]string, 1+s.r.IntN(3)), []string{}
		for i := range list {
			v, q := s.value()
			for !s.mine("argument", v) {
				v, q = s.value()
			}
			name := s.pick(s.plain)
			list[i], pairs = name+" "+v, append(pairs, `"`+name+`":`+q)
		}
		b.ask("Object: " + s.listed(list))
		b.answer("I quote it.", "{"+strings.Join(pairs, ",")+"}")
	}
}

// value returns a number, a word or two, and what it is in JSON.
func (s *source) value() (text, quoted string) {
	if s.one(3) {
		text = strconv.Itoa(s.r.IntN(1000))
		return text, text
	}
	text = s.words(1 + s.r.IntN(2))
	return text, `"` + text + `"`
}

// listed is a list as users write it.
func (s *source) listed(list []string) string {
	text := list[0]
	for _, v := range list[1:] {
		text += s.pick([]string{" and ", ", ", ": ", " with ", " to ", " in "}) + v
	}
	return text + s.pick([]string{"", ".", "?"})
}

// spaced returns a number's digits with spaces between.
func spaced(n int) string { return strings.Join(strings.Split(strconv.Itoa(n), ""), " ") }

// Words around a question.
var (
	starts = []string{"", "", "", "", "Hi. ", "Hello! ", "Please tell me: ", "Tell me: ", "A question: ", "I want to know: ", "Quick question. ", "Now: "}
	tails  = []string{"", "", "", "", "", "", " Thanks!", " Thank you.", " Be brief."}
	about  = []string{"What is %s?", "What are %s?", "Tell me about %s.", "Explain %s.", "What do you know about %s?", "Describe %s.", "Can you explain %s?", "What does %s mean?", "what is %s", "%s?", "I do not know %s. What is it?", "Please explain %s."}
)

func (s *source) greeting(b *builder) {
	for {
		g := greetings[s.r.IntN(len(greetings))]
		says := s.pick(g.says)
		if s.one(3) {
			says = s.pick(starts[4:6]) + says
		}
		if !s.exam || s.mine("greeting", says) || strings.Contains(says, ". ") || strings.Contains(says, "! ") {
			b.ask(says)
			b.answer("The user talks to me.", g.answer)
			return
		}
	}
}

func (s *source) name(b *builder) {
	for {
		who := s.any(names)
		if !s.mine("name", who) {
			continue
		}
		intro := s.pick([]string{"My name is %s.", "I am %s.", "Hello, I am %s.", "Hi, my name is %s.", "Call me %s."})
		b.ask(fmt.Sprintf(intro, who))
		b.answer("The user is "+who+".", "Hello "+who+"! What can I do for you?")
		if s.one(2) {
			return
		}
		b.history, b.prompt, b.want = over(b), nil, nil
		if s.one(2) {
			other := &builder{s: s}
			s.sum(other)
			b.history = append(b.history, over(other)...)
		}
		b.ask(s.pick([]string{"What is my name?", "Who am I?", "Do you know my name?", "What am I called?", "What was my name?"}))
		b.answer("The user is "+who+".", "Your name is "+who+".")
		return
	}
}

func (s *source) fact(b *builder) {
	for {
		i := s.r.IntN(len(facts))
		f := facts[i]
		ask := s.pick(f.asks)
		if s.one(2) {
			ask = fmt.Sprintf(s.pick(about), s.pick(f.topics))
		}
		ask = s.pick(starts) + ask + s.pick(tails)
		if !s.mine("fact", ask) {
			continue
		}
		b.ask(ask)
		b.answer("It is about "+f.topics[0]+".", f.answer)
		return
	}
}

func (s *source) unknown(b *builder) {
	for {
		x := s.pick(s.strangers)
		for range s.r.IntN(3) {
			x += " " + s.pick([]string{s.pick(s.strangers), s.pick(nouns)})
		}
		if !s.mine("unknown", x) {
			continue
		}
		b.ask(fmt.Sprintf(s.pick([]string{"What is %s?", "Tell me about %s.", "Explain %s.", "Who is %s?", "Write about %s.", "How does %s work?", "%s", "Do you like %s?", "Where is %s?", "Why %s?"}), x))
		b.answer("I do not know that.", "I do not know that. I know ossify, small sums, and how to call tools.")
		return
	}
}

// sum is an addition, subtraction or multiplication, as at school.
func (s *source) sum(b *builder) {
	for {
		var x, y, z int
		var op rune
		switch s.r.IntN(5) {
		case 0, 1:
			x, y, op = s.operand(), s.operand(), '+'
			z = x + y
		case 2, 3:
			x, y, op = s.operand(), s.operand(), '-'
			if x < y {
				x, y = y, x
			}
			z = x - y
		case 4:
			y, op = 2+s.r.IntN(8), '*'
			x = 2 + s.r.IntN(mostSum/y-1)
			x = min(x, 2+s.r.IntN(98))
			if !s.exam && s.one(2) { // two digits whose product few questions need come as often as others
				if x = s.factor(s.r.IntN(10), y); x == 0 {
					continue
				}
			}
			z = x * y
		}
		if z > mostSum || !s.mine(x, string(op), y) {
			continue
		}
		b.ask(s.pick(starts) + s.question(x, op, y) + s.pick(tails))
		b.answer(steps(x, op, y, z), fmt.Sprintf("%d %c %d = %d.", x, op, y, z))
		return
	}
}

// factor returns a number with a last digit, of those that the training
// multiplies by y; 0 if there is none.
func (s *source) factor(last, y int) int {
	var list []int
	for x := last; x <= min(99, mostSum/y); x += 10 {
		if x > 1 && s.mine(x, "*", y) {
			list = append(list, x)
		}
	}
	if len(list) == 0 {
		return 0
	}
	return list[s.r.IntN(len(list))]
}

// mostSum is the largest number in a sum: a number is one token of o200k, whose
// digits have to be learnt for each.
const mostSum = 199

// operand is a number of one or two digits.
func (s *source) operand() int {
	if s.one(8) {
		return s.r.IntN(10)
	}
	return s.r.IntN(100)
}

func (s *source) question(x int, op rune, y int) string {
	forms := map[rune][]string{
		'+': {"What is %d plus %d?", "Add %d and %d.", "How much is %d plus %d?"},
		'-': {"What is %d minus %d?", "Subtract %[2]d from %[1]d.", "How much is %d minus %d?"},
		'*': {"What is %d times %d?", "Multiply %d by %d.", "How much is %d times %d?"},
	}[op]
	if s.one(2) {
		return fmt.Sprintf(s.pick(forms), x, y)
	}
	return fmt.Sprintf(s.pick([]string{"What is %d %c %d?", "%d %c %d", "%d %c %d = ?", "Calculate %d %c %d.", "How much is %d %c %d?", "Compute %d %c %d."}), x, op, y)
}

// steps spells a sum digit by digit, the lowest first: a thought.
func steps(x int, op rune, y, z int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %c %d: ", x, op, y)
	if op == '*' {
		low, high := x%10*y, x/10*y
		fmt.Fprintf(&b, "%d * %d = %d, ", x%10, y, low)
		if x > 9 {
			fmt.Fprintf(&b, "%d * %d = %d, ", x/10, y, high)
			fmt.Fprintf(&b, "%d + %d = %d, ", high, low/10, high+low/10)
		}
	} else {
		carry, sign := 0, 1
		if op == '-' {
			sign = -1
		}
		for p, q, first := x, y, true; first || p > 0 || q > 0; p, q, first = p/10, q/10, false {
			fmt.Fprintf(&b, "%d %c %d", p%10, op, q%10)
			digit := p%10 + sign*(q%10+carry)
			if carry != 0 {
				fmt.Fprintf(&b, " %c 1", op)
			}
			carry = digit / 10 // of an addition
			if digit < 0 {
				b.WriteString(" + 10")
				digit, carry = digit+10, 1
			}
			fmt.Fprintf(&b, " = %d, ", digit)
		}
	}
	return b.String() + "digits " + spaced(z) + "."
}
