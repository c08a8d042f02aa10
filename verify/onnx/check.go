package onnx

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"ossify/engine"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/internal/fileset"
	file "ossify/onnx"
	"ossify/onnx/ort"
	"ossify/oracle"
	"ossify/parity"
	"ossify/verify"
	"ossify/weight"
)

// A Request says how an ONNX model is judged.
type Request struct {
	Model     string         // path of the file; anyone's
	Golden    *verify.Golden // of PyTorch; may be nil
	Tokens    []uint32       // the sequence, if there is no golden
	Positions []int          // rows that are judged, rising, if there is no golden; none is all
	Decode    int            // tokens at the end that are processed one by one

	// Brief leaves out all but the model's own run: PyTorch and the engine are not
	// judged again, there are no chunks of other sizes and no batch. The model
	// must show its stages.
	Brief   bool
	Routing *verify.Routing // of Brief and a golden: the run is judged beside the reference's too; may be nil

	// Twin lets a model of ossify's own making that shows no stage be judged by
	// a twin that does, exported anew from the checkpoint.
	Twin bool

	Load     ort.Options // Want is not looked at
	Engine   engine.Options
	Progress func(what string) // may be nil
}

// A Report says how an ONNX model is judged.
//
// Every program runs from the tokens alone. Then the oracle says what each of
// its stages may be, given the program's own values of the stages before it:
// what is outside is the error of that stage alone.
type Report struct {
	parity.Report
	Twin     bool      `json:"twin"`               // the stages are of a traced export of the same checkpoint
	Likeness *Likeness `json:"likeness,omitempty"` // if something fails
}

// near is how far logits and caches of two programs in float32 may be apart, in
// units of the rms: errors of summation, 1e-6 a layer, through layers that may
// each double them.
const near = 1e-4

// arithmetic is that of ONNX Runtime on a model that ossify exported: angles by
// tables, and a Sigmoid that is a rational function, off by 2^-23 at most and 0
// below −18, where the value is below 1.6e-8.
func arithmetic() oracle.Arithmetic {
	return oracle.Arithmetic{Tables: true, Sigmoid: 0x1p-22}
}

// Column names of the report.
const (
	columnTorch  = "pytorch"
	columnEngine = "engine"
	columnONNX   = "onnx"
	columnCached = "cached"
)

// check is a comparison under way.
type check struct {
	q         Request
	c         *gptoss.Checkpoint
	rt        *ort.Runtime
	stages    []gptoss.Stage
	tokens    []uint32
	positions []int
	logits    gptoss.Stage // the last stage
	narrow    string       // type of 16 bits that the model gives its logits or cache in; else empty
	also      verify.See   // is shown every row of a run; may be nil
	r         *Report
}

// Check judges a model in ONNX Runtime by the checkpoint c.
func Check(ctx context.Context, rt *ort.Runtime, c *gptoss.Checkpoint, q Request) (*Report, error) {
	v, err := newCheck(rt, c, q)
	if err != nil {
		return nil, err
	}
	m, err := file.Read(q.Model)
	if err != nil {
		return nil, err
	}
	sum := m.Summary()
	if err := sum.Loadable(); err != nil {
		return nil, fmt.Errorf("verify: %s: %w", filepath.Base(q.Model), err)
	}
	producer := sum.Producer
	if producer == "" {
		producer = "an unnamed producer"
	}
	v.fact("model", "%s, by %.100q, in ONNX Runtime %s", q.Model, producer, rt.Version())
	v.fact("tokens", "%d: %d at once, then %d one by one; judged at %d positions", len(v.tokens), len(v.tokens)-q.Decode, q.Decode, len(v.positions))
	if q.Golden != nil {
		v.fact("golden", "%s, %v", filepath.Base(q.Golden.Path()), q.Golden.Precision)
	}
	v.fact("to pass", "every element of a stage is the rounding of a number within its bounds (docs/parity.md); logits and cache: max|Δ| at most %g of the rms", near)
	if err := v.programs(ctx, sum); err != nil {
		return nil, err
	}
	return v.r, nil
}

func (v *check) fact(name, format string, args ...any) {
	v.r.Title = append(v.r.Title, parity.Fact{Name: name, Text: fmt.Sprintf(format, args...)})
}

func newCheck(rt *ort.Runtime, c *gptoss.Checkpoint, q Request) (*check, error) {
	v := &check{q: q, c: c, rt: rt, stages: gptoss.Stages(c.Graph), tokens: q.Tokens, positions: q.Positions, r: &Report{}}
	v.logits = v.stages[len(v.stages)-1]
	if q.Golden != nil && q.Golden.First > 0 {
		return nil, fmt.Errorf("verify: a golden that begins at position %d, want 0: a model's cache begins there", q.Golden.First)
	}
	if q.Golden != nil {
		v.tokens, v.positions = q.Golden.Tokens(), q.Golden.Positions()
	}
	if len(v.positions) == 0 {
		v.positions = parity.UpTo(len(v.tokens))
	}
	for i, id := range v.tokens {
		if int64(id) >= int64(c.Config.Vocab) {
			return nil, fmt.Errorf("verify: token %d of %d is id %d, want below %d", i+1, len(v.tokens), id, c.Config.Vocab)
		}
	}
	if q.Decode < 0 || len(v.tokens) <= q.Decode {
		return nil, fmt.Errorf("verify: %d tokens, want more than the %d that are decoded one by one", len(v.tokens), q.Decode)
	}
	return v, nil
}

