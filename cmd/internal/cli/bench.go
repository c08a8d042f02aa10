package cli

import (
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/internal/huge"
	"ossify/kernel"
)

// A speed is runs of one measurement.
type speed struct {
	Tokens   int       `json:"tokens"`
	Sessions int       `json:"sessions,omitempty"`
	Rates    []float64 `json:"tok_s"` // by run, of all sessions together
}

// median returns the middle of the runs, or the mean of the two.
func (s speed) median() float64 {
	if len(s.Rates) == 0 {
		return 0
	}
	r := slices.Sorted(slices.Values(s.Rates))
	return (r[len(r)/2] + r[(len(r)-1)/2]) / 2
}

// A benchReport is what bench measures; --json prints it.
type benchReport struct {
	Kernels   string  `json:"kernels"`
	Precision string  `json:"precision"`
	Threads   int     `json:"threads"`
	Bandwidth float64 `json:"bandwidth_gbs"` // of reading memory of our own, in large pages; median of runs beside the others
	Prefill   speed   `json:"prefill"`
	Decode    speed   `json:"decode"`
	Screened  *speed  `json:"decode_screened,omitempty"`
	Together  *speed  `json:"decode_sessions,omitempty"`
	Bytes     int64   `json:"bytes_per_token"` // of weights, to decode one
	Share     float64 `json:"bandwidth_share"` // of the bandwidth, that decoding uses
	Contexts  []at    `json:"decode_at,omitempty"`
	TTFT      float64 `json:"ttft_s"` // from opening to the first token of a short prompt
	Load      float64 `json:"load_s"`
	Cache     int64   `json:"cache_bytes"` // of keys and values, at the end of a run
	RSS       int64   `json:"peak_rss_bytes"`
}

// at is how long a decoded token takes after a past of so many.
type at struct {
	Positions int     `json:"positions"`
	Seconds   float64 `json:"s"`
	Cache     int64   `json:"cache_bytes"`
}

// ttftPrompt is the length of the short prompt.
const ttftPrompt = 16

func newBench() *cobra.Command {
	var prompt, tokens, sessions, runs, threads, chunk int
	var precision string
	var set func() kernel.Set
	var contexts []int
	var asJSON, kernels, screen bool
	var memory memoryFlags
	c := &cobra.Command{
		Use:   "bench CKPT",
		Short: "Measure speed, and what the machine allows",
		Long: `Bench measures a checkpoint on the engine: prefill of a prompt, decode of
tokens one by one, and decode of several sessions together. Beside each run it
measures how fast memory can be read, which is what bounds decode: every token
reads bytes_per_token of weights. Figures are medians of runs after one that does
not count, with the slowest and the fastest.

--context times a token after a past of each given length, whose keys and values
are made up.

With --kernels it measures the inner loops instead, of every set that this
machine can run; no checkpoint is needed.`,
		Example: `  ossify bench /tmp/20b
  ossify bench /tmp/20b -p 512 -n 64 --sessions 8 --json
  ossify bench --kernels`,
		RunE: func(c *cobra.Command, args []string) error {
			if kernels != (len(args) == 0) || len(args) > 1 {
				return usage("want one of CKPT and --kernels")
			}
			if prompt < 0 || tokens < 0 || sessions < 0 || runs < 1 || threads < 0 || chunk < 0 {
				return usage("-p, -n, --sessions, --threads and --chunk want 0 or more, --runs at least 1")
			}
			if kernels {
				return benchKernels(c, asJSON)
			}
			o := engine.Options{Kernels: set(), Workers: threads, Chunk: chunk}
			switch precision {
			case "bf16":
				o.Precision = engine.BF16
			case "f32":
				o.Precision = engine.F32
			default:
				return usage("--precision %q, want bf16 or f32", precision)
			}
			for _, n := range contexts {
				if n < 0 {
					return usage("--context %d, want 0 or more", n)
				}
			}
			b := &bench{screen: screen, memory: memory, contexts: contexts, c: c, prompt: prompt, tokens: tokens, sessions: sessions, runs: runs}
			r, err := b.run(args[0], o)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), r)
			}
			return r.print(c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.IntVarP(&prompt, "prompt", "p", 512, "tokens of a prompt; 0 leaves prefill out")
	f.IntVarP(&tokens, "tokens", "n", 64, "tokens to decode; 0 leaves decode out")
	f.IntVar(&sessions, "sessions", 0, "decode so many sessions together, too")
	f.IntSliceVar(&contexts, "context", nil, "time a token after a past of so many, too: 1024,8192,32768")
	f.BoolVar(&screen, "screen", false, "decode with a screened unembedding (see generate), too")
	memory.add(c)
	f.IntVar(&runs, "runs", 3, "runs that count, of each")
	f.IntVar(&threads, "threads", 0, "threads; 0 is one a processor")
	f.IntVar(&chunk, "chunk", 0, "tokens of a pass, at most; 0 is the engine's choice")
	chooseVar(c, &precision, "precision", "bf16", []string{"bf16", "f32"}, "of values between operations")
	set = kernelsVar(c, "set")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&kernels, "kernels", false, "measure the kernels of this machine instead")
	return c
}

