#include "textflag.h"
#include "neon_arm64.h"

// The loops of vectorLoops with Advanced SIMD: 4 elements at once, 16 a step, in
// the order that vector.go states. n is a positive multiple of 16.

// LOAD and STORE move 16 elements and step on.
#define LOAD16(p, a, b, c, d)  VLD1.P 64(p), [a.S4, b.S4, c.S4, d.S4]
#define STORE16(p, a, b, c, d) VST1.P [a.S4, b.S4, c.S4, d.S4], 64(p)

#define ROUND16 \
	ROUND(0, 16, 17); \
	ROUND(1, 18, 19); \
	ROUND(2, 16, 17); \
	ROUND(3, 18, 19)

// EXPTABLE loads expTable: low, high, log2e, ln2, shift and one to V6 to V11, the
// coefficients to V12 to V19.
#define EXPTABLE \
	MOVD    $·expTable(SB), R9; \
	VLD1R.P 8(R9), [V6.D2];     \
	VLD1R.P 8(R9), [V7.D2];     \
	VLD1R.P 8(R9), [V8.D2];     \
	VLD1R.P 8(R9), [V9.D2];     \
	VLD1R.P 8(R9), [V10.D2];    \
	VLD1R.P 8(R9), [V11.D2];    \
	VLD1R.P 8(R9), [V12.D2];    \
	VLD1R.P 8(R9), [V13.D2];    \
	VLD1R.P 8(R9), [V14.D2];    \
	VLD1R.P 8(R9), [V15.D2];    \
	VLD1R.P 8(R9), [V16.D2];    \
	VLD1R.P 8(R9), [V17.D2];    \
	VLD1R.P 8(R9), [V18.D2];    \
	VLD1R   (R9), [V19.D2]

// STEP sets p = p·x + c. The product comes last in FMLA, so c is moved first,
// and the polynomial changes its register.
#define STEP(c, p, q) \
	MOVV(c, q);       \
	FMLA2D(0, p, q);  \
	MOVV(c, q+1);     \
	FMLA2D(1, p+1, q+1)

// EXP sets V2 and V3 to exp64 of V0 and V1, by way of V4 and V5.
#define EXP \
	FMAX2D(6, 0, 0);  \
	FMAX2D(6, 1, 1);  \
	FMIN2D(7, 0, 0);  \
	FMIN2D(7, 1, 1);  \
	MOVV(10, 26);     \
	MOVV(10, 27);     \
	FMLA2D(8, 0, 26); \
	FMLA2D(8, 1, 27); \
	FSUB2D(10, 26, 2); \
	FSUB2D(10, 27, 3); \
	FMLS2D(9, 2, 0);  \
	FMLS2D(9, 3, 1);  \
	MOVV(18, 2);      \
	MOVV(18, 3);      \
	FMLA2D(0, 19, 2); \
	FMLA2D(1, 19, 3); \
	STEP(17, 2, 4);   \
	STEP(16, 4, 2);   \
	STEP(15, 2, 4);   \
	STEP(14, 4, 2);   \
	STEP(13, 2, 4);   \
	STEP(12, 4, 2);   \
	STEP(11, 2, 4);   \
	STEP(11, 4, 2);   \
	SHL2D52(26, 26);  \
	SHL2D52(27, 27);  \
	ADD2D(26, 2, 2);  \
	ADD2D(27, 3, 3)

// EXP4 sets 4 elements of y to exp(x − top), and adds them to lanes a and b. V28
// is top.
#define EXP4(a, b) \
	VLD1.P 16(R1), [V4.S4]; \
	FSUB4S(28, 4, 4);       \
	FCVTL(4, 0);            \
	FCVTL2(4, 1);           \
	EXP;                    \
	FCVTN(2, 4);            \
	FCVTN2(3, 4);           \
	VST1.P [V4.S4], 16(R0); \
	FCVTL(4, 2);            \
	FCVTL2(4, 3);           \
	FADD2D(2, a, a);        \
	FADD2D(3, b, b)

