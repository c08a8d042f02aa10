package gptoss

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ossify/checkpoint"
	"ossify/float"
	"ossify/graph"
)

// A Checkpoint is an open checkpoint folder whose tensors are bound to the
// model that its config.json describes. It is safe for use by several
// goroutines.
type Checkpoint struct {
	Config  *Config
	Dialect Dialect
	Folder  *checkpoint.Folder
	Graph   *graph.Graph
	Weights *Weights
}

// configMost is the largest config.json that is read, in bytes.
const configMost = 1 << 20

// ReadConfig reads the config.json of a checkpoint folder.
func ReadConfig(dir string) (*Config, Dialect, error) {
	data, err := checkpoint.ReadFile(dir, "config.json", configMost)
	if err != nil {
		return nil, 0, err
	}
	return ParseConfig(data)
}

// OpenCheckpoint opens a checkpoint folder of either dialect. It reads names,
// types, shapes and places of the tensors, not their bytes; see Weights.Check.
func OpenCheckpoint(dir string) (*Checkpoint, error) {
	c, d, err := ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	g, err := Build(c)
	if err != nil {
		return nil, err
	}
	f, err := checkpoint.Open(dir)
	if err != nil {
		return nil, err
	}
	w, err := Bind(g, f, c, d)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Checkpoint{c, d, f, g, w}, nil
}

// Close unmaps the files. Nothing may read the weights afterwards.
func (c *Checkpoint) Close() error { return c.Folder.Close() }

// Weights are the parameters of a graph, in place in their checkpoint.
type Weights struct {
	params  []graph.Param
	sources [][]Source // by parameter
}

// A Source is a run of a parameter's rows: views of the checkpoint. The rows
// of a parameter [.., D] are Π(..), those of a vector [D] are D of one value.
type Source struct {
	Rows   int
	Data   checkpoint.Tensor // BF16 or F32 values, or U8 blocks [.., D/32, 16] of MXFP4
	Scales checkpoint.Tensor // U8 [.., D/32] of MXFP4, else the zero Tensor
}

// Bind finds the tensors of every parameter of g, of the types and shapes that
// it asks for. It reports all that are missing or different, and all that no
// parameter asks for, one a line.
func Bind(g *graph.Graph, f *checkpoint.Folder, c *Config, d Dialect) (*Weights, error) {
	w := &Weights{params: g.Params}
	used := make(map[string]bool)
	var errs []error
	take := func(want checkpoint.Entry, types ...checkpoint.DType) checkpoint.Tensor {
		used[want.Name] = true
		t, ok := f.Tensor(want.Name)
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("gptoss: %s: missing, want %v", want.Name, want))
		case !slices.Contains(types, t.Type) || !slices.Equal(t.Shape, want.Shape):
			errs = append(errs, fmt.Errorf("gptoss: %s: %s: %v, want %v", t.File, t.Name, t.Entry(), want))
		}
		return t
	}
	for _, p := range g.Params {
		pieces, err := piecesOf(p, c, d)
		if err != nil {
			return nil, err
		}
		var sources []Source
		for _, pc := range pieces {
			s := Source{Rows: pc.rows}
			types := []checkpoint.DType{pc.data.Type}
			if len(p.Shape) == 1 && strings.HasSuffix(p.Name, "norm.scale") {
				types = append(types, checkpoint.F32) // the reference's own type for it
			}
			s.Data = take(pc.data, types...)
			if p.Storage == graph.MXFP4 {
				s.Scales = take(pc.scales, checkpoint.U8)
			}
			sources = append(sources, s)
		}
		w.sources = append(w.sources, sources)
	}
	for _, t := range f.Tensors() {
		if !used[t.Name] {
			errs = append(errs, fmt.Errorf("gptoss: %s: %s: not part of the model that config.json describes", t.File, show(t.Name)))
		}
	}
	if len(errs) > 0 {
		return nil, several(errs)
	}
	return w, nil
}

// several joins errors; of very many it shows the first.
func several(errs []error) error {
	const most = 20
	if n := len(errs) - most; n > 0 {
		errs = append(errs[:most:most], fmt.Errorf("gptoss: and %d more", n))
	}
	return errors.Join(errs...)
}

// An extent is a piece of a parameter with its numbers filled in.
type extent struct {
	first, rows  int // rows of the parameter
	data, scales checkpoint.Entry
}

