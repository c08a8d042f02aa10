package fileset

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"ossify/internal/quote"
)

// ErrLocked is the error of a folder that another has locked.
var ErrLocked = errors.New("another process uses it")

// lockName is the file of a folder by which it is locked. It stays.
const lockName = ".ossify-lock"

// A Lock keeps others from a folder.
type Lock struct{ file *os.File }

// LockDir locks a folder, which exists, for one user: another that locks it gets
// [ErrLocked], in this process too. The lock ends with Close or with the process,
// however that ends. It binds those who ask for it; file systems that know no locks
// give it to everybody.
func LockDir(dir string) (*Lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("fileset: %w", err)
	}
	if !lock(f) {
		f.Close()
		return nil, fmt.Errorf("fileset: %s: %w", quote.Name(dir), ErrLocked)
	}
	return &Lock{f}, nil
}

// Close gives the folder free. To close it again does nothing.
func (l *Lock) Close() error {
	if err := l.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("fileset: %w", err)
	}
	return nil
}
