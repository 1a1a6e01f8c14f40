package room

import (
	"encoding/binary"
	"slices"

	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/snapshot"
	"hearth/engine/store"
	"hearth/engine/stream"
)

// Hole is a place in a timeline before which events are missing that other
// servers have: before the hub joined, or while it was away. Its row is written
// with the event above it and goes when something was filled in.
type Hole struct {
	At    Key            // of the event above it
	Lacks []mxid.EventID // the events directly before it; none where the hub has removed what was there: see Trim
}

// Trimmed says that the hub itself has removed what was there: it is not to be
// fetched again.
func (h *Hole) Trimmed() bool { return len(h.Lacks) == 0 }

func holeKey(dst []byte, room Num, k Key) []byte {
	dst = store.U64(store.U32(store.Hole.Key(dst), uint32(room)), uint64(k.Pos))
	return binary.BigEndian.AppendUint16(dst, k.Fill)
}

// Holes calls f for the holes of a room at from <= key < to, oldest first or,
// with back, newest first, until f returns false.
func (r *Rooms) Holes(room Num, from, to Key, back bool, f func(h *Hole) (more bool, err error)) error {
	v, err := r.versionOf(room)
	if err != nil {
		return err
	}
	scan := r.st.Scan
	if back {
		scan = r.st.ScanBack
	}
	return scan(holeKey(nil, room, from), holeKey(nil, room, to), func(key, val []byte) (bool, error) {
		if len(key) != 15 {
			return false, fault.E(fault.Corrupt, "room", "a hole's key of %d bytes", len(key))
		}
		h := Hole{At: Key{stream.Pos(binary.BigEndian.Uint64(key[5:])), binary.BigEndian.Uint16(key[13:])}}
		for d := (decoder{src: val}); len(d.src) > 0; {
			h.Lacks = append(h.Lacks, d.id(v))
			if err := d.err("row of a hole"); err != nil {
				return false, err
			}
		}
		return f(&h)
	})
}

// lastHole is the newest hole of a room before a place; zero where there is none.
func (r *Rooms) lastHole(room Num, before Key) (at Key, err error) {
	err = r.st.ScanBack(holeKey(nil, room, Key{}), holeKey(nil, room, before), func(key, _ []byte) (bool, error) {
		if len(key) == 15 {
			at = Key{stream.Pos(binary.BigEndian.Uint64(key[5:])), binary.BigEndian.Uint16(key[13:])}
		}
		return false, nil
	})
	return at, err
}

// appendHole writes what is missing before an event that gets its place.
func (w *Writer) appendHole(tx *stream.Tx, s *staged) {
	if len(s.lacks) == 0 {
		return
	}
	var row []byte
	for _, id := range s.lacks {
		row = appendID(row, id)
	}
	tx.Set(holeKey(nil, w.head.Room, s.ev.At), row)
	if w.head.Hole.Before(s.ev.At) {
		w.head.Hole = s.ev.At
	}
}

// lacking picks the events of a list that are not here, or only as outliers.
func (w *Writer) lacking(ids []mxid.EventID) (list []mxid.EventID, err error) {
	for _, id := range ids {
		e, err := w.byID(id)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		if (err != nil || e.Outlier()) && !slices.Contains(list, id) {
			list = append(list, id)
		}
	}
	return list, nil
}

// maxLacks bounds the ids a hole remembers: more heads of the past than that are
// reached by one of the others, or not at all.
const maxLacks = 20

// Fill stages events that come before a hole, oldest first, and puts them in
// its place: the newest directly below the event above the hole. given has the
// states before those that follow events which are not here; where it has none,
// the state stays unknown, and so does that of what follows. What still lacks
// becomes a hole below the oldest. Nothing of the room's present changes, and no
// entry tells of it: who reads there finds it.
//
// What looks as if this hub had removed it is not taken, and no longer lacking: see
// Trimmed.
//
// A Gap names auth events that have to be here first; then nothing was staged.
// filled counts the events that got a place.
//
// Spec: server-server, backfilling and retrieving missing events.
func (w *Writer) Fill(h *Hole, events []*event.Event, given map[mxid.EventID][]mxid.EventID) (filled int, gap Gap, err error) {
	if len(w.staged) > 0 {
		return 0, gap, fault.E(fault.Internal, "room.Fill", "a hole is filled in a batch of its own")
	}
	if t := w.r.trims.of(w.head.Room); t != nil {
		if !t.floor.Before(h.At) {
			return 0, gap, nil // what was there was removed meanwhile
		}
		t.filled.Store(true)
	}
	var past []mxid.EventID
	for _, e := range events {
		if err := w.ours(e); err != nil {
			return 0, gap, err
		}
		if w.r.Trimmed(w.head.Room, e) {
			past = append(past, e.ID)
			continue
		}
		one, err := w.fill(e, given[e.ID])
		if err != nil {
			return 0, gap, err
		}
		gap.Auth = append(gap.Auth, one.Auth...)
	}
	if len(gap.Auth) > 0 {
		w.staged = nil
		return 0, gap, nil
	}
	filled, err = w.place(h, past)
	return filled, gap, err
}

