package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"ossify/engine"
	"ossify/generate"
	"ossify/gptoss"
	"ossify/harmony"
	"ossify/tokenizer"
)

// together is how many conversations are answered at once, most the tokens of
// an answer.
const (
	together = 32
	most     = 128
)

// A question is an item under examination.
type question struct {
	item
	prompt, want, got []uint32
	session           *engine.Session
}

// A score counts the answers of a kind.
type score struct {
	asked   int
	exact   int // all messages but thoughts are as they should be, to the letter
	tokens  int // so is every token, thoughts included
	stopped int // by themselves
	calls   int // that were wanted
	valid   int // of them, those that name a given tool with JSON of just its parameters
}

func (s score) plus(t score) score {
	return score{s.asked + t.asked, s.exact + t.exact, s.tokens + t.tokens, s.stopped + t.stopped, s.calls + t.calls, s.valid + t.valid}
}

// exam asks a checkpoint questions and prints how many it knew.
func exam(ctx context.Context, dir, precision string, seed uint64, n, show, workers int) error {
	ck, err := gptoss.OpenCheckpoint(dir)
	if err != nil {
		return err
	}
	defer ck.Close()
	o := engine.Options{Precision: engine.BF16, Workers: workers}
	if precision == "f32" {
		o.Precision = engine.F32
	}
	scores, err := examine(ctx, ck, o, seed, n, func(e *harmony.Encoding, q *question) {
		if show > 0 {
			show--
			fmt.Printf("%v: %s\n  want %s\n  got  %s\n", q.kind, text(e, q.prompt), text(e, q.want), text(e, q.got))
		}
	})
	if err != nil {
		return err
	}
	var all score
	fmt.Printf("%-10s %6s %7s %7s %8s %12s\n", "", "asked", "exact", "tokens", "stopped", "calls valid")
	for k, s := range scores {
		if all = all.plus(s); s.asked > 0 {
			fmt.Println(s.row(kind(k).String()))
		}
	}
	fmt.Println(all.row("all"))
	return nil
}

// examine asks n questions that stood in no training, takes the most probable
// token each time, and counts by kind. It shows those that were answered wrong.
func examine(ctx context.Context, ck *gptoss.Checkpoint, o engine.Options, seed uint64, n int, wrong func(*harmony.Encoding, *question)) (scores [kinds]score, err error) {
	m, err := ck.Engine(ctx, o)
	if err != nil {
		return scores, err
	}
	defer m.Close()

	src, e := newSource(seed, true), harmony.New(tokenizer.New())
	for from := 0; from < n; from += together {
		var list []*question
		for range min(together, n-from) {
			q := &question{item: src.next(examination), session: m.NewSession()}
			prompt, whole, err := render(e, q.item)
			if err != nil {
				return scores, err
			}
			q.prompt, q.want = prompt, whole[len(prompt):]
			list = append(list, q)
		}
		if err := answer(ctx, m, list); err != nil {
			return scores, err
		}
		for _, q := range list {
			if !scores[q.kind].mark(e, q) {
				wrong(e, q)
			}
		}
	}
	return scores, nil
}

func (s score) row(name string) string {
	part := func(n, of int) string { return fmt.Sprintf("%.1f%%", 100*float64(n)/float64(of)) }
	row := fmt.Sprintf("%-10s %6d %7s %7s %8s", name, s.asked, part(s.exact, s.asked), part(s.tokens, s.asked), part(s.stopped, s.asked))
	if s.calls > 0 {
		row += fmt.Sprintf(" %12s", part(s.valid, s.calls))
	}
	return row
}

// mark counts an answer, and reports whether it is right.
func (s *score) mark(e *harmony.Encoding, q *question) bool {
	s.asked++
	right := says(e, q.got, q.want)
	if right {
		s.exact++
	}
	if slices.Equal(q.got, q.want) {
		s.tokens++
	}
	if ends(q.got) {
		s.stopped++
	}
	if q.kind == Call {
		s.calls++
		if valid(e, q) {
			s.valid++
		}
	}
	return right
}

// says reports whether an answer is the one that is wanted: the same messages
// but for thoughts, whose wording is free, and the same end.
func says(e *harmony.Encoding, got, want []uint32) bool {
	if len(got) == 0 || got[len(got)-1] != want[len(want)-1] {
		return false
	}
	var texts [2][]string
	for i, ids := range [][]uint32{got, want} {
		list, err := e.Parse(ids, harmony.Assistant, harmony.ParseOptions{})
		if err != nil {
			return false
		}
		for _, m := range list {
			if !m.Channel.Is(harmony.Analysis) {
				texts[i] = append(texts[i], fmt.Sprintf("%v %v %v %q", m.Channel, m.Recipient, m.ContentType, m.Text()))
			}
		}
	}
	return slices.Equal(texts[0], texts[1])
}

func ends(ids []uint32) bool {
	return len(ids) > 0 && slices.Contains(harmony.StopTokensForAssistantActions(), ids[len(ids)-1])
}

// valid reports whether an answer is a call of a given tool, its content an
// object with the tool's parameters and no others.
func valid(e *harmony.Encoding, q *question) bool {
	list, err := e.Parse(q.got, harmony.Assistant, harmony.ParseOptions{})
	if err != nil || len(list) == 0 {
		return false
	}
	call := list[len(list)-1]
	names, ok := parametersOf(q.Prompt, call.Recipient.Or(""))
	var given map[string]any
	if !ok || json.Unmarshal([]byte(call.Text()), &given) != nil || len(given) != len(names) {
		return false
	}
	for _, name := range names {
		if _, ok := given[name]; !ok {
			return false
		}
	}
	return true
}

// answer lets the model answer all questions, in one batch.
func answer(ctx context.Context, m *engine.Model, list []*question) error {
	parts := make([]engine.Part, len(list))
	for i, q := range list {
		defer q.session.Close()
		parts[i] = engine.Part{Session: q.session, Tokens: q.prompt, Logits: 1}
	}
	for len(parts) > 0 {
		logits, err := m.Step(ctx, parts)
		if err != nil {
			return err
		}
		var next []engine.Part
		var still []*question
		for i, q := range list {
			sampler, err := generate.NewSampler(generate.Sampling{TopP: 1})
			if err != nil {
				return err
			}
			id, err := sampler.Pick(logits[i], q.session.Len(), nil)
			if err != nil {
				return err
			}
			if q.got = append(q.got, id); !ends(q.got) && len(q.got) < most {
				next, still = append(next, engine.Part{Session: q.session, Tokens: []uint32{id}, Logits: 1}), append(still, q)
			}
		}
		parts, list = next, still
	}
	return nil
}

func text(e *harmony.Encoding, ids []uint32) string {
	s, _ := e.Tokenizer().DecodeReplacing(ids) // rows beyond the vocabulary show as nothing
	return s
}
