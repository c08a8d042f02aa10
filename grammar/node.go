package grammar

import (
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"

	"ossify/tokenizer"
)

// An Expr is a language: a node of its Builder.
type Expr int32

// The language of nothing at all, and that of the empty text.
const (
	never Expr = iota
	empty
)

type op uint8

const (
	opNever op = iota
	opEmpty
	opClass   // one byte of a set
	opSpecial // one special token
	opSeq     // a, then b; a is no sequence
	opAlt     // one of several
	opRepeat  // a, min to max times; max −1 is any number
	opExcept  // what a has and b has not
	opRef     // a definition, which may lie ahead
)

// A node is an expression by its parts.
type node struct {
	key  key
	null bool    // it has the empty text
	next []int32 // derivatives by class of bytes, −1 where unknown; nil if none is known
}

// A key is what tells nodes apart.
type key struct {
	op       op
	a, b     Expr
	min, max int32
	many     string // of opAlt: its nodes, sorted; of opClass: its 256 bits
}

// A set of bytes.
type set [4]uint64

func (s *set) add(lo, hi byte) {
	for c := int(lo); c <= int(hi); c++ {
		s[c/64] |= 1 << (c % 64)
	}
}

func (s *set) has(c byte) bool { return s[c/64]>>(c%64)&1 != 0 }

// A Builder makes expressions. The first error stays, with what is too large.
type Builder struct {
	nodes []node
	index map[key]Expr
	sets  map[Expr]set
	defs  []Expr // of references
	err   error  // why there can be no more nodes
	ready bool   // classes are settled
	limit limit
	size  int64     // bytes of nodes, about
	work  int64     // nodes that were asked for, and steps of the like
	class [256]byte // of bytes that no set tells apart
	reps  []byte    // a byte of each class
	after map[symbolAt]Expr
	taken *taken // of a budget; nil for none

	parsed *jsonExprs // the parts of JSON, once they are asked for
}

// A symbolAt is a special token after a node.
type symbolAt struct {
	e  Expr
	id uint32
}

// A limit is what a grammar may take: memory, and work that time is a
// multiple of, some 0.1 µs each.
type limit struct{ bytes, work int64 }

// What a grammar may take before it is used, and until its end.
var (
	built = limit{64 << 20, 4_000_000}
	used  = limit{128 << 20, 10_000_000}
)

// perNode is about what a node takes, its place in the index included; bytes of
// its key and its table come on top.
const perNode = 176

// A Budget is the memory that many grammars share.
type Budget struct{ left atomic.Int64 }

// NewBudget returns a budget of so many bytes.
func NewBudget(bytes int64) *Budget {
	b := &Budget{}
	b.left.Store(bytes)
	return b
}

// Left returns how many bytes are not taken.
func (b *Budget) Left() int64 { return b.left.Load() }

// taken is a builder's part of a budget.
type taken struct {
	from  *Budget
	bytes atomic.Int64
}

// NewBuilder returns a Builder, which takes its memory from a budget until
// nobody holds it; nil has no end.
func NewBuilder(from *Budget) *Builder {
	b := &Builder{index: map[key]Expr{}, sets: map[Expr]set{}, limit: built, after: map[symbolAt]Expr{}}
	if from != nil {
		b.taken = &taken{from: from}
		runtime.AddCleanup(b, func(t *taken) { t.from.left.Add(t.bytes.Load()) }, b.taken)
	}
	b.node(key{op: opNever}, false)
	b.node(key{op: opEmpty}, true)
	return b
}

// Errors of what takes too much.
var (
	ErrTooLarge = errors.New("grammar: too large")
	ErrNoMemory = errors.New("grammar: the memory of all grammars is taken")
)

// spend counts work. It reports whether there may be more.
func (b *Builder) spend(work int) bool {
	if b.err != nil {
		return false
	}
	if b.work += int64(work); b.work > b.limit.work {
		b.err = ErrTooLarge
	}
	return b.err == nil
}

