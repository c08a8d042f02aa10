package engine

import (
	"context"
	"runtime"

	"ossify/checkpoint"
	"ossify/internal/huge"
	"ossify/internal/mapped"
	"ossify/kernel"
	"ossify/weight"
)

// Pack copies the matrices that every row is multiplied with, attention's, the
// routers' and the last, to memory of the model's own, in seven tenths of
// their bytes: see [kernel.PackMatrix]. Results keep all their bits. A matrix
// that would not become smaller stays where it is.
//
// It is to be called before the model is used. If it fails, what is packed by
// then stays packed.
func (m *Model) Pack(ctx context.Context) error {
	return m.move(ctx, func(p int) error {
		for i := range m.dense[p] {
			if err := ctx.Err(); err != nil {
				return err
			}
			m.pack(&m.dense[p][i], &m.w.Sources(p)[i])
		}
		return nil
	})
}

// Hold copies matrices that are not packed, the experts' among them, to memory
// of the model's own: how fast they are read does not depend then on how the
// system caches files. Their pages of the file are no longer the program's.
//
// It is to be called before the model is used, and after Pack. If it fails,
// what is copied by then stays so.
func (m *Model) Hold(ctx context.Context) error {
	return m.move(ctx, func(p int) error {
		for i := range m.dense[p] {
			if err := ctx.Err(); err != nil {
				return err
			}
			if w := &m.dense[p][i]; w.Kind != kernel.Packed {
				w.Data = m.copyOf(w.Data, &m.w.Sources(p)[i].Data)
			}
		}
		if w := &m.experts[p]; w.Data != nil {
			from := &m.w.Sources(p)[0]
			w.Data, w.Scales = m.copyOf(w.Data, &from.Data), m.copyOf(w.Scales, &from.Scales)
		}
		return nil
	})
}

// move calls f for each parameter, between two passes.
func (m *Model) move(ctx context.Context, f func(p int) error) error {
	r, err := m.take(ctx)
	if err != nil {
		return err
	}
	defer func() { m.turn <- r }()
	return mapped.Catch(func() error {
		for p := range m.g.Params {
			if err := f(p); err != nil {
				return err
			}
		}
		return nil
	})
}

func (m *Model) pack(w *kernel.Matrix, from *weight.Source) {
	var free func()
	alloc := func(n int) (b []byte) {
		b, free = huge.Alloc(n)
		return b
	}
	if p, ok := kernel.PackMatrix(*w, alloc, m.split); ok {
		*w = p
		m.own(free)
		m.settle(p.Data)
		release(&from.Data)
	} else if free != nil {
		free()
	}
}

// copyOf returns a copy of b, which was a tensor's, in large pages, made by all
// workers.
func (m *Model) copyOf(b []byte, from *checkpoint.Tensor) []byte {
	c, free := huge.Alloc(len(b))
	m.own(free)
	pages := (len(b) + huge.Page - 1) / huge.Page
	m.split(pages, func(lo, hi int) {
		copy(c[lo*huge.Page:min(hi*huge.Page, len(b))], b[lo*huge.Page:])
	})
	m.settle(c)
	release(from)
	return c
}

// settle is huge.Settle by all workers.
func (m *Model) settle(b []byte) {
	if len(b) < huge.Page {
		return // perhaps the collector's
	}
	pages := (len(b) + huge.Page - 1) / huge.Page
	m.split(pages, func(lo, hi int) { huge.Settle(b[lo*huge.Page : min(hi*huge.Page, len(b))]) })
}

// own frees memory when the model is collected.
func (m *Model) own(free func()) {
	if free != nil {
		runtime.AddCleanup(m, func(free func()) { free() }, free)
	}
}

// release lets the pages of a mapped tensor go. One that was made in memory has
// no file that they would be read from again.
func release(t *checkpoint.Tensor) {
	if t.File != "" {
		huge.Release(t.Data)
	}
}
