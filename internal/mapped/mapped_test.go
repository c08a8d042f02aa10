//go:build linux || darwin

package mapped

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/edsrzf/mmap-go"
)

// shortened maps a file and cuts it.
func shortened(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := mmap.Map(f, mmap.RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Unmap() })
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCatch(t *testing.T) {
	m := shortened(t)
	read := func() byte { return m[1<<19] }
	deferred := false
	err := Catch(func() error {
		defer func() { deferred = true }()
		_ = read()
		return nil
	})
	if err != ErrShortened || !deferred {
		t.Errorf("got %v, deferred %v, want %v, true", err, deferred, ErrShortened)
	}
	// In runtime's own assembly too.
	buf := make([]byte, 1<<18)
	if err := Catch(func() error { copy(buf, m[1<<19:]); return nil }); err != ErrShortened {
		t.Errorf("copy: got %v, want %v", err, ErrShortened)
	}
	var done atomic.Int32
	err = Catch(func() error {
		Each(4, func(i int) {
			if i == 2 {
				_ = read()
			}
			done.Add(1)
		})
		return nil
	})
	if err != ErrShortened || done.Load() != 3 {
		t.Errorf("Each: got %v, %d done, want %v, 3", err, done.Load(), ErrShortened)
	}
	want := errors.New("x")
	if err := Catch(func() error { return want }); err != want {
		t.Errorf("got %v, want %v", err, want)
	}
	if err := Catch(func() error { Each(3, func(int) {}); return nil }); err != nil {
		t.Errorf("got %v", err)
	}
}

// Mistakes of the program stay what they are.
func TestOtherPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"value": func() { panic("mistake") },
		"Each":  func() { Each(2, func(int) { panic("mistake") }) },
		"index": func() { _ = []int(nil)[len(os.Args)] },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			Catch(func() error { f(); return nil })
		}()
	}
}
