package kernel

import "golang.org/x/sys/cpu"

func unpackers() []namedUnpacker {
	all := []namedUnpacker{{"portable", unpackPortable}}
	if cpu.X86.HasAVX2 {
		all = append(all, namedUnpacker{"avx2", avx2Unpack})
	}
	return all
}
