package strictjson

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// read reads an object of strings, arrays of whole numbers, objects of the
// same, and under keys that start with s, scalars, which are dropped.
func read(r *Reader) (map[string]any, error) {
	got := map[string]any{}
	err := r.Object(func(key string) (err error) {
		switch {
		case strings.HasPrefix(key, "s"):
			return r.Skip()
		case strings.HasPrefix(key, "o"):
			got[key], err = read(r)
		case strings.HasPrefix(key, "i"):
			var list []int
			list, err = r.Ints()
			numbers := []any{}
			for _, v := range list {
				numbers = append(numbers, float64(v))
			}
			got[key] = numbers
		default:
			got[key], err = r.String()
		}
		return err
	})
	return got, err
}

func TestReader(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`{}`, ""},
		{" {\n} ", ""},
		{`{"a":"b","i":[],"i1":[0,1, 2 ,9223372036854775807],"o":{"a":"\u0061\n\ud83d\ude00","o":{}},"s":true,"s1":false,"s2":null,"s3":-1.5e3,"s4":"x"}`, ""},
		{``, "JSON ends at byte 0, want its closing brace"},
		{`[`, "[ at byte 0, want {"},
		{`"a"`, `"a", want {`},
		{`12`, "12, want {"},
		{`null`, "null, want {"},
		{`nul`, `no JSON at byte 0: "n"`},
		{`{"a"`, "JSON ends at byte 4, want its closing brace"},
		{`{"a" "b"}`, `"b", want :`},
		{`{"a":"b" "c":"d"}`, `"c", want , or }`},
		{`{"a":"b",}`, "} at byte 9, want a string"},
		{`{,}`, ", at byte 1, want a string"},
		{`{a:"b"}`, `no JSON at byte 1: "a"`},
		{`{1:"b"}`, `1, want a string`},
		{`{"a":1}`, "1, want a string"},
		{`{"a":tru}`, `no JSON at byte 5: "t"`},
		{`{"a":"b`, "JSON ends at byte 7, want its closing brace"},
		{`{"a":"b\`, "JSON ends at byte 8, want its closing brace"},
		{`{"a":"b\"`, "JSON ends at byte 9, want its closing brace"},
		{"{\"a\":\"b\x01\"}", "string at byte 5: holds byte 0x01, want it escaped"},
		{`{"a":"\x"}`, "string at byte 5: invalid character 'x' in string escape code"},
		{`{"a":"1","a":"2"}`, `key "a" appears twice`},
		{`{"a":"1","\u0061":"2"}`, `key "a" appears twice`},
		{`{"1":"","2":"","3":"","4":"","5":"","2":""}`, `key "2" appears twice`},
		{`{"1":"","2":"","3":"","4":"","5":"","5":""}`, `key "5" appears twice`},
		{`{"":"1","":"2"}`, `key "" appears twice`},
		{`{"o":{"a":"1","a":"2"}}`, `key "a" appears twice`},
		{`{"i":[1,]}`, "] at byte 8, want a whole number from 0 to 2^63-1"},
		{`{"i":[,1]}`, ", at byte 6, want a whole number from 0 to 2^63-1"},
		{`{"i":[1 2]}`, "2, want ,"},
		{`{"i":[01]}`, "01, want a whole number from 0 to 2^63-1"},
		{`{"i":[-0]}`, "-0, want a whole number from 0 to 2^63-1"},
		{`{"i":[1.0]}`, "1.0, want a whole number from 0 to 2^63-1"},
		{`{"i":[9223372036854775808]}`, "9223372036854775808, want a whole number from 0 to 2^63-1"},
		{`{"i":["1"]}`, `"1", want a whole number from 0 to 2^63-1`},
		{`{"i":[` + strings.Repeat("1", 500) + `]}`, strings.Repeat("1", 200) + "..., want a whole number from 0 to 2^63-1"},
		{`{"i":[`, "JSON ends at byte 6, want its closing brace"},
		{`{"s":{}}`, "{ at byte 5, want a number or a string"},
		{`{"s":1.}`, "1., want a number or a string"},
		{`{"s":tru}`, `no JSON at byte 5: "t"`},
		{"{\"a\":\x1b}", `no JSON at byte 5: "\x1b"`},
	} {
		r := New([]byte(tt.in), "a", "dtype")
		_, err := read(r)
		if got := fmt.Sprint(err); err == nil && tt.want != "" || err != nil && got != tt.want {
			t.Errorf("%.60q\ngot  %s\nwant %s", tt.in, got, tt.want)
		}
		if err == nil && !r.End() {
			t.Errorf("%q: read up to %d", tt.in, r.Offset())
		}
	}
	if r := New([]byte(`{} x`)); r.Object(nil) != nil || r.End() || r.Offset() != 3 {
		t.Errorf("after {} the reader stands at %d", r.Offset())
	}
}

