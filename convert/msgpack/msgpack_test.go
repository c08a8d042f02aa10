package msgpack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ossify/checkpoint"
)

// A writer writes MessagePack, as the specification has it.
type writer struct{ bytes.Buffer }

func (w *writer) head(code byte, n int, size int) {
	w.WriteByte(code)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	w.Write(b[8-size:])
}

func (w *writer) mapOf(n int) *writer    { w.WriteByte(0x80 | byte(n)); return w }
func (w *writer) str(s string) *writer   { w.head(0xd9, len(s), 1); w.WriteString(s); return w }
func (w *writer) bits(b ...byte) *writer { w.Write(b); return w }

// array is an extension 1: [shape, dtype, data].
func (w *writer) array(dtype string, data []byte, shape ...int) *writer {
	var in writer
	in.WriteByte(0x93)
	in.WriteByte(0x90 | byte(len(shape)))
	for _, d := range shape {
		in.head(0xcd, d, 2)
	}
	in.str(dtype)
	in.head(0xc6, len(data), 4)
	in.Write(data)
	return w.ext(1, in.Bytes())
}

func (w *writer) ext(code byte, body []byte) *writer {
	w.head(0xc9, len(body), 4)
	w.WriteByte(code)
	w.Write(body)
	return w
}

func begin() *writer { return &writer{} }

// chunked is an array in chunks of one type; edit changes the parts.
func chunked(shape []int, first string, chunks ...[]byte) *writer {
	w := begin().mapOf(1).str("a").mapOf(3).str(chunkedKey).bits(0xc3).str("shape").mapOf(len(shape))
	for i, d := range shape {
		w.str(fmt.Sprint(i)).bits(byte(d))
	}
	w.str("chunks").mapOf(len(chunks))
	for i, c := range chunks {
		if i == 0 {
			w.str(first)
		} else {
			w.str(fmt.Sprint(i))
		}
		w.array("uint8", c, len(c))
	}
	return w
}

