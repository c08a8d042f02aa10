//go:build !linux && !386 && !arm

package beam

const canBind = false

func bindToLoopback(int) error { return ErrOpen }
