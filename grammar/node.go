package grammar

import (
	"encoding/binary"
	"slices"

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
	most  int    // nodes; more are an error
	full  bool
	ready bool      // classes are settled
	class [256]byte // of bytes that no set tells apart
	reps  []byte    // a byte of each class
	after map[symbolAt]Expr

	parsed *jsonExprs // the parts of JSON, once they are asked for
}

// A symbolAt is a special token after a node.
type symbolAt struct {
	e  Expr
	id uint32
}

// mostNodes is how large a grammar may be before it is used, and mostStates how
// many states it may come to have.
const (
	mostNodes  = 200_000
	mostStates = 2_000_000
)

// NewBuilder returns a Builder.
func NewBuilder() *Builder {
	b := &Builder{index: map[key]Expr{}, sets: map[Expr]set{}, most: mostNodes, after: map[symbolAt]Expr{}}
	b.node(key{op: opNever}, false)
	b.node(key{op: opEmpty}, true)
	return b
}

func (b *Builder) node(k key, null bool) Expr {
	if e, ok := b.index[k]; ok {
		return e
	}
	if len(b.nodes) >= b.most {
		b.full = true
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
	b.sets[e] = s
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
		if b.nodes[e].key.op == opAlt {
			all = append(all, b.parts(e)...)
		} else if e != never {
			all = append(all, e)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
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

// parts returns what an opAlt is one of.
func (b *Builder) parts(e Expr) []Expr {
	many := b.nodes[e].key.many
	list := make([]Expr, len(many)/4)
	for i := range list {
		list[i] = Expr(binary.LittleEndian.Uint32([]byte(many[4*i:])))
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
	b.most = mostStates
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
	b.after[at] = d
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
		var all []Expr
		for _, x := range b.parts(e) {
			all = append(all, of(x))
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
// with itself: else a model could never be done, or this program.
func (b *Builder) ends() bool {
	finite := make([]bool, len(b.defs))
	var has func(e Expr) bool
	memo := map[Expr]bool{}
	has = func(e Expr) bool {
		if v, ok := memo[e]; ok {
			return v
		}
		k := b.nodes[e].key
		v := true
		switch k.op {
		case opNever:
			v = false
		case opSeq:
			v = has(k.a) && has(k.b)
		case opAlt:
			v = slices.ContainsFunc(b.parts(e), has)
		case opRepeat:
			v = k.min == 0 || has(k.a)
		case opExcept:
			v = has(k.a)
		case opRef:
			return finite[k.a] // may change
		}
		if v {
			memo[e] = v
		}
		return v
	}
	for changed := true; changed; {
		changed = false
		for i, d := range b.defs {
			if !finite[i] && has(d) {
				finite[i], changed = true, true
			}
		}
	}
	if slices.Contains(finite, false) {
		return false
	}
	// Left recursion.
	state := make([]byte, len(b.defs)) // 1 under way, 2 done
	var first func(e Expr) bool
	first = func(e Expr) bool {
		k := b.nodes[e].key
		switch k.op {
		case opSeq:
			return first(k.a) && (!b.nodes[k.a].null || first(k.b))
		case opAlt:
			for _, x := range b.parts(e) {
				if !first(x) {
					return false
				}
			}
		case opRepeat:
			return first(k.a)
		case opExcept:
			return first(k.a) && first(k.b)
		case opRef:
			switch state[k.a] {
			case 1:
				return false
			case 0:
				state[k.a] = 1
				if !first(b.defs[k.a]) {
					return false
				}
				state[k.a] = 2
			}
		}
		return true
	}
	for _, d := range b.defs {
		if !first(d) {
			return false
		}
	}
	return true
}

// steering are the special tokens that a grammar may hold.
func steering() []uint32 {
	return []uint32{tokenizer.Return, tokenizer.Constrain, tokenizer.Channel, tokenizer.Start, tokenizer.End, tokenizer.Message, tokenizer.Call}
}
