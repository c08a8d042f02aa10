package grammar

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"ossify/tokenizer"
)

// A Vocabulary is the tokens in the order of their bytes, so that those that
// begin alike are looked at once. It does not change.
type Vocabulary struct {
	t      *tokenizer.Tokenizer
	ids    []uint32 // of ordinary tokens
	tokens []string // their bytes
	common []uint8  // bytes that a token shares with the one before
}

// NewVocabulary returns the tokens of t. It takes some 0.1 s and 5 MB; keep it.
func NewVocabulary(t *tokenizer.Tokenizer) *Vocabulary {
	v := &Vocabulary{t: t, ids: make([]uint32, tokenizer.Ordinary), tokens: make([]string, tokenizer.Ordinary), common: make([]uint8, tokenizer.Ordinary)}
	bytes := make([]string, tokenizer.Ordinary)
	for id := range v.ids {
		v.ids[id] = uint32(id)
		bytes[id], _ = t.Token(uint32(id))
	}
	slices.SortFunc(v.ids, func(a, b uint32) int { return strings.Compare(bytes[a], bytes[b]) })
	for i, id := range v.ids {
		v.tokens[i] = bytes[id]
		if i > 0 {
			n := 0
			for last := v.tokens[i-1]; n < min(len(last), len(bytes[id])) && last[n] == bytes[id][n]; n++ {
			}
			v.common[i] = uint8(n) // tokens have at most 128 bytes
		}
	}
	return v
}

// words is how many of 64 bits cover the ids that a model has.
const words = (tokenizer.VocabSize + 63) / 64

// mostMasks is how many masks a grammar keeps.
const mostMasks = 128

// A Grammar is an expression as an automaton over tokens. Guides of many answers
// share what is known of its states.
type Grammar struct {
	v     *Vocabulary
	start Expr

	mu    sync.Mutex
	b     *Builder
	masks map[Expr][]uint64
}

// ErrEndless is the error of an expression that cannot come to an end.
var ErrEndless = errors.New("grammar: it can never end")

// New returns the grammar of an expression. The builder is the grammar's from
// there on.
func New(v *Vocabulary, b *Builder, start Expr) (*Grammar, error) {
	switch {
	case b.err != nil:
		return nil, b.err
	case start == never || !b.ends():
		return nil, ErrEndless
	}
	b.settle()
	return &Grammar{v: v, start: start, b: b, masks: map[Expr][]uint64{}}, nil
}

// Worn reports whether so much is known of the grammar's states that a new one
// should take its place: what it may take has an end.
func (g *Grammar) Worn() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.b.err != nil || g.b.size > used.bytes/4 || g.b.work > used.work/2
}

// Guide returns a guide for one answer. It implements generate.Guide.
func (g *Grammar) Guide() *Guide { return &Guide{g: g, at: g.start} }

// A Guide says which tokens may come next.
type Guide struct {
	g  *Grammar
	at Expr
}

// Allowed returns the tokens that may come next, a bit each. It fails if that
// takes too much.
func (g *Guide) Allowed() ([]uint64, error) {
	g.g.mu.Lock()
	defer g.g.mu.Unlock()
	m := g.g.mask(g.at)
	return m, g.g.b.err
}

// Accept takes note of the token that came.
func (g *Guide) Accept(id uint32) error {
	g.g.mu.Lock()
	defer g.g.mu.Unlock()
	at := g.g.after(g.at, id)
	if err := g.g.b.err; err != nil {
		return err
	}
	if at == never {
		return fmt.Errorf("grammar: token %d may not come here", id)
	}
	g.at = at
	return nil
}

// Done reports whether the text may end here.
func (g *Guide) Done() bool {
	g.g.mu.Lock()
	defer g.g.mu.Unlock()
	return g.g.b.nodes[g.at].null
}

func (g *Grammar) after(e Expr, id uint32) Expr {
	if id >= tokenizer.Ordinary {
		return g.b.nextSpecial(e, id)
	}
	token, _ := g.v.t.Token(id)
	for i := 0; i < len(token) && e != never; i++ {
		e = g.b.next(e, token[i])
	}
	return e
}

// mask returns the tokens that may follow a state.
func (g *Grammar) mask(e Expr) []uint64 {
	if m, ok := g.masks[e]; ok {
		return m
	}
	m := make([]uint64, words)
	set := func(id uint32) { m[id/64] |= 1 << (id % 64) }
	for _, id := range steering() {
		if g.b.nextSpecial(e, id) != never {
			set(id)
		}
	}
	any := true
	for c := range g.b.reps {
		any = any && g.b.nextClass(e, byte(c)) == e
	}
	if any {
		for id := range uint32(tokenizer.Ordinary) {
			set(id)
		}
	} else {
		g.walk(e, set)
	}
	if g.b.err != nil {
		return nil
	}
	if len(g.masks) >= mostMasks {
		clear(g.masks)
	}
	g.masks[e] = m
	return m
}

// walk finds the ordinary tokens that may follow a state.
func (g *Grammar) walk(e Expr, set func(id uint32)) {
	stack := [129]Expr{e} // after so many bytes of the token
	alive := 0            // bytes of the last token that its stack has
	dead := 1             // bytes after which it could not go on; beyond its length if it could
	for i, token := range g.v.tokens {
		n := int(g.v.common[i])
		if i > 0 && n >= dead {
			continue
		}
		n = min(n, alive)
		for ; n < len(token); n++ {
			next := g.b.next(stack[n], token[n])
			if next == never {
				break
			}
			stack[n+1] = next
		}
		alive = n
		dead = n + 1
		if n == len(token) {
			set(g.v.ids[i])
		}
	}
}

// Count returns how many tokens a mask allows.
func Count(mask []uint64) int {
	n := 0
	for _, w := range mask {
		n += bits.OnesCount64(w)
	}
	return n
}
