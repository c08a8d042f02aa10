#include "textflag.h"
#include "rounding_avx512_amd64.h"

// Attention with AVX-512 (F, BW and VL): 8 queries, or 1, by 32 keys or columns.
// Lanes are keys, or columns of values, so that no sum crosses lanes.

// HALFKEYS and FULLKEYS load a pair of columns of 32 keys: the odd one to Z16
// and Z17, the even one to Z18 and Z19. Z27 is 0xffff0000.
#define HALFKEYS \
	VMOVDQU32 (DX), Z18;     \
	VMOVDQU32 64(DX), Z19;   \
	VPANDD    Z27, Z18, Z16; \
	VPANDD    Z27, Z19, Z17; \
	VPSLLD    $16, Z18, Z18; \
	VPSLLD    $16, Z19, Z19; \
	ADDQ      $256, DX

#define FULLKEYS \
	VMOVUPS (DX), Z18;    \
	VMOVUPS 64(DX), Z19;  \
	VMOVUPS 256(DX), Z16; \
	VMOVUPS 320(DX), Z17; \
	ADDQ    $512, DX

// QUERY adds a query's column times 32 keys' columns.
#define QUERY(q, k0, k1, a0, a1) \
	VBROADCASTSS q, Z20;       \
	VFMADD231PS  k0, Z20, a0;  \
	VFMADD231PS  k1, Z20, a1

// SCORE rounds a sum, scales it, and rounds again.
#define SCORE(a) \
	ROUND(a, Z20);        \
	VMULPS Z26, a, a;     \
	ROUND(a, Z20)

// ZERO8 clears the sums of 8 queries.
#define ZERO8 \
	VPXORD Z0, Z0, Z0; \
	VPXORD Z1, Z1, Z1; \
	VPXORD Z2, Z2, Z2; \
	VPXORD Z3, Z3, Z3; \
	VPXORD Z4, Z4, Z4; \
	VPXORD Z5, Z5, Z5; \
	VPXORD Z6, Z6, Z6; \
	VPXORD Z7, Z7, Z7; \
	VPXORD Z8, Z8, Z8; \
	VPXORD Z9, Z9, Z9; \
	VPXORD Z10, Z10, Z10; \
	VPXORD Z11, Z11, Z11; \
	VPXORD Z12, Z12, Z12; \
	VPXORD Z13, Z13, Z13; \
	VPXORD Z14, Z14, Z14; \
	VPXORD Z15, Z15, Z15

// STORES8 ends them and returns.
#define STORES8 \
	SCORE(Z0);                     \
	SCORE(Z1);                     \
	SCORE(Z2);                     \
	SCORE(Z3);                     \
	SCORE(Z4);                     \
	SCORE(Z5);                     \
	SCORE(Z6);                     \
	SCORE(Z7);                     \
	SCORE(Z8);                     \
	SCORE(Z9);                     \
	SCORE(Z10);                    \
	SCORE(Z11);                    \
	SCORE(Z12);                    \
	SCORE(Z13);                    \
	SCORE(Z14);                    \
	SCORE(Z15);                    \
	VMOVUPS      Z0, (DI);         \
	VMOVUPS      Z1, 64(DI);       \
	VMOVUPS      Z2, (DI)(R10*1);  \
	VMOVUPS      Z3, 64(DI)(R10*1); \
	VMOVUPS      Z4, (DI)(R10*2);  \
	VMOVUPS      Z5, 64(DI)(R10*2); \
	VMOVUPS      Z6, (DI)(R11*1);  \
	VMOVUPS      Z7, 64(DI)(R11*1); \
	LEAQ         (DI)(R10*4), DI;  \
	VMOVUPS      Z8, (DI);         \
	VMOVUPS      Z9, 64(DI);       \
	VMOVUPS      Z10, (DI)(R10*1); \
	VMOVUPS      Z11, 64(DI)(R10*1); \
	VMOVUPS      Z12, (DI)(R10*2); \
	VMOVUPS      Z13, 64(DI)(R10*2); \
	VMOVUPS      Z14, (DI)(R11*1); \
	VMOVUPS      Z15, 64(DI)(R11*1); \
	VZEROUPPER;                    \
	RET

