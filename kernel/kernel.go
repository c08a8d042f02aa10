// Package kernel holds the inner loops of the engine. A [Set] is one
// implementation of all of them, made for one kind of processor. The portable
// set is plain Go, is always compiled, and defines what every other set must
// compute: all sets give the same bits for everything, whatever rows are
// computed together and by however many workers.
//
// That is possible because the order of every sum is stated, and because an
// IEEE multiply-add in float32 is the same everywhere. matrix.go states the
// order of the matrix products.
package kernel

// A Set is a table of inner loops, filled once and never changed. A faster
// level copies the set below it and replaces what it does better.
type Set struct {
	Name string

	matrixSet
	vectorSet
	int6Set

	// Read reads every byte and returns the exclusive or of all little-endian
	// 8-byte words, the last one padded with zeros: it is as fast as memory.
	Read func(b []byte) uint64

	// Prefetch asks that b come to the second cache, and does not wait for it. It
	// changes nothing that can be seen, and the portable one does nothing.
	Prefetch func(b []byte)
}

// Portable returns the defining set.
func Portable() Set {
	return Set{
		Name: "portable", matrixSet: portableMatrix(), vectorSet: portableVector(), int6Set: int6Set{int6Portable},
		Read: readAll, Prefetch: func([]byte) {},
	}
}

// All returns the sets this machine can run, slowest first. Where the order is
// not plain from what the processor has, it is measured, in some 50 µs.
func All() []Set {
	sets := supported()
	order(sets)
	return sets
}

// Names returns the names of the sets of [All], and measures nothing: portable
// is the first, and otherwise the order says nothing.
func Names() (names []string) {
	for _, s := range supported() {
		names = append(names, s.Name)
	}
	return names
}

// supported returns the sets this machine can run, portable first.
func supported() []Set { return append([]Set{Portable()}, faster()...) }

// Best returns the fastest set, the last of [All].
func Best() Set {
	all := All()
	return all[len(all)-1]
}
