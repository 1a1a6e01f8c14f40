package stateres

import (
	"maps"

	"hearth/engine/auth"
	"hearth/engine/event"
	"hearth/engine/mxid"
)

// State is a room state: the event that holds each key.
type State map[auth.Key]mxid.EventID

// Room is where state is resolved: a version and the events to look up.
type Room struct {
	Version *event.Version

	// Lookup gives an event, nil where it is not known or was rejected because of
	// its auth events. It may be asked for the same event more than once and has
	// to give the same each time.
	Lookup func(mxid.EventID) *event.Event

	// Rejected says which of the events that Lookup gives were rejected because of
	// the state before them. They take part where a state holds them, but authorise
	// no other event. May be nil. Spec: rooms v2, rejected events.
	Rejected func(mxid.EventID) bool
}

// Conflict is what differs between state sets, for callers that know it without
// walking whole states.
type Conflict struct {
	// Sets has for each state set its events under the conflicted keys, those that
	// do not have the same event in every set.
	Sets []State
	// Same gives the event of a key that is not conflicted.
	Same func(auth.Key) (mxid.EventID, bool)
	// EachSame gives all events of keys that are not conflicted, until f returns
	// false. It is called only where the answer depends on it.
	EachSame func(f func(mxid.EventID) bool)
}

// Resolve is the resolution of whole state sets. See Room.Resolve.
func Resolve(v *event.Version, sets []State, lookup func(mxid.EventID) *event.Event) State {
	r := Room{Version: v, Lookup: lookup}
	return r.Resolve(sets)
}

// Resolve is the resolution of whole state sets, in any order. The sets stay as
// they are and the result is the caller's.
func (r *Room) Resolve(sets []State) State {
	if len(sets) == 0 {
		return State{}
	}
	same, c := split(sets)
	if len(c.Sets) == 0 {
		return same
	}
	maps.Copy(same, r.ResolveConflict(c))
	return same
}

// ResolveConflict is the resolution of what differs. Keys that are not conflicted
// keep their event and are not in the result.
func (r *Room) ResolveConflict(c *Conflict) State {
	if r.Version.Res == event.ResV1 {
		return r.resolveV1(c)
	}
	return r.resolveV2(c)
}

// split divides whole states into the unconflicted state map and the conflict.
// Spec: rooms v2, unconflicted state map and conflicted state set.
func split(sets []State) (same State, c *Conflict) {
	same, c = make(State, len(sets[0])), new(Conflict)
	differ := make(map[auth.Key]bool)
	for _, set := range sets {
		for key, id := range set {
			if _, ok := same[key]; ok || differ[key] {
				continue
			}
			if inAll(sets, key, id) {
				same[key] = id
			} else {
				differ[key] = true
			}
		}
	}
	if len(differ) == 0 {
		return same, c
	}
	c.Sets = make([]State, len(sets))
	for i, set := range sets {
		c.Sets[i] = make(State)
		for key := range differ {
			if id, ok := set[key]; ok {
				c.Sets[i][key] = id
			}
		}
	}
	c.Same = func(key auth.Key) (mxid.EventID, bool) {
		id, ok := same[key]
		return id, ok
	}
	c.EachSame = func(f func(mxid.EventID) bool) {
		for _, id := range same {
			if !f(id) {
				return
			}
		}
	}
	return same, c
}

func inAll(sets []State, key auth.Key, id mxid.EventID) bool {
	for _, set := range sets {
		if other, ok := set[key]; !ok || other != id {
			return false
		}
	}
	return true
}

// rejected says whether an event may not authorise others.
func (r *Room) rejected(id mxid.EventID) bool { return r.Rejected != nil && r.Rejected(id) }
