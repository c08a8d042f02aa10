package harmony

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"ossify/tokenizer"
)

var recoveries = flag.Int("recoveries", 20_000, "random streams for recovery")

func TestRecovery(t *testing.T) {
	tools := []string{"functions.f", "functions.get", "functions.get_weather", "python", "browser.search"}
	for _, test := range []struct{ name, in, want string }{
		{"well-formed", "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>", "analysis: a | final: b"},
		{"call", "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>", "commentary to=functions.f <|constrain|>json: {}"},
		{"call, recipient first", " to=functions.f<|channel|>commentary json<|message|>{}<|call|>", "commentary to=functions.f json: {}"},
		{"tool's answer", "<|start|>functions.f to=assistant<|channel|>commentary<|message|>1<|end|>", "tool functions.f commentary to=assistant: 1"},
		{"user", "<|start|>user:bob<|message|>1<|end|>", "user bob: 1"},
		{"type without recipient", "<|channel|>final <|constrain|>json<|message|>{}<|return|>", "final <|constrain|>json: {}"},
		{"plain type without recipient", "<|channel|>final json<|message|>{}<|return|>", "final json: {}"},
		{"type after a space", "<|channel|>commentary to=functions.f <|constrain|> json<|message|>{}<|call|>", "commentary to=functions.f <|constrain|>json: {}"},
		{"two types", "<|channel|>commentary to=functions.f code<|constrain|>json<|message|>{}<|call|>", "commentary to=functions.f <|constrain|>json: {}"},
		{"recipient after a space", "<|channel|>commentary to= functions.f<|message|>{}<|call|>", "commentary to=functions.f: {}"},
		{"recipient with a channel glued on", "<|channel|>commentary to=functions.f<|channel|>commentary<|message|>{}<|call|>", "commentary to=functions.f: {}"},
		{"recipient with junk glued on", "<|channel|>commentary to=functions.get_weatherjson<|message|>{}<|call|>", "commentary to=functions.get_weather: {}"},
		{"recipient without namespace", "<|channel|>commentary to=get_weather<|message|>{}<|call|>", "commentary to=functions.get_weather: {}"},
		{"unknown recipient", "<|channel|>commentary to=functions.web-browsing<|message|>{}<|call|>", "commentary to=functions.web-browsing: {}"},
		{"two recipients", "<|channel|>commentary to=functions.f to=python<|message|>{}<|call|>", "commentary to=functions.f: {}"},
		{"bare recipient", "<|channel|>analysis python code<|message|>1<|call|>", "analysis to=python code: 1"},
		{"call on final", "<|channel|>final to=functions.f<|message|>{}<|call|>", "final to=functions.f: {}"},
		{"extra words", "<|channel|>analysis a b c<|message|>x<|end|>", "analysis: x"},
		{"no channel", "<|message|>x<|end|>", "final: x"},
		{"empty channel", "<|channel|><|message|>x<|end|>", "final: x"},
		{"unknown channel", "<|channel|>thinking<|message|>x<|end|>", "final: x"},
		{"channel with junk", "<|channel|>commentary?<|message|>x<|end|>", "commentary: x"},
		{"space before the channel", "<|channel|> analysis<|message|>x<|end|>", "analysis: x"},
		{"two channels", "<|channel|>analysis<|channel|>final<|message|>x<|end|>", "analysis: x"},
		{"prompt's end repeated", "<|start|>assistant<|channel|>final<|message|>x<|end|>", "final: x"},
		{"role repeated", "assistant<|channel|>final<|message|>x<|end|>", "final: x"},
		{"no start before a channel", "<|channel|>analysis<|message|>a<|end|><|channel|>final<|message|>b<|return|>", "analysis: a | final: b"},
		{"role as text before a channel", "<|channel|>analysis<|message|>a<|end|>assistant<|channel|>final<|message|>b<|return|>", "analysis: a | final: b"},
		{"only message", "<|channel|>analysis<|message|>a<|end|><|message|>b<|return|>", "analysis: a | final: b"},
		{"start in content", "<|channel|>analysis<|message|>a<|start|>assistant<|channel|>final<|message|>b<|return|>", "analysis: a | final: b"},
		{"channel in content", "<|channel|>analysis<|message|>a<|channel|>final<|message|>b<|return|>", "analysis: a | final: b"},
		{"message in content", "<|channel|>final<|message|>a<|message|>b<|return|>", "final: ab"},
		{"reserved in content", "<|channel|>final<|message|>a<|reserved_200014|>b<|return|>", "final: ab"},
		{"end of text", "<|channel|>final<|message|>a<|endoftext|>", "final: a"},
		{"text after the end of text", "<|channel|>final<|message|>a<|endoftext|>b", "final: a | final: b"},
		{"role as text after a message", "<|end|>user<|message|>x", "user: x"},
		{"role given, another as text", "user<|message|>x", "final: x"},
		{"nothing", "", ""},
		{"only a stop", "<|return|>", ""},
		{"stop twice", "<|channel|>final<|message|>a<|return|><|return|>", "final: a"},
		{"only a role", "<|start|>assistant<|end|>", ""},
		{"plain text", "I must refuse", "final: I must refuse"},
		{"plain text, then a message", "I must refuse<|end|><|start|>assistant<|channel|>final<|message|>x<|return|>", "final: I must refuse | final: x"},
		{"no message, stop", "<|channel|>final hello<|return|>", "final:  hello"},
		{"no message, end", "<|channel|>analysis The user", "analysis:  The user"},
		{"no message, start", "<|channel|>analysis The user<|start|>assistant<|channel|>final<|message|>x<|end|>", "analysis:  The user | final: x"},
		{"no message in a later one", "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final hello<|return|>", "analysis: a | final:  hello"},
		{"no message, unknown channel", "<|channel|>Hello there<|return|>", "final: Hello there"},
		{"no message, junk on the channel", "<|channel|>final__HANDOFF__<|return|>", "final: __HANDOFF__"},
		{"no message, nothing", "<|channel|>final<|return|>", "final: "},
		{"cut off in a header", "<|channel|>commentary to=functions.f", "commentary:  to=functions.f"},
		{"text after a message", "<|channel|>final<|message|>x<|end|> junk", "final: x | final:  junk"},
		{"text between messages", "<|channel|>analysis<|message|>x<|end|>junk<|start|>assistant<|channel|>final<|message|>y<|end|>", "analysis: x | final: junk | final: y"},
		{"white space between messages", "<|channel|>analysis<|message|>x<|end|>\n<|start|>assistant<|channel|>final<|message|>y<|end|>\n", "analysis: x | final: y"},
		{"sampled on after a call", "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>commentary<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>",
			"commentary to=functions.f <|constrain|>json: {} | commentary to=functions.f <|constrain|>json: {}"},
		{"user written without message", "<|start|>user hello<|end|>", "user:  hello"},
	} {
		ids := encodeAll(test.in)
		messages := recoverChecked(t, ids, RecoveryOptions{Tools: tools})
		var got []string
		for _, m := range messages {
			got = append(got, show(m))
		}
		if s := strings.Join(got, " | "); s != test.want {
			t.Errorf("%s: %q, want %q", test.name, s, test.want)
		}
	}
}

