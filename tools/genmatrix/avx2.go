package main

import "fmt"

// avx2 writes the AVX2 loops. Weights become float32: a word of a group is the
// upper half of its lane, so the odd words are masked and the even ones shifted.
// The sixteen lanes are two halves, and each half of an accumulator is a run of
// its own in x and in panels: run 2g+half.
func (a *asm) avx2() {
	a.constants256()
	a.rows256("dot")
	a.rows256("panel")
	a.tiles256()
	a.packLanes(256)
	a.unpack256()
	a.read256()
}

// unpack256 writes packed rows as bfloat16 ones, n columns apart, and up to 63
// columns after the last: see packed.go. Exponents without a code are wrong.
func (a *asm) unpack256() {
	a.text("unpack256", 0, 40, "(dst, data, base *byte, rows, n int)")
	a.p("MOVQ dst+0(FP), DI")
	a.p("MOVQ data+8(FP), SI")
	a.p("MOVQ base+16(FP), BX")
	a.p("MOVQ rows+24(FP), DX")
	a.p("VMOVDQU byteOfBit<>(SB), Y14")
	a.p("VMOVDQU bitOfByte<>(SB), Y13")
	a.p("VPCMPEQB Y12, Y12, Y12")
	a.p("VPADDB Y12, Y12, Y12")
	a.p("VPADDB Y12, Y12, Y12 // -4")
	a.p("row:")
	a.p("VPBROADCASTB (BX), Y15")
	a.p("INCQ BX")
	a.p("MOVQ DI, R8")
	a.p("MOVQ n+32(FP), CX")
	a.p("LEAQ (DI)(CX*2), DI")
	a.p("ADDQ $63, CX")
	a.p("SHRQ $6, CX")
	a.p("PCALIGN $32")
	a.p("unit:")
	a.p("PREFETCHT0 2048(SI)")
	a.p("PREFETCHT0 2112(SI)")
	for half := range 2 {
		for k := range 3 {
			a.p("VPBROADCASTD %d(SI), Y%d", 8*k+4*half, k)
			a.p("VPSHUFB Y14, Y%d, Y%d", k, k)
			a.p("VPAND Y13, Y%d, Y%d", k, k)
			a.p("VPCMPEQB Y13, Y%d, Y%d // -1 where the bit is set", k, k)
		}
		a.p("VPADDB Y0, Y15, Y3")
		a.p("VPADDB Y1, Y3, Y3")
		a.p("VPADDB Y1, Y3, Y3")
		a.p("VPAND Y12, Y2, Y2")
		a.p("VPADDB Y2, Y3, Y3")
		a.p("VMOVDQU %d(SI), Y4", 24+32*half)
		a.p("VPUNPCKLBW Y3, Y4, Y5")
		a.p("VPUNPCKHBW Y3, Y4, Y6")
		for k, v := range []int{5, 6} {
			a.p("VPSRLW $1, Y%d, Y7", v)
			a.p("VPSLLW $15, Y%d, Y%d", v, v)
			a.p("VPOR Y7, Y%d, Y%d", v, v)
			a.p("VMOVDQU Y%d, %d(R8)", v, 32*half+64*k)
		}
	}
	a.p("ADDQ $88, SI")
	a.p("ADDQ $128, R8")
	a.p("DECQ CX")
	a.p("JNZ unit")
	a.p("DECQ DX")
	a.p("JNE row")
	a.p("VZEROUPPER")
	a.p("RET")
}

