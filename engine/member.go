package engine

import (
	"bytes"
	"errors"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// memberContent is the content of a member event: the membership, with the
// profile of a user of this hub where the membership shows one.
func (e *Engine) memberContent(user mxid.UserID, membership, reason string, direct bool) ([]byte, error) {
	dst := []byte{'{'}
	if user.Server() == e.Server && (membership == "join" || membership == "invite" || membership == "knock") {
		num, err := e.Accounts.Find(user)
		switch {
		case err == nil:
			name, avatar, err := e.Accounts.NameAndAvatar(num)
			if err != nil {
				return nil, err
			}
			if avatar != "" {
				dst = append(cjson.AppendString(append(dst, `"avatar_url":`...), avatar), ',')
			}
			if name != "" {
				dst = append(cjson.AppendString(append(dst, `"displayname":`...), name), ',')
			}
		case !fault.Is(err, fault.NotFound):
			return nil, err
		}
	}
	if direct {
		dst = append(dst, `"is_direct":true,`...)
	}
	dst = cjson.AppendString(append(dst, `"membership":`...), membership)
	if reason != "" {
		dst = cjson.AppendString(append(dst, `,"reason":`...), reason)
	}
	return append(dst, '}'), nil
}

// judge sees how a user stands in a room, under the room's lock, and says
// whether a change of it is to be made. It may complete the draft.
type judge func(w *room.Writer, now room.Membership) (do bool, err error)

// stand sends a member event if j lets it. It gives the id of the event that is
// there afterwards, empty where j wanted nothing done.
func (e *Engine) stand(num room.Num, d *room.Draft, j judge) (mxid.EventID, error) {
	w, err := e.Rooms.Write(num)
	if err != nil {
		return "", err
	}
	defer func() { w.End() }() // of the writer that is there then
	old, err := w.State(d.Type, *d.StateKey)
	if err != nil {
		return "", err
	}
	now := room.None
	if old != nil {
		now = room.MembershipOf(old.Content)
	}
	if do, err := j(w, now); err != nil || !do {
		head := w.Head()
		w.End()
		e.Rooms.Settled(head)
		return "", err
	}
	if same, err := w.Already(d); same != nil || err != nil {
		if err != nil {
			return "", err
		}
		head := w.Head()
		w.End()
		e.Rooms.Settled(head)
		return same.ID, nil
	}
	made, pending, err := e.commit(&w, d)
	if err != nil {
		return "", err
	}
	if now == room.Join && room.MembershipOf(made.Content) != room.Join {
		e.silence(num, *d.StateKey)
	}
	if err := pending.Wait(); err != nil {
		return "", err
	}
	if now != room.Join && room.MembershipOf(made.Content) == room.Join {
		return made.ID, e.settleIn(num, mxid.UserID(*d.StateKey))
	}
	return made.ID, nil
}

// silence ends the typing of a user who is out of the room.
func (e *Engine) silence(num room.Num, id string) {
	if user, err := e.Rooms.User(mxid.UserID(id)); err == nil && user != 0 {
		e.Ephemeral.SetTyping(uint32(num), user, false, 0)
	}
}

// standing is stand with content made of a membership and a reason.
func (e *Engine) standing(num room.Num, sender, user mxid.UserID, membership, reason string, j judge) error {
	content, err := e.memberContent(user, membership, reason, false)
	if err != nil {
		return err
	}
	key := string(user)
	_, err = e.stand(num, &room.Draft{Type: "m.room.member", StateKey: &key, Sender: sender, Content: content}, j)
	return err
}

// Join makes a user a member of a room. Who is one already stays as they are.
// extra is a JSON object of what else the member event is to hold, or nil. A
// user whom a restricted room lets in is vouched for by a member of this hub.
//
// Errors: NotFound for an unknown room, Forbidden where the rules refuse.
func (e *Engine) Join(num room.Num, user mxid.UserID, extra []byte) error {
	content, err := e.joinContent(user, extra)
	if err != nil {
		return err
	}
	key := string(user)
	d := room.Draft{Type: "m.room.member", StateKey: &key, Sender: user, Content: content}
	_, err = e.stand(num, &d, func(w *room.Writer, now room.Membership) (bool, error) {
		if now == room.Join {
			return false, nil
		}
		if err := e.mayJoin(w, user); err != nil {
			return false, err
		}
		return true, e.vouch(w, &d)
	})
	return err
}

// joinContent is the content of a join: what the client gives, and the profile
// where that shows none.
func (e *Engine) joinContent(user mxid.UserID, extra []byte) ([]byte, error) {
	own, err := e.memberContent(user, "join", "", false)
	if err != nil || len(extra) == 0 {
		return own, err
	}
	_, name := cjson.Lookup(extra, "displayname")
	_, avatar := cjson.Lookup(extra, "avatar_url")
	if name || avatar {
		own = []byte(`{"membership":"join"}`)
	}
	rest, err := without(extra, "membership", "third_party_signed", "join_authorised_via_users_server")
	if err != nil {
		return nil, err
	}
	return merge(rest, own), nil
}

// vouch adds to a join into a restricted room the member who lets the user in,
// where the user is let in by being in another room.
//
// Errors: UnableToAuthorise and UnableToGrant, where another server that is in the
// room may do what this hub cannot. Spec: client-server, restricted rooms.
func (e *Engine) vouch(w *room.Writer, d *room.Draft) error {
	via, err := e.Federation.Voucher(w, d.Sender)
	if fault.Is(err, fault.UnableToAuthorise) || fault.Is(err, fault.UnableToGrant) {
		if in, serr := e.serversIn(w.Head().Room); serr != nil || len(in) > 1 {
			return errors.Join(serr, err)
		}
		return nil // the auth rules refuse it, with the reason
	}
	if err == nil && via != "" {
		d.Content = merge(d.Content, appendField(nil, "join_authorised_via_users_server", string(via)))
	}
	return err
}

// Invite invites a user. Errors: Forbidden also for who is in the room already;
// InviteBlocked.
func (e *Engine) Invite(num room.Num, sender, user mxid.UserID, reason string) error {
	if e.elsewhere(user) {
		content, err := e.memberContent(user, "invite", reason, false)
		if err != nil {
			return err
		}
		_, err = e.inviteAway(num, sender, user, content)
		return err
	}
	return e.standing(num, sender, user, "invite", reason, func(*room.Writer, room.Membership) (bool, error) {
		return true, e.mayInvite(sender, user)
	})
}

// Knock asks to be let into a room. Who knocks already stays so. Rooms before
// version 7 know no knocks, and refuse them as those do that take none.
// Spec: client-server, POST /knock/{roomIdOrAlias}.
func (e *Engine) Knock(num room.Num, user mxid.UserID, reason string) error {
	return e.standing(num, user, user, "knock", reason, func(w *room.Writer, now room.Membership) (bool, error) {
		if !w.Head().Version.Knock {
			return false, fault.E(fault.Forbidden, "engine.Knock", "a room of version %s takes no knocks", w.Head().Version.ID)
		}
		return now != room.Knock, e.mayJoin(w, user)
	})
}

// Leave takes a user out of a room; it also rejects an invite and retracts a
// knock. Who has left already stays so.
func (e *Engine) Leave(num room.Num, user mxid.UserID, reason string) error {
	if away, err := e.leavesAway(num, user); err != nil {
		return err
	} else if away {
		return e.leaveAway(num, user, reason)
	}
	return e.standing(num, user, user, "leave", reason, func(_ *room.Writer, now room.Membership) (bool, error) {
		return now != room.Leave, e.mayReject(num, user, now)
	})
}

// Kick takes another user out of a room who is in it, invited or knocking.
func (e *Engine) Kick(num room.Num, sender, user mxid.UserID, reason string) error {
	return e.standing(num, sender, user, "leave", reason, func(_ *room.Writer, now room.Membership) (bool, error) {
		switch now {
		case room.Join, room.Invite, room.Knock:
			return true, nil
		}
		return false, fault.E(fault.Forbidden, "engine.Kick", "%s is not in the room", user)
	})
}

// Ban bans a user, who need not be in the room.
func (e *Engine) Ban(num room.Num, sender, user mxid.UserID, reason string) error {
	return e.standing(num, sender, user, "ban", reason, func(*room.Writer, room.Membership) (bool, error) { return true, nil })
}

// Unban lifts a ban. Errors: BadState where there is none.
func (e *Engine) Unban(num room.Num, sender, user mxid.UserID, reason string) error {
	return e.standing(num, sender, user, "leave", reason, func(w *room.Writer, now room.Membership) (bool, error) {
		if now == room.Ban {
			return true, nil
		}
		// Who is not in the room learns nothing of who is banned there.
		own, err := w.State("m.room.member", string(sender))
		if err != nil {
			return false, err
		}
		if own == nil || room.MembershipOf(own.Content) != room.Join {
			return false, fault.E(fault.Forbidden, "engine.Unban", "you are not in the room")
		}
		return false, fault.E(fault.BadState, "engine.Unban", "%s is not banned", user)
	})
}

// memberState sends a member event whose content a client wrote, adding the
// profile of the user where it joins and the content shows none.
func (e *Engine) memberState(num room.Num, d *room.Draft) (mxid.EventID, error) {
	membership := room.MembershipOf(d.Content)
	if user := mxid.UserID(*d.StateKey); membership == room.Invite && e.elsewhere(user) {
		return e.inviteAway(num, d.Sender, user, d.Content)
	}
	joins := membership == room.Join && string(d.Sender) == *d.StateKey
	if joins {
		var err error
		if d.Content, err = e.joinContent(d.Sender, d.Content); err != nil {
			return "", err
		}
	}
	return e.stand(num, d, func(w *room.Writer, now room.Membership) (bool, error) {
		switch {
		case membership == room.Leave && string(d.Sender) == *d.StateKey:
			return true, e.mayReject(num, d.Sender, now)
		case membership == room.Invite:
			return true, e.mayInvite(d.Sender, mxid.UserID(*d.StateKey))
		case membership == room.Knock && string(d.Sender) == *d.StateKey:
			return true, e.mayJoin(w, d.Sender)
		case !joins:
			return true, nil
		}
		if err := e.mayJoin(w, d.Sender); err != nil {
			return false, err
		}
		return true, e.vouch(w, d)
	})
}

// merge puts the members of two JSON objects into one; where both have a key
// the later counts when the result is made canonical.
func merge(a, b []byte) []byte {
	a, b = bytes.TrimSpace(a), bytes.TrimSpace(b)
	inner := bytes.TrimSpace(b[1 : len(b)-1])
	if len(inner) == 0 {
		return a
	}
	out := append([]byte(nil), bytes.TrimSpace(a[:len(a)-1])...)
	if len(out) > 1 {
		out = append(out, ',')
	}
	return append(append(out, inner...), '}')
}

// without copies an object except for the members of these keys.
func without(obj []byte, keys ...string) ([]byte, error) {
	out := []byte{'{'}
	err := cjson.Object(obj, func(key, val []byte) bool {
		for _, k := range keys {
			if string(key) == k {
				return true
			}
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(cjson.AppendString(out, string(key)), ':'), val...)
		return true
	})
	if err != nil {
		return nil, fault.E(fault.BadJSON, "engine", "the content must be a JSON object")
	}
	return append(out, '}'), nil
}
