#include "textflag.h"
#include "neon_arm64.h"

// The products of matrix.go with Advanced SIMD. A chunk of 128 columns has 16
// parts: for each accumulator n the lanes 4·q to 4·q+3, a word for the odd and
// one for the even column of each. Part 4·n+q lies in the run of that number.

// HIGHHALF sets V28 to 0xffff0000.
#define HIGHHALF \
	MOVW $-65536, R9; \
	VDUP R9, V28.S4

// BF16GROUP loads a group of weights to V16 to V19.
#define BF16GROUP \
	VLD1.P 64(R1), [V16.S4, V17.S4, V18.S4, V19.S4]

// BF16PART sets V20 and V21 to the odd and even weights of v.
#define BF16PART(v) \
	ANDV(28, v, 20); \
	SHL4S16(v, 21)

// MXFP4TABLES loads the bytes of the 16 values as bfloat16, the high ones to V28,
// the low ones to V29, and 15 to V30.
DATA e2m1<>+0(SB)/8, $0x404040403f3f3f00
DATA e2m1<>+8(SB)/8, $0xc0c0c0c0bfbfbf00
DATA e2m1<>+16(SB)/8, $0xc0804000c0800000
DATA e2m1<>+24(SB)/8, $0xc0804000c0800000
DATA e2m1<>+32(SB)/8, $0x0f0f0f0f0f0f0f0f
DATA e2m1<>+40(SB)/8, $0x0f0f0f0f0f0f0f0f
GLOBL e2m1<>(SB), RODATA|NOPTR, $48

#define MXFP4TABLES \
	MOVD $e2m1<>(SB), R9; \
	VLD1 (R9), [V28.B16, V29.B16, V30.B16]

// MXFP4BLOCK decodes a block of 32 codes, that is four lanes of all accumulators,
// without its scale: code 0 of each word to the lower half of V20 (odd words)
// and V21 (even), code 2 to their upper half; codes 1 and 3 to V22 and V23. V27
// is the scale. A scale byte of 0 is 2^-127, subnormal.
#define MXFP4BLOCK \
	VLD1.P 16(R1), [V16.B16];         \
	MOVBU.P 1(R2), R9;                \
	LSL    $23, R9, R10;              \
	MOVD   $0x400000, R11;            \
	CMP    $0, R9;                    \
	CSEL   EQ, R11, R10, R10;         \
	VDUP   R10, V27.S4;               \
	VUSHR  $4, V16.B16, V17.B16;      \
	VAND   V30.B16, V16.B16, V16.B16; \
	VTBL   V16.B16, [V28.B16], V18.B16; \
	VTBL   V16.B16, [V29.B16], V19.B16; \
	VTBL   V17.B16, [V28.B16], V16.B16; \
	VTBL   V17.B16, [V29.B16], V17.B16; \
	VZIP1  V18.B16, V19.B16, V24.B16; \
	VZIP2  V18.B16, V19.B16, V25.B16; \
	VUZP2  V25.S4, V24.S4, V20.S4;    \
	VUZP1  V25.S4, V24.S4, V21.S4;    \
	VZIP1  V16.B16, V17.B16, V24.B16; \
	VZIP2  V16.B16, V17.B16, V25.B16; \
	VUZP2  V25.S4, V24.S4, V22.S4;    \
	VUZP1  V25.S4, V24.S4, V23.S4

// LOWER and UPPER set V24 and V25 to the odd and even weights from the halves of
// odd and even. V31 is 0xffff0000.
#define LOWER(odd, even) \
	SHL4S16(odd, 24);   \
	SHL4S16(even, 25);  \
	FMUL4S(27, 24, 24); \
	FMUL4S(27, 25, 25)

#define UPPER(odd, even) \
	ANDV(31, odd, 24);   \
	ANDV(31, even, 25);  \
	FMUL4S(27, 24, 24); \
	FMUL4S(27, 25, 25)

// ADDPART adds the products of odd and even weights with a part of x at p, and
// steps to the part that lies by further.
#define ADDPART(odd, even, p, by, a) \
	VLD1 (p), [V16.S4, V17.S4]; \
	ADD  by, p;                 \
	FMLA4S(16, odd, a);         \
	FMLA4S(17, even, a)

