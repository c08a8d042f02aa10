package kernel

func unpackers() []namedUnpacker {
	return []namedUnpacker{{"portable", unpackPortable}, {"neon", neonUnpack}}
}
