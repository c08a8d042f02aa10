package lower

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"ossify/graph"
	"ossify/onnx/wire"
)

// A Target is a set of operators that a graph is lowered to, and what is
// particular to it. It is a value: to add one, fill in another.
type Target struct {
	Name  string        // on the command line, and in the model's metadata
	IR    int64         // version of the format
	Opset int64         // version of the standard's operators
	Float wire.DataType // type of arithmetic, inputs and outputs

	// Strip is how many values of an expert's matrix are decoded at a time, at
	// most.
	Strip int

	// PlainLookup decodes experts with Gather, which in ONNX Runtime takes five
	// times as long, for runtimes whose GatherElements takes small tables only:
	// onnx.reference.
	PlainLookup bool

	cases map[graph.Op]func(*lowering, *graph.Node)
}

// DefaultStrip is the [Target.Strip] of all targets: 2 MiB of float32, near the
// caches of today's processors.
const DefaultStrip = 1 << 19

// Targets lists the targets.
func Targets() []Target { return []Target{Portable()} }

// Portable uses the standard's own operators, and float32 arithmetic.
func Portable() Target {
	return Target{Name: "portable", IR: 10, Opset: 21, Float: wire.Float, Strip: DefaultStrip, cases: map[graph.Op]func(*lowering, *graph.Node){
		graph.Tokens:       (*lowering).tokens,
		graph.Gather:       (*lowering).gather,
		graph.RMSNorm:      (*lowering).rmsNorm,
		graph.Linear:       (*lowering).linear,
		graph.Columns:      (*lowering).columns,
		graph.Rotate:       (*lowering).rotate,
		graph.Attend:       (*lowering).attend,
		graph.TopK:         (*lowering).topK,
		graph.Pick:         (*lowering).pick,
		graph.Softmax:      (*lowering).softmax,
		graph.ExpertLinear: (*lowering).expertLinear,
		graph.Every:        (*lowering).every,
		graph.Clamp:        (*lowering).clamp,
		graph.Affine:       (*lowering).affine,
		graph.Sigmoid:      func(l *lowering, n *graph.Node) { l.Result("Sigmoid", l.in(n, 0)) },
		graph.Mul:          func(l *lowering, n *graph.Node) { l.Result("Mul", l.in(n, 0), l.in(n, 1)) },
		graph.Add:          func(l *lowering, n *graph.Node) { l.Result("Add", l.in(n, 0), l.in(n, 1)) },
		graph.Mix:          (*lowering).mix,
	}}
}

// String returns the target's name, and whatever is not its default: what
// [ParseTarget] reads.
func (t Target) String() string {
	s := t.Name
	if t.Strip != DefaultStrip {
		s += fmt.Sprintf(",strip=%d", t.Strip)
	}
	if t.PlainLookup {
		s += ",plain-lookup"
	}
	return s
}

// ParseTarget reads what [Target.String] writes.
func ParseTarget(s string) (Target, error) {
	name, options, _ := strings.Cut(s, ",")
	known := map[string]Target{}
	for _, t := range Targets() {
		known[t.Name] = t
	}
	t, ok := known[name]
	if !ok {
		return Target{}, fmt.Errorf("onnx: target %s, want %s", wire.Show(name), strings.Join(slices.Sorted(maps.Keys(known)), " or "))
	}
	for option := range strings.SplitSeq(options, ",") {
		strip, isStrip := strings.CutPrefix(option, "strip=")
		n, err := strconv.Atoi(strip)
		switch {
		case option == "":
		case option == "plain-lookup":
			t.PlainLookup = true
		case isStrip && err == nil && n > 0:
			t.Strip = n
		default:
			return Target{}, fmt.Errorf("onnx: target %s: %s, want strip=N or plain-lookup", wire.Show(name), wire.Show(option))
		}
	}
	return t, nil
}
