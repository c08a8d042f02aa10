package fileset

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"ossify/internal/quote"
)

// ErrLocked is the error of a folder that another has locked.
var ErrLocked = errors.New("another process uses it")

// lockName is the file of a folder by which it is locked. It stays.
const lockName = ".ossify-lock"

// A Lock keeps others from a folder or a file.
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

// WaitLock waits until nobody else has the lock of a file, which it makes if there
// is none, and takes it. Whoever removes the file has its lock, and leaves something
// by which the next to get it sees that nothing is to be done.
func WaitLock(ctx context.Context, path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fmt.Errorf("fileset: %w", err)
	}
	for !lock(f) {
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return &Lock{f}, nil
}

// Close gives the folder or the file free. To close it again does nothing.
func (l *Lock) Close() error {
	if err := l.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("fileset: %w", err)
	}
	return nil
}
