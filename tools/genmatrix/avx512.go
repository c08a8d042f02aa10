package main

import "fmt"

// avx512 writes the AVX-512 loops: one template for each loop, unrolled for its
// rows and for the way it multiplies.
func (a *asm) avx512() {
	a.constants512()
	a.widen()
	a.widenPlain()
	a.panelMXFP4()
	a.panelBF16()
	for _, m := range []multiplier{dp, fma} {
		a.tiles(m)
		for n := 1; n <= few; n++ {
			a.streamMXFP4(m, n)
			a.streamBF16(m, n)
			a.streamPacked(m, n)
		}
	}
	a.foursMXFP4()
	for n := 2; n <= 3; n++ {
		a.pairsMXFP4(n)
	}
	a.tilesBF16()
	a.panelPacked()
	a.pack()
	a.packLanes(512)
	a.read()
}

// A multiplier says how a group's products are added to an accumulator.
type multiplier int

const (
	dp  multiplier = iota // VDPBF16PS; x is of layout pairs
	fma                   // two multiply-adds in float32; x is of layout lanes16
)

func (m multiplier) String() string { return [...]string{"DP", "FMA"}[m] }

// xBytes returns the bytes of x for a group.
func (m multiplier) xBytes() int { return [...]int{64, 128}[m] }

// few is how many rows of x a streaming loop takes at most.
const few = 5

// vdpbf16ps adds the products of words of zmm u and v to zmm acc. The assembler
// does not know it: EVEX.512.F3.0F38.W0 52 /r (Intel SDM, volume 2).
func (a *asm) vdpbf16ps(v, u, acc int) {
	not := func(r, bit int) int { return ^r >> bit & 1 }
	p0 := not(acc, 3)<<7 | not(v, 4)<<6 | not(v, 3)<<5 | not(acc, 4)<<4 | 2
	p1 := (^u&15)<<3 | 1<<2 | 2
	p2 := 2<<5 | not(u, 4)<<3
	modrm := 3<<6 | acc&7<<3 | v&7
	a.p("LONG $0x%02x%02x%02x62; WORD $0x%02x52 // VDPBF16PS Z%d, Z%d, Z%d", p2, p1, p0, modrm, v, u, acc)
}

func (a *asm) constants512() {
	a.p("// The E2M1 values times 2^125 as bfloat16, the scale of byte 252, twice: the")
	a.p("// index of VPERMW has five bits and a code four. Zeros are +0.")
	for i := range 16 {
		word := func(code int) uint32 {
			v := [8]uint32{0, 0x7d80, 0x7e00, 0x7e40, 0x7e80, 0x7ec0, 0x7f00, 0x7f40}[code&7]
			if code >= 8 && v != 0 {
				v |= 0x8000
			}
			return v
		}
		c := 2 * i & 15
		a.p("DATA e2m1x252<>+%d(SB)/4, $0x%08x", 4*i, word(c)|word(c+1)<<16)
	}
	a.p("GLOBL e2m1x252<>(SB), RODATA|NOPTR, $64")
	a.p("")
	a.p("// In lane b, word b of four: VPSHUFB gives each block its scale.")
	for b := range 4 {
		for k := range 2 {
			w := uint64(2*b | (2*b+1)<<8)
			a.p("DATA perBlock<>+%d(SB)/8, $0x%016x", 16*b+8*k, w|w<<16|w<<32|w<<48)
		}
	}
	a.p("GLOBL perBlock<>(SB), RODATA|NOPTR, $64")
	for _, c := range []struct {
		name string
		b    int
	}{{"twos", 2}, {"fours", 4}} {
		for i := range 8 {
			a.p("DATA %s<>+%d(SB)/8, $0x%016x", c.name, 8*i, uint64(c.b)*0x0101010101010101)
		}
		a.p("GLOBL %s<>(SB), RODATA|NOPTR, $64", c.name)
	}
}

// widen writes scales as what VPSUBUSW takes from the words of e2m1x252. Those
// below 2 take everything: their blocks become zeros.
func (a *asm) widen() {
	a.text("widenScales512", 0, 30, "(dst *uint16, src *byte, n int) (least, lo, hi uint16)")
	a.p("MOVQ dst+0(FP), DI")
	a.p("MOVQ src+8(FP), SI")
	a.p("MOVQ n+16(FP), CX")
	a.p("MOVL $252, AX")
	a.p("VPBROADCASTW AX, Z31")
	a.p("MOVL $2, AX")
	a.p("VPBROADCASTW AX, Z30")
	a.p("VPTERNLOGD $255, Z29, Z29, Z29")
	a.p("VMOVDQA64 Z29, Z4 // least")
	a.p("VMOVDQA64 Z29, Z5 // least from 2 on")
	a.p("VPXORD Z6, Z6, Z6 // highest")
	a.p("SUBQ $32, CX")
	a.p("JLT last")
	body := func(mask string) {
		load, all := "VPMOVZXBW", ""
		if mask != "" {
			load, all = "VPMOVZXBW.Z", mask+", "
		}
		a.p("%s (SI), %sZ0", load, all)
		a.p("VPCMPUW $5, Z30, Z0, %sK2 // at least 2", all)
		a.p("VPMINUW Z0, Z4, %sZ4", all)
		a.p("VPMAXUW Z0, Z6, Z6")
		a.p("VPSUBW Z0, Z31, Z1")
		a.p("VPSLLW $7, Z1, Z1")
		a.p("VPMINUW Z0, Z5, K2, Z5")
		a.p("VPBLENDMW Z1, Z29, K2, Z1")
		a.p("VMOVDQU64 Z1, (DI)")
	}
	a.p("PCALIGN $32")
	a.p("widen:")
	a.p("PREFETCHT0 3072(SI)")
	body("")
	a.p("ADDQ $32, SI")
	a.p("ADDQ $64, DI")
	a.p("SUBQ $32, CX")
	a.p("JGE widen")
	a.p("last:")
	a.p("ADDQ $32, CX")
	a.p("JEQ end")
	a.p("MOVL $-1, AX")
	a.p("BZHIL CX, AX, AX")
	a.p("KMOVD AX, K1")
	body("K1")
	a.p("end:")
	a.leastWord(4)
	a.p("MOVW AX, least+24(FP)")
	a.leastWord(5)
	a.p("MOVW AX, lo+26(FP)")
	a.p("VPXORD Z29, Z6, Z6 // the highest is the least complement")
	a.leastWord(6)
	a.p("NOTL AX")
	a.p("MOVW AX, hi+28(FP)")
	a.p("VZEROUPPER")
	a.p("RET")
}

