package graph

import (
	"fmt"
	"io"
	"strings"
)

// String returns the text form: a line a parameter, then a line a node. It is
// meant for review and for goldens; nothing reads it back.
func (g *Graph) String() string {
	var b strings.Builder
	for _, p := range g.Params {
		fmt.Fprintf(&b, "param %s %s %s\n", p.Name, p.Storage, p.Shape)
	}
	for i := range g.Nodes {
		g.writeNode(&b, &g.Nodes[i])
	}
	return b.String()
}

func (g *Graph) writeNode(w io.Writer, n *Node) {
	var args []string
	for _, v := range n.In {
		args = append(args, g.Nodes[v].Name)
	}
	for _, p := range n.Params {
		args = append(args, "@"+g.Params[p].Name)
	}
	fmt.Fprintf(w, "%s %s = %s(%s)%s\n", n.Name, n.Shape, n.Op, strings.Join(args, ", "), n.attributes())
}

func (n *Node) attributes() string {
	switch n.Op {
	case RMSNorm:
		return fmt.Sprintf(" eps=%g", n.Eps)
	case Columns:
		return fmt.Sprintf(" lo=%d n=%d", n.Lo, n.N)
	case Rotate:
		r := n.Rope
		s := fmt.Sprintf(" dim=%d theta=%g factor=%g low=%.17g high=%.17g concentration=%.17g", r.Dim, r.Theta, r.Factor, r.Low, r.High, r.Concentration)
		if r.Adjacent {
			s += " adjacent"
		}
		if r.Slip != 0 {
			s += fmt.Sprintf(" slip=%d at %d", r.Slip, r.SlipAt)
		}
		return s
	case Attend:
		h := n.Heads
		s := fmt.Sprintf(" query=%d kv=%d dim=%d window=%d", h.Query, h.KV, h.Dim, h.Window)
		if h.Delay != 0 {
			s += fmt.Sprintf(" delay=%d", h.Delay)
		}
		return s
	case TopK:
		return fmt.Sprintf(" n=%d", n.N)
	case Every:
		return fmt.Sprintf(" lo=%d", n.Lo)
	case Clamp, Affine:
		return fmt.Sprintf(" a=%g b=%g", n.A, n.B)
	}
	return ""
}

// String writes [T, D].
func (s Shape) String() string {
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = fmt.Sprint(d)
		if d == T {
			parts[i] = "T"
		}
	}
	return "[" + strings.Join(parts, ", ") + "]"
}
