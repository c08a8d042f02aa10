package kernel

// faster returns the sets of this processor above the portable one. Every arm64
// processor has Advanced SIMD.
func faster() []Set {
	s := Portable()
	s.Name, s.vectorSet = "neon", vectorNEON(s.vectorSet)
	return []Set{s}
}

type archScratch struct{}
