package stateres

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"slices"

	"hearth/engine/auth"
	"hearth/engine/event"
	"hearth/engine/mxid"
)

// candidate is an event that a state set has under a conflicted key.
type candidate struct {
	ev   *event.Event
	hash [sha1.Size]byte
}

// runV1 is one resolution by v1.
type runV1 struct {
	room    *Room
	c       *Conflict
	resolve map[auth.Key][]candidate
	events  map[auth.Key]*event.Event // R over the states' shared part
}

// resolveV1 is the algorithm of room version 1: power levels, then join rules, then
// members, then the rest. Within a pass no key sees what was chosen for another, so
// their order does not matter.
// Spec: rooms v1, state resolution.
func (r *Room) resolveV1(c *Conflict) State {
	x := &runV1{room: r, c: c, resolve: make(map[auth.Key][]candidate), events: make(map[auth.Key]*event.Event)}
	out := make(State)
	x.collect(out)
	passes := [...]string{typePowerLevels, typeJoinRules, typeMember, ""}
	for _, typ := range passes {
		chosen := make(map[auth.Key]*event.Event)
		for key, candidates := range x.resolve {
			switch {
			case typ == "":
				chosen[key] = x.first(candidates)
			case key.Type == typ && (typ != typePowerLevels || key.StateKey == ""):
				chosen[key] = x.last(key, candidates)
			}
		}
		for key, ev := range chosen {
			x.events[key] = ev
			out[key] = ev.ID
			delete(x.resolve, key)
		}
	}
	return out
}

// collect finds the candidates of each key in the order of the algorithm. Here a key
// that some states lack is no conflict where the others agree.
func (x *runV1) collect(out State) {
	seen := make(map[auth.Key][]mxid.EventID)
	for _, set := range x.c.Sets {
		for key, id := range set {
			if !slices.Contains(seen[key], id) {
				seen[key] = append(seen[key], id)
			}
		}
	}
	for key, ids := range seen {
		if len(ids) == 1 {
			out[key] = ids[0]
			if ev := x.room.Lookup(ids[0]); ev != nil {
				x.events[key] = ev
			}
			continue
		}
		var list []candidate
		for _, id := range ids {
			if ev := x.room.Lookup(id); ev != nil && ev.IsState {
				list = append(list, candidate{ev, sha1.Sum([]byte(id))})
			}
		}
		if len(list) == 0 {
			continue
		}
		// Ascending depth, then descending hash.
		slices.SortFunc(list, func(a, b candidate) int {
			if c := cmp.Compare(a.ev.Depth, b.ev.Depth); c != 0 {
				return c
			}
			return bytes.Compare(b.hash[:], a.hash[:])
		})
		x.resolve[key] = list
	}
}

// last takes candidates in order as long as each is allowed after the one before.
func (x *runV1) last(key auth.Key, list []candidate) *event.Event {
	now := list[0].ev
	for _, next := range list[1:] {
		state := func(typ, stateKey string) *event.Event {
			if typ == key.Type && stateKey == key.StateKey {
				return now
			}
			return x.state(typ, stateKey)
		}
		if auth.Check(next.ev, state) != nil {
			break
		}
		now = next.ev
	}
	return now
}

// first takes the highest candidate that is allowed. Where none is, the lowest
// stays, as deployed servers have it; the specification leaves that case open.
func (x *runV1) first(list []candidate) *event.Event {
	for i := len(list) - 1; i > 0; i-- {
		if auth.Check(list[i].ev, x.state) == nil {
			return list[i].ev
		}
	}
	return list[0].ev
}

// state is R: what has been chosen, over what the states share.
func (x *runV1) state(typ, stateKey string) *event.Event {
	key := auth.Key{Type: typ, StateKey: stateKey}
	if ev, ok := x.events[key]; ok {
		return ev
	}
	if id, ok := x.c.Same(key); ok {
		if !x.room.rejected(id) {
			return x.room.Lookup(id)
		}
	}
	return nil
}
