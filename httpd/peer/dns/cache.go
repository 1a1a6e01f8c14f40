package dns

import (
	"container/list"
	"time"
)

// cache keeps answers within a number of bytes; those that nobody asked for the
// longest go first. Its owner locks.
type cache struct {
	most, size int
	byName     map[question]*list.Element
	order      list.List // of *entry, the last used in front
}

// entry is an answer, or the error that came instead of one.
type entry struct {
	q     question
	a     *answer
	err   error
	until time.Time // believed
	stale time.Time // used where nobody can say anything newer
}

// cost is about what an entry takes, with its share of the table and the list.
func (e *entry) cost() int {
	n := 320 + len(e.q.name)
	if e.a != nil {
		n += 24 * len(e.a.addrs)
		for _, s := range e.a.services {
			n += 40 + len(s.Host)
		}
	}
	if e.err != nil {
		n += 200
	}
	return n
}

func (c *cache) get(q question) *entry {
	el := c.byName[q]
	if el == nil {
		return nil
	}
	c.order.MoveToFront(el)
	return el.Value.(*entry)
}

func (c *cache) put(q question, e entry) {
	if c.byName == nil {
		c.byName = map[question]*list.Element{}
	}
	c.drop(c.byName[q])
	e.q = q
	c.byName[q] = c.order.PushFront(&e)
	c.size += e.cost()
	for c.size > c.most {
		c.drop(c.order.Back())
	}
}

func (c *cache) drop(el *list.Element) {
	if el == nil {
		return
	}
	e := c.order.Remove(el).(*entry)
	delete(c.byName, e.q)
	c.size -= e.cost()
}
