package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/internal/modeltest"
	"ossify/verify"
)

// At every width the line is shorter than the terminal, which would go on in
// the next line, and says what there is room for.
func TestBarText(t *testing.T) {
	const done, total = 5_800_000_000, 13_800_000_000
	for width := range 300 {
		for _, took := range []time.Duration{0, 20 * time.Second, 300 * time.Hour} {
			if got := barText("synth", done, total, took, width); len(got) >= max(width, 1) {
				t.Errorf("width %d: %d columns: %q", width, len(got), got)
			}
		}
	}
	for _, tt := range []struct {
		width int
		want  string
	}{
		{5, "synt"},
		{20, "synth  42%"},
		{29, "synth  42%, 290 MB/s"},
		{30, "synth  42%, 5.8 GB of 13.8 GB"},
		{80, "synth  42%, 5.8 GB of 13.8 GB, 290 MB/s, 28s left [===========                ]"},
		{200, "synth  42%, 5.8 GB of 13.8 GB, 290 MB/s, 28s left [================                        ]"},
	} {
		if got := barText("synth", done, total, 20*time.Second, tt.width); got != tt.want {
			t.Errorf("width %d\ngot  %q\nwant %q", tt.width, got, tt.want)
		}
	}
	for _, n := range []int64{0, 5, 100} { // of nothing, or more than all
		if got := barText("x", n, 0, time.Hour, 80); !strings.HasPrefix(got, "x 100%") {
			t.Errorf("%d of 0: %q", n, got)
		}
	}
}

// A bar is one line: it is drawn over itself, not too often, and goes away.
func TestBar(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	b := &bar{w: &out, what: "x", width: func() int { return 12 }, now: func() time.Time { return now }}
	b.clear() // nothing is drawn
	for i := range 5 {
		b.draw(int64(i), 4)
		now = now.Add(60 * time.Millisecond)
	}
	b.clear()
	b.clear()
	if got, want := out.String(), "\rx   0%\x1b[K\rx  50%\x1b[K\rx 100%\x1b[K\r\x1b[K"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if draw, finish := progressOf(&out, "x"); draw != nil {
		t.Error("a bar on what is no terminal")
	} else {
		finish()
	}
}

// What verify tells is a line for what begins, and one for how far it is, which
// goes away and is never as wide as the terminal.
func TestTeller(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	x := &teller{w: &out, bar: bar{w: &out, now: func() time.Time { return now }}, width: func() int { return 24 }}
	ctx, say, finish := x.on(t.Context())
	say("oracle")
	ck := modeltest.Open(t, modeltest.Write(t, modeltest.Tiny(t), gptoss.Original, 1))
	if _, err := verify.Run(ctx, ck.Graph, ck.Weights, verify.Request{Tokens: []uint32{1, 2, 3}, Precision: engine.F32}); err != nil {
		t.Fatal(err)
	}
	say("engine")
	finish()
	if got, want := out.String(), "verify: oracle\n\rverify:   0%, tokens\x1b[K\r\x1b[Kverify: engine\n"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if tellerOn(&out) != nil {
		t.Error("a teller on what is no terminal")
	}
	if got, say, finish := (*teller)(nil).on(t.Context()); got != t.Context() || say != nil {
		t.Error("no teller tells")
	} else {
		finish()
	}
}

func TestPaint(t *testing.T) {
	if got, want := (terminal{80, true}).paint(red, "fail"), "\x1b[31mfail\x1b[0m"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (terminal{80, false}).paint(red, "fail"); got != "fail" {
		t.Errorf("got %q", got)
	}
	if got := terminalOf(&bytes.Buffer{}); got != (terminal{}) {
		t.Errorf("a buffer is %+v", got)
	}
}
