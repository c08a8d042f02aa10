package generate

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// A Session is one sequence of tokens in a model, as engine.Session is.
type Session interface {
	Len() int // tokens seen

	// Next processes tokens and returns the logits of the last [Vocab], which
	// are valid until the next call.
	Next(ctx context.Context, tokens []uint32) ([]float32, error)

	// Forward is Next with the logits of every token [len(tokens), Vocab].
	Forward(ctx context.Context, tokens []uint32) ([]float32, error)

	// Truncate forgets all but the first n tokens.
	Truncate(n int) error
}

// A Topper is a session that can tell the largest logits without computing all
// of them.
type Topper interface {
	// NextTop is Next that returns the k largest logits only, largest first, the
	// lower id first of equal ones.
	NextTop(ctx context.Context, tokens []uint32, k int) ([]Logit, error)
}

// Options say how an answer is generated.
type Options struct {
	Sampling Sampling
	Stop     []uint32 // ids that end the answer; the one that did is its last token
	Most     int      // tokens of the answer; 0 is no limit but Context
	Context  int      // tokens of prompt and answer; 0 is no limit

	// Guess lets up to so many tokens be guessed from what came before and
	// computed in one pass, which saves time where text repeats itself. Each is
	// checked: the answer is the same, to the token.
	Guess int

	// LogProbs asks for the probability of each token and of so many others;
	// −1 asks for none.
	LogProbs int

	Guide Guide // of this answer; nil lets every token come
}

// A Guide says which tokens may come next. It is for one answer.
type Guide interface {
	// Allowed returns the tokens that may come, a bit each, lowest first; those
	// beyond may not. nil lets every token come. The bits are valid until Accept
	// is called, and not to be changed.
	Allowed() ([]uint64, error)

	// Accept takes note of the token that came.
	Accept(id uint32) error
}

// A Token is one of an answer.
type Token struct {
	ID      uint32
	LogProb float64   // if asked for
	Top     []LogProb // if asked for
}

// A Reason says why an answer ended.
type Reason uint8

// The reasons.
const (
	_           Reason = iota
	Stopped            // a token of Options.Stop came
	Told               // emit returned ErrDone
	MostReached        // Options.Most tokens came
	ContextFull        // Options.Context tokens came, the prompt's included
)

func (r Reason) String() string {
	return [...]string{"?", "stop", "stop text", "length", "context"}[r]
}

// ErrDone is what emit returns to end an answer without an error.
var ErrDone = errors.New("generate: done")

// A Result says what an answer took.
type Result struct {
	Tokens  []uint32
	Reason  Reason
	Guessed int // tokens that were guessed
	Right   int // of them, those that were right
	Cached  int // tokens of the prompt that were there already, of a Scheduler
}

// Run continues a session with prompt, which may be empty if the session gives
// no choice: at least one token must be new to it. It calls emit with each token
// as it comes. On an error, and when ctx ends, the result holds what came until
// then. The session has then seen the prompt and all tokens but the last, or,
// after an error, less.
func Run(ctx context.Context, s Session, prompt []uint32, o Options, emit func(Token) error) (Result, error) {
	var r Result
	sampler, err := NewSampler(o.Sampling)
	if err != nil {
		return r, err
	}
	if err := o.check(s.Len(), len(prompt)); err != nil {
		return r, err
	}
	g := &run{ctx: ctx, s: s, o: o, sampler: sampler, emit: emit, start: s.Len() + len(prompt), all: slices.Clone(prompt), r: &r}
	if o.Sampling.Presence != 0 || o.Sampling.Frequency != 0 {
		g.seen = map[uint32]int{}
	}
	for r.Reason == 0 {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		if err := g.step(&prompt); err != nil {
			return r, err
		}
	}
	return r, nil
}

// A ContextError says that a prompt leaves no room for an answer.
type ContextError struct {
	Tokens, Context int
}

func (e *ContextError) Error() string {
	return fmt.Sprintf("generate: the prompt's %d tokens fill the context of %d, want at least one token of room: shorten the prompt", e.Tokens, e.Context)
}

type run struct {
	ctx     context.Context
	s       Session
	o       Options
	sampler *Sampler
	emit    func(Token) error
	start   int            // position of the answer's first token
	all     []uint32       // this prompt and the answer, for guessing
	seen    map[uint32]int // in the answer, for penalties
	r       *Result
}

