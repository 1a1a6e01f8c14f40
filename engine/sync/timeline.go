package sync

import (
	"math"
	"slices"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/filter"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
)

const (
	defaultTimeline = 10
	maxTimeline     = 100
	// maxSifted is how many events of one room are looked at for those that a
	// filter lets pass; where that is not enough the timeline is limited.
	maxSifted = 2000
)

// nothing is a part of a filter that shows no event.
func nothing() *filter.Part {
	p, err := filter.ParseRoomEvents([]byte(`{"types":[]}`))
	if err != nil {
		panic("sync: a filter of ours cannot be read")
	}
	return p
}

// window is the part of a room's timeline that an answer shows.
type window struct {
	a    *answer
	room room.Num
	id   mxid.RoomID
	part *filter.Part
	from room.Key // from here on
	to   room.Key // up to, without

	newest room.Key // the room's newest hole; zero where it has none

	viewer *room.Viewer // judges what was before joined; made where it is needed
	joined stream.Pos   // from here on everything is the user's to see; 0: nothing is, without asking
	own    *room.Event  // an event that is shown whatever the rules say, the user's own leaving
	full   bool         // the client is to get all of the state

	events  []*room.Event // oldest first
	limited bool
	prev    room.Key      // the place before the first event
	skipped []*room.Event // state events in the window that the filter left out
	members bool          // some member event lies in the window
	// stateful says that some state event does
	stateful bool
}

// load reads the events. Spec: client-server, GET /sync, timeline.
func (w *window) load() error {
	w.prev = w.from
	limit := w.part.Limit(defaultTimeline, maxTimeline)
	sifted := 0
	hole, err := w.hole()
	if err != nil {
		return err
	}
	err = w.back(func(k room.Key, num room.EventNum) (bool, error) {
		if k.Before(hole) {
			return false, nil
		}
		if sifted++; sifted > maxSifted {
			w.limited, w.prev = true, k.Next()
			return false, nil
		}
		e, err := w.a.s.rooms.Event(num)
		if fault.Is(err, fault.NotFound) {
			return true, nil // aged since
		}
		if err != nil {
			return false, err
		}
		w.stateful = w.stateful || e.IsState
		if e.IsState && e.Type == "m.room.member" {
			w.members = true
			if err := w.comesOrGoes(e); err != nil {
				return false, err
			}
		}
		sight, err := w.sight(e)
		switch {
		case err != nil:
			return false, err
		case sight == unseen && len(w.events) > 0, sight == passed && w.overtaken(e):
			w.cut(k)
			return false, nil
		case sight != passed:
			if e.IsState {
				w.skipped = append(w.skipped, e)
			}
			return true, nil
		case len(w.events) >= limit:
			w.cut(k)
			return false, nil
		}
		w.events = append(w.events, e)
		w.prev = k
		return true, nil
	})
	if hole != (room.Key{}) && !w.limited {
		w.limited, w.prev = true, hole
	}
	slices.Reverse(w.events)
	return err
}

// hole is the newest place in the window before which events are missing; zero
// where there is none. There the timeline is cut, and /messages fetches what is
// missing.
func (w *window) hole() (at room.Key, err error) {
	newest := w.newest
	if newest == (room.Key{}) || newest.Before(w.from) {
		return at, nil
	}
	if newest.Before(w.to) {
		return newest, nil
	}
	err = w.a.s.rooms.Holes(w.room, w.from, w.to, true, func(h *room.Hole) (bool, error) {
		at = h.At
		return false, nil
	})
	return at, err
}

// back calls f for the events of the window, newest first. Those since the token
// stand in the lines that were read already.
func (w *window) back(f func(k room.Key, num room.EventNum) (more bool, err error)) error {
	if !w.a.short || w.from != room.After(w.a.since.pos) || w.to != room.After(w.a.next.pos) {
		return w.a.s.rooms.Timeline(w.room, w.from, w.to, true, f)
	}
	for _, l := range slices.Backward(w.a.lines) {
		if l.kind != stream.RoomEvent || room.Num(l.room) != w.room {
			continue
		}
		if more, err := f(room.Key{Pos: l.pos, Fill: math.MaxUint16}, l.event); !more || err != nil {
			return err
		}
	}
	return nil
}

// sight is what becomes of an event.
type sight uint8

const (
	passed sight = iota
	hidden       // the filter or the user leaves it out
	unseen       // the room's rules do
)

// sight judges an event. Where something unseen lies between two events that are
// seen, as after an absence, the timeline is cut there: the client could not play
// the older ones over the state it is told.
func (w *window) sight(e *room.Event) (sight, error) {
	if !w.clear(e) && (w.own == nil || e.Num != w.own.Num) {
		if err := w.view(); err != nil {
			return unseen, err
		}
		if seen, err := w.viewer.Sees(e); err != nil || !seen {
			return unseen, err
		}
	}
	if !w.part.Passes(e.Type, e.Sender, e.Content) || !e.IsState && w.a.ignores(e.Sender) {
		return hidden, nil
	}
	if ok, err := w.related(e); err != nil || !ok {
		return hidden, err
	}
	return passed, nil
}