// take takes memory. It reports whether there was some.
func (b *Builder) take(bytes int) bool {
	n := int64(bytes)
	switch {
	case b.err != nil:
		return false
	case b.size+n > b.limit.bytes:
		b.err = ErrTooLarge
		return false
	case b.taken != nil && b.taken.from.left.Add(-n) < 0:
		b.taken.from.left.Add(n)
		b.err = ErrNoMemory
		return false
	}
	if b.taken != nil {
		b.taken.bytes.Add(n)
	}
	b.size += n
	return true
}

func (b *Builder) node(k key, null bool) Expr {
	if !b.spend(1 + len(k.many)/16) {
		return never
	}
	if e, ok := b.index[k]; ok {
		return e
	}
	if !b.take(perNode + len(k.many)) {
		return never
	}
	e := Expr(len(b.nodes))
	b.nodes = append(b.nodes, node{key: k, null: null})
	b.index[k] = e
	return e
}

// Bytes is one byte of a set.
func (b *Builder) bytes(s set) Expr {
	if s == (set{}) {
		return never
	}
	var bits []byte
	for _, w := range s {
		bits = binary.LittleEndian.AppendUint64(bits, w)
	}
	e := b.node(key{op: opClass, many: string(bits)}, false)
	if e != never {
		b.sets[e] = s
	}
	return e
}

func (b *Builder) between(lo, hi byte) Expr {
	var s set
	s.add(lo, hi)
	return b.bytes(s)
}

func (b *Builder) oneOf(chars string) Expr {
	var s set
	for _, c := range []byte(chars) {
		s.add(c, c)
	}
	return b.bytes(s)
}

// Text is one text.
func (b *Builder) Text(text string) Expr {
	e := empty
	for i := len(text) - 1; i >= 0; i-- {
		e = b.Seq(b.between(text[i], text[i]), e)
	}
	return e
}

// Special is one special token.
func (b *Builder) Special(id uint32) Expr {
	return b.node(key{op: opSpecial, a: Expr(id)}, false)
}

// Seq is one after the other.
func (b *Builder) Seq(list ...Expr) Expr {
	if len(list) == 0 {
		return empty
	}
	e := list[len(list)-1]
	for _, first := range slices.Backward(list[:len(list)-1]) {
		e = b.seq(first, e)
	}
	return e
}

func (b *Builder) seq(x, y Expr) Expr {
	switch {
	case x == never || y == never:
		return never
	case x == empty:
		return y
	case y == empty:
		return x
	}
	if k := b.nodes[x].key; k.op == opSeq {
		return b.seq(k.a, b.seq(k.b, y))
	}
	return b.node(key{op: opSeq, a: x, b: y}, b.nodes[x].null && b.nodes[y].null)
}

// Alt is one of several.
func (b *Builder) Alt(list ...Expr) Expr {
	var all []Expr
	for _, e := range list {
		all = b.parts(all, e)
	}
	b.spend(len(all) / 4)
	slices.Sort(all)
	all = slices.Compact(all)
	return b.alt(all)
}

// either is x or y, like Alt. It does not join the parts of alternatives: a row
// of n of them, each one part more than the next, takes n and not n² of memory.
func (b *Builder) either(x, y Expr) Expr {
	if x == never || y == never || x == y {
		return b.Alt(x, y)
	}
	return b.alt([]Expr{min(x, y), max(x, y)})
}

// alt is one of several that are sorted and differ.
func (b *Builder) alt(all []Expr) Expr {
	switch len(all) {
	case 0:
		return never
	case 1:
		return all[0]
	}
	null := false
	var many []byte
	for _, e := range all {
		null = null || b.nodes[e].null
		many = binary.LittleEndian.AppendUint32(many, uint32(e))
	}
	return b.node(key{op: opAlt, many: string(many)}, null)
}

// direct returns what an opAlt is one of, alternatives among them.
func (b *Builder) direct(e Expr) []Expr {
	many := b.nodes[e].key.many
	list := make([]Expr, len(many)/4)
	for i := range list {
		list[i] = Expr(binary.LittleEndian.Uint32([]byte(many[4*i:])))
	}
	return list
}

// parts adds what e is one of: no alternatives are among them, nor never.
func (b *Builder) parts(list []Expr, e Expr) []Expr {
	for e != never {
		if b.nodes[e].key.op != opAlt {
			return append(list, e)
		}
		direct := b.direct(e)
		for _, x := range direct[:len(direct)-1] {
			list = b.parts(list, x)
		}
		e = direct[len(direct)-1]
	}
	return list
}

