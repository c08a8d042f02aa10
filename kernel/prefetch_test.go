package kernel

import (
	"bytes"
	"testing"
)

// Whatever is asked for, nothing changes.
func TestPrefetch(t *testing.T) {
	b := make([]byte, 5000)
	for i := range b {
		b[i] = byte(i)
	}
	want := bytes.Clone(b)
	for _, set := range every() {
		set.Prefetch(nil)
		for n := range 300 {
			set.Prefetch(b[n : n+n])
			set.Prefetch(b[len(b)-n:])
		}
		if !bytes.Equal(b, want) {
			t.Errorf("%s: prefetching changes what it asks for", set.Name)
		}
	}
}
