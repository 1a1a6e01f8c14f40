package sync

import (
	"hearth/engine/account"
	"hearth/engine/cjson"
	"hearth/engine/mxid"
	"hearth/engine/room"
)

// section is the rooms of one standing. add writes a room's members behind its
// opening brace, or nothing.
type section struct {
	name string
	is   func(t *touch) bool
	add  func(a *answer, t *touch, id mxid.RoomID) error
}

func sections() [4]section {
	return [...]section{
		{`"join":{`, func(t *touch) bool { return t.member.Membership == room.Join }, (*answer).appendJoined},
		{`"invite":{`, func(t *touch) bool { return t.member.Membership == room.Invite }, (*answer).appendInvite},
		{`"knock":{`, func(t *touch) bool { return t.member.Membership == room.Knock }, (*answer).appendKnock},
		{`"leave":{`, func(t *touch) bool { return t.member.Membership == room.Leave || t.member.Membership == room.Ban }, (*answer).appendLeft},
	}
}

// progress is how far the rooms are written.
type progress struct {
	section int  // the one under way
	at      int  // the next in touched
	some    bool // a room of it is written
	any     bool // a room of any is
}

// appendRooms writes the rooms, by how the user stands to them. Where what is
// written has become as long as a piece may be it stops behind a room, and goes
// on with the next call; over says that it is through.
func (a *answer) appendRooms() (over bool, err error) {
	p, start := &a.progress, len(a.dst)
	for sections := sections(); p.section < len(sections); p.section, p.at, p.some = p.section+1, 0, false {
		one := &sections[p.section]
		for ; p.at < len(a.touched); p.at++ {
			if a.most > 0 && len(a.dst) >= max(a.most, start+1) {
				return false, nil
			}
			if t := &a.touched[p.at]; one.is(t) {
				if err := a.appendOne(one, t); err != nil {
					return false, err
				}
			}
		}
		if p.some {
			a.dst = append(a.dst, '}')
		}
	}
	if p.any {
		a.dst = append(a.dst, '}')
		a.news = true
	}
	return true, nil
}

// appendOne writes one room of a section, with the section's beginning where it is
// its first; nothing where it tells nothing.
func (a *answer) appendOne(s *section, t *touch) error {
	id, err := a.s.rooms.RoomID(t.room)
	if err != nil || !a.f.Room.Passes(id) {
		return err
	}
	p, before := &a.progress, len(a.dst)
	a.comma()
	if !p.any {
		a.dst = append(a.dst, `"rooms":{`...)
	}
	if !p.some {
		a.dst = append(a.dst, s.name...)
	}
	a.dst = append(cjson.AppendString(a.dst, id), `:{`...)
	body, news := len(a.dst), a.news
	a.news = false
	if err := s.add(a, t, id); err != nil {
		return err
	}
	told := a.news
	a.news = a.news || news
	if !told || len(a.dst) == body {
		a.dst = a.dst[:before]
		return nil
	}
	p.some, p.any = true, true
	a.dst = append(a.dst, '}')
	return nil
}

// appendInvite writes a room that the user is invited to, where they want to know
// of it. Spec: client-server, ignoring users; invite permission.
func (a *answer) appendInvite(t *touch, _ mxid.RoomID) error {
	if !a.changedStanding(t) {
		return nil
	}
	invite, err := a.s.rooms.Event(t.member.Event)
	if err != nil {
		return err
	}
	action, err := a.s.accounts.InvitesFrom(a.req.User, invite.Sender)
	if err != nil || action != account.TakeInvites {
		return err // ignored or blocked, also where it came before it was
	}
	return a.appendStripped(t, `"invite_state":{"events":[`, `]}`)
}

// appendKnock writes a room that the user has knocked on.
func (a *answer) appendKnock(t *touch, _ mxid.RoomID) error {
	if !a.changedStanding(t) {
		return nil
	}
	return a.appendStripped(t, `"knock_state":{"events":[`, `]}`)
}

// changedStanding says whether a room is shown for what became of the user's
// membership: it changed, or the client asks for everything.
func (a *answer) changedStanding(t *touch) bool {
	return a.initial || a.req.FullState || t.member.Pos > a.since.pos
}

