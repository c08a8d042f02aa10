#include "textflag.h"
#include "rounding_avx2_amd64.h"

// Attention with AVX2 and FMA: 4 queries, or 1, by 16 keys or columns. Lanes
// are keys, or columns of values, so that no sum crosses lanes.

// HALFKEYS and FULLKEYS load a pair of columns of 16 keys: the odd one to Y8
// and Y9, the even one to Y10 and Y11. Y13 is 0xffff0000.
#define HALFKEYS \
	VMOVDQU (DX), Y10;     \
	VMOVDQU 32(DX), Y11;   \
	VPAND   Y13, Y10, Y8;  \
	VPAND   Y13, Y11, Y9;  \
	VPSLLD  $16, Y10, Y10; \
	VPSLLD  $16, Y11, Y11; \
	ADDQ    $256, DX

#define FULLKEYS \
	VMOVUPS (DX), Y10;    \
	VMOVUPS 32(DX), Y11;  \
	VMOVUPS 256(DX), Y8;  \
	VMOVUPS 288(DX), Y9;  \
	ADDQ    $512, DX

// QUERY adds a query's column times 16 keys' columns.
#define QUERY(q, k0, k1, a0, a1) \
	VBROADCASTSS q, Y12;      \
	VFMADD231PS  k0, Y12, a0; \
	VFMADD231PS  k1, Y12, a1

// SCORE rounds a sum, scales it, and rounds again.
#define SCORE(a) \
	ROUND(a, Y8, Y9);  \
	VMULPS Y10, a, a;  \
	ROUND(a, Y8, Y9)

#define SCORES4(KEYS) \
	MOVQ     dst+0(FP), DI;     \
	MOVQ     stride+8(FP), R10; \
	MOVQ     q+16(FP), SI;      \
	MOVQ     dim+24(FP), CX;    \
	MOVQ     keys+32(FP), DX;   \
	SHLQ     $2, R10;           \
	LEAQ     (R10)(R10*2), R11; \
	LEAQ     (CX*4), R8;        \
	LEAQ     (R8)(R8*2), R9;    \
	VPCMPEQD Y13, Y13, Y13;     \
	VPSLLD   $16, Y13, Y13;     \
	VPXOR    Y0, Y0, Y0;        \
	VPXOR    Y1, Y1, Y1;        \
	VPXOR    Y2, Y2, Y2;        \
	VPXOR    Y3, Y3, Y3;        \
	VPXOR    Y4, Y4, Y4;        \
	VPXOR    Y5, Y5, Y5;        \
	VPXOR    Y6, Y6, Y6;        \
	VPXOR    Y7, Y7, Y7;        \
pair:                           \
	KEYS;                       \
	QUERY(4(SI), Y8, Y9, Y0, Y1);         \
	QUERY(4(SI)(R8*1), Y8, Y9, Y2, Y3);   \
	QUERY(4(SI)(R8*2), Y8, Y9, Y4, Y5);   \
	QUERY(4(SI)(R9*1), Y8, Y9, Y6, Y7);   \
	QUERY((SI), Y10, Y11, Y0, Y1);        \
	QUERY((SI)(R8*1), Y10, Y11, Y2, Y3);  \
	QUERY((SI)(R8*2), Y10, Y11, Y4, Y5);  \
	QUERY((SI)(R9*1), Y10, Y11, Y6, Y7);  \
	ADDQ     $8, SI;            \
	SUBQ     $2, CX;            \
	JNZ      pair;              \
	VBROADCASTSS scale+40(FP), Y10; \
	MOVQ     r+48(FP), AX;      \
	ROUNDING(AX);               \
	SCORE(Y0);                  \
	SCORE(Y1);                  \
	SCORE(Y2);                  \
	SCORE(Y3);                  \
	SCORE(Y4);                  \
	SCORE(Y5);                  \
	SCORE(Y6);                  \
	SCORE(Y7);                  \
	VMOVUPS  Y0, (DI);          \
	VMOVUPS  Y1, 32(DI);        \
	VMOVUPS  Y2, (DI)(R10*1);   \
	VMOVUPS  Y3, 32(DI)(R10*1); \
	VMOVUPS  Y4, (DI)(R10*2);   \
	VMOVUPS  Y5, 32(DI)(R10*2); \
	VMOVUPS  Y6, (DI)(R11*1);   \
	VMOVUPS  Y7, 32(DI)(R11*1); \
	VZEROUPPER;                 \
	RET

#define SCORES1(KEYS) \
	MOVQ     dst+0(FP), DI;   \
	MOVQ     q+16(FP), SI;    \
	MOVQ     dim+24(FP), CX;  \
	MOVQ     keys+32(FP), DX; \
	VPCMPEQD Y13, Y13, Y13;   \
	VPSLLD   $16, Y13, Y13;   \
	VPXOR    Y0, Y0, Y0;      \
	VPXOR    Y1, Y1, Y1;      \
pair:                         \
	KEYS;                     \
	QUERY(4(SI), Y8, Y9, Y0, Y1);  \
	QUERY((SI), Y10, Y11, Y0, Y1); \
	ADDQ     $8, SI;          \
	SUBQ     $2, CX;          \
	JNZ      pair;            \
	VBROADCASTSS scale+40(FP), Y10; \
	MOVQ     r+48(FP), AX;    \
	ROUNDING(AX);             \
	SCORE(Y0);                \
	SCORE(Y1);                \
	VMOVUPS  Y0, (DI);        \
	VMOVUPS  Y1, 32(DI);      \
	VZEROUPPER;               \
	RET

