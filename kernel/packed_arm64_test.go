package kernel

func unpackers() []namedUnpacker {
	return []namedUnpacker{{"portable", unpackWith(unpackPortable)}, {"neon", neonUnpack}}
}
