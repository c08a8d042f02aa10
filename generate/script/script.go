// Package script is a token source for tests: it writes what it is told.
package script

import (
	"context"
	"errors"

	"ossify/generate"
)

// A Generator answers each request with the tokens that Answer returns, as far
// as the request's options let it. It does not ask guides.
type Generator func(ctx context.Context, r generate.Request) ([]uint32, error)

// Generate implements generate.Generator. The answer ends as if a token to stop
// at came when its tokens run out. Each token is certain.
func (g Generator) Generate(ctx context.Context, r generate.Request, emit func(generate.Token) error) (res generate.Result, err error) {
	if c := r.Options.Context; c > 0 && len(r.Prompt) >= c {
		return res, &generate.ContextError{Tokens: len(r.Prompt), Context: c}
	}
	ids, err := g(ctx, r)
	if err != nil {
		return res, err
	}
	for _, id := range ids {
		if ctx.Err() != nil {
			return res, context.Cause(ctx)
		}
		t := generate.Token{ID: id}
		if r.Options.LogProbs > 0 {
			t.Top = []generate.LogProb{{ID: id}}
		}
		res.Tokens = append(res.Tokens, id)
		switch err := emit(t); {
		case errors.Is(err, generate.ErrDone):
			res.Reason = generate.Told
			return res, nil
		case err != nil:
			return res, err
		}
		if res.Reason = r.Options.Ends(id, len(r.Prompt), len(res.Tokens)); res.Reason != 0 {
			return res, nil
		}
	}
	res.Reason = generate.Stopped
	return res, nil
}