// Opt is x or nothing.
func (b *Builder) Opt(x Expr) Expr { return b.Alt(x, empty) }

// Repeat is x, least to most times; most −1 is any number. x must not have the
// empty text.
func (b *Builder) Repeat(x Expr, least, most int) Expr {
	switch {
	case most == 0 || x == never && least == 0:
		return empty
	case x == never:
		return never
	case least == 1 && most == 1:
		return x
	}
	return b.node(key{op: opRepeat, a: x, min: int32(least), max: int32(most)}, least == 0)
}

// except is what x has and y has not. Whatever x begins, it must be able to end
// as y does not.
func (b *Builder) except(x, y Expr) Expr {
	switch {
	case x == never || x == y:
		return never
	case y == never:
		return x
	case x == empty && b.nodes[y].null:
		return never
	case x == empty:
		return empty
	}
	return b.node(key{op: opExcept, a: x, b: y}, b.nodes[x].null && !b.nodes[y].null)
}

// Ref returns a reference, which [Builder.Define] gives its meaning. It may be
// used before. It must not have the empty text.
func (b *Builder) Ref() Expr {
	b.defs = append(b.defs, never)
	return b.node(key{op: opRef, a: Expr(len(b.defs) - 1)}, false)
}

// Define says what a reference is.
func (b *Builder) Define(ref, e Expr) { b.defs[b.nodes[ref].key.a] = e }

// settle finds the classes of bytes, once all sets are known.
func (b *Builder) settle() {
	if b.ready {
		return
	}
	b.ready = true
	b.limit = used
	known := map[string]byte{}
	var sets []set
	for e := range b.nodes {
		if s, ok := b.sets[Expr(e)]; ok {
			sets = append(sets, s)
		}
	}
	row := make([]byte, len(sets))
	for c := range 256 {
		for i := range sets {
			row[i] = 0
			if sets[i].has(byte(c)) {
				row[i] = 1
			}
		}
		n, ok := known[string(row)]
		if !ok {
			n = byte(len(b.reps))
			known[string(row)] = n
			b.reps = append(b.reps, byte(c))
		}
		b.class[c] = n
	}
}

// next returns what may follow e after a byte.
func (b *Builder) next(e Expr, c byte) Expr { return b.nextClass(e, b.class[c]) }

func (b *Builder) nextClass(e Expr, class byte) Expr {
	if t := b.nodes[e].next; t != nil && t[class] >= 0 {
		return Expr(t[class])
	}
	d := b.derive(e, func(x Expr) Expr { return b.nextClass(x, class) }, func(k key, x Expr) bool {
		s := b.sets[x]
		return k.op == opClass && s.has(b.reps[class])
	})
	if b.nodes[e].next == nil {
		if !b.take(4*len(b.reps) + 8) {
			return never
		}
		t := make([]int32, len(b.reps))
		for i := range t {
			t[i] = -1
		}
		b.nodes[e].next = t
	}
	b.nodes[e].next[class] = int32(d)
	return d
}

// nextSpecial returns what may follow e after a special token.
func (b *Builder) nextSpecial(e Expr, id uint32) Expr {
	at := symbolAt{e, id}
	if d, ok := b.after[at]; ok {
		return d
	}
	d := b.derive(e, func(x Expr) Expr { return b.nextSpecial(x, id) }, func(k key, _ Expr) bool {
		return k.op == opSpecial && uint32(k.a) == id
	})
	if b.take(48) {
		b.after[at] = d
	}
	return d
}

