package room

import (
	"slices"

	"hearth/engine/auth"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/snapshot"
	"hearth/engine/store"
)

// Outcome is what became of an event that another server sent.
// Spec: server-server, checks performed on receipt of a PDU.
type Outcome uint8

// The outcomes.
const (
	Accepted   Outcome = iota // part of the room, in its timeline
	Known                     // it was here already
	Rejected                  // refused by its auth events or by the state before it
	SoftFailed                // refused by the room's present: kept, but not shown nor built upon
	Missing                   // the Gap has to be filled first
	Aside                     // kept as an outlier, without a place in the graph
	Filled                    // part of the room's past, in a place before a hole
)

// Gap names the events that have to be here before another can be accepted.
// Package room never asks for them: who can, does, and calls again.
type Gap struct {
	Prev []mxid.EventID // events it follows, whose state is needed
	Auth []mxid.EventID // events that authorise it
}

// Empty says whether nothing is lacking.
func (g *Gap) Empty() bool { return len(g.Prev)+len(g.Auth) == 0 }

// Accept checks an event from elsewhere against the room and stages it. Its
// form, hash and signatures were checked before. given is the state before the
// event where another server told it, because what lies between is not to be
// had; nil where the events it follows are here. The ids in given have to be
// here, as outliers at least.
//
// Spec: server-server, checks performed on receipt of a PDU 4 to 7.
func (w *Writer) Accept(e *event.Event, given []mxid.EventID) (Outcome, Gap, error) {
	if err := w.ours(e); err != nil {
		return 0, Gap{}, err
	}
	old, err := w.byID(e.ID)
	switch {
	case err == nil && old.Flags&flagOutlier == 0:
		return Known, Gap{}, nil
	case err != nil && !fault.Is(err, fault.NotFound):
		return 0, Gap{}, err
	}
	authority, gap, err := w.authority(e)
	if err != nil {
		return 0, gap, err
	}
	prev, missing, foreign, err := w.prev(e)
	if err != nil {
		return 0, gap, err
	}
	if given == nil {
		gap.Prev = missing
	}
	if !gap.Empty() {
		return Missing, gap, nil
	}
	s := staged{ev: &Event{Event: e, In: w.head.Room, links: newLinks(linksUnknown)}, awaits: missing}
	if s.lacks, err = w.lacking(missing); err != nil {
		return 0, gap, err
	}
	w.adopt(&s, old)
	if foreign {
		s.ev.Flags |= flagRejected
		return w.refuse(&s)
	}
	// Also of what is refused: others may follow it all the same.
	before, set, err := w.before(&s, prev, given)
	if err != nil {
		return 0, gap, err
	}
	s.ev.Before, s.ev.After = before.Num, before.Num
	if err := authority.check(e); err != nil {
		s.ev.Flags |= flagRejected
		return w.refuse(&s)
	}
	if denied, err := w.denies(set, e); err != nil {
		return 0, gap, err
	} else if denied {
		s.ev.Flags |= flagDenied
		return w.refuse(&s)
	}
	if len(w.head.ext) == 0 {
		s.first = true
		return Accepted, gap, w.join(&s, before, set) // the first event here: there is no present yet
	}
	if denied, err := w.denies(w.head.State, e); err != nil {
		return 0, gap, err
	} else if denied || slices.Contains(w.advised, e.ID) || !e.IsState && w.r.Trimmed(w.head.Room, e) {
		s.outcome = SoftFailed
		s.ev.Flags |= flagSoft
	}
	return s.outcome, gap, w.join(&s, before, set)
}

// Relay has the log say of the event staged last that this hub passes it on to
// the other servers in the room: its sender's server knows only this one.
// Spec: server-server, joining rooms.
func (w *Writer) Relay() {
	if n := len(w.staged); n > 0 {
		w.staged[n-1].relay = true
	}
}

// ours refuses an event of another room.
func (w *Writer) ours(e *event.Event) error {
	if w.head.ID != "" && e.Room != w.head.ID {
		return fault.E(fault.Invalid, "room.Accept", "the event %s is of another room", e.ID)
	}
	return nil
}

// adopt gives the event the number it had as an outlier, or a new one.
func (w *Writer) adopt(s *staged, old *Event) {
	if s.ev.IsState {
		s.ev.Flags |= flagState
	}
	if old != nil {
		s.known, s.ev.Num = true, old.Num
		s.ev.TxnDevice, s.ev.Txn = old.TxnDevice, old.Txn // of one made here that others bring back
		if old.Redacted() {
			s.ev.Flags |= flagRedacted
			s.ev.Event, s.ev.RedactedBy = old.Event, old.RedactedBy
		}
		return
	}
	s.ev.Num = EventNum(w.r.lastEvent.Add(1))
}