// piecesOf returns the tensors that hold p in a dialect, in row order.
func piecesOf(p graph.Param, c *Config, d Dialect) ([]extent, error) {
	pattern, layer := p.Name, ""
	if parts := strings.SplitN(p.Name, ".", 3); parts[0] == "block" && len(parts) == 3 {
		pattern, layer = "block.*."+parts[2], parts[1]
	}
	i := slices.IndexFunc(parameters[:], func(q parameter) bool { return q.path == pattern })
	if i < 0 {
		return nil, fmt.Errorf("gptoss: %s: no names for this parameter", p.Name)
	}
	pieces := parameters[i].original
	if d == HuggingFace {
		pieces = parameters[i].hf
	}
	total := rowsOf(p)
	var list []extent
	first := 0
	for _, pc := range pieces {
		e := extent{first: first, rows: total}
		switch pc.rows {
		case queryRows:
			e.rows = c.Heads * c.HeadDim
		case kvRows:
			e.rows = c.KVHeads * c.HeadDim
		}
		shape := slices.Clone([]int(p.Shape))
		if pc.rows != allRows {
			shape[0] = e.rows
		}
		name := func(pattern string) string { return strings.Replace(pattern, "*", layer, 1) }
		if p.Storage == graph.MXFP4 {
			last := len(shape) - 1
			groups := append(shape[:last:last], shape[last]/float.BlockSize)
			e.data = checkpoint.Entry{Name: name(pc.data), Type: checkpoint.U8, Shape: append(groups[:last+1:last+1], float.BlockBytes)}
			e.scales = checkpoint.Entry{Name: name(pc.scales), Type: checkpoint.U8, Shape: groups}
		} else {
			e.data = checkpoint.Entry{Name: name(pc.data), Type: checkpoint.BF16, Shape: shape}
		}
		list = append(list, e)
		first += e.rows
	}
	if first != total {
		return nil, fmt.Errorf("gptoss: %s: %d rows named of %d", p.Name, first, total)
	}
	return list, nil
}

// rowsOf returns the rows of a parameter, columnsOf the values of one.
func rowsOf(p graph.Param) int {
	if len(p.Shape) == 1 {
		return p.Shape[0]
	}
	n := 1
	for _, d := range p.Shape[:len(p.Shape)-1] {
		n *= d
	}
	return n
}

func columnsOf(p graph.Param) int {
	if len(p.Shape) == 1 {
		return 1
	}
	return p.Shape.Last()
}

// Sources returns where parameter p of the graph lies, in row order. The
// caller must not change the slice.
func (w *Weights) Sources(p int) []Source { return w.sources[p] }

// Row writes row i of parameter p to dst, which has the row's length. The
// conversion is exact.
func (w *Weights) Row(p, i int, dst []float64) {
	for _, s := range w.sources[p] {
		if i >= s.Rows {
			i -= s.Rows
			continue
		}
		v := make([]float32, len(dst))
		n := len(dst)
		switch {
		case w.params[p].Storage == graph.MXFP4:
			g := n / float.BlockSize
			float.DecodeMXFP4(v, s.Data.Data[i*g*float.BlockBytes:], s.Scales.Data[i*g:(i+1)*g])
		case s.Data.Type == checkpoint.F32:
			float.DecodeF32(v, s.Data.Data[4*i*n:])
		default:
			float.DecodeBF16(v, s.Data.Data[2*i*n:])
		}
		for j, x := range v {
			dst[j] = float64(x)
		}
		return
	}
	panic(fmt.Sprintf("gptoss: %s: row %d beyond its end", w.params[p].Name, i))
}

// Check reads the scales of all MXFP4 weights and refuses those that are NaN,
// 255. It is apart from Bind because it reads every page that holds a scale
// (6% of an MXFP4 weight: 0.6 GB of gpt-oss-20b): whoever is going to run the
// model calls it, whoever only looks at it need not.
func (w *Weights) Check(ctx context.Context) error {
	var errs []error
	for p, sources := range w.sources {
		if w.params[p].Storage != graph.MXFP4 {
			continue
		}
		for _, s := range sources {
			if err := ctx.Err(); err != nil {
				return err
			}
			if at := bytes.IndexByte(s.Scales.Data, float.ScaleNaN); at >= 0 {
				errs = append(errs, fmt.Errorf("gptoss: %s: %s: scale 255, which is NaN, at %v, want at most 254",
					s.Scales.File, s.Scales.Name, index(s.Scales.Shape, at)))
			}
		}
	}
	if len(errs) > 0 {
		return several(errs)
	}
	return nil
}

// index returns the indices of element i of a row-major shape.
func index(shape []int, i int) []int {
	at := make([]int, len(shape))
	for d := len(shape) - 1; d >= 0; d-- {
		at[d], i = i%shape[d], i/shape[d]
	}
	return at
}
