package verify

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ossify/checkpoint"
	"ossify/engine"
	"ossify/gptoss"
	"ossify/graph"
	"ossify/onnx"
	"ossify/onnx/lower"
	"ossify/onnx/ort"
	"ossify/oracle"
	"ossify/parity"
	"ossify/weight"
)

// An ONNXRequest says how an ONNX model is compared.
type ONNXRequest struct {
	Model     string   // path of the file; anyone's
	Golden    *Golden  // of PyTorch; may be nil
	Tokens    []uint32 // the sequence, if there is no golden
	Positions []int    // rows that are compared, rising; if there is no golden
	Decode    int      // tokens at the end that are processed one by one

	// Twin lets a model of ossify's own making that shows no stage be judged by
	// a twin that does, exported anew from the checkpoint.
	Twin bool

	Load       ort.Options // Want is not looked at
	Engine     engine.Options
	OracleMost float64           // see Options
	Progress   func(what string) // may be nil
}

// An ONNXReport says how an ONNX model compares.
//
// Every program runs freely, from the tokens. Then the oracle computes each of
// its stages in float64 from the program's own values of the stages before it:
// what differs is the error of that stage alone.
type ONNXReport struct {
	Model      string            `json:"model"`
	Producer   string            `json:"producer"`
	Runtime    string            `json:"runtime"`
	Golden     string            `json:"golden,omitempty"`
	Tokens     int               `json:"tokens"`
	Prefill    int               `json:"prefill"` // of Tokens; the rest is decoded one by one
	Positions  int               `json:"positions"`
	Tolerances parity.Tolerances `json:"tolerances"`
	Twin       bool              `json:"twin"`     // the stages are of a traced export of the same checkpoint
	Programs   []*parity.Program `json:"programs"` // columns: pytorch, engine, onnx, where there; only onnx is judged
	Checks     []Check           `json:"checks"`
	First      string            `json:"first_diverging,omitempty"`
	Likeness   *Likeness         `json:"likeness,omitempty"` // if something diverges
	Verdict    parity.Verdict    `json:"verdict"`
}

// A Check is a comparison of two runs.
type Check struct {
	Name    string         `json:"name"`
	Max     float64        `json:"max"` // |Δ|, in units of the rms
	Bound   float64        `json:"bound"`
	Verdict parity.Verdict `json:"verdict"`
	Why     string         `json:"why,omitempty"`
}

// Column names of the report.
const (
	columnTorch  = "pytorch"
	columnEngine = "engine"
	columnONNX   = "onnx"
)

// onnxCheck is a comparison under way.
type onnxCheck struct {
	q         ONNXRequest
	c         *gptoss.Checkpoint
	rt        *ort.Runtime
	tol       parity.Tolerances
	tokens    []uint32
	positions []int
	logits    string // the last stage
	narrow    string // type of 16 bits that the model gives its logits or cache in; else empty
	r         *ONNXReport
}

// ONNX compares a model in ONNX Runtime with the checkpoint c: stage by stage
// if it is traced or ossify's own, the logits and the cache of any.
func ONNX(ctx context.Context, rt *ort.Runtime, c *gptoss.Checkpoint, q ONNXRequest) (*ONNXReport, error) {
	v, err := newONNXCheck(rt, c, q)
	if err != nil {
		return nil, err
	}
	m, err := onnx.Read(q.Model)
	if err != nil {
		return nil, err
	}
	sum := m.Summary()
	if err := sane(sum); err != nil {
		return nil, fmt.Errorf("verify: %s: %w", filepath.Base(q.Model), err)
	}
	v.r.Producer = sum.Producer
	if err := v.programs(ctx, sum); err != nil {
		return nil, err
	}
	return v.r, nil
}

// sane refuses a model that ONNX Runtime would expand for ever: functions that
// call each other twice double with each level. The limit is what it loads in
// some seconds.
func sane(sum *onnx.Summary) error {
	const most = 1 << 17 // ossify's 120b has some 10,000
	total := int64(0)
	for _, n := range sum.Operators {
		total += n
	}
	if total > most {
		return fmt.Errorf("%d operators with functions expanded, want at most %d", total, most)
	}
	return nil
}

