// Package huge asks for memory in large pages. What reads gigabytes in order is
// bound by how fast addresses are translated where pages are 4 kB: a third of
// the speed of memory was lost to it (docs/speed.md).
package huge

// Page is the size of a large page that is asked for, bytes.
const Page = 2 << 20

// Alloc returns n bytes of zeros, in large pages where the system has them. If
// free is not nil, it must be called once nobody uses the bytes: they are not
// the garbage collector's.
func Alloc(n int) (b []byte, free func()) {
	if n >= Page {
		if b, free := alloc(n); b != nil {
			return b, free
		}
	}
	return make([]byte, n), nil
}

// Settle moves b, which is of Alloc and has been written, to large pages where
// there were none when it was touched: the system then makes room for them.
func Settle(b []byte) { settle(b) }

// Want asks that b, which is mapped from a file, be read in large pages from
// where it is touched first. It is a wish: nothing fails.
func Want(b []byte) { want(b) }

// Release says that b, which must be mapped from a file and unchanged, is not
// needed soon: its pages are no longer the program's, until they are read again.
// Memory that is not mapped from a file would become zeros.
func Release(b []byte) { release(b) }

// inner returns where in memory of that address the whole pages of n bytes are.
func inner(address uintptr, n, page int) (lo, hi int) {
	lo = -int(address) & (page - 1)
	hi = n - int(address+uintptr(n))&(page-1)
	return lo, max(lo, hi)
}
