package ort

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"ossify/checkpoint"
)

// A Decoder is a session of a language model: token ids in, logits out, and the
// keys and values of each layer from call to call. Models of different
// exporters name and type these differently; the fields say how this one does.
type Decoder struct {
	Session   *Session
	IDs       Info
	Mask      Info   // 1 for a token, 0 for padding; no name if the model has none
	Positions Info   // no name if the model finds them itself
	Keep      Info   // how many of the last positions get logits; no name if all
	Logits    Info   // [batch, seq, vocab]
	Past      []Pair // inputs, by layer; none if the model has no cache
	Present   []Pair // outputs, by layer
}

// A Pair is the keys and values of a layer, [batch, heads, positions, dim].
type Pair struct{ Key, Value Info }

// NewDecoder finds the inputs and outputs of a language model by their names
// and shapes. It knows the names of ossify, onnxruntime-genai, mobius, Optimum
// and transformers.js. Heads and dim are those of the cache, for models that
// leave them open (onnxruntime-genai 0.18's do), or 0 if they are not known.
func NewDecoder(s *Session, heads, dim int) (*Decoder, error) {
	d := &Decoder{Session: s}
	past, present := map[int]*Pair{}, map[int]*Pair{}
	for _, x := range s.Inputs {
		name := strings.ToLower(x.Name)
		whole := x.Type == checkpoint.I64 || x.Type == checkpoint.I32
		switch {
		case whole && len(x.Shape) == 2 && (strings.HasSuffix(name, "input_ids") || name == "ids" || name == "tokens"):
			d.IDs = x
		case whole && len(x.Shape) == 2 && strings.HasSuffix(name, "attention_mask"):
			d.Mask = x
		case whole && len(x.Shape) == 2 && strings.HasSuffix(name, "position_ids"):
			d.Positions = x
		case whole && len(x.Shape) <= 1 && strings.Contains(name, "logits_to_keep"):
			d.Keep = x
		case cached(x, past):
		default:
			return nil, fmt.Errorf("ort: input %s, %v %v: not one of a language model that ossify knows", shown(x.Name), x.Type, x.Shape)
		}
	}
	for _, x := range s.Outputs {
		if x.Name == "logits" && len(x.Shape) == 3 {
			d.Logits = x
		} else if strings.HasPrefix(strings.ToLower(x.Name), "present") {
			cached(x, present)
		}
	}
	if d.Logits.Name == "" { // of another name: the only output of three dimensions
		all := slices.DeleteFunc(slices.Clone(s.Outputs), func(x Info) bool { return len(x.Shape) != 3 })
		if len(all) == 1 {
			d.Logits = all[0]
		}
	}
	switch {
	case d.IDs.Name == "":
		return nil, errors.New("ort: no input_ids [batch, seq] of whole numbers among the inputs")
	case d.Logits.Name == "":
		return nil, errors.New("ort: no logits [batch, seq, vocab] among the outputs")
	case len(past) != len(present):
		return nil, fmt.Errorf("ort: a cache of %d layers as input and %d as output", len(past), len(present))
	}
	for i := range len(past) {
		in, out := past[i], present[i]
		if in == nil || out == nil || in.Key.Name == "" || in.Value.Name == "" || out.Key.Name == "" || out.Value.Name == "" {
			return nil, fmt.Errorf("ort: layer %d of %d: no key and value in both the inputs and the outputs", i, len(past))
		}
		for _, x := range []*Info{&in.Key, &in.Value} {
			x.Shape = slices.Clone(x.Shape)
			if x.Shape[1] < 1 && heads > 0 {
				x.Shape[1] = heads
			}
			if x.Shape[3] < 1 && dim > 0 {
				x.Shape[3] = dim
			}
			if x.Shape[1] < 1 || x.Shape[3] < 1 {
				return nil, fmt.Errorf("ort: input %s of shape %v, want [batch, heads, positions, dim] with heads and dim that the model or the caller fixes", shown(x.Name), x.Shape)
			}
		}
		if in.Key.Type != out.Key.Type || in.Value.Type != out.Value.Type {
			return nil, fmt.Errorf("ort: layer %d: a cache of %v comes out as %v", i, in.Key.Type, out.Key.Type)
		}
		d.Past, d.Present = append(d.Past, *in), append(d.Present, *out)
	}
	return d, nil
}

// WantDecoder says which outputs a decoder needs, of a model with outputs of
// those names: the logits and the cache.
func WantDecoder(outputs []string) func(Info) bool {
	named := slices.Contains(outputs, "logits")
	return func(x Info) bool {
		return x.Name == "logits" || strings.HasPrefix(strings.ToLower(x.Name), "present") || !named && len(x.Shape) == 3
	}
}

