package tokenizer

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestEncodeSpecials(t *testing.T) {
	// The ids are openai-harmony 0.0.8's answers.
	for _, c := range []struct {
		name, text string
		allowed    Specials
		want       []uint32
	}{
		{"none", "hello <|start|>x<|end|>", NoSpecials(), []uint32{24912, 464, 91, 5236, 91, 29, 87, 27, 91, 419, 91, 29}},
		{"one of two", "hello <|start|>x<|end|>", SpecialsOf("<|end|>"), []uint32{24912, 464, 91, 5236, 91, 29, 87, 200007}},
		{"all", "<|start|>user<|message|>hi<|end|>", AllSpecials(), []uint32{Start, 1428, Message, 3686, End}},
		{"all but one", "<|start|>x<|end|>", AllSpecialsBut("<|start|>"), []uint32{27, 91, 5236, 91, 29, 87, End}},
		{"zero value", "<|end|>", Specials{}, []uint32{27, 91, 419, 91, 29}},
		{"alone", "<|call|>", AllSpecials(), []uint32{Call}},
		{"doubled opening", "<|<|end|>", AllSpecials(), []uint32{27, 91, End}},
		{"shared bar", "<|end|end|>", AllSpecials(), []uint32{27, 91, 419, 91, 419, 91, 29}},
		{"no name", "<|>", AllSpecials(), []uint32{27, 91, 29}},
		{"empty name", "<||>", AllSpecials(), []uint32{27, 12439, 29}},
		{"unclosed", "<|end", AllSpecials(), []uint32{27, 91, 419}},
		{"other case", "<|END|>", AllSpecials(), []uint32{27, 91, 7671, 91, 29}},
		{"last reserved", "<|reserved_201088|>", AllSpecials(), []uint32{201088}},
		{"past the last", "<|reserved_201089|>", AllSpecials(), []uint32{27, 91, 116758, 62, 667, 46283, 91, 29}},
		{"not in harmony", "x<|endofprompt|>", AllSpecials(), []uint32{87, 27, 91, 419, 1440, 82467, 91, 29}},
		{"not a special", "<|end|>", SpecialsOf("end", "<|", "hello"), []uint32{27, 91, 419, 91, 29}},
		{"empty text", "", AllSpecials(), nil},
		// The text before a special is encoded as if it ended there: its spaces
		// stay one piece.
		{"spaces before", "a   <|end|>b", AllSpecials(), []uint32{64, 271, End, 65}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := shared().Encode(nil, c.text, c.allowed); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestEncodeAppends(t *testing.T) {
	tok := shared()
	ids := tok.EncodeOrdinary([]uint32{1, 2}, "hello")
	ids = tok.Encode(ids, "<|end|>", AllSpecials())
	if want := []uint32{1, 2, 24912, End}; !slices.Equal(ids, want) {
		t.Errorf("got %v, want %v", ids, want)
	}
}

// TestUserTextIsNeverControl encodes every special's name, alone, doubled,
// joined and cut, as user text: no id may be special, and the text must come
// back.
func TestUserTextIsNeverControl(t *testing.T) {
	tok := shared()
	texts := []string{endOfPromptName}
	var all strings.Builder
	for _, s := range tok.Specials() {
		all.WriteString(s.Name)
		texts = append(texts, s.Name, s.Name+s.Name, "<|"+s.Name, s.Name+"|>", " "+s.Name+"\n", s.Name[:len(s.Name)-1], s.Name[1:])
	}
	texts = append(texts, all.String())
	for _, text := range texts {
		ids := tok.EncodeOrdinary(nil, text)
		if i := slices.IndexFunc(ids, func(id uint32) bool { return id >= Ordinary }); i >= 0 {
			t.Errorf("%q: ids[%d] is %d", text, i, ids[i])
		}
		if back, err := tok.Decode(ids); back != text {
			t.Errorf("%q came back as %q (%v)", text, back, err)
		}
		if got := tok.Encode(nil, text, NoSpecials()); !slices.Equal(got, ids) {
			t.Errorf("%q: Encode without specials gives %v, want %v", text, got, ids)
		}
	}
}

func TestSpecials(t *testing.T) {
	tok := shared()
	table := tok.Specials()
	if len(table) != 1091 { // openai-harmony 0.0.8's special_tokens()
		t.Errorf("%d specials, want 1091", len(table))
	}
	for i, s := range table {
		if s.ID != uint32(Ordinary+i) {
			t.Errorf("Specials()[%d].ID is %d", i, s.ID)
		}
		if id, ok := tok.Special(s.Name); !ok || id != s.ID {
			t.Errorf("Special(%q) = %d, %v, want %d", s.Name, id, ok, s.ID)
		}
		if name, ok := tok.SpecialName(s.ID); !ok || name != s.Name {
			t.Errorf("SpecialName(%d) = %q, %v, want %q", s.ID, name, ok, s.Name)
		}
		if got := tok.Encode(nil, s.Name, AllSpecials()); !slices.Equal(got, []uint32{s.ID}) {
			t.Errorf("%s encodes to %v, want %d", s.Name, got, s.ID)
		}
		if text, err := tok.Decode([]uint32{s.ID}); text != s.Name {
			t.Errorf("%d decodes to %q (%v), want %q", s.ID, text, err, s.Name)
		}
	}
	for id, special := range map[uint32]bool{0: false, 199997: false, 199998: true, 201088: true, 201089: false, 1<<32 - 1: false} {
		if tok.IsSpecial(id) != special {
			t.Errorf("IsSpecial(%d) = %v, want %v", id, !special, special)
		}
		if _, ok := tok.SpecialName(id); ok != special {
			t.Errorf("SpecialName(%d): ok is %v, want %v", id, ok, special)
		}
	}
	if _, ok := tok.Special("<|endofprompt|>"); ok {
		t.Error("<|endofprompt|> is special without the option")
	}
}

func TestWithEndOfPrompt(t *testing.T) {
	tok := New(WithEndOfPrompt())
	for _, name := range []string{"<|endofprompt|>", "<|reserved_200018|>"} {
		if got := tok.Encode(nil, name, AllSpecials()); !slices.Equal(got, []uint32{200018}) {
			t.Errorf("%s encodes to %v, want 200018", name, got)
		}
	}
	if text, err := tok.Decode([]uint32{200018}); text != "<|endofprompt|>" {
		t.Errorf("200018 decodes to %q (%v)", text, err)
	}
}

func TestEncodeChecked(t *testing.T) {
	tok := shared()
	for _, c := range []struct {
		name, text          string
		allowed, disallowed Specials
		found               string // the special the error names; none if empty
		offset              int
	}{
		{"default", "hi <|start|>", NoSpecials(), AllSpecials(), "<|start|>", 3},
		{"first of two", "<|x|><|end|><|start|>", NoSpecials(), AllSpecials(), "<|end|>", 5},
		{"allowed", "hi <|start|>", SpecialsOf("<|start|>"), AllSpecialsBut("<|start|>"), "", 0},
		{"another", "<|start|><|end|>", SpecialsOf("<|start|>"), AllSpecialsBut("<|start|>"), "<|end|>", 9},
		{"check off", "hi <|start|>", NoSpecials(), NoSpecials(), "", 0},
		{"no special", "hi <|startled|>", NoSpecials(), AllSpecials(), "", 0},
		{"both", "<|end|>", AllSpecials(), AllSpecials(), "<|end|>", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dst := []uint32{7}
			ids, err := tok.EncodeChecked(dst, c.text, c.allowed, c.disallowed)
			if c.found == "" {
				if want := tok.Encode([]uint32{7}, c.text, c.allowed); err != nil || !slices.Equal(ids, want) {
					t.Errorf("got %v, %v, want %v", ids, err, want)
				}
				return
			}
			e, ok := err.(*DisallowedError)
			if !ok || e.Name != c.found || e.Offset != c.offset || !slices.Equal(ids, dst) {
				t.Errorf("got %v, %v, want %s at %d", ids, err, c.found, c.offset)
			}
		})
	}
	// What openai-harmony 0.0.8 raises for encode("x<|start|>").
	const want = "Encountered text corresponding to disallowed special token '<|start|>'.\n" +
		"If you want this text to be encoded as a special token, pass it to `allowed_special`, e.g. `allowed_special={'<|start|>', ...}`.\n" +
		"If you want this text to be encoded as normal text, disable the check for this token by passing `disallowed_special=(enc.special_tokens_set - {'<|start|>'})`.\n" +
		"To disable this check for all special tokens, pass `disallowed_special=()`.\n"
	if got := (&DisallowedError{Name: "<|start|>"}).Reference(); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestEncodeInvalidUTF8(t *testing.T) {
	tok := shared()
	for _, c := range []struct{ name, text, as string }{
		{"stray continuation", "a\x80b", "a\uFFFDb"},
		{"truncated emoji", "a\xF0\x9F\x92", "a\uFFFD"},
		{"truncated emoji, then text", "\xF0\x9F\x92A", "\uFFFDA"},
		{"surrogate", "\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
		{"overlong", "\xC0\xAF", "\uFFFD\uFFFD"},
		{"Latin-1", "caf\xE9 au lait", "caf\uFFFD au lait"},
		{"beside a special", "\xFF<|end|>\xFF", "\uFFFD<|end|>\uFFFD"},
		{"inside a special", "<|e\xFFnd|>", "<|e\uFFFDnd|>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, want := tok.EncodeOrdinary(nil, c.text), tok.EncodeOrdinary(nil, c.as); !slices.Equal(got, want) {
				t.Errorf("ordinary: got %v, want %v", got, want)
			}
			if got, want := tok.Encode(nil, c.text, AllSpecials()), tok.Encode(nil, c.as, AllSpecials()); !slices.Equal(got, want) {
				t.Errorf("with specials: got %v, want %v", got, want)
			}
			if got, want := tok.Count(c.text), tok.Count(c.as); got != want {
				t.Errorf("Count: got %d, want %d", got, want)
			}
		})
	}
	// openai-harmony 0.0.8 encodes each lone surrogate of "a\ud800b\udc00" so.
	if got, want := tok.EncodeOrdinary(nil, "a\uFFFDb\uFFFD😀"), []uint32{64, 3251, 65, 3251, 84083}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestMergeLongIsMerge compares the search with the array on pieces short enough
// for both: tokens in a row, cut anywhere, so that many merges compete.
func TestMergeLongIsMerge(t *testing.T) {
	tok := shared()
	rng := rand.New(rand.NewPCG(1, 2))
	var m merger
	for n := 0; n < 20000; {
		var b strings.Builder
		for b.Len() < 2+rng.IntN(maxToken-1) {
			token, _ := tok.Token(rng.Uint32N(Ordinary))
			b.WriteString(token[rng.IntN(len(token)):])
		}
		piece := b.String()
		if len(piece) > maxToken {
			continue
		}
		n++
		short, long := m.merge(tok, nil, piece), tok.mergeLong(nil, piece)
		if !slices.Equal(short, long) {
			t.Fatalf("%q: array %v, search %v", piece, short, long)
		}
	}
}

// TestMergeLongIsTheDefinition compares the search with merging by a heap, on
// pieces in which many merges compete and on those where the longest token is
// often wrong.
func TestMergeLongIsTheDefinition(t *testing.T) {
	tok := shared()
	rng := rand.New(rand.NewPCG(3, 4))
	of := func(alphabet string) func() string {
		runes := []rune(alphabet)
		return func() string { return string(runes[rng.IntN(len(runes))]) }
	}
	for _, c := range []struct {
		name string
		next func() string
	}{
		{"one letter", of("x")},
		{"two letters", of("ab")},
		{"letters", of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")},
		{"signs", of("-=_*#/ ")},
		{"two signs", of("-=")},
		{"replacement", of("\uFFFD")},
		{"Han", of("的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生")},
		{"bytes", func() string { return string([]byte{byte(rng.IntN(256))}) }},
		{"tokens", func() string { return tok.token(rng.Uint32N(Ordinary)) }},
		{"ends of tokens", func() string { s := tok.token(rng.Uint32N(Ordinary)); return s[rng.IntN(len(s)):] }},
		{"starts of long tokens", func() string {
			for {
				if s := tok.token(rng.Uint32N(Ordinary)); len(s) > 20 {
					return s[:rng.IntN(len(s))+1]
				}
			}
		}},
		{"runs", func() string { return strings.Repeat(string("-=x "[rng.IntN(4)]), 1+rng.IntN(200)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 60 {
				var b strings.Builder
				for most := maxToken + 1 + rng.IntN(4000); b.Len() < most; {
					b.WriteString(c.next())
				}
				got, want := tok.mergeLong([]uint32{1}, b.String()), mergeByHeap(tok, []uint32{1}, b.String())
				if !slices.Equal(got, want) {
					t.Fatalf("%q: %v, want %v", b.String(), got, want)
				}
			}
		})
	}
}

// TestMergeLongMemory holds a long piece to what is stated: the ids, 36 kB, and
// a bit a byte.
func TestMergeLongMemory(t *testing.T) {
	tok := shared()
	piece := strings.Repeat("\uFFFD", 1<<20)
	dst := make([]uint32, 0, len(piece))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	tok.mergeLong(dst, piece)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > uint64(len(piece)/8+64<<10) {
		t.Errorf("%d bytes for a piece of %d", n, len(piece))
	}
}

// TestLongTexts encodes what a quadratic merge would take hours for.
func TestLongTexts(t *testing.T) {
	tok := shared()
	var mixed strings.Builder
	megabytes := 10
	if testing.Short() {
		megabytes = 1
	}
	for all := goldens(t); mixed.Len() < megabytes<<20; {
		for _, g := range all {
			mixed.WriteString(g.Text)
		}
	}
	for _, c := range []struct{ name, text string }{
		{"1 MB of one letter", strings.Repeat("a", 1<<20)},
		{"1 MB of spaces", strings.Repeat(" ", 1<<20)},
		{"1 MB of one Han character", strings.Repeat("中", 1<<20/3)},
		{"1 MB of newlines", strings.Repeat("\r\n", 1<<19)},
		{"1 MB of openings", strings.Repeat("<|", 1<<19)},
		{"1 MB not UTF-8", strings.Repeat("\xF0\x9F", 1<<19)},
		{"mixed", mixed.String()},
	} {
		t.Run(c.name, func(t *testing.T) {
			ids := tok.Encode(nil, c.text, SpecialsOf("<|end|>"))
			back, err := tok.DecodeReplacing(ids)
			if err != nil {
				t.Fatal(err)
			}
			if back != string(AppendReplacing(nil, []byte(c.text))) {
				t.Error("the text did not come back")
			}
			if n := tok.Count(c.text); n != len(ids) {
				t.Errorf("Count is %d, want %d", n, len(ids))
			}
		})
	}
}

func TestConcurrentUse(t *testing.T) {
	tok, all := shared(), goldens(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			var ids []uint32
			for _, g := range all {
				if ids = tok.EncodeOrdinary(ids[:0], g.Text); !slices.Equal(ids, g.IDs) {
					t.Errorf("%q: got %v, want %v", g.Text, ids, g.IDs)
				}
			}
		})
	}
	group.Wait()
}

func TestAllocations(t *testing.T) {
	tok := shared()
	text := strings.Repeat("The quick brown fox; 日本語のテキスト и русский, 12345!\n", 20)
	dst := make([]uint32, 0, len(text))
	var d = tok.NewDecoder()
	ids := tok.EncodeOrdinary(nil, text)
	bytes := make([]byte, 0, len(text))
	for _, c := range []struct {
		name string
		want float64
		run  func()
	}{
		{"EncodeOrdinary with room", 0, func() { tok.EncodeOrdinary(dst, text) }},
		{"Encode with room", 0, func() { tok.Encode(dst, text, AllSpecials()) }},
		{"DecodeBytes with room", 0, func() { _, _ = tok.DecodeBytes(bytes, ids) }},
		{"Decoder.Push of whole characters", 0, func() { _, _ = d.Push(24912) }},
	} {
		if got := testing.AllocsPerRun(20, c.run); got != c.want {
			t.Errorf("%s: %v allocations, want %v", c.name, got, c.want)
		}
	}
}

func FuzzEncode(f *testing.F) {
	for _, g := range goldens(f)[:200] {
		f.Add(g.Text)
	}
	f.Add("<|start|>a<|end|>\xFF")
	tok := shared()
	f.Fuzz(func(t *testing.T, text string) {
		want := string(AppendReplacing(nil, []byte(text)))
		ids := tok.EncodeOrdinary(nil, text)
		for i, id := range ids {
			if id >= Ordinary {
				t.Fatalf("ids[%d] is %d, a special", i, id)
			}
		}
		if back, err := tok.Decode(ids); err != nil || back != want {
			t.Fatalf("%q came back as %q (%v)", text, back, err)
		}
		if n := tok.Count(text); n != len(ids) {
			t.Fatalf("Count is %d, want %d", n, len(ids))
		}
		if back, err := tok.Decode(tok.Encode(nil, text, AllSpecials())); err != nil || back != want {
			t.Fatalf("%q with specials came back as %q (%v)", text, back, err)
		}
	})
}
