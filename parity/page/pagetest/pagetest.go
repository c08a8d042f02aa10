// Package pagetest is what tests demand of the pages of reports, whatever stands in
// a report.
package pagetest

import (
	"errors"
	"io"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"ossify/parity"
)

// outside is what a page must not have: whatever asks for something elsewhere,
// or runs.
var outside = regexp.MustCompile(`(?i)<script|<link|<img|<iframe|<object|<embed|<base|<[^<>]*\s(on[a-z]+|style)\s*=|<[^<>]*javascript:|url\(|@import|<form`)

var tag = regexp.MustCompile(`<(/?[a-zA-Z!][a-zA-Z0-9]*)`)

// Elements proves that a page needs nothing, can be printed and closes what it opens.
// It returns how often each tag is there: text has no "<".
func Elements(t testing.TB, name, page string) map[string]int {
	t.Helper()
	if found := outside.FindString(page); found != "" {
		t.Errorf("%.30q: the page has %q", name, found)
	}
	if strings.ContainsAny(page, "\x00\x1b\u202e") || strings.Contains(page, "\xff") {
		t.Errorf("%.30q: not printable", name)
	}
	n := map[string]int{}
	for _, m := range tag.FindAllStringSubmatch(page, -1) {
		n[m[1]]++
	}
	if n["html"] != 1 {
		t.Errorf("%.30q: %d <html>, want one", name, n["html"])
	}
	for _, e := range []string{"html", "section", "table", "svg", "ol", "li", "code"} {
		if n[e] != n["/"+e] {
			t.Errorf("%.30q: %d <%s>, %d of its ends", name, n[e], e, n["/"+e])
		}
	}
	return n
}

// hostile are names that would break out of where they stand.
var hostile = []string{
	`</title><script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `</style><style>body{display:none}`,
	`javascript:alert(1)`, `<!-- `, `-->`, `]]>`, `{{.}}`, `&lt;b&gt;`, "a\x00b\x1b[31m\u202eevil", "\xff\xfe", `<svg onload=alert(1)>`,
	strings.Repeat("long ", 1000),
}

// Hostile proves that whatever names a report holds, its page has the same elements
// as one with plain names. written returns the page of a report into which text was
// put with [Fill].
func Hostile(t testing.TB, written func(text string) string) {
	t.Helper()
	want := Elements(t, "plain", written("plain"))
	for _, text := range hostile {
		if have := Elements(t, text, written(text)); !reflect.DeepEqual(have, want) {
			t.Errorf("%.30q: %v, want %v", text, have, want)
		}
	}
}

// Fill puts text into every string of a report, but its verdicts.
func Fill(report any, text string) { fill(reflect.ValueOf(report), text) }

func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fill(v.Elem(), text)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), text)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			fill(v.Index(i), text)
		}
	case reflect.String:
		if v.Type() != reflect.TypeFor[parity.Verdict]() {
			v.SetString(v.String() + text)
		}
	}
}

// WriterFails proves that the error of a writer is that of writing a page, and that
// the writer gets nothing of the page in pieces.
func WriterFails(t testing.TB, write func(io.Writer) error) {
	t.Helper()
	w := &broken{}
	if err := write(w); !errors.Is(err, errBroken) || w.calls != 1 {
		t.Errorf("%v after %d writes", err, w.calls)
	}
}

var errBroken = errors.New("broken")

type broken struct{ calls int }

func (w *broken) Write([]byte) (int, error) { w.calls++; return 0, errBroken }