// fill stages one event of the past, without a place yet.
func (w *Writer) fill(e *event.Event, given []mxid.EventID) (Gap, error) {
	old, err := w.byID(e.ID)
	switch {
	case err == nil && old.Flags&flagOutlier == 0:
		return Gap{}, nil
	case err != nil && !fault.Is(err, fault.NotFound):
		return Gap{}, err
	}
	authority, gap, err := w.authority(e)
	if err != nil || !gap.Empty() {
		return gap, err
	}
	prev, missing, foreign, err := w.prev(e)
	if err != nil {
		return gap, err
	}
	s := staged{ev: &Event{Event: e, In: w.head.Room, links: newLinks(linksUnknown)}, outcome: Filled, awaits: missing}
	if s.lacks, err = w.lacking(missing); err != nil {
		return gap, err
	}
	w.adopt(&s, old)
	known := len(missing) == 0 || given != nil
	var before snapshot.Ref
	var set State
	if known && !foreign {
		if before, set, err = w.before(&s, prev, given); err != nil {
			return gap, err
		}
		s.ev.Before, s.ev.After = before.Num, before.Num
	}
	if foreign || authority.check(e) != nil {
		s.ev.Flags |= flagRejected
		_, _, err := w.refuse(&s)
		return gap, err
	}
	if known {
		if denied, err := w.denies(set, e); err != nil {
			return gap, err
		} else if denied {
			s.ev.Flags |= flagDenied
			_, _, err := w.refuse(&s)
			return gap, err
		}
	}
	if e.IsState && known {
		key, err := w.r.names.Number(store.StateKeys, stateName(e.Type, e.StateKey))
		if err != nil {
			return gap, err
		}
		s.ev.Replaces = EventNum(set.Get(key))
		delta := []snapshot.Pair{{Key: key, Event: uint64(s.ev.Num)}}
		s.ev.After = w.snapshot(&s, before, delta, set.With(delta)).Num
	}
	w.pack(&s)
	if err := w.relate(&s); err != nil {
		return gap, err
	}
	if err := w.redactions(&s); err != nil {
		return gap, err
	}
	w.staged = append(w.staged, s)
	return gap, nil
}

// place gives the staged events their places below the hole and moves the hole
// below them. The places of one hole come to an end after 65,535 events; what is
// older stays with the other servers. past is known not to come.
func (w *Writer) place(h *Hole, past []mxid.EventID) (filled int, err error) {
	at := h.At
	lacks, err := w.lacking(h.Lacks)
	if err != nil {
		return 0, err
	}
	var lowest *staged
	for _, s := range slices.Backward(w.ordered()) {
		if at.Fill == 0 {
			s.outcome, s.rel = Aside, relation{}
			s.ev.Flags |= flagOutlier
			s.ev.Before, s.ev.After, s.ev.Replaces = 0, 0, 0
			continue
		}
		at.Fill--
		s.ev.At = at
		for _, id := range s.lacks {
			if !slices.Contains(lacks, id) {
				lacks = append(lacks, id)
			}
		}
		s.lacks, lowest = nil, s
		filled++
	}
	// What was staged later is no longer lacking.
	if lacks, err = w.lacking(lacks); err != nil {
		return 0, err
	}
	lacks = slices.DeleteFunc(lacks, func(id mxid.EventID) bool { return slices.Contains(past, id) })
	if lowest != nil && at.Fill > 0 {
		lowest.lacks = lacks[:min(len(lacks), maxLacks)]
	}
	if filled > 0 || len(lacks) == 0 {
		w.closes = append(w.closes, h.At)
	}
	return filled, nil
}

// ordered lists the staged events that are to have a place, as they were given.
func (w *Writer) ordered() (list []*staged) {
	for i := range w.staged {
		if w.staged[i].outcome == Filled {
			list = append(list, &w.staged[i])
		}
	}
	return list
}

// appendCloses removes the rows of holes that were filled. It comes before new
// ones are written.
func (w *Writer) appendCloses(tx *stream.Tx) error {
	for _, at := range w.closes {
		tx.Delete(holeKey(nil, w.head.Room, at))
		if w.head.Hole == at {
			var err error
			if w.head.Hole, err = w.r.lastHole(w.head.Room, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// Closes says whether the hole that Fill was given is no more.
func (w *Writer) Closes() bool { return len(w.closes) > 0 }