type bench struct {
	c                              *cobra.Command
	prompt, tokens, sessions, runs int
	contexts                       []int
	screen                         bool
	memory                         memoryFlags

	m     *engine.Model
	vocab int
	src   *rand.Rand
}

// random returns tokens that are the same in every run of the program.
func (b *bench) random(n int) []uint32 {
	ids := make([]uint32, n)
	for i := range ids {
		ids[i] = uint32(b.src.IntN(b.vocab))
	}
	return ids
}

// bandwidthBytes are read to measure bandwidth: more than caches hold.
const bandwidthBytes = 1 << 28

func (b *bench) run(dir string, o engine.Options) (*benchReport, error) {
	ctx := b.c.Context()
	start := time.Now()
	ck, err := gptoss.OpenCheckpoint(dir)
	if err != nil {
		return nil, err
	}
	defer ck.Close()
	if b.m, err = ck.Engine(ctx, o); err != nil {
		return nil, err
	}
	defer b.m.Close()
	sayPortable(b.c.ErrOrStderr(), b.m.Kernels())
	if err := b.memory.apply(ctx, b.m); err != nil {
		return nil, err
	}
	b.vocab, b.src = ck.Config.Vocab, rand.New(rand.NewPCG(1, 2))
	r := &benchReport{
		Kernels: b.m.Kernels(), Precision: b.m.Precision().String(), Threads: b.m.Workers(),
		Bytes: b.m.TokenBytes(), Load: time.Since(start).Seconds(),
		Prefill: speed{Tokens: b.prompt, Rates: []float64{}}, Decode: speed{Tokens: b.tokens, Rates: []float64{}},
	}
	s := b.m.NewSession()
	if _, err := s.Next(ctx, b.random(ttftPrompt)); err != nil {
		return nil, err
	}
	r.TTFT = time.Since(start).Seconds()
	s.Close()

	read, free := huge.Alloc(bandwidthBytes)
	if free != nil {
		defer free()
	}
	for n := copy(read, "ossify"); n < len(read); n *= 2 { // pages that were never written are no memory
		copy(read[n:], read[:n])
	}
	huge.Settle(read)
	var bandwidth speed
	measure := func() {
		bandwidth.Rates = append(bandwidth.Rates, o.Kernels.ReadBandwidth(read, b.m.Workers())/1e9)
	}
	measure()
	bandwidth.Rates = nil
	// The first round, which does not count, brings the weights into memory.
	for i := range b.runs + 1 {
		measure()
		if b.prompt > 0 {
			s := b.m.NewSession()
			rate, err := b.timed(b.prompt, func() error {
				_, err := s.Next(ctx, b.random(b.prompt))
				return err
			})
			if err != nil {
				return nil, err
			}
			r.Cache = max(r.Cache, s.CacheBytes())
			s.Close()
			if i > 0 {
				r.Prefill.Rates = append(r.Prefill.Rates, rate)
			}
		}
		measure()
		if b.tokens > 0 {
			rate, err := b.decode(1)
			if err != nil {
				return nil, err
			}
			if i > 0 {
				r.Decode.Rates = append(r.Decode.Rates, rate)
			}
		}
		if b.tokens > 0 && b.screen {
			rate, err := b.screened()
			if err != nil {
				return nil, err
			}
			if i > 0 {
				if r.Screened == nil {
					r.Screened = &speed{Tokens: b.tokens}
				}
				r.Screened.Rates = append(r.Screened.Rates, rate)
			}
		}
		if b.tokens > 0 && b.sessions > 0 {
			rate, err := b.decode(b.sessions)
			if err != nil {
				return nil, err
			}
			if i > 0 {
				if r.Together == nil {
					r.Together = &speed{Tokens: b.tokens, Sessions: b.sessions}
				}
				r.Together.Rates = append(r.Together.Rates, rate)
			}
		}
	}
	for _, n := range b.contexts {
		at, err := b.after(n)
		if err != nil {
			return nil, err
		}
		r.Contexts = append(r.Contexts, at)
	}
	r.RSS = peakRSS()
	r.Bandwidth = bandwidth.median()
	r.Share = r.Decode.median() * float64(r.Bytes) / 1e9 / r.Bandwidth
	return r, nil
}

