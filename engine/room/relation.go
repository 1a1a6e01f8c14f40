package room

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"sync/atomic"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// The relation types the hub reads. Spec: client-server, relationship types.
const (
	RelReplace    = "m.replace"
	RelThread     = "m.thread"
	RelReference  = "m.reference"
	RelAnnotation = "m.annotation"
)

// Relation is one event that relates to another.
type Relation struct {
	Num     EventNum
	RelType string
	Type    string // of the event
	Sender  uint32 // its number
	At      Key    // its place in the timeline
}

func appendRelation(dst []byte, relType, typ string, sender uint32, at Key) []byte {
	dst = append(append(append(append(dst, relType...), 0), typ...), 0)
	dst = binary.AppendUvarint(dst, uint64(sender))
	dst = binary.AppendUvarint(dst, uint64(at.Pos))
	return binary.AppendUvarint(dst, uint64(liveFill-at.Fill))
}

func (rel *Relation) parse(val []byte) error {
	relType, val, ok1 := bytes.Cut(val, []byte{0})
	typ, val, ok2 := bytes.Cut(val, []byte{0})
	d := decoder{src: val}
	rel.RelType, rel.Type, rel.Sender = string(relType), string(typ), uint32(d.uint())
	rel.At = Key{stream.Pos(d.uint()), liveFill - uint16(d.uint())}
	if !ok1 || !ok2 || d.cut {
		return fault.E(fault.Corrupt, "room", "a relation row of unknown form")
	}
	return nil
}

// Related calls f for the events of a room that relate to an event, in order of
// arrival, until f returns false. What relates may not be visible to everybody;
// what was redacted relates to nothing.
// Spec: client-server, m.relates_to.
func (r *Rooms) Related(room Num, target mxid.EventID, f func(rel *Relation) (more bool, err error)) error {
	return r.related(room, target, false, f)
}

// RelatedBack is Related from the newest to the oldest.
func (r *Rooms) RelatedBack(room Num, target mxid.EventID, f func(rel *Relation) (more bool, err error)) error {
	return r.related(room, target, true, f)
}

func (r *Rooms) related(room Num, target mxid.EventID, back bool, f func(rel *Relation) (more bool, err error)) error {
	var kbuf [270]byte
	prefix := relationPrefix(kbuf[:0], room, target)
	scan := r.st.Scan
	if back {
		scan = r.st.ScanBack
	}
	return scan(prefix, store.After(prefix), func(key, val []byte) (bool, error) {
		if len(key) != len(prefix)+8 {
			return false, fault.E(fault.Corrupt, "room", "a relation key of %d bytes", len(key))
		}
		rel := Relation{Num: EventNum(binary.BigEndian.Uint64(key[len(prefix):]))}
		if err := rel.parse(val); err != nil {
			return false, err
		}
		return f(&rel)
	})
}

// What is known of the events that relate to an event. Most have none, and are
// read much oftener than related to: with this, a second look costs nothing.
const (
	linksUnknown uint32 = iota
	linksNone
	linksSome
)

// linkedIn is linked for the events of one answer: after a few of one room it asks
// once for all of them whether anything in the room relates to anything.
func (r *Rooms) linkedIn(e *Event, b *Bundle) (bool, error) {
	if b.in != e.In {
		b.in, b.looked, b.nothing = e.In, 0, false
	}
	if e.links.Load() != linksUnknown {
		return r.linked(e)
	}
	if b.looked++; b.looked == 2 {
		b.nothing = true
		if err := r.st.ScanPrefix(store.U32(store.Relation.Prefix(), uint32(e.In)), func(_, _ []byte) (bool, error) {
			b.nothing = false
			return false, nil
		}); err != nil {
			return false, err
		}
	}
	if b.nothing {
		return false, nil
	}
	return r.linked(e)
}

// linked says whether something relates to the event, at the cost of one seek
// where that is not known yet. A writer that adds a relation marks the event
// that is in memory after its rows can be read, so a look that came too early
// cannot win.
func (r *Rooms) linked(e *Event) (bool, error) {
	switch e.links.Load() {
	case linksNone:
		return false, nil
	case linksSome:
		return true, nil
	}
	found := false
	err := r.Related(e.In, e.ID, func(*Relation) (bool, error) {
		found = true
		return false, nil
	})
	if err != nil {
		return false, err
	}
	state := linksNone
	if found {
		state = linksSome
	}
	e.links.CompareAndSwap(linksUnknown, state)
	return found, nil
}

