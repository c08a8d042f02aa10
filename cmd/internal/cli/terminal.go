package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// A terminal is what a writer is known to be.
type terminal struct {
	width  int  // columns; 0: no terminal
	colour bool // it shows colours, and the user wants them
}

// terminalOf looks at a writer. Who sets NO_COLOR (https://no-color.org), or
// TERM to dumb, has no colours.
func terminalOf(w io.Writer) terminal {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return terminal{}
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width < 1 {
		width = 80
	}
	return terminal{width, os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// Colours, by their ECMA-48 numbers.
const (
	bold   = 1
	red    = 31
	green  = 32
	yellow = 33
)

// paint returns text in a colour, if the terminal has it.
func (t terminal) paint(colour int, text string) string {
	if !t.colour {
		return text
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", colour, text)
}

// printJSON prints a value as indented JSON.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// progressOf returns a function that draws bytes done on w, and one that clears
// the line. Where w is no terminal the first is nil and the second does nothing.
func progressOf(w io.Writer, what string) (progress func(done, total int64), finish func()) {
	if terminalOf(w).width == 0 {
		return nil, func() {}
	}
	b := &bar{w: w, what: what, width: func() int { return terminalOf(w).width }, now: time.Now}
	return b.draw, b.clear
}

// A bar is one line of a terminal that says how far a work is.
type bar struct {
	w     io.Writer
	what  string
	width func() int
	now   func() time.Time
	start time.Time
	last  time.Time
	drawn bool
}

// draw draws the line anew, ten times a second at most.
func (b *bar) draw(done, total int64) {
	now := b.now()
	if b.start.IsZero() {
		b.start = now
	}
	if b.due(now) {
		b.show(barText(b.what, done, total, now.Sub(b.start), b.width()))
	}
}

// line draws a text in place of what is there, ten times a second at most.
func (b *bar) line(text string) {
	if b.due(b.now()) {
		b.show(text)
	}
}

// due reports whether the line may be drawn again.
func (b *bar) due(now time.Time) bool {
	if b.drawn && now.Sub(b.last) < 100*time.Millisecond {
		return false
	}
	b.last, b.drawn = now, true
	return true
}

func (b *bar) show(text string) { fmt.Fprintf(b.w, "\r%s\x1b[K", text) }

// clear leaves an empty line.
func (b *bar) clear() {
	if b.drawn {
		fmt.Fprint(b.w, "\r\x1b[K")
		b.drawn = false
	}
}

// barText is the line: shorter than width columns, or a terminal would go on in
// the next line. What is least needed is left out first.
func barText(what string, done, total int64, took time.Duration, width int) string {
	part := 1.0
	if total > 0 {
		part = min(1, float64(done)/float64(total))
	}
	text := fmt.Sprintf("%s %3.0f%%", what, 100*part)
	more := []string{fmt.Sprintf("%s of %s", decimalBytes(done), decimalBytes(total))}
	if s := took.Seconds(); s >= 1 && done > 0 {
		left := time.Duration(float64(total-done) / float64(done) * float64(took))
		more = append(more, decimalBytes(int64(float64(done)/s))+"/s", left.Round(time.Second).String()+" left")
	}
	for _, m := range more {
		if next := text + ", " + m; len(next) < width {
			text = next
		}
	}
	if len(text) >= width {
		return text[:max(0, width-1)]
	}
	const least, most = 10, 40
	if room := min(most, width-len(text)-4); room >= least {
		full := int(part * float64(room))
		text += " [" + strings.Repeat("=", full) + strings.Repeat(" ", room-full) + "]"
	}
	return text
}
