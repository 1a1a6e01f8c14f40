package history

import (
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/room"
)

// StateEvent finds a state event; NotFound where there is none.
func (v *View) StateEvent(typ, key string) (*room.Event, error) {
	e, err := v.rooms.StateEvent(v.State, typ, key)
	if err == nil && e == nil {
		err = fault.E(fault.NotFound, "history.StateEvent", "the room has no such state")
	}
	return e, err
}

// AppendClient appends an event in client form, for a single one.
func (v *View) AppendClient(dst []byte, e *room.Event) ([]byte, error) { return v.append(dst, e) }

// AppendState appends the state as an array of events. A room has thousands of
// state events, each at a snapshot of its own, so these are told without the
// user's membership at the time.
// Spec: client-server, GET /rooms/{roomId}/state.
func (v *View) AppendState(dst []byte) ([]byte, error) {
	return v.appendState(dst, v.State, func(*room.Event) bool { return true })
}

func (v *View) appendState(dst []byte, state room.State, want func(e *room.Event) bool) ([]byte, error) {
	dst = append(dst, '[')
	first := true
	err := v.rooms.Each(state, func(e *room.Event) (_ bool, err error) {
		if !want(e) {
			return true, nil
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst, err = v.rooms.AppendClient(dst, e, room.Reader{Device: v.device})
		return true, err
	})
	return append(dst, ']'), err
}

// Members says which member events are asked for.
type Members struct {
	At  *room.Key       // nil: now
	Is  room.Membership // None: not asked
	Not room.Membership // None: not asked
}

func (m *Members) wants(e *room.Event) bool {
	if e.Type != typeMember {
		return false
	}
	now := room.MembershipOf(e.Content)
	// Spec: with both, it is enough that one of them holds.
	return m.Is == room.None && m.Not == room.None || m.Is != room.None && now == m.Is || m.Not != room.None && now != m.Not
}

// AppendMembers appends member events.
// Spec: client-server, GET /rooms/{roomId}/members.
func (v *View) AppendMembers(dst []byte, m *Members) ([]byte, error) {
	state := v.State
	if m.At != nil && m.At.Before(v.end) {
		var err error
		if state, err = v.stateAt(*m.At); err != nil {
			return dst, err
		}
	}
	dst, err := v.appendState(append(dst, `{"chunk":`...), state, m.wants)
	return append(dst, '}'), err
}

// stateAt is the state at a token. A token before the whole room is what a
// client has whose timeline holds all of it; to tell it the creator is more use
// than to tell it nobody.
func (v *View) stateAt(at room.Key) (room.State, error) {
	state, err := v.rooms.StateAt(v.Room, at)
	if !fault.Is(err, fault.NotFound) {
		return state, err
	}
	_, trimmed := v.rooms.TrimOf(v.Room)
	var first *room.Event
	err = v.rooms.Timeline(v.Room, room.Key{}, v.end, false, func(_ room.Key, num room.EventNum) (bool, error) {
		e, err := v.rooms.Event(num)
		if err == nil && (trimmed || e.Type == typeMember) {
			first = e
		}
		return first == nil, err
	})
	switch {
	case err != nil:
		return nil, err
	case trimmed && first == nil:
		return v.State, nil
	case trimmed:
		return v.rooms.StateBefore(first)
	case first == nil:
		return nil, nil
	}
	return v.rooms.StateAfter(first)
}

// AppendJoined appends who is in the room now, with their profiles.
// Spec: client-server, GET /rooms/{roomId}/joined_members.
func (v *View) AppendJoined(dst []byte) ([]byte, error) {
	dst = append(dst, `{"joined":{`...)
	first := true
	err := v.rooms.Each(v.State, func(e *room.Event) (bool, error) {
		if e.Type != typeMember || room.MembershipOf(e.Content) != room.Join {
			return true, nil
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(cjson.AppendString(dst, e.StateKey), `:{"avatar_url":`...)
		dst = appendText(dst, e.Content, "avatar_url")
		dst = append(dst, `,"display_name":`...)
		dst = append(appendText(dst, e.Content, "displayname"), '}')
		return true, nil
	})
	return append(dst, `}}`...), err
}

// appendText appends the string under a key, or null.
func appendText(dst, content []byte, key string) []byte {
	s, ok := cjson.LookupString(content, key)
	if !ok {
		return append(dst, `null`...)
	}
	return cjson.AppendString(dst, s)
}