// markLinked notes on the event in memory that something relates to it.
func (r *Rooms) markLinked(target mxid.EventID) {
	num, err := r.number(target)
	if err != nil || num == 0 {
		return // then it is in no cache either
	}
	if e := r.cache.get(num); e != nil {
		e.links.Store(linksSome)
	}
}

func newLinks(state uint32) *atomic.Uint32 {
	l := new(atomic.Uint32)
	l.Store(state)
	return l
}

// relation is what a staged event says it relates to.
type relation struct {
	to      mxid.EventID // empty: nothing
	relType string
	thread  Key // last reply of the thread before this one; zero: none
}

// relatesTo reads a content's m.relates_to. What is no relation gives the zero
// value. A reply without a rel_type relates too, to an empty type.
func relatesTo(content []byte) (rel relation) {
	val, ok := cjson.Lookup(content, "m.relates_to")
	if !ok {
		return rel
	}
	id, ok := cjson.LookupString(val, "event_id")
	if !ok || len(id) == 0 || len(id) > 255 {
		return rel
	}
	rel.to = mxid.EventID(id)
	if relType, ok := cjson.LookupString(val, "rel_type"); ok && len(relType) <= 255 && !bytes.Contains([]byte(relType), []byte{0}) {
		rel.relType = relType
	}
	return rel
}

// RelationOf gives the event that an event relates to and how; empty where it
// does not.
func RelationOf(e *Event) (target mxid.EventID, relType string) {
	rel := relatesTo(e.Content)
	return rel.to, rel.relType
}

// relate works out what a staged event adds to the relations.
func (w *Writer) relate(s *staged) (err error) {
	if s.rel = relatesTo(s.ev.Content); s.rel.relType == RelThread {
		s.rel.thread, err = w.r.lastReply(w.head.Room, s.rel.to, 0)
	}
	return err
}

// lateReplies is how many replies are looked at beyond the newest live one, for
// one that has an older number and a later place: it was here as an outlier.
const lateReplies = 32

// lastReply is the place of the newest reply in a thread, one left out; zero
// where there is none. Rows stand in the order of arrival, and what was
// back-filled came later than what it stands before: the latest place counts.
func (r *Rooms) lastReply(room Num, root mxid.EventID, without EventNum) (k Key, err error) {
	if room == 0 {
		return k, nil
	}
	left := lateReplies
	err = r.RelatedBack(room, root, func(rel *Relation) (bool, error) {
		if rel.RelType != RelThread || rel.Num == without {
			return true, nil
		}
		if k.Before(rel.At) {
			k = rel.At
		}
		if k.Fill == liveFill {
			left--
		}
		return left > 0, nil
	})
	return k, err
}

// mayRelate refuses what clients may not send: the same annotation twice, and a
// thread that begins at an event which is part of a relation itself.
// Spec: client-server, event annotations, avoiding duplicate annotations;
// threading, validation of m.thread relationships.
func (w *Writer) mayRelate(d *Draft) error {
	rel := relatesTo(d.Content)
	switch {
	case rel.to == "" || w.head.Room == 0 || d.StateKey != nil:
		return nil
	case rel.relType == RelThread:
		root, err := w.r.Lookup(rel.to)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		if err == nil && root.In == w.head.Room && relatesTo(root.Content).relType != "" {
			err = fault.E(fault.Unknown, "room.Send", "a thread cannot begin at an event that relates to another")
		}
		return err
	case rel.relType != RelAnnotation:
		return nil
	}
	key, _ := cjson.LookupPath(d.Content, "m.relates_to", "key")
	sender, err := w.r.User(d.Sender)
	if err != nil || sender == 0 {
		return err
	}
	return w.r.Related(w.head.Room, rel.to, func(old *Relation) (bool, error) {
		if old.RelType != RelAnnotation || old.Sender != sender || old.Type != d.Type {
			return true, nil
		}
		e, err := w.r.Event(old.Num)
		if fault.Is(err, fault.NotFound) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if had, _ := cjson.LookupPath(e.Content, "m.relates_to", "key"); sameText(had, key) {
			return false, fault.E(fault.DuplicateNote, "room.Send", "you have annotated this event so already")
		}
		return true, nil
	})
}

