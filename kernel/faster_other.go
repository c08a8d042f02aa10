//go:build !amd64 && !arm64

package kernel

func faster() []Set { return nil }

type archScratch struct{}
