package generate

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Sampling says how tokens are drawn. The zero value is greedy: the token of
// the largest logit, the lowest id of equal ones.
//
// Of the steps, each works on what the ones before left, in this order:
// penalties and bias are added to the logits; Temperature divides them; TopK,
// TopP and MinP leave tokens out; one of the rest is drawn, with the
// probabilities that remain, scaled to sum 1.
type Sampling struct {
	Temperature float64 // 0 is greedy
	TopK        int     // the K most probable; 0 is no limit
	TopP        float64 // the fewest most probable tokens that have P of the probability; 0 and 1 are no limit
	MinP        float64 // tokens at least P times as probable as the most probable one; 0 is no limit
	Seed        uint64

	Bias      map[uint32]float64 // added to logits; −Inf bans a token
	Presence  float64            // taken from the logit of each token that was generated before
	Frequency float64            // the same, for each time it was
}

// Check reports the first field that no sampler can have. The words name the
// fields as the command's flags do.
func (s Sampling) Check() error {
	switch {
	case !(s.Temperature >= 0) || math.IsInf(s.Temperature, 0):
		return fmt.Errorf("generate: temperature %g, want 0 (greedy) or more", s.Temperature)
	case s.TopK < 0:
		return fmt.Errorf("generate: top-k %d, want 0 (no limit) or more", s.TopK)
	case !(s.TopP >= 0 && s.TopP <= 1):
		return fmt.Errorf("generate: top-p %g, want 0 to 1", s.TopP)
	case !(s.MinP >= 0 && s.MinP <= 1):
		return fmt.Errorf("generate: min-p %g, want 0 to 1", s.MinP)
	case !finite(s.Presence) || !finite(s.Frequency):
		return fmt.Errorf("generate: penalties %g and %g, want finite numbers", s.Presence, s.Frequency)
	}
	for id, b := range s.Bias {
		if math.IsNaN(b) || math.IsInf(b, 1) {
			return fmt.Errorf("generate: bias %g of token %d, want a number", b, id)
		}
	}
	return nil
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// needs returns how many of the largest logits decide the token; 0 is all.
func (s Sampling) needs() int {
	switch {
	case len(s.Bias) > 0 || s.Presence != 0 || s.Frequency != 0:
		return 0
	case s.Temperature == 0:
		return 1
	}
	return s.TopK
}

// A Logit is a token and its logit.
type Logit struct {
	ID    uint32
	Logit float32
}

// ErrNoToken is the error of a sampler that may pick no token at all.
var ErrNoToken = errors.New("generate: no token is left to pick")

// A Sampler draws tokens. It is for one goroutine at a time.
type Sampler struct {
	s     Sampling
	score []float64   // reused
	list  []candidate // reused
	spare []candidate // reused
}

// A candidate is a token that may be drawn.
type candidate struct {
	id uint32
	v  float64 // logit
	p  float64 // probability, in units of the largest
}

// NewSampler returns a sampler, or Check's error.
func NewSampler(s Sampling) (*Sampler, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	return &Sampler{s: s}, nil
}

// Pick returns the token to stand at a position, counted from 0 over prompt and
// answer, given its logits [Vocab] and how often each token was generated
// before. It is an error if no token is left to pick, or a logit is NaN.
func (p *Sampler) Pick(logits []float32, position int, seen map[uint32]int) (uint32, error) {
	return p.PickAllowed(logits, position, seen, nil)
}

// PickAllowed is Pick among the tokens whose bits are set, lowest first; those
// beyond may not be picked. nil lets all.
func (p *Sampler) PickAllowed(logits []float32, position int, seen map[uint32]int, allowed []uint64) (uint32, error) {
	best, err := p.scores(logits, seen, allowed)
	if err != nil {
		return 0, err
	}
	top := p.score[best]
	if p.s.Temperature == 0 || math.IsInf(top, 1) {
		return uint32(best), nil
	}
	p.list = p.list[:0]
	for id, v := range p.score {
		p.add(uint32(id), v, top)
	}
	if p.cuts() {
		p.list, p.spare = order(p.list, p.spare)
	}
	return p.draw(position), nil
}

// PickTop is Pick given the largest logits only, in their order, as many as
// decide: one if nothing is drawn, else TopK. There are no penalties and no bias.
func (p *Sampler) PickTop(top []Logit, position int) (uint32, error) {
	for _, t := range top {
		if t.Logit != t.Logit {
			return 0, fmt.Errorf("generate: the logit of token %d is NaN", t.ID)
		}
	}
	if len(top) == 0 || math.IsInf(float64(top[0].Logit), -1) {
		return 0, fmt.Errorf("%w of %d", ErrNoToken, len(top))
	}
	if p.s.Temperature == 0 || math.IsInf(float64(top[0].Logit), 1) {
		return top[0].ID, nil
	}
	p.list = p.list[:0]
	for _, t := range top {
		p.add(t.ID, float64(t.Logit), float64(top[0].Logit))
	}
	return p.draw(position), nil
}

// unlikely is the logarithm below which a probability, in units of the largest,
// counts as nothing: all of 2^18 such tokens together are below 2^-68.
const unlikely = -60

// add makes a token a candidate if it can be drawn.
func (p *Sampler) add(id uint32, v, top float64) {
	if d := (v - top) / p.s.Temperature; d >= unlikely {
		p.list = append(p.list, candidate{id, v, math.Exp(d)})
	}
}

// draw takes one of the candidates, which lie in order of their logits if some
// are to be left out.
func (p *Sampler) draw(position int) uint32 {
	list := p.list
	if p.cuts() {
		list = p.cut(list)
	}
	total := 0.0
	for _, c := range list {
		total += c.p
	}
	// A generator of its own for each position: a token drawn does not depend on
	// how many were drawn before.
	at := rand.New(rand.NewPCG(p.s.Seed, uint64(position))).Float64() * total
	for _, c := range list {
		if at -= c.p; at < 0 {
			return c.id
		}
	}
	return list[len(list)-1].id // rounding left a rest
}

// scores sets p.score to the logits after penalties and bias, and returns the
// token of the largest.
func (p *Sampler) scores(logits []float32, seen map[uint32]int, allowed []uint64) (best int, err error) {
	p.score = slices.Grow(p.score[:0], len(logits))[:len(logits)]
	for id, l := range logits {
		p.score[id] = float64(l)
	}
	for id, n := range seen {
		if int64(id) < int64(len(logits)) && n > 0 {
			p.score[id] -= p.s.Presence + p.s.Frequency*float64(n)
		}
	}
	for id, b := range p.s.Bias {
		if int64(id) < int64(len(logits)) {
			p.score[id] += b
		}
	}
	if allowed != nil {
		for at := 0; at < len(p.score); at += 64 {
			word := uint64(0)
			if at/64 < len(allowed) {
				word = allowed[at/64]
			}
			if word == math.MaxUint64 {
				continue
			}
			for i := range p.score[at:min(at+64, len(p.score))] {
				if word>>i&1 == 0 && p.score[at+i] == p.score[at+i] { // NaN stays one
					p.score[at+i] = math.Inf(-1)
				}
			}
		}
	}
	top := math.Inf(-1)
	best = -1
	for id, v := range p.score {
		if v > top {
			best, top = id, v
		}
		if v != v {
			return 0, fmt.Errorf("generate: the logit of token %d is NaN", id)
		}
	}
	if best < 0 {
		return 0, fmt.Errorf("%w: all %d logits are -Inf or banned", ErrNoToken, len(logits))
	}
	return best, nil
}

// cuts reports whether tokens are left out.
func (p *Sampler) cuts() bool {
	return p.s.TopK > 0 || p.s.TopP > 0 && p.s.TopP < 1 || p.s.MinP > 0
}

// cut leaves out the tokens that TopK, TopP and MinP leave out; at least one
// stays. The list is sorted, of equal logits the lower id first.
func (p *Sampler) cut(list []candidate) []candidate {
	if p.s.TopK > 0 {
		list = list[:min(p.s.TopK, len(list))]
	}
	if p.s.TopP > 0 && p.s.TopP < 1 {
		total := 0.0
		for _, c := range list {
			total += c.p
		}
		sum := 0.0
		for i, c := range list {
			if sum += c.p; sum >= p.s.TopP*total {
				list = list[:i+1]
				break
			}
		}
	}
	if p.s.MinP > 0 {
		n := slices.IndexFunc(list, func(c candidate) bool { return !(c.p >= p.s.MinP) }) // the largest is 1
		if n > 0 {
			list = list[:n]
		}
	}
	return list
}

// LogProbs returns the logarithm of the probability that the model itself gives
// to id, before temperature and everything else, and the n most probable tokens
// with theirs, most probable first.
func LogProbs(logits []float32, id uint32, n int) (float64, []LogProb) {
	top := math.Inf(-1)
	for _, l := range logits {
		top = max(top, float64(l))
	}
	sum := 0.0
	for _, l := range logits {
		sum += math.Exp(float64(l) - top)
	}
	norm := top + math.Log(sum)
	var best []LogProb // sorted
	for i, l := range logits {
		c := LogProb{uint32(i), float64(l) - norm}
		if len(best) == n && (n == 0 || c.LogProb <= best[n-1].LogProb) {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, c, func(a, b LogProb) int {
			return cmp.Or(cmp.Compare(b.LogProb, a.LogProb), cmp.Compare(a.ID, b.ID))
		})
		if len(best) == n {
			best = best[:n-1]
		}
		best = slices.Insert(best, at, c)
	}
	return float64(logits[id]) - norm, best
}

// A LogProb is a token and the natural logarithm of its probability.
type LogProb struct {
	ID      uint32
	LogProb float64
}
