package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A terminal has colours unless the user wants none; nothing else has any.
func TestColours(t *testing.T) {
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	for _, tt := range []struct{ noColour, term, want string }{
		{"", "xterm", "\x1b[31mred\x1b[0m"}, {"", "", "\x1b[31mred\x1b[0m"},
		{"1", "xterm", "red"}, {"0", "xterm", "red"}, {"", "dumb", "red"}, {"1", "dumb", "red"},
	} {
		t.Setenv("NO_COLOR", tt.noColour)
		t.Setenv("TERM", tt.term)
		x := terminalOf(screen)
		if got := x.paint(red, "red"); got != tt.want || x.width < 1 {
			t.Errorf("NO_COLOR %q, TERM %q: %q in %d columns, want %q", tt.noColour, tt.term, got, x.width, tt.want)
		}
	}
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if a, b := terminalOf(file), terminalOf(&bytes.Buffer{}); a != (terminal{}) || b != (terminal{}) {
		t.Errorf("a file is %+v, a buffer %+v, want no terminals", a, b)
	}
}
