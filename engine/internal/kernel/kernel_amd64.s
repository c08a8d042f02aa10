#include "textflag.h"

// The loops of the avx2 and avx512 sets. Every sum is in 64 lanes, lane l the
// terms l, l+64, …: four registers of sixteen here, eight of eight there, added
// in the same order, so that both sets give the same bits.
//
// Weights are read once and in order: each decoding loop asks for what lies
// 2 KB ahead.

// The E2M1 values by code, and the eight magnitudes first (MX 5.3.3).
DATA e2m1<>+0(SB)/4, $0x00000000  //  0
DATA e2m1<>+4(SB)/4, $0x3f000000  //  0.5
DATA e2m1<>+8(SB)/4, $0x3f800000  //  1
DATA e2m1<>+12(SB)/4, $0x3fc00000 //  1.5
DATA e2m1<>+16(SB)/4, $0x40000000 //  2
DATA e2m1<>+20(SB)/4, $0x40400000 //  3
DATA e2m1<>+24(SB)/4, $0x40800000 //  4
DATA e2m1<>+28(SB)/4, $0x40c00000 //  6
DATA e2m1<>+32(SB)/4, $0x80000000 // -0
DATA e2m1<>+36(SB)/4, $0xbf000000
DATA e2m1<>+40(SB)/4, $0xbf800000
DATA e2m1<>+44(SB)/4, $0xbfc00000
DATA e2m1<>+48(SB)/4, $0xc0000000
DATA e2m1<>+52(SB)/4, $0xc0400000
DATA e2m1<>+56(SB)/4, $0xc0800000
DATA e2m1<>+60(SB)/4, $0xc0c00000
GLOBL e2m1<>(SB), RODATA|NOPTR, $64

DATA low<>+0(SB)/8, $0x0f0f0f0f0f0f0f0f
DATA low<>+8(SB)/8, $0x0f0f0f0f0f0f0f0f
GLOBL low<>(SB), RODATA|NOPTR, $16

// SUM16 adds the sixteen lanes of Z0 into X0: halves, then halves of those.
#define SUM16 \
	VEXTRACTF64X4 $1, Z0, Y1; \
	VADDPS        Y1, Y0, Y0; \
	SUM8

// SUM8 adds the eight lanes of Y0 into X0.
#define SUM8 \
	VEXTRACTF128 $1, Y0, X1; \
	VADDPS       X1, X0, X0; \
	VMOVHLPS     X0, X0, X1; \
	VADDPS       X1, X0, X0; \
	VMOVSHDUP    X0, X1;     \
	VADDSS       X1, X0, X0

// func dotAVX512(x, y *float32, n int) float32
TEXT ·dotAVX512(SB), NOSPLIT, $0-28
	MOVQ   x+0(FP), SI
	MOVQ   y+8(FP), DI
	MOVQ   n+16(FP), CX
	VPXORD Z0, Z0, Z0
	VPXORD Z1, Z1, Z1
	VPXORD Z2, Z2, Z2
	VPXORD Z3, Z3, Z3

dot512:
	VMOVUPS     (SI), Z4
	VMOVUPS     64(SI), Z5
	VMOVUPS     128(SI), Z6
	VMOVUPS     192(SI), Z7
	VFMADD231PS (DI), Z4, Z0
	VFMADD231PS 64(DI), Z5, Z1
	VFMADD231PS 128(DI), Z6, Z2
	VFMADD231PS 192(DI), Z7, Z3
	ADDQ        $256, SI
	ADDQ        $256, DI
	SUBQ        $64, CX
	JNZ         dot512
	VADDPS      Z1, Z0, Z0
	VADDPS      Z3, Z2, Z2
	VADDPS      Z2, Z0, Z0
	SUM16
	VMOVSS      X0, ret+24(FP)
	VZEROUPPER
	RET

// DOT4 multiplies the weights at DI, in Z16 to Z19, into the four sums of one
// row of x.
#define DOT4(x, a, b, c, d) \
	VFMADD231PS (x)(DX*1), Z16, a;    \
	VFMADD231PS 64(x)(DX*1), Z17, b;  \
	VFMADD231PS 128(x)(DX*1), Z18, c; \
	VFMADD231PS 192(x)(DX*1), Z19, d

// END4 adds the sums of one row and stores them.
#define END4(a, b, c, d, at) \
	VADDPS b, a, Z0;   \
	VADDPS d, c, Z20;  \
	VADDPS Z20, Z0, Z0; \
	SUM16;             \
	VMOVSS X0, at(BX)

