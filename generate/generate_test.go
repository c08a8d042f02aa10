package generate_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ossify/generate"
)

// model is a session whose logits depend on the last tokens alone, so that text
// repeats itself. It keeps what it has seen.
type model struct {
	vocab, memory int
	seen          []uint32
	passes        int
	fail          int // pass that fails
}

func (m *model) Len() int { return len(m.seen) }

func (m *model) logits() []float32 {
	h := uint64(17)
	for _, id := range m.seen[max(0, len(m.seen)-m.memory):] {
		h = h*0x9e3779b97f4a7c15 + uint64(id) + 1
	}
	r := rand.New(rand.NewPCG(h, 1))
	l := make([]float32, m.vocab)
	for i := range l {
		l[i] = float32(4 * r.NormFloat64())
	}
	return l
}

func (m *model) Forward(ctx context.Context, tokens []uint32) ([]float32, error) {
	if m.passes++; m.passes == m.fail {
		return nil, errors.New("the model failed")
	}
	var all []float32
	for _, id := range tokens {
		m.seen = append(m.seen, id)
		all = append(all, m.logits()...)
	}
	return all, ctx.Err()
}

func (m *model) Next(ctx context.Context, tokens []uint32) ([]float32, error) {
	all, err := m.Forward(ctx, tokens)
	return all[max(0, len(all)-m.vocab):], err
}

func (m *model) Truncate(n int) error {
	if n > len(m.seen) {
		return fmt.Errorf("truncate to %d of %d", n, len(m.seen))
	}
	m.seen = m.seen[:n]
	return nil
}

var none = generate.Options{LogProbs: -1}

