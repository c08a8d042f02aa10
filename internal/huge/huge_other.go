//go:build !linux

package huge

func alloc(int) ([]byte, func()) { return nil, nil }

func settle([]byte) {}

func want([]byte) {}

func release([]byte) {}
