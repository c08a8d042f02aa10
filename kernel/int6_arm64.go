package kernel

// int6NEON is a loop for int6With.
//
//go:noescape
func int6NEON(sums *[2]int32, w *byte, limbs *int8, rows, groups int)

// readNEON returns the exclusive or of the words of b. n is a positive multiple of
// 256.
//
//go:noescape
func readNEON(b *byte, n int) uint64