// widenPlain is widen for scales of which none is below 2, in half the
// instructions: whoever calls it looks at the least.
func (a *asm) widenPlain() {
	a.text("widenPlain512", 0, 26, "(dst *uint16, src *byte, n int) (least, hi byte)")
	a.p("MOVQ dst+0(FP), DI")
	a.p("MOVQ src+8(FP), SI")
	a.p("MOVQ n+16(FP), CX")
	a.p("MOVL $252, AX")
	a.p("VPBROADCASTW AX, Z31")
	a.p("VPTERNLOGD $255, Z29, Z29, Z29")
	a.p("VMOVDQA64 Z29, Z4 // least")
	a.p("VPXORD Z6, Z6, Z6 // highest")
	half := func(i int, mask string) {
		z := ""
		if mask != "" {
			z, mask = ".Z", mask+", "
		}
		a.p("VPMOVZXBW%s %d(SI), %sZ%d", z, 32*i, mask, 1+i)
		a.p("VPSUBW Z%d, Z31, Z%d", 1+i, 1+i)
		a.p("VPSLLW $7, Z%d, Z%d", 1+i, 1+i)
		a.p("VMOVDQU64 Z%d, %d(DI)", 1+i, 64*i)
	}
	a.p("SUBQ $64, CX")
	a.p("JLT last")
	a.p("PCALIGN $32")
	a.p("widen:")
	a.p("PREFETCHT0 3072(SI)")
	a.p("VMOVDQU64 (SI), Z0")
	a.p("VPMINUB Z0, Z4, Z4")
	a.p("VPMAXUB Z0, Z6, Z6")
	half(0, "")
	half(1, "")
	a.p("ADDQ $64, SI")
	a.p("ADDQ $128, DI")
	a.p("SUBQ $64, CX")
	a.p("JGE widen")
	a.p("last:")
	a.p("ADDQ $64, CX")
	a.p("JEQ end")
	a.p("PREFETCHT0 3072(SI)")
	a.p("MOVQ $-1, AX")
	a.p("BZHIQ CX, AX, AX")
	a.p("KMOVQ AX, K1")
	a.p("KSHIFTRQ $32, K1, K2")
	a.p("VMOVDQU8.Z (SI), K1, Z0")
	a.p("VPMINUB Z0, Z4, K1, Z4")
	a.p("VPMAXUB Z0, Z6, Z6")
	half(0, "K1")
	half(1, "K2")
	a.p("end:")
	a.leastByte(4)
	a.p("MOVB AX, least+24(FP)")
	a.p("VPXORD Z29, Z6, Z6 // the highest is the least complement")
	a.leastByte(6)
	a.p("NOTL AX")
	a.p("MOVB AX, hi+25(FP)")
	a.p("VZEROUPPER")
	a.p("RET")
}

// leastByte leaves the least unsigned byte of zmm v in AX. It uses v, Z2 and Z3.
func (a *asm) leastByte(v int) {
	a.p("VPSRLW $8, Z%d, Z2", v)
	a.p("VPMINUB Z2, Z%d, Z%d", v, v)
	a.p("VPSLLW $8, Z%d, Z%d // the lower byte of each word is the least of both", v, v)
	a.p("VPSRLW $8, Z%d, Z%d", v, v)
	a.leastWord(v)
}

// leastWord leaves the least unsigned word of zmm v in AX. It uses Z2 and Z3.
func (a *asm) leastWord(v int) {
	a.p("VEXTRACTI64X4 $1, Z%d, Y2", v)
	a.p("VPMINUW Y2, Y%d, Y2", v)
	a.p("VEXTRACTI128 $1, Y2, X3")
	a.p("VPMINUW X3, X2, X2")
	a.p("VPHMINPOSUW X2, X2")
	a.p("VMOVD X2, AX")
	a.p("MOVWLZX AX, AX")
}

// indices sets four indices a pass apart.
var indices = [4]string{"AX", "BX", "DX", "DI"}

func (a *asm) indices(pass string) {
	a.p("XORL AX, AX")
	a.p("MOVQ %s, BX", pass)
	a.p("LEAQ (%s)(%s*1), DX", pass, pass)
	a.p("LEAQ (DX)(%s*1), DI", pass)
}

func (a *asm) advance(n int) {
	for _, r := range indices {
		a.p("ADDQ $%d, %s", n, r)
	}
}

// decode turns the codes in Z(d) and the widened scales into the words of four
// groups, Z(d) to Z(d+3). Z31 is perBlock and Z30 e2m1x252.
func (a *asm) decode(d int, scales string) {
	s := d + 4
	a.p("VPBROADCASTQ %s, Z%d", scales, s)
	for n := 1; n < 4; n++ {
		a.p("VPSRLW $%d, Z%d, Z%d", 4*n, d, d+n)
	}
	a.p("VPSHUFB Z31, Z%d, Z%d", s, s)
	for n := range 4 {
		a.p("VPERMW Z30, Z%d, Z%d", d+n, d+n)
	}
	for n := range 4 {
		a.p("VPSUBUSW Z%d, Z%d, Z%d", s, d+n, d+n)
	}
}

func (a *asm) panelMXFP4() {
	a.text("panelMXFP4x512", 0, 48, "(dst *uint16, data *byte, wide *uint16, rows, blocks, steps int)")
	a.p("MOVQ dst+0(FP), R8")
	a.p("MOVQ data+8(FP), SI")
	a.p("MOVQ wide+16(FP), R9")
	a.p("MOVQ rows+24(FP), R10")
	a.p("MOVQ blocks+32(FP), R11")
	a.p("MOVQ steps+40(FP), R12")
	a.p("SHLQ $8, R12 // bytes of a pass")
	a.p("MOVQ R11, CX")
	a.p("ANDQ $3, CX")
	a.p("SHLQ $2, CX")
	a.p("MOVL $1, AX")
	a.p("SHLL CX, AX")
	a.p("DECL AX")
	a.p("KMOVW AX, K1 // dwords of the last blocks")
	a.p("MOVQ R11, R13")
	a.p("SHLQ $6, R13 // bytes of four rows")
	a.p("ADDQ SI, R13")
	a.p("VMOVDQU64 e2m1x252<>(SB), Z30")
	a.p("VMOVDQU64 perBlock<>(SB), Z31")
	a.p("row:")
	a.indices("R12")
	a.p("MOVQ R11, CX")
	a.p("SHRQ $2, CX")
	a.p("JZ last")
	store := func() {
		for n, r := range indices {
			a.p("VMOVDQU64 Z%d, (R8)(%s*1)", n, r)
		}
	}
	a.p("chunk:")
	a.p("PREFETCHT1 (R13)")
	a.p("VMOVDQU64 (SI), Z0")
	a.decode(0, "(R9)")
	store()
	a.advance(256)
	a.p("ADDQ $64, R13")
	a.p("ADDQ $64, SI")
	a.p("ADDQ $8, R9")
	a.p("DECQ CX")
	a.p("JNZ chunk")
	a.p("last:")
	a.p("MOVQ R11, CX")
	a.p("ANDQ $3, CX")
	a.p("JZ next")
	a.p("VMOVDQU32.Z (SI), K1, Z0")
	a.decode(0, "(R9)")
	store()
	a.p("LEAQ (R9)(CX*2), R9")
	a.p("SHLQ $4, CX")
	a.p("ADDQ CX, SI")
	a.p("ADDQ CX, R13")
	a.p("next:")
	a.p("ADDQ $64, R8")
	a.p("DECQ R10")
	a.p("JNZ row")
	a.p("VZEROUPPER")
	a.p("RET")
}