func newONNXCheck(rt *ort.Runtime, c *gptoss.Checkpoint, q ONNXRequest) (*onnxCheck, error) {
	v := &onnxCheck{q: q, c: c, rt: rt, tol: parity.Stated(), tokens: q.Tokens, positions: q.Positions, logits: c.Graph.Nodes[c.Graph.Output()].Name}
	if q.Golden != nil {
		v.tokens, v.positions = q.Golden.Tokens(), q.Golden.Positions()
	}
	if len(v.positions) == 0 {
		v.positions = upTo(len(v.tokens))
	}
	for i, id := range v.tokens {
		if int64(id) >= int64(c.Config.Vocab) {
			return nil, fmt.Errorf("verify: token %d of %d is id %d, want below %d", i+1, len(v.tokens), id, c.Config.Vocab)
		}
	}
	if q.Decode < 0 || len(v.tokens) <= q.Decode {
		return nil, fmt.Errorf("verify: %d tokens, want more than the %d that are decoded one by one", len(v.tokens), q.Decode)
	}
	v.r = &ONNXReport{Model: q.Model, Tokens: len(v.tokens), Prefill: len(v.tokens) - q.Decode, Positions: len(v.positions), Tolerances: v.tol}
	if rt != nil {
		v.r.Runtime = "ONNX Runtime " + rt.Version()
	}
	return v, nil
}

func (v *onnxCheck) say(format string, args ...any) {
	if v.q.Progress != nil {
		v.q.Progress(fmt.Sprintf(format, args...))
	}
}

// programs runs them all and compares.
func (v *onnxCheck) programs(ctx context.Context, sum *onnx.Summary) error {
	v.say("%s", v.q.Model)
	lean, err := v.open(ctx, v.q.Model, sum, false)
	if err != nil {
		return err
	}
	defer lean.s.Close()

	if t := v.q.Golden; t != nil {
		v.r.Golden = filepath.Base(t.Path())
		v.say("%s", columnTorch)
		own := parity.Run{}
		for _, n := range t.nodes {
			own[n.Name] = t.stages[n.Name].Float64s()
		}
		if err := v.column(ctx, columnTorch, own); err != nil {
			return err
		}
	}
	v.say("%s", columnEngine)
	exact, err := v.engine(ctx, v.c.Graph, v.c.Weights, nil)
	if err != nil {
		return err
	}
	if err := v.column(ctx, columnEngine, exact); err != nil {
		return err
	}

	own, err := v.traced(ctx, sum)
	if err != nil {
		return err
	}
	if own != nil {
		if err := v.column(ctx, columnONNX, own); err != nil {
			return err
		}
	}

	v.say("%s, prefill and decode", v.q.Model)
	r, err := lean.run(ctx, v, v.calls(1<<30))
	if err != nil {
		return err
	}
	if err := v.free(ctx, exact, r, own); err != nil {
		return err
	}
	v.cache(lean, r.state, exact)
	if err := v.splits(ctx, lean, r); err != nil {
		return err
	}
	if ours(sum) { // attention kernels of others take no padding
		if err := v.batch(ctx, lean); err != nil {
			return err
		}
	}
	v.judge()
	if v.r.Verdict != parity.Fail && v.r.Verdict != parity.NotJudged {
		return nil
	}
	if err := v.diagnose(ctx, own, r); err != nil {
		return err
	}
	if v.r.Likeness.Fault != "" {
		v.r.Verdict = parity.Fail
	}
	return nil
}

// ours reports whether ossify made a model, by what the model says.
func ours(sum *onnx.Summary) bool { return strings.HasPrefix(sum.Producer, "ossify") }

// options says how a model is loaded. Others' are loaded as their users do:
// with packed weights kernels round in other places, MatMulNBits to int8.
func (v *onnxCheck) options(sum *onnx.Summary) ort.Options {
	o := v.q.Load
	if !ours(sum) {
		o.Fold, o.Prepack = true, true
	}
	return o
}

// engine runs g on the engine in f32 and keeps the wanted stages, or all.
func (v *onnxCheck) engine(ctx context.Context, g *graph.Graph, w *weight.Set, wanted func(string) bool) (parity.Run, error) {
	o := v.q.Engine
	o.Precision = engine.F32
	s, err := Engine(g, w, o)
	if err != nil {
		return nil, err
	}
	k := v.keeper()
	if wanted == nil {
		wanted = k.known
	}
	return k.run, s.Free(ctx, v.tokens, wanted, k.see)
}

// A keeper keeps stages at the positions that are compared, and keys and
// values at all.
type keeper struct {
	stages map[string]graph.Node
	keep   map[int]bool
	next   map[string]int
	run    parity.Run
}

func (v *onnxCheck) keeper() *keeper {
	k := &keeper{stages: map[string]graph.Node{}, keep: map[int]bool{}, next: map[string]int{}, run: parity.Run{}}
	for _, n := range Stages(v.c.Graph) {
		k.stages[n.Name] = n
	}
	for _, p := range v.positions {
		k.keep[p] = true
	}
	return k
}

func (k *keeper) known(stage string) bool { _, ok := k.stages[stage]; return ok }

