package lower

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"ossify/graph"
	"ossify/onnx/build"
	"ossify/onnx/wire"
)

// domain is that of the model's functions. Its version rises when a function
// that an operator library may take over changes: version 2 has what package
// ortlib computes.
const (
	domain        = "ossify"
	domainVersion = 2
)

// A region is a run of nodes that becomes a call of a function: the nodes of a
// stage, or of a module.
//
// A module is a path whose stages stand together and of which the last has the
// path itself (block.0.attn), or whose last part is a number (block.0), an
// element of a list.
type region struct {
	path     string
	title    string            // of the function
	doc      string            // of the function
	leaf     bool              // a stage
	attrs    []*wire.Attribute // of the call, for who runs the function as one operator
	from, to int               // of lowering.nodes
	children []*region
}

// An outline makes functions of what modules and stages lowered to, one for all
// that are alike, and calls in their place.
type outline struct {
	l         *lowering
	lastUse   map[string]int // of a stage or a shared value: index in lowering.nodes, or len of it for outputs
	functions []*wire.Function
	names     map[[sha256.Size]byte]string // of functions, by their encoding's hash
	taken     map[string]bool

	// Of the function that is made, kept for the next.
	made, seen map[string]bool
	short      map[string]string // names of values inside
	shortTaken map[string]bool
	copies     copies
	function   wire.Function
	encoder    wire.Encoder
}

// copies are nodes of the function that is made. Few functions are new: the
// others' nodes are overwritten by the next's.
type copies struct {
	nodes []wire.Node
	names []string
}

// node returns an empty node.
func (c *copies) node() *wire.Node {
	if len(c.nodes) == cap(c.nodes) {
		c.nodes = make([]wire.Node, 0, 64)
	}
	c.nodes = append(c.nodes, wire.Node{})
	return &c.nodes[len(c.nodes)-1]
}

// rename returns what values are called instead.
func (c *copies) rename(values []string, name func(string) string) []string {
	n := len(values)
	if len(c.names)+n > cap(c.names) {
		c.names = make([]string, 0, max(n, 256))
	}
	for _, v := range values {
		c.names = append(c.names, name(v))
	}
	return slices.Clip(c.names[len(c.names)-n:])
}

// keep leaves what was returned alone.
func (c *copies) keep() { c.nodes, c.names = c.nodes[len(c.nodes):], c.names[len(c.names):] }

// drop has what was returned since keep returned again.
func (c *copies) drop() { c.nodes, c.names = c.nodes[:0], c.names[:0] }

func (l *lowering) outline() ([]*wire.Node, []*wire.Function) {
	o := &outline{
		l: l, lastUse: map[string]int{}, names: map[[sha256.Size]byte]string{}, taken: map[string]bool{},
		made: map[string]bool{}, seen: map[string]bool{}, short: map[string]string{}, shortTaken: map[string]bool{},
	}
	for i, n := range l.Nodes {
		reads(n, func(name string) {
			if strings.IndexByte(name, '/') <= 0 { // other values of a stage are used within it only
				o.lastUse[name] = i
			}
		})
	}
	for _, v := range l.outputs {
		o.lastUse[v.Name] = len(l.Nodes)
	}
	return o.body(l.regions()), o.functions
}

// reads calls f with every value that n reads, those within its bodies too.
func reads(n *wire.Node, f func(string)) {
	for _, in := range n.Inputs {
		f(in)
	}
	for _, a := range n.Attributes {
		if a.Graph != nil {
			for _, m := range a.Graph.Nodes {
				reads(m, f)
			}
		}
	}
}

