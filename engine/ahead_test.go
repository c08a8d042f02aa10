package engine_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/internal/modeltest"
	"ossify/kernel"
	"ossify/weight"
)

// A region is n bytes of memory.
type region struct {
	at uintptr
	n  int
}

func (r region) end() uintptr { return r.at + uintptr(r.n) }

func regionOf(b []byte) region {
	return region{uintptr(unsafe.Pointer(unsafe.SliceData(b))), len(b)}
}

// Workers that wait ask for the weights that they read first in the next
// product, and for no others.
func TestAhead(t *testing.T) {
	c := *modeltest.Tiny(t)
	c.Dim, c.Vocab = 416, 8192 // several tasks an expert, and more bytes of the last matrix than a worker asks for
	g, err := gptoss.Build(&c)
	if err != nil {
		t.Fatal(err)
	}
	whole := random(t, g)
	pieces := inPieces(t, g, whole)
	tokens := someTokens(40)
	for _, workers := range []int{1, 2, 3, 5} {
		if testing.Short() && workers != 3 {
			continue
		}
		for _, packed := range []bool{false, true} {
			for _, rows := range []int{1, 2, engine.FewRows, engine.FewRows + 1} {
				t.Run(fmt.Sprintf("%d workers, packed %v, %d rows", workers, packed, rows), func(t *testing.T) {
					var mu sync.Mutex
					var watch engine.Watch
					var asked []region
					read := map[any][]region{} // the weights of each step's tasks
					k := kernel.Best()
					prefetch := k.Prefetch
					k.Prefetch = func(b []byte) {
						mu.Lock()
						defer mu.Unlock()
						asked = append(asked, regionOf(b))
						prefetch(b)
					}
					for _, entry := range []*func(j *kernel.Job, s *kernel.Scratch){&k.BF16xBF16, &k.MXFP4xBF16, &k.PackedxBF16} {
						product := *entry
						*entry = func(j *kernel.Job, s *kernel.Scratch) {
							mu.Lock()
							step := watch.Step()
							read[step] = append(read[step], regionOf(j.W.Data))
							mu.Unlock()
							product(j, s)
						}
					}
					w := pieces
					if packed {
						w = whole // packed pieces lie anywhere: the order of tasks could not be told below
					}
					m := model(t, subject{g, w}, engine.Options{Precision: engine.BF16, Kernels: k, Workers: workers})
					watch = engine.NewWatch(m)
					if packed {
						if err := m.Pack(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					s := m.NewSession()
					if _, err := s.Next(t.Context(), tokens[:20]); err != nil { // its weights are not what it waits for
						t.Fatal(err)
					}
					if all := watch.Ahead(); len(all) > 0 || len(asked) > 0 {
						t.Fatalf("20 rows asked for the weights of %d steps", len(all))
					}
					for range 2 { // the second must not ask for the first one's experts
						clear(read)
						asked = nil
						if _, err := s.Next(t.Context(), tokens[s.Len():s.Len()+rows]); err != nil {
							t.Fatal(err)
						}
					}

					steps := watch.Ahead()
					if rows > engine.FewRows {
						if len(steps) > 0 || len(asked) > 0 {
							t.Fatalf("%d rows asked for the weights of %d steps", rows, len(steps))
						}
						return
					}
					// A block's experts are not known before their first product.
					layers := len(read) / 5 // qkv, out, the router, two of experts
					if want := 4*layers + 1; len(read) != 5*layers+1 || len(steps) != want {
						t.Fatalf("weights of %d steps of %d, want %d", len(steps), len(read), want)
					}
					for step, shares := range steps {
						tasks := read[step]
						slices.SortFunc(tasks, func(a, b region) int { return cmp.Compare(a.at, b.at) })
						if len(shares) != workers {
							t.Fatalf("%T: %d shares", step, len(shares))
						}
						for i, b := range shares {
							first, last := i*len(tasks)/workers, (i+1)*len(tasks)/workers-1
							got := regionOf(b)
							if first > last {
								if got.n > 0 {
									t.Errorf("%T: worker %d asks for %v, and has no task", step, i, got)
								}
								continue
							}
							end := tasks[first].end()
							ends := []uintptr{tasks[first].at + engine.AheadBytes}
							for _, task := range tasks[first : last+1] {
								if task.at <= end {
									end = task.end()
									ends = append(ends, end)
								}
							}
							if got.at != tasks[first].at || got.n < min(tasks[first].n, engine.AheadBytes) || got.n > engine.AheadBytes || !slices.Contains(ends, got.end()) {
								t.Errorf("%T: worker %d asks for %v, want what its tasks from %v to %v read", step, i, got, tasks[first], tasks[last])
							}
						}
					}
					// What was asked for is a beginning of shares, piece after piece.
					for at, a := range asked {
						found := a.n == 0
						for _, shares := range steps {
							for _, b := range shares {
								share := regionOf(b)
								off := a.at - share.at
								found = found || a.at >= share.at && a.end() <= share.end() &&
									(off == 0 || slices.ContainsFunc(asked[:at], func(b region) bool { return b.end() == a.at }))
							}
						}
						if !found {
							t.Errorf("%v was asked for, which is no next piece of any share", a)
						}
					}
					if workers == 1 && len(asked) > 0 {
						t.Errorf("one worker alone asked for %d pieces", len(asked))
					}
				})
			}
		}
	}
}

// inPieces returns w with the matrices of queries, keys and values in two sources
// of different heights, some bytes apart, as a checkpoint may have them in three.
func inPieces(t *testing.T, g *graph.Graph, w *weight.Set) *weight.Set {
	t.Helper()
	sources := make([][]weight.Source, len(g.Params))
	for i, p := range g.Params {
		sources[i] = slices.Clone(w.Sources(i))
		if !strings.HasSuffix(p.Name, "attn.qkv.weight") {
			continue
		}
		whole := sources[i][0].Data
		rows, size := p.Shape[0]/3, 2*p.Shape[1]
		memory := make([]byte, len(whole.Data)+100)
		from := [2]int{0, rows * size}
		for k, part := range [][]byte{whole.Data[:rows*size], whole.Data[rows*size:]} {
			b := memory[from[k]+100*k:][:len(part)]
			copy(b, part)
			piece := whole
			piece.Data, piece.Shape = b, []int{len(part) / size, p.Shape[1]}
			sources[i] = append(sources[i][:k], weight.Source{Data: piece})
		}
	}
	set, err := weight.New(g.Params, sources, nil)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestAheadIsAskedFor(t *testing.T) {
	var asked atomic.Int64
	k := kernel.Best()
	k.Prefetch = func(b []byte) { asked.Add(int64(len(b))) }
	s := model(t, tiny(t), engine.Options{Precision: engine.BF16, Kernels: k, Workers: 2}).NewSession()
	for range 1000 {
		if _, err := s.Next(t.Context(), []uint32{1}); err != nil {
			t.Fatal(err)
		}
		if asked.Load() > 0 {
			return
		}
	}
	t.Error("nobody asks for weights in 1,000 tokens")
}