#define SCORES8(KEYS) \
	MOVQ         dst+0(FP), DI;    \
	MOVQ         stride+8(FP), R10; \
	MOVQ         q+16(FP), SI;     \
	MOVQ         dim+24(FP), CX;   \
	MOVQ         keys+32(FP), DX;  \
	VBROADCASTSS scale+40(FP), Z26; \
	MOVQ         r+48(FP), AX;     \
	ROUNDING(AX);                  \
	VPTERNLOGD   $255, Z27, Z27, Z27; \
	VPSLLD       $16, Z27, Z27;    \
	SHLQ         $2, R10;          \
	LEAQ         (R10)(R10*2), R11; \
	LEAQ         (CX*4), R8;       \
	LEAQ         (R8)(R8*2), R9;   \
	LEAQ         (SI)(R8*4), BX;   \
	ZERO8;                         \
pair:                              \
	KEYS;                          \
	QUERY(4(SI), Z16, Z17, Z0, Z1);          \
	QUERY(4(SI)(R8*1), Z16, Z17, Z2, Z3);    \
	QUERY(4(SI)(R8*2), Z16, Z17, Z4, Z5);    \
	QUERY(4(SI)(R9*1), Z16, Z17, Z6, Z7);    \
	QUERY(4(BX), Z16, Z17, Z8, Z9);          \
	QUERY(4(BX)(R8*1), Z16, Z17, Z10, Z11);  \
	QUERY(4(BX)(R8*2), Z16, Z17, Z12, Z13);  \
	QUERY(4(BX)(R9*1), Z16, Z17, Z14, Z15);  \
	QUERY((SI), Z18, Z19, Z0, Z1);           \
	QUERY((SI)(R8*1), Z18, Z19, Z2, Z3);     \
	QUERY((SI)(R8*2), Z18, Z19, Z4, Z5);     \
	QUERY((SI)(R9*1), Z18, Z19, Z6, Z7);     \
	QUERY((BX), Z18, Z19, Z8, Z9);           \
	QUERY((BX)(R8*1), Z18, Z19, Z10, Z11);   \
	QUERY((BX)(R8*2), Z18, Z19, Z12, Z13);   \
	QUERY((BX)(R9*1), Z18, Z19, Z14, Z15);   \
	ADDQ         $8, SI;           \
	ADDQ         $8, BX;           \
	SUBQ         $2, CX;           \
	JNZ          pair;             \
	STORES8

#define SCORES1(KEYS) \
	MOVQ         dst+0(FP), DI;    \
	MOVQ         q+16(FP), SI;     \
	MOVQ         dim+24(FP), CX;   \
	MOVQ         keys+32(FP), DX;  \
	VBROADCASTSS scale+40(FP), Z26; \
	MOVQ         r+48(FP), AX;     \
	ROUNDING(AX);                  \
	VPTERNLOGD   $255, Z27, Z27, Z27; \
	VPSLLD       $16, Z27, Z27;    \
	VPXORD       Z0, Z0, Z0;       \
	VPXORD       Z1, Z1, Z1;       \
pair:                              \
	KEYS;                          \
	QUERY(4(SI), Z16, Z17, Z0, Z1); \
	QUERY((SI), Z18, Z19, Z0, Z1); \
	ADDQ         $8, SI;           \
	SUBQ         $2, CX;           \
	JNZ          pair;             \
	SCORE(Z0);                     \
	SCORE(Z1);                     \
	VMOVUPS      Z0, (DI);         \
	VMOVUPS      Z1, 64(DI);       \
	VZEROUPPER;                    \
	RET

// HALFVALUES and FULLVALUES load 32 columns of a value.
#define HALFVALUES \
	VPMOVZXWD (DX), Z16;    \
	VPMOVZXWD 32(DX), Z17;  \
	VPSLLD    $16, Z16, Z16; \
	VPSLLD    $16, Z17, Z17

#define FULLVALUES \
	VMOVUPS (DX), Z16;   \
	VMOVUPS 64(DX), Z17

