//go:build amd64 || arm64

package kernel

// prefetchLines asks for lines of 64 bytes from b on, at least one.
//
//go:noescape
func prefetchLines(b *byte, lines int)

// prefetch is the Prefetch of all sets but the portable one.
func prefetch(b []byte) {
	if len(b) > 0 {
		prefetchLines(&b[0], (len(b)+63)/64)
	}
}
