package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ossify/engine"
	"ossify/generate"
	"ossify/gptoss"
	"ossify/harmony"
	"ossify/harmony/serde"
	"ossify/tokenizer"
)

// answerFlags are the flags that generate and chat share.
type answerFlags struct {
	sampling  generate.Sampling
	stop      []string
	most      int
	guess     int
	reasoning string
	precision string
	threads   int
	screen    bool
	memory    memoryFlags
	onnx      onnxFlags
}

func (a *answerFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.Float64Var(&a.sampling.Temperature, "temperature", 0, "divides the logits; 0 takes the most probable token each time")
	f.IntVar(&a.sampling.TopK, "top-k", 0, "draw among the K most probable tokens; 0 is no limit")
	f.Float64Var(&a.sampling.TopP, "top-p", 1, "draw among the fewest tokens that have this much of the probability")
	f.Float64Var(&a.sampling.MinP, "min-p", 0, "draw among tokens at least this many times as probable as the first")
	f.Uint64Var(&a.sampling.Seed, "seed", 0, "of the draws: the same seed gives the same answer")
	f.StringArrayVar(&a.stop, "stop", nil, "text to stop before; may be repeated")
	f.IntVar(&a.most, "max-tokens", 0, "tokens of an answer at most; 0 is as many as the context holds")
	chooseVar(c, &a.reasoning, "reasoning", "medium", []string{"low", "medium", "high"}, "how long to think")
	f.IntVar(&a.guess, "guess", 0, "tokens to guess from earlier text and compute at once; the answer stays the same")
	chooseVar(c, &a.precision, "precision", "bf16", []string{"bf16", "f32"}, "of values between operations")
	f.IntVar(&a.threads, "threads", 0, "processors to use; 0 takes all")
	f.BoolVar(&a.screen, "screen", false, "spend 0.4 GB on a screen of the unembedding: the same tokens, sooner, without temperature or with --top-k")
	a.memory.add(c)
	a.onnx.add(c)
}

var efforts = map[string]harmony.ReasoningEffort{"low": harmony.Low, "medium": harmony.Medium, "high": harmony.High}

// check reports flags that no answer can be given with.
func (a *answerFlags) check(c *cobra.Command) error {
	if err := a.sampling.Check(); err != nil {
		return usage("%s", strings.TrimPrefix(err.Error(), "generate: "))
	}
	for name, n := range map[string]int{"max-tokens": a.most, "guess": a.guess, "threads": a.threads} {
		if n < 0 {
			return usage("--%s %d, want 0 or more", name, n)
		}
	}
	if slices.Contains(a.stop, "") {
		return usage("--stop is empty, want a text")
	}
	return a.onnx.check(c)
}

// A session is a sequence of tokens in a model that can go back.
type session interface {
	generate.Session
	Least() int // tokens that Truncate must keep, or none
}

// A talker is a model that answers.
type talker struct {
	ck       *gptoss.Checkpoint
	runs     string // what computes, for figures
	kernels  string // of the engine, if that computes
	session  session
	close    []func() error // in order
	encoding *harmony.Encoding
	flags    *answerFlags
	seen     []uint32 // by the session
	load     time.Duration
}