// WEIGHT adds the value times a weight.
#define WEIGHT(w, a0, a1) \
	VBROADCASTSS w, Z20;       \
	VFMADD231PS  Z16, Z20, a0; \
	VFMADD231PS  Z17, Z20, a1

// SUM adds a page's sum to the result.
#define SUM(a0, a1, y0, y1) \
	VADDPS  y0, a0, a0; \
	VADDPS  y1, a1, a1; \
	VMOVUPS a0, y0;     \
	VMOVUPS a1, y1

#define VALUES8(VALUES, SHIFT) \
	MOVQ   y+0(FP), DI;       \
	MOVQ   dim+8(FP), R10;    \
	MOVQ   w+16(FP), SI;      \
	MOVQ   stride+24(FP), R8; \
	MOVQ   values+32(FP), DX; \
	MOVQ   n+40(FP), CX;      \
	MOVQ   R10, AX;           \
	SHLQ   $SHIFT, AX;        \
	SHLQ   $2, R10;           \
	LEAQ   (R10)(R10*2), R11; \
	SHLQ   $2, R8;            \
	LEAQ   (R8)(R8*2), R9;    \
	LEAQ   (SI)(R8*4), BX;    \
	VPXORD Z0, Z0, Z0;        \
	VPXORD Z1, Z1, Z1;        \
	VPXORD Z2, Z2, Z2;        \
	VPXORD Z3, Z3, Z3;        \
	VPXORD Z4, Z4, Z4;        \
	VPXORD Z5, Z5, Z5;        \
	VPXORD Z6, Z6, Z6;        \
	VPXORD Z7, Z7, Z7;        \
	VPXORD Z8, Z8, Z8;        \
	VPXORD Z9, Z9, Z9;        \
	VPXORD Z10, Z10, Z10;     \
	VPXORD Z11, Z11, Z11;     \
	VPXORD Z12, Z12, Z12;     \
	VPXORD Z13, Z13, Z13;     \
	VPXORD Z14, Z14, Z14;     \
	VPXORD Z15, Z15, Z15;     \
position:                     \
	VALUES;                   \
	WEIGHT((SI), Z0, Z1);           \
	WEIGHT((SI)(R8*1), Z2, Z3);     \
	WEIGHT((SI)(R8*2), Z4, Z5);     \
	WEIGHT((SI)(R9*1), Z6, Z7);     \
	WEIGHT((BX), Z8, Z9);           \
	WEIGHT((BX)(R8*1), Z10, Z11);   \
	WEIGHT((BX)(R8*2), Z12, Z13);   \
	WEIGHT((BX)(R9*1), Z14, Z15);   \
	ADDQ   AX, DX;            \
	ADDQ   $4, SI;            \
	ADDQ   $4, BX;            \
	DECQ   CX;                \
	JNZ    position;          \
	SUM(Z0, Z1, (DI), 64(DI)); \
	SUM(Z2, Z3, (DI)(R10*1), 64(DI)(R10*1)); \
	SUM(Z4, Z5, (DI)(R10*2), 64(DI)(R10*2)); \
	SUM(Z6, Z7, (DI)(R11*1), 64(DI)(R11*1)); \
	LEAQ   (DI)(R10*4), DI;   \
	SUM(Z8, Z9, (DI), 64(DI)); \
	SUM(Z10, Z11, (DI)(R10*1), 64(DI)(R10*1)); \
	SUM(Z12, Z13, (DI)(R10*2), 64(DI)(R10*2)); \
	SUM(Z14, Z15, (DI)(R11*1), 64(DI)(R11*1)); \
	VZEROUPPER;               \
	RET

#define VALUES1(VALUES, SHIFT) \
	MOVQ   y+0(FP), DI;       \
	MOVQ   dim+8(FP), AX;     \
	MOVQ   w+16(FP), SI;      \
	MOVQ   values+32(FP), DX; \
	MOVQ   n+40(FP), CX;      \
	SHLQ   $SHIFT, AX;        \
	VPXORD Z0, Z0, Z0;        \
	VPXORD Z1, Z1, Z1;        \
