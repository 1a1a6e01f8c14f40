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

// AppendNearest appends the first event at or after a time or, with back, the
// last one at or before it. Events stand in the order in which they came, and
// their times may not: of those that fit the one nearest to the time is taken,
// among as many as come before one of an hour's difference.
// Spec: client-server, GET /rooms/{roomId}/timestamp_to_event.
func (v *View) AppendNearest(dst []byte, ts int64, back bool) ([]byte, error) {
	at, err := v.placeOf(ts)
	if err != nil {
		return dst, err
	}
	var best *room.Event
	looked := 0
	visit := func(_ room.Key, num room.EventNum) (bool, error) {
		looked++
		e, err := v.rooms.Event(num)
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
		if ok, err := v.viewer.Sees(e); err != nil || !ok {
			return looked < maxNear, err
		}
		best = e
		return best.Time != ts, nil
	}
	if back {
		err = v.rooms.Timeline(v.Room, room.Key{}, at.upper, true, visit)
	} else {
		err = v.rooms.Timeline(v.Room, at.lower, v.end, false, visit)
	}
	if err == nil && best == nil {
		err = fault.E(fault.NotFound, "history.Nearest", "there is no event in this direction")
	}
	if err != nil {
		return dst, err
	}
	dst = cjson.AppendString(append(dst, `{"event_id":`...), best.ID)
	dst = append(dst, `,"origin_server_ts":`...)
	return append(strconv.AppendInt(dst, best.Time, 10), '}'), nil
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
func (v *View) placeOf(ts int64) (s span, err error) {
	if s.lower, err = v.search(ts - slackMillis); err != nil {
		return s, err
	}
	s.upper, err = v.search(ts + slackMillis)
	return s, err
}

// search finds the place before the first event that came at or after a time, as
// far as events came in the order of their times.
func (v *View) search(ts int64) (room.Key, error) {
	low, high := room.Key{}, v.end
	for low.Pos < high.Pos {
		mid := room.Key{Pos: low.Pos + (high.Pos-low.Pos)/2}
		var at room.Key
		var e *room.Event
		err := v.rooms.Timeline(v.Room, mid, high, false, func(k room.Key, num room.EventNum) (bool, error) {
			var err error
			e, err = v.rooms.Event(num)
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
			dst = append(cjson.AppendString(dst, m.StateKey), `:{"avatar_url":`...)
			dst = append(appendText(dst, m.Content, "avatar_url"), `,"displayname":`...)
			dst = append(appendText(dst, m.Content, "displayname"), '}')
		}
		dst = append(dst, '}')
	}
	dst = cjson.AppendString(append(dst, `,"start":`...), earlier.next.String())
	return append(dst, '}'), nil
}