// show is a message on one line, without what is the rule.
func show(m Recovered) string {
	s := ""
	if m.Role != Assistant {
		s = string(m.Role)
		if name, ok := m.Name.Get(); ok {
			s += " " + name
		}
	}
	if c, ok := m.Channel.Get(); ok {
		s = strings.TrimSpace(s + " " + c)
	}
	if to, ok := m.Recipient.Get(); ok {
		s += " to=" + to
	}
	if typ, ok := m.ContentType.Get(); ok {
		s += " " + typ
	}
	return s + ": " + m.Text()
}

// recoverChecked recovers ids and checks what is promised of every stream.
func recoverChecked(t testing.TB, ids []uint32, o RecoveryOptions) []Recovered {
	t.Helper()
	messages, err := recoverAll(ids, o)
	if err != nil {
		t.Fatalf("ids %v: %v", ids, err)
	}
	return messages
}

func recoverAll(ids []uint32, o RecoveryOptions) ([]Recovered, error) {
	r := encoding().NewRecovery(o)
	var deltas [][]byte
	open := false
	take := func(events []Event) error {
		for _, e := range events {
			switch {
			case e.Text == "" && !e.Done:
				if open || e.Message != len(deltas) {
					return fmt.Errorf("message %d is opened as the %d-th", e.Message, len(deltas))
				}
				deltas = append(deltas, nil)
				open = true
			case !open || e.Message != len(deltas)-1:
				return fmt.Errorf("event of message %d, which is not open", e.Message)
			}
			if !utf8.ValidString(e.Text) {
				return fmt.Errorf("delta %q is no text", e.Text)
			}
			deltas[e.Message] = append(deltas[e.Message], e.Text...)
			open = open && !e.Done
		}
		return nil
	}
	for _, id := range ids {
		if err := take(r.Push(id)); err != nil {
			return nil, err
		}
	}
	if err := take(r.Finish()); err != nil {
		return nil, err
	}
	messages := r.Messages()
	if open || len(messages) != len(deltas) {
		return nil, fmt.Errorf("%d messages of %d are done", len(messages), len(deltas))
	}
	var all []uint32
	for i, m := range messages {
		all = append(all, m.Tokens...)
		if len(m.Content) != 1 || m.Text() != string(deltas[i]) {
			return nil, fmt.Errorf("message %d: deltas %q, content %q", i, deltas[i], m.Text())
		}
		if c := m.Channel.Or(""); m.Role == Assistant && c != Analysis && c != Commentary && c != Final {
			return nil, fmt.Errorf("message %d: channel %q", i, c)
		}
		if err := accounted(m); err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
	}
	if all = append(all, r.Rest()...); !slices.Equal(all, ids) {
		return nil, fmt.Errorf("messages have the ids %v", all)
	}
	if rest := textOfIDs(r.Rest()); !brokenHeaderText.MatchString(rest) {
		return nil, fmt.Errorf("text that belongs to no message: %q", rest)
	}
	return messages, nil
}

