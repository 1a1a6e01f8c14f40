package slide

import (
	"slices"
	"strconv"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// Required says which state events of a room a client wants. It is never written
// to once parsed, and the same Text asks for the same. Spec: MSC4186,
// RequiredStateRequest; and as it was before, a list of pairs.
type Required struct {
	include []element
	exclude []element
	lazy    bool // members as the timeline needs them
	text    string
}

// element picks state events: of a type, with a state key, each of which may be
// any. me stands for the one who asks.
type element struct {
	typ, key       string
	anyType, anyID bool
	me             bool
}

func (e *element) picks(typ, key string, me mxid.UserID) bool {
	if !e.anyType && e.typ != typ {
		return false
	}
	if e.me {
		return key == string(me)
	}
	return e.anyID || e.key == key
}

// made finishes a parsed one; of none it makes one that asks for nothing.
func (q *Required) made() *Required {
	if q == nil {
		q = &Required{}
	}
	var b strings.Builder
	b.WriteString(strconv.FormatBool(q.lazy))
	for _, list := range [...][]element{q.include, q.exclude} {
		names := make([]string, len(list))
		for i := range list {
			names[i] = list[i].String()
		}
		slices.Sort(names)
		b.WriteByte('|')
		for _, name := range slices.Compact(names) {
			b.WriteString(name)
		}
	}
	q.text = b.String()
	return q
}

// String tells elements apart.
func (e *element) String() string {
	s := "*"
	if !e.anyType {
		s = strconv.Quote(e.typ)
	}
	switch {
	case e.me:
		return s + "$"
	case e.anyID:
		return s + "*"
	}
	return s + strconv.Quote(e.key)
}

// Text is one spelling of what is asked for.
func (q *Required) Text() string { return q.text }

// Lazy says whether members are wanted as the timeline needs them.
func (q *Required) Lazy() bool { return q.lazy }

// Wants says whether the state event of a type and key is asked for, beside what
// lazy members ask for.
func (q *Required) Wants(typ, key string, me mxid.UserID) bool {
	member := typ == "m.room.member"
	for i := range q.include {
		e := &q.include[i]
		if member && q.lazy && e.anyType && e.anyID {
			continue // everything, but of the members those that are needed
		}
		if e.picks(typ, key, me) {
			return !q.excludes(typ, key, me)
		}
	}
	return false
}

func (q *Required) excludes(typ, key string, me mxid.UserID) bool {
	return slices.ContainsFunc(q.exclude, func(e element) bool { return e.picks(typ, key, me) })
}

// Members says whether all members of a room are asked for.
func (q *Required) Members() bool {
	return slices.ContainsFunc(q.include, func(e element) bool {
		return e.anyID && !e.me && (e.typ == "m.room.member" && !e.anyType || e.anyType && !q.lazy)
	})
}

// Key is a state event that is asked for by name.
type Key struct{ Type, Key string }

// Named gives the state events that are asked for, where each is asked for by
// name: then there is no need to look at a room's whole state. ok is false else.
func (q *Required) Named(dst []Key, me mxid.UserID) (_ []Key, ok bool) {
	for i := range q.include {
		e := &q.include[i]
		if e.anyType || e.anyID && !e.me {
			return dst, false
		}
		k := Key{e.typ, e.key}
		if e.me {
			k.Key = string(me)
		}
		if !q.excludes(k.Type, k.Key, me) {
			dst = append(dst, k)
		}
	}
	return dst, true
}

// required reads either spelling.
func (p *parser) required(val []byte) *Required {
	q := &Required{}
	if cjson.KindOf(val) == cjson.ArrayKind {
		p.each("required_state", val, maxElements, func(val []byte) { q.pair(p, val) })
		return q
	}
	p.members(val, func(key string, val []byte) {
		switch key {
		case "include":
			p.each(key, val, maxElements, func(val []byte) { q.include = append(q.include, p.element(val)) })
		case "exclude":
			p.each(key, val, maxElements, func(val []byte) { q.exclude = append(q.exclude, p.element(val)) })
		case "lazy_members":
			q.lazy = p.flag(key, val)
		}
	})
	return q
}

func (p *parser) element(val []byte) element {
	e := element{anyType: true, anyID: true}
	p.members(val, func(key string, val []byte) {
		switch key {
		case "type":
			e.typ, e.anyType = p.text(key, val, maxString), false
		case "state_key":
			e.key, e.anyID = p.text(key, val, maxString), false
		}
	})
	return e
}

// pair reads a type and a state key, either of which may be "*"; "$ME" and "$LAZY"
// are state keys of their own meaning.
func (q *Required) pair(p *parser, val []byte) {
	var pair []string
	p.each("required_state", val, 2, func(val []byte) { pair = append(pair, p.text("required_state", val, maxString)) })
	if p.err == nil && len(pair) != 2 {
		p.fail(fault.Invalid, "required_state is a list of types with state keys")
	}
	if p.err != nil {
		return
	}
	e := element{typ: pair[0], key: pair[1]}
	if e.anyType = e.typ == "*"; e.anyType {
		e.typ = ""
	}
	switch e.key {
	case "*":
		e.key, e.anyID = "", true
	case "$ME":
		e.key, e.me = "", true
	case "$LAZY":
		if e.typ == "m.room.member" {
			q.lazy = true
		}
		return
	}
	q.include = append(q.include, e)
}
