package engine

import (
	"encoding/binary"
	"sync"

	"hearth/engine/account"
	"hearth/engine/fault"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/store"
)

// The hub speaks to its users in rooms of a user of its own, one room for each.
// Spec: client-server, server notices.

const (
	noticesName = account.HubName
	noticesTag  = "m.server_notice"
	// metaNotices names, in the Meta table, the notice room of a user, whose
	// number follows; the value is the room's.
	metaNotices = "notices/"
)

// notices keeps one room from being made twice.
type notices struct{ mu sync.Mutex }

// noticesOf finds the notice room of a user; 0 where there is none yet.
func (e *Engine) noticesOf(user uint32) (room.Num, error) {
	val, ok, err := e.st.Meta(note(metaNotices, user))
	if err != nil || !ok || len(val) != 4 {
		return 0, err
	}
	return room.Num(binary.BigEndian.Uint32(val)), nil
}

// Notify sends an event to a user in the hub's name, and invites them to the
// room of such events where they are not in it.
//
// Errors: NotFound for who is no user here; those of Rooms.Send.
func (e *Engine) Notify(user mxid.UserID, d *room.Draft) (mxid.EventID, error) {
	const op = "engine.Notify"
	num, err := e.Accounts.Find(user)
	if err != nil {
		return "", err
	}
	u, err := e.Accounts.User(num)
	if num == 0 || fault.Is(err, fault.NotFound) || err == nil && u.Deactivated {
		return "", fault.E(fault.NotFound, op, "there is no such user")
	}
	if err != nil {
		return "", err
	}
	e.notices.mu.Lock()
	defer e.notices.mu.Unlock()
	d.Sender = e.Accounts.ID(noticesName)
	in, err := e.noticesOf(num)
	if err == nil && in == 0 {
		in, err = e.makeNotices(num, user, d.Sender)
	}
	if err != nil {
		return "", err
	}
	m, err := e.Rooms.MemberOf(in, num)
	if err != nil {
		return "", err
	}
	if m.Membership != room.Join && m.Membership != room.Invite {
		if err := e.Invite(in, d.Sender, user, ""); err != nil {
			return "", err
		}
	}
	if d.StateKey != nil {
		return e.State(in, d)
	}
	return e.Send(in, d)
}

// makeNotices makes the room, and the hub's own user before the first.
func (e *Engine) makeNotices(num uint32, user, sender mxid.UserID) (room.Num, error) {
	own, err := e.Accounts.Find(sender)
	if err != nil {
		return 0, err
	}
	if own == 0 {
		if own, err = e.Accounts.Create(account.NewUser{Hub: true}); err != nil {
			return 0, err
		}
		if err := e.SetProfile(own, sender, account.DisplayName, []byte(`"Notices"`)); err != nil {
			return 0, err
		}
	}
	id, err := e.CreateRoom(&NewRoom{
		Creator: sender, Preset: "private_chat", Name: "Notices of " + string(e.Server),
		Topic: "What this server has to tell you", Invite: []mxid.UserID{user}, PowerOverride: []byte(`{"users_default":-10}`),
	})
	if err != nil {
		return 0, err
	}
	in, err := e.Rooms.Find(id)
	if err != nil {
		return 0, err
	}
	if _, err := e.Accounts.SetTag(num, uint32(in), noticesTag, []byte("{}")); err != nil {
		return 0, err
	}
	b := e.st.NewBatch()
	b.SetMeta(note(metaNotices, num), store.U32(nil, uint32(in)))
	return in, e.st.Commit(b)
}

// mayReject refuses to reject the invite to the notice room: who does not want
// notices joins and leaves.
func (e *Engine) mayReject(num room.Num, user mxid.UserID, now room.Membership) error {
	if now != room.Invite || user.Server() != e.Server {
		return nil
	}
	known, err := e.Accounts.Find(user)
	if err != nil || known == 0 {
		return err
	}
	in, err := e.noticesOf(known)
	if err == nil && in == num {
		err = fault.E(fault.NoticeRoom, "engine.Leave", "the invite to the notices of the server cannot be rejected")
	}
	return err
}