#define ZERO16 \
	ZERO(0);  \
	ZERO(1);  \
	ZERO(2);  \
	ZERO(3);  \
	ZERO(4);  \
	ZERO(5);  \
	ZERO(6);  \
	ZERO(7);  \
	ZERO(8);  \
	ZERO(9);  \
	ZERO(10); \
	ZERO(11); \
	ZERO(12); \
	ZERO(13); \
	ZERO(14); \
	ZERO(15)

// REDUCE adds the lanes 0 to 15 in V0 to V3, to lane 0 of V0.
#define REDUCE \
	FADD4S(2, 0, 0);                       \
	FADD4S(3, 1, 1);                       \
	FADD4S(1, 0, 0);                       \
	VEXT $8, V0.B16, V0.B16, V1.B16;       \
	FADD4S(1, 0, 0);                       \
	VEXT $4, V0.B16, V0.B16, V1.B16;       \
	FADD4S(1, 0, 0)

// ACCUMULATORS adds those of V0 to V15 to the first.
#define ACCUMULATORS \
	FADD4S(4, 0, 0);  \
	FADD4S(5, 1, 1);  \
	FADD4S(6, 2, 2);  \
	FADD4S(7, 3, 3);  \
	FADD4S(8, 0, 0);  \
	FADD4S(9, 1, 1);  \
	FADD4S(10, 2, 2); \
	FADD4S(11, 3, 3); \
	FADD4S(12, 0, 0); \
	FADD4S(13, 1, 1); \
	FADD4S(14, 2, 2); \
	FADD4S(15, 3, 3)

// DOTGROUP adds a group of weights, of the accumulator from register a.
#define DOTGROUP(a) \
	BF16GROUP;                      \
	BF16PART(16);                   \
	VLD1 (R5), [V22.S4, V23.S4];    \
	ADD  R6, R5;                    \
	FMLA4S(22, 20, a);              \
	FMLA4S(23, 21, a);              \
	BF16PART(17);                   \
	VLD1 (R5), [V22.S4, V23.S4];    \
	ADD  R6, R5;                    \
	FMLA4S(22, 20, a+1);            \
	FMLA4S(23, 21, a+1);            \
	BF16PART(18);                   \
	VLD1 (R5), [V22.S4, V23.S4];    \
	ADD  R6, R5;                    \
	FMLA4S(22, 20, a+2);            \
	FMLA4S(23, 21, a+2);            \
	BF16PART(19);                   \
	VLD1 (R5), [V22.S4, V23.S4];    \
	ADD  R6, R5;                    \
	FMLA4S(22, 20, a+3);            \
	FMLA4S(23, 21, a+3)

// DOTBLOCK adds a block of weights: the lanes q of all accumulators.
#define DOTBLOCK(q) \
	MXFP4BLOCK;                         \
	LOWER(20, 21);                      \
	ADDPART(24, 25, R5, R6, 0+q);       \
	LOWER(22, 23);                      \
	ADDPART(24, 25, R12, R6, 4+q);      \
	UPPER(20, 21);                      \
	ADDPART(24, 25, R13, R6, 8+q);      \
	UPPER(22, 23);                      \
	ADDPART(24, 25, R14, R6, 12+q)

// PANELGROUP and PANELBLOCK write weights instead; runs lie R6 apart.
#define PANELGROUP \
	BF16GROUP;                      \
	BF16PART(16);                   \
	VST1 [V20.S4, V21.S4], (R5);    \
	ADD  R6, R5;                    \
	BF16PART(17);                   \
	VST1 [V20.S4, V21.S4], (R5);    \
	ADD  R6, R5;                    \
	BF16PART(18);                   \
	VST1 [V20.S4, V21.S4], (R5);    \
	ADD  R6, R5;                    \
	BF16PART(19);                   \
	VST1 [V20.S4, V21.S4], (R5);    \
	ADD  R6, R5

#define PANELBLOCK \
	MXFP4BLOCK;                      \
	LOWER(20, 21);                   \
	VST1 [V24.S4, V25.S4], (R5);     \
	ADD  R6, R5;                     \
	LOWER(22, 23);                   \
	VST1 [V24.S4, V25.S4], (R12);    \
	ADD  R6, R12;                    \
	UPPER(20, 21);                   \
	VST1 [V24.S4, V25.S4], (R13);    \
	ADD  R6, R13;                    \
	UPPER(22, 23);                   \
	VST1 [V24.S4, V25.S4], (R14);    \
	ADD  R6, R14

