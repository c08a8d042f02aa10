package fileset

import (
	"os"

	"golang.org/x/sys/windows"
)

// The byte that is locked lies beyond every file's end: a lock keeps others
// from reading and writing what it covers.
const lockHigh = 1 << 30

// lock takes the file's lock, which ends with the file's closing or with the
// process; it returns false if another has it. File systems without locks go
// without: tryLock fails there, so that nothing is swept.
func lock(f *os.File) bool { return take(f) != windows.ERROR_LOCK_VIOLATION }

// tryLock reports whether nobody holds the file's lock; the caller has it then.
func tryLock(f *os.File) bool { return take(f) == nil }

func take(f *os.File) error {
	at := windows.Overlapped{OffsetHigh: lockHigh}
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
}
