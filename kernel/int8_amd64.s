#include "textflag.h"

// func int8VNNI(sums *[2]int32, w *byte, limbs *int8, rows, stride int)
TEXT ·int8VNNI(SB), NOSPLIT, $0-40
	MOVQ sums+0(FP), DI
	MOVQ w+8(FP), SI
	MOVQ limbs+16(FP), R8
	MOVQ rows+24(FP), CX
	MOVQ stride+32(FP), DX
	LEAQ (R8)(DX*1), R9 // low limbs
row:
	VPXORD Z4, Z4, Z4
	VPXORD Z5, Z5, Z5
	XORQ   AX, AX
col:
	VMOVDQU8    (SI)(AX*1), Z0
	PREFETCHT0  2048(SI)(AX*1)
	PREFETCHT2  14400(SI)(AX*1)
	VPDPBUSD    (R8)(AX*1), Z0, Z4
	VPDPBUSD    (R9)(AX*1), Z0, Z5
	ADDQ        $64, AX
	CMPQ        AX, DX
	JLT         col

	// Pairs of lanes of both sums side by side, then halves.
	VEXTRACTI64X4 $1, Z4, Y6
	VEXTRACTI64X4 $1, Z5, Y7
	VPADDD        Y6, Y4, Y4
	VPADDD        Y7, Y5, Y5
	VPHADDD       Y5, Y4, Y4
	VEXTRACTI128  $1, Y4, X5
	VPADDD        X5, X4, X4
	VPHADDD       X4, X4, X4
	VMOVQ         X4, (DI)
	ADDQ          $8, DI
	ADDQ          DX, SI
	DECQ          CX
	JNZ           row
	VZEROUPPER
	RET

// func int8AVX2(w *byte, x *int16, n int) int64
TEXT ·int8AVX2(SB), NOSPLIT, $0-32
	MOVQ w+0(FP), SI
	MOVQ x+8(FP), R8
	MOVQ n+16(FP), CX
	MOVL $128, AX
	MOVQ AX, X3
	VPBROADCASTW X3, Y3
	VPXOR Y4, Y4, Y4
loop:
	VPMOVZXBW  (SI), Y0
	VPSUBW     Y3, Y0, Y0
	VPMADDWD   (R8), Y0, Y0
	VPADDD     Y0, Y4, Y4
	PREFETCHT0 2048(SI)
	ADDQ       $16, SI
	ADDQ       $32, R8
	SUBQ       $16, CX
	JNZ        loop

	// Eight sums of 32 bits, added in 64.
	VEXTRACTI128 $1, Y4, X5
	VPMOVSXDQ    X4, Y4
	VPMOVSXDQ    X5, Y5
	VPADDQ       Y5, Y4, Y4
	VEXTRACTI128 $1, Y4, X5
	VPADDQ       X5, X4, X4
	VPSRLDQ      $8, X4, X5
	VPADDQ       X5, X4, X4
	VMOVQ        X4, AX
	MOVQ         AX, ret+24(FP)
	VZEROUPPER
	RET
