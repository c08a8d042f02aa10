package quote

import (
	"strings"
	"testing"
)

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"":                "",
		"héllo 日本 😀 \"\\": "héllo 日本 😀 \"\\",
		"a\x1b[31mb":      `a\x1b[31mb`,
		"\u009b0m\x7f":    `\u009b0m\x7f`,
		"a\u202eb\u2028":  `a\u202eb\u2028`,
		"a\xffb\n\t":      `a\xffb\n\t`,
	} {
		if got := Plain(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestStart(t *testing.T) {
	long := strings.Repeat("é", Most)
	if got, want := Start(long), strings.Repeat("é", Most/2)+"..."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := Start("x"+long), "x"+strings.Repeat("é", Most/2-1)+"..."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if short := strings.Repeat("x", Most); Start(short) != short {
		t.Errorf("%q", Start(short))
	}
	if got := Start(strings.Repeat("\x80", 300)); got != strings.Repeat(`\x80`, Most-4)+"..." {
		t.Errorf("%q", got)
	}
}

func TestNameAndValue(t *testing.T) {
	long := strings.Repeat("é", Most) // two bytes each
	for in, want := range map[string][2]string{
		"a.b":       {`a.b`, `"a.b"`},
		"":          {``, `""`},
		"a\x1b[31m": {`"a\x1b[31m"`, `"a\x1b[31m"`},
		`a"b`:       {`"a\"b"`, `"a\"b"`},
		"\xff":      {`"\xff"`, `"\xff"`},
		"x" + long:  {"x" + long[:Most-2] + "...", `"x` + long[:Most-2] + `"...`},
		long[:Most]: {long[:Most], `"` + long[:Most] + `"`},
	} {
		if got := [2]string{Name(in), Value(in)}; got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
