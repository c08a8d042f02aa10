package onnx

import (
	"context"
	"fmt"
	"slices"

	"ossify/checkpoint"
	"ossify/graph"
	file "ossify/onnx"
	"ossify/onnx/ort"
	"ossify/parity"
	"ossify/verify"
)

// An model is a model that is open in ONNX Runtime.
type model struct {
	s *ort.Session
	d *ort.Decoder
}

// open loads a model with its logits and cache, and with its stages if asked.
func (v *check) open(ctx context.Context, path string, sum *file.Summary, stages bool) (*model, error) {
	want := map[string]bool{} // by name of a stage
	for _, n := range v.c.Graph.Nodes {
		want[n.Name] = false
	}
	for _, n := range v.stages {
		want[n.Name] = stages && n.Name != v.logits.Name // which are an output anyway
	}
	decoder := ort.WantDecoder(sum.OutputNames())
	o := v.options(sum)
	o.Want = func(x ort.Info) bool {
		if wanted, stage := want[x.Name]; stage {
			return wanted
		}
		return decoder(x)
	}
	s, err := v.rt.Load(ctx, path, o)
	if err != nil {
		return nil, err
	}
	d, err := ort.NewDecoder(s, v.c.Config.KVHeads, v.c.Config.HeadDim)
	if err == nil {
		c := v.c.Config
		err = d.Fits(c.Vocab, c.Layers, c.KVHeads, c.HeadDim)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("%w (%s)", err, path)
	}
	for _, x := range append(slices.Clone(s.Outputs), s.Inputs...) {
		if x.Type == checkpoint.F16 || x.Type == checkpoint.BF16 {
			v.narrow = x.Type.String()
		}
	}
	return &model{s, d}, nil
}

// calls splits the sequence: what is prefilled into calls of at most size
// tokens, then the tokens that are decoded one by one.
func (v *check) calls(size int) []int {
	var sizes []int
	for left := len(v.tokens) - v.q.Decode; left > 0; left -= size {
		sizes = append(sizes, min(size, left))
	}
	for range v.q.Decode {
		sizes = append(sizes, 1)
	}
	return sizes
}

// A modelRun is what a run of a model showed.
type modelRun struct {
	stages parity.Run
	at     []int // positions of the logits, of those that are judged
	state  *ort.State
}

// run processes the sequence in calls of those sizes, and keeps the logits and
// whatever stages the model shows.
func (m *model) run(ctx context.Context, v *check, sizes []int) (*modelRun, error) {
	return m.turned(ctx, v, sizes, nil, 0)
}

// turned is run, with another model, if it is not nil, from a position on.
func (m *model) turned(ctx context.Context, v *check, sizes []int, other *model, from int) (*modelRun, error) {
	return m.through(ctx, v, sizes, func(s *ort.State, first int) {
		if other != nil && first >= from {
			s.Switch(other.d)
		}
	}, nil)
}

// through is run; before each call, and after it, a function may look at the
// state. first is the position of the call's first token. Either may be nil.
func (m *model) through(ctx context.Context, v *check, sizes []int, before func(s *ort.State, first int), after func(s *ort.State, first int) error) (*modelRun, error) {
	if m.d.Layers() == 0 {
		sizes = []int{len(v.tokens)}
	}
	k, r, first := verify.NewKeeper(v.stages, v.positions, nil), &modelRun{state: m.d.NewState(1)}, 0
	for _, n := range sizes {
		if before != nil {
			before(r.state, first)
		}
		out, err := r.state.Forward(ctx, [][]uint32{v.tokens[first : first+n]})
		if err != nil {
			return nil, err
		}
		rows := parity.UpTo(first + n)[first:]
		for name, t := range out {
			stage, at := name, rows
			if name == m.d.Logits.Name {
				stage = v.logits.Name
				if len(t.Shape) == 3 && t.Shape[1] == 1 { // of the last position only
					at = rows[n-1:]
					k.Skip(stage, at[0])
				}
				for _, p := range at {
					if _, ok := slices.BinarySearch(v.positions, p); ok {
						r.at = append(r.at, p)
					}
				}
			}
			if len(t.Shape) < 2 || t.Shape[1] != len(at) {
				return nil, fmt.Errorf("verify: output %s of shape %v for %d tokens", name, t.Shape, n)
			}
			values := ort.Rows(t, 0, len(at))
			if err := k.See(stage, at, values); err != nil {
				return nil, err
			}
			if v.also != nil {
				if err := v.also(stage, at, values); err != nil {
					return nil, err
				}
			}
		}
		if after != nil {
			if err := after(r.state, first); err != nil {
				return nil, err
			}
		}
		first += n
	}
	if r.stages = k.Run; len(r.at) == 0 {
		return nil, fmt.Errorf("verify: the model gives no logits of the positions that are judged")
	}
	return r, nil
}

