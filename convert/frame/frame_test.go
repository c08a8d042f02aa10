package frame

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// compressed returns a frame of data.
func compressed(t testing.TB, data []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	return e.EncodeAll(data, nil)
}

// streamed returns a frame that does not say its size.
func streamed(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := zstd.NewWriter(&b, zstd.WithEncoderCRC(false))
	if err != nil {
		t.Fatal(err)
	}
	// In two portions: one alone is written as by EncodeAll.
	for _, part := range [][]byte{data[:len(data)/2], data[len(data)/2:]} {
		if _, err := e.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := e.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func section(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

// sample is data that compresses, of several blocks.
func sample(n int) []byte {
	r := rand.New(rand.NewPCG(1, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(5))
	}
	return b
}

// read reads a frame both ways, which must agree.
func read(t testing.TB, in []byte, n int) ([]byte, error) {
	t.Helper()
	r, err := NewReader(section(in), int64(n))
	var got []byte
	if err == nil {
		got, err = io.ReadAll(r)
		r.Close()
	}
	at, errAt := Decode(in, int64(n))
	if err == nil && (errAt != nil || !bytes.Equal(at, got)) {
		t.Errorf("read %d bytes, decoded %d, %v", len(got), len(at), errAt)
	}
	return got, err
}

func TestFrames(t *testing.T) {
	data := sample(400_000)
	whole := compressed(t, data, zstd.WithEncoderCRC(false))
	sum := compressed(t, data, zstd.WithEncoderCRC(true))
	edit := func(b []byte, f func([]byte)) []byte { b = slices.Clone(b); f(b); return b }
	skip := append([]byte{0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0}, 1, 2, 3, 4)
	for _, tt := range []struct {
		name string
		in   []byte
		n    int
		want string
	}{
		{"a frame", whole, len(data), ""},
		{"a frame with a checksum", sum, len(data), ""},
		{"a frame that does not say its size", streamed(t, data), len(data), ""},
		{"noise", compressed(t, func() []byte { b := make([]byte, 300_000); rand.NewChaCha8([32]byte{}).Read(b); return b }()), 300_000, ""},
		{"one byte over and over", compressed(t, make([]byte, 300_000)), 300_000, ""},
		{"nothing in it", compressed(t, nil, zstd.WithZeroFrames(true)), 0, ""},

		{"no bytes", nil, 5, "no zstd frame"},
		{"another format", []byte("\x1f\x8b\x08 and more"), 5, "no zstd frame"},
		{"more than wanted", whole, len(data) - 1, "a zstd frame of 400000 bytes, want 399999"},
		{"less than wanted", whole, len(data) + 1, "a zstd frame of 400000 bytes, want 400001"},
		{"more than wanted, and it does not say so", streamed(t, data), len(data) - 1, "more bytes than wanted"},
		{"less than wanted, and it does not say so", streamed(t, data), len(data) + 1, "ends 1 bytes early"},
		{"cut", whole[:len(whole)-1], len(data), "cut off"},
		{"cut within a head", whole[:5], len(data), "no zstd frame"},
		{"cut after a block's head", whole[:13], len(data), "cut off"},
		{"cut checksum", sum[:len(sum)-2], len(data), "cut off"},
		{"wrong checksum", edit(sum, func(b []byte) { b[len(b)-1] ^= 1 }), len(data), "CRC"},
		{"two frames", append(slices.Clone(whole), whole...), len(data), "bytes after the zstd frame"},
		{"two frames of the size of both", append(streamed(t, data), streamed(t, data)...), 2 * len(data), "bytes after the zstd frame"},
		{"a byte after it", append(slices.Clone(whole), 0), len(data), "1 bytes after the zstd frame"},
		{"a frame to be skipped", skip, 0, "to be skipped"},
		{"a frame to be skipped, then one", append(slices.Clone(skip), whole...), len(data), "to be skipped"},
		{"a window of 2 GiB", []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0}, 0, "window of 2147483648 bytes"},
		{"a block of a type that is none", []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0, 7, 0, 0}, 0, "type 3"},
		{"a dictionary", []byte{0x28, 0xb5, 0x2f, 0xfd, 1, 0, 9, 1, 0, 0}, 0, "dictionary"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := read(t, tt.in, tt.n)
			if tt.want == "" {
				if err != nil || len(got) != tt.n {
					t.Errorf("%d bytes, %v, want %d", len(got), err, tt.n)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// A small frame that expands without end stops at what was wanted.
func TestBomb(t *testing.T) {
	bomb := compressed(t, make([]byte, 64<<20))
	for _, in := range [][]byte{bomb, streamedZeros(t)} {
		if _, err := Decode(in, 1000); err == nil {
			t.Error("decoded")
		}
		r, err := NewReader(section(in), 1000)
		if err != nil {
			continue
		}
		if n, err := io.Copy(io.Discard, r); err == nil || n > 1000 {
			t.Errorf("%d bytes, %v", n, err)
		}
		r.Close()
	}
}

// streamedZeros is 64 MiB that a frame does not announce: blocks of one byte.
func streamedZeros(t testing.TB) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3} // a window of 128 KiB
	for i := range 512 {
		var head [4]byte
		last := uint32(0)
		if i == 511 {
			last = 1
		}
		binary.LittleEndian.PutUint32(head[:], last|1<<1|(128<<10)<<3)
		b = append(b, head[0], head[1], head[2], 0)
	}
	if got, err := Decode(b, 64<<20); err != nil || len(got) != 64<<20 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	return b
}

// Whatever is read has the size that was wanted, and both ways agree.
func FuzzFrame(f *testing.F) {
	f.Add(compressed(f, sample(1000)), 1000)
	f.Add(compressed(f, sample(1000), zstd.WithEncoderCRC(true)), 1000)
	f.Add(streamed(f, sample(1000)), 1000)
	f.Fuzz(func(t *testing.T, in []byte, n int) {
		n &= 1<<20 - 1
		if got, err := read(t, in, n); err == nil && len(got) != n {
			t.Errorf("%d bytes, want %d", len(got), n)
		}
	})
}