// brokenHeaderText is what may be missing in the content of a header without
// <|message|>.
var brokenHeaderText = regexp.MustCompile(`^(\s|user|assistant|system|developer|tool|analysis|commentary|final)*$`)

// textOfIDs is the ordinary text of ids, bytes as they are.
func textOfIDs(ids []uint32) string {
	var b strings.Builder
	for _, id := range ids {
		if id < tokenizer.Ordinary {
			token, _ := encoding().t.Token(id)
			b.WriteString(token)
		}
	}
	return b.String()
}

// accounted checks that the bytes of m's tokens are in its header or content.
func accounted(m Recovered) error {
	if i := slices.Index(m.Tokens, tokenizer.Message); i >= 0 {
		header, content := textOfIDs(m.Tokens[:i]), textOfIDs(m.Tokens[i:])
		if m.Header == wellFormed(header) && m.Text() == wellFormed(content) {
			return nil
		}
		// A header too long has its <|message|> in the content.
	}
	text := textOfIDs(m.Tokens)
	if !brokenHeaderText.MatchString(m.Header) {
		return fmt.Errorf("header %q of what has no header", m.Header)
	}
	if utf8.ValidString(text) && len(text) != len(m.Header)+len(m.Text()) {
		return fmt.Errorf("%d bytes became a header of %d and a content of %d", len(text), len(m.Header), len(m.Text()))
	}
	// No ill-formed sequence holds ASCII, and none becomes nothing.
	var ascii [128]int
	other := 0
	for _, c := range []byte(text) {
		if c < 128 {
			ascii[c]++
		} else {
			other++
		}
	}
	for _, c := range []byte(m.Header + m.Text()) {
		if c < 128 {
			ascii[c]--
		}
	}
	if ascii != [128]int{} || other > 0 && !strings.ContainsFunc(m.Text(), func(r rune) bool { return r >= 128 }) {
		return fmt.Errorf("text %q became header %q and content %q", text, m.Header, m.Text())
	}
	return nil
}