// refuse stages an event that is kept only so that it is known to be bad.
func (w *Writer) refuse(s *staged) (Outcome, Gap, error) {
	s.outcome, s.awaits = Rejected, nil
	w.pack(s)
	w.staged = append(w.staged, *s)
	return Rejected, Gap{}, nil
}

// Discard takes back what was staged last, as if it had not come: who is not in the
// room must not fill the disk with what is refused.
func (w *Writer) Discard() {
	if n := len(w.staged); n > 0 {
		w.staged = w.staged[:n-1]
	}
}

// authority is the events that an event names as authorising it.
type authority struct {
	list   []*event.Event
	create *event.Event // where the version does not name it
}

func (a *authority) check(e *event.Event) error {
	if err := auth.CheckAuthEvents(e, a.list); err != nil {
		return err
	}
	list := a.list
	if a.create != nil {
		list = append(slices.Clone(list), a.create)
	}
	return auth.Check(e, auth.StateOf(list))
}

// authority collects the auth events; those that are not here are the gap.
func (w *Writer) authority(e *event.Event) (a authority, gap Gap, err error) {
	for _, id := range e.Auth {
		ev, err := w.byID(id)
		switch {
		case fault.Is(err, fault.NotFound):
			gap.Auth = append(gap.Auth, id)
			continue
		case err != nil:
			return a, gap, err
		case ev.Flags&(flagRejected|flagDenied) != 0:
			a.list = append(a.list, nil)
			continue
		}
		a.list = append(a.list, ev.Event)
	}
	if !w.head.Version.RoomIDIsCreate || e.Type == "m.room.create" {
		return a, gap, nil
	}
	create, err := w.byID(auth.CreateID(w.head.ID))
	if fault.Is(err, fault.NotFound) {
		gap.Auth = append(gap.Auth, auth.CreateID(w.head.ID))
		return a, gap, nil
	}
	a.create = plain(create)
	return a, gap, err
}

// Keep stages an event from elsewhere as an outlier: part of a state or of an
// auth chain, with no place in the graph. What authorises it has to be here
// before. An outlier may join the graph later, by Accept.
func (w *Writer) Keep(e *event.Event) (Outcome, Gap, error) {
	if err := w.ours(e); err != nil {
		return 0, Gap{}, err
	}
	old, err := w.byID(e.ID)
	if err == nil && old.Flags&flagUnjudged == 0 {
		return Known, Gap{}, nil
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return 0, Gap{}, err
	}
	authority, gap, err := w.authority(e)
	if err != nil {
		return 0, gap, err
	}
	if !gap.Empty() {
		return Missing, gap, nil
	}
	s := staged{ev: &Event{Event: e, In: w.head.Room, Flags: flagOutlier, links: newLinks(linksUnknown)}, outcome: Aside}
	w.adopt(&s, old)
	if authority.check(e) != nil {
		s.ev.Flags |= flagRejected
		s.outcome = Rejected
	}
	w.pack(&s)
	w.staged = append(w.staged, s)
	return s.outcome, Gap{}, nil
}

// prev collects the events that e follows, and the ids of those that are not
// here or whose state is not known. foreign says that one is of another room,
// whose states this one must not take for its own.
func (w *Writer) prev(e *event.Event) (list []*Event, missing []mxid.EventID, foreign bool, err error) {
	for _, id := range e.Prev {
		ev, err := w.byID(id)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, nil, false, err
		}
		if err == nil && ev.In != w.head.Room {
			foreign = true
			continue
		}
		if err != nil || ev.After == 0 {
			missing = append(missing, id)
			continue
		}
		list = append(list, ev)
	}
	return list, missing, foreign, nil
}

// before works out the state before an event.
func (w *Writer) before(s *staged, prev []*Event, given []mxid.EventID) (snapshot.Ref, State, error) {
	if given == nil {
		return w.resolved(s, prev)
	}
	set, err := w.stateOfIDs(given)
	if err != nil {
		return snapshot.Ref{}, nil, err
	}
	return w.snapshot(s, snapshot.Ref{}, nil, set), set, nil
}

// stateOfIDs makes a state of events that are here.
func (w *Writer) stateOfIDs(ids []mxid.EventID) (State, error) {
	var set State
	for _, id := range ids {
		e, err := w.byID(id)
		if err != nil {
			return nil, err
		}
		if !e.IsState || e.Flags&(flagRejected|flagDenied) != 0 || e.In != w.head.Room {
			continue
		}
		key, err := w.r.names.Number(store.StateKeys, stateName(e.Type, e.StateKey))
		if err != nil {
			return nil, err
		}
		set = append(set, snapshot.Pair{Key: key, Event: uint64(e.Num)})
	}
	slices.SortStableFunc(set, func(a, b snapshot.Pair) int { return int(int64(a.Key) - int64(b.Key)) })
	return slices.CompactFunc(set, func(a, b snapshot.Pair) bool { return a.Key == b.Key }), nil
}