position:                     \
	VALUES;                   \
	WEIGHT((SI), Z0, Z1);     \
	ADDQ   AX, DX;            \
	ADDQ   $4, SI;            \
	DECQ   CX;                \
	JNZ    position;          \
	SUM(Z0, Z1, (DI), 64(DI)); \
	VZEROUPPER;               \
	RET

// func scores8HalfAVX512(dst *float32, stride int, q *float32, dim int, keys *uint16, scale float32, r *rounding)
TEXT ·scores8HalfAVX512(SB), NOSPLIT, $0-56
	SCORES8(HALFKEYS)

// func scores8FullAVX512(dst *float32, stride int, q *float32, dim int, keys *float32, scale float32, r *rounding)
TEXT ·scores8FullAVX512(SB), NOSPLIT, $0-56
	SCORES8(FULLKEYS)

// func scores1HalfAVX512(dst *float32, stride int, q *float32, dim int, keys *uint16, scale float32, r *rounding)
TEXT ·scores1HalfAVX512(SB), NOSPLIT, $0-56
	SCORES1(HALFKEYS)

// func scores1FullAVX512(dst *float32, stride int, q *float32, dim int, keys *float32, scale float32, r *rounding)
TEXT ·scores1FullAVX512(SB), NOSPLIT, $0-56
	SCORES1(FULLKEYS)

// func values8HalfAVX512(y *float32, dim int, w *float32, stride int, values *uint16, n int)
TEXT ·values8HalfAVX512(SB), NOSPLIT, $0-48
	VALUES8(HALFVALUES, 1)

// func values8FullAVX512(y *float32, dim int, w *float32, stride int, values *float32, n int)
TEXT ·values8FullAVX512(SB), NOSPLIT, $0-48
	VALUES8(FULLVALUES, 2)

// func values1HalfAVX512(y *float32, dim int, w *float32, stride int, values *uint16, n int)
TEXT ·values1HalfAVX512(SB), NOSPLIT, $0-48
	VALUES1(HALFVALUES, 1)

// func values1FullAVX512(y *float32, dim int, w *float32, stride int, values *float32, n int)
TEXT ·values1FullAVX512(SB), NOSPLIT, $0-48
	VALUES1(FULLVALUES, 2)

// func packQueriesAVX512(dst *uint16, q *float32, n int) (least, rest uint16)
TEXT ·packQueriesAVX512(SB), NOSPLIT, $0-28
	MOVQ       dst+0(FP), DI
	MOVQ       q+8(FP), SI
	MOVQ       n+16(FP), CX
	VPTERNLOGD $255, Z4, Z4, Z4
	VMOVDQA64  Z4, Z5 // the least
	VPXORD     Z6, Z6, Z6

words:
	VMOVDQU32     (SI), Z0
	VPORD         Z0, Z6, Z6
	VPSRLD        $16, Z0, Z0
	VPMOVDW       Z0, Y0
	VMOVDQU       Y0, (DI)
	VPADDW        Y0, Y0, Y0
	VPADDW        Y4, Y0, Y0
	VPMINUW       Y0, Y5, Y5
	ADDQ          $64, SI
	ADDQ          $32, DI
	SUBQ          $16, CX
	JNZ           words
	VEXTRACTI32X4 $1, Y5, X0
	VPMINUW       X0, X5, X5
	VPHMINPOSUW   X5, X5
	VMOVD         X5, AX
	MOVW          AX, least+24(FP)
	VPMOVDW       Z6, Y6 // the lower halves
	VEXTRACTI32X4 $1, Y6, X0
	VPOR          X0, X6, X6
	VPSRLDQ       $8, X6, X0
	VPOR          X0, X6, X6
	VMOVQ         X6, AX
	MOVQ          AX, CX
	SHRQ          $32, CX
	ORQ           CX, AX
	MOVQ          AX, CX
	SHRQ          $16, CX
	ORQ           CX, AX
	MOVW          AX, rest+26(FP)
	VZEROUPPER
	RET

