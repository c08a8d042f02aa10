package wire

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// A message lists its fields once, in order; writing and reading both follow
// that list.
type message interface{ fields(w *coder) }

// A coder writes messages, or holds the one field of a message that is being
// read.
//
// A message within another comes after its size, so writing takes two passes over
// the fields: one adds up, the other writes, each byte once.
type coder struct {
	measuring bool
	size      int   // added up, of the innermost message
	sizes     []int // of the messages within, in the order in which they begin
	out       []byte
	to        io.Writer // takes out where it is long; nil keeps it

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

// Encode returns the wire form of m. It panics at what [Write] refuses.
func Encode(m message) []byte { return new(Encoder).Encode(m) }

// An Encoder encodes one message after another in the same memory.
type Encoder struct{ w coder }

// Encode returns the wire form of m, until the next call. It panics at what
// [Write] refuses.
func (e *Encoder) Encode(m message) []byte {
	w := &e.w
	sizes := w.measure(m)
	w.out = slices.Grow(w.out[:0], w.size)
	m.fields(w)
	w.sizes = sizes[:0]
	if w.err != nil {
		panic(w.err)
	}
	return w.out
}

// Write writes the wire form of m, without ever holding all of it. It refuses a
// tensor whose Floats are not as many as its Dims say.
func Write(to io.Writer, m message) error {
	w := &coder{}
	w.measure(m)
	w.to, w.out = to, make([]byte, 0, min(w.size, 2*longOut))
	m.fields(w)
	w.flush()
	return w.err
}

// longOut is how many bytes are written at a time.
const longOut = 1 << 15

// measure finds m's size and those of the messages within, for m to be written.
func (w *coder) measure(m message) []int {
	w.measuring, w.size = true, 0
	m.fields(w)
	w.measuring = false
	return w.sizes
}

// room writes what has become long.
func (w *coder) room() {
	if w.to != nil && len(w.out) >= longOut {
		w.flush()
	}
}

func (w *coder) flush() {
	if w.err == nil {
		_, w.err = w.to.Write(w.out)
	}
	w.out = w.out[:0]
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

// number writes a field of the type varint.
func (w *coder) number(n protowire.Number, v uint64) {
	if w.measuring {
		w.size += protowire.SizeTag(n) + protowire.SizeVarint(v)
		return
	}
	w.out = protowire.AppendVarint(protowire.AppendTag(w.out, n, protowire.VarintType), v)
}

// begin writes the start of a field of so many bytes, which follow.
func (w *coder) begin(n protowire.Number, size int) {
	w.room()
	w.out = protowire.AppendVarint(protowire.AppendTag(w.out, n, protowire.BytesType), uint64(size))
}

// put writes a field of bytes.
func put[T []byte | string](w *coder, n protowire.Number, v T) {
	if w.measuring {
		w.size += protowire.SizeTag(n) + protowire.SizeBytes(len(v))
		return
	}
	w.begin(n, len(v))
	for w.to != nil && len(v) > longOut {
		w.out = append(w.out, v[:longOut]...)
		v = v[longOut:]
		w.flush()
	}
	w.out = append(w.out, v...)
}

// int is an integer, boolean or enumeration. It is left out when it is 0,
// unless must.
func (w *coder) int(n protowire.Number, v *int64, must bool) {
	switch {
	case w.reading:
		if w.at(n, protowire.VarintType) {
			*v = int64(w.bits)
		}
	case must || *v != 0:
		w.number(n, uint64(*v))
	}
}

func (w *coder) ints(n protowire.Number, v *[]int64) {
	if !w.reading {
		for _, x := range *v {
			w.number(n, uint64(x))
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
	case must && w.measuring:
		w.size += protowire.SizeTag(n) + protowire.SizeFixed32()
	case must:
		w.out = protowire.AppendFixed32(protowire.AppendTag(w.out, n, protowire.Fixed32Type), math.Float32bits(*v))
	}
}

func (w *coder) bytes(n protowire.Number, v *[]byte, must bool) {
	switch {
	case w.reading:
		if w.at(n, protowire.BytesType) {
			*v = w.data
		}
	case must || len(*v) > 0:
		put(w, n, *v)
	}
}

// values writes a tensor's numbers.
func (w *coder) values(n protowire.Number, t *Tensor) {
	size, err := t.Bytes()
	if err != nil && w.err == nil {
		w.err = err
	}
	if w.measuring {
		w.size += protowire.SizeTag(n) + protowire.SizeBytes(int(size))
		return
	}
	w.begin(n, int(size))
	left := size
	for v := range t.Floats {
		if left -= 4; left < 0 {
			break
		}
		w.room()
		w.out = protowire.AppendFixed32(w.out, math.Float32bits(v))
	}
	if left != 0 && w.err == nil {
		w.err = fmt.Errorf("%s: %d bytes of values, want %d", Show(t.Name), size-left, size)
	}
}

func (w *coder) string(n protowire.Number, v *string) {
	switch {
	case w.reading:
		if w.at(n, protowire.BytesType) {
			*v = string(w.data)
		}
	case *v != "":
		put(w, n, *v)
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
		put(w, n, s)
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
	if w.measuring {
		i, outside := len(w.sizes), w.size
		w.sizes, w.size = append(w.sizes, 0), 0
		m.fields(w)
		w.sizes[i] = w.size
		w.size = outside + protowire.SizeTag(n) + protowire.SizeBytes(w.size)
		return
	}
	w.begin(n, w.sizes[0])
	w.sizes = w.sizes[1:]
	m.fields(w)
}