// func dotBF16NEON(data *byte, whole int, tail *byte, x *float32, steps int) float32
TEXT ·dotBF16NEON(SB), NOSPLIT, $0-44
	MOVD data+0(FP), R1
	MOVD whole+8(FP), R3
	MOVD tail+16(FP), R4
	MOVD x+24(FP), R7
	MOVD steps+32(FP), R6
	LSL  $5, R6 // bytes of a run of x
	HIGHHALF
	ZERO16
	CBZ  R3, last

step:
	MOVD R7, R5
	DOTGROUP(0)
	DOTGROUP(4)
	DOTGROUP(8)
	DOTGROUP(12)
	ADD  $32, R7
	SUBS $1, R3, R3
	BNE  step

last:
	CBZ  R4, done
	MOVD R4, R1
	MOVD ZR, R4
	MOVD $1, R3
	B    step

done:
	ACCUMULATORS
	REDUCE
	FMOVS F0, ret+40(FP)
	RET

// func dotMXFP4NEON(data, scales *byte, whole int, tail, tailScales *byte, x *float32, steps int) float32
TEXT ·dotMXFP4NEON(SB), NOSPLIT, $0-60
	MOVD data+0(FP), R1
	MOVD scales+8(FP), R2
	MOVD whole+16(FP), R3
	MOVD tail+24(FP), R4
	MOVD x+40(FP), R7
	MOVD steps+48(FP), R6
	LSL  $5, R6
	MXFP4TABLES
	MOVW $-65536, R9
	VDUP R9, V31.S4
	ZERO16
	CBZ  R3, last

step:
	MOVD R7, R5
	ADD  R6<<2, R5, R12
	ADD  R6<<2, R12, R13
	ADD  R6<<2, R13, R14
	DOTBLOCK(0)
	DOTBLOCK(1)
	DOTBLOCK(2)
	DOTBLOCK(3)
	ADD  $32, R7
	SUBS $1, R3, R3
	BNE  step

last:
	CBZ  R4, done
	MOVD R4, R1
	MOVD tailScales+32(FP), R2
	MOVD ZR, R4
	MOVD $1, R3
	B    step

done:
	ACCUMULATORS
	REDUCE
	FMOVS F0, ret+56(FP)
	RET

// func panelBF16NEON(dst *float32, data *byte, whole int, tail *byte, steps int)
TEXT ·panelBF16NEON(SB), NOSPLIT, $0-40
	MOVD dst+0(FP), R7
	MOVD data+8(FP), R1
	MOVD whole+16(FP), R3
	MOVD tail+24(FP), R4
	MOVD steps+32(FP), R6
	LSL  $7, R6 // bytes of a run of a panel
	HIGHHALF
	CBZ  R3, last

step:
	MOVD R7, R5
	PANELGROUP
	PANELGROUP
	PANELGROUP
	PANELGROUP
	ADD  $128, R7
	SUBS $1, R3, R3
	BNE  step

last:
	CBZ  R4, done
	MOVD R4, R1
	MOVD ZR, R4
	MOVD $1, R3
	B    step

done:
	RET

// func panelMXFP4NEON(dst *float32, data, scales *byte, whole int, tail, tailScales *byte, steps int)
TEXT ·panelMXFP4NEON(SB), NOSPLIT, $0-56
	MOVD dst+0(FP), R7
	MOVD data+8(FP), R1
	MOVD scales+16(FP), R2
	MOVD whole+24(FP), R3
	MOVD tail+32(FP), R4
	MOVD steps+48(FP), R6
	LSL  $7, R6
	MXFP4TABLES
	MOVW $-65536, R9
	VDUP R9, V31.S4
	CBZ  R3, last

step:
	MOVD R7, R5
	ADD  R6<<2, R5, R12
	ADD  R6<<2, R12, R13
	ADD  R6<<2, R13, R14
	PANELBLOCK
	PANELBLOCK
	PANELBLOCK
	PANELBLOCK
	ADD  $128, R7
	SUBS $1, R3, R3
	BNE  step

last:
	CBZ  R4, done
	MOVD R4, R1
	MOVD tailScales+40(FP), R2
	MOVD ZR, R4
	MOVD $1, R3
	B    step

done:
	RET

