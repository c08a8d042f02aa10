package kernel

import "unsafe"

// The loops of matrix512_amd64.s. They look at no length: every count is
// positive, offsets are in bytes, and steps is a quarter of the groups.

// widenScales512 writes (252-scale)·128 for n scales, and all ones for those
// below 2. It returns the least, the least of those from 2 on (65535 if there is
// none) and the highest. It writes 32 at a time.
//
//go:noescape
func widenScales512(dst *uint16, src *byte, n int) (least, lo, hi uint16)

// widenPlain512 is widenScales512 where none is below 2, and only then. It
// writes 64 at a time.
//
//go:noescape
func widenPlain512(dst *uint16, src *byte, n int) (least, hi byte)

// panelMXFP4x512 and panelBF16x512 decode rows, at most four. The latter returns
// the least of twice each weight less one.
//
//go:noescape
func panelMXFP4x512(dst *uint16, data *byte, wide *uint16, rows, blocks, steps int)

//go:noescape
func panelBF16x512(dst *uint16, data *byte, rows, cols, steps int) (least uint16)

// tilesDP512 and tilesFMA512 multiply a panel with n rows of x.
//
//go:noescape
func tilesDP512(panel *uint16, x unsafe.Pointer, xoff *int, n, steps int, sums, y *float32, yoff *int)

//go:noescape
func tilesFMA512(panel *uint16, x unsafe.Pointer, xoff *int, n, steps int, sums, y *float32, yoff *int)

// packBF16x512 and packMXFP4x512 round whole chunks to words of layout pairs, and
// return the least of twice each word less one, and the most of twice each.
//
//go:noescape
func packBF16x512(dst *uint16, x *float32, chunks, steps int) (least, most uint16)

//go:noescape
func packMXFP4x512(dst *uint16, x *float32, chunks, steps int) (least, most uint16)

// read512 reads n bytes, a multiple of 256.
//
//go:noescape
func read512(b *byte, n int) uint64

// The streaming loops of 1 to 5 rows of x: n is a row's blocks or columns. Those
// of BF16 return the least of twice each weight less one.

//go:noescape
func mxfp4DP512x1(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4DP512fours(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4DP512pairs2(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4DP512pairs3(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16DP512tiles(data *byte, x unsafe.Pointer, xoff *int, n, cols, steps int, sums, y *float32, yoff *int, fours int)

//go:noescape
func mxfp4DP512x2(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4DP512x3(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4DP512x4(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4DP512x5(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4FMA512x1(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4FMA512x2(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4FMA512x3(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4FMA512x4(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4FMA512x5(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16DP512x1(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16DP512x2(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16DP512x3(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16DP512x4(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16DP512x5(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16FMA512x1(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16FMA512x2(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16FMA512x3(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16FMA512x4(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16FMA512x5(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func packedDP512x1(data *byte, from *packedFrom, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int)

//go:noescape
func packedDP512x2(data *byte, from *packedFrom, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int)

//go:noescape
func packedDP512x3(data *byte, from *packedFrom, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int)

//go:noescape
func packedDP512x4(data *byte, from *packedFrom, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int)

//go:noescape
func packedDP512x5(data *byte, from *packedFrom, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int)

//go:noescape
func packedFMA512x1(data *byte, from *packedFrom, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int)

//go:noescape
func packedFMA512x2(data *byte, from *packedFrom, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int)

//go:noescape
func packedFMA512x3(data *byte, from *packedFrom, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int)

//go:noescape
func packedFMA512x4(data *byte, from *packedFrom, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int)

//go:noescape
func packedFMA512x5(data *byte, from *packedFrom, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int)

// panelPacked512 decodes packed rows of n columns, at most four.
//
//go:noescape
func panelPacked512(dst *uint16, data *byte, from *packedFrom, rows, n, steps int)
