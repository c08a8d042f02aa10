#include "textflag.h"
#include "neon_arm64.h"

// Attention with Advanced SIMD: 4 queries, or 1, by 16 keys or columns. Lanes
// are keys, or columns of values, so that no sum crosses lanes.

// HALFKEYS and FULLKEYS load a pair of columns of 16 keys: the odd one to V16 to
// V19, the even one to V20 to V23. V28 is 0xffff0000.
#define HALFKEYS \
	VLD1 (R4), [V20.S4, V21.S4, V22.S4, V23.S4]; \
	ADD  $256, R4;   \
	ANDV(28, 20, 16); \
	ANDV(28, 21, 17); \
	ANDV(28, 22, 18); \
	ANDV(28, 23, 19); \
	SHL4S16(20, 20); \
	SHL4S16(21, 21); \
	SHL4S16(22, 22); \
	SHL4S16(23, 23)

#define FULLKEYS \
	VLD1 (R4), [V20.S4, V21.S4, V22.S4, V23.S4]; \
	ADD  $256, R4; \
	VLD1 (R4), [V16.S4, V17.S4, V18.S4, V19.S4]; \
	ADD  $256, R4

// QUERY adds a pair of a query's columns times 16 keys'.
#define QUERY(q, a) \
	FMLA4S1(q, 16, a);   \
	FMLA4S1(q, 17, a+1); \
	FMLA4S1(q, 18, a+2); \
	FMLA4S1(q, 19, a+3); \
	FMLA4S0(q, 20, a);   \
	FMLA4S0(q, 21, a+1); \
	FMLA4S0(q, 22, a+2); \
	FMLA4S0(q, 23, a+3)

// SCORE rounds sums, scales them, and rounds again.
#define SCORE(a) \
	ROUND(a, 16, 17);     \
	FMUL4S(24, a, a);     \
	ROUND(a, 16, 17);     \
	ROUND(a+1, 18, 19);   \
	FMUL4S(24, a+1, a+1); \
	ROUND(a+1, 18, 19);   \
	ROUND(a+2, 16, 17);   \
	FMUL4S(24, a+2, a+2); \
	ROUND(a+2, 16, 17);   \
	ROUND(a+3, 18, 19);   \
	FMUL4S(24, a+3, a+3); \
	ROUND(a+3, 18, 19)

#define ZERO4(a) \
	ZERO(a);   \
	ZERO(a+1); \
	ZERO(a+2); \
	ZERO(a+3)

// HIGH sets V28 to 0xffff0000.
#define HIGH \
	MOVW $-65536, R9;  \
	VDUP R9, V28.S4

#define SCORES4(KEYS) \
	MOVD  dst+0(FP), R0;    \
	MOVD  stride+8(FP), R5; \
	LSL   $2, R5;           \
	MOVD  q+16(FP), R1;     \
	MOVD  dim+24(FP), R3;   \
	MOVD  keys+32(FP), R4;  \
	ADD   R3<<2, R1, R6;    \
	ADD   R3<<2, R6, R7;    \
	ADD   R3<<2, R7, R8;    \
	HIGH;                   \
	ZERO4(0);               \
	ZERO4(4);               \
	ZERO4(8);               \
	ZERO4(12);              \
pair:                       \
	KEYS;                   \
	FMOVD.P 8(R1), F24;     \
	FMOVD.P 8(R6), F25;     \
	FMOVD.P 8(R7), F26;     \
	FMOVD.P 8(R8), F27;     \
	QUERY(24, 0);           \
	QUERY(25, 4);           \
	QUERY(26, 8);           \
	QUERY(27, 12);          \
	SUBS  $2, R3, R3;       \
	BNE   pair;             \
	FMOVS scale+40(FP), F24; \
	VDUP  V24.S[0], V24.S4; \
	MOVD  r+48(FP), R9;     \
	ROUNDING(R9);           \
	SCORE(0);               \
	SCORE(4);               \
	SCORE(8);               \
	SCORE(12);              \
	VST1  [V0.S4, V1.S4, V2.S4, V3.S4], (R0); \
	ADD   R5, R0;           \
	VST1  [V4.S4, V5.S4, V6.S4, V7.S4], (R0); \
	ADD   R5, R0;           \
	VST1  [V8.S4, V9.S4, V10.S4, V11.S4], (R0); \
	ADD   R5, R0;           \
	VST1  [V12.S4, V13.S4, V14.S4, V15.S4], (R0); \
	RET

#define SCORES1(KEYS) \
	MOVD  dst+0(FP), R0;    \
	MOVD  q+16(FP), R1;     \
	MOVD  dim+24(FP), R3;   \
	MOVD  keys+32(FP), R4;  \
	HIGH;                   \
	ZERO4(0);               \
pair:                       \
	KEYS;                   \
	FMOVD.P 8(R1), F24;     \
	QUERY(24, 0);           \
	SUBS  $2, R3, R3;       \
	BNE   pair;             \
	FMOVS scale+40(FP), F24; \
	VDUP  V24.S[0], V24.S4; \
	MOVD  r+48(FP), R9;     \
	ROUNDING(R9);           \
	SCORE(0);               \
	VST1  [V0.S4, V1.S4, V2.S4, V3.S4], (R0); \
	RET

