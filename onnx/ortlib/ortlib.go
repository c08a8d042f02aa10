// Package ortlib runs functions of exported models as single operators, on the
// engine's kernels: it is what the operator library for ONNX Runtime registers
// (cmd/ossify-ort). A runtime without the library computes the same functions
// with the standard operators in them.
//
// Weights are read in place, at whatever address the runtime has them.
package ortlib

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"sync"
	"unsafe"

	"ossify/float"
	"ossify/kernel"
)

// A Type is that of a tensor's elements, as ONNX numbers them.
type Type int32

// The types that the functions take.
const (
	Float    Type = 1
	Uint8    Type = 2
	Int64    Type = 7
	Bfloat16 Type = 16
)

// types has ONNX's names, and the bytes of an element.
var types = map[Type]struct {
	name string
	size int
}{Float: {"float", 4}, Uint8: {"uint8", 1}, Int64: {"int64", 8}, Bfloat16: {"bfloat16", 2}}

// Size returns the bytes of an element, 0 of types that no function takes.
func (t Type) Size() int { return types[t].size }

func (t Type) String() string {
	if typ, ok := types[t]; ok {
		return typ.name
	}
	return fmt.Sprintf("type %d", int32(t))
}

// A Tensor is an input. Its bytes are as many as type and shape say.
type Tensor struct {
	Type  Type
	Shape []int
	Data  []byte
}

func (t Tensor) String() string { return fmt.Sprintf("%v%v", t.Type, t.Shape) }

// Elements returns the product of a shape, and false if it is none of memory's.
func Elements(shape []int) (int, bool) {
	n := 1
	for _, d := range shape {
		if d < 0 || d > 0 && n > math.MaxInt/16/d {
			return 0, false
		}
		n *= d
	}
	return n, true
}

// Parallel calls f(0) to f(n-1), several at once, and returns when all are done.
type Parallel func(n int, f func(i int))

// A Library makes functions, which use each other's memory: a model has a hundred
// of them, and runs them one by one. It and they are safe for use by several
// goroutines.
type Library struct {
	set     kernel.Set
	scratch sync.Pool // of *scratch
}

// NewLibrary returns a Library with the kernels of set.
func NewLibrary(set kernel.Set) *Library { return &Library{set: set} }

// A Function computes one of the model's.
type Function struct {
	Attributes
	*Library
	op op

	proved   sync.Mutex
	scales   *byte  // whose experts are proved
	isProved []bool // by expert
}

type op uint8

const (
	linear op = iota + 1
	expertLinear
	attend
	gate
	mix
)

// Attributes are those of a call, each of functions whose [Signature] lists it.
type Attributes struct {
	Experts      int     // experts
	Alpha, Limit float32 // alpha, limit
}

// A Signature says which functions there are of a kind.
type Signature struct {
	Names   []string // in the model
	Inputs  int      // the last may be left out; 0 is any number from 2 on
	Outputs int

	// The Attributes that a call has: the number of experts, the constants of a gate.
	Experts, Gate bool

	op op
}

// Signatures lists the functions that are taken over. A function that differs
// from the first of its kind in a size is called by its path in the model.
func Signatures() []Signature {
	return []Signature{
		{Names: []string{"Linear", "Linear.block.attn.out", "Linear.block.attn.qkv", "Linear.block.mlp.gate", "Linear.unembedding"}, Outputs: 1, op: linear},
		{Names: []string{"ExpertLinear", "ExpertLinear.block.mlp.mlp1", "ExpertLinear.block.mlp.mlp2"}, Inputs: 7, Outputs: 1, Experts: true, op: expertLinear},
		{Names: []string{"Attend", "Attend.block.attn.sdpa"}, Inputs: 7, Outputs: 3, op: attend},
		{Names: []string{"InterleavedSwiGLU"}, Inputs: 1, Outputs: 1, Gate: true, op: gate},
		{Names: []string{"Mix"}, Inputs: 2, Outputs: 1, op: mix},
	}
}

// New returns the function of that name, for a call of these attributes.
func (l *Library) New(name string, a Attributes) (*Function, error) {
	for _, s := range Signatures() {
		switch {
		case !slices.Contains(s.Names, name):
			continue
		case s.Experts && a.Experts < 1:
			return nil, fmt.Errorf("ossify: %s: %d experts, want at least 1", name, a.Experts)
		case s.Gate && !(a.Limit > 0 && a.Limit <= math.MaxFloat32 && a.Alpha >= -math.MaxFloat32 && a.Alpha <= math.MaxFloat32):
			return nil, fmt.Errorf("ossify: %s: alpha %g, limit %g, want a number, and one above 0", name, a.Alpha, a.Limit)
		}
		return &Function{Attributes: a, Library: l, op: s.op}, nil
	}
	return nil, fmt.Errorf("ossify: no function %s", name)
}

