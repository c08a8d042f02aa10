package onnx

import (
	"fmt"
	"slices"
	"strings"
)

// domain is that of the model's functions.
const domain = "ossify"

// A region is a run of nodes that becomes a call of a function: the nodes of a
// stage, or of a module.
//
// A module is a path whose stages stand together and of which the last has the
// path itself (block.0.attn), or whose last part is a number (block.0), an
// element of a list.
type region struct {
	path     string
	title    string // of the function
	leaf     bool   // a stage
	from, to int    // of lowering.nodes
	children []*region
}

// outline replaces what modules and stages lowered to by calls of functions,
// one for all that are alike, and returns the nodes that are left.
type outline struct {
	l         *lowering
	lastUse   map[string]int // of a value: index in lowering.nodes, or len of it for outputs
	functions []*function
	names     map[string]string // of functions, by their encoding
	taken     map[string]bool
}

func (l *lowering) outline() ([]*node, []*function) {
	o := &outline{l: l, lastUse: map[string]int{}, names: map[string]string{}, taken: map[string]bool{}}
	for i, n := range l.nodes {
		n.reads(func(name string) { o.lastUse[name] = i })
	}
	for _, v := range l.outputs {
		o.lastUse[v.name] = len(l.nodes)
	}
	return o.body(l.regions()), o.functions
}

// reads calls f with every value that n reads, those within its bodies too.
func (n *node) reads(f func(string)) {
	for _, in := range n.inputs {
		f(in)
	}
	for _, a := range n.attributes {
		if a.graph != nil {
			for _, m := range a.graph.nodes {
				m.reads(f)
			}
		}
	}
}

// regions returns the tree of modules and stages.
func (l *lowering) regions() *region {
	g := l.g
	first := make([]int, len(g.Nodes)+1) // of the nodes of a stage
	for i := len(l.owner) - 1; i >= 0; i-- {
		if l.owner[i] >= 0 {
			first[l.owner[i]] = i
		}
	}
	type span struct{ from, to, count int }
	spans := map[string]*span{}
	for i := range g.Nodes {
		for path := g.Nodes[i].Name; path != ""; path = parent(path) {
			s := spans[path]
			if s == nil {
				s = &span{from: i}
				spans[path] = s
			}
			s.to, s.count = i+1, s.count+1
		}
	}
	root := &region{to: len(l.nodes)}
	if len(l.shared) > 0 {
		root.children = append(root.children, &region{title: "Shared", to: len(l.shared)})
	}
	open := []*region{root}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		for len(open) > 1 && open[len(open)-1].to <= first[i] {
			open = open[:len(open)-1]
		}
		enter := func(r *region) {
			in := open[len(open)-1]
			in.children = append(in.children, r)
			open = append(open, r)
		}
		var starting []*region // modules that start here, innermost first
		for path := n.Name; path != ""; path = parent(path) {
			s := spans[path]
			whole := s.from == i && s.to-s.from == s.count && s.count > 1
			if whole && (g.Nodes[s.to-1].Name == path || isNumber(base(path))) {
				starting = append(starting, &region{path: path, title: l.title(path), from: first[s.from], to: first[s.to]})
			}
		}
		for j := len(starting) - 1; j >= 0; j-- {
			enter(starting[j])
		}
		if first[i+1]-first[i] > 1 {
			enter(&region{path: n.Name, title: n.Op.String(), leaf: true, from: first[i], to: first[i+1]})
		}
	}
	return root
}

func parent(path string) string { return path[:max(0, strings.LastIndexByte(path, '.'))] }

