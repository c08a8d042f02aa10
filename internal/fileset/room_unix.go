//go:build linux || darwin || freebsd || dragonfly

package fileset

import (
	"math/bits"

	"golang.org/x/sys/unix"
)

func free(dir string) int64 {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil {
		return unknown
	}
	over, bytes := bits.Mul64(uint64(s.Bavail), uint64(s.Bsize))
	if over != 0 || bytes > unknown {
		return unknown
	}
	return int64(bytes)
}
