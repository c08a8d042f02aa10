package tokenizer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// bytesOf returns the ids of single bytes: each byte is a token.
func bytesOf(t testing.TB, s string) []uint32 {
	t.Helper()
	var ids []uint32
	for i := range len(s) {
		id, ok := shared().lookup(s[i : i+1])
		if !ok {
			t.Fatalf("byte %#x is no token", s[i])
		}
		ids = append(ids, id)
	}
	return ids
}

func TestDecodeUnknownID(t *testing.T) {
	tok := shared()
	for _, id := range []uint32{201089, 1 << 20, 1<<32 - 1} {
		ids := []uint32{24912, End, id, 24912}
		want := UnknownIDError{Index: 2, ID: id}
		_, err1 := tok.Decode(ids)
		_, err2 := tok.DecodeReplacing(ids)
		b, err3 := tok.DecodeBytes([]byte("x"), ids)
		for i, err := range []error{err1, err2, err3} {
			var e *UnknownIDError
			if !errors.As(err, &e) || *e != want {
				t.Errorf("%d: id %d: error %v, want %v", i, id, err, &want)
			}
		}
		if string(b) != "xhello<|end|>" {
			t.Errorf("DecodeBytes kept %q", b)
		}
	}
	if got, want := (&UnknownIDError{Index: 2, ID: 300000}).Error(), "tokenizer: ids[2]: Invalid token for decoding: 300000"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The texts are openai-harmony 0.0.8's decode_utf8 errors, after "Could not
// decode tokens: Invalid utf-8 sequence: ".
func TestDecodeStrict(t *testing.T) {
	for _, c := range []struct{ bytes, want string }{
		{"a\xF0", "incomplete utf-8 byte sequence from index 1"},
		{"a\xADc", "invalid utf-8 sequence of 1 bytes from index 1"},
		{"a\xF5", "invalid utf-8 sequence of 1 bytes from index 1"},
		{"a\xF0\x9F\x92b", "invalid utf-8 sequence of 3 bytes from index 1"},
		{"a\xF0\x9F\x92", "incomplete utf-8 byte sequence from index 1"},
	} {
		_, err := shared().Decode(bytesOf(t, c.bytes))
		var e *InvalidUTF8Error
		if !errors.As(err, &e) || e.Reference() != c.want {
			t.Errorf("%q: %v, want %s", c.bytes, err, c.want)
		}
	}
}

func TestReplacing(t *testing.T) {
	for _, c := range []struct{ name, bytes, want string }{
		// Unicode 16.0, section 3.9, tables 3-8 to 3-11.
		{"non-shortest forms", "\xC0\xAF\xE0\x80\xBF\xF0\x81\x82A", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA"},
		{"surrogates", "\xED\xA0\x80\xED\xBF\xBF\xED\xAFA", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA"},
		{"other ill-formed", "\xF4\x91\x92\x93\xFFA\x80\xBFB", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA\uFFFD\uFFFDB"},
		{"truncated", "\xE1\x80\xE2\xF0\x91\x92\xF1\xBFA", "\uFFFD\uFFFD\uFFFD\uFFFDA"},
		{"one for three bytes", "\xF0\x9F\x92A", "\uFFFDA"},
		{"at the end", "a\xF0\x9F\x92", "a\uFFFD"},
		{"nothing wrong", "añ中👍", "añ中👍"},
		{"empty", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(AppendReplacing(nil, []byte(c.bytes))); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if got, err := shared().DecodeReplacing(bytesOf(t, c.bytes)); err != nil || got != c.want {
				t.Errorf("DecodeReplacing: got %q (%v), want %q", got, err, c.want)
			}
		})
	}
}

// TestReplacingIsPythons replaces in all sequences of four bytes from every
// class of table 3-7 and compares with CPython 3.11:
//
//	b = bytes.fromhex("417f808f909fa0bfc0c1c2dfe0e1ecedeeeff0f1f3f4f5ff")
//	h = hashlib.sha256()
//	for s in itertools.product(b, repeat=4): h.update(bytes(s).decode("utf-8", "replace").encode() + b"\n")
func TestReplacingIsPythons(t *testing.T) {
	set, _ := hex.DecodeString("417f808f909fa0bfc0c1c2dfe0e1ecedeeeff0f1f3f4f5ff")
	h := sha256.New()
	var out []byte
	for _, a := range set {
		for _, b := range set {
			for _, c := range set {
				for _, d := range set {
					out = append(AppendReplacing(out[:0], []byte{a, b, c, d}), '\n')
					h.Write(out)
				}
			}
		}
	}
	const want = "96788395733b1ddae744ee23f9918ea246a833f1bca5b7718a0adb080c518e52"
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("sha256 %s, want %s", got, want)
	}
}

func TestDecoder(t *testing.T) {
	tok := shared()
	d := tok.NewDecoder()
	// 👍🏽 is three tokens; the first holds the whole of 👍, the others parts of 🏽.
	var deltas []string
	for _, id := range tok.EncodeOrdinary(nil, "x👍🏽y") {
		delta, err := d.Push(id)
		if err != nil {
			t.Fatal(err)
		}
		deltas = append(deltas, delta)
	}
	if got := strings.Join(deltas, "|"); got != "x|👍||🏽|y" {
		t.Errorf("deltas %q", got)
	}
	if rest := d.Flush(); rest != "" {
		t.Errorf("Flush gave %q, want nothing", rest)
	}

	for i, c := range []struct{ push, want string }{
		{"\xF0", ""}, {"\x9F", ""}, {"A", "\uFFFDA"}, // a sequence that cannot be completed shows at once
		{"\xE4", ""}, {"\xE4", "\uFFFD"}, {"\xB8", ""}, {"\xAD", "中"},
		{"\xFF", "\uFFFD"}, {"\xE4", ""},
	} {
		if got, err := d.Push(bytesOf(t, c.push)[0]); err != nil || got != c.want {
			t.Errorf("push %d: got %q (%v), want %q", i, got, err, c.want)
		}
	}
	var e *UnknownIDError
	if _, err := d.Push(DecodeSize); !errors.As(err, &e) || e.ID != DecodeSize {
		t.Errorf("unknown id: %v", err)
	}
	if got := d.Flush(); got != "\uFFFD" {
		t.Errorf("Flush gave %q, want U+FFFD for the cut code point", got)
	}
	if got := d.Flush(); got != "" {
		t.Errorf("second Flush gave %q", got)
	}
	if got, _ := d.Push(End); got != "<|end|>" {
		t.Errorf("a special gave %q", got)
	}
}

// FuzzDecode reads ids from raw bytes, three each: decoding must agree with
// itself by bytes, replacing and streaming.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{0, 0, 64, 3, 0x0D, 0x40, 3, 0x11, 0x81, 0, 0, 0xAC, 0, 0, 0xFF})
	f.Add([]byte{0, 0, 0xAC, 0, 0, 0xDC})
	tok := shared()
	f.Fuzz(func(t *testing.T, raw []byte) {
		var ids []uint32
		for ; len(raw) >= 3; raw = raw[3:] {
			ids = append(ids, uint32(raw[0])<<16|uint32(raw[1])<<8|uint32(raw[2]))
		}
		bytes, err := tok.DecodeBytes(nil, ids)
		var e *UnknownIDError
		if errors.As(err, &e) {
			if ids[e.Index] != e.ID || e.ID < DecodeSize {
				t.Fatalf("ids[%d] = %d: %v", e.Index, ids[e.Index], err)
			}
			ids = ids[:e.Index]
		} else if err != nil {
			t.Fatal(err)
		}
		text, err := tok.DecodeReplacing(ids)
		if err != nil || !utf8.ValidString(text) {
			t.Fatalf("DecodeReplacing: %q, %v", text, err)
		}
		strict, err := tok.Decode(ids)
		if utf8.Valid(bytes) != (err == nil) || err == nil && strict != text {
			t.Fatalf("Decode: %q, %v; replacing %q", strict, err, text)
		}
		d := tok.NewDecoder()
		var stream strings.Builder
		for _, id := range ids {
			delta, err := d.Push(id)
			if err != nil || !utf8.ValidString(delta) {
				t.Fatalf("Push(%d): %q, %v", id, delta, err)
			}
			stream.WriteString(delta)
		}
		stream.WriteString(d.Flush())
		if stream.String() != text {
			t.Fatalf("streamed %q, want %q", stream.String(), text)
		}
	})
}
