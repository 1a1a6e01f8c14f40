package room

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"sync"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
)

// A thread of ten thousand replies is told in one line: how many they are, and
// the last one. To read all their rows for it each time made a busy thread dear
// in the square of its length. So what was read off the rows is kept, with the
// number of the last row, and only rows beyond it are read the next time. It is
// kept in memory alone: a count on disk would be one more row to write with each
// reply, and another one by sender, since nobody is told of whom they ignore.

// by is one event and its sender.
type by struct {
	num    EventNum
	sender uint32
}

// share is how many replies one sender has in a thread.
type share struct {
	sender uint32
	count  int
}

// tally is what relates to one event, read off the rows. One that is kept is
// never written to.
type tally struct {
	upTo       EventNum   // rows up to this one are in it
	rows       int        // how many
	edits      []EventNum // by the event's sender and of its type: the newest, oldest first
	replies    []by       // the newest, oldest first
	references []by       // the first
	senders    []share    // of replies, in order of the senders
	count      int        // replies
	more       bool       // there were more edits or references than are in it
}

func (t *tally) clone() *tally {
	c := *t
	c.edits, c.replies = slices.Clone(t.edits), slices.Clone(t.replies)
	c.references, c.senders = slices.Clone(t.references), slices.Clone(t.senders)
	return &c
}

// bytes is about what it takes in memory.
func (t *tally) bytes() int {
	return 256 + 8*len(t.edits) + 16*(len(t.replies)+len(t.references)+len(t.senders))
}

func (t *tally) add(rel *Relation, author uint32, typ string) {
	t.upTo = rel.Num
	t.rows++
	switch rel.RelType {
	case RelReplace:
		if rel.Sender == author && rel.Type == typ {
			t.more = t.more || len(t.edits) >= maxEdits
			t.edits = keepLast(t.edits, rel.Num, maxEdits)
		}
	case RelThread:
		t.count++
		t.replies = keepLast(t.replies, by{rel.Num, rel.Sender}, maxLatest)
		i, ok := t.find(rel.Sender)
		if !ok {
			t.senders = slices.Insert(t.senders, i, share{sender: rel.Sender})
		}
		t.senders[i].count++
	case RelReference:
		if len(t.references) == maxReferences {
			t.more = true
			return
		}
		t.references = append(t.references, by{rel.Num, rel.Sender})
	}
}

// find looks for a sender of replies.
func (t *tally) find(sender uint32) (int, bool) {
	return slices.BinarySearchFunc(t.senders, sender, func(s share, n uint32) int { return cmp.Compare(s.sender, n) })
}

// without is the tally when a row of it has gone; nil where that cannot be told
// from what it holds.
func (t *tally) without(row by, relType string) *tally {
	c := t.clone()
	c.rows--
	is := func(b by) bool { return b.num == row.num }
	switch relType {
	case RelThread:
		i, ok := c.find(row.sender)
		if !ok {
			return nil
		}
		if c.senders[i].count--; c.senders[i].count == 0 {
			c.senders = slices.Delete(c.senders, i, i+1)
		}
		c.count--
		if c.replies = slices.DeleteFunc(c.replies, is); len(c.replies) < maxLatest/2 && len(c.replies) < c.count {
			return nil
		}
	case RelReplace:
		c.edits = slices.DeleteFunc(c.edits, func(n EventNum) bool { return n == row.num })
	case RelReference:
		c.references = slices.DeleteFunc(c.references, is)
	default:
		return c
	}
	if c.more && relType != RelThread {
		return nil
	}
	return c
}

// Bounds of the tallies that are kept.
const (
	tallyFrom  = 64        // rows; what has fewer is read each time
	tallyBytes = 512 << 10 // all together
	tallyParts = 64
)

type tallyKey struct {
	room   Num
	target mxid.EventID
}

// tallies keeps some of them. A writer says before and after its batch which
// events' relations it changes: what was read in between is not kept.
type tallies struct {
	mu    sync.Mutex
	seed  maphash.Seed
	kept  map[tallyKey]*keptTally
	bytes int
	clock uint64 // counts the reads
	parts [tallyParts]tallyPart
}

type keptTally struct {
	*tally
	used uint64 // when it was read last
}

// tallyPart is about the keys of one part.
type tallyPart struct {
	writing int    // batches under way
	changes uint64 // batches
}

func newTallies() *tallies {
	return &tallies{seed: maphash.MakeSeed(), kept: map[tallyKey]*keptTally{}}
}