// func dot4AVX512(w, x0, x1, x2, x3 *float32, n int, sum *[4]float32)
TEXT ·dot4AVX512(SB), NOSPLIT, $0-56
	MOVQ   w+0(FP), DI
	MOVQ   x0+8(FP), R8
	MOVQ   x1+16(FP), R9
	MOVQ   x2+24(FP), R10
	MOVQ   x3+32(FP), R11
	MOVQ   n+40(FP), CX
	MOVQ   sum+48(FP), BX
	XORQ   DX, DX
	VPXORD Z2, Z2, Z2
	VPXORD Z3, Z3, Z3
	VPXORD Z4, Z4, Z4
	VPXORD Z5, Z5, Z5
	VPXORD Z6, Z6, Z6
	VPXORD Z7, Z7, Z7
	VPXORD Z8, Z8, Z8
	VPXORD Z9, Z9, Z9
	VPXORD Z10, Z10, Z10
	VPXORD Z11, Z11, Z11
	VPXORD Z12, Z12, Z12
	VPXORD Z13, Z13, Z13
	VPXORD Z14, Z14, Z14
	VPXORD Z15, Z15, Z15
	VPXORD Z21, Z21, Z21
	VPXORD Z22, Z22, Z22

dot4:
	VMOVUPS (DI)(DX*1), Z16
	VMOVUPS 64(DI)(DX*1), Z17
	VMOVUPS 128(DI)(DX*1), Z18
	VMOVUPS 192(DI)(DX*1), Z19
	DOT4(R8, Z2, Z3, Z4, Z5)
	DOT4(R9, Z6, Z7, Z8, Z9)
	DOT4(R10, Z10, Z11, Z12, Z13)
	DOT4(R11, Z14, Z15, Z21, Z22)
	ADDQ    $256, DX
	SUBQ    $64, CX
	JNZ     dot4
	END4(Z2, Z3, Z4, Z5, 0)
	END4(Z6, Z7, Z8, Z9, 4)
	END4(Z10, Z11, Z12, Z13, 8)
	END4(Z14, Z15, Z21, Z22, 12)
	VZEROUPPER
	RET

// func dotAVX2(x, y *float32, n int) float32
TEXT ·dotAVX2(SB), NOSPLIT, $0-28
	MOVQ  x+0(FP), SI
	MOVQ  y+8(FP), DI
	MOVQ  n+16(FP), CX
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	VPXOR Y2, Y2, Y2
	VPXOR Y3, Y3, Y3
	VPXOR Y4, Y4, Y4
	VPXOR Y5, Y5, Y5
	VPXOR Y6, Y6, Y6
	VPXOR Y7, Y7, Y7

dot256:
	VMOVUPS     (SI), Y8
	VMOVUPS     32(SI), Y9
	VMOVUPS     64(SI), Y10
	VMOVUPS     96(SI), Y11
	VMOVUPS     128(SI), Y12
	VMOVUPS     160(SI), Y13
	VMOVUPS     192(SI), Y14
	VMOVUPS     224(SI), Y15
	VFMADD231PS (DI), Y8, Y0
	VFMADD231PS 32(DI), Y9, Y1
	VFMADD231PS 64(DI), Y10, Y2
	VFMADD231PS 96(DI), Y11, Y3
	VFMADD231PS 128(DI), Y12, Y4
	VFMADD231PS 160(DI), Y13, Y5
	VFMADD231PS 192(DI), Y14, Y6
	VFMADD231PS 224(DI), Y15, Y7
	ADDQ        $256, SI
	ADDQ        $256, DI
	SUBQ        $64, CX
	JNZ         dot256

	// Y0 and Y1 are the halves of the first sixteen lanes, and so on.
	VADDPS Y2, Y0, Y0
	VADDPS Y3, Y1, Y1
	VADDPS Y6, Y4, Y4
	VADDPS Y7, Y5, Y5
	VADDPS Y4, Y0, Y0
	VADDPS Y5, Y1, Y1
	VADDPS Y1, Y0, Y0
	SUM8
	VMOVSS X0, ret+24(FP)
	VZEROUPPER
	RET

// func addScaledAVX512(y *float32, a float32, x *float32, n int)
TEXT ·addScaledAVX512(SB), NOSPLIT, $0-32
	MOVQ         y+0(FP), DI
	VBROADCASTSS a+8(FP), Z0
	MOVQ         x+16(FP), SI
	MOVQ         n+24(FP), CX

axpy512:
	VMOVUPS     (DI), Z1
	VFMADD231PS (SI), Z0, Z1
	VMOVUPS     Z1, (DI)
	ADDQ        $64, SI
	ADDQ        $64, DI
	SUBQ        $16, CX
	JNZ         axpy512
	VZEROUPPER
	RET

// func addScaledAVX2(y *float32, a float32, x *float32, n int)
TEXT ·addScaledAVX2(SB), NOSPLIT, $0-32
	MOVQ         y+0(FP), DI
	VBROADCASTSS a+8(FP), Y0
	MOVQ         x+16(FP), SI
	MOVQ         n+24(FP), CX

