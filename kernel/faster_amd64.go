package kernel

import "golang.org/x/sys/cpu"

// faster returns the sets of this processor above the portable one.
func faster() (sets []Set) {
	x, s := &cpu.X86, Portable()
	if !x.HasAVX2 || !x.HasFMA {
		return nil
	}
	s.Name, s.vectorSet = "avx2", vectorAVX2(s.vectorSet)
	s.matrixSet, s.Int8, s.Read = avx2Matrix(), int8AVX2With, readWith(read256)
	sets = append(sets, s)
	if x.HasBMI2 && x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL {
		s.Name, s.vectorSet = "avx512", vectorAVX512(s.vectorSet)
		s.matrixSet, s.Read = avx512Matrix(), readWith(read512)
		if x.HasAVX512VNNI {
			s.Int8 = int8With(int8VNNI)
		}
		sets = append(sets, s)
		if x.HasAVX512BF16 {
			s.Name, s.matrixSet = "avx512bf16", avx512bf16Matrix()
			sets = append(sets, s)
		}
	}
	return sets
}
