package onnx

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"
)

// WriteText writes the model in a form for review and for goldens: functions
// first, a line a node. Constants of up to 8 values are shown, others by type
// and shape.
func (m *Model) WriteText(w io.Writer) error {
	b := &strings.Builder{}
	m.m.text(b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (m *model) text(b *strings.Builder) {
	for _, f := range m.functions {
		fmt.Fprintf(b, "function %s.%s(%s) → %s\n", f.domain, f.name, strings.Join(f.inputs, ", "), strings.Join(f.outputs, ", "))
		nodesText(b, "  ", f.nodes)
		b.WriteByte('\n')
	}
	for _, v := range ports(m.graph.inputs) {
		fmt.Fprintf(b, "input %s %s[%s]\n", v.Name, v.Type, strings.Join(v.Shape, ", "))
	}
	for _, t := range m.graph.initializers {
		fmt.Fprintf(b, "constant %s %s\n", t.name, t.text())
	}
	nodesText(b, "", m.graph.nodes)
	for _, v := range ports(m.graph.outputs) {
		fmt.Fprintf(b, "output %s %s[%s]\n", v.Name, v.Type, strings.Join(v.Shape, ", "))
	}
}

func nodesText(b *strings.Builder, indent string, nodes []*node) {
	for _, n := range nodes {
		op := n.op
		if n.domain != "" {
			op = n.domain + "." + n.op
		}
		fmt.Fprintf(b, "%s%s = %s(%s)", indent, strings.Join(n.outputs, ", "), op, strings.Join(n.inputs, ", "))
		var bodies []*attribute
		for _, a := range n.attributes {
			if a.kind == attrGraph && a.graph != nil {
				bodies = append(bodies, a)
				continue
			}
			fmt.Fprintf(b, " %s=%s", a.name, a.text())
		}
		b.WriteByte('\n')
		for _, a := range bodies {
			var in, out []string
			for _, v := range a.graph.inputs {
				in = append(in, v.name)
			}
			for _, v := range a.graph.outputs {
				out = append(out, v.name)
			}
			fmt.Fprintf(b, "%s  %s(%s) → %s\n", indent, a.name, strings.Join(in, ", "), strings.Join(out, ", "))
			nodesText(b, indent+"    ", a.graph.nodes)
		}
	}
}

func (a *attribute) text() string {
	switch a.kind {
	case attrFloat:
		return fmt.Sprint(a.float)
	case attrInt:
		return fmt.Sprint(a.int)
	case attrString:
		return show(string(a.string))
	case attrInts:
		return fmt.Sprint(a.ints)
	case attrTensor:
		if a.tensor != nil {
			return a.tensor.text()
		}
	}
	return fmt.Sprintf("kind %d", a.kind)
}

// text shows small constants of the types used here.
func (t *tensor) text() string {
	n, err := t.bytes()
	if err != nil {
		return "invalid"
	}
	var values []string
	if len(t.raw) > 0 && int64(len(t.raw)) == n {
		switch t.elem {
		case typeInt64:
			for b := t.raw; len(b) > 0 && len(values) <= 8; b = b[8:] {
				values = append(values, fmt.Sprint(int64(binary.LittleEndian.Uint64(b))))
			}
		case typeInt32:
			for b := t.raw; len(b) > 0 && len(values) <= 8; b = b[4:] {
				values = append(values, fmt.Sprint(int32(binary.LittleEndian.Uint32(b))))
			}
		case typeFloat:
			for b := t.raw; len(b) > 0 && len(values) <= 8; b = b[4:] {
				values = append(values, fmt.Sprint(math.Float32frombits(binary.LittleEndian.Uint32(b))))
			}
		case typeBool:
			for _, b := range t.raw[:min(len(t.raw), 9)] {
				values = append(values, fmt.Sprint(b != 0))
			}
		}
	}
	switch {
	case len(values) == 0 || len(values) > 8:
		return t.describe()
	case len(t.dims) == 0:
		return values[0]
	}
	return "[" + strings.Join(values, " ") + "]"
}
