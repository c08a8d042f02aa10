package kernel

// faster returns the sets of this processor above the portable one. Every arm64
// processor has Advanced SIMD.
func faster() []Set {
	s := Portable()
	s.Name, s.matrixSet, s.vectorSet = "neon", neonMatrix(), vectorNEON(s.vectorSet)
	s.Int6, s.Read, s.Prefetch = int6With(int6NEON), readWith(readNEON), prefetch
	return []Set{s}
}

// order has nothing to do: there are two sets at most.
func order([]Set) {}
