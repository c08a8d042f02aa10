#include "textflag.h"
#include "rounding_avx2_amd64.h"

// The loops of vectorLoops with AVX2 and FMA: 8 elements at once, 16 a step, in
// the order that vector.go states. n is a positive multiple of 16.

// STEP multiplies both polynomials with their x and adds a coefficient.
#define STEP(at) \
	VBROADCASTSD ·expTable+at(SB), Y6; \
	VFMADD213PD  Y6, Y0, Y4;           \
	VFMADD213PD  Y6, Y1, Y5

// EXP sets Y4 and Y5 to exp64 of Y0 and Y1, by way of Y2, Y3 and Y6. Of MAX and
// MIN the first operand is the result where x is NaN.
#define EXP \
	VBROADCASTSD ·expTable+0(SB), Y6;   \
	VMAXPD       Y0, Y6, Y0;            \
	VMAXPD       Y1, Y6, Y1;            \
	VBROADCASTSD ·expTable+8(SB), Y6;   \
	VMINPD       Y0, Y6, Y0;            \
	VMINPD       Y1, Y6, Y1;            \
	VBROADCASTSD ·expTable+32(SB), Y2;  \
	VMOVAPD      Y2, Y3;                \
	VMOVAPD      Y2, Y5;                \
	VBROADCASTSD ·expTable+16(SB), Y6;  \
	VFMADD231PD  Y6, Y0, Y2;            \
	VFMADD231PD  Y6, Y1, Y3;            \
	VSUBPD       Y5, Y2, Y4;            \
	VSUBPD       Y5, Y3, Y5;            \
	VBROADCASTSD ·expTable+24(SB), Y6;  \
	VFNMADD231PD Y6, Y4, Y0;            \
	VFNMADD231PD Y6, Y5, Y1;            \
	VBROADCASTSD ·expTable+104(SB), Y4; \
	VMOVAPD      Y4, Y5;                \
	STEP(96);                           \
	STEP(88);                           \
	STEP(80);                           \
	STEP(72);                           \
	STEP(64);                           \
	STEP(56);                           \
	STEP(48);                           \
	STEP(40);                           \
	STEP(40);                           \
	VPSLLQ       $52, Y2, Y2;           \
	VPSLLQ       $52, Y3, Y3;           \
	VPADDQ       Y2, Y4, Y4;            \
	VPADDQ       Y3, Y5, Y5

// EXP8 sets 8 elements of y to exp(x − top) and adds them to lanes a and b.
#define EXP8(at, a, b) \
	VMOVUPS      at(SI), Y0;    \
	VSUBPS       Y7, Y0, Y0;    \
	VEXTRACTF128 $1, Y0, X1;    \
	VCVTPS2PD    X0, Y0;        \
	VCVTPS2PD    X1, Y1;        \
	EXP;                        \
	VCVTPD2PSY   Y4, X4;        \
	VCVTPD2PSY   Y5, X5;        \
	VMOVUPS      X4, at(DI);    \
	VMOVUPS      X5, at+16(DI); \
	VCVTPS2PD    X4, Y4;        \
	VCVTPS2PD    X5, Y5;        \
	VADDPD       Y4, a, a;      \
	VADDPD       Y5, b, b

// SHARE8 sets 8 elements of y to r(y·f).
#define SHARE8(at) \
	VCVTPS2PD   at(DI), Y0;     \
	VCVTPS2PD   at+16(DI), Y1;  \
	VMULPD      Y4, Y0, Y0;     \
	VMULPD      Y4, Y1, Y1;     \
	VCVTPD2PSY  Y0, X0;         \
	VCVTPD2PSY  Y1, X1;         \
	VINSERTF128 $1, X1, Y0, Y0; \
	ROUND(Y0, Y2, Y3);          \
	VMOVUPS     Y0, at(DI)

