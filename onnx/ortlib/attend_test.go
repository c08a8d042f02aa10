package ortlib

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"ossify/kernel"
)

type attentionCase struct {
	batch, seq, past, kv, group, dim int
	window                           int // 0 sees all
	padding                          int // of the last sequence, on the left
	sinks, holes, shared             bool
}

// An attentionProblem is a call of Attend, in plain slices.
type attentionProblem struct {
	attentionCase
	q, k, v, pastKey, pastValue, mask, sink []float32
}

func newAttention(r *rand.Rand, c attentionCase) *attentionProblem {
	p := &attentionProblem{attentionCase: c}
	rows := c.batch * c.seq
	p.q, p.k, p.v = randomFloats(r, rows*c.kv*c.group*c.dim), randomFloats(r, rows*c.kv*c.dim), randomFloats(r, rows*c.kv*c.dim)
	old := c.batch * c.kv * c.past * c.dim
	p.pastKey, p.pastValue = randomFloats(r, old), randomFloats(r, old)
	masks := c.batch
	if c.shared {
		masks = 1
	}
	for b := range masks {
		for t := range c.seq {
			for pos := range c.past + c.seq {
				at := c.past + t
				seen := pos <= at && (c.window == 0 || at-pos < c.window)
				if b == c.batch-1 && pos < c.padding || c.holes && pos%3 == 1 {
					seen = false
				}
				m := float32(0)
				if !seen {
					m = hidden
				}
				p.mask = append(p.mask, m)
			}
		}
	}
	if c.sinks {
		p.sink = randomFloats(r, c.kv*c.group)
	}
	return p
}

func (p *attentionProblem) inputs() []Tensor {
	heads, total := p.kv*p.group, p.past+p.seq
	masks := p.batch
	if p.shared {
		masks = 1
	}
	in := []Tensor{
		floatTensor(p.q, p.batch, p.seq, heads*p.dim), floatTensor(p.k, p.batch, p.seq, p.kv*p.dim),
		floatTensor(p.pastKey, p.batch, p.kv, p.past, p.dim), floatTensor(p.v, p.batch, p.seq, p.kv*p.dim),
		floatTensor(p.pastValue, p.batch, p.kv, p.past, p.dim), floatTensor(p.mask, masks, 1, 1, p.seq, total),
	}
	if p.sinks {
		in = append(in, bf16(p.sink, heads))
	}
	return in
}

// at returns key or value number pos of a head.
func (p *attentionProblem) at(past, now []float32, b, kv, pos int) []float32 {
	if pos < p.past {
		return past[((b*p.kv+kv)*p.past+pos)*p.dim:][:p.dim]
	}
	return now[((b*p.seq+pos-p.past)*p.kv+kv)*p.dim:][:p.dim]
}

// head is the plainest attention, in float64.
func (p *attentionProblem) head(b, t, head int) []float64 {
	kv, total := head/p.group, p.past+p.seq
	mask := p.mask[t*total:]
	if !p.shared {
		mask = p.mask[(b*p.seq+t)*total:]
	}
	q := p.q[((b*p.seq+t)*p.kv*p.group+head)*p.dim:][:p.dim]
	var scores []float64
	for pos := range total {
		s := math.Inf(-1)
		if mask[pos] == 0 {
			s = 0
			for d, k := range p.at(p.pastKey, p.k, b, kv, pos) {
				s += float64(q[d]) * float64(k)
			}
			s /= math.Sqrt(float64(p.dim))
		}
		scores = append(scores, s)
	}
	most := slices.Max(scores)
	if p.sinks {
		most = max(most, float64(p.sink[head]))
	}
	sum, y := 0.0, make([]float64, p.dim)
	if p.sinks {
		sum = math.Exp(float64(p.sink[head]) - most)
	}
	for pos, s := range scores {
		if mask[pos] != 0 {
			continue
		}
		w := math.Exp(s - most)
		sum += w
		for d, v := range p.at(p.pastValue, p.v, b, kv, pos) {
			y[d] += w * float64(v)
		}
	}
	for d := range y {
		if sum > 0 {
			y[d] /= sum
		}
	}
	return y
}