// scratch is memory of one call, used again by later ones.
type scratch struct {
	x      kernel.Activations
	units  sync.Pool // of *unitScratch
	attend sync.Pool // of *attendScratch
}

// unitScratch is that of one unit of a product.
type unitScratch struct {
	kernel kernel.Scratch
	bias   []float32
	y      []float32
}

// A call is a function with its inputs proved.
type call interface {
	shapes() [][]int // of the outputs
	run(s *scratch, out [][]float32, p Parallel)
}

// Shapes returns the shapes of the outputs, float tensors. It refuses inputs
// that the function does not take.
func (f *Function) Shapes(in []Tensor) ([][]int, error) {
	c, err := f.prove(in)
	if err != nil {
		return nil, err
	}
	return c.shapes(), nil
}

// Run computes the outputs.
func (f *Function) Run(in []Tensor, out [][]float32, p Parallel) error {
	c, err := f.prove(in)
	if err != nil {
		return err
	}
	shapes := c.shapes()
	if len(out) != len(shapes) {
		return fmt.Errorf("ossify: %d outputs, want %d", len(out), len(shapes))
	}
	for i, shape := range shapes {
		if n, _ := Elements(shape); n != len(out[i]) {
			return fmt.Errorf("ossify: output %d of %d values, want %v", i, len(out[i]), shape)
		}
	}
	if !slices.ContainsFunc(out, func(v []float32) bool { return len(v) > 0 }) {
		return nil
	}
	s, _ := f.scratch.Get().(*scratch)
	if s == nil {
		s = &scratch{}
	}
	defer f.scratch.Put(s)
	c.run(s, out, p)
	return nil
}

func (f *Function) prove(in []Tensor) (call, error) {
	for i, t := range in {
		n, ok := Elements(t.Shape)
		if !ok || t.Type.Size() == 0 || len(t.Data) != n*t.Type.Size() {
			return nil, fmt.Errorf("ossify: input %d is %v, %d bytes, want a float, bfloat16, uint8 or int64 tensor with its bytes", i, t, len(t.Data))
		}
	}
	switch f.op {
	case linear:
		return f.proveLinear(in)
	case attend:
		return f.proveAttend(in)
	case gate, mix:
		return f.proveRows(in)
	}
	return f.proveExperts(in)
}

// A product is a call of Linear or ExpertLinear.
type product struct {
	f       *Function
	rows    int // of x
	columns int // of x
	width   int // of the output
	out     []int

	x        []float32
	weights  []Tensor // [rows, columns] each
	biases   []Tensor
	pairs    []int64 // the expert of each row of the output; nil of Linear
	perToken int     // rows of the output that share a row of x
}

func (c *product) shapes() [][]int { return [][]int{c.out} }

func (c *product) run(s *scratch, out [][]float32, p Parallel) {
	if c.f.op == linear {
		c.linear(s, out[0], p)
	} else {
		c.experts(s, out[0], p)
	}
}

// proveLinear checks x [.., D], weights [n, D] and, or not, biases [n]: the
// output is [.., Σ n].
func (f *Function) proveLinear(in []Tensor) (call, error) {
	if len(in) < 2 || in[0].Type != Float || len(in[0].Shape) < 1 {
		return nil, fmt.Errorf("ossify: Linear of %v, want x float [.., D], weights bfloat16 [n, D], and, or not, biases", in)
	}
	x := in[0]
	c := &product{f: f, columns: x.Shape[len(x.Shape)-1], perToken: 1}
	c.rows, _ = Elements(x.Shape[:len(x.Shape)-1])
	if c.columns < 1 {
		return nil, fmt.Errorf("ossify: Linear of x %v, want at least one column", x)
	}
	bias := 0
	for i, t := range in[1:] {
		switch {
		case len(t.Shape) == 2 && t.Type == Bfloat16 && t.Shape[1] == c.columns && c.biases == nil:
			c.weights, c.width = append(c.weights, t), c.width+t.Shape[0]
		case len(t.Shape) == 1 && (t.Type == Bfloat16 || t.Type == Float) && c.weights != nil:
			c.biases, bias = append(c.biases, t), bias+t.Shape[0]
		default:
			return nil, fmt.Errorf("ossify: Linear: input %d is %v, want weights bfloat16 [n, %d] (export with --weights bf16), then biases [n]", i+1, t, c.columns)
		}
	}
	if c.biases != nil && bias != c.width || c.weights == nil {
		return nil, fmt.Errorf("ossify: Linear: biases of %d columns for weights of %d", bias, c.width)
	}
	c.x = floats(x.Data)
	c.out = append(slices.Clone(x.Shape[:len(x.Shape)-1]), c.width)
	return c, nil
}

