package sync

import (
	"slices"

	"hearth/engine/room"
)

// left writes a room that the user has left or was removed from: what was there up
// to then. Spec: MSC4186, lists; client-server, leaving rooms.
func (x *slider) left(sh *shift) error {
	if sh.was != nil && sh.last <= sh.from {
		return nil
	}
	m, ok, err := x.standing(sh)
	if !ok || err != nil {
		return err
	}
	own, err := x.s.rooms.Event(m.Event)
	if err != nil {
		return err
	}
	sh.initial = sh.was == nil || sh.was.mark&isJoined == 0
	sh.now = roomTold{room: sh.room, tail: whole, mark: sh.now.mark & isDirect}
	if m.Forgotten && sh.was != nil {
		sh.now.mark |= dropped
	}
	if sh.initial {
		sh.now.mark &^= isDirect
	}
	x.news = true
	x.head(sh)
	x.number("bump_stamp", int64(m.Pos))
	if m.Outside {
		x.appendRefused(own)
		if err := x.appendEnd(sh, &required{}, own); err != nil {
			return err
		}
		x.key("timeline")
		x.dst = append(x.dst, '[')
		err := x.appendEvent(own, room.None, nil)
		x.dst = append(x.dst, `],"limited":false`...)
		return err
	}
	v, err := x.s.rooms.Viewer(sh.room, x.req.UserID)
	if err != nil {
		return err
	}
	end := m.Pos
	if m.Forgotten {
		end = own.At.Pos
	}
	x.since.pos, x.short = sh.from, false
	w := window{a: &x.answer, room: sh.room, id: sh.id, viewer: v, own: own, part: x.timeline(max(sh.limit, 1)), to: room.After(end), full: sh.initial}
	if !sh.initial {
		w.from = room.After(sh.from)
	}
	gone := v.Left()
	if gone == nil || gone.At.Pos <= sh.from && gone.Num != own.Num {
		w.from = room.Key{Pos: end}
	}
	if err := w.load(); err != nil {
		return err
	}
	c := &required{}
	if gone == nil && !m.Forgotten {
		x.appendRefused(own)
	}
	if gone != nil {
		if c, err = x.requiredLeft(sh, gone, &w); err != nil {
			return err
		}
	}
	if err := x.appendEnd(sh, c, own); err != nil {
		return err
	}
	return x.appendLast(&w)
}

// appendEnd writes the state of a room as the user last knew it, with the event that
// put the user out as the user's membership, where that is asked for: it may be
// later than what the user sees of the room, and clients take a room for joined
// whose state does not say otherwise.
func (x *slider) appendEnd(sh *shift, c *required, own *room.Event) error {
	k := x.c.asked[sh.rule]
	if k.lazy() || k.wants(own.Type, own.StateKey, x.req.UserID) {
		c.events = slices.DeleteFunc(c.events, func(e *room.Event) bool { return e.Is(own.Type, own.StateKey) })
		c.events = append(c.events, own)
	}
	return x.appendRequired(c)
}

// appendRefused writes what the proposal's last words have of an invite or a knock
// that has come to its end. Spec: MSC4186, invite/knock/rejections.
func (x *slider) appendRefused(own *room.Event) {
	if x.ask.Final {
		x.key("stripped_state")
		x.dst = append(x.s.rooms.AppendStripped(append(x.dst, '['), own), ']')
	}
}

// appendLast writes the timeline of a room that the user is out of.
func (x *slider) appendLast(w *window) error {
	x.key("timeline")
	x.dst = append(x.dst, '[')
	for _, e := range w.events {
		x.comma()
		if err := x.appendEvent(e, room.None, nil); err != nil {
			return err
		}
	}
	x.dst = append(x.dst, ']')
	x.flag("limited", w.limited)
	x.dst = appendMember(x.dst, "prev_batch", w.prev.String())
	return nil
}
