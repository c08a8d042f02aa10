package fileset

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestLockDir(t *testing.T) {
	dir := t.TempDir()
	l, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	names := []string{dir, filepath.Join(dir, ".")}
	if os.Symlink(dir, link) == nil {
		names = append(names, link)
	}
	for _, name := range names { // the same folder by whatever name
		if _, err := LockDir(name); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), filepath.Base(name)) {
			t.Errorf("%s: locked twice: %v", name, err)
		}
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	again, err := LockDir(dir) // though its file is still there
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil { // which is not this one's
		t.Error(err)
	}
	if _, err := LockDir(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if _, err := LockDir(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	if runtime.GOOS != "windows" {
		if err := os.Remove(filepath.Join(dir, lockName)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "sub", lockName), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := LockDir(filepath.Join(dir, "sub")); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("a folder stands where the lock must be: %v", err)
	}
}
