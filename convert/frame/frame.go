// Package frame reads zstd frames from strangers (RFC 8878): exactly one frame,
// to the last byte of where it lies, of exactly as many bytes as wanted. A
// decoder that is given a file goes on with what follows a frame, and expands
// whatever it finds; here what lies there is walked first, block by block, and
// decoded then in the memory that was allowed.
package frame

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
)

// MaxWindow is the largest window that is decoded, bytes: that of zstd's command
// line without --long.
const MaxWindow = 128 << 20

// Info is what the heads of a frame and of its blocks say.
type Info struct {
	Content int64 // bytes that it decodes to; -1 if it does not say
	Window  int64 // bytes of memory that decoding needs
}

// Inspect walks the blocks of the frame that fills r.
func Inspect(r *io.SectionReader) (Info, error) {
	head := make([]byte, min(r.Size(), zstd.HeaderMaxSize))
	if _, err := r.ReadAt(head, 0); err != nil && err != io.EOF {
		return Info{}, err
	}
	var h zstd.Header
	if err := h.Decode(head); err != nil {
		return Info{}, fmt.Errorf("no zstd frame: %w", err)
	}
	switch {
	case h.Skippable:
		return Info{}, errors.New("a zstd frame to be skipped, want one with data")
	case h.DictionaryID != 0:
		return Info{}, errors.New("a zstd frame with a dictionary, want one without")
	case h.HasFCS && h.FrameContentSize > math.MaxInt64:
		return Info{}, fmt.Errorf("a zstd frame of %d bytes", h.FrameContentSize)
	}
	info := Info{Content: -1, Window: int64(min(h.WindowSize, math.MaxInt64))}
	if h.HasFCS {
		info.Content = int64(h.FrameContentSize)
	}
	if h.SingleSegment {
		info.Window = info.Content
	}
	if info.Window > MaxWindow {
		return Info{}, fmt.Errorf("a zstd frame with a window of %d bytes, want at most %d", info.Window, MaxWindow)
	}
	at := int64(h.HeaderSize)
	for {
		var b [3]byte
		if _, err := r.ReadAt(b[:], at); err != nil {
			return Info{}, cut(err)
		}
		at += 3
		n := int64(b[0]>>3) | int64(b[1])<<5 | int64(b[2])<<13
		switch b[0] >> 1 & 3 {
		case 0, 2: // raw, compressed
		case 1: // one byte, to be repeated
			n = 1
		default:
			return Info{}, fmt.Errorf("a zstd block of type 3 at byte %d, want 0 to 2", at-3)
		}
		if n > r.Size()-at {
			return Info{}, cut(io.EOF)
		}
		at += n
		if b[0]&1 != 0 {
			break
		}
	}
	if h.HasCheckSum {
		at += 4
	}
	if at != r.Size() {
		if at > r.Size() {
			return Info{}, cut(io.EOF)
		}
		return Info{}, fmt.Errorf("%d bytes after the zstd frame, want none", r.Size()-at)
	}
	return info, nil
}

func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the zstd frame is cut off")
	}
	return err
}

// A Reader reads the content of one frame.
type Reader struct {
	dec  *zstd.Decoder
	left int64
}

// NewReader begins to read a frame that fills r and decodes to n bytes. It says
// so if the frame says that it does not.
func NewReader(r *io.SectionReader, n int64) (*Reader, error) {
	info, err := Inspect(r)
	if err != nil {
		return nil, err
	}
	if info.Content >= 0 && info.Content != n {
		return nil, fmt.Errorf("a zstd frame of %d bytes, want %d", info.Content, n)
	}
	dec, err := zstd.NewReader(io.NewSectionReader(r, 0, r.Size()),
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(MaxWindow))
	if err != nil {
		return nil, err
	}
	return &Reader{dec, n}, nil
}

// Read reads the content; at its end it is io.EOF only if the frame ends there
// too, and its checksum, if it has one, is right.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.left == 0 {
		var one [1]byte
		switch _, err := io.ReadFull(r.dec, one[:]); err {
		case nil:
			return 0, errors.New("the zstd frame has more bytes than wanted")
		default:
			return 0, err
		}
	}
	n, err := r.dec.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	switch {
	case err == io.EOF && r.left > 0:
		err = fmt.Errorf("the zstd frame ends %d bytes early", r.left)
	case err == io.EOF:
		err = nil // the next Read says so
	}
	return n, err
}

// Close frees the decoder.
func (r *Reader) Close() error {
	r.dec.Close()
	return nil
}

// Decode returns the content of a frame that fills data, at most most bytes.
func Decode(data []byte, most int64) ([]byte, error) {
	r := io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))
	info, err := Inspect(r)
	if err != nil {
		return nil, err
	}
	if info.Content > most {
		return nil, fmt.Errorf("a zstd frame of %d bytes, want at most %d", info.Content, most)
	}
	dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(MaxWindow))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	out, err := io.ReadAll(io.LimitReader(dec, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(out)) > most {
		return nil, fmt.Errorf("a zstd frame of more than %d bytes", most)
	}
	if info.Content >= 0 && int64(len(out)) != info.Content {
		return nil, fmt.Errorf("a zstd frame of %d bytes holds %d", info.Content, len(out))
	}
	return out, nil
}