// TILEROW adds the products of a row of w with four of x: odd in register w, even
// in w+1.
#define TILEROW(w, a) \
	FMLA4S(16, w, a);     \
	FMLA4S(18, w, a+4);   \
	FMLA4S(20, w, a+8);   \
	FMLA4S(22, w, a+12);  \
	FMLA4S(17, w+1, a);   \
	FMLA4S(19, w+1, a+4); \
	FMLA4S(21, w+1, a+8); \
	FMLA4S(23, w+1, a+12)

// TILESUM adds accumulators to the sums at R10.
#define TILESUM(a, v0, v1, v2, v3) \
	VLD1 (R10), [V16.S4, V17.S4, V18.S4, V19.S4]; \
	FADD4S(16, a, a);     \
	FADD4S(17, a+1, a+1); \
	FADD4S(18, a+2, a+2); \
	FADD4S(19, a+3, a+3); \
	VST1.P [v0.S4, v1.S4, v2.S4, v3.S4], 64(R10)

// func tileNEON(panel, x *float32, xoff *[tileRows]int, steps int, sums *[panelRows * tileRows * 16]float32, y *[tileRows * panelRows]float32)
TEXT ·tileNEON(SB), NOSPLIT, $0-48
	MOVD panel+0(FP), R1
	MOVD x+8(FP), R2
	MOVD xoff+16(FP), R3
	MOVD (R3), R4
	MOVD 8(R3), R5
	MOVD 16(R3), R6
	MOVD 24(R3), R7
	ADD  R2, R4
	ADD  R2, R5
	ADD  R2, R6
	ADD  R2, R7
	MOVD steps+24(FP), R8
	MOVD sums+32(FP), R9
	MOVD $0, R11 // the run

run:
	ZERO16
	MOVD R8, R12

step:
	VLD1.P 64(R1), [V24.S4, V25.S4, V26.S4, V27.S4]
	VLD1.P 64(R1), [V28.S4, V29.S4, V30.S4, V31.S4]
	VLD1.P 32(R4), [V16.S4, V17.S4]
	VLD1.P 32(R5), [V18.S4, V19.S4]
	VLD1.P 32(R6), [V20.S4, V21.S4]
	VLD1.P 32(R7), [V22.S4, V23.S4]
	TILEROW(24, 0)
	TILEROW(26, 1)
	TILEROW(28, 2)
	TILEROW(30, 3)
	SUBS   $1, R12, R12
	BNE    step

	// The sums are [4 lanes' quarters][4 rows of x][4 rows of w][4 lanes].
	AND  $3, R11, R10
	ADD  R10<<8, R9, R10
	CMP  $4, R11
	BGE  further
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R10)
	VST1.P [V4.S4, V5.S4, V6.S4, V7.S4], 64(R10)
	VST1.P [V8.S4, V9.S4, V10.S4, V11.S4], 64(R10)
	VST1.P [V12.S4, V13.S4, V14.S4, V15.S4], 64(R10)
	B    next

further:
	TILESUM(0, V0, V1, V2, V3)
	TILESUM(4, V4, V5, V6, V7)
	TILESUM(8, V8, V9, V10, V11)
	TILESUM(12, V12, V13, V14, V15)

next:
	ADD $1, R11
	CMP $16, R11
	BLT run

	MOVD y+40(FP), R0
	MOVD $16, R12

sum:
	ADD  $256, R9, R10
	ADD  $512, R9, R11
	ADD  $768, R9, R13
	VLD1.P 16(R9), [V0.S4]
	VLD1 (R10), [V1.S4]
	VLD1 (R11), [V2.S4]
	VLD1 (R13), [V3.S4]
	REDUCE
	FMOVS.P F0, 4(R0)
	SUBS $1, R12, R12
	BNE  sum
	RET

// PACKBF16 packs 8 columns.
#define PACKBF16 \
	VLD2.P 32(R1), [V2.S4, V3.S4]; \
	MOVV(3, 1);                    \
	ROUND(1, 16, 17);              \
	ROUND(2, 18, 19);              \
	VST1 [V1.S4, V2.S4], (R5);     \
	ADD  R6, R5

// func packBF16NEON(dst, x *float32, chunks, steps int, r *rounding)
TEXT ·packBF16NEON(SB), NOSPLIT, $0-40
	MOVD dst+0(FP), R7
	MOVD x+8(FP), R1
	MOVD chunks+16(FP), R3
	MOVD steps+24(FP), R6
	LSL  $5, R6
	MOVD r+32(FP), R4
	ROUNDING(R4)

step:
	MOVD R7, R5
	MOVD $16, R8