// denies says whether the auth rules refuse the event in a state.
func (w *Writer) denies(set State, e *event.Event) (bool, error) {
	var failed error
	err := auth.Check(e, func(typ, stateKey string) *event.Event {
		ev, err := w.stateIn(set, typ, stateKey)
		if err != nil && failed == nil {
			failed = err
		}
		return plain(ev)
	})
	return err != nil, failed
}

// stateIn finds a state event in a set that may hold staged ones.
func (w *Writer) stateIn(set State, typ, stateKey string) (*Event, error) {
	key, err := w.r.names.Find(store.StateKeys, stateName(typ, stateKey))
	if err != nil || key == 0 {
		return nil, err
	}
	num := set.Get(key)
	if num == 0 {
		return nil, nil
	}
	return w.event(EventNum(num))
}

// join stages an event that becomes part of the graph: it takes the place of
// what it follows among the extremities, and the room's present is resolved anew.
func (w *Writer) join(s *staged, before snapshot.Ref, set State) error {
	e := s.ev
	if e.IsState {
		key, err := w.r.names.Number(store.StateKeys, stateName(e.Type, e.StateKey))
		if err != nil {
			return err
		}
		e.Replaces = EventNum(set.Get(key))
		delta := []snapshot.Pair{{Key: key, Event: uint64(e.Num)}}
		set = set.With(delta)
		before = w.snapshot(s, before, delta, set)
		e.After = before.Num
	}
	w.pack(s)
	if s.outcome == SoftFailed {
		w.staged = append(w.staged, *s)
		return nil
	}
	if err := w.relate(s); err != nil {
		return err
	}
	if err := w.redactions(s); err != nil {
		return err
	}
	// From here on the event can be found by what is worked out from it.
	w.staged = append(w.staged, *s)
	s = &w.staged[len(w.staged)-1]
	behind, err := w.behind(e)
	if err != nil {
		return err
	}
	w.head.ext = slices.DeleteFunc(slices.Clone(w.head.ext), func(x extremity) bool { return slices.Contains(behind, x.id) })
	followed, err := w.followed(e.ID)
	if err != nil {
		return err
	}
	if !followed {
		w.head.ext = append(w.head.ext, extremity{e.Num, e.ID, e.Depth})
		if err := w.boundEnds(s); err != nil {
			return err
		}
	}
	return w.present(s)
}

// maxBehind bounds how many refused events are walked through at a time.
const maxBehind = 100

// behind lists the events that cease to be extremities since e came: those it
// follows, and those that refused events between them and e follow. A refused
// event never was an extremity, so it took nobody's place when it came.
func (w *Writer) behind(e *Event) ([]mxid.EventID, error) {
	list := slices.Clone(e.Prev)
	for i := 0; i < len(list) && i < maxBehind; i++ {
		p, err := w.byID(list[i])
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if p.In != w.head.Room || !p.SoftFailed() && !p.Rejected() {
			continue
		}
		for _, id := range p.Prev {
			if !slices.Contains(list, id) {
				list = append(list, id)
			}
		}
	}
	return list, nil
}

// followed says whether an event of the graph points at this one already: it
// came late.
func (w *Writer) followed(id mxid.EventID) (bool, error) {
	for i := range w.staged {
		if s := &w.staged[i]; s.outcome == Accepted && slices.Contains(s.ev.Prev, id) {
			return true, nil
		}
	}
	found := false
	err := w.r.st.ScanPrefix(awaitedPrefix(nil, id), func(key, _ []byte) (bool, error) {
		e, err := w.awaiting(key)
		if fault.Is(err, fault.NotFound) {
			return true, nil // on its way out
		}
		if err != nil {
			return false, err
		}
		found = e.At.Pos != 0 && slices.Contains(e.Prev, id)
		return !found, nil
	})
	return found, err
}

// present resolves the state of all extremities into the room's present.
func (w *Writer) present(s *staged) error {
	nums := make([]snapshot.Num, 0, len(w.head.ext)+1)
	for _, x := range w.head.ext {
		e, err := w.event(x.num)
		if err != nil {
			return err
		}
		nums = append(nums, e.After)
	}
	if w.head.rest != 0 {
		nums = append(nums, w.head.rest)
	}
	old := w.head.State
	ref, set, err := w.resolvedOf(s, nums)
	if err != nil {
		return err
	}
	var changes []Change
	for _, p := range snapshot.Diff(old, set) {
		changes = append(changes, Change{p.Key, EventNum(old.Get(p.Key)), EventNum(p.Event)})
	}
	return w.move(s, ref, set, changes)
}