func base(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// title names a module: by its path's last word.
func (l *lowering) title(path string) string {
	for isNumber(base(path)) && parent(path) != "" {
		path = parent(path)
	}
	if t, ok := l.opt.Titles[base(path)]; ok {
		return t
	}
	return base(path)
}

// body returns the nodes of r, its children as calls.
func (o *outline) body(r *region) []*node {
	var nodes []*node
	at := r.from
	for _, c := range r.children {
		nodes = append(nodes, o.l.nodes[at:c.from]...)
		nodes = append(nodes, o.call(c))
		at = c.to
	}
	return append(nodes, o.l.nodes[at:r.to]...)
}

// call makes r a function, unless there is one like it, and returns a call.
func (o *outline) call(r *region) *node {
	body := o.body(r)
	call := &node{domain: domain}
	made, seen := map[string]bool{}, map[string]bool{}
	var note func(n *node)
	note = func(n *node) {
		for _, a := range n.attributes {
			if a.graph != nil {
				for _, v := range a.graph.inputs {
					made[v.name] = true
				}
				for _, m := range a.graph.nodes {
					note(m)
				}
			}
		}
		for _, v := range n.outputs {
			made[v] = true
		}
	}
	for _, n := range body {
		note(n)
	}
	for _, n := range body {
		n.reads(func(v string) {
			if v != "" && !made[v] && !seen[v] {
				seen[v] = true
				call.inputs = append(call.inputs, v)
			}
		})
		for _, v := range n.outputs {
			if last, ok := o.lastUse[v]; ok && last >= r.to {
				call.outputs = append(call.outputs, v)
			}
		}
	}

	rename := o.locals(r, made, call.inputs)
	f := &function{domain: domain, opsets: []*opset{{version: opsetVersion}}}
	for _, v := range call.inputs {
		f.inputs = append(f.inputs, rename(v))
	}
	for _, v := range call.outputs {
		f.outputs = append(f.outputs, rename(v))
	}
	calls := false
	for _, n := range body {
		f.nodes = append(f.nodes, n.renamed(rename))
		calls = calls || n.domain == domain
	}
	if calls {
		f.opsets = append(f.opsets, &opset{domain, 1})
	}
	key := string(encode(f))
	name, ok := o.names[key]
	if !ok {
		name = o.unused(r)
		o.names[key], o.taken[name] = name, true
		f.name = name
		o.functions = append(o.functions, f)
	}
	call.op, call.name = name, call.outputs[0]
	return call
}

// unused names a function: the title, or where that is taken by a function
// that differs, title and path.
func (o *outline) unused(r *region) string {
	var words []string
	for _, w := range strings.Split(r.path, ".") {
		if !isNumber(w) {
			words = append(words, w)
		}
	}
	for _, name := range []string{r.title, r.title + "." + strings.Join(words, ".")} {
		if !o.taken[name] {
			return name
		}
	}
	return r.title + "." + r.path // a stage or module of each path is met once
}

// locals returns what values are called inside of r's function: made ones by
// their path below r, others by their role.
func (o *outline) locals(r *region, made map[string]bool, inputs []string) func(string) string {
	short := map[string]string{"": ""}
	taken := map[string]bool{}
	put := func(v, want string) {
		name := want
		for i := 2; taken[name]; i++ {
			name = fmt.Sprint(want, i)
		}
		short[v], taken[name] = name, true
	}
	below := func(v string) (string, bool) {
		if rest, ok := strings.CutPrefix(v, r.path+"."); ok {
			return rest, true
		}
		return strings.CutPrefix(v, r.path+"/")
	}
	var own []string
	for v := range made {
		if rest, ok := below(v); ok {
			short[v], taken[rest] = rest, true
		} else {
			own = append(own, v)
		}
	}
	slices.Sort(own)
	for _, v := range own { // the stage r.path itself, and present values, of which each has its role
		if role, ok := o.l.role[v]; ok {
			put(v, role)
		} else {
			put(v, "y")
		}
	}
	for _, v := range inputs {
		rest, isBelow := below(v)
		switch role, leaf := o.l.role[v], o.l.leafRole[v]; {
		case role != "":
			put(v, role)
		case leaf != "" && r.leaf:
			put(v, leaf)
		case isBelow:
			put(v, rest)
		case leaf != "": // a parameter from elsewhere
			put(v, leaf)
		case strings.HasPrefix(v, "/"):
			put(v, v[1:])
		default:
			put(v, "x")
		}
	}
	return func(v string) string {
		if s, ok := short[v]; ok {
			return s
		}
		return v
	}
}

// renamed returns a copy of n under other names of values.
func (n *node) renamed(rename func(string) string) *node {
	all := func(names []string) []string {
		out := make([]string, len(names))
		for i, v := range names {
			out[i] = rename(v)
		}
		return out
	}
	c := &node{op: n.op, domain: n.domain, inputs: all(n.inputs), outputs: all(n.outputs)}
	if len(c.outputs) > 0 {
		c.name = c.outputs[0]
	}
	for _, a := range n.attributes {
		if a.graph == nil {
			c.attributes = append(c.attributes, a)
			continue
		}
		b := *a
		g := *a.graph
		g.nodes = nil
		for _, m := range a.graph.nodes {
			g.nodes = append(g.nodes, m.renamed(rename))
		}
		values := func(vs []*value) []*value {
			var out []*value
			for _, v := range vs {
				out = append(out, &value{rename(v.name), v.typ})
			}
			return out
		}
		g.inputs, g.outputs = values(g.inputs), values(g.outputs)
		b.graph = &g
		c.attributes = append(c.attributes, &b)
	}
	return c
}
