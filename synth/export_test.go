package synth

// What the tests of the recipe know of it.
const (
	ResidualLevel = residualLevel
	MassiveLevel  = massiveLevel
	SinkLeast     = sinkLeast
	SinkMost      = sinkMost
	ZeroRow       = zeroRow
)