// appendStripped writes the state that those outside a room are shown.
// Spec: client-server, stripped state.
func (a *answer) appendStripped(t *touch, head, tail string) error {
	if t.member.Outside {
		told, err := a.s.rooms.Invitation(t.room, t.member.User)
		a.dst = append(append(append(a.dst, head...), told.Told...), tail...)
		a.news = true
		return err
	}
	h, err := a.s.rooms.Head(t.room)
	if err != nil {
		return err
	}
	a.s.rooms.Settled(h)
	events, err := a.s.rooms.Stripped(h.State, a.req.UserID)
	if err != nil {
		return err
	}
	a.dst = append(a.dst, head...)
	for _, e := range events {
		a.comma()
		a.dst = a.s.rooms.AppendStripped(a.dst, e)
	}
	a.dst = append(a.dst, tail...)
	a.news = true
	return nil
}

// appendLeft writes a room that the user has left or was removed from.
func (a *answer) appendLeft(t *touch, id mxid.RoomID) error {
	all := a.initial || a.req.FullState
	if left := !a.initial && t.member.Pos > a.since.pos; !left && !(all && a.f.Room.IncludeLeave) {
		if removed, err := a.removed(t); err != nil || !removed {
			return err
		}
	}
	if t.member.Outside {
		a.news = true
		return a.appendTurnedDown(t)
	}
	all = all || t.was != room.Join
	v, err := a.s.rooms.Viewer(t.room, a.req.UserID)
	if err != nil {
		return err
	}
	own, err := a.s.rooms.Event(t.member.Event)
	if err != nil {
		return err
	}
	end := t.member.Pos
	if t.member.Forgotten { // the standing has moved on since, but not what there is to see
		end = own.At.Pos
	}
	w := window{a: a, room: t.room, id: id, viewer: v, own: own, to: room.After(end), full: all}
	if !a.initial {
		w.from = room.After(a.since.pos)
	}
	if w.part = a.f.Room.Timeline; !w.part.PassesRoom(id) {
		w.part = nothing()
	}
	if gone := v.Left(); gone == nil || gone.At.Pos <= a.since.pos && gone.Num != own.Num {
		// An invite was turned down, or a knock, or all is forgotten, or a ban came after the leaving that the
		// client knows of: only the end is the user's to see.
		w.from = room.Key{Pos: end}
	}
	if err := w.load(); err != nil {
		return err
	}
	if !a.initial && t.was == room.Join {
		if err := a.part(t.room); err != nil {
			return err
		}
	}
	var state []*room.Event
	if v.Departed() {
		if state, err = a.leftState(&w, v.Left()); err != nil {
			return err
		}
	}
	if err := a.appendRoomData(t.room, id, all); err != nil {
		return err
	}
	if err := a.appendState(state, id); err != nil {
		return err
	}
	a.news = true
	return w.appendTo()
}

// removed says whether a first /sync tells of a room that the user is not in any
// more because others took them out: they may not have heard of that. Rooms that
// they have left themselves are for who asks for such.
func (a *answer) removed(t *touch) (bool, error) {
	if !a.initial || t.member.Outside || t.member.Forgotten {
		return false, nil
	}
	own, err := a.s.rooms.Event(t.member.Event)
	return err == nil && own.Sender != a.req.UserID, err
}

// appendTurnedDown writes a room that the hub is not in, where the user's invite
// or knock has come to its end: that event is all there is of it.
func (a *answer) appendTurnedDown(t *touch) error {
	own, err := a.s.rooms.Event(t.member.Event)
	if err != nil {
		return err
	}
	a.dst = append(a.dst, `"timeline":{"events":[`...)
	a.dst, err = a.s.rooms.AppendClient(a.dst, own, room.Reader{Device: a.req.Device, OmitRoom: true})
	a.dst = append(a.dst, `],"limited":false}`...)
	return err
}

// part notes those whom the user has left in a room.
func (a *answer) part(num room.Num) error {
	n := 0
	return a.s.rooms.Members(num, func(m room.Member) bool {
		if m.Membership == room.Join && m.User != a.req.User {
			a.parted = append(a.parted, m.User)
			n++
		}
		return n < maxMet
	})
}

// leftState is the state that a departed user is told: up to the leaving, and
// not beyond.
func (a *answer) leftState(w *window, left *room.Event) ([]*room.Event, error) {
	end, err := a.s.rooms.StateAfter(left)
	if err != nil {
		return nil, err
	}
	c := changes{a: a, w: w, end: end, full: w.full, last: left.Num != w.own.Num}
	return c.list()
}