func (a *asm) constants256() {
	a.p("// The upper and lower bytes of the E2M1 values as bfloat16. Zeros are +0.")
	values := [8]uint16{0, 0x3f00, 0x3f80, 0x3fc0, 0x4000, 0x4040, 0x4080, 0x40c0}
	for k, name := range []string{"e2m1low", "e2m1high"} {
		for i := range 4 {
			var b [8]byte
			for c := range b {
				code := (8*i + c) & 15
				v := values[code&7]
				if code > 8 {
					v |= 0x8000
				}
				b[c] = byte(v >> (8 * k))
			}
			a.p("DATA %s<>+%d(SB)/8, $0x%02x%02x%02x%02x%02x%02x%02x%02x", name, 8*i, b[7], b[6], b[5], b[4], b[3], b[2], b[1], b[0])
		}
		a.p("GLOBL %s<>(SB), RODATA|NOPTR, $32", name)
	}
	for i := range 4 {
		a.p("DATA nibbles<>+%d(SB)/8, $0x0f0f0f0f0f0f0f0f", 8*i)
		a.p("DATA byteOfBit<>+%d(SB)/8, $0x%016x", 8*i, uint64(i)*0x0101010101010101)
		a.p("DATA bitOfByte<>+%d(SB)/8, $0x8040201008040201", 8*i)
		a.p("DATA upper<>+%d(SB)/8, $0xffff0000ffff0000", 8*i)
		a.p("DATA blocks01<>+%d(SB)/8, $0x%08x%08x", 8*i, i/2, i/2)
		a.p("DATA blocks23<>+%d(SB)/8, $0x%08x%08x", 8*i, 2+i/2, 2+i/2)
	}
	for i := range 2 {
		a.p("DATA evenOdd<>+%d(SB)/8, $0x0d0c090805040100", 16*i)
		a.p("DATA evenOdd<>+%d(SB)/8, $0x0f0e0b0a07060302", 16*i+8)
		a.p("DATA tiniest<>+%d(SB)/8, $0x0040000000400000", 8*i)
	}
	a.p("GLOBL tiniest<>(SB), RODATA|NOPTR, $16")
	for _, name := range []string{"nibbles", "byteOfBit", "bitOfByte", "upper", "blocks01", "blocks23", "evenOdd"} {
		a.p("GLOBL %s<>(SB), RODATA|NOPTR, $32", name)
	}
}

// rows256 writes the loops over rows of w: dot multiplies them with a row of x,
// panel writes them as rows of a panel. Whole chunks are in place; if a row has
// more, they are in last, padded to a chunk for each row.
func (a *asm) rows256(what string) {
	step := map[string]int{"dot": 64, "panel": 256}[what] // of a run
	for _, kind := range []string{"BF16", "MXFP4"} {
		mx := kind == "MXFP4"
		bytes := map[bool]int{false: 256, true: 64}[mx]
		a.text(fmt.Sprintf("%s%sx256", what, kind), 0, 88, "(x *float32, data, scales *byte, whole int, last, lastScales *byte, steps, rows, dataStride, scaleStride int, y *float32)")
		a.p("MOVQ x+0(FP), R8")
		a.p("MOVQ steps+48(FP), AX")
		a.p("IMULQ $%d, AX // bytes of a run", step)
		for run := 1; run < 8; run++ {
			a.p("LEAQ (R%d)(AX*1), R%d", 7+run, 8+run)
		}
		if mx {
			a.p("VMOVDQU e2m1low<>(SB), Y14")
			a.p("VMOVDQU e2m1high<>(SB), Y15")
			a.p("VMOVDQU evenOdd<>(SB), Y13")
		} else {
			a.p("VMOVDQU upper<>(SB), Y15")
		}
		a.p("row:")
		a.p("MOVQ data+8(FP), SI")
		a.p("MOVQ scales+16(FP), DI")
		a.p("MOVQ whole+24(FP), CX")
		if what == "dot" {
			for i := range 8 {
				a.p("VXORPS Y%d, Y%d, Y%d", i, i, i)
			}
		}
		a.p("XORL DX, DX")
		a.p("TESTQ CX, CX")
		a.p("JZ rest")
		// use takes the odd or even words of a run, as float32 in Y(v).
		use := func(run, odd, v int) {
			if what == "dot" {
				a.p("VFMADD231PS %d(R%d)(DX*1), Y%d, Y%d", 32*(1-odd), 8+run, v, run)
			} else {
				a.p("VMOVUPS Y%d, %d(R%d)(DX*1)", v, 32*(1-odd), 8+run)
			}
		}
		a.p("PCALIGN $32")
		a.p("chunk:")
		if !mx {
			for g := range 4 {
				a.p("PREFETCHT0 %d(SI)", 2048+64*g)
			}
			for g := range 4 {
				for half := range 2 {
					a.p("VMOVDQU %d(SI), Y8", 64*g+32*half)
					a.p("VPAND Y15, Y8, Y9")
					a.p("VPSLLD $16, Y8, Y8")
					use(2*g+half, 1, 9)
					use(2*g+half, 0, 8)
				}
			}
		} else {
			a.p("PREFETCHT0 2048(SI)")
			a.p("// 2^(scale-127), for byte 0 the subnormal")
			for half := range 2 {
				a.p("VPMOVZXBD (DI), X10")
				a.p("VPSLLD $23, X10, X10")
				a.p("VPMAXUD tiniest<>(SB), X10, X10")
				a.p("VMOVDQU blocks%d%d<>(SB), Y12", 2*half, 2*half+1)
				a.p("VPERMPS Y10, Y12, Y12 // scales of this half")
				a.p("VMOVDQU %d(SI), Y11", 32*half)
				a.p("VPSHUFB Y13, Y11, Y11 // even words, odd words")
				for n := range 2 { // codes n and n+2 of each word
					if n > 0 {
						a.p("VPSRLW $4, Y11, Y11")
					}
					a.p("VPAND nibbles<>(SB), Y11, Y8")
					a.p("VPSHUFB Y8, Y14, Y9")
					a.p("VPSHUFB Y8, Y15, Y10")
					a.p("VPUNPCKLBW Y10, Y9, Y8 // of each even word codes n and n+2")
					a.p("VPUNPCKHBW Y10, Y9, Y9 // and of each odd word")
					for k, run := range []int{2*n + half, 2*(n+2) + half} {
						for _, odd := range []int{1, 0} {
							if k == 0 {
								a.p("VPSLLD $16, Y%d, Y10", 8+odd)
							} else {
								a.p("VPAND upper<>(SB), Y%d, Y10", 8+odd)
							}
							a.p("VMULPS Y12, Y10, Y10")
							use(run, odd, 10)
						}
					}
				}
			}
			a.p("ADDQ $4, DI")
		}
		a.p("ADDQ $%d, SI", bytes)
		a.p("ADDQ $%d, DX", step)
		a.p("DECQ CX")
		a.p("JG chunk")
		a.p("JL end")
		a.p("rest:")
		a.p("MOVQ whole+24(FP), BX")
		a.p("CMPQ BX, steps+48(FP)")
		a.p("JEQ end")
		a.p("MOVQ last+32(FP), SI")
		a.p("MOVQ lastScales+40(FP), DI")
		a.p("JMP chunk // CX is 0, and will be -1")
		a.p("end:")
		if what == "dot" {
			for half := range 2 {
				for g := 1; g < 4; g++ {
					a.p("VADDPS Y%d, Y%d, Y%d", 2*g+half, half, half)
				}
			}
			a.p("VADDPS Y1, Y0, Y0 // lanes i and i+8")
			a.p("VEXTRACTF128 $1, Y0, X1")
			a.p("VADDPS X1, X0, X0")
			a.p("VPERMILPS $0x4e, X0, X1")
			a.p("VADDPS X1, X0, X0")
			a.p("VPERMILPS $0xb1, X0, X1")
			a.p("VADDSS X1, X0, X0")
			a.p("MOVQ y+80(FP), BX")
			a.p("VMOVSS X0, (BX)")
			a.p("ADDQ $4, y+80(FP)")
		} else {
			for run := range 8 {
				a.p("ADDQ $64, R%d", 8+run)
			}
		}
		a.p("MOVQ dataStride+64(FP), BX")
		a.p("ADDQ BX, data+8(FP)")
		a.p("MOVQ scaleStride+72(FP), BX")
		a.p("ADDQ BX, scales+16(FP)")
		a.p("ADDQ $%d, last+32(FP)", bytes)
		a.p("ADDQ $4, lastScales+40(FP)")
		a.p("DECQ rows+56(FP)")
		a.p("JNE row")
		a.p("VZEROUPPER")
		a.p("RET")
	}
}

