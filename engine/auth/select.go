package auth

import (
	"slices"

	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// Key names a state event within a room.
type Key struct{ Type, StateKey string }

// Needed selects the state events that an event of this description has to name as
// its auth events, as far as they exist. stateKey is nil for what is no state event.
// Spec: server-server-api, auth events selection.
func Needed(v *event.Version, typ string, stateKey *string, sender mxid.UserID, content []byte) []Key {
	if typ == typeCreate {
		return nil
	}
	keys := make([]Key, 0, 6)
	if !v.RoomIDIsCreate {
		keys = append(keys, Key{typeCreate, ""})
	}
	keys = append(keys, Key{typePowerLevels, ""}, Key{typeMember, string(sender)})
	if typ != typeMember {
		return keys
	}
	if stateKey != nil && *stateKey != string(sender) {
		keys = append(keys, Key{typeMember, *stateKey})
	}
	val, _ := cjson.Lookup(content, "membership")
	m := parseMembership(val)
	if m == join || m == invite || m == knock {
		keys = append(keys, Key{typeJoinRules, ""})
	}
	switch {
	case m == invite:
		val, _ := cjson.LookupPath(content, "third_party_invite", "signed", "token")
		if token, ok := cjson.String(val); ok {
			keys = append(keys, Key{typeThirdParty, token})
		}
	case m == join && v.Restricted:
		val, _ := cjson.Lookup(content, "join_authorised_via_users_server")
		if via, ok := cjson.String(val); ok {
			if key := (Key{typeMember, via}); !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// NeededFor is Needed of an event that exists.
func NeededFor(e *event.Event) []Key {
	var stateKey *string
	if e.IsState {
		stateKey = &e.StateKey
	}
	return Needed(e.Version, e.Type, stateKey, e.Sender, e.Content)
}

// CheckAuthEvents judges the events that e names as its auth events, in any order.
// A nil among them stands for one that is not known or was itself rejected, and
// refuses e. Whether e follows from them is then for Check with StateOf.
func CheckAuthEvents(e *event.Event, authEvents []*event.Event) error {
	if e.Type == typeCreate {
		if len(authEvents) > 0 {
			return denyAuth("a create event has no auth events")
		}
		return nil
	}
	needed := NeededFor(e)
	var seen [8]bool // Needed gives six at most
	created := false
	for _, a := range authEvents {
		// Spec: rooms v12, auth rule 3.3.
		if a == nil {
			return denyAuth("an auth event is unknown or rejected")
		}
		// Spec: rooms v12, auth rule 3.2.
		at := -1
		if a.IsState {
			at = slices.Index(needed, Key{a.Type, a.StateKey})
		}
		if at < 0 {
			return denyAuth("auth event %s is not one to select", a.ID)
		}
		// Spec: rooms v12, auth rule 3.1.
		if seen[at] {
			return denyAuth("two auth events of one type and state key")
		}
		seen[at] = true
		// Spec: rooms v12, auth rule 3.5.
		if a.Room != e.Room {
			return denyAuth("auth event %s is of another room", a.ID)
		}
		created = created || a.Type == typeCreate
	}
	// Spec: rooms v11, auth rule 2.4.
	if !created && !e.Version.RoomIDIsCreate {
		return denyAuth("no create event among the auth events")
	}
	return nil
}

// StateOf is the state that consists of the given events, for checks against auth
// events; nil events are left out. In version 12 the caller adds the create event.
func StateOf(events []*event.Event) State {
	return func(typ, stateKey string) *event.Event {
		for _, e := range events {
			if e != nil && e.Is(typ, stateKey) {
				return e
			}
		}
		return nil
	}
}

func denyAuth(format string, args ...any) error {
	return fault.E(fault.Forbidden, "auth.CheckAuthEvents", format, args...)
}