// Fits says whether the decoder is of a model of those sizes.
func (d *Decoder) Fits(vocab, layers, heads, dim int) error {
	if n := d.Logits.Shape[2]; n > 0 && n != vocab {
		return fmt.Errorf("ort: logits of %d tokens, the checkpoint has %d", n, vocab)
	}
	if n := d.Layers(); n > 0 && n != layers {
		return fmt.Errorf("ort: a cache of %d layers, the checkpoint has %d", n, layers)
	}
	for i, p := range d.Past {
		for _, x := range []Info{p.Key, p.Value} {
			if x.Shape[1] != heads || x.Shape[3] != dim {
				return fmt.Errorf("ort: layer %d: a cache of %d heads of %d, the checkpoint has %d of %d", i, x.Shape[1], x.Shape[3], heads, dim)
			}
		}
	}
	return nil
}

var (
	layerNumber = regexp.MustCompile(`[0-9]+`)
	keyOrValue  = regexp.MustCompile(`(^|[._])(k|v|key|keys|value|values)([._]|$)`)
)

// cached puts x into its layer if it looks like a part of a cache, such as
// past_key_values.3.key, past.3.value, present_3_k.
func cached(x Info, layers map[int]*Pair) bool {
	name := strings.ToLower(x.Name)
	numbers := layerNumber.FindAllString(name, 2)
	// The word key_values says nothing.
	kind := keyOrValue.FindStringSubmatch(strings.NewReplacer("key_values", "", "key_value", "").Replace(name))
	if len(x.Shape) != 4 || len(numbers) != 1 || kind == nil {
		return false
	}
	i, err := strconv.Atoi(numbers[0])
	if err != nil {
		return false
	}
	if layers[i] == nil {
		layers[i] = &Pair{}
	}
	if strings.HasPrefix(kind[2], "k") {
		layers[i].Key = x
	} else {
		layers[i].Value = x
	}
	return true
}

// Layers returns how many layers have a cache.
func (d *Decoder) Layers() int { return len(d.Past) }

// NewState returns a state for a batch of sequences that have no token yet.
func (d *Decoder) NewState(batch int) *State {
	s := &State{d: d, mask: make([][]int64, batch), cache: map[string]Tensor{}, spare: map[string][]byte{}}
	for _, p := range d.Past {
		for _, x := range []Info{p.Key, p.Value} {
			s.cache[x.Name] = newTensor(x.Type, batch, x.Shape[1], 0, x.Shape[3])
		}
	}
	return s
}

// A State is a batch of sequences on their way through a model: the mask and
// the cache. It is for one goroutine at a time.
type State struct {
	d     *Decoder
	mask  [][]int64         // by sequence, of every column so far
	cache map[string]Tensor // by name of the input
	spare map[string][]byte // memory of the cache before, for the one after
}

// memory returns a tensor for the next cache of an input: what was there is
// undefined, for the model writes all of it.
func (s *State) memory(input string, t checkpoint.DType, shape ...int) Tensor {
	n, _ := checkpoint.Entry{Type: t, Shape: shape}.Bytes()
	if int64(cap(s.spare[input])) < n {
		s.spare[input] = make([]byte, n+n/4)
	}
	return Tensor{t, shape, s.spare[input][:n]}
}

// clone returns a state that goes on by itself.
func (s *State) clone() *State {
	c := &State{d: s.d, cache: map[string]Tensor{}, spare: map[string][]byte{}}
	for _, row := range s.mask {
		c.mask = append(c.mask, slices.Clone(row))
	}
	for name, t := range s.cache {
		c.cache[name] = Tensor{t.Type, slices.Clone(t.Shape), slices.Clone(t.Data)}
	}
	return c
}

// bytes returns how much memory the cache takes, that of the step before
// included.
func (s *State) bytes() int64 {
	var n int64
	for name, t := range s.cache {
		n += int64(cap(t.Data)) + int64(cap(s.spare[name]))
	}
	return n
}

// truncate forgets all but the first n columns.
func (s *State) truncate(n int) {
	for i := range s.mask {
		s.mask[i] = s.mask[i][:n]
	}
	for name, t := range s.cache { // [batch, heads, positions, dim]
		width := t.Shape[3] * t.Type.Size()
		kept := 0
		for h := range t.Shape[0] * t.Shape[1] {
			kept += copy(t.Data[kept:kept+n*width], t.Data[h*t.Shape[2]*width:])
		}
		s.cache[name] = Tensor{t.Type, []int{t.Shape[0], t.Shape[1], n, t.Shape[3]}, t.Data[:kept]}
	}
}

// Switch lets another decoder process what follows, of a model with the same
// inputs.
func (s *State) Switch(d *Decoder) { s.d = d }

