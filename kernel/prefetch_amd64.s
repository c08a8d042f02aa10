#include "textflag.h"

// func prefetchLines(b *byte, lines int)
TEXT ·prefetchLines(SB), NOSPLIT, $0-16
	MOVQ b+0(FP), SI
	MOVQ lines+8(FP), CX

loop:
	PREFETCHT1 (SI)
	ADDQ       $64, SI
	DECQ       CX
	JNZ        loop
	RET
