package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// Text writes the model in a form for review and for goldens: functions first,
// a line a node. Constants of up to 8 values are shown, others by type and
// shape.
func (m *Model) Text(b *strings.Builder) {
	for _, f := range m.Functions {
		if f.Doc != "" {
			fmt.Fprintf(b, "// %s\n", f.Doc)
		}
		fmt.Fprintf(b, "function %s.%s(%s) → %s\n", f.Domain, f.Name, strings.Join(f.Inputs, ", "), strings.Join(f.Outputs, ", "))
		nodesText(b, "  ", f.Nodes)
		b.WriteByte('\n')
	}
	fmt.Fprintf(b, "graph %s\n", m.Graph.Name)
	valuesText(b, "input", m.Graph.Inputs)
	for _, t := range m.Graph.Initializers {
		fmt.Fprintf(b, "constant %s %s\n", t.Name, t.text())
	}
	nodesText(b, "", m.Graph.Nodes)
	valuesText(b, "value", m.Graph.Values)
	valuesText(b, "output", m.Graph.Outputs)
}

func valuesText(b *strings.Builder, what string, values []*Value) {
	for _, v := range values {
		elem, dims := v.Describe()
		fmt.Fprintf(b, "%s %s %s[%s]\n", what, v.Name, elem, strings.Join(dims, ", "))
	}
}

func nodesText(b *strings.Builder, indent string, nodes []*Node) {
	for _, n := range nodes {
		op := n.Op
		if n.Domain != "" {
			op = n.Domain + "." + n.Op
		}
		fmt.Fprintf(b, "%s%s = %s(%s)", indent, strings.Join(n.Outputs, ", "), op, strings.Join(n.Inputs, ", "))
		var bodies []*Attribute
		for _, a := range n.Attributes {
			if a.Kind == AttrGraph && a.Graph != nil {
				bodies = append(bodies, a)
				continue
			}
			fmt.Fprintf(b, " %s=%s", a.Name, a.text())
		}
		if len(n.Outputs) > 0 && n.Name != n.Outputs[0] && n.Name != "" {
			fmt.Fprintf(b, " // %s", n.Name)
		}
		b.WriteByte('\n')
		for _, a := range bodies {
			var in, out []string
			for _, v := range a.Graph.Inputs {
				in = append(in, v.Name)
			}
			for _, v := range a.Graph.Outputs {
				out = append(out, v.Name)
			}
			fmt.Fprintf(b, "%s  %s(%s) → %s\n", indent, a.Name, strings.Join(in, ", "), strings.Join(out, ", "))
			nodesText(b, indent+"    ", a.Graph.Nodes)
		}
	}
}

func (a *Attribute) text() string {
	switch a.Kind {
	case AttrFloat:
		return fmt.Sprint(a.Float)
	case AttrInt:
		return fmt.Sprint(a.Int)
	case AttrString:
		return Show(string(a.String))
	case AttrInts:
		return fmt.Sprint(a.Ints)
	case AttrTensor:
		if a.Tensor != nil {
			return a.Tensor.text()
		}
	}
	return fmt.Sprintf("kind %d", a.Kind)
}

// text shows small constants of the types used here.
func (t *Tensor) text() string {
	n, err := t.Bytes()
	if err != nil {
		return "invalid"
	}
	var values []string
	if len(t.Raw) > 0 && int64(len(t.Raw)) == n {
		switch t.Type {
		case Int64:
			for b := t.Raw; len(b) > 0 && len(values) <= 8; b = b[8:] {
				values = append(values, fmt.Sprint(int64(binary.LittleEndian.Uint64(b))))
			}
		case Int32:
			for b := t.Raw; len(b) > 0 && len(values) <= 8; b = b[4:] {
				values = append(values, fmt.Sprint(int32(binary.LittleEndian.Uint32(b))))
			}
		case Float:
			for b := t.Raw; len(b) > 0 && len(values) <= 8; b = b[4:] {
				values = append(values, fmt.Sprint(math.Float32frombits(binary.LittleEndian.Uint32(b))))
			}
		case Bool:
			for _, b := range t.Raw[:min(len(t.Raw), 9)] {
				values = append(values, fmt.Sprint(b != 0))
			}
		}
	}
	switch {
	case len(values) == 0 || len(values) > 8:
		return t.Describe()
	case len(t.Dims) == 0:
		return values[0]
	}
	return "[" + strings.Join(values, " ") + "]"
}