func (v *check) say(format string, args ...any) {
	if v.q.Progress != nil {
		v.q.Progress(fmt.Sprintf(format, args...))
	}
}

// programs runs them all and judges.
func (v *check) programs(ctx context.Context, sum *file.Summary) error {
	if v.q.Brief {
		return v.brief(ctx, sum)
	}
	v.say("%s", v.q.Model)
	lean, err := v.open(ctx, v.q.Model, sum, false)
	if err != nil {
		return err
	}
	defer lean.s.Close()

	if t := v.q.Golden; t != nil {
		v.say("%s", columnTorch)
		if err := v.torch(ctx, t); err != nil {
			return err
		}
	}
	v.say("%s", columnEngine)
	ours, err := v.engine(ctx, v.c.Graph, v.c.Weights, nil)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("ossify's engine in f32, %d tokens at once, then %d one by one", len(v.tokens)-v.q.Decode, v.q.Decode)
	if err := v.column(ctx, columnEngine, what, ours, oracle.Arithmetic{}); err != nil {
		return err
	}

	own, err := v.traced(ctx, sum)
	if err != nil {
		return err
	}

	v.say("%s, prefill and decode", v.q.Model)
	r, err := lean.run(ctx, v, v.calls(1<<30))
	if err != nil {
		return err
	}
	beside, name := own, "the model with its stages shown"
	if own == nil {
		beside, name = ours, "the engine"
	}
	v.near("logits, as of "+name, v.logitsAt(beside, v.positions, r.at), r.stages[v.logits.Name])
	v.cache(lean, r.state, beside)
	if err := v.splits(ctx, lean, r); err != nil {
		return err
	}
	if made(sum) { // attention kernels of others take no padding
		if err := v.batch(ctx, lean); err != nil {
			return err
		}
	}
	if t := v.q.Golden; t != nil {
		d := parity.Differ(v.logitsAt(t.Values(), v.positions, r.at), r.stages[v.logits.Name])
		same, rows := parity.SameTop(v.logitsAt(t.Values(), v.positions, r.at), r.stages[v.logits.Name], v.c.Config.Vocab)
		v.r.Facts = append(v.r.Facts,
			parity.Fact{Name: "same top token, model and pytorch", Text: fmt.Sprintf("%d of %d rows", same, rows)},
			parity.Fact{Name: "max|Δ| of the logits, model and pytorch", Text: fmt.Sprintf("%.2g of their rms", d.Relative(d.Max))})
	}
	v.r.Judge()
	if v.r.Verdict == parity.Pass {
		return nil
	}
	if err := v.diagnose(ctx, own, r); err != nil {
		return err
	}
	v.r.Remark = v.r.Likeness.String()
	if v.r.Likeness.Fault != "" {
		v.r.Verdict = parity.Fail
	}
	return nil
}

// brief judges the model's own run, and nothing else.
func (v *check) brief(ctx context.Context, sum *file.Summary) error {
	if !v.shows(sum) {
		return fmt.Errorf("verify: %s: does not show every stage, want an export with --trace", filepath.Base(v.q.Model))
	}
	v.say("%s, every stage", v.q.Model)
	m, err := v.open(ctx, v.q.Model, sum, true)
	if err != nil {
		return err
	}
	defer m.s.Close()
	var by *verify.Beside
	if v.q.Routing != nil && v.q.Golden != nil {
		by = verify.NewBeside(v.q.Routing, v.q.Golden)
		v.also = by.See
	}
	r, err := m.run(ctx, v, v.calls(1<<30))
	if err != nil {
		return err
	}
	v.say("oracle, bounds of %d rows", len(v.positions))
	if err := v.column(ctx, columnONNX, "the model, from its own values", r.stages, arithmetic()); err != nil {
		return err
	}
	v.cache(m, r.state, r.stages)
	if by != nil {
		if err := by.Judge(&v.r.Report, columnONNX); err != nil {
			return err
		}
	}
	v.r.Judge()
	return nil
}

// torch judges the golden's own values, in its own precision.
func (v *check) torch(ctx context.Context, t *verify.Golden) error {
	b, err := verify.NewBounds(ctx, v.c.Graph, v.c.Weights, t.Sequence(), t.Judged(), t.Within(), t.Values(), oracle.Arithmetic{BF16: t.Precision == engine.BF16})
	if err != nil {
		return err
	}
	c := &parity.Column{Name: columnTorch, What: fmt.Sprintf("the reference in %v, from its own values", t.Precision)}
	v.r.Columns = append(v.r.Columns, c)
	if v.r.Exceptions, err = verify.JudgeReference(ctx, v.c.Graph, v.c.Weights, t, b, c); err != nil {
		return err
	}
	v.ties(c)
	return nil
}