// ROTATE8 turns 8 pairs.
#define ROTATE8(at) \
	VMOVUPS at(SI), Y0;  \
	VMOVUPS at(R9), Y1;  \
	VMOVUPS at(DX), Y2;  \
	VMOVUPS at(R8), Y3;  \
	VMULPS  Y2, Y0, Y4;  \
	VMULPS  Y3, Y1, Y5;  \
	VMULPS  Y2, Y1, Y6;  \
	VMULPS  Y3, Y0, Y7;  \
	ROUND(Y4, Y8, Y9);   \
	ROUND(Y5, Y8, Y9);   \
	ROUND(Y6, Y8, Y9);   \
	ROUND(Y7, Y8, Y9);   \
	VSUBPS  Y5, Y4, Y4;  \
	VADDPS  Y7, Y6, Y6;  \
	ROUND(Y4, Y8, Y9);   \
	ROUND(Y6, Y8, Y9);   \
	VMOVUPS Y4, at(DI);  \
	VMOVUPS Y6, at(R10)

DATA one<>+0(SB)/4, $0x3f800000
GLOBL one<>(SB), RODATA|NOPTR, $4

// SWIGLU8 computes 8 elements of y from the 16 of x at 2·at.
#define SWIGLU8(at) \
	VMOVUPS      2*at(SI), Y0;          \
	VMOVUPS      2*at+32(SI), Y1;       \
	VSHUFPS      $0x88, Y1, Y0, Y7;     \
	VSHUFPS      $0xdd, Y1, Y0, Y8;     \
	VPERMPD      $0xd8, Y7, Y7;         \
	VPERMPD      $0xd8, Y8, Y8;         \
	VBROADCASTSS limit+28(FP), Y2;      \
	VPXOR        Y3, Y3, Y3;            \
	VSUBPS       Y2, Y3, Y3;            \
	VMINPS       Y7, Y2, Y7;            \
	VMAXPS       Y8, Y3, Y8;            \
	VMINPS       Y8, Y2, Y8;            \
	VBROADCASTSS minusAlpha+24(FP), Y2; \
	VMULPS       Y7, Y2, Y0;            \
	ROUND(Y0, Y9, Y10);                 \
	VEXTRACTF128 $1, Y0, X1;            \
	VCVTPS2PD    X0, Y0;                \
	VCVTPS2PD    X1, Y1;                \
	EXP;                                \
	VBROADCASTSD ·expTable+40(SB), Y6;  \
	VADDPD       Y6, Y4, Y4;            \
	VADDPD       Y6, Y5, Y5;            \
	VDIVPD       Y4, Y6, Y4;            \
	VDIVPD       Y5, Y6, Y5;            \
	VCVTPD2PSY   Y4, X4;                \
	VCVTPD2PSY   Y5, X5;                \
	VINSERTF128  $1, X5, Y4, Y4;        \
	ROUND(Y4, Y9, Y10);                 \
	VMULPS       Y4, Y7, Y7;            \
	ROUND(Y7, Y9, Y10);                 \
	VBROADCASTSS one<>(SB), Y2;         \
	VADDPS       Y2, Y8, Y8;            \
	ROUND(Y8, Y9, Y10);                 \
	VMULPS       Y8, Y7, Y7;            \
	ROUND(Y7, Y9, Y10);                 \
	VMOVUPS      Y7, at(DI)

// func roundAVX2(y, x *float32, n int, r *rounding)
TEXT ·roundAVX2(SB), NOSPLIT, $0-32
	MOVQ y+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ r+24(FP), AX
	ROUNDING(AX)

loop:
	VMOVUPS (SI), Y0
	VMOVUPS 32(SI), Y1
	ROUND(Y0, Y2, Y3)
	ROUND(Y1, Y2, Y3)
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	ADDQ    $64, SI
	ADDQ    $64, DI
	SUBQ    $16, CX
	JNZ     loop
	VZEROUPPER
	RET

// func addAVX2(y, a, b *float32, n int, r *rounding)
TEXT ·addAVX2(SB), NOSPLIT, $0-40
	MOVQ y+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ n+24(FP), CX
	MOVQ r+32(FP), AX
	ROUNDING(AX)