func TestParse(t *testing.T) {
	deep := begin()
	for range 20 {
		deep.mapOf(1).str("a")
	}
	deep.array("uint8", []byte{1}, 1)
	many := begin()
	many.head(0xdf, mostKeys+1, 4)
	for i := range mostKeys + 1 {
		many.str(fmt.Sprint(i)).array("uint8", []byte{1}, 1)
	}
	for _, tt := range []struct {
		name string
		in   []byte
		want string // the arrays, or part of the error
	}{
		{"one", begin().mapOf(1).str("a").array("bfloat16", make([]byte, 12), 2, 3).Bytes(), "a BF16 [2, 3] 000000000000000000000000"},
		{"a scalar", begin().mapOf(1).str("a").array("uint8", []byte{7}).Bytes(), "a U8 [] 07"},
		{"a tree", begin().mapOf(2).str("a").mapOf(1).str("b").array("uint8", []byte{7}, 1).str("c").array("int8", []byte{8}, 1).Bytes(), "a/b U8 [1] 07; c I8 [1] 08"},
		{"in chunks", chunked([]int{2, 2}, "0", []byte{1, 2, 3}, []byte{4}).Bytes(), "a U8 [2, 2] 01020304"},
		{"no elements", begin().mapOf(1).str("a").array("uint8", nil, 0, 3).Bytes(), "a U8 [0, 3] "},

		{"nothing", nil, "the file ends within a value"},
		{"an empty map", begin().mapOf(0).Bytes(), "no arrays"},
		{"64 GiB of a list", []byte{0xdd, 0xff, 0xff, 0xff, 0xff}, ": a list, want a map or an array"},
		{"64 GiB of a map", []byte{0xdf, 0xff, 0xff, 0xff, 0xff}, "the file ends within a value"},
		{"a million lists in each other", bytes.Repeat([]byte{0x91}, 1<<20), "a list, want a map"},
		{"maps in each other", deep.Bytes(), "maps deeper than 8"},
		{"very many keys", many.Bytes(), "more than 65536 keys"},
		{"a long key", begin().mapOf(1).bits(0xdb, 0xff, 0xff, 0xff, 0xff).Bytes(), "a key of 4294967295 bytes"},
		{"key twice", begin().mapOf(2).str("a").array("uint8", []byte{7}, 1).str("a").array("uint8", []byte{8}, 1).Bytes(), `key "a" appears twice`},
		{"key with a slash", begin().mapOf(1).str("a/b").array("uint8", []byte{7}, 1).Bytes(), `key "a/b"`},
		{"empty key", begin().mapOf(1).str("").array("uint8", []byte{7}, 1).Bytes(), `key ""`},
		{"key not UTF-8", begin().mapOf(1).str("\xff").array("uint8", []byte{7}, 1).Bytes(), "a key is not valid UTF-8"},
		{"key a number", begin().mapOf(1).bits(1).array("uint8", []byte{7}, 1).Bytes(), "a key is a whole number, want a string"},
		{"bytes after the end", begin().mapOf(1).str("a").array("uint8", []byte{7}, 1).bits(0).Bytes(), "1 bytes after its end"},
		{"a number for an array", begin().mapOf(1).str("a").bits(1).Bytes(), "a: a whole number, want a map or an array"},
		{"a complex number", begin().mapOf(1).str("a").ext(2, []byte{0}).Bytes(), "a: extension 2, want arrays"},
		{"an extension that is unknown", begin().mapOf(1).str("a").ext(0xff, []byte{0}).Bytes(), "a: extension -1, want arrays"},
		{"an array at the top", begin().array("uint8", []byte{7}, 1).Bytes(), "extension 1, want arrays"},
		{"few bytes", begin().mapOf(1).str("a").array("float32", make([]byte, 7), 2).Bytes(), "7 bytes of F32 [2], want 8"},
		{"many bytes", begin().mapOf(1).str("a").array("float32", make([]byte, 9), 2).Bytes(), "9 bytes of F32 [2], want 8"},
		{"negative dimension", begin().mapOf(1).str("a").ext(1, begin().bits(0x93, 0x91, 0xff).str("uint8").bits(0xc4, 0).Bytes()).Bytes(), "a dimension is another value, want a whole number"},
		{"nine dimensions", begin().mapOf(1).str("a").array("uint8", []byte{7}, 1, 1, 1, 1, 1, 1, 1, 1, 1).Bytes(), "9 dimensions"},
		{"shape that overflows", begin().mapOf(1).str("a").array("uint8", nil, 0xffff, 0xffff, 0xffff, 0xffff).Bytes(), "the size of U8 [65535, 65535, 65535, 65535] overflows"},
		{"other byte order", begin().mapOf(1).str("a").array(">f4", make([]byte, 4), 1).Bytes(), `type ">f4"`},
		{"objects", begin().mapOf(1).str("a").array("object", make([]byte, 8), 1).Bytes(), `type "object"`},
		{"extension beyond the file", begin().mapOf(1).str("a").bits(0xc9, 0xff, 0xff, 0xff, 0xff, 1, 0x93).Bytes(), "array of 4294967295 bytes, 1 before the end"},
		{"data beyond its extension", func() []byte {
			b := begin().mapOf(1).str("a").array("uint8", []byte{7, 8}, 2).Bytes()
			b[8]-- // the extension's size
			return b
		}(), "an extension of 18 bytes holds 19"},
		{"a field more", begin().mapOf(1).str("a").ext(1, []byte{0x94}).Bytes(), "4 fields of an array, want 3"},
		{"chunks from 1", chunked([]int{2}, "1", []byte{1, 2}).Bytes(), `chunks: key "1", want 0`},
		{"chunks that are short", chunked([]int{5}, "0", []byte{1, 2}).Bytes(), "chunks of 2 elements for U8 [5]"},
		{"no chunks", chunked([]int{0}, "0").Bytes(), "chunks of 0 elements"},
		{"chunks of two types", begin().mapOf(1).str("a").mapOf(3).str(chunkedKey).bits(0xc3).str("shape").mapOf(1).str("0").bits(2).
			str("chunks").mapOf(2).str("0").array("uint8", []byte{1}, 1).str("1").array("int8", []byte{1}, 1).Bytes(), "chunk 1 is I8, those before U8"},
		{"chunk of two dimensions", begin().mapOf(1).str("a").mapOf(3).str(chunkedKey).bits(0xc3).str("shape").mapOf(1).str("0").bits(1).
			str("chunks").mapOf(1).str("0").array("uint8", []byte{1}, 1, 1).Bytes(), "chunk 0 has 2 dimensions"},
		{"chunks that are not true", begin().mapOf(1).str("a").mapOf(3).str(chunkedKey).bits(0xc2).Bytes(), "want true"},
		{"chunks at the top", begin().mapOf(3).str(chunkedKey).bits(0xc3).Bytes(), "is not the first of three keys"},
		{"shape twice", begin().mapOf(1).str("a").mapOf(3).str(chunkedKey).bits(0xc3).str("shape").mapOf(0).str("shape").Bytes(), `key "shape" appears twice`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.msgpack")
			if err := os.WriteFile(path, tt.in, 0o666); err != nil {
				t.Fatal(err)
			}
			f, err := Open(path)
			if err != nil {
				if !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "msgpack: x.msgpack: ") {
					t.Errorf("got  %v\nwant %s", err, tt.want)
				}
				return
			}
			defer f.Close()
			var got []string
			for _, a := range f.Arrays() {
				r, err := a.Open()
				if err != nil {
					t.Fatal(err)
				}
				data, err := io.ReadAll(r)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprintf("%s %v %x", a.Name, a.Entry(), data))
			}
			if s := strings.Join(got, "; "); s != tt.want {
				t.Errorf("got  %s\nwant %s", s, tt.want)
			}
		})
	}
}

// Whatever parses has arrays whose bytes are all there.
func FuzzParse(f *testing.F) {
	f.Add(begin().mapOf(1).str("a").mapOf(1).str("b").array("uint8", []byte{7, 8}, 2).Bytes())
	f.Add(chunked([]int{2, 2}, "0", []byte{1, 2, 3}, []byte{4}).Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		arrays, err := Parse(bytes.NewReader(in), int64(len(in)))
		if err != nil {
			return
		}
		total := 0
		for _, a := range arrays {
			r, err := a.Open()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			want, ok := checkpoint.Entry{Type: a.Type, Shape: a.Shape}.Bytes()
			if err != nil || !ok || int64(len(data)) != want {
				t.Fatalf("%s: %d bytes of %v, %v", a.Name, len(data), a.Entry(), err)
			}
			total += len(data)
		}
		if total > len(in) {
			t.Errorf("%d bytes of arrays in a file of %d", total, len(in))
		}
	})
}