// tailMasks sets K1 to K4 to the words that the last groups have: CX columns,
// fewer than 128. It uses R13 and R15.
func (a *asm) tailMasks() {
	a.p("MOVQ $-1, R15")
	for k := range 4 {
		if k > 0 {
			a.p("SUBQ $32, CX")
		}
		a.p("XORL R13, R13")
		a.p("TESTQ CX, CX")
		a.p("CMOVQGT CX, R13")
		a.p("BZHIQ R13, R15, R13")
		a.p("KMOVD R13, K%d", k+1)
	}
}

// least keeps the least of twice each word of zmm w, less one, in zmm m: zeros
// become the greatest. Z31 is all ones.
func (a *asm) least(w, tmp, m int) {
	a.p("VPADDW Z%d, Z%d, Z%d", w, w, tmp)
	a.p("VPADDW Z31, Z%d, Z%d", tmp, tmp)
	a.p("VPMINUW Z%d, Z%d, Z%d", tmp, m, m)
}

func (a *asm) panelBF16() {
	a.text("panelBF16x512", 0, 42, "(dst *uint16, data *byte, rows, cols, steps int) (least uint16)")
	a.p("MOVQ dst+0(FP), R8")
	a.p("MOVQ data+8(FP), SI")
	a.p("MOVQ rows+16(FP), R10")
	a.p("MOVQ cols+24(FP), R11")
	a.p("MOVQ steps+32(FP), R12")
	a.p("SHLQ $8, R12 // bytes of a pass")
	a.p("MOVQ R11, CX")
	a.p("ANDQ $127, CX")
	a.tailMasks()
	a.p("MOVQ R11, R13")
	a.p("SHLQ $3, R13 // bytes of four rows")
	a.p("ADDQ SI, R13")
	a.p("VPTERNLOGD $255, Z31, Z31, Z31")
	a.p("VMOVDQA64 Z31, Z30")
	store := func() {
		for n, r := range indices {
			a.p("VMOVDQU64 Z%d, (R8)(%s*1)", n, r)
		}
		for n := range 4 {
			a.least(n, 4+n, 30)
		}
	}
	a.p("row:")
	a.indices("R12")
	a.p("MOVQ R11, CX")
	a.p("SHRQ $7, CX")
	a.p("JZ last")
	a.p("chunk:")
	for n := range 4 {
		a.p("PREFETCHT1 %d(R13)", 64*n)
		a.p("VMOVDQU64 %d(SI), Z%d", 64*n, n)
	}
	store()
	a.advance(256)
	a.p("ADDQ $256, R13")
	a.p("ADDQ $256, SI")
	a.p("DECQ CX")
	a.p("JNZ chunk")
	a.p("last:")
	a.p("MOVQ R11, CX")
	a.p("ANDQ $127, CX")
	a.p("JZ next")
	for n := range 4 {
		a.p("VMOVDQU16.Z %d(SI), K%d, Z%d", 64*n, n+1, n)
	}
	store()
	a.p("LEAQ (SI)(CX*2), SI")
	a.p("LEAQ (R13)(CX*2), R13")
	a.p("next:")
	a.p("ADDQ $64, R8")
	a.p("DECQ R10")
	a.p("JNZ row")
	a.leastWord(30)
	a.p("MOVW AX, least+40(FP)")
	a.p("VZEROUPPER")
	a.p("RET")
}

// tiles multiplies a panel of four rows of w with n rows of x. The four
// accumulators are passes over all rows of x, so that a quarter of the panel
// stays in the first cache; sums holds the lanes between passes.
func (a *asm) tiles(m multiplier) {
	const most = 6
	xb := m.xBytes()
	scale := 256 / xb // of an index of x, to be one of the panel
	a.text("tiles"+m.String()+"512", 8, 64, "(panel *uint16, x unsafe.Pointer, xoff *int, n, steps int, sums, y *float32, yoff *int)")
	a.p("MOVQ panel+0(FP), SI")
	a.p("MOVQ x+8(FP), AX")
	a.p("MOVQ steps+32(FP), R15")
	a.p("IMULQ $%d, R15 // bytes of x in a pass", xb)
	a.p("MOVQ $0, pass-8(SP)")
	a.p("MOVL $0x1111, CX")
	a.p("KMOVW CX, K1")
	if m == fma {
		a.p("MOVL $0xffff0000, CX")
		a.p("VPBROADCASTD CX, Z31")
	}
	a.p("pass:")
	a.p("MOVQ xoff+16(FP), BX")
	a.p("MOVQ n+24(FP), CX")
	a.p("MOVQ sums+40(FP), DI")
	a.p("MOVQ yoff+56(FP), R14")
	a.p("tile:")
	a.p("// 6 rows, or such that no tile is small: 7 are 4 and 3, 9 are 5 and 4.")
	a.p("CMPQ CX, $11")
	a.p("JGE tile6")
	a.p("CMPQ CX, $9")
	a.p("JGE tile5")
	a.p("CMPQ CX, $7")
	a.p("JGE tile4")
	for n := most; n > 1; n-- {
		a.p("CMPQ CX, $%d", n)
		a.p("JEQ tile%d", n)
	}
	for n := 1; n <= most; n++ {
		a.p("")
		a.p("tile%d:", n)
		for x := range n {
			a.p("MOVQ %d(BX), R%d", 8*x, 8+x)
			a.p("ADDQ AX, R%d", 8+x)
		}
		for i := range 4 * n {
			a.p("VPXORD Z%d, Z%d, Z%d", i, i, i)
		}
		a.p("XORL DX, DX")
		a.p("PCALIGN $32")
		a.p("loop%d:", n)
		if m == dp {
			for r := range 4 {
				a.p("VMOVDQU64 %d(SI)(DX*%d), Z%d", 64*r, scale, 24+r)
			}
			for x := range n {
				a.p("VMOVDQU64 (R%d)(DX*1), Z%d", 8+x, 28+x%3)
				for r := range 4 {
					a.vdpbf16ps(28+x%3, 24+r, 4*x+r)
				}
			}
		} else {
			for half := range 2 {
				for r := range 4 {
					if half == 0 {
						a.p("VPANDD %d(SI)(DX*%d), Z31, Z%d", 64*r, scale, 24+r)
					} else {
						a.p("VPSLLD $16, %d(SI)(DX*%d), Z%d", 64*r, scale, 24+r)
					}
				}
				for x := range n {
					a.p("VMOVUPS %d(R%d)(DX*1), Z%d", 64*half, 8+x, 28+x%3)
					for r := range 4 {
						a.p("VFMADD231PS Z%d, Z%d, Z%d", 28+x%3, 24+r, 4*x+r)
					}
				}
			}
		}
		a.p("ADDQ $%d, DX", xb)
		a.p("CMPQ DX, R15")
		a.p("JNE loop%d", n)
		a.p("MOVQ pass-8(SP), DX")
		a.p("TESTQ DX, DX")
		a.p("JEQ keep%d", n)
		for i := range 4 * n {
			a.p("VADDPS %d(DI), Z%d, Z%d", 64*i, i, i)
		}
		a.p("CMPQ DX, $3")
		a.p("JEQ end%d", n)
		a.p("keep%d:", n)
		for i := range 4 * n {
			a.p("VMOVUPS Z%d, %d(DI)", i, 64*i)
		}
		a.p("JMP done%d", n)
		a.p("end%d:", n)
		a.p("MOVQ y+48(FP), DX")
		for x := range n {
			a.p("MOVQ %d(R14), R8", 8*x)
			a.sumFour([4]int{4 * x, 4*x + 1, 4*x + 2, 4*x + 3}, 1)
			a.p("VMOVUPS X24, (DX)(R8*1)")
		}
		a.p("done%d:", n)
		a.p("ADDQ $%d, BX", 8*n)
		a.p("ADDQ $%d, R14", 8*n)
		a.p("ADDQ $%d, DI", 256*n)
		a.p("SUBQ $%d, CX", n)
		a.p("JNE tile")
		a.p("JMP passed")
	}
	a.p("")
	a.p("passed:")
	a.p("ADDQ R15, AX")
	a.p("LEAQ (SI)(R15*%d), SI", scale)
	a.p("MOVQ pass-8(SP), DX")
	a.p("INCQ DX")
	a.p("MOVQ DX, pass-8(SP)")
	a.p("CMPQ DX, $4")
	a.p("JNE pass")
	a.p("VZEROUPPER")
	a.p("RET")
}

