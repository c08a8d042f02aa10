package engine

import (
	"sync/atomic"

	"ossify/kernel"
)

// Between the products of a decoded token memory would be idle: one worker does
// what goes by rows, or the last task of a product, and the others wait. While
// they wait they ask for the weights that they will read first in the next
// product, if it is known which: an expert's are not, before it is chosen.

const (
	aheadBytes = 256 << 10 // a worker: its second cache has room for them
	aheadPiece = 1 << 10   // between two looks whether the wait is over
)

// A reader is a step that reads weights, a task's after those of the task
// before.
type reader interface {
	step

	// reads returns the number of tasks, 0 if it is not known yet.
	reads(r *runner) int

	// weights returns what tasks lo to hi−1 read, as far as it lies together.
	weights(r *runner, lo, hi int) []byte
}

// ahead is the weights to come.
type ahead struct {
	set  *kernel.Set
	next atomic.Pointer[[][]byte] // of each worker
}

// An asked is how many of its next bytes a worker has asked for.
type asked struct {
	of *[][]byte
	n  int
}

// ask asks for a piece of worker i's share. It reports false if there is nothing
// left to ask for.
func (a *ahead) ask(i int, done *asked) bool {
	next := a.next.Load()
	if next == nil {
		return false
	}
	if done.of != next {
		*done = asked{of: next}
	}
	b := (*next)[i][done.n:]
	b = b[:min(len(b), aheadPiece)]
	a.set.Prefetch(b)
	done.n += len(b)
	return len(b) > 0
}

// aheadOf returns what each worker will read first in the first step after step i
// that reads weights, nil if that is not known.
func (r *runner) aheadOf(i int) *[][]byte {
	if len(r.pos) > fewRows {
		return nil
	}
	for i++; i < len(r.plan.steps); i++ {
		s, ok := r.plan.steps[i].(reader)
		if !ok {
			continue
		}
		n := s.reads(r)
		if n == 0 {
			return nil
		}
		// It is read meanwhile, so written once.
		next := &r.upcoming[i]
		if r.upcomingTo < i {
			r.upcomingTo = i
			*next = (*next)[:0]
			for k := range r.crew.workers {
				var b []byte
				if lo, hi := r.crew.share(k, n); lo < hi {
					b = s.weights(r, lo, hi)
				}
				*next = append(*next, b[:min(len(b), aheadBytes)])
			}
		}
		return next
	}
	return nil
}

func (s *linearStep) reads(r *runner) int {
	if r.count(r.plan.places[s.node].tail) == 0 {
		return 0
	}
	return len(s.blocks)
}

func (s *linearStep) weights(r *runner, lo, hi int) []byte {
	first, last := s.blocks[lo], s.blocks[lo]
	for _, b := range s.blocks[lo:hi] {
		if b.source == first.source {
			last = b
		}
	}
	w := r.m.dense[r.m.g.Nodes[s.node].Params[0]][first.source].Part(first.lo, last.hi)
	return w.Data
}

func (s *expertStep) reads(r *runner) int {
	n := &r.m.g.Nodes[s.node]
	if r.count(r.plan.places[s.node].tail) == 0 || r.routed != int(n.In[1]) {
		return 0
	}
	return len(r.active) * s.panels(r)
}

func (s *expertStep) weights(r *runner, lo, hi int) []byte {
	n := &r.m.g.Nodes[s.node]
	height := n.Shape.Last()
	e, from := s.place(r, lo)
	to := min(from+(hi-lo)*s.height(r), height)
	w := r.m.experts[n.Params[0]].Part(e*height+from, e*height+to)
	return w.Data
}