// tiles256 multiplies a panel of four rows of w with n rows of x, three or two at
// a time, n being at least 2. The eight runs are passes over all rows of x; sums
// holds the lanes between passes: [n][4][16].
func (a *asm) tiles256() {
	a.text("tiles256", 8, 64, "(panel, x *float32, xoff *int, n, steps int, sums, y *float32, yoff *int)")
	a.p("MOVQ panel+0(FP), SI")
	a.p("MOVQ x+8(FP), AX")
	a.p("MOVQ steps+32(FP), R15")
	a.p("SHLQ $6, R15 // bytes of a run of x")
	a.p("MOVQ $0, run-8(SP)")
	a.p("run:")
	a.p("MOVQ xoff+16(FP), BX")
	a.p("MOVQ n+24(FP), CX")
	a.p("MOVQ sums+40(FP), DI")
	a.p("MOVQ run-8(SP), DX")
	a.p("ANDQ $1, DX")
	a.p("SHLQ $5, DX")
	a.p("ADDQ DX, DI // the half of the lanes")
	a.p("MOVQ yoff+56(FP), R14")
	a.p("tile:")
	a.p("CMPQ CX, $2")
	a.p("JEQ tile2")
	a.p("CMPQ CX, $4 // are two and two")
	a.p("JEQ tile2")
	for _, n := range []int{3, 2} {
		a.p("")
		a.p("tile%d:", n)
		for x := range n {
			a.p("MOVQ %d(BX), R%d", 8*x, 8+x)
			a.p("ADDQ AX, R%d", 8+x)
		}
		for i := range 4 * n {
			a.p("VXORPS Y%d, Y%d, Y%d", i, i, i)
		}
		a.p("XORL DX, DX")
		a.p("PCALIGN $32")
		a.p("loop%d:", n)
		for half := range 2 { // odd words, then even ones
			for x := range n {
				a.p("VMOVUPS %d(R%d)(DX*1), Y%d", 32*half, 8+x, 13+x)
			}
			for r := range 4 {
				a.p("VMOVUPS %d(SI)(DX*4), Y12", 64*r+32*half)
				for x := range n {
					a.p("VFMADD231PS Y%d, Y12, Y%d", 13+x, 4*x+r)
				}
			}
		}
		a.p("ADDQ $64, DX")
		a.p("CMPQ DX, R15")
		a.p("JNE loop%d", n)
		a.p("MOVQ run-8(SP), DX")
		a.p("CMPQ DX, $2")
		a.p("JLT keep%d", n)
		for i := range 4 * n {
			a.p("VADDPS %d(DI), Y%d, Y%d", 64*i, i, i)
		}
		a.p("CMPQ DX, $7")
		a.p("JEQ end%d", n)
		a.p("keep%d:", n)
		for i := range 4 * n {
			a.p("VMOVUPS Y%d, %d(DI)", i, 64*i)
		}
		a.p("JMP done%d", n)
		a.p("end%d:", n)
		for i := range 4 * n {
			a.p("VADDPS %d(DI), Y%d, Y%d // lanes i and i+8", 64*i-32, i, i)
		}
		a.p("MOVQ y+48(FP), DX")
		for x := range n {
			v := 4 * x
			a.p("MOVQ %d(R14), R8", 8*x)
			for k := range 2 {
				a.p("VPERM2F128 $0x20, Y%d, Y%d, Y12", v+2*k+1, v+2*k)
				a.p("VPERM2F128 $0x31, Y%d, Y%d, Y13", v+2*k+1, v+2*k)
				a.p("VADDPS Y13, Y12, Y%d // i and i+4 of two rows", 14+k)
			}
			a.p("VSHUFPS $0x44, Y15, Y14, Y12")
			a.p("VSHUFPS $0xee, Y15, Y14, Y13")
			a.p("VADDPS Y13, Y12, Y12")
			a.p("VSHUFPS $0x88, Y12, Y12, Y13")
			a.p("VSHUFPS $0xdd, Y12, Y12, Y14")
			a.p("VADDPS Y14, Y13, Y12 // rows 0, 2 and 1, 3")
			a.p("VEXTRACTF128 $1, Y12, X13")
			a.p("VUNPCKLPS X13, X12, X12")
			a.p("VMOVUPS X12, (DX)(R8*1)")
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
	a.p("LEAQ (SI)(R15*4), SI")
	a.p("MOVQ run-8(SP), DX")
	a.p("INCQ DX")
	a.p("MOVQ DX, run-8(SP)")
	a.p("CMPQ DX, $8")
	a.p("JNE run")
	a.p("VZEROUPPER")
	a.p("RET")
}

func (a *asm) read256() {
	a.text("read256", 0, 24, "(b *byte, n int) uint64")
	a.p("MOVQ b+0(FP), SI")
	a.p("MOVQ n+8(FP), CX")
	for i := range 8 {
		a.p("VPXOR Y%d, Y%d, Y%d", i, i, i)
	}
	a.p("PCALIGN $32")
	a.p("loop:")
	for i := range 4 {
		a.p("PREFETCHT0 %d(SI)", 1024+64*i)
	}
	for i := range 8 {
		a.p("VPXOR %d(SI), Y%d, Y%d", 32*i, i, i)
	}
	a.p("ADDQ $256, SI")
	a.p("SUBQ $256, CX")
	a.p("JNE loop")
	for n := 4; n > 0; n /= 2 {
		for i := range n {
			a.p("VPXOR Y%d, Y%d, Y%d", i+n, i, i)
		}
	}
	a.p("VEXTRACTI128 $1, Y0, X1")
	a.p("VPXOR X1, X0, X0")
	a.p("VPSRLDQ $8, X0, X1")
	a.p("VPXOR X1, X0, X0")
	a.p("VMOVQ X0, AX")
	a.p("MOVQ AX, ret+16(FP)")
	a.p("VZEROUPPER")
	a.p("RET")
}
