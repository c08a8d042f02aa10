package gptoss

import (
	"context"

	"ossify/engine"
)

// Engine returns the model ready to run, its weights in place in the mapped
// files. It reads all scales once, to refuse NaN (see weight.Set.Check).
func (c *Checkpoint) Engine(ctx context.Context, o engine.Options) (*engine.Model, error) {
	if err := c.Weights.Check(ctx); err != nil {
		return nil, err
	}
	return engine.New(c.Graph, c.Weights, o)
}
