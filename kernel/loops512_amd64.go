package kernel

import "unsafe"

// The loops of matrix512_amd64.s. They look at no length: every count is
// positive, offsets are in bytes, and steps is a quarter of the groups.

// widenScales512 writes (252-scale)·128 for n scales, and returns the lowest
// and highest of them.
//
//go:noescape
func widenScales512(dst *uint16, src *byte, n int) (lo, hi uint16)

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

// packBF16x512 and packMXFP4x512 round whole chunks to words of layout pairs.
//
//go:noescape
func packBF16x512(dst *uint16, x *float32, chunks, steps int) (least uint16)

//go:noescape
func packMXFP4x512(dst *uint16, x *float32, chunks, steps int) (least uint16)

// read512 reads n bytes, a multiple of 256.
//
//go:noescape
func read512(b *byte, n int) uint64

// The streaming loops, by rows of w at once and rows of x.

//go:noescape
func mxfp4DP512x1x1(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16DP512x1x1(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4DP512x2x1(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16DP512x2x1(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4DP512x1x2(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16DP512x1x2(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4DP512x1x3(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16DP512x1x3(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4DP512x1x4(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16DP512x1x4(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4DP512x1x5(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16DP512x1x5(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4DP512x1x6(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16DP512x1x6(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4FMA512x1x1(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16FMA512x1x1(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4FMA512x2x1(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16FMA512x2x1(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4FMA512x1x2(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16FMA512x1x2(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4FMA512x1x3(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16FMA512x1x3(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4FMA512x1x4(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16FMA512x1x4(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4FMA512x1x5(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16FMA512x1x5(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func mxfp4FMA512x1x6(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)

//go:noescape
func bf16FMA512x1x6(data *byte, wide *uint16, x unsafe.Pointer, xoff *int, y *float32, yoff *int, rows, n, steps int) (least uint16)
