package wire

import (
	"fmt"
	"math"
	"math/bits"
	"path/filepath"
	"strconv"
	"strings"
)

// Bytes is the size of t's elements, 0 for strings.
func (t *Tensor) Bytes() (int64, error) {
	if !t.Type.Valid() {
		return 0, fmt.Errorf("element type %d is not known, want 1 to %d", int64(t.Type), len(dataTypes())-1)
	}
	n := uint64(1)
	zero := false
	for _, d := range t.Dims {
		if d < 0 {
			return 0, fmt.Errorf("dimension %d, want 0 or more", d)
		}
		if d == 0 {
			zero = true
			continue
		}
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 || lo > math.MaxInt64/128 {
			return 0, fmt.Errorf("shape %s, want less than 2^56 elements", showDims(t.Dims))
		}
		n = lo
	}
	if zero {
		return 0, nil
	}
	return (int64(n)*int64(t.Type.Bits()) + 7) / 8, nil
}

func (t *Tensor) Describe() string { return t.Type.String() + showDims(t.Dims) }

// A Place is where an initializer's bytes are.
type Place struct {
	File   string
	Offset int64
	Length int64
}

func (p Place) Entries() []*Entry {
	return []*Entry{{"location", p.File}, {"offset", fmt.Sprint(p.Offset)}, {"length", fmt.Sprint(p.Length)}}
}

// Place reads t's external data entries. A length of −1 is one that is absent.
func (t *Tensor) Place() (Place, error) {
	p := Place{Length: -1}
	seen := map[string]bool{}
	for _, e := range t.External {
		if seen[e.Key] {
			return p, fmt.Errorf("external data: %s is there twice", Show(e.Key))
		}
		seen[e.Key] = true
		switch e.Key {
		case "location":
			p.File = e.Value
		case "offset", "length":
			n, err := strconv.ParseInt(e.Value, 10, 64)
			if err != nil || n < 0 {
				return p, fmt.Errorf("external data: %s %s, want a number of bytes", e.Key, Show(e.Value))
			}
			if e.Key == "offset" {
				p.Offset = n
			} else {
				p.Length = n
			}
		case "checksum":
		default:
			return p, fmt.Errorf("external data: unknown key %s, want location, offset, length and checksum", Show(e.Key))
		}
	}
	if !filepath.IsLocal(p.File) || strings.ContainsAny(p.File, "\\\x00") {
		return p, fmt.Errorf("external data: location %s, want a file within the model's folder", Show(p.File))
	}
	return p, nil
}

// Show returns text of a file as it may stand in a one-line message: quoted,
// cut.
func Show(s string) string {
	const most = 120
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strconv.Quote(s)
}

func showDims(dims []int64) string {
	parts := make([]string, 0, 16)
	for _, d := range dims[:min(len(dims), 16)] {
		parts = append(parts, strconv.FormatInt(d, 10))
	}
	if len(dims) > 16 {
		parts = append(parts, "...")
	}
	return "[" + strings.Join(parts, ", ") + "]"
}