func (k *keeper) see(stage string, at []int, values []float64) error {
	width := k.stages[stage].Shape.Width()
	if len(values) != len(at)*width {
		return fmt.Errorf("verify: %s: %d values for %d rows of %d", stage, len(values), len(at), width)
	}
	for i, p := range at {
		if p != k.next[stage] {
			return fmt.Errorf("verify: %s: row of position %d, want %d", stage, p, k.next[stage])
		}
		k.next[stage]++
		if k.keep[p] || parity.Whole(stage) {
			k.run[stage] = append(k.run[stage], values[i*width:(i+1)*width]...)
		}
	}
	return nil
}

// column compares each stage of a program with what the oracle computes from
// the program's own values.
func (v *onnxCheck) column(ctx context.Context, name string, own parity.Run) error {
	p := &parity.Program{Name: name}
	err := anchored(ctx, v.c.Graph, v.c.Weights, v.tokens, v.positions, own, func(stage string, mine, exact []float64) error {
		if n, _ := v.c.Graph.Find(stage); v.c.Graph.Nodes[n].Op == graph.TopK {
			gate := own[parity.Gate(stage)]
			return p.Add(v.tol.CompareChoice(stage, v.positions, exact, mine, gate))
		}
		return p.Add(v.stage(name, stage, exact, mine))
	})
	if err != nil {
		return err
	}
	v.r.Programs = append(v.r.Programs, p)
	return nil
}

// stage compares a stage with its exact values.
//
// A sum in float32 is off by a part of its terms, and the terms of a channel of
// massive activations are dozens of times those of others. So an element is
// held against the rms of its own channel where that is larger than the
// stage's.
func (v *onnxCheck) stage(program, stage string, exact, mine []float64) parity.StageReport {
	tol := v.tol
	if program == columnONNX && v.sigmoid(stage) {
		// ONNX Runtime's Sigmoid is 0 below −18, where it is 1.5e-8: as near as
		// Stage asks, and more zeros than arithmetic gives.
		tol.Zeros = 1
	}
	s := tol.CompareStage(stage, exact, mine, nil, checkpoint.F32)
	e := *s.Errors
	if s.Verdict != parity.Fail || e.NonFinite > 0 || e.Max <= tol.Stage*e.RMS {
		return s
	}
	i, _ := v.c.Graph.Find(stage)
	width := v.c.Graph.Nodes[i].Shape.Last()
	channel, worst := make([]float64, width), make([]float64, width)
	for i, x := range exact {
		channel[i%width] += x * x
		worst[i%width] = max(worst[i%width], math.Abs(mine[i]-x))
	}
	for j := range channel {
		if rms := math.Sqrt(channel[j] / float64(len(exact)/width)); !(worst[j] <= tol.Stage*max(rms, e.RMS)) {
			return s
		}
	}
	e.Max = 0 // judged
	if s.Verdict, s.Why = tol.Forced(&e, checkpoint.F32); s.Verdict == parity.Pass {
		s.Why = fmt.Sprintf("off by %.2g of the rms in a channel of larger values", s.Errors.Relative(s.Errors.Max))
	}
	return s
}

// sigmoid reports whether a step within a stage is a sigmoid.
func (v *onnxCheck) sigmoid(stage string) bool {
	return slices.ContainsFunc(v.c.Graph.Nodes, func(n graph.Node) bool {
		step, ok := strings.CutPrefix(n.Name, stage+".")
		return n.Op == graph.Sigmoid && ok && !strings.Contains(step, ".")
	})
}

// anchored computes every stage of own in float64 from own's values of the
// stages before it, and shows both at the positions. Stages that own lacks are
// computed from the others.
func anchored(ctx context.Context, g *graph.Graph, w oracle.Weights, tokens []uint32, positions []int, own parity.Run, see func(stage string, mine, exact []float64) error) error {
	for _, n := range g.Nodes {
		mine, ok := own[n.Name]
		if !ok {
			continue
		}
		rows := len(positions)
		if parity.Whole(n.Name) {
			rows = len(tokens)
		}
		if len(mine) != rows*n.Shape.Width() {
			return fmt.Errorf("verify: %s: %d values, want %d rows of %d", n.Name, len(mine), rows, n.Shape.Width())
		}
		if n.Op == graph.TopK { // the oracle takes them for columns
			for i, e := range mine {
				if most := g.Nodes[n.In[0]].Shape.Last(); !(e >= 0 && e < float64(most)) {
					return fmt.Errorf("verify: %s: expert %g at %d, want 0 to %d", n.Name, e, i, most-1)
				}
			}
		}
	}
	ids := make([]uint32, len(positions))
	for i, p := range positions {
		ids[i] = tokens[p]
	}
	run := watch(ctx, nil)
	_, err := oracle.Run(run.ctx, g, w, ids, positions, func(stage string, at []int, exact []float64) []float64 {
		mine, ok := own[stage]
		if !ok || run.err != nil {
			return nil
		}
		rows := mine
		if parity.Whole(stage) {
			rows = parity.At(mine, len(mine)/len(tokens), upTo(len(tokens)), positions)
		}
		if run.err = see(stage, rows, exact); run.err != nil {
			run.cancel()
		}
		return mine
	})
	return run.end(err)
}

