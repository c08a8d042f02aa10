package kernel

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"ossify/float"
)

func bf16Matrix(rows, cols int, next func() float32) Matrix {
	w := Matrix{Kind: BF16, Rows: rows, Cols: cols}
	for range rows * cols {
		w.Data = binary.LittleEndian.AppendUint16(w.Data, float.ToBF16(next()))
	}
	return w
}

func plainAlloc(n int) []byte { return make([]byte, n) }

// What every set unpacks is what was packed, byte for byte: whatever the values,
// from any row on.
func TestPackedBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	for name, next := range map[string]func() float32{
		"normal":       func() float32 { return float32(r.NormFloat64() / 64) },
		"wide":         func() float32 { return float32(math.Ldexp(r.NormFloat64(), r.IntN(200)-100)) },
		"any bits":     func() float32 { return math.Float32frombits(r.Uint32()) },
		"one value":    func() float32 { return -2 },
		"all negative": func() float32 { return -float32(math.Abs(r.NormFloat64())) },
		"NaN":          func() float32 { return float32(math.NaN()) },
	} {
		for _, cols := range []int{1, 5, 63, 64, 65, 100, 127, 128, 129, 192, 193, 320, 2880} {
			w := bf16Matrix(7, cols, next)
			p := packed(w, r.IntN(64))
			for lo := range 7 {
				part := p.Part(lo, 7)
				for _, set := range unpackers() {
					got := make([]byte, 2*(7-lo)*cols+128)
					set.unpack(got, &part, 0, 7-lo)
					if got, want := got[:2*(7-lo)*cols], w.Data[2*lo*cols:]; !bytes.Equal(got, want) {
						t.Fatalf("%s, %d columns from row %d, %s: not what was packed", name, cols, lo, set.name)
					}
				}
			}
		}
	}
}

type namedUnpacker struct {
	name   string
	unpack unpacker
}

// A matrix is packed if it pays.
func TestPackMatrix(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 34))
	normal := func() float32 { return float32(r.NormFloat64()) }
	w := bf16Matrix(300, 2880, normal)
	p, ok := PackMatrix(w, plainAlloc, thirds)
	if !ok {
		t.Fatal("normal weights were not packed")
	}
	if share := float64(p.Bytes()) / float64(w.Bytes()); !(share < 0.704) {
		t.Errorf("normal weights take %.4f of their bytes, want 0.70", share)
	}
	rare := len(p.Codes.rare) - vector
	t.Logf("%d of %d weights have no code, %.4f of the bytes", rare, 300*2880, float64(p.Bytes())/float64(w.Bytes()))
	if !(rare < 300*2880/35) {
		t.Errorf("%d weights have no code, want one in 40", rare)
	}
	// Each row has seven exponents of its own.
	n := 0
	if _, ok := PackMatrix(bf16Matrix(300, 2880, func() float32 { n++; return float32(math.Ldexp(r.NormFloat64(), n/2880%40)) }), plainAlloc, thirds); !ok {
		t.Error("normal rows of different sizes were not packed")
	}
	for name, w := range map[string]Matrix{
		"any bits":    bf16Matrix(300, 64, func() float32 { return math.Float32frombits(r.Uint32()) }),
		"MXFP4":       {Kind: MXFP4, Rows: 1, Cols: 32, Data: make([]byte, 16), Scales: make([]byte, 1)},
		"packed":      p,
		"one odd row": bf16Matrix(3, 64, func() float32 { return float32(math.Ldexp(1, r.IntN(120))) }),
	} {
		if _, ok := PackMatrix(w, plainAlloc, thirds); ok {
			t.Errorf("%s: was packed", name)
		}
	}
	// Rows that the choice of codes did not look at.
	w = bf16Matrix(10_000, 64, normal)
	for r := 1; r < w.Rows; r += 3 {
		for i := range w.data(r) {
			w.data(r)[i] = byte(7*i + r)
		}
	}
	if _, ok := PackMatrix(w, plainAlloc, thirds); ok {
		t.Error("a matrix of which a third is noise was packed")
	}
}

// A packed matrix of another's codes, or of none, is refused.
func TestPackedJobsThatDoNotFit(t *testing.T) {
	w := bf16Matrix(4, 64, func() float32 { return 1 })
	set := Portable()
	var x Activations
	set.Pack(&x, Packed, true, make([]float32, 64), 1, 64, 64)
	for name, spoil := range map[string]func(w *Matrix){
		"no codes":   func(w *Matrix) { w.Codes = nil },
		"short data": func(w *Matrix) { w.Data = w.Data[1:] },
		"rows of codes": func(w *Matrix) {
			w.first = 1
		},
	} {
		p := packed(w, 0)
		job := func() { set.Multiply(&Job{W: p, Hi: 4, X: &x, Y: make([]float32, 4), Stride: 4}, &Scratch{}) }
		job()
		spoil(&p)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			job()
		}()
	}
}