// cut ends the timeline before the event at k, counting back.
func (w *window) cut(k room.Key) {
	w.limited = true
	if len(w.events) == 0 {
		w.prev = k.Next()
	}
}

// overtaken says whether a state event was followed by one of the same key that
// the client is told as state: playing this one over it would undo it.
func (w *window) overtaken(e *room.Event) bool {
	return e.IsState && !w.a.req.UseStateAfter && slices.ContainsFunc(w.skipped, func(s *room.Event) bool { return s.Is(e.Type, e.StateKey) })
}

// clear says whether the user was joined at the event and has been since.
func (w *window) clear(e *room.Event) bool { return w.joined != 0 && e.At.Pos >= w.joined }

func (w *window) view() (err error) {
	if w.viewer == nil {
		w.viewer, err = w.a.s.rooms.Viewer(w.room, w.a.req.UserID)
	}
	return err
}

// related asks what a filter may ask of the events that relate to this one.
// Spec: client-server, filtering, related_by_senders and related_by_rel_types.
func (w *window) related(e *room.Event) (bool, error) {
	if w.part == nil || w.part.RelatedSenders == nil && w.part.RelatedTypes == nil {
		return true, nil
	}
	found := false
	err := w.a.s.rooms.Related(w.room, e.ID, func(rel *room.Relation) (bool, error) {
		if w.part.RelatedTypes != nil && !slices.Contains(w.part.RelatedTypes, rel.RelType) {
			return true, nil
		}
		if w.part.RelatedSenders != nil {
			by, err := w.a.s.rooms.Event(rel.Num)
			if fault.Is(err, fault.NotFound) {
				return true, nil
			}
			if err != nil {
				return false, err
			}
			if !slices.Contains(w.part.RelatedSenders, string(by.Sender)) {
				return true, nil
			}
		}
		found = true
		return false, nil
	})
	return found, err
}

// comesOrGoes notes who joins and who leaves, so that the user is told of the
// presence and the devices of those whom the user now shares a room with.
func (w *window) comesOrGoes(e *room.Event) error {
	if w.a.initial || w.own != nil || e.StateKey == string(w.a.req.UserID) {
		return nil
	}
	now, before := room.MembershipOf(e.Content), room.None
	if e.Replaces != 0 {
		old, err := w.a.s.rooms.Event(e.Replaces)
		if err != nil {
			return err
		}
		before = room.MembershipOf(old.Content)
	}
	if (now == room.Join) == (before == room.Join) {
		return nil // a change of profile, or an invite
	}
	user, err := w.a.s.rooms.User(mxid.UserID(e.StateKey))
	switch {
	case err != nil || user == 0:
		return err
	case now == room.Join:
		w.a.arrived = append(w.a.arrived, user)
	default:
		w.a.parted = append(w.a.parted, user)
	}
	return nil
}

// membership is the user's when an event was sent, which is told with it.
// Spec: client-server, room event format, unsigned.membership.
func (w *window) membership(e *room.Event) (room.Membership, error) {
	if w.clear(e) {
		return room.Join, nil
	}
	if err := w.view(); err != nil {
		return room.None, err
	}
	return w.viewer.MembershipAt(e)
}

// appendTo writes the timeline.
func (w *window) appendTo() error {
	a := w.a
	a.comma()
	a.dst = append(a.dst, `"timeline":{"events":[`...)
	bundle := room.Bundle{User: a.req.UserID, Ignores: a.reader.Ignores, Viewer: w.viewer}
	for _, e := range w.events {
		a.comma()
		m, err := w.membership(e)
		if err != nil {
			return err
		}
		if err := a.appendEvent(e, m, &bundle); err != nil {
			return err
		}
	}
	a.dst = append(a.dst, `],"limited":`...)
	if w.limited {
		a.dst = append(a.dst, `true`...)
	} else {
		a.dst = append(a.dst, `false`...)
	}
	a.dst = cjson.AppendString(append(a.dst, `,"prev_batch":`...), w.prev.String())
	a.dst = append(a.dst, '}')
	return nil
}

// appendEvent writes an event in the form and with the fields that the filter
// asks for.
func (a *answer) appendEvent(e *room.Event, m room.Membership, b *room.Bundle) (err error) {
	to := room.Reader{Device: a.req.Device, OmitRoom: true, Federation: a.f.Federation, Membership: m, Bundle: b}
	if a.f.Fields == nil {
		a.dst, err = a.s.rooms.AppendClient(a.dst, e, to)
		return err
	}
	if a.scratch, err = a.s.rooms.AppendClient(a.scratch[:0], e, to); err != nil {
		return err
	}
	a.dst = a.f.AppendFields(a.dst, a.scratch)
	return nil
}