// Attend is attention over past and new keys, and hands on both, for odd sizes
// and for every kind of mask.
func TestAttend(t *testing.T) {
	tests := map[string]attentionCase{
		"one token":               {batch: 1, seq: 1, past: 0, kv: 1, group: 1, dim: 2},
		"decode":                  {batch: 1, seq: 1, past: 300, kv: 2, group: 4, dim: 64, sinks: true},
		"decode at a page's edge": {batch: 1, seq: 1, past: 63, kv: 2, group: 8, dim: 64, sinks: true},
		"decode past it":          {batch: 1, seq: 1, past: 64, kv: 2, group: 8, dim: 64, sinks: true},
		"decode in a window":      {batch: 1, seq: 1, past: 300, kv: 2, group: 3, dim: 16, window: 128, sinks: true},
		"prefill":                 {batch: 1, seq: 130, kv: 2, group: 4, dim: 16, sinks: true},
		"prefill in a window":     {batch: 1, seq: 200, past: 70, kv: 1, group: 4, dim: 16, window: 16, sinks: true},
		"without sinks":           {batch: 1, seq: 5, past: 9, kv: 3, group: 1, dim: 90},
		"padded batch":            {batch: 3, seq: 70, kv: 2, group: 2, dim: 16, sinks: true, padding: 66},
		"padded batch decodes":    {batch: 3, seq: 1, past: 70, kv: 2, group: 2, dim: 16, sinks: true, padding: 66},
		"one mask for all":        {batch: 2, seq: 4, past: 3, kv: 2, group: 2, dim: 16, sinks: true, shared: true},
		"holes":                   {batch: 2, seq: 67, past: 65, kv: 2, group: 2, dim: 16, sinks: true, holes: true},
		"holes in a window":       {batch: 1, seq: 40, past: 5, kv: 1, group: 2, dim: 8, window: 9, sinks: true, holes: true},
		"all is padding":          {batch: 2, seq: 2, past: 0, kv: 1, group: 2, dim: 8, sinks: true, padding: 2},
	}
	for _, set := range kernel.All() {
		for name, c := range tests {
			t.Run(set.Name+"/"+name, func(t *testing.T) {
				p := newAttention(rand.New(rand.NewPCG(11, uint64(len(name)))), c)
				f, err := NewLibrary(set).New("Attend", Attributes{})
				if err != nil {
					t.Fatal(err)
				}
				in := p.inputs()
				shapes, err := f.Shapes(in)
				total := c.past + c.seq
				if want := [][]int{{c.batch, c.seq, c.kv * c.group * c.dim}, {c.batch, c.kv, total, c.dim}, {c.batch, c.kv, total, c.dim}}; err != nil || fmt.Sprint(shapes) != fmt.Sprint(want) {
					t.Fatalf("shapes %v, %v, want %v", shapes, err, want)
				}
				runs := map[int][][]float32{}
				for i, parallel := range []Parallel{concurrent, serial} {
					for _, shape := range shapes {
						n, _ := Elements(shape)
						runs[i] = append(runs[i], make([]float32, n))
					}
					for range 2 { // scratch is used again
						if err := f.Run(in, runs[i], parallel); err != nil {
							t.Fatal(err)
						}
					}
				}
				out := runs[0]
				if fmt.Sprint(runs[0]) != fmt.Sprint(runs[1]) {
					t.Fatal("another order gives other bits")
				}
				for b := range c.batch {
					for kv := range c.kv {
						for pos := range total {
							at := ((b*c.kv+kv)*total + pos) * c.dim
							if !slices.Equal(out[1][at:at+c.dim], p.at(p.pastKey, p.k, b, kv, pos)) || !slices.Equal(out[2][at:at+c.dim], p.at(p.pastValue, p.v, b, kv, pos)) {
								t.Fatalf("sequence %d, head %d: another key or value at %d", b, kv, pos)
							}
						}
					}
					for s := range c.seq {
						for head := range c.kv * c.group {
							for d, want := range p.head(b, s, head) {
								// Scores of 64 products and weights that add to 1: 2⁻¹⁸ is 64 roundings
								// of values below 4.
								if got := float64(out[0][((b*c.seq+s)*c.kv*c.group+head)*c.dim+d]); !(math.Abs(got-want) <= 0x1p-18) {
									t.Fatalf("sequence %d, row %d, head %d, column %d is %g, want %g", b, s, head, d, got, want)
								}
							}
						}
					}
				}
			})
		}
	}
}

// No tokens at all: the cache is handed on.
func TestAttendNothing(t *testing.T) {
	p := newAttention(rand.New(rand.NewPCG(13, 14)), attentionCase{batch: 2, past: 3, kv: 1, group: 1, dim: 4})
	f, err := NewLibrary(kernel.Portable()).New("Attend", Attributes{})
	if err != nil {
		t.Fatal(err)
	}
	out := [][]float32{{}, make([]float32, 24), make([]float32, 24)}
	if err := f.Run(p.inputs(), out, serial); err != nil || !slices.Equal(out[1], p.pastKey) || !slices.Equal(out[2], p.pastValue) {
		t.Errorf("%v, %v, want %v and %v", err, out, p.pastKey, p.pastValue)
	}
}
