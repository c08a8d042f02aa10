//go:build !386 && !arm

package beam

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func deviceOf(t *testing.T, l net.Listener) (name string) {
	t.Helper()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { name, err = unix.GetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE) })
	if err != nil {
		t.Fatal(err)
	}
	return name
}
