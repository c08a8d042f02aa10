#include "textflag.h"
#include "rounding_avx512_amd64.h"

// The loops of vectorLoops with AVX-512 (F and VL): 16 elements a step, in the
// order that vector.go states. n is a positive multiple of 16.

// EXPTABLE loads expTable: the coefficients to Z8 to Z15, the others to Z16 to
// Z21.
#define EXPTABLE \
	VBROADCASTSD ·expTable+0(SB), Z16; \
	VBROADCASTSD ·expTable+8(SB), Z17; \
	VBROADCASTSD ·expTable+16(SB), Z18; \
	VBROADCASTSD ·expTable+24(SB), Z19; \
	VBROADCASTSD ·expTable+32(SB), Z20; \
	VBROADCASTSD ·expTable+40(SB), Z21; \
	VBROADCASTSD ·expTable+48(SB), Z8;  \
	VBROADCASTSD ·expTable+56(SB), Z9;  \
	VBROADCASTSD ·expTable+64(SB), Z10; \
	VBROADCASTSD ·expTable+72(SB), Z11; \
	VBROADCASTSD ·expTable+80(SB), Z12; \
	VBROADCASTSD ·expTable+88(SB), Z13; \
	VBROADCASTSD ·expTable+96(SB), Z14; \
	VBROADCASTSD ·expTable+104(SB), Z15

// EXP sets p to exp64 of x, which it changes. Of MAX and MIN the first operand
// is the result where x is NaN.
#define EXP(x, t, p) \
	VMAXPD       x, Z16, x;   \
	VMINPD       x, Z17, x;   \
	VMOVAPD      Z20, t;   \
	VFMADD231PD  Z18, x, t;   \
	VSUBPD       Z20, t, p;   \
	VFNMADD231PD Z19, p, x;   \
	VMOVAPD      Z15, p;   \
	VFMADD213PD  Z14, x, p;   \
	VFMADD213PD  Z13, x, p;   \
	VFMADD213PD  Z12, x, p;   \
	VFMADD213PD  Z11, x, p;   \
	VFMADD213PD  Z10, x, p;   \
	VFMADD213PD  Z9, x, p; \
	VFMADD213PD  Z8, x, p; \
	VFMADD213PD  Z21, x, p;   \
	VFMADD213PD  Z21, x, p;   \
	VPSLLQ       $52, t, t;   \
	VPADDQ       t, p, p

// func roundAVX512(y, x *float32, n int, r *rounding)
TEXT ·roundAVX512(SB), NOSPLIT, $0-32
	MOVQ y+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ r+24(FP), AX
	ROUNDING(AX)

loop:
	VMOVUPS (SI), Z0
	ROUND(Z0, Z1)
	VMOVUPS Z0, (DI)
	ADDQ    $64, SI
	ADDQ    $64, DI
	SUBQ    $16, CX
	JNZ     loop
	VZEROUPPER
	RET

// func addAVX512(y, a, b *float32, n int, r *rounding)
TEXT ·addAVX512(SB), NOSPLIT, $0-40
	MOVQ y+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ n+24(FP), CX
	MOVQ r+32(FP), AX
	ROUNDING(AX)

loop:
	VMOVUPS (SI), Z0
	VADDPS  (DX), Z0, Z0
	ROUND(Z0, Z1)
	VMOVUPS Z0, (DI)
	ADDQ    $64, SI
	ADDQ    $64, DX
	ADDQ    $64, DI
	SUBQ    $16, CX
	JNZ     loop
	VZEROUPPER
	RET

// func roundAddAVX512(y, a, b *float32, n int, r *rounding)
TEXT ·roundAddAVX512(SB), NOSPLIT, $0-40
	MOVQ y+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ n+24(FP), CX
	MOVQ r+32(FP), AX
	ROUNDING(AX)

loop:
	VMOVUPS (SI), Z0
	ROUND(Z0, Z1)
	VADDPS  (DX), Z0, Z0
	ROUND(Z0, Z1)
	VMOVUPS Z0, (DI)
	ADDQ    $64, SI
	ADDQ    $64, DX
	ADDQ    $64, DI
	SUBQ    $16, CX
	JNZ     loop
	VZEROUPPER
	RET

// func squaresAVX512(x *float32, n int) (l lanes)
TEXT ·squaresAVX512(SB), NOSPLIT, $0-144
	MOVQ   x+0(FP), SI
	MOVQ   n+8(FP), CX
	LEAQ   l+16(FP), DI
	VPXORQ Z2, Z2, Z2
	VPXORQ Z3, Z3, Z3

loop:
	VCVTPS2PD   (SI), Z0
	VCVTPS2PD   32(SI), Z1
	VFMADD231PD Z0, Z0, Z2
	VFMADD231PD Z1, Z1, Z3
	ADDQ        $64, SI
	SUBQ        $16, CX
	JNZ         loop
	VMOVUPD     Z2, (DI)
	VMOVUPD     Z3, 64(DI)
	VZEROUPPER
	RET

