package openai

import (
	"cmp"
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"ossify/generate"
)

// A job is what every request for an answer becomes.
type job struct {
	svc       *Service
	path      string
	owner     string // whose turn it takes
	share     string // whose prompts may have been computed for this one
	prompt    []uint32
	marks     []int
	options   generate.Options
	stops     []string // texts before which an answer's text ends
	functions []string // names of those that may be called
	builtins  []string // recipients that are tools of the server
	json      bool     // the text is to be JSON
	raw       bool     // there are no messages, but one text
	specials  bool     // of which special tokens are part
	choices   int
	guide     func() generate.Guide // of a choice; nil for none
}

// Why answers end, in the words of chat completions.
const (
	finishStop   = "stop"
	finishLength = "length"
	finishCalls  = "tool_calls"
)

// An outcome is an answer that came to its end.
type outcome struct {
	segments []*segment
	finish   string
	usage    Usage
}

// sampling are the members of requests that say how tokens are drawn.
type sampling struct {
	temperature, topP, minP float64
	topK                    int
	presence, frequency     float64
	seed                    *uint64
	bias                    map[uint32]float64
}

// options returns what a request asks for, of a prompt.
func (s *Service) options(p sampling, prompt []uint32, most int) generate.Options {
	if s.o.Most > 0 && (most == 0 || most > s.o.Most) {
		most = s.o.Most
	}
	seed := p.seed
	if seed == nil {
		v := s.o.Seed(prompt)
		seed = &v
	}
	return generate.Options{
		Sampling: generate.Sampling{
			Temperature: p.temperature, TopP: p.topP, TopK: p.topK, MinP: p.minP, Seed: *seed,
			Bias: p.bias, Presence: p.presence, Frequency: p.frequency,
		},
		Stop: stopTokens(), Most: most, Context: s.o.Context, LogProbs: -1,
	}
}

// ready proves that the prompt leaves room.
func (j *job) ready() *Error {
	if c := j.svc.o.Context; c > 0 && len(j.prompt) >= c {
		param := map[string]string{PathResponses: "input", PathCompletions: "prompt"}[j.path]
		return tooLong(cmp.Or(param, "messages"), len(j.prompt), c)
	}
	return nil
}

// run computes one choice, and calls emit with what becomes visible.
func (j *job) run(ctx context.Context, choice int, emit func(*turn, []event) error) (out outcome, failed *Error) {
	t := j.newTurn()
	r := generate.Request{Prompt: j.prompt, Marks: j.marks, Options: j.options, Owner: j.owner, Share: j.share}
	r.Options.Sampling.Seed += uint64(choice) * 0x9e3779b97f4a7c15
	if j.guide != nil {
		r.Options.Guide = j.guide()
	}
	start := time.Now()
	record := Record{Path: j.path}
	res, err := contain(func() (generate.Result, error) {
		return j.svc.o.Generator.Generate(ctx, r, func(tok generate.Token) error {
			if record.First == 0 {
				record.First = time.Since(start)
			}
			events, stopped := t.push(tok)
			if len(events) > 0 {
				if err := emit(t, events); err != nil {
					return err
				}
			}
			if stopped {
				return generate.ErrDone
			}
			return nil
		})
	})
	cut := res.Reason == generate.MostReached || res.Reason == generate.ContextFull
	if events := t.finish(cut); err == nil && len(events) > 0 {
		err = emit(t, events)
	}
	out.segments = t.segments
	out.usage = Usage{Prompt: len(j.prompt), Cached: res.Cached, Completion: len(res.Tokens), Reasoning: t.reasoningTokens()}
	record.Usage, record.Total = out.usage, time.Since(start)
	if err != nil {
		failed = failure(err)
		if errors.Is(err, generate.ErrNoToken) && len(j.options.Sampling.Bias) > 0 {
			failed = Invalid("logit_bias", "No token is left that the answer may have here and logit_bias does not ban.")
		}
		record.Cancelled = failed.Status == StatusClientGone
	} else {
		out.finish = finishStop
		switch {
		case cut:
			out.finish = finishLength
		case slices.ContainsFunc(t.segments, func(s *segment) bool { return s.kind == call || s.kind == builtin }):
			out.finish = finishCalls
		}
		record.Finish = out.finish
	}
	if j.svc.o.Done != nil {
		j.svc.o.Done(record)
	}
	return out, failed
}

// contain makes an error of a panic: it is this request's alone.
func contain(f func() (generate.Result, error)) (res generate.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &generate.PanicError{Value: p, Stack: string(debug.Stack())}
		}
	}()
	return f()
}

// contained calls f, whose panic becomes an error.
func contained(f func() *Error) (e *Error) {
	defer func() {
		if p := recover(); p != nil {
			e = failure(&generate.PanicError{Value: p, Stack: string(debug.Stack())})
		}
	}()
	return f()
}

// runAll computes all choices, and calls emit, never twice at a time. The others
// begin when the first has its prompt processed, so that it is processed once.
func (j *job) runAll(ctx context.Context, emit func(choice int, t *turn, events []event) error, end func(choice int, o outcome) error) ([]outcome, *Error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	outs := make([]outcome, j.choices)
	var mu sync.Mutex
	var failed *Error
	var wg sync.WaitGroup
	one := func(i int, begun func()) {
		var o outcome
		err := contained(func() (e *Error) {
			o, e = j.run(ctx, i, func(t *turn, events []event) error {
				begun()
				mu.Lock()
				defer mu.Unlock()
				return emit(i, t, events)
			})
			return e
		})
		begun()
		mu.Lock()
		defer mu.Unlock()
		if err == nil && end != nil {
			err = contained(func() *Error {
				if e := end(i, o); e != nil {
					return failure(e)
				}
				return nil
			})
		}
		if err != nil && failed == nil {
			failed = err
			cancel(errStopOthers)
		}
		outs[i] = o
	}
	others := sync.OnceFunc(func() {
		for i := 1; i < j.choices; i++ {
			wg.Go(func() { one(i, func() {}) })
		}
	})
	one(0, others)
	wg.Wait()
	return outs, failed
}

var errStopOthers = errors.New("openai: another choice failed")

// total adds the usage of choices, which share their prompt.
func total(outs []outcome) Usage {
	u := outs[0].usage
	for _, o := range outs[1:] {
		u.Completion += o.usage.Completion
		u.Reasoning += o.usage.Reasoning
	}
	return u
}
