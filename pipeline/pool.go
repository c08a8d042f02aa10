package pipeline

import (
	"bytes"
	"context"
	"errors"
	"sync"
)

// A Pool is the worker of a job in one process, and the elements under way.
type Pool struct {
	// Lasting pools go on after an error, for a runner that tries again.
	Lasting bool

	ctx    context.Context
	cancel context.CancelCauseFunc
	kind   Kind
	config []byte
	slots  chan struct{}

	mu     sync.Mutex
	worker Worker
	opened bool
	closed bool
	err    error // the first
	under  sync.WaitGroup
}

// NewPool returns a Pool for so many elements at once, which ends with ctx or
// with the first error.
func NewPool(ctx context.Context, kind Kind, config []byte, parallel int) *Pool {
	p := &Pool{kind: kind, config: config, slots: make(chan struct{}, parallel)}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	return p
}

// Open opens the worker, if that has not been done.
func (p *Pool) Open() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.opened && !p.closed {
		p.opened = true
		p.worker, p.err = p.kind(p.ctx, p.config)
		if p.err != nil {
			p.worker, p.opened = nil, !p.Lasting
		}
	}
	if p.Lasting && p.worker != nil {
		return nil // whatever became of an element
	}
	return p.err
}

// Close ends the pool: no element begins any more, and those under way have
// ended. It returns the first error of the worker.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.under.Wait()
	p.cancel(nil)
	if p.worker != nil {
		if err := p.worker.Close(); p.err == nil {
			p.err = err
		}
		p.worker = nil
	}
	return p.err
}

// A Group is elements of a pool that end together.
type Group struct {
	p  *Pool
	wg sync.WaitGroup

	mu  sync.Mutex
	err error
}

// Group returns an empty group.
func (p *Pool) Group() *Group { return &Group{p: p} }

var errEnded = errors.New("pipeline: the job has ended")

// Start begins to process an element, as soon as there is room.
func (g *Group) Start(element []byte) error {
	p := g.p
	select {
	case p.slots <- struct{}{}:
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
	p.mu.Lock()
	w := p.worker
	if p.closed || w == nil {
		p.mu.Unlock()
		<-p.slots
		return errEnded
	}
	p.under.Add(1)
	p.mu.Unlock()
	own := bytes.Clone(element)
	g.wg.Go(func() {
		defer func() { <-p.slots }()
		defer p.under.Done()
		err := w.Do(p.ctx, own)
		if err == nil {
			return
		}
		p.mu.Lock()
		if p.err == nil {
			p.err = err
		}
		p.mu.Unlock()
		if !p.Lasting {
			p.cancel(err)
		}
		g.mu.Lock()
		g.err = errors.Join(g.err, err)
		g.mu.Unlock()
	})
	return nil
}

// Wait returns when all that was started has ended.
func (g *Group) Wait() error {
	g.wg.Wait()
	return g.err
}