func (c *tallies) part(k tallyKey) *tallyPart {
	return &c.parts[maphash.String(c.seed, string(k.target))%tallyParts]
}

// get gives what is kept, an empty one where there is none, and what put has to
// be told.
func (c *tallies) get(k tallyKey) (t *tally, changes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	if kept := c.kept[k]; kept != nil {
		kept.used = c.clock
		return kept.tally, c.part(k).changes
	}
	return &tally{}, c.part(k).changes
}

// put keeps a tally, unless a batch came between.
func (c *tallies) put(k tallyKey, t *tally, changes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.part(k); p.writing > 0 || p.changes != changes || t.bytes() > tallyBytes/4 {
		return
	}
	c.set(k, t)
	for c.bytes > tallyBytes {
		oldest := k
		for other, kept := range c.kept {
			if kept.used < c.kept[oldest].used {
				oldest = other
			}
		}
		c.set(oldest, nil)
	}
}

// set keeps or drops one, under mu.
func (c *tallies) set(k tallyKey, t *tally) {
	if old := c.kept[k]; old != nil {
		c.bytes -= old.bytes()
		delete(c.kept, k)
	}
	if t != nil {
		c.kept[k] = &keptTally{t, c.clock}
		c.bytes += t.bytes()
	}
}

// begin says that a batch is about to change what relates to an event; end has
// to follow.
func (c *tallies) begin(k tallyKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.part(k)
	p.writing++
	p.changes++
}

// end says that the batch is there, and what it did.
func (c *tallies) end(x *tallied) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.part(x.key).writing--
	kept := c.kept[x.key]
	switch {
	case kept == nil || x.row.num > kept.upTo: // a row beyond it is read the next time
	case x.out:
		c.set(x.key, kept.without(x.row, x.relType))
	default:
		c.set(x.key, nil) // it was here before it had a place, or its batch failed
	}
}

func (c *tallies) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.kept)
	c.bytes = 0
	for i := range c.parts {
		c.parts[i].changes++
	}
}

// tallied is one row that a batch puts or takes out.
type tallied struct {
	key     tallyKey
	row     by // its sender only where it is taken out
	relType string
	out     bool
}

// changeTallies says that the relations of events are about to change; settle
// has to follow.
func (r *Rooms) changeTallies(writers []*Writer) (list []tallied) {
	for _, w := range writers {
		for i := range w.staged {
			s := &w.staged[i]
			if s.rel.to != "" && s.placed() {
				list = append(list, tallied{key: tallyKey{w.head.Room, s.rel.to}, row: by{num: s.ev.Num}})
			}
			for j := range s.redacts {
				if u := &s.redacts[j].unrel; u.to != "" && u.at != (Key{}) { // without a place it had no row
					list = append(list, tallied{tallyKey{w.head.Room, u.to}, by{u.num, u.sender}, u.relType, true})
				}
			}
		}
	}
	for i := range list {
		r.tallies.begin(list[i].key)
	}
	return list
}

// settle says that the batch is there, or has failed.
func (r *Rooms) settle(list []tallied, ok bool) {
	for i := range list {
		list[i].out = list[i].out && ok
		r.tallies.end(&list[i])
	}
}

// tally gives what relates to an event.
func (r *Rooms) tally(e *Event) (*tally, error) {
	k := tallyKey{e.In, e.ID}
	t, changes := r.tallies.get(k)
	author, err := r.User(e.Sender)
	if err != nil {
		return nil, err
	}
	fresh := false
	var kbuf [280]byte
	prefix := relationPrefix(kbuf[:0], e.In, e.ID)
	lower := store.U64(bytes.Clone(prefix), uint64(t.upTo)+1)
	err = r.st.Scan(lower, store.After(prefix), func(key, val []byte) (bool, error) {
		if len(key) != len(prefix)+8 {
			return false, fault.E(fault.Corrupt, "room", "a relation key of %d bytes", len(key))
		}
		if !fresh {
			t, fresh = t.clone(), true
		}
		rel := Relation{Num: EventNum(binary.BigEndian.Uint64(key[len(prefix):]))}
		if err := rel.parse(val); err != nil {
			return false, err
		}
		t.add(&rel, author, e.Type)
		return true, nil
	})
	if err == nil && fresh && t.rows >= tallyFrom {
		r.tallies.put(k, t, changes)
	}
	return t, err
}
