//go:build unix

package cli

import (
	"runtime"
	"syscall"
)

// peakRSS returns the most memory that the program has had, bytes; 0 if the
// system does not say.
func peakRSS() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	n := int64(u.Maxrss)
	if runtime.GOOS != "darwin" && runtime.GOOS != "ios" {
		n *= 1024 // kilobytes elsewhere
	}
	return n
}
