package jsonobject

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`{"a": {"b": [1, {"c": null}]}, "d": "e"}`, ""},
		{` {} `, ""},
		{``, "EOF"},
		{`[]`, "cannot unmarshal array"},
		{`{"a": 1`, "EOF"},
		{`{"a": 1} x`, "after its end"},
		{`{"a": 1} {}`, "after its end"},
		{`{"a": 1, "a": 2}`, `key "a" appears twice`},
		{`{"a": 1, "\u0061": 2}`, `key "a" appears twice`},
		{`{"x": [{"a": 1, "a": 2}]}`, `key "a" appears twice`},
		{"{\"\xff\": 1}", "not valid UTF-8"},
		{strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40), "deeper than 32"},
		{strings.Repeat(`[`, 1<<20), "deeper than 32"},
		{`{"a": tru}`, "invalid character"},
	} {
		_, err := Parse([]byte(tt.in))
		if err == nil && tt.want != "" || err != nil && (tt.want == "" || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%.60s: got %v, want %s", tt.in, err, tt.want)
		}
	}
}

func TestReads(t *testing.T) {
	o, err := Parse([]byte(`{"n": 2, "s": "x", "l": [1, 2], "minus": [-1], "half": [0.5], "null": null}`))
	if err != nil {
		t.Fatal(err)
	}
	var s string
	for _, tt := range []struct {
		err  error
		want string
	}{
		{o.Read("s", &s), ""},
		{o.Read("n", &s), "n: json: cannot unmarshal number"},
		{o.Read("none", &s), "none is missing"},
		{o.Number("n", 2), ""},
		{o.Number("n", 3), "n is 2, want 3"},
		{o.Only("n", "s", "l", "minus", "half", "null"), ""},
		{o.Only("s", "l", "minus", "half", "null"), `key "n", want only s l minus half null`},
		{second(o.Sizes("l")), ""},
		{second(o.Sizes("minus")), "minus: -1, want 0 or more"},
		{second(o.Sizes("half")), "half: json: cannot unmarshal number"},
	} {
		if tt.err == nil && tt.want != "" || tt.err != nil && (tt.want == "" || !strings.Contains(tt.err.Error(), tt.want)) {
			t.Errorf("got %v, want %s", tt.err, tt.want)
		}
	}
}

func second(_ []int, err error) error { return err }

// What is taken is JSON to encoding/json too.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"a": {"b": [1, {"c": null}]}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if _, err := Parse(in); err == nil && !json.Valid(in) {
			t.Errorf("%q is taken", in)
		}
	})
}
