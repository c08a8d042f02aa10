package main

import (
	"fmt"
	"io"
	"runtime"

	"ossify/kernel"
)

// sayPortable says in one line that the set of kernels in use is the portable
// one because this machine can run no other.
func sayPortable(w io.Writer, set string) {
	if set != kernel.Portable().Name || kernel.Best().Name != set {
		return
	}
	lacks := "no kernels are made for " + runtime.GOARCH
	if runtime.GOARCH == "amd64" {
		lacks = "this processor has no AVX2 with FMA"
	}
	fmt.Fprintf(w, "ossify: %s: the portable kernels run, with the same results, many times slower\n", lacks)
}