// randomStream is a stream as models write and miswrite them, or one of
// arbitrary ids.
func randomStream(rng *rand.Rand, fragments [][]uint32) (ids []uint32) {
	controls := []uint32{tokenizer.Return, tokenizer.Constrain, tokenizer.Channel, tokenizer.Start,
		tokenizer.End, tokenizer.Message, tokenizer.Call, tokenizer.EndOfText}
	random := func() uint32 {
		switch rng.IntN(6) {
		case 0, 1:
			return controls[rng.IntN(len(controls))]
		case 2, 3:
			return rng.Uint32N(256) // a byte, mostly half a code point
		case 4:
			return rng.Uint32N(tokenizer.DecodeSize + 10)
		}
		return rng.Uint32()
	}
	if rng.IntN(10) == 0 {
		for range rng.IntN(60) {
			ids = append(ids, random())
		}
		return ids
	}
	for range rng.IntN(14) {
		ids = append(ids, fragments[rng.IntN(len(fragments))]...)
	}
	for range rng.IntN(4) {
		i := rng.IntN(len(ids) + 1)
		switch rng.IntN(5) {
		case 0:
			ids = ids[:i]
		case 1:
			if i < len(ids) {
				ids = slices.Delete(slices.Clone(ids), i, i+1)
			}
		case 2:
			if j := rng.IntN(len(ids) + 1); len(ids) > 0 && i < len(ids) && j < len(ids) {
				ids[i], ids[j] = ids[j], ids[i]
			}
		default:
			ids = slices.Insert(ids, i, random())
		}
	}
	return ids
}

func streamFragments() (fragments [][]uint32) {
	for _, s := range []string{
		"<|start|>", "<|start|>assistant", "<|start|>assistant", "<|start|>user", "<|start|>functions.f to=assistant",
		"<|channel|>", "<|channel|>analysis", "<|channel|>commentary", "<|channel|>final", "<|channel|>final", "<|channel|>finalX",
		"<|message|>", "<|message|>", "<|message|>", "<|message|>", "<|end|>", "<|end|>", "<|return|>", "<|call|>", "<|endoftext|>",
		" to=functions.f", " to=", " json", " <|constrain|>json", "<|constrain|>", "assistant", "analysis", " ", "\n", "\u00a0",
		"Hello, world!", "The answer is 42.", "日本語", "🙂", "{\"a\": 1}", strings.Repeat("word ", 300), "to=f", "<", "|>", "<|",
	} {
		fragments = append(fragments, encodeAll(s))
	}
	// Spelled with ordinary ids.
	for _, s := range []string{"<|channel|>", "<|end|>", "<|constrain|>json"} {
		fragments = append(fragments, encoding().t.EncodeOrdinary(nil, s))
	}
	return fragments
}

// With -recoveries 1000000 this is the full run.
func TestRecoveryKeepsEverything(t *testing.T) {
	fragments := streamFragments()
	failed, opened := 0, 0
	for i := range *recoveries {
		ids := randomStream(rand.New(rand.NewPCG(1, uint64(i))), fragments)
		messages, err := recoverAll(ids, RecoveryOptions{})
		opened += len(messages)
		if err != nil {
			failed++
			t.Errorf("stream %d, ids %v: %v", i, ids, err)
		}
		if failed > 5 {
			t.FailNow()
		}
	}
	t.Logf("%d streams, %d messages, %d failed", *recoveries, opened, failed)
	if opened < *recoveries/2 {
		t.Errorf("only %d messages: the streams try too little", opened)
	}
}