// HALFVALUES and FULLVALUES load 16 columns of a value.
#define HALFVALUES \
	VLD1 (R4), [V20.H8, V21.H8]; \
	SHLL(20, 16);  \
	SHLL2(20, 17); \
	SHLL(21, 18);  \
	SHLL2(21, 19)

#define FULLVALUES \
	VLD1 (R4), [V16.S4, V17.S4, V18.S4, V19.S4]

// WEIGHT adds the value times a weight.
#define WEIGHT(w, a) \
	FMLA4S0(w, 16, a);   \
	FMLA4S0(w, 17, a+1); \
	FMLA4S0(w, 18, a+2); \
	FMLA4S0(w, 19, a+3)

// SUM adds a page's sum to the result of 16 columns, and steps to the next query.
#define SUM(a, v0, v1, v2, v3) \
	VLD1 (R0), [V20.S4, V21.S4, V22.S4, V23.S4]; \
	FADD4S(a, 20, a);     \
	FADD4S(a+1, 21, a+1); \
	FADD4S(a+2, 22, a+2); \
	FADD4S(a+3, 23, a+3); \
	VST1 [v0.S4, v1.S4, v2.S4, v3.S4], (R0); \
	ADD  R10, R0

#define VALUES4(VALUES, SHIFT) \
	MOVD y+0(FP), R0;       \
	MOVD dim+8(FP), R10;    \
	MOVD w+16(FP), R1;      \
	MOVD stride+24(FP), R5; \
	MOVD values+32(FP), R4; \
	MOVD n+40(FP), R3;      \
	LSL  $SHIFT, R10, R11;  \
	LSL  $2, R10;           \
	ADD  R5<<2, R1, R6;     \
	ADD  R5<<2, R6, R7;     \
	ADD  R5<<2, R7, R8;     \
	ZERO4(0);               \
	ZERO4(4);               \
	ZERO4(8);               \
	ZERO4(12);              \
position:                   \
	VALUES;                 \
	ADD  R11, R4;           \
	FMOVS.P 4(R1), F24;     \
	FMOVS.P 4(R6), F25;     \
	FMOVS.P 4(R7), F26;     \
	FMOVS.P 4(R8), F27;     \
	WEIGHT(24, 0);          \
	WEIGHT(25, 4);          \
	WEIGHT(26, 8);          \
	WEIGHT(27, 12);         \
	SUBS $1, R3, R3;        \
	BNE  position;          \
	SUM(0, V0, V1, V2, V3);    \
	SUM(4, V4, V5, V6, V7);    \
	SUM(8, V8, V9, V10, V11);  \
	SUM(12, V12, V13, V14, V15); \
	RET

#define VALUES1(VALUES, SHIFT) \
	MOVD y+0(FP), R0;       \
	MOVD dim+8(FP), R10;    \
	MOVD w+16(FP), R1;      \
	MOVD values+32(FP), R4; \
	MOVD n+40(FP), R3;      \
	LSL  $SHIFT, R10, R11;  \
	LSL  $2, R10;           \
	ZERO4(0);               \
position:                   \
	VALUES;                 \
	ADD  R11, R4;           \
	FMOVS.P 4(R1), F24;     \
	WEIGHT(24, 0);          \
	SUBS $1, R3, R3;        \
	BNE  position;          \
	SUM(0, V0, V1, V2, V3); \
	RET

// func scores4HalfNEON(dst *float32, stride int, q *float32, dim int, keys *uint16, scale float32, r *rounding)
TEXT ·scores4HalfNEON(SB), NOSPLIT, $0-56
	SCORES4(HALFKEYS)

// func scores4FullNEON(dst *float32, stride int, q *float32, dim int, keys *float32, scale float32, r *rounding)
TEXT ·scores4FullNEON(SB), NOSPLIT, $0-56
	SCORES4(FULLKEYS)

// func scores1HalfNEON(dst *float32, stride int, q *float32, dim int, keys *uint16, scale float32, r *rounding)
TEXT ·scores1HalfNEON(SB), NOSPLIT, $0-56
	SCORES1(HALFKEYS)

// func scores1FullNEON(dst *float32, stride int, q *float32, dim int, keys *float32, scale float32, r *rounding)
TEXT ·scores1FullNEON(SB), NOSPLIT, $0-56
	SCORES1(FULLKEYS)

// func values4HalfNEON(y *float32, dim int, w *float32, stride int, values *uint16, n int)
TEXT ·values4HalfNEON(SB), NOSPLIT, $0-48
	VALUES4(HALFVALUES, 1)

// func values4FullNEON(y *float32, dim int, w *float32, stride int, values *float32, n int)
TEXT ·values4FullNEON(SB), NOSPLIT, $0-48
	VALUES4(FULLVALUES, 2)

// func values1HalfNEON(y *float32, dim int, w *float32, stride int, values *uint16, n int)
TEXT ·values1HalfNEON(SB), NOSPLIT, $0-48
	VALUES1(HALFVALUES, 1)

// func values1FullNEON(y *float32, dim int, w *float32, stride int, values *float32, n int)
TEXT ·values1FullNEON(SB), NOSPLIT, $0-48
	VALUES1(FULLVALUES, 2)
