package auth

import (
	"hearth/engine/cjson"
	"hearth/engine/event"
	"hearth/engine/mxid"
)

// checkCreate is the rule for m.room.create, which depends on no state.
func checkCreate(e *event.Event) error {
	// Spec: rooms v12, auth rule 1.1.
	if len(e.Prev) > 0 {
		return deny("a create event has no event before it")
	}
	if e.Version.RoomIDIsCreate {
		// Spec: rooms v12, auth rule 1.2. The parsed event has the room id that
		// follows from its own; only the text tells whether it was sent.
		if _, ok := cjson.Lookup(e.JSON, "room_id"); ok {
			return malformed("a create event of this room version has no room_id")
		}
		if !namesCreate(e.Room, e.ID) {
			return deny("the room id is not that of the create event")
		}
	} else if e.Room.Server() != e.Sender.Server() {
		// Spec: rooms v11, auth rule 1.2.
		return deny("the room id is of another server than the sender")
	}
	// Spec: rooms v12, auth rule 1.3.
	if val, ok := cjson.Lookup(e.Content, "room_version"); ok {
		if id, ok := cjson.String(val); !ok || event.LookupVersion(id) == nil {
			return malformed("room_version is not known")
		}
	}
	if !e.Version.ImplicitCreator {
		// Spec: rooms v10, auth rule 1.4.
		if _, ok := cjson.Lookup(e.Content, "creator"); !ok {
			return malformed("a create event of this room version names its creator")
		}
	}
	if e.Version.Creators {
		// Spec: rooms v12, auth rule 1.4.
		return checkCreators(e)
	}
	return nil // Spec: rooms v12, auth rule 1.5.
}

// checkCreators judges the additional creators.
func checkCreators(e *event.Event) error {
	val, ok := cjson.Lookup(e.Content, "additional_creators")
	if !ok {
		return nil
	}
	valid := true
	err := cjson.Array(val, func(elem []byte) bool {
		id, ok := cjson.String(elem)
		_, err := mxid.ParseUser(id)
		valid = ok && err == nil
		return valid
	})
	if err != nil || !valid {
		return malformed("additional_creators is not an array of user ids")
	}
	return nil
}

// namesCreate says whether a room id is the id of the create event, the sigil aside.
func namesCreate(room mxid.RoomID, create mxid.EventID) bool {
	return len(room) > 1 && len(room) == len(create) && room[0] == '!' && room[1:] == mxid.RoomID(create[1:])
}

// CreateID is the id of the create event of a room whose id is made from it, as in
// version 12. Spec: rooms v12, auth rule 2.
func CreateID(room mxid.RoomID) mxid.EventID {
	if len(room) == 0 {
		return ""
	}
	return mxid.EventID("$" + room[1:])
}

// creatorOf is the one user who made the room.
func creatorOf(create *event.Event) mxid.UserID {
	if create == nil {
		return ""
	}
	if create.Version.ImplicitCreator {
		return create.Sender
	}
	val, _ := cjson.Lookup(create.Content, "creator")
	// Nearly always it is the sender, whose text need not be made anew.
	if cjson.Is(val, string(create.Sender)) {
		return create.Sender
	}
	id, _ := cjson.String(val)
	return mxid.UserID(id)
}

// Creators lists the room's creators: the one who made it and, in version 12, the
// additional ones. Spec: rooms v12, client considerations.
func Creators(create *event.Event) []mxid.UserID {
	first := creatorOf(create)
	if first == "" {
		return nil
	}
	users := []mxid.UserID{first}
	if create.Version.Creators {
		eachAdditional(create, func(elem []byte) bool {
			if id, ok := cjson.String(elem); ok && mxid.UserID(id) != first {
				users = append(users, mxid.UserID(id))
			}
			return true
		})
	}
	return users
}

// standsAbove says whether a user is a creator whom no power level binds.
func standsAbove(create *event.Event, user mxid.UserID) bool {
	if create == nil || !create.Version.Creators {
		return false
	}
	if create.Sender == user {
		return true
	}
	found := false
	eachAdditional(create, func(elem []byte) bool {
		found = cjson.Is(elem, string(user))
		return !found
	})
	return found
}

func eachAdditional(create *event.Event, f func(elem []byte) bool) {
	if val, ok := cjson.Lookup(create.Content, "additional_creators"); ok {
		_ = cjson.Array(val, f)
	}
}

// Federates says whether users of other servers may take part in the room.
// Spec: rooms v12, auth rule 4.
func Federates(create *event.Event) bool {
	if create == nil {
		return true
	}
	val, ok := cjson.Lookup(create.Content, "m.federate")
	return !ok || string(val) != "false"
}