func (v *check) ties(c *parity.Column) {
	for _, s := range c.Stages {
		if s.Choice != nil {
			v.r.Ties = append(v.r.Ties, s.Choice.Ties...)
		}
	}
}

// column judges each stage of a program by its own values before it.
func (v *check) column(ctx context.Context, name, what string, own parity.Run, a oracle.Arithmetic) error {
	c := &parity.Column{Name: name, What: what}
	v.r.Columns = append(v.r.Columns, c)
	b, err := verify.NewBounds(ctx, v.c.Graph, v.c.Weights, verify.Sequence{Tokens: v.tokens}, v.positions, nil, own, a)
	if err != nil {
		return err
	}
	if err := b.JudgeAll(own, false, c.Add); err != nil {
		return err
	}
	v.ties(c)
	v.r.Edges, err = verify.Edges(v.c.Graph, v.c.Weights, v.positions, own) // of the last program
	return err
}

// made reports whether ossify made a model, by what the model says.
func made(sum *file.Summary) bool { return strings.HasPrefix(sum.Producer, "ossify") }

// options says how a model is loaded. Others' are loaded as their users do:
// with packed weights kernels round in other places, MatMulNBits to int8.
func (v *check) options(sum *file.Summary) ort.Options {
	o := v.q.Load
	if !made(sum) {
		o.Fold, o.Prepack = true, true
	}
	return o
}

// engine runs g on the engine in f32 and keeps the wanted stages, or all.
func (v *check) engine(ctx context.Context, g *graph.Graph, w *weight.Set, wanted func(string) bool) (parity.Run, error) {
	o := v.q.Engine
	o.Precision = engine.F32
	s, err := verify.Engine(g, w, o)
	if err != nil {
		return nil, err
	}
	k := verify.NewKeeper(v.stages, v.positions, nil)
	if wanted == nil {
		wanted = k.Knows
	}
	return k.Run, s.Free(ctx, v.tokens, verify.Steps{Chunk: len(v.tokens), Decode: v.q.Decode}, wanted, k.See)
}

// traced judges the stages of a run of the model, or of a twin if the model is
// ossify's and shows none, and returns them; nil if there is no way to see them.
func (v *check) traced(ctx context.Context, sum *file.Summary) (parity.Run, error) {
	path := v.q.Model
	if !v.shows(sum) {
		if !made(sum) || !v.q.Twin {
			return nil, nil
		}
		v.r.Twin = true
		dir, err := fileset.TempDir("ossify-twin")
		if err != nil {
			return nil, err
		}
		defer dir.Remove()
		v.say("a twin of %s that shows its stages", v.q.Model)
		o, err := file.OptionsOf(sum)
		if err != nil {
			return nil, fmt.Errorf("%w (%s)", err, v.q.Model)
		}
		if path, sum, err = v.export(ctx, v.c.Graph, v.c.Weights, o, dir.Path()); err != nil {
			return nil, err
		}
	}
	m, err := v.open(ctx, path, sum, true)
	if err != nil {
		return nil, err
	}
	defer m.s.Close()
	v.say("%s, every stage", path)
	r, err := m.run(ctx, v, v.calls(1<<30))
	if err != nil {
		return nil, err
	}
	what := "the model, from its own values"
	if v.r.Twin {
		what = "a twin of the model, exported from the same checkpoint with every stage as an output; the model itself is compared with it below"
	}
	if err := v.column(ctx, columnONNX, what, r.stages, arithmetic()); err != nil {
		return nil, err
	}
	if v.q.Golden != nil && m.d.Layers() > 0 {
		err = v.cached(ctx, m, nil, 0)
	}
	return r.stages, err
}

// shows reports whether every stage is an output.
func (v *check) shows(sum *file.Summary) bool {
	for _, n := range v.stages {
		if !slices.ContainsFunc(sum.Outputs, func(p file.Port) bool { return p.Name == n.Name }) {
			return false
		}
	}
	return true
}

// export writes a traced model of g.
func (v *check) export(ctx context.Context, g *graph.Graph, w *weight.Set, o file.Options, dir string) (string, *file.Summary, error) {
	o.Trace, o.Inline = true, !v.q.Load.Operators // which take the place of functions
	if _, err := file.Export(ctx, g, w, o, dir); err != nil {
		return "", nil, err
	}
	path := filepath.Join(dir, file.ModelFile)
	m, err := file.Read(path)
	if err != nil {
		return "", nil, err
	}
	return path, m.Summary(), nil
}

// near adds a comparison of values. Those that went through 16 bits are off by
// more than any bound that would find a fault: they are not judged, unless they
// look like one.
func (v *check) near(name string, want, got []float64) {
	v.r.Checks = append(v.r.Checks, v.narrowed(parity.CheckNear(name, near, want, got)))
}

func (v *check) narrowed(c parity.Check) parity.Check {
	if c.Verdict == parity.Fail && v.narrow != "" && c.Max > 0 {
		c.Verdict, c.Why = parity.NotJudged, fmt.Sprintf("%s, in a model of %s", c.Why, v.narrow)
	}
	return c
}