func answer(t *testing.T, m *model, prompt []uint32, o generate.Options) generate.Result {
	t.Helper()
	var got []uint32
	r, err := generate.Run(t.Context(), m, prompt, o, func(tok generate.Token) error {
		got = append(got, tok.ID)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, r.Tokens) {
		t.Fatalf("emitted %v, result %v", got, r.Tokens)
	}
	if want := append(slices.Clone(prompt), r.Tokens[:len(r.Tokens)-1]...); !slices.Equal(m.seen, want) {
		t.Fatalf("the session has seen %v, want %v", m.seen, want)
	}
	return r
}

// Guesses change how many passes there are, never a token, whatever the
// sampling.
func TestGuessing(t *testing.T) {
	saved := 0
	for seed := range uint64(60) {
		o := none
		o.Most = 1 + int(seed*37%200)
		o.Sampling = generate.Sampling{Temperature: float64(seed%3) * 0.4, Seed: seed, TopP: float64(seed%2) * 0.9}
		if seed%5 == 0 {
			o.Sampling.Frequency = 0.3
		}
		if seed%3 == 2 {
			o.Stop = []uint32{11}
		}
		if seed%4 == 0 {
			o.Context = 40
		}
		new := func() *model { return &model{vocab: 12, memory: 1 + int(seed%2)} }
		prompt := []uint32{1, uint32(seed % 12), 3, 1}
		plain := new()
		want := answer(t, plain, prompt, o)
		for _, n := range []int{1, 2, 5, 16} {
			o.Guess = n
			m := new()
			got := answer(t, m, prompt, o)
			if !slices.Equal(got.Tokens, want.Tokens) || got.Reason != want.Reason {
				t.Fatalf("seed %d, guessing %d: %v (%v), want %v (%v)", seed, n, got.Tokens, got.Reason, want.Tokens, want.Reason)
			}
			if got.Right > got.Guessed || m.passes+got.Right < plain.passes {
				t.Fatalf("seed %d: %d passes of %d, %d of %d guesses right", seed, m.passes, plain.passes, got.Right, got.Guessed)
			}
			saved += plain.passes - m.passes
		}
	}
	if saved < 100 {
		t.Errorf("guessing saved %d passes, want at least 100", saved)
	}
}

// A token depends on seed and position, not on where generation began.
func TestContinues(t *testing.T) {
	o := none
	o.Sampling = generate.Sampling{Temperature: 1, Seed: 4}
	o.Most = 30
	whole := answer(t, &model{vocab: 50, memory: 3}, []uint32{1, 2, 3}, o)
	m := &model{vocab: 50, memory: 3}
	o.Most = 10
	first := answer(t, m, []uint32{1, 2, 3}, o)
	o.Most = 20
	rest, err := generate.Run(t.Context(), m, first.Tokens[9:], o, func(generate.Token) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if got := append(first.Tokens, rest.Tokens...); !slices.Equal(got, whole.Tokens) {
		t.Errorf("%v, want %v", got, whole.Tokens)
	}
}

func TestReasons(t *testing.T) {
	for _, c := range []struct {
		name   string
		edit   func(o *generate.Options)
		emit   func(n int) error
		tokens int
		want   generate.Reason
	}{
		{"length", func(o *generate.Options) { o.Most = 5 }, nil, 5, generate.MostReached},
		{"one", func(o *generate.Options) { o.Most = 1 }, nil, 1, generate.MostReached},
		{"context", func(o *generate.Options) { o.Context = 9 }, nil, 6, generate.ContextFull},
		{"context of one more", func(o *generate.Options) { o.Context = 4 }, nil, 1, generate.ContextFull},
		{"told", func(o *generate.Options) {}, func(n int) error {
			if n == 3 {
				return generate.ErrDone
			}
			return nil
		}, 3, generate.Told},
		{"stop", func(o *generate.Options) { o.Stop = []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9} }, nil, 1, generate.Stopped},
	} {
		for _, guess := range []int{0, 4} {
			t.Run(fmt.Sprint(c.name, " guess ", guess), func(t *testing.T) {
				o := none
				o.Guess = guess
				c.edit(&o)
				n := 0
				r, err := generate.Run(t.Context(), &model{vocab: 10, memory: 1}, []uint32{1, 2, 3}, o, func(generate.Token) error {
					n++
					if c.emit != nil {
						return c.emit(n)
					}
					return nil
				})
				if err != nil || len(r.Tokens) != c.tokens || r.Reason != c.want {
					t.Errorf("%v after %d tokens, %v, want %v after %d", r.Reason, len(r.Tokens), err, c.want, c.tokens)
				}
			})
		}
	}
}

func TestErrors(t *testing.T) {
	run := func(m *model, prompt []uint32, o generate.Options, emit func(generate.Token) error) string {
		if emit == nil {
			emit = func(generate.Token) error { return nil }
		}
		_, err := generate.Run(t.Context(), m, prompt, o, emit)
		return fmt.Sprint(err)
	}
	bad := none
	bad.Sampling.TopP = 3
	full := none
	full.Context = 3
	negative := none
	negative.Most = -1
	for _, c := range []struct{ name, got, want string }{
		{"no prompt", run(&model{vocab: 4}, nil, none, nil), "no tokens to continue"},
		{"bad sampling", run(&model{vocab: 4}, []uint32{1}, bad, nil), "top-p 3, want 0 to 1"},
		{"full context", run(&model{vocab: 4}, []uint32{1, 2, 3}, full, nil), "the prompt's 3 tokens fill the context of 3"},
		{"negative", run(&model{vocab: 4}, []uint32{1}, negative, nil), "no negative numbers"},
		{"failing model", run(&model{vocab: 4, fail: 2}, []uint32{1}, none, nil), "the model failed"},
		{"failing reader", run(&model{vocab: 4}, []uint32{1}, none, func(generate.Token) error { return errors.New("closed pipe") }), "closed pipe"},
	} {
		if !strings.Contains(c.got, c.want) {
			t.Errorf("%s: %s, want %s", c.name, c.got, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := generate.Run(ctx, &model{vocab: 4}, []uint32{1}, none, func(generate.Token) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) || len(r.Tokens) == 0 {
		t.Errorf("cancelled: %v after %d tokens", err, len(r.Tokens))
	}
}

func TestLogProbsAsked(t *testing.T) {
	o := generate.Options{Most: 4, LogProbs: 2, Guess: 3}
	_, err := generate.Run(t.Context(), &model{vocab: 9, memory: 2}, []uint32{1, 2}, o, func(tok generate.Token) error {
		if len(tok.Top) != 2 || tok.Top[0].ID != tok.ID || tok.LogProb != tok.Top[0].LogProb || !(tok.LogProb < 0) || math.IsInf(tok.LogProb, 0) {
			t.Errorf("token %+v of a greedy answer", tok)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// inPieces returns what StopText lets through of a text in pieces of size bytes,
// and whether it was stopped.
func inPieces(text string, stop []string, size int) (got string, stopped bool) {
	s := generate.StopText{Texts: stop}
	for rest := text; rest != "" && !stopped; {
		n := min(size, len(rest))
		var part string
		part, stopped = s.Push(rest[:n])
		got, rest = got+part, rest[n:]
	}
	if !stopped {
		got += s.Flush()
	}
	return got, stopped
}

// What StopText passes on does not depend on how the text is cut.
func TestStopText(t *testing.T) {
	texts := []string{"", "a", "ab", "aab", "abab", "xaababy", "aaaab", "bbbb", "ünïab", "the end", "the enthe end."}
	stops := [][]string{nil, {""}, {"ab"}, {"aab", "b"}, {"abab", "ba"}, {"end", "the end"}, {"zzz"}, {"ï"}}
	for _, text := range texts {
		for _, stop := range stops {
			want, found := before(text, stop)
			for size := 1; size <= len(text)+1; size++ {
				if got, stopped := inPieces(text, stop, size); got != want || stopped != found {
					t.Errorf("%q stopped by %q in pieces of %d: %q, %v, want %q, %v", text, stop, size, got, stopped, want, found)
				}
			}
		}
	}
}

func FuzzStopText(f *testing.F) {
	f.Add("some text", "te", "xt", 3)
	f.Fuzz(func(t *testing.T, text, a, b string, size int) {
		if size < 1 {
			size = 1 - size%7
		}
		got, stopped := inPieces(text, []string{a, b}, size)
		want, found := before(text, []string{a, b})
		if got != want || stopped != found {
			t.Errorf("%q by %q, %q in %d: %q, want %q", text, a, b, size, got, want)
		}
	})
}

// before is what comes before the stop that ends first, by trying every end.
func before(text string, stops []string) (string, bool) {
	for end := range len(text) + 1 {
		for start := range end {
			if slices.Contains(stops, text[start:end]) {
				return text[:start], true
			}
		}
	}
	return text, false
}

// topper is a model that tells the largest logits only.
type topper struct {
	*model
	asked []int
}

func (m *topper) NextTop(ctx context.Context, tokens []uint32, k int) ([]generate.Logit, error) {
	m.asked = append(m.asked, k)
	logits, err := m.Next(ctx, tokens)
	_, best := generate.LogProbs(logits, 0, k)
	var top []generate.Logit
	for _, b := range best {
		top = append(top, generate.Logit{ID: b.ID, Logit: logits[b.ID]})
	}
	return top, err
}

// The largest logits give the tokens that all logits give, where they decide;
// elsewhere all are asked for.
func TestTopper(t *testing.T) {
	for _, c := range []struct {
		name string
		s    generate.Sampling
		k    int
	}{
		{"greedy", generate.Sampling{}, 1},
		{"top-k", generate.Sampling{Temperature: 1, TopK: 5, Seed: 1}, 5},
		{"top-k, top-p and min-p", generate.Sampling{Temperature: 0.9, TopK: 30, TopP: 0.8, MinP: 0.01, Seed: 2}, 30},
		{"top-k beyond the vocabulary", generate.Sampling{Temperature: 2, TopK: 500, Seed: 3}, 500},
		{"temperature", generate.Sampling{Temperature: 1}, 0},
		{"top-p", generate.Sampling{Temperature: 1, TopP: 0.5}, 0},
		{"a bias", generate.Sampling{Bias: map[uint32]float64{1: 1}}, 0},
		{"a penalty", generate.Sampling{Presence: 1}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := none
			o.Sampling, o.Most = c.s, 60
			want := answer(t, &model{vocab: 40, memory: 3}, []uint32{1, 2, 3}, o)
			m := &topper{model: &model{vocab: 40, memory: 3}}
			var got []uint32
			if _, err := generate.Run(t.Context(), m, []uint32{1, 2, 3}, o, func(tok generate.Token) error {
				got = append(got, tok.ID)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want.Tokens) {
				t.Errorf("%v, want %v", got, want.Tokens)
			}
			if c.k == 0 && m.asked != nil || c.k > 0 && (len(m.asked) != 60 || m.asked[0] != c.k) {
				t.Errorf("asked for %v, want %d each time", m.asked, c.k)
			}
		})
	}
}