// tilesBF16 multiplies fours of rows of bfloat16 weights, as they lie, with a
// tile of up to six rows of x. It is for weights that have streamed by, from which
// the second cache has them. As in tiles a pass takes one group of each four, so
// that its part of x stays in the first cache. Meanwhile some of the rows that
// follow are asked for: more of them would hold up what the tile reads.
func (a *asm) tilesBF16() {
	const most = 6
	a.text("bf16DP512tiles", 48, 80, "(data *byte, x unsafe.Pointer, xoff *int, n, cols, steps int, sums, y *float32, yoff *int, fours int)")
	a.p("MOVQ data+0(FP), SI")
	a.p("MOVQ SI, data-40(SP)")
	a.p("MOVQ cols+32(FP), R15")
	a.p("MOVQ fours+72(FP), CX")
	a.p("IMULQ R15, CX")
	a.p("LEAQ (SI)(CX*8), CX // the rows that follow")
	a.p("MOVQ x+8(FP), R8")
	a.p("MOVQ R8, x-16(SP)")
	a.p("MOVQ R15, R8")
	a.p("ANDQ $127, R8")
	a.p("MOVQ R8, tail-24(SP) // columns from this pass's group on")
	a.p("SHRQ $7, R15")
	a.p("SHLQ $6, R15 // bytes of x in whole chunks")
	a.p("MOVQ $0, pass-8(SP)")
	a.p("MOVL $0x1111, R8")
	a.p("KMOVW R8, K1")
	a.p("pass:")
	a.p("MOVQ tail-24(SP), R8")
	a.p("XORL R9, R9")
	a.p("TESTQ R8, R8")
	a.p("CMOVQLT R9, R8")
	a.p("MOVQ $-1, R9")
	a.p("BZHIQ R8, R9, R9")
	a.p("KMOVD R9, K2")
	a.p("MOVQ data-40(SP), SI")
	a.p("MOVQ cols+32(FP), R8")
	a.p("LEAQ (SI)(R8*2), AX")
	a.p("LEAQ (SI)(R8*4), BX")
	a.p("LEAQ (AX)(R8*4), DI")
	a.p("MOVQ sums+48(FP), R14")
	a.p("MOVQ $0, four-32(SP)")
	a.p("four:")
	w := [4]string{"SI", "AX", "BX", "DI"}
	for n := most; n > 1; n-- {
		a.p("CMPQ n+24(FP), $%d", n)
		a.p("JEQ tile%d", n)
	}
	for n := 1; n <= most; n++ {
		multiplied := func(load string) {
			for r := range 4 {
				a.p(load, w[r], 24+r)
			}
			for x := range n {
				a.p("VMOVDQU64 (R%d)(DX*1), Z%d", 8+x, 28+x%3)
				for r := range 4 {
					a.vdpbf16ps(28+x%3, 24+r, 4*x+r)
				}
			}
		}
		a.p("")
		a.p("tile%d:", n)
		a.p("MOVQ xoff+16(FP), DX")
		for x := range n {
			a.p("MOVQ %d(DX), R%d", 8*x, 8+x)
			a.p("ADDQ x-16(SP), R%d", 8+x)
		}
		for i := range 4 * n {
			a.p("VPXORD Z%d, Z%d, Z%d", i, i, i)
		}
		a.p("XORL DX, DX")
		a.p("TESTQ R15, R15")
		a.p("JEQ last%d", n)
		a.p("PCALIGN $32")
		a.p("chunk%d:", n)
		a.p("PREFETCHT1 (CX)")
		a.p("ADDQ $64, CX")
		multiplied("VMOVDQU64 (%s)(DX*4), Z%d")
		a.p("ADDQ $64, DX")
		a.p("CMPQ DX, R15")
		a.p("JNE chunk%d", n)
		a.p("last%d:", n)
		a.p("KTESTD K2, K2")
		a.p("JEQ sum%d", n)
		multiplied("VMOVDQU16.Z (%s)(DX*4), K2, Z%d")
		a.p("sum%d:", n)
		a.p("MOVQ pass-8(SP), DX")
		a.p("TESTQ DX, DX")
		a.p("JEQ keep%d", n)
		for i := range 4 * n {
			a.p("VADDPS %d(R14), Z%d, Z%d", 64*i, i, i)
		}
		a.p("CMPQ DX, $3")
		a.p("JEQ end%d", n)
		a.p("keep%d:", n)
		for i := range 4 * n {
			a.p("VMOVUPS Z%d, %d(R14)", i, 64*i)
		}
		a.p("JMP done%d", n)
		a.p("end%d:", n)
		a.p("MOVQ four-32(SP), R8")
		a.p("SHLQ $4, R8")
		a.p("ADDQ y+56(FP), R8")
		a.p("MOVQ yoff+64(FP), R9")
		for x := range n {
			a.p("MOVQ %d(R9), R10", 8*x)
			a.sumFour([4]int{4 * x, 4*x + 1, 4*x + 2, 4*x + 3}, 1)
			a.p("VMOVUPS X24, (R8)(R10*1)")
		}
		a.p("done%d:", n)
		a.p("ADDQ $%d, R14", 256*n)
		a.p("JMP multiplied")
	}
	a.p("")
	a.p("multiplied:")
	a.p("MOVQ cols+32(FP), R8")
	for _, r := range w {
		a.p("LEAQ (%s)(R8*8), %s", r, r)
	}
	a.p("INCQ four-32(SP)")
	a.p("MOVQ four-32(SP), R8")
	a.p("CMPQ R8, fours+72(FP)")
	a.p("JNE four")
	a.p("ADDQ $64, data-40(SP)")
	a.p("MOVQ steps+40(FP), R8")
	a.p("SHLQ $6, R8")
	a.p("ADDQ R8, x-16(SP)")
	a.p("SUBQ $32, tail-24(SP)")
	a.p("INCQ pass-8(SP)")
	a.p("CMPQ pass-8(SP), $4")
	a.p("JNE pass")
	a.p("VZEROUPPER")
	a.p("RET")
}