// proveExperts checks the experts of each row, int64 [.., K]; x, float [.., D] or
// [.., K, D]; the strips of all experts, uint8 [E·strips, n, D/32, 16] and
// [E·strips, n, D/32]; tables that are not looked at; and, or not, biases
// [E·strips, n]. The output is [.., K, N], N = strips·n.
func (f *Function) proveExperts(in []Tensor) (call, error) {
	if len(in) != 6 && len(in) != 7 {
		return nil, fmt.Errorf("ossify: ExpertLinear of %d inputs, want 6 or 7", len(in))
	}
	idx, x, blocks, scales := in[0], in[1], in[2], in[3]
	var biases []Tensor
	if len(in) == 7 {
		biases = in[6:]
	}
	refuse := func(what string, t Tensor, want string) (call, error) {
		return nil, fmt.Errorf("ossify: ExpertLinear: %s %v, want %s", what, t, want)
	}
	switch {
	case idx.Type != Int64 || len(idx.Shape) < 1:
		return refuse("experts", idx, "int64 [.., K]")
	case blocks.Type != Uint8 || len(blocks.Shape) != 4 || blocks.Shape[3] != float.BlockBytes || blocks.Shape[2] < 1 || blocks.Shape[0] < 1 || blocks.Shape[0]%f.Experts != 0:
		return refuse("blocks", blocks, fmt.Sprintf("uint8 [strips of %d experts, n, D/32, 16]", f.Experts))
	case scales.Type != Uint8 || !slices.Equal(scales.Shape, blocks.Shape[:3]):
		return refuse("scales", scales, fmt.Sprintf("uint8 %v", blocks.Shape[:3]))
	case biases != nil && (biases[0].Type != Bfloat16 && biases[0].Type != Float || !slices.Equal(biases[0].Shape, blocks.Shape[:2])):
		return refuse("bias", biases[0], fmt.Sprintf("bfloat16 %v", blocks.Shape[:2]))
	}
	k, lead := idx.Shape[len(idx.Shape)-1], idx.Shape[:len(idx.Shape)-1]
	c := &product{f: f, columns: blocks.Shape[2] * float.BlockSize, width: blocks.Shape[0] / f.Experts * blocks.Shape[1], perToken: 1}
	shared, own := append(slices.Clone(lead), c.columns), append(slices.Clone(idx.Shape), c.columns)
	switch {
	case x.Type == Float && slices.Equal(x.Shape, shared):
		c.perToken = k
		c.rows, _ = Elements(lead)
	case x.Type == Float && slices.Equal(x.Shape, own):
		c.rows, _ = Elements(idx.Shape)
	default:
		return refuse("x", x, fmt.Sprintf("float %v or %v", shared, own))
	}
	c.pairs = int64s(idx.Data)
	for i, e := range c.pairs {
		if e < 0 || e >= int64(f.Experts) {
			return nil, fmt.Errorf("ossify: ExpertLinear: expert %d at %d, want 0 to %d", e, i, f.Experts-1)
		}
	}
	if err := f.checkScales(scales.Data, c.pairs); err != nil {
		return nil, err
	}
	c.x, c.weights, c.biases = floats(x.Data), []Tensor{blocks, scales}, biases
	c.out = append(slices.Clone(idx.Shape), c.width)
	return c, nil
}

// checkScales refuses scales that are NaN, of the experts that are asked for:
// once each, as weights are constants of a model.
func (f *Function) checkScales(scales []byte, experts []int64) error {
	if len(scales) == 0 {
		return nil
	}
	f.proved.Lock()
	defer f.proved.Unlock()
	if f.scales != &scales[0] {
		f.scales, f.isProved = &scales[0], make([]bool, f.Experts)
	}
	n := len(scales) / f.Experts
	for _, e := range experts {
		if f.isProved[e] {
			continue
		}
		if i := bytes.IndexByte(scales[int(e)*n:][:n], float.ScaleNaN); i >= 0 {
			return fmt.Errorf("ossify: ExpertLinear: expert %d: scale 255, which is NaN, at %d, want at most 254", e, i)
		}
		f.isProved[e] = true
	}
	return nil
}

// panel is about how many bytes of weights are a unit of work.
const panel = 256 << 10

// panels returns how many rows a unit has: a multiple of 16.
func panels(rowBytes int) int { return max(16, panel/rowBytes/16*16) }

// pack makes rows of x ready to be multiplied.
func (c *product) pack(s *scratch, kind kernel.Kind, p Parallel) {
	c.f.set.Resize(&s.x, kind, false, c.rows, c.columns)
	const rows = 16
	p((c.rows+rows-1)/rows, func(i int) {
		first := i * rows
		n := min(rows, c.rows-first)
		c.f.set.PackRows(&s.x, first, c.x[first*c.columns:], n, c.columns)
	})
}

