package room

import (
	"hearth/engine/auth"
	"hearth/engine/event"
	"hearth/engine/mxid"
	"hearth/engine/snapshot"
	"hearth/engine/store"
)

// staged is an event on its way to the disk.
type staged struct {
	ev      *Event
	outcome Outcome
	known   bool // it has been here as an outlier, under the same number
	relay   bool // this hub passes it on to the other servers in the room
	first   bool // the hub had no present of the room before it
	packed  []byte
	snaps   []newSnapshot
	changes []Change // what it did to the current state
	members []*memberChange
	told    []byte // row of Invitation, where the event gives a standing outside the room
	redacts []redaction
	rel     relation
	awaits  []mxid.EventID // events it points at that are not here
	lacks   []mxid.EventID // of those the ones that came before it: a hole in the timeline
}

// placed says whether the event gets a place in the timeline.
func (s *staged) placed() bool { return s.outcome == Accepted || s.outcome == Filled }

// newSnapshot is a state that the event made necessary.
type newSnapshot struct {
	ref, parent snapshot.Ref
	delta       []snapshot.Pair
	set         State
}

// redaction is an event that is emptied, with what is left of it, packed.
type redaction struct {
	target *Event
	hollow []byte
	unrel  unrelation // what goes out of the relations with it
}

// stageLocal stages an event made here: on all extremities, so the state before
// it is the room's present and the state after it the room's next.
func (w *Writer) stageLocal(made *event.Event, target *Event, txn Txn) (*Event, error) {
	if w.head.ID == "" {
		w.head.ID = made.Room
	}
	e := &Event{
		Event: made, Num: EventNum(w.r.lastEvent.Add(1)), In: w.head.Room, Flags: flagLocal,
		Before: w.head.snap.Num, After: w.head.snap.Num, links: newLinks(linksUnknown),
	}
	if txn.Device != 0 {
		e.TxnDevice, e.Txn = txn.Device, txn.ID
	}
	if w.head.Version.IDs != event.IDInEvent {
		e.links.Store(linksNone) // its id is a hash: nobody knew it before
	}
	s := staged{ev: e}
	if err := w.relate(&s); err != nil {
		return nil, err
	}
	if made.IsState {
		e.Flags |= flagState
		key, err := w.r.names.Number(store.StateKeys, stateName(e.Type, e.StateKey))
		if err != nil {
			return nil, err
		}
		delta := []snapshot.Pair{{Key: key, Event: uint64(e.Num)}}
		e.Replaces = EventNum(w.head.State.Get(key))
		set := w.head.State.With(delta)
		ref := w.snapshot(&s, w.head.snap, delta, set)
		e.After = ref.Num
		if err := w.move(&s, ref, set, []Change{{key, e.Replaces, e.Num}}); err != nil {
			return nil, err
		}
	}
	if target != nil {
		if err := w.redact(&s, target); err != nil {
			return nil, err
		}
	} else if made.Type == "m.room.redaction" && !made.IsState && made.Redacts != "" {
		s.awaits = append(s.awaits, made.Redacts)
	}
	w.pack(&s)
	// What had no place among the events it follows remains to be followed. What was
	// let go of is in the state it is built on.
	w.head.rest = 0
	w.head.ext = append([]extremity{{e.Num, made.ID, made.Depth}}, w.head.ext[min(len(w.head.ext), maxPrev):]...)
	w.staged = append(w.staged, s)
	return e, nil
}

func (w *Writer) pack(s *staged) {
	s.packed = w.r.codec.pack(make([]byte, 0, len(s.ev.JSON)/2+64), s.ev.JSON)
}

// redact stages the emptying of an event by the staged one.
func (w *Writer) redact(s *staged, target *Event) error {
	hollow, err := target.Event.Redacted()
	if err != nil {
		return err
	}
	var unrel unrelation
	if t := w.stagedAs(target); t != nil {
		t.rel = relation{} // it never comes to be indexed
	} else if unrel, err = w.unrelate(target); err != nil {
		return err
	}
	s.redacts = append(s.redacts, redaction{target, w.r.codec.pack(nil, hollow.JSON), unrel})
	w.hollowOut(target, hollow, s.ev.Num)
	return nil
}

// stagedAs finds an event among those that are staged; nil where it is on disk.
func (w *Writer) stagedAs(e *Event) *staged {
	for i := range w.staged {
		if w.staged[i].ev == e {
			return &w.staged[i]
		}
	}
	return nil
}

// hollowOut has the working head hold what is left of an event: what is in
// memory must judge as what a restart would read.
func (w *Writer) hollowOut(target *Event, hollow *event.Event, by EventNum) {
	h := w.head
	for _, held := range [...]**Event{&h.create, &h.levels, &h.rules} {
		if *held == nil || (*held).Num != target.Num {
			continue
		}
		gone := *target
		gone.Event, gone.RedactedBy = hollow, by
		gone.Flags |= flagRedacted
		*held = &gone
		h.Levels = auth.ParsePowerLevels(plain(h.create), plain(h.levels))
	}
}

// snapshot stages a new state, a difference to its parent.
func (w *Writer) snapshot(s *staged, parent snapshot.Ref, delta []snapshot.Pair, set State) snapshot.Ref {
	w.head.lastSnap++
	ref := snapshot.Next(parent, w.head.lastSnap, len(delta), len(set))
	s.snaps = append(s.snaps, newSnapshot{ref, parent, delta, set})
	return ref
}

// move makes a state the room's present.
func (w *Writer) move(s *staged, ref snapshot.Ref, set State, changes []Change) error {
	h := w.head
	h.snap, h.State = ref, set
	s.changes = changes
	power := false
	for _, c := range changes {
		old, err := w.eventOr(s, c.Old)
		if err != nil {
			return err
		}
		now, err := w.eventOr(s, c.New)
		if err != nil {
			return err
		}
		one := now
		if one == nil {
			one = old
		}
		switch {
		case one.Type == "m.room.member":
			m, err := w.memberChange(old, now)
			if err != nil {
				return err
			}
			s.members = append(s.members, m)
		case one.StateKey != "":
		case one.Type == "m.room.create":
			h.create, power = now, true
		case one.Type == "m.room.power_levels":
			h.levels, power = now, true
		case one.Type == "m.room.join_rules":
			h.rules = now
		}
	}
	if power {
		h.Levels = auth.ParsePowerLevels(plain(h.create), plain(h.levels))
	}
	return nil
}

// eventOr reads an event that may be the one being staged, or staged before; nil
// for number 0.
func (w *Writer) eventOr(s *staged, num EventNum) (*Event, error) {
	switch num {
	case 0:
		return nil, nil
	case s.ev.Num:
		return s.ev, nil
	}
	return w.event(num)
}