// SHARE sets 4 elements, in register v, to v·V4 by way of float64.
#define SHARE(v) \
	FCVTL2(v, 17);    \
	FCVTL(v, 16);     \
	FMUL2D(4, 16, 16); \
	FMUL2D(4, 17, 17); \
	FCVTN(16, v);     \
	FCVTN2(17, v)

// func roundNEON(y, x *float32, n int, r *rounding)
TEXT ·roundNEON(SB), NOSPLIT, $0-32
	MOVD y+0(FP), R0
	MOVD x+8(FP), R1
	MOVD n+16(FP), R3
	MOVD r+24(FP), R4
	ROUNDING(R4)

loop:
	LOAD16(R1, V0, V1, V2, V3)
	ROUND16
	STORE16(R0, V0, V1, V2, V3)
	SUBS $16, R3, R3
	BNE  loop
	RET

// func addNEON(y, a, b *float32, n int, r *rounding)
TEXT ·addNEON(SB), NOSPLIT, $0-40
	MOVD y+0(FP), R0
	MOVD a+8(FP), R1
	MOVD b+16(FP), R2
	MOVD n+24(FP), R3
	MOVD r+32(FP), R4
	ROUNDING(R4)

loop:
	LOAD16(R1, V0, V1, V2, V3)
	LOAD16(R2, V4, V5, V6, V7)
	FADD4S(4, 0, 0)
	FADD4S(5, 1, 1)
	FADD4S(6, 2, 2)
	FADD4S(7, 3, 3)
	ROUND16
	STORE16(R0, V0, V1, V2, V3)
	SUBS $16, R3, R3
	BNE  loop
	RET

// func roundAddNEON(y, a, b *float32, n int, r *rounding)
TEXT ·roundAddNEON(SB), NOSPLIT, $0-40
	MOVD y+0(FP), R0
	MOVD a+8(FP), R1
	MOVD b+16(FP), R2
	MOVD n+24(FP), R3
	MOVD r+32(FP), R4
	ROUNDING(R4)

loop:
	LOAD16(R1, V0, V1, V2, V3)
	LOAD16(R2, V4, V5, V6, V7)
	ROUND16
	FADD4S(4, 0, 0)
	FADD4S(5, 1, 1)
	FADD4S(6, 2, 2)
	FADD4S(7, 3, 3)
	ROUND16
	STORE16(R0, V0, V1, V2, V3)
	SUBS $16, R3, R3
	BNE  loop
	RET

// func squaresNEON(x *float32, n int) (l lanes)
TEXT ·squaresNEON(SB), NOSPLIT, $0-144
	MOVD x+0(FP), R1
	MOVD n+8(FP), R3
	MOVD $l+16(FP), R0
	ZERO(16)
	ZERO(17)
	ZERO(18)
	ZERO(19)
	ZERO(20)
	ZERO(21)
	ZERO(22)
	ZERO(23)

loop:
	LOAD16(R1, V0, V1, V2, V3)
	FCVTL(0, 4)
	FCVTL2(0, 5)
	FCVTL(1, 6)
	FCVTL2(1, 7)
	FMLA2D(4, 4, 16)
	FMLA2D(5, 5, 17)
	FMLA2D(6, 6, 18)
	FMLA2D(7, 7, 19)
	FCVTL(2, 4)
	FCVTL2(2, 5)
	FCVTL(3, 6)
	FCVTL2(3, 7)
	FMLA2D(4, 4, 20)
	FMLA2D(5, 5, 21)
	FMLA2D(6, 6, 22)
	FMLA2D(7, 7, 23)
	SUBS $16, R3, R3
	BNE  loop
	VST1.P [V16.D2, V17.D2, V18.D2, V19.D2], 64(R0)
	VST1   [V20.D2, V21.D2, V22.D2, V23.D2], (R0)
	RET

