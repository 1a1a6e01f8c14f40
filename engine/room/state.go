package room

import (
	"strings"

	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/snapshot"
	"hearth/engine/store"
)

// State is a room's state at some point: pairs of an interned key and an event
// number, sorted by key.
type State = snapshot.Set

// StateEvent finds a state event in a room's state; nil where there is none.
func (r *Rooms) StateEvent(s State, typ, stateKey string) (*Event, error) {
	return r.stateOf(s, typ, stateKey)
}

// StateBefore is the room's state before an event. NotFound where it is not
// known.
func (r *Rooms) StateBefore(e *Event) (State, error) { return r.stateAt(e, e.Before) }

// StateAfter is the room's state after an event. NotFound where it is not known.
func (r *Rooms) StateAfter(e *Event) (State, error) { return r.stateAt(e, e.After) }

// StateAt is the room's state at a place in its timeline: after the last event
// before it. NotFound where there is none or its state is not known.
func (r *Rooms) StateAt(room Num, k Key) (State, error) {
	var last EventNum
	err := r.Timeline(room, Key{}, k, true, func(_ Key, num EventNum) (bool, error) {
		last = num
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	if last == 0 {
		return nil, fault.E(fault.NotFound, "room.StateAt", "there is no event before this place")
	}
	e, err := r.Event(last)
	if err != nil {
		return nil, err
	}
	return r.StateAfter(e)
}

// StateUpTo is the state of a room before a place that its head is past by a commit
// or two: that of the head, where what stood before the place was removed.
func (r *Rooms) StateUpTo(h *Head, k Key) (State, error) {
	s, err := r.StateAt(h.Room, k)
	if t := r.trims.of(h.Room); t != nil && fault.Is(err, fault.NotFound) {
		return h.State, nil
	}
	return s, err
}

func (r *Rooms) stateAt(e *Event, num snapshot.Num) (State, error) {
	if num == 0 {
		if e.Type == "m.room.create" {
			return nil, nil // before the room there is nothing
		}
		return nil, fault.E(fault.NotFound, "room.State", "the state at this event is not known")
	}
	return r.snaps.Load(uint32(e.In), num)
}

// Each calls f for the events of a state, in order of key, until f returns false.
func (r *Rooms) Each(s State, f func(e *Event) (more bool, err error)) error {
	for _, p := range s {
		e, err := r.Event(EventNum(p.Event))
		if err != nil {
			return err
		}
		if more, err := f(e); !more || err != nil {
			return err
		}
	}
	return nil
}

// EachOfType is Each for the events of one type. A state may hold thousands of
// members, which are not read for this.
func (r *Rooms) EachOfType(s State, typ string, f func(e *Event) (more bool, err error)) error {
	for _, p := range s {
		is, _, err := r.KeyName(p.Key)
		if err != nil {
			return err
		}
		if is != typ {
			continue
		}
		e, err := r.Event(EventNum(p.Event))
		if err != nil {
			return err
		}
		if more, err := f(e); !more || err != nil {
			return err
		}
	}
	return nil
}

// KeyName gives the event type and state key of an interned key.
func (r *Rooms) KeyName(key uint32) (typ, stateKey string, err error) {
	name, err := r.names.Name(store.StateKeys, key)
	if err != nil {
		return "", "", err
	}
	typ, stateKey, _ = strings.Cut(name, "\x00")
	return typ, stateKey, nil
}

// KeyOf gives the interned key of a type and state key; 0 where no room has it.
func (r *Rooms) KeyOf(typ, stateKey string) (uint32, error) {
	return r.names.Find(store.StateKeys, stateName(typ, stateKey))
}

// User gives the number of a user id; 0 where nobody has named the user yet.
func (r *Rooms) User(id mxid.UserID) (uint32, error) {
	return r.names.Find(store.Users, string(id))
}

// UserID gives the user id of a number.
func (r *Rooms) UserID(user uint32) (mxid.UserID, error) {
	id, err := r.names.Name(store.Users, user)
	return mxid.UserID(id), err
}

// RoomID gives the room id of a number.
func (r *Rooms) RoomID(num Num) (mxid.RoomID, error) {
	id, err := r.names.Name(store.Rooms, uint32(num))
	return mxid.RoomID(id), err
}

// stripped are the types of the state that is shown to those who are invited
// or knock. Spec: client-server, stripped state.
var stripped = [...]string{"m.room.create", "m.room.name", "m.room.avatar", "m.room.topic", "m.room.join_rules",
	"m.room.canonical_alias", "m.room.encryption"}

// Stripped lists the events of the state that those outside are shown, with
// the member event of the user where one is named.
func (r *Rooms) Stripped(s State, user mxid.UserID) ([]*Event, error) {
	var list []*Event
	for _, typ := range stripped {
		e, err := r.stateOf(s, typ, "")
		if err != nil {
			return nil, err
		}
		if e != nil {
			list = append(list, e)
		}
	}
	if user != "" {
		e, err := r.stateOf(s, "m.room.member", string(user))
		if err != nil {
			return nil, err
		}
		if e != nil {
			list = append(list, e)
			inviter, err := r.stateOf(s, "m.room.member", string(e.Sender))
			if err != nil {
				return nil, err
			}
			if inviter != nil && inviter != e {
				list = append(list, inviter)
			}
		}
	}
	return list, nil
}
