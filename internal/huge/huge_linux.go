package huge

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

func alloc(n int) (b []byte, free func()) {
	size := (n + Page - 1) &^ (Page - 1) // what is so long begins at a multiple of Page too
	all, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, nil
	}
	unix.Madvise(all, unix.MADV_HUGEPAGE)
	return all[:n], func() { unix.Munmap(all) }
}

func settle(b []byte) { advise(b, unix.MADV_COLLAPSE) }

func want(b []byte) { advise(b, unix.MADV_HUGEPAGE) }

func release(b []byte) { advise(b, unix.MADV_DONTNEED) }

// advise says something about the whole pages of b.
func advise(b []byte, what int) {
	lo, hi := inner(uintptr(unsafe.Pointer(unsafe.SliceData(b))), len(b), os.Getpagesize())
	if lo < hi {
		unix.Madvise(b[lo:hi], what)
	}
}
