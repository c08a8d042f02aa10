package onnx

import (
	"fmt"
	"slices"
	"strings"

	"ossify/onnx/wire"
)

// A Summary is what is in a model.
type Summary struct {
	IR           int64             `json:"ir"`
	Producer     string            `json:"producer"`
	Opsets       map[string]int64  `json:"opsets"` // by domain; "" is ONNX's own
	Metadata     map[string]string `json:"metadata,omitempty"`
	Inputs       []Port            `json:"inputs"`
	Outputs      []Port            `json:"outputs"`
	Functions    []Function        `json:"functions,omitempty"`
	Nodes        int               `json:"nodes"`     // of the main graph
	Operators    map[string]int64  `json:"operators"` // with functions expanded and bodies included
	Initializers []Initializer     `json:"initializers"`
	Files        []string          `json:"files,omitempty"` // of external data
}

// OutputNames returns the names of the outputs.
func (s *Summary) OutputNames() []string {
	var names []string
	for _, p := range s.Outputs {
		names = append(names, p.Name)
	}
	return names
}

// What a model may have that is to be run, with functions expanded. ossify's own
// of 120b has 10,000 operators in 900 calls of functions. ONNX Runtime expands
// one call after the other, which takes the longer the more it has expanded: a
// chain of 8,192 takes it some ten seconds, twice as many four times as long.
const (
	maxOperators = 1 << 17
	maxCalls     = 1 << 13
)

// Loadable refuses a model that ONNX Runtime would expand for minutes or for
// ever: functions that call each other twice double with each level.
func (s *Summary) Loadable() error {
	var operators, calls int64 // the counts saturate far below what overflows
	for _, n := range s.Operators {
		operators += n
	}
	for _, f := range s.Functions {
		calls += f.Calls
	}
	switch {
	case operators > maxOperators:
		return fmt.Errorf("%d operators with functions expanded, want at most %d", operators, maxOperators)
	case calls > maxCalls:
		return fmt.Errorf("%d calls of functions, want at most %d", calls, maxCalls)
	}
	return nil
}

// A Port is an input or output of a model.
type Port struct {
	Name  string   `json:"name"`
	Type  string   `json:"type"`
	Shape []string `json:"shape"` // sizes, symbols, or ? where neither is given
}

// A Function is a function of a model.
type Function struct {
	Name    string   `json:"name"` // with its domain
	Inputs  []string `json:"inputs"`
	Outputs []string `json:"outputs"`
	Nodes   int      `json:"nodes"`
	Calls   int64    `json:"calls"` // with callers expanded
}

// An Initializer is a constant of a model.
type Initializer struct {
	Name   string  `json:"name"`
	Type   string  `json:"type"`
	Shape  []int64 `json:"shape"`
	Bytes  int64   `json:"bytes"`
	File   string  `json:"file,omitempty"` // of external data
	Offset int64   `json:"offset,omitempty"`
}

// Summary tells what is in the model.
func (m *Model) Summary() *Summary { return summarize(m.m) }

func summarize(m *wire.Model) *Summary {
	s := &Summary{IR: m.IR, Producer: strings.TrimSpace(m.Producer + " " + m.ProducerVersion), Nodes: len(m.Graph.Nodes),
		Opsets: map[string]int64{}, Metadata: map[string]string{}}
	for _, o := range m.Opsets {
		s.Opsets[o.Domain] = o.Version
	}
	for _, e := range m.Metadata {
		s.Metadata[e.Key] = e.Value
	}
	s.Inputs, s.Outputs = ports(m.Graph.Inputs), ports(m.Graph.Outputs)
	s.count(m)
	files := map[string]bool{}
	for _, t := range m.Graph.Initializers {
		n, _ := t.Bytes() // checked by parse
		in := Initializer{Name: t.Name, Type: t.Type.String(), Shape: append([]int64{}, t.Dims...), Bytes: n}
		if t.Location == wire.External {
			p, _ := t.Place()
			in.File, in.Offset = p.File, p.Offset
			if !files[p.File] {
				files[p.File] = true
				s.Files = append(s.Files, p.File)
			}
		}
		s.Initializers = append(s.Initializers, in)
	}
	return s
}