// func scaleNEON(y, x, s *float32, f float32, n int, r *rounding)
TEXT ·scaleNEON(SB), NOSPLIT, $0-48
	MOVD  y+0(FP), R0
	MOVD  x+8(FP), R1
	MOVD  s+16(FP), R2
	FMOVS f+24(FP), F20
	VDUP  V20.S[0], V20.S4
	MOVD  n+32(FP), R3
	MOVD  r+40(FP), R4
	ROUNDING(R4)

loop:
	LOAD16(R1, V0, V1, V2, V3)
	LOAD16(R2, V4, V5, V6, V7)
	FMUL4S(20, 0, 0)
	FMUL4S(20, 1, 1)
	FMUL4S(20, 2, 2)
	FMUL4S(20, 3, 3)
	FMUL4S(4, 0, 0)
	FMUL4S(5, 1, 1)
	FMUL4S(6, 2, 2)
	FMUL4S(7, 3, 3)
	ROUND16
	STORE16(R0, V0, V1, V2, V3)
	SUBS $16, R3, R3
	BNE  loop
	RET

// func maxNEON(x *float32, n int, top float32) float32
TEXT ·maxNEON(SB), NOSPLIT, $0-28
	MOVD  x+0(FP), R1
	MOVD  n+8(FP), R3
	FMOVS top+16(FP), F4
	VDUP  V4.S[0], V4.S4

loop:
	LOAD16(R1, V0, V1, V2, V3)
	FMAXNM4S(1, 0, 0)
	FMAXNM4S(3, 2, 2)
	FMAXNM4S(2, 0, 0)
	FMAXNM4S(0, 4, 4)
	SUBS  $16, R3, R3
	BNE   loop
	FMAXNMV(4, 0)
	FMOVS F0, ret+24(FP)
	RET

// func expNEON(y, x *float32, n int, top float32) (l lanes)
TEXT ·expNEON(SB), NOSPLIT, $0-160
	MOVD  y+0(FP), R0
	MOVD  x+8(FP), R1
	MOVD  n+16(FP), R3
	FMOVS top+24(FP), F28
	VDUP  V28.S[0], V28.S4
	MOVD  $l+32(FP), R2
	EXPTABLE
	ZERO(20)
	ZERO(21)
	ZERO(22)
	ZERO(23)
	ZERO(24)
	ZERO(25)
	ZERO(29)
	ZERO(30)

loop:
	EXP4(20, 21)
	EXP4(22, 23)
	EXP4(24, 25)
	EXP4(29, 30)
	SUBS   $16, R3, R3
	BNE    loop
	VST1.P [V20.D2, V21.D2, V22.D2, V23.D2], 64(R2)
	VST1.P [V24.D2, V25.D2], 32(R2)
	VST1   [V29.D2, V30.D2], (R2)
	RET

// func shareNEON(y *float32, n int, f float64, r *rounding)
TEXT ·shareNEON(SB), NOSPLIT, $0-32
	MOVD  y+0(FP), R0
	MOVD  R0, R1
	MOVD  n+8(FP), R3
	FMOVD f+16(FP), F4
	VDUP  V4.D[0], V4.D2
	MOVD  r+24(FP), R4
	ROUNDING(R4)

loop:
	LOAD16(R1, V0, V1, V2, V3)
	SHARE(0)
	SHARE(1)
	SHARE(2)
	SHARE(3)
	ROUND16
	STORE16(R0, V0, V1, V2, V3)
	SUBS $16, R3, R3
	BNE  loop
	RET

// func rotateNEON(y, x, cos, sin *float32, n int, r *rounding)
TEXT ·rotateNEON(SB), NOSPLIT, $0-48
	MOVD y+0(FP), R0
	MOVD x+8(FP), R1
	MOVD cos+16(FP), R2
	MOVD sin+24(FP), R5
	MOVD n+32(FP), R3
	MOVD r+40(FP), R4
	ROUNDING(R4)
	ADD  R3<<2, R1, R6 // the second half of x
	ADD  R3<<2, R0, R7 // and of y

