package history

import (
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/filter"
	"hearth/engine/room"
)

// maxNear bounds the events that are looked at for one near a time.
const maxNear = 20000

// AppendNear appends an event's id and time, as both APIs tell of one near a time.
func AppendNear(dst []byte, e *room.Event) []byte {
	dst = cjson.AppendString(append(dst, `{"event_id":`...), e.ID)
	dst = append(dst, `,"origin_server_ts":`...)
	return append(strconv.AppendInt(dst, e.Time, 10), '}')
}

// Nearest is the first event at or after a time or, with back, the last one at or
// before it; NotFound where there is none.
// Spec: client-server, GET /rooms/{roomId}/timestamp_to_event.
func (v *View) Nearest(ts int64, back bool) (*room.Event, error) {
	n := near{v.rooms, v.Room, v.end, v.viewer.Sees}
	return n.find(ts, back)
}

// Nearest finds the event of a room that is nearest to a time among those that
// may be seen; NotFound where there is none.
func Nearest(rooms *room.Rooms, h *room.Head, ts int64, back bool, sees func(*room.Event) (bool, error)) (*room.Event, error) {
	n := near{rooms, h.Room, room.After(h.Last), sees}
	return n.find(ts, back)
}

// near looks for an event by its time. Events stand in the order in which they
// came, and their times may not: of those that fit the one nearest to the time is
// taken, among as many as come before one of an hour's difference.
type near struct {
	rooms *room.Rooms
	room  room.Num
	end   room.Key
	sees  func(*room.Event) (bool, error)
}

func (n *near) find(ts int64, back bool) (*room.Event, error) {
	at, err := n.placeOf(ts)
	if err != nil {
		return nil, err
	}
	var best *room.Event
	looked := 0
	visit := func(_ room.Key, num room.EventNum) (bool, error) {
		looked++
		e, err := n.rooms.Event(num)
		if fault.Is(err, fault.NotFound) {
			return looked < maxNear, nil
		}
		if err != nil {
			return false, err
		}
		if back && e.Time > ts || !back && e.Time < ts {
			return looked < maxNear, nil
		}
		if best != nil && (back && e.Time <= best.Time || !back && e.Time >= best.Time) {
			return looked < maxNear && abs(e.Time-best.Time) < slackMillis, nil
		}
		if ok, err := n.sees(e); err != nil || !ok {
			return looked < maxNear, err
		}
		best = e
		return best.Time != ts, nil
	}
	if back {
		err = n.rooms.Timeline(n.room, room.Key{}, at.upper, true, visit)
	} else {
		err = n.rooms.Timeline(n.room, at.lower, n.end, false, visit)
	}
	if err == nil && best == nil {
		err = fault.E(fault.NotFound, "history.Nearest", "there is no event in this direction")
	}
	return best, err
}

// slackMillis is how far clocks may be apart: events that came later may be
// older by this much and are still looked at.
const slackMillis = 3_600_000

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

// span is where events of a time are to be looked for.
type span struct{ lower, upper room.Key }

// placeOf halves the room's timeline until it knows where events of a time lie,
// an hour before and after it included.
func (n *near) placeOf(ts int64) (s span, err error) {
	if s.lower, err = n.search(ts - slackMillis); err != nil {
		return s, err
	}
	s.upper, err = n.search(ts + slackMillis)
	return s, err
}

// search finds the place before the first event that came at or after a time, as
// far as events came in the order of their times.
func (n *near) search(ts int64) (room.Key, error) {
	low, high := room.Key{}, n.end
	for low.Before(high) {
		mid := room.Between(low, high)
		var at room.Key
		var e *room.Event
		err := n.rooms.Timeline(n.room, mid, high, false, func(k room.Key, num room.EventNum) (bool, error) {
			var err error
			e, err = n.rooms.Event(num)
			if fault.Is(err, fault.NotFound) {
				e = nil
				return true, nil
			}
			at = k
			return false, err
		})
		if err != nil {
			return low, err
		}
		if e == nil || e.Time >= ts {
			high = mid
		} else {
			low = at.Next()
		}
	}
	return low, nil
}

// Shows says whether the user may see an event and a filter lets it pass.
func (v *View) Shows(e *room.Event, part *filter.Part) (bool, error) {
	if !e.At.Before(v.end) || e.Redacted() {
		return false, nil
	}
	return v.shows(e, part)
}

// AppendAround appends what surrounds an event, as search results tell it, with
// the profiles that those who sent it had, where these are asked for.
// Spec: client-server, POST /search, event_context.
func (v *View) AppendAround(dst []byte, e *room.Event, before, after int, profiles bool) ([]byte, error) {
	earlier, err := v.read(room.Key{}, e.At, &Query{Back: true, Limit: before})
	if err != nil {
		return dst, err
	}
	later, err := v.read(e.At.Next(), v.end, &Query{Limit: after})
	if err != nil {
		return dst, err
	}
	dst = cjson.AppendString(append(dst, `{"end":`...), later.next.String())
	if dst, err = v.appendList(append(dst, `,"events_after":`...), later.events, v.append); err != nil {
		return dst, err
	}
	if dst, err = v.appendList(append(dst, `,"events_before":`...), earlier.events, v.append); err != nil {
		return dst, err
	}
	if profiles {
		members, err := v.senders(e, append(append([]*room.Event{e}, earlier.events...), later.events...))
		if err != nil {
			return dst, err
		}
		dst = append(dst, `,"profile_info":{`...)
		for i, m := range members {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(cjson.AppendString(dst, m.StateKey), ':')
			dst = appendProfile(dst, m.Content)
		}
		dst = append(dst, '}')
	}
	dst = cjson.AppendString(append(dst, `,"start":`...), earlier.next.String())
	return append(dst, '}'), nil
}

// appendProfile appends how a member event shows its user. What it does not say
// is left out: a null is no string. Spec: client-server, POST /search,
// profile_info.
func appendProfile(dst, content []byte) []byte {
	dst = append(dst, '{')
	start := len(dst)
	for _, field := range [...]string{"avatar_url", "displayname"} {
		val, ok := cjson.LookupString(content, field)
		if !ok {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = cjson.AppendString(append(cjson.AppendString(dst, field), ':'), val)
	}
	return append(dst, '}')
}
