package engine

import (
	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// What users of this hub may do in rooms beyond what the rooms' rules say:
// guests go where they are wanted, and nobody is invited who will have none of it.

const typeGuestAccess = "m.room.guest_access"

// mayInvite refuses an invite that a user of this hub blocks.
// Spec: client-server, invite permission.
func (e *Engine) mayInvite(sender, user mxid.UserID) error {
	if user.Server() != e.Server || sender == e.Accounts.ID(noticesName) {
		return nil
	}
	num, err := e.Accounts.Find(user)
	if err != nil || num == 0 {
		return err
	}
	action, err := e.Accounts.InvitesFrom(num, sender)
	if err == nil && action == account.BlockInvites {
		err = fault.E(fault.InviteBlocked, "engine.Invite", "%s takes no invites of yours", user)
	}
	return err
}

func (e *Engine) isGuest(user mxid.UserID) (bool, error) {
	if user.Server() != e.Server {
		return false, nil
	}
	num, err := e.Accounts.Find(user)
	if err != nil || num == 0 {
		return false, err
	}
	u, err := e.Accounts.User(num)
	return u.Guest, err
}

// mayJoin refuses rooms that the hub's owner has blocked, and a guest whom the
// room does not want. Spec: client-server, guest access.
func (e *Engine) mayJoin(w *room.Writer, user mxid.UserID) error {
	blocked, err := e.RoomBlocked(w.Head().ID)
	if err != nil {
		return err
	}
	if blocked {
		return fault.E(fault.Forbidden, "engine.Join", "the room is blocked on this hub")
	}
	guest, err := e.isGuest(user)
	if err != nil || !guest {
		return err
	}
	access, err := w.State(typeGuestAccess, "")
	if err != nil {
		return err
	}
	if access == nil || !welcome(access.Content) {
		return fault.E(fault.GuestAccess, "engine.Join", "the room takes no guests")
	}
	return nil
}

func welcome(content []byte) bool {
	access, _ := cjson.LookupString(content, "guest_access")
	return access == "can_join"
}

// ExpelGuests takes this hub's guests out of a room that wants none. It has to
// follow each change of the room's guest access.
func (e *Engine) ExpelGuests(num room.Num) error {
	head, err := e.Rooms.Head(num)
	if err != nil {
		return err
	}
	access, err := e.Rooms.StateEvent(head.State, typeGuestAccess, "")
	if err != nil || access != nil && welcome(access.Content) {
		return err
	}
	for _, user := range head.Local {
		u, err := e.Accounts.User(user)
		if fault.Is(err, fault.NotFound) || err == nil && !u.Guest {
			continue
		}
		if err != nil {
			return err
		}
		if err := e.Leave(num, u.ID, "the room takes no guests any more"); err != nil && !passedOver(err) {
			return err
		}
	}
	return nil
}