// sumFour leaves the sums of the lanes of four zmm in X24. K(mask) is 0x1111.
func (a *asm) sumFour(v [4]int, mask int) {
	a.p("VSHUFF64X2 $0x44, Z%d, Z%d, Z24", v[1], v[0])
	a.p("VSHUFF64X2 $0xee, Z%d, Z%d, Z25", v[1], v[0])
	a.p("VSHUFF64X2 $0x44, Z%d, Z%d, Z26", v[3], v[2])
	a.p("VSHUFF64X2 $0xee, Z%d, Z%d, Z27", v[3], v[2])
	a.p("VADDPS Z25, Z24, Z24 // lanes i and i+8 of two")
	a.p("VADDPS Z27, Z26, Z26")
	a.p("VSHUFF64X2 $0x88, Z26, Z24, Z25")
	a.p("VSHUFF64X2 $0xdd, Z26, Z24, Z27")
	a.p("VADDPS Z27, Z25, Z24 // i and i+4 of four")
	a.p("VPERMILPS $0x4e, Z24, Z25")
	a.p("VADDPS Z25, Z24, Z24")
	a.p("VPERMILPS $0xb1, Z24, Z25")
	a.p("VADDPS Z25, Z24, Z24")
	a.p("VCOMPRESSPS Z24, K%d, Z24", mask)
}

// How many bytes before it is read a line of weights is asked for: to the first
// cache, and to the second. The far distance is ten rows of the model's experts.
const (
	near = 2048
	far  = 14400
)

// prefetch asks for the lines to come of so many that are read at SI.
func (a *asm) prefetch(lines int) {
	for i := range lines {
		a.p("PREFETCHT0 %d(SI)", near+64*i)
		a.p("PREFETCHT2 %d(SI)", far+64*i)
	}
}

// The streaming loops multiply rows of w, read once and in order, with n rows
// of x at R8 on. Their accumulators are Z0 on: [n][4].
const streamSignature = "(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)"

// multiply adds the products of zmm u, the words of group g. It uses Z28 and, if
// it is made of multiply-adds, Z26 and Z27: a mask of the upper words.
func (a *asm) multiply(m multiplier, n, g, u int) {
	if m == fma {
		a.p("VPANDD Z%d, Z27, Z28", u)
		a.p("VPSLLD $16, Z%d, Z26", u)
	}
	for x := range n {
		acc := 4*x + g
		if m == dp {
			a.p("VMOVDQU64 (R%d)(%s*1), Z28", 8+x, indices[g])
			a.vdpbf16ps(28, u, acc)
			continue
		}
		a.p("VFMADD231PS (R%d)(%s*1), Z28, Z%d", 8+x, indices[g], acc)
		a.p("VFMADD231PS 64(R%d)(%s*1), Z26, Z%d", 8+x, indices[g], acc)
	}
}

// loadX sets R8 on to the rows of x.
func (a *asm) loadX(n int) {
	a.p("MOVQ x+16(FP), DX")
	a.p("MOVQ xoff+24(FP), AX")
	for x := range n {
		a.p("MOVQ %d(AX), R%d", 8*x, 8+x)
		a.p("ADDQ DX, R%d", 8+x)
	}
}

// startRow zeroes the accumulators and sets the indices.
func (a *asm) startRow(m multiplier, n int) {
	for i := range 4 * n {
		a.p("VPXORD Z%d, Z%d, Z%d", i, i, i)
	}
	a.p("MOVQ steps+64(FP), R15")
	a.p("IMULQ $%d, R15", m.xBytes())
	a.indices("R15")
}

// endRow adds the accumulators, stores the results and goes to the next row.
func (a *asm) endRow(n int) {
	a.p("MOVQ y+32(FP), DX")
	a.p("MOVQ yoff+40(FP), DI")
	for x := range n {
		a.p("MOVQ %d(DI), AX", 8*x)
		a.total(4 * x)
		a.p("VMOVSS X%d, (DX)(AX*1)", 4*x)
	}
	a.p("ADDQ $4, DX")
	a.p("MOVQ DX, y+32(FP)")
	a.p("DECQ rows+48(FP)")
	a.p("JNE row")
}

// total leaves the sum of the accumulators Z(v) to Z(v+3) in X(v).
func (a *asm) total(v int) {
	for g := 1; g < 4; g++ {
		a.p("VADDPS Z%d, Z%d, Z%d", v+g, v, v)
	}
	a.p("VEXTRACTF64X4 $1, Z%d, Y%d", v, v+1)
	a.p("VADDPS Y%d, Y%d, Y%d", v+1, v, v)
	a.p("VEXTRACTF32X4 $1, Y%d, X%d", v, v+1)
	a.p("VADDPS X%d, X%d, X%d", v+1, v, v)
	a.p("VPERMILPS $0x4e, X%d, X%d", v, v+1)
	a.p("VADDPS X%d, X%d, X%d", v+1, v, v)
	a.p("VPERMILPS $0xb1, X%d, X%d", v, v+1)
	a.p("VADDPS X%d, X%d, X%d", v+1, v, v)
}