func sameText(a, b []byte) bool {
	s, ok1 := cjson.String(a)
	t, ok2 := cjson.String(b)
	return ok1 && ok2 && s == t
}

// threadKey is the row of a thread by its last reply.
func threadKey(dst []byte, room Num, last Key, root mxid.EventID) []byte {
	dst = store.U64(store.U32(store.Thread.Key(dst), uint32(room)), uint64(last.Pos))
	return appendID(binary.BigEndian.AppendUint16(dst, last.Fill), root)
}

// appendRelation writes the rows of a staged event's relation. replied holds the
// last replies of threads that events of the same batch have.
func (w *Writer) appendRelation(tx *stream.Tx, s *staged, sender uint32, replied map[mxid.EventID]Key) {
	if s.rel.to == "" {
		return
	}
	var kbuf [300]byte
	e := s.ev
	typ, _, _ := strings.Cut(e.Type, "\x00") // NUL ends it in the row; no client of ours can ask for more
	row := appendRelation(nil, s.rel.relType, typ, sender, e.At)
	tx.Set(store.U64(relationPrefix(kbuf[:0], w.head.Room, s.rel.to), uint64(e.Num)), row)
	if s.rel.relType != RelThread {
		return
	}
	last, ok := replied[s.rel.to]
	if !ok {
		last = s.rel.thread
	}
	if e.At.Before(last) {
		return // back-filled: it is not the last reply
	}
	if last != (Key{}) {
		tx.Delete(threadKey(kbuf[:0], w.head.Room, last, s.rel.to))
	}
	replied[s.rel.to] = e.At
	tx.Set(threadKey(kbuf[:0], w.head.Room, e.At, s.rel.to), nil)
}

// unrelation is what a redaction takes out of the relations.
type unrelation struct {
	relation // of the redacted event
	num      EventNum
	sender   uint32
	at       Key
	before   Key // the thread's last reply without it
}

// unrelate works out what becomes of an event's relation when it is redacted.
func (w *Writer) unrelate(target *Event) (u unrelation, err error) {
	u = unrelation{relation: relatesTo(target.Content), num: target.Num, at: target.At}
	if u.sender, err = w.r.User(target.Sender); err != nil || u.relType != RelThread {
		return u, err
	}
	if u.thread, err = w.r.lastReply(w.head.Room, u.to, 0); err != nil {
		return u, err
	}
	u.before, err = w.r.lastReply(w.head.Room, u.to, target.Num)
	return u, err
}

func (w *Writer) appendUnrelation(tx *stream.Tx, u *unrelation) {
	if u.to == "" {
		return
	}
	var kbuf [300]byte
	tx.Delete(store.U64(relationPrefix(kbuf[:0], w.head.Room, u.to), uint64(u.num)))
	if u.relType != RelThread || u.thread != u.at {
		return
	}
	tx.Delete(threadKey(kbuf[:0], w.head.Room, u.at, u.to))
	if u.before != (Key{}) {
		tx.Set(threadKey(kbuf[:0], w.head.Room, u.before, u.to), nil)
	}
}

// Threads calls f for the threads of a room whose last reply lies before a
// place, the latest first, until f returns false.
func (r *Rooms) Threads(room Num, before Key, f func(last Key, root mxid.EventID) (more bool, err error)) error {
	v, err := r.versionOf(room)
	if err != nil {
		return err
	}
	prefix := store.U32(store.Thread.Key(nil), uint32(room))
	upper := binary.BigEndian.AppendUint16(store.U64(slices.Clone(prefix), uint64(before.Pos)), before.Fill)
	return r.st.ScanBack(prefix, upper, func(key, _ []byte) (bool, error) {
		if len(key) < 16 {
			return false, fault.E(fault.Corrupt, "room", "a thread key of %d bytes", len(key))
		}
		d := decoder{src: key[15:]}
		root := d.id(v)
		if err := d.err("thread key"); err != nil {
			return false, err
		}
		return f(Key{stream.Pos(binary.BigEndian.Uint64(key[5:])), binary.BigEndian.Uint16(key[13:])}, root)
	})
}
