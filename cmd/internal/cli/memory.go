package cli

import (
	"context"

	"github.com/spf13/cobra"

	"ossify/engine"
)

// memoryFlags say how the engine keeps weights in memory.
type memoryFlags struct{ pack, hold bool }

// memoryNames are the names of the flags.
var memoryNames = []string{"pack", "hold"}

func (a *memoryFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&a.pack, "pack", false, "keep matrices other than experts' in seven tenths of their bytes, 1.8 GB more of memory: the same tokens, sooner, after seconds more to load")
	f.BoolVar(&a.hold, "hold", false, "copy weights that are not packed to memory of our own, in large pages, so that the page cache does not decide how fast they are")
}

// apply prepares a model that is not in use yet.
func (a *memoryFlags) apply(ctx context.Context, m *engine.Model) error {
	if a.pack {
		if err := m.Pack(ctx); err != nil {
			return err
		}
	}
	if a.hold {
		return m.Hold(ctx)
	}
	return nil
}