// foursMXFP4 is streamMXFP4 of one row of x for a multiple of four rows, four at
// a time: all take each word of x when it is loaded, and their sums are made
// together. Lines come to the second cache in order, ahead of the four, and to
// the first when the row four before is read: at one distance alone they arrive
// too late, or push out what is needed sooner.
func (a *asm) foursMXFP4() {
	a.text("mxfp4DP512fours", 0, 74, streamSignature)
	a.startBlocks()
	a.p("MOVL $0x1111, AX")
	a.p("KMOVW AX, K2")
	a.loadX(1)
	a.p("MOVQ n+56(FP), R9")
	a.p("LEAQ (R9)(R9*1), R10 // bytes of a row's widened scales")
	a.p("LEAQ (R10)(R10*2), R12")
	a.p("SHLQ $4, R9 // bytes of a row")
	a.p("LEAQ (R9)(R9*2), R13")
	multiplied := func(load string) {
		for g := range 4 {
			a.p("VMOVDQU64 (R8)(%s*1), Z%d", indices[g], 26+g)
		}
		for r := range 4 {
			d := 16 + 5*(r&1)
			a.p("%s, Z%d", fmt.Sprintf(load, [4]string{"(SI)", "(SI)(R9*1)", "(SI)(R9*2)", "(SI)(R13*1)"}[r]), d)
			a.decode(d, [4]string{"(R14)", "(R14)(R10*1)", "(R14)(R10*2)", "(R14)(R12*1)"}[r])
			for g := range 4 {
				a.vdpbf16ps(26+g, d+g, 4*r+g)
			}
		}
	}
	a.p("row:")
	a.startRow(dp, 4)
	a.p("LEAQ (SI)(R9*4), R11")
	a.p("LEAQ %d(SI), R15", far)
	a.p("MOVQ n+56(FP), CX")
	a.p("SHRQ $2, CX")
	a.p("JZ last")
	a.p("PCALIGN $32")
	a.p("chunk:")
	for r := range 4 {
		a.p("PREFETCHT2 %d(R15)", 64*r)
	}
	for _, next := range []string{"(R11)", "(R11)(R9*1)", "(R11)(R9*2)", "(R11)(R13*1)"} {
		a.p("PREFETCHT0 %s", next)
	}
	multiplied("VMOVDQU64 %s")
	a.advance(dp.xBytes())
	a.p("ADDQ $64, SI")
	a.p("ADDQ $64, R11")
	a.p("ADDQ $256, R15")
	a.p("ADDQ $8, R14")
	a.p("DECQ CX")
	a.p("JNZ chunk")
	a.p("last:")
	a.p("MOVQ n+56(FP), CX")
	a.p("ANDQ $3, CX")
	a.p("JZ sum")
	multiplied("VMOVDQU32.Z %s, K1")
	a.p("LEAQ (R14)(CX*2), R14")
	a.p("SHLQ $4, CX")
	a.p("ADDQ CX, SI")
	a.p("sum:")
	a.p("ADDQ R13, SI")
	a.p("ADDQ R12, R14")
	for g := 1; g < 4; g++ {
		for r := range 4 {
			a.p("VADDPS Z%d, Z%d, Z%d", 4*r+g, 4*r, 4*r)
		}
	}
	a.p("MOVQ y+32(FP), DX")
	a.p("MOVQ yoff+40(FP), DI")
	a.p("MOVQ (DI), AX")
	a.sumFour([4]int{0, 4, 8, 12}, 2)
	a.p("VMOVUPS X24, (DX)(AX*1)")
	a.p("ADDQ $16, DX")
	a.p("MOVQ DX, y+32(FP)")
	a.p("SUBQ $4, rows+48(FP)")
	a.p("JNE row")
	a.p("MOVW $-1, least+72(FP)")
	a.p("VZEROUPPER")
	a.p("RET")
}

// pairsMXFP4 is streamMXFP4 with VDPBF16PS for an even number of rows, two at a
// time, as foursMXFP4 is for one row of x.
func (a *asm) pairsMXFP4(n int) {
	a.text(fmt.Sprintf("mxfp4DP512pairs%d", n), 0, 74, streamSignature)
	a.startBlocks()
	a.p("MOVL $0x1111, AX")
	a.p("KMOVW AX, K2")
	a.loadX(n)
	a.p("MOVQ n+56(FP), R12")
	a.p("LEAQ (R12)(R12*1), R13 // bytes of a row's widened scales")
	a.p("SHLQ $4, R12 // bytes of a row")
	a.p("LEAQ (R12)(R12*2), R11")
	data, scales := [2]string{"(SI)", "(SI)(R12*1)"}, [2]string{"(R14)", "(R14)(R13*1)"}
	multiplied := func(load string) {
		for r := range 2 {
			a.p("%s, Z%d", fmt.Sprintf(load, data[r]), 24+r)
			a.p("VPBROADCASTQ %s, Z%d", scales[r], 26+r)
			a.p("VPSHUFB perBlock<>(SB), Z%d, Z%d", 26+r, 26+r)
		}
		for g := range 4 {
			for r := range 2 {
				from := 24 + r
				if g > 0 {
					from = 28 + r
					a.p("VPSRLW $%d, Z%d, Z%d", 4*g, 24+r, from)
				}
				a.p("VPERMW Z30, Z%d, Z%d", from, 28+r)
				a.p("VPSUBUSW Z%d, Z%d, Z%d", 26+r, 28+r, 28+r)
			}
			for x := range n {
				a.p("VMOVDQU64 (R%d)(%s*1), Z31", 8+x, indices[g])
				for r := range 2 {
					a.vdpbf16ps(31, 28+r, 4*(2*x+r)+g)
				}
			}
		}
	}
	a.p("row:")
	a.startRow(dp, 2*n)
	a.p("LEAQ %d(SI), R15", far)
	a.p("MOVQ n+56(FP), CX")
	a.p("SHRQ $2, CX")
	a.p("JZ last")
	a.p("PCALIGN $32")
	a.p("chunk:")
	a.p("PREFETCHT2 (R15)")
	a.p("PREFETCHT2 64(R15)")
	a.p("PREFETCHT0 (SI)(R12*2)")
	a.p("PREFETCHT0 (SI)(R11*1)")
	multiplied("VMOVDQU64 %s")
	a.advance(dp.xBytes())
	a.p("ADDQ $64, SI")
	a.p("ADDQ $128, R15")
	a.p("ADDQ $8, R14")
	a.p("DECQ CX")
	a.p("JNZ chunk")
	a.p("last:")
	a.p("MOVQ n+56(FP), CX")
	a.p("ANDQ $3, CX")
	a.p("JZ sum")
	multiplied("VMOVDQU32.Z %s, K1")
	a.p("LEAQ (R14)(CX*2), R14")
	a.p("SHLQ $4, CX")
	a.p("ADDQ CX, SI")
	a.p("sum:")
	a.p("ADDQ R12, SI")
	a.p("ADDQ R13, R14")
	for g := 1; g < 4; g++ {
		for v := range 2 * n {
			a.p("VADDPS Z%d, Z%d, Z%d", 4*v+g, 4*v, 4*v)
		}
	}
	a.p("MOVQ y+32(FP), DX")
	a.p("MOVQ yoff+40(FP), DI")
	for x := 0; x < n; x += 2 {
		next := min(x+1, n-1)
		a.sumFour([4]int{8 * x, 8*x + 4, 8 * next, 8*next + 4}, 2)
		a.p("MOVQ %d(DI), AX", 8*x)
		a.p("VMOVLPS X24, (DX)(AX*1)")
		if next > x {
			a.p("MOVQ %d(DI), AX", 8*next)
			a.p("VMOVHPS X24, (DX)(AX*1)")
		}
	}
	a.p("ADDQ $8, DX")
	a.p("MOVQ DX, y+32(FP)")
	a.p("SUBQ $2, rows+48(FP)")
	a.p("JNE row")
	a.p("MOVW $-1, least+72(FP)")
	a.p("VZEROUPPER")
	a.p("RET")
}

// startBlocks prepares to read rows of blocks: SI, R14, and masks and tables.
func (a *asm) startBlocks() {
	a.p("MOVQ data+0(FP), SI")
	a.p("MOVQ wide+8(FP), R14")
	a.p("MOVQ n+56(FP), CX")
	a.p("ANDQ $3, CX")
	a.p("SHLQ $2, CX")
	a.p("MOVL $1, AX")
	a.p("SHLL CX, AX")
	a.p("DECL AX")
	a.p("KMOVW AX, K1 // dwords of the last blocks")
	a.p("VMOVDQU64 e2m1x252<>(SB), Z30")
	a.p("VMOVDQU64 perBlock<>(SB), Z31")
}

