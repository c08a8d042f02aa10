package openai

import (
	"context"
	"math"
	"strconv"
	"sync"

	"ossify/harmony"
	"ossify/tokenizer"
)

// completionCall is a request to go on with texts as they are.
type completionCall struct {
	base
	jobs  []*job // by prompt
	usage bool
}

// mostPrompts is how many texts one request may have gone on with.
const mostPrompts = 64

func (s *Service) parseCompletion(v harmony.Value, client Client) (Call, *Error) {
	r := &reader{}
	c := &completionCall{base: base{svc: s, path: PathCompletions, client: client}}
	var p sampling
	var prompts [][]uint32
	var stops []string
	n, best, probs, most, echo, skip := 1, 0, -1, 16, false, true
	sets := r.sampling(&p)
	for name, set := range map[string]set{
		"model":               r.text(&c.model),
		"prompt":              r.prompts(s, &prompts),
		"stream":              r.boolean(&c.stream),
		"n":                   r.integer(&n, 1, mostChoices),
		"best_of":             r.integer(&best, 1, mostChoices),
		"stop":                r.strings(&stops, mostStops),
		"logprobs":            r.integer(&probs, 0, mostTop),
		"max_tokens":          r.integer(&most, 1, math.MaxInt32),
		"echo":                r.boolean(&echo),
		"skip_special_tokens": r.boolean(&skip),
		"stream_options": func(v harmony.Value, path string) {
			r.members(v, path, true, map[string]set{"include_usage": r.boolean(&c.usage), "include_obfuscation": nil})
		},
		"suffix": r.refuse(`""`), "user": nil,
	} {
		sets[name] = set
	}
	r.members(v, "", true, sets)
	s.checkModel(r, c.model)
	switch {
	case len(prompts) == 0:
		r.missing("prompt", "There is no prompt.")
	case best > 0 && best != n:
		r.fail(unsupported("best_of", "Want as many as n."))
	case echo:
		r.fail(unsupported("echo", "This is not supported."))
	}
	if r.err != nil {
		return nil, r.err
	}
	for _, ids := range prompts {
		j := &job{svc: s, path: c.path, owner: client.Turn, share: client.Owner, prompt: ids, stops: stops, raw: true, specials: !skip, choices: n, options: s.options(p, ids, most)}
		j.options.LogProbs = probs
		if e := j.ready(); e != nil {
			e.Param = "prompt"
			return nil, e
		}
		c.jobs = append(c.jobs, j)
	}
	return c, nil
}

// prompts reads a text, texts, ids, or several of ids. In texts the names of
// special tokens are those: nothing else writes harmony.
func (r *reader) prompts(s *Service, p *[][]uint32) set {
	return func(v harmony.Value, path string) {
		all := []harmony.Value{v}
		if v.Kind == harmony.Array && len(v.Items) > 0 && v.Items[0].Kind != harmony.Number {
			all = v.Items
		}
		if len(all) > mostPrompts {
			r.fail(Invalid(path, "There are %d prompts, want at most %d.", len(all), mostPrompts))
			return
		}
		for _, v := range all {
			var ids []uint32
			switch v.Kind {
			case harmony.String:
				ids = s.o.Encoding.Tokenizer().Encode(nil, v.Text, tokenizer.AllSpecials())
				for _, id := range ids {
					if id >= tokenizer.VocabSize {
						r.fail(Invalid(path, "The prompt names token %d, which the model has not.", id))
					}
				}
			case harmony.Array:
				ids = r.ids(v, path, tokenizer.VocabSize)
			default:
				r.want(v, path, "a text or an array of ids")
			}
			if len(ids) == 0 {
				r.fail(Invalid(path, "A prompt is empty, want at least one token."))
			}
			*p = append(*p, ids)
		}
	}
}