func ports(values []*wire.Value) []Port {
	list := []Port{}
	for _, v := range values {
		elem, dims := v.Describe()
		list = append(list, Port{Name: v.Name, Type: elem, Shape: dims})
	}
	return list
}

// A body is what the nodes of a graph or function do, those of its loops' bodies
// included.
type body struct {
	operators map[string]int // standard and foreign ones, by name
	calls     map[int]int    // of functions, by index in the model
	order     []int          // the keys of calls, as they are met
}

func bodyOf(nodes []*wire.Node, functions map[string]int) *body {
	b := &body{operators: map[string]int{}, calls: map[int]int{}}
	var add func(nodes []*wire.Node)
	add = func(nodes []*wire.Node) {
		for _, n := range nodes {
			if f, ok := functions[n.Domain+"\x00"+n.Op]; ok {
				if b.calls[f] == 0 {
					b.order = append(b.order, f)
				}
				b.calls[f]++
				continue
			}
			name := n.Op
			if n.Domain != "" {
				name = n.Domain + "::" + n.Op
			}
			b.operators[name]++
			for _, a := range n.Attributes {
				for _, g := range append(slices.Clip(a.Graphs), a.Graph) {
					if g != nil {
						add(g.Nodes)
					}
				}
			}
		}
	}
	add(nodes)
	return b
}

// count counts operators with functions expanded, and lists the functions with
// how often each is called, in time linear in the nodes. Functions may call
// each other: callers are counted before what they call, and a call that closes
// a ring counts as nothing.
func (s *Summary) count(m *wire.Model) {
	index := map[string]int{}
	for i, f := range m.Functions {
		index[f.Domain+"\x00"+f.Name] = i
	}
	bodies := make([]*body, len(m.Functions)+1)
	main := len(m.Functions)
	for i, f := range m.Functions {
		bodies[i] = bodyOf(f.Nodes, index)
	}
	bodies[main] = bodyOf(m.Graph.Nodes, index)

	// Depth first, without recursion: a chain may be as long as the file.
	const (
		met  = 1 // on the way from main
		done = 2
	)
	state, next := make([]byte, len(bodies)), make([]int, len(bodies))
	var finished []int // what is called before its callers
	ring := map[[2]int]bool{}
	state[main] = met
	for path := []int{main}; len(path) > 0; {
		f := path[len(path)-1]
		if next[f] == len(bodies[f].order) {
			state[f], finished, path = done, append(finished, f), path[:len(path)-1]
			continue
		}
		g := bodies[f].order[next[f]]
		next[f]++
		switch state[g] {
		case 0:
			state[g], path = met, append(path, g)
		case met:
			ring[[2]int{f, g}] = true
		}
	}

	// Counts saturate, as functions that call each other twice double them.
	const most = 1 << 40
	times := func(a, b int64) int64 {
		if a > 0 && b > most/a {
			return most
		}
		return a * b
	}
	called, operators := make([]int64, len(bodies)), map[string]int64{}
	called[main] = 1
	for _, f := range slices.Backward(finished) {
		for _, g := range bodies[f].order {
			if !ring[[2]int{f, g}] {
				called[g] = min(called[g]+times(called[f], int64(bodies[f].calls[g])), most)
			}
		}
		for op, n := range bodies[f].operators {
			operators[op] = min(operators[op]+times(called[f], int64(n)), most)
		}
	}
	s.Operators = operators
	for i, f := range m.Functions {
		s.Functions = append(s.Functions, Function{Name: f.Domain + "::" + f.Name, Inputs: f.Inputs, Outputs: f.Outputs, Nodes: len(f.Nodes), Calls: called[i]})
	}
}