loop:
	VMOVUPS (SI), Y0
	VMOVUPS 32(SI), Y1
	VADDPS  (DX), Y0, Y0
	VADDPS  32(DX), Y1, Y1
	ROUND(Y0, Y2, Y3)
	ROUND(Y1, Y2, Y3)
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	ADDQ    $64, SI
	ADDQ    $64, DX
	ADDQ    $64, DI
	SUBQ    $16, CX
	JNZ     loop
	VZEROUPPER
	RET

// func roundAddAVX2(y, a, b *float32, n int, r *rounding)
TEXT ·roundAddAVX2(SB), NOSPLIT, $0-40
	MOVQ y+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ n+24(FP), CX
	MOVQ r+32(FP), AX
	ROUNDING(AX)

loop:
	VMOVUPS (SI), Y0
	VMOVUPS 32(SI), Y1
	ROUND(Y0, Y2, Y3)
	ROUND(Y1, Y2, Y3)
	VADDPS (DX), Y0, Y0
	VADDPS 32(DX), Y1, Y1
	ROUND(Y0, Y2, Y3)
	ROUND(Y1, Y2, Y3)
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	ADDQ    $64, SI
	ADDQ    $64, DX
	ADDQ    $64, DI
	SUBQ    $16, CX
	JNZ     loop
	VZEROUPPER
	RET

// func squaresAVX2(x *float32, n int) (l lanes)
TEXT ·squaresAVX2(SB), NOSPLIT, $0-144
	MOVQ  x+0(FP), SI
	MOVQ  n+8(FP), CX
	LEAQ  l+16(FP), DI
	VPXOR Y4, Y4, Y4
	VPXOR Y5, Y5, Y5
	VPXOR Y6, Y6, Y6
	VPXOR Y7, Y7, Y7

loop:
	VCVTPS2PD   (SI), Y0
	VCVTPS2PD   16(SI), Y1
	VCVTPS2PD   32(SI), Y2
	VCVTPS2PD   48(SI), Y3
	VFMADD231PD Y0, Y0, Y4
	VFMADD231PD Y1, Y1, Y5
	VFMADD231PD Y2, Y2, Y6
	VFMADD231PD Y3, Y3, Y7
	ADDQ        $64, SI
	SUBQ        $16, CX
	JNZ         loop
	VMOVUPD     Y4, (DI)
	VMOVUPD     Y5, 32(DI)
	VMOVUPD     Y6, 64(DI)
	VMOVUPD     Y7, 96(DI)
	VZEROUPPER
	RET

// func scaleAVX2(y, x, s *float32, f float32, n int, r *rounding)
TEXT ·scaleAVX2(SB), NOSPLIT, $0-48
	MOVQ         y+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         s+16(FP), DX
	VBROADCASTSS f+24(FP), Y4
	MOVQ         n+32(FP), CX
	MOVQ         r+40(FP), AX
	ROUNDING(AX)

loop:
	VMULPS (SI), Y4, Y0
	VMULPS 32(SI), Y4, Y1
	VMULPS (DX), Y0, Y0
	VMULPS 32(DX), Y1, Y1
	ROUND(Y0, Y2, Y3)
	ROUND(Y1, Y2, Y3)
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	ADDQ    $64, SI
	ADDQ    $64, DX
	ADDQ    $64, DI
	SUBQ    $16, CX
	JNZ     loop
	VZEROUPPER
	RET

// func maxAVX2(x *float32, n int, top float32) float32
TEXT ·maxAVX2(SB), NOSPLIT, $0-28
	MOVQ         x+0(FP), SI
	MOVQ         n+8(FP), CX
	VBROADCASTSS top+16(FP), Y0
	VMOVAPS      Y0, Y1

loop:
	VMOVUPS      (SI), Y2
	VMOVUPS      32(SI), Y3
	VMAXPS       Y0, Y2, Y0
	VMAXPS       Y1, Y3, Y1
	ADDQ         $64, SI
	SUBQ         $16, CX
	JNZ          loop
	VMAXPS       Y1, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VMAXPS       X1, X0, X0
	VMOVHLPS     X0, X0, X1
	VMAXPS       X1, X0, X0
	VMOVSHDUP    X0, X1
	VMAXSS       X1, X0, X0
	VMOVSS       X0, ret+24(FP)
	VZEROUPPER
	RET

