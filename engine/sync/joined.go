package sync

import (
	"strconv"

	"hearth/engine/cjson"
	"hearth/engine/ephemeral"
	"hearth/engine/mxid"
	"hearth/engine/room"
	"hearth/engine/stream"
	"hearth/engine/unread"
)

// appendJoined writes a room that the user has joined.
func (a *answer) appendJoined(t *touch, id mxid.RoomID) error {
	h, err := a.s.rooms.Head(t.room)
	if err != nil {
		return err
	}
	entered := !a.initial && t.was != room.Join
	w := window{a: a, room: t.room, id: id, part: a.f.Room.Timeline, to: room.After(a.next.pos),
		joined: t.member.Pos, full: a.initial || entered || a.req.FullState, newest: h.Hole}
	if !a.initial && !entered {
		w.from = room.After(a.since.pos)
		if t.member.Pos <= a.since.pos {
			w.joined = a.since.pos
		}
	}
	if !w.part.PassesRoom(id) {
		w.part = nothing()
	}
	if t.events {
		if err := w.load(); err != nil {
			return err
		}
	}
	switch {
	case entered:
		w.limited = true // the client has to ask for what was before
		a.entered = true
		err = a.meet(t.room, 0)
	case w.limited && !a.initial:
		err = a.meet(t.room, a.since.pos) // who came and went in the gap
	}
	if err != nil {
		return err
	}
	return a.appendRoom(t, h, &w)
}

// maxMet bounds the members of one room who are new to the user at once.
const maxMet = 5000

// meet notes who is new to the user in a room, and who has gone: everybody whose
// standing changed after a position.
func (a *answer) meet(num room.Num, since stream.Pos) error {
	n := 0
	return a.s.rooms.Members(num, func(m room.Member) bool {
		switch {
		case m.User == a.req.User || m.Pos <= since:
			return true
		case m.Membership == room.Join:
			a.arrived = append(a.arrived, m.User)
		case since > 0 && m.Membership != room.Invite:
			a.parted = append(a.parted, m.User)
		}
		n++
		return n < maxMet
	})
}

// appendRoom writes the parts of a joined room. They count for nothing where
// none of them is news.
func (a *answer) appendRoom(t *touch, h *room.Head, w *window) error {
	a.news = w.full || len(w.events) > 0 || t.mine
	if err := a.appendRoomData(t.room, w.id, w.full); err != nil {
		return err
	}
	if err := a.appendEphemeral(t, w); err != nil {
		return err
	}
	var heroes []mxid.UserID
	if w.full || w.members || w.limited {
		var err error
		if heroes, err = a.appendSummary(h); err != nil {
			return err
		}
		a.news = a.news || w.members
	}
	state, err := a.joinedState(h, w, heroes)
	if err != nil {
		return err
	}
	if err := a.appendState(state, w.id); err != nil {
		return err
	}
	if !a.news {
		return nil
	}
	if err := w.appendTo(); err != nil {
		return err
	}
	a.remember(state, w.events)
	return a.appendUnread(h)
}

// joinedState gives the state events to tell of a joined room. The usual
// message needs none, and costs nothing here.
func (a *answer) joinedState(h *room.Head, w *window, heroes []mxid.UserID) ([]*room.Event, error) {
	c := changes{a: a, w: w, full: w.full}
	lazy := a.f.Room.State.LazyMembers()
	if !w.full && !w.limited && len(w.skipped) == 0 && !lazy && !(a.req.UseStateAfter && w.stateful) {
		return nil, nil
	}
	if c.end = h.State; h.Last > a.next.pos {
		var err error
		if c.end, err = a.s.rooms.StateUpTo(h, w.to); err != nil {
			return nil, err
		}
	}
	if lazy && (w.full || w.members) {
		c.users = heroes
		if w.full {
			c.users = append(c.users, a.req.UserID)
		}
	}
	return c.list()
}

