//go:build !386 && !arm

package beam

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const canBind = true

// bindToLoopback lets no packet from outside of this machine reach the sockets
// of this process that listen at a port.
func bindToLoopback(port int) error {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	found := false
	for _, e := range list {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
			continue // no socket, or none that listens
		}
		at, err := unix.Getsockname(fd)
		if err != nil {
			continue
		}
		switch a := at.(type) {
		case *unix.SockaddrInet4:
			if a.Port != port {
				continue
			}
		case *unix.SockaddrInet6:
			if a.Port != port {
				continue
			}
		default:
			continue
		}
		if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "lo"); err != nil {
			return fmt.Errorf("SO_BINDTODEVICE: %w", err)
		}
		found = true
	}
	if !found {
		return fmt.Errorf("no socket listens at port %d", port)
	}
	return nil
}
