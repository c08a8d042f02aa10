package kernel

// Loops for int6With.

//go:noescape
func int6VNNI(sums *[2]int32, w *byte, limbs *int8, rows, groups int)

//go:noescape
func int6AVX2(sums *[2]int32, w *byte, limbs *int8, rows, groups int)
