package engine

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"

	"ossify/internal/mapped"
	"ossify/kernel"
)

// A crew is the workers of a pass. They start with it and end with it. Between
// two steps they spin, for a step of a decoded token takes some ten
// microseconds, then park.
type crew struct {
	workers []*worker // the first is the pass's own goroutine

	ahead  ahead
	step   step
	round  atomic.Uint32 // of the step that is to be worked at
	busy   atomic.Int32  // workers that are not done with it
	stop   bool
	idle   []*bell // of each worker
	done   *bell   // of the first worker
	failed atomic.Pointer[failure]
}

// A worker's memory lasts from pass to pass.
type worker struct {
	queue   atomic.Uint64 // tasks that are left of its share: first in the high half, end in the low
	_       [56]byte      // a cache line for it alone
	scratch kernel.Scratch
	job     kernel.Job
	att     kernel.Attention
	y       []float32 // products
	bias    []float32
	scores  []float32
	lo, hi  []int
	top     []int32
	asked   asked
}

type failure struct{ value any }

func newCrew(n int, set *kernel.Set) *crew {
	c := &crew{workers: make([]*worker, n), idle: make([]*bell, n), done: newBell(), ahead: ahead{set: set}}
	for i := range c.workers {
		c.workers[i], c.idle[i] = new(worker), newBell()
	}
	return c
}

// start starts all workers but the first.
func (c *crew) start(r *runner) {
	c.stop = false
	c.failed.Store(nil)
	c.ahead.next.Store(nil)
	for _, w := range c.workers {
		w.asked = asked{}
	}
	for i := 1; i < len(c.workers); i++ {
		go c.follow(r, i, c.round.Load())
	}
}

// end lets them go, and waits until they have gone.
func (c *crew) end() {
	if len(c.workers) > 1 {
		c.stop = true
		c.release()
		c.done.wait(c.others, nothing)
	}
}

// others reports whether all workers but the first are done.
func (c *crew) others() bool { return c.busy.Load() == 0 }

func (c *crew) release() {
	c.busy.Store(int32(len(c.workers) - 1))
	c.round.Add(1)
	for i := 1; i < len(c.workers); i++ {
		c.idle[i].ring()
	}
}

// follow works at each step until the pass ends.
func (c *crew) follow(r *runner, i int, round uint32) {
	debug.SetPanicOnFault(true)
	for {
		c.idle[i].wait(func() bool { return c.round.Load() != round }, func() bool { return c.ahead.ask(i, &c.workers[i].asked) })
		round++
		stop := c.stop
		if !stop {
			c.work(r, i)
		}
		if c.busy.Add(-1) == 0 {
			c.done.ring()
		}
		if stop {
			return
		}
	}
}

// run does n tasks of s, over all workers if there are several.
func (c *crew) run(r *runner, s step, n int) {
	c.step = s
	if n == 1 || len(c.workers) == 1 {
		c.workers[0].queue.Store(uint64(n))
		for _, w := range c.workers[1:] {
			w.queue.Store(0)
		}
		c.work(r, 0)
		return
	}
	for i, w := range c.workers {
		lo, hi := c.share(i, n)
		w.queue.Store(uint64(lo)<<32 | uint64(hi))
	}
	c.release()
	c.work(r, 0)
	c.done.wait(c.others, func() bool { return c.ahead.ask(0, &c.workers[0].asked) })
}

// share returns worker i's tasks of n, before others take some.
func (c *crew) share(i, n int) (lo, hi int) {
	each := len(c.workers)
	return i * n / each, (i + 1) * n / each
}

// work does the tasks of worker i's share in order, for they read weights that
// lie one after the other, then those that others have not come to yet, from
// their ends.
func (c *crew) work(r *runner, i int) {
	defer func() {
		if v := recover(); v != nil {
			c.failed.CompareAndSwap(nil, &failure{v})
		}
	}()
	w := c.workers[i]
	for task, ok := w.first(); ok; task, ok = w.first() {
		c.step.do(r, w, task)
	}
	for k := 1; k < len(c.workers); k++ {
		from := c.workers[(i+k)%len(c.workers)]
		for task, ok := from.last(); ok; task, ok = from.last() {
			c.step.do(r, w, task)
		}
	}
}

func (w *worker) first() (int, bool) {
	for {
		q := w.queue.Load()
		if q>>32 >= q&(1<<32-1) {
			return 0, false
		}
		if w.queue.CompareAndSwap(q, q+1<<32) {
			return int(q >> 32), true
		}
	}
}

func (w *worker) last() (int, bool) {
	for {
		q := w.queue.Load()
		if q>>32 >= q&(1<<32-1) {
			return 0, false
		}
		if w.queue.CompareAndSwap(q, q-1) {
			return int(q&(1<<32-1)) - 1, true
		}
	}
}

// err returns what went wrong in a step. A fault in the weights, whose file
// must have been cut while it was in use, is an error; what else panics is a
// mistake of the program.
func (c *crew) err() error {
	f := c.failed.Load()
	if f == nil {
		return nil
	}
	switch v := f.value.(type) {
	case stepError:
		return v.error
	case interface {
		error
		Addr() uintptr
	}:
		return fmt.Errorf("engine: weights: %w", mapped.ErrShortened)
	}
	panic(f.value)
}

// A stepError is an error that a task panics with.
type stepError struct{ error }

// A bell wakes one goroutine that waits for a condition. It spins for a while
// before it sleeps.
type bell struct {
	asleep atomic.Bool
	wake   chan struct{}
}

// nothing is to be done meanwhile.
func nothing() bool { return false }

func newBell() *bell { return &bell{wake: make(chan struct{}, 1)} }

// Loads before a waiter lets others run, and how often it does so before it
// sleeps: about a microsecond, and a tenth of a millisecond in all.
const (
	spins  = 1000
	yields = 500
)

// wait returns once cond, which ring follows, is true. Before it spins it does
// what there is to do meanwhile, in short pieces, until that reports false.
func (b *bell) wait(cond, meanwhile func() bool) {
	for !cond() && meanwhile() {
	}
	for range spins {
		if cond() {
			return
		}
	}
	for range yields {
		runtime.Gosched()
		if cond() {
			return
		}
	}
	for !cond() {
		b.asleep.Store(true)
		if cond() && b.asleep.CompareAndSwap(true, false) {
			return
		}
		<-b.wake // rung, or about to be
	}
}

// ring wakes the waiter if it sleeps.
func (b *bell) ring() {
	if b.asleep.Load() && b.asleep.CompareAndSwap(true, false) {
		b.wake <- struct{}{}
	}
}