// func scores8BF16AVX512(dst *float32, stride int, words *uint16, dim int, keys *uint16, scale float32, r *rounding) (least uint16)
TEXT ·scores8BF16AVX512(SB), NOSPLIT, $0-58
	MOVQ         dst+0(FP), DI
	MOVQ         stride+8(FP), R10
	MOVQ         words+16(FP), SI
	MOVQ         dim+24(FP), CX
	MOVQ         keys+32(FP), DX
	VBROADCASTSS scale+40(FP), Z26
	MOVQ         r+48(FP), AX
	ROUNDING(AX)
	SHLQ         $2, R10
	LEAQ         (R10)(R10*2), R11
	LEAQ         (CX*2), R8
	LEAQ         (R8)(R8*2), R9
	LEAQ         (SI)(R8*4), BX
	VPTERNLOGD   $255, Z24, Z24, Z24
	VMOVDQA64    Z24, Z25 // the least
	ZERO8

pair:
	VMOVDQU32    (DX), Z18
	VMOVDQU32    64(DX), Z19
	VPADDW       Z18, Z18, Z22
	VPADDW       Z19, Z19, Z23
	VPADDW       Z24, Z22, Z22
	VPADDW       Z24, Z23, Z23
	VPMINUW      Z22, Z25, Z25
	VPMINUW      Z23, Z25, Z25
	VPBROADCASTD (SI), Z21
	LONG $0x4056b262; WORD $0xc252 // VDPBF16PS Z18, Z21, Z0
	LONG $0x4056b262; WORD $0xcb52 // VDPBF16PS Z19, Z21, Z1
	VPBROADCASTD (SI)(R8*1), Z21
	LONG $0x4056b262; WORD $0xd252 // VDPBF16PS Z18, Z21, Z2
	LONG $0x4056b262; WORD $0xdb52 // VDPBF16PS Z19, Z21, Z3
	VPBROADCASTD (SI)(R8*2), Z21
	LONG $0x4056b262; WORD $0xe252 // VDPBF16PS Z18, Z21, Z4
	LONG $0x4056b262; WORD $0xeb52 // VDPBF16PS Z19, Z21, Z5
	VPBROADCASTD (SI)(R9*1), Z21
	LONG $0x4056b262; WORD $0xf252 // VDPBF16PS Z18, Z21, Z6
	LONG $0x4056b262; WORD $0xfb52 // VDPBF16PS Z19, Z21, Z7
	VPBROADCASTD (BX), Z21
	LONG $0x40563262; WORD $0xc252 // VDPBF16PS Z18, Z21, Z8
	LONG $0x40563262; WORD $0xcb52 // VDPBF16PS Z19, Z21, Z9
	VPBROADCASTD (BX)(R8*1), Z21
	LONG $0x40563262; WORD $0xd252 // VDPBF16PS Z18, Z21, Z10
	LONG $0x40563262; WORD $0xdb52 // VDPBF16PS Z19, Z21, Z11
	VPBROADCASTD (BX)(R8*2), Z21
	LONG $0x40563262; WORD $0xe252 // VDPBF16PS Z18, Z21, Z12
	LONG $0x40563262; WORD $0xeb52 // VDPBF16PS Z19, Z21, Z13
	VPBROADCASTD (BX)(R9*1), Z21
	LONG $0x40563262; WORD $0xf252 // VDPBF16PS Z18, Z21, Z14
	LONG $0x40563262; WORD $0xfb52 // VDPBF16PS Z19, Z21, Z15
	ADDQ         $256, DX
	ADDQ         $4, SI
	ADDQ         $4, BX
	SUBQ         $2, CX
	JNZ          pair

	VEXTRACTI64X4 $1, Z25, Y22
	VPMINUW       Y22, Y25, Y25
	VEXTRACTI32X4 $1, Y25, X22
	VPMINUW       X22, X25, X25
	VMOVDQA64     Z25, Z18
	VPSRLDQ       $8, X18, X22
	VPMINUW       X22, X18, X18
	VPSRLDQ       $4, X18, X22
	VPMINUW       X22, X18, X18
	VPSRLDQ       $2, X18, X22
	VPMINUW       X22, X18, X18
	VPEXTRW       $0, X18, AX
	MOVW          AX, least+56(FP)
	STORES8