// derive returns a derivative by those of the parts; is says whether a single
// symbol is the one.
func (b *Builder) derive(e Expr, of func(Expr) Expr, is func(k key, e Expr) bool) Expr {
	k := b.nodes[e].key
	switch k.op {
	case opClass, opSpecial:
		if is(k, e) {
			return empty
		}
	case opSeq:
		d := b.seq(of(k.a), k.b)
		if b.nodes[k.a].null {
			d = b.Alt(d, of(k.b))
		}
		return d
	case opAlt:
		all := b.parts(nil, e)
		if !b.spend(len(all)) {
			return never
		}
		for i, x := range all {
			all[i] = of(x)
		}
		return b.Alt(all...)
	case opRepeat:
		d := of(k.a)
		if d == never {
			return never
		}
		most := int(k.max)
		if most > 0 {
			most--
		}
		return b.seq(d, b.Repeat(k.a, max(int(k.min)-1, 0), most))
	case opExcept:
		return b.except(of(k.a), of(k.b))
	case opRef:
		return of(b.defs[k.a])
	}
	return never
}

// ends reports whether every reference has a text that ends, and none begins
// with itself: else a model could never be done, or this program. It takes time
// as there are nodes.
func (b *Builder) ends() bool { return b.finite() && !b.leftRecursive() }

// finite reports whether every reference has a text that ends.
func (b *Builder) finite() bool {
	// users[from[e]:from[e+1]] are the nodes that e is part of, need how many
	// parts of a node must have a text before it has one.
	from := make([]int32, len(b.nodes)+1)
	need := make([]int32, len(b.nodes))
	parts := func(e Expr) []Expr {
		switch k := b.nodes[e].key; k.op {
		case opSeq:
			return []Expr{k.a, k.b}
		case opAlt:
			return b.direct(e)
		case opRepeat, opExcept:
			return []Expr{k.a}
		case opRef:
			return []Expr{b.defs[k.a]}
		}
		return nil
	}
	var ready []Expr
	for i := range b.nodes {
		for _, x := range parts(Expr(i)) {
			from[x+1]++
		}
		switch k := b.nodes[i].key; {
		case k.op == opSeq:
			need[i] = 2
		case k.op == opNever || k.op == opAlt || k.op == opExcept || k.op == opRef || k.op == opRepeat && k.min > 0:
			need[i] = 1
		default:
			ready = append(ready, Expr(i))
		}
	}
	for i := range b.nodes {
		from[i+1] += from[i]
	}
	users := make([]Expr, from[len(b.nodes)])
	at := slices.Clone(from)
	for i := range b.nodes {
		for _, x := range parts(Expr(i)) {
			users[at[x]] = Expr(i)
			at[x]++
		}
	}
	for len(ready) > 0 {
		e := ready[len(ready)-1]
		ready = ready[:len(ready)-1]
		for _, u := range users[from[e]:from[e+1]] {
			if need[u]--; need[u] == 0 {
				ready = append(ready, u)
			}
		}
	}
	for i := range b.nodes {
		if b.nodes[i].key.op == opRef && need[i] > 0 {
			return false
		}
	}
	return true
}

// leftRecursive reports whether a node can begin with itself.
func (b *Builder) leftRecursive() bool {
	begins := func(e Expr) []Expr {
		switch k := b.nodes[e].key; k.op {
		case opSeq:
			if b.nodes[k.a].null {
				return []Expr{k.a, k.b}
			}
			return []Expr{k.a}
		case opAlt:
			return b.direct(e)
		case opRepeat:
			return []Expr{k.a}
		case opExcept:
			return []Expr{k.a, k.b}
		case opRef:
			return []Expr{b.defs[k.a]}
		}
		return nil
	}
	type visit struct {
		e    Expr
		left []Expr
	}
	const underWay, done = 1, 2
	state := make([]byte, len(b.nodes))
	for _, d := range b.defs {
		if state[d] != 0 {
			continue
		}
		state[d] = underWay
		stack := []visit{{d, begins(d)}}
		for len(stack) > 0 {
			v := &stack[len(stack)-1]
			if len(v.left) == 0 {
				state[v.e] = done
				stack = stack[:len(stack)-1]
				continue
			}
			x := v.left[0]
			v.left = v.left[1:]
			switch state[x] {
			case underWay:
				return true
			case 0:
				state[x] = underWay
				stack = append(stack, visit{x, begins(x)})
			}
		}
	}
	return false
}

// steering are the special tokens that a grammar may hold.
func steering() []uint32 {
	return []uint32{tokenizer.Return, tokenizer.Constrain, tokenizer.Channel, tokenizer.Start, tokenizer.End, tokenizer.Message, tokenizer.Call}
}