// ids reads an array of ids below a limit.
func (r *reader) ids(v harmony.Value, path string, below uint64) (ids []uint32) {
	r.items(v, path, func(v harmony.Value, path string) {
		id, err := strconv.ParseUint(v.Text, 10, 32)
		if v.Kind != harmony.Number || err != nil || id >= below {
			r.fail(Invalid(path, "This is no token, want an id below %d.", below))
			return
		}
		ids = append(ids, uint32(id))
	})
	return ids
}

type (
	completion struct {
		ID          string             `json:"id"`
		Object      string             `json:"object"`
		Created     int64              `json:"created"`
		Model       string             `json:"model"`
		Choices     []completionChoice `json:"choices"`
		Usage       *chatUsage         `json:"usage,omitempty"`
		Fingerprint string             `json:"system_fingerprint,omitempty"`
	}
	completionChoice struct {
		Index    int                 `json:"index"`
		Text     string              `json:"text"`
		LogProbs *completionLogProbs `json:"logprobs"`
		Finish   *string             `json:"finish_reason"`
	}
	completionLogProbs struct {
		Tokens []string             `json:"tokens"`
		Own    []float64            `json:"token_logprobs"`
		Top    []map[string]float64 `json:"top_logprobs"`
		Offset []int                `json:"text_offset"`
	}
)

// logProbs returns probabilities in the older form.
func (c *completionCall) logProbs(list []logProb) *completionLogProbs {
	if c.jobs[0].options.LogProbs < 0 {
		return nil
	}
	l := &completionLogProbs{Tokens: []string{}, Own: []float64{}, Top: []map[string]float64{}, Offset: []int{}}
	for _, p := range list {
		l.Tokens = append(l.Tokens, p.Token)
		l.Own = append(l.Own, p.LogProb)
		top := map[string]float64{}
		for _, t := range p.Top {
			top[t.Token] = t.LogProb
		}
		l.Top = append(l.Top, top)
		l.Offset = append(l.Offset, p.at)
	}
	return l
}

func (c *completionCall) head() completion {
	return completion{ID: c.svc.o.ID("cmpl-"), Object: "text_completion", Created: c.svc.o.Now().Unix(), Model: c.model, Fingerprint: c.svc.o.Fingerprint, Choices: []completionChoice{}}
}

// run computes all choices of all prompts. emit and end are never called twice
// at a time.
func (c *completionCall) run(ctx context.Context, emit func(index int, t *turn, events []event) error, end func(index int, o outcome) error) ([]outcome, Usage, *Error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var wg sync.WaitGroup
	var all []outcome
	var usage Usage
	var failed *Error
	outs := make([][]outcome, len(c.jobs))
	for i, j := range c.jobs {
		wg.Go(func() {
			o, err := j.runAll(ctx, func(choice int, t *turn, events []event) error {
				mu.Lock()
				defer mu.Unlock()
				return emit(i*j.choices+choice, t, events)
			}, func(choice int, o outcome) error {
				mu.Lock()
				defer mu.Unlock()
				return end(i*j.choices+choice, o)
			})
			mu.Lock()
			defer mu.Unlock()
			if err != nil && failed == nil {
				failed = err
				cancel(errStopOthers)
			}
			outs[i] = o
		})
	}
	wg.Wait()
	if failed != nil {
		return nil, usage, failed
	}
	for _, o := range outs {
		u := total(o)
		usage.Prompt += u.Prompt
		usage.Cached += u.Cached
		usage.Completion += u.Completion
		all = append(all, o...)
	}
	return all, usage, nil
}

func (c *completionCall) Answer(ctx context.Context) ([]byte, *Error) {
	a := c.head()
	outs, usage, err := c.run(ctx, func(int, *turn, []event) error { return nil }, func(int, outcome) error { return nil })
	if err != nil {
		return nil, err
	}
	for i, o := range outs {
		choice := completionChoice{Index: i, Finish: &o.finish}
		var probs []logProb
		for _, s := range o.segments {
			choice.Text += s.text.String()
			probs = append(probs, s.logProbs...)
		}
		choice.LogProbs = c.logProbs(probs)
		a.Choices = append(a.Choices, choice)
	}
	a.Usage = usage.chat()
	return encode(a), nil
}

