package room

import (
	"encoding/binary"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/snapshot"
	"hearth/engine/store"
)

// What is left over of a removed history are state events, redactions and the
// states between them. Which of them are needed nobody counts on the way of an
// event, so it is looked for: from the room's present and from all that remains.
// Who comes meanwhile can build only on what can be found, and so on what was
// marked; what was made since is marked under the room's lock before anything goes.

// marks are what a room needs of what is left over.
type marks struct {
	r      *Rooms
	room   Num
	events map[EventNum]struct{}
	snaps  map[snapshot.Num]struct{}
	newEv  []EventNum     // of events, those whose auth events are not marked yet
	newSn  []snapshot.Num // of snaps, those whose rows were not read yet
	next   Key            // what remains is marked up to here

	here  bool         // the room's present is marked, as it was when that was looked at
	ready bool         // all is marked that was there then
	last  snapshot.Num // snapshots above are left alone, and so is what they are made of
	top   snapshot.Num // of those, they are marked up to here
	below snapshot.Num // the next snapshot to be looked at
	after EventNum     // leftovers up to this one were looked at
	kept  uint64       // of them
}

// markStep is how many of the events that remain are read at a time.
const markStep = 2000

func (m *marks) event(num EventNum) {
	if _, known := m.events[num]; !known && num != 0 {
		m.events[num] = struct{}{}
		m.newEv = append(m.newEv, num)
	}
}

func (m *marks) snap(num snapshot.Num) {
	if _, known := m.snaps[num]; !known && num != 0 {
		m.snaps[num] = struct{}{}
		m.newSn = append(m.newSn, num)
	}
}

func (m *marks) id(id mxid.EventID) error {
	num, err := m.r.number(id)
	m.event(num)
	return err
}

// remaining marks what some of the events need that stand in the timeline. more says
// that there are others.
func (m *marks) remaining(h *Head, limit int) (more bool, err error) {
	n := 0
	err = m.r.Timeline(m.room, m.next, After(h.Last), false, func(k Key, num EventNum) (bool, error) {
		if n == limit {
			more = true
			return false, nil
		}
		n++
		m.next = k.Next()
		return true, m.stays(num)
	})
	return more, err
}

// stays marks what one event needs that stays. One that was made here names only
// what stood in the state before it.
func (m *marks) stays(num EventNum) error {
	e := Event{Num: num}
	for _, state := range [...]bool{false, true} {
		val, ok, err := m.r.st.Get(nil, bodyKey(nil, state, num))
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		d, err := e.parseHeader(val)
		if err == nil && e.Flags&flagLocal == 0 {
			err = m.r.unpack(&e, d)
		}
		if fault.Is(err, fault.Corrupt) {
			return nil
		}
		if err != nil {
			return err
		}
		break
	}
	m.snap(e.Before)
	m.snap(e.After)
	m.event(e.RedactedBy)
	if e.Event == nil {
		return nil
	}
	for _, id := range e.Auth {
		if err := m.id(id); err != nil {
			return err
		}
	}
	return nil
}

// present marks what the room's present needs.
func (m *marks) present(h *Head, anchors []EventNum) error {
	m.snap(h.snap.Num)
	m.snap(h.rest)
	for _, num := range anchors {
		m.event(num)
		e, err := m.r.Event(num)
		if err != nil {
			return err
		}
		m.snap(e.Before)
		m.snap(e.After)
		m.event(e.Replaces)
	}
	return m.r.Members(m.room, func(one Member) bool {
		m.event(one.Event)
		return true
	})
}