// streamMXFP4 reads rows of blocks, their number the second n of the signature.
func (a *asm) streamMXFP4(m multiplier, n int) {
	a.text(fmt.Sprintf("mxfp4%s512x%d", m, n), 0, 74, streamSignature)
	a.startBlocks()
	if m == fma {
		a.p("MOVL $0xffff0000, AX")
		a.p("VPBROADCASTD AX, Z27")
	}
	a.loadX(n)
	multiplied := func() {
		a.decode(20, "(R14)")
		for g := range 4 {
			a.multiply(m, n, g, 20+g)
		}
	}
	a.p("row:")
	a.startRow(m, n)
	a.p("MOVQ n+56(FP), CX")
	a.p("SHRQ $2, CX")
	a.p("JZ last")
	a.p("PCALIGN $32")
	a.p("chunk:")
	a.prefetch(1)
	a.p("VMOVDQU64 (SI), Z20")
	multiplied()
	a.advance(m.xBytes())
	a.p("ADDQ $64, SI")
	a.p("ADDQ $8, R14")
	a.p("DECQ CX")
	a.p("JNZ chunk")
	a.p("last:")
	a.p("MOVQ n+56(FP), CX")
	a.p("ANDQ $3, CX")
	a.p("JZ sum")
	a.p("VMOVDQU32.Z (SI), K1, Z20")
	multiplied()
	a.p("LEAQ (R14)(CX*2), R14")
	a.p("SHLQ $4, CX")
	a.p("ADDQ CX, SI")
	a.p("sum:")
	a.endRow(n)
	a.p("MOVW $-1, least+72(FP)")
	a.p("VZEROUPPER")
	a.p("RET")
}

// streamBF16 reads rows of columns, and returns the least of twice each weight
// less one.
func (a *asm) streamBF16(m multiplier, n int) {
	a.text(fmt.Sprintf("bf16%s512x%d", m, n), 0, 74, streamSignature)
	a.p("MOVQ data+0(FP), SI")
	a.p("MOVQ n+56(FP), CX")
	a.p("ANDQ $127, CX")
	a.tailMasks()
	a.p("VPTERNLOGD $255, Z31, Z31, Z31")
	a.p("VMOVDQA64 Z31, Z30")
	if m == fma {
		a.p("VPSLLD $16, Z31, Z27")
	}
	a.loadX(n)
	multiplied := func(g int) {
		a.multiply(m, n, g, 24)
		if m == dp {
			a.least(24, 26, 30)
		}
	}
	a.p("row:")
	a.startRow(m, n)
	a.p("MOVQ n+56(FP), CX")
	a.p("SHRQ $7, CX")
	a.p("JZ last")
	a.p("PCALIGN $32")
	a.p("chunk:")
	a.prefetch(4)
	for g := range 4 {
		a.p("VMOVDQU64 %d(SI), Z24", 64*g)
		multiplied(g)
	}
	a.advance(m.xBytes())
	a.p("ADDQ $256, SI")
	a.p("DECQ CX")
	a.p("JNZ chunk")
	a.p("last:")
	a.p("MOVQ n+56(FP), CX")
	a.p("ANDQ $127, CX")
	a.p("JZ sum")
	for g := range 4 {
		a.p("VMOVDQU16.Z %d(SI), K%d, Z24", 64*g, g+1)
		multiplied(g)
	}
	a.p("LEAQ (SI)(CX*2), SI")
	a.p("sum:")
	a.endRow(n)
	a.leastWord(30)
	a.p("MOVW AX, least+72(FP)")
	a.p("VZEROUPPER")
	a.p("RET")
}

// unpacking makes the words of four groups, Z20 to Z23, of two units of packed
// columns at SI, or of one, and then the last two are zeros: see packed.go. Z30
// is the exponent of code 0 in each byte, Z31 that of code 1, Z25 and Z29 are
// twos and fours, and R14 is where exponents without a code come from. It uses
// Z24, Z26, K2 to K4 and R13.
func (a *asm) unpacking(units int) {
	for u := range 2 {
		low, high, at := 20+2*u, 21+2*u, 88*u
		if u == units {
			a.p("VPXORD Z%d, Z%d, Z%d", low, low, low)
			a.p("VPXORD Z%d, Z%d, Z%d", high, high, high)
			break
		}
		for k := range 3 {
			a.p("KMOVQ %d(SI), K%d", at+8*k, 2+k)
		}
		a.p("VPBLENDMB Z31, Z30, K2, Z24")
		a.p("VPSUBB Z25, Z24, K3, Z24")
		a.p("VPSUBB Z29, Z24, K4, Z24")
		a.p("MOVQ %d(SI), R13 // faster than masks that are brought here", at)
		a.p("ANDQ %d(SI), R13", at+8)
		a.p("ANDQ %d(SI), R13", at+16)
		a.p("KMOVQ R13, K2")
		a.p("POPCNTQ R13, R13")
		a.p("VMOVDQU64 (R14), Z%d", low)
		a.p("VPEXPANDB Z%d, K2, Z24", low)
		a.p("ADDQ R13, R14")
		a.p("VMOVDQU64 %d(SI), Z26", at+24)
		a.p("VPUNPCKLBW Z24, Z26, Z%d", low)
		a.p("VPUNPCKHBW Z24, Z26, Z%d", high)
		for _, v := range []int{low, high} {
			a.p("VPSHRDW $1, Z%d, Z%d, Z%d", v, v, v)
		}
	}
}

// startUnpacking reads from what from points to, and keeps that pointer in it.
func (a *asm) startUnpacking(from string) {
	a.p("MOVQ %s, AX", from)
	a.p("MOVQ 8(AX), R14")
	a.p("VMOVDQU64 twos<>(SB), Z25")
	a.p("VMOVDQU64 fours<>(SB), Z29")
}

// startUnpackingRow takes the next row's exponent.
func (a *asm) startUnpackingRow(from string) {
	a.p("MOVQ %s, R13", from)
	a.p("MOVQ (R13), R15")
	a.p("VPBROADCASTB (R15), Z30")
	a.p("INCQ (R13)")
	a.p("VPTERNLOGD $255, Z31, Z31, Z31")
	a.p("VPADDB Z31, Z30, Z31 // one less")
}

// streamPacked reads packed rows of columns.
func (a *asm) streamPacked(m multiplier, n int) {
	a.text(fmt.Sprintf("packed%s512x%d", m, n), 0, 72, "(data *byte, from *packedFrom, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int)")
	a.p("MOVQ data+0(FP), SI")
	a.startUnpacking("from+8(FP)")
	if m == fma {
		a.p("MOVL $0xffff0000, AX")
		a.p("VPBROADCASTD AX, Z27")
	}
	a.loadX(n)
	multiplied := func() {
		for g := range 4 {
			a.multiply(m, n, g, 20+g)
		}
	}
	a.p("row:")
	a.startUnpackingRow("from+8(FP)")
	a.startRow(m, n)
	a.p("MOVQ n+56(FP), CX")
	a.p("ADDQ $63, CX")
	a.p("SHRQ $7, CX")
	a.p("JZ last")
	a.p("PCALIGN $32")
	a.p("chunk:")
	a.prefetch(3)
	a.unpacking(2)
	multiplied()
	a.advance(m.xBytes())
	a.p("ADDQ $176, SI")
	a.p("DECQ CX")
	a.p("JNZ chunk")
	a.p("last:")
	a.p("MOVQ n+56(FP), CX")
	a.p("DECQ CX")
	a.p("TESTQ $64, CX")
	a.p("JNZ sum")
	a.prefetch(2)
	a.unpacking(1)
	multiplied()
	a.p("ADDQ $88, SI")
	a.p("sum:")
	a.endRow(n)
	a.p("VZEROUPPER")
	a.p("RET")
}