// openTalker opens the model in dir, and says if it will be slow.
func openTalker(c *cobra.Command, dir string, a *answerFlags, quiet bool) (*talker, error) {
	start := time.Now()
	ck, err := gptoss.OpenCheckpoint(dir)
	if err != nil {
		return nil, err
	}
	t := &talker{ck: ck, encoding: harmony.New(tokenizer.New()), flags: a, close: []func() error{ck.Close}}
	if a.onnx.model != "" {
		err = a.onnx.open(c.Context(), t)
	} else {
		err = t.openEngine(c.Context())
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.load = time.Since(start)
	if !quiet {
		sayPortable(c.ErrOrStderr(), t.kernels)
	}
	return t, nil
}

// openEngine lets the engine compute.
func (t *talker) openEngine(ctx context.Context) error {
	o := engine.Options{Precision: engine.BF16, Workers: t.flags.threads}
	if t.flags.precision == "f32" {
		o.Precision = engine.F32
	}
	m, err := t.ck.Engine(ctx, o)
	if err != nil {
		return err
	}
	t.closeFirst(m.Close)
	if err := t.flags.memory.apply(ctx, m); err != nil {
		return err
	}
	if t.flags.screen {
		if err := m.Screen(ctx); err != nil {
			return err
		}
	}
	s := m.NewSession()
	t.session, t.kernels = s, m.Kernels()
	t.runs = t.kernels + " kernels"
	if t.flags.screen {
		t.session = topper{s}
	}
	return nil
}

// closeFirst has f called by Close before what is there already.
func (t *talker) closeFirst(f func() error) { t.close = append([]func() error{f}, t.close...) }

func (t *talker) Close() error {
	var err error
	for _, f := range t.close {
		err = errors.Join(err, f())
	}
	return err
}

// system is the message that begins a conversation without one.
func (t *talker) system() harmony.Message {
	return harmony.NewMessage(harmony.System, harmony.NewSystemContent().WithReasoningEffort(efforts[t.flags.reasoning]))
}

// An answer is what a model wrote, with what it took.
type answer struct {
	generate.Result
	Messages      []harmony.Recovered
	Prompt        int // tokens
	Fresh         int // of them, those that the session had not seen
	First, Answer time.Duration
}

// answer lets the model continue prompt, which the session may have seen in
// part, and shows what it writes to screen and each token to each, which may be
// nil. On an error the answer holds what came until then.
func (t *talker) answer(ctx context.Context, prompt []uint32, screen *screen, each func(id uint32) error) (*answer, error) {
	a := &answer{Prompt: len(prompt)}
	common := 0
	for common < min(len(prompt)-1, len(t.seen)) && prompt[common] == t.seen[common] {
		common++
	}
	if common < t.session.Least() {
		common = 0 // layers with a window hold no keys from so early on
	}
	if err := t.session.Truncate(common); err != nil {
		return a, err
	}
	t.seen, a.Fresh = t.seen[:common], len(prompt)-common

	recovery := t.encoding.NewRecovery(harmony.RecoveryOptions{})
	stop := generate.StopText{Texts: t.flags.stop}
	at := -1 // message that the stop texts look at
	show := func(events []harmony.Event) (done bool, err error) {
		for _, e := range events {
			if e.Message != at {
				at = e.Message
				stop = generate.StopText{Texts: t.flags.stop}
				if err := screen.open(recovery.Messages()[at].Message); err != nil {
					return true, err
				}
			}
			text, found := stop.Push(e.Text)
			if e.Done && !found {
				text += stop.Flush()
			}
			if err := screen.write(text); err != nil {
				return true, err
			}
			if found {
				return true, nil
			}
			if e.Done {
				if err := screen.close(); err != nil {
					return true, err
				}
			}
		}
		return false, nil
	}

	o := generate.Options{
		Sampling: t.flags.sampling,
		Stop:     append(harmony.StopTokensForAssistantActions(), tokenizer.EndOfText),
		Most:     t.flags.most,
		Context:  t.ck.Config.Positions(),
		Guess:    t.flags.guess,
		LogProbs: -1,
	}
	start, stopped := time.Now(), false
	first := start
	var err error
	a.Result, err = generate.Run(ctx, t.session, prompt[common:], o, func(tok generate.Token) error {
		if a.First == 0 {
			first = time.Now()
			a.First = first.Sub(start)
		}
		if each != nil {
			if err := each(tok.ID); err != nil {
				return err
			}
		}
		done, err := show(recovery.Push(tok.ID))
		if err == nil && done {
			stopped = true
			return generate.ErrDone
		}
		return err
	})
	a.Answer = time.Since(first)
	all := append(slices.Clone(prompt), a.Tokens...)
	t.seen = all[:min(len(all), t.session.Len())]
	events := recovery.Finish()
	if !stopped && (err == nil || errors.Is(err, context.Canceled)) {
		if _, e := show(events); e != nil && err == nil {
			err = e
		}
	}
	a.Messages = recovery.Messages()
	return a, errors.Join(err, screen.close())
}

// A topper tells the largest logits of a session.
type topper struct{ *engine.Session }

func (t topper) NextTop(ctx context.Context, tokens []uint32, k int) ([]generate.Logit, error) {
	top, err := t.Session.NextTop(ctx, tokens, k)
	logits := make([]generate.Logit, len(top))
	for i, l := range top {
		logits[i] = generate.Logit(l)
	}
	return logits, err
}

// figures says what an answer took.
func (t *talker) figures(a *answer) string {
	rate := func(n int, d time.Duration) string {
		if n <= 0 || d <= 0 {
			return ""
		}
		return fmt.Sprintf(", %.1f a second", float64(n)/d.Seconds())
	}
	reason := a.Reason.String()
	if a.Reason == 0 {
		reason = "interrupted"
	}
	s := fmt.Sprintf("%d tokens of prompt, %d of them new: %.2f s%s; answer of %d tokens: %.2f s%s; ended by %s",
		a.Prompt, a.Fresh, a.First.Seconds(), rate(a.Fresh, a.First),
		len(a.Tokens), a.Answer.Seconds(), rate(len(a.Tokens)-1, a.Answer), reason)
	if a.Guessed > 0 {
		s += fmt.Sprintf("; %d of %d guesses right", a.Right, a.Guessed)
	}
	return s + "; " + t.runs
}

// A screen shows the messages of an answer as they come. On a terminal thoughts
// are dim and control characters visible; elsewhere only the final answer and
// calls are written, unless all is asked for.
type screen struct {
	w        io.Writer
	terminal bool // w is one
	color    bool
	all      bool // thoughts too, off a terminal

	on, dim, fresh bool
}

func newScreen(w io.Writer, all bool) *screen {
	s := &screen{w: w, all: all}
	t := terminalOf(w)
	s.terminal, s.color = t.width > 0, t.colour
	return s
}

const (
	dimOn  = "\x1b[2m"
	dimOff = "\x1b[0m"
)

// open begins a message.
func (s *screen) open(m harmony.Message) error {
	if err := s.close(); err != nil {
		return err
	}
	analysis := m.Channel.Is(harmony.Analysis)
	s.on, s.fresh = s.terminal || s.all || !analysis || m.Recipient.Or("") != "", true
	if !s.on {
		return nil
	}
	if s.dim = analysis && s.color; s.dim {
		if err := s.put(dimOn); err != nil {
			return err
		}
	}
	if to, ok := m.Recipient.Get(); ok {
		return s.put("call of " + visible(to) + ": ")
	}
	return nil
}

func (s *screen) write(text string) error {
	if !s.on || text == "" {
		return nil
	}
	s.fresh = strings.HasSuffix(text, "\n")
	if s.terminal {
		text = visible(text)
	}
	return s.put(text)
}

// close ends a message, if one is open, on a line of its own.
func (s *screen) close() error {
	if !s.on {
		return nil
	}
	end := ""
	if s.dim {
		end = dimOff
	}
	if !s.fresh {
		end += "\n"
	}
	s.on, s.dim = false, false
	return s.put(end)
}

func (s *screen) put(text string) error {
	_, err := io.WriteString(s.w, text)
	return err
}

// visible puts U+FFFD for control characters but line feed and tab: what a
// model writes must not steer a terminal.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) {
			return '\uFFFD'
		}
		return r
	}, text)
}