// spread marks what that needs which is marked. more says that there is something left.
func (m *marks) spread(limit int) (more bool, err error) {
	for len(m.newSn) > 0 || len(m.newEv) > 0 {
		if limit == 0 {
			return true, nil
		}
		limit--
		if n := len(m.newSn); n > 0 {
			num := m.newSn[n-1]
			m.newSn = m.newSn[:n-1]
			parent, err := m.r.snaps.Refers(uint32(m.room), num, func(p snapshot.Pair) { m.event(EventNum(p.Event)) })
			if err != nil {
				return false, err
			}
			m.snap(parent)
			continue
		}
		n := len(m.newEv)
		num := m.newEv[n-1]
		m.newEv = m.newEv[:n-1]
		e, err := m.r.Event(num)
		if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Corrupt) {
			continue
		}
		if err != nil {
			return false, err
		}
		m.event(e.RedactedBy)
		for _, id := range e.Auth {
			if err := m.id(id); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// early marks some of what there is, without the room's lock: nearly all of it, in a
// room where little happens meanwhile.
func (m *marks) early(h *Head, t *trim) error {
	more, err := m.remaining(h, markStep)
	if more || err != nil {
		return err
	}
	if !m.here {
		if err := m.present(h, t.anchors); err != nil {
			return err
		}
		m.here = true
	}
	more, err = m.spread(markStep)
	m.ready = err == nil && !more
	return err
}

// all marks what came since the last time. The room's lock has to be held.
func (m *marks) all(h *Head, t *trim) error {
	if _, err := m.remaining(h, -1); err != nil {
		return err
	}
	if err := m.present(h, t.anchors); err != nil {
		return err
	}
	// Whatever a state was made for that is left alone, also of events that have no
	// place: what it is a difference to stays, and all that is in it.
	if err := m.r.snaps.Back(uint32(m.room), h.lastSnap, func(num snapshot.Num) bool {
		if num <= m.top {
			return false
		}
		m.snap(num)
		return true
	}); err != nil {
		return err
	}
	m.top = h.lastSnap
	_, err := m.spread(-1)
	return err
}

// sweepSome looks at some more of what is left over.
func (r *Rooms) sweepSome(t *trim, next *trimRow, extra func(b *store.Batch, gone []*Event) error) (done bool, err error) {
	h, err := r.Head(t.room)
	if err != nil {
		return false, err
	}
	if t.marks == nil {
		t.marks = &marks{r: r, room: t.room, events: map[EventNum]struct{}{}, snaps: map[snapshot.Num]struct{}{}, next: t.floor,
			last: h.lastSnap, top: h.lastSnap, below: h.lastSnap}
	}
	m := t.marks
	if !m.ready {
		return false, m.early(h, t)
	}
	w, err := r.Write(t.room)
	if err != nil {
		return false, err
	}
	defer w.End()
	if t.filled.Swap(false) { // below what was gone through
		m.ready, m.next = false, t.floor
		return false, nil
	}
	if err := m.all(w.head, t); err != nil {
		return false, err
	}
	l := trimLook{r: r, t: t, b: r.st.NewBatch(), row: next, today: r.day()}
	l.b.Frees()
	more, err := l.snapshots(m)
	if err == nil && !more {
		more, err = l.leftovers(m)
	}
	if err != nil {
		l.b.Drop()
		return false, err
	}
	if !more {
		next.done, next.left, next.need = true, m.kept, m.kept
	}
	err = l.commit(extra)
	r.cache.clear()
	r.snaps.Forget(uint32(t.room))
	return next.done && err == nil, err
}

// snapshots removes states that nothing needs, the newest first: so what a state is
// a difference to goes after it.
func (l *trimLook) snapshots(m *marks) (more bool, err error) {
	if m.below == 0 {
		return false, nil
	}
	n := 0
	var from, to snapshot.Num // of the stretch that goes
	flush := func() {
		if to != 0 {
			snapshot.Drop(l.b, uint32(m.room), from, to)
		}
		from, to = 0, 0
	}
	err = m.r.snaps.Back(uint32(m.room), m.below, func(num snapshot.Num) bool {
		if n == trimStep {
			more = true
			return false
		}
		n++
		m.below = num - 1
		if _, needed := m.snaps[num]; needed {
			flush()
		} else if from = num; to == 0 {
			to = num
		}
		return true
	})
	flush()
	if !more {
		m.below = 0
	}
	return more, err
}

// leftovers removes events that nothing needs.
func (l *trimLook) leftovers(m *marks) (more bool, err error) {
	n := 0
	prefix := store.U32(store.Leftover.Prefix(), uint32(m.room))
	err = m.r.st.Scan(leftoverKey(nil, m.room, m.after+1), store.After(prefix), func(key, val []byte) (bool, error) {
		if len(key) != 13 {
			return false, fault.E(fault.Corrupt, "room", "a leftover's key of %d bytes", len(key))
		}
		if n == trimStep || l.held >= trimBytes {
			more = true
			return false, nil
		}
		n++
		m.after = EventNum(binary.BigEndian.Uint64(key[5:]))
		keep, err := l.leftover(m, m.after, len(val) > 0)
		if keep {
			m.kept++
		} else if err == nil {
			l.b.Delete(leftoverKey(nil, m.room, m.after))
		}
		return true, err
	})
	return more, err
}

// leftover looks at one event. own says that it stays only as it was made here.
func (l *trimLook) leftover(m *marks, num EventNum, own bool) (keep bool, err error) {
	if _, needed := m.events[num]; needed {
		return true, nil
	}
	e, size, err := l.r.raw(num)
	switch {
	case fault.Is(err, fault.Corrupt) || err == nil && e == nil:
		return false, nil
	case err != nil:
		return false, err
	case e.In != m.room || !e.At.Before(l.t.floor): // it has found a place again
		return false, nil
	case own && l.t.keepLocal:
		return true, nil
	}
	return false, l.drop(e, size)
}