// traced returns the stages of a run of the model, or of a twin if the model is
// ossify's and shows none; nil if there is no way to see them.
func (v *onnxCheck) traced(ctx context.Context, sum *onnx.Summary) (parity.Run, error) {
	path := v.q.Model
	if !v.shows(sum) {
		if !ours(sum) || !v.q.Twin {
			return nil, nil
		}
		v.r.Twin = true
		dir, err := os.MkdirTemp("", "ossify-twin-")
		if err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
		defer os.RemoveAll(dir)
		v.say("a twin of %s that shows its stages", v.q.Model)
		target, err := lower.ParseTarget(sum.Metadata[onnx.KeyTarget])
		if err != nil {
			return nil, fmt.Errorf("%w (%s)", err, v.q.Model)
		}
		if path, sum, err = v.export(ctx, v.c.Graph, v.c.Weights, target, dir); err != nil {
			return nil, err
		}
	}
	return v.trace(ctx, path, sum)
}

// shows reports whether every stage is an output.
func (v *onnxCheck) shows(sum *onnx.Summary) bool {
	for _, n := range Stages(v.c.Graph) {
		if !slices.ContainsFunc(sum.Outputs, func(p onnx.Port) bool { return p.Name == n.Name }) {
			return false
		}
	}
	return true
}

// export writes a traced model of g.
func (v *onnxCheck) export(ctx context.Context, g *graph.Graph, w *weight.Set, target lower.Target, dir string) (string, *onnx.Summary, error) {
	if _, err := onnx.Export(ctx, g, w, onnx.Options{Target: target, Trace: true, Inline: true}, dir); err != nil {
		return "", nil, err
	}
	path := filepath.Join(dir, onnx.ModelFile)
	m, err := onnx.Read(path)
	if err != nil {
		return "", nil, err
	}
	return path, m.Summary(), nil
}

// trace runs a model that shows its stages.
func (v *onnxCheck) trace(ctx context.Context, path string, sum *onnx.Summary) (parity.Run, error) {
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
	return r.stages, nil
}

// judge draws the verdict and names the first stage that diverges.
func (v *onnxCheck) judge() {
	r := v.r
	r.Verdict = parity.Pass
	fail := func(stage string) {
		r.Verdict = parity.Fail
		if r.First == "" {
			r.First = stage
		}
	}
	for _, p := range r.Programs {
		p.Verdict = parity.Pass
		if p.First != "" {
			p.Verdict = parity.Fail
			if p.Name == columnONNX {
				fail(p.First)
			}
		}
	}
	for _, c := range r.Checks {
		switch c.Verdict {
		case parity.Fail:
			fail(c.Name)
		case parity.Ambiguous, parity.NotJudged:
			if r.Verdict == parity.Pass {
				r.Verdict = c.Verdict
			}
		}
	}
}

// check adds a comparison of values.
func (v *onnxCheck) check(name string, bound float64, reference, got []float64) *Check {
	v.r.Checks = append(v.r.Checks, v.compared(name, bound, reference, got))
	return &v.r.Checks[len(v.r.Checks)-1]
}

// compared compares values. Those that went through 16 bits are off by more than
// any bound that would find a fault: they are not judged, unless they look like
// one.
func (v *onnxCheck) compared(name string, bound float64, reference, got []float64) Check {
	c := Check{Name: name, Bound: bound, Verdict: parity.Pass}
	if len(reference) != len(got) || len(got) == 0 {
		c.Verdict, c.Why = parity.Fail, fmt.Sprintf("%d values, want %d", len(got), len(reference))
		return c
	}
	e := parity.Measure(reference, got, nil, checkpoint.F32)
	c.Max = e.Relative(e.Max)
	switch {
	case e.NonFinite > 0:
		c.Verdict, c.Why = parity.Fail, fmt.Sprintf("%d values are NaN, or infinite on one side", e.NonFinite)
	case !(e.Max <= bound*e.RMS):
		c.Verdict, c.Why = parity.Fail, fmt.Sprintf("value %d is off by %.3g, rms %.3g", e.Worst, e.Max, e.RMS)
		if v.narrow != "" {
			c.Verdict, c.Why = parity.NotJudged, fmt.Sprintf("%s, in a model of %s", c.Why, v.narrow)
		}
	}
	return c
}
