// Package sweep judges a checkpoint by many comparisons, each one verify of its
// own: random tokens of many seeds and lengths, at positions near and far, texts
// of a file, goldens. The elements are a function of the request; their outcomes
// are combined in their order, so that the report is the same whoever computed
// them, and when.
package sweep

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"ossify/internal/fileset"
	"ossify/internal/quote"
	"ossify/parity"
	"ossify/pipeline"
)

// Kind is the name of the workers of a sweep.
const Kind = "sweep"

// An Element is one comparison: the arguments of verify, behind the checkpoint.
type Element struct {
	Number int      `json:"element"`
	Args   []string `json:"args"`
	First  int      `json:"first"`  // position of the first token
	Tokens int      `json:"tokens"` // 0 if they are not random
}

// A Request says which comparisons there are.
type Request struct {
	Elements   int      // of random tokens
	Seed       uint64   // of their tokens, lengths and positions
	Lengths    []int    // in tokens
	First      []int    // positions of first tokens
	Precisions []string // each random element has one, each text all
	Prompts    []string // texts of user messages
	Goldens    []string // files
	ONNX       string   // a model that is judged by random tokens, too; "" for none
	Inject     *Inject
}

// Inject puts a known bug into one element at one position, to see that it is
// found.
type Inject struct {
	Fault             string
	Element, Position int
}

// Most is how many elements a sweep may have.
const Most = 1_000_000

// List returns the comparisons: goldens, texts, then random ones.
func (q Request) List() ([]Element, error) {
	switch {
	case q.Elements < 0 || q.Elements+len(q.Prompts)*len(q.Precisions)+len(q.Goldens) > Most:
		return nil, fmt.Errorf("sweep: more than %d elements, or less than none", Most)
	case q.Elements > 0 && (len(q.Lengths) == 0 || len(q.First) == 0) || len(q.Precisions) == 0:
		return nil, errors.New("sweep: no lengths, no positions or no precisions")
	}
	for _, n := range q.Lengths {
		if n < 2 {
			return nil, fmt.Errorf("sweep: a length of %d tokens, want 2 or more", n)
		}
	}
	for _, n := range q.First {
		if n < 0 {
			return nil, fmt.Errorf("sweep: position %d, want 0 or more", n)
		}
	}
	var list []Element
	add := func(first, tokens int, args ...string) {
		list = append(list, Element{len(list), args, first, tokens})
	}
	for _, g := range q.Goldens {
		add(0, 0, "--golden", g)
	}
	for _, text := range q.Prompts {
		for _, p := range q.Precisions {
			add(0, 0, "--prompt", text, "--precision", p)
		}
	}
	for i := range q.Elements {
		r := rand.New(rand.NewPCG(q.Seed, uint64(i)))
		n, first := q.Lengths[r.IntN(len(q.Lengths))], q.First[r.IntN(len(q.First))]
		args := []string{"--tokens-seed", strconv.FormatUint(r.Uint64()>>32, 10), "--length", strconv.Itoa(n)}
		if q.ONNX != "" && i%8 == 7 {
			add(0, n, append(args, "--onnx", q.ONNX)...)
			continue
		}
		args = append(args, "--precision", q.Precisions[i%len(q.Precisions)])
		if first > 0 {
			args = append(args, "--first", strconv.Itoa(first))
		}
		add(first, n, args...)
	}
	if len(list) == 0 {
		return nil, errors.New("sweep: no elements")
	}
	if i := q.Inject; i != nil {
		if i.Element < 0 || i.Element >= len(list) || list[i.Element].Tokens == 0 || slices.Contains(list[i.Element].Args, "--onnx") {
			return nil, fmt.Errorf("sweep: no bug can be put into element %d, want one of random tokens in the engine", i.Element)
		}
		e := &list[i.Element]
		if i.Position < e.First || i.Position >= e.First+e.Tokens {
			return nil, fmt.Errorf("sweep: element %d has positions %d to %d, want one of them for the bug", i.Element, e.First, e.First+e.Tokens-1)
		}
		e.Args = append(e.Args, "--inject", i.Fault, "--inject-at", strconv.Itoa(i.Position))
	}
	return list, nil
}

