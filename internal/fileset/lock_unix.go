//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package fileset

import (
	"os"
	"syscall"
)

// lock takes the file's lock, which ends with the file's closing or with the
// process; it returns false if another has it. File systems without locks go
// without: tryLock fails there, so that nothing is swept.
func lock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != syscall.EWOULDBLOCK
}

// tryLock reports whether nobody holds the file's lock; the caller has it then.
func tryLock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
