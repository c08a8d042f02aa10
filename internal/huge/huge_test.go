package huge

import "testing"

func TestAlloc(t *testing.T) {
	for _, n := range []int{0, 1, Page - 1, Page, 3*Page + 5} {
		b, free := Alloc(n)
		if len(b) != n {
			t.Fatalf("%d bytes, want %d", len(b), n)
		}
		for i, v := range b {
			if v != 0 {
				t.Fatalf("byte %d of %d is %d", i, n, v)
			}
			b[i] = byte(i)
		}
		if free != nil {
			free()
		}
	}
}

// Only whole pages inside of the bytes are meant: what lies beside them is not
// ours to speak of.
func TestInner(t *testing.T) {
	for _, c := range []struct {
		address uintptr
		n       int
		lo, hi  int
	}{
		{4096, 8192, 0, 8192},
		{4096, 8191, 0, 4096},
		{4097, 8191, 4095, 8191},
		{4097, 4096, 4095, 4095},
		{4100, 50, 4092, 4092},
		{4096, 0, 0, 0},
	} {
		if lo, hi := inner(c.address, c.n, 4096); lo != c.lo || hi != c.hi {
			t.Errorf("%d bytes at %d: %d to %d, want %d to %d", c.n, c.address, lo, hi, c.lo, c.hi)
		}
	}
}
