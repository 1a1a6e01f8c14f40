package engine

import (
	"context"

	"hearth/engine/auth"
	"hearth/engine/event"
	"hearth/engine/fault"
	"hearth/engine/federation"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// elsewhere says whether a user is one of another server that this hub may ask.
func (e *Engine) elsewhere(user mxid.UserID) bool {
	return user.Server() != e.Server && user.Server() != "" && !e.Federation.Alone()
}

// inviteAway invites a user of another server, which has to sign the invite before
// it enters the room.
func (e *Engine) inviteAway(num room.Num, sender, user mxid.UserID, content []byte) (mxid.EventID, error) {
	ev, same, err := e.drawInvite(num, sender, user, content)
	if err != nil || same != "" {
		return same, err
	}
	return ev.ID, e.Federation.Invite(e.life, num, ev)
}

// drawInvite makes the invite without keeping the room from others; same is an
// event that says the same already.
func (e *Engine) drawInvite(num room.Num, sender, user mxid.UserID, content []byte) (ev *event.Event, same mxid.EventID, err error) {
	w, err := e.Rooms.Write(num)
	if err != nil {
		return nil, "", err
	}
	defer w.End()
	key := string(user)
	d := room.Draft{Type: "m.room.member", StateKey: &key, Sender: sender, Content: content}
	if old, err := w.Already(&d); err != nil || old != nil {
		if err != nil {
			return nil, "", err
		}
		head := w.Head()
		w.End()
		e.Rooms.Settled(head)
		return nil, old.ID, nil
	}
	create, err := w.State("m.room.create", "")
	if err != nil {
		return nil, "", err
	}
	if create != nil && !auth.Federates(create.Event) {
		return nil, "", fault.E(fault.Forbidden, "engine.Invite", "the room is for users of this server only")
	}
	ev, err = w.Draw(&d, true)
	return ev, "", err
}

// inviteOthers invites the users of other servers whom a new room was made for.
// The room stands, whatever they say.
func (e *Engine) inviteOthers(num room.Num, n *NewRoom) {
	for _, user := range n.Invite {
		if !e.elsewhere(user) {
			continue
		}
		content, err := e.memberContent(user, "invite", "", n.IsDirect)
		if err == nil {
			_, err = e.inviteAway(num, n.Creator, user, content)
		}
		if err != nil {
			e.say("%s could not be invited: %v", user, err)
		}
	}
}

// leavesAway says whether a user's leaving is for other servers to take in: this
// hub is not in the room.
func (e *Engine) leavesAway(num room.Num, user mxid.UserID) (bool, error) {
	id, err := e.Rooms.RoomID(num)
	if err != nil {
		return false, err
	}
	known, err := e.Rooms.User(user)
	if err != nil || known == 0 {
		return false, err
	}
	m, err := e.Rooms.MemberOf(num, known)
	if err != nil || m.Membership != room.Invite && m.Membership != room.Knock {
		return false, err
	}
	_, away, err := e.away(id)
	return away || m.Outside, err
}

// leaveAway turns down an invite to a room that this hub is not in, or takes a
// knock back.
func (e *Engine) leaveAway(num room.Num, user mxid.UserID, reason string) error {
	id, err := e.Rooms.RoomID(num)
	if err != nil {
		return err
	}
	c := federation.Change{Room: id, User: user}
	if c.Content, err = e.memberContent(user, "leave", reason, false); err != nil {
		return err
	}
	if c.Via, err = e.ways(num, id, user, nil); err != nil {
		return err
	}
	return e.Federation.Leave(e.life, num, &c)
}

// KnockAt has a user knock on a room, wherever it lives.
// Errors: those of Knock and of federation.Knock. Spec: client-server, knocking on rooms.
func (e *Engine) KnockAt(ctx context.Context, to Reach, user mxid.UserID, reason string) (mxid.RoomID, error) {
	id, via, err := e.seek(ctx, to)
	if err != nil {
		return "", err
	}
	num, away, err := e.away(id)
	if err != nil {
		return "", err
	}
	if !away {
		return id, e.Knock(num, user, reason)
	}
	if err := e.mayGo(id, user); err != nil {
		return "", err
	}
	c := federation.Change{Room: id, User: user}
	if c.Content, err = e.memberContent(user, "knock", reason, false); err != nil {
		return "", err
	}
	if c.Via, err = e.ways(num, id, user, via); err != nil {
		return "", err
	}
	return id, e.Federation.Knock(ctx, &c)
}