// func scaleAVX512(y, x, s *float32, f float32, n int, r *rounding)
TEXT ·scaleAVX512(SB), NOSPLIT, $0-48
	MOVQ         y+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         s+16(FP), DX
	VBROADCASTSS f+24(FP), Z2
	MOVQ         n+32(FP), CX
	MOVQ         r+40(FP), AX
	ROUNDING(AX)

loop:
	VMULPS  (SI), Z2, Z0
	VMULPS  (DX), Z0, Z0
	ROUND(Z0, Z1)
	VMOVUPS Z0, (DI)
	ADDQ    $64, SI
	ADDQ    $64, DX
	ADDQ    $64, DI
	SUBQ    $16, CX
	JNZ     loop
	VZEROUPPER
	RET

// func maxAVX512(x *float32, n int, top float32) float32
TEXT ·maxAVX512(SB), NOSPLIT, $0-28
	MOVQ         x+0(FP), SI
	MOVQ         n+8(FP), CX
	VBROADCASTSS top+16(FP), Z0

loop:
	VMOVUPS       (SI), Z1
	VMAXPS        Z0, Z1, Z0
	ADDQ          $64, SI
	SUBQ          $16, CX
	JNZ           loop
	VEXTRACTF64X4 $1, Z0, Y1
	VMAXPS        Y1, Y0, Y0
	VEXTRACTF128  $1, Y0, X1
	VMAXPS        X1, X0, X0
	VMOVHLPS      X0, X0, X1
	VMAXPS        X1, X0, X0
	VMOVSHDUP     X0, X1
	VMAXSS        X1, X0, X0
	VMOVSS        X0, ret+24(FP)
	VZEROUPPER
	RET

// func expAVX512(y, x *float32, n int, top float32) (l lanes)
TEXT ·expAVX512(SB), NOSPLIT, $0-160
	MOVQ         y+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         n+16(FP), CX
	VBROADCASTSS top+24(FP), Z24
	LEAQ         l+32(FP), DX
	EXPTABLE
	VPXORQ       Z22, Z22, Z22
	VPXORQ       Z23, Z23, Z23

loop:
	VMOVUPS       (SI), Z0
	VSUBPS        Z24, Z0, Z0
	VEXTRACTF64X4 $1, Z0, Y1
	VCVTPS2PD     Y0, Z0
	VCVTPS2PD     Y1, Z1
	EXP(Z0, Z2, Z4)
	EXP(Z1, Z3, Z5)
	VCVTPD2PS     Z4, Y4
	VCVTPD2PS     Z5, Y5
	VMOVUPS       Y4, (DI)
	VMOVUPS       Y5, 32(DI)
	VCVTPS2PD     Y4, Z4
	VCVTPS2PD     Y5, Z5
	VADDPD        Z4, Z22, Z22
	VADDPD        Z5, Z23, Z23
	ADDQ          $64, SI
	ADDQ          $64, DI
	SUBQ          $16, CX
	JNZ           loop
	VMOVUPD       Z22, (DX)
	VMOVUPD       Z23, 64(DX)
	VZEROUPPER
	RET

// func shareAVX512(y *float32, n int, f float64, r *rounding)
TEXT ·shareAVX512(SB), NOSPLIT, $0-32
	MOVQ         y+0(FP), DI
	MOVQ         n+8(FP), CX
	VBROADCASTSD f+16(FP), Z2
	MOVQ         r+24(FP), AX
	ROUNDING(AX)

loop:
	VCVTPS2PD    (DI), Z0
	VCVTPS2PD    32(DI), Z1
	VMULPD       Z2, Z0, Z0
	VMULPD       Z2, Z1, Z1
	VCVTPD2PS    Z0, Y0
	VCVTPD2PS    Z1, Y1
	VINSERTF64X4 $1, Y1, Z0, Z0
	ROUND(Z0, Z1)
	VMOVUPS      Z0, (DI)
	ADDQ         $64, DI
	SUBQ         $16, CX
	JNZ          loop
	VZEROUPPER
	RET

// func rotateAVX512(y, x, cos, sin *float32, n int, r *rounding)
TEXT ·rotateAVX512(SB), NOSPLIT, $0-48
	MOVQ y+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ cos+16(FP), DX
	MOVQ sin+24(FP), R8
	MOVQ n+32(FP), CX
	MOVQ r+40(FP), AX
	ROUNDING(AX)
	LEAQ (SI)(CX*4), R9  // the second half of x
	LEAQ (DI)(CX*4), R10 // and of y

