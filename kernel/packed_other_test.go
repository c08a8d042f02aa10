//go:build !amd64 && !arm64

package kernel

func unpackers() []namedUnpacker { return []namedUnpacker{{"portable", unpackPortable}} }