// func expAVX2(y, x *float32, n int, top float32) (l lanes)
TEXT ·expAVX2(SB), NOSPLIT, $0-160
	MOVQ         y+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         n+16(FP), CX
	VBROADCASTSS top+24(FP), Y7
	LEAQ         l+32(FP), DX
	VPXOR        Y8, Y8, Y8
	VPXOR        Y9, Y9, Y9
	VPXOR        Y10, Y10, Y10
	VPXOR        Y11, Y11, Y11

loop:
	EXP8(0, Y8, Y9)
	EXP8(32, Y10, Y11)
	ADDQ    $64, SI
	ADDQ    $64, DI
	SUBQ    $16, CX
	JNZ     loop
	VMOVUPD Y8, (DX)
	VMOVUPD Y9, 32(DX)
	VMOVUPD Y10, 64(DX)
	VMOVUPD Y11, 96(DX)
	VZEROUPPER
	RET

// func shareAVX2(y *float32, n int, f float64, r *rounding)
TEXT ·shareAVX2(SB), NOSPLIT, $0-32
	MOVQ         y+0(FP), DI
	MOVQ         n+8(FP), CX
	VBROADCASTSD f+16(FP), Y4
	MOVQ         r+24(FP), AX
	ROUNDING(AX)

loop:
	SHARE8(0)
	SHARE8(32)
	ADDQ $64, DI
	SUBQ $16, CX
	JNZ  loop
	VZEROUPPER
	RET

// func rotateAVX2(y, x, cos, sin *float32, n int, r *rounding)
TEXT ·rotateAVX2(SB), NOSPLIT, $0-48
	MOVQ y+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ cos+16(FP), DX
	MOVQ sin+24(FP), R8
	MOVQ n+32(FP), CX
	MOVQ r+40(FP), AX
	ROUNDING(AX)
	LEAQ (SI)(CX*4), R9 // the second half of x
	LEAQ (DI)(CX*4), R10 // and of y

loop:
	ROTATE8(0)
	ROTATE8(32)
	ADDQ $64, SI
	ADDQ $64, R9
	ADDQ $64, DX
	ADDQ $64, R8
	ADDQ $64, DI
	ADDQ $64, R10
	SUBQ $16, CX
	JNZ  loop
	VZEROUPPER
	RET

// func swigluAVX2(y, x *float32, n int, minusAlpha, limit float32, r *rounding)
TEXT ·swigluAVX2(SB), NOSPLIT, $0-40
	MOVQ y+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ r+32(FP), AX
	ROUNDING(AX)

loop:
	SWIGLU8(0)
	SWIGLU8(32)
	ADDQ $128, SI
	ADDQ $64, DI
	SUBQ $16, CX
	JNZ  loop
	VZEROUPPER
	RET

// func mixAVX2(y, x *float32, stride int, w *float32, k, n int, r *rounding)
TEXT ·mixAVX2(SB), NOSPLIT, $0-56
	MOVQ y+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ stride+16(FP), R8
	SHLQ $2, R8
	MOVQ w+24(FP), DX
	MOVQ k+32(FP), R9
	MOVQ n+40(FP), CX
	MOVQ r+48(FP), AX
	ROUNDING(AX)

loop:
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	MOVQ  SI, R10
	XORQ  BX, BX

row:
	VBROADCASTSS (DX)(BX*4), Y2
	VFMADD231PS  (R10), Y2, Y0
	VFMADD231PS  32(R10), Y2, Y1
	ADDQ         R8, R10
	INCQ         BX
	CMPQ         BX, R9
	JNE          row
	ROUND(Y0, Y2, Y3)
	ROUND(Y1, Y2, Y3)
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	ADDQ    $64, SI
	ADDQ    $64, DI
	SUBQ    $16, CX
	JNZ     loop
	VZEROUPPER
	RET