// step processes next, which the session has not seen, and takes at least one
// token; next becomes the last taken.
func (g *run) step(next *[]uint32) error {
	if k := g.o.Sampling.needs(); k > 0 && g.o.LogProbs < 0 && g.o.Guess == 0 && g.o.Guide == nil {
		if s, ok := g.s.(Topper); ok {
			top, err := s.NextTop(g.ctx, *next, k)
			if err != nil {
				return err
			}
			id, err := g.sampler.PickTop(top, g.start+len(g.r.Tokens))
			if err != nil {
				return err
			}
			*next = []uint32{id}
			return g.take(Token{ID: id})
		}
	}
	var guess []uint32
	if len(*next) == 1 && g.o.Guess > 0 {
		room := g.o.Guess
		if g.o.Most > 0 {
			room = min(room, g.o.Most-len(g.r.Tokens)-1)
		}
		if g.o.Context > 0 {
			room = min(room, g.o.Context-g.s.Len()-2)
		}
		if room > 0 {
			guess = slices.Clone(lookup(g.all, room))
		}
	}
	if len(guess) == 0 {
		logits, err := g.s.Next(g.ctx, *next)
		if err != nil {
			return err
		}
		t, err := g.pick(logits)
		if err != nil {
			return err
		}
		*next = []uint32{t.ID}
		return g.take(t)
	}

	base := g.s.Len()
	logits, err := g.s.Forward(g.ctx, append(slices.Clone(*next), guess...))
	if err != nil {
		return err
	}
	width := len(logits) / (1 + len(guess))
	g.r.Guessed += len(guess)
	for i := 0; ; i++ {
		t, err := g.pick(logits[i*width:][:width])
		if err == nil {
			err = g.take(t)
		}
		right := i < len(guess) && t.ID == guess[i]
		if err != nil || g.r.Reason != 0 || !right {
			*next = []uint32{t.ID}
			return errors.Join(err, g.s.Truncate(base+i+1))
		}
		g.r.Right++
	}
}

// pick draws the next token, and tells the guide.
func (g *run) pick(logits []float32) (t Token, err error) {
	var allowed []uint64
	if g.o.Guide != nil {
		if allowed, err = g.o.Guide.Allowed(); err != nil {
			return t, err
		}
	}
	t, err = pick(g.sampler, g.o, logits, g.start+len(g.r.Tokens), g.seen, allowed)
	if err == nil && g.o.Guide != nil {
		err = g.o.Guide.Accept(t.ID)
	}
	return t, err
}

// pick draws the token to stand at a position, one of those that are allowed;
// nil allows all.
func pick(s *Sampler, o Options, logits []float32, position int, seen map[uint32]int, allowed []uint64) (t Token, err error) {
	if t.ID, err = s.PickAllowed(logits, position, seen, allowed); err != nil {
		return Token{}, err
	}
	if o.LogProbs >= 0 {
		t.LogProb, t.Top = LogProbs(logits, t.ID, o.LogProbs)
	}
	return t, nil
}

// Ends returns why an answer of n tokens, with start before them, ends with id;
// 0 if it does not.
func (o Options) Ends(id uint32, start, n int) Reason {
	switch {
	case slices.Contains(o.Stop, id):
		return Stopped
	case o.Most > 0 && n >= o.Most:
		return MostReached
	case o.Context > 0 && start+n >= o.Context:
		return ContextFull
	}
	return 0
}

// check reports options that no answer of a prompt can have, which follows so
// many tokens.
func (o Options) check(before, prompt int) error {
	switch {
	case prompt == 0:
		return errors.New("generate: no tokens to continue, want at least one")
	case o.Most < 0 || o.Context < 0 || o.Guess < 0:
		return fmt.Errorf("generate: at most %d tokens in a context of %d with %d guessed, want no negative numbers", o.Most, o.Context, o.Guess)
	case o.Context > 0 && before+prompt >= o.Context:
		return &ContextError{Tokens: before + prompt, Context: o.Context}
	}
	return nil
}

// take adds t to the answer, and sees whether it ends there.
func (g *run) take(t Token) error {
	g.r.Tokens = append(g.r.Tokens, t.ID)
	g.all = append(g.all, t.ID)
	if g.seen != nil {
		g.seen[t.ID]++
	}
	switch err := g.emit(t); {
	case errors.Is(err, ErrDone):
		g.r.Reason = Told
		return nil
	case err != nil:
		return err
	}
	g.r.Reason = g.o.Ends(t.ID, g.start, len(g.r.Tokens))
	return nil
}
