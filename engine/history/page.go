package history

import (
	"slices"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/filter"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// maxScan bounds the events one page looks at. A page that ends there is short,
// perhaps empty, and says where to go on.
const maxScan = 4000

// Query asks for a page.
type Query struct {
	Back  bool      // newest first
	From  *room.Key // nil: the end of what there is, or its beginning
	To    *room.Key // nil: as far as it goes
	Limit int
	Part  *filter.Part
}

// page is a stretch of a room's timeline.
type page struct {
	events []*room.Event // in the order asked for
	next   room.Key      // where the next page begins
	more   bool          // whether there may be one
	passed bool          // the filter passed over events
	hole   *room.Key     // the page ended at a hole that may be filled
}

// AppendPage appends a page of the room's past as /messages answers it. Each
// event comes once, whichever way the pages go and whoever sends meanwhile: a
// token stands between two events and never moves.
// Spec: client-server, GET /rooms/{roomId}/messages.
func (v *View) AppendPage(dst []byte, q *Query) ([]byte, error) {
	lower, upper, start := v.span(q)
	p, err := v.read(lower, upper, q)
	if err != nil {
		return dst, err
	}
	dst = append(dst, `{"chunk":`...)
	if dst, err = v.appendList(dst, p.events, v.append); err != nil {
		return dst, err
	}
	// A filtered page has an end also at the beginning of the room, as long as it
	// shows something: clients take its absence for the end of all events, and
	// other servers give it. The page behind it is empty and has none.
	more := p.more || p.passed && len(p.events) > 0
	if q.Back && !more && len(p.events) > 0 && v.Head.Hole != (room.Key{}) {
		// The same where only others have what is older, and did not give it now.
		if err := v.rooms.Holes(v.Room, p.next, p.next.Next(), false, func(h *room.Hole) (bool, error) {
			more = !h.Trimmed()
			return false, nil
		}); err != nil {
			return dst, err
		}
	}
	if more {
		dst = cjson.AppendString(append(dst, `,"end":`...), p.next.String())
	}
	dst = cjson.AppendString(append(dst, `,"start":`...), start.String())
	if q.Part.LazyMembers() && len(p.events) > 0 {
		newest := p.events[0]
		if !q.Back {
			newest = p.events[len(p.events)-1]
		}
		members, err := v.senders(newest, p.events)
		if err != nil {
			return dst, err
		}
		if dst, err = v.appendList(append(dst, `,"state":`...), members, v.appendPlain); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

// span is what a query asks for: from lower to upper, and the token it begins at.
func (v *View) span(q *Query) (lower, upper, start room.Key) {
	upper = v.end
	if q.Back {
		if start = v.end; q.From != nil {
			start = *q.From
		}
		upper = earlier(start, v.end)
		if q.To != nil {
			lower = *q.To
		}
	} else {
		if q.From != nil {
			start = *q.From
		}
		lower = start
		if q.To != nil {
			upper = earlier(*q.To, v.end)
		}
	}
	return lower, upper, start
}

// Hole says whether the page that a query asks for ends at a hole, where events
// are missing that other servers have. Who can fetches them and asks again, or
// has the hole passed over (Pass) when nobody gives them.
func (v *View) Hole(q *Query) (at room.Key, ok bool, err error) {
	if v.Head.Hole == (room.Key{}) {
		return at, false, nil // the usual room is whole
	}
	v.stops = true
	defer func() { v.stops = false }()
	lower, upper, _ := v.span(q)
	if first, err := v.hole(lower, upper, q.Back); err != nil || first == nil {
		return at, false, err
	}
	p, err := v.read(lower, upper, q)
	if err != nil || p.hole == nil {
		return at, false, err
	}
	return *p.hole, true, nil
}

// Pass has the view read on where something is missing.
func (v *View) Pass(at room.Key) {
	if v.passed == nil {
		v.passed = map[room.Key]bool{}
	}
	v.passed[at] = true
}

// hole finds the first hole on the way through a span that is not passed over;
// nil where there is none. One directly below upper counts, one below lower does
// not.
func (v *View) hole(lower, upper room.Key, back bool) (at *room.Key, err error) {
	if !v.stops {
		return nil, nil
	}
	to := upper
	if back {
		to = upper.Next()
	}
	err = v.rooms.Holes(v.Room, lower.Next(), to, back, func(h *room.Hole) (bool, error) {
		if v.passed[h.At] || h.Trimmed() {
			return true, nil
		}
		at = &h.At
		return false, nil
	})
	return at, err
}

func earlier(a, b room.Key) room.Key {
	if a.Before(b) {
		return a
	}
	return b
}

// AppendSince appends what has come since a place, oldest first, as GET /events
// answers it. Spec: client-server, GET /events.
func (v *View) AppendSince(dst []byte, from room.Key, limit int) ([]byte, error) {
	p, err := v.read(from, v.end, &Query{Limit: limit})
	if err != nil {
		return dst, err
	}
	end := v.end
	if p.more {
		end = p.next
	}
	if dst, err = v.appendList(append(dst, `{"chunk":`...), p.events, v.append); err != nil {
		return dst, err
	}
	dst = cjson.AppendString(append(dst, `,"end":`...), end.String())
	dst = cjson.AppendString(append(dst, `,"start":`...), from.String())
	return append(dst, '}'), nil
}

// End is the place behind the last event there is for the user.
func (v *View) End() room.Key { return v.end }

// read collects the events between two places that the user may see and the
// query asks for.
func (v *View) read(lower, upper room.Key, q *Query) (page, error) {
	p := page{next: lower}
	if q.Back {
		p.next = upper
	}
	if q.Part.Nothing() || !q.Part.PassesRoom(v.Head.ID) || !lower.Before(upper) {
		return p, nil
	}
	hole, err := v.hole(lower, upper, q.Back)
	if err != nil {
		return p, err
	}
	if hole != nil && q.Back && q.Limit > 0 && *hole == upper {
		p.hole, p.more = hole, true
		return p, nil
	}
	scanned := 0
	err = v.rooms.Timeline(v.Room, lower, upper, q.Back, func(k room.Key, num room.EventNum) (bool, error) {
		if hole != nil && len(p.events) < q.Limit && (q.Back && k.Before(*hole) || !q.Back && !k.Before(*hole)) {
			p.hole, p.more = hole, true
			return false, nil
		}
		if len(p.events) == q.Limit || scanned == maxScan {
			p.more = true
			return false, nil
		}
		scanned++
		if p.next = k; !q.Back {
			p.next = k.Next()
		}
		e, err := v.rooms.Event(num)
		if fault.Is(err, fault.NotFound) {
			return true, nil // its body has been aged out
		}
		if err != nil {
			return false, err
		}
		ok, err := v.shows(e, q.Part)
		if ok {
			p.events = append(p.events, e)
		} else {
			p.passed = p.passed || !q.Part.Passes(e.Type, e.Sender, e.Content)
		}
		return true, err
	})
	if hole != nil && q.Back && !p.more && len(p.events) < q.Limit {
		p.hole = hole // nothing is here below it
	}
	return p, err
}

// shows says whether an event passes the filter and may be seen.
func (v *View) shows(e *room.Event, part *filter.Part) (bool, error) {
	if !part.Passes(e.Type, e.Sender, e.Content) || !e.IsState && v.ignores(e.Sender) {
		return false, nil
	}
	if ok, err := v.viewer.Sees(e); !ok || err != nil {
		return false, err
	}
	if part == nil || part.RelatedSenders == nil && part.RelatedTypes == nil {
		return true, nil
	}
	return v.related(e.ID, part)
}

// related says whether some event relates to this one as the filter asks.
// Spec: client-server, filtering, related_by_senders and related_by_rel_types.
func (v *View) related(id mxid.EventID, part *filter.Part) (found bool, err error) {
	err = v.rooms.Related(v.Room, id, func(rel *room.Relation) (bool, error) {
		if part.RelatedTypes != nil && !slices.Contains(part.RelatedTypes, rel.RelType) {
			return true, nil
		}
		e, err := v.rooms.Event(rel.Num)
		if fault.Is(err, fault.NotFound) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		found = !e.Redacted() && (part.RelatedSenders == nil || slices.Contains(part.RelatedSenders, string(e.Sender)))
		return !found, nil
	})
	return found, err
}

// senders gives the member events of those who sent events, as the state after
// at has them. Spec: client-server, lazy-loading room members.
func (v *View) senders(at *room.Event, events []*room.Event) ([]*room.Event, error) {
	state, err := v.rooms.StateAfter(at)
	if fault.Is(err, fault.NotFound) {
		state, err = v.State, nil
	}
	if err != nil {
		return nil, err
	}
	var list []*room.Event
	told := map[mxid.UserID]bool{}
	for _, e := range events {
		if told[e.Sender] {
			continue
		}
		told[e.Sender] = true
		m, err := v.rooms.StateEvent(state, typeMember, string(e.Sender))
		if err != nil {
			return nil, err
		}
		if m != nil {
			list = append(list, m)
		}
	}
	return list, nil
}

const typeMember = "m.room.member"

// AppendContext appends an event with what surrounds it: at most limit others,
// half of them before it, and the state at the last.
// Spec: client-server, GET /rooms/{roomId}/context/{eventId}.
func (v *View) AppendContext(dst []byte, id mxid.EventID, limit int, part *filter.Part) ([]byte, error) {
	e, err := v.find(id)
	if err != nil {
		return dst, err
	}
	before, err := v.read(room.Key{}, e.At, &Query{Back: true, Limit: limit / 2, Part: part})
	if err != nil {
		return dst, err
	}
	after, err := v.read(e.At.Next(), v.end, &Query{Limit: limit - limit/2, Part: part})
	if err != nil {
		return dst, err
	}
	last := e
	if n := len(after.events); n > 0 {
		last = after.events[n-1]
	}
	dst = cjson.AppendString(append(dst, `{"end":`...), after.next.String())
	if dst, err = v.append(append(dst, `,"event":`...), e); err != nil {
		return dst, err
	}
	if dst, err = v.appendList(append(dst, `,"events_after":`...), after.events, v.append); err != nil {
		return dst, err
	}
	if dst, err = v.appendList(append(dst, `,"events_before":`...), before.events, v.append); err != nil {
		return dst, err
	}
	dst = cjson.AppendString(append(dst, `,"start":`...), before.next.String())
	around := append(append([]*room.Event{e}, before.events...), after.events...)
	state, err := v.stateAround(last, around, part)
	if err != nil {
		return dst, err
	}
	if dst, err = v.appendList(append(dst, `,"state":`...), state, v.appendPlain); err != nil {
		return dst, err
	}
	return append(dst, '}'), nil
}

// stateAround is the state after an event as a filter lets it pass; of the
// members only those who sent one of the events, where that is asked for.
func (v *View) stateAround(last *room.Event, around []*room.Event, part *filter.Part) ([]*room.Event, error) {
	state, err := v.rooms.StateAfter(last)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	senders := map[string]bool{}
	for _, e := range around {
		senders[string(e.Sender)] = true
	}
	var list []*room.Event
	err = v.rooms.Each(state, func(e *room.Event) (bool, error) {
		needed := e.Type != typeMember || !part.LazyMembers() || senders[e.StateKey]
		if needed && part.Passes(e.Type, e.Sender, e.Content) {
			list = append(list, e)
		}
		return true, nil
	})
	return list, err
}

// AppendRecent appends the newest events, oldest first, with the places around
// them. Spec: client-server, GET /rooms/{roomId}/initialSync, messages.
func (v *View) AppendRecent(dst []byte, limit int) ([]byte, error) {
	p, err := v.read(room.Key{}, v.end, &Query{Back: true, Limit: limit})
	if err != nil {
		return dst, err
	}
	slices.Reverse(p.events)
	if dst, err = v.appendList(append(dst, `{"chunk":`...), p.events, v.append); err != nil {
		return dst, err
	}
	dst = cjson.AppendString(append(dst, `,"end":`...), v.end.String())
	dst = cjson.AppendString(append(dst, `,"start":`...), p.next.String())
	return append(dst, '}'), nil
}
