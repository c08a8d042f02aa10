package wire

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// A message lists its fields once, in order; writing and reading both follow
// that list.
type message interface{ fields(w *coder) }

// A coder writes messages, or holds the one field of a message that is being
// read.
type coder struct {
	out []byte // written so far

	reading bool
	num     protowire.Number
	typ     protowire.Type
	bits    uint64 // of a number
	data    []byte // of a string, bytes or message
	left    *int   // messages that may still be read
	depth   int    // levels that may still be entered
	err     error
}

// Bounds of what is read. A field of two bytes makes a message of up to 200, so
// that their number is bounded and not only the file's size.
const (
	maxMessages = 1 << 22
	maxDepth    = 64 // a graph in a loop in a graph is 3 levels; protobuf's own bound is 100
)

// Encode returns the wire form of m.
func Encode(m message) []byte {
	w := &coder{}
	m.fields(w)
	return w.out
}

// Decode reads m from b, which m then shares.
func Decode(b []byte, m message) error {
	left := maxMessages
	return decodeInto(b, m, &left, maxDepth)
}

func decodeInto(b []byte, m message, left *int, depth int) error {
	if *left--; *left < 0 {
		return fmt.Errorf("more than %d messages", maxMessages)
	}
	if depth == 0 {
		return fmt.Errorf("more than %d levels", maxDepth)
	}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("protobuf: %w", protowire.ParseError(n))
		}
		b = b[n:]
		w := &coder{reading: true, num: num, typ: typ, left: left, depth: depth}
		switch typ {
		case protowire.VarintType:
			w.bits, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			w.bits = uint64(v)
		case protowire.Fixed64Type:
			w.bits, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			w.data, n = protowire.ConsumeBytes(b)
		default: // groups, which ONNX has none of
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return fmt.Errorf("protobuf: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if m.fields(w); w.err != nil {
			return w.err
		}
	}
	return nil
}

// at reports whether field n is being read, and has type t.
func (w *coder) at(n protowire.Number, t protowire.Type) bool {
	if w.num != n || w.err != nil {
		return false
	}
	if w.typ != t {
		w.err = fmt.Errorf("protobuf: field %d has wire type %d, want %d", n, w.typ, t)
		return false
	}
	return true
}

func (w *coder) tag(n protowire.Number, t protowire.Type) { w.out = protowire.AppendTag(w.out, n, t) }

// int is an integer, boolean or enumeration. It is left out when it is 0,
// unless must.
func (w *coder) int(n protowire.Number, v *int64, must bool) {
	switch {
	case w.reading:
		if w.at(n, protowire.VarintType) {
			*v = int64(w.bits)
		}
	case must || *v != 0:
		w.tag(n, protowire.VarintType)
		w.out = protowire.AppendVarint(w.out, uint64(*v))
	}
}

func (w *coder) ints(n protowire.Number, v *[]int64) {
	if !w.reading {
		for _, x := range *v {
			w.int(n, &x, true)
		}
		return
	}
	if w.num == n && w.typ == protowire.BytesType { // packed
		for b := w.data; len(b) > 0; {
			x, k := protowire.ConsumeVarint(b)
			if k < 0 {
				w.err = fmt.Errorf("protobuf: %w", protowire.ParseError(k))
				return
			}
			*v, b = append(*v, int64(x)), b[k:]
		}
	} else if w.at(n, protowire.VarintType) {
		*v = append(*v, int64(w.bits))
	}
}

func (w *coder) float(n protowire.Number, v *float32, must bool) {
	switch {
	case w.reading:
		if w.at(n, protowire.Fixed32Type) {
			*v = math.Float32frombits(uint32(w.bits))
		}
	case must:
		w.tag(n, protowire.Fixed32Type)
		w.out = protowire.AppendFixed32(w.out, math.Float32bits(*v))
	}
}

func (w *coder) bytes(n protowire.Number, v *[]byte, must bool) {
	switch {
	case w.reading:
		if w.at(n, protowire.BytesType) {
			*v = w.data
		}
	case must || len(*v) > 0:
		w.tag(n, protowire.BytesType)
		w.out = protowire.AppendBytes(w.out, *v)
	}
}

func (w *coder) string(n protowire.Number, v *string) {
	b := []byte(*v)
	w.bytes(n, &b, false)
	if w.reading && w.num == n {
		*v = string(b)
	}
}

// strings writes every element, the empty ones too: an empty name says that an
// optional input is absent.
func (w *coder) strings(n protowire.Number, v *[]string) {
	if w.reading {
		if w.at(n, protowire.BytesType) {
			*v = append(*v, string(w.data))
		}
		return
	}
	for _, s := range *v {
		b := []byte(s)
		w.bytes(n, &b, true)
	}
}

// opaque notes that a field is there, and how many bytes it takes. It is not
// written.
func (w *coder) opaque(n protowire.Number, size *int64) {
	if w.reading && w.num == n {
		*size += int64(len(w.data)) + 1
	}
}

// one is a message that may be absent.
func one[M any, P interface {
	*M
	message
}](w *coder, n protowire.Number, v *P) {
	if !w.reading {
		if *v != nil {
			w.sub(n, *v)
		}
		return
	}
	if w.at(n, protowire.BytesType) {
		if *v != nil {
			w.err = errors.New("protobuf: second message of a single field")
			return
		}
		*v = new(M)
		w.err = decodeInto(w.data, *v, w.left, w.depth-1)
	}
}

// list is a repeated message.
func list[M any, P interface {
	*M
	message
}](w *coder, n protowire.Number, v *[]P) {
	if !w.reading {
		for _, m := range *v {
			w.sub(n, m)
		}
		return
	}
	var m P
	if one(w, n, &m); m != nil {
		*v = append(*v, m)
	}
}

func (w *coder) sub(n protowire.Number, m message) {
	w.tag(n, protowire.BytesType)
	w.out = protowire.AppendBytes(w.out, Encode(m))
}