// timed returns how many of n are done a second.
func (b *bench) timed(n int, do func() error) (float64, error) {
	runtime.GC()
	start := time.Now()
	err := do()
	return float64(n) / time.Since(start).Seconds(), err
}

// decode returns how many tokens a second sessions yield together, each its own
// most likely ones after a short prompt.
func (b *bench) decode(sessions int) (float64, error) {
	ctx := b.c.Context()
	parts := make([]engine.Part, sessions)
	for i := range parts {
		parts[i] = engine.Part{Session: b.m.NewSession(), Tokens: b.random(ttftPrompt), Logits: 1}
		defer parts[i].Session.Close()
	}
	step := func() error {
		logits, err := b.m.Step(ctx, parts)
		if err != nil {
			return err
		}
		for i := range parts {
			best := 0
			for j, v := range logits[i] {
				if v > logits[i][best] {
					best = j
				}
			}
			parts[i].Tokens = []uint32{uint32(best)}
		}
		return nil
	}
	if err := step(); err != nil {
		return 0, err
	}
	return b.timed(b.tokens*sessions, func() error {
		for range b.tokens {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
}

// screened is decode of one session by its largest logits, for which the model
// is given a screen.
func (b *bench) screened() (float64, error) {
	ctx := b.c.Context()
	if err := b.m.Screen(ctx); err != nil {
		return 0, err
	}
	s := b.m.NewSession()
	defer s.Close()
	next := b.random(ttftPrompt)
	step := func() error {
		top, err := s.NextTop(ctx, next, 1)
		if err != nil {
			return err
		}
		next = []uint32{top[0].ID}
		return nil
	}
	if err := step(); err != nil {
		return 0, err
	}
	return b.timed(b.tokens, func() error {
		for range b.tokens {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
}

// after returns how long a token takes after a past of n: the median of runs.
func (b *bench) after(n int) (at, error) {
	s := b.m.NewSession()
	defer s.Close()
	if err := s.Fill(n); err != nil {
		return at{}, err
	}
	var times []float64
	for i := range b.runs + 1 {
		rate, err := b.timed(1, func() error {
			_, err := s.Next(b.c.Context(), b.random(1))
			return err
		})
		if err != nil {
			return at{}, err
		}
		if i > 0 {
			times = append(times, 1/rate)
		}
	}
	return at{n, speed{Rates: times}.median(), s.CacheBytes()}, nil
}

func (r *benchReport) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, a ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, a...)) }
	rate := func(s speed) string {
		return fmt.Sprintf("%.2f tok/s (%.2f to %.2f)", s.median(), slices.Min(s.Rates), slices.Max(s.Rates))
	}
	row("kernels", "%s, %s, %d threads", r.Kernels, r.Precision, r.Threads)
	row("bandwidth", "%.1f GB/s", r.Bandwidth)
	if len(r.Prefill.Rates) > 0 {
		row("prefill", "%d tokens: %s", r.Prefill.Tokens, rate(r.Prefill))
	}
	if len(r.Decode.Rates) > 0 {
		row("decode", "%d tokens: %s", r.Decode.Tokens, rate(r.Decode))
		row("", "%.3f GB a token: %.0f%% of the bandwidth", float64(r.Bytes)/1e9, 100*r.Share)
	}
	if r.Screened != nil {
		row("screened", "%d tokens: %s, %.2f times decode", r.Screened.Tokens, rate(*r.Screened), r.Screened.median()/r.Decode.median())
	}
	if r.Together != nil {
		row("together", "%d sessions: %s, %.2f times one", r.Together.Sessions, rate(*r.Together), r.Together.median()/r.Decode.median())
	}
	for _, c := range r.Contexts {
		row("", "after %d positions, %.3f GB: %.1f ms a token", c.Positions, float64(c.Cache)/1e9, 1000*c.Seconds)
	}
	row("first token", "%.2f s, of which %.2f to load", r.TTFT, r.Load)
	row("memory", "%.2f GB at most, mapped weights included; %.3f GB of keys and values", float64(r.RSS)/1e9, float64(r.Cache)/1e9)
	return w.Flush()
}

// A kernelTime is how fast one product of a set is, on one thread.
type kernelTime struct {
	Set        string  `json:"set"`
	Weights    string  `json:"weights"`
	Activation string  `json:"activations"`
	Rows       int     `json:"rows"` // of activations
	GBs        float64 `json:"gb_s"` // of weights
	GFLOPs     float64 `json:"gflop_s"`
}

// benchKernels times each set's products, with weights that come from memory.
func benchKernels(c *cobra.Command, asJSON bool) error {
	shape, err := gptoss.Preset("20b")
	if err != nil {
		return err
	}
	cols, rows := shape.Dim, 2*shape.Inner // of an expert's first matrix
	src := rand.New(rand.NewPCG(3, 4))
	bytes := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(src.Uint32())
		}
		return b
	}
	weights := []kernel.Matrix{
		{Kind: kernel.BF16, Rows: rows, Cols: cols, Data: bytes(2 * rows * cols)},
		{Kind: kernel.MXFP4, Rows: rows, Cols: cols, Data: bytes(rows * cols / 2), Scales: bytes(rows * cols / 32)},
	}
	for i := range weights[0].Data { // numbers near 1: bfloat16 exponents in the high byte
		if i%2 == 1 {
			weights[0].Data[i] = weights[0].Data[i]&0x80 | 0x3f
		}
	}
	for i := range weights[1].Scales {
		weights[1].Scales[i] = 120 + weights[1].Scales[i]%8
	}
	var all []kernelTime
	for _, set := range kernel.All() {
		for _, w := range weights {
			for _, half := range []bool{true, false} {
				for _, n := range []int{1, 8, 64, 512} {
					if err := c.Context().Err(); err != nil {
						return err
					}
					k := kernelTime{Set: set.Name, Weights: w.Kind.String(), Activation: map[bool]string{true: "BF16", false: "F32"}[half], Rows: n}
					part := w
					if set.Name == "portable" { // a thousandth of the speed
						part.Rows, n = 16, min(n, 8)
						if k.Rows > n {
							continue
						}
					}
					seconds := timeKernel(set, part, half, n)
					k.GBs = float64(part.Rows*part.RowBytes()) / seconds / 1e9
					k.GFLOPs = 2 * float64(part.Rows) * float64(cols) * float64(n) / seconds / 1e9
					all = append(all, k)
				}
			}
		}
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), all)
	}
	t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "set\tweights\tactivations\trows\tGB/s\tGFLOP/s")
	for _, k := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%.1f\t%.1f\n", k.Set, k.Weights, k.Activation, k.Rows, k.GBs, k.GFLOPs)
	}
	return t.Flush()
}

// timeKernel returns the seconds of one product with n rows: the median of
// five, after one that does not count.
func timeKernel(set kernel.Set, w kernel.Matrix, half bool, n int) float64 {
	x := make([]float32, n*w.Cols)
	for i := range x {
		x[i] = float32(i%251)/125 - 1
	}
	var packed kernel.Activations
	var s kernel.Scratch
	set.Pack(&packed, w.Kind, half, x, n, w.Cols, w.Cols)
	y := make([]float32, n*w.Rows)
	j := kernel.Job{W: w, Hi: w.Rows, X: &packed, Y: y, Stride: w.Rows}
	var times []time.Duration
	for i := range 6 {
		start := time.Now()
		set.Multiply(&j, &s)
		if i > 0 {
			times = append(times, time.Since(start))
		}
	}
	slices.SortFunc(times, func(a, b time.Duration) int { return cmp.Compare(a, b) })
	return times[len(times)/2].Seconds()
}