// HALFVALUES and FULLVALUES load 16 columns of a value.
#define HALFVALUES \
	VPMOVZXWD (DX), Y8;    \
	VPMOVZXWD 16(DX), Y9;  \
	VPSLLD    $16, Y8, Y8; \
	VPSLLD    $16, Y9, Y9

#define FULLVALUES \
	VMOVUPS (DX), Y8;  \
	VMOVUPS 32(DX), Y9

// WEIGHT adds the value times a weight.
#define WEIGHT(w, a0, a1) \
	VBROADCASTSS w, Y12;      \
	VFMADD231PS  Y8, Y12, a0; \
	VFMADD231PS  Y9, Y12, a1

// SUM adds a page's sum to the result.
#define SUM(a0, a1, y0, y1) \
	VADDPS  y0, a0, a0; \
	VADDPS  y1, a1, a1; \
	VMOVUPS a0, y0;     \
	VMOVUPS a1, y1

#define VALUES4(VALUES, SHIFT) \
	MOVQ  y+0(FP), DI;        \
	MOVQ  dim+8(FP), R10;     \
	MOVQ  w+16(FP), SI;       \
	MOVQ  stride+24(FP), R8;  \
	MOVQ  values+32(FP), DX;  \
	MOVQ  n+40(FP), CX;       \
	MOVQ  R10, AX;            \
	SHLQ  $SHIFT, AX;         \
	SHLQ  $2, R10;            \
	LEAQ  (R10)(R10*2), R11;  \
	SHLQ  $2, R8;             \
	LEAQ  (R8)(R8*2), R9;     \
	VPXOR Y0, Y0, Y0;         \
	VPXOR Y1, Y1, Y1;         \
	VPXOR Y2, Y2, Y2;         \
	VPXOR Y3, Y3, Y3;         \
	VPXOR Y4, Y4, Y4;         \
	VPXOR Y5, Y5, Y5;         \
	VPXOR Y6, Y6, Y6;         \
	VPXOR Y7, Y7, Y7;         \
position:                     \
	VALUES;                   \
	WEIGHT((SI), Y0, Y1);         \
	WEIGHT((SI)(R8*1), Y2, Y3);   \
	WEIGHT((SI)(R8*2), Y4, Y5);   \
	WEIGHT((SI)(R9*1), Y6, Y7);   \
	ADDQ  AX, DX;             \
	ADDQ  $4, SI;             \
	DECQ  CX;                 \
	JNZ   position;           \
	SUM(Y0, Y1, (DI), 32(DI)); \
	SUM(Y2, Y3, (DI)(R10*1), 32(DI)(R10*1)); \
	SUM(Y4, Y5, (DI)(R10*2), 32(DI)(R10*2)); \
	SUM(Y6, Y7, (DI)(R11*1), 32(DI)(R11*1)); \
	VZEROUPPER;               \
	RET

#define VALUES1(VALUES, SHIFT) \
	MOVQ  y+0(FP), DI;       \
	MOVQ  dim+8(FP), AX;     \
	MOVQ  w+16(FP), SI;      \
	MOVQ  values+32(FP), DX; \
	MOVQ  n+40(FP), CX;      \
	SHLQ  $SHIFT, AX;        \
	VPXOR Y0, Y0, Y0;        \
	VPXOR Y1, Y1, Y1;        \
position:                    \
	VALUES;                  \
	WEIGHT((SI), Y0, Y1);    \
	ADDQ  AX, DX;            \
	ADDQ  $4, SI;            \
	DECQ  CX;                \
	JNZ   position;          \
	SUM(Y0, Y1, (DI), 32(DI)); \
	VZEROUPPER;              \
	RET

// func scores4HalfAVX2(dst *float32, stride int, q *float32, dim int, keys *uint16, scale float32, r *rounding)
TEXT ·scores4HalfAVX2(SB), NOSPLIT, $0-56
	SCORES4(HALFKEYS)

// func scores4FullAVX2(dst *float32, stride int, q *float32, dim int, keys *float32, scale float32, r *rounding)
TEXT ·scores4FullAVX2(SB), NOSPLIT, $0-56
	SCORES4(FULLKEYS)

// func scores1HalfAVX2(dst *float32, stride int, q *float32, dim int, keys *uint16, scale float32, r *rounding)
TEXT ·scores1HalfAVX2(SB), NOSPLIT, $0-56
	SCORES1(HALFKEYS)

// func scores1FullAVX2(dst *float32, stride int, q *float32, dim int, keys *float32, scale float32, r *rounding)
TEXT ·scores1FullAVX2(SB), NOSPLIT, $0-56
	SCORES1(FULLKEYS)

// func values4HalfAVX2(y *float32, dim int, w *float32, stride int, values *uint16, n int)
TEXT ·values4HalfAVX2(SB), NOSPLIT, $0-48
	VALUES4(HALFVALUES, 1)

// func values4FullAVX2(y *float32, dim int, w *float32, stride int, values *float32, n int)
TEXT ·values4FullAVX2(SB), NOSPLIT, $0-48
	VALUES4(FULLVALUES, 2)

// func values1HalfAVX2(y *float32, dim int, w *float32, stride int, values *uint16, n int)
TEXT ·values1HalfAVX2(SB), NOSPLIT, $0-48
	VALUES1(HALFVALUES, 1)

// func values1FullAVX2(y *float32, dim int, w *float32, stride int, values *float32, n int)
TEXT ·values1FullAVX2(SB), NOSPLIT, $0-48
	VALUES1(FULLVALUES, 2)