// appendEphemeral writes who types and who has read what.
func (a *answer) appendEphemeral(t *touch, w *window) error {
	part := a.f.Room.Ephemeral
	if part.Nothing() || !part.PassesRoom(w.id) {
		return nil
	}
	list := a.list(`"ephemeral":{"events":[`)
	var err error
	if t.typing && part.PassesType("m.typing") {
		list.item()
		if a.dst, err = a.s.eph.AppendTyping(a.dst, uint32(t.room)); err != nil {
			return err
		}
	}
	if (t.receipt || w.full) && part.PassesType("m.receipt") {
		since := a.since.pos
		if w.full {
			since = 0
		}
		if err := a.appendReceipts(list, t.room, since); err != nil {
			return err
		}
	}
	list.end(`]}`)
	if a.initial && list.items == 0 { // that there is nothing is told once
		a.comma()
		a.dst = append(a.dst, `"ephemeral":{"events":[]}`...)
	}
	return nil
}

func (a *answer) appendReceipts(list *list, num room.Num, since stream.Pos) (err error) {
	mark, items := len(a.dst), list.items
	list.item()
	told := false
	a.dst, told, err = a.s.eph.AppendReceipts(a.dst, uint32(num), ephemeral.Reader{User: a.req.User}, since, a.next.pos)
	if !told {
		a.dst, list.items = a.dst[:mark], items
	}
	return err
}

// appendUnread writes the counts of what the user has not read.
// Spec: client-server, unread_notifications.
func (a *answer) appendUnread(h *room.Head) error {
	tally, err := a.tally(h)
	if err != nil {
		return err
	}
	byThread := a.f.Room.Timeline.ThreadCounts()
	counts := tally.All
	if byThread {
		counts = tally.Main
	}
	a.comma()
	a.dst = appendCounts(append(a.dst, `"unread_notifications":`...), counts)
	if !byThread || len(tally.Threads) == 0 {
		return nil
	}
	a.dst = append(a.dst, `,"unread_thread_notifications":{`...)
	for _, t := range tally.Threads {
		a.comma()
		a.dst = appendCounts(append(cjson.AppendString(a.dst, t.Root), ':'), t.Counts)
	}
	a.dst = append(a.dst, '}')
	return nil
}

// tally counts what the user has not read of a room.
func (a *answer) tally(h *room.Head) (unread.Tally, error) {
	var news *unread.News
	if a.short {
		news = &unread.News{After: a.since.pos}
		for _, l := range a.lines {
			if l.kind == stream.RoomEvent && room.Num(l.room) == h.Room {
				news.Events = append(news.Events, l.event)
			}
		}
	}
	return a.s.unread.Count(&a.reader, h, a.next.pos, news)
}

func appendCounts(dst []byte, c unread.Counts) []byte {
	dst = strconv.AppendInt(append(dst, `{"highlight_count":`...), int64(c.Highlight), 10)
	dst = strconv.AppendInt(append(dst, `,"notification_count":`...), int64(c.Notify), 10)
	return append(dst, '}')
}

// appendSummary writes what a client needs to name the room, and gives the
// members it names. Spec: client-server, GET /sync, RoomSummary.
func (a *answer) appendSummary(h *room.Head) ([]mxid.UserID, error) {
	a.s.rooms.Settled(h)
	a.comma()
	a.dst = append(a.dst, `"summary":{`...)
	named, err := a.named(h)
	if err != nil {
		return nil, err
	}
	var heroes []mxid.UserID
	if !named {
		if heroes, err = a.s.rooms.Heroes(h, a.req.User); err != nil {
			return nil, err
		}
		a.dst = append(a.dst, `"m.heroes":[`...)
		for _, id := range heroes {
			a.comma()
			a.dst = cjson.AppendString(a.dst, id)
		}
		a.dst = append(a.dst, `],`...)
	}
	a.dst = strconv.AppendInt(append(a.dst, `"m.invited_member_count":`...), int64(h.Invited), 10)
	a.dst = strconv.AppendInt(append(a.dst, `,"m.joined_member_count":`...), int64(h.Joined), 10)
	a.dst = append(a.dst, '}')
	return heroes, nil
}

// named says whether the room has a name or an alias to go by.
func (a *answer) named(h *room.Head) (bool, error) {
	for _, by := range [...]struct{ typ, field string }{{"m.room.name", "name"}, {"m.room.canonical_alias", "alias"}} {
		e, err := a.s.rooms.StateEvent(h.State, by.typ, "")
		if err != nil {
			return false, err
		}
		if e != nil {
			if s, _ := cjson.LookupString(e.Content, by.field); s != "" {
				return true, nil
			}
		}
	}
	return false, nil
}
