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
type score struct{ asked, exact, stopped, calls, valid int }

// exam asks a checkpoint questions that stood in no training, takes the most
// probable token each time, and counts: answers that are right to the token,
// thoughts included; those that end by themselves; and calls that name a given
// tool with JSON of just its parameters.
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
	m, err := ck.Engine(ctx, o)
	if err != nil {
		return err
	}
	defer m.Close()

	src, e := newSource(seed, true), harmony.New(tokenizer.New())
	w := course
	w[Drill] = 0 // an exercise, not held back
	var scores [kinds]score
	for from := 0; from < n; from += together {
		var list []*question
		for range min(together, n-from) {
			q := &question{item: src.next(w), session: m.NewSession()}
			prompt, whole, err := render(e, q.item)
			if err != nil {
				return err
			}
			q.prompt, q.want = prompt, whole[len(prompt):]
			list = append(list, q)
		}
		if err := answer(ctx, m, list); err != nil {
			return err
		}
		for _, q := range list {
			s := &scores[q.kind]
			if !s.mark(e, q) && show > 0 {
				show--
				fmt.Printf("%v: %s\n  want %s\n  got  %s\n", q.kind, text(e, q.prompt), text(e, q.want), text(e, q.got))
			}
		}
	}
	var all score
	fmt.Printf("%-10s %6s %7s %8s %12s\n", "", "asked", "exact", "stopped", "calls valid")
	for k := range kinds {
		s := scores[k]
		all = score{all.asked + s.asked, all.exact + s.exact, all.stopped + s.stopped, all.calls + s.calls, all.valid + s.valid}
		if s.asked > 0 {
			fmt.Println(s.row(k.String()))
		}
	}
	fmt.Println(all.row("all"))
	return nil
}

func (s score) row(name string) string {
	part := func(n, of int) string { return fmt.Sprintf("%.1f%%", 100*float64(n)/float64(of)) }
	row := fmt.Sprintf("%-10s %6d %7s %8s", name, s.asked, part(s.exact, s.asked), part(s.stopped, s.asked))
	if s.calls > 0 {
		row += fmt.Sprintf(" %12s", part(s.valid, s.calls))
	}
	return row
}

// mark counts an answer, and reports whether it is right.
func (s *score) mark(e *harmony.Encoding, q *question) bool {
	s.asked++
	right := slices.Equal(q.got, q.want)
	if right {
		s.exact++
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
