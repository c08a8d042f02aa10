#include "textflag.h"
#include "neon_arm64.h"

// FOUR adds the products of 64 unsigned weights in V4 to V7 and limbs in registers
// a to d to the four sums of s. Words of V24 and V25 hold four products: 63·128·4
// at most.
#define FOUR(a, b, c, d, s) \
	SMULL(a, 4, 24);  \
	SMULL(c, 6, 25);  \
	SMLAL2(a, 4, 24); \
	SMLAL2(c, 6, 25); \
	SMLAL(b, 5, 24);  \
	SMLAL(d, 7, 25);  \
	SMLAL2(b, 5, 24); \
	SMLAL2(d, 7, 25); \
	SADALP(24, s);    \
	SADALP(25, s)

// func int6NEON(sums *[2]int32, w *byte, limbs *int8, rows, groups int)
TEXT ·int6NEON(SB), NOSPLIT, $0-40
	MOVD sums+0(FP), R0
	MOVD w+8(FP), R1
	MOVD limbs+16(FP), R6
	MOVD rows+24(FP), R7
	MOVD groups+32(FP), R8
	MOVD $0x0f, R5
	VDUP R5, V28.B16
	MOVD $0x30, R5
	VDUP R5, V29.B16

row:
	MOVD R6, R2
	ADD  R8<<6, R6, R4 // the low limbs
	MOVD R8, R3
	ZERO(0)
	ZERO(1)

loop:
	VLD1.P 48(R1), [V8.B16, V9.B16, V10.B16]
	VLD1.P 64(R2), [V16.B16, V17.B16, V18.B16, V19.B16]
	VLD1.P 64(R4), [V20.B16, V21.B16, V22.B16, V23.B16]
	VUSHR  $4, V8.B16, V6.B16
	VUSHR  $4, V9.B16, V7.B16
	VAND   V28.B16, V8.B16, V4.B16
	VAND   V28.B16, V9.B16, V5.B16
	VSHL   $4, V10.B16, V8.B16
	VSHL   $2, V10.B16, V9.B16
	VUSHR  $2, V10.B16, V11.B16
	VAND   V29.B16, V8.B16, V8.B16
	VAND   V29.B16, V9.B16, V9.B16
	VAND   V29.B16, V10.B16, V10.B16
	VAND   V29.B16, V11.B16, V11.B16
	VORR   V8.B16, V4.B16, V4.B16
	VORR   V9.B16, V5.B16, V5.B16
	VORR   V10.B16, V6.B16, V6.B16
	VORR   V11.B16, V7.B16, V7.B16
	FOUR(16, 17, 18, 19, 0)
	FOUR(20, 21, 22, 23, 1)
	SUBS   $1, R3, R3
	BNE    loop
	ADDV4S(0, 0)
	ADDV4S(1, 1)
	FMOVS.P F0, 4(R0)
	FMOVS.P F1, 4(R0)
	SUBS    $1, R7, R7
	BNE     row
	RET

// func readNEON(b *byte, n int) uint64
TEXT ·readNEON(SB), NOSPLIT, $0-24
	MOVD b+0(FP), R1
	MOVD n+8(FP), R3
	ZERO(0)
	ZERO(1)
	ZERO(2)
	ZERO(3)

loop:
	VLD1.P 64(R1), [V4.B16, V5.B16, V6.B16, V7.B16]
	VLD1.P 64(R1), [V16.B16, V17.B16, V18.B16, V19.B16]
	VLD1.P 64(R1), [V20.B16, V21.B16, V22.B16, V23.B16]
	VLD1.P 64(R1), [V24.B16, V25.B16, V26.B16, V27.B16]
	VEOR   V4.B16, V0.B16, V0.B16
	VEOR   V5.B16, V1.B16, V1.B16
	VEOR   V6.B16, V2.B16, V2.B16
	VEOR   V7.B16, V3.B16, V3.B16
	VEOR   V16.B16, V0.B16, V0.B16
	VEOR   V17.B16, V1.B16, V1.B16
	VEOR   V18.B16, V2.B16, V2.B16
	VEOR   V19.B16, V3.B16, V3.B16
	VEOR   V20.B16, V0.B16, V0.B16
	VEOR   V21.B16, V1.B16, V1.B16
	VEOR   V22.B16, V2.B16, V2.B16
	VEOR   V23.B16, V3.B16, V3.B16
	VEOR   V24.B16, V0.B16, V0.B16
	VEOR   V25.B16, V1.B16, V1.B16
	VEOR   V26.B16, V2.B16, V2.B16
	VEOR   V27.B16, V3.B16, V3.B16
	SUBS   $256, R3, R3
	BNE    loop
	VEOR   V1.B16, V0.B16, V0.B16
	VEOR   V3.B16, V2.B16, V2.B16
	VEOR   V2.B16, V0.B16, V0.B16
	VMOV   V0.D[0], R1
	VMOV   V0.D[1], R2
	EOR    R1, R2, R2
	MOVD   R2, ret+16(FP)
	RET
