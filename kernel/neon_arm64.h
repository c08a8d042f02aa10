// Advanced SIMD instructions that Go's assembler has no name for. Operands are
// register numbers in its order: the destination last. The encodings are of the
// Arm Architecture Reference Manual, section C7.2.

#define THREE(op, m, n, d) WORD $((op) | (m)<<16 | (n)<<5 | (d))
#define TWO(op, n, d) WORD $((op) | (n)<<5 | (d))

// n op m, four float32.
#define FADD4S(m, n, d)   THREE(0x4E20D400, m, n, d)
#define FSUB4S(m, n, d)   THREE(0x4EA0D400, m, n, d)
#define FMUL4S(m, n, d)   THREE(0x6E20DC00, m, n, d)
#define FMAX4S(m, n, d)   THREE(0x4E20F400, m, n, d)
#define FMIN4S(m, n, d)   THREE(0x4EA0F400, m, n, d)
#define FMAXNM4S(m, n, d) THREE(0x4E20C400, m, n, d)
#define FCMEQ4S(m, n, d)  THREE(0x4E20E400, m, n, d)
#define FMLA4S(m, n, d)   THREE(0x4E20CC00, m, n, d) // d += n·m

// d += n·m[0], d += n·m[1].
#define FMLA4S0(m, n, d) THREE(0x4F801000, m, n, d)
#define FMLA4S1(m, n, d) THREE(0x4FA01000, m, n, d)

// Two float64.
#define FADD2D(m, n, d) THREE(0x4E60D400, m, n, d)
#define FSUB2D(m, n, d) THREE(0x4EE0D400, m, n, d)
#define FMUL2D(m, n, d) THREE(0x6E60DC00, m, n, d)
#define FDIV2D(m, n, d) THREE(0x6E60FC00, m, n, d) // n / m
#define FMAX2D(m, n, d) THREE(0x4E60F400, m, n, d)
#define FMIN2D(m, n, d) THREE(0x4EE0F400, m, n, d)
#define FMLA2D(m, n, d) THREE(0x4E60CC00, m, n, d) // d += n·m
#define FMLS2D(m, n, d) THREE(0x4EE0CC00, m, n, d) // d −= n·m

// Lower and upper two float32 of n to float64, and back to those of d.
#define FCVTL(n, d)  TWO(0x0E617800, n, d)
#define FCVTL2(n, d) TWO(0x4E617800, n, d)
#define FCVTN(n, d)  TWO(0x0E616800, n, d)
#define FCVTN2(n, d) TWO(0x4E616800, n, d)

// The largest of four float32, NaN passed over, to float32.
#define FMAXNMV(n, d) TWO(0x6E30C800, n, d)

// Lower and upper four 16-bit words of n, shifted left by 16 in 32.
#define SHLL(n, d)  TWO(0x2E613800, n, d)
#define SHLL2(n, d) TWO(0x6E613800, n, d)

// Integers and bits.
#define ADD4S(m, n, d)    THREE(0x4EA08400, m, n, d)
#define ADD2D(m, n, d)    THREE(0x4EE08400, m, n, d)
#define ANDV(m, n, d)     THREE(0x4E201C00, m, n, d)
#define BICV(m, n, d)     THREE(0x4E601C00, m, n, d) // n and not m
#define ORRV(m, n, d)     THREE(0x4EA01C00, m, n, d)
#define MOVV(n, d)        ORRV(n, n, d)
#define USHR4S16(n, d)    TWO(0x6F300400, n, d)
#define SHL4S16(n, d)     TWO(0x4F305400, n, d)
#define SHL2D52(n, d)     TWO(0x4F745400, n, d)
#define ZERO(d)           WORD $(0x6F00E400 | (d))

// Signed bytes: products of the lower and the upper eight to 16 bits, and such
// added to those; and sums of pairs of those added to 32 bits. The sum of four
// 32-bit integers.
#define SMULL(m, n, d)  THREE(0x0E20C000, m, n, d)
#define SMULL2(m, n, d) THREE(0x4E20C000, m, n, d)
#define SMLAL(m, n, d)  THREE(0x0E208000, m, n, d)
#define SMLAL2(m, n, d) THREE(0x4E208000, m, n, d)
#define SADALP(n, d)    TWO(0x4E606800, n, d)
#define ADDV4S(n, d)    TWO(0x4EB1B800, n, d)

// ROUNDING loads the words of a rounding to V28 to V31.
#define ROUNDING(r) \
	VLD1R.P 4(r), [V28.S4]; \
	VLD1R.P 4(r), [V29.S4]; \
	VLD1R.P 4(r), [V30.S4]; \
	VLD1R   (r), [V31.S4]

// ROUND rounds v, by way of t and m.
#define ROUND(v, t, m) \
	USHR4S16(v, t);   \
	ANDV(28, t, t);    \
	ADD4S(29, t, t);  \
	FCMEQ4S(v, v, m); \
	ANDV(m, t, t);     \
	ADD4S(v, t, t);   \
	BICV(m, 30, m);    \
	ORRV(m, t, t);     \
	ANDV(31, t, v)
