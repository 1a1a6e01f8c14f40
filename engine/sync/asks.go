package sync

import (
	"encoding/binary"
	"slices"

	"hearth/engine/mxid"
	"hearth/engine/slide"
)

// asks is what a connection has asked for of rooms' state. A rule is kept once,
// however many rooms it is about, and what several rules ask for together is
// the list of their numbers: a request may put each of a thousand rooms under a
// hundred rules.
type asks struct {
	rules []*slide.Required
	ruled map[string]uint16 // of a rule's text, its place in rules

	asked []*ask // rooms name these by their place here; the first asks for nothing
	named map[string]uint16

	covers map[[2]uint16]bool // of two of asked, whether the one holds all of the other
}

// ask is what a client asks for of a room's state: what any of the rules says. No
// two rules of a connection are equal and not the same.
type ask struct{ rules []*slide.Required }

func (k *ask) wants(typ, key string, me mxid.UserID) bool {
	return slices.ContainsFunc(k.rules, func(q *slide.Required) bool { return q.Wants(typ, key, me) })
}

// lazy says whether members are wanted as the timeline needs them.
func (k *ask) lazy() bool {
	return slices.ContainsFunc(k.rules, (*slide.Required).Lazy) && !slices.ContainsFunc(k.rules, (*slide.Required).Members)
}

// rule gives the number of a rule.
func (a *asks) rule(q *slide.Required) uint16 {
	num, ok := a.ruled[q.Text()]
	if !ok {
		num = uint16(len(a.rules))
		a.rules = append(a.rules, q)
		a.ruled[q.Text()] = num
	}
	return num
}

// ask gives the number of what some rules, which are sorted, ask for together.
func (a *asks) ask(rules []uint16) uint16 {
	var buf [64]byte
	name := buf[:0]
	for _, num := range rules {
		name = binary.BigEndian.AppendUint16(name, num)
	}
	num, ok := a.named[string(name)]
	if !ok {
		k := &ask{rules: make([]*slide.Required, len(rules))}
		for i, num := range rules {
			k.rules[i] = a.rules[num]
		}
		num = uint16(len(a.asked))
		a.asked = append(a.asked, k)
		a.named[string(name)] = num
	}
	return num
}

// covered says whether what was asked for before holds all that is asked for now,
// as far as that is easily seen.
func (a *asks) covered(before, now uint16, me mxid.UserID) bool {
	if before == now {
		return true
	}
	pair := [2]uint16{before, now}
	yes, ok := a.covers[pair]
	if !ok {
		old := a.asked[before]
		yes = !slices.ContainsFunc(a.asked[now].rules, func(q *slide.Required) bool { return !old.covers(q, me) })
		a.covers[pair] = yes
	}
	return yes
}

// covers says whether everything that a rule asks for is asked for here.
func (k *ask) covers(q *slide.Required, me mxid.UserID) bool {
	if slices.Contains(k.rules, q) {
		return true
	}
	keys, named := q.Named(nil, me)
	return named && !slices.ContainsFunc(keys, func(n slide.Key) bool { return !k.wants(n.Type, n.Key, me) })
}

// full says whether it is more than a client that means well has.
func (a *asks) full() bool {
	return len(a.asked) > maxAsked || len(a.rules) > maxAsked || len(a.covers) > maxAsked
}

// weight is about how many bytes it takes.
func (a *asks) weight() int {
	n := 64 * len(a.covers)
	for _, q := range a.rules {
		n += 128 + 4*len(q.Text())
	}
	for _, k := range a.asked {
		n += 96 + 10*len(k.rules)
	}
	return n
}

// clean forgets what was asked for long ago: of what is asked for now, the client is
// taken to have nothing, and is told it again.
func (c *conn) clean() {
	c.asks = asks{ruled: map[string]uint16{}, asked: []*ask{{}}, named: map[string]uint16{"": 0}, covers: map[[2]uint16]bool{}}
	for i := range c.has.rooms {
		c.has.rooms[i].ask = 0
	}
}
