package cli

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"ossify/kernel"
)

// kernelsVar gives a command a flag that chooses one of this machine's kernel sets.
func kernelsVar(c *cobra.Command, name string) func() kernel.Set {
	const best = "best"
	var chosen string
	chooseVar(c, &chosen, name, best, append([]string{best}, kernel.Names()...), "kernel set of the engine")
	return sync.OnceValue(func() kernel.Set { // which is the best is measured
		all := kernel.All()
		if i := slices.IndexFunc(all, func(s kernel.Set) bool { return s.Name == chosen }); i >= 0 {
			return all[i]
		}
		return all[len(all)-1]
	})
}

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