func (c *completionCall) Events(ctx context.Context, send func(name string, data []byte) error) *Error {
	head := c.head()
	sent := false
	put := func(choice completionChoice) error {
		k := head
		k.Choices = []completionChoice{choice}
		sent = true
		return send("", encode(k))
	}
	_, usage, err := c.run(ctx, func(index int, t *turn, events []event) error {
		for _, e := range events {
			if e.text == "" {
				continue
			}
			if err := put(completionChoice{Index: index, Text: e.text, LogProbs: c.logProbs(e.logProbs)}); err != nil {
				return err
			}
		}
		return nil
	}, func(index int, o outcome) error {
		return put(completionChoice{Index: index, Finish: &o.finish})
	})
	if err != nil {
		if sent && err.Status != StatusClientGone {
			send("", encode(err))
		}
		return err
	}
	if c.usage {
		head.Usage = usage.chat()
		if err := send("", encode(head)); err != nil {
			return failure(err)
		}
	}
	if err := send("", []byte("[DONE]")); err != nil {
		return failure(err)
	}
	return nil
}

// A plain call has its answer already.
type plain []byte

func (p plain) Stream() bool                            { return false }
func (p plain) Answer(context.Context) ([]byte, *Error) { return p, nil }
func (p plain) Events(context.Context, func(string, []byte) error) *Error {
	return unsupported("stream", "This is not streamed.")
}

// parseTokenize answers with the ids of a text, or of a chat as the model gets
// it.
func (s *Service) parseTokenize(v harmony.Value) (Call, *Error) {
	var ids []uint32
	if _, chat := v.Get("messages"); chat {
		if _, ok := v.Get("model"); !ok && len(s.o.Models) > 0 {
			v.Members = append(v.Members, harmony.Member{Name: "model", Value: harmony.Value{Kind: harmony.String, Text: s.o.Models[0]}})
		}
		c, e := s.parseChat(v, Client{})
		if e != nil {
			return nil, e
		}
		ids = c.(*chatCall).job.prompt
	} else {
		r := &reader{}
		var prompt, model string
		specials, there := true, false
		r.members(v, "", true, map[string]set{
			"model": r.text(&model), "add_special_tokens": r.boolean(&specials),
			"prompt": func(v harmony.Value, path string) { there = true; r.text(&prompt)(v, path) },
		})
		if !there {
			r.fail(Invalid("prompt", "There is neither a prompt nor messages."))
		}
		if r.err != nil {
			return nil, r.err
		}
		allowed := tokenizer.NoSpecials()
		if specials {
			allowed = tokenizer.AllSpecials()
		}
		ids = s.o.Encoding.Tokenizer().Encode(nil, prompt, allowed)
	}
	return plain(encode(map[string]any{"count": len(ids), "max_model_len": s.o.Context, "tokens": append([]uint32{}, ids...)})), nil
}

// parseDetokenize answers with the text of ids.
func (s *Service) parseDetokenize(v harmony.Value) (Call, *Error) {
	r := &reader{}
	var model string
	var ids []uint32
	there := false
	r.members(v, "", true, map[string]set{
		"model":  r.text(&model),
		"tokens": func(v harmony.Value, path string) { there = true; ids = r.ids(v, path, tokenizer.DecodeSize) },
	})
	if !there {
		r.fail(Invalid("tokens", "There are no tokens."))
	}
	if r.err != nil {
		return nil, r.err
	}
	text, err := s.o.Encoding.Tokenizer().DecodeReplacing(ids)
	if err != nil {
		return nil, Invalid("tokens", "%s.", err)
	}
	return plain(encode(map[string]any{"prompt": text})), nil
}