func newGenerate() *cobra.Command {
	var a answerFlags
	var prompt, conversation, tokens, tokensFile string
	var raw, asJSON, thoughts, quiet bool
	c := &cobra.Command{
		Use:   "generate DIR",
		Short: "Let a model answer a prompt",
		Long: `Generate lets a checkpoint answer a prompt or go on with a conversation. The text
streams as it comes: thoughts dim, the answer plain, calls of tools by name. If
stdout is no terminal, thoughts are left out unless --thoughts is given. Figures
go to stderr.

The same seed gives the same tokens, whatever the threads, the guesses and the
processor's kernels. Without --temperature each token is the most probable one.

With --onnx an ONNX model of the checkpoint, ossify's or another's, computes in
ONNX Runtime; the checkpoint says how long a context may be.`,
		Example: `  ossify generate /tmp/20b --prompt 'What is jade?'
  ossify generate /tmp/20b --prompt 'Name a colour.' --temperature 1 --seed 7 --reasoning low
  ossify generate /tmp/20b --conversation chat.json --json >answer.json
  ossify generate /tmp/tiny --tokens 1,2,3 --raw --max-tokens 16
  ossify generate /tmp/20b --onnx /tmp/20b/model.onnx --prompt 'What is jade?' --operators`,
		Args: oneArgument("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.check(c); err != nil {
				return err
			}
			if raw && asJSON {
				return usage("want one of --raw and --json")
			}
			if n := len(given(c, "tokens", "tokens-file", "prompt", "conversation")); n != 1 {
				return usage("%d prompts, want one of --prompt, --conversation, --tokens and --tokens-file", n)
			}
			var ids []uint32
			var err error
			switch {
			case c.Flags().Changed("tokens"):
				ids, err = parseIDs(tokens)
			case c.Flags().Changed("tokens-file"):
				ids, err = fileTokens(c, tokensFile)
			case c.Flags().Changed("prompt"):
				ids, err = promptOf(prompt, efforts[a.reasoning])
			default:
				ids, err = promptTokens(c, "", conversation)
			}
			if err != nil {
				return err
			}
			t, err := openTalker(c, args[0], &a, quiet)
			if err != nil {
				return err
			}
			defer t.Close()

			out := c.OutOrStdout()
			show := newScreen(out, thoughts)
			var each func(uint32) error
			switch {
			case raw:
				show = newScreen(io.Discard, false)
				each = func(id uint32) error {
					_, err := fmt.Fprintln(out, id)
					return err
				}
			case asJSON:
				show = newScreen(io.Discard, false)
			}
			result, err := t.answer(c.Context(), ids, show, each)
			if asJSON && err == nil {
				err = writeAnswer(out, result)
			}
			if !quiet && (err == nil || errors.Is(err, context.Canceled)) {
				fmt.Fprintln(c.ErrOrStderr(), t.figures(result))
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&prompt, "prompt", "", "text of a user's message")
	f.StringVar(&conversation, "conversation", "", "JSON file of a conversation")
	f.StringVar(&tokens, "tokens", "", "token ids: 1,2,3")
	f.StringVar(&tokensFile, "tokens-file", "", "file of token ids, as tokenize prints them")
	f.BoolVar(&raw, "raw", false, "print token ids, one a line, instead of text")
	f.BoolVar(&asJSON, "json", false, "print one JSON object at the end: tokens, messages, reason, figures")
	f.BoolVar(&thoughts, "thoughts", false, "show thoughts even if stdout is no terminal")
	f.BoolVarP(&quiet, "quiet", "q", false, "no figures on stderr")
	a.add(c)
	return c
}

// promptOf renders a user's message after the default system message, of that
// effort.
func promptOf(text string, effort harmony.ReasoningEffort) ([]uint32, error) {
	if text == "" {
		return nil, usage("--prompt is empty, want a text")
	}
	return harmony.New(tokenizer.New()).RenderForCompletion(harmony.Conversation{Messages: []harmony.Message{
		harmony.NewMessage(harmony.System, harmony.NewSystemContent().WithReasoningEffort(effort)),
		harmony.NewMessage(harmony.User, harmony.Text(text)),
	}}, harmony.Assistant, harmony.DropAuto)
}

// writeAnswer prints an answer as JSON.
func writeAnswer(w io.Writer, a *answer) error {
	messages := []harmony.Message{}
	for _, m := range a.Messages {
		messages = append(messages, m.Message)
	}
	return json.NewEncoder(w).Encode(struct {
		Tokens       []uint32        `json:"tokens"`
		Messages     json.RawMessage `json:"messages"`
		Reason       string          `json:"reason"`
		PromptTokens int             `json:"prompt_tokens"`
		FirstSeconds float64         `json:"first_token_seconds"`
		Seconds      float64         `json:"answer_seconds"`
		Guessed      int             `json:"guessed"`
		Right        int             `json:"guessed_right"`
	}{a.Tokens, serde.AppendMessages(nil, messages), a.Reason.String(), a.Prompt, a.First.Seconds(), a.Answer.Seconds(), a.Guessed, a.Right})
}