// A Judge judges one element, as verify with these arguments does.
type Judge func(ctx context.Context, args []string) (*parity.Report, error)

// An Outcome is what the report needs of one comparison.
type Outcome struct {
	Element
	Verdict parity.Verdict `json:"verdict"`
	Stage   string         `json:"first_diverging,omitempty"`
	Where   string         `json:"where,omitempty"`
	Why     string         `json:"why,omitempty"`
	Stages  []Stage        `json:"stages"`
	Choices Choices        `json:"choices"`
	Free    Choices        `json:"free"` // of free runs beside the reference's
}

// A Stage is what comparisons say of one kind of stage: the same in all layers.
type Stage struct {
	Kind     string  `json:"stage"`
	Runs     int     `json:"runs"` // layers, programs and elements
	Failed   int     `json:"failed,omitempty"`
	Elements int     `json:"elements"`
	Outside  int     `json:"outside"`
	Used     float64 `json:"used"`            // the largest part of its bound that an element needs
	Worst    string  `json:"worst,omitempty"` // the stage that has it
	By       int     `json:"by"`              // the element that has it
	ULPs     []int   `json:"ulps,omitempty"`  // elements by error, as parity.ULPBins has it
}

// Choices are of experts.
type Choices struct {
	Rows  int `json:"rows"`
	Same  int `json:"same"`
	Ties  int `json:"ties,omitempty"`
	Wrong int `json:"wrong,omitempty"`
}

func (c *Choices) add(o Choices) {
	c.Rows, c.Same, c.Ties, c.Wrong = c.Rows+o.Rows, c.Same+o.Same, c.Ties+o.Ties, c.Wrong+o.Wrong
}

// outcome sums a report up.
func outcome(e Element, r *parity.Report) Outcome {
	o := Outcome{Element: e, Verdict: r.Verdict, Stage: r.First, Where: r.Where}
	at := map[string]int{}
	for _, c := range r.Columns {
		for _, s := range c.Stages {
			if s.Name == r.First && c.Name == r.Where {
				o.Why = s.Why
			}
			if s.Choice != nil {
				o.Choices.add(Choices{s.Choice.Rows, s.Choice.Same, len(s.Choice.Ties), s.Choice.Wrong})
			}
			one := Stage{Kind: parity.Kind(s.Name), Runs: 1, By: e.Number, Worst: s.Name}
			if s.Verdict == parity.Fail {
				one.Failed = 1
			}
			if s.Fit != nil {
				one.Elements, one.Outside, one.Used, one.ULPs = s.Fit.Elements, s.Fit.Outside, s.Fit.Used, s.Fit.ULPs
			}
			i, ok := at[one.Kind]
			if !ok {
				i = len(o.Stages)
				at[one.Kind] = i
				o.Stages = append(o.Stages, Stage{Kind: one.Kind, By: -1})
			}
			o.Stages[i].add(one)
		}
	}
	for _, c := range r.Checks {
		if c.Verdict == parity.Fail && c.Name == r.First {
			o.Why = c.Why
		}
	}
	for _, f := range r.Routing {
		o.Free.add(Choices{Rows: f.Rows, Same: f.Same})
	}
	return o
}

// add adds what another says of the same kind. Failing is worse than any part of
// a bound; of equals the first stays.
func (s *Stage) add(o Stage) {
	if s.By < 0 || o.Outside > 0 && s.Outside == 0 || (o.Outside > 0) == (s.Outside > 0) && o.Used > s.Used {
		s.By, s.Worst = o.By, o.Worst
	}
	s.Used = max(s.Used, o.Used)
	s.Runs, s.Failed, s.Elements, s.Outside = s.Runs+o.Runs, s.Failed+o.Failed, s.Elements+o.Elements, s.Outside+o.Outside
	for len(s.ULPs) < len(o.ULPs) {
		s.ULPs = append(s.ULPs, 0)
	}
	for i, n := range o.ULPs {
		s.ULPs[i] += n
	}
}

