package engine

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"ossify/graph"
	"ossify/kernel"
)

// slack is how many positions more than their window layers with one keep, so
// that a session can take back its last tokens.
const slack = 2 * kernel.PageLen

// A block is the pages of one Attend for the same PageLen positions: one page
// for each key/value head. Sessions that were forked share blocks; one that is
// shared is copied before it is written to.
type block struct {
	refs  atomic.Int32
	bytes int64
	pages []kernel.Page // by key/value head
}

// newBlock returns a block for heads, whose bytes count as the model's until it
// is collected or released.
func (m *Model) newBlock(h graph.Heads) *block {
	size := kernel.PageSize(h.Dim)
	b := &block{pages: make([]kernel.Page, h.KV)}
	b.refs.Store(1)
	if m.half {
		all := make([]uint16, h.KV*size)
		for i := range b.pages {
			b.pages[i].Half = all[i*size:][:size:size]
		}
		b.bytes = int64(2 * len(all))
	} else {
		all := make([]float32, h.KV*size)
		for i := range b.pages {
			b.pages[i].Full = all[i*size:][:size:size]
		}
		b.bytes = int64(4 * len(all))
	}
	// What the cleanup holds stays until b is collected. It must not be the model:
	// its runner may be the last to hold b, and both would stay for ever.
	total, n := m.bytes, b.bytes
	total.Add(n)
	runtime.AddCleanup(b, func(total *atomic.Int64) { total.Add(-n) }, total)
	return b
}

// A layer is what a session holds of one Attend: blocks for consecutive
// PageLen positions from first·PageLen on.
type layer struct {
	heads  graph.Heads
	first  int
	blocks []*block
	pages  [][]kernel.Page // by key/value head, in order: what the kernels take
}

func newLayer(h graph.Heads) *layer { return &layer{heads: h, pages: make([][]kernel.Page, h.KV)} }

// reserve makes room for positions lo to hi−1, the first of which follows the
// last that was written, and sees to it that no other session has their blocks.
func (l *layer) reserve(m *Model, lo, hi int) {
	if len(l.blocks) == 0 {
		l.first = lo / kernel.PageLen
	}
	for i := lo/kernel.PageLen - l.first; i <= (hi-1)/kernel.PageLen-l.first; i++ {
		switch {
		case i == len(l.blocks):
			l.blocks = append(l.blocks, nil)
			for kv := range l.pages {
				l.pages[kv] = append(l.pages[kv], kernel.Page{})
			}
			l.set(i, m.newBlock(l.heads))
		case l.blocks[i].refs.Load() > 1:
			own := m.newBlock(l.heads)
			for kv, p := range l.blocks[i].pages {
				copy(own.pages[kv].Half, p.Half)
				copy(own.pages[kv].Full, p.Full)
			}
			l.blocks[i].refs.Add(-1)
			l.set(i, own)
		}
	}
}

func (l *layer) set(i int, b *block) {
	l.blocks[i] = b
	for kv, p := range b.pages {
		l.pages[kv][i] = p
	}
}

// put stores the row of a position.
func (l *layer) put(pos int, k, v []float32) {
	dim := l.heads.Dim
	for kv := range l.pages {
		l.pages[kv][pos/kernel.PageLen-l.first].Put(pos%kernel.PageLen, k[kv*dim:][:dim], v[kv*dim:][:dim])
	}
}

// keep drops the blocks of positions below lo, and those from hi on.
func (l *layer) keep(lo, hi int) {
	from := min(max(lo/kernel.PageLen-l.first, 0), len(l.blocks))
	to := min(max((hi+kernel.PageLen-1)/kernel.PageLen-l.first, from), len(l.blocks))
	for _, b := range append(l.blocks[:from:from], l.blocks[to:]...) {
		b.refs.Add(-1)
	}
	l.first += from
	l.blocks = shift(l.blocks, from, to)
	for kv := range l.pages {
		l.pages[kv] = shift(l.pages[kv], from, to)
	}
}

// shift moves elements from to to to the front and clears the rest.
func shift[E any](s []E, from, to int) []E {
	n := copy(s, s[from:to])
	clear(s[n:])
	return s[:n]
}

// fork returns a layer that shares the blocks.
func (l *layer) fork() *layer {
	c := newLayer(l.heads)
	c.first = l.first
	c.blocks = append(c.blocks, l.blocks...)
	for _, b := range l.blocks {
		b.refs.Add(1)
	}
	for kv := range l.pages {
		c.pages[kv] = append(c.pages[kv], l.pages[kv]...)
	}
	return c
}

// least returns the fewest positions that the session can be cut to: what
// follows them must find its window.
func (l *layer) least() int {
	if l.first == 0 || len(l.blocks) == 0 {
		return 0
	}
	return l.first*kernel.PageLen + l.heads.Window - 1
}

// A Session is one sequence of tokens: the keys and values it has seen. It is
// for one goroutine at a time.
type Session struct {
	m      *Model
	layers []*layer // by Attend
	n      int      // tokens seen
}

// NewSession returns a session that has seen no token.
func (m *Model) NewSession() *Session {
	s := &Session{m: m}
	for _, i := range m.attends {
		s.layers = append(s.layers, newLayer(m.g.Nodes[i].Heads))
	}
	return s
}

// Len returns the number of tokens seen.
func (s *Session) Len() int { return s.n }

// CacheBytes returns the bytes of the pages that the session holds, those that
// it shares with forks included.
func (s *Session) CacheBytes() int64 {
	var n int64
	for _, l := range s.layers {
		for _, b := range l.blocks {
			n += b.bytes
		}
	}
	return n
}

// Fork returns a session that has seen the same tokens, without computing
// anything: the two share their pages until one writes to them.
func (s *Session) Fork() *Session {
	f := &Session{m: s.m, n: s.n}
	for _, l := range s.layers {
		f.layers = append(f.layers, l.fork())
	}
	return f
}

// Least returns the fewest tokens but 0 that [Session.Truncate] can keep. Layers
// with a window keep it, and somewhat more.
func (s *Session) Least() int {
	least := 0
	for _, l := range s.layers {
		least = max(least, l.least())
	}
	return min(least, s.n)
}

// Truncate forgets all but the first n tokens. It fails if n is below
// [Session.Least] and not 0; the session is then as before.
func (s *Session) Truncate(n int) error {
	if n < 0 || n > s.n {
		return fmt.Errorf("engine: truncated to %d of %d tokens", n, s.n)
	}
	if least := s.Least(); n > 0 && n < least {
		return fmt.Errorf("engine: truncated to %d tokens, want 0 or at least %d: the layers with a window hold no earlier keys", n, least)
	}
	for _, l := range s.layers {
		if n == 0 {
			l.keep(0, 0)
			l.first = 0
			continue
		}
		l.keep(0, n)
	}
	s.n = n
	return nil
}

// Close gives up the session's pages, so that a fork which shares them need not
// copy them. The session is then as new.
func (s *Session) Close() error { return s.Truncate(0) }

// reserve makes room for n more tokens.
func (s *Session) reserve(n int) {
	for _, l := range s.layers {
		l.reserve(s.m, s.n, s.n+n)
	}
}

// advance takes note of n more tokens, and drops what no later one can see.
func (s *Session) advance(n int) {
	s.n += n
	for _, l := range s.layers {
		if w := l.heads.Window; w > 0 {
			l.keep(s.n-w+1-slack, s.n)
		}
	}
}