// Where the reference reads a stream of the three channels, so does recovery.
func TestRecoveryAgreesOnWellFormed(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	texts := []string{"", "x", "Hello, world!\n", "日本語🙂", "<|end|>", " to=functions.f", "a\u00a0b"}
	for i := range 3000 {
		var c Conversation
		for range 1 + rng.IntN(5) {
			channel := []string{Analysis, Commentary, Final}[rng.IntN(3)]
			m := NewMessage(Assistant, Text(texts[rng.IntN(len(texts))])).WithChannel(channel)
			switch rng.IntN(4) {
			case 0:
				m = m.WithRecipient("functions.f").WithContentType("<|constrain|>json")
			case 1:
				m = m.WithRecipient("python")
			}
			c.Messages = append(c.Messages, m)
			if rng.IntN(4) == 0 {
				c.Messages = append(c.Messages, NewMessage(Tool, Text("1")).WithName("functions.f").WithRecipient("assistant").WithChannel(channel))
			}
		}
		ids, err := encoding().RenderConversation(c, DropNone)
		if err != nil {
			t.Fatal(err)
		}
		ids = ids[2:] // the completion starts after <|start|>assistant
		want, err := encoding().Parse(ids, Assistant, ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var got []Message
		for _, m := range recoverChecked(t, ids, RecoveryOptions{}) {
			got = append(got, m.Message)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("conversation %d: %v, want %v", i, got, want)
		}
	}
}

// A stream of one kind without end must not be held back, nor cost more than
// its length: a quadratic step would not end within the test's time.
func TestRecoveryOfEndlessStreams(t *testing.T) {
	const n = 200_000
	for _, test := range []struct {
		in       string
		messages int
	}{
		{"a", 1}, {"<|message|>", 1}, {"<|end|>", 0}, {"<|start|>", 0}, {" ", 0}, {"<|start|>assistant", 0},
		{"<|constrain|>", 0}, {"<|message|>a", 1}, {"a<|end|>", n}, {"<|channel|>final<|message|>", n}, {"<|message|>\xf0", 1},
	} {
		ids := slices.Repeat(encodeAll(test.in), n)
		if got := len(recoverChecked(t, ids, RecoveryOptions{})); got != test.messages {
			t.Errorf("%d times %q: %d messages, want %d", n, test.in, got, test.messages)
		}
	}
	r := encoding().NewRecovery(RecoveryOptions{})
	held := 0
	for range maxHeader + 1 {
		if len(r.Push(64)) == 0 {
			held++
		}
	}
	if held != maxHeader {
		t.Errorf("%d bytes were held back, want %d", held, maxHeader)
	}
}

func FuzzRecovery(f *testing.F) {
	f.Add([]byte("<|channel|>final<|message|>x<|return|>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		recoverChecked(t, streamOf(data), RecoveryOptions{Tools: []string{"functions.f", "python"}})
	})
}

// streamOf makes ids of fuzzed bytes: text with special tokens, but a byte
// from 0xE0 up is followed by 4 bytes of an id.
func streamOf(data []byte) (ids []uint32) {
	from := 0
	for i := 0; i+4 < len(data); i++ {
		if data[i] >= 0xE0 {
			ids = append(ids, encodeAll(string(data[from:i]))...)
			id := uint32(data[i+1])<<24 | uint32(data[i+2])<<16 | uint32(data[i+3])<<8 | uint32(data[i+4])
			ids = append(ids, id)
			i += 4
			from = i + 1
		}
	}
	return append(ids, encodeAll(string(data[from:]))...)
}

// The parser's promises: no panic, errors of its type, and that it can go on.
func FuzzParser(f *testing.F) {
	f.Add([]byte("<|channel|>final<|message|>x<|return|>"), true, false)
	f.Add([]byte("<|start|>assistant to=f<|message|>\xe0\x00\x00\x00\xac<|end|>"), false, true)
	f.Fuzz(func(t *testing.T, data []byte, given, lenient bool) {
		role := Role("")
		if given {
			role = Assistant
		}
		ids := streamOf(data)
		p := encoding().NewParser(role, ParseOptions{Lenient: lenient})
		for _, id := range ids {
			before := p.CurrentContent()
			if err := p.Process(id); err != nil && !errors.As(err, new(*Error)) {
				t.Fatalf("error of type %T", err)
			}
			if d, ok := p.LastContentDelta().Get(); ok && p.State() == InContent && p.CurrentContent() != before+d {
				t.Fatalf("content %q and delta %q became %q", before, d, p.CurrentContent())
			}
		}
		if !slices.Equal(p.Tokens(), ids) {
			t.Fatal("the ids are not those that came")
		}
	})
}
