package push

import (
	"fmt"
	"strings"

	"hearth/engine/cjson"
	"hearth/engine/mxid"
)

// What a room and its members are called where people read it.

// roomName is a room's name or, where it has none, its alias or those who are in
// it beside the reader. Spec: client-server, calculating the display name for a
// room.
func (p *Push) roomName(h *hit, reader uint32) (string, error) {
	for _, f := range [...][2]string{{"m.room.name", "name"}, {"m.room.canonical_alias", "alias"}} {
		name, err := p.stateText(h, f[0], "", f[1])
		if err != nil || name != "" {
			return name, err
		}
	}
	heroes, err := p.Rooms.Heroes(h.head, reader)
	if err != nil {
		return "", err
	}
	names := make([]string, len(heroes))
	for i, id := range heroes {
		if names[i], err = p.memberName(h, string(id)); err != nil {
			return "", err
		}
	}
	there := h.head.Joined + h.head.Invited - 1 // beside the reader
	return called(names, there), nil
}

// memberName is what a member goes by; the user id where they have no name.
func (p *Push) memberName(h *hit, id string) (string, error) {
	name, err := p.stateText(h, "m.room.member", id, "displayname")
	if err != nil || name != "" {
		return name, err
	}
	return id, nil
}

// called makes a room's name of some of its members' names, of so many.
func called(names []string, there int) string {
	switch others := there - len(names); {
	case len(names) == 0:
		return "Empty room"
	case there <= 0:
		return "Empty room (was " + strings.Join(names, ", ") + ")"
	case others > 0:
		return fmt.Sprintf("%s and %d others", strings.Join(names, ", "), others)
	case len(names) == 1:
		return names[0]
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// stateText reads a field of a state event; empty where there is none. Of a room
// that the hub is not in there is what came with the invite.
func (p *Push) stateText(h *hit, typ, key, field string) (text string, err error) {
	if h.head.Bare() {
		user, err := p.Rooms.User(mxid.UserID(h.e.StateKey))
		if err != nil {
			return "", err
		}
		told, err := p.Rooms.Invitation(h.head.Room, user)
		list := append(append([]byte{'['}, told.Told...), ']')
		_ = cjson.Array(list, func(val []byte) bool { // it was checked when it came
			t, _ := cjson.LookupString(val, "type")
			if k, _ := cjson.LookupString(val, "state_key"); t == typ && k == key {
				content, _ := cjson.Lookup(val, "content")
				text, _ = cjson.LookupString(content, field)
			}
			return text == ""
		})
		return text, err
	}
	e, err := p.Rooms.StateEvent(h.head.State, typ, key)
	if err != nil || e == nil {
		return "", err
	}
	text, _ = cjson.LookupString(e.Content, field)
	return text, nil
}