loop:
	VMOVUPS (SI), Z0
	VMOVUPS (R9), Z1
	VMOVUPS (DX), Z2
	VMOVUPS (R8), Z3
	VMULPS  Z2, Z0, Z4
	VMULPS  Z3, Z1, Z5
	VMULPS  Z2, Z1, Z6
	VMULPS  Z3, Z0, Z7
	ROUND(Z4, Z8)
	ROUND(Z5, Z8)
	ROUND(Z6, Z8)
	ROUND(Z7, Z8)
	VSUBPS  Z5, Z4, Z4
	VADDPS  Z7, Z6, Z6
	ROUND(Z4, Z8)
	ROUND(Z6, Z8)
	VMOVUPS Z4, (DI)
	VMOVUPS Z6, (R10)
	ADDQ    $64, SI
	ADDQ    $64, R9
	ADDQ    $64, DX
	ADDQ    $64, R8
	ADDQ    $64, DI
	ADDQ    $64, R10
	SUBQ    $16, CX
	JNZ     loop
	VZEROUPPER
	RET

DATA every<>+0(SB)/4, $0
DATA every<>+4(SB)/4, $2
DATA every<>+8(SB)/4, $4
DATA every<>+12(SB)/4, $6
DATA every<>+16(SB)/4, $8
DATA every<>+20(SB)/4, $10
DATA every<>+24(SB)/4, $12
DATA every<>+28(SB)/4, $14
DATA every<>+32(SB)/4, $16
DATA every<>+36(SB)/4, $18
DATA every<>+40(SB)/4, $20
DATA every<>+44(SB)/4, $22
DATA every<>+48(SB)/4, $24
DATA every<>+52(SB)/4, $26
DATA every<>+56(SB)/4, $28
DATA every<>+60(SB)/4, $30
GLOBL every<>(SB), RODATA|NOPTR, $64

DATA one<>+0(SB)/4, $0x3f800000
GLOBL one<>(SB), RODATA|NOPTR, $4

// func swigluAVX512(y, x *float32, n int, minusAlpha, limit float32, r *rounding)
TEXT ·swigluAVX512(SB), NOSPLIT, $0-40
	MOVQ         y+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         n+16(FP), CX
	VBROADCASTSS minusAlpha+24(FP), Z22
	VBROADCASTSS limit+28(FP), Z23
	MOVQ         r+32(FP), AX
	ROUNDING(AX)
	EXPTABLE
	VPXORQ       Z24, Z24, Z24
	VSUBPS       Z23, Z24, Z24          // −limit
	VBROADCASTSS one<>(SB), Z25
	VMOVDQU32    every<>(SB), Z26
	VPTERNLOGD   $255, Z27, Z27, Z27
	VPSUBD       Z27, Z26, Z27          // the odd ones

loop:
	VMOVUPS   (SI), Z0
	VMOVUPS   64(SI), Z1
	VMOVAPS   Z0, Z2
	VPERMT2PS Z1, Z26, Z2 // g
	VPERMT2PS Z1, Z27, Z0 // l
	VMINPS    Z2, Z23, Z2
	VMAXPS    Z0, Z24, Z0
	VMINPS    Z0, Z23, Z0

	// σ(alpha·g)
	VMULPS        Z2, Z22, Z1
	ROUND(Z1, Z3)
	VEXTRACTF64X4 $1, Z1, Y3
	VCVTPS2PD     Y1, Z1
	VCVTPS2PD     Y3, Z3
	EXP(Z1, Z4, Z5)
	EXP(Z3, Z6, Z7)
	VADDPD        Z21, Z5, Z5
	VADDPD        Z21, Z7, Z7
	VDIVPD        Z5, Z21, Z5
	VDIVPD        Z7, Z21, Z7
	VCVTPD2PS     Z5, Y5
	VCVTPD2PS     Z7, Y7
	VINSERTF64X4  $1, Y7, Z5, Z5
	ROUND(Z5, Z3)

	VMULPS  Z5, Z2, Z2
	ROUND(Z2, Z3)
	VADDPS  Z25, Z0, Z0
	ROUND(Z0, Z3)
	VMULPS  Z0, Z2, Z2
	ROUND(Z2, Z3)
	VMOVUPS Z2, (DI)
	ADDQ    $128, SI
	ADDQ    $64, DI
	SUBQ    $16, CX
	JNZ     loop
	VZEROUPPER
	RET

// func mixAVX512(y, x *float32, stride int, w *float32, k, n int, r *rounding)
TEXT ·mixAVX512(SB), NOSPLIT, $0-56
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
	VPXORQ Z0, Z0, Z0
	MOVQ   SI, R10
	XORQ   BX, BX

row:
	VBROADCASTSS (DX)(BX*4), Z1
	VFMADD231PS  (R10), Z1, Z0
	ADDQ         R8, R10
	INCQ         BX
	CMPQ         BX, R9
	JNE          row
	ROUND(Z0, Z1)
	VMOVUPS      Z0, (DI)
	ADDQ         $64, SI
	ADDQ         $64, DI
	SUBQ         $16, CX
	JNZ          loop
	VZEROUPPER
	RET