// A unit is rows lo to hi of a weight, for chosen rows of x.
type unit struct {
	w      kernel.Matrix
	lo, hi int
	at     int     // column of the output that row 0 is
	x, y   []int32 // rows of x and of the output; nil is all
	bias   Tensor  // of row 0 on; no type if there is none
}

// unit computes one.
func (c *product) unit(s *scratch, u *unit, out []float32) {
	k, _ := s.units.Get().(*unitScratch)
	if k == nil {
		k = &unitScratch{}
	}
	defer s.units.Put(k)
	// A unit's rows lie together while they are computed: those of the output are
	// pages apart.
	n, height := c.rows, u.hi-u.lo
	if u.y != nil {
		n = len(u.y)
	}
	y := slices.Grow(k.y[:0], n*height)[:n*height]
	k.y = y
	c.f.set.Multiply(&kernel.Job{W: u.w.Part(u.lo, u.hi), Hi: height, X: &s.x, XRows: u.x, Y: y, Stride: height}, &k.kernel)
	var bias []float32
	if u.bias.Type != 0 {
		bias = slices.Grow(k.bias[:0], height)[:height]
		k.bias = bias
		if size := u.bias.Type.Size(); u.bias.Type == Float {
			float.DecodeF32(bias, u.bias.Data[u.lo*size:])
		} else {
			float.DecodeBF16(bias, u.bias.Data[u.lo*size:])
		}
	}
	for i := range n {
		row := i
		if u.y != nil {
			row = int(u.y[i])
		}
		y, to := y[i*height:][:height], out[row*c.width+u.at+u.lo:][:height]
		if bias != nil {
			c.f.set.Add(to, y, bias, false)
		} else {
			copy(to, y)
		}
	}
}

func (c *product) linear(s *scratch, out []float32, p Parallel) {
	c.pack(s, kernel.BF16, p)
	biases := c.bytesOfBias()
	var units []unit
	at := 0
	for _, w := range c.weights {
		m := kernel.Matrix{Kind: kernel.BF16, Rows: w.Shape[0], Cols: c.columns, Data: w.Data}
		u := unit{w: m, at: at}
		if c.biases != nil {
			u.bias = Tensor{Type: biases.Type, Data: biases.Data[at*biases.Type.Size():]}
		}
		units = split(units, u)
		at += w.Shape[0]
	}
	p(len(units), func(i int) { c.unit(s, &units[i], out) })
}

// bytesOfBias joins biases, which may be of several types.
func (c *product) bytesOfBias() Tensor {
	if len(c.biases) == 1 {
		return c.biases[0]
	}
	all := Tensor{Type: Float}
	for _, b := range c.biases {
		v := make([]float32, b.Shape[0])
		if b.Type == Float {
			float.DecodeF32(v, b.Data)
		} else {
			float.DecodeBF16(v, b.Data)
		}
		data := make([]byte, 4*len(v))
		float.EncodeF32(data, v)
		all.Data = append(all.Data, data...)
	}
	return all
}

// split appends u in units of some rows.
func split(units []unit, u unit) []unit {
	for lo, rows := 0, panels(u.w.RowBytes()); lo < u.w.Rows; lo += rows {
		u.lo, u.hi = lo, min(lo+rows, u.w.Rows)
		units = append(units, u)
	}
	return units
}

func (c *product) experts(s *scratch, out []float32, p Parallel) {
	c.pack(s, kernel.MXFP4, p)
	rows := make([][2][]int32, c.f.Experts) // of x and of the output, by expert
	for i, e := range c.pairs {
		rows[e][0] = append(rows[e][0], int32(i/c.perToken))
		rows[e][1] = append(rows[e][1], int32(i))
	}
	blocks, scales := c.weights[0], c.weights[1]
	groups := c.columns / float.BlockSize
	var units []unit
	for e, r := range rows {
		if r[0] == nil {
			continue
		}
		first := e * c.width
		u := unit{
			w: kernel.Matrix{Kind: kernel.MXFP4, Rows: c.width, Cols: c.columns,
				Data:   blocks.Data[first*groups*float.BlockBytes:][:c.width*groups*float.BlockBytes],
				Scales: scales.Data[first*groups:][:c.width*groups]},
			x: r[0], y: r[1],
		}
		if c.biases != nil {
			b := c.biases[0]
			u.bias = Tensor{Type: b.Type, Data: b.Data[first*b.Type.Size():]}
		}
		units = split(units, u)
	}
	p(len(units), func(i int) { c.unit(s, &units[i], out) })
}

// floats is the memory of b. All that ONNX Runtime runs on is little-endian, and
// what it gives of these types is aligned.
func floats(b []byte) []float32 {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4)
}

func int64s(b []byte) []int64 {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*int64)(unsafe.Pointer(&b[0])), len(b)/8)
}
