package kernel

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func names() (n []string) {
	for _, s := range All() {
		n = append(n, s.Name)
	}
	return n
}

// Names are those of all sets, though nothing was measured.
func TestNames(t *testing.T) {
	got, want := Names(), names()
	if got[0] != "portable" {
		t.Errorf("the first is %q, want portable", got[0])
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A processor that lacks something has the sets that do without, portable at
// least. The test runs itself with features masked.
func TestMaskedProcessors(t *testing.T) {
	const key = "KERNEL_TEST_SETS"
	if want, ok := os.LookupEnv(key); ok {
		if got := strings.Join(names(), " "); got != want || Best().Name != want[strings.LastIndex(want, " ")+1:] {
			t.Fatalf("sets %q, best %s, want %q", got, Best().Name, want)
		}
		return
	}
	for _, c := range []struct{ mask, without string }{
		{"cpu.avx512bf16=off", "avx512bf16"},
		{"cpu.avx512f=off", "avx512 avx512bf16"},
		{"cpu.avx512vl=off", "avx512 avx512bf16"},
		{"cpu.fma=off", "avx2 avx512 avx512bf16"},
		{"cpu.avx2=off", "avx2 avx512 avx512bf16"},
	} {
		want := slices.DeleteFunc(names(), func(n string) bool { return slices.Contains(strings.Fields(c.without), n) })
		cmd := exec.Command(os.Args[0], "-test.run=^TestMaskedProcessors$")
		cmd.Env = append(os.Environ(), "GODEBUG="+c.mask, key+"="+strings.Join(want, " "))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", c.mask, err, out)
		}
	}
}