// regions returns the tree of modules and stages.
func (l *lowering) regions() *region {
	g := l.g
	first := l.first
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
	root := &region{to: len(l.Nodes)}
	if len(l.Shared) > 0 {
		root.children = append(root.children, &region{title: "Shared", doc: "Values that layers share: cosine and sine of each position, masks, decoding tables.", to: len(l.Shared)})
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
				r := &region{path: path, title: l.title(path), doc: l.moduleDoc(path), from: first[s.from], to: first[s.to]}
				l.gate(r, s.from, s.to)
				starting = append(starting, r)
			}
		}
		for j := len(starting) - 1; j >= 0; j-- {
			enter(starting[j])
		}
		from := first[i] + l.outside[i] // which the function of the stage has not
		if first[i+1]-from > 1 {
			r := &region{path: n.Name, title: operationTitle(n.Op), doc: operationDocs[n.Op], leaf: true, from: from, to: first[i+1]}
			if n.Op == graph.ExpertLinear {
				r.attrs = []*wire.Attribute{build.Int("experts", g.Params[n.Params[0]].Shape[0])}
			}
			enter(r)
		}
	}
	return root
}

// gate has r called by what it computes if it is a gate of experts and nothing
// else, with its constants as attributes of the call. One that is a little
// different, or shows its stages, keeps its own name: by this one a library of
// operators takes it over.
func (l *lowering) gate(r *region, from, to int) {
	in := l.g.Nodes[from].In
	if len(in) == 0 {
		return
	}
	gate, ok := l.g.GateOf(in[0])
	if !ok || l.opt.Trace || len(gate.Nodes) != to-from || int(gate.Nodes[0]) != from || int(gate.Out) != to-1 {
		return
	}
	r.title = "InterleavedSwiGLU"
	r.doc += " x sigmoid(alpha x) (y + 1), where x are the even columns, at most limit, and y the odd ones, between -limit and limit."
	r.attrs = []*wire.Attribute{build.Real("alpha", gate.Alpha), build.Real("limit", gate.Limit)}
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

// moduleDoc says which module a function is.
func (l *lowering) moduleDoc(path string) string {
	words := strings.Split(path, ".")
	for i, w := range words {
		if isNumber(w) {
			words[i] = "N"
		}
	}
	return "Module " + strings.Join(words, ".") + " of the PyTorch model. Its stages are the values that have their paths."
}

// operationTitle names the function of an operation: by the operation, unless
// ONNX or one of its runtimes has an operator of that name. There are tools
// that do not look at the domain.
func operationTitle(op graph.Op) string {
	return cmp.Or(map[graph.Op]string{graph.Gather: "Embedding", graph.TopK: "TopKIndices"}[op], op.String())
}

// operationDocs say what operations do, in terms of their functions' inputs.
var operationDocs = map[graph.Op]string{
	graph.Gather:       "Row x of weight, as float; an id that is negative is an error.",
	graph.RMSNorm:      "x / sqrt(mean(x^2) + eps) * scale, over the last dimension.",
	graph.Linear:       "x times the transpose of weight [columns, width of x], plus bias.",
	graph.Columns:      "A run of columns of x.",
	graph.Rotate:       "Rotary embedding of each head of x.",
	graph.Attend:       "Softmax of scaled query-key products over the visible keys and a sink, times the values. Queries, keys and values are x, x2 and x3; the cache comes in as past and goes out, with the new keys and values, as present.",
	graph.TopK:         "Columns of the largest of x, largest first.",
	graph.Pick:         "The columns of x that y lists.",
	graph.ExpertLinear: "Rows of x2 times the transposed matrices of the experts that x lists, plus their biases. weight.blocks are bytes of two E2M1 codes, weight.scales an E8M0 scale for each 32; a strip of a matrix is decoded at a time.",
	graph.Every:        "Every second column of x.",
	graph.Clamp:        "x between two bounds.",
	graph.Affine:       "a * x + b.",
	graph.Mix:          "The sum of the experts' rows, each times its weight.",
}

// body returns the nodes of r, its children as calls.
func (o *outline) body(r *region) []*wire.Node {
	n := r.to - r.from + len(r.children)
	for _, c := range r.children {
		n -= c.to - c.from
	}
	nodes := make([]*wire.Node, 0, n)
	at := r.from
	for _, c := range r.children {
		nodes = append(nodes, o.l.Nodes[at:c.from]...)
		nodes = append(nodes, o.call(c))
		at = c.to
	}
	return append(nodes, o.l.Nodes[at:r.to]...)
}

// call makes r a function, unless there is one like it, and returns a call.
func (o *outline) call(r *region) *wire.Node {
	body := o.body(r)
	call := &wire.Node{Domain: domain}
	made, seen := o.made, o.seen
	clear(made)
	clear(seen)
	var note func(n *wire.Node)
	note = func(n *wire.Node) {
		for _, a := range n.Attributes {
			if a.Graph != nil {
				for _, v := range a.Graph.Inputs {
					made[v.Name] = true
				}
				for _, m := range a.Graph.Nodes {
					note(m)
				}
			}
		}
		for _, v := range n.Outputs {
			made[v] = true
		}
	}
	for _, n := range body {
		note(n)
	}
	for _, n := range body {
		reads(n, func(v string) {
			if v != "" && !made[v] && !seen[v] {
				seen[v] = true
				call.Inputs = append(call.Inputs, v)
			}
		})
		for _, v := range n.Outputs {
			if last, ok := o.lastUse[v]; ok && last >= r.to {
				call.Outputs = append(call.Outputs, v)
			}
		}
	}

	// What the caches become comes last.
	present := func(v string) bool { return strings.HasPrefix(o.l.role[v], "present_") }
	call.Outputs = slices.Concat(slices.DeleteFunc(slices.Clone(call.Outputs), present),
		slices.DeleteFunc(slices.Clone(call.Outputs), func(v string) bool { return !present(v) }))

	rename := o.locals(r, made, call.Inputs)
	f := &o.function
	*f = wire.Function{Domain: domain, Opsets: o.l.opsets(), Doc: r.doc, Nodes: body,
		Inputs: o.copies.rename(call.Inputs, rename), Outputs: o.copies.rename(call.Outputs, rename)}
	calls := false
	for i, n := range body {
		m := o.copies.renamed(n, rename)
		if below, ok := strings.CutPrefix(n.Name, r.path+"."); ok && n.Domain == domain {
			m.Name = below
		}
		body[i] = m
		calls = calls || n.Domain == domain
	}
	if calls {
		f.Opsets = append(f.Opsets, &wire.Opset{Domain: domain, Version: domainVersion})
	}
	for _, a := range r.attrs {
		f.Attributes = append(f.Attributes, a.Name)
	}
	call.Attributes = r.attrs
	key := sha256.Sum256(o.encoder.Encode(f))
	name, ok := o.names[key]
	if !ok {
		name = o.unused(r)
		o.names[key], o.taken[name] = name, true
		f.Name = name
		o.functions = append(o.functions, new(*f))
		o.copies.keep()
	}
	o.copies.drop()
	call.Op, call.Name = name, cmp.Or(r.path, "shared")
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
	short, taken := o.short, o.shortTaken
	clear(short)
	clear(taken)
	short[""] = ""
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
func (c *copies) renamed(n *wire.Node, rename func(string) string) *wire.Node {
	m := c.node()
	m.Op, m.Domain, m.Inputs, m.Outputs = n.Op, n.Domain, c.rename(n.Inputs, rename), c.rename(n.Outputs, rename)
	if len(m.Outputs) > 0 {
		m.Name = m.Outputs[0]
	}
	if !slices.ContainsFunc(n.Attributes, func(a *wire.Attribute) bool { return a.Graph != nil }) {
		m.Attributes = n.Attributes
		return m
	}
	for _, a := range n.Attributes {
		if a.Graph == nil {
			m.Attributes = append(m.Attributes, a)
			continue
		}
		b := *a
		g := *a.Graph
		g.Nodes = nil
		for _, below := range a.Graph.Nodes {
			g.Nodes = append(g.Nodes, c.renamed(below, rename))
		}
		values := func(vs []*wire.Value) []*wire.Value {
			var out []*wire.Value
			for _, v := range vs {
				out = append(out, &wire.Value{Name: rename(v.Name), Type: v.Type})
			}
			return out
		}
		g.Inputs, g.Outputs = values(g.Inputs), values(g.Outputs)
		b.Graph = &g
		m.Attributes = append(m.Attributes, &b)
	}
	return m
}
