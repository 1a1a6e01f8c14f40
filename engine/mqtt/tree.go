package mqtt

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// subscription is one filter of one session. Its options never change while it
// stands in the tree; a new SUBSCRIBE puts another in its place.
type subscription struct {
	s           *session
	group       string // of a shared subscription
	filter      string // without $share and group
	id          uint32 // subscription identifier; 0: none
	qos         byte
	noLocal     bool
	asPublished bool
	handling    byte // retain handling of the SUBSCRIBE that made it
	replay      bool // retained messages are still to be sent; guarded by the session
}

// name is the filter as the client wrote it.
func (u *subscription) name() string {
	if u.group == "" {
		return u.filter
	}
	return "$share/" + u.group + "/" + u.filter
}

// group is the shared subscriptions of one name to one filter. members is
// replaced, never changed, so that it can be read without the tree's lock.
type group struct {
	name    string
	members []*subscription
	next    atomic.Uint32
}

// node is one level of the filters. Subscriptions that end in # stand at the
// node before it: nine filters of ten are of that kind.
type node struct {
	parts map[string]*node
	plus  *node
	here  ends
	below ends // those of the filter with /# after it
}

// ends are the subscriptions whose filter ends at a node.
type ends struct {
	subs   []*subscription
	groups []*group
}

func (e *ends) empty() bool { return len(e.subs) == 0 && len(e.groups) == 0 }

// tree finds the subscriptions that take in a topic.
type tree struct {
	mu   sync.RWMutex
	root node
}

// add puts u in, in the place of the one of the same session and filter.
func (t *tree) add(u *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, rest, more := &t.root, u.filter, true
	for more && rest != "#" {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		n = n.child(level)
	}
	e := &n.here
	if more {
		e = &n.below
	}
	if u.group == "" {
		e.subs = replace(e.subs, u)
		return
	}
	for i := range e.groups {
		if e.groups[i].name == u.group {
			e.groups[i].members = replace(slices.Clone(e.groups[i].members), u)
			return
		}
	}
	e.groups = append(e.groups, &group{name: u.group, members: []*subscription{u}})
}

func replace(subs []*subscription, u *subscription) []*subscription {
	for i := range subs {
		if subs[i].s == u.s {
			subs[i] = u
			return subs
		}
	}
	return append(subs, u)
}

func (n *node) child(level string) *node {
	if level == "+" {
		if n.plus == nil {
			n.plus = &node{}
		}
		return n.plus
	}
	c := n.parts[level]
	if c == nil {
		if n.parts == nil {
			n.parts = make(map[string]*node, 1)
		}
		c = &node{}
		n.parts[strings.Clone(level)] = c
	}
	return c
}

// remove takes the subscription of u's session and filter out, and the nodes
// that are for nothing else.
func (t *tree) remove(u *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.root.remove(u, u.filter, true)
}

func (n *node) remove(u *subscription, rest string, more bool) {
	if !more || rest == "#" {
		e := &n.here
		if more {
			e = &n.below
		}
		e.remove(u)
		return
	}
	level, rest, more := strings.Cut(rest, "/")
	c := n.plus
	if level != "+" {
		c = n.parts[level]
	}
	if c == nil {
		return
	}
	c.remove(u, rest, more)
	if len(c.parts) > 0 || c.plus != nil || !c.here.empty() || !c.below.empty() {
		return
	}
	if level == "+" {
		n.plus = nil
	} else {
		delete(n.parts, level)
	}
}

func (e *ends) remove(u *subscription) {
	mine := func(o *subscription) bool { return o.s == u.s }
	if u.group == "" {
		e.subs = slices.DeleteFunc(e.subs, mine)
		return
	}
	for i, g := range e.groups {
		if g.name != u.group {
			continue
		}
		if g.members = slices.DeleteFunc(slices.Clone(g.members), mine); len(g.members) == 0 {
			e.groups = slices.Delete(e.groups, i, i+1)
		}
		return
	}
}

// hits are what match finds. shared has the members of each group, and turns
// whose turn it is.
type hits struct {
	subs   []*subscription
	shared [][]*subscription
	turns  []*group
}

func (h *hits) take(e *ends) {
	h.subs = append(h.subs, e.subs...)
	for _, g := range e.groups {
		h.shared = append(h.shared, g.members)
		h.turns = append(h.turns, g)
	}
}

// match appends the subscriptions that take in the topic to h.
func (t *tree) match(topic string, h *hits) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if topic != "" && topic[0] == '$' {
		level, rest, more := strings.Cut(topic, "/")
		if c := t.root.parts[level]; c != nil {
			c.match(rest, more, h)
		}
		return
	}
	t.root.match(topic, true, h)
}

func (n *node) match(rest string, more bool, h *hits) {
	if !n.below.empty() {
		h.take(&n.below)
	}
	if !more {
		h.take(&n.here)
		return
	}
	level, rest, more := strings.Cut(rest, "/")
	if c := n.parts[level]; c != nil {
		c.match(rest, more, h)
	}
	if n.plus != nil {
		n.plus.match(rest, more, h)
	}
}

// any says whether somebody subscribed to something that begins with level.
func (t *tree) any(level string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.root.parts[level] != nil
}