part:
	PACKBF16
	SUBS $1, R8, R8
	BNE  part
	ADD  $32, R7
	SUBS $1, R3, R3
	BNE  step
	RET

// PACKCODE packs code n of 8 words, those of 4 in register a, of 4 in b.
#define PACKCODE(a, b) \
	VUZP2 b.S4, a.S4, V8.S4;   \
	VUZP1 b.S4, a.S4, V9.S4;   \
	ROUND(8, 16, 17);          \
	ROUND(9, 18, 19);          \
	VST1  [V8.S4, V9.S4], (R9); \
	ADD   R6<<2, R9, R9

// func packMXFP4NEON(dst, x *float32, chunks, steps int, r *rounding)
TEXT ·packMXFP4NEON(SB), NOSPLIT, $0-40
	MOVD dst+0(FP), R7
	MOVD x+8(FP), R1
	MOVD chunks+16(FP), R3
	MOVD steps+24(FP), R6
	LSL  $5, R6
	MOVD r+32(FP), R4
	ROUNDING(R4)

step:
	MOVD R7, R5
	MOVD $4, R8

quarter:
	MOVD   R5, R9
	VLD4.P 64(R1), [V0.S4, V1.S4, V2.S4, V3.S4]
	VLD4.P 64(R1), [V4.S4, V5.S4, V6.S4, V7.S4]
	PACKCODE(V0, V4)
	PACKCODE(V1, V5)
	PACKCODE(V2, V6)
	PACKCODE(V3, V7)
	ADD    R6, R5
	SUBS   $1, R8, R8
	BNE    quarter
	ADD    $32, R7
	SUBS   $1, R3, R3
	BNE    step
	RET

// PLANE sets v to -1 in each byte whose bit is set in the two bytes at R1+from.
#define PLANE(v, from) \
	MOVHU from(R1), R9;                \
	VDUP  R9, v.H8;                    \
	VTBL  V30.B16, [v.B16], v.B16;     \
	VCMTST V31.B16, v.B16, v.B16

// UNPACK writes 16 positions from 16·k on, as eight columns at R5+16·k and eight
// at R5+16·k+64.
#define UNPACK(k) \
	PLANE(V0, 2*k);                    \
	PLANE(V1, 8+2*k);                  \
	PLANE(V2, 16+2*k);                 \
	VADD V0.B16, V29.B16, V3.B16;      \
	VADD V1.B16, V3.B16, V3.B16;       \
	VADD V1.B16, V3.B16, V3.B16;       \
	VAND V28.B16, V2.B16, V2.B16;      \
	VADD V2.B16, V3.B16, V3.B16;       \
	ADD  $(24+16*k), R1, R9;           \
	VLD1 (R9), [V4.B16];               \
	VZIP1 V3.B16, V4.B16, V5.B16;      \
	VZIP2 V3.B16, V4.B16, V6.B16;      \
	VUSHR $1, V5.H8, V7.H8;            \
	VUSHR $1, V6.H8, V16.H8;           \
	VSLI  $15, V5.H8, V7.H8;           \
	VSLI  $15, V6.H8, V16.H8;          \
	ADD  $(16*k), R5, R9;              \
	VST1 [V7.B16], (R9);               \
	ADD  $64, R9;                      \
	VST1 [V16.B16], (R9)

// func unpackNEON(dst, data, base *byte, rows, n int)
TEXT ·unpackNEON(SB), NOSPLIT, $0-40
	MOVD dst+0(FP), R7
	MOVD data+8(FP), R1
	MOVD base+16(FP), R2
	MOVD rows+24(FP), R4
	MOVD n+32(FP), R6
	MOVD $0x0101010101010101, R9
	VMOV ZR, V30.D[0]
	VMOV R9, V30.D[1]
	MOVD $0x8040201008040201, R9
	VDUP R9, V31.D2
	MOVD $0xfc, R9
	VDUP R9, V28.B16

row:
	MOVBU.P 1(R2), R9
	VDUP R9, V29.B16
	MOVD R7, R5
	ADD  R6<<1, R7, R7
	ADD  $63, R6, R3
	LSR  $6, R3, R3

unit:
	UNPACK(0)
	UNPACK(1)
	UNPACK(2)
	UNPACK(3)
	ADD  $88, R1
	ADD  $128, R5
	SUBS $1, R3, R3
	BNE  unit
	SUBS $1, R4, R4
	BNE  row
	RET