// logitsAt returns the rows of logits at wanted, of rows at positions.
func (v *check) logitsAt(run parity.Run, positions, wanted []int) []float64 {
	return parity.At(run[v.logits.Name], v.c.Config.Vocab, positions, wanted)
}

// cache compares what the model keeps for later calls with another's keys
// and values, and names the first that is off.
func (v *check) cache(m *model, state *ort.State, beside parity.Run) {
	all := parity.Check{Name: "cache, keys and values", Bound: near, Verdict: parity.Pass}
	layer := 0
	for _, n := range v.c.Graph.Nodes {
		if n.Op != graph.Attend || m.d.Layers() == 0 {
			continue
		}
		key, value := state.Cache(layer)
		layer++
		for i, t := range []ort.Tensor{key, value} {
			stage := v.c.Graph.Nodes[n.In[1+i]].Name
			c := v.narrowed(parity.CheckNear(stage, near, beside[stage], byPosition(t)))
			all.Max = max(all.Max, c.Max)
			if all.Verdict == parity.Pass && c.Verdict != parity.Pass {
				all.Verdict, all.Why = c.Verdict, c.Name+": "+c.Why
			}
		}
	}
	if layer > 0 {
		v.r.Checks = append(v.r.Checks, all)
	}
}

// byPosition turns a cache [1, heads, positions, dim] into rows.
func byPosition(t ort.Tensor) []float64 {
	heads, rows, dim := t.Shape[1], t.Shape[2], t.Shape[3]
	from, to := t.Float64s(), make([]float64, heads*rows*dim)
	for h := range heads {
		for p := range rows {
			copy(to[(p*heads+h)*dim:][:dim], from[(h*rows+p)*dim:])
		}
	}
	return to
}

// splits processes the prompt in chunks of other sizes, through the cache.
func (v *check) splits(ctx context.Context, m *model, whole *modelRun) error {
	if m.d.Layers() == 0 {
		return nil
	}
	for _, size := range []int{64, 7, 1} {
		v.say("chunks of %d", size)
		r, err := m.run(ctx, v, v.calls(size))
		if err != nil {
			return err
		}
		both := slices.DeleteFunc(slices.Clone(whole.at), func(p int) bool { return !slices.Contains(r.at, p) })
		v.near(fmt.Sprintf("prefill in chunks of %d", size),
			v.logitsAt(whole.stages, whole.at, both), v.logitsAt(r.stages, r.at, both))
	}
	return nil
}

// batch runs three sequences of different lengths at once, padded on the left,
// and each alone.
func (v *check) batch(ctx context.Context, m *model) error {
	n := len(v.tokens) - v.q.Decode
	lengths := []int{n, 2 * n / 3, n / 4}
	if m.d.Layers() == 0 || lengths[2] == 0 {
		return nil
	}
	v.say("a batch of %d", len(lengths))
	const steps = 4
	var prompts [][]uint32
	calls := make([][][]uint32, 1+steps) // by call, by sequence
	for _, length := range lengths {
		prompts = append(prompts, v.tokens[n-length:n]) // no two start alike
	}
	calls[0] = prompts
	for i := range steps {
		for j := range lengths {
			at := (n + i*len(lengths) + j) % len(v.tokens)
			calls[1+i] = append(calls[1+i], v.tokens[at:at+1])
		}
	}
	together, alone := m.d.NewState(len(lengths)), make([]*ort.State, len(lengths))
	var got, want []float64
	for i, call := range calls {
		all, err := together.Forward(ctx, call)
		if err != nil {
			return err
		}
		for j, tokens := range call {
			if i == 0 {
				alone[j] = m.d.NewState(1)
			}
			one, err := alone[j].Forward(ctx, [][]uint32{tokens})
			if err != nil {
				return err
			}
			rows := min(len(tokens), one[m.d.Logits.Name].Shape[1])
			got = append(got, ort.Rows(all[m.d.Logits.Name], j, rows)...)
			want = append(want, ort.Rows(one[m.d.Logits.Name], 0, rows)...)
		}
	}
	v.near(fmt.Sprintf("batch of %d, padded on the left, each as alone", len(lengths)), want, got)
	return nil
}
