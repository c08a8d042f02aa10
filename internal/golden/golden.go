// Package golden holds tests to texts in files.
package golden

import (
	"os"
	"testing"
)

// Text returns what a file says that got must be. If update, it writes got there
// first.
func Text(t testing.TB, path, got string, update bool) (want string) {
	t.Helper()
	if update {
		if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