// Forward processes more tokens of each sequence. Shorter lists are padded on
// the left. It returns the outputs but the cache, by name, [batch, longest,
// ..]: of a sequence of n tokens, the last n rows count.
func (s *State) Forward(ctx context.Context, tokens [][]uint32) (map[string]Tensor, error) {
	d, batch, seq := s.d, len(s.mask), 0
	if len(tokens) != batch {
		return nil, fmt.Errorf("ort: tokens of %d sequences, want %d", len(tokens), batch)
	}
	for i, list := range tokens {
		if len(list) == 0 {
			return nil, fmt.Errorf("ort: sequence %d: no tokens, want at least one", i)
		}
		seq = max(seq, len(list))
	}
	past := len(s.mask[0])
	if past > 0 && len(d.Past) == 0 {
		return nil, errors.New("ort: this model has no cache: it takes a whole sequence in one call")
	}
	for _, x := range []Info{d.IDs, d.Logits} {
		// The last position only is one row, whatever the input.
		if n := x.Shape[1]; n > 0 && n != seq && (x.Name != d.Logits.Name || n != 1) {
			return nil, fmt.Errorf("ort: %s is fixed at %d tokens, not %d", shown(x.Name), n, seq)
		}
		if n := x.Shape[0]; n > 0 && n != batch {
			return nil, fmt.Errorf("ort: %s is fixed at a batch of %d, not %d", shown(x.Name), n, batch)
		}
	}

	var ids, mask, positions []int64
	masks := make([][]int64, batch)
	for i, list := range tokens {
		next := int64(0) // position
		for _, m := range s.mask[i] {
			next += m
		}
		row := slices.Clone(s.mask[i])
		for j := range seq {
			pad := seq - len(list)
			if j < pad {
				ids, row, positions = append(ids, 0), append(row, 0), append(positions, next)
				continue
			}
			ids, row, positions = append(ids, int64(list[j-pad])), append(row, 1), append(positions, next)
			next++
		}
		masks[i] = row
		mask = append(mask, row...)
	}
	in := map[string]Tensor{d.IDs.Name: Int64s(d.IDs.Type, ids, batch, seq)}
	if d.Mask.Name != "" {
		in[d.Mask.Name] = Int64s(d.Mask.Type, mask, batch, past+seq)
	} else if batch > 1 && slices.Contains(mask, 0) {
		return nil, errors.New("ort: this model has no mask: sequences must be of one length")
	}
	if d.Positions.Name != "" {
		in[d.Positions.Name] = Int64s(d.Positions.Type, positions, batch, seq)
	}
	rows := seq
	if d.Logits.Shape[1] == 1 {
		rows = 1
	}
	if d.Keep.Name != "" {
		shape := []int{1}
		in[d.Keep.Name] = Int64s(d.Keep.Type, []int64{int64(rows)}, shape[:len(d.Keep.Shape)]...)
	}
	out := map[string]Tensor{}
	typeOf := map[string]checkpoint.DType{}
	for _, x := range d.Session.Outputs {
		typeOf[x.Name] = x.Type
	}
	if v := d.Logits.Shape[2]; v > 0 {
		out[d.Logits.Name] = newTensor(typeOf[d.Logits.Name], batch, rows, v)
	}
	for i, p := range d.Past {
		for j, x := range []Info{p.Key, p.Value} {
			t := s.cache[x.Name]
			in[x.Name] = t
			name := []string{d.Present[i].Key.Name, d.Present[i].Value.Name}[j]
			out[name] = s.memory(x.Name, typeOf[name], batch, t.Shape[1], past+seq, t.Shape[3])
		}
	}
	if err := d.Session.Run(ctx, in, out); err != nil {
		return nil, err
	}
	s.mask = masks
	for i, p := range d.Past {
		for j, x := range []Info{p.Key, p.Value} {
			name := []string{d.Present[i].Key.Name, d.Present[i].Value.Name}[j]
			s.spare[x.Name] = s.cache[x.Name].Data[:0]
			s.cache[x.Name] = out[name]
			delete(out, name)
		}
	}
	return out, nil
}

// Cache returns the keys and values of a layer so far, valid until the next but
// one call of Forward.
func (s *State) Cache(layer int) (key, value Tensor) {
	p := s.d.Past[layer]
	return s.cache[p.Key.Name], s.cache[p.Value.Name]
}

// Put makes others of the keys and values of a layer from a column on: rows of
// heads·dim, of a batch of one. The cache must be of float32.
func (s *State) Put(layer, from int, keys, values []float64) error {
	key, value := s.Cache(layer)
	for _, x := range []struct {
		to   Tensor
		rows []float64
	}{{key, keys}, {value, values}} {
		heads, columns, dim := x.to.Shape[1], x.to.Shape[2], x.to.Shape[3]
		n := len(x.rows) / (heads * dim)
		if x.to.Type != checkpoint.F32 || x.to.Shape[0] != 1 || len(x.rows) != n*heads*dim || from < 0 || n > columns-from {
			return fmt.Errorf("ort: layer %d: %d values for a cache of %v %v from column %d on, want whole rows within one of F32 of one sequence", layer, len(x.rows), x.to.Type, x.to.Shape, from)
		}
		for i, v := range x.rows {
			row, h, j := i/(heads*dim), i/dim%heads, i%dim
			binary.LittleEndian.PutUint32(x.to.Data[4*((h*columns+from+row)*dim+j):], math.Float32bits(float32(v)))
		}
	}
	return nil
}

// Rows returns, of an output [batch, rows, ..], the last n rows of a sequence.
func Rows(t Tensor, sequence, n int) []float64 {
	width := t.Type.Size()
	for _, d := range t.Shape[2:] {
		width *= d
	}
	end := (sequence + 1) * t.Shape[1] * width
	t.Data = t.Data[end-n*width : end]
	return t.Float64s()
}