// The slices that Ints returns are apart.
func TestIntsAreApart(t *testing.T) {
	var text strings.Builder
	text.WriteString(`{"i":[1,2,3]`)
	for i := range 3000 {
		fmt.Fprintf(&text, `,"i%d":[%d,%d]`, i, i, i+1)
	}
	fmt.Fprintf(&text, `,"ilong":[0%s]}`, strings.Repeat(",1", 9000))
	var lists [][]int
	r := New([]byte(text.String()))
	if err := r.Object(func(string) error {
		l, err := r.Ints()
		lists = append(lists, append(l, 77)[:len(l)])
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for i, l := range lists[1:3001] {
		if len(l) != 2 || l[0] != i || l[1] != i+1 {
			t.Fatalf("list %d is %v", i, l)
		}
	}
	if len(lists[3001]) != 9001 {
		t.Errorf("%d numbers, want 9001", len(lists[3001]))
	}
}

// What the reader takes, encoding/json takes too, as the same values; and what
// has only what the reader knows, and no key twice, the reader takes.
func FuzzReader(f *testing.F) {
	for _, s := range []string{`{"a":"b","i":[1,2],"o":{"o":{}},"s":1}`, `{"a":"\ud800","i":[]}`, `{"i":[1,01]}`, `{"s":-0e1,"":"","o":{"a":"x"}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !utf8.Valid(data) {
			return
		}
		r := New(data, "a", "i")
		got, err := read(r)
		var want map[string]any
		wantErr := json.Unmarshal(data, &want)
		if err == nil && r.End() {
			if wantErr != nil {
				t.Fatalf("%q is taken, encoding/json says %v", data, wantErr)
			}
			if drop(want); !reflect.DeepEqual(got, want) {
				t.Fatalf("%q: got %v, want %v", data, got, want)
			}
		} else if wantErr == nil && want != nil && plain(want) && err != nil && !strings.Contains(err.Error(), "twice") {
			t.Fatalf("%q: %v", data, err)
		}
	})
}

// drop removes what read drops.
func drop(m map[string]any) {
	for k, v := range m {
		if strings.HasPrefix(k, "s") {
			delete(m, k)
		} else if o, ok := v.(map[string]any); ok {
			drop(o)
		}
	}
}

// plain reports whether read takes such values, if it is sure of it.
func plain(m map[string]any) bool {
	for k, v := range m {
		switch v := v.(type) {
		case string:
			if strings.HasPrefix(k, "o") || strings.HasPrefix(k, "i") {
				return false
			}
		case map[string]any:
			if !strings.HasPrefix(k, "o") || !plain(v) {
				return false
			}
		case []any:
			if !strings.HasPrefix(k, "i") {
				return false
			}
			for _, x := range v {
				if n, ok := x.(float64); !ok || n != math.Trunc(n) || n < 0 || n > 1e9 {
					return false
				}
			}
			return false // written as 1e3 they are none
		default:
			return false
		}
	}
	return true
}
