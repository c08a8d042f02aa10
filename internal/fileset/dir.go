package fileset

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// A Dir is a temporary folder, to be removed with all that is in it.
type Dir struct {
	path string
	lock *os.File // nil where folders cannot be locked
}

// TempDir makes a temporary folder, in whose name a program's or a purpose's
// name stands, and removes those of the same name that killed runs left.
func TempDir(name string) (*Dir, error) {
	prefix := name + "-"
	sweepDirs(prefix)
	const tries = 100
	for try := 1; ; try++ {
		path, err := os.MkdirTemp("", prefix)
		if err != nil {
			return nil, fmt.Errorf("fileset: %w", err)
		}
		d := &Dir{path: path}
		if runtime.GOOS == "windows" { // which locks files only
			return d, nil
		}
		// Until it is locked another run may take it for a leftover.
		if d.lock, err = os.Open(path); err == nil {
			if lock(d.lock) && same(d.lock, path) {
				return d, nil
			}
			err = fmt.Errorf("%s: removed at once", path)
			d.lock.Close()
		}
		if try == tries {
			os.Remove(path)
			return nil, fmt.Errorf("fileset: %w", err)
		}
	}
}

// Path returns where the folder is.
func (d *Dir) Path() string { return d.path }

// Join returns the path of a file in the folder.
func (d *Dir) Join(name string) string { return filepath.Join(d.path, name) }

// Remove removes the folder.
func (d *Dir) Remove() error {
	err := os.RemoveAll(d.path)
	if d.lock != nil {
		d.lock.Close()
		d.lock = nil
	}
	if err != nil {
		return fmt.Errorf("fileset: %w", err)
	}
	return nil
}

// sweepDirs removes what killed runs left.
func sweepDirs(prefix string) {
	if runtime.GOOS == "windows" {
		return
	}
	list, err := os.ReadDir(os.TempDir())
	if err != nil {
		return
	}
	for _, e := range list {
		number, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok || !e.IsDir() || number == "" || strings.Trim(number, "0123456789") != "" {
			continue
		}
		path := filepath.Join(os.TempDir(), e.Name())
		dir, err := os.Open(path)
		if err != nil {
			continue
		}
		if tryLock(dir) && same(dir, path) {
			os.RemoveAll(path)
		}
		dir.Close()
	}
}