loop:
	VLD1.P 16(R1), [V4.S4]
	VLD1.P 16(R6), [V5.S4]
	VLD1.P 16(R2), [V6.S4]
	VLD1.P 16(R5), [V7.S4]
	FMUL4S(6, 4, 0)
	FMUL4S(7, 5, 1)
	FMUL4S(6, 5, 2)
	FMUL4S(7, 4, 3)
	ROUND16
	FSUB4S(1, 0, 0)
	FADD4S(3, 2, 1)
	ROUND(0, 16, 17)
	ROUND(1, 18, 19)
	VST1.P [V0.S4], 16(R0)
	VST1.P [V1.S4], 16(R7)
	SUBS   $4, R3, R3
	BNE    loop
	RET

// func swigluNEON(y, x *float32, n int, minusAlpha, limit float32, r *rounding)
TEXT ·swigluNEON(SB), NOSPLIT, $0-40
	MOVD  y+0(FP), R0
	MOVD  x+8(FP), R1
	MOVD  n+16(FP), R3
	FMOVS minusAlpha+24(FP), F20
	VDUP  V20.S[0], V20.S4
	FMOVS limit+28(FP), F21
	FNEGS F21, F22
	VDUP  V21.S[0], V21.S4
	VDUP  V22.S[0], V22.S4
	FMOVS $1.0, F23
	VDUP  V23.S[0], V23.S4
	MOVD  r+32(FP), R4
	ROUNDING(R4)
	EXPTABLE

loop:
	VLD2.P 32(R1), [V24.S4, V25.S4]
	FMIN4S(21, 24, 24) // g
	FMAX4S(22, 25, 25)
	FMIN4S(21, 25, 25) // l

	// σ(alpha·g)
	FMUL4S(20, 24, 4)
	ROUND(4, 26, 27)
	FCVTL(4, 0)
	FCVTL2(4, 1)
	EXP
	FADD2D(11, 2, 2)
	FADD2D(11, 3, 3)
	FDIV2D(2, 11, 2)
	FDIV2D(3, 11, 3)
	FCVTN(2, 4)
	FCVTN2(3, 4)
	ROUND(4, 26, 27)

	FMUL4S(4, 24, 24)
	ROUND(24, 26, 27)
	FADD4S(23, 25, 25)
	ROUND(25, 26, 27)
	FMUL4S(25, 24, 24)
	ROUND(24, 26, 27)
	VST1.P [V24.S4], 16(R0)
	SUBS   $4, R3, R3
	BNE    loop
	RET

// func mixNEON(y, x *float32, stride int, w *float32, k, n int, r *rounding)
TEXT ·mixNEON(SB), NOSPLIT, $0-56
	MOVD y+0(FP), R0
	MOVD x+8(FP), R1
	MOVD stride+16(FP), R5
	LSL  $2, R5
	MOVD w+24(FP), R2
	MOVD k+32(FP), R6
	MOVD n+40(FP), R3
	MOVD r+48(FP), R4
	ROUNDING(R4)

loop:
	ZERO(0)
	ZERO(1)
	ZERO(2)
	ZERO(3)
	MOVD R1, R7
	MOVD R2, R8
	MOVD R6, R9

row:
	VLD1    (R7), [V4.S4, V5.S4, V6.S4, V7.S4]
	FMOVS.P 4(R8), F20
	FMLA4S0(20, 4, 0)
	FMLA4S0(20, 5, 1)
	FMLA4S0(20, 6, 2)
	FMLA4S0(20, 7, 3)
	ADD     R5, R7
	SUBS    $1, R9, R9
	BNE     row
	ROUND16
	STORE16(R0, V0, V1, V2, V3)
	ADD     $64, R1
	SUBS    $16, R3, R3
	BNE     loop
	RET
