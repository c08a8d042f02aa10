// Package mapped survives files that become shorter while they are mapped. To
// read a page that is gone raises SIGBUS, which ends a Go program unless the
// goroutine that reads has asked for a panic instead.
package mapped

import (
	"errors"
	"runtime/debug"
	"sync"
)

// ErrShortened says that a mapped file became shorter while it was read.
var ErrShortened = errors.New("a file became shorter while it was read")

// Catch runs f and returns its error, or ErrShortened if f read a page that is
// gone. What f deferred has run by then. Other panics go on.
func Catch(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if !fault(v) {
			panic(v)
		}
		err = ErrShortened
	}()
	return f()
}

// fault reports whether a panic's value is one of memory that is not there.
func fault(v any) bool {
	_, ok := v.(interface {
		error
		Addr() uintptr
	})
	return ok
}

// Each runs f(0) to f(n-1), a goroutine each, and waits for all. If one of them
// panics, so does Each, with the same value: a fault in any of them is one for
// Catch. (A plain goroutine's panic ends the program.)
func Each(n int, f func(i int)) {
	var all sync.WaitGroup
	var first sync.Once
	var failed any
	for i := range n {
		all.Go(func() {
			debug.SetPanicOnFault(true)
			defer func() {
				if v := recover(); v != nil {
					first.Do(func() { failed = v })
				}
			}()
			f(i)
		})
	}
	all.Wait()
	if failed != nil {
		panic(failed)
	}
}