// A worker judges elements and writes their outcomes.
type worker struct {
	dir   string
	judge Judge
}

// NewWorker returns a worker that writes into a folder.
func NewWorker(dir string, judge Judge) pipeline.Worker { return worker{dir, judge} }

func (w worker) Close() error { return nil }

func outcomePath(dir string, n int) string { return filepath.Join(dir, fmt.Sprintf("%06d.json", n)) }

func (w worker) Do(ctx context.Context, element []byte) error {
	var e Element
	if err := json.Unmarshal(element, &e); err != nil {
		return fmt.Errorf("sweep: %q is no element", element[:min(len(element), 60)])
	}
	if _, err := os.Stat(outcomePath(w.dir, e.Number)); err == nil {
		return nil
	}
	r, err := w.judge(ctx, e.Args)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	o := Outcome{Element: e, Verdict: parity.Fail}
	if err != nil { // of this comparison: the others go on
		o.Why = quote.Plain(err.Error())
	} else {
		o = outcome(e, r)
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return fileset.WriteFile(ctx, outcomePath(w.dir, e.Number), text, fileset.Options{Ours: fileset.Any})
}

// elementsName is the file of a folder that says which elements it is of.
const elementsName = "elements.jsonl"

// ElementsPath returns where a folder's elements are: a line of facts, then one
// for each.
func ElementsPath(dir string) string { return filepath.Join(dir, elementsName) }

// Begin writes the elements into a folder, which it makes. If there are some they
// must be the same, and of the same facts: the sweep goes on.
func Begin(ctx context.Context, dir string, list []Element, facts map[string]string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	if err := e.Encode(facts); err != nil {
		return err
	}
	for _, x := range list {
		at := b.Len()
		if err := e.Encode(x); err != nil {
			return err
		}
		if b.Len()-at > pipeline.MostElement {
			return fmt.Errorf("sweep: element %d has more than %d bytes", x.Number, pipeline.MostElement)
		}
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	have, err := os.ReadFile(ElementsPath(dir))
	switch {
	case errors.Is(err, os.ErrNotExist):
		if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
			return fmt.Errorf("sweep: %s holds files and no sweep, want a new or empty folder", quote.Name(dir))
		}
		return fileset.WriteFile(ctx, ElementsPath(dir), b.Bytes(), fileset.Options{})
	case err != nil:
		return fmt.Errorf("sweep: %w", err)
	case !bytes.Equal(have, b.Bytes()):
		return fmt.Errorf("sweep: %s holds another sweep: another checkpoint, or other options; want another folder", quote.Name(dir))
	}
	return nil
}

// Read calls f with the outcomes of a folder, in order.
func Read(dir string, list []Element, f func(Outcome) error) error {
	for _, e := range list {
		text, err := os.ReadFile(outcomePath(dir, e.Number))
		if err != nil {
			return fmt.Errorf("sweep: element %d has no outcome: %w", e.Number, err)
		}
		var o Outcome
		if err := json.Unmarshal(text, &o); err != nil || o.Number != e.Number || !slices.Equal(o.Args, e.Args) {
			return fmt.Errorf("sweep: %s is not the outcome of element %d", quote.Name(outcomePath(dir, e.Number)), e.Number)
		}
		if err := f(o); err != nil {
			return err
		}
	}
	return nil
}

// ReadPrompts reads texts, one a line; blank lines are none.
func ReadPrompts(r io.Reader) (texts []string, err error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 64<<10)
	for s.Scan() {
		if line := bytes.TrimSpace(s.Bytes()); len(line) > 0 {
			texts = append(texts, string(line))
		}
		if len(texts) > Most {
			return nil, fmt.Errorf("sweep: more than %d texts", Most)
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return nil, fmt.Errorf("sweep: text %d has more than %d bytes", len(texts)+1, 64<<10)
	}
	return texts, s.Err()
}