axpy256:
	VMOVUPS     (DI), Y1
	VMOVUPS     32(DI), Y2
	VFMADD231PS (SI), Y0, Y1
	VFMADD231PS 32(SI), Y0, Y2
	VMOVUPS     Y1, (DI)
	VMOVUPS     Y2, 32(DI)
	ADDQ        $64, SI
	ADDQ        $64, DI
	SUBQ        $16, CX
	JNZ         axpy256
	VZEROUPPER
	RET

// func bf16AVX512(dst *float32, src *byte, n int)
TEXT ·bf16AVX512(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX

bf16x16:
	PREFETCHT0 2048(SI)
	VPMOVZXWD  (SI), Z0
	VPSLLD     $16, Z0, Z0
	VMOVUPS    Z0, (DI)
	ADDQ       $32, SI
	ADDQ       $64, DI
	SUBQ       $16, CX
	JNZ        bf16x16
	VZEROUPPER
	RET

// func bf16AVX2(dst *float32, src *byte, n int)
TEXT ·bf16AVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX

bf16x8:
	PREFETCHT0 2048(SI)
	VPMOVZXWD  (SI), Y0
	VPMOVZXWD  16(SI), Y1
	VPSLLD     $16, Y0, Y0
	VPSLLD     $16, Y1, Y1
	VMOVUPS    Y0, (DI)
	VMOVUPS    Y1, 32(DI)
	ADDQ       $32, SI
	ADDQ       $64, DI
	SUBQ       $16, CX
	JNZ        bf16x8
	VZEROUPPER
	RET

// CODES reads a block at SI: X0 and X1 are its codes, one a byte, in order.
#define CODES \
	VMOVDQU    (SI), X1;     \
	VPSRLW     $4, X1, X2;   \
	VPAND      X15, X1, X1;  \
	VPAND      X15, X2, X2;  \
	VPUNPCKLBW X2, X1, X0;   \
	VPUNPCKHBW X2, X1, X1

// SCALE leaves the bits of 2^(s-127) in AX, s the byte at R8: s itself is the
// exponent, but 0 is the subnormal 2^-127 (MX 5.4.1).
#define SCALE \
	MOVBLZX (R8), AX;  \
	SHLL    $23, AX;   \
	CMOVLEQ DX, AX

// func mxfp4AVX512(dst *float32, blocks, scales *byte, n int)
TEXT ·mxfp4AVX512(SB), NOSPLIT, $0-32
	MOVQ    dst+0(FP), DI
	MOVQ    blocks+8(FP), SI
	MOVQ    scales+16(FP), R8
	MOVQ    n+24(FP), CX
	MOVL    $0x00400000, DX
	VMOVUPS e2m1<>(SB), Z14
	VMOVDQU low<>(SB), X15

mxfp4x16:
	PREFETCHT0   2048(SI)
	SCALE
	VPBROADCASTD AX, Z5
	CODES
	VPMOVZXBD    X0, Z0
	VPMOVZXBD    X1, Z1
	VPERMPS      Z14, Z0, Z0
	VPERMPS      Z14, Z1, Z1
	VMULPS       Z5, Z0, Z0
	VMULPS       Z5, Z1, Z1
	VMOVUPS      Z0, (DI)
	VMOVUPS      Z1, 64(DI)
	ADDQ         $16, SI
	INCQ         R8
	ADDQ         $128, DI
	DECQ         CX
	JNZ          mxfp4x16
	VZEROUPPER
	RET

// EIGHT decodes eight codes, the bytes of x: the low three bits select a
// magnitude of Y14, the fourth is the sign.
#define EIGHT(x, at) \
	VPMOVZXBD x, Y2;       \
	VPERMPS   Y14, Y2, Y3; \
	VPSRLD    $3, Y2, Y2;  \
	VPSLLD    $31, Y2, Y2; \
	VPOR      Y2, Y3, Y3;  \
	VMULPS    Y5, Y3, Y3;  \
	VMOVUPS   Y3, at(DI)

// func mxfp4AVX2(dst *float32, blocks, scales *byte, n int)
TEXT ·mxfp4AVX2(SB), NOSPLIT, $0-32
	MOVQ    dst+0(FP), DI
	MOVQ    blocks+8(FP), SI
	MOVQ    scales+16(FP), R8
	MOVQ    n+24(FP), CX
	MOVL    $0x00400000, DX
	VMOVUPS e2m1<>(SB), Y14
	VMOVDQU low<>(SB), X15

mxfp4x8:
	PREFETCHT0   2048(SI)
	SCALE
	VMOVD        AX, X5
	VPBROADCASTD X5, Y5
	CODES
	EIGHT(X0, 0)
	VPSRLDQ      $8, X0, X0
	EIGHT(X0, 32)
	EIGHT(X1, 64)
	VPSRLDQ      $8, X1, X1
	EIGHT(X1, 96)
	ADDQ         $16, SI
	INCQ         R8
	ADDQ         $128, DI
	DECQ         CX
	JNZ          mxfp4x8
	VZEROUPPER
	RET
