package kernel

import "golang.org/x/sys/cpu"

// faster returns the sets of this processor above the portable one.
func faster() (sets []Set) {
	s := Portable()
	if !cpu.X86.HasAVX2 || !cpu.X86.HasFMA {
		return nil
	}
	s.Name, s.vectorSet = "avx2", vectorAVX2(s.vectorSet)
	s.Int8 = int8AVX2With
	sets = append(sets, s)
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL {
		s.Name, s.vectorSet = "avx512", vectorAVX512(s.vectorSet)
		if cpu.X86.HasAVX512VNNI {
			s.Int8 = int8With(int8VNNI)
		}
		sets = append(sets, s)
	}
	return sets
}
