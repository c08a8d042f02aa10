#include "textflag.h"

// What spreads the high bits, by 32-bit words: those of lanes of 16 columns come
// to bits 4 and 5 by a rotation to the left, or by one to the left or right; and
// the shift of the low bits.
DATA rotations<>+0(SB)/8, $0x0202020204040404
DATA rotations<>+8(SB)/8, $0x1e1e1e1e00000000
GLOBL rotations<>(SB), RODATA|NOPTR, $16
DATA lefts<>+0(SB)/8, $0x0202020204040404
GLOBL lefts<>(SB), RODATA|NOPTR, $8
DATA rights<>+0(SB)/8, $0x0202020200000000
GLOBL rights<>(SB), RODATA|NOPTR, $8
DATA halves<>+0(SB)/8, $0x0000000000000000
DATA halves<>+8(SB)/8, $0x0404040404040404
GLOBL halves<>(SB), RODATA|NOPTR, $16

// BYTES sets all bytes of a vector to those of a word.
#define BYTES(word, x, v) \
	MOVL         word, AX; \
	VMOVD        AX, x;    \
	VPBROADCASTD x, v

// STORE adds the eight 32-bit sums of Y4 and those of Y5 and stores the two.
#define STORE \
	VPHADDD      Y5, Y4, Y4; \
	VEXTRACTI128 $1, Y4, X5; \
	VPADDD       X5, X4, X4; \
	VPHADDD      X4, X4, X4; \
	VMOVQ        X4, (DI);   \
	ADDQ         $8, DI

// VNNI adds 64 columns, w bytes and x limbs further, to hi and lo.
#define VNNI(w, x, hi, lo) \
	VBROADCASTI64X4 w(SI), Z0;           \
	VBROADCASTI32X4 w+32(SI), Z1;        \
	VPSRLVD         Z29, Z0, Z0;         \
	VPROLVD         Z28, Z1, Z1;         \
	VPTERNLOGD      $0xe4, Z30, Z1, Z0;  \ // Z30 ? Z0 : Z1
	VPANDD          Z31, Z0, Z0;         \
	VPDPBUSD        x(R8)(AX*1), Z0, hi; \
	VPDPBUSD        x(R9)(AX*1), Z0, lo

// func int6VNNI(sums *[2]int32, w *byte, limbs *int8, rows, groups int)
TEXT ·int6VNNI(SB), NOSPLIT, $0-40
	MOVQ      sums+0(FP), DI
	MOVQ      w+8(FP), SI
	MOVQ      limbs+16(FP), R8
	MOVQ      rows+24(FP), CX
	MOVQ      groups+32(FP), DX
	MOVQ      DX, R9
	SHLQ      $6, R9
	ADDQ      R8, R9 // low limbs
	BYTES($0x0f0f0f0f, X30, Z30)
	BYTES($0x3f3f3f3f, X31, Z31)
	VPMOVZXBD rotations<>(SB), Z28
	VPMOVZXBD halves<>(SB), Z29

row:
	VPXORD Z4, Z4, Z4
	VPXORD Z5, Z5, Z5
	VPXORD Z6, Z6, Z6
	VPXORD Z7, Z7, Z7
	XORQ   AX, AX
	MOVQ   DX, BX
	SUBQ   $4, BX
	JLT    few

four:
	PREFETCHT0 2048(SI) // three lines
	PREFETCHT0 2112(SI)
	PREFETCHT0 2176(SI)
	PREFETCHT2 14400(SI)
	PREFETCHT2 14464(SI)
	PREFETCHT2 14528(SI)
	VNNI(0, 0, Z4, Z5)
	VNNI(48, 64, Z6, Z7)
	VNNI(96, 128, Z4, Z5)
	VNNI(144, 192, Z6, Z7)
	ADDQ       $192, SI
	ADDQ       $256, AX
	SUBQ       $4, BX
	JGE        four

few:
	ADDQ $4, BX
	JZ   done

one:
	PREFETCHT0 2048(SI)
	PREFETCHT2 14400(SI)
	VNNI(0, 0, Z4, Z5)
	ADDQ       $48, SI
	ADDQ       $64, AX
	DECQ       BX
	JNZ        one

done:
	VPADDD        Z6, Z4, Z4
	VPADDD        Z7, Z5, Z5
	VEXTRACTI64X4 $1, Z4, Y6
	VEXTRACTI64X4 $1, Z5, Y7
	VPADDD        Y6, Y4, Y4
	VPADDD        Y7, Y5, Y5
	STORE
	DECQ          CX
	JNZ           row
	VZEROUPPER
	RET

// MADD adds 64 columns of limbs at x to sum. Words hold four products: 63·128·4
// at most.
#define MADD(x, sum) \
	VPMADDUBSW (x)(AX*1), Y0, Y6;   \
	VPMADDUBSW 32(x)(AX*1), Y1, Y7; \
	VPADDW     Y7, Y6, Y6;          \
	VPMADDWD   Y11, Y6, Y6;         \
	VPADDD     Y6, sum, sum

// func int6AVX2(sums *[2]int32, w *byte, limbs *int8, rows, groups int)
TEXT ·int6AVX2(SB), NOSPLIT, $0-40
	MOVQ      sums+0(FP), DI
	MOVQ      w+8(FP), SI
	MOVQ      limbs+16(FP), R8
	MOVQ      rows+24(FP), CX
	MOVQ      groups+32(FP), DX
	SHLQ      $6, DX          // columns
	LEAQ      (R8)(DX*1), R9  // low limbs
	BYTES($0x0f0f0f0f, X15, Y15)
	BYTES($0x30303030, X14, Y14)
	BYTES($0x00010001, X11, Y11)
	VPMOVZXBD lefts<>(SB), Y13
	VPMOVZXBD rights<>(SB), Y12

row:
	VPXOR Y4, Y4, Y4
	VPXOR Y5, Y5, Y5
	XORQ  AX, AX

col:
	VMOVDQU        (SI), Y0
	PREFETCHT0     2048(SI)
	VPSRLW         $4, Y0, Y1
	VPAND          Y15, Y0, Y0
	VPAND          Y15, Y1, Y1
	VBROADCASTI128 32(SI), Y2
	VPSRLVD        Y12, Y2, Y3
	VPSLLVD        Y13, Y2, Y2
	VPAND          Y14, Y2, Y2
	VPAND          Y14, Y3, Y3
	VPOR           Y2, Y0, Y0
	VPOR           Y3, Y1, Y1
	MADD(R8, Y4)
	MADD(R9, Y5)
	ADDQ           $48, SI
	ADDQ           $64, AX
	CMPQ           AX, DX
	JLT            col
	STORE
	DECQ           CX
	JNZ            row
	VZEROUPPER
	RET