func (a *asm) panelPacked() {
	a.text("panelPacked512", 0, 48, "(dst *uint16, data *byte, from *packedFrom, rows, n, steps int)")
	a.p("MOVQ dst+0(FP), R8")
	a.p("MOVQ data+8(FP), SI")
	a.startUnpacking("from+16(FP)")
	a.p("MOVQ rows+24(FP), R10")
	a.p("MOVQ n+32(FP), R11")
	a.p("MOVQ steps+40(FP), R12")
	a.p("SHLQ $8, R12 // bytes of a pass")
	a.p("LEAQ 63(R11), R9")
	a.p("SHRQ $6, R9")
	a.p("IMULQ $352, R9 // bytes of four rows")
	store := func() {
		for n, r := range indices {
			a.p("VMOVDQU64 Z%d, (R8)(%s*1)", 20+n, r)
		}
	}
	a.p("row:")
	a.startUnpackingRow("from+16(FP)")
	a.indices("R12")
	a.p("LEAQ 63(R11), CX")
	a.p("SHRQ $7, CX")
	a.p("JZ last")
	a.p("PCALIGN $32")
	a.p("chunk:")
	for g := range 3 {
		a.p("PREFETCHT1 %d(SI)(R9*1)", 64*g)
	}
	a.unpacking(2)
	store()
	a.advance(256)
	a.p("ADDQ $176, SI")
	a.p("DECQ CX")
	a.p("JNZ chunk")
	a.p("last:")
	a.p("LEAQ -1(R11), CX")
	a.p("TESTQ $64, CX")
	a.p("JNZ next")
	a.unpacking(1)
	store()
	a.p("ADDQ $88, SI")
	a.p("next:")
	a.p("ADDQ $64, R8")
	a.p("DECQ R10")
	a.p("JNZ row")
	a.p("VZEROUPPER")
	a.p("RET")
}

// pack rounds and orders whole chunks of x as words.
func (a *asm) pack() {
	for _, mx := range []bool{false, true} {
		name := "packBF16x512"
		if mx {
			name = "packMXFP4x512"
		}
		a.text(name, 0, 36, "(dst *uint16, x *float32, chunks, steps int) (least, most uint16)")
		a.p("MOVQ dst+0(FP), R8")
		a.p("MOVQ x+8(FP), SI")
		a.p("MOVQ chunks+16(FP), CX")
		a.p("MOVQ steps+24(FP), R12")
		a.p("SHLQ $6, R12")
		a.indices("R12")
		a.p("VPTERNLOGD $255, Z31, Z31, Z31")
		a.p("VMOVDQA64 Z31, Z30")
		a.p("VPXORD Z26, Z26, Z26")
		a.p("VPSRLD $31, Z31, Z29 // 1")
		a.p("VPSRLD $17, Z31, Z28 // 0x7fff")
		a.p("VPSLLD $22, Z29, Z27 // makes a NaN quiet")
		a.p("chunk:")
		for n := range 4 {
			for h := range 2 {
				v, u := 2*n+h, 8+2*n+h
				a.p("VMOVUPS %d(SI), Z%d", 128*n+64*h, v)
				a.p("VPSRLD $16, Z%d, Z%d", v, u)
				a.p("VPANDD Z29, Z%d, Z%d", u, u)
				a.p("VPADDD Z28, Z%d, Z%d", u, u)
				a.p("VPADDD Z%d, Z%d, Z%d // nearest, ties to even", v, u, u)
				a.p("VCMPPS $3, Z%d, Z%d, K1", v, v)
				a.p("VPORD Z27, Z%d, K1, Z%d", v, u)
				a.p("VPSRLD $16, Z%d, Z%d", u, u)
				a.p("VPMOVDW Z%d, Y%d", u, u)
			}
			a.p("VINSERTI64X4 $1, Y%d, Z%d, Z%d", 9+2*n, 8+2*n, n)
			a.p("VPADDW Z%d, Z%d, Z8", n, n)
			a.p("VPMAXUW Z8, Z26, Z26")
			a.least(n, 8, 30)
			if !mx {
				a.p("VMOVDQU64 Z%d, (R8)(%s*1)", n, indices[n])
			}
		}
		if mx {
			for n := range 4 {
				for k := range 4 {
					a.p("VPMOVQW Z%d, %d(R8)(%s*1)", k, 16*k, indices[n])
				}
				if n < 3 {
					for k := range 4 {
						a.p("VPSRLQ $16, Z%d, Z%d", k, k)
					}
				}
			}
		}
		a.advance(64)
		a.p("ADDQ $512, SI")
		a.p("DECQ CX")
		a.p("JNZ chunk")
		a.leastWord(30)
		a.p("MOVW AX, least+32(FP)")
		a.p("VPXORD Z31, Z26, Z26 // the most is the least complement")
		a.leastWord(26)
		a.p("NOTL AX")
		a.p("MOVW AX, most+34(FP)")
		a.p("VZEROUPPER")
		a.p("RET")
	}
}

func (a *asm) read() {
	a.text("read512", 0, 24, "(b *byte, n int) uint64")
	a.p("MOVQ b+0(FP), SI")
	a.p("MOVQ n+8(FP), CX")
	for i := range 4 {
		a.p("VPXORQ Z%d, Z%d, Z%d", i, i, i)
	}
	a.p("PCALIGN $32")
	a.p("loop:")
	for i := range 4 {
		a.p("PREFETCHT0 %d(SI)", 1024+64*i)
	}
	for i := range 4 {
		a.p("VPXORQ %d(SI), Z%d, Z%d", 64*i, i, i)
	}
	a.p("ADDQ $256, SI")
	a.p("SUBQ $256, CX")
	a.p("JNE loop")
	a.p("VPXORQ Z1, Z0, Z0")
	a.p("VPXORQ Z3, Z2, Z2")
	a.p("VPXORQ Z2, Z0, Z0")
	a.p("VEXTRACTI64X4 $1, Z0, Y1")
	a.p("VPXOR Y1, Y0, Y0")
	a.p("VEXTRACTI128 $1, Y0, X1")
	a.p("VPXOR X1, X0, X0")
	a.p("VPSRLDQ $8, X0, X1")
	a.p("VPXOR X1, X0, X0")
	a.p("VMOVQ X0, AX")
	a.p("MOVQ AX, ret+16(FP)")
	a.p("VZEROUPPER")
	a.p("RET")
}
